/* Every layout of a number of ranks, and the one nearest to what was asked for. Pure integers, Local. */
#ifndef MB_PLAN_ENUMERATE_H
#define MB_PLAN_ENUMERATE_H
#include "plan/grid.h"

/* Layouts in a fixed order: all divisors dp of world, pp of the rest, then (if asked for) both scopes and
 * every split A:X of a stage, all tp x sp x adp and etp x edp x ep whose products match. Zero-initialise; set
 * world and what is wanted. struct mb_layout_walk w = {.world = 8}; while (mb_layout_next(&w, &l)) ... The
 * basic layouts are those with neither lane nor split. */
struct mb_layout_walk {
    int32_t world;
    bool lane;            /* lane scope, too, where there are several stages */
    bool split;           /* disaggregated ones, too */
    int32_t attn, expert; /* split: only the one nearest to this proportion; 0: all */
    bool begun;
    struct mb_layout at;
};
bool mb_layout_next(struct mb_layout_walk *w, struct mb_layout *out);

/* The layout of world ranks nearest to what was asked for (fewest doublings and halvings of the sizes given)
 * that accept takes (NULL: any; it gets candidates from the nearest on). False: none, or no memory. */
bool mb_layout_nearest(const struct mb_layout_options *o, int32_t world,
                       bool (*accept)(void *arg, const struct mb_layout *l), void *arg,
                       struct mb_layout *out);
#endif
