/* A step without ranks: what it says in its exchanges, and what all members conclude from the same heads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "draw.h"
#include "engine/step.h"

#define MEMBERS 16

struct ranks {
    struct mb_context c[MEMBERS];
    struct mb_batch b[MEMBERS];
    struct mb_step s[MEMBERS];
    struct mb_xchg_head said[MEMBERS];
};

/* Members of one exchange group: stages of `per` ranks each under lane scope, else of one stage. */
static struct ranks *make(int32_t members, int32_t pp, bool lane)
{
    struct ranks *r = calloc(1, sizeof *r);

    assert_non_null(r);
    for (int32_t i = 0; i < members; i++) {
        int32_t per = members / pp;
        static const struct mb_plan plan; /* without experts */
        struct mb_context *c = &r->c[i];
        c->t.l = (struct mb_layout){.world = members,
                                    .dp = 1,
                                    .pp = pp,
                                    .tp = 1,
                                    .sp = 1,
                                    .adp = per,
                                    .ep = per,
                                    .etp = 1,
                                    .edp = 1,
                                    .lane_scope = lane};
        c->t.g =
            (struct mb_groups){.dp_size = 1, .pp_rank = i / per, .pp_size = pp, .tp_size = 1, .sp_size = 1};
        c->o.segment = 64;
        c->o.plan = &plan;
        const struct mb_batch_limits limits = {NULL, 8, 4, 2, 100};
        assert_int_equal(mb_batch_create(&limits, 1, &r->b[i]), MB_OK);
        r->s[i] =
            (struct mb_step){.c = c, .pass = {.c = c, .batch = &r->b[i]}, .number = lane ? -(i / per) : 0};
    }
    return r;
}

static void drop(struct ranks *r)
{
    for (int i = 0; i < MEMBERS; i++)
        mb_batch_destroy(&r->b[i]);
    free(r);
}

static void begin(struct ranks *r, int32_t members)
{
    for (int32_t i = 0; i < members; i++)
        mb_step_begin(&r->s[i]);
}

/* An exchange: all say their heads, with rows[i] rows (NULL: none), and hear those of all. */
static void meet(struct ranks *r, int32_t members, const int64_t *rows)
{
    for (int32_t i = 0; i < members; i++) {
        r->said[i] = mb_step_head(&r->s[i], 3);
        r->said[i].rows = rows != NULL ? rows[i] : 0;
        r->s[i].exchange++;
    }
    for (int32_t i = 0; i < members; i++) {
        bool over = mb_step_heard(&r->s[i], &r->said[i], r->said, members);
        assert_int_equal(over, mb_step_over(&r->s[i]));
    }
}

/* All members skip the rest of the step, or none does. */
static bool over(const struct ranks *r, int32_t members)
{
    for (int32_t i = 1; i < members; i++)
        assert_int_equal(mb_step_over(&r->s[i]), mb_step_over(&r->s[0]));
    return mb_step_over(&r->s[0]);
}

static void rows_keep_a_step_going(void **state)
{
    struct ranks *r = make(4, 1, false);
    const int64_t rows[4] = {0, 0, 5, 0};

    (void)state;
    begin(r, 4);
    meet(r, 4, rows);
    assert_false(over(r, 4));
    meet(r, 4, NULL); /* what later exchanges carry of rows says nothing of the step */
    assert_false(over(r, 4));
    begin(r, 4);
    assert_int_equal(r->s[0].exchange, 0);
    meet(r, 4, NULL);
    assert_true(over(r, 4) && r->s[0].empty && r->s[0].peers.status == MB_OK);
    begin(r, 4); /* an empty step says nothing of the next */
    assert_false(over(r, 4));
    meet(r, 4, rows);
    assert_false(over(r, 4));
    drop(r);
}

static void a_failure_is_told_once(void **state)
{
    struct ranks *r = make(4, 1, false);
    const int64_t rows[4] = {1, 1, 1, 1};

    (void)state;
    begin(r, 4);
    meet(r, 4, rows);
    r->s[2].status = MB_DEVICE;           /* between two exchanges */
    assert_false(mb_step_over(&r->s[2])); /* nobody knows: it has to come to the next one */
    meet(r, 4, rows);
    assert_true(over(r, 4));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r->s[i].peers.status, MB_DEVICE);
        assert_int_equal(r->s[i].told, i == 2);
        assert_int_equal(r->s[i].status, i == 2 ? MB_DEVICE : MB_OK);
    }
    begin(r, 4);
    assert_true(over(r, 4)); /* for good */
    drop(r);
}

static void the_end_is_agreed_on(void **state)
{
    struct ranks *r = make(4, 1, false);
    const int64_t rows[4] = {1, 0, 0, 0};

    (void)state;
    begin(r, 4);
    for (int i = 0; i < 3; i++)
        r->s[i].flags = MB_FLAG_IDLE;
    meet(r, 4, rows);
    assert_false(r->s[0].peers.idle);
    begin(r, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r->s[i].flags, 0);
        r->s[i].flags = MB_FLAG_IDLE;
    }
    r->s[3].flags |= MB_FLAG_STOP;
    meet(r, 4, NULL);
    for (int i = 0; i < 4; i++)
        assert_true(r->s[i].peers.idle && r->s[i].peers.stop);
    drop(r);
}

/* Under lane scope stages meet in ticks: the first stage speaks for the groups, later ones repeat what was
 * said before. */
static void stages_meet_in_ticks(void **state)
{
    struct ranks *r = make(6, 3, true);
    const int64_t rows[6] = {1, 1, 0, 0, 0, 0};

    (void)state;
    for (int tick = 1; tick < 5; tick++) {
        begin(r, 6);
        meet(r, 6, rows);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(r->said[i].step, tick); /* all the same, or the exchange would refuse them */
            assert_int_equal(r->said[i].layer, 0);   /* and their number in the tick, whatever layers meet */
            assert_int_equal(r->s[i].number, tick - i / 2);
        }
    }
    begin(r, 6);
    for (int i = 2; i < 6; i++)
        r->s[i].flags = MB_FLAG_IDLE | MB_FLAG_STOP; /* old news */
    meet(r, 6, rows);
    assert_false(r->s[5].peers.idle || r->s[5].peers.stop);
    begin(r, 6);
    r->s[0].flags = r->s[1].flags = MB_FLAG_IDLE;
    meet(r, 6, rows);
    assert_true(r->s[5].peers.idle);
    drop(r);
}

/* Ranks of a group that serve only do not speak for an attention group. */
static void servers_have_no_say(void **state)
{
    struct ranks *r = make(4, 1, false);

    (void)state;
    for (int i = 0; i < 4; i++) {
        r->c[i].t.l.adp = 2;
        r->c[i].t.l.attn = 2;
        r->c[i].t.l.expert = 2;
    }
    begin(r, 4);
    r->s[0].flags = r->s[1].flags = MB_FLAG_IDLE;
    meet(r, 4, NULL);
    assert_true(r->s[3].peers.idle);
    drop(r);
}

/* Whatever happens where: all members leave together or go on together, and each failure is seen by all. */
static void all_agree(void **state)
{
    (void)state;
    state_of_draw = 7;
    for (int round = 0; round < 500; round++) {
        int32_t members = 2 + draw(MEMBERS - 2);
        struct ranks *r = make(members, 1, false);
        bool failed = false;
        for (int step = 0; step < 6 && !failed; step++) {
            int64_t rows[MEMBERS];
            begin(r, members);
            for (int i = 0; i < members; i++) {
                rows[i] = draw(3);
                r->s[i].flags = draw(8) == 0 ? MB_FLAG_IDLE | MB_FLAG_STOP : MB_FLAG_IDLE;
            }
            for (int x = 0; x < 4 && !over(r, members); x++) {
                if (draw(12) == 0) {
                    r->s[draw(members)].status = draw(2) == 0 ? MB_IO : MB_NO_SPACE;
                    failed = true;
                }
                meet(r, members, rows);
            }
            assert_true(!failed || over(r, members));
            for (int i = 1; i < members; i++)
                assert_memory_equal(&r->s[i].peers, &r->s[0].peers, sizeof r->s[0].peers);
        }
        drop(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_keep_a_step_going), cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(the_end_is_agreed_on),   cmocka_unit_test(stages_meet_in_ticks),
        cmocka_unit_test(servers_have_no_say),    cmocka_unit_test(all_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
