/* Checks and launches of the operations that choose: experts, terms of a combine, tokens. */
#include "cuda/select.h"

#include "cuda/cuda.h"

/* ---------------------------------------------------------------- fold */
enum mb_status mb_cuda_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    MB_TRY(mb_cuda_want("fold", "out", out, -1, -1, MB_F32));
    if (out.rows == 0 || out.cols == 0)
        return MB_OK;
    MB_TRY(mb_cuda_want("fold", "item_off", a->item_off, out.rows + 1, 1, MB_I32));
    if (a->src.rows > 0) {
        MB_TRY(mb_cuda_want("fold", "src", a->src, -1, 1, MB_I32));
        MB_TRY(mb_cuda_want("fold", "pos", a->pos, a->src.rows, 1, MB_I32));
    }
    if (mb_has_view(a->weight)) /* only inner nodes need none */
        MB_TRY(mb_cuda_want("fold", "weight", a->weight, a->src.rows, 1, MB_F32));
    if (a->y.rows > 0)
        MB_TRY(mb_cuda_want_float("fold", "y", a->y, -1, out.cols));
    if (mb_has_view(a->inner))
        MB_TRY(mb_cuda_want("fold", "inner", a->inner, -1, out.cols, MB_F32));
    struct mb_fold_mats m = {mb_cuda_mat(a->item_off), mb_cuda_mat(a->src), mb_cuda_mat(a->pos),
                             mb_cuda_mat(a->weight),   mb_cuda_mat(a->y),   mb_cuda_mat(a->inner)};
    return mb_cuda_call("fold", mb_k_fold(s->s, mb_cuda_mat(out), &m, mb_cuda_flag(s, MB_CUDA_FOLD)));
}

/* ---------------------------------------------------------------- route */
static enum mb_status check_router(const struct mb_router *r)
{
    if ((unsigned)r->kind > MB_ROUTER_LAST || (unsigned)r->renorm > MB_RENORM_LAST || r->experts < 1 || r->k < 1 ||
        r->k > r->experts || (r->renorm == MB_RENORM_PNORM && !(r->p > 0)))
        return mb_error(MB_BUG, "route: kind %d, renorm %d, %d of %d experts", (int)r->kind, (int)r->renorm, r->k, r->experts);
    if (mb_router_grouped(r->kind) && (r->groups < 1 || r->experts % r->groups != 0 || r->topk_groups < 1 ||
                                       r->topk_groups > r->groups || r->k > r->topk_groups * (r->experts / r->groups)))
        return mb_error(MB_BUG, "route: %d of %d experts in %d of %d groups", r->k, r->experts, r->topk_groups, r->groups);
    if (r->experts > MB_ROUTE_MOST)
        return mb_error(MB_LAYOUT, "a GPU chooses among %d experts at most, not %d; use --backend cpu", MB_ROUTE_MOST, r->experts);
    return MB_OK;
}

enum mb_status mb_cuda_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights, struct mb_view bad,
                             struct mb_view z, struct mb_view bias, const struct mb_router *r)
{
    MB_TRY(check_router(r));
    MB_TRY(mb_cuda_want("route", "z", z, -1, r->experts, MB_F32));
    MB_TRY(mb_cuda_want("route", "experts", experts, z.rows, r->k, MB_I32));
    MB_TRY(mb_cuda_want("route", "weights", weights, z.rows, r->k, MB_F32));
    MB_TRY(mb_cuda_want("route", "bad", bad, z.rows, 1, MB_I32));
    if (mb_has_view(bias))
        MB_TRY(mb_cuda_want("route", "bias", bias, 1, r->experts, MB_F32));
    return mb_cuda_call("route", mb_k_route(s->s, mb_cuda_mat(experts), mb_cuda_mat(weights), mb_cuda_mat(bad), mb_cuda_mat(z),
                                            mb_cuda_mat(bias), r));
}

/* ---------------------------------------------------------------- logits */
static enum mb_status check_logits(const char *op, struct mb_view z)
{
    if (z.rows > 0 && (z.cols < 1 || z.cols > INT32_MAX))
        return mb_error(MB_BUG, "%s: %lld logits in a row", op, (long long)z.cols);
    return MB_OK;
}

enum mb_status mb_cuda_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best, struct mb_view bad,
                                   struct mb_view z)
{
    MB_TRY(mb_cuda_want("logit_stats", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("logit_stats", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_cuda_want("logit_stats", "best", best, z.rows, 1, MB_I32));
    MB_TRY(mb_cuda_want("logit_stats", "bad", bad, z.rows, 1, MB_I32));
    MB_TRY(check_logits("logit_stats", z));
    return mb_cuda_call("logit_stats", mb_k_logit_stats(s->s, mb_cuda_mat(stats), mb_cuda_mat(best), mb_cuda_mat(bad), mb_cuda_mat(z)));
}

enum mb_status mb_cuda_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view ids)
{
    MB_TRY(mb_cuda_want("logprob", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("logprob", "out", out, z.rows, 1, MB_F32));
    MB_TRY(mb_cuda_want("logprob", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_cuda_want("logprob", "ids", ids, z.rows, 1, MB_I32));
    MB_TRY(check_logits("logprob", z));
    return mb_cuda_call("logprob", mb_k_logprob(s->s, mb_cuda_mat(out), mb_cuda_mat(z), mb_cuda_mat(stats), mb_cuda_mat(ids),
                                                mb_cuda_flag(s, MB_CUDA_LOGPROB)));
}

enum mb_status mb_cuda_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z, struct mb_view stats)
{
    MB_TRY(mb_cuda_want("top", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("top", "ids", ids, z.rows, -1, MB_I32));
    MB_TRY(mb_cuda_want("top", "logprobs", logprobs, z.rows, ids.cols, MB_F32));
    MB_TRY(mb_cuda_want("top", "stats", stats, z.rows, 2, MB_F32));
    if (ids.cols > z.cols || z.cols > INT32_MAX)
        return mb_error(MB_BUG, "top: the %lld largest of %lld logits", (long long)ids.cols, (long long)z.cols);
    return mb_cuda_call("top", mb_k_top(s->s, mb_cuda_mat(ids), mb_cuda_mat(logprobs), mb_cuda_mat(z), mb_cuda_mat(stats)));
}

/* ---------------------------------------------------------------- sample */
enum mb_status mb_cuda_sample(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view rows,
                              struct mb_view adjust, struct mb_view masks)
{
    void *work;

    MB_TRY(mb_cuda_want("sample", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("sample", "out", out, z.rows, 1, MB_I32));
    MB_TRY(mb_cuda_want("sample", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_cuda_want("sample", "rows", rows, z.rows, sizeof(struct mb_sample_row), MB_U8));
    if (adjust.rows > 0)
        MB_TRY(mb_cuda_want("sample", "adjust", adjust, -1, sizeof(struct mb_sample_adjust), MB_U8));
    if (masks.rows > 0)
        MB_TRY(mb_cuda_want("sample", "masks", masks, -1, (z.cols + 31) / 32, MB_I32));
    if (z.rows == 0)
        return MB_OK;
    MB_TRY(check_logits("sample", z));
    int32_t blocks = z.rows < s->dev->processors ? (int32_t)z.rows : s->dev->processors;
    MB_TRY(mb_cuda_scratch(s, (uint64_t)blocks * (uint64_t)z.cols * sizeof(float), &work));
    struct mb_sample_mats a = {mb_cuda_mat(out),  mb_cuda_mat(z),      mb_cuda_mat(stats),
                               mb_cuda_mat(rows), mb_cuda_mat(adjust), mb_cuda_mat(masks), work};
    return mb_cuda_call("sample", mb_k_sample(s->s, &a, blocks, mb_cuda_flag(s, MB_CUDA_SAMPLE)));
}
