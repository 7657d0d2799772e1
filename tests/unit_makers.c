/* Placements by usage and capacity against brute force on small cases, and their shape on large ones. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/makers.h"
#include "draw.h"

#define MOST 12 /* experts and copies of a small case */

static struct mb_placement *make(const struct mb_maker *k)
{
    struct mb_placement *p = NULL;
    char why[MB_LAYOUT_TEXT];

    assert_int_equal(mb_placement_make(k, &p, why), MB_OK);
    return p;
}

/* Every expert is somewhere, its copies in different places, all copies asked for are there and no shard has
 * more than its slots. */
static void check_shape(const struct mb_maker *k, const struct mb_placement *p)
{
    int32_t *slots = calloc((size_t)k->ep, sizeof *slots), *used = calloc((size_t)k->ep, sizeof *used);

    mb_maker_slots(k, slots);
    assert_int_equal(p->first[(int64_t)k->moe_layers * k->experts],
                     (int64_t)k->moe_layers * (k->experts + k->redundant));
    for (int32_t lm = 0; lm < k->moe_layers; lm++) {
        memset(used, 0, (size_t)k->ep * sizeof *used);
        for (int32_t e = 0; e < k->experts; e++) {
            int32_t n;
            const int32_t *h = mb_placement_holders(p, lm, e, &n);
            assert_true(n >= 1);
            for (int32_t i = 0; i < n; i++) {
                assert_in_range(h[i], 0, k->ep - 1);
                assert_true(i == 0 || h[i] > h[i - 1]);
                used[h[i]]++;
            }
        }
        for (int32_t r = 0; r < k->ep; r++)
            assert_true(used[r] <= slots[r]);
    }
    free(slots);
    free(used);
}

static double most_rows(const struct mb_maker *k, const struct mb_placement *p)
{
    double sum[MOST] = {0}, most = 0;

    for (int32_t e = 0; e < k->experts; e++) {
        int32_t n;
        const int32_t *h = mb_placement_holders(p, 0, e, &n);
        for (int32_t i = 0; i < n; i++)
            sum[h[i]] += (double)k->usage[e] / n;
    }
    for (int32_t r = 0; r < k->ep; r++)
        most = sum[r] > most ? sum[r] : most;
    return most;
}

/* The least that the fullest shard can have, for copies[] of each expert: every set of shards for every
 * expert. */
static double least(const struct mb_maker *k, const int32_t *copies, const int32_t *slots, int32_t e,
                    int32_t *used, double *sum, double best)
{
    double most = 0;

    for (int32_t r = 0; r < k->ep; r++)
        most = sum[r] > most ? sum[r] : most;
    if (most >= best || e == k->experts)
        return most < best ? most : best;
    for (int32_t set = 1; set < 1 << k->ep; set++) {
        bool ok = __builtin_popcount((unsigned)set) == copies[e];
        double keep[MOST];
        memcpy(keep, sum, sizeof keep);
        for (int32_t r = 0; r < k->ep; r++) {
            used[r] += set >> r & 1;
            sum[r] += set >> r & 1 ? (double)k->usage[e] / copies[e] : 0;
            ok &= used[r] <= slots[r];
        }
        if (ok)
            best = least(k, copies, slots, e + 1, used, sum, best);
        for (int32_t r = 0; r < k->ep; r++)
            used[r] -= set >> r & 1;
        memcpy(sum, keep, sizeof keep);
    }
    return best;
}

static void test_usage(void **state)
{
    (void)state;
    int32_t cases = 0, exact = 0;
    double worst = 1;

    state_of_draw = 1;
    for (int32_t n = 0; n < 600; n++) {
        int64_t usage[MOST], capacity[MOST];
        int32_t copies[MOST], slots[MOST], used[MOST] = {0};
        double sum[MOST] = {0};
        struct mb_maker k = {.moe_layers = 1,
                             .experts = 1 + draw(7),
                             .ep = 1 + draw(4),
                             .usage = usage,
                             .usage_layers = 1,
                             .capacity = n % 3 == 2 ? capacity : NULL};
        k.redundant = draw(k.experts * (k.ep - 1) + 1) % (MOST - 7);
        for (int32_t e = 0; e < k.experts; e++)
            usage[e] = draw(2) ? draw(1000) : draw(30);
        for (int32_t r = 0; r < k.ep; r++)
            capacity[r] = 1 + draw(20);
        usage[0]++;
        struct mb_placement *p = make(&k), *again = make(&k);
        check_shape(&k, p);
        assert_memory_equal(p->shard, again->shard, (size_t)p->first[k.experts] * sizeof *p->shard);
        for (int32_t e = 0; e < k.experts; e++)
            (void)mb_placement_holders(p, 0, e, &copies[e]);
        mb_maker_slots(&k, slots);
        double got = most_rows(&k, p), can = least(&k, copies, slots, 0, used, sum, 1e30);
        assert_true(got >= can - 1e-6 && got <= 4.0 / 3 * can + 1e-6);
        worst = got / can > worst ? got / can : worst;
        exact += got <= can * (1 + 1e-9);
        cases++;
        mb_placement_destroy(p);
        mb_placement_destroy(again);
    }
    print_message("%d of %d cases as good as can be, the worst %.3f times that\n", exact, cases, worst);
    assert_true(exact >= cases * 9 / 10);
}

/* The least that the largest ratio of experts to capacity can be, by trying all ways. */
static double ratio(const struct mb_maker *k, int32_t r, int32_t left)
{
    double best = 1e30;

    if (r == k->ep)
        return left == 0 ? 0 : 1e30;
    for (int32_t n = 0; n <= left && n <= k->experts; n++) {
        double rest = ratio(k, r + 1, left - n), own = (double)n / (double)k->capacity[r];
        double most = own > rest ? own : rest;
        best = most < best ? most : best;
    }
    return best;
}

static void test_capacity(void **state)
{
    (void)state;
    state_of_draw = 3;
    for (int32_t n = 0; n < 300; n++) {
        int64_t capacity[MOST];
        int32_t slots[MOST], sum = 0;
        struct mb_maker k = {
            .moe_layers = 2, .experts = 1 + draw(9), .ep = 1 + draw(4), .capacity = capacity};
        double most = 0;
        for (int32_t r = 0; r < k.ep; r++)
            capacity[r] = 1 + draw(1 << (1 + draw(12)));
        k.redundant = n % 2 ? draw(k.experts * (k.ep - 1) + 1) : 0;
        mb_maker_slots(&k, slots);
        for (int32_t r = 0; r < k.ep; r++) {
            sum += slots[r];
            most =
                (double)slots[r] / (double)capacity[r] > most ? (double)slots[r] / (double)capacity[r] : most;
        }
        assert_int_equal(sum, k.experts + k.redundant);
        assert_true(most <= ratio(&k, 0, k.experts + k.redundant) * (1 + 1e-12));
        struct mb_placement *p = make(&k);
        check_shape(&k, p);
        int32_t c;
        for (int32_t e = 1; e < k.experts && k.redundant == 0; e++) /* contiguous ranges */
            assert_true(*mb_placement_holders(p, 1, e, &c) >= *mb_placement_holders(p, 1, e - 1, &c));
        mb_placement_destroy(p);
    }
}

/* DeepSeek-V3's experts on many shards, a skewed usage, as many copies as make two experts a shard. */
static void test_large(void **state)
{
    (void)state;
    static const int32_t eps[] = {32, 144, 320};
    int64_t *usage = calloc(58 * 256, sizeof *usage);

    state_of_draw = 4;
    for (int32_t i = 0; i < 58 * 256; i++)
        usage[i] = draw(1 << (4 + draw(16)));
    for (size_t i = 0; i < sizeof eps / sizeof *eps; i++) {
        struct mb_maker k = {.moe_layers = 59,
                             .experts = 256,
                             .ep = eps[i],
                             .usage = usage,
                             .usage_layers = 58,
                             .redundant = 32};
        struct mb_placement *p = make(&k);
        check_shape(&k, p);
        mb_placement_destroy(p);
    }
    free(usage);
}

static void test_refused(void **state)
{
    (void)state;
    struct mb_placement *p = NULL;
    char why[MB_LAYOUT_TEXT] = "";
    struct mb_maker k = {.moe_layers = 1, .experts = 4, .ep = 3, .redundant = 9};

    assert_int_equal(mb_placement_make(&k, &p, why), MB_LAYOUT);
    assert_null(p);
    assert_non_null(strstr(why, "8 copies more"));
    k.redundant = 8;
    p = make(&k);
    check_shape(&k, p);
    mb_placement_destroy(p);
}

/* Through a plan: the node with three times the memory gets the larger part of the experts, and what each
 * rank keeps is what its experts weigh; by usage, the experts that were used alone have ranks of their own.
 */
static void test_plan(void **state)
{
    (void)state;
    static uint8_t is_moe[2] = {1, 1};
    static const int32_t two[2] = {1, 1};
    struct mb_model m = {.layers = 2,
                         .hidden = 64,
                         .vocab = 160,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .v_dim = 16,
                         .expert_ffn = 512,
                         .max_positions = 100,
                         .is_moe = is_moe,
                         .moe_layers = 2,
                         .router = {.experts = 8, .k = 2}};
    int64_t usage[16] = {0, 9, 0, 0, 9, 0, 0, 0, 5, 5, 5, 5, 5, 5, 5, 5};
    struct mb_plan_options o = {.max_num_seqs = 2,
                                .path = MB_F32,
                                .kv_dtype = MB_F32,
                                .memory_fraction = 1,
                                .placement = "capacity",
                                .kv_pages = 1};
    struct mb_topo *t;
    struct mb_plan *p = NULL;
    int32_t n;

    assert_int_equal(mb_topo_synthetic(2, two, &t), MB_OK);
    for (int32_t r = 0; r < 2; r++)
        t->local[r].memory_bytes = t->local[r].memory_free = (int64_t)(r == 0 ? 480 : 160) << 20;
    assert_int_equal(mb_plan_create(&m, t, &o, &p), MB_OK);
    assert_int_equal(p->expert_bytes[0] + p->expert_bytes[1], 2 * 8 * 3 * 64 * 512 * 4);
    assert_int_equal(p->expert_bytes[0], 3 * p->expert_bytes[1]);
    mb_plan_destroy(p);
    o.placement = "usage";
    o.usage = usage;
    o.redundant = 2;
    assert_int_equal(mb_plan_create(&m, t, &o, &p), MB_OK);
    (void)mb_placement_holders(p->placement, 0, 1, &n);
    assert_int_equal(n, 2);
    (void)mb_placement_holders(p->placement, 0, 4, &n);
    assert_int_equal(n, 2);
    assert_int_equal(p->expert_bytes[0] + p->expert_bytes[1], 2 * 10 * 3 * 64 * 512 * 4);
    mb_plan_destroy(p);
    o.redundant = 9;
    p = NULL;
    mb_log_set_quiet(true);
    assert_int_equal(mb_plan_create(&m, t, &o, &p), MB_LAYOUT);
    mb_log_set_quiet(false);
    assert_null(p);
    mb_topo_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage), cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_large), cmocka_unit_test(test_refused), cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
