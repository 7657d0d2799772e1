/* Device and host buffers of a step. */
#include <string.h>
#include "base/log.h"
#include "engine/work.h"

#define LOGIT_BYTES (64 << 20) /* of logits at a time */

struct need {
    struct mb_buf **buf;
    int64_t bytes;
};

static enum mb_status alloc_all(struct mb_engine *e, const struct need *n, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        if (n[i].bytes > 0)
            MB_TRY(e->o.ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)n[i].bytes, n[i].buf));
    }
    return MB_OK;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Widths of this rank's share; rows: those of its part may be all of a step, the own ones a share of them. */
static enum mb_status device_rows(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    const struct mb_part_heads *s = &e->t.h;
    struct mb_work *w = &e->work;
    int32_t t = e->t.attends ? e->t.at.t : 0;
    int64_t R = e->t.attends ? w->max_rows : 0, H = m->hidden, es = mb_dtype_size(e->o.path), tp = e->t.l.tp;
    int64_t own = (R + tp - 1) / tp, q = (int64_t)s->heads * m->head_dim, v = (int64_t)s->heads * m->v_dim;
    int64_t qkv = m->mla ? q : q + (int64_t)s->kv_heads * (m->head_dim + m->v_dim);
    int64_t f = max64(mb_part_width(m->ffn, t, e->t.l.tp), mb_part_width(m->shared_ffn, t, e->t.l.tp)), mla = m->mla;
    const struct need n[] = {
        {&w->x, own * H * 4}, {&w->h, own * H * es}, {&w->raw, own * H * 4}, {&w->t, own * H * 4}, {&w->routed, own * H * 4},
        {&w->h_part, tp > 1 ? R * H * es : 0}, {&w->qkv, R * qkv * 4}, {&w->q, R * q * es}, {&w->attn, R * v * es},
        {&w->gu, R * 2 * f * 4}, {&w->act, R * f * es},
        {&w->qa, mla * R * m->q_lora * 4}, {&w->qa_h, mla * R * m->q_lora * es},
        {&w->qlat, mla * R * s->heads * (m->kv_lora + m->rope_mla) * es},
        {&w->olat, mla * R * s->heads * m->kv_lora * es}, {&w->kva, mla * R * (m->kv_lora + m->rope_mla) * 4},
        {&w->z, own * m->router.experts * 4}, {&w->experts, own * m->router.k * 4}, {&w->weights, own * m->router.k * 4},
        {&w->head_f, mla && e->o.n_adapters > 0 ? R * s->heads * max64(m->kv_lora, m->v_dim) * 4 : 0},
        {&w->mtp_in, mb_mtp_here(e) * own * 2 * H * es}, {&w->mtp_x, mb_mtp_here(e) * own * H * 4},
        {&w->bad, own * 4}, {&w->sgate, own * 4}, {&w->inside, m->weight_inside ? own * H * es : 0}, {&w->ints, (e->t.l.sp > 1 ? 7 : 5) * R * 4},
        {&w->page_table, R > 0 ? (int64_t)e->o.plan->max_num_seqs * e->batch.max_pages * 4 : 0},
    };
    return alloc_all(e, n, sizeof n / sizeof n[0]);
}

/* Logits: of all columns where the rank samples, of its own columns where a group divides them. */
static enum mb_status device_head(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_work *w = &e->work;
    int64_t P = e->t.attends && e->t.last_stage ? w->logit_rows : 0, es = mb_dtype_size(e->o.path), v0, v1;
    int64_t S = e->t.at.q == 0 && e->t.at.t == 0 ? P : 0;

    mb_part_vocab(m->vocab, e->t.attends ? e->t.at.t : 0, e->t.l.tp, &v0, &v1);
    const struct need n[] = {
        {&w->hx, P * m->hidden * 4}, {&w->hn, P * m->hidden * es}, {&w->idx, P * 4},
        {&w->hn2, e->t.l.tp > 1 ? P * m->hidden * es : 0}, {&w->logits_part, e->t.att != NULL ? P * (v1 - v0) * 4 : 0},
        {&w->logits, S * m->vocab * 4}, {&w->stats, S * 8},
        {&w->best, S * 4}, {&w->lbad, S * 4}, {&w->drawn, S * 4}, {&w->target, S * 4}, {&w->lp, S * 4},
        {&w->top_ids, S * MB_MAX_TOP * 4}, {&w->top_lp, S * MB_MAX_TOP * 4},
        {&w->srows, S * (int64_t)sizeof(struct mb_sample_row)}, {&w->sadj, S > 0 ? 64 * (int64_t)sizeof(struct mb_sample_adjust) : 0},
    };
    w->adj_cap = S > 0 ? 64 : 0;
    return alloc_all(e, n, sizeof n / sizeof n[0]);
}

static enum mb_status host_arrays(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_work *w = &e->work;
    struct mb_mem *mem = e->o.mem;
    size_t routes = (size_t)((m->moe_layers + e->mtp) * w->max_rows * m->router.k), per = (size_t)(m->moe_layers * m->router.k);
    size_t row = (size_t)max64(max64((int64_t)w->logit_rows * m->vocab * (e->o.save_logits != MB_LOGITS_NONE),
                                     (int64_t)m->hidden * (e->o.save_hidden ? m->layers + 1 : 1)), (int64_t)per);
    size_t planes = e->o.save_hidden ? (size_t)(m->layers + 1) * (size_t)(w->max_rows * m->hidden) : 0;
    int64_t groups = max64(m->heads, (int64_t)m->router.experts * e->t.l.etp * (e->t.l.lane_scope ? e->t.l.pp : 1)) + 1;

    w->h_experts = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(int32_t));
    w->h_ids = mb_zalloc(mem, MB_MEM_ACTIVATIONS, e->t.l.lane_scope ? (size_t)(w->max_rows * m->router.k) + 1 : 1, sizeof(int32_t));
    w->h_weights = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(float));
    w->h_served = mb_zalloc(mem, MB_MEM_ACTIVATIONS, e->o.save_routing ? routes + 1 : 1, sizeof(int32_t));
    w->usage = mb_zalloc(mem, MB_MEM_OTHER, (size_t)((m->moe_layers + 1) * m->router.experts + 1), sizeof(int64_t));
    w->layer_rows = mb_zalloc(mem, MB_MEM_OTHER, (size_t)m->moe_layers + 1, sizeof(int64_t));
    w->h_ones = mb_zalloc(mem, MB_MEM_ACTIVATIONS, m->weight_inside ? (size_t)w->max_rows + 1 : 1, sizeof(float));
    w->h_bad = mb_zalloc(mem, MB_MEM_ACTIVATIONS, (size_t)w->max_rows, sizeof(int32_t));
    w->h_rows = mb_zalloc(mem, MB_MEM_STAGING, row + 1, sizeof(float));
    w->h_hidden = mb_zalloc(mem, MB_MEM_STAGING, planes + 1, sizeof(float));
    w->h_u16 = mb_zalloc(mem, MB_MEM_STAGING, 2 * per + 1, sizeof(uint16_t));
    w->h_i32 = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows * MB_MAX_TOP, sizeof(int32_t));
    w->h_f32 = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows * MB_MAX_TOP, sizeof(float));
    w->h_where = mb_zalloc(mem, MB_MEM_STAGING, 3 * (size_t)w->logit_rows, sizeof(int32_t));
    w->h_srows = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows, sizeof *w->h_srows);
    w->groups = mb_zalloc(mem, MB_MEM_OTHER, (size_t)groups, sizeof *w->groups);
    for (int64_t i = 0; m->weight_inside && w->h_ones != NULL && i < w->max_rows; i++)
        w->h_ones[i] = 1;
    if (!w->h_experts || !w->h_ids || !w->h_ones || !w->h_weights || !w->h_served || !w->usage || !w->layer_rows || !w->h_bad || !w->h_rows || !w->h_hidden || !w->h_u16 ||
        !w->h_i32 || !w->h_f32 || !w->h_where || !w->h_srows || !w->groups)
        return mb_error(MB_NO_MEMORY, "no memory for the host side of a step of %lld rows", (long long)w->max_rows);
    return MB_OK;
}

/* cos and sin for every position a sequence can reach; under longrope the long factors' table follows. */
static enum mb_status rope_tables(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_work *w = &e->work;
    int32_t tables = m->rope_switch > 0 ? 2 : 1;
    int64_t half = m->rope_dim / 2;

    w->rope_rows = e->o.plan->max_len + 1;
    size_t n = (size_t)(w->rope_rows * half * tables);
    float *cs = mb_alloc(e->o.mem, MB_MEM_STAGING, 2 * n, sizeof(float));
    if (cs == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the rotation tables of %lld positions", (long long)w->rope_rows);
    for (int32_t t = 0; t < tables; t++)
        mb_model_rope_table(m, t, w->rope_rows, cs + t * w->rope_rows * half, cs + n + (size_t)(t * w->rope_rows * half));
    const struct need need[] = {{&w->rope_cos, (int64_t)n * 4}, {&w->rope_sin, (int64_t)n * 4}};
    enum mb_status st = alloc_all(e, need, 2);
    struct mb_view v = mb_rows_of(w->rope_cos, w->rope_rows * tables, half, MB_F32);
    if (st == MB_OK)
        st = e->o.ops->copy_in(e->stream, v, cs);
    v.buf = w->rope_sin;
    if (st == MB_OK)
        st = e->o.ops->copy_in(e->stream, v, cs + n);
    mb_free(cs);
    return st;
}

/* The factors of the queries at every position, where they grow with it. */
static enum mb_status query_table(struct mb_engine *e)
{
    struct mb_work *w = &e->work;
    const struct need need = {&w->q_growth, w->rope_rows * 4};

    if (e->o.model->q_growth == 0)
        return MB_OK;
    float *f = mb_alloc(e->o.mem, MB_MEM_STAGING, (size_t)w->rope_rows, sizeof *f);
    if (f == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the query factors of %lld positions", (long long)w->rope_rows);
    mb_model_query_table(e->o.model, w->rope_rows, f);
    enum mb_status st = alloc_all(e, &need, 1);
    if (st == MB_OK)
        st = e->o.ops->copy_in(e->stream, mb_rows_of(w->q_growth, w->rope_rows, 1, MB_F32), f);
    mb_free(f);
    return st;
}

enum mb_status mb_work_create(struct mb_engine *e)
{
    struct mb_work *w = &e->work;
    int64_t per = (int64_t)e->o.model->vocab * 4;

    w->max_rows = e->o.plan->max_batch_rows;
    w->logit_rows = (int32_t)(w->max_rows < 256 ? w->max_rows : 256);
    while (w->logit_rows > 1 && w->logit_rows * per > LOGIT_BYTES)
        w->logit_rows /= 2;
    MB_TRY(device_rows(e));
    MB_TRY(device_head(e));
    MB_TRY(rope_tables(e));
    MB_TRY(query_table(e));
    return host_arrays(e);
}

void mb_work_destroy(struct mb_engine *e)
{
    struct mb_work *w = &e->work;
    struct mb_buf *bufs[] = {w->h_part, w->hn2, w->logits_part, w->x, w->h, w->raw, w->t, w->qkv, w->q, w->attn, w->gu, w->act, w->routed, w->qa, w->qa_h, w->qlat,
                             w->olat, w->kva, w->z, w->experts, w->weights, w->bad, w->sgate, w->ints, w->page_table,
                             w->mtp_in, w->mtp_x, w->rope_cos, w->rope_sin, w->q_growth, w->inside, w->e_gu, w->e_act, w->e_y, w->e_yf, w->head_f, w->hx, w->hn, w->logits, w->stats, w->best,
                             w->lbad, w->idx, w->drawn, w->target, w->lp, w->top_ids, w->top_lp, w->srows, w->sadj};
    void *host[] = {w->groups, w->h_experts, w->h_weights, w->h_served, w->usage, w->layer_rows, w->h_bad, w->h_rows, w->h_hidden, w->h_u16, w->h_i32, w->h_f32,
                    w->h_srows, w->h_ids, w->h_where, w->h_ones};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        e->o.ops->buf_free(bufs[i]);
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        mb_free(host[i]);
    memset(w, 0, sizeof *w);
}

/* Room for the rows of this rank's experts. They depend on the routing, so the buffers grow by doubling. */
enum mb_status mb_work_experts(struct mb_engine *e, int64_t rows)
{
    struct mb_work *w = &e->work;
    const struct mb_model *m = e->o.model;
    int64_t es = mb_dtype_size(e->o.path), cap = w->e_rows ? w->e_rows : 64;
    int64_t f = mb_part_width(m->expert_ffn, e->t.serves ? e->t.at.x : 0, e->t.l.etp);
    bool f32_first = (e->expert_lora || e->t.l.etp > 1) && e->o.path != MB_F32;

    if (rows <= w->e_rows)
        return MB_OK;
    while (cap < rows)
        cap *= 2;
    e->o.ops->buf_free(w->e_gu);
    e->o.ops->buf_free(w->e_act);
    e->o.ops->buf_free(w->e_y);
    e->o.ops->buf_free(w->e_yf);
    w->e_gu = w->e_act = w->e_y = w->e_yf = NULL;
    w->e_rows = 0;
    const struct need n[] = {{&w->e_gu, cap * 2 * f * 4}, {&w->e_act, cap * f * es}, {&w->e_y, cap * m->hidden * es},
                             {&w->e_yf, f32_first ? cap * m->hidden * 4 : 0}};
    MB_TRY(alloc_all(e, n, 4));
    w->e_rows = cap;
    return MB_OK;
}

/* The integers of this step's batch, of the own part; with sequence parallelism also of all rows, in the order of parts. */
enum mb_status mb_work_upload(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;
    const struct mb_ops *ops = e->o.ops;
    uint64_t R = (uint64_t)e->work.max_rows * 4;
    const int32_t *src[7] = {b->p_ids, b->p_pos, b->p_rope, b->p_slot, b->p_seq, b->g_pos, b->g_seq};
    struct mb_view *dst[7] = {&b->d_ids, &b->d_pos, &b->d_rope, &b->d_slot, &b->d_row_seq, &b->d_g_pos, &b->d_g_seq};

    for (int i = 0; i < (e->t.l.sp > 1 ? 7 : 5); i++) {
        *dst[i] = mb_view_of(e->work.ints, (uint64_t)i * R, i < 5 ? b->n_part : b->rows, 1, MB_I32);
        if (dst[i]->rows > 0)
            MB_TRY(ops->copy_in(e->stream, *dst[i], src[i]));
    }
    b->d_page_table = mb_view_of(e->work.page_table, 0, b->seqs, b->max_pages, MB_I32);
    return ops->copy_in(e->stream, b->d_page_table, b->page_table);
}
