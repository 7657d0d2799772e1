/* Experts on demand: what is said, fetched, read and counted in each exchange. */
#include <string.h>
#include "base/log.h"
#include "engine/zero_impl.h"

const struct mb_served *mb_zero_served(const struct mb_zero *z)
{
    return &z->served;
}

const int64_t *mb_zero_counts(const struct mb_zero *z)
{
    return z == NULL ? NULL : z->counts;
}

/* Of each exchange a member keeps some experts: --min-experts of each layer, or an even part of all it has
 * but the one slot in which the others come and go. The plan tells what the others have, so all know all. */
void mb_zero_share_room(struct mb_zero *z, int32_t j)
{
    int32_t n = z->c->t.n_exchanges;

    for (int32_t m = 0; m < z->fetch->members; m++) {
        int32_t all = z->c->o.plan->cache[mb_team_index_of(&z->c->t, m)];
        int32_t least = z->c->o.plan->min_experts, stay = least > 0 ? least * z->stages * n : all - 1;
        stay = stay < all ? stay : all - 1;
        z->slots[m] = all;
        z->room[m] = all > 0 ? all - stay + mb_cache_least(stay, n, j) : 0;
        if (m == mb_xchg_index(z->xchg))
            z->cache.stay = all > 0 ? stay : 0;
    }
}

/* ---------------------------------------------------------------- one exchange: what is said */

/* Where a row goes as the exchange sees it: to a member, or to another node, for which its first member
 * stands. */
static int32_t destination(const struct mb_zero *z, int32_t j, int32_t id)
{
    const struct mb_serve *v = z->c->t.serve[j];
    int32_t me = mb_xchg_index(z->xchg), o = mb_serve_pick(v, id, me);

    while (z->by_node && v->node[o] != v->node[me] && o > 0 && v->node[o - 1] == v->node[o])
        o--;
    return o;
}

/* mine: of each id, then to each member. ids: of rows of k. */
static void say(struct mb_zero *z, int32_t j, const int32_t *ids, int64_t n)
{
    const int32_t *node = z->c->t.serve[j]->node;
    int32_t k = z->c->o.model->router.k, me = mb_xchg_index(z->xchg), members = z->fetch->members;
    uint32_t *going = z->mine + z->fetch->ids;

    memset(z->mine, 0, (size_t)(z->fetch->ids + members) * sizeof *z->mine);
    for (int64_t i = 0; i < n; i++) {
        int32_t to = destination(z, j, ids[i]);
        bool again = false;
        for (int64_t b = i - i % k; b < i; b++)
            again |= destination(z, j, ids[b]) == to;
        z->mine[ids[i]]++;
        going[to] += !again;
    }
    for (int32_t m = 1; m < members && z->by_node; m++) {
        if (node[m] != node[me] && node[m] == node[m - 1])
            going[m] = going[m - 1];
    }
    for (int32_t id = 0; id < z->fetch->ids; id++)
        z->mine[id] = mb_fetch_say(z->mine[id], mb_cache_at(&z->cache, j, id) >= 0);
}

/* What all said, in two tables. */
static void sort_said(struct mb_zero *z)
{
    size_t ids = (size_t)z->fetch->ids, members = (size_t)z->fetch->members;

    for (size_t m = 0; m < members; m++) {
        memcpy(z->said + m * ids, z->heard + m * (ids + members), ids * sizeof *z->said);
        memcpy(z->going + m * members, z->heard + m * (ids + members) + ids, members * sizeof *z->going);
    }
}

static void plan(struct mb_zero *z, int32_t j)
{
    const struct mb_model *m = z->c->o.model;
    int64_t I = m->expert_ffn, H = m->hidden;
    struct mb_fetch_in in = {
        .owners = z->c->t.serve[j],
        .said = z->said,
        .going = z->going,
        .by_node = z->by_node,
        .slots = z->slots,
        .room = z->room,
        .row_bytes = mb_plan_dispatch_row_bytes(m->router.k, H, z->c->o.path, z->c->expert_lora, false) + H * mb_dtype_size(mb_narrow(z->c)),
        .expert_bytes = mb_zero_rows_bytes(z, &m->expert_form[0], 2 * I, H) +
                        mb_zero_rows_bytes(z, &m->expert_form[1], H, I) + (m->expert_bias ? 4 * (2 * I + H) : 0),
        .copies = !z->c->expert_lora}; /* the owner alone has adapters' terms */

    mb_zero_share_room(z, j);
    mb_fetch_plan(z->fetch, &in);
}

static void count_rows(struct mb_zero *z, int32_t j)
{
    int32_t me = mb_xchg_index(z->xchg);

    for (int32_t id = 0; id < z->fetch->ids; id++) {
        int64_t rows = z->mine[id] >> 1;
        if (rows == 0)
            continue;
        bool here = mb_serve_pick(z->fetch->serve, id, me) == me,
             before = mb_serve_pick(z->c->t.serve[j], id, me) == me;
        mb_zero_counts_of(z, j, id)[MB_ZERO_KEPT] += here && !before ? rows : 0;
        mb_zero_counts_of(z, j, id)[MB_ZERO_SENT] += here ? 0 : rows;
        z->tally->counters.fetch.rows_kept += here && !before ? rows : 0;
    }
}

/* What must not leave: experts that are served or sent on from here. */
static void hold(struct mb_zero *z, int32_t j)
{
    int32_t me = mb_xchg_index(z->xchg);
    int64_t at = (int64_t)me * z->fetch->ids;

    for (int32_t id = 0; id < z->fetch->ids; id++) {
        int32_t slot = mb_cache_at(&z->cache, j, id);
        if (slot < 0 || !z->fetch->keep[at + id])
            continue;
        mb_cache_use(&z->cache, slot, z->now);
        if (z->fetch->rows[at + id] > 0) {
            mb_zero_counts_of(z, j, id)[MB_ZERO_HITS]++;
            z->tally->counters.fetch.hits++;
        }
    }
}

enum mb_status mb_zero_read(struct mb_zero *z, int32_t j, int32_t id)
{
    int32_t expert, l = mb_zero_layer(z, j, id, &expert), slot = mb_cache_claim(&z->cache, j, id, z->now);

    if (slot < 0)
        return mb_error(MB_BUG, "no room for expert %d of layer %d among %d", (int)expert, (int)l,
                        (int)z->cache.n);
    enum mb_status st = mb_load_expert_fill(&z->load, l, expert, &z->cache.slot[slot].f);
    if (st == MB_OK)
        st = z->load.failed;
    if (st != MB_OK)
        mb_cache_drop(&z->cache, slot);
    return st;
}

/* ---------------------------------------------------------------- files */

static enum mb_status fetch_file(struct mb_zero *z, int32_t j, int32_t id)
{
    int64_t before = (int64_t)mb_reader_bytes(z->load.reader), *c = mb_zero_counts_of(z, j, id);

    MB_TRY(mb_zero_read(z, j, id));
    c[MB_ZERO_FILE]++;
    c[MB_ZERO_EXPECTED] += z->expected[mb_zero_cell(z, j, id)];
    z->tally->counters.fetch.file++;
    z->tally->counters.fetch.announced += z->expected[mb_zero_cell(z, j, id)];
    z->tally->counters.fetch.bytes += (int64_t)mb_reader_bytes(z->load.reader) - before;
    z->expected[mb_zero_cell(z, j, id)] = 0;
    return MB_OK;
}

void mb_zero_round(struct mb_zero *z, const int64_t *begin)
{

    z->next = -1;
    for (int32_t i = 0; i < z->served.n; i++) {
        int32_t slot = mb_cache_at(&z->cache, z->exchange, z->served_id[i]);
        z->served.ffn[i] = slot < 0 ? NULL : &z->cache.slot[slot].f;
        z->served_rows[i] = begin[i + 1] - begin[i];
    }
}

/* Experts with rows that were here when the round began. */
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

bool mb_zero_pick(struct mb_zero *z, enum mb_status *st)
{
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
    *st = fetch_file(z, z->exchange, id);
    if (*st != MB_OK)
        return false;
    s->ffn[i] = &z->cache.slot[mb_cache_at(&z->cache, z->exchange, id)].f;
    s->pick[i] = 1;
    return true;
}

static void advise(struct mb_zero *z, int32_t j, int32_t id)
{
    static const enum mb_role role[] = {MB_T_E_GATE, MB_T_E_UP, MB_T_E_DOWN};
    int32_t expert, l = mb_zero_layer(z, j, id, &expert);

    for (size_t i = 0; i < sizeof role / sizeof role[0]; i++)
        mb_reader_advise(z->load.reader, mb_load_find(&z->load, role[i], l, expert));
    z->expected[mb_zero_cell(z, j, id)] = 1;
}

/* What this exchange will read, while rows travel and what is here is computed. */
static void announce(struct mb_zero *z, int32_t j)
{

    for (int32_t i = 0; i < z->served.n; i++) {
        if (z->served_rows[i] > 0 && z->served.ffn[i] == NULL &&
            !z->expected[mb_zero_cell(z, j, z->served_id[i])])
            advise(z, j, z->served_id[i]);
    }
}

/* Announces to the kernel, while this exchange is computed, the own experts that the next one is likely to
 * need: the most used so far. */
static void prefetch(struct mb_zero *z, int32_t j)
{
    const struct mb_serve *v = z->c->t.serve[j];
    int32_t me = mb_xchg_index(z->xchg);

    for (int32_t n = 0; n < z->c->o.prefetch; n++) {
        int32_t best = -1;
        for (int32_t id = 0; id < z->fetch->ids; id++) {
            if (v->first[id] == v->first[id + 1] || mb_serve_pick(v, id, me) != me ||
                mb_cache_at(&z->cache, j, id) >= 0 || z->expected[mb_zero_cell(z, j, id)] ||
                z->heat[mb_zero_cell(z, j, id)] == 0)
                continue;
            if (best < 0 || z->heat[mb_zero_cell(z, j, id)] > z->heat[mb_zero_cell(z, j, best)])
                best = id;
        }
        if (best < 0)
            return;
        advise(z, j, best);
    }
}

/* ---------------------------------------------------------------- */

/* Experts of the exchange in the order of their ids; those without rows may not be there. */
static void list_served(struct mb_zero *z, int32_t j)
{
    const struct mb_serve *v = z->fetch->serve;
    int32_t me = mb_xchg_index(z->xchg);

    z->served.n = 0;
    z->next = -1;
    z->exchange = j;
    for (int32_t id = 0; id < z->fetch->ids; id++) {
        if (!mb_serve_has(v, me, id))
            continue;
        int32_t n = z->served.n++, expert, l = mb_zero_layer(z, j, id, &expert),
                slot = mb_cache_at(&z->cache, j, id);
        const struct mb_layer *y = &z->c->w.layer[l];
        z->served.layer[n] = l;
        z->served.index[n] = 0;
        for (int32_t i = 0; i < y->n_owned; i++)
            z->served.index[n] = y->owned[i] == expert ? i : z->served.index[n];
        z->served.ffn[n] = slot < 0 ? NULL : &z->cache.slot[slot].f;
        z->served_id[n] = id;
        z->served_rows[n] = z->fetch->rows[(int64_t)me * z->fetch->ids + id];
        z->heat[mb_zero_cell(z, j, id)] += z->served_rows[n];
    }
}

enum mb_status mb_zero_step(struct mb_zero *z, int64_t step, int32_t j, const int32_t *ids, int64_t n,
                            const struct mb_serve **v)
{
    z->step = step;

    z->now++;
    say(z, j, ids, n);
    uint64_t bytes = (uint64_t)(z->fetch->ids + z->fetch->members) * sizeof *z->mine;
    MB_TRY(mb_comm_allgather(z->c->t.g.xchg, z->mine, bytes, z->heard, "rows of experts"));
    sort_said(z);
    plan(z, j);
    *v = z->fetch->serve;
    hold(z, j);
    count_rows(z, j);
    enum mb_status st = mb_zero_transfers(z, j);
    list_served(z, j);
    if (z->c->o.prefetch > 0 && st == MB_OK) {
        announce(z, j);
        prefetch(z, (j + 1) % z->c->t.n_exchanges);
    }
    return st;
}
