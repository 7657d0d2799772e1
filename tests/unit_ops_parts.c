/* Operations that complete sums which several ranks share, on every backend and ISA against naive forms, with
 * ==: square and norm_sums, a bias row in add, fold of inner nodes alone, attention_join. */
#include "ops_help.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const int row_counts[] = {0, 1, 2, 5, 13};

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

/* ---------------------------------------------------------------- square, norm_sums */
/* Columns [from, from + n) of x [M, C], to be freed. */
static float *columns(const float *x, int M, int C, int from, int n)
{
    float *part = room((int64_t)M * n);
    for (int i = 0; i < M; i++)
        memcpy(part + i * n, x + i * C + from, (size_t)n * sizeof *part);
    return part;
}

/* One rank's part: columns [from, from + n) of x, made what they are in want. */
static void norm_part(struct ops_ctx *c, const float *x, const float *weight, const float *want, int M, int C,
                      int from, int n, struct mb_view sums)
{
    float *mine = columns(x, M, C, from, n), *then = columns(want, M, C, from, n);
    struct mb_view v = ops_up(c, mine, M, n, MB_F32), w = ops_up(c, weight + from, 1, n, MB_F32);
    assert_int_equal(c->ops->norm_sums(c->s, v, sums, w, C, 1e-5f), MB_OK);
    ops_equal(c, v, then);
    free(mine);
    free(then);
}

/* `leaves` leaves of w columns on `ranks` ranks: first square sums by each, then each norms its columns. */
static void norm_case(struct ops_ctx *c, int M, int w, int leaves, int ranks)
{
    int C = w * leaves;
    float *x = room_filled(c, M * C), *weight = room_filled(c, C), *want = room(M * C),
          *sq = room(M * leaves);
    struct mb_view whole = ops_up(c, x, M, C, MB_F32), sums = ops_up(c, NULL, M, leaves, MB_F32);
    struct mb_view vw = ops_up(c, weight, 1, C, MB_F32);
    assert_int_equal(
        c->ops->norm(c->s, MB_NO_VIEW, whole, whole, vw, MB_NO_VIEW, MB_NORM_RMS, 1e-5f, 1, leaves), MB_OK);
    ops_down(c, want, whole);
    for (int i = 0; i < M * leaves; i++)
        sq[i] = naive_r32(x + i * w, x + i * w, w, 1);
    for (int r = 0; r < ranks; r++) {
        int first = r * leaves / ranks, n = (r + 1) * leaves / ranks - first;
        float *mine = columns(x, M, C, first * w, n * w);
        struct mb_view v = ops_up(c, mine, M, n * w, MB_F32);
        assert_int_equal(c->ops->square(c->s, mb_view_cols(sums, first, n), v), MB_OK);
        free(mine);
    }
    ops_equal(c, sums, sq);
    for (int r = 0; r < ranks; r++) {
        int first = r * leaves / ranks, n = (r + 1) * leaves / ranks - first;
        norm_part(c, x, weight, want, M, C, first * w, n * w, sums);
    }
    ops_reset(c);
    free(x);
    free(weight);
    free(want);
    free(sq);
}

static void norm(struct ops_ctx *c)
{
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        norm_case(c, row_counts[i], 600, 1, 1);
        norm_case(c, row_counts[i], 128, 16, 4);
        norm_case(c, row_counts[i], 37, 7, 3);
        norm_case(c, row_counts[i], 64, 40, 5);
    }
}
static void test_norm(void **state)
{
    (void)state;
    ops_each(norm);
}

/* ---------------------------------------------------------------- add: one row to every row */
static void bias(struct ops_ctx *c)
{
    static const int cols[] = {1, 31, 64, 1100};
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++)
        for (size_t k = 0; k < sizeof cols / sizeof *cols; k++) {
            int M = row_counts[i], H = cols[k];
            float *a = room_filled(c, M * H), *b = room_filled(c, H), *want = room(M * H);
            for (int j = 0; j < M * H; j++)
                want[j] = a[j] + b[j % H];
            struct mb_view va = ops_up(c, a, M, H, MB_F32), vb = ops_up(c, b, 1, H, MB_F32);
            struct mb_view out = ops_up(c, NULL, M, H, MB_F32);
            assert_int_equal(c->ops->add(c->s, out, va, vb), MB_OK);
            ops_equal(c, out, want);
            assert_int_equal(c->ops->add(c->s, va, va, vb), MB_OK);
            ops_equal(c, va, want);
            ops_equal(c, vb, b);
            ops_reset(c);
            free(a);
            free(b);
            free(want);
        }
}
static void test_bias(void **state)
{
    (void)state;
    ops_each(bias);
}

/* ---------------------------------------------------------------- fold of inner nodes alone */
/* Every row has `items` nodes of a tree of 16 leaves (one row: none); rows lie in any order. */
static void fold_case(struct ops_ctx *c, int M, int H, int items)
{
    int32_t off[32] = {0}, src[16 * 16], pos[16 * 16];
    float *inner = room_filled(c, 16 * 16 * H), *want = room(M * H);
    for (int i = 0, n = 0; i < M; i++) {
        for (int j = 0; i != 3 && j < items; j++, n++) {
            src[n] = -1 - (int32_t)(ops_rnd(c) % (16 * 16));
            pos[n] = j * 16 / items + (int32_t)(ops_rnd(c) % (uint32_t)(16 / items));
        }
        off[i + 1] = n;
        for (int h = 0; h < H; h++) {
            float v[16];
            for (int j = 0; j < n - off[i]; j++)
                v[j] = inner[(-1 - src[off[i] + j]) * H + h];
            if (!naive_tree(v, pos + off[i], n - off[i], 0, 16, &want[i * H + h]))
                want[i * H + h] = 0;
        }
    }
    struct mb_view out = ops_up(c, NULL, M, H, MB_F32);
    struct mb_fold_args a = {ops_up(c, off, M + 1, 1, MB_I32),
                             ops_up(c, src, off[M], 1, MB_I32),
                             ops_up(c, pos, off[M], 1, MB_I32),
                             MB_NO_VIEW,
                             MB_NO_VIEW,
                             ops_up(c, inner, 16 * 16, H, MB_F32)};
    assert_int_equal(c->ops->fold(c->s, out, &a), MB_OK);
    ops_equal(c, out, want);
    ops_equal(c, a.inner, inner);
    if (off[M] > 0) { /* an expert output that is not there */
        src[0] = 0;
        a.src = ops_up(c, src, off[M], 1, MB_I32);
        assert_int_equal(c->ops->fold(c->s, out, &a), MB_BUG);
    }
    ops_reset(c);
    free(inner);
    free(want);
}

static void fold(struct ops_ctx *c)
{
    static const int cols[] = {1, 33, 512, 513, 1500}, items[] = {1, 2, 3, 5, 8, 16};
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++)
        for (size_t k = 0; k < sizeof cols / sizeof *cols; k++)
            fold_case(c, row_counts[i], cols[k], items[(i + k + ops_rnd(c)) % 6]);
}
static void test_fold(void **state)
{
    (void)state;
    ops_each(fold);
}

/* ---------------------------------------------------------------- attention_join */
enum { STATES = 40, SEGMENTS = 32 };

/* The node over positions [lo, lo + size) of one head: v = m, l, o. False: nothing there. */
static bool naive_join(const float *states, int width, int dv, const int32_t *src, const int32_t *pos, int n,
                       int lo, int size, float *v)
{
    float right[2 + 600];
    if (size == 1) {
        for (int j = 0; j < n; j++)
            if (pos[j] == lo) {
                memcpy(v, states + src[j] * width, (size_t)(dv + 2) * sizeof *v);
                return true;
            }
        return false;
    }
    bool has_left = naive_join(states, width, dv, src, pos, n, lo, size / 2, v);
    bool has_right =
        naive_join(states, width, dv, src, pos, n, lo + size / 2, size / 2, has_left ? right : v);
    if (!has_left || !has_right)
        return has_left || has_right;
    float m = v[0] > right[0] ? v[0] : right[0], e1 = mb_expf(v[0] - m), e2 = mb_expf(right[0] - m);
    v[0] = m;
    for (int i = 1; i < dv + 2; i++) {
        float r = right[i] * e2;
        v[i] = fmaf(v[i], e1, r);
    }
    return true;
}

/* The sink as right operand after the root, then o / l. */
static void naive_finish(float *v, int dv, const float *sink)
{
    if (sink != NULL) {
        float m = v[0] > *sink ? v[0] : *sink, e1 = mb_expf(v[0] - m), e2 = mb_expf(*sink - m);
        v[1] = fmaf(v[1], e1, 1.0f * e2);
        for (int i = 0; i < dv; i++)
            v[2 + i] = fmaf(v[2 + i], e1, 0.0f * e2);
    }
    for (int i = 0; i < dv; i++)
        v[2 + i] = v[2 + i] / v[1];
}

static int some_items(struct ops_ctx *c, int32_t *src, int32_t *pos)
{
    int n = 0;
    uint32_t every = 1 + ops_rnd(c) % 5;
    for (int p = 0; p < SEGMENTS; p++)
        if (ops_rnd(c) % every == 0 || (n == 0 && p == SEGMENTS - 1)) {
            src[n] = (int32_t)(ops_rnd(c) % STATES);
            pos[n++] = p;
        }
    return n;
}

static void join_case(struct ops_ctx *c, int N, int heads, int dv, bool sinks)
{
    static int32_t off[32], src[16 * SEGMENTS], pos[16 * SEGMENTS];
    int width = heads * (dv + 2);
    float *states = room_filled(c, STATES * width), *sink = room_filled(c, heads), v[2 + 600];
    float *joined = room(N * width), *done = room(N * heads * dv);
    for (int i = 0; i < STATES * heads; i++) /* sums are positive */
        states[i * (dv + 2) + 1] = 0.1f + fabsf(states[i * (dv + 2) + 1]);
    for (int i = 0; i < N; i++) {
        int n = some_items(c, src + off[i], pos + off[i]);
        off[i + 1] = off[i] + n;
        for (int h = 0; h < heads; h++) {
            assert_true(
                naive_join(states + h * (dv + 2), width, dv, src + off[i], pos + off[i], n, 0, SEGMENTS, v));
            memcpy(joined + i * width + h * (dv + 2), v, (size_t)(dv + 2) * sizeof *v);
            naive_finish(v, dv, sinks ? sink + h : NULL);
            memcpy(done + (i * heads + h) * dv, v + 2, (size_t)dv * sizeof *v);
        }
    }
    struct mb_view state = ops_up(c, states, STATES, width, MB_F32),
                   nodes = ops_up(c, NULL, N, width, MB_F32);
    struct mb_view out = ops_up(c, NULL, N, heads * dv, c->path);
    struct mb_join_args a = {.item_off = ops_up(c, off, N + 1, 1, MB_I32),
                             .src = ops_up(c, src, off[N], 1, MB_I32),
                             .pos = ops_up(c, pos, off[N], 1, MB_I32),
                             .sinks = sinks ? ops_up(c, sink, 1, heads, MB_F32) : MB_NO_VIEW,
                             .heads = heads,
                             .dv = dv};
    assert_int_equal(c->ops->attention_join(c->s, nodes, state, &a), MB_OK);
    ops_equal(c, nodes, joined);
    a.finish = true;
    assert_int_equal(c->ops->attention_join(c->s, out, state, &a), MB_OK);
    ops_equal(c, out, done);
    ops_equal(c, state, states);
    ops_reset(c);
    free(states);
    free(sink);
    free(joined);
    free(done);
}

static void join(struct ops_ctx *c)
{
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        join_case(c, row_counts[i], 1, 1, false);
        join_case(c, row_counts[i], 3, 33, true);
        join_case(c, row_counts[i], 2, 64, false);
        join_case(c, row_counts[i], 2, 600, true);
    }
}
static void test_join(void **state)
{
    (void)state;
    ops_each(join);
}

/* A caller's mistake is MB_BUG and touches nothing. */
static void mistakes(struct ops_ctx *c)
{
    float x[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct mb_view a = ops_up(c, x, 3, 4, MB_F32), two = ops_up(c, x, 2, 4, MB_F32),
                   w = ops_up(c, x, 1, 4, MB_F32);
    struct mb_view sums = ops_up(c, x, 3, 3, MB_F32);
    assert_int_equal(c->ops->add(c->s, a, a, two), MB_BUG);
    assert_int_equal(c->ops->add(c->s, two, two, mb_view_cols(w, 0, 3)), MB_BUG);
    assert_int_equal(c->ops->square(c->s, sums, a), MB_BUG); /* 3 leaves of 4 columns */
    assert_int_equal(c->ops->square(c->s, mb_view_rows(sums, 0, 2), a), MB_BUG);
    assert_int_equal(c->ops->norm_sums(c->s, a, sums, w, 8, 1e-5f), MB_BUG); /* 3 leaves of 8 columns */
    assert_int_equal(c->ops->norm_sums(c->s, a, sums, w, 3, 1e-5f), MB_BUG); /* a part wider than the whole */
    assert_int_equal(c->ops->norm_sums(c->s, a, sums, two, 12, 1e-5f), MB_BUG); /* no row of weights */
    ops_equal(c, a, x);
    ops_equal(c, two, x);
}
static void test_mistakes(void **state)
{
    (void)state;
    ops_each(mistakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm), cmocka_unit_test(test_bias),     cmocka_unit_test(test_fold),
        cmocka_unit_test(test_join), cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
