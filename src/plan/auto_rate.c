/* Memory of the fullest rank of a layout, without looking at every rank: of the first stage (embedding,
 * leaders), the last (head) and the one between with most experts, with the largest share that each size
 * leaves. unit_auto holds it against mb_plan_create. */
#include "plan/auto_rate.h"

#include <stdlib.h>
#include "base/log.h"
#include "plan/alltoall.h"
#include "plan/budget.h"

#define KINDS 3 /* of stages */

struct stages {
    int32_t *first_layer;                    /* [pp + 1] */
    int32_t stage[KINDS], n;                 /* those that are looked at */
    int32_t moe[KINDS];                      /* MoE layers */
    int64_t dense[KINDS][MB_MAX_LEAVES + 1]; /* [tp] of the fullest tensor rank; 0: not computed yet */
    int64_t first[KINDS][MB_MAX_LEAVES + 1]; /* of the first one, which also samples */
    int32_t at[KINDS][MB_MAX_LEAVES + 1];    /* [tp] that tensor rank */
};

struct mb_auto_sizes {
    int32_t layers, rows, max_len, moe_all;
    struct stages *of; /* [layers + 1] by pp */
    int32_t *node_of;  /* [ranks] */
};

enum mb_status mb_auto_sizes_create(const struct mb_auto_in *in, struct mb_auto_sizes **out)
{
    const struct mb_plan_options *o = in->o;
    struct mb_auto_sizes *z = calloc(1, sizeof *z);

    int32_t ranks = in->c->nodes * in->c->per_node;

    if (z != NULL) {
        z->of = calloc((size_t)in->m->layers + 1, sizeof *z->of);
        z->node_of = calloc((size_t)ranks, sizeof *z->node_of);
    }
    if (z == NULL || z->of == NULL || z->node_of == NULL) {
        mb_auto_sizes_destroy(z);
        return mb_error(MB_NO_MEMORY, "no memory for a planner");
    }
    for (int32_t i = 0; i < ranks; i++)
        z->node_of[i] = i / in->c->per_node;
    z->layers = in->m->layers;
    z->rows = mb_plan_batch_rows(o);
    z->max_len = (int32_t)(o->max_model_len > 0 ? o->max_model_len : in->m->max_positions);
    *out = z;
    return MB_OK;
}

void mb_auto_sizes_destroy(struct mb_auto_sizes *z)
{
    if (z == NULL)
        return;
    for (int32_t i = 0; z->of != NULL && i <= z->layers; i++)
        free(z->of[i].first_layer);
    free(z->of);
    free(z->node_of);
    free(z);
}

static int32_t moe_between(const struct mb_model *m, int32_t first, int32_t last)
{
    int32_t n = 0;
    for (int32_t l = first; l < last; l++)
        n += m->is_moe[l] != 0;
    return n;
}

static void add_stage(const struct mb_model *m, struct stages *s, int32_t p)
{
    for (int32_t i = 0; i < s->n; i++) {
        if (s->stage[i] == p)
            return;
    }
    s->stage[s->n] = p;
    s->moe[s->n++] = moe_between(m, s->first_layer[p], s->first_layer[p + 1]);
}

/* NULL without memory. */
static struct stages *stages_of(const struct mb_model *m, struct mb_auto_sizes *z, int32_t pp)
{
    struct stages *s = &z->of[pp];
    int32_t middle = 0, most = -1;

    if (s->first_layer != NULL)
        return s;
    s->first_layer = calloc((size_t)pp + 1, sizeof *s->first_layer);
    if (s->first_layer == NULL)
        return NULL;
    mb_plan_stages(m, pp, s->first_layer);
    for (int32_t p = 1; p < pp - 1; p++) {
        int32_t n = s->first_layer[p + 1] - s->first_layer[p],
                size = n + moe_between(m, s->first_layer[p], s->first_layer[p + 1]) * (z->layers + 1);
        if (size > most) {
            most = size;
            middle = p;
        }
    }
    add_stage(m, s, 0);
    add_stage(m, s, middle);
    add_stage(m, s, pp - 1);
    return s;
}

static void find_dense(const struct mb_auto_in *in, struct stages *s, int32_t pp, int32_t i, int32_t tp)
{
    int32_t p = s->stage[i];
    struct mb_budget_stage g = {s->first_layer[p], s->first_layer[p + 1], p == 0, p == pp - 1};

    for (int32_t t = 0; t < tp && (s->dense[i][tp] == 0 || t > 0); t++) {
        /* a sequence group divides linear attention further: this is the most that it can be */
        int64_t b = mb_budget_dense(in->m, in->o, &g, (struct mb_part_of){t, tp}, (struct mb_part_of){t, tp});
        s->first[i][tp] = t == 0 ? b : s->first[i][tp];
        if (b > s->dense[i][tp]) {
            s->dense[i][tp] = b;
            s->at[i][tp] = t;
        }
    }
}

/* The slice of an expert that is largest. */
static int32_t largest_slice(const struct mb_model *m, enum mb_dtype path, int32_t etp)
{
    int32_t at = 0;
    int64_t most = 0;

    for (int32_t x = 0; x < etp && etp > 1; x++) {
        int64_t b = mb_budget_expert(m, path, (struct mb_part_of){x, etp});
        if (b > most) {
            most = b;
            at = x;
        }
    }
    return at;
}

/* Experts that a shard of the stage keeps, in all its layers and in one. */
static void count_experts(const struct mb_auto_in *in, const struct mb_plan *p, int32_t layers, bool last,
                          struct mb_budget_rank *r)
{
    const struct mb_model *m = in->m;
    const struct mb_layout *l = &p->layout;
    int64_t E = m->router.experts, mtp = in->o->mtp && m->mtp_layers > 0 && m->is_moe[m->layers] && last;

    if (m->moe_layers == 0)
        return;
    r->owned = (int32_t)mb_least((E + in->o->redundant + l->ep - 1) / l->ep, E);
    int64_t n = (l->lane_scope ? m->moe_layers : layers) + mtp;
    r->experts = n * r->owned;
    if (p->zero == 0 || n == 0)
        return;
    r->experts = mb_budget_kept(p, n, E, n * E);
    r->owned = mb_budget_served(r->owned, r->experts, E);
}

static void take(struct mb_candidate *c, int64_t *fullest, const struct mb_budget *b)
{
    int64_t rest = MB_SUM(b->activations, b->exchange, b->staging),
            all = MB_SUM(b->weights, b->experts, rest);

    if (all <= *fullest)
        return;
    *fullest = all;
    c->weights = b->weights;
    c->experts = b->experts;
    c->rest = rest;
}

/* Pages that one sequence of n positions takes on a rank. */
static int64_t pages_of(const struct mb_auto_in *in, const struct mb_layout *l, int64_t n)
{
    int64_t seg = in->o->segment > 0 ? in->o->segment : MB_KV_SEGMENT,
            all = (n + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
    int64_t part = mb_layout_part_most(l->sp, (n + seg - 1) / seg) * (seg / MB_KV_BLOCK);
    return mb_most(1, mb_least(all, part));
}

/* A rank that attends, or one that only holds experts, of stage kind i: needs, and sequences it has KV for.
 */
static void look_at(const struct mb_auto_in *in, const struct mb_plan *p, const struct stages *s, int32_t i,
                    int32_t tensor, bool attends, struct mb_candidate *c, int64_t *fullest)
{
    const struct mb_layout *l = &p->layout;
    int32_t stage = s->stage[i];
    struct mb_budget_rank r = {.owned = 0};

    mb_layout_place(l, stage * mb_layout_stage_size(l) + (attends ? 0 : l->attn), &r.at);
    r.node0 = r.at.index / in->c->per_node * in->c->per_node;
    r.node1 = r.node0 + in->c->per_node;
    r.widest = in->c->per_node;
    if (attends) {
        r.at.t = tensor;
        r.dense = tensor == 0 ? s->first[i][l->tp] : s->dense[i][l->tp];
    }
    if (r.at.e >= 0) {
        r.at.x = largest_slice(in->m, in->o->path, l->etp);
        count_experts(in, p, s->moe[i], stage == l->pp - 1 || l->lane_scope, &r);
    }
    struct mb_budget b = mb_budget_fixed(in->m, p, in->o, &r);
    int64_t fixed = MB_SUM(b.weights, b.experts, b.activations, b.exchange, b.staging, b.state),
            one = mb_sat_mul(pages_of(in, l, in->w.prompt + in->w.output), b.kv_page_bytes);
    take(c, fullest, &b);
    c->need = mb_most(c->need, mb_sat_add(fixed, one));
    if (fixed > in->memory)
        c->room = 0;
    else if (one > 0 && (in->memory - fixed) / one < c->room)
        c->room = (in->memory - fixed) / one;
    if (b.kv_page_bytes > 0) {
        int64_t useful =
                    mb_sat_mul(mb_sat_mul(in->o->max_num_seqs, pages_of(in, l, p->max_len)), b.kv_page_bytes),
                left = in->memory > fixed ? in->memory - fixed : 0;
        c->kv = mb_least(c->kv, in->o->kv_pages > 0 ? mb_sat_mul(in->o->kv_pages, b.kv_page_bytes)
                                                    : mb_least(useful, left));
    }
    if (in->o->kv_pages > 0) /* as many as were asked for, or it does not fit */
        c->room = mb_sat_add(fixed, mb_sat_mul(in->o->kv_pages, b.kv_page_bytes)) > in->memory
                      ? 0
                      : mb_least(c->room, in->o->kv_pages / pages_of(in, l, in->w.prompt + in->w.output));
}

static int32_t level_of(const struct mb_auto_in *in, const struct mb_layout *l)
{
    const struct mb_layout_options *g = &in->o->layout;

    return (l->tp > 1 && g->tp == 0) + (l->etp > 1 && g->etp == 0) +
           (l->pp > 1 && g->pp == 0 ? MB_AUTO_STAGES : 0);
}

static void rate_memory(const struct mb_auto_in *in, struct mb_auto_sizes *z, struct stages *s,
                        struct mb_candidate *c)
{
    const struct mb_layout *l = &c->l;
    int64_t fullest = -1;
    const struct mb_alltoall_case exchange = {
        .m = in->m,
        .l = l,
        .c = in->c,
        .nodes = mb_alltoall_nodes(z->node_of, l->world, mb_layout_group(l)),
        .path = in->o->path,
        .rows = z->rows,
        .seqs = in->o->max_num_seqs};
    struct mb_plan p = {.layout = *l,
                        .nodes = in->c->nodes,
                        .node_of = z->node_of,
                        .first_layer = s->first_layer,
                        .zero = in->o->zero,
                        .min_experts = in->o->min_experts,
                        .alltoall = mb_alltoall_rows[in->o->alltoall].resolve(&exchange),
                        .max_num_seqs = in->o->max_num_seqs,
                        .max_batch_rows = z->rows,
                        .max_len = z->max_len,
                        .max_pages_per_seq = (z->max_len + MB_KV_BLOCK - 1) / MB_KV_BLOCK};

    c->room = c->kv = INT64_MAX;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->dense[i][l->tp] == 0)
            find_dense(in, s, l->pp, i, l->tp);
        look_at(in, &p, s, i, 0, true, c, &fullest);
        if (s->at[i][l->tp] > 0)
            look_at(in, &p, s, i, s->at[i][l->tp], true, c, &fullest);
        if (l->attn > 0)
            look_at(in, &p, s, i, 0, false, c, &fullest);
    }
    c->seqs = mb_least(c->room, in->o->max_num_seqs);
}

enum mb_status mb_auto_rate_with(const struct mb_auto_in *in, struct mb_auto_sizes *z,
                                 const struct mb_layout *l, struct mb_candidate *out,
                                 char why[MB_LAYOUT_TEXT])
{
    struct mb_candidate c = {.l = *l, .level = level_of(in, l)};

    MB_TRY(mb_plan_refusal(in->m, in->o, l, why));
    struct stages *s = stages_of(in->m, z, l->pp);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a planner");
    rate_memory(in, z, s, &c);
    struct mb_cost_in ci = {.m = in->m,
                            .c = in->c,
                            .l = &c.l,
                            .first_layer = s->first_layer,
                            .path = in->o->path,
                            .kv = in->o->kv_dtype,
                            .zero = in->o->zero,
                            .w = in->w,
                            .rows = z->rows,
                            .seqs = (double)c.seqs,
                            .bytes = (double)mb_sat_add(c.weights, c.experts)};
    if (c.seqs > 0)
        mb_cost_estimate(&ci, &c.cost);
    *out = c;
    return MB_OK;
}

enum mb_status mb_auto_rate(const struct mb_auto_in *in, const struct mb_layout *l, struct mb_candidate *out,
                            char why[MB_LAYOUT_TEXT])
{
    struct mb_auto_sizes *z = NULL;

    MB_TRY(mb_auto_sizes_create(in, &z));
    enum mb_status st = mb_auto_rate_with(in, z, l, out, why);
    mb_auto_sizes_destroy(z);
    return st;
}
