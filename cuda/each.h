/* Element by element: f(row, column) for every element of a matrix of `rows` x `cols`, neighbours in a row by neighbours in a
 * warp. */
#ifndef CUDA_EACH_H
#define CUDA_EACH_H
#include "cuda/row.h"

enum { MB_EACH_THREADS = 256 };

/* 32 bits are enough for a launch, and a division of 64 costs as much as the rest of most kernels. */
template <class F>
static __global__ void __launch_bounds__(MB_EACH_THREADS) mb_each_kernel(F f, int64_t row0, uint32_t n, uint32_t cols)
{
    uint32_t i = blockIdx.x * MB_EACH_THREADS + threadIdx.x;

    if (i < n)
        f(row0 + i / cols, static_cast<int64_t>(i % cols));
}

template <class F> static cudaError_t mb_each(cudaStream_t s, int64_t rows, int64_t cols, F f)
{
    if (rows <= 0 || cols <= 0)
        return cudaSuccess;
    int64_t most = (1 << 30) / cols;
    if (most < 1)
        return cudaErrorInvalidValue;
    for (int64_t r = 0; r < rows; r += most) {
        int64_t m = rows - r < most ? rows - r : most;
        uint32_t n = static_cast<uint32_t>(m * cols);
        cudaError_t e = MB_LAUNCH(mb_each_kernel<F>, dim3((n + MB_EACH_THREADS - 1) / MB_EACH_THREADS), dim3(MB_EACH_THREADS), 0,
                                  s, f, r, n, static_cast<uint32_t>(cols));
        if (e != cudaSuccess)
            return e;
    }
    return cudaSuccess;
}
#endif
