/* The row kernels' one source; see cpu_vec.h. The including file defines FN (static, with the target), vec,
 * LANES and the operations v_zero, v_load, v_set1, v_add, v_sub, v_mul, v_max (the second where either is NaN),
 * v_fma, v_store on unaligned vectors, the same for 32-bit integers (ivec,
 * iv_from: x, x + 1, ...; iv_mul: low and high half of the products), and SET, the table's name. Loops marked
 * "omp simd" have independent elements: the pragma only says so, it adds no sum across lanes. */
#include <math.h>
#include "base/mb_math_inl.h"
#include "device/cpu_vec.h"

#define REGS (32 / LANES)
#define SIMD _Pragma("omp simd")
#ifdef __clang__
/* A loop that Clang leaves scalar, as it does below -O2, is slow but not wrong. */
#pragma clang diagnostic ignored "-Wpass-failed"
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* ---------------------------------------------------------------- element by element */
FN void add(float *out, const float *a, const float *b, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

FN void mul(float *out, const float *x, float c, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = x[i] * c;
}

FN void divide(float *out, const float *x, float c, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = x[i] / c;
}

FN void clamp(float *x, float c, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++)
    {
        float v = x[i] > -c ? x[i] : -c;
        v = v < c ? v : c;
        x[i] = x[i] == x[i] ? v : x[i];
    }
}

FN void mix(float *out, const float *a, float ca, const float *b, float cb, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = fmaf(a[i], ca, b[i] * cb);
}

FN void mul_bf16(float *out, const uint16_t *x, float c, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_bf16_float(x[i]) * c;
}

FN void round_bf16(uint16_t *out, const float *x, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++)
    {
        uint32_t u = mb_bits_of(x[i]);
        uint32_t even = u + 0x7fffu + ((u >> 16) & 1), quiet = u | 0x400000u;
        out[i] = (uint16_t)(((u & 0x7fffffffu) > 0x7f800000u ? quiet : even) >> 16);
    }
}

FN void act_silu(float *out, const float *g, const float *u, float limit, int64_t n)
{
    (void)limit;
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_silu_inl(g[i]) * u[i];
}

FN void act_gelu_erf(float *out, const float *g, const float *u, float limit, int64_t n)
{
    (void)limit;
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_gelu_erf_inl(g[i]) * u[i];
}

FN void act_gelu_tanh(float *out, const float *g, const float *u, float limit, int64_t n)
{
    (void)limit;
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_gelu_tanh_inl(g[i]) * u[i];
}

FN void act_swiglu(float *out, const float *g, const float *u, float limit, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_swiglu_clamped_inl(g[i], u[i], limit);
}

FN void rope_half(float *out_a, float *out_b, const float *xa, const float *xb, const float *c,
                  const float *s, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++)
    {
        float a = xa[i], b = xb[i];
        out_a[i] = a * c[i] - b * s[i];
        out_b[i] = b * c[i] + a * s[i];
    }
}

FN void rope_interleaved(float *out, const float *x, const float *c, const float *s, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++)
    {
        float a = x[2 * i], b = x[2 * i + 1];
        out[2 * i] = a * c[i] - b * s[i];
        out[2 * i + 1] = b * c[i] + a * s[i];
    }
}

FN void exp_div(float *out, const float *x, float c, float l, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_expf_inl(x[i] - c) / l;
}

FN void sigmoid(float *out, const float *x, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_sigmoidf_inl(x[i]);
}

FN void norm_layer(float *out, const float *x, float c, float r, const float *w, const float *b, int64_t n)
{
    if (b == NULL) {
        SIMD for (int64_t i = 0; i < n; i++) out[i] = ((x[i] - c) * r) * w[i];
        return;
    }
    SIMD for (int64_t i = 0; i < n; i++) out[i] = ((x[i] - c) * r) * w[i] + b[i];
}

FN void norm_rms(float *out, const float *x, float r, const float *w, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = (x[i] * r) * w[i];
}

/* ---------------------------------------------------------------- R32 */
/* The 32 partial sums live in REGS vectors; the tail goes on in memory, then the fixed fold. */
FN float r32_sum(const float *x, int64_t n)
{
    vec acc[REGS];
    UNROLL for (int r = 0; r < REGS; r++) acc[r] = v_zero();
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        UNROLL for (int r = 0; r < REGS; r++) acc[r] = v_add(acc[r], v_load(x + i + r * LANES));
    float p[32];
    UNROLL for (int r = 0; r < REGS; r++) v_store(p + r * LANES, acc[r]);
    for (int j = 0; i + j < n; j++)
        p[j] = p[j] + x[i + j];
    return mb_r32_end(p);
}

FN float r32_dot(const float *x, const float *w, int64_t n)
{
    vec acc[REGS];
    UNROLL for (int r = 0; r < REGS; r++) acc[r] = v_zero();
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        UNROLL for (int r = 0; r < REGS; r++) acc[r] =
            v_fma(v_load(x + i + r * LANES), v_load(w + i + r * LANES), acc[r]);
    float p[32];
    UNROLL for (int r = 0; r < REGS; r++) v_store(p + r * LANES, acc[r]);
    for (int j = 0; i + j < n; j++)
        p[j] = fmaf(x[i + j], w[i + j], p[j]);
    return mb_r32_end(p);
}

FN float r32_dev(const float *x, float c, int64_t n)
{
    vec acc[REGS], centre = v_set1(c);
    UNROLL for (int r = 0; r < REGS; r++) acc[r] = v_zero();
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        UNROLL for (int r = 0; r < REGS; r++)
        {
            vec d = v_sub(v_load(x + i + r * LANES), centre);
            acc[r] = v_fma(d, d, acc[r]);
        }
    float p[32];
    UNROLL for (int r = 0; r < REGS; r++) v_store(p + r * LANES, acc[r]);
    for (int j = 0; i + j < n; j++) {
        float d = x[i + j] - c;
        p[j] = fmaf(d, d, p[j]);
    }
    return mb_r32_end(p);
}

FN float r32_exp(const float *x, float c, int64_t n)
{
    float p[32] = {0};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        SIMD for (int j = 0; j < 32; j++) p[j] = p[j] + mb_expf_inl(x[i + j] - c);
    for (int j = 0; i + j < n; j++)
        p[j] = p[j] + mb_expf_inl(x[i + j] - c);
    return mb_r32_end(p);
}

/* Two rows of w share the loads of x. */
FN void r32_dot2(float *out, const float *x, const float *w0, const float *w1, int64_t n)
{
    vec a[REGS], b[REGS];
    UNROLL for (int r = 0; r < REGS; r++) a[r] = b[r] = v_zero();
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        UNROLL for (int r = 0; r < REGS; r++)
        {
            vec v = v_load(x + i + r * LANES);
            a[r] = v_fma(v, v_load(w0 + i + r * LANES), a[r]);
            b[r] = v_fma(v, v_load(w1 + i + r * LANES), b[r]);
        }
    float p[32], q[32];
    UNROLL for (int r = 0; r < REGS; r++)
    {
        v_store(p + r * LANES, a[r]);
        v_store(q + r * LANES, b[r]);
    }
    for (int j = 0; i + j < n; j++) {
        p[j] = fmaf(x[i + j], w0[i + j], p[j]);
        q[j] = fmaf(x[i + j], w1[i + j], q[j]);
    }
    out[0] = mb_r32_end(p);
    out[1] = mb_r32_end(q);
}

FN void r32_dots(float *out, const float *x, const float *w, int64_t w_stride, int64_t m, int64_t n)
{
    int64_t j = 0;
    for (; j + 2 <= m; j += 2)
        r32_dot2(out + j, x, w + j * w_stride, w + (j + 1) * w_stride, n);
    if (j < m)
        out[j] = r32_dot(x, w + j * w_stride, n);
}

/* ---------------------------------------------------------------- searches */
FN float max_of(const float *x, int64_t n, bool *finite)
{
    float m[32];
    uint32_t odd[32] = {0}, any = 0;
    for (int j = 0; j < 32; j++)
        m[j] = -INFINITY;
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        SIMD for (int j = 0; j < 32; j++)
        {
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
            odd[j] |= (mb_bits_of(x[i + j]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
        }
    for (int j = 0; i + j < n; j++) {
        m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
        odd[j] |= (mb_bits_of(x[i + j]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    }
    float best = -INFINITY;
    for (int j = 0; j < 32; j++) {
        best = m[j] > best ? m[j] : best;
        any |= odd[j];
    }
    *finite = any == 0;
    return best + 0.0f; /* -0 and +0 are one value; which lane came first may not show */
}

FN void block_max(float *out, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        vec m = v_set1(-INFINITY);
        UNROLL for (int r = 0; r < REGS; r++) m = v_max(v_load(x + i + r * LANES), m);
        float lane[LANES], best = -INFINITY;
        v_store(lane, m);
        for (int j = 0; j < LANES; j++)
            best = lane[j] > best ? lane[j] : best;
        out[i / 32] = best;
    }
    if (i == n)
        return;
    float best = -INFINITY;
    for (int64_t j = i; j < n; j++)
        best = x[j] > best ? x[j] : best;
    out[i / 32] = best;
}

FN int64_t find(const float *x, float m, int64_t n)
{
    int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        uint32_t hit[32], any = 0;
        SIMD for (int j = 0; j < 32; j++) hit[j] = x[i + j] == m ? 1u : 0u;
        for (int j = 0; j < 32; j++)
            any |= hit[j];
        if (any != 0)
            break;
    }
    while (i < n && !(x[i] == m))
        i++;
    return i;
}

/* 16 Philox blocks side by side, LANES at a time, four words each (base/rng.h is the definition). */
FN void philox16(uint32_t *x, uint64_t key, int64_t position, uint32_t quad)
{
    for (uint32_t at = 0; at < 16; at += LANES) {
        ivec c0 = iv_from(quad + at), c1 = iv_set1((uint32_t)position);
        ivec c2 = iv_set1((uint32_t)((uint64_t)position >> 32)), c3 = iv_set1(0);
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), word[4][LANES];
        for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
            ivec h0, h1, l0 = iv_mul(c0, 0xD2511F53u, &h0), l1 = iv_mul(c2, 0xCD9E8D57u, &h1);
            c0 = iv_xor(iv_xor(h1, c1), iv_set1(k0));
            c2 = iv_xor(iv_xor(h0, c3), iv_set1(k1));
            c1 = l1;
            c3 = l0;
        }
        iv_store(word[0], c0);
        iv_store(word[1], c1);
        iv_store(word[2], c2);
        iv_store(word[3], c3);
        for (uint32_t j = 0; j < 4 * LANES; j++)
            x[4 * at + j] = word[j % 4][j / 4];
    }
}

/* g >= c means u >= exp(-exp(-c)). The bound is lowered by 1e-3 in c and 4 steps of u, far beyond the
 * roundings of both sides, so that a bit may be set for nothing but is never missing. */
FN uint64_t noise64(uint32_t *x, uint64_t key, int64_t position, uint32_t quad, float c)
{
    philox16(x, key, position, quad);
    float steps = mb_expf_inl(-mb_expf_inl(1e-3f - c)) * 0x1p23f - 4.0f;
    uint32_t least = steps > 0 ? (uint32_t)(int32_t)steps : 0, any[16] = {0}, some = 0;
    for (int i = 0; i < 64; i += 16)
        SIMD for (int j = 0; j < 16; j++) any[j] |= (x[i + j] >> 9) >= least ? 1u : 0u;
    for (int j = 0; j < 16; j++)
        some |= any[j];
    if (some == 0)
        return 0;
    uint64_t bits = 0;
    for (int j = 0; j < 64; j++)
        bits |= (uint64_t)((x[j] >> 9) >= least) << j;
    return bits;
}

FN void exp64(double *out, const float *x, float c, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_exp_inl((double)x[i] - (double)c);
}

#include "device/cpu_vec_delta.h"

const struct mb_vec SET = {
    .add = add,
    .mul = mul,
    .div = divide,
    .clamp = clamp,
    .mix = mix,
    .mul_bf16 = mul_bf16,
    .round = round_bf16,
    .act = {act_silu, act_gelu_erf, act_gelu_tanh, act_swiglu},
    .rope_half = rope_half,
    .rope_interleaved = rope_interleaved,
    .exp_div = exp_div,
    .sigmoid = sigmoid,
    .r32_sum = r32_sum,
    .r32_dot = r32_dot,
    .r32_dev = r32_dev,
    .r32_exp = r32_exp,
    .r32_dots = r32_dots,
    .norm_layer = norm_layer,
    .norm_rms = norm_rms,
    .max = max_of,
    .block_max = block_max,
    .find = find,
    .noise64 = noise64,
    .exp64 = exp64,
    .gate = gate,
    .conv = conv,
    .delta = delta,
};
