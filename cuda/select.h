/* Launchers of operations that choose: experts, terms of a combine, tokens. Read by C and C++. */
#ifndef CUDA_SELECT_H
#define CUDA_SELECT_H
#include "cuda/kernels.h"

struct mb_fold_mats {
    struct mb_mat item_off, src, pos, weight, y, inner;
};
/* A row of logits per block in these; work: f32 [blocks][V], for rows that are changed before they are drawn from. */
struct mb_sample_mats {
    struct mb_mat out, z, stats, rows, adjust, masks;
    float *work;
};

#ifdef __cplusplus
extern "C" {
#endif
/* fold.cu */
cudaError_t mb_k_fold(cudaStream_t s, struct mb_mat out, const struct mb_fold_mats *a, struct mb_flag flag);
/* route.cu; shared: bytes of shared memory a block may have */
cudaError_t mb_k_route(cudaStream_t s, struct mb_mat experts, struct mb_mat weights, struct mb_mat bad, struct mb_mat z,
                       struct mb_mat bias, const struct mb_router *r);
enum { MB_ROUTE_MOST = 2048 }; /* experts */
/* logits.cu */
cudaError_t mb_k_logit_stats(cudaStream_t s, struct mb_mat stats, struct mb_mat best, struct mb_mat bad, struct mb_mat z);
cudaError_t mb_k_logprob(cudaStream_t s, struct mb_mat out, struct mb_mat z, struct mb_mat stats, struct mb_mat ids,
                         struct mb_flag flag);
cudaError_t mb_k_top(cudaStream_t s, struct mb_mat ids, struct mb_mat logprobs, struct mb_mat z, struct mb_mat stats);
/* sample.cu */
cudaError_t mb_k_sample(cudaStream_t s, const struct mb_sample_mats *a, int32_t blocks, struct mb_flag flag);
#ifdef __cplusplus
}
#endif
#endif
