/* Who serves an id in one exchange, for rows of each home: looked up once per exchange and home, as the
 * region (route.h) that its terms come from. Pure, Local. */
#ifndef MB_COMM_OWNERS_H
#define MB_COMM_OWNERS_H
#include "plan/serve.h"

#define MB_NOBODY UINT16_MAX /* no member serves the id, or none that this one gets anything from */

struct mb_owners {
    const struct mb_serve *v; /* of the exchange; borrowed */
    int32_t me;
    bool one;       /* every id has one owner at most: all other homes find the same */
    bool range;     /* and what is served here are the ids from own[0] on */
    uint16_t *of;   /* [members][ids] regions for rows of other homes, as far as known */
    uint8_t *known; /* [members] */
    uint16_t *mine; /* [ids] the member that serves an own row's id */
    uint16_t *at;   /* [ids] and its region */
    int32_t *slot;  /* [ids] number of an id among those served here, else -1 */
    int32_t *own;   /* [ids] the n of them, ascending */
    int32_t n;
    const int32_t *region, *region_own; /* [members] of other members' rows (-1: none), of own ones */
};

/* Tables of an exchange; of, known, mine, at, slot, own: the caller's memory; region, region_own: set. */
void mb_owners_set(struct mb_owners *o, const struct mb_serve *v, int32_t me);
void mb_owners_find(struct mb_owners *o, int32_t home); /* the regions of another home's rows */

/* [ids] the region of each id for rows of this home. */
static inline const uint16_t *mb_owners_of(struct mb_owners *o, int32_t home)
{
    int32_t row = o->one ? 0 : home;

    if (home == o->me)
        return o->at;
    if (!o->known[row])
        mb_owners_find(o, home);
    return o->of + (int64_t)row * o->v->ids;
}
#endif
