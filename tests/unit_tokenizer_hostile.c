/* Tokenizer files that lie, and texts that are made to hurt: refused with a message or encoded in n log n,
 * never a crash (run under the sanitizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/publish.h"
#include "text/tokenizer.h"

static char dir[] = "unit_tokenizer_hostile.XXXXXX";

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    return mb_remove_tree(dir) == MB_OK ? 0 : -1;
}

static enum mb_status load_bytes(const char *name, const void *data, size_t n, struct mb_tokenizer **out)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mb_publish_bytes(path, data, n, 0), MB_OK);
    return mb_tokenizer_load(path, out);
}

static struct mb_tokenizer *load(const char *json)
{
    struct mb_tokenizer *t = NULL;
    assert_int_equal(load_bytes("tokenizer.json", json, strlen(json), &t), MB_OK);
    return t;
}

static void refuse(const char *json)
{
    struct mb_tokenizer *t = NULL;
    enum mb_status st = load_bytes("tokenizer.json", json, strlen(json), &t);
    if (st != MB_MODEL)
        print_error("not refused: %s\n", json);
    assert_int_equal(st, MB_MODEL);
    assert_null(t);
}

/* A directory with a tiktoken.model of these lines behind the 256 bytes (skip: a byte that is left out), and this configuration. */
static enum mb_status load_tiktoken(const char *lines, int skip, const char *config)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char path[256];
    struct mb_tokenizer *t = NULL;
    struct mb_bytes b = {0};
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    assert_int_equal(mb_publish_bytes(path, config, strlen(config), 0), MB_OK);
    for (int i = 0; i < 256; i++) {
        char line[32];
        int n = snprintf(line, sizeof line, "%c%c== %d\n", digits[i >> 2], digits[i << 4 & 63], i);
        if (i != skip)
            assert_int_equal(mb_bytes_put(&b, line, (size_t)n), MB_OK);
    }
    assert_int_equal(mb_bytes_put(&b, lines, strlen(lines)), MB_OK);
    enum mb_status st = load_bytes("tiktoken.model", b.data, b.len, &t);
    mb_bytes_fini(&b);
    assert_int_equal(t != NULL, st == MB_OK);
    mb_tokenizer_destroy(t);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    assert_int_equal(unlink(path), 0);
    return st;
}

static void test_tiktoken(void **state)
{
#define KIMI "{\"auto_map\":{\"AutoTokenizer\":[\"tokenization_kimi.TikTokenTokenizer\",null]}"
    static const char *const lines[] = {"YWI=", "YWI= ", "YWI= x", "YWI= 256x", "YWI= -1", "YWI= 256 7", "Y*I= 256", "= 256", "YWI= 255",
                                        "YQ== 256", "YWI= 99999999999999999999", "YWI= 16777215", "\xff\xfe 256", " 256"},
                      *const configs[] = {"{}", "[]", "{\"tokenizer_class\":\"TikTokenTokenizer\"}",
                                          "{\"auto_map\":{\"AutoTokenizer\":[\"tokenization_other.TikTokenTokenizer\",null]}}",
                                          "{\"auto_map\":{\"AutoTokenizer\":[\"tokenization_kimi.Other\",null]}}",
                                          "{\"auto_map\":{\"AutoTokenizer\":[7]}}", KIMI ",\"added_tokens_decoder\":{\"257\":7}}",
                                          KIMI ",\"added_tokens_decoder\":{\"x\":{\"content\":\"x\"}}}",
                                          KIMI ",\"added_tokens_decoder\":{\"99999999999\":{\"content\":\"x\"}}}",
                                          KIMI ",\"added_tokens_decoder\":{\"5\":{\"content\":\"x\"}}}"};
    (void)state;
    assert_int_equal(load_tiktoken("", -1, KIMI "}"), MB_OK);
    assert_int_equal(load_tiktoken("\r\n\nYWI=  256\r\n", -1, "{\"auto_map\":{\"AutoTokenizer\":\"a/b--tokenization_moonshot.TikTokenTokenizer\"}}"), MB_OK);
    assert_int_equal(load_tiktoken("", 255, KIMI "}"), MB_MODEL);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (load_tiktoken(lines[i], -1, KIMI "}") != MB_MODEL)
            fail_msg("not refused: %s", lines[i]);
    }
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        if (load_tiktoken("", -1, configs[i]) != MB_MODEL)
            fail_msg("not refused: %s", configs[i]);
    }
}

#define BPE(vocab, merges) "{\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}"
#define AB BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b\"]")

static void test_vocabulary(void **state)
{
    (void)state;
    struct mb_tokenizer *t = load(AB "}");
    assert_int_equal(mb_tokenizer_size(t), 3);
    mb_tokenizer_destroy(t);
    refuse("");
    refuse("[]");
    refuse("{}");
    refuse("{\"model\":7}");
    refuse("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}");
    refuse(BPE("[]", "[]") "}");
    refuse(BPE("{\"a\":-1}", "[]") "}");
    refuse(BPE("{\"a\":2000000000}", "[]") "}");
    refuse(BPE("{\"a\":1099511627776}", "[]") "}");
    refuse(BPE("{\"a\":99999999999999999999}", "[]") "}");
    refuse(BPE("{\"a\":\"0\"}", "[]") "}");
    refuse(BPE("{\"a\":0.5}", "[]") "}");
    refuse(BPE("{\"a\":0,\"b\":0}", "[]") "}");
    refuse(BPE("{\"a\":0,\"a\":1}", "[]") "}");
    refuse(BPE("{\"a\":0}", "{}") "}");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"x\"}}");
    refuse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":1}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":{}}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"x\"]]}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]],\"unk_id\":1}}");
    refuse("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1],[\"a\",-2]]}}");
}

static void test_merges(void **state)
{
    (void)state;
    refuse(BPE("{\"a\":0,\"b\":1}", "[\"a b\"]") "}");
    refuse(BPE("{\"a\":0,\"ab\":1}", "[\"a b\"]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[\"a b c\"]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[\"ab\"]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[7]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[[\"a\"]]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[[\"a\",1]]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[[\"a\",\"b\",\"c\"]]") "}");
    refuse(BPE("{\"a\":0,\"b\":1,\"ab\":2}", "[null]") "}");
}

static void test_added(void **state)
{
    (void)state;
    refuse(AB ",\"added_tokens\":{}}");
    refuse(AB ",\"added_tokens\":[1]}");
    refuse(AB ",\"added_tokens\":[{\"id\":3}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":\"3\",\"content\":\"x\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":-3,\"content\":\"x\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":4000000000,\"content\":\"x\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":0,\"content\":\"x\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":3,\"content\":\"a\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"y\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}]}");
    refuse(AB ",\"added_tokens\":[{\"id\":3,\"content\":\"x\",\"lstrip\":1}]}");
    char big[3000];
    snprintf(big, sizeof big, "%s,\"added_tokens\":[{\"id\":3,\"content\":\"%02000d\"}]}", AB, 0);
    refuse(big);
}

static void test_mechanisms(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "\"normalizer\":{\"type\":\"Magic\"}",
        "\"normalizer\":{}",
        "\"normalizer\":7",
        "\"normalizer\":{\"type\":\"Sequence\"}",
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null,{\"type\":\"Nmt\"}]}",
        "\"normalizer\":{\"type\":\"Prepend\"}",
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}",
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":\"x\",\"content\":\"x\"}",
        "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"x\"}",
        "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!\"}",
        "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}",
        "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}",
        "\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}",
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"xy\"}",
        "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"maybe\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Shredded\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"},\"behavior\":\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]\"},\"behavior\":\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b\"},\"behavior\":\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\\\\1\"},\"behavior\":"
        "\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(*COMMIT)a\"},\"behavior\":"
        "\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?<n>a)\"},\"behavior\":"
        "\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\K\"},\"behavior\":\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\\\\\"},\"behavior\":\"Isolated\"}",
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a{99999}\"},\"behavior\":"
        "\"Isolated\"}",
        "\"post_processor\":{\"type\":\"Other\"}",
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}",
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}",
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}]}",
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"x\":{\"ids\":[99]}}}",
        "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":[\"x\",9],\"cls\":[\"y\",0]}",
        "\"decoder\":{\"type\":\"CTC\"}",
        "\"decoder\":{\"type\":\"Strip\",\"content\":\"  \",\"start\":1,\"stop\":0}",
        "\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}",
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"}]}",
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[null]}",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char json[1024];
        snprintf(json, sizeof json, "%s,%s}", AB, parts[i]);
        refuse(json);
    }
}

/* {"type": "Sequence", key: [ ... ]} n deep. */
static void nest(const char *part, const char *key, int n)
{
    struct mb_bytes s = {0};
    char open[128];
    snprintf(open, sizeof open, ",\"%s\":", part);
    assert_int_equal(mb_bytes_put(&s, AB, strlen(AB)), MB_OK);
    assert_int_equal(mb_bytes_put(&s, open, strlen(open)), MB_OK);
    snprintf(open, sizeof open, "{\"type\":\"Sequence\",\"%s\":[", key);
    for (int i = 0; i < n; i++)
        assert_int_equal(mb_bytes_put(&s, open, strlen(open)), MB_OK);
    for (int i = 0; i < n; i++)
        assert_int_equal(mb_bytes_put(&s, "]}", 2), MB_OK);
    assert_int_equal(mb_bytes_put(&s, "}", 2), MB_OK);
    refuse((char *)s.data);
    mb_bytes_fini(&s);
}

static void test_depth(void **state)
{
    (void)state;
    static const char *const part[4][2] = {{"normalizer", "normalizers"},
                                           {"pre_tokenizer", "pretokenizers"},
                                           {"post_processor", "processors"},
                                           {"decoder", "decoders"}};
    for (int i = 0; i < 4; i++) {
        nest(part[i][0], part[i][1], 20);
        nest(part[i][0], part[i][1], 100000);
    }
}

/* ------------------------------------------------------------------ damaged files */

static void damage(const char *from, const char *name, size_t step)
{
    char path[1024], text[] = "Hello, w\xc3\xb6rld 12 \xe4\xb8\xad";
    const char *top = getenv("top_srcdir");
    struct mb_bytes data = {0};
    uint32_t seed = 7;
    snprintf(path, sizeof path, "%s/tests/data/tokenizers/%s", top != NULL ? top : ".", from);
    assert_int_equal(mb_file_read(path, 1 << 24, MB_INPUT, &data), MB_OK);
    for (size_t k = 0; k < data.len; k += step) {
        struct mb_tokenizer *t = NULL;
        struct mb_ids ids = {0};
        struct mb_bytes out = {0};
        uint8_t old = data.data[k];
        seed = seed * 1664525u + 1013904223u;
        if (k % 3 == 0) { /* cut off */
            load_bytes(name, data.data, k, &t);
        } else {
            data.data[k] = (uint8_t)(seed >> 20);
            load_bytes(name, data.data, data.len, &t);
            data.data[k] = old;
        }
        if (t == NULL)
            continue;
        if (mb_tokenizer_encode(t, text, sizeof text - 1, true, &ids) == MB_OK)
            assert_int_equal(mb_tokenizer_decode(t, ids.v, ids.n, true, &out), MB_OK);
        mb_bytes_fini(&out);
        free(ids.v);
        mb_tokenizer_destroy(t);
    }
    mb_bytes_fini(&data);
}

static void test_damage(void **state)
{
    (void)state;
    damage("e2e_mixtral_a/tokenizer.json", "tokenizer.json", 29);
    damage("bpe_qwen/tokenizer.json", "tokenizer.json", 331);
    damage("spm_model/bpe.model", "x.model", 67);
    damage("spm_model/unigram.model", "x.model", 97);
}

/* ------------------------------------------------------------------ hostile texts */

static void test_regex_limits(void **state)
{
    (void)state;
    struct mb_tokenizer *t = load(AB ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|aa)+"
                                     "$\"},\"behavior\":\"Isolated\"}}");
    struct mb_ids ids = {0};
    char text[201];
    memset(text, 'a', 200);
    text[199] = 'b';
    assert_int_equal(mb_tokenizer_encode(t, text, 200, true, &ids), MB_REQUEST);
    assert_int_equal(ids.n, 0);
    assert_int_equal(mb_tokenizer_encode(t, "\xff", 1, true, &ids), MB_REQUEST); /* not UTF-8 */
    assert_int_equal(mb_tokenizer_encode(t, "ab", 2, true, &ids), MB_OK);
    assert_int_equal(ids.n, 1);
    free(ids.v);
    mb_tokenizer_destroy(t);
}

/* Twelve steps that make a thousand letters of one: refused before they fill the memory, in both directions. */
static void test_expansion(void **state)
{
    (void)state;
    enum { STEP = 1100, STEPS = 12 };
    char *json = malloc(STEP * STEPS + 4096), *many = malloc(1001);
    struct mb_ids ids = {0};
    struct mb_bytes out = {0};
    const int32_t one = 0;
    for (int side = 0; side < 2; side++) {
        assert_non_null(json);
        assert_non_null(many);
        memset(many, 'a', 1000);
        many[1000] = '\0';
        size_t n = (size_t)sprintf(json, "%s,\"%s\":{\"type\":\"Sequence\",\"%s\":[", AB, side == 0 ? "normalizer" : "decoder",
                                   side == 0 ? "normalizers" : "decoders");
        for (int i = 0; i < STEPS; i++)
            n += (size_t)sprintf(json + n, "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
                                 i > 0 ? "," : "", many);
        sprintf(json + n, "]}}");
        struct mb_tokenizer *t = load(json);
        if (side == 0)
            assert_int_equal(mb_tokenizer_encode(t, "a", 1, true, &ids), MB_REQUEST);
        else
            assert_int_equal(mb_tokenizer_decode(t, &one, 1, true, &out), MB_REQUEST);
        mb_tokenizer_destroy(t);
    }
    free(ids.v);
    mb_bytes_fini(&out);
    free(json);
    free(many);
}

/* Steps that find empty places everywhere: each makes some eighty times the text of the one before, which a bound of
 * hundreds of megabytes let run for half a minute. */
static void test_empty_matches(void **state)
{
    (void)state;
    char json[8192], many[81];
    struct mb_ids ids = {0};
    size_t n = (size_t)sprintf(json, "%s,\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[", AB);

    memset(many, 'l', 80);
    many[80] = '\0';
    for (int i = 0; i < 4; i++)
        n += (size_t)sprintf(json + n, "%s{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {0,}\"},\"content\":\"%s\"}",
                             i > 0 ? "," : "", many);
    sprintf(json + n, "]}}");
    struct mb_tokenizer *t = load(json);
    double s = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(mb_tokenizer_encode(t, "a text of one line", 18, true, &ids), MB_REQUEST);
    assert_true(mb_clock_of(CLOCK_PROCESS_CPUTIME_ID) - s < 5); /* milliseconds; half a minute without the bound */
    free(ids.v);
    mb_tokenizer_destroy(t);
}

/* One pre-token of megabytes: with a merge that always applies, and one that moves from right to left. */
static void test_long_word(void **state)
{
    (void)state;
    enum { N = 2000000 };
    struct mb_tokenizer *t = load(BPE("{\"a\":0,\"b\":1,\"aa\":2,\"aaaa\":3,\"ab\":4,\"aab\":5}",
                                      "[\"a a\",\"aa aa\",\"a b\",\"aa b\"]") "}");
    char *text = malloc(N);
    assert_non_null(text);
    for (int kind = 0; kind < 2; kind++) {
        struct mb_ids ids = {0};
        for (int i = 0; i < N; i++)
            text[i] = kind == 0 || i % 3 != 2 ? 'a' : 'b';
        double s = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
        assert_int_equal(mb_tokenizer_encode(t, text, N, true, &ids), MB_OK);
        s = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID) - s;
        print_message("one word of %d bytes: %.2f MB/s\n", N, N / 1e6 / s);
        assert_true(s < 20); /* quadratic would take hours */
        assert_int_equal(ids.n, kind == 0 ? N / 4 : (N + 2) / 3);
        assert_int_equal(ids.v[0], kind == 0 ? 3 : 5);
        free(ids.v);
    }
    free(text);
    mb_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary),   cmocka_unit_test(test_merges),    cmocka_unit_test(test_added),
        cmocka_unit_test(test_mechanisms),   cmocka_unit_test(test_depth),     cmocka_unit_test(test_damage),
        cmocka_unit_test(test_regex_limits), cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_tiktoken), cmocka_unit_test(test_expansion), cmocka_unit_test(test_empty_matches),
    };
    return cmocka_run_group_tests_name("tokenizer, hostile", tests, setup, teardown);
}
