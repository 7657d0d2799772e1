/* Strings cut at separators and joined by them, as Python's str does it. */
#include <string.h>
#include "jinja/own.h"
#include "jinja/strings.h"
#include "base/utf8.h"

static bool put_part(struct mb_jctx *c, struct mb_jval *list, const char *s, size_t n)
{
    return mb_jlist_put(c, list->u.list, mb_jstring(s, n));
}

static bool split_space(struct mb_jctx *c, struct mb_jstr s, int64_t max, struct mb_jval *out)
{
    for (;;) {
        uint32_t cp;
        size_t i = 0, k = 0;
        s = mb_jstrip(s, true, false);
        if (s.n == 0)
            return true;
        if (max == 0) {
            s = mb_jstrip(s, false, true);
            return put_part(c, out, s.s, s.n);
        }
        for (; i < s.n; i += k) {
            k = (size_t)mb_utf8_next(s.s + i, &cp);
            if (mb_jis_space(cp))
                break;
        }
        if (!put_part(c, out, s.s, i))
            return false;
        s.s += i;
        s.n -= i;
        max -= max > 0;
    }
}

static bool split_on(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sep, int64_t max,
                     struct mb_jval *out)
{
    for (; max != 0; max -= max > 0) {
        const char *hit = s.n > 0 ? memmem(s.s, s.n, sep.s, sep.n) : NULL;
        if (hit == NULL)
            break;
        size_t k = (size_t)(hit - s.s);
        if (!put_part(c, out, s.s, k))
            return false;
        s.s += k + sep.n;
        s.n -= k + sep.n;
    }
    return put_part(c, out, s.s, s.n);
}

/* The last place of sub in s, or NULL: Knuth, Morris and Pratt from right to left, so that the time is linear
 * in what is walked over, and sub. sub is not empty. */
bool mb_jfind_last(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sub, const char **out)
{
    size_t m = sub.n, k = 0;
    uint32_t *next = sub.n < UINT32_MAX ? mb_jalloc(&c->arena, (m + 1) * sizeof *next) : NULL;
    *out = NULL;
    if (next == NULL)
        return mb_jno_memory(c);
    /* next[i]: length of the longest proper border of the last i characters of sub */
    for (size_t i = 1; i < m; i++) {
        while (k > 0 && sub.s[m - 1 - i] != sub.s[m - 1 - k])
            k = next[k];
        k += sub.s[m - 1 - i] == sub.s[m - 1 - k];
        next[i + 1] = (uint32_t)k;
    }
    k = 0;
    for (size_t i = s.n; i > 0 && *out == NULL; i--) {
        while (k > 0 && s.s[i - 1] != sub.s[m - 1 - k])
            k = next[k];
        k += s.s[i - 1] == sub.s[m - 1 - k];
        if (k == m)
            *out = s.s + i - 1;
    }
    return mb_jstep(c, m / 16);
}

/* From the right with a limit: the parts come last to first and are turned round. */
static bool rsplit_on(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sep, int64_t max,
                      struct mb_jval *out)
{
    for (; max > 0; max--) {
        const char *hit;
        if (!mb_jfind_last(c, s, sep, &hit))
            return false;
        if (hit == NULL)
            break;
        const char *from = hit + sep.n;
        if (!put_part(c, out, from, (size_t)(s.s + s.n - from)))
            return false;
        s.n = (size_t)(hit - s.s);
    }
    if (!put_part(c, out, s.s, s.n))
        return false;
    struct mb_jlist *l = out->u.list;
    for (size_t i = 0; i < l->n / 2; i++) {
        struct mb_jval x = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = x;
    }
    return true;
}

static bool rsplit_space(struct mb_jctx *c, struct mb_jstr s, int64_t max, struct mb_jval *out)
{
    s = mb_jstrip(s, false, true);
    while (s.n > 0 && max > 0) {
        uint32_t cp;
        size_t i = s.n;
        while (i > 0) {
            size_t back = mb_utf8_back(s.s, i);
            mb_utf8_next(s.s + back, &cp);
            if (mb_jis_space(cp))
                break;
            i = back;
        }
        if (!put_part(c, out, s.s + i, s.n - i))
            return false;
        s.n = i;
        s = mb_jstrip(s, false, true);
        max--;
    }
    if (s.n > 0 && !put_part(c, out, s.s, s.n))
        return false;
    struct mb_jlist *l = out->u.list;
    for (size_t i = 0; i < l->n / 2; i++) {
        struct mb_jval x = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = x;
    }
    return true;
}

bool mb_jsplit(struct mb_jctx *c, struct mb_jstr s, bool right, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *sep = mb_jarg(a, 0, "sep"), *max = mb_jarg(a, 1, "maxsplit");
    int64_t limit = max != NULL && max->kind == MB_J_INT ? max->u.i : -1;
    if (!mb_jlist_new(c, MB_J_LIST, 0, out))
        return false;
    if (sep == NULL || sep->kind == MB_J_NONE)
        return right && limit >= 0 ? rsplit_space(c, s, limit, out) : split_space(c, s, limit, out);
    if (sep->kind != MB_J_STR)
        return mb_jfail(c, "must be str or None, not %s", mb_jtype(*sep));
    if (sep->u.str.n == 0)
        return mb_jfail(c, "empty separator");
    return right && limit >= 0 ? rsplit_on(c, s, sep->u.str, limit, out)
                               : split_on(c, s, sep->u.str, limit, out);
}

bool mb_jsplitlines(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *keep = mb_jarg(a, 0, "keepends");
    bool ends = keep != NULL && mb_jtruth(*keep);
    if (!mb_jlist_new(c, MB_J_LIST, 0, out))
        return false;
    for (size_t i = 0, from = 0; i < s.n;) {
        uint32_t cp;
        size_t at = i;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        bool line = (cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
                    cp == 0x2029;
        if (!line && i < s.n)
            continue;
        if (cp == 13 && i < s.n && s.s[i] == 10)
            i++;
        if (!put_part(c, out, s.s + from, (!line || ends ? i : at) - from))
            return false;
        from = i;
    }
    return true;
}

bool mb_jpartition(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sep, bool right, struct mb_jval *out)
{
    if (sep.n == 0)
        return mb_jfail(c, "empty separator");
    const char *hit = NULL;
    if (right && !mb_jfind_last(c, s, sep, &hit))
        return false;
    if (!right && s.n > 0)
        hit = memmem(s.s, s.n, sep.s, sep.n);
    size_t k = hit == NULL ? s.n : (size_t)(hit - s.s), end = hit == NULL ? s.n : k + sep.n;
    if (!mb_jlist_new(c, MB_J_TUPLE, 3, out))
        return false;
    if (hit == NULL && right)
        return put_part(c, out, "", 0) && put_part(c, out, "", 0) && put_part(c, out, s.s, s.n);
    return put_part(c, out, s.s, k) && put_part(c, out, s.s + k, end - k) &&
           put_part(c, out, s.s + end, s.n - end);
}

bool mb_jjoin(struct mb_jctx *c, struct mb_jstr sep, const struct mb_jlist *l, bool strict,
              struct mb_jval *out)
{
    struct mb_bytes text = {0};
    bool ok = true;
    for (size_t i = 0; i < l->n && ok; i++) {
        if (strict && l->v[i].kind != MB_J_STR)
            ok = mb_jfail(c, "sequence item %zu: expected str instance, %s found", i, mb_jtype(l->v[i]));
        if (ok && i > 0)
            ok = mb_jprint(c, mb_jstring(sep.s, sep.n), &text);
        ok = ok && mb_jprint(c, l->v[i], &text);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}
