/* The attention block of one layer: grouped-query attention, or DeepSeek's latent attention in absorbed form (doc/numerics,
 * MLA). Formulas: doc/models. */
#include "base/log.h"
#include "engine/count.h"
#include "engine/work.h"

static struct mb_gemm_group whole(const struct mb_weight *w, int64_t rows, struct mb_view bias)
{
    return (struct mb_gemm_group){.w = w, .row0 = 0, .rows = rows, .bias = bias};
}

static struct mb_view cos_view(const struct mb_engine *e)
{
    int64_t rows = e->work.rope_rows * (e->o.model->rope_switch > 0 ? 2 : 1);
    return mb_rows_of(e->work.rope_cos, rows, e->o.model->rope_dim / 2, MB_F32);
}

static struct mb_view sin_view(const struct mb_engine *e)
{
    struct mb_view v = cos_view(e);
    v.buf = e->work.rope_sin;
    return v;
}

/* Whether queries of layer l grow with the position (mb_model.q_growth). */
static bool grows(const struct mb_model *m, int32_t l)
{
    return m->q_growth != 0 && (!m->q_still_only || m->still[l]);
}

static enum mb_status grow(struct mb_engine *e, struct mb_view q)
{
    struct mb_view table = mb_rows_of(e->work.q_growth, e->work.rope_rows, 1, MB_F32);
    return e->o.ops->scale_rows(e->stream, q, table, e->batch.d_pos);
}

/* Values of a head as they come out of the pages. */
static int64_t value_width(const struct mb_model *m)
{
    return m->mla ? m->kv_lora : m->v_dim;
}

struct mb_attn_args mb_attn_args_of(const struct mb_engine *e, int32_t l, const struct mb_pool *p, struct mb_view q)
{
    const struct mb_model *m = e->o.model;
    struct mb_view sinks = e->w.layer[l].sinks.view;

    return (struct mb_attn_args){.q = q,
                                 .kv = e->kv[l * e->t.n_pools + (p - e->t.pool)],
                                 .pos = e->batch.d_pos,
                                 .seq = e->batch.d_row_seq,
                                 .page_table = e->batch.d_page_table,
                                 .heads = p->heads,
                                 .scale = m->attn_scale,
                                 .softcap = m->softcap,
                                 .window = m->window[l],
                                 .chunked = m->chunked,
                                 .segment = e->o.segment,
                                 .sinks = sinks.buf != NULL ? mb_view_cols(sinks, p->head, p->heads) : MB_NO_VIEW};
}

static enum mb_status attend(struct mb_engine *e, int32_t l, struct mb_view out, struct mb_view q)
{
    int64_t d = q.cols / e->t.h.heads, dv = value_width(e->o.model);

    if (e->t.sp != NULL)
        return mb_segments_attend(e, l, out, q);
    for (int32_t i = 0; i < e->t.n_pools; i++) {
        const struct mb_pool *p = &e->t.pool[i];
        struct mb_attn_args a = mb_attn_args_of(e, l, p, mb_view_cols(q, p->head * d, p->heads * d));
        mb_count_attention(e, &a, d, dv);
        MB_TRY(e->o.ops->attention(e->stream, mb_view_cols(out, p->head * dv, p->heads * dv), &a));
    }
    return MB_OK;
}

/* Keys and values of the part's rows into the pages of every pool. */
static enum mb_status append(struct mb_engine *e, int32_t l, struct mb_view k, struct mb_view v)
{
    const struct mb_model *m = e->o.model;

    mb_count_append(e, k, v);
    for (int32_t i = 0; i < e->t.n_pools; i++) {
        const struct mb_pool *p = &e->t.pool[i];
        MB_TRY(e->o.ops->kv_append(e->stream, e->kv[l * e->t.n_pools + i],
                                   mb_view_cols(k, (int64_t)p->kv_head * m->head_dim, (int64_t)p->kv_heads * m->head_dim),
                                   mb_view_cols(v, (int64_t)p->kv_head * m->v_dim, (int64_t)p->kv_heads * m->v_dim), e->batch.d_slot));
    }
    return MB_OK;
}

static enum mb_status norm_heads(struct mb_engine *e, struct mb_view out, struct mb_view raw, struct mb_view x, const struct mb_vec *w,
                                 int32_t heads)
{
    return e->o.ops->norm(e->stream, out, raw, x, w->view, MB_NO_VIEW, MB_NORM_RMS, e->o.model->norm_eps, heads, 1);
}

/* q/k norm and clip between the projection and the rotation. */
static enum mb_status prepare_qk(struct mb_engine *e, int32_t l, struct mb_view q, struct mb_view k,
                                 struct mb_view qkv)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    const struct mb_layer *y = &e->w.layer[l];

    switch (m->still[l] ? MB_QKNORM_NONE : m->qk_norm) {
    case MB_QKNORM_NONE:
    case MB_QKNORM_HEAD_AFTER:
    case MB_QKNORM_BARE_AFTER:
        break;
    case MB_QKNORM_HEAD:
        MB_TRY(norm_heads(e, MB_NO_VIEW, q, q, &y->q_norm, e->t.h.heads));
        MB_TRY(norm_heads(e, MB_NO_VIEW, k, k, &y->k_norm, e->t.h.kv_heads));
        break;
    case MB_QKNORM_WHOLE:
        if (e->t.tp != NULL) {
            MB_TRY(mb_share_norms(e, l, q, k));
            break;
        }
        MB_TRY(ops->norm(e->stream, MB_NO_VIEW, q, q, y->q_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, m->heads));
        MB_TRY(ops->norm(e->stream, MB_NO_VIEW, k, k, y->k_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, m->kv_heads));
        break;
    }
    return m->clip_qkv > 0 ? ops->clamp(e->stream, qkv, m->clip_qkv) : MB_OK;
}

/* The rotation, and what follows it: qr gets the queries, k is changed in place. */
static enum mb_status turn_qk(struct mb_engine *e, int32_t l, struct mb_view qr, struct mb_view q, struct mb_view k)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view cs = cos_view(e), sn = sin_view(e), pos = e->batch.d_rope;
    int32_t h = e->t.h.heads, kh = e->t.h.kv_heads;

    if (m->still[l])
        return ops->copy(e->stream, qr, q);
    MB_TRY(ops->rope(e->stream, k, k, cs, sn, pos, kh, 0, m->rope_dim, m->rope_style));
    if (m->qk_norm != MB_QKNORM_HEAD_AFTER && m->qk_norm != MB_QKNORM_BARE_AFTER)
        return ops->rope(e->stream, qr, q, cs, sn, pos, h, 0, m->rope_dim, m->rope_style);
    MB_TRY(ops->rope(e->stream, q, q, cs, sn, pos, h, 0, m->rope_dim, m->rope_style));
    MB_TRY(norm_heads(e, qr, MB_NO_VIEW, q, &y->q_norm, h));
    return norm_heads(e, MB_NO_VIEW, k, k, &y->k_norm, kh);
}

static enum mb_status run_gqa(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view attn)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    const struct mb_layer *y = &e->w.layer[l];
    const struct mb_part_heads *s = &e->t.h;
    int64_t M = h.rows, qn = (int64_t)s->heads * m->head_dim, kn = (int64_t)s->kv_heads * m->head_dim;
    int64_t vn = (int64_t)s->kv_heads * m->v_dim;
    struct mb_view qkv = mb_rows_of(e->work.qkv, M, qn + kn + vn, MB_F32);
    struct mb_view q = mb_view_cols(qkv, 0, qn), k = mb_view_cols(qkv, qn, kn), v = mb_view_cols(qkv, qn + kn, vn);
    struct mb_view qr = mb_rows_of(e->work.q, M, qn, e->o.path);
    struct mb_gemm_group g = whole(y->qkv, M, y->qkv_b.view);

    MB_TRY(ops->gemm(e->stream, qkv, h, &g, 1));
    MB_TRY(mb_lora_site(e, l, MB_LORA_Q, q, h));
    MB_TRY(mb_lora_site(e, l, MB_LORA_K, k, h));
    MB_TRY(mb_lora_site(e, l, MB_LORA_V, v, h));
    MB_TRY(prepare_qk(e, l, q, k, qkv));
    if (grows(m, l))
        MB_TRY(grow(e, q));
    MB_TRY(turn_qk(e, l, qr, q, k));
    MB_TRY(append(e, l, k, v));
    return attend(e, l, attn, qr);
}

/* The queries of MLA: [heads * (nope + rope)], rounded, the rope part rotated. */
static enum mb_status mla_queries(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view qr)
{
    const struct mb_layer *y = &e->w.layer[l];
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    struct mb_view q = mb_rows_of(e->work.qkv, h.rows, qr.cols, MB_F32), in = h;

    if (m->q_lora > 0) {
        struct mb_view qa = mb_rows_of(e->work.qa, h.rows, m->q_lora, MB_F32);
        struct mb_gemm_group ga = whole(y->q_a, h.rows, MB_NO_VIEW);
        in = mb_rows_of(e->work.qa_h, h.rows, m->q_lora, e->o.path);
        MB_TRY(ops->gemm(e->stream, qa, h, &ga, 1));
        MB_TRY(mb_lora_site(e, l, MB_LORA_Q_A, qa, h));
        MB_TRY(ops->norm(e->stream, in, MB_NO_VIEW, qa, y->q_a_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->latent_eps, 1, 1));
    }
    struct mb_gemm_group g = whole(y->q, h.rows, MB_NO_VIEW);
    MB_TRY(ops->gemm(e->stream, q, in, &g, 1));
    MB_TRY(mb_lora_site(e, l, m->q_lora > 0 ? MB_LORA_Q_B : MB_LORA_Q, q, in));
    if (grows(m, l))
        MB_TRY(grow(e, q));
    return ops->rope(e->stream, qr, q, cos_view(e), sin_view(e), e->batch.d_rope, e->t.h.heads, m->nope, m->rope_mla, m->rope_style);
}

/* Page row = [normed latent | rotated k_pe], shared by all heads. */
static enum mb_status mla_keys(struct mb_engine *e, int32_t l, struct mb_view h)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view kva = mb_rows_of(e->work.kva, h.rows, m->kv_lora + m->rope_mla, MB_F32);
    struct mb_view latent = mb_view_cols(kva, 0, m->kv_lora);
    struct mb_gemm_group g = whole(y->kv_a, h.rows, MB_NO_VIEW);

    MB_TRY(ops->gemm(e->stream, kva, h, &g, 1));
    MB_TRY(mb_lora_site(e, l, MB_LORA_KV_A, kva, h));
    MB_TRY(ops->norm(e->stream, MB_NO_VIEW, latent, latent, y->kv_a_norm.view, MB_NO_VIEW, MB_NORM_RMS, m->latent_eps, 1, 1));
    MB_TRY(ops->rope(e->stream, kva, kva, cos_view(e), sin_view(e), e->batch.d_rope, 1, m->kv_lora, m->rope_mla, m->rope_style));
    mb_count_append(e, kva, MB_NO_VIEW);
    return ops->kv_append(e->stream, e->kv[l * e->t.n_pools], kva, MB_NO_VIEW, e->batch.d_slot);
}

/* One small GEMM per head, each with its own columns of x and out. */
static enum mb_status per_head(struct mb_engine *e, struct mb_weight *const *w, struct mb_view out, int64_t out_step,
                               struct mb_view x, int64_t x_step)
{
    for (int32_t i = 0; i < e->t.h.heads; i++)
        e->work.groups[i] = (struct mb_gemm_group){.w = w[i], .rows = x.rows, .x_col = i * x_step, .out_col = i * out_step};
    return e->o.ops->gemm(e->stream, out, x, e->work.groups, e->t.h.heads);
}

/* kv_b of every head, with the terms of adapters: those are added before the rounding. up: see mb_lora_heads. */
static enum mb_status heads(struct mb_engine *e, int32_t l, bool up, struct mb_view out, int64_t out_step, struct mb_view x,
                            int64_t x_step)
{
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_weight *const *w = up ? y->w_uv : y->w_uk;
    int64_t width = up ? e->o.model->v_dim : e->o.model->kv_lora;

    if (!mb_lora_touches_kv_b(e, l))
        return per_head(e, w, out, out_step, x, x_step);
    int32_t H = e->t.h.heads;
    struct mb_view f = mb_rows_of(e->work.head_f, x.rows, H * width, MB_F32);
    MB_TRY(per_head(e, w, f, width, x, x_step));
    MB_TRY(mb_lora_heads(e, l, up, f, width, x, x_step));
    struct mb_view by = mb_view_of(out.buf, out.off, out.rows * H, out_step, out.dtype);
    return e->o.ops->copy(e->stream, mb_view_cols(by, 0, width), mb_view_of(f.buf, f.off, f.rows * H, width, MB_F32));
}

/* The same buffer seen as one row per (row, head). */
static struct mb_view by_head(struct mb_view v, int32_t heads)
{
    return mb_view_of(v.buf, v.off, v.rows * heads, v.cols / heads, v.dtype);
}

static enum mb_status run_mla(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view attn)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    int32_t H = e->t.h.heads;
    int64_t M = h.rows, qd = m->nope + m->rope_mla, kd = m->kv_lora + m->rope_mla;
    struct mb_view qr = mb_rows_of(e->work.q, M, H * qd, e->o.path);
    struct mb_view ql = mb_rows_of(e->work.qlat, M, H * kd, e->o.path);
    struct mb_view ol = mb_rows_of(e->work.olat, M, (int64_t)H * m->kv_lora, e->o.path);

    MB_TRY(mla_queries(e, l, h, qr));
    MB_TRY(mla_keys(e, l, h));
    MB_TRY(heads(e, l, false, ql, kd, qr, qd));
    MB_TRY(ops->copy(e->stream, mb_view_cols(by_head(ql, H), m->kv_lora, m->rope_mla),
                     mb_view_cols(by_head(qr, H), m->nope, m->rope_mla)));
    MB_TRY(attend(e, l, ol, ql));
    return heads(e, l, true, attn, m->v_dim, ol, m->kv_lora);
}

enum mb_status mb_attn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view t)
{
    const struct mb_model *m = e->o.model;
    const struct mb_layer *y = &e->w.layer[l];
    struct mb_view attn = mb_rows_of(e->work.attn, h.rows, (int64_t)e->t.h.heads * m->v_dim, e->o.path);
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = mb_share_tp(e, at);

    MB_TRY(m->mla ? run_mla(e, l, h, attn) : run_gqa(e, l, h, attn));
    MB_TRY(mb_share_gemm(e, &s, &y->o, t, attn, y->o_b.view, l));
    return mb_lora_site(e, l, MB_LORA_O, t, attn);
}
