/* Checks and launches of the operations that choose: experts, terms of a combine, tokens. */
#include "cuda/select.h"

#include "cuda/cuda.h"

/* ---------------------------------------------------------------- fold */
enum mb_status mb_cuda_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    MB_TRY(mb_check_fold(out, a));
    if (out.rows == 0 || out.cols == 0)
        return MB_OK;
    struct mb_fold_mats m = {mb_cuda_mat(a->item_off), mb_cuda_mat(a->src), mb_cuda_mat(a->pos),
                             mb_cuda_mat(a->weight),   mb_cuda_mat(a->y),   mb_cuda_mat(a->inner)};
    return mb_cuda_call("fold", mb_k_fold(s->s, mb_cuda_mat(out), &m, mb_cuda_flag(s, MB_CUDA_FOLD)));
}

/* ---------------------------------------------------------------- route */
enum mb_status mb_cuda_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights, struct mb_view bad,
                             struct mb_view z, struct mb_view bias, const struct mb_router *r)
{
    MB_TRY(mb_check_route(experts, weights, bad, z, bias, r));
    if (r->experts > MB_ROUTE_MOST)
        return mb_error(MB_LAYOUT, "a GPU chooses among %d experts at most, not %d; use --backend cpu", MB_ROUTE_MOST, r->experts);
    return mb_cuda_call("route", mb_k_route(s->s, mb_cuda_mat(experts), mb_cuda_mat(weights), mb_cuda_mat(bad), mb_cuda_mat(z),
                                            mb_cuda_mat(bias), r));
}

/* ---------------------------------------------------------------- logits */
enum mb_status mb_cuda_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best, struct mb_view bad,
                                   struct mb_view z)
{
    MB_TRY(mb_check_logit_stats(stats, best, bad, z));
    return mb_cuda_call("logit_stats", mb_k_logit_stats(s->s, mb_cuda_mat(stats), mb_cuda_mat(best), mb_cuda_mat(bad), mb_cuda_mat(z)));
}

enum mb_status mb_cuda_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view ids)
{
    MB_TRY(mb_check_logprob(out, z, stats, ids));
    return mb_cuda_call("logprob", mb_k_logprob(s->s, mb_cuda_mat(out), mb_cuda_mat(z), mb_cuda_mat(stats), mb_cuda_mat(ids),
                                                mb_cuda_flag(s, MB_CUDA_LOGPROB)));
}

enum mb_status mb_cuda_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z, struct mb_view stats)
{
    MB_TRY(mb_check_top(ids, logprobs, z, stats));
    return mb_cuda_call("top", mb_k_top(s->s, mb_cuda_mat(ids), mb_cuda_mat(logprobs), mb_cuda_mat(z), mb_cuda_mat(stats)));
}

/* ---------------------------------------------------------------- sample */
enum mb_status mb_cuda_sample(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view rows,
                              struct mb_view adjust, struct mb_view masks)
{
    void *work;

    MB_TRY(mb_check_sample(out, z, stats, rows, adjust, masks));
    if (z.rows == 0)
        return MB_OK;
    int32_t blocks = z.rows < s->dev->processors ? (int32_t)z.rows : s->dev->processors;
    MB_TRY(mb_cuda_scratch(s, (uint64_t)blocks * (uint64_t)z.cols * sizeof(float), &work));
    struct mb_sample_mats a = {mb_cuda_mat(out),  mb_cuda_mat(z),      mb_cuda_mat(stats),
                               mb_cuda_mat(rows), mb_cuda_mat(adjust), mb_cuda_mat(masks), work};
    return mb_cuda_call("sample", mb_k_sample(s->s, &a, blocks, mb_cuda_flag(s, MB_CUDA_SAMPLE)));
}
