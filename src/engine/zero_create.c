/* The cache of experts is made and filled. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/zero_impl.h"

static void list_layers(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;

    for (int32_t j = 0; j < e->t.n_exchanges; j++) {
        for (int32_t s = 0; s < z->stages; s++) {
            int32_t lm = mb_serve_layer(e->o.plan, e->o.model, e->t.l.lane_scope ? s : e->t.at.stage, j);
            z->layer[j * z->stages + s] = -1;
            for (int32_t l = 0; lm >= 0 && l < e->w.layers; l++) {
                if (e->w.layer[l].moe && e->w.layer[l].moe_index == lm)
                    z->layer[j * z->stages + s] = l;
            }
        }
    }
}

static enum mb_status alloc(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;
    size_t ids = (size_t)z->fetch->ids, members = (size_t)z->fetch->members,
           cells = ids * (size_t)e->t.n_exchanges;
    int32_t slots = e->o.plan->cache[e->t.at.index];

    MB_TRY(mb_cache_create(&z->cache, slots, e->t.n_exchanges, z->fetch->ids));
    z->layer = calloc((size_t)(e->t.n_exchanges * z->stages), sizeof *z->layer);
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
    z->counts = calloc((size_t)e->o.plan->placement->moe_layers * MB_ZERO_COUNTS, sizeof *z->counts);
    if (z->layer == NULL || z->mine == NULL || z->said == NULL || z->heard == NULL || z->going == NULL ||
        z->slots == NULL || z->room == NULL || z->served.layer == NULL || z->served.index == NULL ||
        z->served.ffn == NULL || z->served.pick == NULL || z->served_id == NULL || z->served_rows == NULL ||
        z->send == NULL || z->recv == NULL || z->heat == NULL || z->expected == NULL || z->counts == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for tables of fetched experts");
    return MB_OK;
}

/* Bytes of the largest piece in transit: rows of either weight, or a bias. */
static int64_t piece_bytes(const struct mb_engine *e)
{
    int64_t es = mb_dtype_size(e->o.path), H = e->o.model->hidden, I = e->o.model->expert_ffn;
    int64_t row = es * (H > I ? H : I), bias = 4 * (H > 2 * I ? H : 2 * I);
    int64_t rows = MB_ZERO_PIECE / row > 0 ? MB_ZERO_PIECE / row : 1, most = H > 2 * I ? H : 2 * I;

    rows = rows < most ? rows : most;
    return rows * row > bias ? rows * row : bias;
}

static enum mb_status make_slots(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;
    int32_t l = 0, members = z->fetch->members;

    if (members > 1 && z->cache.n > 0) {
        z->out = mb_alloc(e->o.mem, MB_MEM_STAGING, (size_t)piece_bytes(e), 1);
        z->in = mb_alloc(e->o.mem, MB_MEM_STAGING, (size_t)piece_bytes(e), 1);
        if (z->out == NULL || z->in == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for experts in transit");
    }
    while (!e->w.layer[l].moe)
        l++;
    for (int32_t i = 0; i < z->cache.n && z->load.failed == MB_OK; i++)
        MB_TRY(mb_load_expert_create(&z->load, l, 0, &z->cache.slot[i].f));
    return z->load.failed;
}

/* Own experts while there is room, one of each exchange in turn. */
static enum mb_status fill(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;
    int32_t n = 0, me = mb_xchg_index(e->xchg);
    int32_t *next = calloc((size_t)e->t.n_exchanges, sizeof *next);
    enum mb_status st = next == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of experts") : MB_OK;

    for (bool more = true; more && st == MB_OK && n < z->cache.n;) {
        more = false;
        for (int32_t j = 0; j < e->t.n_exchanges && n < z->cache.n && st == MB_OK; j++) {
            while (next[j] < z->fetch->ids && !mb_serve_has(e->t.serve[j], me, next[j]))
                next[j]++;
            if (next[j] == z->fetch->ids)
                continue;
            st = mb_zero_read(e, j, next[j]++);
            more = true;
            n++;
        }
    }
    free(next);
    return st;
}

static enum mb_status create(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;

    MB_TRY(mb_fetch_create(e->t.serve[0], &z->fetch));
    z->stages = e->t.l.lane_scope ? e->t.l.pp : 1;
    z->pad = z->fetch->ids / z->stages;
    z->now = 1;
    z->by_node = mb_xchg_algorithm(e->xchg) == MB_A2A_HIER;
    MB_TRY(alloc(e));
    list_layers(e);
    mb_zero_share_room(e, 0);
    z->load = (struct mb_loader){.o = &e->o, .t = &e->t, .s = e->stream, .w = &e->w};
    MB_TRY(mb_reader_create(e->o.model, e->o.mem, &z->load.reader));
    mb_reader_sums(z->load.reader, e->o.sums);
    MB_TRY(make_slots(e));
    return fill(e);
}

enum mb_status mb_zero_create(struct mb_engine *e)
{
    enum mb_status st = MB_OK;

    if (e->o.plan->cache == NULL)
        return MB_OK;
    if (e->t.n_exchanges > 0) { /* a stage without MoE layers has none to keep */
        int64_t before = e->w.bytes_read;
        e->zero = calloc(1, sizeof *e->zero);
        st = e->zero == NULL ? mb_error(MB_NO_MEMORY, "no memory for a cache of experts") : create(e);
        e->w.bytes_read += before;
    }
    return mb_comm_agree(e->o.comm, st, "the cache of experts");
}

void mb_zero_destroy(struct mb_engine *e)
{
    struct mb_zero *z = e->zero;

    if (z == NULL)
        return;
    mb_cache_fini(&z->cache, e->o.ops);
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
    mb_free(z->out);
    mb_free(z->in);
    free(z->heat);
    free(z->expected);
    free(z->counts);
    free(z);
    e->zero = NULL;
}
