/* Sets of code points as ascending ranges that do not touch. Grown by hand, freed by mb_set_fini. Local. */
#ifndef MB_GUIDE_CHARS_H
#define MB_GUIDE_CHARS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

#define MB_LAST_CHAR 0x10ffffu

struct mb_range {
    uint32_t lo, hi;
};
struct mb_set {
    struct mb_range *r;
    int32_t n, cap;
};
void mb_set_fini(struct mb_set *s);
/* Errors of all: MB_NO_MEMORY. */
enum mb_status mb_set_add(struct mb_set *s, uint32_t lo, uint32_t hi);
/* Ascending, disjoint, without surrogates. */
void mb_set_settle(struct mb_set *s);
/* All other code points; settles. */
enum mb_status mb_set_negate(struct mb_set *s);
/* Adds the class that an escape names: d D w W s S, as ECMAScript defines them (digits and words are ASCII).
 * false: no class. */
bool mb_set_class(struct mb_set *s, char name, enum mb_status *st);
bool mb_set_has(const struct mb_set *s, uint32_t cp);

/* The next code point of valid UTF-8 s[0..n), n > 0; returns its bytes. Bytes that are no UTF-8 count as
 * themselves. */
int mb_chars_next(const char *s, size_t n, uint32_t *cp);

/* Makes room for `need` elements of `size` bytes in *p, which has *cap of them. */
enum mb_status mb_guide_room(void **p, int32_t *cap, int64_t need, size_t size);
#endif
