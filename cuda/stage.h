/* Where attention reads the keys and values of a page: copied into shared memory (rows an odd number of words
 * apart, so that lanes with neighbouring keys meet different banks), or in place where they do not fit.
 * Device code.
 *
 * A stage has pair(key, i): elements i, i + 1 (i even) of a key; one(k, c): value k, column c; load_keys,
 * load_values (both by all threads; what they bring is there after a barrier), and `careful`: values that
 * nobody sees are not zero in it. load_values says whether all that it brought is finite. */
#ifndef CUDA_STAGE_H
#define CUDA_STAGE_H
#include "cuda/page.h"

MB_DEVICE void mb_two_bf16(uint32_t w, float *a, float *b)
{
    *a = mb_float_of(w << 16);
    *b = mb_float_of(w & 0xffff0000u);
}
MB_DEVICE float mb_half_bf16(uint32_t w, int32_t i)
{
    return mb_float_of(i & 1 ? w & 0xffff0000u : w << 16);
}
MB_DEVICE bool mb_finite_word(uint32_t w, bool two)
{
    bool high = (w & 0x7f800000u) != 0x7f800000u, low = (w & 0x7f80u) != 0x7f80u;
    return high && (low || !two);
}

/* Words of a row in shared memory. */
MB_INLINE int32_t mb_stage_words(const struct mb_pages &kv, int32_t stride)
{
    return (kv.dtype == MB_F32 ? stride : stride / 2) + 1;
}
MB_INLINE int64_t mb_stage_bytes(const struct mb_pages &kv)
{
    int32_t most = kv.k_stride > kv.v_stride ? kv.k_stride : kv.v_stride;
    return static_cast<int64_t>(4) * MB_KV_BLOCK * mb_stage_words(kv, most);
}

/* ---------------------------------------------------------------- in shared memory */
/* Rows first .. last, four words at a time; rows whose bit in `seen` is not set become zeros. */
template <class F>
MB_DEVICE bool mb_stage_rows(uint32_t *tile, int32_t tile_words, int32_t words, int32_t first, int32_t last,
                             uint64_t seen, bool two, F get)
{
    int32_t per = words / 4, n = (last - first + 1) * per;
    bool finite = true;

    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += static_cast<int32_t>(blockDim.x)) {
        int32_t row = first + i / per, w = i % per * 4;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (seen >> row & 1)
            x = get(row, w);
        uint32_t *to = tile + row * tile_words + w;
        to[0] = x.x;
        to[1] = x.y;
        to[2] = x.z;
        to[3] = x.w;
        finite = finite && mb_finite_word(x.x, two) && mb_finite_word(x.y, two) && mb_finite_word(x.z, two) &&
                 mb_finite_word(x.w, two);
    }
    return finite;
}

/* What the stages in shared memory have in common. Values are read by pairs of rows from an even one on: a
 * row before the first and one behind the last that anybody sees are zeros. */
struct mb_stage {
    static constexpr bool careful = false;
    const struct mb_pages &kv;
    uint32_t *tile;
    int32_t words; /* of a row in the tile */

    __device__ __forceinline__ mb_stage(const struct mb_pages &pages, uint32_t *room)
        : kv(pages), tile(room), words(0)
    {
    }
    /* The bits first .. last. */
    static __device__ __forceinline__ uint64_t between(int32_t first, int32_t last)
    {
        return ~static_cast<uint64_t>(0) >> (63 - (last - first)) << first;
    }
};

MB_DEVICE bool mb_stage_plain(uint32_t *tile, int32_t words, const unsigned char *rows, int32_t stride,
                              int32_t first, int32_t last, uint64_t seen, bool two)
{
    const uint4 *from = reinterpret_cast<const uint4 *>(rows);
    int32_t row_words = two ? stride / 2 : stride;

    return mb_stage_rows(tile, words, row_words, first, last, seen, two,
                         [=](int32_t row, int32_t w) { return from[(row * row_words + w) / 4]; });
}

struct mb_stage_f32 : mb_stage {
    __device__ __forceinline__ mb_stage_f32(const struct mb_pages &pages, uint32_t *room)
        : mb_stage(pages, room)
    {
    }
    __device__ __forceinline__ void load_keys(const unsigned char *rows, int32_t first, int32_t last)
    {
        words = mb_stage_words(kv, kv.k_stride);
        mb_stage_plain(tile, words, rows, kv.k_stride, first, last, ~static_cast<uint64_t>(0), false);
    }
    __device__ __forceinline__ bool load_values(const unsigned char *rows, int32_t first, int32_t last,
                                                uint64_t chosen)
    {
        int32_t stride = kv.v_in_k ? kv.k_stride : kv.v_stride;
        words = mb_stage_words(kv, stride);
        return mb_stage_plain(tile, words, rows, stride, first & ~1, last | 1, between(first, last) & chosen,
                              false);
    }
    __device__ __forceinline__ void pair(int32_t key, int32_t i, float *a, float *b) const
    {
        *a = mb_float_of(tile[key * words + i]);
        *b = mb_float_of(tile[key * words + i + 1]);
    }
    __device__ __forceinline__ float one(int32_t k, int32_t c) const
    {
        return mb_float_of(tile[k * words + c]);
    }
};

struct mb_stage_bf16 : mb_stage {
    __device__ __forceinline__ mb_stage_bf16(const struct mb_pages &pages, uint32_t *room)
        : mb_stage(pages, room)
    {
    }
    __device__ __forceinline__ void load_keys(const unsigned char *rows, int32_t first, int32_t last)
    {
        words = mb_stage_words(kv, kv.k_stride);
        mb_stage_plain(tile, words, rows, kv.k_stride, first, last, ~static_cast<uint64_t>(0), true);
    }
    __device__ __forceinline__ bool load_values(const unsigned char *rows, int32_t first, int32_t last,
                                                uint64_t chosen)
    {
        int32_t stride = kv.v_in_k ? kv.k_stride : kv.v_stride;
        words = mb_stage_words(kv, stride);
        return mb_stage_plain(tile, words, rows, stride, first & ~1, last | 1, between(first, last) & chosen,
                              true);
    }
    __device__ __forceinline__ void pair(int32_t key, int32_t i, float *a, float *b) const
    {
        mb_two_bf16(tile[key * words + i / 2], a, b);
    }
    __device__ __forceinline__ float one(int32_t k, int32_t c) const
    {
        return mb_half_bf16(tile[k * words + c / 2], c);
    }
};

/* Pages of bytes: widened on the way. */
struct mb_stage_codes : mb_stage_bf16 {
    __device__ __forceinline__ mb_stage_codes(const struct mb_pages &pages, uint32_t *room)
        : mb_stage_bf16(pages, room)
    {
    }
    static __device__ __forceinline__ uint32_t two(uint32_t codes, int32_t at, float scale)
    {
        float a = static_cast<float>(static_cast<int8_t>(codes >> at & 255)),
              b = static_cast<float>(static_cast<int8_t>(codes >> (at + 8) & 255));
        return mb_bf16_of(a * scale) | static_cast<uint32_t>(mb_bf16_of(b * scale)) << 16;
    }
    __device__ __forceinline__ bool load(const unsigned char *rows, int32_t stride, int32_t first,
                                         int32_t last, uint64_t seen)
    {
        const uint2 *from = reinterpret_cast<const uint2 *>(rows);
        const float *scale =
            reinterpret_cast<const float *>(rows + static_cast<int64_t>(MB_KV_BLOCK) * stride);
        words = mb_stage_words(kv, stride);
        return mb_stage_rows(tile, words, stride / 2, first, last, seen, true, [=](int32_t row, int32_t w) {
            uint2 c = from[(row * stride + 2 * w) / 8];
            float s = scale[row];
            return make_uint4(two(c.x, 0, s), two(c.x, 16, s), two(c.y, 0, s), two(c.y, 16, s));
        });
    }
    __device__ __forceinline__ void load_keys(const unsigned char *rows, int32_t first, int32_t last)
    {
        load(rows, kv.k_stride, first, last, ~static_cast<uint64_t>(0));
    }
    __device__ __forceinline__ bool load_values(const unsigned char *rows, int32_t first, int32_t last,
                                                uint64_t chosen)
    {
        return load(rows, kv.v_in_k ? kv.k_stride : kv.v_stride, first & ~1, last | 1,
                    between(first, last) & chosen);
    }
};

/* ---------------------------------------------------------------- in place */
template <class E> struct mb_direct {
    static constexpr bool careful = true;
    const struct mb_pages &kv;
    const E *rows;
    int32_t stride;
    uint64_t seen;

    __device__ __forceinline__ mb_direct(const struct mb_pages &pages, uint32_t *)
        : kv(pages), rows(nullptr), stride(0), seen(0)
    {
    }
    __device__ __forceinline__ void load_keys(const unsigned char *from, int32_t, int32_t)
    {
        rows = reinterpret_cast<const E *>(from);
        stride = kv.k_stride;
    }
    __device__ __forceinline__ bool load_values(const unsigned char *from, int32_t first, int32_t last,
                                                uint64_t chosen)
    {
        rows = reinterpret_cast<const E *>(from);
        stride = kv.v_in_k ? kv.k_stride : kv.v_stride;
        seen = mb_stage::between(first, last) & chosen;
        return true;
    }
    static __device__ __forceinline__ float value(float x)
    {
        return x;
    }
    static __device__ __forceinline__ float value(uint16_t x)
    {
        return mb_bf16_float(x);
    }
    __device__ __forceinline__ void pair(int32_t key, int32_t i, float *a, float *b) const
    {
        const E *p = rows + key * stride + i;
        *a = value(p[0]);
        *b = value(p[1]);
    }
    __device__ __forceinline__ float one(int32_t k, int32_t c) const
    {
        return seen >> k & 1 ? value(rows[k * stride + c]) : 0.0f;
    }
};
typedef struct mb_direct<float> mb_direct_f32;
typedef struct mb_direct<uint16_t> mb_direct_bf16;

/* ---------------------------------------------------------------- products */
/* c[u] = the dot, by the dot rule, of vector v0 + u (one behind the last of n: v0 again) and a key, over
 * k_stride elements. */
template <int V, class R>
MB_DEVICE void mb_dots(float (&c)[V], const float *q, int32_t v0, int32_t n, const R &keys, int32_t key,
                       int32_t k_stride)
{
    MB_UNROLL
    for (int u = 0; u < V; u++)
        c[u] = 0;
    for (int32_t b = 0; b < k_stride; b += 32) {
        float e[V], o[V];
        MB_UNROLL
        for (int u = 0; u < V; u++)
            e[u] = o[u] = 0;
        MB_UNROLL_BY(4)
        for (int32_t i = b; i < b + 32; i += 2) {
            float x0, x1;
            keys.pair(key, i, &x0, &x1);
            MB_UNROLL
            for (int u = 0; u < V; u++) {
                const float *x = q + (v0 + u < n ? v0 + u : v0) * k_stride + i;
                e[u] = fmaf(x[0], x0, e[u]);
                o[u] = fmaf(x[1], x1, o[u]);
            }
        }
        MB_UNROLL
        for (int u = 0; u < V; u++)
            c[u] = c[u] + (e[u] + o[u]);
    }
}
#endif
