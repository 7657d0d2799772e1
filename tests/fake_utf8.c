/* Stands in for src/text's UTF-8 functions. */
#include "fake_tokenizer.h"

static size_t sequence(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80)
        return 1;
    size_t k = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    if (k == 0 || k > n)
        return 0;
    for (size_t i = 1; i < k; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return k;
}

bool mb_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0, k; i < n; i += k)
        if ((k = sequence((const unsigned char *)s + i, n - i)) == 0)
            return false;
    return true;
}

enum mb_status mb_utf8_repair(const char *s, size_t n, bool nul_too, struct mb_bytes *out)
{
    (void)nul_too;
    for (size_t i = 0, k; i < n; i += k) {
        k = sequence((const unsigned char *)s + i, n - i);
        MB_TRY(mb_bytes_put(out, k ? s + i : "\xef\xbf\xbd", k ? k : 3));
        k = k ? k : 1;
    }
    return MB_OK;
}
