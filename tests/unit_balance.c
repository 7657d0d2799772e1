/* Splits of rows over copies against their exact optimum, turns of members against their quotas, placements
 * against all there are, moves between them, and their files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/makers.h"
#include "plan/serve.h"
#include "plan/split.h"
#include "draw.h"
#include "tmpdir.h"

#define MOST 8 /* shards and experts of a small case */

/* The least that the fullest of ep shards can have, by the theorem on flows: the most, over sets of shards,
 * of the rows of experts that have no copy outside, per shard of the set. holders: a bit for each shard. */
static double exact(const double *rows, const int32_t *holders, int32_t experts, int32_t ep)
{
    double most = 0;

    for (int32_t set = 1; set < 1 << ep; set++) {
        double sum = 0;
        for (int32_t e = 0; e < experts; e++)
            sum += (holders[e] & ~set) == 0 ? rows[e] : 0;
        sum /= __builtin_popcount((unsigned)set);
        most = sum > most ? sum : most;
    }
    return most;
}

static void test_split(void **state)
{
    (void)state;
    state_of_draw = 5;
    for (int n = 0; n < 3000; n++) {
        int32_t ep = 1 + draw(MOST), experts = 1 + draw(MOST), first[MOST + 1] = {0}, at[MOST * MOST],
                order[MOST], holders[MOST];
        double rows[MOST], share[MOST * MOST], sum[MOST], base[MOST], check[MOST] = {0};
        for (int32_t e = 0; e < experts; e++) {
            holders[e] = 1 + draw((1 << ep) - 1);
            rows[e] = draw(2) ? draw(1000) : draw(10);
            first[e + 1] = first[e];
            for (int32_t r = 0; r < ep; r++) {
                if (holders[e] >> r & 1)
                    at[first[e + 1]++] = r;
            }
        }
        const struct mb_copies c = {experts, ep, first, at};
        double most = mb_split_rows(&c, rows, share, sum, order, base),
               can = exact(rows, holders, experts, ep);
        assert_true(most >= can * (1 - 1e-9) && most <= can * (1 + 1e-4));
        for (int32_t e = 0; e < experts; e++) {
            double all = 0;
            for (int32_t i = first[e]; i < first[e + 1]; i++) {
                assert_true(share[i] >= 0);
                all += share[i];
                check[at[i]] += share[i];
            }
            assert_true(all >= rows[e] * (1 - 1e-9) - 1e-9 && all <= rows[e] * (1 + 1e-9) + 1e-9);
        }
        for (int32_t r = 0; r < ep; r++)
            assert_true(check[r] >= sum[r] - 1e-6 && check[r] <= sum[r] + 1e-6);
    }
}

static void test_parts(void **state)
{
    (void)state;
    state_of_draw = 6;
    for (int t = 0; t < 2000; t++) {
        int32_t n = 1 + draw(9), out[9], whole[9], all = 0;
        double share[9], sum = 0;
        int64_t parts = draw(3) == 0 ? draw(20) : MB_SPLIT_PARTS, a = 0, b = 0;
        for (int32_t i = 0; i < n; i++) {
            whole[i] = draw(3) == 0 ? 0 : draw(500);
            share[i] = whole[i];
            sum += share[i];
            all += whole[i];
        }
        mb_split_parts(share, n, parts, out);
        mb_split_numbers(whole, n, parts);
        for (int32_t i = 0; i < n; i++) {
            double want = sum > 0 ? share[i] / sum * (double)parts : (double)parts / n;
            assert_true(out[i] >= 0 && out[i] > want - 1 && out[i] < want + 1);
            assert_true(whole[i] >= 0 && whole[i] > want - 1 - 1e-9 && whole[i] < want + 1 + 1e-9);
            a += out[i];
            b += whole[i];
        }
        assert_true(a == parts && b == parts);
    }
}

/* ---------------------------------------------------------------- turns */

#define MEMBERS 12
static void draw_serve(struct mb_serve *v, int32_t *member, int32_t *part)
{
    static int32_t first[3], node[MEMBERS], stage[MEMBERS];
    int32_t n = 2 + draw(MEMBERS - 1), at = 0;

    *v = (struct mb_serve){
        .ids = 2, .members = n, .first = first, .member = member, .node = node, .part = part, .stage = stage};
    v->pad = 1 + draw(2); /* one stage of two ids, or two of one */
    for (int32_t m = 0; m < n; m++) {
        node[m] = m == 0 ? 0 : node[m - 1] + (draw(3) == 0);
        stage[m] = m < 2 ? m % (2 / v->pad) : draw(4) == 0 ? -1 : draw(2 / v->pad);
    }
    for (int32_t id = 0; id < 2; id++) {
        int64_t homes = 0;
        first[id] = at;
        for (int32_t m = 0; m < n; m++) {
            homes += stage[m] == id / v->pad;
            if (draw(3) == 0 || (m == n - 1 && at == first[id])) {
                part[at] = draw(4) == 0 ? 0 : draw(1000);
                member[at++] = m;
            }
        }
        first[id + 1] = at;
        mb_split_numbers(part + first[id], at - first[id], homes * MB_SERVE_TURNS);
    }
}

/* Turns of an id by home and copy. */
static void check_shares(const struct mb_serve *v, int32_t id, int32_t by[MEMBERS][MEMBERS])
{
    struct mb_serve_share s[MB_SERVE_SHARES(MEMBERS, MEMBERS)];
    int32_t rest[MEMBERS], left[MEMBERS], copies = v->first[id + 1] - v->first[id],
                                          n = mb_serve_shares(v, id, rest, left, s);

    memset(by, 0, MEMBERS * sizeof *by);
    assert_true(n <= MB_SERVE_SHARES(v->members, copies));
    for (int32_t i = 0; i < n; i++)
        by[s[i].home][s[i].copy] += s[i].turns;
    for (int32_t m = 0; m < v->members; m++) {
        int32_t sum = 0;
        for (int32_t c = 0; c < copies; c++)
            sum += by[m][c];
        assert_int_equal(sum, v->stage[m] == id / v->pad ? MB_SERVE_TURNS : 0);
    }
    for (int32_t c = 0; c < copies; c++) {
        int32_t sum = 0;
        for (int32_t m = 0; m < v->members; m++)
            sum += by[m][c];
        assert_int_equal(sum, v->part[v->first[id] + c]);
    }
}

/* Nobody goes elsewhere while its own copy has turns left, nor to another node while a copy of its own has.
 */
static void check_near(const struct mb_serve *v, int32_t id, int32_t by[MEMBERS][MEMBERS])
{
    const int32_t *at = v->member + v->first[id], *part = v->part + v->first[id];
    int32_t copies = v->first[id + 1] - v->first[id];

    for (int32_t m = 0; m < v->members; m++) {
        for (int32_t c = 0; c < copies; c++) {
            if (at[c] == m && v->stage[m] == id / v->pad)
                assert_int_equal(by[m][c], part[c] < MB_SERVE_TURNS ? part[c] : MB_SERVE_TURNS);
            for (int32_t d = 0; d < copies; d++) {
                int32_t others = 0; /* of c's turns that other nodes have */
                for (int32_t h = 0; h < v->members; h++)
                    others += v->node[h] != v->node[at[c]] ? by[h][c] : 0;
                assert_false(v->node[m] == v->node[at[c]] && v->node[m] != v->node[at[d]] && by[m][d] > 0 &&
                             others > 0);
            }
        }
    }
}

static void test_turns(void **state)
{
    (void)state;
    state_of_draw = 7;
    for (int t = 0; t < 2000; t++) {
        struct mb_serve v;
        int32_t member[2 * MEMBERS], part[2 * MEMBERS], by[MEMBERS][MEMBERS];
        draw_serve(&v, member, part);
        for (int32_t id = 0; id < 2; id++) {
            check_shares(&v, id, by);
            check_near(&v, id, by);
            int32_t home = draw(v.members), counted[MEMBERS] = {0};
            assert_int_equal(mb_serve_settle(&v, home), MB_OK);
            for (int32_t n = 0; n < MB_SERVE_TURNS; n++)
                counted[mb_serve_turn(&v, id, n + 1000)]++;
            for (int32_t c = 0; c < v.first[id + 1] - v.first[id] && v.stage[home] == id / v.pad; c++)
                assert_int_equal(counted[c], by[home][c]);
            free(v.turns);
            free(v.turn);
        }
    }
}

/* ---------------------------------------------------------------- placements */

static struct mb_placement *make(const struct mb_maker *k)
{
    struct mb_placement *p = NULL;
    char why[MB_LAYOUT_TEXT];

    assert_int_equal(mb_placement_make(k, &p, why), MB_OK);
    return p;
}

/* The most rows of a shard of layer lm, by the quotas. */
static double most_rows(const struct mb_maker *k, const struct mb_placement *p, int32_t lm)
{
    double sum[512] = {0}, most = 0;

    for (int32_t e = 0; e < k->experts; e++) {
        int32_t n;
        const int32_t *h = mb_placement_holders(p, lm, e, &n);
        int64_t i = (int64_t)lm * k->experts + e, all = 0;
        for (int32_t c = 0; c < n; c++) {
            int32_t part = p->quota != NULL ? p->quota[p->first[i] + c] : MB_SPLIT_PARTS;
            sum[h[c]] += (double)k->usage[i] * part / MB_SPLIT_PARTS;
            all += part;
        }
        assert_int_equal(all, MB_SPLIT_PARTS);
    }
    for (int32_t r = 0; r < k->ep; r++)
        most = sum[r] > most ? sum[r] : most;
    return most;
}

/* The least over all placements: every set of shards for every expert, within the slots. */
static double least(const struct mb_maker *k, const double *rows, int32_t e, int32_t *used, int32_t *holders,
                    int32_t left, double best)
{
    int32_t slots = (k->experts + k->redundant + k->ep - 1) / k->ep;

    if (e == k->experts) {
        double now = left == 0 ? exact(rows, holders, k->experts, k->ep) : best;
        return now < best ? now : best;
    }
    for (int32_t set = 1; set < 1 << k->ep; set++) {
        bool ok = __builtin_popcount((unsigned)set) <= left - (k->experts - 1 - e);
        for (int32_t r = 0; r < k->ep; r++) {
            used[r] += set >> r & 1;
            ok &= used[r] <= slots;
        }
        holders[e] = set;
        if (ok)
            best = least(k, rows, e + 1, used, holders, left - __builtin_popcount((unsigned)set), best);
        for (int32_t r = 0; r < k->ep; r++)
            used[r] -= set >> r & 1;
    }
    return best;
}

static void test_makers(void **state)
{
    (void)state;
    int32_t cases = 0, good = 0;
    double worst = 1;

    state_of_draw = 8;
    for (int t = 0; t < 150; t++) {
        int64_t usage[MOST];
        double rows[MOST];
        int32_t used[MOST] = {0}, holders[MOST];
        struct mb_maker k = {.moe_layers = 1,
                             .experts = 2 + draw(4),
                             .ep = 2 + draw(2),
                             .usage = usage,
                             .usage_layers = 1,
                             .k = 1,
                             .nodes = 1};
        k.redundant = draw(k.experts * (k.ep - 1) + 1) % 5;
        for (int32_t e = 0; e < k.experts; e++)
            rows[e] = (double)(usage[e] = draw(2) ? draw(1000) : draw(50));
        usage[0]++;
        rows[0]++;
        struct mb_placement *p = make(&k);
        double got = most_rows(&k, p, 0),
               can = least(&k, rows, 0, used, holders, k.experts + k.redundant, 1e30);
        assert_true(got >= can * (1 - 1e-3));
        worst = got / can > worst ? got / can : worst;
        good += got <= can * 1.005;
        cases++;
        mb_placement_destroy(p);
    }
    print_message("%d of %d placements as good as can be, the worst %.3f times that\n", good, cases, worst);
    assert_true(good >= cases * 9 / 10 && worst < 1.2);
}

/* ---------------------------------------------------------------- moves */

static int64_t copies_moved(const struct mb_placement *a, const struct mb_placement *b)
{
    int64_t moved = 0;

    for (int64_t i = 0; i < (int64_t)b->moe_layers * b->experts; i++) {
        for (int64_t j = b->first[i]; j < b->first[i + 1]; j++) {
            bool there = false;
            for (int64_t h = a->first[i]; h < a->first[i + 1]; h++)
                there |= a->shard[h] == b->shard[j];
            moved += !there;
        }
    }
    return moved;
}

/* The same rows again: nothing moves. Another first placement of the same sets: renamed, nothing moves. Rows
 * that change a little: few move, and far fewer than from one that is made anew. */
static void test_moves(void **state)
{
    (void)state;
    enum { LAYERS = 3, EXPERTS = 64, EP = 16 };
    int64_t usage[LAYERS * EXPERTS];
    int32_t node_of[EP];
    struct mb_maker k = {.moe_layers = LAYERS,
                         .experts = EXPERTS,
                         .ep = EP,
                         .redundant = 16,
                         .usage = usage,
                         .usage_layers = LAYERS,
                         .nodes = 4,
                         .k = 4,
                         .node_of = node_of,
                         .far_row = 0.01,
                         .slack = 0.01};

    state_of_draw = 9;
    for (int32_t r = 0; r < EP; r++)
        node_of[r] = r / 4;
    for (int32_t i = 0; i < LAYERS * EXPERTS; i++)
        usage[i] = 1 + draw(1 << (3 + draw(10)));
    struct mb_placement *first = make(&k), *again, *next, *fresh;
    assert_int_equal(first->revision, 1);
    assert_true(first->moved == 0 && first->quota != NULL);
    k.before = first;
    again = make(&k);
    assert_true(again->revision == 2 && again->moved == 0 && copies_moved(first, again) == 0);
    for (int64_t i = 0; i < first->first[LAYERS * EXPERTS]; i++)
        first->shard[i] = EP - 1 - first->shard[i]; /* order inside an expert does not matter here */
    mb_placement_destroy(again);
    again = make(&k);
    assert_true(again->moved == 0 && copies_moved(first, again) == 0);
    for (int32_t i = 0; i < LAYERS * EXPERTS; i++)
        usage[i] += usage[i] * (draw(21) - 10) / 100;
    next = make(&k);
    k.before = NULL;
    fresh = make(&k);
    print_message("%d copies move, %d of a placement that is made anew\n", (int)next->moved,
                  (int)copies_moved(first, fresh));
    assert_true(next->moved == copies_moved(first, next) && copies_moved(first, fresh) > 4 * next->moved);
    for (int32_t lm = 0; lm < LAYERS; lm++)
        assert_true(most_rows(&k, next, lm) <= 1.02 * most_rows(&k, fresh, lm));
    struct mb_placement *all[] = {first, again, next, fresh};
    for (size_t i = 0; i < 4; i++)
        mb_placement_destroy(all[i]);
}

/* Rows between nodes cost so much that experts stay on the nodes whose ranges they belong to; with nothing to
 * pay they don't. */
static void test_nodes(void **state)
{
    (void)state;
    enum { EXPERTS = 64, EP = 16 };
    int64_t usage[EXPERTS];
    int32_t node_of[EP], away[2] = {0}, n;
    struct mb_maker k = {.moe_layers = 1,
                         .experts = EXPERTS,
                         .ep = EP,
                         .usage = usage,
                         .usage_layers = 1,
                         .nodes = 4,
                         .k = 8,
                         .node_of = node_of};

    state_of_draw = 10;
    for (int32_t r = 0; r < EP; r++)
        node_of[r] = r / 4;
    for (int32_t e = 0; e < EXPERTS; e++)
        usage[e] = 100 + draw(200);
    for (int dear = 0; dear < 2; dear++) {
        k.far_row = k.far_lone = k.far_sum = dear ? 20 : 0;
        struct mb_placement *p = make(&k);
        int32_t of[4] = {-1, -1, -1, -1};
        for (int32_t e = 0; e < EXPERTS; e++) { /* each range of 16 on one node */
            int32_t node = node_of[*mb_placement_holders(p, 0, e, &n)], *at = &of[e / 16];
            *at = *at < 0 ? node : *at;
            away[dear] += node != *at;
        }
        mb_placement_destroy(p);
    }
    assert_true(away[0] > 16 && away[1] == 0);
}

/* ---------------------------------------------------------------- files */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void test_files(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), path[512];
    int64_t usage[8] = {90, 10, 5, 5, 1, 60, 3, 2};
    struct mb_maker k = {.moe_layers = 2,
                         .experts = 4,
                         .ep = 2,
                         .redundant = 2,
                         .usage = usage,
                         .usage_layers = 2,
                         .nodes = 1,
                         .k = 1};
    struct mb_placement *p = make(&k), *q = NULL;
    static const char *const bad[] = {
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, 2]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, []]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [1, 1]]]}",
        "{\"owner\": [[0, 1, 0, 1]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, -1]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [0, 1]]], \"quota\": [[null, null, null, null]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [0, 1]]], \"quota\": [7, 8]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [0, 1]]], \"quota\": [[null, null, null, null], [null, null, "
        "null, [1, 65534]]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [0, 1]]], \"quota\": [[null, null, null, null], [null, null, "
        "null, [65537, -1]]]}",
        "{\"owner\": [[0, 1, 0, 1], [0, 1, 0, [0, 1]]], \"quota\": [[null, null, null, null], [null, null, "
        "null, [65536]]]}",
        "{\"owner\": 5}",
    };

    snprintf(path, sizeof path, "%s/placement.json", dir);
    char *text = mb_placement_text(p);
    write_file(path, text);
    assert_int_equal(mb_placement_load(path, 2, 4, 2, &q), MB_OK);
    assert_memory_equal(p->first, q->first, 9 * sizeof *p->first);
    assert_memory_equal(p->shard, q->shard, 12 * sizeof *p->shard);
    assert_memory_equal(p->quota, q->quota, 12 * sizeof *p->quota);
    assert_int_equal(p->revision, q->revision);
    mb_placement_destroy(q);
    q = NULL;
    write_file(path, "{\"owner\": [[0, 1, 0, [1, 0]], [0, 1, 0, [1, 0]]], \"placement_revision\": 9, "
                     "\"quota\": [[null, null, null, [16384, 49152]], [null, null, null, null]]}");
    assert_int_equal(mb_placement_load(path, 2, 4, 2, &q), MB_OK);
    assert_true(q->revision == 9 && q->quota[3] == 49152 && q->quota[4] == 16384 && q->quota[8] == 32768 &&
                q->quota[0] == 65536);
    mb_placement_destroy(q);
    q = NULL;
    mb_log_set_quiet(true);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(path, bad[i]);
        assert_int_equal(mb_placement_load(path, 2, 4, 2, &q), MB_INPUT);
        assert_null(q);
    }
    mb_log_set_quiet(false);
    free(text);
    mb_placement_destroy(p);
    tmpdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),  cmocka_unit_test(test_parts), cmocka_unit_test(test_turns),
        cmocka_unit_test(test_makers), cmocka_unit_test(test_moves), cmocka_unit_test(test_nodes),
        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
