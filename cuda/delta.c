/* Linear attention: convolution and delta rule. */
#include <math.h>
#include "cuda/cuda_kv.h"

enum { MOST_DK = 1024 }; /* a thread for each 32 rows of a column */

enum mb_status mb_cuda_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                            struct mb_view state, struct mb_view slot, struct mb_view pos)
{
    MB_TRY(mb_check_conv(out, x, w, state, slot, pos));
    struct mb_conv_task t = {mb_cuda_mat(out),
                             mb_cuda_mat(x),
                             mb_cuda_mat(w),
                             mb_cuda_mat(state),
                             mb_cuda_mat(slot),
                             mb_cuda_mat(pos),
                             mb_cuda_flag(s, MB_CUDA_CONV)};
    return mb_cuda_call("conv", mb_k_conv(s->s, &t));
}


enum mb_status mb_cuda_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a)
{
    void *room;

    MB_TRY(mb_check_delta(out, a));
    if (a->dk > MOST_DK)
        return mb_error(MB_LAYOUT, "key heads of %d (%d at most on a GPU); use --backend cpu", a->dk, MOST_DK);
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
