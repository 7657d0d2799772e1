/* Sampling of every backend and ISA against a plain version that sorts the whole vocabulary, for every
 * combination of temperature, top-k, top-p, min-p, penalties and biases; and against the distribution it
 * should have. */
#include "ops_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float *sort_z;
static int by_value(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    if (sort_z[x] != sort_z[y])
        return sort_z[x] > sort_z[y] ? -1 : 1;
    return x < y ? -1 : x > y;
}

#define MASKS 3
static uint32_t mask[MASKS][160]; /* of vocabularies up to 5,120 */

static void naive_adjust(float *z, int V, const struct mb_sample_row *p, const struct mb_sample_adjust *adj)
{
    for (int i = 0; i < V && p->only; i++) {
        bool listed = false;
        for (int j = p->adj_begin; j < p->adj_end; j++)
            listed |= adj[j].id == i;
        z[i] = listed ? z[i] : -INFINITY;
    }
    for (int j = p->adj_begin; j < p->adj_end; j++) {
        const struct mb_sample_adjust *a = &adj[j];
        float v = z[a->id];
        if (a->in_prompt || a->n_out > 0)
            v = v > 0 ? v / p->repetition : v * p->repetition;
        v -= p->frequency * (float)a->n_out;
        v -= a->n_out > 0 ? p->presence : 0;
        z[a->id] = v + a->bias;
    }
    for (int i = 0; i < V && p->mask; i++)
        z[i] = mask[p->mask - 1][i / 32] & 1u << i % 32 ? z[i] : -INFINITY;
}

static int argmax(const float *z, int V)
{
    int best = 0;
    for (int i = 1; i < V; i++)
        if (z[i] > z[best])
            best = i;
    return best;
}

static int naive_count(const float *z, const int *by, int V, const struct mb_sample_row *p)
{
    int n = p->top_k > 0 && p->top_k < V ? p->top_k : V;
    double total = 0, sum = 0;
    float st[2];
    naive_stats(z, V, st);
    for (int i = 0; i < n; i++)
        total += mb_exp((double)z[by[i]] - (double)z[by[0]]);
    if (n == V)
        total = (double)st[1];
    for (int i = 0; i < n && p->top_p < 1; i++) {
        sum += mb_exp((double)z[by[i]] - (double)z[by[0]]);
        if (sum >= (double)p->top_p * total)
            return i + 1;
    }
    return n;
}

static int naive_sample(const float *raw, int V, const struct mb_sample_row *p,
                        const struct mb_sample_adjust *adj)
{
    float *z = malloc((size_t)V * sizeof *z);
    int *by = malloc((size_t)V * sizeof *by);
    memcpy(z, raw, (size_t)V * sizeof *z);
    naive_adjust(z, V, p, adj);
    int best = argmax(z, V);
    if (p->temperature > 0) {
        for (int i = 0; i < V; i++) {
            z[i] = z[i] / p->temperature;
            by[i] = i;
        }
        sort_z = z;
        qsort(by, (size_t)V, sizeof *by, by_value);
        int n = naive_count(z, by, V, p);
        float most = -INFINITY, least = p->min_p > 0 ? z[by[0]] + mb_logf(p->min_p) : -INFINITY;
        best = by[0];
        for (int i = 0; i < n; i++) {
            float v = z[by[i]] + mb_gumbel(p->key, p->position, by[i]);
            if (z[by[i]] >= least && (v > most || (v == most && by[i] < best))) {
                most = v;
                best = by[i];
            }
        }
    }
    free(z);
    free(by);
    return best;
}

/* ---------------------------------------------------------------- random rows */
static float pick(struct ops_ctx *c, const float *from, int n)
{
    return from[ops_rnd(c) % (uint32_t)n];
}

static struct mb_sample_row random_row(struct ops_ctx *c, int V)
{
    const float temps[] = {0, 1, 1, 0.7f, 1.5f, 0.01f, 50}, top_ps[] = {1, 1, 0.9f, 0.5f, 0.999f, 1e-6f, 2};
    const float min_ps[] = {0, 0, 0.05f, 0.9f, 1e-4f}, pens[] = {0, 0, 0.5f, -0.3f},
                reps[] = {1, 1, 1.3f, 0.8f};
    const int32_t ks[] = {0, 0, 1, 2, 50, V / 2 + 1, V, V + 7, -1};
    struct mb_sample_row p = {pick(c, temps, 7),
                              ks[ops_rnd(c) % 9],
                              pick(c, top_ps, 7),
                              pick(c, min_ps, 5),
                              pick(c, reps, 4),
                              pick(c, pens, 4),
                              pick(c, pens, 4),
                              0,
                              0,
                              (uint64_t)ops_rnd(c) << 32 | ops_rnd(c),
                              (int64_t)ops_rnd(c) * (ops_rnd(c) % 2 ? 1 : 8),
                              ops_rnd(c) % 4 == 0, 0};
    return p;
}

/* Adjustments with ascending ids; biases up to -inf. */
static int random_adjust(struct ops_ctx *c, int V, struct mb_sample_adjust *a, int room)
{
    int n = 0, step = 1 + V / 20;
    for (int id = (int)(ops_rnd(c) % (uint32_t)step); id < V && n < room;
         id += 1 + (int)(ops_rnd(c) % (uint32_t)step)) {
        const float bias[] = {0, 0, 0, 2, -3, -100, -INFINITY};
        a[n++] = (struct mb_sample_adjust){id, ops_rnd(c) % 2, (int32_t)(ops_rnd(c) % 3), pick(c, bias, 7)};
    }
    return n;
}

/* Rows of many kinds: flat, steep, with equal values, all equal, with a few far above, with one far above in
 * every 32, and so large that adding the noise rounds to few values. */
static void random_logits(struct ops_ctx *c, float *z, int V)
{
    uint32_t shape = ops_rnd(c) % 8;
    for (int i = 0; i < V; i++) {
        float f = ops_rnd_float(c);
        float zero = i % 2 ? 0.0f : -0.0f, outlier = i % 32 == 5 ? 100 + f : f;
        const float v[8] = {f, 6 * f, (float)(int)(2 * f), 0.01f * f, -40 + 3 * f, zero, 1e7f + f, outlier};
        z[i] = v[shape];
    }
    for (int i = 0; i < 3 && shape == 4; i++)
        z[ops_rnd(c) % (uint32_t)V] = 2 + ops_rnd_float(c);
}

/* Masks with few ids, with half of them, with almost all; the id that is always in keeps the row from having none. */
static void random_masks(struct ops_ctx *c, int V, int words)
{
    memset(mask, 0, sizeof mask);
    for (int k = 0; k < MASKS; k++) {
        for (int i = 0; i < words * 32; i++)
            if (ops_rnd(c) % 16 < (uint32_t)(k == 0 ? 1 : k == 1 ? 8 : 15))
                mask[k][i / 32] |= 1u << i % 32;
        mask[k][(V - 1) / 32] |= 1u << (V - 1) % 32;
    }
}

static void sample_case(struct ops_ctx *c, int M, int V)
{
    enum { MOST = 16, ADJ = 64 };
    float *z = malloc((size_t)(M * V + 1) * sizeof *z), st[2 * MOST + 1];
    struct mb_sample_row rows[MOST + 1];
    static struct mb_sample_adjust adj[MOST * ADJ];
    int32_t want[MOST], n = 0, words = (V + 31) / 32;
    random_masks(c, V, words);
    uint32_t *flat = malloc((size_t)(MASKS * words) * sizeof *flat);
    for (int k = 0; k < MASKS; k++)
        memcpy(flat + k * words, mask[k], (size_t)words * sizeof *flat);
    for (int i = 0; i < M; i++) {
        random_logits(c, z + i * V, V);
        rows[i] = random_row(c, V);
        rows[i].mask = (int32_t)(ops_rnd(c) % (MASKS + 1));
        rows[i].adj_begin = n;
        n += i % 2 ? random_adjust(c, V, adj + n, ADJ) : 0;
        rows[i].adj_end = n;
        naive_stats(z + i * V, V, st + 2 * i);
        want[i] = naive_sample(z + i * V, V, &rows[i], adj);
    }
    struct mb_view out = ops_up(c, NULL, M, 1, MB_I32), vz = ops_up(c, z, M, V, MB_F32);
    struct mb_view vs = ops_up(c, st, M, 2, MB_F32), vr = ops_up(c, rows, M, sizeof *rows, MB_U8);
    struct mb_view va = n > 0 ? ops_up(c, adj, n, sizeof *adj, MB_U8) : MB_NO_VIEW;
    struct mb_view vm = ops_up(c, flat, MASKS, words, MB_I32);
    assert_int_equal(c->ops->sample(c->s, out, vz, vs, vr, va, vm), MB_OK);
    free(flat);
    ops_equal_i32(c, out, want);
    ops_equal(c, vz, z); /* logits stay raw */
    ops_reset(c);
    free(z);
}

static void sample(struct ops_ctx *c)
{
    static const int vocab[] = {1, 2, 17, 31, 64, 65, 300, 1000, 5003};
    for (int t = 0; t < 6; t++)
        for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++)
            for (int M = 0; M <= 16; M = M == 0 ? 1 : M * 4)
                sample_case(c, M, vocab[i]);
}
static void test_sample(void **state)
{
    (void)state;
    ops_each(sample);
}

/* ---------------------------------------------------------------- distribution */
/* 6000 draws at successive positions have the frequencies of softmax(z / T): chi square, 5 degrees, p about
 * 1e-5. */
static void frequencies(struct ops_ctx *c)
{
    enum { M = 1500, V = 6 };
    const float row[V] = {0.3f, 2.0f, -1.0f, 1.1f, 0.0f, 1.9f};
    static float z[M * V], st[2 * M];
    static struct mb_sample_row rows[M];
    static int32_t got[M];
    double p[V], sum = 0, chi = 0;
    int count[V] = {0};
    for (int i = 0; i < V; i++)
        sum += p[i] = exp((double)row[i] / 1.25);
    struct mb_view out = ops_up(c, NULL, M, 1, MB_I32);
    for (int part = 0; part < 4; part++) {
        for (int i = 0; i < M; i++) {
            memcpy(z + i * V, row, sizeof row);
            naive_stats(row, V, st + 2 * i);
            rows[i] = (struct mb_sample_row){1.25f, 0, 1, 0, 1, 0, 0, 0, 0, 99, part * M + i, 0, 0};
        }
        assert_int_equal(c->ops->sample(c->s, out, ops_up(c, z, M, V, MB_F32), ops_up(c, st, M, 2, MB_F32),
                                        ops_up(c, rows, M, sizeof *rows, MB_U8), MB_NO_VIEW, MB_NO_VIEW),
                         MB_OK);
        ops_down(c, got, out);
        for (int i = 0; i < M; i++)
            count[got[i]]++;
    }
    for (int i = 0; i < V; i++) {
        double want = 4 * M * p[i] / sum;
        chi += (count[i] - want) * (count[i] - want) / want;
    }
    assert_true(chi < 31);
}
static void test_frequencies(void **state)
{
    (void)state;
    ops_each(frequencies);
}

/* Rows that are not finite (error rows) still give some id of the vocabulary. */
static void not_finite(struct ops_ctx *c)
{
    enum { V = 200, M = 12 };
    float z[M * V], st[2 * M] = {0};
    struct mb_sample_row rows[M];
    int32_t got[M];
    ops_fill(c, z, M * V);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < V; j += i % 3 == 0 ? 1 : 7)
            z[i * V + j] = i % 4 == 0 ? INFINITY : i % 4 == 1 ? -INFINITY : NAN;
        rows[i] = random_row(c, V);
        rows[i].temperature = i % 2 ? 1 : 0.5f;
        rows[i].top_p = i % 5 ? 0.9f : 1;
    }
    struct mb_view out = ops_up(c, NULL, M, 1, MB_I32);
    assert_int_equal(c->ops->sample(c->s, out, ops_up(c, z, M, V, MB_F32), ops_up(c, st, M, 2, MB_F32),
                                    ops_up(c, rows, M, sizeof *rows, MB_U8), MB_NO_VIEW, MB_NO_VIEW),
                     MB_OK);
    ops_down(c, got, out);
    for (int i = 0; i < M; i++)
        assert_in_range(got[i], 0, V - 1);
}
static void test_not_finite(void **state)
{
    (void)state;
    ops_each(not_finite);
}

static void mistakes(struct ops_ctx *c)
{
    float z[4] = {1, 2, 3, 4}, st[2] = {4, 2};
    struct mb_sample_row row = {1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0};
    struct mb_sample_adjust a = {4, 0, 0, 1};
    struct mb_view out = ops_up(c, NULL, 1, 1, MB_I32), vz = ops_up(c, z, 1, 4, MB_F32),
                   vs = ops_up(c, st, 1, 2, MB_F32);
    struct mb_view vr = ops_up(c, &row, 1, sizeof row, MB_U8), va = ops_up(c, &a, 1, sizeof a, MB_U8);
    assert_int_equal(c->ops->sample(c->s, out, vz, vs, vr, va, MB_NO_VIEW), MB_BUG);         /* token 4 of 4 */
    assert_int_equal(c->ops->sample(c->s, out, vz, vs, vr, MB_NO_VIEW, MB_NO_VIEW), MB_BUG); /* no such adjustment */
    row.adj_begin = row.adj_end = 0;
    row.mask = 2;
    vr = ops_up(c, &row, 1, sizeof row, MB_U8);
    const int32_t one[2] = {-1, -1};
    assert_int_equal(c->ops->sample(c->s, out, vz, vs, vr, MB_NO_VIEW, ops_up(c, one, 1, 1, MB_I32)), MB_BUG); /* no such mask */
    row.mask = 1;
    vr = ops_up(c, &row, 1, sizeof row, MB_U8);
    assert_int_equal(c->ops->sample(c->s, out, vz, vs, vr, MB_NO_VIEW, ops_up(c, one, 1, 2, MB_I32)), MB_BUG); /* too wide */
}
static void test_mistakes(void **state)
{
    (void)state;
    ops_each(mistakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sample), cmocka_unit_test(test_frequencies),
                                       cmocka_unit_test(test_not_finite), cmocka_unit_test(test_mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
