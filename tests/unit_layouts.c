/* Every layout of a few ranks: enumerated, placed, checked against four models; refusals name a layout that
 * works. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/enumerate.h"
#include "plan/plan.h"

/* The same count by trying all products of sizes. */
static int64_t by_products(int32_t world)
{
    int64_t n = 0;

    for (int32_t dp = 1; dp <= world; dp++)
        for (int32_t pp = 1; dp * pp <= world; pp++) {
            int32_t s = world / (dp * pp), grids = 0;
            if (dp * pp * s != world)
                continue;
            for (int32_t a = 1; a <= s; a++)
                for (int32_t b = 1; a * b <= s; b++)
                    grids += s % (a * b) == 0;
            n += (int64_t)grids * grids;
        }
    return n;
}

static void test_count(void **state)
{
    (void)state;
    static const int32_t worlds[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 30, 36};

    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct mb_layout_walk w = {.world = worlds[i]};
        struct mb_layout l, again;
        char why[MB_LAYOUT_TEXT];
        int64_t n = 0;
        for (; mb_layout_next(&w, &l); n++) {
            struct mb_layout_options o = mb_layout_options_of(&l);
            assert_int_equal(mb_layout_try(&o, worlds[i], &again, why), MB_OK);
            assert_int_equal(mb_layout_compare(&l, &again), 0);
        }
        assert_int_equal(n, by_products(worlds[i]));
    }
}

/* The order sees every size, and nothing else. */
static void test_compare(void **state)
{
    (void)state;
    struct mb_layout a, b;

    memset(&a, 0, sizeof a);
    memset(&b, 0xff, sizeof b);
    int32_t *u[] = {&a.world, &a.dp, &a.pp, &a.tp, &a.sp, &a.adp, &a.ep, &a.etp, &a.edp, &a.attn, &a.expert},
            *v[] = {&b.world, &b.dp, &b.pp, &b.tp, &b.sp, &b.adp, &b.ep, &b.etp, &b.edp, &b.attn, &b.expert};
    for (size_t i = 0; i < sizeof u / sizeof *u; i++)
        *u[i] = *v[i] = (int32_t)i + 1;
    a.lane_scope = b.lane_scope = true;
    assert_int_equal(mb_layout_compare(&a, &b), 0);
    for (size_t i = 0; i < sizeof u / sizeof *u; i++) {
        ++*u[i];
        assert_true(mb_layout_compare(&a, &b) > 0 && mb_layout_compare(&b, &a) < 0);
        --*u[i];
    }
    a.lane_scope = false;
    assert_true(mb_layout_compare(&a, &b) < 0);
}

/* Places are a bijection, and the two grids agree with the functions that go the other way. */
static void test_places(void **state)
{
    (void)state;
    for (int32_t world = 1; world <= 8; world++) {
        struct mb_layout_walk w = {.world = world, .lane = true, .split = true};
        struct mb_layout l;
        while (mb_layout_next(&w, &l)) {
            int32_t leaders = 0, attend = 0, serve = 0;
            for (int32_t i = 0; i < world; i++) {
                struct mb_place p;
                mb_layout_place(&l, i, &p);
                leaders += mb_place_leads(&p);
                attend += p.a >= 0;
                serve += p.e >= 0;
                if (p.a >= 0)
                    assert_int_equal(mb_layout_index(&l, p.lane, p.stage, p.a, p.q, p.t), i);
                if (p.e >= 0)
                    assert_int_equal(mb_layout_member(&l, p.c, p.e, p.x), p.member);
            }
            assert_int_equal(leaders, mb_layout_leaders(&l));
            assert_int_equal(attend, l.dp * l.pp * l.tp * l.sp * l.adp);
            assert_int_equal(serve, l.dp * (l.lane_scope ? 1 : l.pp) * l.ep * l.etp * l.edp);
        }
    }
}

/* What does not fit is refused, and the nearest layout, as options, resolves to itself. */
static void test_refusals(void **state)
{
    (void)state;
    char why[MB_LAYOUT_TEXT];
    struct mb_layout l, again;
    int64_t refused = 0;

    for (int32_t world = 1; world <= 8; world++)
        for (int32_t code = 0; code < 4 * 4 * 4 * 4 * 4 * 4; code++) {
            struct mb_layout_options o = {.dp = code % 4,
                                          .pp = code / 4 % 4,
                                          .tp = code / 16 % 4,
                                          .sp = code / 64 % 4,
                                          .ep = code / 256 % 4,
                                          .etp = code / 1024 % 4};
            if (mb_layout_try(&o, world, &l, why) == MB_OK)
                continue;
            refused++;
            assert_true(strlen(why) > 20);
            assert_true(mb_layout_nearest(&o, world, NULL, NULL, &l));
            struct mb_layout_options n = mb_layout_options_of(&l);
            assert_int_equal(mb_layout_try(&n, world, &again, why), MB_OK);
            assert_int_equal(mb_layout_compare(&l, &again), 0);
        }
    assert_true(refused > 10000);
}

struct of_model {
    const struct mb_model *m;
    const struct mb_plan_options *o;
};

static bool works(void *arg, const struct mb_layout *l)
{
    const struct of_model *a = arg;
    char why[MB_LAYOUT_TEXT];
    return mb_plan_refusal(a->m, a->o, l, why) == MB_OK;
}

/* Every tuple up to 8 ranks is accepted, or refused with a layout that is accepted. The basic ones are as
 * many as the matrix runs. */
static void test_models(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t basic;
    } models[] = {{"mixtral_a", 387}, {"qwen3moe_b", 398}, {"deepseekv3_a", 386}, {"dbrx_a", 387}};

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char dir[512];
        struct mb_model *m = NULL;
        struct mb_plan_options o = {.max_num_seqs = 4};
        int32_t basic = 0, all = 0, refused = 0;
        snprintf(dir, sizeof dir, "%s/tests/data/models/%s", getenv("top_srcdir"), models[i].name);
        assert_int_equal(mb_model_open(dir, 0, &m), MB_OK);
        for (int32_t world = 1; world <= 8; world++) {
            struct mb_layout_walk w = {.world = world, .lane = true, .split = true};
            struct mb_layout l, n;
            char why[MB_LAYOUT_TEXT];
            for (; mb_layout_next(&w, &l); all++) {
                if (mb_plan_refusal(m, &o, &l, why) == MB_OK) {
                    basic += !l.lane_scope && l.attn == 0;
                    continue;
                }
                struct mb_layout_options want = mb_layout_options_of(&l);
                struct of_model a = {m, &o};
                refused++;
                assert_true(mb_layout_nearest(&want, world, works, &a, &n));
                assert_int_equal(mb_plan_refusal(m, &o, &n, why), MB_OK);
            }
        }
        print_message("%s: %d basic, %d of %d refused\n", models[i].name, basic, refused, all);
        assert_int_equal(basic, models[i].basic);
        mb_model_destroy(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
