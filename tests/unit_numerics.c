/* The numeric contract's sums, trees, leaves and noise against independent, naive forms of their definitions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mb_math.h"
#include "base/numerics.h"
#include "base/rng.h"

static uint64_t seed = 42;
static uint32_t rnd(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}
static float rnd_float(void)
{
    return ldexpf((float)(int32_t)rnd() * 0x1p-31f, (int)(rnd() % 17) - 8);
}

/* a*b + c rounded once, in 113-bit arithmetic (exact for the exponents used here). */
static float fma_exact(float a, float b, float c)
{
    return (float)((__float128)a * b + c);
}

static float naive_dot(const float *x, const float *w, int n)
{
    float c = 0;
    int blocks = (n + 31) / 32;
    for (int b = 0; b < blocks; b++) {
        float part[2] = {0, 0};
        for (int i = 0; i < 32; i++) {
            int k = 32 * b + i;
            part[i & 1] = fma_exact(k < n ? x[k] : 0, k < n ? w[k] : 0, part[i & 1]);
        }
        float both = part[0] + part[1];
        c += both;
    }
    return c;
}

/* R32 by its text: one residue class after the other. kind 0: sum, 1: squares, 2: products. */
static float naive_r32(const float *x, const float *w, int n, int kind)
{
    float p[6][32];
    for (int j = 0; j < 32; j++) {
        p[0][j] = 0;
        for (int i = j; i < n; i += 32)
            p[0][j] = kind == 0 ? p[0][j] + x[i] : fma_exact(x[i], kind == 1 ? x[i] : w[i], p[0][j]);
    }
    for (int level = 1; level < 6; level++)
        for (int j = 0; j < 32 >> level; j++)
            p[level][j] = p[level - 1][j] + p[level - 1][j + (32 >> level)];
    return p[5][0];
}

static void test_dot_and_r32(void **state)
{
    (void)state;
    float x[1100], w[1100];
    const int sizes[] = {0, 1, 2, 3, 16, 31, 32, 33, 63, 64, 65, 96, 127, 300, 512, 1023, 1100};
    for (size_t t = 0; t < sizeof sizes / sizeof *sizes; t++) {
        int n = sizes[t];
        for (int i = 0; i < n; i++) {
            x[i] = rnd_float();
            w[i] = rnd_float();
        }
        assert_true(mb_dot(x, w, n) == naive_dot(x, w, n));
        assert_true(mb_r32_sum(x, n) == naive_r32(x, w, n, 0));
        assert_true(mb_r32_sq(x, n) == naive_r32(x, w, n, 1));
        assert_true(mb_r32_dot(x, w, n) == naive_r32(x, w, n, 2));
    }
}

/* The value of the node over [lo, lo + size) by the rule's own words; absent: false. */
static bool naive_node(const float *v, const int32_t *pos, int n, int64_t lo, int64_t size, float *out)
{
    if (size == 1) {
        for (int i = 0; i < n; i++)
            if (pos[i] == lo) {
                *out = v[i];
                return true;
            }
        return false;
    }
    float a = 0, b = 0;
    bool left = naive_node(v, pos, n, lo, size / 2, &a),
         right = naive_node(v, pos, n, lo + size / 2, size / 2, &b);
    *out = left && right ? a + b : left ? a : b;
    return left || right;
}

static int rnd_positions(int32_t *pos, int range)
{
    int n = 0;
    for (int i = 0; i < range; i++)
        if (rnd() % 3 == 0)
            pos[n++] = i;
    if (n == 0)
        pos[n++] = (int32_t)(rnd() % (uint32_t)range);
    return n;
}

static void test_tree_sum(void **state)
{
    (void)state;
    for (int t = 0; t < 300; t++) {
        int range = 1 << (rnd() % 8);
        int32_t pos[128];
        float v[128], want = 0;
        int n = rnd_positions(pos, range);
        for (int i = 0; i < n; i++)
            v[i] = rnd_float();
        assert_true(naive_node(v, pos, n, 0, range, &want));
        assert_true(mb_tree_sum(v, pos, n) == want);
    }
}

/* Maximal nodes found by trying every aligned range of the whole tree, largest first. */
static int naive_maximal(const int32_t *pos, const uint8_t *held, int n, int range, int32_t *first,
                         int32_t *count)
{
    uint8_t taken[128] = {0};
    for (int size = range; size >= 1; size /= 2)
        for (int lo = 0; lo < range; lo += size) {
            int have = 0, miss = 0, at = -1;
            for (int i = 0; i < n; i++)
                if (pos[i] >= lo && pos[i] < lo + size) {
                    at = at < 0 ? i : at;
                    have += held[i] && !taken[i];
                    miss += !held[i] || taken[i];
                }
            if (have > 0 && miss == 0)
                for (int i = at; i < at + have; i++)
                    taken[i] = (uint8_t)(i == at ? have + 1 : 1);
        }
    int m = 0;
    for (int i = 0; i < n; i++)
        if (taken[i] > 1) {
            first[m] = i;
            count[m++] = taken[i] - 1;
        }
    return m;
}

static void test_tree_maximal_random(void **state)
{
    (void)state;
    for (int t = 0; t < 300; t++) {
        int range = 1 << (rnd() % 7);
        int32_t pos[128], f1[128], c1[128], f2[128], c2[128];
        uint8_t held[128];
        int n = rnd_positions(pos, range);
        int lo = (int)(rnd() % (uint32_t)range), hi = lo + (int)(rnd() % (uint32_t)range);
        for (int i = 0; i < n; i++)
            held[i] = (uint8_t)(t % 2 ? pos[i] >= lo && pos[i] < hi : rnd() % 4 != 0);
        int m = naive_maximal(pos, held, n, range, f1, c1);
        assert_int_equal(mb_tree_maximal(pos, held, n, f2, c2), m);
        assert_memory_equal(f1, f2, (size_t)m * sizeof *f1);
        assert_memory_equal(c1, c2, (size_t)m * sizeof *c1);
    }
}

/* The contract's example: 8 experts on 3 ranks, shares 0-1 | 2-4 | 5-7. */
static void test_tree_maximal_example(void **state)
{
    (void)state;
    int32_t first[3], count[3];
    const int32_t two[] = {3, 4}, three[] = {3, 4, 6};
    assert_int_equal(mb_tree_maximal(two, (const uint8_t[]){1, 1}, 2, first, count), 1);
    assert_true(first[0] == 0 && count[0] == 2);
    assert_int_equal(mb_tree_maximal(three, (const uint8_t[]){1, 1, 0}, 3, first, count), 2);
    assert_true(first[0] == 0 && count[0] == 1 && first[1] == 1 && count[1] == 1);
    assert_int_equal(mb_tree_maximal(three, (const uint8_t[]){0, 0, 1}, 3, first, count), 1);
    assert_true(first[0] == 2 && count[0] == 1);
    assert_int_equal(mb_tree_maximal(three, (const uint8_t[]){0, 0, 0}, 3, first, count), 0);
    assert_int_equal(mb_tree_split(three, 3), 1);
    /* the even shares [rS/t, (r+1)S/t) of 16 leaves have at most 3 maximal nodes, for every t */
    int32_t all[16];
    for (int i = 0; i < 16; i++)
        all[i] = i;
    for (int t = 1; t <= 16; t++)
        for (int r = 0; r < t; r++) {
            uint8_t held[16];
            int32_t f[16], c[16];
            for (int i = 0; i < 16; i++)
                held[i] = i >= 16 * r / t && i < 16 * (r + 1) / t;
            assert_in_range(mb_tree_maximal(all, held, 16, f, c), 1, 3);
        }
}

static void leaves_are(int64_t K, int64_t unit, int32_t S, int64_t narrow, int64_t wide)
{
    int64_t b[MB_MAX_LEAVES + 1];
    assert_int_equal(mb_k_leaves(K, unit, b), S);
    assert_int_equal(b[0], 0);
    assert_int_equal(b[S], K);
    for (int i = 0; i < S; i++)
        assert_true(b[i + 1] - b[i] == narrow || b[i + 1] - b[i] == wide);
}

static void test_leaves(void **state)
{
    (void)state;
    leaves_are(2816, 64, 8, 320, 384);
    leaves_are(1408, 64, 4, 320, 384);
    leaves_are(14336, 64, 16, 896, 896);
    leaves_are(18432, 64, 16, 1152, 1152);
    leaves_are(512, 1, 8, 64, 64);
    leaves_are(37, mb_k_unit(37), 8, 4, 5);
    leaves_are(3, 1, 3, 1, 1);
    leaves_are(1, 1, 1, 1, 1);
    leaves_are(7 * 128, 128, 4, 128, 256); /* o_proj of 7 heads: K < 2048 */
    leaves_are(128 * 128, 128, 16, 1024, 1024);
    leaves_are(2 * 4096, 4096, 2, 4096, 4096); /* fewer units than leaves */
    leaves_are(2047, 64, 4, 512, 511);         /* the last unit is short */
    int64_t b[MB_MAX_LEAVES + 1];
    assert_int_equal(mb_k_leaves_of(4096, 64, 2, b), 2);
    assert_int_equal(b[1], 2048);
    assert_int_equal(mb_k_leaves_of(4096, 64, 99, b), 16);
    assert_int_equal(mb_vocab_leaf(32000), 2000);
    assert_int_equal(mb_vocab_leaf(151936), 9496);
    assert_int_equal(mb_vocab_leaf(17), 2);
}

static void test_online_softmax(void **state)
{
    (void)state;
    float e1, e2;
    struct mb_osm a = {1.5f, 2.0f, true}, b = {3.0f, 0.75f, true}, none = {0, 0, false};
    struct mb_osm j = mb_osm_join(a, b, &e1, &e2);
    assert_true(j.present && j.m == 3.0f && e2 == 1.0f && e1 == mb_expf(-1.5f));
    assert_true(j.l == fma_exact(2.0f, e1, 0.75f * e2));
    j = mb_osm_join(none, b, &e1, &e2);
    assert_true(j.present && j.m == b.m && j.l == b.l && e1 == 0 && e2 == 1);
    j = mb_osm_join(a, none, &e1, &e2);
    assert_true(j.present && j.m == a.m && j.l == a.l && e1 == 1 && e2 == 0);
    assert_false(mb_osm_join(none, none, &e1, &e2).present);
}

static void near(float got, double want)
{
    assert_true(fabs((double)got - want) <= 1e-6 * fmax(1, fabs(want)));
}

static void test_expressions(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++) {
        float g = ldexpf((float)(int32_t)rnd() * 0x1p-31f, (int)(rnd() % 6) - 1),
              u = (float)(int32_t)rnd() * 0x1p-28f;
        double x = (double)g, L = 7;
        near(mb_silu(g), x / (1 + exp(-x)));
        near(mb_gelu_erf(g), 0.5 * x * (1 + erf(x / sqrt(2))));
        near(mb_gelu_tanh(g), 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))));
        near(mb_softcap(g, 30), 30 * tanh(x / 30));
        double gate = fmin(x, L), up = fmin(fmax((double)u, -L), L);
        near(mb_swiglu_clamped(g, u, 7), (up + 1) * gate / (1 + exp(-1.702 * gate)));
    }
    assert_true(mb_silu(0) == 0 && mb_silu(100) == 100 && mb_silu(-200) == 0);
}

/* Known answers of Random123's kat_vectors. */
static void test_philox(void **state)
{
    (void)state;
    const struct {
        uint32_t ctr[4];
        uint64_t key;
        uint32_t out[4];
    } kat[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822u,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        mb_philox4x32(kat[i].ctr, kat[i].key, out);
        assert_memory_equal(out, kat[i].out, sizeof out);
    }
}

static void test_gumbel(void **state)
{
    (void)state;
    double sum = 0, sq = 0;
    int n = 40000;
    for (int id = 0; id < n; id++) {
        uint64_t key = 0x0123456789abcdefu;
        int64_t position = 0x500000007;
        const uint32_t ctr[4] = {(uint32_t)id / 4, 7, 5, 0};
        uint32_t x[4];
        mb_philox4x32(ctr, key, x);
        float u = ((float)(x[id % 4] >> 9) + 0.5f) / 8388608.0f, g = mb_gumbel(key, position, id);
        assert_true(g == -mb_logf(-mb_logf(u)));
        assert_true(isfinite(g));
        sum += (double)g;
        sq += (double)g * (double)g;
    }
    double mean = sum / n, var = sq / n - mean * mean; /* Gumbel: Euler's constant, pi^2 / 6 */
    assert_true(fabs(mean - 0.5772) < 0.02);
    assert_true(fabs(var - 1.6449) < 0.06);
    assert_true(isfinite(mb_gumbel_of(0)) && isfinite(mb_gumbel_of(0xffffffffu)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dot_and_r32),
        cmocka_unit_test(test_tree_sum),
        cmocka_unit_test(test_tree_maximal_random),
        cmocka_unit_test(test_tree_maximal_example),
        cmocka_unit_test(test_leaves),
        cmocka_unit_test(test_online_softmax),
        cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_gumbel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
