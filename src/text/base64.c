#include "text/base64.h"

#include <string.h>

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c != 0 ? strchr(digits, c) : NULL;
    return p == NULL ? -1 : (int)(p - digits);
}

enum mb_status mb_base64_put(const char *s, size_t n, struct mb_bytes *out, bool *valid)
{
    uint32_t acc = 0;
    int bits = 0;

    *valid = true;
    for (size_t i = 0; i < n && s[i] != '='; i++) {
        int d = digit(s[i]);
        if (d < 0) {
            *valid = false;
            return MB_OK;
        }
        acc = acc << 6 | (uint32_t)d;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        MB_TRY(mb_bytes_put(out, (uint8_t[]){(uint8_t)(acc >> bits)}, 1));
    }
    return MB_OK;
}
