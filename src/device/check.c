#include "device/check.h"

#include "base/log.h"
#include "device/view.h"

enum mb_status mb_check_fold(struct mb_view out, const struct mb_fold_args *a)
{
    MB_TRY(mb_want("fold", "out", out, -1, -1, MB_F32));
    if (out.rows == 0 || out.cols == 0)
        return MB_OK;
    MB_TRY(mb_want("fold", "item_off", a->item_off, out.rows + 1, 1, MB_I32));
    if (a->src.rows > 0) {
        MB_TRY(mb_want("fold", "src", a->src, -1, 1, MB_I32));
        MB_TRY(mb_want("fold", "pos", a->pos, a->src.rows, 1, MB_I32));
    }
    if (mb_has_view(a->weight)) /* only inner nodes need none */
        MB_TRY(mb_want("fold", "weight", a->weight, a->src.rows, 1, MB_F32));
    if (a->y.rows > 0)
        MB_TRY(mb_want_float("fold", "y", a->y, -1, out.cols));
    if (mb_has_view(a->inner))
        MB_TRY(mb_want("fold", "inner", a->inner, -1, out.cols, MB_F32));
    return MB_OK;
}

enum mb_status mb_check_route(struct mb_view experts, struct mb_view weights, struct mb_view bad,
                              struct mb_view z, struct mb_view bias, const struct mb_router *r)
{
    if ((unsigned)r->kind > MB_ROUTER_LAST || (unsigned)r->renorm > MB_RENORM_LAST || r->experts < 1 ||
        r->k < 1 || r->k > r->experts || (r->renorm == MB_RENORM_PNORM && !(r->p > 0)))
        return mb_error(MB_BUG, "route: kind %d, renorm %d, %d of %d experts", (int)r->kind, (int)r->renorm,
                        r->k, r->experts);
    if (mb_router_grouped(r->kind) &&
        (r->groups < 1 || r->experts % r->groups != 0 || r->topk_groups < 1 || r->topk_groups > r->groups ||
         r->k > r->topk_groups * (r->experts / r->groups)))
        return mb_error(MB_BUG, "route: %d of %d experts in %d of %d groups", r->k, r->experts,
                        r->topk_groups, r->groups);
    MB_TRY(mb_want("route", "z", z, -1, r->experts, MB_F32));
    MB_TRY(mb_want("route", "experts", experts, z.rows, r->k, MB_I32));
    MB_TRY(mb_want("route", "weights", weights, z.rows, r->k, MB_F32));
    MB_TRY(mb_want("route", "bad", bad, z.rows, 1, MB_I32));
    if (mb_has_view(bias))
        MB_TRY(mb_want("route", "bias", bias, 1, r->experts, MB_F32));
    return MB_OK;
}

static enum mb_status check_logits(const char *op, struct mb_view z)
{
    if (z.rows > 0 && (z.cols < 1 || z.cols > INT32_MAX))
        return mb_error(MB_BUG, "%s: %lld logits in a row", op, (long long)z.cols);
    return MB_OK;
}

enum mb_status mb_check_logit_stats(struct mb_view stats, struct mb_view best, struct mb_view bad,
                                    struct mb_view z)
{
    MB_TRY(mb_want("logit_stats", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_want("logit_stats", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_want("logit_stats", "best", best, z.rows, 1, MB_I32));
    MB_TRY(mb_want("logit_stats", "bad", bad, z.rows, 1, MB_I32));
    return check_logits("logit_stats", z);
}

enum mb_status mb_check_logprob(struct mb_view out, struct mb_view z, struct mb_view stats,
                                struct mb_view ids)
{
    MB_TRY(mb_want("logprob", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_want("logprob", "out", out, z.rows, 1, MB_F32));
    MB_TRY(mb_want("logprob", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_want("logprob", "ids", ids, z.rows, 1, MB_I32));
    return check_logits("logprob", z);
}

enum mb_status mb_check_top(struct mb_view ids, struct mb_view logprobs, struct mb_view z,
                            struct mb_view stats)
{
    MB_TRY(mb_want("top", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_want("top", "ids", ids, z.rows, -1, MB_I32));
    MB_TRY(mb_want("top", "logprobs", logprobs, z.rows, ids.cols, MB_F32));
    MB_TRY(mb_want("top", "stats", stats, z.rows, 2, MB_F32));
    if (ids.cols > z.cols || z.cols > INT32_MAX)
        return mb_error(MB_BUG, "top: the %lld largest of %lld logits", (long long)ids.cols,
                        (long long)z.cols);
    return MB_OK;
}

enum mb_status mb_check_sample(struct mb_view out, struct mb_view z, struct mb_view stats,
                               struct mb_view rows, struct mb_view adjust, struct mb_view masks)
{
    MB_TRY(mb_want("sample", "z", z, -1, -1, MB_F32));
    MB_TRY(mb_want("sample", "out", out, z.rows, 1, MB_I32));
    MB_TRY(mb_want("sample", "stats", stats, z.rows, 2, MB_F32));
    MB_TRY(mb_want("sample", "rows", rows, z.rows, sizeof(struct mb_sample_row), MB_U8));
    if (adjust.rows > 0)
        MB_TRY(mb_want("sample", "adjust", adjust, -1, sizeof(struct mb_sample_adjust), MB_U8));
    if (masks.rows > 0)
        MB_TRY(mb_want("sample", "masks", masks, -1, (z.cols + 31) / 32, MB_I32));
    return check_logits("sample", z);
}

enum mb_status mb_check_norm(struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                             struct mb_view b, enum mb_norm_kind kind, int32_t groups, int32_t leaves)
{
    MB_TRY(mb_want("norm", "x", x, -1, -1, MB_F32));
    if (groups < 1 || x.cols % groups != 0 || leaves < 1 || leaves > MB_MAX_NORM_LEAVES ||
        x.cols % leaves != 0 || (leaves > 1 && (groups > 1 || kind == MB_NORM_LAYER)))
        return mb_error(MB_BUG, "norm: %lld columns in %d groups of %d leaves", (long long)x.cols, groups,
                        leaves);
    if (mb_has_view(out))
        MB_TRY(mb_want_float("norm", "out", out, x.rows, x.cols));
    if (mb_has_view(raw))
        MB_TRY(mb_want("norm", "raw", raw, x.rows, x.cols, MB_F32));
    MB_TRY(mb_want("norm", "w", w, 1, x.cols / groups, MB_F32));
    if (mb_has_view(b))
        MB_TRY(mb_want("norm", "b", b, 1, x.cols / groups, MB_F32));
    return MB_OK;
}

static enum mb_status check_leaves(const char *op, struct mb_view x, struct mb_view sums)
{
    MB_TRY(mb_want(op, "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want(op, "sums", sums, x.rows, -1, MB_F32));
    if (sums.cols < 1 || sums.cols > MB_MAX_NORM_LEAVES)
        return mb_error(MB_BUG, "%s: %lld leaves, wanted 1 to %d", op, (long long)sums.cols,
                        MB_MAX_NORM_LEAVES);
    return MB_OK;
}

enum mb_status mb_check_square(struct mb_view out, struct mb_view x)
{
    MB_TRY(check_leaves("square", x, out));
    if (x.cols % out.cols != 0)
        return mb_error(MB_BUG, "square: %lld columns in %lld leaves", (long long)x.cols,
                        (long long)out.cols);
    return MB_OK;
}

enum mb_status mb_check_norm_sums(struct mb_view x, struct mb_view sums, struct mb_view w, int64_t n)
{
    MB_TRY(check_leaves("norm_sums", x, sums));
    MB_TRY(mb_want("norm_sums", "w", w, 1, x.cols, MB_F32));
    if (n < x.cols || n % sums.cols != 0)
        return mb_error(MB_BUG, "norm_sums: %lld of %lld columns in %lld leaves", (long long)x.cols,
                        (long long)n, (long long)sums.cols);
    return MB_OK;
}

enum mb_status mb_check_gemm_r32(struct mb_view out, struct mb_view x, struct mb_view w, struct mb_view bias)
{
    MB_TRY(mb_want("gemm_r32", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_want("gemm_r32", "x", x, out.rows, -1, MB_F32));
    MB_TRY(mb_want("gemm_r32", "w", w, out.cols, x.cols, MB_F32));
    if (mb_has_view(bias))
        MB_TRY(mb_want("gemm_r32", "bias", bias, 1, out.cols, MB_F32));
    if (x.cols == 0)
        return mb_error(MB_BUG, "gemm_r32: a product over no columns");
    return MB_OK;
}

enum mb_status mb_check_conv(struct mb_view out, struct mb_view x, struct mb_view w, struct mb_view state,
                             struct mb_view slot, struct mb_view pos)
{
    MB_TRY(mb_want("conv", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_want("conv", "x", x, out.rows, out.cols, MB_F32));
    MB_TRY(mb_want("conv", "w", w, -1, out.cols, MB_F32));
    MB_TRY(mb_want("conv", "state", state, -1, (w.rows - 1) * out.cols, MB_F32));
    if (w.rows < 1 || w.rows > MB_MAX_TAPS)
        return mb_error(MB_BUG, "conv: %lld taps, wanted 1 to %d", (long long)w.rows, MB_MAX_TAPS);
    MB_TRY(mb_want("conv", "slot", slot, out.rows, 1, MB_I32));
    MB_TRY(mb_want("conv", "pos", pos, out.rows, 1, MB_I32));
    return MB_OK;
}

enum mb_status mb_check_delta(struct mb_view out, const struct mb_delta_args *a)
{
    int64_t M = out.rows, V = (int64_t)a->value_heads * a->dv, K = (int64_t)a->key_heads * a->dk;

    if (a->key_heads < 1 || a->value_heads < 1 || a->dk < 1 || a->dv < 1 || a->per < 1 || a->first < 0 ||
        (a->first + a->value_heads - 1) / a->per >= a->key_heads)
        return mb_error(MB_BUG, "delta: %d value heads from %d on, %d a key head, on %d key heads",
                        a->value_heads, a->first, a->per, a->key_heads);
    MB_TRY(mb_want_float("delta", "out", out, -1, V));
    MB_TRY(mb_want("delta", "x", a->x, M, 2 * K + V, MB_F32));
    MB_TRY(mb_want("delta", "z", a->z, M, V, MB_F32));
    MB_TRY(mb_want("delta", "b", a->b, M, a->value_heads, MB_F32));
    MB_TRY(mb_want("delta", "a", a->a, M, a->value_heads, MB_F32));
    MB_TRY(mb_want("delta", "a_log", a->a_log, 1, a->value_heads, MB_F32));
    MB_TRY(mb_want("delta", "dt", a->dt, 1, a->value_heads, MB_F32));
    MB_TRY(mb_want("delta", "norm", a->norm, 1, a->dv, MB_F32));
    MB_TRY(mb_want("delta", "slot", a->slot, M, 1, MB_I32));
    MB_TRY(mb_want("delta", "pos", a->pos, M, 1, MB_I32));
    return mb_want("delta", "state", a->state, -1, a->value_heads * mb_delta_tile(a->dk, a->dv), MB_F32);
}
