/* Chat templates against Jinja 3.1 as transformers sets it up (tests/data/chat/cases.json, written by
 * make_cases.py beside it), loading from model directories, limits on hostile templates. */
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
#include "text/chat.h"
#include "jinja/jinja.h"
#include "text/tokenizer.h"

static const char *data_path(const char *file)
{
    static char path[1024];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/data/chat/%s", top != NULL ? top : ".", file);
    return path;
}

static int setup(void **state)
{
    json_t *root = NULL;
    if (mb_json_load(data_path("cases.json"), 1 << 24, MB_INPUT, &root) != MB_OK)
        return -1;
    *state = root;
    return 0;
}

static int teardown(void **state)
{
    json_decref(*state);
    return 0;
}

/* What is around byte `at`, as ASCII. */
static void show(const char *what, const char *s, size_t n, size_t at)
{
    size_t from = at > 40 ? at - 40 : 0;
    print_error("%s ", what);
    for (size_t i = from; i < n && i < at + 40; i++)
        print_error(s[i] >= 32 && s[i] < 127 ? "%c" : "<%02x>", s[i] >= 32 && s[i] < 127 ? s[i] : (uint8_t)s[i]);
    print_error("\n");
}

/* Whether a rendering is what was wanted; says what differs. */
static bool agrees(enum mb_status st, const struct mb_bytes *out, const char *err, const json_t *want,
                   const char *what)
{
    const json_t *text = json_object_get(want, "text"), *error = json_object_get(want, "error");
    if (text == NULL) {
        bool raised = json_is_true(json_object_get(want, "raised"));
        if (st == MB_REQUEST && (!raised || strstr(err, json_string_value(error)) != NULL))
            return true;
        print_error("%s\n  got status %d \"%s\" \"%.*s\"\n want the error %s\n", what, st, err, (int)out->len,
                    (char *)out->data, json_string_value(error));
        return false;
    }
    if (st == MB_OK && out->len == json_string_length(text) &&
        (out->len == 0 || memcmp(out->data, json_string_value(text), out->len) == 0))
        return true;
    size_t at = 0;
    while (at < out->len && at < json_string_length(text) && out->data[at] == (uint8_t)json_string_value(text)[at])
        at++;
    print_error("%s\n  status %d %s, different at byte %zu:\n", what, st, err, at);
    show("  got", (const char *)out->data, out->len, at);
    show(" want", json_string_value(text), json_string_length(text), at);
    return false;
}

static struct mb_chat *load_template(const char *name, const json_t *tokens)
{
    struct mb_bytes text = {0};
    struct mb_chat *c = NULL;
    assert_int_equal(mb_file_read(data_path(name), 1 << 20, MB_INPUT, &text), MB_OK);
    assert_int_equal(mb_chat_create((char *)text.data, text.len, tokens, name, &c), MB_OK);
    mb_bytes_fini(&text);
    return c;
}

static const json_t *mb_null(const json_t *v)
{
    return json_is_null(v) ? NULL : v;
}

static void render_all(const json_t *root)
{
    const json_t *tokens = json_object_get(root, "tokens");
    char last[64] = "";
    struct mb_chat *c = NULL;
    size_t i, bad = 0;
    json_t *e;
    json_array_foreach(json_object_get(root, "cases"), i, e)
    {
        const char *name = json_string_value(json_object_get(e, "template"));
        const json_t *tools = json_object_get(e, "tools");
        struct mb_bytes out = {0};
        char err[600] = "", what[160];
        if (strcmp(name, last) != 0) {
            mb_chat_destroy(c);
            c = load_template(name, tokens);
            snprintf(last, sizeof last, "%s", name);
        }
        struct mb_chat_ask ask = {.messages = json_object_get(e, "messages"),
                                  .tools = json_is_null(tools) ? NULL : tools,
                                  .documents = mb_null(json_object_get(e, "documents")),
                                  .extra = json_object_get(e, "extra"),
                                  .add_generation_prompt = json_is_true(json_object_get(e, "add_generation_prompt")),
                                  .continue_final_message = json_is_true(json_object_get(e, "continue_final_message")),
                                  .now = json_integer_value(json_object_get(root, "now"))};
        enum mb_status st = mb_chat_render(c, &ask, err, sizeof err, &out);
        snprintf(what, sizeof what, "case %zu, %s", i, name);
        bad += !agrees(st, &out, err, e, what);
        mb_bytes_fini(&out);
    }
    mb_chat_destroy(c);
    print_message("%zu renderings, %zu differ\n", i, bad);
    assert_int_equal(bad, 0);
}

static void test_models(void **state)
{
    render_all(*state);
}

/* Templates that use each feature of the language, over random conversations; CHAT_FEATURES: another file of cases. */
static void test_features(void **state)
{
    const char *other = getenv("CHAT_FEATURES");
    json_t *root = NULL;
    (void)state;
    assert_int_equal(mb_json_load(other != NULL ? other : data_path("features.json"), 1 << 28, MB_INPUT, &root), MB_OK);
    render_all(root);
    json_decref(root);
}

static bool small_case(const json_t *e, const json_t *vars, int64_t now)
{
    const json_t *source = json_object_get(e, "source");
    struct mb_jtemplate *t = NULL;
    struct mb_bytes out = {0};
    char err[600] = "";
    enum mb_status st = mb_jinja_compile(json_string_value(source), json_string_length(source), "small", err, sizeof err, &t);
    bool refused = json_object_get(e, "refused") != NULL, good;
    if (st != MB_OK || refused) {
        good = st == MB_MODEL && refused;
        if (!good)
            print_error("%s\n  compiled: %d, want refused: %d\n", json_string_value(source), st, refused);
    } else {
        st = mb_jinja_render(t, vars, now, err, sizeof err, &out);
        good = agrees(st, &out, err, e, json_string_value(source));
    }
    mb_bytes_fini(&out);
    mb_jinja_destroy(t);
    return good;
}

static void test_language(void **state)
{
    const json_t *root = *state;
    size_t i, bad = 0;
    json_t *e;
    json_array_foreach(json_object_get(root, "small"), i, e) bad +=
        !small_case(e, json_object_get(root, "vars"), json_integer_value(json_object_get(root, "now")));
    print_message("%zu small templates, %zu differ\n", i, bad);
    assert_int_equal(bad, 0);
}

/* ------------------------------------------------------------------ hostile templates */

static enum mb_status run_text(const char *source, size_t n, const json_t *vars, struct mb_bytes *out,
                               char err[600])
{
    struct mb_jtemplate *t = NULL;
    err[0] = 0;
    enum mb_status st = mb_jinja_compile(source, n, "hostile", err, 600, &t);
    if (st == MB_OK)
        st = mb_jinja_render(t, vars, 0, err, 600, out);
    mb_jinja_destroy(t);
    return st;
}

static void refuse(const char *source, enum mb_status want)
{
    struct mb_bytes out = {0};
    char err[600];
    enum mb_status st = run_text(source, strlen(source), NULL, &out, err);
    if (st != want)
        print_error("%.200s: status %d (%s), want %d\n", source, st, err, want);
    assert_int_equal(st, want);
    mb_bytes_fini(&out);
}

static void test_limits(void **state)
{
    (void)state;
    refuse("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", MB_REQUEST);
    refuse("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", MB_REQUEST);
    refuse("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", MB_REQUEST);
    refuse("{{ 'x' * 999999999999 }}", MB_REQUEST);
    refuse("{{ [0] * 999999999 }}", MB_REQUEST);
    refuse("{% set n = namespace(s='xxxxxxxx') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor "
           "%}{{ n.s }}",
           MB_REQUEST);
    refuse("{% for a in range(90000) %}{{ 'x' * 9999 }}{% endfor %}", MB_REQUEST);
    refuse("{% set n = namespace() %}{% set n.n = n %}{{ n.n.n is defined }}", MB_OK);
    refuse("{{ 'a'.center(99999999999) }}", MB_REQUEST);
    refuse("{{ 9223372036854775807 + 1 }}", MB_REQUEST);
    refuse("{{ 9 ** 999999999 }}", MB_REQUEST);
    refuse("{{ (0 - 9223372036854775807 - 1) // -1 }}", MB_REQUEST);
    refuse("{{ 99999999999999999999 }}", MB_MODEL);
    refuse("{{ '%s' % 1 }}", MB_OK);
    refuse("{% generation %}x{% endgeneration %}", MB_OK);
    refuse("{% include 'x' %}", MB_MODEL);
    refuse("{% import 'x' as y %}", MB_MODEL);
    refuse("{{ x.__class__.__mro__ }}", MB_REQUEST);
    refuse("{{ ''.__class__ }}", MB_OK); /* undefined, which prints nothing */
}

/* What is cheap to write and dear to do ends by the account of steps or bytes, and what looks dear and is not comes to its end. */
static void test_costs(void **state)
{
    (void)state;
    refuse("{% set s='a'*30000000 %}{% set t='a'*30000000 %}{% for i in range(2000) %}{% if s==t %}{% endif %}{% endfor %}", MB_REQUEST);
    refuse("{% set s='a'*30000000 %}{% for i in range(2000) %}{% if s.isalpha() %}{% endif %}{% endfor %}", MB_REQUEST);
    refuse("{% set s='x'*30000000 %}{% macro f(n) %}{{ s }}{% if n>0 %}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40)|length }}", MB_REQUEST);
    refuse("{% set s='a'*300000 %}{% set m='b'*300000+'a' %}{{ s.strip(m) }}ok", MB_OK);
    refuse("{% set s='a'*600000 %}{% set m='a'*300000+'b' %}{{ s.rfind(m) }}{{ s.rpartition(m)|length }}ok", MB_OK);
    refuse("{% set s='a'*200000 %}{{ s.rsplit('aa', 99999)|length }}", MB_OK);
    refuse("{% macro f(n) %}{% call f(n) %}{{ (f(n)|upper if f(n) else [f(n)]|join)|title }}{% endcall %}{% endmacro %}{{ f(1) }}", MB_REQUEST);
}

/* n times `part`, between two texts: never a crash, whatever the depth. */
static void nest(const char *before, const char *part, const char *middle, const char *after, const char *end,
                 int n, enum mb_status want)
{
    struct mb_bytes s = {0}, out = {0};
    char err[600];
    assert_int_equal(mb_bytes_put(&s, before, strlen(before)), MB_OK);
    for (int i = 0; i < n; i++)
        assert_int_equal(mb_bytes_put(&s, part, strlen(part)), MB_OK);
    assert_int_equal(mb_bytes_put(&s, middle, strlen(middle)), MB_OK);
    for (int i = 0; i < n; i++)
        assert_int_equal(mb_bytes_put(&s, after, strlen(after)), MB_OK);
    assert_int_equal(mb_bytes_put(&s, end, strlen(end)), MB_OK);
    assert_int_equal(run_text((char *)s.data, s.len, NULL, &out, err), want);
    mb_bytes_fini(&s);
    mb_bytes_fini(&out);
}

static void test_depth(void **state)
{
    (void)state;
    nest("{{ ", "(", "1", ")", " }}", 50, MB_OK);
    nest("{{ ", "(", "1", ")", " }}", 50000, MB_MODEL);
    nest("{{ ", "[", "1", "]", " }}", 50000, MB_MODEL);
    nest("{{ ", "-", "1", "", " }}", 50000, MB_MODEL);
    nest("{{ ", "not ", "1", "", " }}", 50000, MB_MODEL);
    nest("{{ ", "1 if 1 else ", "1", "", " }}", 50000, MB_MODEL);
    nest("{{ 1", " + 1", "", "", " }}", 50000, MB_MODEL);
    nest("{{ x", "|e", "", "", " }}", 50000, MB_MODEL);
    nest("{{ x", ".a", "", "", " }}", 50000, MB_MODEL);
    nest("", "{% if 1 %}", "x", "{% endif %}", "", 100, MB_OK);
    nest("", "{% if 1 %}", "x", "{% endif %}", "", 20000, MB_MODEL);
    nest("", "{% for a in [1] %}", "x", "{% endfor %}", "", 20000, MB_MODEL);
    nest("{{ 1", " and 1", "", "", " }}", 20000, MB_OK);
    nest("{% if 0 %}", "{% elif 0 %}", "", "", "{% endif %}", 20000, MB_OK);
}

/* Every prefix of a template, and every template with one byte replaced, compiles or is refused; what
 * compiles renders or fails: no crash (run under the sanitizers). */
static void test_damage(void **state)
{
    const json_t *root = *state, *vars = json_object_get(root, "vars");
    size_t i;
    json_t *e;
    uint32_t seed = 12345;
    json_array_foreach(json_object_get(root, "small"), i, e)
    {
        const json_t *source = json_object_get(e, "source");
        size_t n = json_string_length(source);
        char *copy = malloc(n + 1), err[600];
        assert_non_null(copy);
        for (size_t k = 0; k < n; k += 1 + n / 40) {
            struct mb_bytes out = {0};
            memcpy(copy, json_string_value(source), n);
            seed = seed * 1664525u + 1013904223u;
            copy[k] = "{}%#-'\"().[]|,~+*/ :=a0"[(seed >> 16) % 24];
            if (!mb_utf8_valid(copy, n))
                continue;
            run_text(copy, n, vars, &out, err);
            mb_bytes_fini(&out);
        }
        free(copy);
    }
}

/* ------------------------------------------------------------------ model directories */

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mb_publish_bytes(path, text, strlen(text), 0), MB_OK);
}

/* Loads dir, renders one message (with a tool if tools) and compares; want NULL: there is no template. */
static void check_dir(const char *dir, bool tools, const char *want)
{
    struct mb_chat *c = NULL;
    struct mb_bytes out = {0};
    char err[200] = "";
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "hi"), *list = json_pack("[{}]");
    assert_int_equal(mb_chat_load(dir, &c), MB_OK);
    if (want == NULL) {
        assert_null(c);
    } else {
        struct mb_chat_ask ask = {.messages = messages, .tools = tools ? list : NULL, .add_generation_prompt = true};
        assert_int_equal(mb_chat_render(c, &ask, err, sizeof err, &out), MB_OK);
        assert_int_equal(out.len, strlen(want));
        assert_memory_equal(out.data, want, out.len);
    }
    json_decref(messages);
    json_decref(list);
    mb_bytes_fini(&out);
    mb_chat_destroy(c);
}

/* A template that does not compile fails the request that needs it. */
static void flawed(const char *dir, const char *want)
{
    struct mb_chat *c = NULL;
    struct mb_bytes out = {0};
    char err[300] = "";
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "hi");
    struct mb_chat_ask ask = {.messages = messages, .add_generation_prompt = true};
    assert_int_equal(mb_chat_load(dir, &c), MB_OK);
    assert_int_equal(mb_chat_render(c, &ask, err, sizeof err, &out), MB_REQUEST);
    assert_non_null(strstr(err, want));
    assert_non_null(strstr(mb_chat_flaw(c), want));
    json_decref(messages);
    mb_chat_destroy(c);
}

static void test_load(void **state)
{
    (void)state;
    char dir[] = "unit_chat.XXXXXX";
    struct mb_chat *c = NULL;
    assert_non_null(mkdtemp(dir));
    check_dir(dir, false, NULL);
    write_file(dir, "tokenizer_config.json", "{\"bos_token\": \"<s>\"}");
    check_dir(dir, false, NULL);
    write_file(
        dir, "tokenizer_config.json",
        "{\"bos_token\": {\"content\": \"<B>\", \"lstrip\": false}, \"eos_token\": null, "
        "\"chat_template\": \"{{ bos_token }}{{ eos_token }}{{ messages[0].content }}{{ tools is none }}\"}");
    check_dir(dir, false, "<B>hiTrue");
    check_dir(dir, true, "<B>hiFalse");
    write_file(dir, "tokenizer_config.json",
               "{\"bos_token\": \"<s>\", \"image_token\": \"<x>\", \"extra_special_tokens\": {\"image_token\": \"<y>\"}, "
               "\"chat_template\": [{\"name\": \"default\", \"template\": "
               "\"D{{ image_token }}\"}, {\"name\": \"rag\", \"template\": \"{% rag\"}, "
               "{\"name\": \"tool_use\", \"template\": \"T{{ tools | length }}\"}]}");
    check_dir(dir, false, "D<y>");
    check_dir(dir, true, "T1");
    write_file(dir, "chat_template.jinja", "F{{ bos_token }}\n");
    check_dir(dir, true, "F<s>");
    write_file(dir, "special_tokens_map.json", "{\"bos_token\": {\"content\": \"<m>\"}}");
    check_dir(dir, true, "F<m>");
    write_file(dir, "tokenizer_config.json", "{\"bos_token\": \"<s>\", \"added_tokens_decoder\": {}}");
    check_dir(dir, true, "F<s>");
    write_file(dir, "chat_template.jinja", "{% if %}");
    flawed(dir, "line 1: expected an expression");
    write_file(dir, "chat_template.jinja", "{{ 1 | nosuch }}");
    flawed(dir, "line 1: no filter named 'nosuch'");
    write_file(dir, "chat_template.jinja", "{% if false %}{{ 1 | nosuch }}{% endif %}x");
    check_dir(dir, false, "x");
    write_file(dir, "chat_template.jinja", "x");
    write_file(dir, "tokenizer_config.json", "{\"chat_template\": ");
    assert_int_equal(mb_chat_load(dir, &c), MB_MODEL);
    assert_null(c);
    assert_int_equal(mb_remove_tree(dir), MB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models), cmocka_unit_test(test_features), cmocka_unit_test(test_language), cmocka_unit_test(test_limits), cmocka_unit_test(test_costs),
        cmocka_unit_test(test_depth),  cmocka_unit_test(test_damage),   cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests_name("chat", tests, setup, teardown);
}
