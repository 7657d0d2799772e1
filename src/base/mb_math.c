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
    return mb_f16_float_inl(h);
}

float mb_fp8_float(uint8_t b)
{
    return mb_fp8_float_inl(b);
}

float mb_f8e5m2_float(uint8_t b)
{
    return mb_f8e5m2_float_inl(b);
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
