/* Device and host buffers of a step. */
#include <string.h>
#include "base/log.h"
#include "engine/step.h"

#define LOGIT_BYTES (64 << 20) /* of logits at a time */

struct need {
    struct mb_buf **buf;
    int64_t bytes;
};

static enum mb_status alloc_all(const struct mb_context *c, const struct need *n, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        if (n[i].bytes > 0)
            MB_TRY(c->o.ops->buf_alloc(c->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)n[i].bytes, n[i].buf));
    }
    return MB_OK;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Widths of this rank's share; rows: those of its part may be all of a step, the own ones a share of them. */
static enum mb_status device_rows(const struct mb_context *c, struct mb_work *w)
{
    const struct mb_model *m = c->o.model;
    const struct mb_part_heads *s = &c->t.h;
    int32_t t = c->t.attends ? c->t.g.tp_rank : 0;
    int64_t R = c->t.attends ? w->max_rows : 0, H = m->hidden, es = mb_dtype_size(c->o.path), tp = c->t.g.tp_size;
    int64_t own = (R + tp - 1) / tp, q = (int64_t)s->heads * m->head_dim, v = (int64_t)s->heads * m->v_dim;
    int64_t qkv = m->mla ? q : q + (int64_t)s->kv_heads * (m->head_dim + m->v_dim);
    int64_t f = max64(mb_part_width(m->ffn, t, c->t.g.tp_size), mb_part_width(m->shared_ffn, t, c->t.g.tp_size)), mla = m->mla;
    const struct need n[] = {
        {&w->x, own * H * 4}, {&w->h, own * H * es}, {&w->raw, own * H * 4}, {&w->t, own * H * 4}, {&w->routed, own * H * 4},
        {&w->h_part, tp > 1 ? R * H * es : 0}, {&w->qkv, R * qkv * 4}, {&w->q, R * q * es}, {&w->attn, R * v * es},
        {&w->gu, R * 2 * f * 4}, {&w->act, R * f * es},
        {&w->qa, mla * R * m->q_lora * 4}, {&w->qa_h, mla * R * m->q_lora * es},
        {&w->qlat, mla * R * s->heads * (m->kv_lora + m->rope_mla) * es},
        {&w->olat, mla * R * s->heads * m->kv_lora * es}, {&w->kva, mla * R * (m->kv_lora + m->rope_mla) * 4},
        {&w->z, own * m->router.experts * 4}, {&w->experts, own * m->router.k * 4}, {&w->weights, own * m->router.k * 4},
        {&w->head_f, mla && c->o.n_adapters > 0 ? R * s->heads * max64(m->kv_lora, m->v_dim) * 4 : 0},
        {&w->mtp_in, mb_mtp_here(c) * own * 2 * H * es}, {&w->mtp_x, mb_mtp_here(c) * own * H * 4},
        {&w->bad, own * 4}, {&w->sgate, own * 4}, {&w->inside, m->weight_inside ? own * H * es : 0}, {&w->ints, (c->t.g.sp_size > 1 ? 7 : 5) * R * 4},
        {&w->page_table, R > 0 ? (int64_t)c->o.plan->max_num_seqs * c->o.plan->max_pages_per_seq * 4 : 0},
    };
    return alloc_all(c, n, sizeof n / sizeof n[0]);
}

/* Logits: of all columns where the rank samples, of its own columns where a group divides them. */
static enum mb_status device_head(const struct mb_context *c, struct mb_work *w)
{
    const struct mb_model *m = c->o.model;
    int64_t P = c->t.attends && c->t.last_stage ? w->logit_rows : 0, es = mb_dtype_size(c->o.path), v0, v1;
    int64_t S = c->t.g.sp_rank == 0 && c->t.g.tp_rank == 0 ? P : 0;

    mb_part_vocab(m->vocab, c->t.attends ? c->t.g.tp_rank : 0, c->t.g.tp_size, &v0, &v1);
    const struct need n[] = {
        {&w->hx, P * m->hidden * 4}, {&w->hn, P * m->hidden * es}, {&w->idx, P * 4},
        {&w->hn2, c->t.g.tp_size > 1 ? P * m->hidden * es : 0}, {&w->logits_part, c->t.g.att != NULL ? P * (v1 - v0) * 4 : 0},
        {&w->logits, S * m->vocab * 4}, {&w->stats, S * 8},
        {&w->best, S * 4}, {&w->lbad, S * 4}, {&w->drawn, S * 4}, {&w->target, S * 4}, {&w->lp, S * 4},
        {&w->top_ids, S * MB_MAX_TOP * 4}, {&w->top_lp, S * MB_MAX_TOP * 4},
        {&w->srows, S * (int64_t)sizeof(struct mb_sample_row)}, {&w->sadj, S > 0 ? 64 * (int64_t)sizeof(struct mb_sample_adjust) : 0},
    };
    w->adj_cap = S > 0 ? 64 : 0;
    return alloc_all(c, n, sizeof n / sizeof n[0]);
}

static enum mb_status host_arrays(const struct mb_context *c, struct mb_work *w)
{
    const struct mb_model *m = c->o.model;
    struct mb_mem *mem = c->o.mem;
    size_t routes = (size_t)((m->moe_layers + c->mtp) * w->max_rows * m->router.k), per = (size_t)(m->moe_layers * m->router.k);
    size_t row = (size_t)max64(max64((int64_t)w->logit_rows * m->vocab * (c->o.save_logits != MB_LOGITS_NONE),
                                     (int64_t)m->hidden * (c->o.save_hidden ? m->layers + 1 : 1)), (int64_t)per);
    size_t planes = c->o.save_hidden ? (size_t)(m->layers + 1) * (size_t)(w->max_rows * m->hidden) : 0;
    int64_t groups = max64(m->heads, (int64_t)m->router.experts * c->t.g.etp_size * (c->t.l.lane_scope ? c->t.g.pp_size : 1)) + 1;

    w->h_experts = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(int32_t));
    w->h_ids = mb_zalloc(mem, MB_MEM_ACTIVATIONS, c->t.l.lane_scope ? (size_t)(w->max_rows * m->router.k) + 1 : 1, sizeof(int32_t));
    w->h_weights = mb_zalloc(mem, MB_MEM_ACTIVATIONS, routes + 1, sizeof(float));
    w->h_served = mb_zalloc(mem, MB_MEM_ACTIVATIONS, c->o.save_routing ? routes + 1 : 1, sizeof(int32_t));
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
    w->mtp_ids = mb_zalloc(mem, MB_MEM_REQUESTS, mb_mtp_here(c) ? 2 * (size_t)w->max_rows : 1, sizeof(int32_t));
    w->mtp_tag = mb_zalloc(mem, MB_MEM_REQUESTS, mb_mtp_here(c) ? (size_t)w->max_rows : 1, sizeof(uint16_t));
    if (!w->mtp_ids || !w->mtp_tag || !w->h_experts || !w->h_ids || !w->h_ones || !w->h_weights || !w->h_served || !w->h_bad || !w->h_rows || !w->h_hidden || !w->h_u16 ||
        !w->h_i32 || !w->h_f32 || !w->h_where || !w->h_srows || !w->groups)
        return mb_error(MB_NO_MEMORY, "no memory for the host side of a step of %lld rows", (long long)w->max_rows);
    return MB_OK;
}

enum mb_status mb_work_create(const struct mb_context *c, struct mb_work *w)
{
    int64_t per = (int64_t)c->o.model->vocab * 4;

    w->max_rows = c->o.plan->max_batch_rows;
    w->logit_rows = (int32_t)(w->max_rows < 256 ? w->max_rows : 256);
    while (w->logit_rows > 1 && w->logit_rows * per > LOGIT_BYTES)
        w->logit_rows /= 2;
    MB_TRY(device_rows(c, w));
    MB_TRY(device_head(c, w));
    return host_arrays(c, w);
}

void mb_work_destroy(const struct mb_context *c, struct mb_work *w)
{
    struct mb_buf *bufs[] = {w->h_part, w->hn2, w->logits_part, w->x, w->h, w->raw, w->t, w->qkv, w->q, w->attn, w->gu, w->act, w->routed, w->qa, w->qa_h, w->qlat,
                             w->olat, w->kva, w->z, w->experts, w->weights, w->bad, w->sgate, w->ints, w->page_table,
                             w->mtp_in, w->mtp_x, w->lora_x, w->lora_y, w->lora_z, w->lora_h, w->inside, w->e_gu, w->e_act, w->e_y, w->e_yf, w->head_f, w->hx, w->hn, w->logits, w->stats, w->best,
                             w->lbad, w->idx, w->drawn, w->target, w->lp, w->top_ids, w->top_lp, w->srows, w->sadj};
    void *host[] = {w->groups, w->h_experts, w->h_weights, w->h_served, w->h_bad, w->h_rows, w->h_hidden, w->h_u16, w->h_i32, w->h_f32,
                    w->h_srows, w->h_ids, w->h_where, w->h_ones, w->mtp_ids, w->mtp_tag};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++)
        c->o.ops->buf_free(bufs[i]);
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        mb_free(host[i]);
    memset(w, 0, sizeof *w);
}

/* Room for the rows of this rank's experts. They depend on the routing, so the buffers grow by doubling. */
enum mb_status mb_work_experts(const struct mb_context *c, struct mb_work *w, int64_t rows)
{
    const struct mb_model *m = c->o.model;
    int64_t es = mb_dtype_size(c->o.path), cap = w->e_rows ? w->e_rows : 64;
    int64_t f = mb_part_width(m->expert_ffn, c->t.serves ? c->t.g.etp_rank : 0, c->t.g.etp_size);
    bool f32_first = (c->expert_lora || c->t.g.etp_size > 1) && c->o.path != MB_F32;

    if (rows <= w->e_rows)
        return MB_OK;
    while (cap < rows)
        cap *= 2;
    c->o.ops->buf_free(w->e_gu);
    c->o.ops->buf_free(w->e_act);
    c->o.ops->buf_free(w->e_y);
    c->o.ops->buf_free(w->e_yf);
    w->e_gu = w->e_act = w->e_y = w->e_yf = NULL;
    w->e_rows = 0;
    const struct need n[] = {{&w->e_gu, cap * 2 * f * 4}, {&w->e_act, cap * f * es}, {&w->e_y, cap * m->hidden * es},
                             {&w->e_yf, f32_first ? cap * m->hidden * 4 : 0}};
    MB_TRY(alloc_all(c, n, 4));
    w->e_rows = cap;
    return MB_OK;
}

/* The widest input or output here of a weight that a term is added to. */
enum mb_status mb_work_lora(const struct mb_context *c, struct mb_work *w)
{
    const struct mb_model *m = c->o.model;
    int32_t t = c->t.attends ? c->t.g.tp_rank : 0, x = c->t.serves ? c->t.g.etp_rank : 0, tp = c->t.g.tp_size;
    int64_t wide = m->hidden, R = w->max_rows, r = 0;
    const int64_t width[] = {(int64_t)c->t.h.heads * m->head_dim, (int64_t)c->t.h.heads * m->v_dim, mb_part_width(m->ffn, t, tp),
                         mb_part_width(m->shared_ffn, t, tp), mb_part_width(m->expert_ffn, x, c->t.g.etp_size), m->q_lora,
                         m->kv_lora + m->rope_mla};
    if (c->o.n_adapters == 0)
        return MB_OK;
    for (size_t i = 0; i < sizeof width / sizeof width[0]; i++)
        wide = width[i] > wide ? width[i] : wide;
    for (int32_t i = 0; i < c->o.n_adapters; i++)
        r = c->lora[i].rank > r ? c->lora[i].rank : r;
    MB_TRY(c->o.ops->buf_alloc(c->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * wide * 4), &w->lora_x));
    MB_TRY(c->o.ops->buf_alloc(c->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * wide * 4), &w->lora_y));
    MB_TRY(c->o.ops->buf_alloc(c->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * r * 4 * MB_MAX_LEAVES), &w->lora_z));
    return c->o.ops->buf_alloc(c->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * r * 4), &w->lora_h);
}

/* The integers of this step's batch, of the own part; with sequence parallelism also of all rows, in the order of parts. */
enum mb_status mb_work_upload(struct mb_pass *p)
{
    struct mb_batch *b = p->batch;
    const struct mb_ops *ops = p->c->o.ops;
    uint64_t R = (uint64_t)p->work->max_rows * 4;
    const int32_t *src[7] = {b->part.ids, b->part.pos, b->part.rope, b->part.slot, b->part.seq, b->order.pos, b->order.seq};
    struct mb_view *dst[7] = {&b->dev.ids, &b->dev.pos, &b->dev.rope, &b->dev.slot, &b->dev.seq, &b->dev.order_pos, &b->dev.order_seq};

    for (int i = 0; i < (p->c->t.g.sp_size > 1 ? 7 : 5); i++) {
        *dst[i] = mb_view_of(p->work->ints, (uint64_t)i * R, i < 5 ? b->part.n : b->rows, 1, MB_I32);
        if (dst[i]->rows > 0)
            MB_TRY(ops->copy_in(p->c->stream, *dst[i], src[i]));
    }
    b->dev.page_table = mb_view_of(p->work->page_table, 0, b->seqs, b->max_pages, MB_I32);
    return ops->copy_in(p->c->stream, b->dev.page_table, b->page_table);
}
