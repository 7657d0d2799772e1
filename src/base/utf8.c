#include "base/utf8.h"

#include <string.h>
#include <utf8proc.h>

int mb_utf8_step(const uint8_t *s, size_t n, uint32_t *cp, bool *cut)
{
    uint8_t lead = s[0], lo = 0x80, hi = 0xbf;
    *cut = false;
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    if (lead < 0xc2 || lead > 0xf4)
        return -1;
    int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    uint32_t c = lead & (0x3fu >> more);
    /* The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF. */
    if (lead == 0xe0)
        lo = 0xa0;
    else if (lead == 0xed)
        hi = 0x9f;
    else if (lead == 0xf0)
        lo = 0x90;
    else if (lead == 0xf4)
        hi = 0x8f;
    for (int i = 1; i <= more; i++) {
        if ((size_t)i == n) {
            *cut = true;
            return -i;
        }
        if (s[i] < lo || s[i] > hi)
            return -i;
        c = c << 6 | (s[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    *cp = c;
    return more + 1;
}

int mb_utf8_next(const char *s, uint32_t *cp)
{
    bool cut;
    int k = mb_utf8_step((const uint8_t *)s, 4, cp, &cut);
    return k > 0 ? k : 1;
}

size_t mb_utf8_back(const char *s, size_t end)
{
    do
        end--;
    while (end > 0 && ((uint8_t)s[end] & 0xc0) == 0x80);
    return end;
}

int mb_utf8_put(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int more = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
    for (int i = more; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf0u << (3 - more)) | cp);
    return more + 1;
}

enum mb_status mb_utf8_append(struct mb_bytes *b, uint32_t cp)
{
    char c[4];
    return mb_bytes_put(b, c, (size_t)mb_utf8_put(cp, c));
}

/* Length of the run of ASCII bytes at the start of s. */
static size_t ascii_run(const char *s, size_t n)
{
    size_t i = 0;
    uint64_t w;
    for (; i + 8 <= n; i += 8) {
        memcpy(&w, s + i, 8);
        if (w & 0x8080808080808080u)
            break;
    }
    while (i < n && (uint8_t)s[i] < 0x80)
        i++;
    return i;
}

bool mb_utf8_valid(const char *s, size_t n)
{
    uint32_t cp;
    bool cut;
    for (size_t i = ascii_run(s, n); i < n; i += ascii_run(s + i, n - i)) {
        int k = mb_utf8_step((const uint8_t *)s + i, n - i, &cp, &cut);
        if (k < 0)
            return false;
        i += (size_t)k;
    }
    return true;
}

enum mb_status mb_utf8_repair(const char *s, size_t n, bool nul_too, struct mb_bytes *out)
{
    size_t done = 0, i = 0;
    uint32_t cp = 1;
    bool cut;
    if (n == 0)
        return MB_OK;
    while (i < n) {
        int k = mb_utf8_step((const uint8_t *)s + i, n - i, &cp, &cut);
        bool bad = k < 0 || (nul_too && cp == 0);
        if (bad) {
            MB_TRY(mb_bytes_put(out, s + done, i - done));
            MB_TRY(mb_bytes_put(out, MB_FFFD, 3));
        }
        i += (size_t)(k < 0 ? -k : k);
        if (bad)
            done = i;
    }
    return mb_bytes_put(out, s + done, n - done);
}

bool mb_is_space(uint32_t cp)
{
    if (cp <= 0x20)
        return cp == 0x20 || (cp >= 9 && cp <= 13);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 ||
           cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool mb_is_number(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool mb_is_punct(uint32_t cp)
{
    if (cp < 0x80)
        return cp > 0x20 && cp < 0x7f && !(cp >= '0' && cp <= '9') &&
               !((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z');
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_PC && c <= UTF8PROC_CATEGORY_PO;
}

bool mb_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        /* Join_Control, and the circled and squared letters, which are Alphabetic though their category is So
         */
        return cp == 0x200c || cp == 0x200d || (cp >= 0x24b6 && cp <= 0x24e9) ||
               (cp >= 0x1f130 && cp <= 0x1f149) || (cp >= 0x1f150 && cp <= 0x1f169) ||
               (cp >= 0x1f170 && cp <= 0x1f189);
    }
}
