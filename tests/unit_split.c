/* What a plan splits, against brute force: layers among stages, experts among the members that serve them,
 * segments among the parts of a sequence group; and what a rank of up to 4,096 needs of the grids. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "plan/enumerate.h"
#include "plan/makers.h"
#include "plan/plan.h"
#include "plan/serve.h"
#include "draw.h"

#define MOST_LAYERS 10

static struct mb_model model_of(int32_t layers, uint8_t *is_moe)
{
    struct mb_model m = {.layers = layers,
                         .hidden = 64,
                         .vocab = 1000,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .v_dim = 16,
                         .ffn = 256,
                         .expert_ffn = 32,
                         .max_positions = 256,
                         .is_moe = is_moe,
                         .router = {.experts = 8, .k = 2}};

    for (int32_t l = 0; l < layers; l++)
        m.moe_layers += is_moe[l];
    if (m.moe_layers == 0)
        m.router.experts = m.router.k = 0;
    return m;
}

static struct mb_plan *plan_of(const struct mb_model *m, const struct mb_layout_options *l, int32_t nodes,
                               const int32_t *per_node, const char *placement, int32_t redundant)
{
    struct mb_plan_options o = {.layout = *l,
                                .max_num_seqs = 2,
                                .path = MB_F32,
                                .kv_dtype = MB_F32,
                                .memory_fraction = 1,
                                .kv_pages = 8,
                                .placement = placement,
                                .redundant = redundant,
                                .shm_bytes = 1 << 20};
    struct mb_topo *t;
    struct mb_plan *p = NULL;

    assert_int_equal(mb_topo_synthetic(nodes, per_node, &t), MB_OK);
    assert_int_equal(mb_plan_create(m, t, &o, &p), MB_OK);
    mb_topo_destroy(t);
    return p;
}

/* ---------------------------------------------------------------- stages */

/* Multiply-adds that a row meets in a layer of these models, and in the head. */
static double cost_of(const struct mb_model *m, int32_t l)
{
    double attention = 64.0 * (4 * 16 + 2 * 2 * 16) + 4 * 16 * 64.0;

    attention += m->is_moe[l] ? 3.0 * 64 * m->expert_ffn * 2 + 64 * 8 : 3.0 * 64 * m->ffn;
    return attention + (l == m->layers - 1 ? 64.0 * m->vocab : 0);
}

/* The cheapest that the dearest of pp stages from layer `from` on can be, trying all cuts. */
static double cheapest(const struct mb_model *m, int32_t from, int32_t pp)
{
    double sum = 0, best = 1e30;

    for (int32_t l = from; l < m->layers; l++) {
        sum += cost_of(m, l);
        if (pp == 1)
            continue;
        double rest = m->layers - l - 1 >= pp - 1 ? cheapest(m, l + 1, pp - 1) : 1e30,
               most = sum > rest ? sum : rest;
        best = most < best ? most : best;
    }
    return pp == 1 ? sum : best;
}

static void test_stages(void **state)
{
    (void)state;
    state_of_draw = 1;
    for (int32_t n = 0; n < 400; n++) {
        uint8_t is_moe[MOST_LAYERS];
        int32_t layers = 1 + draw(MOST_LAYERS), pp = 1 + draw(layers);
        double most = 0;
        for (int32_t l = 0; l < layers; l++)
            is_moe[l] = (uint8_t)(draw(3) > 0);
        struct mb_model m = model_of(layers, is_moe);
        m.vocab = 16 + 16 * draw(200);
        m.ffn = 32 * (1 + draw(40));
        m.expert_ffn = 32 * (1 + draw(20));
        struct mb_plan *p = plan_of(&m, &(struct mb_layout_options){.pp = pp}, 1, &pp, NULL, 0);
        assert_int_equal(p->first_layer[0], 0);
        assert_int_equal(p->first_layer[pp], layers);
        for (int32_t s = 0; s < pp; s++) {
            double sum = 0;
            assert_true(p->first_layer[s] < p->first_layer[s + 1]);
            for (int32_t l = p->first_layer[s]; l < p->first_layer[s + 1]; l++)
                sum += cost_of(&m, l);
            most = sum > most ? sum : most;
        }
        assert_true(most <= cheapest(&m, 0, pp) * (1 + 1e-9));
        mb_plan_destroy(p);
    }
}

/* ---------------------------------------------------------------- who serves */

/* Whether a member of the group of (lane, stage) holds id: from its place and the placement alone. */
static bool holds(const struct mb_plan *p, const struct mb_model *m, int32_t lane, int32_t stage, int32_t j,
                  int32_t id, int32_t member)
{
    const struct mb_layout *l = &p->layout;
    struct mb_place at;
    int32_t base, ids = mb_serve_ids(p, stage, &base), pad = ids / (l->lane_scope ? l->pp : 1), n;

    mb_layout_place(l, (lane * l->pp + (l->lane_scope ? 0 : stage)) * mb_layout_stage_size(l) + member, &at);
    int32_t lm = mb_serve_layer(p, m, l->lane_scope ? id / pad : stage, j);
    if (at.e < 0 || lm < 0 || id % pad >= p->placement->experts)
        return false;
    const int32_t *h = mb_placement_holders(p->placement, lm, id % pad, &n);
    for (int32_t i = 0; i < n; i++) {
        if (h[i] == at.e)
            return true;
    }
    return false;
}

/* Every id is served once for every home, by one that holds it: the home itself, else one of its node, else
 * any; and those who can are taken about equally often. */
static void check_serve(const struct mb_plan *p, const struct mb_model *m, int32_t lane, int32_t stage,
                        int32_t j)
{
    struct mb_serve *v = NULL;
    int32_t group = mb_layout_group(&p->layout), base, *load = calloc((size_t)group, sizeof *load), most = 0;
    int64_t sum = 0;

    assert_int_equal(mb_serve_create(p, m, lane, stage, j, &v), MB_OK);
    assert_int_equal(v->ids, mb_serve_ids(p, stage, &base));
    for (int32_t id = 0; id < v->ids; id++) {
        int32_t n = v->first[id + 1] - v->first[id], seen = 0;
        for (int32_t i = 0; i < group; i++) {
            if (holds(p, m, lane, stage, j, id, i))
                assert_int_equal(v->member[v->first[id] + seen++], i);
        }
        assert_int_equal(seen, n);
        for (int32_t home = 0; home < group && n > 0; home++) {
            int32_t by = mb_serve_pick(v, id, home);
            bool near = false;
            assert_true(holds(p, m, lane, stage, j, id, by));
            for (int32_t i = 0; i < n; i++)
                near |= v->node[v->member[v->first[id] + i]] == v->node[home];
            assert_true(by == home || !holds(p, m, lane, stage, j, id, home));
            assert_true(!near || v->node[by] == v->node[home]);
            load[by]++;
            sum++;
        }
    }
    for (int32_t i = 0; i < group; i++)
        most = load[i] > most ? load[i] : most;
    if (p->nodes == 1 && p->placement->first[p->placement->experts] == p->placement->experts &&
        p->layout.attn == 0)
        /* no replicas: the copies and slices of equal ranges share the homes, so that nobody has much more
         * than his shard, rounded up */
        assert_true((int64_t)most * group <= sum * 3 / 2 + (int64_t)group * group);
    free(load);
    mb_serve_destroy(v);
}

static void test_serve(void **state)
{
    (void)state;
    static uint8_t is_moe[5] = {0, 1, 1, 1, 1};
    static const char *const how[] = {"uniform", "scattered", "capacity"};
    struct mb_model m = model_of(5, is_moe);
    int32_t tables = 0;

    state_of_draw = 2;
    for (int32_t world = 1; world <= 8; world++) {
        struct mb_layout_walk w = {.world = world, .lane = true, .split = true};
        struct mb_layout l;
        while (mb_layout_next(&w, &l)) {
            char why[MB_LAYOUT_TEXT];
            struct mb_layout_options lo = mb_layout_options_of(&l);
            int32_t cut = 1 + draw(world), one[1] = {world}, two[2] = {cut, world - cut};
            bool nodes = cut < world && draw(2);
            if (l.pp > 5 || draw(4) ||
                mb_plan_refusal(&m, &(struct mb_plan_options){.max_num_seqs = 2}, &l, why) != MB_OK)
                continue;
            int32_t kind = draw(3), copies = kind == 2 && l.ep > 1 ? draw(8) : 0;
            struct mb_plan *p = plan_of(&m, &lo, nodes ? 2 : 1, nodes ? two : one, how[kind], copies);
            for (int32_t lane = 0; lane < l.dp; lane++)
                for (int32_t stage = 0; stage < l.pp; stage++)
                    for (int32_t j = 0; j < mb_serve_exchanges(p, &m, stage); j++, tables++)
                        check_serve(p, &m, lane, stage, j);
            mb_plan_destroy(p);
        }
    }
    print_message("%d tables\n", tables);
    assert_true(tables > 1000);
}

/* ---------------------------------------------------------------- segments */

/* Causal work of segment i: its queries see all segments before it, and half of itself. */
static void test_zigzag(void **state)
{
    (void)state;
    for (int32_t sp = 1; sp <= 16; sp++) {
        for (int64_t n = 1; n <= 40 * sp; n++) {
            double work[16] = {0}, all = 0, most = 0;
            int64_t kept[16] = {0}, most_kept = 0;
            for (int64_t i = 0; i < n; i++) {
                int32_t part = mb_layout_part(sp, i);
                assert_in_range(part, 0, sp - 1);
                work[part] += (double)i + 0.5;
                all += (double)i + 0.5;
                kept[part]++;
            }
            for (int32_t p = 0; p < sp; p++) {
                most = work[p] > most ? work[p] : most;
                most_kept = kept[p] > most_kept ? kept[p] : most_kept;
            }
            assert_int_equal(mb_layout_part_most(sp, n), most_kept);
            if (n % (2 * sp) == 0)
                assert_true(most_kept * sp == n);
            /* One segment more than whole turns is late work for one part alone: an eighth of its share and more
             * until there are 16 sp of them. */
            if (n >= 16 * sp || (n >= 8 * sp && n % sp == 0))
                assert_true((double)most_kept <= 1.15 * (double)n / sp && most <= 1.15 * all / sp);
        }
    }
}

/* ---------------------------------------------------------------- large grids */

static int64_t bytes_in_use(void)
{
    struct mallinfo2 i = mallinfo2();
    return (int64_t)(i.uordblks + i.hblkhd);
}

/* DeepSeek-V3-like sizes on 64 to 4,096 ranks of 8 a node: bytes of a plan, and of the table that a rank has
 * of an exchange, are linear in ranks and own slots; a place takes none at all. */
static void test_large(void **state)
{
    (void)state;
    static uint8_t is_moe[61];
    static int32_t per_node[512];
    struct mb_model m = model_of(10, is_moe);

    memset(is_moe + 3, 1, 58);
    m.layers = 61;
    m.moe_layers = 58;
    m.router = (struct mb_router){.experts = 256, .k = 8};
    for (int32_t i = 0; i < 512; i++)
        per_node[i] = 8;
    for (int32_t world = 64; world <= 4096; world *= 4) {
        double t0 = mb_now();
        struct mb_layout_options lo = {.dp = world / 64, .pp = 2, .tp = 2, .ep = 8, .etp = 2};
        int64_t before = bytes_in_use();
        struct mb_plan *p = plan_of(&m, &lo, world / 8, per_node, NULL, 0);
        int64_t plan = bytes_in_use() - before, places = 0;
        struct mb_serve *v = NULL;
        before = bytes_in_use();
        for (int32_t i = 0; i < world; i++) {
            struct mb_place at;
            mb_layout_place(&p->layout, i, &at);
            places += at.index == i;
            assert_int_equal(mb_layout_index(&p->layout, at.lane, at.stage, at.a, at.q, at.t), i);
        }
        assert_int_equal(places, world);
        assert_int_equal(bytes_in_use(), before);
        assert_int_equal(mb_serve_create(p, &m, p->layout.dp - 1, 1, 0, &v), MB_OK);
        int64_t table = bytes_in_use() - before;
        print_message("%4d ranks: plan %lld bytes (%.1f a rank), table of an exchange %lld bytes, %.1f ms\n",
                      (int)world, (long long)plan, (double)plan / world, (long long)table,
                      1e3 * (mb_now() - t0));
        /* the placement of 58 x 256 experts in i64 and i32, and four numbers a rank */
        assert_true(plan <= 58 * 256 * 12 + 32LL * world + 4096);
        assert_true(table <= 4 * (256 + 1) + 4 * 32 + 4 * 256 * 2 * 2 + 512);
        mb_serve_destroy(v);
        mb_plan_destroy(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_serve),
        cmocka_unit_test(test_zigzag),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
