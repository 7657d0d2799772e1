/* Owners of ids. */
#include "comm/owners.h"

#include <string.h>

/* The member that serves an id for rows of a home. */
static inline uint16_t owner_of(const struct mb_serve *v, int32_t id, int32_t home)
{
    int32_t n = v->first[id + 1] - v->first[id];

    return n == 0   ? MB_NOBODY
           : n == 1 ? (uint16_t)v->member[v->first[id]]
                    : (uint16_t)mb_serve_pick(v, id, home);
}

void mb_owners_find(struct mb_owners *o, int32_t home)
{
    const struct mb_serve *v = o->v;
    int32_t row = o->one ? 0 : home;
    uint16_t *of = o->of + (int64_t)row * v->ids;

    for (int32_t id = 0; id < v->ids; id++) {
        uint16_t who = o->one ? o->mine[id] : owner_of(v, id, home);
        of[id] = who == MB_NOBODY ? MB_NOBODY : (uint16_t)o->region[who]; /* none is MB_NOBODY too */
    }
    o->known[row] = 1;
}

void mb_owners_set(struct mb_owners *o, const struct mb_serve *v, int32_t me)
{
    bool one = true;
    int32_t n = 0;

    o->v = v;
    o->me = me;
    memset(o->known, 0, (size_t)v->members);
    for (int32_t id = 0; id < v->ids; id++) {
        int32_t count = v->first[id + 1] - v->first[id];
        uint16_t who = owner_of(v, id, me);
        one &= count <= 1;
        o->mine[id] = who;
        o->at[id] = who == MB_NOBODY ? MB_NOBODY : (uint16_t)o->region_own[who];
        o->slot[id] = -1;
        /* what is served here at all, is for own rows; with quotas, maybe not */
        if (v->part != NULL ? !mb_serve_has(v, me, id) : who != me)
            continue;
        o->slot[id] = n;
        o->own[n++] = id;
    }
    o->one = one;
    o->n = n;
    o->range = one && v->part == NULL && (n == 0 || o->own[n - 1] - o->own[0] + 1 == n);
}
