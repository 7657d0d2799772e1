/* The forms in which configurations are published: the text part nested or alone, null for absent, one number
 * or a list of one for each layer. Each form of a published file must give the same model, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/flat.h"
#include "model/model.h"
#include "tests/model_dir.h"

static const char *const names[] = {"kimi-k2",           "glm-4.5-air",   "glm-4.7-flash",
                                    "minimax-m2",        "dots.llm1",     "solar-open-100b",
                                    "ernie-4.5-21b-a3b", "ling-mini-2.0", "granite-3.0-1b-a400m",
                                    "hunyuan-a13b",      "hy3",           "llama-4-scout",
                                    "mistral-small-4"};
static const char *const each_layer[] = {"num_experts_per_tok",
                                         "moe_k",
                                         "moe_topk",
                                         "moe_intermediate_size",
                                         "num_shared_expert",
                                         "num_shared_experts",
                                         "n_shared_experts",
                                         "moe_num_shared_experts",
                                         "expert_hidden_dim"};
static const char *const optional[] = {"head_dim",
                                       "rope_scaling",
                                       "rope_parameters",
                                       "n_group",
                                       "topk_group",
                                       "moe_layer_end_index",
                                       "sliding_window",
                                       "layer_types",
                                       "moe_layers",
                                       "no_rope_layers",
                                       "mlp_layer_types",
                                       "q_lora_rank",
                                       "quantization_config",
                                       "num_nextn_predict_layers"};

static char dir[256]; /* of every file here, so that a model's path is always the same */

/* The text part of a published file, a copy. */
static json_t *text_of(const char *name)
{
    char path[512];
    const char *top = getenv("top_srcdir");

    snprintf(path, sizeof path, "%s/inputs/configs/%s", top != NULL ? top : ".", name);
    json_t *c = json_read(path, "config.json"), *text = json_object_get(c, "text_config");
    json_t *out = json_deep_copy(text != NULL ? text : c);
    json_decref(c);
    return out;
}

static enum mb_status open_form(const json_t *c, struct mb_bytes *flat)
{
    char path[300];
    struct mb_model *m = NULL;

    dir_json(dir, "config.json", c);
    snprintf(path, sizeof path, "%s/config.json", dir);
    enum mb_status st = mb_model_open(path, 0, &m);
    if (st == MB_OK)
        st = mb_model_pack(m, flat);
    mb_model_destroy(m);
    return st;
}

static void expect_same(const json_t *a, const json_t *b, const char *name, const char *form)
{
    struct mb_bytes fa = {0}, fb = {0};

    assert_int_equal(open_form(a, &fa), MB_OK);
    if (open_form(b, &fb) != MB_OK || fa.len != fb.len || memcmp(fa.data, fb.data, fa.len) != 0)
        fail_msg("%s: another model when %s", name, form);
    mb_bytes_fini(&fa);
    mb_bytes_fini(&fb);
}

static void test_nested(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *text = text_of(names[i]);
        json_t *c = json_pack("{s:s, s:[s], s:O, s:{s:i}}", "model_type", "a_wrapper", "architectures",
                              "WrapperForAll", "text_config", text, "vision_config", "hidden_size", 7);
        expect_same(text, c, names[i], "nested");
        json_decref(c);
        json_decref(text);
    }
}

/* Also with keys that lie beside text_config: they count where it has none. */
static void test_beside(void **state)
{
    (void)state;
    json_t *text = text_of("ernie-4.5-21b-a3b"), *inner = json_deep_copy(text);
    json_object_del(inner, "tie_word_embeddings"); /* true if absent, so that only false shows who is read */
    json_object_set_new(text, "tie_word_embeddings", json_false());
    json_t *c = json_pack("{s:s, s:o, s:b}", "model_type", "a_wrapper", "text_config", inner,
                          "tie_word_embeddings", 0);
    expect_same(text, c, "ernie-4.5-21b-a3b", "tied beside");
    json_object_set_new(inner, "tie_word_embeddings", json_true());
    json_object_set_new(text, "tie_word_embeddings", json_true());
    expect_same(text, c, "ernie-4.5-21b-a3b", "tied inside");
    json_decref(c);
    json_decref(text);
}

static void test_null(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *text = text_of(names[i]), *c = json_deep_copy(text), *v;
        const char *key;
        void *next;
        for (size_t k = 0; k < sizeof optional / sizeof optional[0]; k++)
            if (json_object_get(text, optional[k]) == NULL)
                json_object_set_new(c, optional[k], json_null());
        json_object_foreach_safe(text, next, key, v)
        {
            if (json_is_null(v))
                json_object_del(text, key);
        }
        expect_same(text, c, names[i], "keys are null");
        json_decref(c);
        json_decref(text);
    }
}

/* A number of all layers as a list of one for each; less: one entry less; odd: the last differs. Returns how
 * many there were. */
static int as_lists(json_t *c, bool less, bool odd)
{
    json_int_t layers = json_integer_value(json_object_get(c, "num_hidden_layers"));
    int n = 0;

    for (size_t i = 0; i < sizeof each_layer / sizeof each_layer[0]; i++) {
        json_t *v = json_object_get(c, each_layer[i]), *list = json_array();
        json_int_t x = json_integer_value(json_is_array(v) ? json_array_get(v, 0) : v);
        for (json_int_t l = 0; l < layers - less; l++)
            json_array_append_new(list, json_integer(x + (odd && l == layers - 1)));
        if (v != NULL)
            json_object_set(c, each_layer[i], list);
        n += v != NULL;
        json_decref(list);
    }
    return n;
}

static void test_lists(void **state)
{
    struct mb_bytes b = {0};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (int form = 0; form < 3; form++) {
            json_t *text = text_of(names[i]), *c = json_deep_copy(text);
            assert_true(as_lists(c, form == 1, form == 2) > 0);
            if (form == 0)
                expect_same(text, c, names[i], "sizes are lists");
            else
                assert_int_equal(open_form(c, &b), MB_MODEL);
            json_decref(c);
            json_decref(text);
        }
    }
    mb_bytes_fini(&b);
}

/* The one published file with lists, as a file with numbers. */
static void test_numbers(void **state)
{
    static const char *const keys[] = {"moe_topk", "moe_intermediate_size", "num_shared_expert"};

    (void)state;
    json_t *text = text_of("hunyuan-a13b"), *c = json_deep_copy(text);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_true(json_is_array(json_object_get(text, keys[i])));
        json_object_set(c, keys[i], json_array_get(json_object_get(text, keys[i]), 0));
    }
    expect_same(text, c, "hunyuan-a13b", "sizes are numbers");
    json_decref(c);
    json_decref(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nested), cmocka_unit_test(test_beside),
                                       cmocka_unit_test(test_null), cmocka_unit_test(test_lists),
                                       cmocka_unit_test(test_numbers)};
    dir_make(dir);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove(dir);
    return failed;
}
