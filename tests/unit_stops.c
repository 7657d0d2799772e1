/* Stop strings and stop ids over tokens of every kind (tests/data/stops/cases.json, worked out by
 * make_cases.py beside it on whole texts): how many tokens a row takes, how it ends, and its text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/json.h"
#include "sink_help.h"

static int32_t *ids_of(const json_t *list, int64_t *n)
{
    int32_t *v = calloc(json_array_size(list) + 1, sizeof *v);
    for (*n = 0; *n < (int64_t)json_array_size(list); (*n)++)
        v[*n] = (int32_t)json_integer_value(json_array_get(list, (size_t)*n));
    return v;
}

static void request_of(const json_t *c, struct mb_request *r)
{
    int64_t n;
    const json_t *stop = json_object_get(c, "stop");
    r->kind = MB_KIND_GENERATE;
    r->n = 1;
    r->include_stop = json_is_true(json_object_get(c, "include"));
    r->keep_special = json_is_true(json_object_get(c, "keep"));
    r->sampling.min_tokens = json_integer_value(json_object_get(c, "min_tokens"));
    r->prompt = ids_of(json_object_get(c, "prompt"), &r->n_prompt);
    r->stop_ids = ids_of(json_object_get(c, "stop_token_ids"), &n);
    r->n_stop_ids = (int32_t)n;
    for (size_t i = 0; i < json_array_size(stop); i++) {
        const json_t *s = json_array_get(stop, i);
        r->stop[r->n_stop++] = (struct mb_text){(char *)json_string_value(s), json_string_length(s)};
    }
}

static bool agrees(struct fixture *f, const json_t *c, uint64_t line)
{
    const json_t *text = json_object_get(c, "text");
    struct mb_request req = {.line = line, .id = {(char *)"r", 1}};
    struct mb_record rec = {.line = line, .n = 1}, got;
    int64_t n, all;
    bool stop = false;
    int32_t h = -1;
    request_of(c, &req);
    rec.output_ids = ids_of(json_object_get(c, "output"), &all);
    rec.output_logprobs = rec_floats(1, all);
    assert_int_equal(f->sink->ops->begin(f->sink, &req, 0, 100, &h), MB_OK);
    for (n = 0; n < all && !stop; n++)
        assert_int_equal(f->sink->ops->token(f->sink, h, n, rec.output_ids[n], true, &stop), MB_OK);
    rec.n_output = n;
    rec.finish = stop ? MB_FINISH_STOP : MB_FINISH_LENGTH;
    assert_int_equal(f->sink->ops->done(f->sink, h, &rec), MB_OK);
    assert_int_equal(f->sink->ops->step_end(f->sink), MB_OK);
    read_row(f, line, &got);
    bool good = n == json_integer_value(json_object_get(c, "used")) &&
                stop == (strcmp(json_string_value(json_object_get(c, "finish")), "stop") == 0);
    if (json_is_string(text))
        good = good && got.text.len == json_string_length(text) &&
               (got.text.len == 0 || memcmp(got.text.data, json_string_value(text), got.text.len) == 0);
    if (!good) {
        char *shown = json_dumps(c, JSON_COMPACT);
        print_error("%s\n  got %lld tokens, %s, \"%.*s\"\n", shown, (long long)n, stop ? "stop" : "length",
                    (int)got.text.len, got.text.data == NULL ? "" : got.text.data);
        free(shown);
    }
    free(req.prompt);
    free(req.stop_ids);
    mb_record_fini(&got);
    return good;
}

static void test_cases(void **state)
{
    const char *top = getenv("top_srcdir"), *last = "";
    char *path = mb_path_join(top == NULL ? "." : top, "tests/data/stops/cases.json");
    struct fixture f = {0};
    json_t *root, *c;
    size_t i, bad = 0;
    (void)state;
    assert_int_equal(mb_json_load(path, 1 << 26, MB_INPUT, &root), MB_OK);
    json_array_foreach(root, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "tokenizer"));
        if (strcmp(name, last) != 0) {
            if (*last != 0)
                close_all(&f);
            open_all(&f, name, (struct mb_sink_options){0});
            last = name;
        }
        bad += !agrees(&f, c, i);
    }
    close_all(&f);
    print_message("%zu rows, %zu differ\n", i, bad);
    json_decref(root);
    free(path);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
