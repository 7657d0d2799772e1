/* The simulator against the formulas of each rank (mb_plan_traffic), which jobs are held against, and against
 * counts by hand; its time in operations, and the size of plans. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/makers.h"
#include "plan/serve.h"
#include "plan/sim_routes.h"
#include "plan/simulate.h"
#include "draw.h"

#define LAYERS 3

struct kase {
    uint8_t is_moe[LAYERS];
    int32_t window[LAYERS], first_layer[2];
    struct mb_model m;
    struct mb_plan p;
    struct mb_cluster c;
    struct mb_cost_in cost;
    struct mb_cost_step step;
    struct mb_sim_in in;
    uint16_t *trace;
    int64_t *usage;
};

static void make_placement(struct kase *q, int32_t redundant)
{
    int32_t experts = q->m.router.experts;
    struct mb_maker k = {.moe_layers = LAYERS,
                         .experts = experts,
                         .ep = q->p.layout.ep,
                         .redundant = redundant,
                         .usage = q->usage,
                         .usage_layers = LAYERS,
                         .nodes = 1,
                         .k = q->m.router.k};
    char why[MB_LAYOUT_TEXT];

    q->usage = calloc((size_t)LAYERS * (size_t)experts, sizeof *q->usage);
    for (int32_t i = 0; i < LAYERS * experts; i++)
        q->usage[i] = 1 + draw(1000);
    k.usage = q->usage;
    assert_int_equal(redundant > 0 ? mb_placement_make(&k, &q->p.placement, why)
                                   : mb_placement_uniform(LAYERS, experts, k.ep, &q->p.placement),
                     MB_OK);
}

static void make(struct kase *q, int32_t n, int32_t per_node, int32_t experts, int32_t k, int64_t rows,
                 int32_t redundant, enum mb_alltoall how)
{
    *q = (struct kase){.is_moe = {1, 1, 1}, .first_layer = {0, LAYERS}};
    q->m = (struct mb_model){.layers = LAYERS,
                             .moe_layers = LAYERS,
                             .hidden = 96,
                             .expert_ffn = 32,
                             .heads = 2,
                             .kv_heads = 2,
                             .head_dim = 8,
                             .v_dim = 8,
                             .vocab = 100,
                             .is_moe = q->is_moe,
                             .window = q->window,
                             .router = {.experts = experts, .k = k}};
    q->p = (struct mb_plan){
        .layout = {.world = n, .dp = 1, .pp = 1, .tp = 1, .sp = 1, .adp = n, .ep = n, .etp = 1, .edp = 1},
        .nodes = (n + per_node - 1) / per_node,
        .node_of = calloc((size_t)n, sizeof *q->p.node_of),
        .first_layer = q->first_layer,
        .alltoall = how};
    for (int32_t i = 0; i < n; i++)
        q->p.node_of[i] = i / per_node;
    make_placement(q, redundant);
    assert_int_equal(mb_cluster_parse("2 nodes x 8 H100-80GB nvlink 8x400Gb", &q->c), MB_OK);
    q->step = (struct mb_cost_step){(double)rows, 100, (double)rows, (double)rows};
    q->cost = (struct mb_cost_in){.m = &q->m,
                                  .c = &q->c,
                                  .l = &q->p.layout,
                                  .first_layer = q->first_layer,
                                  .path = MB_BF16,
                                  .kv = MB_BF16};
    q->in = (struct mb_sim_in){
        .p = &q->p,
        .m = &q->m,
        .cost = &q->cost,
        .step = &q->step,
        .shape = {.k = k, .hidden = 96, .x_type = MB_BF16, .y_type = MB_BF16, .eager_bytes = 300},
        .rows = rows,
        .seed = 5};
}

static void drop(struct kase *q)
{
    free(q->p.node_of);
    mb_placement_destroy(q->p.placement);
    free(q->trace);
    free(q->usage);
}

/* Rows of the case: as recorded ones, so that both sides see the same. */
static void record(struct kase *q)
{
    int32_t k = q->m.router.k, experts = q->m.router.experts;

    q->in.recorded_rows = q->p.layout.world * q->in.rows;
    q->trace = calloc((size_t)(LAYERS * q->in.recorded_rows * k), sizeof *q->trace);
    for (int64_t i = 0; i < LAYERS * q->in.recorded_rows; i++)
        for (int32_t j = 0; j < k; j++) {
            uint16_t *e = q->trace + i * k;
            e[j] = (uint16_t)draw(experts);
            for (int32_t b = 0; b < j; b++) {
                if (e[b] == e[j]) {
                    e[j] = (uint16_t)((e[j] + 1) % experts);
                    b = -1;
                }
            }
        }
    q->in.recorded = q->trace;
}

static void add(struct mb_traffic *to, const struct mb_traffic *x)
{
    for (int i = 0; i < MB_LINK_COUNT; i++) {
        to->bytes[i] += x->bytes[i];
        to->messages[i] += x->messages[i];
    }
}

/* All ranks' own formulas, and the fullest rank by counting who serves what. */
static void check(const struct kase *q)
{
    struct mb_sim s;
    struct mb_traffic dispatch = {{0}, {0}}, combine = {{0}, {0}}, d, c;
    char why[MB_LAYOUT_TEXT];
    int32_t n = q->p.layout.world, k = q->m.router.k, *ids = calloc((size_t)(q->in.rows * k), sizeof *ids);
    int64_t *pairs = calloc((size_t)n, sizeof *pairs);
    double fullest = 0;

    assert_int_equal(mb_simulate(&q->in, &s, why), MB_OK);
    for (int32_t lm = 0; lm < LAYERS; lm++) {
        int64_t most = 0;
        memset(pairs, 0, (size_t)n * sizeof *pairs);
        for (int32_t r = 0; r < n; r++) {
            struct mb_serve *v = NULL;
            int32_t counts[64] = {0};
            for (int64_t i = 0; i < q->in.rows * k; i++)
                ids[i] = q->trace[((int64_t)lm * q->in.recorded_rows + r * q->in.rows) * k + i];
            assert_int_equal(mb_plan_traffic(&q->p, lm, r, &q->in.shape, ids, q->in.rows, &d, &c), MB_OK);
            add(&dispatch, &d);
            add(&combine, &c);
            assert_int_equal(mb_serve_create_layer(&q->p, lm, &v), MB_OK);
            assert_int_equal(mb_serve_settle(v, r), MB_OK);
            for (int64_t i = 0; i < q->in.rows * k; i++)
                pairs[v->part != NULL
                          ? v->member[v->first[ids[i]] + mb_serve_turn(v, ids[i], counts[ids[i]]++)]
                          : mb_serve_pick(v, ids[i], r)]++;
            mb_serve_destroy(v);
        }
        for (int32_t r = 0; r < n; r++)
            most = pairs[r] > most ? pairs[r] : most;
        fullest += (double)most * n / (double)(n * q->in.rows * k) / LAYERS;
    }
    assert_memory_equal(&s.dispatch, &dispatch, sizeof dispatch);
    assert_memory_equal(&s.combine, &combine, sizeof combine);
    assert_true(s.shard_mean > fullest * (1 - 1e-9) && s.shard_mean < fullest * (1 + 1e-9));
    assert_true(s.layers == LAYERS && s.rows == n * q->in.rows && s.seconds > 0 && s.exchange > 0);
    free(ids);
    free(pairs);
}

static void test_traffic(void **state)
{
    (void)state;
    state_of_draw = 11;
    for (int i = 0; i < 60; i++) {
        struct kase q;
        int32_t n = 2 + draw(14), experts = 2 + draw(30), k = 1 + draw(experts < 8 ? experts : 8);
        make(&q, n, 1 + draw(n), experts, k, 1 + draw(20), draw(2) * draw(n),
             draw(2) ? MB_A2A_HIER : MB_A2A_FLAT);
        q.in.shape.shm = draw(2) == 0;
        record(&q);
        check(&q);
        drop(&q);
    }
}

/* Drawn rows are distinct experts as often as popularity says. */
static void test_routes(void **state)
{
    (void)state;
    enum { E = 16, N = 40000 };
    uint64_t sum[E];
    int32_t order[E], ids[4], count[E] = {0};
    struct mb_sim_popularity p = {.experts = E, .sum = sum, .order = order};

    mb_sim_popularity_make(&p, 1.2, 3, 1);
    for (uint32_t r = 0; r < N; r++) {
        mb_sim_draw(&p, 1, 9, (const uint32_t[3]){1, r, 2}, ids);
        count[ids[0]]++;
        mb_sim_draw(&p, 4, 9, (const uint32_t[3]){1, r, 2}, ids);
        assert_true(ids[0] >= 0 && ids[0] < ids[1] && ids[1] < ids[2] && ids[2] < ids[3] && ids[3] < E);
    }
    for (int32_t e = 0; e < E; e++) {
        double part = (double)(sum[e] - (e > 0 ? sum[e - 1] : 0)) / (double)sum[E - 1],
               off = count[e] - N * part;
        assert_true(off * off < 25 * N * part); /* five sigmas */
    }
    int32_t left = order[0], next = order[1];
    assert_true(count[left] > 2 * count[next]);
}

/* What 4,096 ranks need: 256 experts, 58 layers are three here, all alike. */
static void test_large(void **state)
{
    (void)state;
    struct kase q;
    struct mb_sim s, zipf;
    char why[MB_LAYOUT_TEXT];

    make(&q, 1024, 8, 1024, 8, 4, 0, MB_A2A_HIER);
    assert_int_equal(mb_simulate(&q.in, &s, why), MB_OK);
    q.in.exponent = 1.5;
    assert_int_equal(mb_simulate(&q.in, &zipf, why), MB_OK);
    assert_true(zipf.shard_mean > 10 * s.shard_mean && zipf.seconds > s.seconds);
    assert_true(s.reach > 7 && s.reach < 8 && s.plan_bytes < (int64_t)1 << 20);
    q.p.layout.lane_scope = true;
    assert_int_equal(mb_simulate(&q.in, &s, why), MB_LAYOUT);
    drop(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_traffic), cmocka_unit_test(test_routes),
                                       cmocka_unit_test(test_large)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
