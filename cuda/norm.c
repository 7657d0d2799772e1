/* Checks and launches of norms and R32 products. */
#include "cuda/cuda.h"

enum mb_status mb_cuda_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                            struct mb_view b, enum mb_norm_kind kind, float eps, int32_t groups, int32_t leaves)
{
    MB_TRY(mb_check_norm(out, raw, x, w, b, kind, groups, leaves));
    struct mb_norm_args a = {mb_cuda_mat(out), mb_cuda_mat(raw), mb_cuda_mat(x), mb_cuda_mat(w), mb_cuda_mat(b), (int32_t)kind,
                             eps,              groups,           leaves};
    return mb_cuda_call("norm", mb_k_norm(s->s, &a));
}

enum mb_status mb_cuda_square(struct mb_stream *s, struct mb_view out, struct mb_view x)
{
    MB_TRY(mb_check_square(out, x));
    return mb_cuda_call("square", mb_k_square(s->s, mb_cuda_mat(out), mb_cuda_mat(x)));
}

enum mb_status mb_cuda_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w, int64_t n,
                                 float eps)
{
    MB_TRY(mb_check_norm_sums(x, sums, w, n));
    return mb_cuda_call("norm_sums",
                        mb_k_norm_sums(s->s, mb_cuda_mat(x), mb_cuda_mat(sums), mb_cuda_mat(w), (float)n, eps));
}

enum mb_status mb_cuda_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                                struct mb_view bias)
{
    MB_TRY(mb_check_gemm_r32(out, x, w, bias));
    return mb_cuda_call("gemm_r32",
                        mb_k_gemm_r32(s->s, mb_cuda_mat(out), mb_cuda_mat(x), mb_cuda_mat(w), mb_cuda_mat(bias)));
}
