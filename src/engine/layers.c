/* The one layer loop: every model is this walk over its layers. */
#include "base/clock.h"
#include "base/log.h"
#include "engine/count.h"
#include "engine/work.h"

static enum mb_status norm_into(struct mb_engine *e, struct mb_view out, struct mb_view raw, struct mb_view x,
                                const struct mb_vec *w, const struct mb_vec *b)
{
    return e->o.ops->norm(e->stream, out, raw, x, w->view, b->view, e->o.model->norm, e->o.model->norm_eps, 1, 1);
}

/* x = x + t, t multiplied first where the model says so. */
static enum mb_status add_block(struct mb_engine *e, struct mb_view x, struct mb_view t)
{
    if (e->o.model->residual_scale != 1.0f)
        MB_TRY(e->o.ops->scale(e->stream, t, e->o.model->residual_scale));
    return e->o.ops->add(e->stream, x, x, t);
}

static enum mb_status attention_block(struct mb_engine *e, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view all;

    if (e->batch.rows == 0)
        return MB_OK;
    if (x.rows > 0)
        MB_TRY(norm_into(e, h, MB_NO_VIEW, x, &y->attn_norm, &y->attn_norm_b));
    MB_TRY(mb_share_part(e, l, h, &all));
    MB_TRY(mb_attn_run(e, l, all, t));
    if (x.rows == 0)
        return MB_OK;
    if (y->attn_post.buf != NULL)
        MB_TRY(norm_into(e, MB_NO_VIEW, t, t, &y->attn_post, &(struct mb_vec){0}));
    return add_block(e, x, t);
}

/* An error before the exchange of an MoE layer must not keep this rank from it: mb_ffn_run carries it there. */
static enum mb_status ffn_block(struct mb_engine *e, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view raw = mb_rows_of(e->work.raw, x.rows, x.cols, MB_F32);

    if (x.rows > 0 && e->status == MB_OK)
        e->status = norm_into(e, h, y->moe ? raw : MB_NO_VIEW, x, &y->ffn_norm, &y->ffn_norm_b);
    if (e->batch.rows == 0 && !y->moe)
        return MB_OK;
    if (!y->moe)
        MB_TRY(e->status);
    MB_TRY(mb_ffn_run(e, l, h, raw, t));
    if (mb_step_over(e) || x.rows == 0)
        return e->status;
    if (y->ffn_post.buf != NULL)
        MB_TRY(norm_into(e, MB_NO_VIEW, t, t, &y->ffn_post, &(struct mb_vec){0}));
    return add_block(e, x, t);
}

/* One decoder layer over the residual stream x of the own rows, in place. An own failure (e->status) is carried into the exchange of
 * an MoE layer, never past it. */
enum mb_status mb_layer_run(struct mb_engine *e, int32_t l, struct mb_view x)
{
    struct mb_view t = mb_rows_of(e->work.t, x.rows, x.cols, MB_F32), h = mb_rows_of(e->work.h, x.rows, x.cols, e->o.path);

    enum mb_time before = mb_time_into(e, MB_TIME_ATTENTION);
    if (e->status == MB_OK)
        e->status = attention_block(e, l, x, h, t);
    (void)mb_time_into(e, before);
    if (!e->w.layer[l].moe && e->status != MB_OK)
        return e->status;
    (void)mb_time_into(e, MB_TIME_EXPERTS);
    enum mb_status st = ffn_block(e, l, x, h, t);
    (void)mb_time_into(e, before);
    if (st != MB_OK)
        e->status = st;
    return e->status;
}

/* ---------------------------------------------------------------- between stages */

#define TAG_ROWS 2

/* The rank at the same place of another stage. */
static int32_t in_line(const struct mb_engine *e, int32_t stage)
{
    return (stage * e->t.l.sp + e->t.at.q) * e->t.l.tp + e->t.at.t;
}

static enum mb_status take_rows(struct mb_engine *e, struct mb_view x)
{
    struct mb_where at = {"rows of the stage before", e->step, e->t.first_layer};
    double t0 = mb_now();

    if (x.rows == 0)
        return MB_OK;
    enum mb_time before = mb_time_into(e, MB_TIME_WAIT);
    enum mb_status st = mb_comm_take(e->t.line, in_line(e, e->t.at.stage - 1), TAG_ROWS, &e->transit.msg, &at);
    (void)mb_time_into(e, before);
    MB_TRY(st);
    e->counters.seconds_stage_wait += mb_now() - t0;
    if (e->transit.msg.len != (uint64_t)(x.rows * x.cols * 4))
        return mb_error(MB_BUG, "step %lld: %zu bytes came for %lld rows; ranks are out of step", (long long)e->step,
                        e->transit.msg.len, (long long)x.rows);
    return e->o.ops->copy_in(e->stream, x, e->transit.msg.data);
}

static enum mb_status pass_rows(struct mb_engine *e, struct mb_view x)
{
    if (x.rows == 0)
        return MB_OK;
    void *p = mb_transit_host(e, &e->transit.send, (uint64_t)(x.rows * x.cols * 4));
    if (p == NULL)
        return MB_NO_MEMORY;
    MB_TRY(e->o.ops->copy_out(e->stream, p, x));
    return mb_comm_post(e->t.line, in_line(e, e->t.at.stage + 1), TAG_ROWS, p, (uint64_t)(x.rows * x.cols * 4));
}

static enum mb_status begin(struct mb_engine *e, struct mb_view x)
{
    if (e->batch.rows == 0)
        return MB_OK;
    MB_TRY(mb_work_upload(e));
    if (!e->t.first_stage)
        return take_rows(e, x);
    MB_TRY(mb_share_embed(e, x));
    return e->o.save_hidden ? mb_keep_hidden(e, 0) : MB_OK;
}

enum mb_status mb_layers_run(struct mb_engine *e)
{
    struct mb_view x = mb_rows_of(e->work.x, e->batch.n_own, e->o.model->hidden, MB_F32);

    if (e->status == MB_OK)
        e->status = begin(e, x);
    for (int32_t l = e->t.first_layer; l < e->t.last_layer; l++) {
        (void)mb_layer_run(e, l, x); /* e->status has it */
        if (e->status != MB_OK && e->t.n_exchanges == 0)
            return e->status; /* the next step's exchange tells the others */
        if (e->w.layer[l].moe && mb_step_over(e))
            return e->status;
        if (e->o.save_hidden && e->status == MB_OK)
            e->status = mb_keep_hidden(e, l + 1);
    }
    if (e->status == MB_OK && !e->t.last_stage)
        e->status = pass_rows(e, x);
    return e->status;
}
