/* Between cuda/X.c and cuda/X.cu: what kernels are given, and the functions that launch them. Read by C and C++. A launcher
 * queues work on a stream and returns CUDA's own error; matrices are in device memory, their shapes were checked. */
#ifndef CUDA_KERNELS_H
#define CUDA_KERNELS_H
#include <cuda_runtime.h>
#include "base/numerics.h"
#include "device/form_value.h"
#include "device/kinds.h"

/* A view in device memory: row r begins r * stride elements after p. p NULL: there is none. */
struct mb_mat {
    void *p;
    int64_t stride;
    int64_t rows, cols;
    int32_t dtype; /* enum mb_dtype */
};
/* Where a kernel says that what it was given is wrong: the largest op that did. */
struct mb_flag {
    int32_t *word;
    int32_t op; /* enum mb_cuda_op */
};
enum mb_cuda_op {
    MB_CUDA_NO_OP,
    MB_CUDA_EMBED,
    MB_CUDA_GATHER,
    MB_CUDA_SCALE_ROWS,
    MB_CUDA_ROPE,
    MB_CUDA_FOLD,
    MB_CUDA_LOGPROB,
    MB_CUDA_SAMPLE,
    MB_CUDA_KV_APPEND,
    MB_CUDA_ATTENTION,
    MB_CUDA_ATTENTION_PARTS,
    MB_CUDA_ATTENTION_JOIN,
    MB_CUDA_CHOOSE_KEYS,
    MB_CUDA_CONV,
    MB_CUDA_DELTA,
    MB_CUDA_OPS
};

#ifdef __cplusplus
extern "C" {
#endif
/* rows.cu */
cudaError_t mb_k_convert(cudaStream_t s, struct mb_mat dst, struct mb_mat src);
cudaError_t mb_k_embed(cudaStream_t s, struct mb_mat x, struct mb_mat table, struct mb_mat ids, float scale,
                       struct mb_flag flag);
cudaError_t mb_k_gather(cudaStream_t s, struct mb_mat out, struct mb_mat src, struct mb_mat idx,
                        struct mb_flag flag);
cudaError_t mb_k_add(cudaStream_t s, struct mb_mat out, struct mb_mat a, struct mb_mat b);
cudaError_t mb_k_scale(cudaStream_t s, struct mb_mat x, float c);
cudaError_t mb_k_clamp(cudaStream_t s, struct mb_mat x, float c);
cudaError_t mb_k_scale_rows(cudaStream_t s, struct mb_mat x, struct mb_mat c, struct mb_mat at,
                            struct mb_flag flag);
cudaError_t mb_k_rope(cudaStream_t s, struct mb_mat out, struct mb_mat x, struct mb_mat cos, struct mb_mat sin,
                      struct mb_mat pos, int32_t heads, int32_t first, int32_t rot, int32_t style,
                      struct mb_flag flag);
cudaError_t mb_k_act(cudaStream_t s, struct mb_mat out, struct mb_mat gu, int32_t kind, float limit);
cudaError_t mb_k_gate(cudaStream_t s, struct mb_mat y, struct mb_mat gate);
cudaError_t mb_k_gate_by(cudaStream_t s, struct mb_mat out, struct mb_mat g, struct mb_mat x);
/* norm.cu */
struct mb_norm_args {
    struct mb_mat out, raw, x, w, b;
    int32_t kind;
    float eps;
    int32_t groups, leaves;
};
cudaError_t mb_k_norm(cudaStream_t s, const struct mb_norm_args *a);
cudaError_t mb_k_square(cudaStream_t s, struct mb_mat out, struct mb_mat x);
cudaError_t mb_k_norm_sums(cudaStream_t s, struct mb_mat x, struct mb_mat sums, struct mb_mat w, float n,
                           float eps);
cudaError_t mb_k_gemm_r32(cudaStream_t s, struct mb_mat out, struct mb_mat x, struct mb_mat w,
                          struct mb_mat bias);
#ifdef __cplusplus
}
#endif
#endif
