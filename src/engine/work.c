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

static enum mb_status device_rows(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_work *w = &e->work;
    int64_t R = w->max_rows, H = m->hidden, es = mb_dtype_size(e->o.path);
    int64_t q = (int64_t)m->heads * m->head_dim, v = (int64_t)m->heads * m->v_dim;
    int64_t qkv = m->mla ? q : q + (int64_t)m->kv_heads * (m->head_dim + m->v_dim);
    int64_t f = max64(m->ffn, m->shared_ffn), mla = m->mla;
    const struct need n[] = {
        {&w->x, R * H * 4}, {&w->h, R * H * es}, {&w->raw, R * H * 4}, {&w->t, R * H * 4}, {&w->routed, R * H * 4},
        {&w->qkv, R * qkv * 4}, {&w->q, R * q * es}, {&w->attn, R * v * es},
        {&w->gu, R * 2 * f * 4}, {&w->act, R * f * es},
        {&w->qa, mla * R * m->q_lora * 4}, {&w->qa_h, mla * R * m->q_lora * es},
        {&w->qlat, mla * R * m->heads * (m->kv_lora + m->rope_mla) * es},
        {&w->olat, mla * R * m->heads * m->kv_lora * es}, {&w->kva, mla * R * (m->kv_lora + m->rope_mla) * 4},
        {&w->z, R * m->router.experts * 4}, {&w->experts, R * m->router.k * 4}, {&w->weights, R * m->router.k * 4},
        {&w->head_f, mla && e->o.n_adapters > 0 ? R * m->heads * max64(m->kv_lora, m->v_dim) * 4 : 0},
        {&w->mtp_idx, e->mtp * R * 4}, {&w->mtp_in, e->mtp * R * 2 * H * es}, {&w->mtp_x, e->mtp * R * H * 4},
        {&w->bad, R * 4}, {&w->sgate, R * 4}, {&w->ints, 5 * R * 4},
        {&w->page_table, (int64_t)e->o.plan->max_num_seqs * e->batch.max_pages * 4},
    };
    return alloc_all(e, n, sizeof n / sizeof n[0]);
}

static enum mb_status device_head(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_work *w = &e->work;
    int64_t P = w->logit_rows, es = mb_dtype_size(e->o.path);
    const struct need n[] = {
        {&w->hx, P * m->hidden * 4}, {&w->hn, P * m->hidden * es}, {&w->logits, P * m->vocab * 4}, {&w->stats, P * 8},
        {&w->best, P * 4}, {&w->lbad, P * 4}, {&w->idx, P * 4}, {&w->drawn, P * 4}, {&w->target, P * 4}, {&w->lp, P * 4},
        {&w->top_ids, P * MB_MAX_TOP * 4}, {&w->top_lp, P * MB_MAX_TOP * 4},
        {&w->srows, P * (int64_t)sizeof(struct mb_sample_row)}, {&w->sadj, 64 * (int64_t)sizeof(struct mb_sample_adjust)},
    };
    w->adj_cap = 64;
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
    int64_t groups = max64(m->heads, m->router.experts) + 1;

    w->h_experts = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(int32_t));
    w->h_weights = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(float));
    w->h_served = mb_zalloc(mem, MB_MEM_ACTIVATIONS, e->o.save_routing ? routes : 1, sizeof(int32_t));
    w->usage = mb_zalloc(mem, MB_MEM_OTHER, (size_t)((m->moe_layers + 1) * m->router.experts + 1), sizeof(int64_t));
    w->h_bad = mb_zalloc(mem, MB_MEM_ACTIVATIONS, (size_t)w->max_rows, sizeof(int32_t));
    w->h_rows = mb_zalloc(mem, MB_MEM_STAGING, row + 1, sizeof(float));
    w->h_hidden = mb_zalloc(mem, MB_MEM_STAGING, planes + 1, sizeof(float));
    w->h_u16 = mb_zalloc(mem, MB_MEM_STAGING, 2 * per + 1, sizeof(uint16_t));
    w->h_i32 = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows * (4 + MB_MAX_TOP), sizeof(int32_t));
    w->h_f32 = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows * (1 + MB_MAX_TOP), sizeof(float));
    w->h_srows = mb_zalloc(mem, MB_MEM_STAGING, (size_t)w->logit_rows, sizeof *w->h_srows);
    w->groups = mb_zalloc(mem, MB_MEM_OTHER, (size_t)groups, sizeof *w->groups);
    if (!w->h_experts || !w->h_weights || !w->h_served || !w->usage || !w->h_bad || !w->h_rows || !w->h_hidden || !w->h_u16 || !w->h_i32 || !w->h_f32 ||
        !w->h_srows || !w->groups)
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
    return host_arrays(e);
}

void mb_work_destroy(struct mb_engine *e)
{
    struct mb_work *w = &e->work;
    struct mb_buf *bufs[] = {w->x, w->h, w->raw, w->t, w->qkv, w->q, w->attn, w->gu, w->act, w->routed, w->qa, w->qa_h, w->qlat,
                             w->olat, w->kva, w->z, w->experts, w->weights, w->bad, w->sgate, w->ints, w->page_table,
                             w->mtp_idx, w->mtp_in, w->mtp_x, w->rope_cos, w->rope_sin, w->e_gu, w->e_act, w->e_y, w->e_yf, w->head_f, w->hx, w->hn, w->logits, w->stats, w->best,
                             w->lbad, w->idx, w->drawn, w->target, w->lp, w->top_ids, w->top_lp, w->srows, w->sadj};
    void *host[] = {w->groups, w->h_experts, w->h_weights, w->h_served, w->usage, w->h_bad, w->h_rows, w->h_hidden, w->h_u16, w->h_i32, w->h_f32,
                    w->h_srows, w->adj.v};
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
    const struct need n[] = {{&w->e_gu, cap * 2 * m->expert_ffn * 4}, {&w->e_act, cap * m->expert_ffn * es}, {&w->e_y, cap * m->hidden * es},
                             {&w->e_yf, e->expert_lora && e->o.path != MB_F32 ? cap * m->hidden * 4 : 0}};
    MB_TRY(alloc_all(e, n, 4));
    w->e_rows = cap;
    return MB_OK;
}

/* The integers of this step's batch. */
enum mb_status mb_work_upload(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;
    const struct mb_ops *ops = e->o.ops;
    uint64_t R = (uint64_t)e->work.max_rows * 4;
    const int32_t *src[5] = {b->ids, b->pos, b->rope, b->slot, b->row_seq};
    struct mb_view *dst[5] = {&b->d_ids, &b->d_pos, &b->d_rope, &b->d_slot, &b->d_row_seq};

    for (int i = 0; i < 5; i++) {
        *dst[i] = mb_view_of(e->work.ints, (uint64_t)i * R, b->rows, 1, MB_I32);
        MB_TRY(ops->copy_in(e->stream, *dst[i], src[i]));
    }
    b->d_page_table = mb_view_of(e->work.page_table, 0, b->seqs, b->max_pages, MB_I32);
    return ops->copy_in(e->stream, b->d_page_table, b->page_table);
}
