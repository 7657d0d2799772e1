#include "text/unicode_rust.h"

#include <stddef.h>
#include <utf8proc.h>
#include "base/utf8.h"

struct mb_points {
    uint32_t from, to;
};
#include "text/unicode_rust_tables.h"

static bool in(const struct mb_points *t, size_t n, uint32_t cp)
{
    size_t lo = 0;
    while (n > 0) {
        size_t half = n / 2;
        if (t[lo + half].to < cp) {
            lo += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return cp >= t[lo].from && cp <= t[lo].to; /* behind the last: the sentinel */
}
#define IN(table, cp) in(table, sizeof table / sizeof *table - 1, cp)

bool mb_rust_inert(uint32_t cp)
{
    return cp >= 0x300 && IN(inert, cp);
}

uint32_t mb_rust_lower(uint32_t cp)
{
    for (size_t i = 0; cp >= 0x1c89 && i < sizeof more_lower / sizeof *more_lower; i++) {
        if (cp >= more_lower[i].from && cp <= more_lower[i].to)
            return (uint32_t)((int64_t)cp + more_lower[i].add);
    }
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}

bool mb_rust_word(uint32_t cp)
{
    return mb_is_word(cp) || (cp >= 0x300 && IN(more_words, cp));
}

bool mb_rust_number(uint32_t cp)
{
    return mb_is_number(cp) || (cp >= 0x300 && IN(more_numbers, cp));
}

bool mb_rust_punct(uint32_t cp)
{
    return cp < 0x300 ? mb_is_punct(cp) : (mb_is_punct(cp) && !IN(less_punct, cp)) || IN(more_punct, cp);
}

bool mb_rust_mark(uint32_t cp)
{
    if (cp < 0x300)
        return false;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    bool mark = c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
    return (mark && !IN(inert, cp)) || IN(more_marks, cp);
}
