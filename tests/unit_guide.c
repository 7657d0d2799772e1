/* Grammars: regular expressions against PCRE2, masks against feeding every token of a vocabulary, walks that
 * never lose their way, texts that are no grammar, and those that would cost too much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/json.h"
#include "base/rng.h"
#include "guide/guide.h"

static uint32_t drawn;
static uint32_t rnd(uint32_t n)
{
    uint32_t ctr[4] = {drawn++, 0, 0, 0}, out[4];
    mb_philox4x32(ctr, 11, out);
    return out[0] % n;
}

/* ---------------------------------------------------------------- a vocabulary */

enum { END = 0, BYTES = 256, PIECES = 300, VOCAB = 1 + BYTES + PIECES };

/* 0 ends a text; then every byte; then pieces of JSON of one to eight bytes, some of them twice. */
static enum mb_status tokens(void *arg, int32_t n, struct mb_bytes *text, int64_t *at)
{
    static const char letters[] = "\"\"{}[]:,, 0123456789.-eabcdtrufls\\nx/";
    (void)arg;
    uint32_t was = drawn;
    drawn = 1 << 20;
    at[0] = at[1] = 0;
    for (int32_t i = 1; i < n; i++) {
        uint32_t len = i <= BYTES ? 1 : 1 + rnd(8);
        for (uint32_t k = 0; k < len; k++) {
            uint8_t b = i <= BYTES ? (uint8_t)(i - 1) : (uint8_t)letters[rnd(sizeof letters - 1)];
            MB_TRY(mb_bytes_put(text, &b, 1));
        }
        at[i + 1] = (int64_t)text->len;
    }
    drawn = was;
    return MB_OK;
}

static struct mb_guides *guides(int64_t bytes)
{
    static const int32_t end = END;
    const struct mb_guides_options o = {
        .vocab = VOCAB, .ends = &end, .n_ends = 1, .tokens = tokens, .bytes = bytes};
    struct mb_guides *g = NULL;
    assert_int_equal(mb_guides_create(&o, &g), MB_OK);
    return g;
}

static struct mb_guide *open_guide(struct mb_guides *g, enum mb_guide_kind kind, const char *text)
{
    struct mb_guide *u = NULL;
    char err[400] = "";
    enum mb_status st = mb_guide_open(g, kind, text, strlen(text), &u, err, sizeof err);
    if (st != MB_OK)
        print_error("%s: %s\n", text, err);
    assert_int_equal(st, MB_OK);
    return u;
}

/* Byte b is token b + 1. */
static bool lets_through(struct mb_guide *u, const char *s, size_t n)
{
    struct mb_config at = {0};
    struct mb_guide_mask mask;
    bool ok = true;
    assert_int_equal(mb_guide_begin(u, &at), MB_OK);
    for (size_t i = 0; ok && i < n; i++)
        assert_int_equal(mb_guide_take(u, &at, 1 + (uint8_t)s[i], &ok), MB_OK);
    if (ok) {
        assert_int_equal(mb_guide_next(u, &at, &mask), MB_OK);
        assert_int_equal(mask.bits[0] & 1, mask.ends);
        ok = mask.ends;
    }
    mb_config_fini(&at);
    return ok;
}

/* ---------------------------------------------------------------- regular expressions */

static void put(char *out, size_t cap, const char *s)
{
    size_t n = strlen(out);
    snprintf(out + n, cap - n, "%s", s);
}

/* A random expression over a, b, c and two characters of more bytes. */
static void random_regex(char *out, size_t cap, int depth)
{
    static const char *const atoms[] = {"a",    "b",   "c",     ".",        "[ab]",
                                        "[^a]", "\\w", "\\D",   "\xc3\xa9", "[\xc3\xa9-\xe2\x82\xac]",
                                        "^",    "$",   "\\x61", "[^b-c]",   "\\s"};
    static const char *const counts[] = {"",    "",      "",      "*",    "+",  "?",
                                         "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?"};
    int n = 1 + (int)rnd(3);
    for (int i = 0; i < n; i++) {
        bool group = depth > 0 && rnd(3) == 0;
        if (group) {
            put(out, cap, rnd(2) ? "(" : "(?:");
            random_regex(out, cap, depth - 1);
            put(out, cap, ")");
        } else {
            uint32_t k = rnd(sizeof atoms / sizeof *atoms);
            put(out, cap, atoms[k]);
            if (atoms[k][0] == '^' || atoms[k][0] == '$')
                continue;
        }
        put(out, cap, counts[rnd(sizeof counts / sizeof *counts)]);
    }
    if (depth > 0 && rnd(3) == 0) {
        put(out, cap, "|");
        random_regex(out, cap, depth - 1);
    }
}

static size_t random_text(char *out)
{
    static const char *const parts[] = {"a", "b", "c", "d", " ", "\xc3\xa9", "\xe2\x82\xac", "1"};
    out[0] = 0;
    for (uint32_t n = rnd(7); n > 0; n--)
        put(out, 64, parts[rnd(sizeof parts / sizeof *parts)]);
    return strlen(out);
}

static void test_regex(void **state)
{
    (void)state;
    struct mb_guides *g = guides(0);
    int yes = 0, large = 0;
    for (int t = 0; t < 1500; t++) {
        char regex[512] = "", text[64], err[400];
        random_regex(regex, sizeof regex, 2);
        int code;
        PCRE2_SIZE at;
        pcre2_code *re = pcre2_compile((PCRE2_SPTR)regex, strlen(regex),
                                       PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOLLAR_ENDONLY,
                                       &code, &at, NULL);
        assert_non_null(re);
        pcre2_match_data *m = pcre2_match_data_create_from_pattern(re, NULL);
        struct mb_guide *u = NULL;
        enum mb_status st = mb_guide_open(g, MB_GUIDE_REGEX, regex, strlen(regex), &u, err, sizeof err);
        bool refused = st == MB_REQUEST && strstr(err, "states") != NULL;
        large += refused;
        for (int k = 0; k < 40 && !refused; k++) {
            size_t n = random_text(text);
            bool want = pcre2_match(re, (PCRE2_SPTR)text, n, 0, 0, m, NULL) >= 0;
            bool got = st == MB_OK && lets_through(u, text, n); /* refused: no text at all matches */
            yes += want;
            if (want != got)
                print_error("%s on \"%s\": %d, %s\n", regex, text, got, st != MB_OK ? err : "");
            assert_int_equal(got, want);
        }
        mb_guide_close(u);
        pcre2_match_data_free(m);
        pcre2_code_free(re);
    }
    assert_true(yes > 2000);
    assert_true(large < 15);
    mb_guides_destroy(g);
}

/* ---------------------------------------------------------------- masks */

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":9},\"ab\":{\"type\":"
    "\"integer\",\"minimum\":-5,\"maximum\":300},"
    "\"b\":{\"enum\":[\"tr\",\"true\",null,7,[1,{}]]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":"
    "false}",
    "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"boolean\"},{\"type\":\"number\",\"multipleOf\":0."
    "5,\"minimum\":0,\"maximum\":20},"
    "{\"type\":\"string\",\"pattern\":\"^[a-d]{1,4}$\"}]},\"minItems\":2,\"maxItems\":5}",
    "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":\"integer\","
    "\"minimum\":1,\"maximum\":9}},"
    "\"required\":[\"t\",\"x\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"t\":{"
    "\"const\":\"b\"},\"y\":{\"type\":"
    "\"string\",\"format\":\"date\"}},\"required\":[\"t\",\"y\"],\"additionalProperties\":false}]}",
    "{\"$ref\":\"#/$defs/"
    "tree\",\"$defs\":{\"tree\":{\"type\":\"array\",\"maxItems\":2,\"items\":{\"$ref\":\"#/$defs/tree\"}}}}",
    "{\"type\":\"object\",\"patternProperties\":{\"^[ab]{1,3}$\":{\"type\":\"null\"}},"
    "\"additionalProperties\":false,\"minProperties\":1,"
    "\"maxProperties\":3}",
    "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}"
    "],\"items\":false,\"minItems\":2}",
    "{\"type\":\"array\",\"contains\":{\"const\":true},\"items\":{\"type\":\"boolean\"},\"maxItems\":4,"
    "\"minContains\":2}",
    "{\"not\":{\"type\":[\"string\",\"object\",\"array\",\"number\"]}}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"boolean\"}},\"required\":[\"a\"],\"if\":{"
    "\"properties\":{\"a\":{\"const\":true}}},"
    "\"then\":{\"properties\":{\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]},\"additionalProperties\":{"
    "\"type\":\"null\"},"
    "\"propertyNames\":{\"maxLength\":40,\"pattern\":\"^[a-c]*$\"}}",
};
enum { SCHEMAS = sizeof schemas / sizeof *schemas };

/* What the mask says of each token is what becomes of the token; but a name that is there already is not
 * refused, only not offered. */
static void check_mask(struct mb_guide *u, bool names, const struct mb_config *at,
                       const struct mb_guide_mask *m)
{
    int32_t n = 0;
    for (int32_t i = 1; i < VOCAB; i++) {
        struct mb_config c = {0};
        bool ok;
        assert_true(mb_config_copy(at, &c));
        assert_int_equal(mb_guide_take(u, &c, i, &ok), MB_OK);
        mb_config_fini(&c);
        bool offered = m->bits[i / 32] >> i % 32 & 1;
        assert_true(offered == ok || (names && ok));
        n += offered;
    }
    assert_int_equal(n, m->tokens);
}

/* Draws tokens that the masks allow until the text may end and one chance of two says so; the text. Two
 * stores, one of which forgets all the time, say the same. */
static void walk(struct mb_guide *u, struct mb_guide *small, bool look, bool names, struct mb_bytes *text)
{
    struct mb_config at = {0};
    struct mb_guide_mask m, same;
    struct mb_bytes all = {0};
    int64_t where[VOCAB + 1];
    bool ok;
    assert_int_equal(tokens(NULL, VOCAB, &all, where), MB_OK);
    assert_int_equal(mb_guide_begin(u, &at), MB_OK);
    text->len = 0;
    for (int steps = 0;; steps++) {
        assert_true(steps < 200000);
        assert_int_equal(mb_guide_next(u, &at, &m), MB_OK);
        assert_int_equal(mb_guide_next(small, &at, &same), MB_OK);
        assert_memory_equal(m.bits, same.bits, 4 * ((VOCAB + 31) / 32));
        if (look)
            check_mask(u, names, &at, &m);
        if (m.ends && (m.tokens == 0 || rnd(2)))
            break;
        if (m.tokens == 0)
            print_error("lost behind %.*s\n", (int)text->len, (char *)text->data);
        assert_true(m.tokens > 0); /* never lost */
        uint32_t k = rnd((uint32_t)m.tokens);
        int32_t i = 1;
        for (;; i++)
            if ((m.bits[i / 32] >> i % 32 & 1) && k-- == 0)
                break;
        assert_int_equal(mb_guide_take(u, &at, i, &ok), MB_OK);
        assert_true(ok);
        assert_int_equal(mb_bytes_put(text, all.data + where[i], (size_t)(where[i + 1] - where[i])), MB_OK);
    }
    mb_bytes_fini(&all);
    mb_config_fini(&at);
}

static void test_masks(void **state)
{
    (void)state;
    struct mb_guides *g = guides(0), *small = guides(1);
    struct mb_bytes text = {0};
    for (int s = 0; s < SCHEMAS; s++) {
        struct mb_guide *u = open_guide(g, MB_GUIDE_JSON, schemas[s]),
                        *v = open_guide(small, MB_GUIDE_JSON, schemas[s]);
        for (int t = 0; t < 30; t++) {
            json_t *doc;
            char err[200];
            walk(u, v, t < 2, strstr(schemas[s], "patternProp") || strstr(schemas[s], "propertyN"), &text);
            enum mb_status st =
                mb_json_parse(text.data, text.len, "a text", MB_REQUEST, err, sizeof err, &doc);
            if (st != MB_OK)
                print_error("schema %d: %.*s: %s\n", s, (int)text.len, (char *)text.data, err);
            assert_int_equal(st, MB_OK);
            json_decref(doc);
            assert_true(lets_through(u, (const char *)text.data, text.len));
        }
        mb_guide_close(u);
        mb_guide_close(v);
    }
    mb_bytes_fini(&text);
    mb_guides_destroy(g);
    mb_guides_destroy(small);
}

/* The same text is the same guide, whose masks are made once. */
static void test_shared(void **state)
{
    (void)state;
    struct mb_guides *g = guides(0);
    struct mb_guide *a = open_guide(g, MB_GUIDE_JSON, schemas[0]),
                    *b = open_guide(g, MB_GUIDE_JSON, schemas[0]);
    struct mb_config at = {0};
    struct mb_guide_mask m;
    int64_t made, given;
    assert_ptr_equal(a, b);
    assert_int_equal(mb_guide_begin(a, &at), MB_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(mb_guide_next(a, &at, &m), MB_OK);
    mb_guides_count(g, &made, &given);
    assert_int_equal(made, 1);
    assert_int_equal(given, 5);
    mb_guide_close(a);
    mb_guide_close(b);
    for (int i = 0; i < 300; i++) { /* those that nobody uses leave */
        char text[64];
        snprintf(text, sizeof text, "[ab]{%d}", i + 1);
        mb_guide_close(open_guide(g, MB_GUIDE_REGEX, text));
    }
    mb_config_fini(&at);
    mb_guides_destroy(g);
}

/* ---------------------------------------------------------------- no grammars */

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        enum mb_guide_kind kind;
        const char *text, *why;
    } cases[] = {
        {MB_GUIDE_REGEX, "(a", "without its )"},
        {MB_GUIDE_REGEX, "a)", "without its ("},
        {MB_GUIDE_REGEX, "[a", "without its ]"},
        {MB_GUIDE_REGEX, "a{3,2}", "ends below its beginning"},
        {MB_GUIDE_REGEX, "*a", "nothing to repeat"},
        {MB_GUIDE_REGEX, "a**", "quantifier of a quantifier"},
        {MB_GUIDE_REGEX, "(?=a)b", "look-around"},
        {MB_GUIDE_REGEX, "(a)\\1", "back reference"},
        {MB_GUIDE_REGEX, "\\bfoo", "word boundary"},
        {MB_GUIDE_REGEX, "\\p{L}", "\\p is not supported"},
        {MB_GUIDE_REGEX, "(?i)a", "flags"},
        {MB_GUIDE_REGEX, "a\\", "nothing behind it"},
        {MB_GUIDE_REGEX, "$a", "no text matches"},
        {MB_GUIDE_REGEX, ".*a.{200}", "states"},
        {MB_GUIDE_REGEX, "((a{1000}){1000}){1000}", "30000 nodes"},
        {MB_GUIDE_REGEX, "(((((((((){1000}){1000}){1000}){1000}){1000}){1000}){1000}){1000})",
         "repeats too much"},
        {MB_GUIDE_REGEX, "a{10001}", "above 10000"},
        {MB_GUIDE_CHOICE, "[]", "list of strings"},
        {MB_GUIDE_CHOICE, "[\"a\",1]", "list of strings"},
        {MB_GUIDE_JSON, "{", "not JSON"},
        {MB_GUIDE_JSON, "3", "expected a schema"},
        {MB_GUIDE_JSON, "{\"type\":\"thing\"}", "name of a type"},
        {MB_GUIDE_JSON, "{\"properties\":{\"a\":{\"uniqueItems\":true}}}",
         "/properties/a: keyword \"uniqueItems\""},
        {MB_GUIDE_JSON, "{\"unevaluatedProperties\":false}", "unevaluatedProperties"},
        {MB_GUIDE_JSON, "{\"requird\":[]}", "unknown keyword \"requird\""},
        {MB_GUIDE_JSON, "{\"$ref\":\"#\"}", "back to itself"},
        {MB_GUIDE_JSON, "{\"$ref\":\"http://x/y\"}", "into the schema itself"},
        {MB_GUIDE_JSON, "{\"$ref\":\"#/$defs/no\"}", "leads nowhere"},
        {MB_GUIDE_JSON, "{\"format\":\"iri\"}", "format \"iri\""},
        {MB_GUIDE_JSON, "{\"pattern\":\"(\"}", "pattern: a group"},
        {MB_GUIDE_JSON, "{\"minimum\":\"1\"}", "minimum: expected a number"},
        {MB_GUIDE_JSON, "{\"maxLength\":-1}", "maxLength: expected an integer"},
    };
    struct mb_guides *g = guides(0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mb_guide *u;
        char err[400] = "", again[400] = "";
        enum mb_status st =
            mb_guide_open(g, cases[i].kind, cases[i].text, strlen(cases[i].text), &u, err, sizeof err);
        if (st != MB_REQUEST || strstr(err, cases[i].why) == NULL)
            print_error("%s: %d %s\n", cases[i].text, st, err);
        assert_int_equal(st, MB_REQUEST);
        assert_non_null(strstr(err, cases[i].why));
        assert_int_equal(
            mb_guide_open(g, cases[i].kind, cases[i].text, strlen(cases[i].text), &u, again, sizeof again),
            MB_REQUEST);
        assert_string_equal(err, again);
    }
    mb_guides_destroy(g);
}

/* Parts in parts, alternatives of alternatives, values that nest: refused, or followed in bounded memory. */
static void test_hostile(void **state)
{
    (void)state;
    struct mb_guides *g = guides(0);
    struct mb_bytes b = {0};
    struct mb_guide *u;
    char err[400];
    for (int i = 0; i < 500; i++)
        assert_int_equal(mb_bytes_put(&b, "{\"items\":", 9), MB_OK);
    assert_int_equal(mb_bytes_put(&b, "{}", 2), MB_OK);
    for (int i = 0; i < 500; i++)
        assert_int_equal(mb_bytes_put(&b, "}", 1), MB_OK);
    assert_int_equal(mb_guide_open(g, MB_GUIDE_JSON, (char *)b.data, b.len, &u, err, sizeof err), MB_REQUEST);
    b.len = 0;
    for (int i = 0; i < 2000; i++)
        assert_int_equal(mb_bytes_put(&b, "(", 1), MB_OK);
    assert_int_equal(mb_guide_open(g, MB_GUIDE_REGEX, (char *)b.data, b.len, &u, err, sizeof err),
                     MB_REQUEST);
    b.len = 0;
    assert_int_equal(mb_bytes_put(&b, "{\"oneOf\":[", 10), MB_OK);
    for (int i = 0; i < 600; i++)
        assert_int_equal(mb_bytes_put(&b, "{\"minimum\":1},", 14), MB_OK);
    assert_int_equal(mb_bytes_put(&b, "{}]}", 4), MB_OK);
    assert_int_equal(mb_guide_open(g, MB_GUIDE_JSON, (char *)b.data, b.len, &u, err, sizeof err), MB_REQUEST);
    assert_non_null(strstr(err, "512"));
    mb_bytes_fini(&b);

    /* both sides of each level at once: twice as many for each level in a reader that follows them one by one
     */
    u = open_guide(g, MB_GUIDE_JSON,
                   "{\"anyOf\":[{\"items\":{\"$ref\":\"#\"}},{\"items\":{\"$ref\":\"#\"},\"minItems\":1}]}");
    char deep[128];
    memset(deep, '[', 60);
    memset(deep + 60, ']', 60);
    assert_true(lets_through(u, deep, 120));
    memset(deep, '[', 100);
    assert_false(lets_through(u, deep, 100)); /* no deeper than 64 */
    mb_guide_close(u);
    mb_guides_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_regex), cmocka_unit_test(test_masks),
                                       cmocka_unit_test(test_shared), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
