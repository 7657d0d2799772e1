/* Routers, logits statistics and the n largest, of every backend and ISA, against naive forms of the
 * formulas, with ==. */
#include "ops_help.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- naive routers */
/* Indices 0..n-1 by value descending, then index ascending (insertion sort: slow and plain). */
static void order(const float *v, int n, int *out)
{
    for (int i = 0; i < n; i++) {
        int j = i;
        for (; j > 0 && v[out[j - 1]] < v[i]; j--)
            out[j] = out[j - 1];
        out[j] = i;
    }
}

static void softmax(const float *z, int n, const bool *seen, float *p)
{
    float m = -INFINITY, e[512] = {0};
    for (int i = 0; i < n; i++)
        if (seen[i] && z[i] > m)
            m = z[i];
    for (int i = 0; i < n; i++)
        e[i] = seen[i] ? mb_expf(z[i] - m) : 0;
    float l = naive_r32(e, e, n, 0);
    for (int i = 0; i < n; i++)
        p[i] = e[i] / l;
}

static void limit(float *c, const struct mb_router *r, bool two, float masked)
{
    int n = r->experts / r->groups, by[512], in[512];
    float g[512];
    for (int i = 0; i < r->groups; i++) {
        order(c + i * n, n, in);
        g[i] = c[i * n + in[0]];
        if (two && n > 1)
            g[i] += c[i * n + in[1]];
    }
    order(g, r->groups, by);
    for (int j = r->topk_groups; j < r->groups; j++)
        for (int i = 0; i < n; i++)
            c[by[j] * n + i] = masked;
}

static void naive_mixer(const float *z, const struct mb_router *r, int32_t *e, float *w)
{
    bool gone[512] = {false}, seen[512];
    float p[512];
    for (int j = 0; j < 2; j++) {
        int best = -1;
        for (int i = 0; i < r->experts; i++)
            if (!gone[i] && (best < 0 || z[i] > z[best]))
                best = i;
        for (int i = 0; i < r->experts; i++)
            seen[i] = !gone[i] && !((z[best] - z[i]) / fmaxf(fabsf(z[i]), z[best]) > 2 * r->eps);
        softmax(z, r->experts, seen, p);
        e[j] = best;
        w[j] = p[best];
        gone[best] = true;
    }
}

static void naive_choose(const float *z, const float *bias, const struct mb_router *r, int32_t *e, float *w)
{
    float s[512], c[512], chosen[512];
    bool all[512];
    int by[512];
    for (int i = 0; i < r->experts; i++)
        all[i] = true;
    bool sigmoid = r->kind == MB_ROUTER_SIGMOID_GROUPED, raw = r->kind == MB_ROUTER_TOPK_SOFTMAX;
    bool each = r->kind == MB_ROUTER_TOPK_SIGMOID, biased = sigmoid || r->kind == MB_ROUTER_SOFTMAX_BIAS;
    softmax(z, r->experts, all, s);
    for (int i = 0; i < r->experts; i++) {
        s[i] = sigmoid || each ? mb_sigmoidf(z[i]) : raw ? z[i] : s[i];
        c[i] = each ? z[i] : biased && bias != NULL ? s[i] + bias[i] : s[i];
    }
    if (sigmoid)
        limit(c, r, true, -INFINITY);
    if (r->kind == MB_ROUTER_SOFTMAX_PAIRS)
        limit(c, r, true, 0);
    if (r->kind == MB_ROUTER_SOFTMAX_GROUPED) {
        limit(c, r, false, 0);
        memcpy(s, c, sizeof s);
    }
    order(c, r->experts, by);
    for (int j = 0; j < r->k; j++) {
        e[j] = by[j];
        chosen[j] = s[by[j]];
    }
    if (raw)
        softmax(chosen, r->k, all, w);
    else
        memcpy(w, chosen, (size_t)r->k * sizeof *w);
}

static void naive_renorm(const struct mb_router *r, float *w)
{
    float t[512], sum = naive_r32(w, w, r->k, 0), n;
    for (int j = 0; j < r->k; j++)
        t[j] = r->p == 1 ? fabsf(w[j]) : mb_expf(r->p * mb_logf(fabsf(w[j])));
    n = naive_r32(t, t, r->k, 0);
    n = r->p == 1 ? n : r->p == 2 ? sqrtf(naive_r32(w, w, r->k, 1)) : mb_expf(mb_logf(n) / r->p);
    for (int j = 0; j < r->k; j++) {
        float by = r->renorm == MB_RENORM_SUM ? sum : r->renorm == MB_RENORM_SUM_EPS ? sum + 1e-20f
                   : r->renorm == MB_RENORM_SUM_MIN ? fmaxf(sum, r->least) : n;
        w[j] = r->renorm == MB_RENORM_NONE ? w[j] : w[j] / by;
        w[j] = r->scale == 1 ? w[j] : w[j] * r->scale;
    }
}

static void naive_route(const float *z, const float *bias, const struct mb_router *r, int32_t *e, float *w,
                        int32_t *bad)
{
    *bad = 0;
    for (int i = 0; i < r->experts; i++)
        *bad |= !isfinite(z[i]);
    for (int j = 0; j < r->k; j++) {
        e[j] = j;
        w[j] = 0;
    }
    if (*bad)
        return;
    if (r->kind == MB_ROUTER_SPARSEMIXER)
        naive_mixer(z, r, e, w);
    else
        naive_choose(z, bias, r, e, w);
    naive_renorm(r, w);
}

static void route_case(struct ops_ctx *c, int M, const struct mb_router *r, bool with_bias)
{
    int E = r->experts, k = r->k;
    float *z = calloc((size_t)(M * E + 1), 4), *w = calloc((size_t)(M * k + 1), 4), bias[512];
    int32_t *e = calloc((size_t)(M * k + 1), 4), bad[16];
    ops_fill(c, z, M * E);
    ops_fill(c, bias, E);
    for (int i = 0; i < M; i++) {
        if (i % 4 == 1) /* ties */
            for (int j = 0; j < E; j++)
                z[i * E + j] = (float)(int)z[i * E + j];
        if (i % 5 == 3)
            z[i * E + (int)(ops_rnd(c) % (uint32_t)E)] = i % 2 ? NAN : -INFINITY;
        naive_route(z + i * E, with_bias ? bias : NULL, r, e + i * k, w + i * k, &bad[i]);
    }
    struct mb_view vz = ops_up(c, z, M, E, MB_F32),
                   vb = with_bias ? ops_up(c, bias, 1, E, MB_F32) : MB_NO_VIEW;
    struct mb_view ve = ops_up(c, NULL, M, k, MB_I32), vw = ops_up(c, NULL, M, k, MB_F32);
    struct mb_view vbad = ops_up(c, NULL, M, 1, MB_I32);
    assert_int_equal(c->ops->route(c->s, ve, vw, vbad, vz, vb, r), MB_OK);
    ops_equal_i32(c, ve, e);
    ops_equal_i32(c, vbad, bad);
    ops_equal(c, vw, w);
    ops_reset(c);
    free(z);
    free(w);
    free(e);
}

static void route(struct ops_ctx *c)
{
    static const struct mb_router rows[] = {
        {MB_ROUTER_SOFTMAX, MB_RENORM_SUM, 8, 2, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_NONE, 60, 4, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_PNORM, 16, 4, 1, 1, 1, 1, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_PNORM, 16, 4, 1, 1, 1, 2, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_PNORM, 16, 4, 1, 1, 1, 3.5f, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_NONE, 1, 1, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_SOFTMAX, MB_RENORM_SUM, 130, 130, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_SOFTMAX_GROUPED, MB_RENORM_NONE, 12, 4, 3, 2, 16, 0, 0, 0},
        {MB_ROUTER_SOFTMAX_GROUPED, MB_RENORM_NONE, 160, 6, 8, 3, 16, 0, 0, 0},
        {MB_ROUTER_SIGMOID_GROUPED, MB_RENORM_SUM_EPS, 256, 8, 8, 4, 2.5f, 0, 0, 0},
        {MB_ROUTER_SIGMOID_GROUPED, MB_RENORM_NONE, 6, 2, 3, 1, 1, 0, 0, 0},
        {MB_ROUTER_SIGMOID_GROUPED, MB_RENORM_SUM_EPS, 4, 2, 4, 2, 1, 0, 0, 0},
        {MB_ROUTER_TOPK_SOFTMAX, MB_RENORM_NONE, 32, 4, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_TOPK_SOFTMAX, MB_RENORM_NONE, 128, 4, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_SPARSEMIXER, MB_RENORM_NONE, 16, 2, 1, 1, 1, 0, 0.01f, 0},
        {MB_ROUTER_SPARSEMIXER, MB_RENORM_NONE, 5, 2, 1, 1, 1, 0, 0.3f, 0},
        {MB_ROUTER_SOFTMAX_PAIRS, MB_RENORM_SUM_EPS, 24, 4, 4, 2, 1, 0, 0, 0},
        {MB_ROUTER_SOFTMAX_PAIRS, MB_RENORM_NONE, 10, 3, 1, 1, 1.5f, 0, 0, 0},
        {MB_ROUTER_SOFTMAX_BIAS, MB_RENORM_SUM_MIN, 64, 6, 1, 1, 1, 0, 0, 1e-12f},
        {MB_ROUTER_SOFTMAX_BIAS, MB_RENORM_SUM_MIN, 9, 2, 1, 1, 1, 0, 0, 0.9f},
        {MB_ROUTER_TOPK_SIGMOID, MB_RENORM_NONE, 16, 1, 1, 1, 1, 0, 0, 0},
        {MB_ROUTER_TOPK_SIGMOID, MB_RENORM_NONE, 33, 5, 1, 1, 1, 0, 0, 0},
    };
    static const int row_counts[] = {0, 1, 7, 16};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int m = 0; m < 4; m++)
            route_case(c, row_counts[m], &rows[i], m % 2);
}
static void test_route(void **state)
{
    (void)state;
    ops_each(route);
}

/* ---------------------------------------------------------------- logits */
static void logits_case(struct ops_ctx *c, int M, int V)
{
    float *z = calloc((size_t)(M * V + 1), 4), *st = calloc((size_t)(2 * M + 1), 4), lp[32], tlp[32 * 20];
    int32_t best[32], bad[32] = {0}, ids[32], tops[32 * 20];
    int n = V < 20 ? V : 20, *by = calloc((size_t)V + 1, sizeof *by);
    ops_fill(c, z, M * V);
    for (int i = 0; i < M; i++) {
        float *r = z + i * V;
        for (int j = 0; j < V && i % 3 == 2; j++) /* ties */
            r[j] = (float)(int)(2 * r[j]);
        naive_stats(r, V, st + 2 * i);
        order(r, V, by);
        ids[i] = (int32_t)(ops_rnd(c) % (uint32_t)V);
        lp[i] = (r[ids[i]] - st[2 * i]) - mb_logf(st[2 * i + 1]);
        best[i] = by[0];
        for (int j = 0; j < n; j++) {
            tops[i * n + j] = by[j];
            tlp[i * n + j] = (r[by[j]] - st[2 * i]) - mb_logf(st[2 * i + 1]);
        }
    }
    struct mb_view vz = ops_up(c, z, M, V, MB_F32), vs = ops_up(c, NULL, M, 2, MB_F32);
    struct mb_view vbest = ops_up(c, NULL, M, 1, MB_I32), vbad = ops_up(c, NULL, M, 1, MB_I32);
    assert_int_equal(c->ops->logit_stats(c->s, vs, vbest, vbad, vz), MB_OK);
    ops_equal(c, vs, st);
    ops_equal_i32(c, vbest, best);
    ops_equal_i32(c, vbad, bad);
    struct mb_view vlp = ops_up(c, NULL, M, 1, MB_F32);
    assert_int_equal(c->ops->logprob(c->s, vlp, vz, vs, ops_up(c, ids, M, 1, MB_I32)), MB_OK);
    ops_equal(c, vlp, lp);
    struct mb_view vid = ops_up(c, NULL, M, n, MB_I32), vtop = ops_up(c, NULL, M, n, MB_F32);
    assert_int_equal(c->ops->top(c->s, vid, vtop, vz, vs), MB_OK);
    ops_equal_i32(c, vid, tops);
    ops_equal(c, vtop, tlp);
    ops_reset(c);
    free(z);
    free(st);
    free(by);
}

static void logits(struct ops_ctx *c)
{
    static const int vocab[] = {1, 2, 15, 16, 17, 33, 128, 500, 2049};
    for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++)
        for (int M = 0; M <= 8; M += M + 1)
            logits_case(c, M, vocab[i]);
}
static void test_logits(void **state)
{
    (void)state;
    ops_each(logits);
}

/* A row that is not finite is flagged, its neighbours are untouched, and nothing goes astray in what follows.
 */
static void not_finite(struct ops_ctx *c)
{
    enum { V = 100, M = 4 };
    float z[M * V], want[2];
    ops_fill(c, z, M * V);
    z[0 * V + 99] = NAN;
    z[1 * V + 0] = INFINITY;
    for (int i = 0; i < V; i++)
        z[2 * V + i] = -INFINITY;
    naive_stats(z + 3 * V, V, want);
    struct mb_view vz = ops_up(c, z, M, V, MB_F32), vs = ops_up(c, NULL, M, 2, MB_F32);
    struct mb_view vbest = ops_up(c, NULL, M, 1, MB_I32), vbad = ops_up(c, NULL, M, 1, MB_I32);
    assert_int_equal(c->ops->logit_stats(c->s, vs, vbest, vbad, vz), MB_OK);
    ops_equal_i32(c, vbad, (const int32_t[]){1, 1, 1, 0});
    float st[2 * M];
    int32_t best[M], top[M * 5];
    ops_down(c, st, vs);
    ops_down(c, best, vbest);
    assert_true(st[6] == want[0] && st[7] == want[1]);
    struct mb_view vid = ops_up(c, NULL, M, 5, MB_I32), vtop = ops_up(c, NULL, M, 5, MB_F32);
    assert_int_equal(c->ops->top(c->s, vid, vtop, vz, vs), MB_OK);
    ops_down(c, top, vid);
    for (int i = 0; i < M; i++)
        assert_in_range(best[i], 0, V - 1);
    for (int i = 0; i < M * 5; i++)
        assert_in_range(top[i], 0, V - 1);
}
static void test_not_finite(void **state)
{
    (void)state;
    ops_each(not_finite);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_route), cmocka_unit_test(test_logits),
                                       cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
