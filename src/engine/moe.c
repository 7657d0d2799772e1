/* The FFN of one layer: dense, or routed experts over ranks plus a shared expert. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/count.h"
#include "engine/work.h"
#include "engine/zero.h"

/* out [own rows] = down(act(gate_up(x))), f32, of x [part rows]; site: of the adapters' terms on gate, followed by up and down */
static enum mb_status gated(struct mb_engine *e, int32_t l, enum mb_lora_site site, const struct mb_ffn *f, struct mb_view out,
                            struct mb_view x)
{
    const struct mb_ops *ops = e->o.ops;
    const struct mb_model *m = e->o.model;
    struct mb_view gu = mb_rows_of(e->work.gu, x.rows, 2 * f->width, MB_F32);
    struct mb_view a = mb_rows_of(e->work.act, x.rows, f->width, e->o.path);
    struct mb_gemm_group up = {.w = f->gate_up, .rows = x.rows, .bias = f->gate_up_b.view};
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = mb_share_tp(e, at);

    MB_TRY(ops->gemm(e->stream, gu, x, &up, 1));
    MB_TRY(mb_lora_site(e, l, site, mb_view_cols(gu, 0, f->width), x));
    MB_TRY(mb_lora_site(e, l, site + 1, mb_view_cols(gu, f->width, f->width), x));
    MB_TRY(ops->act(e->stream, a, gu, m->act, m->act_limit));
    MB_TRY(mb_share_gemm(e, &s, &f->down, out, a, f->down_b.view, l));
    return mb_lora_site(e, l, site + 2, out, a);
}

/* Chooses experts for every row; the integers come to the host once, for the exchange and the results. */
static enum mb_status route(struct mb_engine *e, int32_t l, struct mb_view raw, int32_t **ids, float **weights)
{
    const struct mb_ops *ops = e->o.ops;
    const struct mb_router *r = &e->o.model->router;
    const struct mb_layer *y = &e->w.layer[l];
    int64_t M = raw.rows, at = (int64_t)y->moe_index * e->work.max_rows * r->k;
    struct mb_view z = mb_rows_of(e->work.z, M, r->experts, MB_F32);
    struct mb_view ex = mb_rows_of(e->work.experts, M, r->k, MB_I32), w = mb_rows_of(e->work.weights, M, r->k, MB_F32);
    struct mb_view bad = mb_rows_of(e->work.bad, M, 1, MB_I32);

    *ids = e->work.h_experts + at;
    *weights = e->work.h_weights + at;
    if (M == 0)
        return MB_OK;
    MB_TRY(ops->gemm_r32(e->stream, z, raw, y->router.view, y->router_b.view));
    MB_TRY(ops->route(e->stream, ex, w, bad, z, y->router_bias.view, r));
    MB_TRY(ops->copy_out(e->stream, *ids, ex));
    MB_TRY(ops->copy_out(e->stream, *weights, w));
    MB_TRY(ops->copy_out(e->stream, e->work.h_bad, bad));
    int64_t *usage = e->work.usage + (int64_t)y->moe_index * r->experts;
    for (int64_t i = 0; i < M * r->k; i++)
        usage[(*ids)[i]]++;
    for (int32_t i = 0; i < M; i++) {
        int32_t *first = &e->found.bad_layer[mb_own_row(&e->batch, i)];
        if (e->work.h_bad[i] && *first < 0 && l < e->o.model->layers) /* the MTP module fails no row */
            *first = l;
    }
    return MB_OK;
}

static enum mb_status shared_expert(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view all;

    MB_TRY(mb_share_part(e, l, h, &all));
    MB_TRY(gated(e, l, MB_LORA_SH_GATE, &y->shared, t, all));
    if (y->shared_gate.buf == NULL || h.rows == 0)
        return MB_OK;
    struct mb_view g = mb_rows_of(e->work.sgate, h.rows, 1, MB_F32);
    MB_TRY(e->o.ops->gemm_r32(e->stream, g, raw, y->shared_gate.view, MB_NO_VIEW));
    return e->o.ops->gate(e->stream, t, g);
}

/* Ids of the rows' experts in the exchange: under lane scope the stages' experts lie side by side. */
static const int32_t *exchange_ids(struct mb_engine *e, const int32_t *experts, int64_t n)
{
    if (e->t.id_base == 0 || n == 0)
        return experts;
    for (int64_t i = 0; i < n; i++)
        e->work.h_ids[i] = experts[i] + e->t.id_base;
    return e->work.h_ids;
}

/* After an operation that did not end well nothing of the group may follow. */
static enum mb_status combine(struct mb_engine *e, struct mb_view y, struct mb_view out)
{
    enum mb_time before = mb_time_into(e, MB_TIME_EXCHANGE);
    enum mb_status st = mb_xchg_combine(e->xchg, y, out);

    (void)mb_time_into(e, before);
    e->lost |= mb_xchg_broken(e->xchg);
    return st;
}

static enum mb_status dispatch(struct mb_engine *e, const struct mb_serve *v, const struct mb_xchg_head *mine,
                               const struct mb_xchg_rows *in, struct mb_dispatched *d)
{
    enum mb_time before = mb_time_into(e, MB_TIME_EXCHANGE);
    enum mb_status st = mb_xchg_dispatch(e->xchg, v, mine, in, d);

    (void)mb_time_into(e, before);
    e->lost |= st != MB_OK;
    return st;
}

/* The experts' work and the way back. What fails here is told by the combine, in which the peers wait; all then carry it into the
 * next dispatch, behind which they leave together. */
static enum mb_status serve(struct mb_engine *e, const struct mb_dispatched *d, struct mb_view out)
{
    struct mb_view y;

    if (e->zero != NULL)
        mb_zero_round(e, d->begin);
    enum mb_status st = mb_experts_run(e, d, &y);
    mb_engine_must(e, st);
    if (st != MB_OK) {
        mb_xchg_fail(e->xchg, st);
        y = MB_NO_VIEW;
    }
    return combine(e, y, out);
}

/* A dispatch is over: what was said in it. Returns whether the step is over too. */
static bool heard(struct mb_engine *e, const struct mb_xchg_head *mine, const struct mb_dispatched *d)
{
    e->told |= mine->status != MB_OK;
    mb_engine_heads(e, d->heads);
    return mb_step_over(e);
}

/* The rounds of an exchange whose first dispatch is over: one unless routing is much hotter than planned. layer: for
 * messages. */
static enum mb_status serve_rounds(struct mb_engine *e, int32_t layer, struct mb_dispatched *d, struct mb_view out)
{
    struct mb_xchg_head mine;

    MB_TRY(serve(e, d, out));
    while (d->round + 1 < d->rounds) {
        mb_engine_mine(e, layer, &mine);
        enum mb_time before = mb_time_into(e, MB_TIME_EXCHANGE);
        enum mb_status st = mb_xchg_again(e->xchg, &mine, d);
        (void)mb_time_into(e, before);
        e->lost |= st != MB_OK;
        MB_TRY(st);
        if (heard(e, &mine, d))
            return e->status;
        MB_TRY(serve(e, d, out));
    }
    return MB_OK;
}

static void note_served(struct mb_engine *e, int32_t moe_index, int64_t rows)
{
    const int32_t *by = mb_xchg_served_by(e->xchg);
    int64_t k = e->o.model->router.k, at = moe_index * e->work.max_rows * k;

    for (int64_t i = 0; e->o.save_routing && i < rows * k; i++)
        e->work.h_served[at + i] = mb_team_index_of(&e->t, by[i]);
}

/* Who serves what in exchange j, once what this rank serves is here. n ids of own rows. */
static enum mb_status servers(struct mb_engine *e, int32_t j, const int32_t *ids, int64_t n, const struct mb_serve **v)
{
    *v = e->t.serve[j];
    if (e->zero == NULL)
        return MB_OK;
    if (e->lost) /* nobody would come to what members say before the dispatch */
        return MB_PEER;
    enum mb_time before = mb_time_into(e, MB_TIME_EXCHANGE);
    enum mb_status st = mb_zero_step(e, j, ids, n, v);
    (void)mb_time_into(e, before);
    mb_engine_must(e, st);
    return st;
}

/* Experts whose input is multiplied by the router's weight get it so, and what comes back counts once: *in and *weights become
 * those. One expert a row. raw is changed. */
static enum mb_status weigh_inside(struct mb_engine *e, struct mb_view raw, struct mb_view *in, float **weights)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view x = mb_rows_of(e->work.inside, raw.rows, raw.cols, e->o.path);
    struct mb_view each = mb_rows_of(e->work.bad, raw.rows, 1, MB_I32); /* 0, 1, ...; what was in it is on the host */

    if (raw.rows == 0)
        return MB_OK;
    for (int64_t i = 0; i < raw.rows; i++)
        e->work.h_bad[i] = (int32_t)i;
    MB_TRY(ops->copy_in(e->stream, each, e->work.h_bad));
    MB_TRY(ops->scale_rows(e->stream, raw, mb_rows_of(e->work.weights, raw.rows, 1, MB_F32), each));
    MB_TRY(ops->copy(e->stream, x, raw));
    *in = x;
    *weights = e->work.h_ones;
    return MB_OK;
}

/* What went wrong here before the exchange travels with it (and no rows do), so that no peer waits for this rank. */
static enum mb_status routed(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view out)
{
    const struct mb_layer *y = &e->w.layer[l];
    int32_t j = e->exchange++;
    struct mb_xchg_head mine;
    struct mb_dispatched d;
    int32_t *ids = NULL;
    float *weights = NULL;

    enum mb_status st = e->status == MB_OK ? route(e, l, raw, &ids, &weights) : e->status;
    if (st == MB_OK && e->o.model->weight_inside)
        st = weigh_inside(e, raw, &h, &weights);
    int64_t pairs = st == MB_OK ? h.rows * e->o.model->router.k : 0;
    const struct mb_serve *v;
    const int32_t *to = exchange_ids(e, ids, pairs);
    enum mb_status fetched = servers(e, j, to, pairs, &v);
    if (st == MB_OK)
        st = fetched;
    if (st != MB_OK)
        e->status = st;
    mb_engine_must(e, st);
    mb_engine_mine(e, l, &mine);
    struct mb_xchg_rows in = {st == MB_OK ? h : mb_view_rows(h, 0, 0), to, weights, e->expert_lora ? e->batch.own_tag : NULL};
    MB_TRY(dispatch(e, v, &mine, &in, &d));
    if (heard(e, &mine, &d))
        return e->status;
    note_served(e, y->moe_index, h.rows);
    return serve_rounds(e, l, &d, out);
}

/* The layer of this stage that meets in exchange j, for messages; -1: none does. */
static int32_t layer_of(const struct mb_engine *e, int32_t j)
{
    for (int32_t l = e->t.first_layer; l < e->w.layers && (l < e->t.last_layer || l >= e->o.model->layers); l++) {
        if (e->w.layer[l].exchange == j)
            return l;
    }
    return -1;
}

enum mb_status mb_moe_serve(struct mb_engine *e)
{
    struct mb_xchg_rows in = {.x = mb_rows_of(e->work.h, 0, e->o.model->hidden, e->o.path)};
    struct mb_view out = mb_rows_of(e->work.t, 0, e->o.model->hidden, MB_F32);
    int32_t j = e->exchange++;
    struct mb_xchg_head mine;
    struct mb_dispatched d;

    const struct mb_serve *v;
    enum mb_status fetched = servers(e, j, NULL, 0, &v);
    if (e->status == MB_OK)
        e->status = fetched;
    int32_t layer = layer_of(e, j);
    mb_engine_mine(e, layer, &mine);
    MB_TRY(dispatch(e, v, &mine, &in, &d));
    if (heard(e, &mine, &d))
        return MB_OK;
    enum mb_status served = serve_rounds(e, layer, &d, out);
    if (e->status == MB_OK)
        e->status = served; /* the next dispatch carries it */
    return e->lost ? served : MB_OK;
}

enum mb_status mb_ffn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view all;

    if (!y->moe) {
        MB_TRY(mb_share_part(e, l, h, &all));
        return gated(e, l, MB_LORA_GATE, &y->dense, t, all);
    }
    if (y->shared.gate_up == NULL)
        return routed(e, l, h, raw, t);
    struct mb_view r = mb_rows_of(e->work.routed, h.rows, e->o.model->hidden, MB_F32);
    MB_TRY(routed(e, l, h, raw, r));
    if (mb_step_over(e))
        return e->status;
    MB_TRY(shared_expert(e, l, h, raw, t));
    return h.rows > 0 ? e->o.ops->add(e->stream, t, r, t) : MB_OK;
}
