/* Slots of experts and who leaves. */
#include "engine/cache.h"

#include <stdlib.h>
#include "base/log.h"

enum mb_status mb_cache_create(struct mb_cache *c, int32_t n, int32_t exchanges, int32_t ids)
{
    *c = (struct mb_cache){.n = n, .exchanges = exchanges, .ids = ids};
    c->slot = calloc((size_t)n + 1, sizeof *c->slot);
    c->at = malloc(sizeof *c->at * ((size_t)exchanges * (size_t)ids + 1));
    c->held = calloc((size_t)exchanges + 1, sizeof *c->held);
    if (c->slot == NULL || c->at == NULL || c->held == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a cache of %d experts", (int)n);
    for (int64_t i = 0; i < (int64_t)exchanges * ids; i++)
        c->at[i] = -1;
    for (int32_t i = 0; i < n; i++)
        c->slot[i].exchange = c->slot[i].id = -1;
    return MB_OK;
}

void mb_cache_fini(struct mb_cache *c, const struct mb_ops *ops)
{
    for (int32_t i = 0; i < c->n && c->slot != NULL; i++)
        mb_ffn_free(ops, &c->slot[i].f);
    free(c->slot);
    free(c->at);
    free(c->held);
    *c = (struct mb_cache){0};
}

void mb_cache_use(struct mb_cache *c, int32_t slot, int64_t now)
{
    c->slot[slot].used = ++c->uses;
    c->slot[slot].keep = now;
}

void mb_cache_drop(struct mb_cache *c, int32_t slot)
{
    struct mb_slot *s = &c->slot[slot];

    if (s->exchange < 0)
        return;
    c->at[(int64_t)s->exchange * c->ids + s->id] = -1;
    c->held[s->exchange]--;
    s->exchange = s->id = -1;
    s->used = 0;
}

/* An empty slot, else the one unused for longest of those that may leave; of an exchange that would then hold
 * too few only if there is no other. */
static int32_t leaving(const struct mb_cache *c, int64_t now)
{
    int32_t best = -1;
    bool best_few = true;

    for (int32_t i = 0; i < c->n; i++) {
        const struct mb_slot *s = &c->slot[i];
        if (s->exchange < 0)
            return i;
        bool few = c->held[s->exchange] <= mb_cache_least(c->stay, c->exchanges, s->exchange);
        if (s->keep == now || (best >= 0 && few && !best_few))
            continue;
        if (best < 0 || (best_few && !few) || s->used < c->slot[best].used) {
            best = i;
            best_few = few;
        }
    }
    return best;
}

int32_t mb_cache_claim(struct mb_cache *c, int32_t exchange, int32_t id, int64_t now)
{
    int32_t i = leaving(c, now);

    if (i < 0)
        return -1;
    mb_cache_drop(c, i);
    c->slot[i].exchange = exchange;
    c->slot[i].id = id;
    c->at[(int64_t)exchange * c->ids + id] = i;
    c->held[exchange]++;
    mb_cache_use(c, i, now);
    return i;
}
