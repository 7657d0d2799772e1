/* Experts on demand: plans of exchanges held against what they must be for any input, and the cache against a
 * list. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "device/ops.h"
#include "engine/cache.h"
#include "plan/fetch.h"
#include "draw.h"
#include "fetch_plain.h"

#define MOST_MEMBERS 9
#define MOST_IDS 24

struct kase {
    struct mb_serve owners;
    int32_t first[MOST_IDS + 1], member[MOST_IDS * MOST_MEMBERS], node[MOST_MEMBERS];
    uint32_t said[MOST_MEMBERS * MOST_IDS], going[MOST_MEMBERS * MOST_MEMBERS];
    int32_t slots[MOST_MEMBERS], room[MOST_MEMBERS];
    struct mb_fetch_in in;
};

/* A row goes for one expert at least: never more rows than pairs. */
static void cut_going(const struct mb_fetch_in *in, uint32_t *going)
{
    const struct mb_serve *v = in->owners;

    for (int32_t h = 0; h < v->members; h++) {
        for (int32_t o = 0; o < v->members; o++) {
            uint32_t pairs = 0, *n = &going[h * v->members + o];
            for (int32_t id = 0; id < v->ids; id++) {
                int32_t at = mb_serve_pick(v, id, h);
                bool same = in->by_node && v->node[at] == v->node[o] && v->node[o] != v->node[h];
                pairs += at == o || same ? in->said[h * v->ids + id] >> 1 : 0;
            }
            *n = *n > pairs ? pairs : *n;
        }
    }
}

/* One or two owners of each id, rows here and there, caches that hold what may be. */
static void make(struct kase *k)
{
    int32_t members = 1 + draw(MOST_MEMBERS), ids = 1 + draw(MOST_IDS), n = 0;

    k->owners = (struct mb_serve){
        .ids = ids, .members = members, .first = k->first, .member = k->member, .node = k->node};
    for (int32_t m = 0; m < members; m++)
        k->node[m] = m == 0 ? 0 : k->node[m - 1] + (draw(3) == 0);
    for (int32_t id = 0; id < ids; id++) {
        k->first[id] = n;
        int32_t a = draw(members), b = draw(members);
        k->member[n++] = a < b ? a : b;
        if (a != b && draw(3) == 0)
            k->member[n++] = a < b ? b : a;
    }
    k->first[ids] = n;
    for (int32_t m = 0; m < members; m++) {
        int32_t held = 0;
        k->slots[m] = 1 + draw(ids);
        k->room[m] = 1 + draw(k->slots[m]);
        for (int32_t id = 0; id < ids; id++) {
            bool there = held < k->slots[m] && draw(2) == 0;
            held += there;
            k->said[m * ids + id] = mb_fetch_say(draw(3) == 0 ? draw(60) : 0, there);
        }
    }
    for (int32_t i = 0; i < members * members; i++)
        k->going[i] = (uint32_t)(1 + draw(30));
    k->in = (struct mb_fetch_in){.owners = &k->owners,
                                 .said = k->said,
                                 .going = k->going,
                                 .by_node = draw(2) == 0,
                                 .slots = k->slots,
                                 .room = k->room,
                                 .row_bytes = 10,
                                 .expert_bytes = 1 + draw(200),
                                 .copies = draw(4) > 0};
    cut_going(&k->in, k->going);
}

static int64_t rows_said(const struct kase *k, int32_t m, int32_t id)
{
    return k->said[m * k->owners.ids + id] >> 1;
}

static bool there(const struct kase *k, int32_t m, int32_t id)
{
    return k->said[m * k->owners.ids + id] & 1;
}

/* Every row is served once, by an owner or a copy; owners stay in the tables. */
static void check_served(const struct kase *k, const struct mb_fetch *f)
{
    const struct mb_serve *v = f->serve;

    for (int32_t id = 0; id < v->ids; id++) {
        int64_t said = 0, served = 0;
        for (int32_t i = v->first[id] + 1; i < v->first[id + 1]; i++)
            assert_true(v->member[i] > v->member[i - 1]);
        for (int32_t m = 0; m < v->members; m++) {
            said += rows_said(k, m, id);
            served += f->rows[m * v->ids + id];
            assert_true(f->rows[m * v->ids + id] == 0 || mb_serve_has(v, m, id));
            assert_true(!mb_serve_has(&k->owners, m, id) || mb_serve_has(v, m, id));
            assert_true(k->in.copies || mb_serve_has(v, m, id) == mb_serve_has(&k->owners, m, id));
        }
        assert_int_equal(said, served);
    }
}

/* What is served and not there is fetched once, from one that has it and keeps it; in a round a member does
 * one thing each way; nobody is sent more than it can hold beside what it keeps. */
static void check_items(const struct kase *k, const struct mb_fetch *f)
{
    static int32_t got[MOST_MEMBERS * MOST_IDS], from[4 * MOST_MEMBERS * MOST_IDS],
        to[4 * MOST_MEMBERS * MOST_IDS];
    int32_t ids = f->ids, held[MOST_MEMBERS] = {0};

    memset(got, 0, sizeof got);
    memset(from, 0, sizeof from);
    memset(to, 0, sizeof to);
    for (int32_t i = 0; i < f->n; i++) {
        const struct mb_fetch_item *x = &f->item[i];
        got[x->to * ids + x->id]++;
        if (x->from < 0)
            continue;
        held[x->to]++;
        assert_true(x->from != x->to && there(k, x->from, x->id) && f->keep[x->from * ids + x->id]);
        assert_true(x->round < f->rounds && f->rounds <= 2 * f->n);
        assert_int_equal(from[x->round * f->members + x->from]++ + to[x->round * f->members + x->from], 0);
        assert_int_equal(to[x->round * f->members + x->to]++ + from[x->round * f->members + x->to], 0);
    }
    for (int32_t m = 0; m < f->members; m++) {
        int32_t stay = 0;
        for (int32_t id = 0; id < ids; id++) {
            assert_int_equal(got[m * ids + id], f->rows[m * ids + id] > 0 && !there(k, m, id));
            stay += f->keep[m * ids + id] && there(k, m, id);
        }
        assert_true(held[m] == 0 || stay + held[m] <= k->slots[m]);
    }
}

/* A copy is made only where rows that may go to it would move more bytes than it does, and where the cache
 * has room. */
static void check_copies(const struct kase *k, const struct mb_fetch *f)
{
    const struct mb_serve *v = f->serve;

    for (int32_t m = 0; m < v->members; m++) {
        int32_t used = 0, copies = 0;
        for (int32_t id = 0; id < v->ids; id++) {
            int64_t near = 0, any = 0;
            bool own = mb_serve_has(&k->owners, m, id), copy = mb_serve_has(v, m, id) && !own;
            for (int32_t h = 0; h < v->members; h++) {
                near += v->node[h] == v->node[m] ? rows_said(k, h, id) : 0;
                any += rows_said(k, h, id);
            }
            used += (own && any > 0) || copy;
            copies += copy;
            assert_true(!copy || near * k->in.row_bytes > (there(k, m, id) ? 0 : k->in.expert_bytes));
        }
        assert_true(copies == 0 || used <= k->room[m]);
    }
}

/* The same as the plain form, entry by entry. */
static void check_plain(const struct mb_fetch *f, const struct mb_fetch_in *in)
{
    struct plain *p = plain_create(in->owners);
    size_t cells = (size_t)f->ids * (size_t)f->members;

    plain_plan(p, in);
    assert_memory_equal(f->serve->first, p->serve->first, 4 * ((size_t)f->ids + 1));
    assert_memory_equal(f->serve->member, p->serve->member, 4 * (size_t)p->serve->first[f->ids]);
    assert_memory_equal(f->rows, p->rows, 4 * cells);
    assert_memory_equal(f->keep, p->keep, cells);
    assert_int_equal(f->n, p->n);
    assert_int_equal(f->rounds, p->rounds);
    assert_memory_equal(f->item, p->item, (size_t)f->n * sizeof *f->item);
    plain_destroy(p);
}

static void test_any_plan(void **state)
{
    (void)state;
    int64_t fetched = 0, copies = 0;

    for (int i = 0; i < 20000; i++) {
        struct kase k;
        struct mb_fetch *f = NULL;
        make(&k);
        assert_int_equal(mb_fetch_create(&k.owners, &f), MB_OK);
        mb_fetch_plan(f, &k.in);
        check_served(&k, f);
        check_items(&k, f);
        check_copies(&k, f);
        check_plain(f, &k.in);
        fetched += f->n;
        copies += f->serve->first[f->ids] - k.first[f->ids];
        mb_fetch_destroy(f);
    }
    assert_true(fetched > 20000 && copies > 20000); /* the cases do contain what they are about */
}

/* 64 members on 8 nodes, 96 experts of one to three owners: each looks at tables whose rows are far apart. */
static void test_many_members(void **state)
{
    (void)state;
    enum { MEMBERS = 64, IDS = 96 };
    static int32_t first[IDS + 1], member[3 * IDS], node[MEMBERS], slots[MEMBERS], room[MEMBERS];
    static uint32_t said[MEMBERS * IDS], going[MEMBERS * MEMBERS];
    struct mb_serve owners = {.ids = IDS, .members = MEMBERS, .first = first, .member = member, .node = node};

    for (int round = 0; round < 8; round++) {
        struct mb_fetch_in in = {&owners, said, going, round % 2 == 0, slots, room, 10, 40 + 100 * draw(3),
                                 true};
        struct mb_fetch *f = NULL;
        for (int32_t m = 0; m < MEMBERS; m++) {
            node[m] = m / 8;
            slots[m] = 4 + draw(12);
            room[m] = 1 + draw(slots[m]);
        }
        for (int32_t id = 0, n = 0; id < IDS; id++) {
            for (int32_t i = 0, m = draw(MEMBERS / 3); i <= draw(3) && m < MEMBERS;
                 i++, m += 1 + draw(MEMBERS / 3))
                member[n++] = m;
            first[id + 1] = n;
        }
        for (int32_t i = 0; i < MEMBERS * IDS; i++)
            said[i] = mb_fetch_say(draw(3) == 0 ? draw(60) : 0, draw(12) == 0);
        for (int32_t i = 0; i < MEMBERS * MEMBERS; i++)
            going[i] = (uint32_t)(1 + draw(30));
        cut_going(&in, going);
        assert_int_equal(mb_fetch_create(&owners, &f), MB_OK);
        mb_fetch_plan(f, &in);
        assert_true(f->n > 100 && f->serve->first[IDS] > first[IDS] + 10);
        check_plain(f, &in);
        mb_fetch_destroy(f);
    }
}

/* By hand: 2 nodes of 2, one expert at member 0, 1,000 bytes; a row moves 10. */
static void test_by_hand(void **state)
{
    (void)state;
    int32_t first[2] = {0, 1}, member[1] = {0}, node[4] = {0, 0, 1, 1}, slots[4] = {1, 1, 1, 1};
    struct mb_serve owners = {.ids = 1, .members = 4, .first = first, .member = member, .node = node};
    uint32_t said[4] = {mb_fetch_say(5, true), mb_fetch_say(100, false), mb_fetch_say(60, false),
                        mb_fetch_say(70, false)};
    uint32_t going[16] = {5, 0, 0, 0, 100, 0, 0, 0, 60, 60, 0, 0, 70, 70, 0, 0};
    struct mb_fetch_in in = {&owners, said, going, true, slots, slots, 10, 1000, true};
    struct mb_fetch *f = NULL;

    assert_int_equal(mb_fetch_create(&owners, &f), MB_OK);
    mb_fetch_plan(f, &in);
    /* node 1 would move 1,300 bytes: its copy is worthwhile, at member 3 with the most rows, for both; member
     * 1 would move just 1,000: not less than the expert */
    assert_int_equal(f->serve->first[1], 2);
    assert_int_equal(f->serve->member[1], 3);
    assert_int_equal(f->rows[0], 105);
    assert_int_equal(f->rows[3], 130);
    assert_int_equal(f->n, 1);
    assert_true(f->item[0].from == 0 && f->item[0].to == 3 && f->item[0].round == 0);
    said[1] = mb_fetch_say(101, false);
    going[4] = 101;
    mb_fetch_plan(f, &in);
    assert_int_equal(f->rows[1], 101);
    assert_int_equal(f->rounds, 2); /* member 0 sends twice */
    going[4] = 1;
    said[1] = mb_fetch_say(1, true); /* there from an earlier step: one row is reason enough */
    mb_fetch_plan(f, &in);
    assert_int_equal(f->rows[1], 1);
    in.copies = false;
    mb_fetch_plan(f, &in);
    assert_int_equal(f->rows[0], 5 + 1 + 60 + 70);
    assert_int_equal(f->n, 0);
    mb_fetch_destroy(f);
}

/* Two experts at member 0, and every row of member 1 goes there for both: a copy of one spares half a row. */
static void test_rows_go_once(void **state)
{
    (void)state;
    int32_t first[3] = {0, 1, 2}, member[2] = {0, 0}, node[2] = {0, 0}, slots[2] = {2, 2};
    struct mb_serve owners = {.ids = 2, .members = 2, .first = first, .member = member, .node = node};
    uint32_t said[4] = {mb_fetch_say(0, true), mb_fetch_say(0, true), mb_fetch_say(100, false),
                        mb_fetch_say(100, false)};
    uint32_t going[4] = {0, 0, 100, 0};
    struct mb_fetch_in in = {&owners, said, going, false, slots, slots, 10, 500, true};
    struct mb_fetch *f = NULL;

    assert_int_equal(mb_fetch_create(&owners, &f), MB_OK);
    mb_fetch_plan(f, &in);
    assert_int_equal(f->n, 0); /* two experts of 500 bytes against 100 rows of 10 */
    in.expert_bytes = 499;
    mb_fetch_plan(f, &in);
    assert_int_equal(f->n, 2);
    assert_int_equal(f->rows[2] + f->rows[3], 200);
    mb_fetch_destroy(f);
}

/* ---------------------------------------------------------------- the cache */

/* A step meets four exchanges of six experts each in turn: in plain order of use nothing would ever be there;
 * with 12 slots and 8 that stay, two of each are. */
static void test_cache_keeps_some(void **state)
{
    (void)state;
    struct mb_cache c;
    int64_t now = 1, hits = 0;

    assert_int_equal(mb_cache_create(&c, 12, 4, 6), MB_OK);
    c.stay = 8;
    for (int step = 0; step < 5; step++) {
        for (int32_t j = 0; j < 4; j++) {
            for (int32_t id = 0; id < 6; id++) {
                if (mb_cache_at(&c, j, id) >= 0) {
                    mb_cache_use(&c, mb_cache_at(&c, j, id), now);
                    hits += step > 0;
                }
            }
            for (int32_t id = 0; id < 6; id++) {
                now++; /* each is computed before the next comes */
                if (mb_cache_at(&c, j, id) < 0)
                    assert_true(mb_cache_claim(&c, j, id, now) >= 0);
            }
        }
    }
    assert_true(hits >= 4 * 4 * 2);
    mb_cache_fini(&c, mb_ops_find("cpu"));
}

/* Against a list in order of use, one exchange. */
static void test_cache_order(void **state)
{
    (void)state;
    enum { SLOTS = 5, IDS = 9 };
    struct mb_cache c;
    int32_t list[SLOTS], n = 0;

    assert_int_equal(mb_cache_create(&c, SLOTS, 1, IDS), MB_OK);
    for (int64_t now = 1; now < 4000; now++) {
        int32_t id = draw(IDS), at = 0;
        while (at < n && list[at] != id)
            at++;
        assert_int_equal(at < n, mb_cache_at(&c, 0, id) >= 0);
        if (at < n) {
            mb_cache_use(&c, mb_cache_at(&c, 0, id), now);
            memmove(list + at, list + at + 1, sizeof *list * (size_t)(n - at - 1));
            n--;
        } else {
            assert_true(mb_cache_claim(&c, 0, id, now) >= 0);
            if (n == SLOTS)
                memmove(list, list + 1, sizeof *list * (size_t)--n);
        }
        list[n++] = id;
    }
    for (int32_t id = 0, kept = 0; id < IDS; id++) { /* all are kept: no room */
        if (mb_cache_at(&c, 0, id) >= 0) {
            mb_cache_use(&c, mb_cache_at(&c, 0, id), 5000);
            kept++;
        }
        if (kept == SLOTS)
            assert_int_equal(mb_cache_claim(&c, 0, (id + 1) % IDS, 5000), -1);
    }
    mb_cache_drop(&c, 2);
    assert_int_equal(mb_cache_claim(&c, 0, list[0] == 0 ? 1 : 0, 5000), 2);
    mb_cache_fini(&c, mb_ops_find("cpu"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_plan),         cmocka_unit_test(test_many_members),
        cmocka_unit_test(test_by_hand),          cmocka_unit_test(test_rows_go_once),
        cmocka_unit_test(test_cache_keeps_some), cmocka_unit_test(test_cache_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
