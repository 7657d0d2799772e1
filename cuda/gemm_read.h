/* How GEMM kernels read weights: 4 k of one parity times 4 columns at a time, a quad. Quad t (0 .. 3) of a block has k = 8 t + 2 i + p
 * for i = 0 .. 3. Loads and values are apart, so that loads of several quads are under way before the first is needed. Codes of
 * stored weights become numbers by a table in shared memory: one way for all forms, and little code. */
#ifndef CUDA_GEMM_READ_H
#define CUDA_GEMM_READ_H
#include "cuda/row.h"
#include "cuda/gemm.h"

/* What a kind of weight (enum mb_weight_kind) means for code that is compiled for it. */
template <int KIND> struct mb_kind {
    static const bool bf16 = KIND == MB_KIND_BF16 || KIND == MB_KIND_CODES_BF16, codes = KIND >= MB_KIND_CODES_F32;
};

/* 16-byte pieces of a quad, as loaded. BF16: two, else (f32) four. */
template <bool BF16> struct mb_quad {
    static const int pieces = BF16 ? 2 : 4;
    uint4 v[pieces];
};

/* block: of the weight in device memory, or of the same layout in shared memory. qp: q * 2 + p */
template <bool BF16> MB_DEVICE void mb_quad_load(struct mb_quad<BF16> &r, const uint8_t *block, int t, int qp)
{
    MB_UNROLL
    for (int i = 0; i < mb_quad<BF16>::pieces; i++)
        r.v[i] = *reinterpret_cast<const uint4 *>(block + ((t * mb_quad<BF16>::pieces + i) * 8 + qp) * 16);
}

MB_DEVICE float mb_low(uint32_t u)
{
    return __uint_as_float(u << 16);
}
MB_DEVICE float mb_high(uint32_t u)
{
    return __uint_as_float(u & 0xffff0000u);
}
/* of two numbers that are bf16 already */
MB_DEVICE uint32_t mb_bf16_pair(float low, float high)
{
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
}

/* v[i][j]: k = 8 t + 2 i + p, column 4 q + j */
template <bool BF16> MB_DEVICE void mb_quad_values(const struct mb_quad<BF16> &r, float v[4][4])
{
    MB_UNROLL
    for (int i = 0; i < 4; i++) {
        if constexpr (BF16) {
            uint32_t a = i % 2 == 0 ? r.v[i / 2].x : r.v[i / 2].z, b = i % 2 == 0 ? r.v[i / 2].y : r.v[i / 2].w;
            v[i][0] = mb_low(a);
            v[i][1] = mb_high(a);
            v[i][2] = mb_low(b);
            v[i][3] = mb_high(b);
        } else {
            v[i][0] = __uint_as_float(r.v[i].x);
            v[i][1] = __uint_as_float(r.v[i].y);
            v[i][2] = __uint_as_float(r.v[i].z);
            v[i][3] = __uint_as_float(r.v[i].w);
        }
    }
}

/* ---------------------------------------------------------------- stored codes */
enum { MB_NUMBERS = 256 };
/* Numbers of all codes of a weight's form, zero points not yet subtracted. All threads of the block; a barrier must follow. */
MB_DEVICE void mb_numbers(float *table, const struct mb_k_weight &w, int thread, int threads)
{
    struct mb_form f = w.form;

    f.zero_add = 0;
    for (int i = thread; i < (1 << f.bits); i += threads)
        table[i] = mb_form_number(&f, static_cast<uint8_t>(i), 0);
}

MB_DEVICE int32_t mb_group_of(const struct mb_k_weight &w, int64_t column, int32_t k)
{
    if (w.g_idx == nullptr)
        return static_cast<int32_t>((static_cast<uint32_t>(w.form.k0) + static_cast<uint32_t>(k)) /
                                    static_cast<uint32_t>(w.form.group)) -
               w.group0;
    int64_t list = column < w.n ? w.list_of[column] : 0;
    return w.g_idx[list * w.list_words + k];
}

/* Four neighbours of a table, in one load: the tables lie in whole rows of 16. */
MB_DEVICE float4 mb_scales(const struct mb_k_weight &w, const uint8_t *panel, int32_t g, int q)
{
    const uint8_t *table = panel + w.scale_at;
    int64_t i = static_cast<int64_t>(g) * MB_PANEL + q * 4;

    if (w.form.scale == MB_STORE_F32)
        return *reinterpret_cast<const float4 *>(table + i * 4);
    if (w.form.scale == MB_STORE_BF16 || w.form.scale == MB_STORE_F16) {
        ushort4 h = *reinterpret_cast<const ushort4 *>(table + i * 2);
        if (w.form.scale == MB_STORE_BF16)
            return make_float4(mb_bf16_float(h.x), mb_bf16_float(h.y), mb_bf16_float(h.z), mb_bf16_float(h.w));
        return make_float4(mb_f16_float_inl(h.x), mb_f16_float_inl(h.y), mb_f16_float_inl(h.z), mb_f16_float_inl(h.w));
    }
    uchar4 b = *reinterpret_cast<const uchar4 *>(table + i);
    if (w.form.scale == MB_SCALE_E8M0)
        return make_float4(b.x, b.y, b.z, b.w);
    if (w.form.scale == MB_STORE_F8E4M3)
        return make_float4(mb_fp8_float_inl(b.x), mb_fp8_float_inl(b.y), mb_fp8_float_inl(b.z), mb_fp8_float_inl(b.w));
    return make_float4(mb_f8e5m2_float_inl(b.x), mb_f8e5m2_float_inl(b.y), mb_f8e5m2_float_inl(b.z), mb_f8e5m2_float_inl(b.w));
}

MB_DEVICE float mb_whole_scale(const struct mb_k_weight &w, float s, float whole)
{
    if (w.form.scale == MB_SCALE_E8M0)
        return s;
    s = w.form.whole == MB_WHOLE_TIMES ? s * whole : w.form.whole == MB_WHOLE_OVER ? s / whole : s;
    return fabsf(s) < 0x1p-126f ? 0 : s;
}

/* Scales and zero points of four columns at one k. */
struct mb_group {
    float4 s, zero;
};
MB_DEVICE struct mb_group mb_group_at(const struct mb_k_weight &w, const uint8_t *panel, int32_t g, int q)
{
    struct mb_group r;
    float add = w.form.code == MB_CODE_INT ? static_cast<float>(w.form.zero_add) : 0;

    r.s = mb_scales(w, panel, g, q);
    r.zero = make_float4(add, add, add, add);
    if (w.form.zeros) {
        uchar4 z = *reinterpret_cast<const uchar4 *>(panel + w.zero_at + static_cast<int64_t>(g) * MB_PANEL + q * 4);
        r.zero = make_float4(add + z.x, add + z.y, add + z.z, add + z.w);
    }
    float4 whole = make_float4(1, 1, 1, 1);
    if (w.form.whole != MB_WHOLE_NONE)
        whole = *reinterpret_cast<const float4 *>(panel + w.whole_at + q * 16);
    r.s.x = mb_whole_scale(w, r.s.x, whole.x);
    r.s.y = mb_whole_scale(w, r.s.y, whole.y);
    r.s.z = mb_whole_scale(w, r.s.z, whole.z);
    r.s.w = mb_whole_scale(w, r.s.w, whole.w);
    return r;
}
/* The same where each column has lists of its own. */
MB_DEVICE struct mb_group mb_group_each(const struct mb_k_weight &w, const uint8_t *panel, int64_t column, int32_t k, int q)
{
    struct mb_group r, a = mb_group_at(w, panel, mb_group_of(w, column, k), q);

    r = a;
    a = mb_group_at(w, panel, mb_group_of(w, column + 1, k), q);
    r.s.y = a.s.y, r.zero.y = a.zero.y;
    a = mb_group_at(w, panel, mb_group_of(w, column + 2, k), q);
    r.s.z = a.s.z, r.zero.z = a.zero.z;
    a = mb_group_at(w, panel, mb_group_of(w, column + 3, k), q);
    r.s.w = a.s.w, r.zero.w = a.zero.w;
    return r;
}

/* Rule 6: fl32 of number and scale, rounded once to the weight's type. */
MB_DEVICE float mb_code_value(const struct mb_k_weight &w, float number, float zero, float s)
{
    float v = mb_form_value(&w.form, w.form.code == MB_CODE_INT ? number - zero : number, s);
    return w.dtype == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
}

/* Columns 4 q .. of a panel at k of the weight, which is place 2 m + p of the block that begins at `codes`. */
MB_DEVICE float4 mb_code_values(const struct mb_k_weight &w, const uint8_t *panel, const uint8_t *codes, int64_t column, int32_t k,
                                int m, int q, int p, const float *numbers)
{
    uint32_t c0, c1, c2, c3;
    int qp = q * 2 + p;

    if (w.bits == 4) {
        uint32_t h = *reinterpret_cast<const uint16_t *>(codes + (m / 8 * 8 + qp) * 16 + m % 8 * 2);
        c0 = h & 15, c1 = h >> 4 & 15, c2 = h >> 8 & 15, c3 = h >> 12;
    } else {
        uint32_t h = *reinterpret_cast<const uint32_t *>(codes + (m / 4 * 8 + qp) * 16 + m % 4 * 4);
        c0 = h & 255, c1 = h >> 8 & 255, c2 = h >> 16 & 255, c3 = h >> 24;
    }
    struct mb_group g = w.g_idx == nullptr ? mb_group_at(w, panel, mb_group_of(w, column, k), q)
                                           : mb_group_each(w, panel, column, k, q);
    return make_float4(mb_code_value(w, numbers[c0], g.zero.x, g.s.x), mb_code_value(w, numbers[c1], g.zero.y, g.s.y),
                       mb_code_value(w, numbers[c2], g.zero.z, g.s.z), mb_code_value(w, numbers[c3], g.zero.w, g.s.w));
}

/* Whole blocks of a panel as the numbers they stand for, in the layout of a weight that is kept so; zeros where the leaf has no k.
 * By the threads `thread`, `thread` + `threads`, ... Not inlined: it is long, and its results pass through shared memory. */
template <bool BF16>
static __device__ __noinline__ void mb_decode(uint8_t *to, const struct mb_k_weight &w, int32_t panel, int32_t block, int32_t blocks,
                                              int thread, int threads, const float *numbers)
{
    enum { PIECES = BF16 ? 64 : 128, M = BF16 ? 2 : 1 }; /* of a block; pairs of k in one */
    const uint8_t *from = w.data + panel * w.panel_bytes;

    for (int i = thread; i < blocks * PIECES; i += threads) {
        int32_t b = block + i / PIECES, piece = i % PIECES, q = piece % 8 / 2, p = piece % 2, valid = 0;
        int32_t k = b < w.blocks ? mb_block_k(&w, b, &valid) : 0;
        float4 v[M];
        MB_UNROLL
        for (int j = 0; j < M; j++) {
            int m = piece / 8 * M + j;
            v[j] = 2 * m + p < valid ? mb_code_values(w, from, from + static_cast<int64_t>(b) * w.block_bytes,
                                                      static_cast<int64_t>(panel) * MB_PANEL + q * 4, k + 2 * m + p, m, q, p, numbers)
                                     : make_float4(0, 0, 0, 0);
        }
        uint4 u;
        if constexpr (BF16)
            u = make_uint4(mb_bf16_pair(v[0].x, v[0].y), mb_bf16_pair(v[0].z, v[0].w), mb_bf16_pair(v[M - 1].x, v[M - 1].y),
                           mb_bf16_pair(v[M - 1].z, v[M - 1].w));
        else
            u = make_uint4(__float_as_uint(v[0].x), __float_as_uint(v[0].y), __float_as_uint(v[0].z), __float_as_uint(v[0].w));
        reinterpret_cast<uint4 *>(to)[i] = u;
    }
}

/* The job of item i: the last one that begins at or before it. */
MB_DEVICE const struct mb_k_job *mb_job_of(const struct mb_k_job *jobs, int32_t n, int32_t i)
{
    int32_t lo = 0, hi = n;

    while (hi - lo > 1) {
        int32_t mid = (lo + hi) / 2;
        if (jobs[mid].item0 <= i)
            lo = mid;
        else
            hi = mid;
    }
    return jobs + lo;
}
#endif
