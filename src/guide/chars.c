#include "guide/chars.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

enum mb_status mb_guide_room(void **p, int32_t *cap, int64_t need, size_t size)
{
    if (need <= *cap)
        return MB_OK;
    int64_t more = *cap < 8 ? 8 : 2 * (int64_t)*cap;
    more = more < need ? need : more;
    void *got = more <= INT32_MAX ? mb_grow(NULL, MB_MEM_REQUESTS, *p, (size_t)more, size) : NULL;
    if (got == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
    *p = got;
    *cap = (int32_t)more;
    return MB_OK;
}

void mb_set_fini(struct mb_set *s)
{
    mb_free(s->r);
    *s = (struct mb_set){0};
}

enum mb_status mb_set_add(struct mb_set *s, uint32_t lo, uint32_t hi)
{
    MB_TRY(mb_guide_room((void **)&s->r, &s->cap, s->n + 1, sizeof *s->r));
    s->r[s->n++] = (struct mb_range){lo, hi < MB_LAST_CHAR ? hi : MB_LAST_CHAR};
    return MB_OK;
}

static int by_start(const void *a, const void *b)
{
    const struct mb_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

void mb_set_settle(struct mb_set *s)
{
    int32_t n = 0;

    if (s->n > 1)
        qsort(s->r, (size_t)s->n, sizeof *s->r, by_start);
    for (int32_t i = 0; i < s->n; i++) {
        struct mb_range r = s->r[i];
        if (n > 0 && r.lo <= s->r[n - 1].hi + 1)
            s->r[n - 1].hi = r.hi > s->r[n - 1].hi ? r.hi : s->r[n - 1].hi;
        else
            s->r[n++] = r;
    }
    s->n = n;
}

enum mb_status mb_set_negate(struct mb_set *s)
{
    struct mb_set out = {0};
    uint32_t from = 0;
    enum mb_status st = MB_OK;

    mb_set_settle(s);
    for (int32_t i = 0; i < s->n && st == MB_OK; i++) {
        if (s->r[i].lo > from)
            st = mb_set_add(&out, from, s->r[i].lo - 1);
        from = s->r[i].hi + 1;
    }
    if (from <= MB_LAST_CHAR && st == MB_OK)
        st = mb_set_add(&out, from, MB_LAST_CHAR);
    if (st == MB_OK) {
        mb_set_fini(s);
        *s = out;
    } else {
        mb_set_fini(&out);
    }
    return st;
}

/* Adds the ranges, or what is between them. */
static enum mb_status add_all(struct mb_set *s, const struct mb_range *r, int32_t n, bool rest)
{
    uint32_t from = 0;

    for (int32_t i = 0; i < n; i++) {
        if (!rest)
            MB_TRY(mb_set_add(s, r[i].lo, r[i].hi));
        else if (r[i].lo > from)
            MB_TRY(mb_set_add(s, from, r[i].lo - 1));
        from = r[i].hi + 1;
    }
    return rest ? mb_set_add(s, from, MB_LAST_CHAR) : MB_OK;
}

bool mb_set_class(struct mb_set *s, char name, enum mb_status *st)
{
    static const struct mb_range digit[] = {{'0', '9'}};
    static const struct mb_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const struct mb_range space[] = {
        {9, 13},          {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
        {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    bool rest = name < 'a';

    switch (name | 0x20) {
    case 'd':
        *st = add_all(s, digit, 1, rest);
        return true;
    case 'w':
        *st = add_all(s, word, 4, rest);
        return true;
    case 's':
        *st = add_all(s, space, 10, rest);
        return true;
    default:
        return false;
    }
}

bool mb_set_has(const struct mb_set *s, uint32_t cp)
{
    int32_t lo = 0, hi = s->n;

    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        if (s->r[mid].hi < cp)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->r[lo].lo <= cp;
}

int mb_chars_next(const char *text, size_t n, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)text;
    int len = s[0] < 0xc0 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    *cp = s[0];
    if (len == 1 || (size_t)len > n)
        return 1;
    *cp = s[0] & (0x7fu >> len);
    for (int i = 1; i < len; i++)
        *cp = *cp << 6 | (s[i] & 0x3f);
    return len;
}
