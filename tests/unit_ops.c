/* Row operations of every backend and ISA against naive forms, with ==: embed, norm, add, scale, clamp, rope,
 * gemm_r32, act, gate, gather, fold. Sizes include no rows, one row, odd tails; views have odd offsets and
 * strides. */
#include "ops_help.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int row_counts[] = {0, 1, 2, 5, 13};
static const int col_counts[] = {1, 3, 31, 32, 64, 100, 129, 600, 1100};
#define FOR_SHAPES(M, H)                                                                                     \
    for (size_t im_ = 0; im_ < sizeof row_counts / sizeof *row_counts; im_++)                                \
        for (size_t ih_ = 0; ih_ < sizeof col_counts / sizeof *col_counts; ih_++)                            \
            for (int M = row_counts[im_], H = col_counts[ih_], once_ = 1; once_; once_ = 0, ops_reset(c))

static float *room(int64_t n)
{
    float *p = calloc((size_t)n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}
static float *room_filled(struct ops_ctx *c, int64_t n)
{
    float *p = room(n);
    ops_fill(c, p, n);
    return p;
}

static void simple(struct ops_ctx *c)
{
    FOR_SHAPES(M, H)
    {
        float *a = room_filled(c, M * H), *b = room_filled(c, M * H), *w = room(M * H);
        struct mb_view va = ops_up(c, a, M, H, MB_F32), vb = ops_up(c, b, M, H, MB_F32);
        for (int i = 0; i < M * H; i++)
            w[i] = a[i] + b[i];
        assert_int_equal(c->ops->add(c->s, va, va, vb), MB_OK);
        ops_equal(c, va, w);
        for (int i = 0; i < M * H; i++)
            w[i] = w[i] * 0.37f;
        assert_int_equal(c->ops->scale(c->s, va, 0.37f), MB_OK);
        ops_equal(c, va, w);
        for (int i = 0; i < M * H; i++)
            w[i] = fminf(fmaxf(w[i], -0.5f), 0.5f);
        assert_int_equal(c->ops->clamp(c->s, va, 0.5f), MB_OK);
        ops_equal(c, va, w);
        float *g = room_filled(c, M), f[5];
        int32_t at[64];
        ops_fill(c, f, 5);
        for (int i = 0; i < M; i++)
            at[i] = (int32_t)(ops_rnd(c) % 5);
        for (int i = 0; i < M * H; i++)
            w[i] = w[i] * f[at[i / H]];
        assert_int_equal(c->ops->scale_rows(c->s, va, ops_up(c, f, 5, 1, MB_F32), ops_up(c, at, M, 1, MB_I32)), MB_OK);
        ops_equal(c, va, w);
        for (int i = 0; i < M * H; i++)
            w[i] = mb_sigmoidf(g[i / H]) * b[i];
        assert_int_equal(c->ops->gate(c->s, vb, ops_up(c, g, M, 1, MB_F32)), MB_OK);
        ops_equal(c, vb, w);
        free(a);
        free(b);
        free(w);
        free(g);
    }
}
static void test_simple(void **state)
{
    (void)state;
    ops_each(simple);
}

static void lookup(struct ops_ctx *c)
{
    FOR_SHAPES(M, H)
    {
        int V = 7;
        float *t = room_filled(c, V * H), *w = room(M * H);
        uint16_t *tb = malloc((size_t)(V * H) * 2);
        int32_t ids[16];
        for (int i = 0; i < V * H; i++)
            tb[i] = mb_bf16_of(t[i]);
        for (int i = 0; i < M; i++)
            ids[i] = (int32_t)(ops_rnd(c) % (uint32_t)V);
        struct mb_view idx = ops_up(c, ids, M, 1, MB_I32), x = ops_up(c, NULL, M, H, MB_F32);
        struct mb_view table = ops_up(c, t, V, H, MB_F32), half = ops_up(c, tb, V, H, MB_BF16);
        for (int scaled = 0; scaled < 2; scaled++) {
            float s = scaled ? 1.7f : 1.0f;
            for (int i = 0; i < M * H; i++)
                w[i] = t[ids[i / H] * H + i % H] * s;
            assert_int_equal(c->ops->embed(c->s, x, table, idx, s), MB_OK);
            ops_equal(c, x, w);
            for (int i = 0; i < M * H; i++)
                w[i] = mb_bf16_float(tb[ids[i / H] * H + i % H]) * s;
            assert_int_equal(c->ops->embed(c->s, x, half, idx, s), MB_OK);
            ops_equal(c, x, w);
        }
        struct mb_view y = ops_up(c, NULL, M, H, MB_BF16);
        for (int i = 0; i < M * H; i++)
            w[i] = mb_bf16_float(tb[ids[i / H] * H + i % H]);
        assert_int_equal(c->ops->gather(c->s, y, half, idx), MB_OK);
        ops_equal(c, y, w);
        free(t);
        free(tb);
        free(w);
    }
}
static void test_lookup(void **state)
{
    (void)state;
    ops_each(lookup);
}

static float naive_norm_sum(const float *x, int n, int leaves)
{
    float v[64], sum = 0;
    int32_t pos[64];
    for (int i = 0; i < leaves; i++) {
        v[i] = naive_r32(x + i * (n / leaves), x + i * (n / leaves), n / leaves, 1);
        pos[i] = i;
    }
    assert_true(naive_tree(v, pos, leaves, 0, 64, &sum));
    return sum;
}

static void naive_norm(const float *x, const float *w, const float *b, float *y, int n, bool layer, float eps,
                       int leaves)
{
    float *d = room(n);
    float mean = layer ? naive_r32(x, x, n, 0) / (float)n : 0;
    for (int i = 0; i < n; i++)
        d[i] = layer ? x[i] - mean : x[i];
    float r = 1.0f / sqrtf(naive_norm_sum(d, n, leaves) / (float)n + eps);
    for (int i = 0; i < n; i++) {
        y[i] = (d[i] * r) * w[i];
        if (layer && b != NULL)
            y[i] = y[i] + b[i];
    }
    free(d);
}

static void norm_case(struct ops_ctx *c, int M, int H, bool layer, bool bias, int groups, int leaves)
{
    int n = H / groups;
    float *x = room_filled(c, M * H), *w = room_filled(c, n), *b = room_filled(c, n), *want = room(M * H);
    for (int i = 0; i < M * groups; i++)
        naive_norm(x + i * n, w, bias ? b : NULL, want + i * n, n, layer, 1e-5f, leaves);
    struct mb_view vx = ops_up(c, x, M, H, MB_F32), vw = ops_up(c, w, 1, n, MB_F32);
    struct mb_view vb = bias ? ops_up(c, b, 1, n, MB_F32) : MB_NO_VIEW;
    struct mb_view out = ops_up(c, NULL, M, H, c->path), raw = ops_up(c, NULL, M, H, MB_F32);
    enum mb_norm_kind kind = layer ? MB_NORM_LAYER : MB_NORM_RMS;
    assert_int_equal(c->ops->norm(c->s, out, raw, vx, vw, vb, kind, 1e-5f, groups, leaves), MB_OK);
    ops_equal(c, out, want);
    ops_equal(c, raw, want);
    out = ops_up(c, NULL, M, H, c->path);
    assert_int_equal(c->ops->norm(c->s, out, MB_NO_VIEW, vx, vw, vb, kind, 1e-5f, groups, leaves), MB_OK);
    ops_equal(c, out, want);
    ops_equal(c, vx, x);
    assert_int_equal(c->ops->norm(c->s, MB_NO_VIEW, vx, vx, vw, vb, kind, 1e-5f, groups, leaves), MB_OK);
    ops_equal(c, vx, want);
    free(x);
    free(w);
    free(b);
    free(want);
}

static void norm(struct ops_ctx *c)
{
    FOR_SHAPES(M, H)
    {
        norm_case(c, M, H, false, false, 1, 1);
        norm_case(c, M, H, true, H % 2, 1, 1);
        ops_reset(c);
        norm_case(c, M, 4 * H, false, false, 4, 1);
        norm_case(c, M, 7 * H, false, false, 1, 7);
    }
}
static void test_norm(void **state)
{
    (void)state;
    ops_each(norm);
}

static void rope_case(struct ops_ctx *c, int M, int heads, int d, int first, int rot, enum mb_rope_style style)
{
    enum { POSITIONS = 9 };
    int half = rot / 2, H = heads * d;
    float *x = room_filled(c, M * H), *cs = room_filled(c, POSITIONS * half),
          *sn = room_filled(c, POSITIONS * half);
    float *want = room(M * H);
    int32_t pos[16];
    memcpy(want, x, (size_t)(M * H) * sizeof *x);
    for (int i = 0; i < M; i++) {
        pos[i] = (int32_t)(ops_rnd(c) % POSITIONS);
        for (int h = 0; h < heads; h++)
            for (int k = 0; k < half; k++) {
                float *v = want + i * H + h * d + first, co = cs[pos[i] * half + k],
                      si = sn[pos[i] * half + k];
                float *pa = style == MB_ROPE_HALF ? v + k : v + 2 * k,
                      *pb = style == MB_ROPE_HALF ? v + half + k : pa + 1;
                float a = *pa, b = *pb;
                *pa = a * co - b * si;
                *pb = b * co + a * si;
            }
    }
    struct mb_view vx = ops_up(c, x, M, H, MB_F32), out = ops_up(c, NULL, M, H, c->path);
    struct mb_view vc = ops_up(c, cs, POSITIONS, half, MB_F32), vs = ops_up(c, sn, POSITIONS, half, MB_F32);
    struct mb_view vp = ops_up(c, pos, M, 1, MB_I32);
    assert_int_equal(c->ops->rope(c->s, out, vx, vc, vs, vp, heads, first, rot, style), MB_OK);
    ops_equal(c, out, want);
    assert_int_equal(c->ops->rope(c->s, vx, vx, vc, vs, vp, heads, first, rot, style), MB_OK);
    ops_equal(c, vx, want);
    ops_reset(c);
    free(x);
    free(cs);
    free(sn);
    free(want);
}

static void rope(struct ops_ctx *c)
{
    for (size_t m = 0; m < sizeof row_counts / sizeof *row_counts; m++)
        for (int style = 0; style < 2; style++) {
            rope_case(c, row_counts[m], 3, 64, 0, 64, style ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF);
            rope_case(c, row_counts[m], 2, 26, 16, 10, style ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF);
            rope_case(c, row_counts[m], 2, 26, 0, 10, style ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF);
            rope_case(c, row_counts[m], 3, 70, 6, 36, style ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF);
            rope_case(c, row_counts[m], 1, 1300, 10, 1290, style ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF);
        }
}
static void test_rope(void **state)
{
    (void)state;
    ops_each(rope);
}

static void gemm_r32(struct ops_ctx *c)
{
    static const int ns[] = {1, 2, 7, 16, 33};
    FOR_SHAPES(M, K)
    {
        int N = ns[ops_rnd(c) % 5];
        float *x = room_filled(c, M * K), *w = room_filled(c, N * K), *b = room_filled(c, N),
              *want = room(M * N);
        struct mb_view vx = ops_up(c, x, M, K, MB_F32), vw = ops_up(c, w, N, K, MB_F32);
        struct mb_view out = ops_up(c, NULL, M, N, MB_F32), vb = ops_up(c, b, 1, N, MB_F32);
        for (int bias = 0; bias < 2; bias++) {
            for (int i = 0; i < M * N; i++) {
                want[i] = naive_r32(x + i / N * K, w + i % N * K, K, 1);
                if (bias)
                    want[i] += b[i % N];
            }
            assert_int_equal(c->ops->gemm_r32(c->s, out, vx, vw, bias ? vb : MB_NO_VIEW), MB_OK);
            ops_equal(c, out, want);
        }
        free(x);
        free(w);
        free(b);
        free(want);
    }
}
static void test_gemm_r32(void **state)
{
    (void)state;
    ops_each(gemm_r32);
}

static float naive_act(enum mb_act_kind kind, float g, float u, float limit)
{
    switch (kind) {
    case MB_ACT_SILU:
        return mb_silu(g) * u;
    case MB_ACT_GELU_ERF:
        return mb_gelu_erf(g) * u;
    case MB_ACT_GELU_TANH:
        return mb_gelu_tanh(g) * u;
    case MB_ACT_SWIGLU_CLAMPED:
        return mb_swiglu_clamped(g, u, limit);
    }
    return 0;
}

static void act(struct ops_ctx *c)
{
    FOR_SHAPES(M, I)
    {
        float *gu = room_filled(c, M * 2 * I), *want = room(M * I);
        for (int i = 0; i < M * 2 * I; i += 11) /* far out too */
            gu[i] *= 25;
        struct mb_view v = ops_up(c, gu, M, 2 * I, MB_F32), out = ops_up(c, NULL, M, I, c->path);
        for (int kind = MB_ACT_SILU; kind <= MB_ACT_SWIGLU_CLAMPED; kind++) {
            for (int i = 0; i < M * I; i++)
                want[i] = naive_act((enum mb_act_kind)kind, gu[i / I * 2 * I + i % I],
                                    gu[i / I * 2 * I + I + i % I], 1.5f);
            assert_int_equal(c->ops->act(c->s, out, v, (enum mb_act_kind)kind, 1.5f), MB_OK);
            ops_equal(c, out, want);
        }
        free(gu);
        free(want);
    }
}
static void test_act(void **state)
{
    (void)state;
    ops_each(act);
}

/* Every bit pattern class through the vector forms of the elementary functions, by way of act and gate. */
static void special(struct ops_ctx *c)
{
    static const float s[] = {0.0f,   -0.0f,  1,        -1,        88.7f,  89,      -88,   -104,
                              1e30f,  -1e30f, INFINITY, -INFINITY, 1e-30f, -1e-38f, 0.64f, 0.93f,
                              -0.64f, 4,      -4,       NAN,       17,     -17};
    enum { N = sizeof s / sizeof *s };
    float gu[2 * N], want[N];
    for (int i = 0; i < N; i++) {
        gu[i] = s[i];
        gu[N + i] = 1.25f;
    }
    struct mb_view v = ops_up(c, gu, 1, 2 * N, MB_F32), out = ops_up(c, NULL, 1, N, MB_F32);
    for (int kind = MB_ACT_SILU; kind <= MB_ACT_SWIGLU_CLAMPED; kind++) {
        for (int i = 0; i < N; i++)
            want[i] = naive_act((enum mb_act_kind)kind, gu[i], 1.25f, 7);
        assert_int_equal(c->ops->act(c->s, out, v, (enum mb_act_kind)kind, 7), MB_OK);
        ops_equal(c, out, want);
    }
}
static void test_special(void **state)
{
    (void)state;
    ops_each(special);
}

/* One row's items: some weighted expert outputs, some inner nodes. */
static int fold_items(struct ops_ctx *c, int rows_y, int rows_inner, int32_t *src, int32_t *pos,
                      float *weight)
{
    int n = 0;
    for (int p = 0; p < 64; p++)
        if (ops_rnd(c) % 7 == 0) {
            bool inner = rows_inner > 0 && ops_rnd(c) % 3 == 0;
            pos[n] = p;
            src[n] = (int32_t)(ops_rnd(c) % (uint32_t)(inner ? rows_inner : rows_y));
            src[n] = inner ? -1 - src[n] : src[n];
            weight[n++] = ops_rnd_float(c);
        }
    return n;
}

static void fold_case(struct ops_ctx *c, int M, int H, bool with_inner)
{
    enum { Y = 6, INNER = 4, MOST = 13 * 64 };
    float *y = room_filled(c, Y * H), *inner = room_filled(c, INNER * H), *want = room(M * H);
    static int32_t src[MOST], pos[MOST], off[32];
    static float weight[MOST];
    struct mb_view vy = ops_up(c, y, Y, H, MB_F32), vin = ops_up(c, inner, INNER, H, MB_F32);
    if (c->path == MB_BF16) {
        vy = ops_up(c, NULL, Y, H, MB_BF16);
        assert_int_equal(c->ops->copy(c->s, vy, ops_up(c, y, Y, H, MB_F32)), MB_OK);
        for (int i = 0; i < Y * H; i++)
            y[i] = mb_bf16_float(mb_bf16_of(y[i]));
    }
    off[0] = 0;
    for (int i = 0; i < M; i++) {
        int n = i == 2
                    ? 0
                    : fold_items(c, Y, with_inner ? INNER : 0, src + off[i], pos + off[i], weight + off[i]);
        off[i + 1] = off[i] + n;
        for (int h = 0; h < H; h++) {
            float v[64];
            for (int j = 0; j < n; j++) {
                int s = src[off[i] + j];
                v[j] = s >= 0 ? weight[off[i] + j] * y[s * H + h] : inner[(-1 - s) * H + h];
            }
            if (!naive_tree(v, pos + off[i], n, 0, 64, &want[i * H + h]))
                want[i * H + h] = 0;
        }
    }
    struct mb_view out = ops_up(c, NULL, M, H, MB_F32);
    struct mb_fold_args a = {ops_up(c, off, M + 1, 1, MB_I32),
                             ops_up(c, src, off[M], 1, MB_I32),
                             ops_up(c, pos, off[M], 1, MB_I32),
                             ops_up(c, weight, off[M], 1, MB_F32),
                             vy,
                             with_inner ? vin : MB_NO_VIEW};
    assert_int_equal(c->ops->fold(c->s, out, &a), MB_OK);
    ops_equal(c, out, want);
    free(y);
    free(inner);
    free(want);
}

static void fold(struct ops_ctx *c)
{
    FOR_SHAPES(M, H)
    {
        fold_case(c, M, H, true);
        fold_case(c, M, H, false);
    }
}
static void test_fold(void **state)
{
    (void)state;
    ops_each(fold);
}

/* A caller's mistake is MB_BUG and touches nothing. */
static void mistakes(struct ops_ctx *c)
{
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int32_t bad[2] = {0, 4};
    struct mb_view a = ops_up(c, x, 2, 4, MB_F32), b = ops_up(c, x, 4, 2, MB_F32),
                   ids = ops_up(c, bad, 2, 1, MB_I32);
    assert_int_equal(c->ops->add(c->s, a, a, b), MB_BUG);
    assert_int_equal(c->ops->gather(c->s, a, a, ids), MB_BUG);
    assert_int_equal(c->ops->embed(c->s, a, ops_up(c, x, 2, 4, MB_F32), ids, 1), MB_BUG);
    struct mb_view beyond = a;
    beyond.rows = 1000;
    assert_int_equal(c->ops->scale(c->s, beyond, 2), MB_BUG);
    ops_equal(c, a, x);
}
static void test_mistakes(void **state)
{
    (void)state;
    ops_each(mistakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_simple),  cmocka_unit_test(test_lookup),   cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope),    cmocka_unit_test(test_gemm_r32), cmocka_unit_test(test_act),
        cmocka_unit_test(test_special), cmocka_unit_test(test_fold),     cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
