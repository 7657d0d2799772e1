/* The table of exchange algorithms: its names, what each takes for nodes, the mean of what it sends against
 * the formulas that count row by row, and what `auto` takes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "conf/table.h"
#include "draw.h"
#include "plan/alltoall.h"
#include "plan/cost.h"

static uint8_t is_moe[1] = {1};

static struct mb_model model_of(int32_t experts, int32_t k, int64_t hidden)
{
    struct mb_model m;

    memset(&m, 0, sizeof m);
    m.layers = m.moe_layers = 1;
    m.hidden = hidden;
    m.vocab = 160;
    m.heads = m.kv_heads = 64;
    m.head_dim = m.v_dim = 16;
    m.expert_ffn = 32;
    m.max_positions = 1000;
    m.is_moe = is_moe;
    m.router.experts = experts;
    m.router.k = k;
    return m;
}

static void test_names(void **state)
{
    char all[64] = "";
    (void)state;

    for (int i = 0; i < MB_A2A_COUNT; i++) {
        const struct mb_alltoall_row *r = &mb_alltoall_rows[i];
        strcat(strcat(all, i > 0 ? "|" : ""), r->name);
        assert_int_equal(mb_alltoall_named(r->name), i);
        assert_true(r->help[0] != '\0' && r->resolve != NULL &&
                    (r->partition == NULL) == (i == MB_A2A_AUTO) &&
                    (r->traffic == NULL) == (i == MB_A2A_AUTO));
    }
    assert_int_equal(mb_alltoall_named("best"), MB_A2A_COUNT);
    for (int i = 0; i < mb_n_opts; i++)
        if (strcmp(mb_opts[i].name, "alltoall") == 0) {
            assert_string_equal(mb_opts[i].choices, all);
            return;
        }
    fail();
}

static void test_partitions(void **state)
{
    (void)state;
    for (int round = 0; round < 300; round++) {
        int32_t n = 1 + draw(12), node[12], domain[12], nodes = 1;
        node[0] = draw(3);
        for (int32_t i = 1; i < n; i++) {
            node[i] = node[i - 1] + (draw(3) == 0) * (1 + draw(3));
            nodes += node[i] != node[i - 1];
        }
        assert_int_equal(mb_alltoall_rows[MB_A2A_FLAT].partition(node, n, domain), n);
        for (int32_t i = 0; i < n; i++)
            assert_int_equal(domain[i], i);
        assert_int_equal(mb_alltoall_rows[MB_A2A_HIER].partition(node, n, domain), nodes);
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < n; j++) {
                assert_true((node[i] == node[j]) == (domain[i] == domain[j]));
                assert_true((node[i] < node[j]) == (domain[i] < domain[j]));
            }
        assert_true(domain[0] == 0 && domain[n - 1] == nodes - 1);
        assert_int_equal(mb_alltoall_nodes(node, n, n), nodes);
        assert_int_equal(mb_alltoall_nodes(node, n, 1), 1);
    }
}

/* Evenly drawn rows of rank 0, counted one by one. */
static void count_rows(const struct mb_plan *p, const struct mb_model *m, int64_t rows,
                       struct mb_alltoall_load *out)
{
    const struct mb_exchange_shape x = {.k = m->router.k,
                                        .hidden = m->hidden,
                                        .x_type = MB_BF16,
                                        .y_type = MB_BF16,
                                        .eager_bytes = UINT64_MAX};
    int32_t k = m->router.k, *e = calloc((size_t)(rows * k), sizeof *e);
    struct mb_traffic d, c;

    assert_non_null(e);
    for (int64_t i = 0; i < rows; i++)
        for (int32_t j = 0; j < k; j++) {
            int32_t *row = e + i * k, q = 0;
            row[j] = draw(m->router.experts);
            while (q < j && row[q] != row[j])
                q++;
            j -= q < j; /* once more */
        }
    assert_int_equal(mb_plan_traffic(p, 0, 0, &x, e, rows, &d, &c), MB_OK);
    int64_t far = d.messages[MB_LINK_INTER] + c.messages[MB_LINK_INTER],
            near = d.messages[MB_LINK_INTRA] + c.messages[MB_LINK_INTRA];
    *out = (struct mb_alltoall_load){
        .net = (double)(d.bytes[MB_LINK_INTER] + c.bytes[MB_LINK_INTER] - MB_XCHG_HEADER * far),
        .link = (double)(d.bytes[MB_LINK_INTRA] + c.bytes[MB_LINK_INTRA] - MB_XCHG_HEADER * near),
        .messages = (double)(far + near)};
    free(e);
}

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 0.02 * b;
}

static void test_traffic(void **state)
{
    static const struct {
        int32_t nodes, per_node, experts, k;
    } cases[] = {{2, 2, 8, 2}, {4, 4, 64, 8}, {8, 1, 64, 6}, {3, 2, 60, 4}, {2, 8, 16, 4}, {1, 4, 8, 2}};
    enum { ROWS = 20000 };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t per[8], n = cases[i].nodes;
        struct mb_topo *t;
        struct mb_model m = model_of(cases[i].experts, cases[i].k, 100);
        for (int32_t b = 0; b < n; b++)
            per[b] = cases[i].per_node;
        assert_int_equal(mb_topo_synthetic(n, per, &t), MB_OK);
        for (enum mb_alltoall a = MB_A2A_FLAT; a <= MB_A2A_HIER; a++) {
            struct mb_plan_options o = {.max_num_seqs = 8,
                                        .path = MB_BF16,
                                        .kv_dtype = MB_BF16,
                                        .memory_fraction = 0.9,
                                        .alltoall = a};
            struct mb_alltoall_load mean, real;
            struct mb_cluster speeds = {.per_node = cases[i].per_node};
            struct mb_plan *p;
            assert_int_equal(mb_plan_create(&m, t, &o, &p), MB_OK);
            struct mb_alltoall_case c = {&m, &p->layout, &speeds, n, MB_BF16, 1, 1};
            mb_alltoall_rows[a].traffic(&c, ROWS, &mean);
            count_rows(p, &m, ROWS, &real);
            assert_true(close_to(mean.net, real.net));
            assert_true(mean.messages == real.messages);
            assert_true(a == MB_A2A_HIER || close_to(mean.link, real.link));
            mb_plan_destroy(p);
        }
        mb_topo_destroy(t);
    }
}

static enum mb_alltoall choice(const struct mb_alltoall_case *c, int32_t rows)
{
    struct mb_alltoall_case q = *c;
    double least = 2 * mb_alltoall_seconds(c, MB_A2A_FLAT, rows),
           other = 2 * mb_alltoall_seconds(c, MB_A2A_HIER, rows);

    q.rows = q.seqs = rows;
    enum mb_alltoall a = mb_alltoall_rows[MB_A2A_AUTO].resolve(&q);
    if (c->nodes > 1 && c->nodes < mb_layout_group(c->l))
        assert_int_equal(a, other <= least ? MB_A2A_HIER : MB_A2A_FLAT);
    return a;
}

static void test_choice(void **state)
{
    struct mb_model m = model_of(64, 8, 4096), one = model_of(64, 1, 4096), dense = model_of(0, 0, 4096);
    const struct mb_layout l = {
        .world = 32, .dp = 1, .pp = 1, .tp = 1, .sp = 1, .adp = 32, .ep = 32, .etp = 1, .edp = 1};
    struct mb_cluster slow = {
        .nodes = 4, .per_node = 8, .link = 2e10, .net = 1.25e9, .link_wait = 2e-6, .net_wait = 15e-6};
    struct mb_cluster fast = slow;
    (void)state;

    fast.net = 1e13;
    fast.link = 1e10;
    struct mb_alltoall_case c = {.m = &m, .l = &l, .c = &slow, .nodes = 4, .path = MB_BF16};
    assert_int_equal(choice(&c, 1), MB_A2A_HIER);
    assert_int_equal(choice(&c, 4096), MB_A2A_HIER);
    c.c =
        &fast; /* few messages are best while they are short; then what a node copies once more costs more */
    assert_int_equal(choice(&c, 1), MB_A2A_HIER);
    assert_int_equal(choice(&c, 4096), MB_A2A_FLAT);
    c.m = &one;
    c.c = &slow; /* no two experts of a row to share a way */
    assert_int_equal(choice(&c, 4096), MB_A2A_FLAT);
    c.m = &m;
    c.nodes = 1;
    assert_int_equal(choice(&c, 512), MB_A2A_FLAT);
    c.nodes = 32;
    assert_int_equal(choice(&c, 512), MB_A2A_FLAT);
    c.nodes = 4;
    c.m = &dense;
    c.rows = c.seqs = 8;
    assert_int_equal(mb_alltoall_rows[MB_A2A_AUTO].resolve(&c), MB_A2A_FLAT);
    for (enum mb_alltoall a = MB_A2A_FLAT; a <= MB_A2A_HIER; a++) /* asked for: taken */
        assert_int_equal(mb_alltoall_rows[a].resolve(&c), a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_partitions),
                                       cmocka_unit_test(test_traffic), cmocka_unit_test(test_choice)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
