#include "text/norm.h"

#include <string.h>
#include "text/spm.h"
#include "text/unicode_rust.h"
#include "base/utf8.h"

void mb_norm_fini(struct mb_norm *s)
{
    mb_pattern_fini(&s->pattern);
    mb_bytes_fini(&s->text);
    mb_charsmap_fini(&s->map);
}

/* Full lower case without context, as Rust's char::to_lowercase: only U+0130 becomes two characters. */
static enum mb_status lowercase(const char *s, size_t n, struct mb_bytes *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s + i, &cp);
        if (cp == 0x130)
            MB_TRY(mb_bytes_put(out, "i\xcc\x87", 3));
        else
            MB_TRY(mb_utf8_append(out, mb_rust_lower(cp)));
    }
    return MB_OK;
}

static enum mb_status strip_accents(const char *s, size_t n, bool *first, struct mb_bytes *out)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int k = mb_utf8_next(s + i, &cp);
        if (i == 0 && mb_rust_mark(cp))
            *first = false;
        if (!mb_rust_mark(cp))
            MB_TRY(mb_bytes_put(out, s + i, (size_t)k));
        i += (size_t)k;
    }
    return MB_OK;
}

static enum mb_status strip(const struct mb_norm *t, const char *s, size_t n, bool *first,
                            struct mb_bytes *out)
{
    uint32_t cp;
    size_t from = 0;
    while (t->left && from < n) {
        int k = mb_utf8_next(s + from, &cp);
        if (!mb_is_space(cp))
            break;
        from += (size_t)k;
    }
    while (t->right && n > from) {
        size_t back = mb_utf8_back(s, n);
        mb_utf8_next(s + back, &cp);
        if (!mb_is_space(cp))
            break;
        n = back;
    }
    if (from > 0)
        *first = false;
    return mb_bytes_put(out, s + from, n - from);
}

enum mb_status mb_replace_fits(size_t have, size_t more, size_t most)
{
    return more <= most && have <= most - more ? MB_OK : MB_REQUEST;
}

/* most: bytes that may be made of s */
static enum mb_status replace(const struct mb_norm *t, const char *s, size_t n, size_t most, struct mb_work *w,
                              bool *first, struct mb_bytes *out)
{
    struct mb_search f = {&t->pattern, s, n, 0, SIZE_MAX};
    size_t done = 0, from, to, before = out->len;
    for (;;) {
        bool found;
        MB_TRY(mb_search_next(&f, w, &found, &from, &to));
        if (!found)
            break;
        MB_TRY(mb_replace_fits(out->len - before, from - done + t->text.len, most));
        MB_TRY(mb_bytes_put(out, s + done, from - done));
        MB_TRY(mb_bytes_put(out, t->text.data, t->text.len));
        if (from == 0 && to > 0 && t->text.len == 0)
            *first = false;
        done = to;
    }
    return mb_bytes_put(out, s + done, n - done);
}

static enum mb_status one(const struct mb_norm *t, const char *s, size_t n, size_t most, struct mb_work *w,
                          bool *first, struct mb_bytes *out)
{
    switch (t->kind) {
    case MB_NORM_NFC:
        return mb_unicode_form(s, n, false, true, out);
    case MB_NORM_NFD:
        return mb_unicode_form(s, n, false, false, out);
    case MB_NORM_NFKC:
        return mb_unicode_form(s, n, true, true, out);
    case MB_NORM_NFKD:
        return mb_unicode_form(s, n, true, false, out);
    case MB_NORM_LOWERCASE:
        return lowercase(s, n, out);
    case MB_NORM_PREPEND:
        if (n > 0)
            MB_TRY(mb_bytes_put(out, t->text.data, t->text.len));
        return mb_bytes_put(out, s, n);
    case MB_NORM_REPLACE:
        return replace(t, s, n, most, w, first, out);
    case MB_NORM_STRIP:
        return strip(t, s, n, first, out);
    case MB_NORM_STRIP_ACCENTS:
        return strip_accents(s, n, first, out);
    case MB_NORM_SPM:
        return mb_spm_normalize(t->spm, s, n, *first, out);
    case MB_NORM_CHARSMAP:
        return mb_charsmap_apply(&t->map, s, n, out);
    }
    return MB_BUG;
}

enum mb_status mb_norm_apply(const struct mb_norm *steps, int n, const char *in, size_t len,
                             struct mb_work *w, bool *first, struct mb_bytes *out)
{
    size_t most = mb_replace_most(len);

    if (n == 0)
        return mb_bytes_put(out, in, len);
    for (int i = 0; i < n; i++) {
        struct mb_bytes *to = i == n - 1 ? out : &w->tmp[i & 1];
        if (i < n - 1)
            to->len = 0;
        MB_TRY(one(&steps[i], in, len, most, w, first, to));
        in = (const char *)to->data;
        len = to->len;
    }
    return MB_OK;
}
