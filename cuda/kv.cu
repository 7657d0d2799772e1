/* Appending to KV pages. */
#include "cuda/page.h"

namespace
{

enum { THREADS = 128 };

/* ---------------------------------------------------------------- pages of bytes: one scale for n numbers */
/* The largest magnitude's bits, in all threads: a NaN is above infinity. */
MB_DEVICE uint32_t largest_of(const float *x, int32_t n)
{
    __shared__ uint32_t most[THREADS / MB_WARP];
    uint32_t m = 0;

    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += THREADS) {
        uint32_t bits = mb_bits_of(x[i]) & 0x7fffffffu;
        m = bits > m ? bits : m;
    }
    for (int d = 16; d > 0; d /= 2) {
        uint32_t o = __shfl_xor_sync(MB_ALL, m, d);
        m = o > m ? o : m;
    }
    __syncthreads(); /* the last call's may still be read */
    if (mb_lane() == 0)
        most[mb_warp()] = m;
    __syncthreads();
    for (int w = 0; w < THREADS / MB_WARP; w++)
        m = most[w] > m ? most[w] : m;
    return m;
}

/* As mb_s8_scale has it: 0 of what is too small, NaN of what is not finite. */
MB_DEVICE float scale_of(uint32_t largest)
{
    if (largest >= 0x7f800000u)
        return mb_float_of(0x7fc00000u);
    float s = mb_float_of(largest) / 127.0f;
    return mb_bits_of(s) < 0x00800000u ? 0.0f : s;
}

/* To the nearest integer, ties to even: |x| <= 127. */
MB_DEVICE float nearest(float x)
{
    return x + 12582912.0f - 12582912.0f;
}

MB_DEVICE void append_bytes(unsigned char *rows, int32_t stride, int32_t offset, const float *x, int32_t n)
{
    float s = scale_of(largest_of(x, n));
    bool none = s == 0.0f || s != s;

    if (threadIdx.x == 0)
        mb_page_scales(rows, stride)[offset] = s;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < stride; i += THREADS) {
        int code = none || i >= n ? 0 : static_cast<int>(nearest(x[i] / s));
        rows[static_cast<int64_t>(offset) * stride + i] = static_cast<unsigned char>(code);
    }
}

/* ---------------------------------------------------------------- pages of numbers */
MB_DEVICE void append_numbers(unsigned char *rows, int32_t stride, int32_t offset, const float *x, int32_t n,
                              int32_t dtype)
{
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += THREADS) {
        int64_t at = static_cast<int64_t>(offset) * stride + i;
        if (dtype == MB_BF16)
            reinterpret_cast<uint16_t *>(rows)[at] = mb_bf16_of(x[i]);
        else
            reinterpret_cast<float *>(rows)[at] = x[i];
    }
}

MB_DEVICE void append_to(const struct mb_pages &kv, unsigned char *rows, int32_t stride, int32_t offset,
                         const float *x, int32_t n)
{
    if (kv.dtype == MB_U8)
        append_bytes(rows, stride, offset, x, n);
    else
        append_numbers(rows, stride, offset, x, n, kv.dtype);
}

/* A block: one row, one head. */
__global__ void __launch_bounds__(THREADS) append_kernel(struct mb_pages kv, struct mb_mat k, struct mb_mat v,
                                                         struct mb_mat slot, struct mb_flag flag)
{
    int64_t row = blockIdx.x;
    int32_t head = static_cast<int32_t>(blockIdx.y);
    int32_t at = mb_row_i32(slot, row)[0];

    if (at < 0 || at / MB_KV_BLOCK >= kv.pages) { /* no page gets it */
        if (threadIdx.x == 0)
            mb_index(-1, 1, flag);
        return;
    }
    int32_t page = at / MB_KV_BLOCK, offset = at % MB_KV_BLOCK;
    append_to(kv, mb_page_keys(kv, page, head), kv.k_stride, offset,
              mb_row_f32(k, row) + static_cast<int64_t>(head) * kv.d, kv.d);
    if (!kv.v_in_k)
        append_to(kv, mb_page_values(kv, page, head), kv.v_stride, offset,
                  mb_row_f32(v, row) + static_cast<int64_t>(head) * kv.dv, kv.dv);
}

} /* namespace */

extern "C" cudaError_t mb_k_kv_append(cudaStream_t s, const struct mb_pages *kv, struct mb_mat k,
                                      struct mb_mat v, struct mb_mat slot, struct mb_flag flag)
{
    if (k.rows == 0)
        return cudaSuccess;
    return MB_LAUNCH(append_kernel, dim3(static_cast<unsigned>(k.rows), static_cast<unsigned>(kv->heads)),
                     dim3(THREADS), 0, s, *kv, k, v, slot, flag);
}
