/* Who serves an id in one exchange, for rows of each home: looked up once per exchange and home. Pure, Local.
 */
#ifndef MB_COMM_OWNERS_H
#define MB_COMM_OWNERS_H
#include "plan/serve.h"

#define MB_NOBODY UINT16_MAX /* no member serves the id */

struct mb_owners {
    const struct mb_serve *v; /* of the exchange; borrowed */
    int32_t me;
    bool one;       /* every id has one owner at most: all homes find the same */
    uint16_t *of;   /* [members][ids] rows of homes, as far as known */
    uint8_t *known; /* [members] */
    int32_t *slot;  /* [ids] number of an id among those served here, else -1 */
    int32_t *own;   /* [ids] the n of them, ascending */
    int32_t n;
};

/* Tables of an exchange; of, known, slot, own: the caller's memory. */
void mb_owners_set(struct mb_owners *o, const struct mb_serve *v, int32_t me);
void mb_owners_find(struct mb_owners *o, int32_t home); /* the row of one home */

/* [ids] the member that serves each id for rows of this home. */
static inline const uint16_t *mb_owners_of(struct mb_owners *o, int32_t home)
{
    if (o->one)
        return o->of;
    if (!o->known[home])
        mb_owners_find(o, home);
    return o->of + (int64_t)home * o->v->ids;
}
#endif
