/* Memory of all ranks. Ranks of one stage and tensor rank keep the same dense weights, ranks of one shard the
 * same experts: these are counted once, and a rank's budget is then O(1). */
#include "plan/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/budget.h"

#define GIB(bytes) ((double)(bytes) / (1 << 30))

/* Groups: stages, or the lane under lane scope. */
struct counts {
    int32_t groups, ep;
    int32_t widest;    /* ranks of the largest node */
    int64_t *dense;    /* [pp][sp][tp] */
    int64_t *adapters; /* [pp][tp] of attending ranks */
    int64_t *experts;  /* [groups][ep] of all layers */
    int64_t *routed;   /* [groups][ep][etp] bytes of adapters' terms on them */
    int32_t *most;     /* [groups][ep] experts in one layer, at most */
    int32_t *cache;    /* [groups][ep] experts that a rank keeps under ZeRO-inference */
};

static void counts_fini(struct counts *c)
{
    free(c->dense);
    free(c->adapters);
    free(c->experts);
    free(c->routed);
    free(c->most);
    free(c->cache);
}

static enum mb_status counts_alloc(const struct mb_plan *p, struct counts *c)
{
    const struct mb_layout *l = &p->layout;
    size_t pp = (size_t)l->pp;

    *c = (struct counts){.groups = l->lane_scope ? 1 : l->pp, .ep = l->ep};
    size_t shards = (size_t)c->groups * (size_t)c->ep;
    c->dense = calloc(pp * (size_t)l->sp * (size_t)l->tp, sizeof *c->dense);
    c->adapters = calloc(pp * (size_t)l->tp, sizeof *c->adapters);
    c->experts = calloc(shards, sizeof *c->experts);
    c->routed = calloc(shards * (size_t)l->etp, sizeof *c->routed);
    c->most = calloc(shards, sizeof *c->most);
    c->cache = calloc(shards, sizeof *c->cache);
    return c->dense && c->adapters && c->experts && c->routed && c->most && c->cache
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory to plan %d ranks", (int)l->world);
}

static struct mb_budget_stage stage_of(const struct mb_plan *p, int32_t s)
{
    return (struct mb_budget_stage){p->first_layer[s], p->first_layer[s + 1], s == 0, s == p->layout.pp - 1};
}

/* Experts that each shard keeps, layer by layer. */
static enum mb_status count_experts(const struct mb_model *m, const struct mb_plan *p, struct counts *c)
{
    const struct mb_placement *pl = p->placement;
    int32_t *here = calloc((size_t)c->ep, sizeof *here), *layer = calloc((size_t)c->ep, sizeof *layer);

    if (here == NULL || layer == NULL) {
        free(here);
        free(layer);
        return mb_error(MB_NO_MEMORY, "no memory to plan %d experts", (int)pl->experts);
    }
    for (int32_t l = 0, lm = 0, s = 0; lm < pl->moe_layers; l++) {
        while (s + 1 < p->layout.pp && l >= p->first_layer[s + 1])
            s++;
        if (!m->is_moe[l])
            continue;
        int64_t base = c->groups > 1 ? (int64_t)s * c->ep : 0;
        for (int64_t i = pl->first[(int64_t)lm * pl->experts]; i < pl->first[((int64_t)lm + 1) * pl->experts];
             i++) {
            int32_t e = pl->shard[i];
            here[e] = layer[e] == lm + 1 ? here[e] + 1 : 1;
            layer[e] = lm + 1;
            c->experts[base + e]++;
            if (here[e] > c->most[base + e])
                c->most[base + e] = here[e];
        }
        lm++;
    }
    free(here);
    free(layer);
    return MB_OK;
}

static int32_t moe_layers(const struct mb_model *m, const struct mb_plan *p, int32_t group, int32_t groups)
{
    int32_t a = groups > 1 ? p->first_layer[group] : 0,
            b = groups > 1 ? p->first_layer[group + 1] : m->layers, n = 0;

    for (int32_t l = a; l < b; l++)
        n += m->is_moe[l];
    return n + (group == groups - 1 ? p->placement->moe_layers - m->moe_layers : 0);
}

static void count_cache(const struct mb_model *m, const struct mb_plan *p, struct counts *c)
{
    for (int32_t g = 0; g < c->groups; g++) {
        int64_t held = 0;
        for (int32_t e = 0; e < c->ep; e++)
            held += c->experts[(int64_t)g * c->ep + e];
        for (int32_t e = 0; e < c->ep; e++)
            c->cache[(int64_t)g * c->ep + e] =
                mb_budget_kept(p, moe_layers(m, p, g, c->groups), p->placement->experts, held);
    }
}

/* dense [pp][sp][tp]. The ranks of a sequence group keep the same, but for linear attention. */
static void count_dense(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o, int64_t *dense)
{
    const struct mb_layout *l = &p->layout;

    for (int32_t i = 0; i < l->pp * l->sp * l->tp; i++) {
        int32_t t = i % l->tp, q = i / l->tp % l->sp;
        struct mb_budget_stage g = stage_of(p, i / l->tp / l->sp);
        dense[i] = q > 0 && m->linear_layers == 0 ? dense[i - l->tp]
                                                  : mb_budget_dense(m, o, &g, (struct mb_part_of){t, l->tp}, mb_linear_share(l, q, t));
    }
}

static int64_t dense_of(const struct mb_layout *l, const int64_t *dense, const struct mb_place *at)
{
    return dense[((int64_t)at->stage * l->sp + at->q) * l->tp + at->t];
}

static enum mb_status count(const struct mb_model *m, const struct mb_plan *p, const struct mb_topo *t,
                            const struct mb_plan_options *o, struct counts *c)
{
    MB_TRY(counts_alloc(p, c));
    for (int32_t n = 0; n < t->nodes; n++)
        c->widest = (int32_t)mb_most(c->widest, t->node_first[n + 1] - t->node_first[n]);
    MB_TRY(count_experts(m, p, c));
    if (p->zero > 0)
        count_cache(m, p, c);
    count_dense(m, p, o, c->dense);
    mb_budget_adapters(m, p, o, c->adapters, c->routed);
    return MB_OK;
}

static struct mb_budget_rank rank_of(const struct mb_plan *p, const struct mb_topo *t, const struct counts *c,
                                     int32_t index)
{
    int32_t node = p->node_of[index];
    struct mb_budget_rank r = {.node0 = t->node_first[node], .node1 = t->node_first[node + 1], .widest = c->widest};

    mb_layout_place(&p->layout, index, &r.at);
    if (r.at.a >= 0) {
        r.dense = dense_of(&p->layout, c->dense, &r.at);
        r.adapters = c->adapters[(int64_t)r.at.stage * p->layout.tp + r.at.t];
    }
    if (r.at.e >= 0) {
        int64_t shard = (c->groups > 1 ? (int64_t)r.at.stage * c->ep : 0) + r.at.e;
        r.owned = c->most[shard];
        r.experts = p->zero > 0 ? c->cache[shard] : c->experts[shard];
        if (p->zero > 0)
            r.owned = mb_budget_served(r.owned, c->cache[shard], p->placement->experts);
        r.adapters = mb_sat_add(r.adapters, c->routed[shard * p->layout.etp + r.at.x]);
    }
    return r;
}

static struct mb_budget budget_of(const struct mb_model *m, const struct mb_plan *p, const struct mb_topo *t,
                                  const struct mb_plan_options *o, const struct counts *c, int32_t index)
{
    struct mb_budget_rank r = rank_of(p, t, c, index);
    return mb_budget_fixed(m, p, o, &r);
}

static int32_t cached(const struct mb_plan *p, const struct counts *c, int32_t index)
{
    struct mb_place at;

    mb_layout_place(&p->layout, index, &at);
    return at.e < 0 ? 0 : c->cache[(c->groups > 1 ? (int64_t)at.stage * c->ep : 0) + at.e];
}

static int64_t fixed_total(const struct mb_budget *b)
{
    return MB_SUM(b->weights, b->experts, b->activations, b->exchange, b->staging, b->state);
}

static void with_pages(struct mb_budget *b, int64_t pages)
{
    int64_t paged = mb_sat_mul(pages, b->kv_page_bytes);

    b->kv = mb_sat_add(b->state, paged);
    b->total = mb_sat_add(fixed_total(b), paged);
}

int64_t mb_plan_rank_memory(const struct mb_topo *t, int32_t node, double fraction)
{
    int64_t least = INT64_MAX, room = INT64_MAX;

    for (int32_t i = t->node_first[node]; i < t->node_first[node + 1]; i++) {
        const struct mb_topo_local *l = &t->local[t->order[i]];
        if (l->memory_bytes > 0 && l->memory_free < least)
            least = l->memory_free;
        if (l->address_room > 0 && l->address_room < room) /* of each process, where memory is the node's */
            room = (int64_t)(fraction * (double)l->address_room);
    }
    if (least == INT64_MAX)
        return room;
    return mb_least(room, (int64_t)(fraction * (double)least / (t->node_first[node + 1] - t->node_first[node])));
}

enum mb_status mb_plan_capacity(const struct mb_model *m, const struct mb_topo *t,
                                const struct mb_plan_options *o, const struct mb_plan *p, int64_t *capacity)
{
    const struct mb_layout *l = &p->layout;
    int64_t *dense = calloc((size_t)l->pp * (size_t)l->sp * (size_t)l->tp, sizeof *dense);
    bool known = true;

    if (dense == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to plan %d ranks", (int)l->world);
    count_dense(m, p, o, dense);
    for (int32_t e = 0; e < l->ep; e++)
        capacity[e] = INT64_MAX;
    for (int32_t i = 0; i < l->world; i++) {
        struct mb_place at;
        mb_layout_place(l, i, &at);
        int64_t may = mb_plan_rank_memory(t, p->node_of[i], o->memory_fraction),
                left = may - (at.a >= 0 ? dense_of(l, dense, &at) : 0);
        known &= may < INT64_MAX;
        if (at.e >= 0 && left < capacity[at.e])
            capacity[at.e] = left > 0 ? left : 1;
    }
    for (int32_t e = 0; e < l->ep && !known; e++)
        capacity[e] = 1;
    free(dense);
    return MB_OK;
}

static enum mb_status refuse(const struct mb_budget *b, int64_t may, const char *host, double fraction,
                             int64_t pages, char why[MB_LAYOUT_TEXT])
{
    return mb_layout_no(why,
                        "a rank on %s may use %.3f GiB (--gpu-memory-utilization %g of what is free, divided "
                        "by the node's ranks) but needs %.3f: "
                        "weights %.3f, experts %.3f, activations %.3f, exchange %.3f, staging %.3f, %" PRId64
                        " KV pages %.3f; use more ranks or "
                        "nodes, keep fewer experts (--zero-inference), or lower --max-batch-rows, "
                        "--max-num-seqs or --kv-pages",
                        host, GIB(may), fraction, GIB(b->total), GIB(b->weights), GIB(b->experts),
                        GIB(b->activations), GIB(b->exchange), GIB(b->staging), pages, GIB(b->kv));
}

/* The most pages a rank can use, or was told to use. */
static enum mb_status most_pages(const struct mb_plan_options *o, const struct mb_plan *p, int64_t *out)
{
    const int64_t limit = INT32_MAX / MB_KV_BLOCK; /* slot numbers (page * 64 + offset) are i32 */
    int64_t seg = o->segment > 0 ? o->segment : MB_KV_SEGMENT;
    int64_t part = mb_sat_mul(mb_layout_part_most(p->layout.sp, (p->max_len + seg - 1) / seg),
                              (seg + MB_KV_BLOCK - 1) / MB_KV_BLOCK);
    int64_t useful = mb_sat_mul(p->max_num_seqs, mb_least(part, p->max_pages_per_seq));

    if (o->kv_pages > limit)
        return mb_error(MB_LAYOUT,
                        "--kv-pages %" PRId64 " is more than the %" PRId64 " pages a rank can address",
                        o->kv_pages, limit);
    *out = o->kv_pages > 0 ? o->kv_pages : mb_least(useful, limit);
    return MB_OK;
}

/* Lowers *pages to what the ranks of a node have room for, or refuses. A rank that does not attend has no
 * pages. */
static enum mb_status fit_node(const struct mb_topo *t, int32_t node, const struct mb_model *m,
                               const struct mb_plan_options *o, const struct counts *c, struct mb_plan *p,
                               int64_t *pages, char why[MB_LAYOUT_TEXT])
{
    int64_t may = mb_plan_rank_memory(t, node, o->memory_fraction);

    for (int32_t i = t->node_first[node]; i < t->node_first[node + 1]; i++) {
        struct mb_budget b = budget_of(m, p, t, o, c, i);
        int64_t fixed = fixed_total(&b),
                room = may > fixed && b.kv_page_bytes > 0 ? (may - fixed) / b.kv_page_bytes : 0;
        if (o->kv_pages == 0 && room > 0 && room < *pages)
            *pages = room;
        int64_t used = b.kv_page_bytes == 0           ? 0
                       : room < 1 && o->kv_pages == 0 ? 1
                                                      : *pages; /* a refusal shows the least that would do */
        with_pages(&b, used);
        if (b.total > may)
            return refuse(&b, may, t->local[t->order[t->node_first[node]]].host, o->memory_fraction, used,
                          why);
        p->expert_bytes[i] = b.experts;
        if (p->cache != NULL)
            p->cache[i] = cached(p, c, i);
        p->weight_bytes[i] = b.weights;
    }
    return MB_OK;
}

/* The fullest rank of all, and of each kind, once the pages are known. */
static void keep_fullest(const struct mb_topo *t, const struct mb_model *m, const struct mb_plan_options *o,
                         const struct counts *c, struct mb_plan *p)
{
    for (int32_t i = 0; i < p->layout.world; i++) {
        struct mb_place at;
        struct mb_budget b = budget_of(m, p, t, o, c, i);
        mb_layout_place(&p->layout, i, &at);
        struct mb_budget *kind = &p->kind[2 * at.stage + (at.a < 0)];
        with_pages(&b, p->kv_pages);
        p->total_bytes[i] = b.total;
        if (b.total > kind->total)
            *kind = b;
        if (b.total > p->budget.total)
            p->budget = b;
    }
}

enum mb_status mb_plan_memory(const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, struct mb_plan *p, char why[MB_LAYOUT_TEXT])
{
    struct counts c = {0};
    int64_t pages = 0;
    enum mb_status st = most_pages(o, p, &pages);

    if (st == MB_OK)
        st = count(m, p, t, o, &c);
    for (int32_t n = 0; n < t->nodes && st == MB_OK; n++)
        st = fit_node(t, n, m, o, &c, p, &pages, why);
    if (st == MB_OK) {
        p->kv_pages = pages;
        keep_fullest(t, m, o, &c, p);
    }
    counts_fini(&c);
    return st;
}

enum mb_status mb_plan_budget(const struct mb_plan *p, const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, int32_t index, struct mb_budget *out)
{
    struct counts c = {0};
    enum mb_status st = count(m, p, t, o, &c);

    if (st == MB_OK) {
        *out = budget_of(m, p, t, o, &c, index);
        with_pages(out, p->kv_pages);
    }
    counts_fini(&c);
    return st;
}

enum mb_status mb_plan_rooms(const struct mb_plan *p, const struct mb_model *m, const struct mb_topo *t,
                             const struct mb_plan_options *o, int32_t index, struct mb_rooms *out)
{
    struct counts c = {0};
    enum mb_status st = count(m, p, t, o, &c);

    if (st == MB_OK) {
        struct mb_budget_rank r = rank_of(p, t, &c, index);
        mb_budget_rooms(m, p, o, &r, out);
    }
    counts_fini(&c);
    return st;
}
