/* The FFN of one layer: dense, or routed experts over ranks plus a shared expert. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"
#include "engine/zero.h"

/* out [own rows] = down(act(gate_up(x))), f32, of x [part rows]; site: of the adapters' terms on gate, followed by up and down */
static enum mb_status gated(struct mb_pass *p, int32_t l, enum mb_lora_site site, const struct mb_ffn *f, struct mb_view out,
                            struct mb_view x)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_model *m = p->c->o.model;
    struct mb_view gu = mb_rows(p, MB_SB_GU, x.rows, 2 * f->width, MB_F32);
    struct mb_view a = mb_rows(p, MB_SB_ACT, x.rows, f->width, p->c->o.path);
    struct mb_gemm_group up = {.w = f->gate_up, .rows = x.rows, .bias = f->gate_up_b.view};

    MB_TRY(ops->gemm(p->c->stream, gu, x, &up, 1));
    MB_TRY(mb_lora_site(p, l, site, mb_view_cols(gu, 0, f->width), x));
    MB_TRY(mb_lora_site(p, l, site + 1, mb_view_cols(gu, f->width, f->width), x));
    MB_TRY(ops->act(p->c->stream, a, gu, m->act, m->act_limit));
    MB_TRY(mb_tp_gemm_reduce_scatter(p, &f->down, out, a, f->down_b.view, l));
    return mb_lora_site(p, l, site + 2, out, a);
}

/* Chooses experts for every row; the integers come to the host once, for the exchange and the results. */
static enum mb_status route(struct mb_pass *p, int32_t l, struct mb_view raw, int32_t **ids, float **weights)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_router *r = &p->c->o.model->router;
    const struct mb_layer *y = &p->c->w.layer[l];
    int64_t M = raw.rows, at = (int64_t)y->moe_index * p->work->max_rows * r->k;
    struct mb_view z = mb_rows(p, MB_SB_Z, M, r->experts, MB_F32);
    struct mb_view ex = mb_rows(p, MB_SB_EXPERTS, M, r->k, MB_I32), w = mb_rows(p, MB_SB_WEIGHTS, M, r->k, MB_F32);
    struct mb_view bad = mb_rows(p, MB_SB_BAD, M, 1, MB_I32);

    *ids = p->work->h_experts + at;
    *weights = p->work->h_weights + at;
    if (M == 0)
        return MB_OK;
    MB_TRY(ops->gemm_r32(p->c->stream, z, raw, y->router.view, y->router_b.view));
    MB_TRY(ops->route(p->c->stream, ex, w, bad, z, y->router_bias.view, r));
    MB_TRY(ops->copy_out(p->c->stream, *ids, ex));
    MB_TRY(ops->copy_out(p->c->stream, *weights, w));
    MB_TRY(ops->copy_out(p->c->stream, p->work->h_bad, bad));
    int64_t *usage = p->tally->usage + (int64_t)y->moe_index * r->experts;
    for (int64_t i = 0; i < M * r->k; i++)
        usage[(*ids)[i]]++;
    for (int32_t i = 0; i < M; i++) {
        int32_t *first = &p->found->bad_layer[mb_own_row(p->batch, i)];
        if (p->work->h_bad[i] && *first < 0 && l < p->c->o.model->layers) /* the MTP module fails no row */
            *first = l;
    }
    return MB_OK;
}

static enum mb_status shared_expert(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &p->c->w.layer[l];
    struct mb_view all;

    MB_TRY(mb_tp_allgather(p, l, h, &all));
    MB_TRY(gated(p, l, MB_LORA_SH_GATE, &y->shared, t, all));
    if (y->shared_gate.buf == NULL || h.rows == 0)
        return MB_OK;
    struct mb_view g = mb_rows(p, MB_SB_SGATE, h.rows, 1, MB_F32);
    MB_TRY(p->c->o.ops->gemm_r32(p->c->stream, g, raw, y->shared_gate.view, MB_NO_VIEW));
    return p->c->o.ops->gate(p->c->stream, t, g);
}

/* Ids of the rows' experts in the exchange: under lane scope the stages' experts lie side by side. */
static const int32_t *exchange_ids(struct mb_pass *p, const int32_t *experts, int64_t n)
{
    if (p->c->t.id_base == 0 || n == 0)
        return experts;
    for (int64_t i = 0; i < n; i++)
        p->work->h_ids[i] = experts[i] + p->c->t.id_base;
    return p->work->h_ids;
}

/* Experts whose input is multiplied by the router's weight get it so, and what comes back counts once: *in and *weights become
 * those. One expert a row. raw is changed. */
static enum mb_status weigh_inside(struct mb_pass *p, struct mb_view raw, struct mb_view *in, float **weights)
{
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view x = mb_rows(p, MB_SB_INSIDE, raw.rows, raw.cols, p->c->o.path);
    struct mb_view each = mb_rows(p, MB_SB_BAD, raw.rows, 1, MB_I32); /* 0, 1, ...; what was in it is on the host */

    if (raw.rows == 0)
        return MB_OK;
    for (int64_t i = 0; i < raw.rows; i++)
        p->work->h_bad[i] = (int32_t)i;
    MB_TRY(ops->copy_in(p->c->stream, each, p->work->h_bad));
    MB_TRY(ops->scale_rows(p->c->stream, raw, mb_rows(p, MB_SB_WEIGHTS, raw.rows, 1, MB_F32), each));
    MB_TRY(ops->copy(p->c->stream, x, raw));
    *in = x;
    *weights = p->work->h_ones;
    return MB_OK;
}

/* ---------------------------------------------------------------- exchanges */

/* The shared expert of own rows, which may be computed while outputs travel. */
struct shared {
    struct mb_view h, raw, t;
    bool done;
};

/* An exchange of the step under way. */
struct meeting {
    int32_t j;     /* its number in the step */
    int32_t layer; /* of this stage that meets in it, for messages; -1: none does */
    struct mb_dispatched d;
    bool split;             /* own rows were dispatched first: */
    struct mb_dispatched own;
    int32_t early;          /* of their experts so many are computed while rows come in, the others while outputs go out */
    struct shared *shared;  /* NULL: none, or not to be computed here */
    enum mb_status st;      /* of what was computed so far */
};

/* Own rows for each expert, on average, from which on an expert's weights are worth being read twice. */
#define OVERLAP_ROWS 16

static const struct mb_served *served_here(const struct mb_step *s, const struct meeting *m)
{
    return s->zero != NULL ? mb_zero_served(s->zero) : &s->c->served[m->j];
}

/* Whether own rows come first. Nobody else need know: what is sent and waited for is the same. */
static bool wants_split(const struct mb_step *s, int64_t rows)
{
    const struct mb_context *c = s->c;
    enum mb_overlap how = c->o.overlap;

    if (how == MB_OVERLAP_OFF || s->zero != NULL || c->t.g.etp != NULL || c->expert_lora || mb_xchg_size(s->xchg) == 1)
        return false;
    return how == MB_OVERLAP_ON || rows * c->o.model->router.k >= OVERLAP_ROWS * (int64_t)c->o.model->router.experts;
}

/* Whether the shared expert can be computed inside an exchange: where it meets nobody itself. */
static bool wants_shared(const struct mb_step *s)
{
    const struct mb_context *c = s->c;

    return c->o.overlap != MB_OVERLAP_OFF && mb_xchg_size(s->xchg) > 1 && c->t.g.tp_size == 1 && c->t.g.sp_size == 1;
}

/* Experts [from, to) of own rows, and messages meanwhile. */
static void run_own(struct mb_step *s, struct mb_pass *p, struct meeting *m, int32_t from, int32_t to)
{
    if (m->st != MB_OK)
        return;
    s->c->o.ops->meanwhile(s->c->stream, mb_xchg_poll, s->xchg);
    m->st = mb_experts_some(p, served_here(s, m), &m->own, from, to, mb_xchg_outputs(s->xchg, m->own.rows));
    s->c->o.ops->meanwhile(s->c->stream, NULL, NULL);
}

/* Own rows first: all of their experts while rows come in if there is a shared one for the time in which outputs go out, or these
 * cannot go before others of the node have given theirs; else about half of them. */
static void compute_early(struct mb_step *s, struct mb_pass *p, struct meeting *m)
{
    bool all = m->shared != NULL || mb_xchg_algorithm(s->xchg) == MB_A2A_HIER;

    mb_xchg_own(s->xchg, &m->own);
    m->early = m->own.n_experts;
    while (!all && m->early > 0 && m->own.begin[m->early - 1] * 2 >= m->own.rows)
        m->early--;
    run_own(s, p, m, 0, m->early);
}

/* What is left for the time in which outputs travel. */
static void compute_late(struct mb_step *s, struct mb_pass *p, struct meeting *m)
{
    struct shared *x = m->shared;

    if (m->split && m->early < m->own.n_experts)
        run_own(s, p, m, m->early, m->own.n_experts);
    if (x == NULL || x->done || m->st != MB_OK)
        return;
    x->done = true;
    s->c->o.ops->meanwhile(s->c->stream, mb_xchg_poll, s->xchg);
    m->st = shared_expert(p, m->layer, x->h, x->raw, x->t);
    s->c->o.ops->meanwhile(s->c->stream, NULL, NULL);
}

/* After an operation that did not end well nothing of the group may follow. */
static enum mb_status combine(struct mb_step *s, struct mb_pass *p, struct meeting *m, struct mb_view y, struct mb_view out)
{
    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    enum mb_status st = mb_xchg_combine_begin(s->xchg, y, out);

    (void)mb_time_into(s->pass.tally, before);
    if (st == MB_OK)
        compute_late(s, p, m);
    before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    if (st == MB_OK) {
        mb_xchg_await(s->xchg);
        st = mb_xchg_combine_end(s->xchg);
    }
    (void)mb_time_into(s->pass.tally, before);
    s->lost |= mb_xchg_broken(s->xchg);
    return st;
}

/* A dispatch: of the first round, or of the next one (v NULL). *over: what was said in it ends the step. */
static enum mb_status dispatch(struct mb_step *s, struct mb_pass *p, struct meeting *m, const struct mb_serve *v,
                               const struct mb_xchg_rows *in, bool *over)
{
    struct mb_xchg_head mine = mb_step_head(s, m->layer);
    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    enum mb_status st = v != NULL ? mb_xchg_dispatch_begin(s->xchg, v, &mine, in) : mb_xchg_again_begin(s->xchg, &mine);

    (void)mb_time_into(s->pass.tally, before);
    m->split = st == MB_OK && v != NULL && wants_split(s, in->x.rows);
    if (m->split)
        compute_early(s, p, m);
    before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    if (st == MB_OK) {
        mb_xchg_await(s->xchg);
        st = mb_xchg_dispatch_end(s->xchg, &m->d);
    }
    (void)mb_time_into(s->pass.tally, before);
    s->lost |= st != MB_OK;
    MB_TRY(st);
    *over = mb_step_heard(s, &mine, m->d.heads, mb_xchg_size(s->xchg));
    return MB_OK;
}

/* The experts' work and the way back. What fails here is told by the combine, in which the peers wait; all then carry it into the
 * next dispatch, behind which they leave together. */
static enum mb_status serve(struct mb_step *s, struct mb_pass *p, struct meeting *m, struct mb_view out)
{
    struct mb_view y = MB_NO_VIEW;
    enum mb_status st = m->st;

    if (s->zero != NULL)
        mb_zero_round(s->zero, m->d.begin);
    if (m->split)
        y = mb_xchg_outputs(s->xchg, m->d.first + m->d.rows);
    if (st == MB_OK && m->split)
        st = mb_experts_some(p, served_here(s, m), &m->d, 0, m->d.n_experts, y);
    else if (st == MB_OK)
        st = mb_experts_run(p, served_here(s, m), s->zero, &m->d, &y);
    mb_engine_must(s->c, st);
    m->st = st;
    if (st != MB_OK) {
        mb_xchg_fail(s->xchg, st);
        y = MB_NO_VIEW;
    }
    MB_TRY(combine(s, p, m, y, out));
    mb_engine_must(s->c, m->st);
    if (m->st != MB_OK) /* too late for this combine: the next dispatch tells */
        s->status = m->st;
    return MB_OK;
}

/* The rounds of an exchange whose first dispatch is over: one unless routing is much hotter than planned. */
static enum mb_status serve_rounds(struct mb_step *s, struct mb_pass *p, struct meeting *m, struct mb_view out)
{
    bool over;

    MB_TRY(serve(s, p, m, out));
    while (m->d.round + 1 < m->d.rounds) {
        MB_TRY(dispatch(s, p, m, NULL, NULL, &over));
        if (over)
            return s->status;
        MB_TRY(serve(s, p, m, out));
    }
    return m->st;
}

static void note_served(const struct mb_step *s, struct mb_pass *p, int32_t moe_index, int64_t rows)
{
    const int32_t *by = mb_xchg_served_by(s->xchg);
    int64_t k = s->c->o.model->router.k, at = moe_index * p->work->max_rows * k;

    for (int64_t i = 0; s->c->o.save_routing && i < rows * k; i++)
        p->work->h_served[at + i] = mb_team_index_of(&s->c->t, by[i]);
}

/* Who serves what in exchange j, once what this rank serves is here. n ids of own rows. */
static enum mb_status servers(struct mb_step *s, int32_t j, const int32_t *ids, int64_t n, const struct mb_serve **v)
{
    *v = s->c->t.serve[j];
    if (s->zero == NULL)
        return MB_OK;
    if (s->lost) /* nobody would come to what members say before the dispatch */
        return MB_PEER;
    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    enum mb_status st = mb_zero_step(s->zero, s->number, j, ids, n, v);
    (void)mb_time_into(s->pass.tally, before);
    mb_engine_must(s->c, st);
    return st;
}

/* The rows of a pass as they go to experts, with their integers. h, raw: rounded and unrounded norm output. */
static enum mb_status rows_out(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view raw, struct mb_xchg_rows *in)
{
    int32_t *ids = NULL;
    float *weights = NULL;

    MB_TRY(route(p, l, raw, &ids, &weights));
    if (p->c->o.model->weight_inside)
        MB_TRY(weigh_inside(p, raw, &h, &weights));
    *in = (struct mb_xchg_rows){h, exchange_ids(p, ids, h.rows * p->c->o.model->router.k), weights,
                                p->c->expert_lora ? p->batch->part.own_tag : NULL};
    return MB_OK;
}

/* What went wrong here before the exchange travels with it (and no rows do), so that no peer waits for this rank. */
static enum mb_status routed(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view out,
                             struct shared *shared)
{
    struct meeting m = {.j = s->exchange++, .layer = l, .shared = shared};
    struct mb_xchg_rows in = {.x = mb_view_rows(h, 0, 0)};
    const struct mb_serve *v;
    bool over;

    enum mb_status st = s->status == MB_OK ? rows_out(p, l, h, raw, &in) : s->status;
    enum mb_status fetched = servers(s, m.j, in.experts, in.x.rows * s->c->o.model->router.k, &v);
    if (st == MB_OK)
        st = fetched;
    if (st != MB_OK) {
        s->status = st;
        in.x = mb_view_rows(h, 0, 0);
    }
    mb_engine_must(s->c, st);
    MB_TRY(dispatch(s, p, &m, v, &in, &over));
    if (over)
        return s->status;
    note_served(s, p, s->c->w.layer[l].moe_index, in.x.rows);
    return serve_rounds(s, p, &m, out);
}

static int32_t layer_of(const struct mb_context *c, int32_t j)
{
    for (int32_t l = c->t.first_layer; l < c->w.layers && (l < c->t.last_layer || l >= c->o.model->layers); l++) {
        if (c->w.layer[l].exchange == j)
            return l;
    }
    return -1;
}

enum mb_status mb_moe_serve(struct mb_step *s)
{
    const struct mb_context *c = s->c;
    struct mb_pass *p = &s->pass;
    struct mb_xchg_rows in = {.x = mb_rows(p, MB_SB_H, 0, c->o.model->hidden, c->o.path)};
    struct mb_view out = mb_rows(p, MB_SB_T, 0, c->o.model->hidden, MB_F32);
    struct meeting m = {.j = s->exchange, .layer = layer_of(c, s->exchange)};
    const struct mb_serve *v;
    bool over;

    s->exchange++;
    enum mb_status fetched = servers(s, m.j, NULL, 0, &v);
    if (s->status == MB_OK)
        s->status = fetched;
    MB_TRY(dispatch(s, p, &m, v, &in, &over));
    if (over)
        return MB_OK;
    enum mb_status served = serve_rounds(s, p, &m, out);
    if (s->status == MB_OK)
        s->status = served; /* the next dispatch carries it */
    return s->lost ? served : MB_OK;
}

enum mb_status mb_ffn_run(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &s->c->w.layer[l];
    struct mb_view all;

    if (!y->moe) {
        MB_TRY(mb_tp_allgather(p, l, h, &all));
        return gated(p, l, MB_LORA_GATE, &y->dense, t, all);
    }
    if (y->shared.gate_up == NULL)
        return routed(s, p, l, h, raw, t, NULL);
    struct mb_view r = mb_rows(p, MB_SB_ROUTED, h.rows, s->c->o.model->hidden, MB_F32);
    struct shared shared = {.h = h, .raw = raw, .t = t};
    MB_TRY(routed(s, p, l, h, raw, r, wants_shared(s) ? &shared : NULL));
    if (mb_step_over(s))
        return s->status;
    if (!shared.done)
        MB_TRY(shared_expert(p, l, h, raw, t));
    return h.rows > 0 ? s->c->o.ops->add(s->c->stream, t, r, t) : MB_OK;
}
