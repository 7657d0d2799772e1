/* Sparse attention: which keys each row attends to (doc/models, Indexer; device/ops.h, choose_keys). Every rank of a tensor-parallel group
 * makes the same choice of the same rows. */
#include <math.h>
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"

static struct mb_gemm_group whole(const struct mb_weight *w, int64_t rows)
{
    return (struct mb_gemm_group){.w = w, .rows = rows};
}

static enum mb_status rotate(struct mb_pass *p, struct mb_view out, struct mb_view x, int32_t heads)
{
    const struct mb_model *m = p->c->o.model;

    return p->c->o.ops->rope(p->c->stream, out, x, mb_cos_view(p->c), mb_sin_view(p->c), p->batch->dev.rope, heads, 0,
                             m->rope_mla, m->indexer.rope);
}

/* One key a row, for all heads, into its pages. */
static enum mb_status append_keys(struct mb_pass *p, int32_t l, struct mb_view h)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_index_weights *w = &p->c->w.layer[l].index;
    struct mb_view k = mb_rows(p, MB_SB_INDEX_K, h.rows, p->c->o.model->indexer.width, MB_F32);
    struct mb_gemm_group g = whole(w->k, h.rows);

    MB_TRY(ops->gemm(p->c->stream, k, h, &g, 1));
    MB_TRY(ops->norm(p->c->stream, MB_NO_VIEW, k, k, w->k_norm.view, w->k_norm_b.view, MB_NORM_LAYER, MB_INDEX_EPS, 1, 1));
    MB_TRY(rotate(p, k, k, 1));
    mb_count_append(p->tally, p->c->o.kv_dtype, k, MB_NO_VIEW);
    return ops->kv_append(p->c->stream, p->c->index_kv[l], k, MB_NO_VIEW, p->batch->dev.slot);
}

struct mb_view mb_indexer_choice(const struct mb_pass *p, int64_t rows)
{
    const struct mb_model *m = p->c->o.model;

    return m->indexer.topk > 0 ? mb_rows(p, MB_SB_CHOSEN, rows, 1 + (int64_t)m->indexer.topk, MB_I32) : MB_NO_VIEW;
}

enum mb_status mb_indexer_run(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view latent)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_indexer *x = &p->c->o.model->indexer;
    const struct mb_index_weights *w = &p->c->w.layer[l].index;
    int64_t n = (int64_t)x->heads * x->width;
    struct mb_view q = mb_rows(p, MB_SB_INDEX_Q, h.rows, n, MB_F32), qr = mb_rows(p, MB_SB_INDEX_QR, h.rows, n, p->c->o.path);
    struct mb_view by = mb_rows(p, MB_SB_INDEX_W, h.rows, x->heads, MB_F32);
    struct mb_gemm_group gq = whole(w->q, h.rows), gw = whole(w->w, h.rows);

    if (x->topk == 0 || x->shares[l])
        return MB_OK;
    MB_TRY(append_keys(p, l, h));
    MB_TRY(ops->gemm(p->c->stream, q, latent, &gq, 1));
    MB_TRY(rotate(p, qr, q, x->heads));
    MB_TRY(ops->gemm(p->c->stream, by, h, &gw, 1));
    MB_TRY(ops->scale(p->c->stream, by, (float)(1 / sqrt((double)x->heads))));
    struct mb_choose_args a = {.q = qr, .w = by, .kv = p->c->index_kv[l], .pos = p->batch->dev.pos, .seq = p->batch->dev.seq,
                               .page_table = p->batch->dev.page_table, .heads = x->heads, .topk = x->topk,
                               .scale = (float)(1 / sqrt((double)x->width))};
    if (p->c->t.g.sp != NULL)
        return mb_index_parts(p, l, &a);
    mb_count_choose(p->tally, &a, p->batch->part.pos, p->batch->part.n, x->width);
    return ops->choose_keys(p->c->stream, mb_indexer_choice(p, h.rows), &a);
}
