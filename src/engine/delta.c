/* Gated DeltaNet: linear attention whose past is a state of fixed size for each sequence that runs. Formulas:
 * doc/models, Qwen3-Next; order of operations: doc/numerics, Recurrent state. */
#include "engine/count.h"
#include "engine/step.h"

enum mb_status mb_states_create(struct mb_context *c)
{
    struct mb_room_home h = mb_home(c);

    MB_TRY(mb_room_alloc(&h, MB_SB_CONV_STATE, c->rooms.bytes[MB_SB_CONV_STATE], NULL, &c->states.conv));
    return mb_room_alloc(&h, MB_SB_DELTA_STATE, c->rooms.bytes[MB_SB_DELTA_STATE], NULL, &c->states.delta);
}

void mb_states_destroy(struct mb_context *c)
{
    c->o.ops->buf_free(c->states.conv);
    c->o.ops->buf_free(c->states.delta);
    c->states = (struct mb_states){0};
}

/* States of layer l, one a row. */
static struct mb_view states_of(const struct mb_context *c, int32_t l, struct mb_buf *b, int64_t cols)
{
    int64_t slots = c->o.plan->max_num_seqs, before = 0;

    for (int32_t i = c->t.first_layer; i < l; i++)
        before += mb_is_linear(c->o.model, i);
    return mb_view_of(b, (uint64_t)(before * slots * cols * 4), slots, cols, MB_F32);
}

/* q, k, v behind the convolution: x [rows, 2 K + V]. */
static enum mb_status convolve(struct mb_pass *p, int32_t l, struct mb_view x, struct mb_view in)
{
    const struct mb_context *c = p->c;
    struct mb_view state = states_of(c, l, c->states.conv, (c->o.model->delta.taps - 1) * x.cols);

    return c->o.ops->conv(c->stream, x, in, c->w.layer[l].delta.conv.view, state, p->batch->dev.all_state,
                          p->batch->dev.all_pos);
}

/* attn [rows of the batch, V here] = the heads here over h [rows of the batch]. */
static enum mb_status run_heads(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view attn)
{
    const struct mb_context *c = p->c;
    const struct mb_delta_shape *d = &c->o.model->delta;
    const struct mb_part_heads *s = &c->t.d;
    const struct mb_delta *y = &c->w.layer[l].delta;
    int64_t M = h.rows, n = s->heads, V = n * d->dv, C = 2 * (int64_t)s->kv_heads * d->dk + V;
    int32_t per = d->value_heads / d->key_heads;
    struct mb_view all = mb_rows(p, MB_SB_QKV, M, C + V + 2 * n, MB_F32),
                   x = mb_rows(p, MB_SB_DELTA, M, C, MB_F32);
    const struct mb_gemm_group g[2] = {{.w = y->qkvz, .rows = M}, {.w = y->ba, .rows = M, .out_col = C + V}};

    MB_TRY(c->o.ops->gemm(c->stream, all, h, g, 2));
    MB_TRY(convolve(p, l, x, mb_view_cols(all, 0, C)));
    const struct mb_delta_args a = {.x = x,
                                    .z = mb_view_cols(all, C, V),
                                    .b = mb_view_cols(all, C + V, n),
                                    .a = mb_view_cols(all, C + V + n, n),
                                    .a_log = y->a_log.view,
                                    .dt = y->dt.view,
                                    .norm = y->norm.view,
                                    .state =
                                        states_of(c, l, c->states.delta, n * mb_delta_tile(d->dk, d->dv)),
                                    .slot = p->batch->dev.all_state,
                                    .pos = p->batch->dev.all_pos,
                                    .key_heads = s->kv_heads,
                                    .value_heads = s->heads,
                                    .dk = d->dk,
                                    .dv = d->dv,
                                    .per = per,
                                    .first = s->head0 - s->kv0 * per,
                                    .eps = c->o.model->norm_eps};
    mb_count_delta(p->tally, &a, M);
    return c->o.ops->delta(c->stream, attn, &a);
}

/* The attention group's split of all rows: part after part, and in a part as its tensor ranks have them. at: room for its ranks + 1. */
static struct mb_split group_split(const struct mb_pass *p, int64_t *at)
{
    const struct mb_groups *g = &p->c->t.g;
    const struct mb_batch_order *o = &p->batch->order;

    if (g->sp == NULL)
        return mb_tp_split(p, at);
    for (int32_t q = 0; q < g->sp_size; q++)
        for (int32_t t = 0; t < g->tp_size; t++)
            at[q * g->tp_size + t] = o->at[q] + mb_share(o->at[q + 1] - o->at[q], t, g->tp_size);
    at[g->att_size] = p->batch->rows;
    return (struct mb_split){g->att, g->att_size, g->att_rank, at};
}

/* x in the batch's order, by dev.place, or back in the order of parts, by dev.row. Where there are no parts it is x. */
static enum mb_status turn(struct mb_pass *p, struct mb_view by, struct mb_view x, struct mb_view *out)
{
    *out = x;
    if (p->c->t.g.sp == NULL)
        return MB_OK;
    *out = mb_rows(p, MB_SB_TURNED, x.rows, x.cols, x.dtype);
    return p->c->o.ops->gather(p->c->stream, *out, x, by);
}

enum mb_status mb_delta_run(struct mb_pass *p, int32_t l, struct mb_view own, struct mb_view t)
{
    const struct mb_context *c = p->c;
    const struct mb_layer *y = &c->w.layer[l];
    int64_t at[MB_MAX_LEAVES + 1], rows = p->batch->rows;
    struct mb_split s = group_split(p, at);
    struct mb_view all = own, h, attn = mb_rows(p, MB_SB_ATTN, rows, (int64_t)c->t.d.heads * c->o.model->delta.dv, c->o.path);

    if (s.n > 1) {
        all = mb_rows(p, MB_SB_H_PART, rows, own.cols, own.dtype);
        MB_TRY(mb_allgather_rows(p, &s, all, own, l));
    }
    MB_TRY(turn(p, p->batch->dev.place, all, &h));
    MB_TRY(run_heads(p, l, h, attn));
    MB_TRY(turn(p, p->batch->dev.row, attn, &h));
    return mb_gemm_reduce_scatter(p, &s, &y->o, t, h, y->o_b.view, l);
}
