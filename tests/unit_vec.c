/* The row kernels of each ISA against portable C, element by element: elementary functions on bit patterns of
 * every kind (a sample of all 2^32), Philox words and their bound, searches; and the floating-point mode
 * inside the team. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "device/cpu_isa.h"
#include "device/cpu_vec.h"

/* 1: built with wide_vec.c in place of the AVX-512 kernels */
#ifndef WIDE
#define WIDE 0
#endif

enum { N = 1000 };

static uint64_t seed = 7;
static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static void same(const float *a, const float *b, int n)
{
    for (int i = 0; i < n; i++)
        if (!(mb_bits_of(a[i]) == mb_bits_of(b[i]) || (isnan(a[i]) && isnan(b[i]))))
            fail_msg("element %d: %a and %a", i, (double)a[i], (double)b[i]);
}

static int sets(const struct mb_vec *out[3])
{
    enum mb_isa have = mb_isa_detect();
    int n = 0;
    out[n++] = &mb_vec_portable;
    if (have >= MB_ISA_AVX2)
        out[n++] = &mb_vec_avx2;
    if (WIDE || have >= MB_ISA_AVX512)
        out[n++] = &mb_vec_avx512;
    return n;
}

/* Every function of one argument through kernel set v, and by the scalar definitions. */
static void elementary(const struct mb_vec *v, const float *x)
{
    float one[N], got[N], want[N];
    for (int i = 0; i < N; i++)
        one[i] = 1;
    float (*const act[4])(float) = {mb_silu, mb_gelu_erf, mb_gelu_tanh, NULL};
    for (int k = 0; k < 4; k++) {
        v->act[k](got, x, one, 7, N);
        for (int i = 0; i < N; i++)
            want[i] = k < 3 ? act[k](x[i]) * 1.0f : mb_swiglu_clamped(x[i], 1, 7);
        same(got, want, N);
    }
    v->sigmoid(got, x, N);
    for (int i = 0; i < N; i++)
        want[i] = mb_sigmoidf(x[i]);
    same(got, want, N);
    v->exp_div(got, x, 0.5f, 3, N);
    for (int i = 0; i < N; i++)
        want[i] = mb_expf(x[i] - 0.5f) / 3;
    same(got, want, N);
    double e[N];
    v->exp64(e, x, 0.5f, N);
    for (int i = 0; i < N; i++) {
        double w = mb_exp((double)x[i] - 0.5);
        assert_true(memcmp(&e[i], &w, sizeof w) == 0 || (isnan(e[i]) && isnan(w)));
    }
    uint16_t r[N];
    v->round(r, x, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(r[i], mb_bf16_of(x[i]));
}

static void test_elementary(void **state)
{
    (void)state;
    const struct mb_vec *v[3];
    int n = sets(v);
    uint32_t old = mb_fp_enter();
    for (int t = 0; t < 150; t++) {
        float x[N];
        for (int i = 0; i < N; i++) /* all patterns; then the range in which the functions move */
            x[i] = t % 2 ? mb_float_of(rnd()) : ldexpf((float)(int32_t)rnd(), (int)(rnd() % 12) - 36);
        for (int k = 0; k < n; k++)
            elementary(v[k], x);
    }
    mb_fp_restore(old);
}

static void test_sums_and_searches(void **state)
{
    (void)state;
    const struct mb_vec *v[3];
    int n = sets(v);
    uint32_t old = mb_fp_enter();
    for (int t = 0; t < 200; t++) {
        int len = (int)(rnd() % N);
        float x[N + 1], w[N + 1], a[N], b[N];
        for (int i = 0; i <= N; i++) {
            x[i] = ldexpf((float)(int32_t)rnd(), -28);
            w[i] = (float)(int)(rnd() % 9) - 4;
        }
        for (int k = 1; k < n; k++) {
            bool f1, f2;
            const float got[] = {v[k]->r32_sum(x + 1, len), v[k]->r32_dot(x + 1, w, len),
                                 v[k]->r32_dev(x, 0.3f, len), v[k]->r32_exp(x, 8, len),
                                 v[k]->max(w, len, &f1)};
            const float want[] = {v[0]->r32_sum(x + 1, len), v[0]->r32_dot(x + 1, w, len),
                                  v[0]->r32_dev(x, 0.3f, len), v[0]->r32_exp(x, 8, len),
                                  v[0]->max(w, len, &f2)};
            same(got, want, 5);
            assert_int_equal(f1, f2);
            assert_int_equal(v[k]->find(w, 3, len), v[0]->find(w, 3, len));
            v[k]->block_max(a, x, len);
            v[0]->block_max(b, x, len);
            same(a, b, (len + 31) / 32);
            v[k]->mix(a, x, 0.3f, x + 1, w[0], len);
            for (int i = 0; i < len; i++)
                b[i] = fmaf(x[i], 0.3f, x[i + 1] * w[0]);
            same(a, b, len);
            v[k]->r32_dots(a, x, w, 37, 5, 200);
            v[0]->r32_dots(b, x, w, 37, 5, 200);
            same(a, b, 5);
        }
    }
    mb_fp_restore(old);
}

/* The words are Philox's, and no noise >= c lacks its bit. */
static void test_noise(void **state)
{
    (void)state;
    const struct mb_vec *v[3];
    int n = sets(v);
    uint32_t old = mb_fp_enter();
    for (int t = 0; t < 3000; t++) {
        uint64_t key = (uint64_t)rnd() << 32 | rnd();
        int64_t position = (int64_t)rnd() * 3;
        uint32_t quad = rnd() % 100000, x[64], word[4];
        for (int k = 0; k < n; k++) {
            float c = mb_gumbel(key, position, (int32_t)(4 * quad + rnd() % 64)) +
                      (t % 2 ? 0 : (float)(rnd() % 9) - 4);
            uint64_t bits = v[k]->noise64(x, key, position, quad, c);
            for (uint32_t i = 0; i < 64; i++) {
                const uint32_t ctr[4] = {quad + i / 4, (uint32_t)position,
                                         (uint32_t)((uint64_t)position >> 32), 0};
                mb_philox4x32(ctr, key, word);
                assert_int_equal(x[i], word[i % 4]);
                if (mb_gumbel_of(x[i]) >= c)
                    assert_true(bits >> i & 1);
            }
        }
    }
    mb_fp_restore(old);
}

/* The bound at the ends of the noise's range, where u is coarse. */
static void test_noise_bound(void **state)
{
    (void)state;
    uint32_t old = mb_fp_enter();
    for (uint32_t u = 0; u < 1u << 23; u += u < 2000 || u > (1u << 23) - 2000 ? 1 : 997) {
        float g = mb_gumbel_of(u << 9), steps = mb_expf(-mb_expf(1e-3f - g)) * 0x1p23f - 4.0f;
        assert_true((float)u >= steps);
        assert_true(g < 16.7f);
    }
    mb_fp_restore(old);
}

/* ---------------------------------------------------------------- threads */
struct modes {
    int ok[64];
};

static void look(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    struct modes *m = arg;
    volatile float tiny = 0x1p-100f;
    for (int64_t i = begin; i < end; i++)
        m->ok[i] = mb_fp_ok() && tiny * 0x1p-40f == 0;
}

static void test_team_mode(void **state)
{
    (void)state;
    struct mb_mem mem = {0};
    struct mb_device *dev;
    struct mb_device_options o = {.threads = 4, .isa = "portable", .mem = &mem, .path = MB_F32};
    assert_int_equal(mb_cpu_ops.open(&o, &dev), MB_OK);
    for (int n = 1; n <= 64; n += 63) { /* without and with a team */
        struct modes m = {{0}};
        mb_cpu_run(dev, n, 1, look, &m);
        for (int i = 0; i < n; i++)
            assert_true(m.ok[i]);
        assert_false(mb_fp_ok()); /* the caller keeps its own mode */
    }
    mb_cpu_ops.close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementary), cmocka_unit_test(test_sums_and_searches),
        cmocka_unit_test(test_noise),      cmocka_unit_test(test_noise_bound),
        cmocka_unit_test(test_team_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
