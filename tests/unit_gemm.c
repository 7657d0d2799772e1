/* Every GEMM kernel this machine has, against a naive dot rule written from the contract, with ==. */
#include "device_help.h"

#include <math.h>
#include <stdio.h>

/* ---------------------------------------------------------------- the contract, naively */
/* blocks of 32 from k0: e over even, o over odd, c = c + (e + o); a missing k is 0 * 0 */
static float leaf_sum(const float *x, const float *w, int64_t n)
{
    float c = 0;
    for (int64_t b = 0; b < n; b += 32) {
        float e = 0, o = 0;
        for (int64_t k = 0; k < 32; k += 2) {
            float x0 = b + k < n ? x[b + k] : 0, w0 = b + k < n ? w[b + k] : 0;
            float x1 = b + k + 1 < n ? x[b + k + 1] : 0, w1 = b + k + 1 < n ? w[b + k + 1] : 0;
            e = fmaf(x0, w0, e);
            o = fmaf(x1, w1, o);
        }
        float s = e + o;
        c = c + s;
    }
    return c;
}

/* leaves [lo, hi) of the node that covers positions [lo, lo + size) */
static float tree(const float *x, const float *w, const int64_t *leaf, int32_t lo, int32_t hi, int32_t size)
{
    if (size == 1)
        return leaf_sum(x + leaf[lo], w + leaf[lo], leaf[lo + 1] - leaf[lo]);
    int32_t mid = lo + size / 2;
    float left = tree(x, w, leaf, lo, hi < mid ? hi : mid, size / 2);
    return hi <= mid ? left : left + tree(x, w, leaf, mid, hi, size / 2);
}

/* ---------------------------------------------------------------- one GEMM */
struct shape {
    int64_t m, n, k;
    int32_t leaves;
    int64_t leaf[17];
    int64_t x_stride, out_stride, x_col, out_col; /* beyond k and n */
    bool bias, scattered; /* weights put in parts, rows and columns swapped in memory */
    enum mb_dtype x, w, out;
};

static struct mb_weight *make_weight(struct rig *g, const struct shape *s, const float *w)
{
    struct mb_weight_desc d = {
        .n = s->n, .k = s->k, .dtype = s->w, .leaves = s->leaves, .cat = MB_MEM_WEIGHTS};
    memcpy(d.leaf, s->leaf, sizeof d.leaf);
    struct mb_weight *out;
    assert_int_equal(g->ops->weight_create(g->dev, &d, &out), MB_OK);
    assert_true(g->ops->weight_bytes(out) >= (uint64_t)(s->n * s->k * mb_dtype_size(s->w)));
    if (!s->scattered) {
        struct mb_host_matrix m = {
            .base = w, .storage = MB_STORE_F32, .n = s->n, .k = s->k, .stride_n = s->k, .stride_k = 1};
        assert_int_equal(g->ops->weight_put(out, 0, 0, &m), MB_OK);
        return out;
    }
    float *t = malloc((size_t)(s->n * s->k) * sizeof *t); /* transposed */
    for (int64_t i = 0; i < s->n * s->k; i++)
        t[i % s->k * s->n + i / s->k] = w[i];
    int64_t n1 = s->n / 3, k1 = s->k / 2 | 1;
    k1 = k1 < s->k ? k1 : s->k;
    for (int part = 0; part < 4; part++) {
        int64_t n0 = part & 1 ? n1 : 0, k0 = part & 2 ? k1 : 0;
        struct mb_host_matrix m = {
            .base = t + k0 * s->n + n0, .storage = MB_STORE_F32, .stride_n = 1, .stride_k = s->n};
        m.n = part & 1 ? s->n - n1 : n1;
        m.k = part & 2 ? s->k - k1 : k1;
        assert_int_equal(g->ops->weight_put(out, n0, k0, &m), MB_OK);
    }
    free(t);
    return out;
}

static float *random_floats(struct rig *g, int64_t n, bool half)
{
    float *v = malloc((size_t)n * sizeof *v + 1);
    for (int64_t i = 0; i < n; i++)
        v[i] = rig_value(g, half);
    return v;
}

static void check_out(const struct shape *s, const float *out, const float *x, const float *w,
                      const float *bias)
{
    int32_t size = 1;
    while (size < s->leaves)
        size *= 2;
    uint32_t old = mb_fp_enter();
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            float want =
                tree(x + i * (s->x_col + s->k) + s->x_col, w + j * s->k, s->leaf, 0, s->leaves, size);
            if (s->bias)
                want = want + bias[j];
            if (s->out == MB_BF16)
                want = mb_bf16_float(mb_bf16_of(want));
            float got = out[i * (s->out_col + s->n) + s->out_col + j];
            if (got != want)
                fail_msg("%lld x %lld x %lld, %d leaves: (%lld, %lld) is %a, not %a", (long long)s->m,
                         (long long)s->n, (long long)s->k, s->leaves, (long long)i, (long long)j, got, want);
        }
    mb_fp_restore(old);
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->out_col; j++)
            assert_true(out[i * (s->out_col + s->n) + j] ==
                        0.0f); /* columns before the group are untouched */
}

static void one(struct rig *g, const struct shape *s)
{
    float *x = random_floats(g, s->m * (s->x_col + s->k), s->x == MB_BF16);
    float *w = random_floats(g, s->n * s->k, s->w == MB_BF16);
    float *b = random_floats(g, s->n, false);
    struct mb_weight *weight = make_weight(g, s, w);
    struct mb_view xv = rig_floats(g, x, s->m, s->x_col + s->k, s->x_col + s->k + s->x_stride, s->x);
    struct mb_view ov =
        rig_floats(g, NULL, s->m, s->out_col + s->n, s->out_col + s->n + s->out_stride, s->out);
    struct mb_view bv = rig_floats(g, b, 1, s->n, s->n, MB_F32);
    struct mb_gemm_group group = {weight, 0, s->m, s->x_col, s->out_col, s->bias ? bv : MB_NO_VIEW};
    assert_int_equal(g->ops->gemm(g->s, ov, xv, &group, 1), MB_OK);
    float *out = rig_read(g, ov);
    check_out(s, out, x, w, b);
    free(out);
    g->ops->weight_free(weight);
    rig_free(g, xv);
    rig_free(g, ov);
    rig_free(g, bv);
    free(x);
    free(w);
    free(b);
}

static struct shape plain(int64_t m, int64_t n, int64_t k)
{
    struct shape s = {.m = m, .n = n, .k = k, .leaves = 1};
    s.leaf[1] = k;
    return s;
}

/* ---------------------------------------------------------------- tests */
static void types(struct rig *g, struct shape s)
{
    for (int t = 0; t < 8; t++) {
        s.x = t & 1 ? MB_BF16 : MB_F32;
        s.w = t & 2 ? MB_BF16 : MB_F32;
        s.out = t & 4 ? MB_BF16 : MB_F32;
        one(g, &s);
    }
}

static void shapes_on(struct rig *g)
{
    static const int64_t ks[] = {1, 31, 32, 33, 64, 100};
    for (int64_t m = 0; m <= 34; m++) {
        struct shape s = plain(m, 1 + m * 7 % 50, ks[m % 6]);
        s.bias = m % 3 == 0;
        s.scattered = m % 2 == 0;
        s.x_stride = m % 4;
        s.out_stride = m % 5;
        s.x_col = m % 3;
        s.out_col = m % 7;
        types(g, s);
    }
    types(g, plain(70, 33, 65));
    types(g, plain(101, 70, 300));
    types(g, plain(1, 200, 600));
    types(g, plain(2, 16, 1));
}

static void leaves_on(struct rig *g)
{
    static const int64_t Ks[] = {5, 16, 96, 320, 500, 704, 1408};
    for (int i = 0; i < 7; i++)
        for (int64_t m = 1; m < 20; m += 6) {
            struct shape s = plain(m, 20, Ks[i]);
            s.leaves = mb_k_leaves(Ks[i], mb_k_unit(Ks[i]), s.leaf);
            s.scattered = m % 2 == 0;
            s.bias = true;
            types(g, s);
        }
    for (int32_t n = 1; n <= 16; n++) { /* every leaf count, also those that are no power of two */
        struct shape s = plain(7, 17, 40 * n - 3);
        s.leaves = n;
        for (int32_t l = 0; l < n; l++)
            s.leaf[l + 1] = l + 1 < n ? 40 * (l + 1) - l % 3 : s.k;
        types(g, s);
    }
}

static void every_isa(void (*test)(struct rig *g))
{
    int ran = 0;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int32_t threads = 1; threads <= 3; threads++) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_F32))
                break;
            test(&g);
            rig_close(&g);
            ran++;
        }
    assert_true(ran >= 3);
}
static void test_shapes(void **state)
{
    (void)state;
    every_isa(shapes_on);
}
static void test_leaves(void **state)
{
    (void)state;
    every_isa(leaves_on);
}

/* Groups of few and of many rows over one x and one out, also as heads: side by side in the columns. */
static void groups_on(struct rig *g)
{
    enum { G = 5, N = 24, K = 70, M = 130 };
    static const int64_t rows[G] = {3, 0, 1, 97, 29};
    for (int half = 0; half < 2; half++) {
        enum mb_dtype t = half ? MB_BF16 : MB_F32;
        float *x = random_floats(g, M * K * 2, half), *w[G];
        struct mb_view xv = rig_floats(g, x, M, 2 * K, 2 * K, t),
                       ov = rig_floats(g, NULL, M, 2 * N, 2 * N, MB_F32);
        struct mb_gemm_group group[2 * G];
        struct shape s = plain(0, N, K);
        s.w = t;
        for (int i = 0, row = 0; i < G; row += (int)rows[i], i++) {
            w[i] = random_floats(g, N * K, half);
            struct mb_weight *weight = make_weight(g, &s, w[i]);
            group[2 * i] = (struct mb_gemm_group){weight, row, rows[i], 0, N, MB_NO_VIEW};
            group[2 * i + 1] = (struct mb_gemm_group){weight, row, rows[i], K, 0, MB_NO_VIEW};
        }
        assert_int_equal(g->ops->gemm(g->s, ov, xv, group, 2 * G), MB_OK);
        float *out = rig_read(g, ov);
        uint32_t old = mb_fp_enter();
        for (int i = 0; i < 2 * G; i++)
            for (int64_t r = group[i].row0; r < group[i].row0 + group[i].rows; r++)
                for (int64_t j = 0; j < N; j++)
                    assert_true(out[r * 2 * N + group[i].out_col + j] ==
                                leaf_sum(x + r * 2 * K + group[i].x_col, w[i / 2] + j * K, K));
        mb_fp_restore(old);
        for (int i = 0; i < G; i++) {
            g->ops->weight_free((struct mb_weight *)group[2 * i].w);
            free(w[i]);
        }
        free(out);
        free(x);
        rig_free(g, xv);
        rig_free(g, ov);
    }
}
static void test_groups(void **state)
{
    (void)state;
    every_isa(groups_on);
}

/* More packed rows than one pass holds. */
static void test_passes(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "auto", 2, MB_F32));
    struct shape s = plain(2000, 3, 4500);
    one(&g, &s);
    rig_close(&g);
}

/* A value whose products vanish below the smallest normal number: flushed alike everywhere. */
static void tiny_on(struct rig *g)
{
    enum { K = 64, M = 9, N = 18 };
    float x[M * K], w[N * K];
    for (int i = 0; i < M * K; i++)
        x[i] = rig_value(g, true) * 0x1p-60f;
    for (int i = 0; i < N * K; i++)
        w[i] = rig_value(g, true) * (i % 5 ? 0x1p-65f : 0x1p-80f);
    x[3] = mb_float_of(0x00010000u); /* a subnormal bf16 */
    for (int half = 0; half < 2; half++) {
        struct shape s = plain(M, N, K);
        s.w = s.x = half ? MB_BF16 : MB_F32;
        struct mb_weight *weight = make_weight(g, &s, w);
        struct mb_view xv = rig_floats(g, x, M, K, K, s.x), ov = rig_floats(g, NULL, M, N, N, MB_F32);
        struct mb_gemm_group group = {weight, 0, M, 0, 0, MB_NO_VIEW};
        assert_int_equal(g->ops->gemm(g->s, ov, xv, &group, 1), MB_OK);
        float *out = rig_read(g, ov);
        check_out(&s, out, x, w, NULL);
        free(out);
        g->ops->weight_free(weight);
        rig_free(g, xv);
        rig_free(g, ov);
    }
}
static void test_tiny(void **state)
{
    (void)state;
    every_isa(tiny_on);
}

/* ---------------------------------------------------------------- storage types */
/* E4M3 (no infinities), from its definition */
static float fp8_value(uint8_t b)
{
    int e = b >> 3 & 15, m = b & 7;
    float v = e == 0 ? ldexpf((float)m / 8, -6) : ldexpf(1 + (float)m / 8, e - 7);
    return b & 0x80 ? -v : v;
}
/* IEEE half, finite */
static float f16_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    float v = e == 0 ? ldexpf((float)m, -24) : ldexpf(1 + (float)m / 1024, e - 15);
    return h & 0x8000 ? -v : v;
}

/* The weight as the GEMM sees it: x = unit rows. */
static void expect_weight(struct rig *g, struct mb_weight *w, const float *want, int64_t n, int64_t k)
{
    float *unit = calloc((size_t)(k * k), sizeof *unit);
    for (int64_t i = 0; i < k; i++)
        unit[i * k + i] = 1;
    struct mb_view xv = rig_floats(g, unit, k, k, k, MB_F32), ov = rig_floats(g, NULL, k, n, n, MB_F32);
    struct mb_gemm_group group = {w, 0, k, 0, 0, MB_NO_VIEW};
    assert_int_equal(g->ops->gemm(g->s, ov, xv, &group, 1), MB_OK);
    float *out = rig_read(g, ov);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < k; j++)
            if (out[j * n + i] != want[i * k + j])
                fail_msg("weight (%lld, %lld) is %a, not %a", (long long)i, (long long)j, out[j * n + i],
                         want[i * k + j]);
    free(out);
    free(unit);
    rig_free(g, xv);
    rig_free(g, ov);
}

/* Rows come back from a weight as they were rounded. */
static void expect_get(struct rig *g, const struct mb_weight *w, const float *want, int64_t n, int64_t k,
                       enum mb_dtype t)
{
    for (int64_t n0 = 0; n0 < n; n0++) {
        int64_t rows = n - n0 < 3 ? n - n0 : 3;
        uint8_t *raw = malloc((size_t)(rows * k * mb_dtype_size(t)));
        assert_non_null(raw);
        assert_int_equal(g->ops->weight_get(w, n0, rows, raw), MB_OK);
        for (int64_t i = 0; i < rows * k; i++) {
            float f;
            uint16_t h;
            memcpy(&f, raw + (t == MB_F32 ? i * 4 : 0), 4);
            memcpy(&h, raw + (t == MB_F32 ? 0 : i * 2), 2);
            float got = t == MB_F32 ? f : mb_bf16_float(h);
            assert_memory_equal(&got, &want[n0 * k + i], 4);
        }
        free(raw);
    }
    assert_int_equal(g->ops->weight_get(w, 0, n + 1, NULL), MB_BUG);
}

static float stored(struct rig *g, enum mb_storage s, void *at)
{
    uint16_t h = (uint16_t)rig_random(g);
    float f = rig_value(g, false);
    switch (s) {
    case MB_STORE_F32:
        memcpy(at, &f, 4);
        return f;
    case MB_STORE_F16:
        h = (h & 0x7c00) == 0x7c00 ? 0x3c00 : h;
        memcpy(at, &h, 2);
        return f16_value(h);
    case MB_STORE_BF16:
        h = mb_bf16_of(f);
        memcpy(at, &h, 2);
        return mb_bf16_float(h);
    default:
        *(uint8_t *)at = (h & 0x7f) == 0x7f ? 0x38 : (uint8_t)h;
        return fp8_value(*(uint8_t *)at);
    }
}

static void test_storage(void **state)
{
    (void)state;
    enum { N = 37, K = 50, SN = K + 4, BN = 8, BK = 16, SCALES = 6, N0 = 5, K0 = 9 };
    struct rig g;
    assert_true(rig_open(&g, "auto", 2, MB_F32));
    for (int st = MB_STORE_F32; st <= MB_STORE_F8E4M3; st++)
        for (int t = 0; t < 2; t++) {
            uint8_t raw[N * SN * 4];
            float want[N * K], scale[SCALES * SCALES];
            for (int i = 0; i < SCALES * SCALES; i++)
                scale[i] = rig_value(&g, false);
            for (int i = 0; i < N; i++)
                for (int j = 0; j < K; j++) {
                    float v = stored(&g, (enum mb_storage)st,
                                     raw + (i * SN + j) * mb_storage_size((enum mb_storage)st));
                    if (st == MB_STORE_F8E4M3)
                        v = v * scale[(i + N0) / BN * SCALES + (j + K0) / BK];
                    want[i * K + j] = t ? mb_bf16_float(mb_bf16_of(v)) : v;
                }
            struct mb_host_matrix m = {.base = raw,
                                       .storage = (enum mb_storage)st,
                                       .n = N,
                                       .k = K,
                                       .stride_n = SN,
                                       .stride_k = 1,
                                       .scale = st == MB_STORE_F8E4M3 ? scale : NULL,
                                       .block_n = BN,
                                       .block_k = BK,
                                       .scale_stride = SCALES,
                                       .scale_n0 = N0,
                                       .scale_k0 = K0};
            struct mb_weight_desc d = {
                .n = N, .k = K, .dtype = t ? MB_BF16 : MB_F32, .leaves = 1, .leaf = {0, K}, .cat = MB_MEM_EXPERTS};
            struct mb_weight *w;
            assert_int_equal(g.ops->weight_create(g.dev, &d, &w), MB_OK);
            assert_int_equal(g.ops->weight_put(w, 0, 0, &m), MB_OK);
            expect_weight(&g, w, want, N, K);
            expect_get(&g, w, want, N, K, t ? MB_BF16 : MB_F32);
            g.ops->weight_free(w);
        }
    rig_close(&g);
}

/* ---------------------------------------------------------------- a caller's mistakes */
static void test_mistakes(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "portable", 1, MB_F32));
    struct shape s = plain(4, 8, 40);
    float *w = random_floats(&g, 8 * 40, false);
    struct mb_weight *weight = make_weight(&g, &s, w), *none;
    struct mb_view x = rig_floats(&g, NULL, 4, 40, 40, MB_F32), out = rig_floats(&g, NULL, 4, 8, 8, MB_F32);
    struct mb_gemm_group ok = {weight, 0, 4, 0, 0, MB_NO_VIEW}, bad = ok;
    bad.rows = 5;
    assert_int_equal(g.ops->gemm(g.s, out, x, &bad, 1), MB_BUG);
    bad = ok;
    bad.x_col = 1;
    assert_int_equal(g.ops->gemm(g.s, out, x, &bad, 1), MB_BUG);
    bad = ok;
    bad.bias = mb_view_rows(x, 0, 1);
    assert_int_equal(g.ops->gemm(g.s, out, x, &bad, 1), MB_BUG);
    struct mb_view beyond = x;
    beyond.rows = 1000;
    assert_int_equal(g.ops->gemm(g.s, out, beyond, &ok, 1), MB_BUG);
    struct mb_host_matrix m = {
        .base = w, .storage = MB_STORE_F32, .n = 8, .k = 40, .stride_n = 40, .stride_k = 1};
    assert_int_equal(g.ops->weight_put(weight, 1, 0, &m), MB_BUG);
    m.storage = MB_STORE_F8E4M3;
    assert_int_equal(g.ops->weight_put(weight, 0, 0, &m), MB_BUG);
    struct mb_weight_desc d = {
        .n = 8, .k = 40, .dtype = MB_F32, .leaves = 2, .leaf = {0, 20, 39}, .cat = MB_MEM_WEIGHTS};
    assert_int_equal(g.ops->weight_create(g.dev, &d, &none), MB_BUG);
    assert_int_equal(g.ops->gemm(g.s, out, x, &ok, 1), MB_OK);
    g.ops->weight_free(weight);
    g.ops->weight_free(NULL);
    rig_free(&g, x);
    rig_free(&g, out);
    free(w);
    rig_close(&g);
    struct mb_device_options o = {.isa = "sse9", .path = MB_F32};
    assert_int_equal(g.ops->open(&o, &g.dev), MB_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),   cmocka_unit_test(test_leaves), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_passes),   cmocka_unit_test(test_tiny),   cmocka_unit_test(test_storage),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
