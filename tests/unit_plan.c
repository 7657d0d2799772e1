/* Plans from shapes: uneven shares, every refusal, memory, and 4,096 ranks in milliseconds. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/publish.h"
#include "base/json.h"
#include "base/log.h"
#include "plan/plan.h"

#define LAYERS 4

static uint8_t is_moe[LAYERS + 1] = {0, 1, 1, 1, 0};

/* A small model of round numbers; layer 0 is dense. */
static struct mb_model small_model(int32_t experts)
{
    struct mb_model m;
    memset(&m, 0, sizeof m);
    m.layers = LAYERS;
    m.hidden = 64;
    m.vocab = 160;
    m.heads = 4;
    m.kv_heads = 2;
    m.head_dim = m.v_dim = 16;
    m.ffn = 128;
    m.expert_ffn = 32;
    m.max_positions = 1000;
    m.is_moe = is_moe;
    m.moe_layers = experts > 0 ? 3 : 0;
    m.router.experts = experts;
    m.router.k = experts > 0 ? 2 : 0;
    return m;
}

static const struct mb_plan_options defaults = {.max_num_seqs = 8,
                                                .path = MB_F32,
                                                .kv_dtype = MB_F32,
                                                .memory_fraction = 0.9,
                                                .shm_bytes = 1 << 20,
                                                .eager_bytes = 1 << 16};

static struct mb_topo *cluster(int32_t nodes, const int32_t *rpn, int64_t free_bytes)
{
    struct mb_topo *t;
    assert_int_equal(mb_topo_synthetic(nodes, rpn, &t), MB_OK);
    for (int32_t r = 0; r < t->ranks; r++)
        t->local[r].memory_bytes = t->local[r].memory_free = free_bytes;
    return t;
}

static struct mb_topo *ranks(int32_t n)
{
    return cluster(1, &n, 0);
}

static struct mb_plan *plan_of(const struct mb_model *m, struct mb_topo *t, const struct mb_plan_options *o)
{
    struct mb_plan *p = NULL;
    assert_int_equal(mb_plan_create(m, t, o, &p), MB_OK);
    return p;
}

static void refused(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o,
                    enum mb_status want)
{
    struct mb_plan *p = (struct mb_plan *)&defaults;
    mb_log_set_quiet(true);
    assert_int_equal(mb_plan_create(m, t, o, &p), want);
    mb_log_set_quiet(false);
    assert_ptr_equal(p, &defaults); /* outputs only on success */
}

/* The shares of the contract: index r owns [rE/ep, (r+1)E/ep), also where ep exceeds the number of experts.
 */
static void test_uniform_shares(void **state)
{
    (void)state;
    int32_t own[300];
    static const int32_t es[] = {1, 5, 8, 60, 256}, eps[] = {1, 2, 3, 7, 8, 9, 300};

    for (size_t a = 0; a < sizeof es / sizeof *es; a++)
        for (size_t b = 0; b < sizeof eps / sizeof *eps; b++) {
            int32_t E = es[a], ep = eps[b], seen = 0;
            struct mb_placement *p;
            assert_int_equal(mb_placement_uniform(2, E, ep, &p), MB_OK);
            for (int32_t r = 0; r < ep; r++) {
                int32_t lo = r * E / ep, hi = (r + 1) * E / ep;
                assert_int_equal(mb_placement_owned(p, 1, r, own), hi - lo);
                for (int32_t i = 0; i < hi - lo; i++)
                    assert_int_equal(own[i], lo + i);
                seen += hi - lo;
            }
            assert_int_equal(seen, E);
            mb_placement_destroy(p);
        }
}

static void test_uneven(void **state)
{
    (void)state;
    int32_t own[8];
    struct mb_model m8 = small_model(8), m5 = small_model(5);
    struct mb_topo *t3 = ranks(3), *t8 = ranks(8);

    struct mb_plan *p = plan_of(&m8, t3, &defaults); /* 0-1 | 2-4 | 5-7 */
    assert_int_equal(p->layout.ep, 3);
    assert_int_equal(p->layout.adp, 3);
    assert_int_equal(p->layout.tp * p->layout.sp * p->layout.adp, mb_layout_stage_size(&p->layout));
    assert_int_equal(p->layout.ep * p->layout.etp * p->layout.edp, mb_layout_stage_size(&p->layout));
    assert_int_equal(p->layout.dp * p->layout.pp * mb_layout_stage_size(&p->layout), p->layout.world);
    assert_int_equal(mb_placement_owned(p->placement, 0, 1, own), 3);
    assert_int_equal(own[0], 2);
    assert_true(p->expert_bytes[0] * 3 == p->expert_bytes[1] * 2);
    assert_true(p->budget.experts == p->expert_bytes[2]);
    mb_plan_destroy(p);

    p = plan_of(&m5, t8, &defaults); /* three ranks own none and only attend */
    int none = 0;
    for (int32_t r = 0; r < 8; r++)
        none += mb_placement_owned(p->placement, 2, r, own) == 0 && p->expert_bytes[r] == 0;
    assert_int_equal(none, 3);
    mb_plan_destroy(p);
    mb_topo_destroy(t3);
    mb_topo_destroy(t8);
}

static void test_layout_refusals(void **state)
{
    (void)state;
    struct mb_model m = small_model(8), dense = small_model(0);
    struct mb_topo *t = ranks(4);
    struct mb_plan_options o = defaults;

    o.layout.ep = 4;
    mb_plan_destroy(plan_of(&m, t, &o));
    o.layout.ep = 3;
    refused(&m, t, &o, MB_LAYOUT);
    o.layout.ep = 0;
    o.layout.experts_per_gpu = 2;
    mb_plan_destroy(plan_of(&m, t, &o));
    o.layout.experts_per_gpu = 3; /* ceil(8/3) = 3 ranks */
    refused(&m, t, &o, MB_LAYOUT);
    o.layout.experts_per_gpu = 2;
    o.layout.ep = 8; /* the two contradict */
    refused(&m, t, &o, MB_LAYOUT);
    o.layout.ep = 0;
    refused(&dense, t, &o, MB_LAYOUT);
    o = defaults;
    mb_plan_destroy(plan_of(&dense, t, &o));
    o.max_batch_rows = 7; /* below max_num_seqs */
    refused(&m, t, &o, MB_LAYOUT);
    o = defaults;
    o.max_num_seqs = 0;
    refused(&m, t, &o, MB_LAYOUT);
    o = defaults;
    o.max_model_len = 1001;
    refused(&m, t, &o, MB_LAYOUT);
    mb_topo_destroy(t);
    mb_plan_destroy(NULL);
}

static void test_alltoall_auto(void **state)
{
    (void)state;
    static const int32_t one_node[1] = {4}, ones[3] = {1, 1, 1}, uneven[3] = {1, 3, 1};
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = cluster(1, one_node, 0);
    struct mb_plan *p = plan_of(&m, t, &o);

    assert_int_equal(p->alltoall, MB_A2A_FLAT);
    mb_plan_destroy(p);
    o.alltoall = MB_A2A_HIER; /* asked for: taken */
    p = plan_of(&m, t, &o);
    assert_int_equal(p->alltoall, MB_A2A_HIER);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
    o.alltoall = MB_A2A_AUTO;
    t = cluster(3, ones, 0);
    p = plan_of(&m, t, &o);
    assert_int_equal(p->alltoall, MB_A2A_FLAT);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
    t = cluster(3, uneven, 0);
    o.alltoall = MB_A2A_HIER;
    p = plan_of(&m, t, &o);
    assert_int_equal(p->alltoall, MB_A2A_HIER);
    assert_int_equal(p->nodes, 3);
    assert_int_equal(p->node_of[3], 1);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
}

static void test_kv_pages(void **state)
{
    (void)state;
    static const int32_t rpn[2] = {1, 2};
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = cluster(2, rpn, 0);
    struct mb_plan *p = plan_of(&m, t, &o);

    /* memory unknown: what 8 sequences of 1,000 positions can ever use */
    assert_int_equal(p->max_pages_per_seq, 16);
    assert_true(p->kv_pages == 128);
    /* 64 positions x 2 heads x (keys of 16, padded to 32, + values of 16) x 4 bytes x 4 layers */
    assert_true(p->budget.kv_page_bytes == 64 * 2 * 48 * 4 * 4);
    assert_true(p->budget.kv == 128 * p->budget.kv_page_bytes);
    int64_t fixed = p->budget.total - p->budget.kv, page = p->budget.kv_page_bytes;
    mb_plan_destroy(p);

    /* node 1 divides its memory by two ranks: room for 5 pages there decides for all */
    int64_t need = (int64_t)((double)(2 * (fixed + 5 * page + page / 2)) / 0.9);
    for (int32_t r = 0; r < 3; r++)
        t->local[r].memory_bytes = t->local[r].memory_free = need;
    p = plan_of(&m, t, &o);
    assert_in_range(p->kv_pages, 5, 6);
    assert_true(p->budget.total <= (int64_t)(0.9 * (double)need / 2));
    mb_plan_destroy(p);

    o.kv_pages = 40; /* more than fits */
    refused(&m, t, &o, MB_LAYOUT);
    o.kv_pages = 3;
    p = plan_of(&m, t, &o);
    assert_true(p->kv_pages == 3);
    mb_plan_destroy(p);
    o.kv_pages = 0;
    for (int32_t r = 0; r < 3; r++)
        t->local[r].memory_free = fixed / 2; /* not even the weights */
    refused(&m, t, &o, MB_LAYOUT);
    mb_topo_destroy(t);
}

/* --max-num-seqs auto: as many as have 16 pages each, by halves; sequence parallelism divides them. */
static void test_sequences(void **state)
{
    (void)state;
    static const int32_t rpn[2] = {1, 2};
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = cluster(2, rpn, 0);

    assert_int_equal(mb_plan_seqs(&m, t, &o), 1024); /* memory unknown */
    o.max_batch_rows = 200;
    assert_int_equal(mb_plan_seqs(&m, t, &o), 200); /* a row of each in a step */
    o.max_batch_rows = 0;
    o.kv_pages = 70;
    assert_int_equal(mb_plan_seqs(&m, t, &o), 4);
    o.kv_pages = 0;
    struct mb_plan *p = plan_of(&m, t, &o);
    int64_t room = p->budget.total - p->budget.kv + 40 * p->budget.kv_page_bytes;
    mb_plan_destroy(p);
    for (int32_t r = 0; r < 3; r++)
        t->local[r].memory_bytes = t->local[r].memory_free = (int64_t)((double)(2 * room) / 0.9);
    assert_int_equal(mb_plan_seqs(&m, t, &o), 2);
    mb_topo_destroy(t);
}

/* bf16 halves what is stored as GEMM weights; MLA pages hold the latent only. */
static void test_budget_types(void **state)
{
    (void)state;
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = ranks(2);
    struct mb_plan *f = plan_of(&m, t, &o);

    /* 3 layers x 4 experts x (gate, up, down of 64 x 32), down in 8 leaves of 4 inputs padded to 32 at most
     */
    int64_t exact = 3 * 4 * 3 * 64 * 32 * 4;
    assert_true(f->budget.experts >= exact && f->budget.experts <= 5 * exact);
    o.path = o.kv_dtype = MB_BF16;
    struct mb_plan *b = plan_of(&m, t, &o);
    assert_true(b->budget.experts * 2 == f->budget.experts);
    assert_true(b->budget.kv_page_bytes * 2 == f->budget.kv_page_bytes);
    mb_plan_destroy(f);
    mb_plan_destroy(b);
    m.mla = true;
    m.kv_lora = 32;
    m.rope_mla = 16;
    m.nope = 16;
    m.kv_heads = m.heads;
    b = plan_of(&m, t, &o);
    assert_true(b->budget.kv_page_bytes == 64 * 64 * 2 * 4); /* 48, padded */
    mb_plan_destroy(b);
    mb_topo_destroy(t);
}

/* Shapes no machine can hold saturate and are refused; nothing wraps into a small number. */
static void test_hostile_shapes(void **state)
{
    (void)state;
    struct mb_model m = small_model(8);
    static const int32_t one[1] = {1};
    struct mb_topo *t = cluster(1, one, (int64_t)1 << 40);

    m.hidden = m.vocab = m.heads = m.head_dim = m.v_dim = m.kv_heads = m.ffn = m.expert_ffn = INT32_MAX;
    refused(&m, t, &defaults, MB_LAYOUT);
    mb_topo_destroy(t);
}

/* The MTP module, where it is in use, is one more layer. */
static void test_mtp(void **state)
{
    (void)state;
    uint8_t all_moe[LAYERS + 1] = {0, 1, 1, 1, 1};
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = ranks(2);

    m.mtp_layers = 1;
    m.is_moe = all_moe;
    struct mb_plan *without = plan_of(&m, t, &o);
    o.mtp = true;
    struct mb_plan *with = plan_of(&m, t, &o);
    assert_int_equal(without->placement->moe_layers, 3);
    assert_int_equal(with->placement->moe_layers, 4);
    assert_true(with->expert_bytes[0] * 3 == without->expert_bytes[0] * 4);
    assert_true(with->budget.kv_page_bytes * 4 == without->budget.kv_page_bytes * 5);
    assert_true(with->budget.weights > without->budget.weights);
    mb_plan_destroy(with);
    mb_plan_destroy(without);
    mb_topo_destroy(t);
}

static void placement_file(const char *text, enum mb_status want)
{
    char path[64];
    struct mb_placement *p = NULL;

    snprintf(path, sizeof path, "/tmp/unit_plan.%ld.json", (long)getpid());
    assert_int_equal(mb_publish_bytes(path, text, strlen(text), 0), MB_OK);
    mb_log_set_quiet(true);
    assert_int_equal(mb_placement_load(path, 2, 3, 2, &p), want);
    mb_log_set_quiet(false);
    if (want == MB_OK) {
        int32_t own[3];
        assert_int_equal(mb_placement_owned(p, 1, 1, own), 2);
        assert_int_equal(own[0], 0);
        assert_int_equal(own[1], 2);
    }
    mb_placement_destroy(p);
    unlink(path);
}

static void test_placement_file(void **state)
{
    (void)state;
    placement_file("{\"owner\": [[0, 0, 1], [1, 0, 1]]}", MB_OK);
    placement_file("{\"owner\": [[0, 0, 1]]}", MB_INPUT);
    placement_file("{\"owner\": [[0, 0, 1], [1, 0]]}", MB_INPUT);
    placement_file("{\"owner\": [[0, 0, 1], [1, 0, 2]]}", MB_INPUT);
    placement_file("{\"owner\": [[0, 0, 1], [1, 0, -1]]}", MB_INPUT);
    placement_file("{\"owner\": [[0, 0, 1], [1, 0, 0.5]]}", MB_INPUT);
    placement_file("{\"owner\": [[0, 0, 1], [1, 0, 4294967296]]}", MB_INPUT);
    placement_file("{\"owners\": []}", MB_INPUT);
    placement_file("[]", MB_INPUT);
    placement_file("{", MB_INPUT);
}

static void test_json(void **state)
{
    (void)state;
    struct mb_model m = small_model(8);
    struct mb_topo *t = ranks(3);
    struct mb_plan_options o = defaults;
    o.placement = "scattered";
    struct mb_plan *p = plan_of(&m, t, &o);
    char *text = mb_plan_json(p);
    json_t *doc = NULL;

    assert_non_null(text);
    assert_int_equal(mb_json_parse(text, strlen(text), "plan", MB_INPUT, NULL, 0, &doc), MB_OK);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "sizes"), "ep")), 3);
    const json_t *owner = json_array_get(json_object_get(doc, "owner"), 2);
    assert_int_equal(json_array_size(owner), 8);
    for (int e = 0; e < 8; e++)
        assert_int_equal(json_integer_value(json_array_get(owner, (size_t)e)), e % 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "budget"), "total")),
                     p->budget.total);
    json_decref(doc);
    free(text);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
}

/* Two nodes of two ranks, 8 experts, owners 0 0 1 1 2 2 3 3: what the rows of rank 0 cause, counted by hand.
 */
static void test_traffic(void **state)
{
    (void)state;
    static const int32_t rpn[2] = {2, 2};
    /* row 0 stays at home; row 1 needs rank 1 and both ranks of node 1; row 2 needs 6 and 7 of rank 3, a tree
     * node */
    static const int32_t experts[3 * 4] = {1, 0, 1, 0, 2, 7, 4, 0, 6, 7, 2, 3};
    const struct mb_exchange_shape x = {
        .k = 4, .hidden = 10, .x_type = MB_BF16, .y_type = MB_BF16, .eager_bytes = 100};
    struct mb_model m = small_model(8);
    struct mb_plan_options o = defaults;
    struct mb_topo *t = cluster(2, rpn, 0);
    struct mb_traffic d, c;
    const int64_t row = 8 + 16 + 20, lone = 20, inner = 40;

    o.alltoall = MB_A2A_FLAT;
    struct mb_plan *p = plan_of(&m, t, &o);
    assert_true(mb_plan_dispatch_row_bytes(4, 10, MB_BF16, false, false) == row);
    assert_true(mb_plan_dispatch_row_bytes(4, 10, MB_BF16, true, false) == row + 4); /* 5 x 2 bytes, padded */
    assert_true(mb_plan_dispatch_row_bytes(3, 10, MB_BF16, true, false) == row - 4); /* in the padding */
    assert_int_equal(mb_plan_traffic(p, 0, 0, &x, experts, 3, &d, &c), MB_OK);
    /* rank 1 gets rows 1 and 2; rank 2 row 1; rank 3 rows 1 and 2 */
    assert_true(d.messages[MB_LINK_INTRA] == 1 && d.messages[MB_LINK_INTER] == 2);
    assert_true(d.bytes[MB_LINK_INTRA] == 64 + 2 * row && d.bytes[MB_LINK_INTER] == 2 * 64 + 3 * row);
    /* row 1: 2 from rank 1, 4 from rank 2, 7 from rank 3, alone each; row 2: (2,3) and (6,7) as inner nodes
     */
    assert_true(c.bytes[MB_LINK_INTRA] == 64 + lone + inner &&
                c.bytes[MB_LINK_INTER] == 2 * 64 + 2 * lone + inner);
    assert_true(c.messages[MB_LINK_INTRA] == 1 && c.messages[MB_LINK_INTER] == 2);
    struct mb_exchange_shape rings = x;
    struct mb_traffic dr, cr;
    rings.shm = true;
    assert_int_equal(mb_plan_traffic(p, 0, 0, &rings, experts, 3, &dr, &cr), MB_OK);
    assert_true(dr.bytes[MB_LINK_SHM] == d.bytes[MB_LINK_INTRA] && dr.bytes[MB_LINK_INTRA] == 0 &&
                cr.messages[MB_LINK_SHM] == 1 && dr.bytes[MB_LINK_INTER] == d.bytes[MB_LINK_INTER]);
    mb_plan_destroy(p);

    o.alltoall = MB_A2A_HIER;
    p = plan_of(&m, t, &o);
    assert_int_equal(mb_plan_traffic(p, 0, 0, &x, experts, 3, &d, &c), MB_OK);
    /* node 1 gets rows 1 and 2, once each; of row 1 it holds 4 and 7, which is the whole right half of {0, 2
     * | 4, 7} */
    assert_true(d.messages[MB_LINK_INTRA] == 0 && d.messages[MB_LINK_INTER] == 1);
    assert_true(d.bytes[MB_LINK_INTER] == 64 + 2 * row);
    assert_true(c.bytes[MB_LINK_INTER] == 64 + 2 * inner);
    const struct mb_exchange_shape small = {4,          10,    MB_BF16, MB_BF16,
                                            2 * 44 - 1, false, false}; /* the rows need a second message */
    assert_int_equal(mb_plan_traffic(p, 0, 0, &small, experts, 3, &d, &c), MB_OK);
    assert_true(d.messages[MB_LINK_INTER] == 2 && d.bytes[MB_LINK_INTER] == 64 + 2 * row);
    assert_true(c.messages[MB_LINK_INTER] == 1);
    static const int32_t none[4] = {0, 1, 2, 8};
    mb_log_set_quiet(true);
    assert_int_equal(mb_plan_traffic(p, 0, 0, &small, none, 1, &d, &c), MB_BUG);
    mb_log_set_quiet(false);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
}

static void test_large(void **state)
{
    (void)state;
    enum { NODES = 512 };
    int32_t rpn[NODES];
    struct mb_model m = small_model(256);

    for (int i = 0; i < NODES; i++)
        rpn[i] = 8;
    struct mb_topo *t = cluster(NODES, rpn, (int64_t)1 << 36);
    double start = mb_now();
    struct mb_plan *p = plan_of(&m, t, &defaults);
    double took = mb_now() - start;
    print_message("4096 ranks planned in %.1f ms\n", 1e3 * took);
    assert_true(took < 1.0); /* a bound for loaded machines; the plan itself takes milliseconds */
    assert_int_equal(p->layout.world, 4096);
    assert_int_equal(p->alltoall, MB_A2A_HIER);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform_shares),
        cmocka_unit_test(test_uneven),
        cmocka_unit_test(test_layout_refusals),
        cmocka_unit_test(test_alltoall_auto),
        cmocka_unit_test(test_kv_pages),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_budget_types),
        cmocka_unit_test(test_mtp),
        cmocka_unit_test(test_traffic),
        cmocka_unit_test(test_hostile_shapes),
        cmocka_unit_test(test_placement_file),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
