/* From model, topology and options to the plan of a job. */
#include "plan/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/alltoall.h"
#include "plan/budget.h"
#include "plan/cost.h"
#include "plan/enumerate.h"
#include "plan/makers.h"
#include "plan/memory.h"
#include "plan/serve.h"

/* Rows of prefill that a step takes beside the decode rows where --max-batch-rows is not given. */
#define PREFILL_ROWS 256
/* --max-num-seqs auto: at most, and positions of each for which there are pages. */
#define SEQS_MOST 1024
#define SEQS_LENGTH 1024
/* What a placement may cost more than the best one for fewer moves. */
#define PLACEMENT_SLACK 0.01

int64_t mb_plan_dispatch_row_bytes(int32_t k, int64_t hidden, enum mb_dtype x, bool tagged, bool chosen)
{
    int64_t ids = (2 * ((int64_t)k + tagged) + (chosen ? k : 0) + 3) / 4 * 4;
    return ids + 4 * (int64_t)k + (hidden * mb_dtype_size(x) + 3) / 4 * 4;
}

void mb_plan_destroy(struct mb_plan *p)
{
    if (p == NULL)
        return;
    mb_placement_destroy(p->placement);
    free(p->node_of);
    free(p->first_layer);
    free(p->kind);
    free(p->expert_bytes);
    free(p->weight_bytes);
    free(p->total_bytes);
    free(p->cache);
    free(p);
}

/* What one layer costs a row, in multiply-adds: attention's projections and the FFN that a row meets. */
static double layer_cost(const struct mb_model *m, int32_t l)
{
    double h = m->hidden, q = (double)m->heads * m->head_dim, v = (double)m->heads * m->v_dim;
    double attn =
        m->mla
            ? h * ((double)m->kv_lora + m->rope_mla) + (m->q_lora > 0 ? (h + q) * m->q_lora : h * q) +
                  2 * v * m->kv_lora + v * h
            : h * ((m->q_gate ? 2 : 1) * q + (double)m->kv_heads * ((double)m->head_dim + m->v_dim)) + v * h;
    double ffn = m->is_moe[l]
                     ? 3.0 * h * ((double)m->router.k * m->expert_ffn + m->shared_ffn) + h * m->router.experts
                     : 3.0 * h * m->ffn;
    if (mb_is_linear(m, l)) {
        double keys = (double)m->delta.key_heads * m->delta.dk,
               values = (double)m->delta.value_heads * m->delta.dv;
        attn = h * (2 * keys + 3 * values + 2.0 * m->delta.value_heads) + 3.5 * values * m->delta.dk;
    }
    return attn + ffn;
}

/* Whether stages of at most `most` can hold all layers, one at least each; notes the boundaries. The last
 * stage also has the head. */
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

void mb_plan_stages(const struct mb_model *m, int32_t pp, int32_t *first_layer)
{
    double head = (double)m->hidden * m->vocab, low = 0, high = head;

    for (int32_t l = 0; l < m->layers; l++)
        high += layer_cost(m, l);
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;
        if (cut_stages(m, pp, mid, head, first_layer))
            high = mid;
        else
            low = mid;
    }
    (void)cut_stages(m, pp, high, head, first_layer);
    first_layer[pp] = m->layers;
}

static enum mb_alltoall resolve_alltoall(const struct mb_model *m, const struct mb_topo *t,
                                         const struct mb_plan_options *o, const struct mb_plan *p)
{
    const struct mb_layout *l = &p->layout;
    struct mb_cluster speeds;

    if (o->speeds != NULL)
        speeds = *o->speeds;
    else
        mb_cluster_of_job(t, &speeds);
    struct mb_alltoall_case c = {.m = m,
                                 .l = l,
                                 .c = &speeds,
                                 .nodes = mb_alltoall_nodes(p->node_of, l->world, mb_layout_group(l)),
                                 .path = o->path,
                                 .rows = p->max_batch_rows,
                                 .seqs = p->max_num_seqs};
    return mb_alltoall_rows[o->alltoall].resolve(&c);
}

int32_t mb_plan_batch_rows(const struct mb_plan_options *o)
{
    if (o->max_batch_rows > 0)
        return o->max_batch_rows;
    int64_t rows = (int64_t)o->max_num_seqs * (1 + o->guesses.most) + PREFILL_ROWS;
    return rows > INT32_MAX ? INT32_MAX : (int32_t)rows;
}

static enum mb_status plan_sequences(const struct mb_model *m, const struct mb_plan_options *o,
                                     struct mb_plan *p)
{
    if (o->max_num_seqs < 1)
        return mb_error(MB_LAYOUT, "--max-num-seqs %d; at least 1 is needed", (int)o->max_num_seqs);
    p->max_num_seqs = o->max_num_seqs;
    p->max_batch_rows = mb_plan_batch_rows(o);
    if (p->max_batch_rows < p->max_num_seqs)
        return mb_error(
            MB_LAYOUT,
            "--max-num-batched-tokens %d is less than --max-num-seqs %d: a step must hold one row of each sequence",
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

static bool is_maker(const char *how)
{
    return how != NULL && (strcmp(how, "usage") == 0 || strcmp(how, "capacity") == 0);
}

/* Where shards of the first group lie, and what rows between its nodes cost beside the work of experts.
 * node_of: [ep]. */
static void fill_nodes(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o,
                       const struct mb_plan *p, struct mb_maker *k, int32_t *node_of)
{
    const struct mb_layout *l = &p->layout;
    struct mb_cluster c;
    double expert = 6.0 * m->hidden * m->expert_ffn / l->etp, es = (double)mb_dtype_size(o->path),
           h = (double)m->hidden;

    if (o->speeds != NULL)
        c = *o->speeds;
    else
        mb_cluster_of_job(t, &c);
    k->nodes = 1;
    k->groups = m->router.groups;
    k->k = m->router.k;
    for (int32_t e = 0; e < l->ep; e++) {
        node_of[e] = p->node_of[mb_layout_member(l, 0, e, 0)] - p->node_of[mb_layout_member(l, 0, 0, 0)];
        k->nodes = node_of[e] + 1 > k->nodes ? node_of[e] + 1 : k->nodes;
    }
    double net = (c.net > 0 ? c.net : MB_ALLTOALL_NET) * MB_COST_WIRE / c.per_node,
           row = expert / (c.kind.flops * MB_COST_GEMM);
    k->node_of = node_of;
    k->far_row =
        (double)mb_plan_dispatch_row_bytes(m->router.k, m->hidden, o->path, false, false) / net / row;
    k->far_lone = h * es / net / row;
    k->far_sum = h * 4 / net / row;
}

/* By usage, or by the memory that shards have. */
static enum mb_status make_placement(const struct mb_model *m, const struct mb_topo *t,
                                     const struct mb_plan_options *o, int32_t layers, bool by_capacity,
                                     struct mb_plan *p, char why[MB_LAYOUT_TEXT])
{
    struct mb_maker k = {.moe_layers = layers,
                         .experts = m->router.experts,
                         .ep = p->layout.ep,
                         .redundant = o->redundant,
                         .usage = o->usage,
                         .usage_layers = m->moe_layers,
                         .slack = PLACEMENT_SLACK};
    int64_t *capacity = calloc((size_t)k.ep, sizeof *capacity);
    int32_t *node_of = calloc((size_t)k.ep, sizeof *node_of);
    struct mb_placement *before = NULL;
    enum mb_status st =
        capacity == NULL || node_of == NULL ? mb_error(MB_NO_MEMORY, "no memory for a placement") : MB_OK;

    if (st == MB_OK && by_capacity) {
        st = mb_plan_capacity(m, t, o, p, capacity);
        k.capacity = capacity;
    }
    if (st == MB_OK && o->placement_before != NULL)
        st = mb_placement_load(o->placement_before, layers, k.experts, k.ep, &before);
    k.before = before;
    if (st == MB_OK) {
        fill_nodes(m, t, o, p, &k, node_of);
        st = mb_placement_make(&k, &p->placement, why);
    }
    free(capacity);
    free(node_of);
    mb_placement_destroy(before);
    return st;
}

/* Quotas are no use where copies come and go, nor where an expert has more copies than a byte numbers: copies
 * are then taken in turn by home. */
static void check_quotas(const struct mb_plan_options *o, struct mb_plan *p)
{
    struct mb_placement *pl = p->placement;
    int64_t most = 0, each = (int64_t)p->layout.edp * p->layout.etp;

    for (int64_t i = 0; i < (int64_t)pl->moe_layers * pl->experts; i++)
        most = pl->first[i + 1] - pl->first[i] > most ? pl->first[i + 1] - pl->first[i] : most;
    if (pl->quota == NULL || (o->zero == 0 && most * each <= MB_SERVE_COPIES))
        return;
    mb_free(pl->quota);
    pl->quota = NULL;
}

static enum mb_status plan_placement(const struct mb_model *m, const struct mb_topo *t,
                                     const struct mb_plan_options *o, struct mb_plan *p,
                                     char why[MB_LAYOUT_TEXT])
{
    int32_t layers = m->moe_layers + (o->mtp && m->mtp_layers > 0 && m->is_moe[m->layers] ? 1 : 0),
            experts = m->router.experts;
    const char *how = o->placement;

    if (how == NULL || strcmp(how, "uniform") == 0)
        return mb_placement_uniform(layers, experts, p->layout.ep, &p->placement);
    if (strcmp(how, "scattered") == 0)
        return mb_placement_scattered(layers, experts, p->layout.ep, &p->placement);
    if (is_maker(how) && experts > 0)
        return make_placement(m, t, o, layers, strcmp(how, "capacity") == 0, p, why);
    if (is_maker(how))
        return mb_layout_no(why, "--placement %s places experts, and the model is dense; leave it out", how);
    return mb_placement_load(how, layers, experts, p->layout.ep, &p->placement);
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
    p->weight_bytes = calloc((size_t)t->ranks, sizeof *p->weight_bytes);
    p->total_bytes = calloc((size_t)t->ranks, sizeof *p->total_bytes);
    p->kind = calloc(2 * (size_t)l->pp, sizeof *p->kind);
    p->first_layer = calloc((size_t)l->pp + 1, sizeof *p->first_layer);
    if (p->node_of == NULL || p->expert_bytes == NULL || p->weight_bytes == NULL || p->total_bytes == NULL ||
        p->kind == NULL || p->first_layer == NULL) {
        mb_plan_destroy(p);
        return NULL;
    }
    for (int32_t i = 0; i < t->ranks; i++)
        p->node_of[i] = t->node_of[t->order[i]];
    return p;
}

static enum mb_status plan_all(const struct mb_model *m, const struct mb_topo *t,
                               const struct mb_plan_options *o, struct mb_plan *p, char why[MB_LAYOUT_TEXT])
{
    p->zero = o->zero;
    p->min_experts = o->min_experts;
    if (p->zero > 0) {
        p->cache = calloc((size_t)p->layout.world, sizeof *p->cache);
        if (p->cache == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the plan of %d ranks", (int)p->layout.world);
    }
    mb_plan_stages(m, p->layout.pp, p->first_layer);
    MB_TRY(plan_sequences(m, o, p));
    p->alltoall = resolve_alltoall(m, t, o, p);
    MB_TRY(plan_placement(m, t, o, p, why));
    check_quotas(o, p);
    return mb_plan_memory(m, t, o, p, why);
}

/* The plan of one layout. MB_LAYOUT with a reason: not logged. */
static enum mb_status plan_layout(const struct mb_model *m, const struct mb_topo *t,
                                  const struct mb_plan_options *o, const struct mb_layout *l,
                                  struct mb_plan **out, char why[MB_LAYOUT_TEXT])
{
    why[0] = 0;
    MB_TRY(mb_plan_refusal(m, o, l, why));
    struct mb_plan *p = plan_alloc(t, l);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the plan of %d ranks", (int)t->ranks);
    enum mb_status st = plan_all(m, t, o, p, why);
    if (st != MB_OK) {
        mb_plan_destroy(p);
        return st;
    }
    *out = p;
    return MB_OK;
}

struct trial {
    const struct mb_model *m;
    const struct mb_topo *t;
    const struct mb_plan_options *o;
};

/* Whether a layout works, memory included; a placement file belongs to one size of the expert grid, so equal
 * ranges stand for it. */
static bool works(void *arg, const struct mb_layout *l)
{
    const struct trial *a = arg;
    struct mb_plan_options o = *a->o;
    struct mb_plan *p = NULL;
    char why[MB_LAYOUT_TEXT];

    if (!is_maker(o.placement))
        o.placement = NULL;
    if (plan_layout(a->m, a->t, &o, l, &p, why) != MB_OK)
        return false;
    mb_plan_destroy(p);
    return true;
}

bool mb_plan_works(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o,
                   const struct mb_layout *l)
{
    struct trial trial = {m, t, o};
    return works(&trial, l);
}

int32_t mb_plan_seqs(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o)
{
    struct mb_layout_options lo = o->layout;
    struct mb_plan_options try = *o;
    char why[MB_LAYOUT_TEXT];
    struct mb_layout l;
    int32_t n = SEQS_MOST;

    lo.experts = m->router.experts;
    if (o->max_batch_rows > 0 && o->max_batch_rows < n)
        n = o->max_batch_rows;
    if (mb_layout_try(&lo, t->ranks, &l, why) != MB_OK)
        return 1;
    for (; n > 1; n /= 2) {
        struct mb_plan *p = NULL;
        try.max_num_seqs = n;
        if (plan_layout(m, t, &try, &l, &p, why) != MB_OK)
            continue;
        int64_t each = mb_least(p->max_len, SEQS_LENGTH), pages = (each + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
        bool fits = p->kv_pages >= mb_sat_mul(n, (pages + l.sp - 1) / l.sp);
        mb_plan_destroy(p);
        if (fits)
            break;
    }
    return n;
}

enum mb_status mb_plan_create(const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, struct mb_plan **out)
{
    struct mb_layout_options lo = o->layout;
    struct trial trial = {m, t, o};
    char why[MB_LAYOUT_TEXT], near[MB_LAYOUT_TEXT];
    struct mb_layout l;

    lo.experts = m->router.experts;
    enum mb_status st = mb_layout_try(&lo, t->ranks, &l, why);
    if (st == MB_OK)
        st = plan_layout(m, t, o, &l, out, why);
    if (st == MB_OK || why[0] == 0)
        return st;
    if (!mb_layout_nearest(&lo, t->ranks, works, &trial, &l))
        return mb_error(MB_LAYOUT, "%s; no layout of %d ranks works with these options", why, (int)t->ranks);
    mb_layout_text(&l, near);
    return mb_error(MB_LAYOUT, "%s; nearest layout that works: %s", why, near);
}
