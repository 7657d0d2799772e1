/* Bytes -> code points: UTF-8, and in JSON's strings the escapes. mode: 0 between characters; 1 to 3: bytes
 * that are missing, of which val has those read; 10: behind a backslash; 11 to 14: digits missing of \u; 15,
 * 16: \ and u missing of the second half of a pair, whose first is high; 21 to 24: its digits missing. What
 * ASCII has a sign for is written as that sign: \u is for control characters and for what is beyond ASCII. */
#include "guide/level.h"

enum { ESCAPE = 10, HEX = 10, PAIR = 15, PAIR_U = 16, LOW = 20 };

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_text(uint32_t cp)
{
    return cp <= MB_LAST_CHAR && (cp < 0xd800 || cp > 0xdfff);
}

/* The code points that bytes so far begin. */
static struct mb_range of_bytes(const struct mb_level *h)
{
    uint32_t shift = 6 * h->mode, lo = h->val << shift, hi = lo | ((1u << shift) - 1), least = h->high;

    lo = lo < least ? least : lo;
    if (lo >= 0xd800 && lo <= 0xdfff)
        lo = 0xe000;
    if (hi >= 0xd800 && hi <= 0xdfff)
        hi = 0xd7ff;
    return (struct mb_range){lo, hi < MB_LAST_CHAR ? hi : MB_LAST_CHAR};
}

/* high holds the least code point of this length, until all bytes are there. */
static enum mb_char first_byte(struct mb_level *h, uint8_t b, uint32_t *cp)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

    *cp = b;
    if (b < 0x80)
        return b == 0 ? MB_C_BAD : MB_C_WHOLE;
    if (b < 0xc2 || b > 0xf4)
        return MB_C_BAD;
    h->mode = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
    h->val = b & (0x3fu >> h->mode);
    h->high = least[h->mode];
    return MB_C_PART;
}

static enum mb_char next_byte(struct mb_level *h, uint8_t b, uint32_t *cp)
{
    if ((b & 0xc0) != 0x80)
        return MB_C_BAD;
    h->val = h->val << 6 | (b & 0x3f);
    h->mode--;
    if (h->mode > 0) {
        struct mb_range r = of_bytes(h);
        return r.lo <= r.hi ? MB_C_PART : MB_C_BAD;
    }
    *cp = h->val;
    bool ok = *cp >= h->high && is_text(*cp);
    h->val = h->high = 0;
    return ok ? MB_C_WHOLE : MB_C_BAD;
}

static enum mb_char escape(struct mb_level *h, uint8_t b, uint32_t *cp)
{
    static const char from[] = "\"\\bfnrt", to[] = "\"\\\b\f\n\r\t";
    const char *at = memchr(from, b, 7);

    if (b == 'u') {
        h->mode = HEX + 4;
        h->val = 0;
        return MB_C_PART;
    }
    if (at == NULL)
        return MB_C_BAD;
    h->mode = 0;
    *cp = (uint8_t)to[at - from];
    return MB_C_WHOLE;
}

/* What is left over between characters is nothing: configurations that mean the same are the same. */
static enum mb_char whole(struct mb_level *h, uint32_t value, uint32_t *cp)
{
    h->mode = h->val = h->high = 0;
    *cp = value;
    return MB_C_WHOLE;
}

static bool has_sign(uint32_t cp)
{
    return cp >= 0x20 && cp < 0x7f;
}

static enum mb_char first_digits(struct mb_level *h, uint8_t b, uint32_t *cp)
{
    int d = hex_digit(b);

    if (d < 0)
        return MB_C_BAD;
    h->val = h->val << 4 | (uint32_t)d;
    if (--h->mode == HEX + 2 && h->val >= 0xdc && h->val <= 0xdf) /* a second half may not come first */
        return MB_C_BAD;
    if (h->mode == HEX + 1 && h->val >= 2 && h->val <= 6)
        return MB_C_BAD;
    if (h->mode > HEX)
        return MB_C_PART;
    if (has_sign(h->val))
        return MB_C_BAD;
    if (h->val < 0xd800 || h->val > 0xdfff)
        return whole(h, h->val, cp);
    h->high = h->val;
    h->val = 0;
    h->mode = PAIR;
    return MB_C_PART;
}

/* The second half is from dc00 to dfff. */
static enum mb_char second_digits(struct mb_level *h, uint8_t b, uint32_t *cp)
{
    int d = hex_digit(b);

    if (d < 0 || (h->mode == LOW + 4 && d != 0xd) || (h->mode == LOW + 3 && d < 0xc))
        return MB_C_BAD;
    h->val = h->val << 4 | (uint32_t)d;
    if (--h->mode > LOW)
        return MB_C_PART;
    return whole(h, 0x10000 + ((h->high - 0xd800) << 10) + (h->val - 0xdc00), cp);
}

enum mb_char mb_char_in(struct mb_level *h, uint8_t b, bool json, uint32_t *cp)
{
    if (h->mode == 0 && json && b == '"')
        return MB_C_QUOTE;
    if (h->mode == 0 && json && b == '\\') {
        h->mode = ESCAPE;
        return MB_C_PART;
    }
    if (h->mode == 0)
        return json && b < 0x20 ? MB_C_BAD : first_byte(h, b, cp);
    if (h->mode <= 3)
        return next_byte(h, b, cp);
    if (h->mode == ESCAPE)
        return escape(h, b, cp);
    if (h->mode == PAIR || h->mode == PAIR_U) {
        bool right = b == (h->mode == PAIR ? '\\' : 'u');
        h->mode = h->mode == PAIR ? PAIR_U : LOW + 4;
        return right ? MB_C_PART : MB_C_BAD;
    }
    return h->mode > LOW ? second_digits(h, b, cp) : first_digits(h, b, cp);
}

/* The second half of a pair: what the digits so far leave. */
static struct mb_range of_pair(const struct mb_level *h)
{
    uint32_t base = 0x10000 + ((h->high - 0xd800) << 10), left = h->mode > LOW ? h->mode - LOW : 4;
    uint32_t low = left == 4 ? 0xdc00 : h->val << 4 * left,
             top = left == 4 ? 0xdfff : low | ((1u << 4 * left) - 1);

    low = low < 0xdc00 ? 0xdc00 : low;
    return (struct mb_range){base + (low - 0xdc00), base + (top - 0xdc00)};
}

static int put_range(struct mb_range *out, int n, uint32_t lo, uint32_t hi)
{
    if (lo > hi)
        return n;
    out[n] = (struct mb_range){lo, hi};
    return n + 1;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

int mb_char_ranges(const struct mb_level *h, struct mb_range out[MB_CHAR_RANGES])
{
    int n = 0;

    if (h->mode >= 1 && h->mode <= 3) {
        out[0] = of_bytes(h);
        return 1;
    }
    if (h->mode == PAIR || h->mode == PAIR_U || h->mode > LOW) {
        out[0] = of_pair(h);
        return 1;
    }
    bool all = h->mode == ESCAPE;
    uint32_t left = all ? 4 : h->mode - HEX, lo = left >= 4 ? 0 : h->val << 4 * left;
    uint32_t hi = left >= 4 ? 0xffff : lo | ((1u << 4 * left) - 1), first = larger(lo, 0xd800),
             last = smaller(hi, 0xdbff);
    if (all) {
        n = put_range(out, n, '"', '"');
        n = put_range(out, n, '\\', '\\');
    }
    n = put_range(out, n, lo, smaller(hi, 0x1f));
    n = put_range(out, n, larger(lo, 0x7f), smaller(hi, 0xd7ff));
    n = put_range(out, n, larger(lo, 0xe000), hi);
    return first > last ? n
                        : put_range(out, n, 0x10000 + ((first - 0xd800) << 10),
                                    0x10000 + ((last - 0xd800) << 10) + 0x3ff);
}
