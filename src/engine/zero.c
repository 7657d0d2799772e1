/* Experts on demand: what is said, fetched, read and counted in each exchange. */
#include "engine/zero.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/cache.h"
#include "engine/load.h"
#include "plan/fetch.h"

#define PIECE_MOST ((int64_t)16 << 20) /* bytes of an expert in transit at once */

struct mb_zero {
    struct mb_cache cache;
    struct mb_loader load;
    struct mb_fetch *fetch;
    int32_t stages, pad;   /* of an exchange: id = stage * pad + expert */
    int32_t *layer;        /* [exchanges][stages] of the model, or -1 */
    uint32_t *mine, *said; /* [ids], [members][ids] */
    int32_t *slots, *room; /* [members] */
    struct mb_served served;
    int32_t exchange, next;           /* of what is served: its exchange, and the next to look at */
    int32_t *served_id, *served_rows; /* [served.n] rows: 0 once they are computed */
    struct mb_piece *send, *recv;     /* [members] */
    uint8_t *out, *in;                /* one piece each */
    int64_t *heat;                    /* [exchanges][ids] rows served here so far */
    uint8_t *expected;                /* [exchanges][ids] announced to the kernel and not read since */
    int64_t now;                      /* exchanges so far */
    int64_t *counts;
};

static int64_t cell(const struct mb_zero *z, int32_t j, int32_t id)
{
    return (int64_t)j * z->fetch->ids + id;
}

/* The layer whose expert this id is; *expert gets its number. */
static int32_t layer_of(const struct mb_zero *z, int32_t j, int32_t id, int32_t *expert)
{
    *expert = id % z->pad;
    return z->layer[j * z->stages + id / z->pad];
}

static int64_t *counts_of(struct mb_engine *e, int32_t j, int32_t id)
{
    int32_t expert, l = layer_of(e->zero, j, id, &expert);

    return e->zero->counts + (int64_t)e->w.layer[l].moe_index * MB_ZERO_COUNTS;
}

const struct mb_served *mb_zero_served(const struct mb_engine *e)
{
    return &e->zero->served;
}

const int64_t *mb_zero_counts(const struct mb_engine *e)
{
    return e->zero == NULL ? NULL : e->zero->counts;
}

/* ---------------------------------------------------------------- making it */

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

/* Of each exchange a member keeps some experts: --min-experts of each layer, or an even part of all it has
 * but the one slot in which the others come and go. The plan tells what the others have, so all know all. */
static void share_room(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;
    int32_t n = e->t.n_exchanges;

    for (int32_t m = 0; m < z->fetch->members; m++) {
        int32_t all = e->o.plan->cache[mb_team_index_of(&e->t, m)];
        int32_t stay = e->o.min_experts > 0 ? e->o.min_experts * z->stages * n : all - 1;
        stay = stay < all ? stay : all - 1;
        z->slots[m] = all;
        z->room[m] = all > 0 ? all - stay + mb_cache_least(stay, n, j) : 0;
        if (m == mb_xchg_index(e->xchg))
            z->cache.stay = all > 0 ? stay : 0;
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
    z->mine = calloc(ids, sizeof *z->mine);
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
    if (z->layer == NULL || z->mine == NULL || z->said == NULL || z->slots == NULL || z->room == NULL ||
        z->served.layer == NULL || z->served.index == NULL || z->served.ffn == NULL ||
        z->served.pick == NULL || z->served_id == NULL || z->served_rows == NULL || z->send == NULL ||
        z->recv == NULL || z->heat == NULL || z->expected == NULL || z->counts == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for tables of fetched experts");
    return MB_OK;
}

/* Bytes of the largest piece in transit: rows of either weight, or a bias. */
static int64_t piece_bytes(const struct mb_engine *e)
{
    int64_t es = mb_dtype_size(e->o.path), H = e->o.model->hidden, I = e->o.model->expert_ffn;
    int64_t row = es * (H > I ? H : I), bias = 4 * (H > 2 * I ? H : 2 * I);
    int64_t rows = PIECE_MOST / row > 0 ? PIECE_MOST / row : 1, most = H > 2 * I ? H : 2 * I;

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

static enum mb_status read_expert(struct mb_engine *e, int32_t j, int32_t id)
{
    struct mb_zero *z = e->zero;
    int32_t expert, l = layer_of(z, j, id, &expert), slot = mb_cache_claim(&z->cache, j, id, z->now);

    if (slot < 0)
        return mb_error(MB_BUG, "no room for expert %d of layer %d among %d", (int)expert, (int)l,
                        (int)z->cache.n);
    enum mb_status st = mb_load_expert_fill(&z->load, l, expert, &z->cache.slot[slot].f);
    if (st == MB_OK)
        st = z->load.failed;
    if (st != MB_OK)
        mb_cache_drop(&z->cache, slot);
    e->w.bytes_read = (int64_t)mb_reader_bytes(z->load.reader);
    return st;
}

static bool owns(const struct mb_serve *v, int32_t member, int32_t id)
{
    for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
        if (v->member[i] == member)
            return true;
    }
    return false;
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
            while (next[j] < z->fetch->ids && !owns(e->t.serve[j], me, next[j]))
                next[j]++;
            if (next[j] == z->fetch->ids)
                continue;
            st = read_expert(e, j, next[j]++);
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
    MB_TRY(alloc(e));
    list_layers(e);
    share_room(e, 0);
    z->load = (struct mb_loader){.o = &e->o, .t = &e->t, .s = e->stream, .w = &e->w};
    MB_TRY(mb_reader_create(e->o.model, e->o.mem, &z->load.reader));
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

/* ---------------------------------------------------------------- one exchange: what is said */

static void say(struct mb_engine *e, int32_t j, const int32_t *ids, int64_t n)
{
    struct mb_zero *z = e->zero;

    memset(z->mine, 0, (size_t)z->fetch->ids * sizeof *z->mine);
    for (int64_t i = 0; i < n; i++)
        z->mine[ids[i]]++;
    for (int32_t id = 0; id < z->fetch->ids; id++)
        z->mine[id] = mb_fetch_say(z->mine[id], mb_cache_at(&z->cache, j, id) >= 0);
}

static void plan(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;
    const struct mb_model *m = e->o.model;
    int64_t es = mb_dtype_size(e->o.path), I = m->expert_ffn, H = m->hidden;
    struct mb_fetch_in in = {
        .owners = e->t.serve[j],
        .said = z->said,
        .slots = z->slots,
        .room = z->room,
        .row_bytes = mb_plan_dispatch_row_bytes(m->router.k, H, e->o.path, e->expert_lora) + H * es,
        .expert_bytes = 3 * H * I * es + (m->expert_bias ? 4 * (2 * I + H) : 0),
        .copies = !e->expert_lora}; /* the owner alone has adapters' terms */

    share_room(e, j);
    mb_fetch_plan(z->fetch, &in);
}

static void count_rows(struct mb_engine *e, int32_t j)
{
    const struct mb_zero *z = e->zero;
    int32_t me = mb_xchg_index(e->xchg);

    for (int32_t id = 0; id < z->fetch->ids; id++) {
        int64_t rows = z->mine[id] >> 1;
        if (rows == 0)
            continue;
        bool here = mb_serve_pick(z->fetch->serve, id, me) == me,
             before = mb_serve_pick(e->t.serve[j], id, me) == me;
        counts_of(e, j, id)[MB_ZERO_KEPT] += here && !before ? rows : 0;
        counts_of(e, j, id)[MB_ZERO_SENT] += here ? 0 : rows;
        e->counters.rows_kept += here && !before ? rows : 0;
    }
}

/* What must not leave: experts that are served or sent on from here. */
static void hold(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;
    int32_t me = mb_xchg_index(e->xchg);
    int64_t at = (int64_t)me * z->fetch->ids;

    for (int32_t id = 0; id < z->fetch->ids; id++) {
        int32_t slot = mb_cache_at(&z->cache, j, id);
        if (slot < 0 || !z->fetch->keep[at + id])
            continue;
        mb_cache_use(&z->cache, slot, z->now);
        if (z->fetch->rows[at + id] > 0) {
            counts_of(e, j, id)[MB_ZERO_HITS]++;
            e->counters.cache_hits++;
        }
    }
}

/* ---------------------------------------------------------------- transfers between members */

/* A weight or bias of an expert in transit, in pieces: rows of out go, rows of in come. NULL: nothing. */
static enum mb_status move_weight(struct mb_engine *e, const struct mb_fetch_item *go, struct mb_weight *out,
                                  const struct mb_fetch_item *come, struct mb_weight *in, int64_t n,
                                  int64_t k)
{
    struct mb_zero *z = e->zero;
    const struct mb_ops *ops = e->o.ops;
    struct mb_where where = {"experts between ranks", e->step, -1};
    int64_t row = k * mb_dtype_size(e->o.path), step = PIECE_MOST / row > 0 ? PIECE_MOST / row : 1;
    enum mb_status st = MB_OK;

    for (int64_t n0 = 0; n0 < n; n0 += step) {
        int64_t rows = n - n0 < step ? n - n0 : step;
        uint64_t bytes = (uint64_t)(rows * row);
        if (go != NULL) {
            if (st == MB_OK)
                st = ops->weight_get(out, n0, rows, z->out);
            z->send[go->to] = (struct mb_piece){z->out, bytes};
        }
        if (come != NULL)
            z->recv[come->from] = (struct mb_piece){z->in, bytes};
        enum mb_status moved = mb_comm_swap(e->t.xg, z->send, z->recv, &where);
        if (go != NULL)
            z->send[go->to].n = 0;
        if (come != NULL)
            z->recv[come->from].n = 0;
        MB_TRY(moved);
        struct mb_host_matrix m = {.base = z->in,
                                   .storage = e->o.path == MB_F32 ? MB_STORE_F32 : MB_STORE_BF16,
                                   .n = rows,
                                   .k = k,
                                   .stride_n = k,
                                   .stride_k = 1};
        if (come != NULL && st == MB_OK)
            st = ops->weight_put(in, n0, 0, &m);
    }
    return st;
}

static enum mb_status move_bias(struct mb_engine *e, const struct mb_fetch_item *go, const struct mb_vec *out,
                                const struct mb_fetch_item *come, const struct mb_vec *in)
{
    struct mb_zero *z = e->zero;
    struct mb_where where = {"biases of experts between ranks", e->step, -1};
    enum mb_status st = MB_OK;

    if (go != NULL && out->buf != NULL) {
        st = e->o.ops->copy_out(e->stream, z->out, out->view);
        z->send[go->to] = (struct mb_piece){z->out, (uint64_t)(out->view.cols * 4)};
    }
    if (come != NULL && in->buf != NULL)
        z->recv[come->from] = (struct mb_piece){z->in, (uint64_t)(in->view.cols * 4)};
    enum mb_status moved = mb_comm_swap(e->t.xg, z->send, z->recv, &where);
    if (go != NULL)
        z->send[go->to].n = 0;
    if (come != NULL)
        z->recv[come->from].n = 0;
    MB_TRY(moved);
    return come != NULL && in->buf != NULL && st == MB_OK ? e->o.ops->copy_in(e->stream, in->view, z->in)
                                                          : st;
}

/* What this rank sends and gets in one round. */
static enum mb_status move_expert(struct mb_engine *e, int32_t j, const struct mb_fetch_item *go,
                                  const struct mb_fetch_item *come)
{
    struct mb_zero *z = e->zero;
    static const struct mb_ffn none;
    const struct mb_ffn *a = &none, *b = &none;
    int32_t slot = go != NULL ? mb_cache_at(&z->cache, j, go->id) : -1,
            to = come != NULL ? mb_cache_claim(&z->cache, j, come->id, z->now) : -1;

    if ((go != NULL && slot < 0) ||
        (come != NULL && to < 0)) /* the plan and the cache do not agree: peers would wait */
        mb_comm_end(e->o.comm,
                    mb_error(MB_BUG,
                             "exchange %d: an expert to send is not here, or there is no room for one",
                             (int)j));
    if (go != NULL)
        a = &z->cache.slot[slot].f;
    if (come != NULL)
        b = &z->cache.slot[to].f;
    const struct mb_ffn *any = go != NULL ? a : b;
    int64_t H = e->o.model->hidden, I = e->o.model->expert_ffn;
    enum mb_status st = move_weight(e, go, a->gate_up, come, b->gate_up, 2 * I, H);
    enum mb_status down = move_weight(e, go, a->down.w[0], come, b->down.w[0], H, I);
    st = st == MB_OK ? down : st;
    if (any->gate_up_b.buf != NULL) {
        enum mb_status bias = move_bias(e, go, &a->gate_up_b, come, &b->gate_up_b);
        st = st == MB_OK ? bias : st;
    }
    if (any->down_b.buf != NULL) {
        enum mb_status bias = move_bias(e, go, &a->down_b, come, &b->down_b);
        st = st == MB_OK ? bias : st;
    }
    if (come == NULL)
        return st;
    if (st != MB_OK)
        mb_cache_drop(&z->cache, to);
    counts_of(e, j, come->id)[MB_ZERO_PEER]++;
    e->counters.fetched_peer++;
    e->counters.fetched_bytes += 3 * H * I * mb_dtype_size(e->o.path);
    return st;
}

static enum mb_status transfers(struct mb_engine *e, int32_t j)
{
    const struct mb_fetch *f = e->zero->fetch;
    int32_t me = mb_xchg_index(e->xchg);
    enum mb_status st = MB_OK;

    for (int32_t round = 0; round < f->rounds; round++) {
        const struct mb_fetch_item *go = NULL, *come = NULL;
        for (int32_t i = 0; i < f->n; i++) {
            const struct mb_fetch_item *x = &f->item[i];
            if (x->from < 0 || x->round != round)
                continue;
            go = x->from == me ? x : go;
            come = x->to == me ? x : come;
        }
        if (go == NULL && come == NULL)
            continue;
        enum mb_status moved = move_expert(e, j, go, come);
        st = st == MB_OK ? moved : st;
    }
    return st;
}

/* ---------------------------------------------------------------- files */

static enum mb_status fetch_file(struct mb_engine *e, int32_t j, int32_t id)
{
    struct mb_zero *z = e->zero;
    int64_t before = (int64_t)mb_reader_bytes(z->load.reader), *c = counts_of(e, j, id);

    MB_TRY(read_expert(e, j, id));
    c[MB_ZERO_FILE]++;
    c[MB_ZERO_EXPECTED] += z->expected[cell(z, j, id)];
    e->counters.fetched_file++;
    e->counters.prefetched += z->expected[cell(z, j, id)];
    e->counters.fetched_bytes += (int64_t)mb_reader_bytes(z->load.reader) - before;
    z->expected[cell(z, j, id)] = 0;
    return MB_OK;
}

/* Experts with rows that were here when the exchange began. */
static bool pick_resident(struct mb_zero *z)
{
    bool some = false;

    for (int32_t i = 0; i < z->served.n; i++) {
        z->served.pick[i] = z->served.ffn[i] != NULL && z->served_rows[i] > 0;
        some |= z->served.pick[i];
        if (z->served.pick[i])
            z->served_rows[i] = 0;
    }
    return some;
}

bool mb_zero_pick(struct mb_engine *e, enum mb_status *st)
{
    struct mb_zero *z = e->zero;
    struct mb_served *s = &z->served;

    *st = MB_OK;
    memset(s->pick, 0, (size_t)s->n);
    z->now++; /* what was computed may leave */
    if (z->next < 0) {
        z->next = 0;
        if (pick_resident(z))
            return true;
    }
    while (z->next < s->n && z->served_rows[z->next] == 0)
        z->next++;
    if (z->next == s->n)
        return false;
    int32_t i = z->next++, id = z->served_id[i];
    *st = fetch_file(e, z->exchange, id);
    if (*st != MB_OK)
        return false;
    s->ffn[i] = &z->cache.slot[mb_cache_at(&z->cache, z->exchange, id)].f;
    s->pick[i] = 1;
    return true;
}

static void advise(struct mb_engine *e, int32_t j, int32_t id)
{
    static const enum mb_role role[] = {MB_T_E_GATE, MB_T_E_UP, MB_T_E_DOWN};
    struct mb_zero *z = e->zero;
    int32_t expert, l = layer_of(z, j, id, &expert);

    for (size_t i = 0; i < sizeof role / sizeof role[0]; i++)
        mb_reader_advise(z->load.reader, mb_load_find(&z->load, role[i], l, expert));
    z->expected[cell(z, j, id)] = 1;
}

/* What this exchange will read, while rows travel and what is here is computed. */
static void announce(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;

    for (int32_t i = 0; i < z->served.n; i++) {
        if (z->served_rows[i] > 0 && z->served.ffn[i] == NULL && !z->expected[cell(z, j, z->served_id[i])])
            advise(e, j, z->served_id[i]);
    }
}

/* Announces to the kernel, while this exchange is computed, the own experts that the next one is likely to
 * need: the most used so far. */
static void prefetch(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;
    const struct mb_serve *v = e->t.serve[j];
    int32_t me = mb_xchg_index(e->xchg);

    for (int32_t n = 0; n < e->o.prefetch; n++) {
        int32_t best = -1;
        for (int32_t id = 0; id < z->fetch->ids; id++) {
            if (v->first[id] == v->first[id + 1] || mb_serve_pick(v, id, me) != me ||
                mb_cache_at(&z->cache, j, id) >= 0 || z->expected[cell(z, j, id)] ||
                z->heat[cell(z, j, id)] == 0)
                continue;
            if (best < 0 || z->heat[cell(z, j, id)] > z->heat[cell(z, j, best)])
                best = id;
        }
        if (best < 0)
            return;
        advise(e, j, best);
    }
}

/* ---------------------------------------------------------------- */

/* Experts of the exchange in the order of their ids; those without rows may not be there. */
static void list_served(struct mb_engine *e, int32_t j)
{
    struct mb_zero *z = e->zero;
    const struct mb_serve *v = z->fetch->serve;
    int32_t me = mb_xchg_index(e->xchg);

    z->served.n = 0;
    z->next = -1;
    z->exchange = j;
    for (int32_t id = 0; id < z->fetch->ids; id++) {
        if (!owns(v, me, id))
            continue;
        int32_t n = z->served.n++, expert, l = layer_of(z, j, id, &expert),
                slot = mb_cache_at(&z->cache, j, id);
        const struct mb_layer *y = &e->w.layer[l];
        z->served.layer[n] = l;
        z->served.index[n] = 0;
        for (int32_t i = 0; i < y->n_owned; i++)
            z->served.index[n] = y->owned[i] == expert ? i : z->served.index[n];
        z->served.ffn[n] = slot < 0 ? NULL : &z->cache.slot[slot].f;
        z->served_id[n] = id;
        z->served_rows[n] = z->fetch->rows[(int64_t)me * z->fetch->ids + id];
        z->heat[cell(z, j, id)] += z->served_rows[n];
    }
}

enum mb_status mb_zero_step(struct mb_engine *e, int32_t j, const int32_t *ids, int64_t n,
                            const struct mb_serve **v)
{
    struct mb_zero *z = e->zero;

    z->now++;
    say(e, j, ids, n);
    MB_TRY(mb_comm_allgather(e->t.xg, z->mine, (uint64_t)z->fetch->ids * sizeof *z->mine, z->said,
                             "rows of experts"));
    plan(e, j);
    *v = z->fetch->serve;
    hold(e, j);
    count_rows(e, j);
    enum mb_status st = transfers(e, j);
    list_served(e, j);
    if (e->o.prefetch > 0 && st == MB_OK) {
        announce(e, j);
        prefetch(e, (j + 1) % e->t.n_exchanges);
    }
    return st;
}
