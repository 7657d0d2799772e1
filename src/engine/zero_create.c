/* The cache of experts is made and filled. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/zero_impl.h"

static void list_layers(struct mb_zero *z)
{

    for (int32_t j = 0; j < z->c->t.n_exchanges; j++) {
        for (int32_t s = 0; s < z->stages; s++) {
            int32_t lm =
                mb_serve_layer(z->c->o.plan, z->c->o.model, z->c->t.l.lane_scope ? s : z->c->t.g.pp_rank, j);
            z->layer[j * z->stages + s] = -1;
            for (int32_t l = 0; lm >= 0 && l < z->c->w.layers; l++) {
                if (z->c->w.layer[l].moe && z->c->w.layer[l].moe_index == lm)
                    z->layer[j * z->stages + s] = l;
            }
        }
    }
}

static enum mb_status alloc(struct mb_zero *z)
{
    size_t ids = (size_t)z->fetch->ids, members = (size_t)z->fetch->members,
           cells = ids * (size_t)z->c->t.n_exchanges;
    int32_t slots = z->c->o.plan->cache[z->c->t.at.index];

    MB_TRY(mb_cache_create(&z->cache, slots, z->c->t.n_exchanges, z->fetch->ids));
    z->layer = calloc((size_t)(z->c->t.n_exchanges * z->stages), sizeof *z->layer);
    z->mine = calloc(ids + members, sizeof *z->mine);
    z->heard = calloc((ids + members) * members, sizeof *z->heard);
    z->going = calloc(members * members, sizeof *z->going);
    z->said = calloc(ids * members, sizeof *z->said);
    z->slots = calloc(members, sizeof *z->slots);
    z->room = calloc(members, sizeof *z->room);
    z->served.layer = calloc(ids, sizeof *z->served.layer);
    z->served.index = calloc(ids, sizeof *z->served.index);
    z->served.ffn = calloc(ids, sizeof *z->served.ffn);
    z->served.pick = calloc(ids, 1);
    z->served_id = calloc(ids, sizeof *z->served_id);
    z->served_rows = calloc(ids, sizeof *z->served_rows);
    z->send = calloc(members, sizeof *z->send);
    z->recv = calloc(members, sizeof *z->recv);
    z->heat = calloc(cells, sizeof *z->heat);
    z->expected = calloc(cells, 1);
    z->counts = calloc((size_t)z->c->o.plan->placement->moe_layers * MB_ZERO_COUNTS, sizeof *z->counts);
    if (z->layer == NULL || z->mine == NULL || z->said == NULL || z->heard == NULL || z->going == NULL ||
        z->slots == NULL || z->room == NULL || z->served.layer == NULL || z->served.index == NULL ||
        z->served.ffn == NULL || z->served.pick == NULL || z->served_id == NULL || z->served_rows == NULL ||
        z->send == NULL || z->recv == NULL || z->heat == NULL || z->expected == NULL || z->counts == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for tables of fetched experts");
    return MB_OK;
}

static enum mb_status make_slots(struct mb_zero *z)
{
    int32_t l = 0;

    while (!z->c->w.layer[l].moe)
        l++;
    for (int32_t i = 0; i < z->cache.n && z->load.failed == MB_OK; i++)
        MB_TRY(mb_load_expert_create(&z->load, l, 0, &z->cache.slot[i].f));
    return z->load.failed;
}

/* Own experts while there is room, one of each exchange in turn. */
static enum mb_status fill(struct mb_zero *z)
{
    int32_t n = 0, me = mb_xchg_index(z->xchg);
    int32_t *next = calloc((size_t)z->c->t.n_exchanges, sizeof *next);
    enum mb_status st = next == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of experts") : MB_OK;

    for (bool more = true; more && st == MB_OK && n < z->cache.n;) {
        more = false;
        for (int32_t j = 0; j < z->c->t.n_exchanges && n < z->cache.n && st == MB_OK; j++) {
            while (next[j] < z->fetch->ids && !mb_serve_has(z->c->t.serve[j], me, next[j]))
                next[j]++;
            if (next[j] == z->fetch->ids)
                continue;
            st = mb_zero_read(z, j, next[j]++);
            more = true;
            n++;
        }
    }
    free(next);
    return st;
}

static enum mb_status create(struct mb_zero *z, struct mb_weights *w)
{
    MB_TRY(mb_fetch_create(z->c->t.serve[0], &z->fetch));
    z->stages = z->c->t.l.lane_scope ? z->c->t.g.pp_size : 1;
    z->pad = z->fetch->ids / z->stages;
    z->now = 1;
    z->by_node = mb_xchg_algorithm(z->xchg) == MB_A2A_HIER;
    MB_TRY(alloc(z));
    list_layers(z);
    mb_zero_share_room(z, 0);
    z->load = (struct mb_loader){.o = &z->c->o, .t = &z->c->t, .s = z->c->stream, .w = w};
    MB_TRY(mb_reader_create(z->c->o.model, z->c->o.mem, &z->load.reader));
    mb_reader_sums(z->load.reader, z->c->o.sums);
    MB_TRY(make_slots(z));
    return fill(z);
}

enum mb_status mb_zero_create(struct mb_context *c, struct mb_xchg *x, const struct mb_zero_pieces *pieces,
                              struct mb_tally *tally, struct mb_zero **out)
{
    enum mb_status st = MB_OK;

    if (c->o.plan->cache == NULL)
        return MB_OK;
    if (c->t.n_exchanges > 0) { /* a stage without MoE layers has none to keep */
        struct mb_zero *z = *out = calloc(1, sizeof *z);
        if (z != NULL)
            *z = (struct mb_zero){.c = c, .xchg = x, .tally = tally, .piece = *pieces};
        st = z == NULL ? mb_error(MB_NO_MEMORY, "no memory for a cache of experts") : create(z, &c->w);
        if (st == MB_OK)
            c->w.bytes_read += (int64_t)mb_reader_bytes(z->load.reader);
    }
    return mb_comm_agree(c->o.comm, st, "the cache of experts");
}

void mb_zero_destroy(struct mb_zero *z)
{

    if (z == NULL)
        return;
    mb_cache_fini(&z->cache, z->c->o.ops);
    mb_reader_destroy(z->load.reader);
    mb_free(z->load.pack);
    mb_fetch_destroy(z->fetch);
    free(z->layer);
    free(z->mine);
    free(z->said);
    free(z->heard);
    free(z->going);
    free(z->slots);
    free(z->room);
    free(z->served.layer);
    free(z->served.index);
    free(z->served.ffn);
    free(z->served.pick);
    free(z->served_id);
    free(z->served_rows);
    free(z->send);
    free(z->recv);
    free(z->heat);
    free(z->expected);
    free(z->counts);
    free(z);
}
