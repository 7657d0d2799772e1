/* The planner: cluster lines, cost formulas against numbers worked out by hand and against the exchange's
 * formulas on drawn routing, memory against the plan that is made for a job, the pruned walk against all
 * layouts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/log.h"
#include "plan/auto.h"
#include "plan/budget.h"
#include "plan/enumerate.h"

static struct mb_model *model(const char *name)
{
    char path[512];
    const char *top = getenv("top_srcdir");
    struct mb_model *m = NULL;

    snprintf(path, sizeof path, "%s/inputs/configs/%s/config.json", top != NULL ? top : ".", name);
    assert_int_equal(mb_model_open(path, 0, &m), MB_OK);
    return m;
}

static void quiet(bool on)
{
    mb_log_set_quiet(on);
}

static void near(double got, double want, double part)
{
    if (!(fabs(got - want) <= part * fabs(want)))
        fail_msg("%.9g is not %.9g", got, want);
}

/* ---------------------------------------------------------------- clusters */

static void test_lines(void **state)
{
    static const char *const wrong[] = {"",
                                        "8",
                                        "nodes",
                                        "0 nodes x 8 H100-80GB 400Gb",
                                        "4 nodes 8 H100-80GB 400Gb",
                                        "x",
                                        "8 H1000",
                                        "4 nodes x 8 H100-80GB",
                                        "4 nodes x 8 H100-80GB nvlink 8x400",
                                        "8 L40S-48GB nvlink",
                                        "8 H100-80GB xgmi",
                                        "65 H100-80GB",
                                        "65537 nodes x 1 H100-80GB 400Gb",
                                        "60000 nodes x 8 H100-80GB 400Gb",
                                        "8 H100-80GB nvlink nvlink",
                                        "8 H100-80GB nvlink pcie",
                                        "8 H100-80GB 0x400Gb",
                                        "99999999999999999999 nodes x 8 H100-80GB 400Gb",
                                        "8 H100-80GB 8x400Gb 8x400Gb",
                                        "-1 H100-80GB",
                                        "8 A100",
                                        "x.xml nvlink",
                                        "2 EPYC-9654",
                                        "2 EPYC-9654 768GB nvlink",
                                        "2 EPYC-9654 768GB 768GB",
                                        "2 nodes x 2 EPYC-9654 768GB",
                                        "8 H100-80GB 768",
                                        "4 V100",
                                        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17"};
    struct mb_cluster c;

    (void)state;
    quiet(true);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (mb_cluster_parse(wrong[i], &c) != MB_USAGE)
            fail_msg("'%s' was taken", wrong[i]);
    quiet(false);
    assert_int_equal(mb_cluster_parse("4 nodes x 8 H100-80GB nvlink 8x400Gb", &c), MB_OK);
    assert_int_equal(c.nodes, 4);
    assert_int_equal(c.per_node, 8);
    assert_true(c.kind.memory == 80e9 && c.link == 450e9 && c.net == 400e9 && !c.cpu);
    assert_int_equal(mb_cluster_parse("  8   h800 pcie ", &c), MB_OK);
    assert_string_equal(c.kind.name, "H800-80GB");
    assert_true(c.nodes == 1 && c.link == 64e9 && c.net == 0);
    assert_int_equal(mb_cluster_parse("16 nodes x node.xml 100Gb", &c), MB_OK);
    assert_true(c.nodes == 16 && c.net == 12.5e9);
    assert_string_equal(c.files, "node.xml");
    assert_int_equal(mb_cluster_parse("2 nodes x 2 epyc-9654 768GB 4x200Gb", &c), MB_OK);
    assert_true(c.cpu && !c.guess && c.kind.memory == 384.0 * (1 << 30) && c.net == 100e9);
    near(c.kind.flops, 96 * 2.4e9 * 32, 1e-12);
}

/* As drivers and the list of PCI devices name them. */
static void test_kinds(void **state)
{
    static const struct {
        const char *model;
        int64_t memory;
        const char *kind; /* NULL: none */
    } row[] = {{"NVIDIA A100-SXM4-80GB", 0, "A100-80GB"},
               {"NVIDIA A100-SXM4-40GB", 0, "A100-40GB"},
               {"GA100 [A100 PCIe 40GB]", 0, "A100-40GB"},
               {"NVIDIA A100", (int64_t)79e9, "A100-80GB"},
               {"NVIDIA H100 80GB HBM3", 0, "H100-80GB"},
               {"GH100 [H100 SXM5 80GB]", 0, "H100-80GB"},
               {"NVIDIA H200", 0, "H200-141GB"},
               {"NVIDIA H20", 0, "H20-96GB"},
               {"NVIDIA GH200 480GB", 0, "GH200-96GB"},
               {"Tesla V100-SXM3-32GB-H", 0, "V100-32GB"},
               {"Tesla V100-SXM2-16GB", 0, "V100-16GB"},
               {"AMD Instinct MI300X", 0, "MI300X-192GB"},
               {"NVIDIA L40S", 0, "L40S-48GB"},
               {"NVIDIA L4", 0, "L4-24GB"},
               {"NVIDIA L40", 0, NULL},
               {"NVIDIA A1000", 0, NULL},
               {"NVIDIA GeForce RTX 3070", 0, NULL},
               {"", 0, NULL}};

    (void)state;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const struct mb_device_kind *k = mb_device_kind_of(row[i].model, row[i].memory);
        if (k == NULL ? row[i].kind != NULL : row[i].kind == NULL || strcmp(k->name, row[i].kind) != 0)
            fail_msg("'%s' is taken for %s", row[i].model, k != NULL ? k->name : "none");
    }
}

/* ---------------------------------------------------------------- cost */

static void test_peers(void **state)
{
    struct mb_router r = {.experts = 8, .k = 2};
    double lone;

    (void)state;
    near(mb_cost_peers(&r, 4, &lone), 13.0 / 7, 1e-12); /* 4 (1 - C(6,2) / C(8,2)) */
    near(lone, 12.0 / 7, 1e-12);                        /* 4 * 2 * 6 / 28 */
    near(mb_cost_peers(&r, 8, &lone), 2, 1e-12);
    near(lone, 2, 1e-12);
    near(mb_cost_peers(&r, 1, &lone), 1, 1e-12);
    assert_true(lone == 0);
    /* 256 experts in 8 groups, a row in 4 of them: on 32 nodes 16 with 8 of the 128 experts each can be hit
     */
    struct mb_router g = {.experts = 256, .k = 8, .groups = 8, .topk_groups = 4};
    double none = exp(lgamma(121) - lgamma(113) - lgamma(129) + lgamma(121));
    near(mb_cost_peers(&g, 32, &lone), 16 * (1 - none), 1e-9);
    assert_true(mb_cost_peers(&g, 4, &lone) <= 4 && mb_cost_peers(&g, 8, &lone) <= 4);
}

/* One token on one H100: everything waits for memory. */
static void test_token(void **state)
{
    struct mb_model *m = model("mixtral-8x7b");
    struct mb_cluster c;
    struct mb_layout l = {
        .world = 1, .dp = 1, .pp = 1, .tp = 1, .sp = 1, .adp = 1, .ep = 1, .etp = 1, .edp = 1};
    int32_t first[2] = {0, 32};
    double part[MB_COST_PARTS];

    (void)state;
    assert_int_equal(mb_cluster_parse("1 H100-80GB", &c), MB_OK);
    struct mb_cost_in in = {
        .m = m, .c = &c, .l = &l, .first_layer = first, .path = MB_BF16, .kv = MB_BF16, .rows = 1, .seqs = 1};
    struct mb_cost_step s = {.rows = 1, .context = 100, .sequences = 1, .sampled = 1};
    double sum = mb_cost_stage(&in, &s, part);
    /* q, k, v, o: 4096 (4096 + 2048) + 4096 * 4096; 100 positions of 2 * 8 * 128; the router in f32; 2 of 8
     * experts */
    double layer = 2.0 * 41943040 + 2.0 * 100 * 2048 + 4.0 * 4096 * 8 + 2.0 * 2 * 3 * 4096 * 14336,
           bytes = 32 * layer + 2.0 * 4096 * 32000;
    near(part[MB_COST_MEMORY], bytes / (3.35e12 * 0.8), 1e-9);
    near(part[MB_COST_LATENCY], 32 * 12 * 4e-6, 1e-9);
    assert_true(part[MB_COST_COMPUTE] == 0 && part[MB_COST_LINK] == 0 && part[MB_COST_NETWORK] == 0);
    near(sum, part[MB_COST_MEMORY] + part[MB_COST_LATENCY], 1e-9);
    mb_model_destroy(m);
}

/* Many rows in two tensor ranks: arithmetic, and three sums over the link a dense layer would have. */
static void test_prompt(void **state)
{
    struct mb_model *m = model("llama-3.1-8b");
    struct mb_cluster c;
    struct mb_layout l = {
        .world = 2, .dp = 1, .pp = 1, .tp = 2, .sp = 1, .adp = 1, .ep = 2, .etp = 1, .edp = 1};
    int32_t first[2] = {0, 32};
    double part[MB_COST_PARTS], rows = 8192;

    (void)state;
    assert_int_equal(mb_cluster_parse("2 H100-80GB", &c), MB_OK);
    struct mb_cost_in in = {.m = m,
                            .c = &c,
                            .l = &l,
                            .first_layer = first,
                            .path = MB_BF16,
                            .kv = MB_BF16,
                            .rows = rows,
                            .seqs = 1};
    struct mb_cost_step s = {.rows = rows, .context = 4096, .sequences = 1, .sampled = 1};
    mb_cost_stage(&in, &s, part);
    double flops = 32 * (2 * rows * (41943040 + 3.0 * 4096 * 14336) / 2 + 2.0 * 32 * 256 * rows * 4096 / 2);
    near(part[MB_COST_COMPUTE], flops / (989e12 * 0.6), 1e-9);
    near(part[MB_COST_LINK], 32 * 2 * rows * 4096 * (4 + 2) / 2 / (450e9 * 0.8), 1e-9);
    near(part[MB_COST_MEMORY], 4096.0 * 128256 / (3.35e12 * 0.8),
         1e-9); /* one row of logits: half the head, in bf16 */
    mb_model_destroy(m);
}

/* The expected bytes of a row against the exchange's formulas over drawn routing. */
static void test_traffic(void **state)
{
    enum { ROWS = 6000, K = 2, H = 4096 };
    struct mb_model *m = model("mixtral-8x7b");
    struct mb_topo *t = NULL;
    struct mb_plan *p = NULL;
    int32_t each[4] = {2, 2, 2, 2}, *chosen = malloc(ROWS * K * sizeof *chosen);
    struct mb_plan_options o = {.max_num_seqs = 1,
                                .path = MB_BF16,
                                .kv_dtype = MB_BF16,
                                .alltoall = MB_A2A_HIER,
                                .memory_fraction = 1,
                                .kv_pages = 8,
                                .max_model_len = 64};
    struct mb_exchange_shape shape = {
        .k = K, .hidden = H, .x_type = MB_BF16, .y_type = MB_BF16, .eager_bytes = 1 << 16};
    struct mb_traffic d, c;
    uint64_t x = 88172645463325252u;

    (void)state;
    assert_non_null(chosen);
    assert_int_equal(mb_topo_synthetic(4, each, &t), MB_OK);
    assert_int_equal(mb_plan_create(m, t, &o, &p), MB_OK);
    for (int i = 0; i < ROWS * K; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        chosen[i] = (int32_t)(x >> 33) % 8;
        while (i % K > 0 && chosen[i] == chosen[i - 1])
            chosen[i] = (chosen[i] + 1 + (int32_t)((x >> 20) % 7)) % 8;
    }
    assert_int_equal(mb_plan_traffic(p, 0, 3, &shape, chosen, ROWS, &d, &c), MB_OK);
    double bytes = (double)(d.bytes[MB_LINK_INTER] + c.bytes[MB_LINK_INTER] - 6 * MB_XCHG_HEADER);
    near(mb_cost_row_bytes(m, MB_BF16, 4), bytes / ROWS, 0.03);
    free(chosen);
    mb_plan_destroy(p);
    mb_topo_destroy(t);
    mb_model_destroy(m);
}

/* ---------------------------------------------------------------- the walk */

struct list {
    struct mb_layout *l;
    int64_t n, cap;
};

static void add(void *arg, const struct mb_layout *l)
{
    struct list *a = arg;

    if (a->n == a->cap) {
        a->cap = 2 * a->cap + 64;
        a->l = realloc(a->l, (size_t)a->cap * sizeof *a->l);
        assert_non_null(a->l);
    }
    a->l[a->n++] = *l;
}

static int by_sizes(const void *a, const void *b)
{
    return mb_layout_compare(a, b);
}

static int64_t compare_walks(const struct mb_auto_in *in, int32_t world)
{
    struct list pruned = {0}, all = {0};
    struct mb_layout_walk w = {.world = world, .lane = true, .split = true};
    struct mb_layout l;

    mb_auto_layouts(in, add, &pruned);
    while (mb_layout_next(&w, &l))
        if (mb_auto_admits(in, &l))
            add(&all, &l);
    assert_int_equal(pruned.n, all.n);
    int64_t n = all.n;
    if (n > 0) {
        qsort(pruned.l, (size_t)n, sizeof l, by_sizes);
        qsort(all.l, (size_t)n, sizeof l, by_sizes);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(by_sizes(&pruned.l[i], &all.l[i]), 0);
    }
    free(pruned.l);
    free(all.l);
    return n;
}

static void test_walk(void **state)
{
    static const char *const names[] = {"mixtral-8x7b", "deepseek-v3", "llama-3.1-8b"};
    static const struct mb_layout_options given[] = {{0},
                                                     {.tp = 2},
                                                     {.ep = 4},
                                                     {.pp = 2, .lane_scope = true},
                                                     {.attn = 2, .expert = 4},
                                                     {.experts_per_gpu = 2},
                                                     {.sp = 2, .etp = 2}};
    int64_t n = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct mb_model *m = model(names[i]);
        for (int32_t nodes = 1; nodes <= 4; nodes++)
            for (int32_t per = 1; per <= 6; per++)
                for (size_t g = 0; g < sizeof given / sizeof given[0]; g++) {
                    struct mb_cluster c = {.nodes = nodes, .per_node = per};
                    struct mb_plan_options o = {.layout = given[g], .max_num_seqs = 4};
                    struct mb_auto_in in = {.m = m, .o = &o, .c = &c, .context = g % 2 ? 1000 : 20000};
                    n += compare_walks(&in, nodes * per);
                }
        mb_model_destroy(m);
    }
    assert_true(n > 3000);
}

/* ---------------------------------------------------------------- memory */

struct setting {
    struct mb_model *m;
    struct mb_cluster c;
    struct mb_plan_options o;
    struct mb_auto_in in;
};

static void set_up(struct setting *s, const char *name, const char *line)
{
    memset(s, 0, sizeof *s);
    s->m = model(name);
    mb_model_keep(s->m, MB_KEEP_WIDE); /* the figures are those of bf16 */
    assert_int_equal(mb_cluster_parse(line, &s->c), MB_OK);
    s->o = (struct mb_plan_options){.max_num_seqs = 256,
                                    .max_batch_rows = 2304,
                                    .path = MB_BF16,
                                    .kv_dtype = MB_BF16,
                                    .memory_fraction = 0.9,
                                    .shm_bytes = 64 << 20,
                                    .eager_bytes = 64 << 10};
    s->in = (struct mb_auto_in){.m = s->m,
                                .o = &s->o,
                                .c = &s->c,
                                .memory = (int64_t)(0.9 * s->c.kind.memory),
                                .w = {100000, 1024, 256},
                                .context = 1280};
}

static int64_t check_memory(const char *name, const char *line)
{
    struct setting s;
    struct mb_auto *a = NULL;
    struct mb_topo *t = NULL;
    int64_t n = 0;

    set_up(&s, name, line);
    assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
    assert_int_equal(mb_cluster_topo(&s.c, &t), MB_OK);
    for (int64_t i = 0; i < a->n; i += 1 + a->n / 40, n++) {
        const struct mb_candidate *f = &a->fit[i];
        struct mb_plan_options o = s.o;
        struct mb_plan *p = NULL;
        o.layout = mb_layout_options_of(&f->l);
        assert_int_equal(mb_plan_create(s.m, t, &o, &p), MB_OK);
        int64_t fixed = 0, most = 0;
        for (int32_t k = 0; k < 2 * f->l.pp; k++) {
            const struct mb_budget *b = &p->kind[k];
            fixed = b->weights + b->experts + b->activations + b->exchange + b->staging;
            most = fixed > most ? fixed : most;
        }
        near((double)(f->weights + f->experts + f->rest), (double)most, 0.01);
        assert_true(f->room <= 0 || p->kv_pages >= f->room || p->kv_pages >= 256);
        mb_plan_destroy(p);
    }
    mb_topo_destroy(t);
    mb_auto_destroy(a);
    mb_model_destroy(s.m);
    return n;
}

static void test_memory(void **state)
{
    (void)state;
    int64_t n = check_memory("mixtral-8x7b", "2 nodes x 4 H100-80GB 8x400Gb") +
                check_memory("dbrx", "2 nodes x 8 H100-80GB 8x400Gb") +
                check_memory("deepseek-v3", "4 nodes x 8 H800-80GB 8x400Gb") +
                check_memory("qwen1.5-moe-a2.7b", "1 nodes x 6 A100-40GB") +
                check_memory("llama-3.1-8b", "8 A100-40GB");
    assert_true(n > 100);
}

/* What is refused for memory alone is refused by the plan, too. */
static void test_too_much(void **state)
{
    struct setting s;
    struct mb_auto *a = NULL;
    struct mb_topo *t = NULL;

    (void)state;
    set_up(&s, "grok-1", "8 H100-80GB");
    assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
    assert_int_equal(mb_cluster_topo(&s.c, &t), MB_OK);
    assert_int_equal(a->n, 0);
    int levels = 0;
    for (int i = 0; i < MB_AUTO_LEVELS; i++) {
        if (a->least[i].need == 0)
            continue;
        levels++;
        assert_true(a->least[i].need > s.in.memory);
        assert_false(mb_plan_works(s.m, t, &s.o, &a->least[i].l));
    }
    assert_true(levels >= 4);
    mb_topo_destroy(t);
    mb_auto_destroy(a);
    mb_model_destroy(s.m);
}

/* ---------------------------------------------------------------- choices */

/* A layout that a person would name, and what it keeps, worked out by hand from the shapes. */
struct choice {
    const char *model, *line;
    struct mb_layout_options named;
    bool fits;
    double experts, shared; /* GB; 0: not looked at */
};

static void check_memory_of(const struct choice *r, const struct mb_auto_in *in, const struct mb_auto *a)
{
    struct mb_layout l;
    struct mb_candidate c;
    char why[MB_LAYOUT_TEXT];

    assert_int_equal(mb_layout_try(&r->named, in->c->nodes * in->c->per_node, &l, why), MB_OK);
    assert_int_equal(mb_auto_rate(in, &l, &c, why), MB_OK);
    assert_int_equal(c.seqs > 0, r->fits);
    if (r->experts > 0)
        near((double)c.experts / 1e9, r->experts, 0.005);
    if (r->shared > 0)
        near((double)c.weights / 1e9, r->shared, 0.005);
    assert_true(!r->fits || a->fit[0].cost.seconds <= c.cost.seconds);
}

/* Weights that are kept as stored take their own bytes, in memory and on the way to the cores. */
static void test_stored(void **state)
{
    struct setting s;
    struct mb_layout l;
    struct mb_candidate wide, stored;
    char why[MB_LAYOUT_TEXT];

    (void)state;
    set_up(&s, "deepseek-v3", "4 nodes x 8 H100-80GB nvlink 8x400Gb");
    assert_int_equal(mb_layout_try(&(struct mb_layout_options){.tp = 2, .ep = 32}, 32, &l, why), MB_OK);
    assert_int_equal(mb_auto_rate(&s.in, &l, &wide, why), MB_OK);
    mb_model_keep(s.m, MB_KEEP_STORED);
    assert_int_equal(mb_auto_rate(&s.in, &l, &stored, why), MB_OK);
    near((double)stored.experts / (double)wide.experts, 0.5 + 4 / 256.0, 0.001); /* a byte, and f32 for 128 of them */
    assert_true(stored.weights < wide.weights && stored.cost.seconds < wide.cost.seconds);
    mb_model_destroy(s.m);
}

/* Nothing that is known to fit is rated faster than what is chosen. */
static void test_choices(void **state)
{
    static const struct choice rows[] = {
        {"mixtral-8x22b", "4 nodes x 8 H100-80GB nvlink 8x400Gb", {.dp = 4, .ep = 8}, true, 33.82, 10.67},
        {"mixtral-8x7b", "2 nodes x 4 A100-40GB nvlink 4x200Gb", {.ep = 8}, true, 11.27, 3.2},
        {"deepseek-v3", "4 nodes x 8 H100-80GB nvlink 8x400Gb", {.tp = 2, .ep = 32}, true, 40.87, 18.4},
        {"deepseek-v3", "4 nodes x 8 H100-80GB nvlink 8x400Gb", {.ep = 32}, false, 40.87, 34.45},
        {"deepseek-v3", "32 nodes x 8 H800-80GB nvlink 8x400Gb", {.dp = 4, .ep = 64}, true, 0, 34.45},
        {"deepseek-v3", "512 nodes x 8 H800-80GB nvlink 8x400Gb", {.dp = 64, .ep = 64}, true, 0, 34.45},
        {"qwen3-235b-a22b", "2 nodes x 8 H100-80GB nvlink 8x400Gb", {.ep = 16}, true, 28.39, 16.09},
        {"grok-1", "2 nodes x 8 H100-80GB nvlink 8x400Gb", {.ep = 8, .etp = 2}, true, 38.65, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct choice *r = &rows[i];
        struct setting s;
        struct mb_auto *a = NULL;
        char reason[MB_AUTO_TEXT];
        set_up(&s, r->model, r->line);
        assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
        assert_true(a->n > 0);
        check_memory_of(r, &s.in, a);
        for (int64_t j = 1; j < a->n; j++)
            assert_true(a->fit[j].cost.seconds >= a->fit[j - 1].cost.seconds);
        mb_auto_reason(a, &s.in, 0, reason);
        assert_true(strlen(reason) > 40);
        mb_auto_destroy(a);
        mb_model_destroy(s.m);
    }
}

/* Loading and assembly by hand: one rank, two nodes. */
static void test_ends(void **state)
{
    struct mb_model *m = model("mixtral-8x7b");
    struct mb_cluster c;
    struct mb_layout l = {
        .world = 2, .dp = 2, .pp = 1, .tp = 1, .sp = 1, .adp = 1, .ep = 1, .etp = 1, .edp = 1};
    int32_t first[2] = {0, 32};
    struct mb_cost cost;
    double model_bytes = 2.0 * (double)m->params_total;

    (void)state;
    assert_int_equal(mb_cluster_parse("2 nodes x 1 H200 100Gb", &c), MB_OK);
    struct mb_cost_in in = {.m = m,
                            .c = &c,
                            .l = &l,
                            .first_layer = first,
                            .path = MB_BF16,
                            .kv = MB_BF16,
                            .w = {1290000, 5, 4},
                            .rows = 1,
                            .seqs = 1,
                            .bytes = model_bytes};
    mb_cost_estimate(&in, &cost);
    near(cost.load, model_bytes / 2 / 2e9 + model_bytes / 2 / (12.5e9 * 0.8), 1e-9);
    near(cost.assembly, 1290000 * 2e-6 + 1290000 * 9 * 0.45e-6, 1e-9);
    mb_model_destroy(m);
}

/* Sizes that were given stay; sequences are split only for long contexts; of equally fast layouts
 * that which splits less comes first. */
static void test_rules(void **state)
{
    struct setting s;
    struct mb_auto *a = NULL;
    int64_t split = 0;

    (void)state;
    set_up(&s, "mixtral-8x22b", "4 nodes x 8 H100-80GB nvlink 8x400Gb");
    assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
    for (int64_t i = 0; i < a->n; i++) {
        assert_int_equal(a->fit[i].l.sp, 1);
        assert_true(a->fit[i].l.tp <= 8 && a->fit[i].l.etp <= 8 && a->fit[i].l.ep <= 8);
        if (i > 0 && a->fit[i].cost.seconds == a->fit[i - 1].cost.seconds)
            assert_true(a->fit[i].level >= a->fit[i - 1].level);
    }
    mb_auto_destroy(a);
    s.in.context = 32768;
    s.o.layout.tp = 2;
    assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
    for (int64_t i = 0; i < a->n; i++) {
        assert_int_equal(a->fit[i].l.tp, 2);
        split += a->fit[i].l.sp > 1;
    }
    assert_true(split > 0);
    mb_auto_destroy(a);
    mb_model_destroy(s.m);
}

/* Twice the nodes are never slower; the number of nodes for a time is the smallest. */
static void test_nodes(void **state)
{
    struct setting s;
    double before = 1e300;
    int32_t nodes = 0;

    (void)state;
    set_up(&s, "mixtral-8x22b", "1 nodes x 8 H100-80GB nvlink 8x400Gb");
    s.in.w.requests = 10000000;
    for (s.c.nodes = 1; s.c.nodes <= 64; s.c.nodes *= 2) {
        struct mb_auto *a = NULL;
        assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
        assert_true(a->n > 0 && a->fit[0].cost.seconds < before);
        before = a->fit[0].cost.seconds;
        mb_auto_destroy(a);
    }
    s.c.nodes = 1;
    assert_int_equal(mb_auto_nodes(&s.in, 12 * 3600, NULL, NULL, &nodes), MB_OK);
    assert_true(nodes > 2);
    for (s.c.nodes = 1; s.c.nodes <= nodes; s.c.nodes++) {
        struct mb_auto *a = NULL;
        assert_int_equal(mb_auto_create(&s.in, &a), MB_OK);
        assert_true((a->n > 0 && a->fit[0].cost.seconds <= 12 * 3600) == (s.c.nodes == nodes));
        mb_auto_destroy(a);
    }
    s.c.nodes = 1;
    assert_int_equal(mb_auto_nodes(&s.in, 1e-3, NULL, NULL, &nodes), MB_OK);
    assert_int_equal(nodes, 0);
    mb_model_destroy(s.m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),   cmocka_unit_test(test_kinds),  cmocka_unit_test(test_peers),
        cmocka_unit_test(test_token),   cmocka_unit_test(test_prompt), cmocka_unit_test(test_traffic),
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_walk),    cmocka_unit_test(test_memory), cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_choices), cmocka_unit_test(test_ends),   cmocka_unit_test(test_rules),
        cmocka_unit_test(test_nodes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
