/* The parser against a table of lines (parse_table.h) over a tokenizer that is known by heart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "fake_tokenizer.h"
#include "io/parse.h"
#include "parse_table.h"

/* "u" + content for a user, "s" for the system, "a" for the assistant, then ">". */
static enum mb_status render(void *arg, const struct mb_chat_ask *ask, struct mb_bytes *text, char *err, size_t cap)
{
    size_t i;
    json_t *m;
    (void)arg;
    json_array_foreach((json_t *)ask->messages, i, m) {
        const json_t *content = json_object_get(m, "content");
        if (!json_is_string(content)) {
            MB_TRY(mb_bytes_put(text, json_is_array(content) ? "L" : "N", 1));
            continue;
        }
        if (strcmp(json_string_value(content), "BAD") == 0) {
            snprintf(err, cap, "the template says no");
            return MB_REQUEST;
        }
        MB_TRY(mb_bytes_put(text, json_string_value(json_object_get(m, "role")), 1));
        MB_TRY(mb_bytes_put(text, json_string_value(content), json_string_length(content)));
    }
    if (ask->tools != NULL)
        MB_TRY(mb_bytes_put(text, "T", 1));
    if (ask->extra != NULL) {
        char *all = json_dumps(ask->extra, JSON_COMPACT);
        MB_TRY(mb_bytes_put(text, all, strlen(all)));
        free(all);
    }
    if (ask->continue_final_message)
        MB_TRY(mb_bytes_put(text, "C", 1));
    return ask->add_generation_prompt ? mb_bytes_put(text, ">", 1) : MB_OK;
}

static const char *const adapters[] = {"de", "fr"};

static void options_of(const char *how, struct mb_tokenizer *tok, struct mb_mem *mem, struct mb_parse_options *o)
{
    mb_parse_options_init(o);
    o->tok = tok;
    o->mem = mem;
    o->vocab = FAKE_VOCAB;
    o->max_len = 32;
    o->bos = strchr(how, '0') ? -1 : FAKE_BOS; /* 0: the model has no BOS; e: but an EOS */
    o->prefix = strchr(how, 'e') ? 'z' : o->bos;
    tok->front = strchr(how, 'f') != NULL;     /* f: the post-processor adds BOS */
    if (strchr(how, 'y'))
        o->add_bos = MB_BOS_YES;
    if (strchr(how, 'n'))
        o->add_bos = MB_BOS_NO;
    o->truncate_left = strchr(how, 't') != NULL;
    o->score = strchr(how, 's') != NULL;
    if (strchr(how, 'm'))
        o->max_tokens = 9;
    if (strchr(how, 'c'))
        o->chat = render;
    if (strchr(how, 'x'))
        o->format = MB_FORMAT_TXT;
    if (strchr(how, 'd')) { /* d: defaults of generation_config.json */
        o->temperature = 0.75f;
        o->top_p = 0.5f;
        o->top_k = 20;
        o->repetition = 1.5f;
    }
    o->adapters = adapters;
    o->n_adapters = 2;
}

static void show_sampling(FILE *f, const struct mb_sampling *s)
{
    if (s->temperature != 1)
        fprintf(f, " T=%g", s->temperature);
    if (s->top_p != 1)
        fprintf(f, " p=%g", s->top_p);
    if (s->top_k != 0)
        fprintf(f, " k=%d", s->top_k);
    if (s->min_p != 0)
        fprintf(f, " minp=%g", s->min_p);
    if (s->repetition != 1)
        fprintf(f, " rep=%g", s->repetition);
    if (s->frequency != 0)
        fprintf(f, " freq=%g", s->frequency);
    if (s->presence != 0)
        fprintf(f, " pres=%g", s->presence);
    if (s->min_tokens != 0)
        fprintf(f, " min=%lld", (long long)s->min_tokens);
    if (s->has_seed)
        fprintf(f, " seed=%llu", (unsigned long long)s->seed);
    if (s->ignore_eos)
        fprintf(f, " ignore_eos");
    for (int32_t i = 0; i < s->n_bias; i++)
        fprintf(f, " bias=%d:%g", s->bias[i].id, s->bias[i].bias);
    for (int32_t i = 0; i < s->n_allowed; i++)
        fprintf(f, "%s%d", i == 0 ? " only=" : ",", s->allowed[i]);
    for (int32_t i = 0, j = 0; i < s->bad.n; i++) {
        fprintf(f, " bad=");
        for (; j < s->bad.end[i]; j++)
            fprintf(f, "%d%s", s->bad.ids[j], j + 1 < s->bad.end[i] ? "," : "");
    }
}

static void show_ends(FILE *f, const struct mb_request *r)
{
    for (int32_t i = 0; i < r->n_stop_ids; i++)
        fprintf(f, "%s%d", i == 0 ? " ends=" : ",", r->stop_ids[i]);
    fprintf(f, "%s%s", r->include_stop ? " with_stop" : "", r->keep_special ? " with_special" : "");
}

/* malloc'd */
static char *show(const struct mb_request *r)
{
    static const char *const kinds[] = {"gen", "loglik", "rolling"};
    char *out;
    size_t len;
    FILE *f = open_memstream(&out, &len);

    fprintf(f, "%s: %s%s%s", r->id.data, r->openai ? "openai " : "", r->chat ? "chat " : "", kinds[r->kind]);
    for (int64_t i = 0; i < r->n_prompt; i++)
        fprintf(f, "%c%d", i ? ',' : ' ', r->prompt[i]);
    if (r->n != 1)
        fprintf(f, " n=%d", r->n);
    fprintf(f, " from=%lld", (long long)r->score_from);
    if (r->window)
        fprintf(f, " window=%lld", (long long)r->window);
    if (r->kind == MB_KIND_GENERATE) {
        fprintf(f, " max=%lld", (long long)r->sampling.max_tokens);
        show_sampling(f, &r->sampling);
        show_ends(f, r);
    }
    for (int32_t i = 0; i < r->n_stop; i++)
        fprintf(f, " stop=%.*s", (int)r->stop[i].len, r->stop[i].data);
    if (r->want_logprobs)
        fprintf(f, " logprobs=%d", r->top_n);
    fprintf(f, "%s%s", r->echo ? " echo" : "", r->want_prompt_logprobs ? " prompt_logprobs" : "");
    if (r->prompt_top_n > 0)
        fprintf(f, "=%d", r->prompt_top_n);
    if (r->prompt_asked)
        fprintf(f, " asked");
    if (r->adapter)
        fprintf(f, " adapter=%s", r->adapter);
    fclose(f);
    return out;
}

static int check_row(const struct row *row, struct mb_mem *mem)
{
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r = NULL;
    struct mb_line_scan scan;
    int bad = 0;

    options_of(row->how, &tok, mem, &o);
    assert_int_equal(mb_parse_line(&o, row->line, strlen(row->line), 4, &r), MB_OK);
    assert_int_equal(mb_parse_scan(&o, row->line, strlen(row->line), 4, &scan), MB_OK);
    char *got = r->error ? NULL : show(r);
    if (row->want[0] == '!' ? r->error == NULL || strstr(r->error, row->want + 1) == NULL
                            : got == NULL || strcmp(got, row->want) != 0)
        bad = 1;
    bool same = r->n == scan.n && r->id.len == scan.id.len && memcmp(r->id.data, scan.id.data, r->id.len) == 0;
    if (r->error ? r->prompt != NULL || r->n_stop != 0 || r->sampling.bias != NULL : scan.bad)
        same = false;
    if (bad || !same)
        printf("[%s] %s\n  wanted %s\n  got    %s%s\n", row->how, row->line, row->want, r->error ? "!" : "",
               r->error ? r->error : got);
    free(got);
    free(scan.id.data);
    mb_request_destroy(r);
    return bad || !same;
}

/* OpenAI's "model" where adapters are loaded: one of them, the model in any of its names, or an error row. */
static void test_model_names(void **state)
{
    static const struct {
        const char *base, *name;
        int what; /* 0: refused, 1: the model, 2: an adapter */
    } cases[] = {
        {NULL, "anything", 1}, {NULL, "de", 2}, {"/models/Mix-8x7B", "de", 2}, {"/models/Mix-8x7B", "/models/Mix-8x7B", 1},
        {"/models/Mix-8x7B/", "Mix-8x7B", 1}, {"/models/Mix-8x7B", "mistralai/Mix-8x7B", 1}, {"mistralai/Mix-8x7B", "Mix-8x7B", 1},
        {"/models/Mix-8x7B", "gpt-4o", 0}, {"/models/Mix-8x7B", "Mix-8x7", 0}, {"/models/Mix-8x7B", "8x7B", 0}, {"/models/Mix-8x7B", "", 0},
        {"/models/Mix-8x7B", "DE", 0}, {"/models/Mix-8x7B", "mix-8x7b", 0}, {"/", "/", 1}, {"/", "", 0},
        {"/hub/models--org--Mix-8x7B/snapshots/0a1b", "org/Mix-8x7B", 1}, {"models--org--Mix-8x7B", "Mix-8x7B", 1},
        {"/hub/models--org--Mix-8x7B/snapshots/0a1b", "0a1b", 0}, {"/hub/models--org--Mix-8x7B/snapshots/0a1b", "snapshots", 0},
    };
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r;
    char line[300];

    (void)state;
    options_of("", &tok, NULL, &o);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = snprintf(line, sizeof line, "{\"custom_id\":\"r\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"%s\",\"prompt\":\"ab\"}}",
                         cases[i].name);
        o.base = cases[i].base;
        o.n_adapters = 2;
        assert_int_equal(mb_parse_line(&o, line, (size_t)n, 0, &r), MB_OK);
        if ((r->error == NULL ? 1 + (r->adapter != NULL) : 0) != cases[i].what)
            fail_msg("model %s of %s: %s", cases[i].name, cases[i].base, r->error != NULL ? r->error : "taken");
        if (r->error != NULL)
            assert_non_null(strstr(r->error, "neither one of the adapters nor the model"));
        mb_request_destroy(r);
        o.n_adapters = 0; /* without adapters every name is the model's */
        assert_int_equal(mb_parse_line(&o, line, (size_t)n, 0, &r), MB_OK);
        assert_null(r->error);
        mb_request_destroy(r);
    }
}

static void test_table(void **state)
{
    struct mb_mem mem = {0};
    int failed = 0, n = (int)(sizeof rows / sizeof rows[0]);
    (void)state;
    for (int i = 0; i < n; i++)
        failed += check_row(&rows[i], &mem);
    assert_int_equal(failed, 0);
    assert_int_equal(mb_mem_total(&mem), 0);
    assert_true(n > 250);
}

/* A good line that does not fit keeps its n rows, a line that can't be read has one. */
static void test_error_rows(void **state)
{
    static const char long_line[] = "{\"id\":\"r\",\"n\":3,\"prompt\":\"012345678901234567890123456789012\"}";
    static const char bad_line[] = "{\"id\":\"r\",\"n\":3,\"prompt\":5}";
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r;
    (void)state;
    options_of("", &tok, NULL, &o);
    assert_int_equal(mb_parse_line(&o, long_line, strlen(long_line), 0, &r), MB_OK);
    assert_non_null(r->error);
    assert_int_equal(r->n, 3);
    mb_request_destroy(r);
    assert_int_equal(mb_parse_line(&o, bad_line, strlen(bad_line), 0, &r), MB_OK);
    assert_non_null(r->error);
    assert_string_equal(r->id.data, "r");
    assert_int_equal(r->n, 1);
    mb_request_destroy(r);
    assert_int_equal(mb_parse_refused(&o, long_line, strlen(long_line), 9, "duplicate id", &r), MB_OK);
    assert_string_equal(r->error, "duplicate id");
    assert_string_equal(r->id.data, "r");
    assert_int_equal(r->n, 1);
    mb_request_destroy(r);
    /* the id is that of the form: "id" beside "url" is none */
    static const char batch[] = "{\"id\":\"r\",\"url\":\"x\"}";
    assert_int_equal(mb_parse_refused(&o, batch, strlen(batch), 9, "duplicate id", &r), MB_OK);
    assert_string_equal(r->id.data, "10");
    mb_request_destroy(r);
    assert_int_equal(mb_parse_refused(&o, NULL, 0, 9, "longer than 64 MiB", &r), MB_OK);
    assert_string_equal(r->error, "longer than 64 MiB");
    assert_string_equal(r->id.data, "10");
    mb_request_destroy(r);
}

/* jansson alone reads the number 2 here. */
static void test_nul_byte(void **state)
{
    static const char line[] = "{\"prompt_ids\":[1,2\0]}";
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r;
    (void)state;
    options_of("", &tok, NULL, &o);
    assert_int_equal(mb_parse_line(&o, line, sizeof line - 1, 0, &r), MB_OK);
    assert_string_equal(r->error, "not JSON: a NUL byte (column 19)");
    mb_request_destroy(r);
}

static void test_blank(void **state)
{
    (void)state;
    assert_true(mb_line_blank("", 0, MB_FORMAT_JSONL));
    assert_true(mb_line_blank(" \t\r", 3, MB_FORMAT_JSONL));
    assert_false(mb_line_blank(" x", 2, MB_FORMAT_JSONL));
    assert_true(mb_line_blank("\r", 1, MB_FORMAT_TXT));
    assert_false(mb_line_blank(" ", 1, MB_FORMAT_TXT));
}

/* Reasons quote the line: whatever it holds, they stay UTF-8 on one line. */
static void test_reason_is_text(void **state)
{
    char line[700] = "{\"id\":\"r\",\"prompt\":\"a\",\"";
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r;
    (void)state;
    options_of("", &tok, NULL, &o);
    for (size_t pad = 0; pad < 4; pad++) {
        size_t at = strlen("{\"id\":\"r\",\"prompt\":\"a\",\"");
        memset(line + at, 'k', pad);
        at += pad;
        for (int i = 0; i < 150; i++, at += 3)
            memcpy(line + at, "\xe2\x82\xac", 3);
        at += (size_t)sprintf(line + at, "\":1}");
        assert_int_equal(mb_parse_line(&o, line, at, 0, &r), MB_OK);
        assert_non_null(strstr(r->error, "unknown key \""));
        assert_true(mb_utf8_valid(r->error, strlen(r->error)));
        mb_request_destroy(r);
        assert_int_equal(mb_parse_line(&o, line, at - 3, 0, &r), MB_OK);
        assert_true(mb_utf8_valid(r->error, strlen(r->error)));
        assert_null(strchr(r->error, '\n'));
        mb_request_destroy(r);
    }
}

/* A line that is no JSON keeps its id where one can be read. */
static void test_rescued_ids(void **state)
{
    static const char *const cases[][2] = {
        {"{\"id\":\"keep\",\"prompt\":\"\\ud800\"}", "keep"},
        {"{\"id\":\"keep\",\"prompt\":\"a\", \"t", "keep"},
        {"{\"id\" : 12 ,\"prompt\":'a'}", "12"},
        {"{\"custom_id\":\"c\",\"id\":\"i\",\"body\":{\"x\":\"\xff\"}}", "c"},
        {"{\"body\":{\"id\":\"inner\",\"custom_id\":1},\"custom_id\":\"outer\",\"x\":}", "outer"},
        {"{\"x\":\"\\\",\\\"id\\\":\\\"no\\\"\",\"id\":\"yes\",}", "yes"},
        {"{\"id\":1.5,}", "5"},
        {"{\"id\":\"\xff\"}", "5"},
        {"{\"id\":\"a\\u0000\",}", "5"},
        {"{\"id\"", "5"},
        {"\"id\":\"top\"", "5"},
    };
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    (void)state;
    options_of("", &tok, NULL, &o);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mb_request *r;
        assert_int_equal(mb_parse_line(&o, cases[i][0], strlen(cases[i][0]), 4, &r), MB_OK);
        assert_non_null(r->error);
        assert_string_equal(r->id.data, cases[i][1]);
        mb_request_destroy(r);
    }
}

/* A text of n bytes under this key, with what the line needs beside it; the request. */
static struct mb_request *with_text(const char *how, const char *before, size_t n)
{
    struct mb_tokenizer tok;
    struct mb_parse_options o;
    struct mb_request *r = NULL;
    size_t at = strlen(before);
    char *line = malloc(at + n + 3);
    assert_non_null(line);
    memcpy(line, before, at);
    memset(line + at, 'a', n);
    memcpy(line + at + n, "\"}", 3);
    options_of(how, &tok, NULL, &o);
    o.longest_token = 4;
    assert_int_equal(mb_parse_line(&o, line, at + n + 2, 0, &r), MB_OK);
    free(line);
    return r;
}

/* Texts that need not fit are bounded all the same, before they are tokenised. */
static void test_long_texts(void **state)
{
    static const char *const lines[][2] = {{"", "{\"text\":\""}, {"t", "{\"context\":\"x\",\"continuation\":\""},
                                           {"t", "{\"continuation\":\"x\",\"context\":\""}};
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct mb_request *r = with_text(lines[i][0], lines[i][1], (size_t)MB_MAX_SCORED_BYTES + 1);
        assert_non_null(r->error);
        assert_non_null(strstr(r->error, "a line takes 16777216"));
        mb_request_destroy(r);
    }
    struct mb_request *r = with_text("", lines[0][1], 4096); /* far beyond max_len: in windows */
    assert_null(r->error);
    assert_int_equal(r->window, 32);
    mb_request_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_error_rows),
        cmocka_unit_test(test_nul_byte),
        cmocka_unit_test(test_rescued_ids),
        cmocka_unit_test(test_blank),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_reason_is_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
