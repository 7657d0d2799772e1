/* The elementary functions against long double libm. Sampled here; tests/long_math is the same over all 2^32
 * inputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/mb_math.h"

#ifndef STRIDE
#define STRIDE 4099 /* a prime: the sample meets every exponent at changing mantissas */
#endif

typedef long double real;
static real ref_sigmoid(real x)
{
    return 1 / (1 + expl(-x));
}
static real ref_rsqrt(real x)
{
    return 1 / sqrtl(x);
}

static const struct fun {
    const char *name;
    float (*ours)(float);
    real (*ref)(real);
} funs[] = {
    {"exp", mb_expf, expl},
    {"log", mb_logf, logl},
    {"tanh", mb_tanhf, tanhl},
    {"erf", mb_erff, erfl},
    {"sigmoid", mb_sigmoidf, ref_sigmoid},
    {"rsqrt", mb_rsqrtf, ref_rsqrt},
};

/* |got - want| in units of the last place of want, subnormals being zero (a result within half an ulp of the
 * smallest normal may be either). Infinity where classes differ. */
static double ulps(float got, real want)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0 : INFINITY;
    real size = fabsl(want);
    if (size < (real)FLT_MIN)
        return got == 0 || fabsf(got) == FLT_MIN ? 0 : INFINITY;
    if (size >= 0x1.ffffffp127L)
        return isinf(got) && (got > 0) == (want > 0) ? 0 : INFINITY;
    int e;
    frexpl(want, &e);
    return (double)(fabsl((real)got - want) / ldexpl(1, e - 24));
}

/* The argument as a thread with DAZ sees it (by its bits: loading it would already flush it). */
static real seen(uint32_t u)
{
    if ((u & 0x7fffffffu) >= 0x00800000u)
        return (real)mb_float_of(u);
    return u >> 31 ? -0.0L : 0.0L;
}

static double worst_in(const struct fun *f, uint64_t begin, uint64_t end, float *at)
{
    double worst = 0;
    for (uint64_t u = begin; u < end; u += STRIDE) {
        float x = mb_float_of((uint32_t)u);
        double e = ulps(f->ours(x), f->ref(seen((uint32_t)u)));
        if (e > worst) {
            worst = e;
            *at = x;
        }
    }
    return worst;
}

static double worst_all(const struct fun *f, float *at)
{
    double worst = 0;
#pragma omp parallel for schedule(dynamic, 1)
    for (int part = 0; part < 256; part++) {
        uint32_t old = mb_fp_enter();
        uint64_t begin = (uint64_t)part << 24, first = (begin + STRIDE - 1) / STRIDE * STRIDE;
        float x = 0;
        double w = worst_in(f, first, begin + (1u << 24), &x);
#pragma omp critical
        if (w > worst) {
            worst = w;
            *at = x;
        }
        mb_fp_restore(old);
    }
    return worst;
}

static void test_two_ulp(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof funs / sizeof *funs; i++) {
        float at = 0;
        double worst = worst_all(&funs[i], &at);
        printf("%-8s worst %.3f ulp at %a\n", funs[i].name, worst, (double)at);
        assert_true(worst <= 2);
    }
}

static void test_exp64(void **state)
{
    (void)state;
    double worst = 0;
    uint64_t s = 1;
    for (int i = 0; i < 300000; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        double x = ((double)(s >> 11) * 0x1p-53 - 0.5) * (i % 3 == 0 ? 1416 : i % 3 == 1 ? 8 : 1e-3);
        real want = expl(x);
        if (want < (real)DBL_MIN || want > (real)DBL_MAX)
            continue;
        int e;
        frexpl(want, &e);
        double u = (double)(fabsl((real)mb_exp(x) - want) / ldexpl(1, e - 53));
        worst = u > worst ? u : worst;
    }
    printf("exp f64  worst %.3f ulp\n", worst);
    assert_true(worst <= 2);
    assert_true(mb_exp(0) == 1);
    assert_true(mb_exp(-INFINITY) == 0);
    assert_true(mb_exp(INFINITY) == INFINITY);
    assert_true(mb_exp(-1000) == 0);
    assert_true(mb_exp(1000) == INFINITY);
    assert_true(isnan(mb_exp(NAN)));
}

static void same(float got, float want)
{
    if (isnan(want))
        assert_true(isnan(got));
    else
        assert_int_equal(mb_bits_of(got), mb_bits_of(want));
}

static void test_special(void **state)
{
    (void)state;
    const float inf = INFINITY, nan = NAN, tiny = 0x1p-140f;
    const struct {
        float (*f)(float);
        float x, y;
    } t[] = {
        {mb_expf, 0, 1},        {mb_expf, -0.0f, 1},          {mb_expf, -inf, 0},     {mb_expf, inf, inf},
        {mb_expf, nan, nan},    {mb_expf, tiny, 1},           {mb_expf, 89, inf},     {mb_expf, -104, 0},
        {mb_expf, -FLT_MAX, 0}, {mb_expf, FLT_MAX, inf},      {mb_logf, 1, 0},        {mb_logf, 0, -inf},
        {mb_logf, -0.0f, -inf}, {mb_logf, -1, nan},           {mb_logf, inf, inf},    {mb_logf, -inf, nan},
        {mb_logf, nan, nan},    {mb_logf, -nan, nan},         {mb_logf, tiny, -inf},  {mb_logf, -tiny, -inf},
        {mb_tanhf, 0, 0},       {mb_tanhf, -0.0f, -0.0f},     {mb_tanhf, inf, 1},     {mb_tanhf, -inf, -1},
        {mb_tanhf, nan, nan},   {mb_tanhf, FLT_MIN, FLT_MIN}, {mb_erff, 0, 0},        {mb_erff, -0.0f, -0.0f},
        {mb_erff, inf, 1},      {mb_erff, -inf, -1},          {mb_erff, nan, nan},    {mb_erff, 5, 1},
        {mb_sigmoidf, 0, 0.5f}, {mb_sigmoidf, inf, 1},        {mb_sigmoidf, -inf, 0}, {mb_sigmoidf, nan, nan},
        {mb_sigmoidf, -100, 0}, {mb_sigmoidf, 100, 1},        {mb_rsqrtf, 4, 0.5f},   {mb_rsqrtf, 0, inf},
        {mb_rsqrtf, inf, 0},    {mb_rsqrtf, -1, nan},         {mb_rsqrtf, nan, nan},
    };
    uint32_t old = mb_fp_enter();
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        same(t[i].f(t[i].x), t[i].y);
    mb_fp_restore(old);
}

/* Value of a small float format by its definition. */
static double by_definition(uint32_t bits, int exp_bits, int man_bits, int ieee)
{
    int bias = (1 << (exp_bits - 1)) - 1, top = (1 << exp_bits) - 1;
    int e = (int)(bits >> man_bits) & top, m = (int)(bits & ((1u << man_bits) - 1));
    double sign = bits >> (exp_bits + man_bits) ? -1 : 1;
    if (ieee && e == top)
        return m ? NAN : sign * INFINITY;
    if (!ieee && e == top && m == (1 << man_bits) - 1)
        return NAN;
    return sign * (e ? ldexp((double)m / (1 << man_bits) + 1, e - bias)
                     : ldexp((double)m / (1 << man_bits), 1 - bias));
}

static void test_small_formats(void **state)
{
    (void)state;
    for (int daz = 0; daz < 2; daz++) {
        uint32_t old = daz ? mb_fp_enter() : 0;
        for (uint32_t b = 0; b < 256; b++)
            same(mb_fp8_float((uint8_t)b), (float)by_definition(b, 4, 3, 0));
        for (uint32_t b = 0; b < 256; b++)
            same(mb_f8e5m2_float((uint8_t)b), (float)by_definition(b, 5, 2, 1));
        for (uint32_t h = 0; h < 65536; h++)
            same(mb_f16_float((uint16_t)h), (float)by_definition(h, 5, 10, 1));
        if (daz)
            mb_fp_restore(old);
    }
    assert_true(mb_fp8_float(0x7e) == 448);
    assert_true(mb_f16_float(0x7bff) == 65504);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) { /* every bf16 keeps its bits; the midpoint above it goes to even */
        float f = mb_bf16_float((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(mb_bf16_float(mb_bf16_of(f))));
            continue;
        }
        assert_int_equal(mb_bf16_of(f), h);
        if (isinf(f))
            continue;
        assert_int_equal(mb_bf16_of(mb_float_of(h << 16 | 0x8000u)), (h + 1) & ~1u);
        assert_int_equal(mb_bf16_of(mb_float_of(h << 16 | 0x7fffu)), h);
        assert_int_equal(mb_bf16_of(mb_float_of(h << 16 | 0x8001u)), h + 1);
    }
    assert_true(isnan(mb_bf16_float(mb_bf16_of(mb_float_of(0x7f800001u)))));
}

static void test_mode(void **state)
{
    (void)state;
    volatile float small = 0x1p-100f;
    uint32_t old = mb_fp_enter();
    assert_true(mb_fp_ok());
    assert_true(small * 0x1p-40f == 0); /* flushed */
    assert_true(mb_bits_of(small * 0x1p-40f) == 0);
    volatile float sub = mb_float_of(0x00400000u);
    assert_true(sub * 0x1p100f == 0); /* read as zero */
    mb_fp_restore(old);
    assert_true(sub * 0x1p100f > 0);
    assert_false(mb_fp_ok());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_ulp),       cmocka_unit_test(test_exp64), cmocka_unit_test(test_special),
        cmocka_unit_test(test_small_formats), cmocka_unit_test(test_bf16),  cmocka_unit_test(test_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
