/* tiktoken's form of a vocabulary has bytes where tokenizer.json has characters, no merges (two tokens merge
 * if together they are one, the lowest rank first), and neither the pattern that splits texts nor the special
 * tokens: those are in Python code that comes with the model and in tokenizer_config.json. What is known of
 * such classes stands in the table below. */
#include "text/tiktoken.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "text/base64.h"
#include "text/hf_parts.h"
#include "base/utf8.h"

#define FILE_MAX (256u << 20)
#define TOKEN_MAX 1024 /* bytes; trained tokens have some dozens */

/* How a class of tokenizers works. Kimi-K2, Moonlight and their kin: Chinese characters by themselves, words
 * that begin in upper or lower case, 256 reserved tokens behind the vocabulary; runs of letters or of spaces
 * are cut before tiktoken sees them. */
static const struct rules {
    const char *name;
    const char *pattern;
    int32_t reserved, run_max, text_max; /* characters */
} known[] = {
    {"TikTokenTokenizer",
     "[\\p{Han}]+"
     "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&"
     "[^\\p{Han}]]+"
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
     "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&"
     "[^\\p{Han}]]*"
     "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
     "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     256, 25000, 400000},
};
/* Modules whose class is meant: other models have other patterns under the same name. */
static const char *const modules[] = {"tokenization_kimi", "tokenization_moonshot"};

/* "tokenization_kimi.TikTokenTokenizer", perhaps with "owner/model--" in front. */
static const struct rules *rules_of(const char *class)
{
    for (const char *p = strstr(class, "--"); p != NULL; p = strstr(class, "--"))
        class = p + 2;
    const char *dot = strrchr(class, '.');
    for (size_t i = 0; dot != NULL && i < sizeof modules / sizeof *modules; i++) {
        size_t n = strlen(modules[i]);
        if (n != (size_t)(dot - class) || memcmp(class, modules[i], n) != 0)
            continue;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strcmp(known[k].name, dot + 1) == 0)
                return &known[k];
    }
    return NULL;
}

static enum mb_status find_rules(const json_t *config, const char *path, const struct rules **out)
{
    const json_t *map = json_object_get(json_object_get(config, "auto_map"), "AutoTokenizer");
    const json_t *class = json_is_array(map) ? json_array_get(map, 0) : map;
    if (!json_is_string(class))
        class = json_object_get(config, "tokenizer_class");
    const char *name = json_is_string(class) ? json_string_value(class) : "(not named)";
    *out = rules_of(name);
    if (*out != NULL)
        return MB_OK;
    return mb_error(MB_MODEL,
                    "%s: a file of tiktoken says nothing of how texts are split, and the rules of the "
                    "tokenizer class %.100s "
                    "(tokenizer_config.json) are not known here; convert it to tokenizer.json",
                    path, name);
}

/* ------------------------------------------------------------------ the vocabulary */

/* One line: a token in base64, blanks, its rank in decimal. */
static enum mb_status add_line(struct mb_tokenizer *t, const char *s, size_t n, int64_t limit,
                               const char *path, struct mb_bytes *raw, struct mb_bytes *chars)
{
    const char *blank = memchr(s, ' ', n);
    size_t k = blank == NULL ? n : (size_t)(blank - s);
    int64_t rank = 0;
    bool valid = blank != NULL, digits = false;

    raw->len = chars->len = 0;
    if (valid)
        MB_TRY(mb_base64_put(s, k, raw, &valid));
    while (k < n && s[k] == ' ')
        k++;
    for (; valid && k < n && rank < MB_ID_MAX; k++, digits = true) {
        valid = s[k] >= '0' && s[k] <= '9';
        rank = rank * 10 + (s[k] - '0');
    }
    if (!valid || !digits || raw->len == 0 || raw->len > TOKEN_MAX)
        return mb_error(MB_MODEL, "%s: \"%.*s\" is no line of a token (1 to %d bytes in base64) and its rank",
                        path, (int)(n < 60 ? n : 60), s, TOKEN_MAX);
    for (size_t i = 0; i < raw->len; i++)
        MB_TRY(mb_utf8_append(chars, mb_byte_char(raw->data[i])));
    return mb_vocab_add(&t->vocab, rank, (const char *)chars->data, chars->len, limit, path);
}

static enum mb_status add_lines(struct mb_tokenizer *t, const char *s, size_t n, const char *path)
{
    struct mb_bytes raw = {0}, chars = {0};
    enum mb_status st = MB_OK;
    int64_t limit =
        (int64_t)(n / 4) + 256; /* a line has 8 bytes at least: no id is far beyond their number */

    limit = limit < MB_ID_MAX ? limit : MB_ID_MAX;
    for (size_t i = 0; i < n && st == MB_OK;) {
        const char *end = memchr(s + i, '\n', n - i);
        size_t k = end == NULL ? n - i : (size_t)(end - s - (ptrdiff_t)i), text = k;
        if (text > 0 && s[i + text - 1] == '\r')
            text--;
        if (text > 0)
            st = add_line(t, s + i, text, limit, path, &raw, &chars);
        i += k + 1;
    }
    mb_bytes_fini(&raw);
    mb_bytes_fini(&chars);
    return st;
}

/* A token is made of any two that together are its bytes. */
static enum mb_status add_merges(struct mb_tokenizer *t, int32_t id)
{
    size_t n = 0;
    const char *s = mb_vocab_text(&t->vocab, id, &n);
    uint32_t cp;

    for (size_t i = s == NULL || n == 0 ? n : (size_t)mb_utf8_next(s, &cp); i < n;
         i += (size_t)mb_utf8_next(s + i, &cp)) {
        int32_t left = mb_vocab_find(&t->vocab, s, i);
        int32_t right = left < 0 ? -1 : mb_vocab_find(&t->vocab, s + i, n - i);
        if (right >= 0)
            MB_TRY(mb_bpe_add(&t->bpe, left, right, id, (uint32_t)id));
    }
    return MB_OK;
}

static enum mb_status load_model(struct mb_tokenizer *t, const char *path)
{
    struct mb_bytes data = {0};
    char c[4];
    enum mb_status st = mb_file_read(path, FILE_MAX, MB_MODEL, &data);

    if (st == MB_OK)
        st = add_lines(t, (const char *)data.data, data.len, path);
    mb_bytes_fini(&data);
    for (int b = 0; b < 256 && st == MB_OK; b++) {
        if (mb_vocab_find(&t->vocab, c, (size_t)mb_utf8_put(mb_byte_char((uint8_t)b), c)) < 0)
            st = mb_error(MB_MODEL, "%s: no token for the byte 0x%02x", path, (unsigned)b);
    }
    for (int32_t id = 0; id < t->vocab.size && st == MB_OK; id++)
        st = add_merges(t, id);
    t->bpe.ignore_merges = true; /* a whole word that is a token is one */
    mb_bpe_index(&t->bpe, &t->vocab);
    return st;
}

/* ------------------------------------------------------------------ special tokens */

static bool is_text(const json_t *v, const char *text)
{
    const json_t *s = json_is_object(v) ? json_object_get(v, "content") : v;
    return json_is_string(s) && strcmp(json_string_value(s), text) == 0;
}

/* Whether tokenizer_config.json names it as one of its special tokens. */
static bool is_named(const json_t *config, const char *text)
{
    static const char *const single[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
    static const char *const list[] = {"additional_special_tokens", "extra_special_tokens"};
    const char *key;
    size_t i;
    json_t *v;

    for (i = 0; i < sizeof single / sizeof *single; i++)
        if (is_text(json_object_get(config, single[i]), text))
            return true;
    for (int k = 0; k < 2; k++) {
        json_t *of = json_object_get(config, list[k]);
        json_array_foreach(of, i, v) if (is_text(v, text)) return true;
        json_object_foreach(of, key, v) if (is_text(v, text)) return true;
    }
    return false;
}

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for added tokens");
}

/* Appends a token to the list; entry: of added_tokens_decoder, or NULL. Nothing is normalised. */
static enum mb_status put(json_t *list, const json_t *config, int64_t id, const json_t *entry,
                          const char *path)
{
    char name[64];
    const char *text = json_string_value(json_object_get(entry, "content"));

    snprintf(name, sizeof name, "<|reserved_token_%lld|>", (long long)id);
    if (entry != NULL && text == NULL)
        return mb_error(MB_MODEL, "%s: added_tokens_decoder of tokenizer_config.json: %lld has no content",
                        path, (long long)id);
    json_t *token = entry == NULL ? json_pack("{s:s}", "content", name) : json_copy((json_t *)entry);
    if (token == NULL || json_object_set_new(token, "id", json_integer(id)) != 0 ||
        json_object_set_new(token, "normalized", json_false()) != 0 ||
        (text != NULL && is_named(config, text) && json_object_set_new(token, "special", json_true()) != 0)) {
        json_decref(token);
        return no_memory();
    }
    return json_array_append_new(list, token) == 0 ? MB_OK : no_memory();
}

static enum mb_status list_tokens(const struct rules *r, const json_t *config, int64_t base, const char *path,
                                  json_t *list)
{
    json_t *decoder = json_object_get(config, "added_tokens_decoder"), *v;
    const char *key;
    char number[24];

    for (int64_t id = base; id < base + r->reserved; id++) {
        snprintf(number, sizeof number, "%lld", (long long)id);
        MB_TRY(put(list, config, id, json_object_get(decoder, number), path));
    }
    json_object_foreach(decoder, key, v)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (end == key || *end != 0 || id < 0 || id >= MB_ID_MAX)
            return mb_error(MB_MODEL, "%s: added_tokens_decoder of tokenizer_config.json: \"%.40s\" is no id",
                            path, key);
        if (id < base || id >= base + r->reserved)
            MB_TRY(put(list, config, id, v, path));
    }
    return MB_OK;
}

static enum mb_status load_specials(struct mb_tokenizer *t, const struct rules *r, const json_t *config,
                                    const char *path)
{
    json_t *list = json_array();
    enum mb_status st = list == NULL ? no_memory() : list_tokens(r, config, t->vocab.count, path, list);

    if (st == MB_OK)
        st = mb_hf_add_list(t, list, path);
    json_decref(list);
    return st;
}

/* ------------------------------------------------------------------ all of it */

static enum mb_status add_steps(struct mb_tokenizer *t, const struct rules *r, const char *path)
{
    t->pres[t->npres++] = (struct mb_pre){
        .kind = MB_PRE_RUNS, .behavior = MB_SPLIT_ISOLATED, .run_max = r->run_max, .text_max = r->text_max};
    struct mb_pre *split = &t->pres[t->npres++];
    split->kind = MB_PRE_SPLIT;
    split->behavior = MB_SPLIT_ISOLATED;
    MB_TRY(mb_pattern_init(&split->pattern, r->pattern, strlen(r->pattern), true, path));
    t->pres[t->npres++].kind = MB_PRE_BYTES;
    t->decs[t->ndecs++].kind = MB_DEC_BYTES;
    return MB_OK;
}

enum mb_status mb_tiktoken_load(struct mb_tokenizer *t, const char *path)
{
    const struct rules *r = NULL;
    json_t *config = NULL;
    enum mb_status st = mb_hf_beside(path, "tokenizer_config.json", &config);

    t->kind = MB_MODEL_BPE;
    if (st == MB_OK)
        st = find_rules(config, path, &r);
    if (st == MB_OK)
        st = load_model(t, path);
    if (st == MB_OK)
        st = load_specials(t, r, config, path);
    if (st == MB_OK)
        st = add_steps(t, r, path);
    json_decref(config);
    return st;
}
