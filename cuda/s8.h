/* The int8 path: weights and rows as signed bytes with a scale for each leaf of K. Sums of a leaf are exact, so that lanes and warps
 * share them in any way. Read by C and C++. */
#ifndef CUDA_S8_H
#define CUDA_S8_H
#include "cuda/gemm.h"

enum { MB_S8_MOST_K = 133144 /* of a leaf: 127 * 127 * that stays below 2^31 */, MB_S8_ROWS = 16 };

/* A job's rows as bytes: four k of one parity in a word, word block * 8 + t * 2 + p of a row. */
struct mb_k_s8_job {
    struct mb_k_job job; /* row_tiles: of MB_S8_ROWS */
    int64_t words, scales; /* of its first row, in the launch's room */
    int32_t quantise0;   /* its first row, counted through the launch */
};

#ifdef __cplusplus
extern "C" {
#endif
/* Rows [n0, n0 + n) of a weight from packed rows of numbers. */
cudaError_t mb_k_s8_pack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int32_t leaves, const float *rows,
                         int64_t stride);
/* Rows of all jobs to bytes; then the products. */
cudaError_t mb_k_s8_quantise(cudaStream_t s, struct mb_mat x, const struct mb_k_s8_job *jobs, int32_t n_jobs, int32_t rows,
                             uint32_t *words, float *scales);
cudaError_t mb_k_s8_gemm(cudaStream_t s, struct mb_mat out, const struct mb_k_s8_job *jobs, int32_t n_jobs, int32_t items,
                         int32_t most_rows, const uint32_t *words, const float *scales);
#ifdef __cplusplus
}
#endif
#endif
