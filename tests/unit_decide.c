/* What the start of a job decides: every combination of facts against the rules as they are written in README, and named cases. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "io/decide.h"

static const struct {
    const char *name;
    struct mb_found f;
    struct mb_decision want;
} cases[] = {
    {"nothing there", {0}, {MB_START_FRESH, MB_REFUSAL_NONE, false, true, false}},
    {"resume of nothing", {.resume = true}, {MB_START_FRESH, MB_REFUSAL_NONE, false, true, false}},
    {"journals, no word", {.records = true}, {MB_START_REFUSED, MB_REFUSAL_RESULTS, false, false, false}},
    {"complete, no word", {.results = MB_RESULTS_COMPLETE}, {MB_START_REFUSED, MB_REFUSAL_RESULTS, false, false, false}},
    {"journals, resume", {.resume = true, .records = true, .identity = MB_SAME_YES}, {MB_START_RESUME, 0, false, false, false}},
    {"another job's journals",
     {.resume = true, .records = true, .identity = MB_SAME_NO},
     {MB_START_REFUSED, MB_REFUSAL_IDENTITY, false, false, false}},
    {"another job's complete results",
     {.resume = true, .results = MB_RESULTS_COMPLETE, .identity = MB_SAME_NO},
     {MB_START_REFUSED, MB_REFUSAL_IDENTITY, false, false, false}},
    {"complete, and nothing came out of the pipe",
     {.resume = true, .results = MB_RESULTS_COMPLETE, .identity = MB_SAME_NO, .input_missing = true},
     {MB_START_COMPLETE, 0, false, false, false}},
    {"journals, and nothing came out of the pipe",
     {.resume = true, .records = true, .identity = MB_SAME_NO, .input_missing = true},
     {MB_START_REFUSED, MB_REFUSAL_IDENTITY, false, false, false}},
    {"complete, resume", {.resume = true, .results = MB_RESULTS_COMPLETE}, {MB_START_COMPLETE, 0, false, false, false}},
    {"complete, resume, lines missing",
     {.resume = true, .results = MB_RESULTS_COMPLETE, .openai = true},
     {MB_START_LINES, 0, false, false, false}},
    {"complete, resume, lines there",
     {.resume = true, .results = MB_RESULTS_COMPLETE, .openai = true, .openai_there = true},
     {MB_START_COMPLETE, 0, false, false, false}},
    {"lines would go over a file", {.openai = true, .openai_there = true}, {MB_START_REFUSED, MB_REFUSAL_OPENAI, false, false, false}},
    {"lines would go over a file, resumed",
     {.resume = true, .records = true, .openai = true, .openai_there = true},
     {MB_START_REFUSED, MB_REFUSAL_OPENAI, false, false, false}},
    {"lines replace a file", {.overwrite = true, .openai = true, .openai_there = true}, {MB_START_FRESH, 0, false, true, true}},
    {"overwrite", {.overwrite = true, .results = MB_RESULTS_FOREIGN}, {MB_START_FRESH, 0, true, true, false}},
    {"alive", {.resume = true, .records = true, .alive = true}, {MB_START_REFUSED, MB_REFUSAL_ALIVE, false, false, false}},
    {"alive, overwrite",
     {.overwrite = true, .results = MB_RESULTS_FOREIGN, .alive = true},
     {MB_START_REFUSED, MB_REFUSAL_ALIVE, false, false, false}},
    {"alive, taken over", {.resume = true, .records = true, .alive = true, .takeover = true}, {MB_START_RESUME, 0, false, false, false}},
    {"taking over is no word for results",
     {.records = true, .alive = true, .takeover = true},
     {MB_START_REFUSED, MB_REFUSAL_RESULTS, false, false, false}},
    {"the results are the input", {.overwrite = true, .clash = true}, {MB_START_REFUSED, MB_REFUSAL_CLASH, false, false, false}},
    {"a directory", {.overwrite = true, .results = MB_RESULTS_ODD}, {MB_START_REFUSED, MB_REFUSAL_ODD, false, false, false}},
    {"foreign, resume", {.resume = true, .results = MB_RESULTS_FOREIGN}, {MB_START_REFUSED, MB_REFUSAL_FOREIGN, false, false, false}},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mb_decision got = mb_decide(&cases[i].f);
        print_message("%s\n", cases[i].name);
        assert_int_equal(got.start, cases[i].want.start);
        assert_int_equal(got.refusal, cases[i].want.refusal);
        assert_int_equal(got.remove_results, cases[i].want.remove_results);
        assert_int_equal(got.remove_runs, cases[i].want.remove_runs);
        assert_int_equal(got.remove_openai, cases[i].want.remove_openai);
    }
}

static struct mb_found nth(unsigned bits)
{
    struct mb_found f = {.resume = bits & 1, .overwrite = bits >> 1 & 1, .takeover = bits >> 2 & 1, .openai = bits >> 3 & 1,
                         .records = bits >> 4 & 1, .alive = bits >> 5 & 1, .openai_there = bits >> 6 & 1, .clash = bits >> 7 & 1,
                         .input_missing = bits >> 8 & 1};
    f.results = (enum mb_place_of_results)((bits >> 9) % 5);
    f.identity = (enum mb_same)((bits >> 9) / 5 % 3);
    return f;
}

/* Promises that hold whatever was found. */
static void test_promises(void **state)
{
    unsigned removing = 0;
    (void)state;
    for (unsigned bits = 0; bits < 15u << 9; bits++) {
        struct mb_found f = nth(bits);
        struct mb_decision d = mb_decide(&f);
        bool removes = d.remove_results || d.remove_openai || (d.remove_runs && f.records);
        assert_int_equal(d.start == MB_START_REFUSED, d.refusal != MB_REFUSAL_NONE);
        if (d.start == MB_START_REFUSED || d.start == MB_START_COMPLETE || d.start == MB_START_LINES)
            assert_false(d.remove_results || d.remove_runs || d.remove_openai);
        if (removes)
            assert_true(f.overwrite && !f.resume && !f.clash && (!f.alive || f.takeover));
        if (d.start != MB_START_REFUSED)
            assert_false((f.alive && !f.takeover) || f.clash);
        if (d.start == MB_START_RESUME)
            assert_true(f.resume && f.records && f.identity != MB_SAME_NO);
        removing += removes;
    }
    assert_true(removing > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_promises)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
