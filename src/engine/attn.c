/* The attention block of one layer: grouped-query attention, or DeepSeek's latent attention in absorbed form (doc/numerics,
 * MLA). Formulas: doc/models. */
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"

static struct mb_gemm_group whole(const struct mb_weight *w, int64_t rows, struct mb_view bias)
{
    return (struct mb_gemm_group){.w = w, .row0 = 0, .rows = rows, .bias = bias};
}

/* Whether queries of layer l grow with the position (mb_model.q_growth). */
static bool grows(const struct mb_model *m, int32_t l)
{
    return m->q_growth != 0 && (!m->q_still_only || m->still[l]);
}

static enum mb_status grow(struct mb_pass *p, struct mb_view q)
{
    struct mb_view table = mb_rows_of(p->c->tables.query, p->c->tables.rows, 1, MB_F32);
    return p->c->o.ops->scale_rows(p->c->stream, q, table, p->batch->dev.pos);
}

/* Values of a head as they come out of the pages. */
static int64_t value_width(const struct mb_model *m)
{
    return m->mla ? m->kv_lora : m->v_dim;
}

struct mb_attn_args mb_attn_args_of(const struct mb_pass *p, int32_t l, const struct mb_pool *pool, struct mb_view q)
{
    const struct mb_model *m = p->c->o.model;
    struct mb_view sinks = p->c->w.layer[l].sinks.view;

    return (struct mb_attn_args){.q = q,
                                 .kv = p->c->kv[l * p->c->t.n_pools + (pool - p->c->t.pool)],
                                 .pos = p->batch->dev.pos,
                                 .seq = p->batch->dev.seq,
                                 .page_table = p->batch->dev.page_table,
                                 .heads = pool->heads,
                                 .scale = m->attn_scale,
                                 .softcap = m->softcap,
                                 .window = m->window[l],
                                 .chunked = m->chunked,
                                 .segment = p->c->o.segment,
                                 .chosen = mb_indexer_choice(p, q.rows),
                                 .sinks = sinks.buf != NULL ? mb_view_cols(sinks, pool->head, pool->heads) : MB_NO_VIEW};
}

static enum mb_status attend(struct mb_pass *p, int32_t l, struct mb_view out, struct mb_view q)
{
    int64_t d = q.cols / p->c->t.h.heads, dv = value_width(p->c->o.model);

    if (p->c->t.g.sp != NULL)
        return mb_segments_attend(p, l, out, q);
    for (int32_t i = 0; i < p->c->t.n_pools; i++) {
        const struct mb_pool *pool = &p->c->t.pool[i];
        struct mb_attn_args a = mb_attn_args_of(p, l, pool, mb_view_cols(q, pool->head * d, pool->heads * d));
        mb_count_attention(p->tally, &a, p->batch->part.pos, p->batch->part.n, d, dv);
        MB_TRY(p->c->o.ops->attention(p->c->stream, mb_view_cols(out, pool->head * dv, pool->heads * dv), &a));
    }
    return MB_OK;
}

/* Keys and values of the part's rows into the pages of every pool. */
static enum mb_status append(struct mb_pass *p, int32_t l, struct mb_view k, struct mb_view v)
{
    const struct mb_model *m = p->c->o.model;

    mb_count_append(p->tally, p->c->o.kv_dtype, k, v);
    for (int32_t i = 0; i < p->c->t.n_pools; i++) {
        const struct mb_pool *pool = &p->c->t.pool[i];
        MB_TRY(p->c->o.ops->kv_append(p->c->stream, p->c->kv[l * p->c->t.n_pools + i],
                                   mb_view_cols(k, (int64_t)pool->kv_head * m->head_dim, (int64_t)pool->kv_heads * m->head_dim),
                                   mb_view_cols(v, (int64_t)pool->kv_head * m->v_dim, (int64_t)pool->kv_heads * m->v_dim), p->batch->dev.slot));
    }
    return MB_OK;
}

/* What the batch copies before its rows, of this rank's part: in the pools of every layer here. */
enum mb_status mb_attn_copy_pages(struct mb_pass *p)
{
    const struct mb_batch *b = p->batch;
    const struct mb_context *c = p->c;
    int32_t n = 0, *from = b->copy_pages, *to = from + b->n_copies;

    for (int32_t i = 0; i < b->n_copies; i++) {
        if (b->copy[i].part != c->t.g.sp_rank)
            continue;
        from[n] = b->copy[i].from;
        to[n++] = b->copy[i].to;
    }
    for (int32_t i = 0; n > 0 && i < c->all_layers * c->t.n_pools; i++) {
        if (c->kv[i] != NULL)
            MB_TRY(c->o.ops->kv_copy(c->stream, c->kv[i], from, to, n));
    }
    for (int32_t l = 0; n > 0 && c->index_kv != NULL && l < c->all_layers; l++) {
        if (c->index_kv[l] != NULL)
            MB_TRY(c->o.ops->kv_copy(c->stream, c->index_kv[l], from, to, n));
    }
    return MB_OK;
}

static enum mb_status norm_heads(const struct mb_context *c, struct mb_view out, struct mb_view raw, struct mb_view x, const struct mb_vec *w,
                                 int32_t heads)
{
    return c->o.ops->norm(c->stream, out, raw, x, w->view, MB_NO_VIEW, MB_NORM_RMS, c->o.model->norm_eps, heads, 1);
}

/* q/k norm and clip between the projection and the rotation. */
static enum mb_status prepare_qk(struct mb_pass *p, int32_t l, struct mb_view q, struct mb_view k,
                                 struct mb_view qkv)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_layer *y = &p->c->w.layer[l];

    switch (m->still[l] ? MB_QKNORM_NONE : m->qk_norm) {
    case MB_QKNORM_NONE:
    case MB_QKNORM_HEAD_AFTER:
    case MB_QKNORM_BARE_AFTER:
        break;
    case MB_QKNORM_HEAD:
        MB_TRY(norm_heads(p->c, MB_NO_VIEW, q, q, &y->q_norm, p->c->t.h.heads));
        MB_TRY(norm_heads(p->c, MB_NO_VIEW, k, k, &y->k_norm, p->c->t.h.kv_heads));
        break;
    case MB_QKNORM_WHOLE:
        if (p->c->t.g.tp != NULL) {
            MB_TRY(mb_tp_norms(p, l, q, k));
            break;
        }
        MB_TRY(ops->norm(p->c->stream, MB_NO_VIEW, q, q, y->q_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, m->heads));
        MB_TRY(ops->norm(p->c->stream, MB_NO_VIEW, k, k, y->k_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, m->kv_heads));
        break;
    }
    return m->clip_qkv > 0 ? ops->clamp(p->c->stream, qkv, m->clip_qkv) : MB_OK;
}

/* The rotation, and what follows it: qr gets the queries, k is changed in place. */
static enum mb_status turn_qk(struct mb_pass *p, int32_t l, struct mb_view qr, struct mb_view q, struct mb_view k)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_layer *y = &p->c->w.layer[l];
    struct mb_view cs = mb_cos_view(p->c), sn = mb_sin_view(p->c), pos = p->batch->dev.rope;
    int32_t h = p->c->t.h.heads, kh = p->c->t.h.kv_heads;

    if (m->still[l])
        return ops->copy(p->c->stream, qr, q);
    MB_TRY(ops->rope(p->c->stream, k, k, cs, sn, pos, kh, 0, m->rope_dim, m->rope_style));
    if (m->qk_norm != MB_QKNORM_HEAD_AFTER && m->qk_norm != MB_QKNORM_BARE_AFTER)
        return ops->rope(p->c->stream, qr, q, cs, sn, pos, h, 0, m->rope_dim, m->rope_style);
    MB_TRY(ops->rope(p->c->stream, q, q, cs, sn, pos, h, 0, m->rope_dim, m->rope_style));
    MB_TRY(norm_heads(p->c, qr, MB_NO_VIEW, q, &y->q_norm, h));
    return norm_heads(p->c, MB_NO_VIEW, k, k, &y->k_norm, kh);
}

static enum mb_status run_gqa(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view attn)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_layer *y = &p->c->w.layer[l];
    const struct mb_part_heads *s = &p->c->t.h;
    int64_t M = h.rows, qn = (int64_t)s->heads * m->head_dim, kn = (int64_t)s->kv_heads * m->head_dim;
    int64_t vn = (int64_t)s->kv_heads * m->v_dim;
    struct mb_view qkv = mb_rows(p, MB_SB_QKV, M, qn + kn + vn + (m->q_gate ? qn : 0), MB_F32);
    struct mb_view q = mb_view_cols(qkv, 0, qn), k = mb_view_cols(qkv, qn, kn), v = mb_view_cols(qkv, qn + kn, vn);
    struct mb_view qr = mb_rows(p, MB_SB_Q, M, qn, mb_narrow(p->c));
    struct mb_gemm_group g = whole(y->qkv, M, y->qkv_b.view);

    MB_TRY(ops->gemm(p->c->stream, qkv, h, &g, 1));
    MB_TRY(mb_lora_site(p, l, MB_LORA_Q, q, h));
    MB_TRY(mb_lora_site(p, l, MB_LORA_K, k, h));
    MB_TRY(mb_lora_site(p, l, MB_LORA_V, v, h));
    MB_TRY(prepare_qk(p, l, q, k, qkv));
    if (grows(m, l))
        MB_TRY(grow(p, q));
    MB_TRY(turn_qk(p, l, qr, q, k));
    MB_TRY(append(p, l, k, v));
    if (!m->q_gate)
        return attend(p, l, attn, qr);
    struct mb_view raw = mb_rows(p, MB_SB_ATTN_F, M, attn.cols, MB_F32);
    MB_TRY(attend(p, l, raw, qr));
    return ops->gate_by(p->c->stream, attn, mb_view_cols(qkv, qn + kn + vn, qn), raw);
}

/* The queries of MLA: [heads * (nope + rope)], rounded, the rope part rotated. */
static enum mb_status mla_queries(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view qr)
{
    const struct mb_layer *y = &p->c->w.layer[l];
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view q = mb_rows(p, MB_SB_QKV, h.rows, qr.cols, MB_F32), in = h;

    if (m->q_lora > 0) {
        struct mb_view qa = mb_rows(p, MB_SB_QA, h.rows, m->q_lora, MB_F32);
        struct mb_gemm_group ga = whole(y->mla.q_a, h.rows, MB_NO_VIEW);
        in = mb_rows(p, MB_SB_QA_H, h.rows, m->q_lora, p->c->o.path);
        MB_TRY(ops->gemm(p->c->stream, qa, h, &ga, 1));
        MB_TRY(mb_lora_site(p, l, MB_LORA_Q_A, qa, h));
        MB_TRY(ops->norm(p->c->stream, in, MB_NO_VIEW, qa, y->mla.q_a_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->latent_eps, 1, 1));
    }
    struct mb_gemm_group g = whole(y->mla.q, h.rows, MB_NO_VIEW);
    MB_TRY(ops->gemm(p->c->stream, q, in, &g, 1));
    MB_TRY(mb_lora_site(p, l, m->q_lora > 0 ? MB_LORA_Q_B : MB_LORA_Q, q, in));
    if (grows(m, l))
        MB_TRY(grow(p, q));
    return ops->rope(p->c->stream, qr, q, mb_cos_view(p->c), mb_sin_view(p->c), p->batch->dev.rope, p->c->t.h.heads, m->nope, m->rope_mla, m->rope_style);
}

/* Page row = [normed latent | rotated k_pe], shared by all heads. */
static enum mb_status mla_keys(struct mb_pass *p, int32_t l, struct mb_view h)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_layer *y = &p->c->w.layer[l];
    struct mb_view kva = mb_rows(p, MB_SB_KVA, h.rows, m->kv_lora + m->rope_mla, MB_F32);
    struct mb_view latent = mb_view_cols(kva, 0, m->kv_lora);
    struct mb_gemm_group g = whole(y->mla.kv_a, h.rows, MB_NO_VIEW);

    MB_TRY(ops->gemm(p->c->stream, kva, h, &g, 1));
    MB_TRY(mb_lora_site(p, l, MB_LORA_KV_A, kva, h));
    MB_TRY(ops->norm(p->c->stream, MB_NO_VIEW, latent, latent, y->mla.kv_a_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->latent_eps, 1, 1));
    MB_TRY(ops->rope(p->c->stream, kva, kva, mb_cos_view(p->c), mb_sin_view(p->c), p->batch->dev.rope, 1, m->kv_lora, m->rope_mla, m->rope_style));
    mb_count_append(p->tally, p->c->o.kv_dtype, kva, MB_NO_VIEW);
    return ops->kv_append(p->c->stream, p->c->kv[l * p->c->t.n_pools], kva, MB_NO_VIEW, p->batch->dev.slot);
}

/* One small GEMM per head, each with its own columns of x and out. */
static enum mb_status per_head(struct mb_pass *p, struct mb_weight *const *w, struct mb_view out, int64_t out_step,
                               struct mb_view x, int64_t x_step)
{
    for (int32_t i = 0; i < p->c->t.h.heads; i++)
        p->work->groups[i] = (struct mb_gemm_group){.w = w[i], .rows = x.rows, .x_col = i * x_step, .out_col = i * out_step};
    return p->c->o.ops->gemm(p->c->stream, out, x, p->work->groups, p->c->t.h.heads);
}

/* kv_b of every head, with the terms of adapters: those are added before the rounding. up: see mb_lora_heads. */
static enum mb_status heads(struct mb_pass *p, int32_t l, bool up, struct mb_view out, int64_t out_step, struct mb_view x,
                            int64_t x_step)
{
    const struct mb_layer *y = &p->c->w.layer[l];
    struct mb_weight *const *w = up ? y->mla.w_uv : y->mla.w_uk;
    int64_t width = up ? p->c->o.model->v_dim : p->c->o.model->kv_lora;

    if (!mb_lora_touches_kv_b(p, l))
        return per_head(p, w, out, out_step, x, x_step);
    int32_t H = p->c->t.h.heads;
    struct mb_view f = mb_rows(p, MB_SB_HEAD_F, x.rows, H * width, MB_F32);
    MB_TRY(per_head(p, w, f, width, x, x_step));
    MB_TRY(mb_lora_heads(p, l, up, f, width, x, x_step));
    struct mb_view by = mb_view_of(out.buf, out.off, out.rows * H, out_step, out.dtype);
    return p->c->o.ops->copy(p->c->stream, mb_view_cols(by, 0, width), mb_view_of(f.buf, f.off, f.rows * H, width, MB_F32));
}

/* The same buffer seen as one row per (row, head). */
static struct mb_view by_head(struct mb_view v, int32_t heads)
{
    return mb_view_of(v.buf, v.off, v.rows * heads, v.cols / heads, v.dtype);
}

static enum mb_status run_mla(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view attn)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    int32_t H = p->c->t.h.heads;
    int64_t M = h.rows, qd = m->nope + m->rope_mla, kd = m->kv_lora + m->rope_mla;
    struct mb_view qr = mb_rows(p, MB_SB_Q, M, H * qd, mb_narrow(p->c));
    struct mb_view ql = mb_rows(p, MB_SB_QLAT, M, H * kd, mb_narrow(p->c));
    struct mb_view ol = mb_rows(p, MB_SB_OLAT, M, (int64_t)H * m->kv_lora, mb_narrow(p->c));

    MB_TRY(mla_queries(p, l, h, qr));
    MB_TRY(mla_keys(p, l, h));
    MB_TRY(mb_indexer_run(p, l, h, mb_rows(p, MB_SB_QA_H, M, m->q_lora, p->c->o.path)));
    MB_TRY(heads(p, l, false, ql, kd, qr, qd));
    MB_TRY(ops->copy(p->c->stream, mb_view_cols(by_head(ql, H), m->kv_lora, m->rope_mla),
                     mb_view_cols(by_head(qr, H), m->nope, m->rope_mla)));
    MB_TRY(attend(p, l, ol, ql));
    return heads(p, l, true, attn, m->v_dim, ol, m->kv_lora);
}

enum mb_status mb_attn_run(struct mb_pass *p, int32_t l, struct mb_view own, struct mb_view t)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_layer *y = &p->c->w.layer[l];
    struct mb_view h;

    if (mb_is_linear(m, l))
        return mb_delta_run(p, l, own, t);
    MB_TRY(mb_tp_allgather(p, l, own, &h));
    struct mb_view attn = mb_rows(p, MB_SB_ATTN, h.rows, (int64_t)p->c->t.h.heads * m->v_dim, p->c->o.path);
    MB_TRY(m->mla ? run_mla(p, l, h, attn) : run_gqa(p, l, h, attn));
    MB_TRY(mb_tp_gemm_reduce_scatter(p, &y->o, t, attn, y->o_b.view, l));
    return mb_lora_site(p, l, MB_LORA_O, t, attn);
}
