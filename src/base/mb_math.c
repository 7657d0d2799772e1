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

double mb_exp(double x)
{
    return mb_exp_inl(x);
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

float mb_f8e5m2_float(uint8_t b)
{
    return mb_f16_float((uint16_t)(b << 8));
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
