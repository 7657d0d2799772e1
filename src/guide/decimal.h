/* Decimal numbers with 18 digits before the point and 18 behind it, as integers of 128 bits in units of
 * 10^-18. What has bounds is written within them, so that comparing and dividing are exact. Local. */
#ifndef MB_GUIDE_DECIMAL_H
#define MB_GUIDE_DECIMAL_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MB_DECIMAL_DIGITS 18
__extension__ typedef __int128 mb_decimal;
#define MB_DECIMAL_ONE ((mb_decimal)1000000000000000000)
#define MB_DECIMAL_MOST (MB_DECIMAL_ONE * MB_DECIMAL_ONE) /* nothing that is written reaches it */

/* How a number that needs more digits is rounded; *exact says whether it was. */
enum mb_decimal_round { MB_DECIMAL_DOWN, MB_DECIMAL_UP };
/* v: a JSON number; reals have their shortest decimal text. What is too large is MB_DECIMAL_MOST with its
 * sign. */
mb_decimal mb_decimal_of(const json_t *v, enum mb_decimal_round round, bool *exact);
/* Whether [lo, hi] has a multiple of step > 0. */
bool mb_decimal_multiple_in(mb_decimal lo, mb_decimal hi, mb_decimal step);
/* The least common multiple, or 0 where it reaches MB_DECIMAL_MOST. */
mb_decimal mb_decimal_lcm(mb_decimal a, mb_decimal b);
#endif
