/* Tokenizers against the stored reference cases (tests/data/tokenizers, made with HF tokenizers and
 * sentencepiece): ids, decoding, invalid UTF-8, random ids; incremental decoding against whole decoding at
 * every split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/fs.h"
#include "base/publish.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/base64.h"
#include "text/norm.h"
#include "text/tokenizer.h"

static const char *data_path(const char *dir, const char *file)
{
    static char path[2][1024];
    static int turn;
    const char *top = getenv("top_srcdir");
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/tests/data/tokenizers/%s/%s", top != NULL ? top : ".", dir,
             file);
    return path[turn];
}

struct counts {
    int encode, plain, decode, skip, bad_utf8, splits, contexts;
};

static void ids_of(const json_t *list, struct mb_ids *out)
{
    *out = (struct mb_ids){0};
    out->n = out->cap = (int64_t)json_array_size(list);
    out->v = malloc((size_t)(out->n + 1) * sizeof *out->v);
    assert_non_null(out->v);
    for (int64_t i = 0; i < out->n; i++)
        out->v[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
}

static void fail_with_ids(const char *what, const char *text, const struct mb_ids *got,
                          const struct mb_ids *want)
{
    print_error("%s: %s\n   got:", what, text);
    for (int64_t i = 0; i < got->n; i++)
        print_error(" %d", got->v[i]);
    print_error("\n  want:");
    for (int64_t i = 0; i < want->n; i++)
        print_error(" %d", want->v[i]);
    print_error("\n");
    fail();
}

static void check_encode(const struct mb_tokenizer *t, const char *s, size_t n, bool special,
                         const json_t *want_ids, const char *what)
{
    struct mb_ids got = {0}, want;
    ids_of(want_ids, &want);
    assert_int_equal(mb_tokenizer_encode(t, s, n, special, &got), MB_OK);
    if (got.n != want.n || (got.n > 0 && memcmp(got.v, want.v, (size_t)got.n * 4) != 0))
        fail_with_ids(what, s, &got, &want);
    free(got.v);
    free(want.v);
}

static void check_text(const struct mb_bytes *got, const char *want, size_t n, const char *what)
{
    if (got->len == n && (n == 0 || memcmp(got->data, want, n) == 0))
        return;
    print_error("%s\n   got %zu: %.*s\n  want %zu: %.*s\n", what, got->len, (int)got->len, (char *)got->data,
                n, (int)n, want);
    fail();
}

static void check_decode(const struct mb_tokenizer *t, const struct mb_ids *ids, bool skip,
                         const json_t *want, const char *what)
{
    struct mb_bytes out = {0};
    assert_int_equal(mb_tokenizer_decode(t, ids->v, ids->n, skip, &out), MB_OK);
    check_text(&out, json_string_value(want), json_string_length(want), what);
    mb_bytes_fini(&out);
}

/* Length of the longest common prefix in whole characters. */
static size_t shared_prefix(const struct mb_bytes *a, const struct mb_bytes *b)
{
    size_t i = 0;
    while (i < a->len && i < b->len && a->data[i] == b->data[i])
        i++;
    while (i > 0 &&
           ((i < a->len && (a->data[i] & 0xc0) == 0x80) || (i < b->len && (b->data[i] & 0xc0) == 0x80)))
        i--;
    return i;
}

/* Context ids[0 .. k), then the rest one by one: the text is what the definition says. */
static void check_split(const struct mb_tokenizer *t, struct mb_decoder *d, const struct mb_ids *ids,
                        int64_t k, struct counts *c)
{
    struct mb_bytes got = {0}, head = {0}, all = {0};
    assert_int_equal(mb_tokenizer_decode(t, ids->v, k, true, &head), MB_OK);
    assert_int_equal(mb_tokenizer_decode(t, ids->v, ids->n, true, &all), MB_OK);
    assert_int_equal(mb_decoder_context(d, ids->v, k), MB_OK);
    for (int64_t i = k; i < ids->n; i++) {
        assert_int_equal(mb_decoder_put(d, ids->v[i], &got), MB_OK);
        assert_true(mb_utf8_valid((char *)got.data, got.len)); /* only whole characters come out */
    }
    assert_int_equal(mb_decoder_finish(d, &got), MB_OK);
    size_t p = shared_prefix(&head, &all);
    check_text(&got, all.len > p ? (char *)all.data + p : "", all.len - p, "incremental decoding");
    c->contexts += p == head.len;
    c->splits++;
    mb_bytes_fini(&got);
    mb_bytes_fini(&head);
    mb_bytes_fini(&all);
}

static void check_all_splits(const struct mb_tokenizer *t, const struct mb_ids *ids, struct counts *c)
{
    struct mb_decoder *d = NULL;
    assert_int_equal(mb_decoder_create(t, &d), MB_OK);
    int64_t step = ids->n > 512 ? ids->n / 512 : 1;
    for (int64_t k = 0; k <= ids->n; k += step)
        check_split(t, d, ids, k, c);
    mb_decoder_destroy(d);
}

static void run_encode_case(const struct mb_tokenizer *t, const json_t *e, struct counts *c)
{
    const json_t *text = json_object_get(e, "text"), *plain = json_object_get(e, "ids_plain");
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    struct mb_ids ids;
    bool spm = plain == NULL; /* the sentencepiece cases have ids without specials only */
    ids_of(json_object_get(e, "ids"), &ids);
    check_encode(t, s, n, !spm, json_object_get(e, "ids"), "encode");
    c->encode++;
    if (!spm) {
        check_encode(t, s, n, false, json_is_null(plain) ? json_object_get(e, "ids") : plain,
                     "encode, plain");
        c->plain++;
        check_decode(t, &ids, true, json_object_get(e, "decoded_skip"), "decode, skipping specials");
        c->skip++;
    }
    check_decode(t, &ids, false, json_object_get(e, "decoded"), "decode");
    c->decode++;
    check_all_splits(t, &ids, c);
    free(ids.v);
}

static void run_decode_case(const struct mb_tokenizer *t, const json_t *e, struct counts *c)
{
    struct mb_ids ids;
    ids_of(json_object_get(e, "ids"), &ids);
    check_decode(t, &ids, false, json_object_get(e, "decoded"), "decode of random ids");
    check_decode(t, &ids, true, json_object_get(e, "decoded_skip"),
                 "decode of random ids, skipping specials");
    c->decode++;
    c->skip++;
    check_all_splits(t, &ids, c);
    free(ids.v);
}

static void run_bytes_case(const struct mb_tokenizer *t, const json_t *e, struct counts *c)
{
    const char *hex = json_string_value(json_object_get(e, "hex"));
    const json_t *want = json_object_get(e, "replaced");
    char raw[256];
    size_t n = strlen(hex) / 2;
    struct mb_bytes got = {0};
    for (size_t i = 0; i < n; i++) {
        unsigned b = 0;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &b), 1);
        raw[i] = (char)b;
    }
    assert_int_equal(mb_utf8_repair(raw, n, false, &got), MB_OK);
    check_text(&got, json_string_value(want), json_string_length(want), "repair");
    check_encode(t, (char *)got.data, got.len, false, json_object_get(e, "ids"), "encode of repaired bytes");
    mb_bytes_fini(&got);
    c->bad_utf8++;
}

static void run_file(const char *dir, const char *tokenizer, const char *cases)
{
    struct mb_tokenizer *t = NULL;
    json_t *root = NULL;
    struct counts c = {0};
    size_t i;
    json_t *e;
    assert_int_equal(mb_tokenizer_load(data_path(dir, tokenizer), &t), MB_OK);
    assert_int_equal(mb_json_load(data_path(dir, cases), 1 << 24, MB_INPUT, &root), MB_OK);
    assert_int_equal(mb_tokenizer_size(t), json_integer_value(json_object_get(root, "vocab_size")));
    json_array_foreach(json_object_get(root, "encode"), i, e) run_encode_case(t, e, &c);
    json_array_foreach(json_object_get(root, "decode"), i, e) run_decode_case(t, e, &c);
    json_array_foreach(json_object_get(root, "invalid_utf8"), i, e) run_bytes_case(t, e, &c);
    print_message(
        "%s/%s: %d encode, %d plain, %d decode, %d decode without specials, %d invalid UTF-8 exact; "
        "%d incremental splits equal (%d with the context as a prefix)\n",
        dir, tokenizer, c.encode, c.plain, c.decode, c.skip, c.bad_utf8, c.splits, c.contexts);
    json_decref(root);
    mb_tokenizer_destroy(t);
}

static void test_reference(void **state)
{
    run_file(*state, "tokenizer.json", "cases.json");
}

/* Texts too long to be stored: the number of ids, and a sum of them by place. */
static void check_long(const struct mb_tokenizer *t, const json_t *e)
{
    const char *unit = json_string_value(json_array_get(e, 0));
    int64_t sum = 0;
    struct mb_bytes text = {0};
    struct mb_ids ids = {0};
    for (json_int_t i = json_integer_value(json_array_get(e, 1)); i > 0; i--)
        assert_int_equal(mb_bytes_put(&text, unit, strlen(unit)), MB_OK);
    assert_int_equal(mb_tokenizer_encode(t, (char *)text.data, text.len, true, &ids), MB_OK);
    assert_int_equal(ids.n, json_integer_value(json_array_get(e, 2)));
    for (int64_t i = 0; i < ids.n; i++)
        sum += (i % 1000 + 1) * ids.v[i];
    assert_int_equal(sum, json_integer_value(json_array_get(e, 3)));
    mb_bytes_fini(&text);
    free(ids.v);
}

/* tiktoken's own form, against the tiktoken package as Kimi's tokenizer class uses it. */
static void test_tiktoken(void **state)
{
    struct mb_tokenizer *t = NULL;
    json_t *root = NULL, *e;
    size_t i;
    (void)state;
    run_file("tiktoken", "tiktoken.model", "cases.json");
    assert_int_equal(mb_tokenizer_load(data_path("tiktoken", ""), &t), MB_OK); /* as a directory */
    assert_int_equal(mb_json_load(data_path("tiktoken", "cases.json"), 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "long"), i, e) check_long(t, e);
    assert_int_equal(i, 4);
    json_decref(root);
    mb_tokenizer_destroy(t);
}

/* Small models of pieces whose scores tie, or nearly: the path that sentencepiece takes. */
static void test_spm_ties(void **state)
{
    char dir[] = "unit_tokenizer.XXXXXX", path[256];
    json_t *root = NULL, *e, *text;
    size_t i, k, n = 0;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.model", dir);
    assert_int_equal(mb_json_load(data_path("spm_ties", "cases.json"), 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "models"), i, e)
    {
        const json_t *model = json_object_get(e, "model");
        struct mb_bytes bytes = {0};
        struct mb_tokenizer *t = NULL;
        bool valid;
        assert_int_equal(mb_base64_put(json_string_value(model), json_string_length(model), &bytes, &valid), MB_OK);
        assert_true(valid);
        assert_int_equal(mb_publish_bytes(path, bytes.data, bytes.len, 0), MB_OK);
        assert_int_equal(mb_tokenizer_load(path, &t), MB_OK);
        json_array_foreach(json_object_get(e, "texts"), k, text)
        {
            check_encode(t, json_string_value(text), json_string_length(text), false, json_array_get(json_object_get(e, "ids"), k),
                         json_string_value(json_object_get(e, "what")));
            n++;
        }
        mb_tokenizer_destroy(t);
        mb_bytes_fini(&bytes);
    }
    assert_int_equal(n, 800);
    json_decref(root);
    assert_int_equal(mb_remove_tree(dir), MB_OK);
}

static void test_spm_bpe(void **state)
{
    (void)state;
    run_file("spm_model", "bpe.model", "bpe_cases.json");
}

static void test_spm_unigram(void **state)
{
    (void)state;
    run_file("spm_model", "unigram.model", "unigram_cases.json");
}

/* A directory with a *.model only: BOS as its tokenizer_config.json says. */
static void test_spm_directory(void **state)
{
    static const struct {
        const char *config;
        int64_t front, back;
    } all[] = {{NULL, 0, 0},
               {"{}", 0, 0},
               {"{\"tokenizer_class\": \"LlamaTokenizer\"}", 1, 0},
               {"{\"tokenizer_class\": \"LlamaTokenizer\", \"add_bos_token\": false}", 0, 0},
               {"{\"add_bos_token\": true, \"add_eos_token\": true}", 1, 1}};
    char dir[] = "unit_tokenizer.XXXXXX", path[256];
    struct mb_bytes model = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(mb_file_read(data_path("spm_model", "bpe.model"), 1 << 24, MB_INPUT, &model), MB_OK);
    snprintf(path, sizeof path, "%s/any.model", dir);
    assert_int_equal(mb_publish_bytes(path, model.data, model.len, 0), MB_OK);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct mb_tokenizer *t = NULL;
        struct mb_ids with = {0}, without = {0};
        snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
        if (all[i].config != NULL)
            assert_int_equal(mb_publish_bytes(path, all[i].config, strlen(all[i].config), 0), MB_OK);
        assert_int_equal(mb_tokenizer_load(dir, &t), MB_OK);
        assert_int_equal(mb_tokenizer_encode(t, "text", 4, true, &with), MB_OK);
        assert_int_equal(mb_tokenizer_encode(t, "text", 4, false, &without), MB_OK);
        assert_int_equal(with.n, without.n + all[i].front + all[i].back);
        assert_memory_equal(with.v + all[i].front, without.v, (size_t)without.n * 4);
        assert_int_equal(mb_tokenizer_adds_front(t, mb_tokenizer_id(t, "<s>", 3)), all[i].front == 1);
        free(with.v);
        free(without.v);
        mb_tokenizer_destroy(t);
    }
    mb_bytes_fini(&model);
    assert_int_equal(mb_remove_tree(dir), MB_OK);
}

static void test_e2e(void **state)
{
    const char *dir = *state;
    struct mb_tokenizer *t = NULL;
    json_t *root = NULL, *e;
    size_t i;
    assert_int_equal(mb_tokenizer_load(data_path(dir, ""), &t), MB_OK); /* as a directory */
    assert_int_equal(mb_json_load(data_path(dir, "e2e.json"), 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "cases"), i, e)
    {
        const json_t *text = json_object_get(e, "text");
        struct mb_ids ids;
        check_encode(t, json_string_value(text), json_string_length(text), true, json_object_get(e, "ids"),
                     "encode");
        ids_of(json_object_get(e, "greedy_ids"), &ids);
        check_decode(t, &ids, true, json_object_get(e, "greedy_text"), "decode");
        free(ids.v);
    }
    assert_true(i > 0);
    json_decref(root);
    mb_tokenizer_destroy(t);
}

/* One case of beside/cases.json: a directory with these files, and what transformers makes of the texts. */
static void check_beside(const json_t *e, const json_t *texts, const struct mb_bytes *tokenizer)
{
    char dir[] = "unit_tokenizer.XXXXXX", path[256];
    struct mb_tokenizer *t = NULL;
    const char *name;
    json_t *v;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(mb_publish_bytes(path, tokenizer->data, tokenizer->len, 0), MB_OK);
    json_object_foreach(json_object_get(e, "files"), name, v)
    {
        char *text = json_dumps(v, 0);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        assert_non_null(text);
        assert_int_equal(mb_publish_bytes(path, text, strlen(text), 0), MB_OK);
        free(text);
    }
    assert_int_equal(mb_tokenizer_load(dir, &t), MB_OK);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i), *want = json_array_get(json_object_get(e, "ids"), i);
        struct mb_ids ids;
        check_encode(t, json_string_value(text), json_string_length(text), false, want, json_string_value(json_object_get(e, "name")));
        ids_of(want, &ids);
        check_decode(t, &ids, true, json_array_get(json_object_get(e, "decoded"), i), json_string_value(json_object_get(e, "name")));
        free(ids.v);
    }
    mb_tokenizer_destroy(t);
    assert_int_equal(mb_remove_tree(dir), MB_OK);
}

/* Tokens that only the files beside a tokenizer.json name. */
static void test_beside(void **state)
{
    struct mb_bytes tokenizer = {0};
    json_t *root = NULL, *e;
    size_t i;
    (void)state;
    assert_int_equal(mb_file_read(data_path("spm_mixtral", "tokenizer.json"), 1 << 24, MB_INPUT, &tokenizer), MB_OK);
    assert_int_equal(mb_json_load(data_path("beside", "cases.json"), 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "cases"), i, e) check_beside(e, json_object_get(root, "texts"), &tokenizer);
    assert_int_equal(i, 15);
    json_decref(root);
    mb_bytes_fini(&tokenizer);
}

/* Ruby's patterns, with classes in classes, intersections and characters newer than PCRE2's tables. */
static void test_patterns(void **state)
{
    json_t *root = NULL, *e, *text;
    size_t i, k;
    (void)state;
    assert_int_equal(mb_json_load(data_path("patterns", "cases.json"), 1 << 24, MB_INPUT, &root), MB_OK);
    json_array_foreach(json_object_get(root, "cases"), i, e)
    {
        const json_t *re = json_array_get(e, 0);
        struct mb_norm norm = {.kind = MB_NORM_REPLACE};
        struct mb_work w = {0};
        assert_int_equal(mb_pattern_init(&norm.pattern, json_string_value(re), json_string_length(re), true, "test"), MB_OK);
        assert_int_equal(mb_bytes_put(&norm.text, "|", 1), MB_OK);
        json_array_foreach(json_object_get(root, "texts"), k, text)
        {
            const json_t *want = json_array_get(json_array_get(e, 1), k);
            struct mb_bytes out = {0};
            bool first = true;
            assert_int_equal(mb_norm_apply(&norm, 1, json_string_value(text), json_string_length(text), &w, &first, &out), MB_OK);
            check_text(&out, json_string_value(want), json_string_length(want), json_string_value(re));
            mb_bytes_fini(&out);
        }
        mb_work_fini(&w);
        mb_norm_fini(&norm);
    }
    assert_true(i > 30);
    json_decref(root);
}

static void test_lookup(void **state)
{
    struct mb_tokenizer *t = NULL;
    (void)state;
    assert_int_equal(mb_tokenizer_load(data_path("spm_mixtral", "tokenizer.json"), &t), MB_OK);
    assert_int_equal(mb_tokenizer_id(t, "<s>", 3), 1);
    assert_int_equal(mb_tokenizer_id(t, "[INST]", 6), 1400);
    assert_int_equal(mb_tokenizer_id(t, "<0x00>", 6) >= 0, 1);
    assert_int_equal(mb_tokenizer_id(t, "no such token", 13), -1);
    assert_true(mb_tokenizer_adds_front(t, 1));
    assert_false(mb_tokenizer_adds_front(t, 2));
    mb_tokenizer_destroy(t);
}

/* A decoder whose first step leaves nothing of a token, before anything was decoded: tests/fuzz/seeds, found by the fuzzer. */
static void test_nothing_left(void **state)
{
    struct mb_tokenizer *t = NULL;
    struct mb_bytes out = {0};
    (void)state;
    assert_int_equal(mb_tokenizer_load(data_path("../../fuzz/seeds/tokenizer", "replaced"), &t), MB_OK);
    int32_t space = mb_tokenizer_id(t, "\xe2\x96\x81", 3), e = mb_tokenizer_id(t, "e", 1), ids[] = {space, space, e, space};
    assert_true(space >= 0 && e >= 0);
    assert_int_equal(mb_tokenizer_decode(t, ids, 2, false, &out), MB_OK);
    assert_int_equal(out.len, 0);
    assert_int_equal(mb_tokenizer_decode(t, ids, 4, false, &out), MB_OK);
    assert_int_equal(out.len, 1);
    assert_int_equal(out.data[0], 'e');
    mb_bytes_fini(&out);
    mb_tokenizer_destroy(t);
}

#define REFERENCE(name)                                                                                      \
    {                                                                                                        \
        "reference " name, test_reference, NULL, NULL, (void *)name                                          \
    }
#define E2E(name)                                                                                            \
    {                                                                                                        \
        "e2e " name, test_e2e, NULL, NULL, (void *)name                                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        REFERENCE("bpe_qwen"),
        REFERENCE("bpe_deepseek"),
        REFERENCE("bpe_gpt4_dbrx"),
        REFERENCE("gpt2_bytelevel"),
        REFERENCE("spm_mixtral"),
        REFERENCE("spm_metaspace"),
        E2E("e2e_deepseekv3_a"),
        E2E("e2e_mixtral_a"),
        E2E("e2e_qwen2moe_a"),
        cmocka_unit_test(test_tiktoken),
        cmocka_unit_test(test_spm_ties),
        cmocka_unit_test(test_spm_bpe),
        cmocka_unit_test(test_spm_unigram),
        cmocka_unit_test(test_spm_directory),
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_nothing_left),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
