/* The texts of rank 0 under a clock of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/report.h"

struct sink {
    char text[8192];
    size_t n;
};

static void catch (void *arg, const char *text, size_t n)
{
    struct sink *s = arg;
    assert_true(s->n + n < sizeof s->text);
    memcpy(s->text + s->n, text, n);
    s->n += n;
    s->text[s->n] = '\0';
}

static void start(struct mb_report *r, struct sink *s, bool terminal, double now, int64_t before)
{
    mb_report_init(r, now, before);
    *s = (struct sink){.n = 0};
    r->put = catch;
    r->arg = s;
    r->terminal = terminal;
    r->columns = 80;
}

static void test_texts(void **state)
{
    (void)state;
    char b[MB_TEXT_CAP];

    assert_string_equal(mb_text_bytes(0, b), "0 B");
    assert_string_equal(mb_text_bytes(1023, b), "1023 B");
    assert_string_equal(mb_text_bytes(1024, b), "1.00 KiB");
    assert_string_equal(mb_text_bytes((1 << 20) - 1, b), "1.00 MiB"); /* never 1024.00 KiB */
    assert_string_equal(mb_text_bytes(3ll << 29, b), "1.50 GiB");
    assert_string_equal(mb_text_bytes(INT64_MAX, b), "8.00 EiB");
    assert_string_equal(mb_text_duration(0, b), "0.0 s");
    assert_string_equal(mb_text_duration(59.9, b), "59.9 s");
    assert_string_equal(mb_text_duration(59.96, b), "0:01:00");
    assert_string_equal(mb_text_duration(3723, b), "1:02:03");
    assert_string_equal(mb_text_duration(90061, b), "1 d 01:01:01");
    assert_string_equal(mb_text_duration(-1, b), "-");
    assert_string_equal(mb_text_duration(0.0 / 0.0, b), "-");
    assert_string_equal(mb_text_rate(0, b), "0.0");
    assert_string_equal(mb_text_rate(9.96, b), "10.0");
    assert_string_equal(mb_text_rate(999.4, b), "999");
    assert_string_equal(mb_text_rate(999.6, b), "1.00k");
    assert_string_equal(mb_text_rate(1.5e7, b), "15.00M");
}

static void test_lines(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;
    struct mb_progress p = {.done = 0, .total = 200, .running = 8};

    start(&r, &s, false, 1000, 0);
    assert_false(mb_report_progress(&r, 1059.9, &p));
    p.done = 50;
    p.tokens = 6000;
    p.tokens_done = 5000;
    p.errors = 2;
    p.imbalance = 1.25;
    p.worst_rank = 3;
    assert_true(mb_report_progress(&r, 1060, &p));
    /* 50 requests had 100 tokens each: 20,000 in all, 14,000 to go at 100/s */
    assert_string_equal(
        s.text, "0:01:00  50/200 (25.0 %) requests, 2 errors, 8 under way, 100 tokens/s, ETA 0:02:20, "
                "imbalance 1.25 (rank 3)\n");
    s.n = 0;
    assert_false(mb_report_progress(&r, 1119, &p)); /* a line a minute */
    assert_int_equal(s.n, 0);
    assert_true(mb_report_progress(&r, 1120, &p));
    assert_true(r.rate < 10); /* nothing was computed in the last minute */
    s.n = 0;
    assert_false(mb_report_assembly(&r, 1179, "numbers of the results", 0.5)); /* the same clock */
    assert_true(mb_report_assembly(&r, 1180, "numbers of the results", 0.5));
    assert_string_equal(s.text, "0:03:00  assembling: numbers of the results 50 %\n");
}

static void test_eta(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;
    struct mb_progress p = {.done = 100, .total = 200};

    start(&r, &s, false, 10, 100);
    assert_true(mb_report_eta(&r, 20, &p) < 0); /* nothing done in this run */
    p.done = 150;
    assert_true(mb_report_eta(&r, 20, &p) == 10); /* requests alone: 5/s, 50 left */
    p.tokens = 1000;
    p.tokens_done = 1000;
    assert_true(mb_report_eta(&r, 20, &p) == 10);
    p.tokens = 3000; /* more is under way than the rest needs */
    assert_true(mb_report_eta(&r, 20, &p) == 0);
    p.done = 200;
    assert_true(mb_report_eta(&r, 20, &p) == 0);
    p.total = -1;
    assert_true(mb_report_eta(&r, 20, &p) < 0);
    p = (struct mb_progress){.total = 0};
    assert_true(mb_report_eta(&r, 10, &p) == 0);
}

static void test_terminal(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;
    struct mb_progress p = {.done = 1, .total = 4, .tokens = 10, .tokens_done = 10};
    struct mb_report_end e = {.output = "R.h5", .ranks = 1};

    start(&r, &s, true, 0.0, 0);
    r.columns = 20;
    assert_false(mb_report_progress(&r, 0.4, &p));
    assert_true(mb_report_progress(&r, 0.6, &p));
    assert_string_equal(s.text, "\r\033[K1/4 (25.0 %) reques\r"); /* cut before the last column */
    s.n = 0;
    mb_report_result(&r, 1, &e);
    assert_memory_equal(s.text, "\r\033[K", 4); /* the line makes room for the block */
    assert_non_null(strstr(s.text, "\nresults   : R.h5\n"));
}

static void test_header(void **state)
{
    (void)state;
    static const int32_t rpn[2] = {2, 1};
    static uint8_t is_moe[2] = {1, 1};
    struct mb_model m = {.arch = "Some",
                         .layers = 2,
                         .hidden = 8,
                         .vocab = 16,
                         .heads = 2,
                         .kv_heads = 2,
                         .head_dim = 4,
                         .v_dim = 4,
                         .expert_ffn = 8,
                         .max_positions = 100,
                         .is_moe = is_moe,
                         .moe_layers = 2,
                         .router = {.experts = 4, .k = 2},
                         .params_total = 46700000000,
                         .params_active = 12900000000};
    struct mb_plan_options o = {.alltoall = MB_A2A_HIER, .max_num_seqs = 2, .memory_fraction = 0.9};
    struct mb_conf c = {.model = (char *)"DIR", .input = (char *)"in.jsonl", .output = (char *)"R.h5"};
    struct mb_report_head h = {.version = "1.2",
                               .conf = &c,
                               .model = &m,
                               .path_name = "bf16",
                               .weights = "experts mxfp4 as stored, others bf16",
                               .device = "cpu: avx2",
                               .requests = 7,
                               .save_bytes = 2048,
                               .run = 2};
    struct mb_report r;
    struct sink s;
    struct mb_topo *t;
    struct mb_plan *p;

    assert_int_equal(mb_topo_synthetic(2, rpn, &t), MB_OK);
    assert_int_equal(mb_plan_create(&m, t, &o, &p), MB_OK);
    h.topo = t;
    h.plan = p;
    start(&r, &s, false, 0, 5);
    mb_report_header(&r, &h);
    static const char *const want[] = {
        "moebatch  : 1.2\n",
        "model     : DIR (Some, 2 layers, 2 of 4 experts a token, 46.70B parameters, 12.90B active)\n",
        "machine   : 3 ranks x 1 thread on 2 nodes, synthetic\n",
        "nodes     : node0: 2 ranks x 1 thread on CPUs 0 | 1\n",
        "          : node1: 1 rank x 1 thread on CPUs 0\n",
        "device    : cpu: avx2\n",
        "layout    : DP replicas 1 x stages 1 x (tp 1 x sp 1 x adp 3 | ep 3 x etp 1 x edp 1), all-to-all hier\n",
        "numbers   : bf16\n",
        "weights   : experts mxfp4 as stored, others bf16\n",
        "input     : in.jsonl (7 requests)\n",
        "output    : R.h5 (about 2.00 KiB)\n",
        "resumed   : run 2; 5 requests were done before\n"};
    const char *at = s.text;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const char *found = strstr(at, want[i]);
        if (found == NULL)
            print_error("missing: %s in\n%s", want[i], s.text);
        assert_non_null(found); /* in this order */
        at = found;
    }
    assert_non_null(strstr(s.text, " pages), activations "));
    mb_plan_destroy(p);
    mb_topo_destroy(t);
}

static void test_result(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;
    static const double spent[2][MB_SPENT_COUNT] = {
        {[MB_TIME_ATTENTION] = 1, [MB_TIME_EXPERTS] = 1, [MB_TIME_WAIT] = 3, [MB_SPENT_LOAD] = 3, [MB_SPENT_ASSEMBLY] = 1,
         [MB_TIME_REST] = 0, [MB_TIME_HEAD] = 1},
        {[MB_TIME_ATTENTION] = 2, [MB_TIME_EXPERTS] = 1, [MB_TIME_WAIT] = 1, [MB_SPENT_LOAD] = 3, [MB_SPENT_ASSEMBLY] = 1,
         [MB_TIME_REST] = 2}};
    struct mb_report_end e = {
        .output = "R.h5",
        .status = MB_STOP,
        .ranks = 2,
        .spent = spent,
        .assembly_seconds = 1,
        .peak_bytes = 1 << 20,
        .grown_bytes = 3 << 19,
        .load_seconds = 3,
        .resume = "moebatch run --resume",
        .progress = {.done = 3, .total = 9, .errors = 1, .imbalance = 1.5, .worst_rank = 1}};

    e.sum.rows = 400;
    e.sum.prompt_tokens = 100;
    e.sum.output_tokens = 300;
    e.sum.dispatch_bytes[MB_LINK_INTER] = 1024;
    e.sum.dispatch_messages[MB_LINK_INTER] = 3;
    e.sum.combine_bytes[MB_LINK_SHM] = 5;
    start(&r, &s, false, 0, 0);
    mb_report_result(&r, 10, &e);
    assert_string_equal(s.text,
                        "requests  : 3 of 9 done, 1 error rows\n"
                        "time      : 10.0 s\n"
                        "          : of a rank's time: mean share; least, median, most of the ranks\n"
                        "          : attention     15.0 %  1.0 s, 1.5 s, 2.0 s\n"
                        "          : experts       10.0 %  1.0 s, 1.0 s, 1.0 s\n"
                        "          : head           5.0 %  0.0 s, 0.5 s, 1.0 s\n"
                        "          : exchange       0.0 %  0.0 s, 0.0 s, 0.0 s\n"
                        "          : waiting       20.0 %  1.0 s, 2.0 s, 3.0 s\n"
                        "          : load          30.0 %  3.0 s, 3.0 s, 3.0 s\n"
                        "          : assembly      10.0 %  1.0 s, 1.0 s, 1.0 s\n"
                        "          : rest          10.0 %  0.0 s, 1.0 s, 2.0 s\n"
                        "tokens    : 400 computed, 100 of prompts of finished requests, 300 generated\n"
                        "speed     : 40 tokens/s, 30 generated/s; without load and assembly 67 and 50\n"
                        "exchanged : 5 B shared memory in 0 messages, 1.00 KiB between nodes in 3 messages\n"
                        "balance   : the most loaded rank (1) served 1.50 times the mean\n"
                        "memory    : 1.00 MiB at most on a rank; resident memory grew by 1.50 MiB\n"
                        "stopped   : stop; what was done is kept in R.h5.d\n"
                        "go on with: moebatch run --resume\n");
}

/* Shares are whole thousandths that add up to all, whatever the seconds. */
static void test_shares(void **state)
{
    (void)state;
    static const double thirds[3] = {1, 1, 1}, odd[4] = {1e-9, 5, -1, 0.0033}, none[2] = {0, 0};
    int t[4];

    mb_report_shares(thirds, 3, t);
    assert_int_equal(t[0] + t[1] + t[2], 1000);
    assert_true(t[0] == 334 && t[1] == 333 && t[2] == 333);
    mb_report_shares(odd, 4, t);
    assert_int_equal(t[0] + t[1] + t[2] + t[3], 1000);
    assert_true(t[0] == 0 && t[2] == 0 && t[1] == 999);
    mb_report_shares(none, 2, t);
    assert_true(t[0] == 0 && t[1] == 0);
}

/* The rate is kept from the first second on, also where no line is due for a minute. */
static void test_rate_at_once(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;

    start(&r, &s, false, 100, 0);
    mb_report_sample(&r, 101, 50);
    assert_true(r.rate == 50);
    assert_int_equal(s.n, 0);
    mb_report_sample(&r, 102, 100);
    assert_true(r.rate > 49.99 && r.rate < 50.01);
}

/* Three stages, two leaders with 8 steps each in 15 ticks each; four ranks in two lanes. */
static void test_groups(void **state)
{
    (void)state;
    struct mb_report r;
    struct sink s;
    struct mb_report_end e = {.output = "R.h5", .ranks = 4, .lanes = 2, .stages = 3, .leaders = 2};

    e.sum.pipeline_ticks = 30;
    e.sum.pipeline_steps = 16;
    e.sum.seconds_stage_wait = 2;
    e.sum.seconds_run = 40;
    e.sum.seconds_tail = 3;
    start(&r, &s, false, 0, 0);
    mb_report_result(&r, 10, &e);
    assert_non_null(strstr(s.text,
                           "pipeline  : a stage idled in 14 of 30 ticks (46.7 %; (S-1)/(m+S-1) is 20.0 %), a "
                           "rank waited 0.5 s for rows of the stage before\n"));
    assert_non_null(
        strstr(s.text, "DP        : a rank idled 0.8 s (7.5 %) at the end, when the other DP replicas still had "
                       "requests\n"));
}

static void test_imbalance(void **state)
{
    (void)state;
    static const int64_t v[4] = {1, 4, 2, 1}, zero[2] = {0, 0};
    int32_t worst;

    assert_true(mb_report_imbalance(v, 4, &worst) == 2);
    assert_int_equal(worst, 1);
    assert_true(mb_report_imbalance(zero, 2, &worst) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),    cmocka_unit_test(test_lines),     cmocka_unit_test(test_eta),
        cmocka_unit_test(test_terminal), cmocka_unit_test(test_header),    cmocka_unit_test(test_result),
        cmocka_unit_test(test_groups),   cmocka_unit_test(test_imbalance),
        cmocka_unit_test(test_shares),   cmocka_unit_test(test_rate_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
