#include "text/charsmap.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "base/log.h"
#include "text/tokenizer.h"
#include "base/utf8.h"

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

enum mb_status mb_charsmap_init(struct mb_charsmap *m, const uint8_t *blob, size_t n, bool by_grapheme,
                                const char *what)
{
    *m = (struct mb_charsmap){.by_grapheme = by_grapheme};
    uint32_t bytes = n >= 4 ? le32(blob) : UINT32_MAX;
    if (bytes > n - 4 || bytes % 4 != 0 || bytes == 0)
        return mb_error(MB_MODEL, "%s: a precompiled character map of %zu bytes whose trie has %u", what, n,
                        bytes);
    m->units = bytes / 4;
    m->text_len = n - 4 - bytes;
    m->unit = malloc(bytes);
    m->text = malloc(m->text_len + 1);
    if (m->unit == NULL || m->text == NULL) {
        mb_charsmap_fini(m);
        return mb_error(MB_NO_MEMORY, "%s: no memory for a character map", what);
    }
    for (uint32_t i = 0; i < m->units; i++)
        m->unit[i] = le32(blob + 4 + 4 * (size_t)i);
    if (m->text_len > 0)
        memcpy(m->text, blob + 4 + bytes, m->text_len);
    m->text[m->text_len] = 0;
    if (!mb_utf8_valid(m->text, m->text_len)) {
        mb_charsmap_fini(m);
        return mb_error(MB_MODEL, "%s: a precompiled character map with invalid UTF-8", what);
    }
    return MB_OK;
}

void mb_charsmap_fini(struct mb_charsmap *m)
{
    free(m->unit);
    free(m->text);
    *m = (struct mb_charsmap){0};
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & 0x200) >> 6);
}

/* Walks the trie along s; returns the length of the longest (or shortest) key found and where its replacement
 * lies. */
static size_t walk(const struct mb_charsmap *m, const char *s, size_t n, bool shortest, uint32_t *value)
{
    size_t best = 0;
    uint32_t at = offset_of(m->unit[0]);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)s[i];
        at ^= c;
        if (at >= m->units || (m->unit[at] & 0x800000ffu) != c)
            break;
        uint32_t unit = m->unit[at];
        at ^= offset_of(unit);
        if ((unit >> 8 & 1) == 0)
            continue;
        if (at >= m->units)
            break;
        best = i + 1;
        *value = m->unit[at] & 0x7fffffffu;
        if (shortest)
            break;
    }
    return best;
}

static size_t look_up(const struct mb_charsmap *m, const char *s, size_t n, bool shortest, const char **to,
                      size_t *to_len)
{
    uint32_t value = 0;
    size_t k = walk(m, s, n, shortest, &value);
    /* A value that does not point at the start of a character would tear one: such a key counts as absent. */
    if (k == 0 || value > m->text_len || ((uint8_t)m->text[value] & 0xc0) == 0x80)
        return 0;
    *to = m->text + value;
    *to_len = strlen(*to);
    return k;
}

size_t mb_charsmap_longest(const struct mb_charsmap *m, const char *s, size_t n, const char **to,
                           size_t *to_len)
{
    size_t k = look_up(m, s, n, false, to, to_len);
    /* a key must end where a character does */
    return k > 0 && k < n && ((uint8_t)s[k] & 0xc0) == 0x80 ? 0 : k;
}

static size_t grapheme(const char *s, size_t n)
{
    uint32_t a, b;
    utf8proc_int32_t state = 0;
    size_t i = (size_t)mb_utf8_next(s, &a);
    while (i < n) {
        size_t k = (size_t)mb_utf8_next(s + i, &b);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)a, (utf8proc_int32_t)b, &state))
            break;
        i += k;
        a = b;
    }
    return i;
}

static enum mb_status by_grapheme(const struct mb_charsmap *m, const char *s, size_t n, struct mb_bytes *out)
{
    const char *to;
    size_t to_len;
    for (size_t i = 0; i < n;) {
        size_t g = grapheme(s + i, n - i), end = i + g;
        if (g < 6 && look_up(m, s + i, g, true, &to, &to_len) > 0) {
            MB_TRY(mb_bytes_put(out, to, to_len));
            i = end;
        }
        while (i < end) {
            uint32_t cp;
            size_t k = (size_t)mb_utf8_next(s + i, &cp);
            if (look_up(m, s + i, k, true, &to, &to_len) > 0)
                MB_TRY(mb_bytes_put(out, to, to_len));
            else
                MB_TRY(mb_bytes_put(out, s + i, k));
            i += k;
        }
    }
    return MB_OK;
}

enum mb_status mb_charsmap_apply(const struct mb_charsmap *m, const char *s, size_t n, struct mb_bytes *out)
{
    if (m->by_grapheme)
        return by_grapheme(m, s, n, out);
    for (size_t i = 0; i < n;) {
        const char *to;
        size_t to_len;
        uint32_t cp;
        size_t k = mb_charsmap_longest(m, s + i, n - i, &to, &to_len);
        if (k > 0)
            MB_TRY(mb_bytes_put(out, to, to_len));
        else
            MB_TRY(mb_bytes_put(out, s + i, k = (size_t)mb_utf8_next(s + i, &cp)));
        i += k;
    }
    return MB_OK;
}
