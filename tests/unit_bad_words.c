/* The ids of bad words against vLLM's rule over Hugging Face's tokenizers (tests/data/stops/bad_words.json, whose generator has the
 * rule). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/json.h"
#include "io/parse.h"
#include "text/tokenizer.h"

static struct mb_tokenizer *load(const char *name)
{
    char path[1024];
    const char *top = getenv("top_srcdir");
    struct mb_tokenizer *t = NULL;
    bool demo = strcmp(name, "demo") == 0;
    snprintf(path, sizeof path, "%s/%s/%s", top != NULL ? top : ".", demo ? "inputs/models" : "tests/data/tokenizers", name);
    assert_int_equal(mb_tokenizer_load(path, &t), MB_OK);
    return t;
}

static bool same(const struct mb_bad_words *w, const json_t *want)
{
    size_t i, k;
    json_t *one, *id;
    int32_t at = 0;
    if ((size_t)w->n != json_array_size(want))
        return false;
    json_array_foreach((json_t *)want, i, one)
    {
        if ((size_t)(w->end[i] - at) != json_array_size(one))
            return false;
        json_array_foreach(one, k, id) if (w->ids[at++] != json_integer_value(id)) return false;
    }
    return true;
}

/* Whether it is as it should be. */
static bool check(const struct mb_parse_options *o, const json_t *e)
{
    struct mb_request *r = NULL;
    json_t *line = json_pack("{s:s, s:s, s:O}", "id", "x", "prompt", "a", "bad_words", json_object_get(e, "words"));
    const json_t *want = json_object_get(e, "ids");
    char *text = json_dumps(line, JSON_COMPACT);
    assert_non_null(text);
    assert_int_equal(mb_parse_line(o, text, strlen(text), 0, &r), MB_OK);
    bool good = json_is_null(want) ? r->error != NULL : r->error == NULL && same(&r->sampling.bad, want);
    if (!good)
        print_error("%s: %s %s\n", json_string_value(json_object_get(e, "tokenizer")), text, r->error != NULL ? r->error : "");
    mb_request_destroy(r);
    free(text);
    json_decref(line);
    return good;
}

static void test_words(void **state)
{
    char path[1024];
    const char *top = getenv("top_srcdir"), *name = "";
    struct mb_tokenizer *t = NULL;
    struct mb_parse_options o;
    json_t *root = NULL, *e;
    size_t i, bad = 0;
    (void)state;
    snprintf(path, sizeof path, "%s/tests/data/stops/bad_words.json", top != NULL ? top : ".");
    assert_int_equal(mb_json_load(path, 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "cases"), i, e)
    {
        const char *of = json_string_value(json_object_get(e, "tokenizer"));
        if (strcmp(of, name) != 0) {
            mb_tokenizer_destroy(t);
            t = load(name = of);
            mb_parse_options_init(&o);
            o.tok = t;
            o.vocab = 200000;
            o.max_len = 4096;
            o.bos = o.prefix = -1;
        }
        bad += !check(&o, e);
    }
    print_message("%zu lists of words\n", i);
    assert_true(i > 400);
    assert_int_equal(bad, 0);
    mb_tokenizer_destroy(t);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words)};
    return cmocka_run_group_tests_name("bad words", tests, NULL, NULL);
}
