#include "base/mb_math.h"

#include <immintrin.h>
#include <math.h>
#include "base/mb_math_inl.h"

float mb_expf(float x)
{
    return mb_expf_inl(x);
}

float mb_logf(float x)
{
    return mb_logf_inl(x);
}

float mb_tanhf(float x)
{
    return mb_tanhf_inl(x);
}

float mb_erff(float x)
{
    return mb_erff_inl(x);
}

float mb_sigmoidf(float x)
{
    return mb_sigmoidf_inl(x);
}

float mb_rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

static double double_of(uint64_t u)
{
    double d;
    memcpy(&d, &u, 8);
    return d;
}

static uint64_t bits_of_double(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

/* As mb_expf: 2^n exp(r), exp(r) = 1 + (r + r^2 q(r)), relative error of the fit 2^-57.9. */
double mb_exp(double x)
{
    static const double q[] = {0x1.ad8ec4cc678efp-26, 0x1.28aebe7b7ddb2p-22, 0x1.71df1cdb5a732p-19,
                               0x1.a01998aac5416p-16, 0x1.a01a012dae9b3p-13, 0x1.6c16c184ab6f2p-10,
                               0x1.11111111272e5p-7,  0x1.5555555550627p-5,  0x1.55555555554fcp-3,
                               0x1.000000000000ap-1};
    const double magic = 0x1.8p52, log2e = 0x1.71547652b82fep+0;
    const double ln2_hi = 0x1.62e42fefa39efp-1, ln2_lo = 0x1.abc9e3b39803fp-56;
    double c = x < -750.0 ? -750.0 : x;
    c = c > 715.0 ? 715.0 : c;
    double t = fma(c, log2e, magic);
    int64_t n = (int64_t)(bits_of_double(t) - bits_of_double(magic));
    double k = t - magic;
    double r = fma(-k, ln2_lo, fma(-k, ln2_hi, c));
    double s = q[0];
    for (int i = 1; i < 10; i++)
        s = fma(s, r, q[i]);
    double p = 1.0 + fma(r * r, s, r);
    int64_t half = n >> 1;
    return p * double_of((uint64_t)(half + 1023) << 52) * double_of((uint64_t)(n - half + 1023) << 52);
}

float mb_f16_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff;
    if (e == 31)
        return mb_float_of(sign | 0x7f800000u | (m << 13));
    if (e > 0)
        return mb_float_of(sign | ((e + 112) << 23) | (m << 13));
    float v = (float)m * 0x1p-24f; /* a half's subnormal is a normal float */
    return mb_float_of(sign | mb_bits_of(v));
}

float mb_fp8_float(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80) << 24, e = (b >> 3) & 15, m = b & 7;
    if (e == 15 && m == 7)
        return mb_float_of(sign | 0x7fc00000u);
    if (e > 0)
        return mb_float_of(sign | ((e + 120) << 23) | (m << 20));
    float v = (float)m * 0x1p-9f;
    return mb_float_of(sign | mb_bits_of(v));
}

#define FTZ_DAZ 0x8040u
#define ROUNDING 0x6000u /* 00: to nearest */
#define MASKS 0x1f80u    /* no floating-point trap */

uint32_t mb_fp_enter(void)
{
    uint32_t old = _mm_getcsr();
    _mm_setcsr((old & ~ROUNDING) | FTZ_DAZ | MASKS);
    return old;
}

void mb_fp_restore(uint32_t old)
{
    _mm_setcsr(old);
}

int mb_fp_ok(void)
{
    uint32_t now = _mm_getcsr();
    return (now & FTZ_DAZ) == FTZ_DAZ && (now & ROUNDING) == 0;
}
