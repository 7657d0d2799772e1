/* From model, topology and options to the plan of a job. */
#include "plan/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/budget.h"

/* Rows of prefill that a step takes beside the decode rows where --max-batch-rows is not given. */
#define PREFILL_ROWS 256

int64_t mb_plan_dispatch_row_bytes(int32_t k, int64_t hidden, enum mb_dtype x, bool tagged)
{
    int64_t ids = (2 * ((int64_t)k + tagged) + 3) / 4 * 4;
    return ids + 4 * (int64_t)k + (hidden * mb_dtype_size(x) + 3) / 4 * 4;
}

void mb_plan_destroy(struct mb_plan *p)
{
    if (p == NULL)
        return;
    mb_placement_destroy(p->placement);
    free(p->node_of);
    free(p->first_layer);
    free(p->expert_bytes);
    free(p);
}

/* What one layer costs a row, in multiply-adds: attention's projections and the FFN that a row meets. */
static double layer_cost(const struct mb_model *m, int32_t l)
{
    double h = m->hidden, q = (double)m->heads * m->head_dim, v = (double)m->heads * m->v_dim;
    double attn = m->mla ? h * (m->kv_lora + m->rope_mla) + (m->q_lora > 0 ? (h + q) * m->q_lora : h * q) + 2 * v * m->kv_lora + v * h
                         : h * (q + (double)m->kv_heads * (m->head_dim + m->v_dim)) + v * h;
    double ffn = m->is_moe[l] ? 3.0 * h * ((double)m->router.k * m->expert_ffn + m->shared_ffn) + h * m->router.experts
                              : 3.0 * h * m->ffn;
    return attn + ffn;
}

/* Whether stages of at most `most` can hold all layers, one at least each; notes the boundaries. The last stage also has the head. */
static bool cut_stages(const struct mb_model *m, int32_t pp, double most, double head, int32_t *first)
{
    int32_t s = 0;
    double sum = 0;

    first[0] = 0;
    for (int32_t l = 0; l < m->layers; l++) {
        double c = layer_cost(m, l) + (l == m->layers - 1 ? head : 0);
        if (l > first[s] && (sum + c > most || m->layers - l <= pp - 1 - s)) {
            if (s == pp - 1)
                return false;
            first[++s] = l;
            sum = 0;
        }
        sum += c;
    }
    first[s + 1] = m->layers;
    return s == pp - 1 && sum <= most;
}

/* Contiguous layer ranges whose dearest is as cheap as can be. */
static enum mb_status plan_stages(const struct mb_model *m, struct mb_plan *p)
{
    int32_t pp = p->layout.pp;
    double head = (double)m->hidden * m->vocab, low = 0, high = head;

    if (pp > m->layers)
        return mb_error(MB_LAYOUT, "--pipeline-parallel-size %d, but the model has %d layers; nearest size that works: %d", (int)pp,
                        (int)m->layers, (int)m->layers);
    for (int32_t l = 0; l < m->layers; l++)
        high += layer_cost(m, l);
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;
        if (cut_stages(m, pp, mid, head, p->first_layer))
            high = mid;
        else
            low = mid;
    }
    (void)cut_stages(m, pp, high, head, p->first_layer);
    p->first_layer[pp] = m->layers;
    return MB_OK;
}

/* hier pays where a row's copies to one node can be merged: more than one node, and one of them with several
 * ranks. */
static enum mb_alltoall resolve_alltoall(const struct mb_topo *t, enum mb_alltoall asked)
{
    if (asked != MB_A2A_AUTO)
        return asked;
    return t->nodes > 1 && t->ranks > t->nodes ? MB_A2A_HIER : MB_A2A_FLAT;
}

static enum mb_status plan_sequences(const struct mb_model *m, const struct mb_plan_options *o,
                                     struct mb_plan *p)
{
    if (o->max_num_seqs < 1)
        return mb_error(MB_LAYOUT, "--max-num-seqs %d; at least 1 is needed", (int)o->max_num_seqs);
    p->max_num_seqs = o->max_num_seqs;
    p->max_batch_rows = o->max_batch_rows;
    if (p->max_batch_rows <= 0)
        p->max_batch_rows =
            p->max_num_seqs > INT32_MAX - PREFILL_ROWS ? INT32_MAX : p->max_num_seqs + PREFILL_ROWS;
    if (p->max_batch_rows < p->max_num_seqs)
        return mb_error(
            MB_LAYOUT,
            "--max-batch-rows %d is less than --max-num-seqs %d: a step must hold one row of each sequence",
            (int)p->max_batch_rows, (int)p->max_num_seqs);
    if (o->max_model_len > m->max_positions)
        return mb_error(MB_LAYOUT,
                        "--max-model-len %" PRId64 " is more than the model's %" PRId64 " positions",
                        o->max_model_len, m->max_positions);
    p->max_len = o->max_model_len > 0 ? o->max_model_len : m->max_positions;
    if (p->max_len < 1 || p->max_len > (int64_t)INT32_MAX - MB_KV_BLOCK)
        return mb_error(MB_LAYOUT, "sequences of %" PRId64 " positions; give --max-model-len", p->max_len);
    p->max_pages_per_seq = (int32_t)((p->max_len + MB_KV_BLOCK - 1) / MB_KV_BLOCK);
    return MB_OK;
}

static enum mb_status plan_placement(const struct mb_model *m, const char *how, bool mtp, struct mb_plan *p)
{
    int32_t layers = m->moe_layers + (mtp && m->mtp_layers > 0 && m->is_moe[m->layers] ? 1 : 0),
            experts = m->router.experts;

    if (how == NULL || strcmp(how, "uniform") == 0)
        return mb_placement_uniform(layers, experts, p->layout.ep, &p->placement);
    if (strcmp(how, "scattered") == 0)
        return mb_placement_scattered(layers, experts, p->layout.ep, &p->placement);
    return mb_placement_load(how, layers, experts, p->layout.ep, &p->placement);
}

/* Counts the experts that every index keeps over all layers: experts_of[world], and *owned = the most one has in one layer. */
static enum mb_status count_experts(const struct mb_model *m, const struct mb_plan *p, int64_t *experts_of, int32_t *owned)
{
    const struct mb_placement *pl = p->placement;
    int32_t stages = p->layout.pp, ep = pl->ep;
    int32_t *in_layer = calloc((size_t)ep, sizeof *in_layer);
    int64_t *of = calloc((size_t)stages * (size_t)ep, sizeof *of); /* [stage][shard] */

    *owned = 0;
    for (int32_t l = 0, lm = 0, s = 0; in_layer != NULL && of != NULL && lm < pl->moe_layers; l++) {
        while (s + 1 < stages && l >= p->first_layer[s + 1])
            s++;
        if (!m->is_moe[l])
            continue;
        memset(in_layer, 0, (size_t)ep * sizeof *in_layer);
        for (int64_t i = pl->first[(int64_t)lm * pl->experts]; i < pl->first[((int64_t)lm + 1) * pl->experts]; i++) {
            of[(int64_t)s * ep + pl->shard[i]]++;
            if (++in_layer[pl->shard[i]] > *owned)
                *owned = in_layer[pl->shard[i]];
        }
        lm++;
    }
    for (int32_t i = 0; in_layer != NULL && of != NULL && i < p->layout.world; i++) {
        struct mb_place at;
        mb_layout_place(&p->layout, i, &at);
        for (int32_t s = 0; at.e >= 0 && s < stages; s++) {
            if (p->layout.lane_scope || s == at.stage)
                experts_of[i] += of[(int64_t)s * ep + at.e];
        }
    }
    enum mb_status st = in_layer != NULL && of != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory to plan %d ranks", (int)p->layout.world);
    free(in_layer);
    free(of);
    return st;
}

/* What one rank of a node may use: fraction of the node's free memory by its ranks. INT64_MAX where it is
 * unknown. */
static int64_t rank_memory(const struct mb_topo *t, int32_t node, double fraction)
{
    int64_t least = INT64_MAX;

    for (int32_t i = t->node_first[node]; i < t->node_first[node + 1]; i++) {
        const struct mb_topo_local *l = &t->local[t->order[i]];
        if (l->memory_bytes > 0 && l->memory_free < least)
            least = l->memory_free;
    }
    if (least == INT64_MAX)
        return least;
    return (int64_t)(fraction * (double)least / (t->node_first[node + 1] - t->node_first[node]));
}

#define GIB(bytes) ((double)(bytes) / (1 << 30))

static enum mb_status refuse(const struct mb_budget *b, int64_t may, const char *host, double fraction,
                             int64_t pages)
{
    return mb_error(
        MB_LAYOUT,
        "a rank on %s may use %.3f GiB (--gpu-memory-utilization %g of what is free, divided by the node's "
        "ranks) but needs %.3f: weights %.3f, experts %.3f, activations %.3f, exchange %.3f, staging %.3f, "
        "%" PRId64 " KV pages %.3f; use more ranks or nodes, or lower --max-batch-rows, --max-num-seqs or "
        "--kv-pages",
        host, GIB(may), fraction, GIB(b->total), GIB(b->weights), GIB(b->experts), GIB(b->activations),
        GIB(b->exchange), GIB(b->staging), pages, GIB(b->kv));
}

static int64_t fixed_total(const struct mb_budget *b)
{
    int64_t sum = mb_sat_add(mb_sat_add(b->weights, b->experts), mb_sat_add(b->activations, b->exchange));
    return mb_sat_add(sum, b->staging);
}

/* Pages for one node's ranks, whose fullest needs b; lowers *pages, or refuses. */
static enum mb_status fit_node(const struct mb_topo *t, int32_t node, const struct mb_plan_options *o,
                               struct mb_budget *b, int64_t *pages)
{
    int64_t may = rank_memory(t, node, o->memory_fraction), fixed = fixed_total(b);
    int64_t room = may > fixed ? (may - fixed) / b->kv_page_bytes : 0;

    if (o->kv_pages == 0 && room > 0 && room < *pages)
        *pages = room;
    int64_t used = room < 1 && o->kv_pages == 0 ? 1 : *pages; /* a refusal shows the least that would do */
    b->kv = mb_sat_mul(used, b->kv_page_bytes);
    b->total = mb_sat_add(fixed, b->kv);
    return b->total <= may
               ? MB_OK
               : refuse(b, may, t->local[t->order[t->node_first[node]]].host, o->memory_fraction, used);
}

/* The most pages a rank can use, or was told to use. */
static enum mb_status most_pages(const struct mb_plan_options *o, const struct mb_plan *p, int64_t *out)
{
    const int64_t limit = INT32_MAX / MB_KV_BLOCK; /* slot numbers (page * 64 + offset) are i32 */
    int64_t useful = mb_sat_mul(p->max_num_seqs, p->max_pages_per_seq);

    if (o->kv_pages > limit)
        return mb_error(MB_LAYOUT,
                        "--kv-pages %" PRId64 " is more than the %" PRId64 " pages a rank can address",
                        o->kv_pages, limit);
    *out = o->kv_pages > 0 ? o->kv_pages : useful < limit ? useful : limit;
    return MB_OK;
}

/* Sizes the KV pages so that every node's fullest rank fits, and keeps the budget of the fullest rank of all.
 */
static enum mb_status plan_memory(const struct mb_model *m, const struct mb_topo *t,
                                  const struct mb_plan_options *o, const int64_t *experts_of, int32_t owned,
                                  struct mb_plan *p)
{
    int64_t pages = 0, one = mb_budget_expert(m, o->path);

    MB_TRY(most_pages(o, p, &pages));
    for (int32_t i = 0; i < p->layout.world; i++)
        p->expert_bytes[i] = mb_sat_mul(experts_of[i], one);
    for (int32_t n = 0; n < t->nodes; n++) {
        struct mb_budget_rank r = {owned, t->node_first[n + 1] - t->node_first[n], 0, 0};
        for (int32_t i = t->node_first[n]; i < t->node_first[n + 1]; i++) {
            struct mb_place at;
            mb_layout_place(&p->layout, i, &at);
            int64_t adapters = mb_budget_adapters(m, p->placement, o, at.e);
            r.experts = experts_of[i] > r.experts ? experts_of[i] : r.experts;
            r.adapters = adapters > r.adapters ? adapters : r.adapters;
        }
        struct mb_budget b = mb_budget_fixed(m, p, o, &r);
        MB_TRY(fit_node(t, n, o, &b, &pages));
        if (n == 0 || fixed_total(&b) > fixed_total(&p->budget))
            p->budget = b;
    }
    p->kv_pages = pages;
    p->budget.kv = mb_sat_mul(pages, p->budget.kv_page_bytes);
    p->budget.total = mb_sat_add(fixed_total(&p->budget), p->budget.kv);
    return MB_OK;
}

static struct mb_plan *plan_alloc(const struct mb_topo *t, const struct mb_layout *l)
{
    struct mb_plan *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    p->layout = *l;
    p->nodes = t->nodes;
    p->node_of = calloc((size_t)t->ranks, sizeof *p->node_of);
    p->expert_bytes = calloc((size_t)t->ranks, sizeof *p->expert_bytes);
    p->first_layer = calloc((size_t)l->pp + 1, sizeof *p->first_layer);
    if (p->node_of == NULL || p->expert_bytes == NULL || p->first_layer == NULL) {
        mb_plan_destroy(p);
        return NULL;
    }
    for (int32_t i = 0; i < t->ranks; i++)
        p->node_of[i] = t->node_of[t->order[i]];
    return p;
}

static enum mb_status plan_all(const struct mb_model *m, const struct mb_topo *t,
                               const struct mb_plan_options *o, struct mb_plan *p)
{
    int64_t *experts_of = calloc((size_t)t->ranks, sizeof *experts_of);
    int32_t owned = 0;
    enum mb_status st = experts_of ? MB_OK : mb_error(MB_NO_MEMORY, "no memory to plan %d ranks", (int)t->ranks);

    p->alltoall = resolve_alltoall(t, o->alltoall);
    if (st == MB_OK)
        st = mb_plan_check(m, o, &p->layout);
    if (st == MB_OK)
        st = plan_stages(m, p);
    if (st == MB_OK)
        st = plan_sequences(m, o, p);
    if (st == MB_OK)
        st = plan_placement(m, o->placement, o->mtp, p);
    if (st == MB_OK)
        st = count_experts(m, p, experts_of, &owned);
    if (st == MB_OK)
        st = plan_memory(m, t, o, experts_of, owned, p);
    free(experts_of);
    return st;
}

enum mb_status mb_plan_create(const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, struct mb_plan **out)
{
    struct mb_layout_options lo = o->layout;
    struct mb_layout l;

    lo.experts = m->router.experts;
    MB_TRY(mb_layout_resolve(&lo, t->ranks, &l));
    struct mb_plan *p = plan_alloc(t, &l);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the plan of %d ranks", (int)t->ranks);
    enum mb_status st = plan_all(m, t, o, p);
    if (st != MB_OK) {
        mb_plan_destroy(p);
        return st;
    }
    *out = p;
    return MB_OK;
}
