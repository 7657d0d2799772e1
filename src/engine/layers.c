/* The one layer loop: every model is this walk over its layers. */
#include "base/log.h"
#include "engine/work.h"

static enum mb_status norm_into(struct mb_engine *e, struct mb_view out, struct mb_view raw, struct mb_view x,
                                const struct mb_vec *w, const struct mb_vec *b)
{
    return e->o.ops->norm(e->stream, out, raw, x, w->view, b->view, e->o.model->norm, e->o.model->norm_eps, 1, 1);
}

static enum mb_status attention_block(struct mb_engine *e, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];

    if (x.rows == 0)
        return MB_OK;
    MB_TRY(norm_into(e, h, MB_NO_VIEW, x, &y->attn_norm, &y->attn_norm_b));
    MB_TRY(mb_attn_run(e, l, h, t));
    if (y->attn_post.buf != NULL)
        MB_TRY(norm_into(e, MB_NO_VIEW, t, t, &y->attn_post, &(struct mb_vec){0}));
    return e->o.ops->add(e->stream, x, x, t);
}

static bool step_over(const struct mb_engine *e)
{
    return e->status != MB_OK || e->peers_status != MB_OK || e->empty;
}

/* An error before the exchange of an MoE layer must not keep this rank from it: mb_ffn_run carries it there. */
static enum mb_status ffn_block(struct mb_engine *e, int32_t l, struct mb_view x, struct mb_view h, struct mb_view t)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view raw = mb_rows_of(e->work.raw, x.rows, x.cols, MB_F32);

    if (x.rows > 0 && e->status == MB_OK)
        e->status = norm_into(e, h, y->moe ? raw : MB_NO_VIEW, x, &y->ffn_norm, &y->ffn_norm_b);
    if (x.rows == 0 && !y->moe)
        return MB_OK;
    if (!y->moe)
        MB_TRY(e->status);
    MB_TRY(mb_ffn_run(e, l, h, raw, t));
    if (step_over(e) || x.rows == 0)
        return e->status;
    if (y->ffn_post.buf != NULL)
        MB_TRY(norm_into(e, MB_NO_VIEW, t, t, &y->ffn_post, &(struct mb_vec){0}));
    return e->o.ops->add(e->stream, x, x, t);
}

static enum mb_status embed(struct mb_engine *e, struct mb_view x)
{
    if (x.rows == 0)
        return MB_OK;
    MB_TRY(mb_work_upload(e));
    return e->o.ops->embed(e->stream, x, e->w.embed.view, e->batch.d_ids, e->o.model->embed_scale);
}

/* One decoder layer over the residual stream x, in place. An own failure (e->status) is carried into the exchange of an MoE
 * layer, never past it. */
enum mb_status mb_layer_run(struct mb_engine *e, int32_t l, struct mb_view x)
{
    struct mb_view t = mb_rows_of(e->work.t, x.rows, x.cols, MB_F32), h = mb_rows_of(e->work.h, x.rows, x.cols, e->o.path);

    if (e->status == MB_OK)
        e->status = attention_block(e, l, x, h, t);
    if (!e->w.layer[l].moe && e->status != MB_OK)
        return e->status;
    enum mb_status st = ffn_block(e, l, x, h, t);
    if (st != MB_OK)
        e->status = st;
    return e->status;
}

enum mb_status mb_layers_run(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_view x = mb_rows_of(e->work.x, e->batch.rows, m->hidden, MB_F32);

    if (e->status == MB_OK)
        e->status = embed(e, x);
    if (e->o.save_hidden && e->status == MB_OK)
        e->status = mb_keep_hidden(e, 0);
    for (int32_t l = 0; l < m->layers; l++) {
        (void)mb_layer_run(e, l, x); /* e->status has it */
        if (e->status != MB_OK && m->moe_layers == 0)
            return e->status; /* the next step's exchange tells the others */
        if (e->w.layer[l].moe && step_over(e))
            return e->status;
        if (e->o.save_hidden && e->status == MB_OK)
            e->status = mb_keep_hidden(e, l + 1);
    }
    return e->status;
}
