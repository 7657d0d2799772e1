/* The int8 path's products against the contract, worked out apart: codes by division and rounding, sums in 64 bits, one rounding at the
 * end of a leaf, the tree. With ==, on every instruction set that this machine has, and for AVX512_VNNI on a stand-in (wide_vnni.c). */
#include "device_help.h"

#include <math.h>
#include <stdio.h>
#include "device/cpu_s8.h"

extern const struct mb_s8_kernels wide_vnni, wide_vnni_wrong;

/* ---------------------------------------------------------------- the contract */
static float codes_of(const float *x, int64_t n, int32_t *q)
{
    float most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    volatile float s = most / 127; /* rounded to f32 */
    for (int64_t i = 0; i < n; i++) {
        volatile float v = x[i] / s;
        q[i] = s == 0 ? 0 : (int32_t)nearbyint((double)v);
        assert_in_range(q[i] + 127, 0, 254);
    }
    return s;
}

static float leaf_sum(const float *x, const float *w, int64_t n)
{
    int32_t *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    volatile float s = codes_of(x, n, a) * codes_of(w, n, b);
    int64_t sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (int64_t)a[i] * b[i];
    assert_true(sum == (int32_t)sum);
    free(a);
    free(b);
    volatile float f = (float)sum;
    return f * s;
}

static float tree(const float *x, const float *w, const int64_t *leaf, int32_t lo, int32_t hi, int32_t size)
{
    if (size == 1)
        return leaf_sum(x + leaf[lo], w + leaf[lo], leaf[lo + 1] - leaf[lo]);
    int32_t mid = lo + size / 2;
    float left = tree(x, w, leaf, lo, hi < mid ? hi : mid, size / 2);
    if (hi <= mid)
        return left;
    volatile float right = tree(x, w, leaf, mid, hi, size / 2);
    return left + right;
}

/* ---------------------------------------------------------------- one GEMM */
struct shape {
    int64_t m, n, k;
    int32_t leaves;
    int64_t leaf[MB_MAX_LEAVES + 1];
};

static struct shape cut(int64_t m, int64_t n, int64_t k, int32_t leaves)
{
    struct shape s = {.m = m, .n = n, .k = k, .leaves = leaves};

    for (int32_t l = 0; l <= leaves; l++)
        s.leaf[l] = k * l / leaves;
    return s;
}

static struct mb_weight *make(struct rig *g, const struct shape *s)
{
    struct mb_weight_desc d = {.n = s->n, .k = s->k, .dtype = MB_F32, .leaves = s->leaves, .cat = MB_MEM_WEIGHTS,
                               .form = mb_form_s8(s->leaves)};
    struct mb_weight *w;

    memcpy(d.leaf, s->leaf, sizeof d.leaf);
    assert_int_equal(g->ops->weight_create(g->dev, &d, &w), MB_OK);
    return w;
}

static struct mb_host_matrix rows_of(const float *w, int64_t n, int64_t k)
{
    return (struct mb_host_matrix){.base = w, .storage = MB_STORE_F32, .n = n, .k = k, .stride_n = k, .stride_k = 1};
}

/* Values of very different sizes, rows of zeros, and some that the mode flushes. */
static float *draw(struct rig *g, int64_t rows, int64_t k)
{
    float *v = malloc((size_t)(rows * k) * sizeof *v + 1);

    for (int64_t i = 0; i < rows * k; i++)
        v[i] = i / k % 7 == 3 ? 0 : rig_value(g, false) * (i / k % 5 == 4 ? 1e-30f : 1);
    return v;
}

static void one(struct rig *g, const struct shape *s, enum mb_dtype out, bool bias)
{
    float *x = draw(g, s->m, s->k), *w = draw(g, s->n, s->k), *b = draw(g, 1, s->n);
    struct mb_weight *weight = make(g, s);
    int32_t size = 1;

    while (size < s->leaves)
        size *= 2;
    for (int64_t n0 = 0; n0 < s->n; n0 += 11) { /* in parts */
        struct mb_host_matrix part = rows_of(w + n0 * s->k, s->n - n0 < 11 ? s->n - n0 : 11, s->k);
        assert_int_equal(g->ops->weight_put(weight, n0, 0, &part), MB_OK);
    }
    struct mb_view xv = rig_floats(g, x, s->m, s->k, s->k + 3, MB_F32), ov = rig_floats(g, NULL, s->m, s->n + 2, s->n + 5, out);
    struct mb_view bv = rig_floats(g, b, 1, s->n, s->n, MB_F32);
    struct mb_gemm_group two[2] = {{weight, 0, s->m / 3, 0, 2, bias ? bv : MB_NO_VIEW},
                                   {weight, s->m / 3, s->m - s->m / 3, 0, 2, bias ? bv : MB_NO_VIEW}};
    assert_int_equal(g->ops->gemm(g->s, ov, xv, two, 2), MB_OK);
    float *got = rig_read(g, ov);
    uint32_t mode = mb_fp_enter();
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            volatile float want = tree(x + i * s->k, w + j * s->k, s->leaf, 0, s->leaves, size);
            if (bias)
                want = want + b[j];
            float is = out == MB_BF16 ? mb_bf16_float(mb_bf16_of(want)) : want;
            if (got[i * (s->n + 2) + j + 2] != is)
                fail_msg("%lld x %lld x %lld, %d leaves: (%lld, %lld) is %a, not %a", (long long)s->m, (long long)s->n, (long long)s->k,
                         s->leaves, (long long)i, (long long)j, (double)got[i * (s->n + 2) + j + 2], (double)is);
        }
    mb_fp_restore(mode);
    free(got);
    g->ops->weight_free(weight);
    rig_free(g, xv);
    rig_free(g, ov);
    rig_free(g, bv);
    free(x);
    free(w);
    free(b);
}

static void each(void (*fn)(struct rig *g))
{
    for (int i = 0; i < ISAS; i++)
        for (int32_t threads = 1; threads <= 3; threads += 2) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_F32))
                continue;
            fn(&g);
            rig_close(&g);
        }
}

static void shapes(struct rig *g)
{
    static const int64_t m[] = {1, 2, 3, 4, 7, 13, 100}, k[] = {1, 5, 31, 32, 33, 96, 1100};

    for (size_t i = 0; i < sizeof m / sizeof m[0]; i++)
        for (size_t j = 0; j < sizeof k / sizeof k[0]; j++) {
            struct shape s = cut(m[i], 1 + (int64_t)(i * 13 + j * 5) % 83, k[j], 1);
            one(g, &s, i % 2 ? MB_BF16 : MB_F32, j % 2 != 0);
        }
    for (int32_t leaves = 2; leaves <= MB_MAX_LEAVES; leaves += leaves < 4 ? 1 : 3) {
        struct shape s = cut(5, 37, 16 * 23 + leaves, leaves);
        one(g, &s, MB_F32, true);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    each(shapes);
}

/* ---------------------------------------------------------------- limits */
/* As many equal products of the largest codes as fit into 32 bits; one more is refused. */
static void largest(struct rig *g)
{
    struct shape s = cut(1, 1, MB_S8_MOST_K, 1);
    float *x = malloc((size_t)s.k * sizeof *x), *w = malloc((size_t)s.k * sizeof *w);
    struct mb_weight *weight = make(g, &s);

    for (int64_t i = 0; i < s.k; i++) {
        x[i] = 127;
        w[i] = -127;
    }
    struct mb_host_matrix m = rows_of(w, 1, s.k);
    assert_int_equal(g->ops->weight_put(weight, 0, 0, &m), MB_OK);
    struct mb_view xv = rig_floats(g, x, 1, s.k, s.k, MB_F32), ov = rig_floats(g, NULL, 1, 1, 1, MB_F32);
    struct mb_gemm_group group = {.w = weight, .rows = 1};
    assert_int_equal(g->ops->gemm(g->s, ov, xv, &group, 1), MB_OK);
    float *got = rig_read(g, ov);
    assert_true(got[0] == -(float)(127 * 127 * (int64_t)MB_S8_MOST_K));
    free(got);
    g->ops->weight_free(weight);
    rig_free(g, xv);
    rig_free(g, ov);
    struct mb_weight_desc d = {.n = 1, .k = s.k + 1, .leaves = 1, .leaf = {0, s.k + 1}, .form = mb_form_s8(1)};
    assert_int_equal(g->ops->weight_create(g->dev, &d, &weight), MB_LAYOUT);
    free(x);
    free(w);
}

static void test_largest(void **state)
{
    (void)state;
    each(largest);
}

/* A row that is not finite spoils its own results and no others; so does a column. */
static void not_finite(struct rig *g)
{
    struct shape s = cut(4, 20, 70, 1);
    float *x = draw(g, s.m, s.k), *w = draw(g, s.n, s.k);
    struct mb_weight *weight = make(g, &s);

    x[1 * s.k + 69] = NAN;
    x[2 * s.k + 3] = -INFINITY;
    w[5 * s.k] = INFINITY;
    struct mb_host_matrix m = rows_of(w, s.n, s.k);
    assert_int_equal(g->ops->weight_put(weight, 0, 0, &m), MB_OK);
    struct mb_view xv = rig_floats(g, x, s.m, s.k, s.k, MB_F32), ov = rig_floats(g, NULL, s.m, s.n, s.n, MB_F32);
    struct mb_gemm_group group = {.w = weight, .rows = s.m};
    assert_int_equal(g->ops->gemm(g->s, ov, xv, &group, 1), MB_OK);
    float *got = rig_read(g, ov);
    for (int64_t i = 0; i < s.m; i++)
        for (int64_t j = 0; j < s.n; j++)
            assert_true(isnan(got[i * s.n + j]) == (i == 1 || i == 2 || j == 5));
    free(got);
    g->ops->weight_free(weight);
    rig_free(g, xv);
    rig_free(g, ov);
    free(x);
    free(w);
}

static void test_not_finite(void **state)
{
    (void)state;
    each(not_finite);
}

/* What get gives, put takes: the same bytes. Parts of rows, and other leaves, are refused. */
static void travels(struct rig *g)
{
    struct shape s = cut(1, 50, 333, 5);
    float *w = draw(g, s.n, s.k);
    struct mb_weight *a = make(g, &s), *b = make(g, &s);
    struct mb_form f = mb_form_s8(s.leaves);
    size_t bytes = (size_t)mb_form_blob(&f, s.n, s.k).bytes;
    unsigned char *one = calloc(1, bytes), *two = calloc(1, bytes);
    struct mb_host_matrix m = rows_of(w, s.n, s.k), some = mb_host_stored(&f, 20, s.k, two);

    assert_int_equal(g->ops->weight_put(a, 0, 0, &m), MB_OK);
    assert_int_equal(g->ops->weight_get(a, 0, s.n, one), MB_OK);
    for (int64_t n0 = 0; n0 < s.n; n0 += 20) {
        some.n = s.n - n0 < 20 ? s.n - n0 : 20;
        assert_int_equal(g->ops->weight_get(a, n0, some.n, two), MB_OK);
        some = mb_host_stored(&f, some.n, s.k, two);
        assert_int_equal(g->ops->weight_put(b, n0, 0, &some), MB_OK);
    }
    assert_int_equal(g->ops->weight_get(b, 0, s.n, two), MB_OK);
    assert_memory_equal(one, two, bytes);
    m.k = 100;
    assert_int_equal(g->ops->weight_put(a, 0, 0, &m), MB_BUG);
    struct mb_form other = mb_form_s8(4);
    struct mb_host_matrix wrong = mb_host_stored(&other, 20, s.k, two);
    assert_int_equal(g->ops->weight_put(a, 0, 0, &wrong), MB_BUG);
    g->ops->weight_free(a);
    g->ops->weight_free(b);
    free(one);
    free(two);
    free(w);
}

static void test_travels(void **state)
{
    (void)state;
    each(travels);
}

/* ---------------------------------------------------------------- how near to the real product */
static double gauss(struct rig *g)
{
    double u = (rig_random(g) + 1.0) / 4294967297.0, v = rig_random(g) / 4294967296.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void test_error(void **state)
{
    static const struct {
        int64_t k;
        int32_t leaves;
    } c[] = {{512, 1}, {2048, 1}, {2048, 8}, {4096, 8}, {14336, 16}};
    struct rig g;

    (void)state;
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) {
        struct shape s = cut(8, 32, c[i].k, c[i].leaves);
        float *x = malloc((size_t)(s.m * s.k) * 4), *w = malloc((size_t)(s.n * s.k) * 4);
        for (int64_t j = 0; j < s.m * s.k; j++)
            x[j] = (float)gauss(&g);
        for (int64_t j = 0; j < s.n * s.k; j++)
            w[j] = (float)gauss(&g);
        struct mb_weight *weight = make(&g, &s);
        struct mb_host_matrix m = rows_of(w, s.n, s.k);
        assert_int_equal(g.ops->weight_put(weight, 0, 0, &m), MB_OK);
        struct mb_view xv = rig_floats(&g, x, s.m, s.k, s.k, MB_F32), ov = rig_floats(&g, NULL, s.m, s.n, s.n, MB_F32);
        struct mb_gemm_group group = {.w = weight, .rows = s.m};
        assert_int_equal(g.ops->gemm(g.s, ov, xv, &group, 1), MB_OK);
        float *got = rig_read(&g, ov);
        double lost = 0, all = 0;
        for (int64_t r = 0; r < s.m * s.n; r++) {
            double want = 0;
            for (int64_t k = 0; k < s.k; k++)
                want += (double)x[r / s.n * s.k + k] * (double)w[r % s.n * s.k + k];
            lost += (want - (double)got[r]) * (want - (double)got[r]);
            all += want * want;
        }
        printf("k %lld, %d leaves: relative error %.4f\n", (long long)s.k, s.leaves, sqrt(lost / all));
        assert_true(sqrt(lost / all) <= 0.015);
        free(got);
        g.ops->weight_free(weight);
        rig_free(&g, xv);
        rig_free(&g, ov);
        free(x);
        free(w);
    }
    rig_close(&g);
}

/* ---------------------------------------------------------------- kernels beside each other */
static void test_kernels(void **state)
{
    (void)state;
    assert_true(mb_s8_self_test(&mb_s8_portable));
    assert_true(mb_s8_self_test(&wide_vnni));
    assert_false(mb_s8_self_test(&wide_vnni_wrong));
    if (__builtin_cpu_supports("avx2"))
        assert_true(mb_s8_self_test(&mb_s8_avx2));
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        assert_true(mb_s8_self_test(&mb_s8_vnni));
    else
        printf("this machine has no AVX512_VNNI: its kernel was run with stand-ins for the instructions only\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_largest), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_travels), cmocka_unit_test(test_error), cmocka_unit_test(test_kernels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
