/* Unicode normal forms (UAX 15). utf8proc decomposes and composes; the reordering between is ours because
 * utf8proc's own is quadratic in the length of a run of marks, which a hostile text may make as long as it
 * likes. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "base/grow.h"
#include "text/norm.h"
#include "text/unicode_rust.h"
#include "base/utf8.h"

struct points {
    utf8proc_int32_t *v;
    size_t n, cap;
};

static enum mb_status decompose(const char *s, size_t n, bool compat, struct points *p)
{
    utf8proc_option_t opt = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int boundary = 0;
        i += (size_t)mb_utf8_next(s + i, &cp);
        if (p->cap < p->n + 32)
            MB_TRY(mb_grow_to(&p->v, &p->cap, p->n + 32, sizeof *p->v));
        if (mb_rust_inert(cp)) {
            p->v[p->n++] = (utf8proc_int32_t)cp;
            continue;
        }
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)cp, p->v + p->n, 32, opt, &boundary);
        if (k < 0 || k > 32)
            return MB_REQUEST;
        p->n += (size_t)k;
    }
    return MB_OK;
}

static int class_of(utf8proc_int32_t cp)
{
    return mb_rust_inert((uint32_t)cp) ? 0 : (int)utf8proc_get_property(cp)->combining_class;
}

/* Stable counting sort of one run of marks (all of class > 0) by class. */
static void sort_run(utf8proc_int32_t *v, size_t n, utf8proc_int32_t *tmp)
{
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++)
        at[class_of(v[i]) + 1]++;
    for (int c = 0; c < 256; c++)
        at[c + 1] += at[c];
    memcpy(tmp, v, n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[at[class_of(tmp[i])]++] = tmp[i];
}

static enum mb_status reorder(struct points *p)
{
    struct points tmp = {0};
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < p->n && st == MB_OK;) {
        size_t end = i;
        bool sorted = true;
        int last = 0, c;
        for (; end < p->n && p->v[end] > 0x2ff && (c = class_of(p->v[end])) != 0; end++) {
            sorted = sorted && c >= last;
            last = c;
        }
        if (!sorted)
            st = mb_grow_to(&tmp.v, &tmp.cap, end - i, sizeof *tmp.v);
        if (!sorted && st == MB_OK)
            sort_run(p->v + i, end - i, tmp.v);
        i = end > i ? end : i + 1;
    }
    free(tmp.v);
    return st;
}

/* Characters that the forms do not know stay, and nothing is composed across them. */
static enum mb_status compose_all(struct points *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        size_t from = i;
        while (i < p->n && !mb_rust_inert((uint32_t)p->v[i]))
            i++;
        memmove(p->v + n, p->v + from, (i - from) * sizeof *p->v);
        utf8proc_ssize_t k =
            utf8proc_normalize_utf32(p->v + n, (utf8proc_ssize_t)(i - from), UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (k < 0)
            return MB_REQUEST;
        n += (size_t)k;
        if (i < p->n)
            p->v[n++] = p->v[i];
    }
    p->n = n;
    return MB_OK;
}

static bool all_ascii(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)s[i] >= 0x80)
            return false;
    }
    return true;
}

enum mb_status mb_unicode_form(const char *s, size_t n, bool compat, bool compose, struct mb_bytes *out)
{
    if (all_ascii(s, n))
        return mb_bytes_put(out, s, n);
    struct points p = {0};
    enum mb_status st = decompose(s, n, compat, &p);
    if (st == MB_OK)
        st = reorder(&p);
    if (st == MB_OK && compose)
        st = compose_all(&p);
    if (st == MB_OK)
        st = mb_bytes_reserve(out, p.n * 4);
    for (size_t i = 0; i < p.n && st == MB_OK; i++)
        st = mb_utf8_append(out, (uint32_t)p.v[i]);
    free(p.v);
    return st;
}
