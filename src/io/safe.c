#include "io/safe.h"

void mb_put_safe(FILE *out, const char *s, size_t n, bool lines)
{
    size_t from = 0; /* what is written in one piece */
    for (size_t i = 0; s != NULL && i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool c1 = c == 0xc2 && i + 1 < n && (unsigned char)s[i + 1] < 0xa0; /* U+0080 to U+009F */
        bool stays = lines && (c == '\n' || c == '\t');
        if (stays || (c >= 0x20 && c != 0x7f && c != '\\' && !c1))
            continue;
        fwrite(s + from, 1, i - from, out);
        from = i + 1;
        if (c == '\\')
            fputs("\\\\", out);
        else
            fprintf(out, "\\x%02x", c);
        if (c1)
            fprintf(out, "\\x%02x", (unsigned char)s[i + 1]), from = ++i + 1;
    }
    if (s != NULL)
        fwrite(s + from, 1, n - from, out);
}
