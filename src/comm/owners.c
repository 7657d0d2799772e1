/* Owners of ids. */
#include "comm/owners.h"

#include <string.h>

void mb_owners_find(struct mb_owners *o, int32_t home)
{
    const struct mb_serve *v = o->v;
    uint16_t *of = o->of + (o->one ? 0 : (int64_t)home * v->ids);

    for (int32_t id = 0; id < v->ids; id++) {
        int32_t n = v->first[id + 1] - v->first[id];
        of[id] = n == 0   ? MB_NOBODY
                 : n == 1 ? (uint16_t)v->member[v->first[id]]
                          : (uint16_t)mb_serve_pick(v, id, home);
    }
    o->known[home] = 1;
}

void mb_owners_set(struct mb_owners *o, const struct mb_serve *v, int32_t me)
{
    o->v = v;
    o->me = me;
    o->one = true;
    o->n = 0;
    memset(o->known, 0, (size_t)v->members);
    for (int32_t id = 0; id < v->ids; id++) {
        o->one &= v->first[id + 1] - v->first[id] <= 1;
        o->slot[id] = -1;
        if (!mb_serve_has(v, me, id))
            continue;
        o->slot[id] = o->n;
        o->own[o->n++] = id;
    }
    if (o->one)
        mb_owners_find(o, me);
}
