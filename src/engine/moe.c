/* The FFN of one layer: dense, or routed experts over ranks plus a shared expert. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/work.h"

/* out = down(act(gate_up(x))), f32; site: of the adapters' terms on gate, followed by up and down */
static enum mb_status gated(struct mb_engine *e, int32_t l, enum mb_lora_site site, const struct mb_ffn *f, struct mb_view out,
                            struct mb_view x)
{
    const struct mb_ops *ops = e->o.ops;
    const struct mb_model *m = e->o.model;
    struct mb_view gu = mb_rows_of(e->work.gu, x.rows, 2 * f->width, MB_F32);
    struct mb_view a = mb_rows_of(e->work.act, x.rows, f->width, e->o.path);
    struct mb_gemm_group up = {.w = f->gate_up, .rows = x.rows, .bias = f->gate_up_b.view};
    struct mb_gemm_group down = {.w = f->down, .rows = x.rows, .bias = f->down_b.view};

    MB_TRY(ops->gemm(e->stream, gu, x, &up, 1));
    MB_TRY(mb_lora_site(e, l, site, mb_view_cols(gu, 0, f->width), x, 0));
    MB_TRY(mb_lora_site(e, l, site + 1, mb_view_cols(gu, f->width, f->width), x, 0));
    MB_TRY(ops->act(e->stream, a, gu, m->act, m->act_limit));
    MB_TRY(ops->gemm(e->stream, out, a, &down, 1));
    return mb_lora_site(e, l, site + 2, out, a, mb_k_unit(f->width));
}

/* Terms of adapters on routed experts: dispatched rows of one expert are sorted by their adapter. part 0: gate and up into gu
 * from x; 1: down into gu from x. */
static enum mb_status expert_terms(struct mb_engine *e, int32_t l, const struct mb_dispatched *d, int part, struct mb_view gu,
                                   struct mb_view x)
{
    int64_t width = e->o.model->expert_ffn;

    for (int32_t i = 0; i < d->n_experts; i++) {
        for (int64_t r = d->begin[i], end; r < d->begin[i + 1]; r = end) {
            for (end = r + 1; end < d->begin[i + 1] && d->tag[end] == d->tag[r]; end++)
                ;
            struct mb_lora_run run = {(int32_t)d->tag[r] - 1, r, end - r};
            if (run.adapter < 0)
                continue;
            const struct mb_lora_expert *p = &e->lora[run.adapter].layer[l].expert[i];
            if (part == 1) {
                MB_TRY(mb_lora_add(e, &p->down, &run, gu, x, mb_k_unit(width)));
                continue;
            }
            MB_TRY(mb_lora_add(e, &p->gate, &run, mb_view_cols(gu, 0, width), x, 0));
            MB_TRY(mb_lora_add(e, &p->up, &run, mb_view_cols(gu, width, width), x, 0));
        }
    }
    return MB_OK;
}

/* y = rounded outputs of this rank's experts for the rows that came. */
static enum mb_status experts(struct mb_engine *e, int32_t l, const struct mb_dispatched *d, struct mb_view *out)
{
    const struct mb_layer *y = &e->w.layer[l];
    const struct mb_ops *ops = e->o.ops;
    const struct mb_model *m = e->o.model;
    int32_t n = 0;

    MB_TRY(mb_work_experts(e, d->rows));
    struct mb_view gu = mb_rows_of(e->work.e_gu, d->rows, 2 * (int64_t)m->expert_ffn, MB_F32);
    struct mb_view a = mb_rows_of(e->work.e_act, d->rows, m->expert_ffn, e->o.path);
    *out = mb_rows_of(e->work.e_y, d->rows, m->hidden, e->o.path);
    if (d->rows == 0)
        return MB_OK;
    for (int32_t i = 0; i < d->n_experts; i++) {
        int64_t rows = d->begin[i + 1] - d->begin[i];
        if (rows > 0)
            e->work.groups[n++] = (struct mb_gemm_group){.w = y->expert[i].gate_up, .row0 = d->begin[i], .rows = rows,
                                                         .bias = y->expert[i].gate_up_b.view};
    }
    MB_TRY(ops->gemm(e->stream, gu, d->x, e->work.groups, n));
    if (e->expert_lora)
        MB_TRY(expert_terms(e, l, d, 0, gu, d->x));
    MB_TRY(ops->act(e->stream, a, gu, m->act, m->act_limit));
    n = 0;
    for (int32_t i = 0; i < d->n_experts; i++) {
        int64_t rows = d->begin[i + 1] - d->begin[i];
        if (rows > 0)
            e->work.groups[n++] = (struct mb_gemm_group){.w = y->expert[i].down, .row0 = d->begin[i], .rows = rows,
                                                         .bias = y->expert[i].down_b.view};
    }
    e->counters.expert_rows += d->rows;
    if (!e->expert_lora)
        return ops->gemm(e->stream, *out, a, e->work.groups, n);
    struct mb_view f = e->o.path == MB_F32 ? *out : mb_rows_of(e->work.e_yf, d->rows, m->hidden, MB_F32);
    MB_TRY(ops->gemm(e->stream, f, a, e->work.groups, n));
    MB_TRY(expert_terms(e, l, d, 1, f, a));
    return e->o.path == MB_F32 ? MB_OK : ops->copy(e->stream, *out, f);
}

/* Chooses experts for every row; the integers come to the host once, for the exchange and the results. */
static enum mb_status route(struct mb_engine *e, int32_t l, struct mb_view raw, int32_t **ids, float **weights)
{
    const struct mb_ops *ops = e->o.ops;
    const struct mb_router *r = &e->o.model->router;
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_batch *b = &e->batch;
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
    for (int64_t i = 0; i < M; i++) {
        if (e->work.h_bad[i])
            MB_TRY(mb_seq_fail(b->seq[b->row_seq[i]], "a router logit is not finite in layer %d", l));
    }
    return MB_OK;
}

static enum mb_status shared_expert(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];

    MB_TRY(gated(e, l, MB_LORA_SH_GATE, &y->shared, t, h));
    if (y->shared_gate.buf == NULL)
        return MB_OK;
    struct mb_view g = mb_rows_of(e->work.sgate, h.rows, 1, MB_F32);
    MB_TRY(e->o.ops->gemm_r32(e->stream, g, raw, y->shared_gate.view, MB_NO_VIEW));
    return e->o.ops->gate(e->stream, t, g);
}

/* What went wrong here before the exchange travels with it (and no rows do), so that no peer waits for this rank. */
static enum mb_status routed(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view out)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_xchg_head mine;
    struct mb_dispatched d;
    struct mb_view ey;
    int32_t *ids = NULL;
    float *weights = NULL;
    double t0 = mb_now();

    enum mb_status st = e->status == MB_OK ? route(e, l, raw, &ids, &weights) : e->status;
    if (st != MB_OK)
        e->status = st;
    mb_engine_mine(e, l, &mine);
    struct mb_view in = st == MB_OK ? h : mb_view_rows(h, 0, 0);
    double t1 = mb_now();
    if (e->expert_lora)
        mb_xchg_tags(e->xchg, e->batch.tag);
    MB_TRY(mb_xchg_dispatch(e->xchg, e->o.plan->placement, y->moe_index, &mine, in, ids, weights, &d));
    double t2 = mb_now();
    e->counters.seconds_compute += t1 - t0;
    e->counters.seconds_exchange += t2 - t1;
    e->told |= mine.status != MB_OK;
    mb_engine_heads(e, d.heads);
    if (e->status != MB_OK || e->peers_status != MB_OK || e->empty)
        return e->status;
    st = experts(e, l, &d, &ey);
    if (st != MB_OK) { /* the peers wait in the combine: it tells them */
        e->told = true;
        mb_xchg_fail(e->xchg, st);
        return mb_xchg_combine(e->xchg, MB_NO_VIEW, out);
    }
    double t3 = mb_now();
    if (e->o.save_routing && h.rows > 0) {
        const int32_t *by = mb_xchg_served_by(e->xchg);
        int64_t n = h.rows * e->o.model->router.k, at = (int64_t)y->moe_index * e->work.max_rows * e->o.model->router.k;
        for (int64_t i = 0; i < n; i++)
            e->work.h_served[at + i] = by[i];
    }
    MB_TRY(mb_xchg_combine(e->xchg, ey, out));
    e->counters.seconds_compute += t3 - t2;
    e->counters.seconds_exchange += mb_now() - t3;
    return MB_OK;
}

enum mb_status mb_ffn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];

    if (!y->moe)
        return gated(e, l, MB_LORA_GATE, &y->dense, t, h);
    if (y->shared.gate_up == NULL)
        return routed(e, l, h, raw, t);
    struct mb_view r = mb_rows_of(e->work.routed, h.rows, e->o.model->hidden, MB_F32);
    MB_TRY(routed(e, l, h, raw, r));
    if (e->status != MB_OK || e->peers_status != MB_OK || e->empty)
        return e->status;
    MB_TRY(shared_expert(e, l, h, raw, t));
    return e->o.ops->add(e->stream, t, r, t);
}
