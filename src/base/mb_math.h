/* Rule 4 of the numeric contract: our own elementary functions, built from fmaf, *, + and integer operations, the same
 * bits on every CPU and GPU. At most 2 ulp over the whole range (inputs and results that are subnormal are zero: FTZ and
 * DAZ are on in every computing thread). No libm in a row's arithmetic. Local, pure.
 * float mb_expf(float)   exp;  exp(0) = 1 exactly; -inf -> +0; overflow -> +inf; NaN -> NaN
 * float mb_logf(float)   natural logarithm; log(1) = 0; 0 -> -inf; < 0 -> NaN
 * float mb_tanhf(float), mb_erff(float)      accurate also near 0
 * float mb_sigmoidf(float)                   1 / (1 + mb_expf(-x)), its roundings compensated (2 ulp everywhere)
 * float mb_rsqrtf(float)                     1 / sqrtf(x), both IEEE
 * double mb_exp(double)                      for sampling probabilities
 * Their bodies, for vectorised loops: base/mb_math_inl.h. */
#ifndef MB_BASE_MB_MATH_H
#define MB_BASE_MB_MATH_H
#include <stdint.h>
#include <string.h>

/* Functions that every compiler of the program reads, also one for devices (which defines the word itself, before this).
 * always: a call would keep the loop around it from being vectorised. */
#ifndef MB_INLINE
#define MB_INLINE static inline __attribute__((always_inline))
#endif

float mb_expf(float x);
float mb_logf(float x);
float mb_tanhf(float x);
float mb_erff(float x);
float mb_sigmoidf(float x);
float mb_rsqrtf(float x);
double mb_exp(double x);

MB_INLINE uint32_t mb_bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
MB_INLINE float mb_float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
/* bfloat16: round to nearest, ties to even; NaN stays a (quiet) NaN. */
MB_INLINE uint16_t mb_bf16_of(float f)
{
    uint32_t u = mb_bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
MB_INLINE float mb_bf16_float(uint16_t h)
{
    return mb_float_of((uint32_t)h << 16);
}
/* IEEE half (f16) and FP8 E4M3 (OCP "fn": no infinity, 0x7f is NaN) to f32, exact. */
float mb_f16_float(uint16_t h);
float mb_fp8_float(uint8_t b);    /* E4M3 without infinities */
float mb_f8e5m2_float(uint8_t b); /* E5M2: the upper byte of an f16 */

/* Round to nearest, FTZ, DAZ in this thread; returns the previous control word for mb_fp_restore. Every thread that
 * touches a row's arithmetic calls it first. */
uint32_t mb_fp_enter(void);
void mb_fp_restore(uint32_t old);
/* Whether this thread has the contract's floating-point mode. */
int mb_fp_ok(void);
#endif
