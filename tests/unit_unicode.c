/* Every code point through five tokenizers against what Hugging Face's tokenizers package makes of it
 * (tests/data/tokenizers/unicode, whose make.py says how): classes in patterns, normal forms, lower case,
 * marks, digits, punctuation, words. Of blocks of 64 code points each UNICODE_STRIDE-th (environment; default
 * 16) is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/json.h"
#include "text/tokenizer.h"
#include "base/utf8.h"

static json_t *root;
static uint32_t *points;
static size_t n_points;

static const char *path_of(const char *name)
{
    static char path[1024];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/data/tokenizers/unicode/%s", top != NULL ? top : ".", name);
    return path;
}

static int setup(void **state)
{
    size_t i;
    json_t *range;
    (void)state;
    if (mb_json_load(path_of("blocks.json"), 1 << 24, MB_INPUT, &root) != MB_OK)
        return -1;
    points = malloc(0x110000 * sizeof *points);
    assert_non_null(points);
    json_array_foreach(json_object_get(root, "points"), i, range)
    {
        json_int_t last = json_integer_value(json_array_get(range, 1));
        for (json_int_t c = json_integer_value(json_array_get(range, 0)); c <= last; c++)
            points[n_points++] = (uint32_t)c;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(root);
    free(points);
    return 0;
}

/* c a c b SPACE c c SPACE 1 c 2 SPACE A c U+0327 U+0301 z c */
static void put_text(struct mb_bytes *out, uint32_t c)
{
    static const char *const parts[] = {"a", "b ", "", " 1", "2 A", "\xcc\xa7\xcc\x81z", ""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_int_equal(mb_utf8_append(out, c), MB_OK);
        assert_int_equal(mb_bytes_put(out, parts[i], strlen(parts[i])), MB_OK);
    }
}

static void hash_block(const struct mb_tokenizer *t, const uint32_t *c, size_t n, char out[9])
{
    struct mb_bytes text = {0};
    struct mb_ids ids = {0};
    uint32_t h = 0x811c9dc5;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            assert_int_equal(mb_bytes_put(&text, "\n", 1), MB_OK);
        put_text(&text, c[i]);
    }
    assert_int_equal(mb_tokenizer_encode(t, (char *)text.data, text.len, false, &ids), MB_OK);
    for (int64_t i = 0; i < ids.n; i++) {
        h = (h ^ (uint32_t)(ids.v[i] & 255)) * 0x01000193;
        h = (h ^ (uint32_t)(ids.v[i] >> 8)) * 0x01000193;
    }
    snprintf(out, 9, "%08x", h);
    mb_bytes_fini(&text);
    free(ids.v);
}

static void test_points(void **state)
{
    const char *name = *state,
               *want = json_string_value(json_object_get(json_object_get(root, "hashes"), name));
    const char *stride = getenv("UNICODE_STRIDE");
    size_t step = stride != NULL ? (size_t)atoi(stride) : 16, bad = 0, seen = 0;
    struct mb_tokenizer *t = NULL;
    char file[64], got[9];
    snprintf(file, sizeof file, "%s.json", name);
    assert_non_null(want);
    assert_int_equal(strlen(want), (n_points + 63) / 64 * 8);
    assert_int_equal(mb_tokenizer_load(path_of(file), &t), MB_OK);
    assert_true(step > 0);
    for (size_t i = strlen(name) % step; i * 64 < n_points; i += step, seen++) {
        size_t n = n_points - i * 64 < 64 ? n_points - i * 64 : 64;
        hash_block(t, points + i * 64, n, got);
        if (memcmp(got, want + i * 8, 8) != 0 && bad++ < 10)
            print_error("%s: a code point from U+%04X to U+%04X differs\n", name, points[i * 64],
                        points[i * 64 + n - 1]);
    }
    print_message("%s: %zu blocks of %zu\n", name, seen, (n_points + 63) / 64);
    assert_int_equal(bad, 0);
    mb_tokenizer_destroy(t);
}

#define OF(name)                                                                                             \
    {                                                                                                        \
        name, test_points, NULL, NULL, (void *)name                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {OF("qwen"), OF("o200k"), OF("deepseek"), OF("words"), OF("bert")};
    return cmocka_run_group_tests_name("unicode", tests, setup, teardown);
}
