/* Device code that kernels share: elements of matrices, and sums of a warp as the contract has them. */
#ifndef CUDA_ROW_H
#define CUDA_ROW_H
#include "cuda/launch.h"

/* ---------------------------------------------------------------- elements */
MB_DEVICE float *mb_row_f32(const struct mb_mat &m, int64_t r)
{
    return static_cast<float *>(m.p) + r * m.stride;
}
MB_DEVICE uint16_t *mb_row_bf16(const struct mb_mat &m, int64_t r)
{
    return static_cast<uint16_t *>(m.p) + r * m.stride;
}
MB_DEVICE int32_t *mb_row_i32(const struct mb_mat &m, int64_t r)
{
    return static_cast<int32_t *>(m.p) + r * m.stride;
}
MB_DEVICE float mb_get(const struct mb_mat &m, int64_t r, int64_t c)
{
    return m.dtype == MB_BF16 ? mb_bf16_float(mb_row_bf16(m, r)[c]) : mb_row_f32(m, r)[c];
}
/* rounded to the matrix's type */
MB_DEVICE void mb_put(const struct mb_mat &m, int64_t r, int64_t c, float v)
{
    if (m.dtype == MB_BF16)
        mb_row_bf16(m, r)[c] = mb_bf16_of(v);
    else
        mb_row_f32(m, r)[c] = v;
}
/* An index from device memory: one outside [0, limit) is told to the host, who looks when it next waits, and becomes 0. */
MB_DEVICE int32_t mb_index(int32_t i, int64_t limit, const struct mb_flag &f)
{
    if (i >= 0 && i < limit)
        return i;
    atomicMax(f.word, f.op);
    return 0;
}

/* ---------------------------------------------------------------- where a thread is */
MB_DEVICE int mb_lane(void)
{
    return static_cast<int>(threadIdx.x) % MB_WARP;
}
MB_DEVICE int mb_warp(void)
{
    return static_cast<int>(threadIdx.x) / MB_WARP;
}
/* Warps of one-dimensional grids and blocks, counted through. */
MB_DEVICE int64_t mb_grid_warp(void)
{
    return static_cast<int64_t>(blockIdx.x) * (blockDim.x / MB_WARP) + threadIdx.x / MB_WARP;
}
MB_DEVICE int64_t mb_grid_thread(void)
{
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/* ---------------------------------------------------------------- R32: lane j has the partial sum p[j] */
/* The end of R32: p[j] + p[j + 16], then + 8, 4, 2, 1. Sums of two are the same either way round, so that all lanes end
 * with what lane 0 has. */
MB_DEVICE float mb_r32_fold(float p)
{
    for (int d = 16; d > 0; d /= 2)
        p = p + __shfl_xor_sync(MB_ALL, p, d);
    return p;
}
/* A chain over terms i = lane, lane + 32, ...: add(p, i). Eight loads are under way while it adds: a step takes 4 cycles, memory
 * hundreds. */
template <class F> MB_DEVICE float mb_r32_terms(int64_t n, F add)
{
    float p = 0;
    int64_t i = mb_lane();

    MB_UNROLL_BY(8)
    for (; i < n; i += MB_WARP)
        p = add(p, i);
    return mb_r32_fold(p);
}
MB_DEVICE float mb_r32_sum_of(const float *x, int64_t n)
{
    return mb_r32_terms(n, [=](float p, int64_t i) { return p + x[i]; });
}
MB_DEVICE float mb_r32_dot_of(const float *x, const float *w, int64_t n)
{
    return mb_r32_terms(n, [=](float p, int64_t i) { return fmaf(x[i], w[i], p); });
}

/* ---------------------------------------------------------------- searches of a warp */
struct mb_best {
    float v;
    int32_t at;
};
/* The larger value, of equal ones the lower place. NaN is never larger; at < 0: nothing. */
MB_DEVICE struct mb_best mb_better(struct mb_best a, struct mb_best b)
{
    if (a.at < 0)
        return b;
    return b.at >= 0 && (b.v > a.v || (b.v == a.v && b.at < a.at)) ? b : a;
}
MB_DEVICE struct mb_best mb_warp_best(struct mb_best b)
{
    for (int d = 16; d > 0; d /= 2) {
        struct mb_best o;
        o.v = __shfl_xor_sync(MB_ALL, b.v, d);
        o.at = __shfl_xor_sync(MB_ALL, b.at, d);
        b = mb_better(b, o);
    }
    return b;
}
/* The tree rule over positions 0 .. n - 1 in shared memory: v[0] becomes the sum. All of `threads` take part. */
MB_DEVICE void mb_tree_of(float *v, int n, int thread, int threads)
{
    for (int step = 1; step < n; step *= 2) {
        for (int i = thread * 2 * step; i + step < n; i += threads * 2 * step)
            v[i] = v[i] + v[i + step];
        __syncthreads();
    }
}
#endif
