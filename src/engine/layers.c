/* The one layer loop: every model is this walk over its layers. */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"

static enum mb_status norm_into(const struct mb_context *c, struct mb_view out, struct mb_view raw, struct mb_view x,
                                const struct mb_vec *w, const struct mb_vec *b)
{
    return c->o.ops->norm(c->stream, out, raw, x, w->view, b->view, c->o.model->norm, c->o.model->norm_eps, 1, 1);
}

/* x = x + t, t multiplied first where the model says so. */
static enum mb_status add_block(const struct mb_context *c, struct mb_view x, struct mb_view t)
{
    if (c->o.model->residual_scale != 1.0f)
        MB_TRY(c->o.ops->scale(c->stream, t, c->o.model->residual_scale));
    return c->o.ops->add(c->stream, x, x, t);
}

static enum mb_status attention_block(struct mb_pass *p, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &p->c->w.layer[l];

    if (p->batch->rows == 0)
        return MB_OK;
    if (x.rows > 0)
        MB_TRY(norm_into(p->c, h, MB_NO_VIEW, x, &y->attn_norm, &y->attn_norm_b));
    MB_TRY(mb_attn_run(p, l, h, t));
    if (x.rows == 0)
        return MB_OK;
    if (y->attn_post.buf != NULL)
        MB_TRY(norm_into(p->c, MB_NO_VIEW, t, t, &y->attn_post, &(struct mb_vec){0}));
    return add_block(p->c, x, t);
}

/* An error before the exchange of an MoE layer must not keep this rank from it: mb_ffn_run carries it there. */
static enum mb_status ffn_block(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &s->c->w.layer[l];
    struct mb_view raw = mb_rows(p, MB_SB_RAW, x.rows, x.cols, MB_F32);

    if (x.rows > 0 && s->status == MB_OK)
        s->status = norm_into(s->c, h, y->moe ? raw : MB_NO_VIEW, x, &y->ffn_norm, &y->ffn_norm_b);
    if (p->batch->rows == 0 && !y->moe)
        return MB_OK;
    if (!y->moe)
        MB_TRY(s->status);
    MB_TRY(mb_ffn_run(s, p, l, h, raw, t));
    if (mb_step_over(s) || x.rows == 0)
        return s->status;
    if (y->ffn_post.buf != NULL)
        MB_TRY(norm_into(s->c, MB_NO_VIEW, t, t, &y->ffn_post, &(struct mb_vec){0}));
    return add_block(s->c, x, t);
}

/* One decoder layer over the residual stream x of the own rows, in place. An own failure (s->status) is carried into the exchange of
 * an MoE layer, never past it. */
enum mb_status mb_layer_run(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view x)
{
    struct mb_view t = mb_rows(p, MB_SB_T, x.rows, x.cols, MB_F32), h = mb_rows(p, MB_SB_H, x.rows, x.cols, s->c->o.path);

    enum mb_time before = mb_time_into(p->tally, MB_TIME_ATTENTION);
    if (s->status == MB_OK)
        s->status = attention_block(p, l, x, h, t);
    (void)mb_time_into(p->tally, before);
    if (!s->c->w.layer[l].moe && s->status != MB_OK)
        return s->status;
    (void)mb_time_into(p->tally, MB_TIME_EXPERTS);
    enum mb_status st = ffn_block(s, p, l, x, h, t);
    (void)mb_time_into(p->tally, before);
    if (st != MB_OK)
        s->status = st;
    return s->status;
}

/* ---------------------------------------------------------------- between stages */

#define TAG_ROWS 2
#define TAG_CHOICE 4

/* The rank at the same place of another stage. */
static int32_t in_line(const struct mb_groups *g, int32_t stage)
{
    return (stage * g->sp_size + g->sp_rank) * g->tp_size + g->tp_rank;
}

static enum mb_status take_rows(struct mb_pass *p, struct mb_view x)
{
    const struct mb_team *t = &p->c->t;
    struct mb_where at = {"rows of the stage before", p->step, t->first_layer};
    double t0 = mb_now();

    if (x.rows == 0)
        return MB_OK;
    enum mb_time before = mb_time_into(p->tally, MB_TIME_WAIT);
    enum mb_status st = mb_comm_take(t->g.line, in_line(&t->g, t->g.pp_rank - 1), TAG_ROWS, &p->work->msg, &at);
    (void)mb_time_into(p->tally, before);
    MB_TRY(st);
    p->tally->counters.seconds_stage_wait += mb_now() - t0;
    if (p->work->msg.len != (uint64_t)(x.rows * x.cols * 4))
        return mb_error(MB_BUG, "step %lld: %zu bytes came for %lld rows; ranks are out of step", (long long)p->step,
                        p->work->msg.len, (long long)x.rows);
    return p->c->o.ops->copy_in(p->c->stream, x, p->work->msg.data);
}

static enum mb_status pass_rows(struct mb_pass *p, struct mb_view x)
{
    const struct mb_groups *g = &p->c->t.g;

    if (x.rows == 0)
        return MB_OK;
    void *send = mb_room_host(p, MB_SB_SEND, (int64_t)(x.rows * x.cols * 4));
    if (send == NULL)
        return MB_BUG;
    MB_TRY(p->c->o.ops->copy_out(p->c->stream, send, x));
    return mb_comm_post(g->line, in_line(g, g->pp_rank + 1), TAG_ROWS, send, (uint64_t)(x.rows * x.cols * 4));
}

/* Layers that share a choice of keys may begin a stage: then it comes behind the rows. Each rank of a stage has what its counterpart of
 * the next one needs. */
static struct mb_view choice_here(const struct mb_pass *p)
{
    return mb_indexer_choice(p, p->c->t.g.sp != NULL ? p->batch->rows : p->batch->part.n);
}

static bool shares_across(const struct mb_model *m, int32_t layer)
{
    return m->indexer.topk > 0 && m->indexer.shares[layer];
}

static enum mb_status take_choice(struct mb_pass *p)
{
    const struct mb_team *t = &p->c->t;
    struct mb_where at = {"choices of the stage before", p->step, t->first_layer};
    struct mb_view v = choice_here(p);

    if (v.rows == 0 || !shares_across(p->c->o.model, t->first_layer))
        return MB_OK;
    enum mb_time before = mb_time_into(p->tally, MB_TIME_WAIT);
    enum mb_status st = mb_comm_take(t->g.line, in_line(&t->g, t->g.pp_rank - 1), TAG_CHOICE, &p->work->msg, &at);
    (void)mb_time_into(p->tally, before);
    MB_TRY(st);
    if (p->work->msg.len != (uint64_t)(v.rows * v.cols * 4))
        return mb_error(MB_BUG, "step %lld: %zu bytes came for choices of %lld rows; ranks are out of step", (long long)p->step,
                        p->work->msg.len, (long long)v.rows);
    if (t->g.sp != NULL) {
        void *host = mb_room_host(p, MB_SB_H_CHOSEN, (int64_t)p->work->msg.len);
        if (host == NULL)
            return MB_BUG;
        memcpy(host, p->work->msg.data, p->work->msg.len);
    }
    return p->c->o.ops->copy_in(p->c->stream, v, p->work->msg.data);
}

static enum mb_status pass_choice(struct mb_pass *p)
{
    const struct mb_groups *g = &p->c->t.g;
    struct mb_view v = choice_here(p);

    if (v.rows == 0 || !shares_across(p->c->o.model, p->c->t.last_layer))
        return MB_OK;
    void *send = mb_room_host(p, MB_SB_SEND, v.rows * v.cols * 4);
    if (send == NULL)
        return MB_BUG;
    MB_TRY(p->c->o.ops->copy_out(p->c->stream, send, v));
    return mb_comm_post(g->line, in_line(g, g->pp_rank + 1), TAG_CHOICE, send, (uint64_t)(v.rows * v.cols * 4));
}

static enum mb_status begin(struct mb_pass *p, struct mb_view x)
{
    if (p->batch->rows == 0)
        return MB_OK;
    MB_TRY(mb_work_upload(p));
    MB_TRY(mb_attn_copy_pages(p));
    if (!p->c->t.first_stage) {
        MB_TRY(take_rows(p, x));
        return take_choice(p);
    }
    MB_TRY(mb_tp_embed(p, x));
    return p->c->o.save_hidden ? mb_keep_hidden(p, 0) : MB_OK;
}

enum mb_status mb_layers_run(struct mb_step *s)
{
    const struct mb_context *c = s->c;
    struct mb_pass *p = &s->pass;
    struct mb_view x = mb_rows(p, MB_SB_X, p->batch->part.n_own, c->o.model->hidden, MB_F32);

    if (s->status == MB_OK)
        s->status = begin(p, x);
    for (int32_t l = c->t.first_layer; l < c->t.last_layer; l++) {
        (void)mb_layer_run(s, p, l, x); /* s->status has it */
        if (s->status != MB_OK && c->t.n_exchanges == 0)
            return s->status; /* the next step's exchange tells the others */
        if (c->w.layer[l].moe && mb_step_over(s))
            return s->status;
        if (c->o.save_hidden && s->status == MB_OK)
            s->status = mb_keep_hidden(p, l + 1);
    }
    if (s->status == MB_OK && !c->t.last_stage)
        s->status = pass_rows(p, x);
    if (s->status == MB_OK && !c->t.last_stage)
        s->status = pass_choice(p);
    return s->status;
}
