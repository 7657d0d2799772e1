/* Linear attention: convolution and delta rule. */
#include <math.h>
#include "cuda/cuda_kv.h"

enum { MOST_DK = 1024 }; /* a thread for each 32 rows of a column */

enum mb_status mb_cuda_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                            struct mb_view state, struct mb_view slot, struct mb_view pos)
{
    MB_TRY(mb_cuda_want("conv", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("conv", "x", x, out.rows, out.cols, MB_F32));
    MB_TRY(mb_cuda_want("conv", "w", w, -1, out.cols, MB_F32));
    MB_TRY(mb_cuda_want("conv", "state", state, -1, (w.rows - 1) * out.cols, MB_F32));
    if (w.rows < 1 || w.rows > MB_MAX_TAPS)
        return mb_error(MB_BUG, "conv: %lld taps, wanted 1 to %d", (long long)w.rows, MB_MAX_TAPS);
    MB_TRY(mb_cuda_want("conv", "slot", slot, out.rows, 1, MB_I32));
    MB_TRY(mb_cuda_want("conv", "pos", pos, out.rows, 1, MB_I32));
    struct mb_conv_task t = {mb_cuda_mat(out),
                             mb_cuda_mat(x),
                             mb_cuda_mat(w),
                             mb_cuda_mat(state),
                             mb_cuda_mat(slot),
                             mb_cuda_mat(pos),
                             mb_cuda_flag(s, MB_CUDA_CONV)};
    return mb_cuda_call("conv", mb_k_conv(s->s, &t));
}

static enum mb_status check_delta(struct mb_view out, const struct mb_delta_args *a)
{
    int64_t M = out.rows, V = (int64_t)a->value_heads * a->dv, K = (int64_t)a->key_heads * a->dk;

    if (a->key_heads < 1 || a->value_heads < 1 || a->dk < 1 || a->dv < 1 || a->per < 1 || a->first < 0 ||
        (a->first + a->value_heads - 1) / a->per >= a->key_heads)
        return mb_error(MB_BUG, "delta: %d value heads from %d on, %d a key head, on %d key heads",
                        a->value_heads, a->first, a->per, a->key_heads);
    MB_TRY(mb_cuda_want_float("delta", "out", out, -1, V));
    MB_TRY(mb_cuda_want("delta", "x", a->x, M, 2 * K + V, MB_F32));
    MB_TRY(mb_cuda_want("delta", "z", a->z, M, V, MB_F32));
    MB_TRY(mb_cuda_want("delta", "b", a->b, M, a->value_heads, MB_F32));
    MB_TRY(mb_cuda_want("delta", "a", a->a, M, a->value_heads, MB_F32));
    MB_TRY(mb_cuda_want("delta", "a_log", a->a_log, 1, a->value_heads, MB_F32));
    MB_TRY(mb_cuda_want("delta", "dt", a->dt, 1, a->value_heads, MB_F32));
    MB_TRY(mb_cuda_want("delta", "norm", a->norm, 1, a->dv, MB_F32));
    MB_TRY(mb_cuda_want("delta", "slot", a->slot, M, 1, MB_I32));
    MB_TRY(mb_cuda_want("delta", "pos", a->pos, M, 1, MB_I32));
    if (a->dk > MOST_DK)
        return mb_error(MB_LAYOUT, "key heads of %d (%d at most on a GPU); use --backend cpu", a->dk,
                        MOST_DK);
    return mb_cuda_want("delta", "state", a->state, -1, a->value_heads * mb_delta_tile(a->dk, a->dv), MB_F32);
}

enum mb_status mb_cuda_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a)
{
    void *room;

    MB_TRY(check_delta(out, a));
    if (out.rows == 0)
        return MB_OK;
    uint64_t M = (uint64_t)out.rows, rates = 2 * M * (uint64_t)a->value_heads * sizeof(float);
    MB_TRY(mb_cuda_scratch(s, rates + (M + 2) * sizeof(int32_t), &room));
    struct mb_delta_task t = {.out = mb_cuda_mat(out),
                              .x = mb_cuda_mat(a->x),
                              .z = mb_cuda_mat(a->z),
                              .b = mb_cuda_mat(a->b),
                              .a = mb_cuda_mat(a->a),
                              .a_log = mb_cuda_mat(a->a_log),
                              .dt = mb_cuda_mat(a->dt),
                              .norm = mb_cuda_mat(a->norm),
                              .state = mb_cuda_mat(a->state),
                              .slot = mb_cuda_mat(a->slot),
                              .pos = mb_cuda_mat(a->pos),
                              .key_heads = a->key_heads,
                              .value_heads = a->value_heads,
                              .dk = a->dk,
                              .dv = a->dv,
                              .per = a->per,
                              .first = a->first,
                              .eps = a->eps,
                              .scale = (float)(1 / sqrt((double)a->dk)),
                              .rate = room,
                              .runs = (int32_t *)(void *)((unsigned char *)room + rates),
                              .processors = s->dev->processors,
                              .flag = mb_cuda_flag(s, MB_CUDA_DELTA)};
    return mb_cuda_call("delta", mb_k_delta(s->s, &t));
}
