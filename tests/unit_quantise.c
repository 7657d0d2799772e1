/* Codes that `quantize` writes: each the nearest there is, by trying all; scales of their groups; what is left out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mb_math.h"
#include "device/form.h"
#include "model/quantise.h"

static uint32_t seed = 7;

static float draw(void)
{
    float s = 0;

    for (int i = 0; i < 6; i++) {
        seed = seed * 1664525u + 1013904223u;
        s += (float)(seed >> 8) * 0x1p-24f - 0.5f;
    }
    return s;
}

/* |x - value| is least among all codes; of two at the same distance the even one. */
static void is_nearest(float x, uint8_t code, int codes, float (*value)(uint8_t), double scale)
{
    double mine = fabs((double)x - (double)value(code) * scale);

    for (int c = 0; c < codes; c++) {
        float v = value((uint8_t)c);
        double other = fabs((double)x - (double)v * scale);
        if (isnan(v) || v == value(code))
            continue;
        assert_true(mine <= other);
        if (mine == other)
            assert_true(code % 2 == 0);
    }
}

static float e2m1(uint8_t c)
{
    return mb_fp4_float(c);
}

static void mxfp4_codes(void **state)
{
    enum { K = 320 };
    struct mb_quantiser q = {.to = MB_QUANTISED_MXFP4};
    float w[K];
    uint8_t code[K / 2], scale[K / 32];
    struct mb_loss loss = {0};
    (void)state;

    for (int i = 0; i < K; i++)
        w[i] = i < 64 ? (float)(i - 32) * 0.25f : draw() * ldexpf(1, i / 32 * 7 - 30);
    memset(w + 288, 0, 32 * sizeof *w);
    assert_int_equal(mb_quantised_row(&q, K), K / 2);
    assert_int_equal(mb_quantised_scales(&q, K), K / 32);
    mb_quantise(&q, w, 1, K, code, scale, &loss);
    double lost = 0;
    for (int i = 0; i < K; i++) {
        uint8_t c = code[i / 2] >> (i % 2 * 4) & 15;
        double s = ldexp(1, scale[i / 32] - 127);
        is_nearest(w[i], c, 16, e2m1, s);
        lost += pow((double)w[i] - (double)e2m1(c) * s, 2);
    }
    assert_true(fabs(lost - loss.lost) <= 1e-9 * lost);
    for (int g = 0; g < K / 32; g++) { /* no group is clipped by more than a quarter of its largest */
        float most = 0;
        for (int i = 0; i < 32; i++)
            most = fabsf(w[32 * g + i]) > most ? fabsf(w[32 * g + i]) : most;
        assert_true((double)most <= 8 * ldexp(1, scale[g] - 127));
    }
}

static void fp8_codes(void **state)
{
    enum { N = 130, K = 200 };
    struct mb_quantiser q = {.to = MB_QUANTISED_FP8};
    float *w = malloc(N * K * sizeof *w), scale[4];
    uint8_t *code = malloc(N * K);
    struct mb_loss loss = {0};
    (void)state;

    for (int i = 0; i < N * K; i++)
        w[i] = draw() * (i % 7 == 0 ? 1e-4f : 1);
    mb_quantise(&q, w, N, K, code, scale, &loss);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < K; j++) {
            float s = scale[i / 128 * 2 + j / 128], x = w[i * K + j] / s;
            assert_true(fabsf(x) <= 448.001f);
            if ((i * K + j) % 11 == 0)
                is_nearest(x, code[i * K + j], 256, mb_fp8_float, 1);
        }
    }
    assert_true(mb_loss_part(&loss) > 0.02 && mb_loss_part(&loss) < 0.03);
    /* every code is its own, and what lies between two goes to the even one */
    for (int c = 0; c < 127; c++) {
        float pair[2] = {mb_fp8_float((uint8_t)c), 448}, half[2] = {(mb_fp8_float((uint8_t)c) + mb_fp8_float((uint8_t)(c + 1))) / 2, 448};
        uint8_t got[2];
        mb_quantise(&q, pair, 1, 2, got, scale, &loss);
        assert_true(scale[0] == 1.0f && got[0] == c);
        if (c == 126)
            break;
        mb_quantise(&q, half, 1, 2, got, scale, &loss);
        assert_int_equal(got[0], c + c % 2);
    }
    free(w);
    free(code);
}

static void integer_codes(void **state)
{
    enum { K = 384 };
    float w[K];
    uint8_t code[K];
    uint16_t scale[K / 32];
    (void)state;

    for (int i = 0; i < K; i++)
        w[i] = draw() * (float)(1 + i / 64);
    for (int wide = 0; wide < 2; wide++) {
        struct mb_quantiser q = {.to = wide ? MB_QUANTISED_INT8 : MB_QUANTISED_INT4, .group = 32};
        struct mb_loss loss = {0};
        int64_t group = mb_quantised_columns(&q, K);
        mb_quantise(&q, w, 1, K, code, scale, &loss);
        double lost = 0;
        for (int i = 0; i < K; i++) {
            float s = mb_bf16_float(scale[i / group]), best = rintf(w[i] / s), lo = wide ? -127 : -8, hi = wide ? 127 : 7;
            int got = wide ? code[i] - 128 : (code[i / 2] >> (i % 2 * 4) & 15) - 8;
            best = best < lo ? lo : best > hi ? hi : best;
            assert_int_equal(got, (int)best);
            lost += pow((double)w[i] - (double)((float)got * s), 2);
        }
        assert_true(fabs(lost - loss.lost) <= 1e-6 * lost);
        assert_true(mb_loss_part(&loss) < (wide ? 0.02 : 0.1));
    }
}

static void odd_shapes_and_values(void **state)
{
    struct mb_quantiser q = {.to = MB_QUANTISED_INT8}, four = {.to = MB_QUANTISED_INT4, .group = 32}, mx = {.to = MB_QUANTISED_MXFP4};
    float w[7] = {1, -2, 3, 0, 5, -6, 127}, zero[32] = {0}, bad[32] = {NAN, 1, INFINITY};
    uint8_t code[32];
    uint16_t scale[2];
    struct mb_loss loss = {0};
    (void)state;

    assert_int_equal(mb_quantised_row(&q, 7), 8);
    assert_true(mb_quantised_fits(&q, 7) && !mb_quantised_fits(&four, 48) && mb_quantised_fits(&four, 64) && !mb_quantised_fits(&mx, 48));
    mb_quantise(&q, w, 1, 7, code, scale, &loss);
    for (int i = 0; i < 7; i++)
        assert_int_equal(code[i] - 128, (int)w[i]);
    assert_int_equal(code[7], 0);
    assert_true(loss.lost == 0);
    mb_quantise(&four, zero, 1, 32, code, scale, &loss);
    for (int i = 0; i < 16; i++)
        assert_int_equal(code[i], 0x88);
    assert_true(loss.lost == 0 && loss.bad == 0);
    mb_quantise(&mx, bad, 1, 32, code, scale, &loss);
    assert_int_equal(loss.bad, 2);
    assert_int_equal(mb_quantised_find("mxfp4"), MB_QUANTISED_MXFP4);
    assert_int_equal(mb_quantised_find("jsonl"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mxfp4_codes), cmocka_unit_test(fp8_codes), cmocka_unit_test(integer_codes),
                                       cmocka_unit_test(odd_shapes_and_values)};
    uint32_t mode = mb_fp_enter();
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    mb_fp_restore(mode);
    return r;
}
