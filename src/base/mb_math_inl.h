/* The elementary functions' bodies, for kernels that need them inside a vectorised loop: branch-free straight
 * lines of fmaf, *, +, / and integer operations with selects, so that a compiler may run them lane by lane
 * without changing a bit (compile with -ffp-contract=off). mb_math.c wraps these same bodies. Contracts:
 * base/mb_math.h.
 *
 * Coefficients: minimax fits of this project (weighted least squares iterated to equal ripple in 200-bit
 * arithmetic, coefficients rounded one after another, the others refitted); the error bound of each is noted
 * beside it. */
#ifndef MB_BASE_MB_MATH_INL_H
#define MB_BASE_MB_MATH_INL_H
#include <math.h>
#include "base/mb_math.h"

#define MB_F_MAGIC                                                                                           \
    12582912.0f /* 1.5 * 2^23: adding it rounds to an integer kept in the low mantissa bits                  \
                 */
#define MB_LOG2E 0x1.715476p+0f
#define MB_LN2_HI 0x1.62e430p-1f
#define MB_LN2_LO (-0x1.05c610p-29f)

/* cond ? a : b by mask: a ternary would let the compiler compute one side behind a branch. */
MB_INLINE float mb_select(int cond, float a, float b)
{
    uint32_t mask = 0u - (uint32_t)cond;
    return mb_float_of((mb_bits_of(a) & mask) | (mb_bits_of(b) & ~mask));
}

/* exp(x) = 2^n exp(r), |r| <= ln2 / 2, exp(r) = 1 + (r + r^2 q(r)), relative error of the fit 2^-28.2.
 * Clamping keeps n inside two exponent fields: the two factors overflow to +inf and underflow to +0 by
 * themselves; NaN passes. */
MB_INLINE float mb_expf_inl(float x)
{
    float c = x < -104.0f ? -104.0f : x;
    c = c > 89.0f ? 89.0f : c;
    float t = fmaf(c, MB_LOG2E, MB_F_MAGIC);
    int32_t n = (int32_t)(mb_bits_of(t) - mb_bits_of(MB_F_MAGIC));
    float k = t - MB_F_MAGIC;
    float r = fmaf(-k, MB_LN2_HI, c);
    r = fmaf(-k, MB_LN2_LO, r);
    float q = 0x1.6a5450p-10f;
    q = fmaf(q, r, 0x1.123b10p-7f);
    q = fmaf(q, r, 0x1.5558acp-5f);
    q = fmaf(q, r, 0x1.555490p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    float p = 1.0f + fmaf(r * r, q, r);
    int32_t half = n >> 1;
    float s1 = mb_float_of((uint32_t)(half + 127) << 23);
    float s2 = mb_float_of((uint32_t)(n - half + 127) << 23);
    return p * s1 * s2;
}

MB_INLINE double mb_double_of(uint64_t u)
{
    double d;
    memcpy(&d, &u, 8);
    return d;
}
MB_INLINE uint64_t mb_bits_of_double(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

/* As mb_expf_inl, in f64; relative error of the fit 2^-57.9. The shift of n stays unsigned (n + 2048 > 0):
 * vector sets without a 64-bit arithmetic shift can do it too. */
MB_INLINE double mb_exp_inl(double x)
{
    const double magic = 0x1.8p52, ln2_hi = 0x1.62e42fefa39efp-1, ln2_lo = 0x1.abc9e3b39803fp-56;
    double c = x < -750.0 ? -750.0 : x;
    c = c > 715.0 ? 715.0 : c;
    double t = fma(c, 0x1.71547652b82fep+0, magic), k = t - magic;
    uint64_t n = mb_bits_of_double(t) - mb_bits_of_double(magic) + 2048;
    double r = fma(-k, ln2_lo, fma(-k, ln2_hi, c));
    double s = 0x1.ad8ec4cc678efp-26;
    s = fma(s, r, 0x1.28aebe7b7ddb2p-22);
    s = fma(s, r, 0x1.71df1cdb5a732p-19);
    s = fma(s, r, 0x1.a01998aac5416p-16);
    s = fma(s, r, 0x1.a01a012dae9b3p-13);
    s = fma(s, r, 0x1.6c16c184ab6f2p-10);
    s = fma(s, r, 0x1.11111111272e5p-7);
    s = fma(s, r, 0x1.5555555550627p-5);
    s = fma(s, r, 0x1.55555555554fcp-3);
    s = fma(s, r, 0x1.000000000000ap-1);
    double p = 1.0 + fma(r * r, s, r);
    uint64_t half = n >> 1, rest = n - half; /* both carry 1024 of the 2048 */
    return p * mb_double_of((half - 1) << 52) * mb_double_of((rest - 1) << 52);
}

/* log(x) = k ln2 + log(1 + f), 1 + f in [sqrt(1/2), sqrt(2)); log(1 + f) = f + f^2 (f P(f) - 1/2), error
 * 2^-30.3. */
MB_INLINE float mb_logf_inl(float x)
{
    uint32_t u = mb_bits_of(x), sqrt_half = 0x3f3504f3u;
    int32_t k = (int32_t)(u - sqrt_half) >> 23;
    float f = mb_float_of(u - ((uint32_t)k << 23)) - 1.0f;
    float p = 0x1.147660p-4f;
    p = fmaf(p, f, -0x1.de02e8p-4f);
    p = fmaf(p, f, 0x1.e6bf34p-4f);
    p = fmaf(p, f, -0x1.fc2882p-4f);
    p = fmaf(p, f, 0x1.233ba8p-3f);
    p = fmaf(p, f, -0x1.555c46p-3f);
    p = fmaf(p, f, 0x1.99a476p-3f);
    p = fmaf(p, f, -0x1.000006p-2f);
    p = fmaf(p, f, 0x1.555548p-2f);
    float l = fmaf(f * f, fmaf(f, p, -0.5f), f);
    float r = fmaf((float)k, MB_LN2_HI, fmaf((float)k, MB_LN2_LO, l));
    uint32_t a = u & 0x7fffffffu, out = mb_bits_of(r);
    out = u >= 0x7f800000u ? 0x7fc00000u : out; /* negative, or NaN */
    out = u == 0x7f800000u ? u : out;           /* +inf */
    out = a < 0x00800000u ? 0xff800000u : out;  /* zero; a subnormal input is zero */
    return mb_float_of(out);
}

/* |x| < 0.64: x + x^3 P(x^2), error 2^-27.4; above: 1 - 2 / (exp(2|x|) + 1). */
MB_INLINE float mb_tanhf_inl(float x)
{
    uint32_t u = mb_bits_of(x);
    float a = mb_float_of(u & 0x7fffffffu), t = x * x;
    float p = -0x1.6e3090p-8f;
    p = fmaf(p, t, 0x1.507380p-6f);
    p = fmaf(p, t, -0x1.b7fabep-5f);
    p = fmaf(p, t, 0x1.11053ap-3f);
    p = fmaf(p, t, -0x1.55552ap-2f);
    float small = fmaf(a * t, p, a);
    float big = 1.0f - 2.0f / (mb_expf_inl(2.0f * a) + 1.0f);
    uint32_t b = mb_bits_of(mb_select(a < 0.64f, small, big));
    return mb_float_of(b | (u & 0x80000000u));
}

/* |x| < 0.93: x + x P(x^2), error 2^-30.5; above: 1 - exp(-P(|x|)), P = -log(erfc), error 2^-34.5; from 4 on
 * it is 1. */
MB_INLINE float mb_erff_inl(float x)
{
    uint32_t u = mb_bits_of(x);
    float a = mb_float_of(u & 0x7fffffffu), t = x * x;
    float p = 0x1.568b24p-14f;
    p = fmaf(p, t, -0x1.a85820p-11f);
    p = fmaf(p, t, 0x1.54917cp-8f);
    p = fmaf(p, t, -0x1.b80914p-6f);
    p = fmaf(p, t, 0x1.ce2dccp-4f);
    p = fmaf(p, t, -0x1.812742p-2f);
    p = fmaf(p, t, 0.12837916f);
    float small = fmaf(x, p, x);
    float c = a > 4.0f ? 4.0f : a;
    float q = 0x1.8b0facp-21f;
    q = fmaf(q, c, 0x1.7c1b02p-17f);
    q = fmaf(q, c, -0x1.8d5462p-12f);
    q = fmaf(q, c, 0x1.05c4eap-8f);
    q = fmaf(q, c, -0x1.95e8fep-6f);
    q = fmaf(q, c, 0x1.b9c9d4p-4f);
    q = fmaf(q, c, 0x1.446f7ep-1f);
    q = fmaf(q, c, 0x1.211f2cp+0f);
    q = fmaf(q, c, -0x1.3be560p-13f);
    float big = mb_float_of(mb_bits_of(1.0f - mb_expf_inl(-q)) | (u & 0x80000000u));
    return mb_select(a < 0.93f, small, big);
}

/* 1 / (1 + e), e = exp(-x). Where e lies just above a power of two, the roundings of e, 1 + e and the
 * division would add up to more than 2 ulp, so the rounding error of 1 + e and the remainder of the division
 * are put back. */
MB_INLINE float mb_sigmoidf_inl(float x)
{
    float e = mb_expf_inl(-x);
    float big = e > 1.0f ? e : 1.0f, small = e > 1.0f ? 1.0f : e;
    float d = big + small, low = small - (d - big);
    float q = 1.0f / d;
    float rest = fmaf(-q, low, fmaf(-q, d, 1.0f));
    float r = fmaf(q, rest, q);
    r = mb_select(d < 0x1p100f, r, q);
    return mb_select(e == e, r, e);
}

MB_INLINE float mb_silu_inl(float g)
{
    return g / (1.0f + mb_expf_inl(-g));
}

MB_INLINE float mb_gelu_erf_inl(float g)
{
    return (0.5f * g) * (1.0f + mb_erff_inl(g * 0x1.6a09e6p-1f));
}

MB_INLINE float mb_gelu_tanh_inl(float g)
{
    float inner = g * fmaf(0.044715f, g * g, 1.0f);
    return (0.5f * g) * (1.0f + mb_tanhf_inl(0x1.988454p-1f * inner));
}

MB_INLINE float mb_swiglu_clamped_inl(float g, float u, float limit)
{
    float gate = g < limit ? g : limit;
    float up = u > -limit ? u : -limit;
    up = up < limit ? up : limit;
    return (up + 1.0f) * (gate * mb_sigmoidf_inl(1.702f * gate));
}

/* ---------------------------------------------------------------- small floats */
MB_INLINE float mb_f16_float_inl(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
    if (e == 31)
        return mb_float_of(sign | 0x7f800000u | (m << 13));
    if (e > 0)
        return mb_float_of(sign | ((e + 112) << 23) | (m << 13));
    float v = (float)m * 0x1p-24f; /* a half's subnormal is a normal float */
    return mb_float_of(sign | mb_bits_of(v));
}

MB_INLINE float mb_fp8_float_inl(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, e = (b >> 3) & 15, m = b & 7;
    if (e == 15 && m == 7)
        return mb_float_of(sign | 0x7fc00000u);
    if (e > 0)
        return mb_float_of(sign | ((e + 120) << 23) | (m << 20));
    float v = (float)m * 0x1p-9f;
    return mb_float_of(sign | mb_bits_of(v));
}

MB_INLINE float mb_f8e5m2_float_inl(uint8_t b)
{
    return mb_f16_float_inl((uint16_t)(b << 8));
}
#endif
