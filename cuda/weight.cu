/* Weights between rows, as files and the host have them, and panels (cuda/gemm.h). One thread for each element, or byte where two
 * codes share one: loading is bound by the way to the GPU, and what is written lies together in the L2 cache. */
#include "cuda/each.h"
#include "cuda/gemm.h"

namespace {

MB_DEVICE uint8_t *panel_of(const struct mb_k_weight &w, int64_t row)
{
    return const_cast<uint8_t *>(w.data) + row / MB_PANEL * w.panel_bytes;
}

/* Block of column k of the weight, and place in it. */
struct spot {
    int64_t block;
    int32_t in;
};
MB_DEVICE struct spot spot_of(const struct mb_k_weight &w, int64_t k)
{
    int32_t l = 0;
    struct spot s;

    while (w.leaf[l + 1] <= k)
        l++;
    s.block = w.block[l] + (k - w.leaf[l]) / MB_BLOCK;
    s.in = static_cast<int32_t>((k - w.leaf[l]) % MB_BLOCK);
    return s;
}

MB_DEVICE float number_at(const struct mb_k_rows &from, int64_t r, int64_t c)
{
    int64_t at = r * from.stride + c;

    switch (from.storage) {
    case MB_STORE_F32:
        return static_cast<const float *>(from.p)[at];
    case MB_STORE_F16:
        return mb_f16_float_inl(static_cast<const uint16_t *>(from.p)[at]);
    case MB_STORE_BF16:
        return mb_bf16_float(static_cast<const uint16_t *>(from.p)[at]);
    default:
        break;
    }
    uint8_t code = static_cast<const uint8_t *>(from.p)[at];
    float v = from.storage == MB_STORE_F8E4M3 ? mb_fp8_float_inl(code) : mb_f8e5m2_float_inl(code);
    return v * from.scale[r * from.scale_stride + (from.first_k + c) / from.block_k];
}

struct pack {
    const struct mb_k_weight *w;
    int64_t n0, k0;
    struct mb_k_rows from;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        struct spot at = spot_of(*w, k0 + c);
        uint8_t *block = panel_of(*w, n0 + r) + at.block * w->block_bytes;
        int32_t place = mb_block_place(w->bits, false, at.in, static_cast<int32_t>((n0 + r) % MB_PANEL));
        if (w->dtype == MB_F32 && from.storage == MB_STORE_F32) /* as it is, subnormal numbers too */
            reinterpret_cast<uint32_t *>(block)[place] = static_cast<const uint32_t *>(from.p)[r * from.stride + c];
        else if (w->dtype == MB_F32)
            reinterpret_cast<float *>(block)[place] = number_at(from, r, c);
        else if (from.storage == MB_STORE_BF16)
            reinterpret_cast<uint16_t *>(block)[place] = static_cast<const uint16_t *>(from.p)[r * from.stride + c];
        else
            reinterpret_cast<uint16_t *>(block)[place] = mb_bf16_of(number_at(from, r, c));
    }
};

struct unpack {
    const struct mb_k_weight *w;
    int64_t n0, k;
    void *rows;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        struct spot at = spot_of(*w, c);
        const uint8_t *block = panel_of(*w, n0 + r) + at.block * w->block_bytes;
        int32_t place = mb_block_place(w->bits, false, at.in, static_cast<int32_t>((n0 + r) % MB_PANEL));
        if (w->dtype == MB_F32)
            static_cast<uint32_t *>(rows)[r * k + c] = reinterpret_cast<const uint32_t *>(block)[place];
        else
            static_cast<uint16_t *>(rows)[r * k + c] = reinterpret_cast<const uint16_t *>(block)[place];
    }
};

/* Item (row, column) of a matrix whose rows are pairs of columns of the weight, of which one byte of the block holds both. */
struct pack_codes {
    const struct mb_k_weight *w;
    int64_t n0, n, k0;
    const uint8_t *codes;
    int64_t stride;
    int32_t first;
    __device__ uint8_t code(int64_t r, int64_t c) const
    {
        const uint8_t *row = codes + r * stride;
        return w->bits == 8 ? row[first + c] : row[(first + c) / 2] >> ((first + c) % 2 * 4) & 15;
    }
    __device__ void operator()(int64_t i, int64_t c) const
    {
        struct spot at = spot_of(*w, k0 + c);
        if (w->bits == 8) {
            uint8_t *block = panel_of(*w, n0 + i) + at.block * w->block_bytes;
            block[mb_block_place(8, w->form.code == MB_CODE_S8, at.in, static_cast<int32_t>((n0 + i) % MB_PANEL))] = code(i, c);
            return;
        }
        int64_t even = n0 / 2 * 2 + 2 * i; /* of the two rows */
        uint8_t *block = panel_of(*w, even) + at.block * w->block_bytes;
        uint8_t *byte = block + mb_block_place(4, false, at.in, static_cast<int32_t>(even % MB_PANEL)) / 2, v = *byte;
        if (even >= n0)
            v = static_cast<uint8_t>((v & 0xf0) | code(even - n0, c));
        if (even + 1 < n0 + n)
            v = static_cast<uint8_t>((v & 0x0f) | code(even + 1 - n0, c) << 4);
        *byte = v;
    }
};

MB_DEVICE uint32_t code_in(const struct mb_k_weight &w, int64_t row, int64_t k)
{
    struct spot at = spot_of(w, k);
    const uint8_t *block = panel_of(w, row) + at.block * w.block_bytes;
    int32_t place = mb_block_place(w.bits, w.form.code == MB_CODE_S8, at.in, static_cast<int32_t>(row % MB_PANEL));

    return w.bits == 8 ? block[place] : block[place / 2] >> (place % 2 * 4) & 15;
}

/* Byte `b` of a row of codes. */
struct unpack_codes {
    const struct mb_k_weight *w;
    int64_t n0, k;
    uint8_t *codes;
    int64_t stride;
    __device__ void operator()(int64_t r, int64_t b) const
    {
        uint32_t v;
        if (w->bits == 8)
            v = code_in(*w, n0 + r, b);
        else
            v = code_in(*w, n0 + r, 2 * b) | (2 * b + 1 < k ? code_in(*w, n0 + r, 2 * b + 1) << 4 : 0);
        codes[r * stride + b] = static_cast<uint8_t>(v);
    }
};

struct table {
    const struct mb_k_weight *w;
    int64_t at, n0;
    int32_t size, g0, groups, unpack;
    uint8_t *rows;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        int64_t g = c / size, b = c % size;
        uint8_t *there = panel_of(*w, n0 + r) + at + ((g0 + g) * MB_PANEL + (n0 + r) % MB_PANEL) * size + b;
        uint8_t *here = rows + (r * groups + g) * size + b;
        if (unpack)
            *here = *there;
        else
            *there = *here;
    }
};

} // namespace

extern "C" cudaError_t mb_k_pack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k0, int64_t k,
                                 struct mb_k_rows from)
{
    return mb_each(s, n, k, pack{w, n0, k0, from});
}

extern "C" cudaError_t mb_k_unpack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k, void *rows)
{
    return mb_each(s, n, k, unpack{w, n0, k, rows});
}

extern "C" cudaError_t mb_k_pack_codes(cudaStream_t s, const struct mb_k_weight *w, int32_t bits, int64_t n0, int64_t n, int64_t k0,
                                       int64_t k, const uint8_t *codes, int64_t stride, int32_t first)
{
    int64_t items = bits == 8 ? n : (n0 + n + 1) / 2 - n0 / 2;

    return mb_each(s, items, k, pack_codes{w, n0, n, k0, codes, stride, first});
}

extern "C" cudaError_t mb_k_unpack_codes(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k,
                                         uint8_t *codes, int64_t stride)
{
    return mb_each(s, n, stride, unpack_codes{w, n0, k, codes, stride});
}

extern "C" cudaError_t mb_k_pack_table(cudaStream_t s, const struct mb_k_weight *w, int64_t at, int32_t size, int64_t n0, int64_t n,
                                       int32_t g0, int32_t groups, void *rows, int32_t back)
{
    return mb_each(s, n, static_cast<int64_t>(groups) * size, table{w, at, n0, size, g0, groups, back, static_cast<uint8_t *>(rows)});
}
