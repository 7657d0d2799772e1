/* Checks and launches of norms and R32 products. */
#include "cuda/cuda.h"

enum { MOST_LEAVES = 512 };

enum mb_status mb_cuda_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                            struct mb_view b, enum mb_norm_kind kind, float eps, int32_t groups, int32_t leaves)
{
    MB_TRY(mb_cuda_want("norm", "x", x, -1, -1, MB_F32));
    if (groups < 1 || x.cols % groups != 0 || leaves < 1 || leaves > MOST_LEAVES || x.cols % leaves != 0 ||
        (leaves > 1 && (groups > 1 || kind == MB_NORM_LAYER)))
        return mb_error(MB_BUG, "norm: %lld columns in %d groups of %d leaves", (long long)x.cols, groups, leaves);
    if (mb_has_view(out))
        MB_TRY(mb_cuda_want_float("norm", "out", out, x.rows, x.cols));
    if (mb_has_view(raw))
        MB_TRY(mb_cuda_want("norm", "raw", raw, x.rows, x.cols, MB_F32));
    MB_TRY(mb_cuda_want("norm", "w", w, 1, x.cols / groups, MB_F32));
    if (mb_has_view(b))
        MB_TRY(mb_cuda_want("norm", "b", b, 1, x.cols / groups, MB_F32));
    struct mb_norm_args a = {mb_cuda_mat(out), mb_cuda_mat(raw), mb_cuda_mat(x), mb_cuda_mat(w), mb_cuda_mat(b), (int32_t)kind,
                             eps,              groups,           leaves};
    return mb_cuda_call("norm", mb_k_norm(s->s, &a));
}

static enum mb_status check_leaves(const char *op, struct mb_view x, struct mb_view sums)
{
    MB_TRY(mb_cuda_want(op, "x", x, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want(op, "sums", sums, x.rows, -1, MB_F32));
    if (sums.cols < 1 || sums.cols > MOST_LEAVES)
        return mb_error(MB_BUG, "%s: %lld leaves, wanted 1 to %d", op, (long long)sums.cols, MOST_LEAVES);
    return MB_OK;
}

enum mb_status mb_cuda_square(struct mb_stream *s, struct mb_view out, struct mb_view x)
{
    MB_TRY(check_leaves("square", x, out));
    if (x.cols % out.cols != 0)
        return mb_error(MB_BUG, "square: %lld columns in %lld leaves", (long long)x.cols, (long long)out.cols);
    return mb_cuda_call("square", mb_k_square(s->s, mb_cuda_mat(out), mb_cuda_mat(x)));
}

enum mb_status mb_cuda_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w, int64_t n,
                                 float eps)
{
    MB_TRY(check_leaves("norm_sums", x, sums));
    MB_TRY(mb_cuda_want("norm_sums", "w", w, 1, x.cols, MB_F32));
    if (n < x.cols || n % sums.cols != 0)
        return mb_error(MB_BUG, "norm_sums: %lld of %lld columns in %lld leaves", (long long)x.cols, (long long)n,
                        (long long)sums.cols);
    return mb_cuda_call("norm_sums",
                        mb_k_norm_sums(s->s, mb_cuda_mat(x), mb_cuda_mat(sums), mb_cuda_mat(w), (float)n, eps));
}

enum mb_status mb_cuda_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                                struct mb_view bias)
{
    MB_TRY(mb_cuda_want("gemm_r32", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_cuda_want("gemm_r32", "x", x, out.rows, -1, MB_F32));
    MB_TRY(mb_cuda_want("gemm_r32", "w", w, out.cols, x.cols, MB_F32));
    if (mb_has_view(bias))
        MB_TRY(mb_cuda_want("gemm_r32", "bias", bias, 1, out.cols, MB_F32));
    if (x.cols == 0)
        return mb_error(MB_BUG, "gemm_r32: a product over no columns");
    return mb_cuda_call("gemm_r32",
                        mb_k_gemm_r32(s->s, mb_cuda_mat(out), mb_cuda_mat(x), mb_cuda_mat(w), mb_cuda_mat(bias)));
}
