/* The parts of tokenizer.json that change or cut the text: normalizer and pre_tokenizer, and what all parts
 * share. */
#include "text/hf_parts.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "text/base64.h"
#include "text/unicode_rust.h"
#include "base/utf8.h"

enum mb_status mb_hf_type(const json_t *v, const char *path, const char *part, const char **out)
{
    const json_t *type = json_object_get(v, "type");
    if (!json_is_string(type))
        return mb_error(MB_MODEL, "%s: %s: expected an object with a \"type\", found %s", path, part,
                        json_is_object(v) ? "one without" : mb_json_type(v));
    *out = json_string_value(type);
    return MB_OK;
}

enum mb_status mb_hf_text(const json_t *v, const char *key, const char *path, const char *part,
                          struct mb_bytes *out)
{
    const json_t *s = json_object_get(v, key);
    if (!json_is_string(s))
        return mb_error(MB_MODEL, "%s: %s: %s: expected a string, found %s", path, part, key,
                        mb_json_type(s));
    return mb_bytes_put(out, json_string_value(s), json_string_length(s));
}

enum mb_status mb_hf_char(const json_t *v, const char *key, const char *path, const char *part, uint32_t *out)
{
    const json_t *s = json_object_get(v, key);
    uint32_t cp = 0;
    if (!json_is_string(s) || json_string_length(s) == 0 ||
        (size_t)mb_utf8_next(json_string_value(s), &cp) != json_string_length(s))
        return mb_error(MB_MODEL, "%s: %s: %s: expected a string of one character", path, part, key);
    *out = cp;
    return MB_OK;
}

enum mb_status mb_hf_pattern(const json_t *v, const char *path, const char *part, struct mb_pattern *out)
{
    const json_t *p = json_object_get(v, "pattern");
    const json_t *lit = json_object_get(p, "String"), *re = json_object_get(p, "Regex");
    const json_t *s = lit != NULL ? lit : re;
    char what[512];
    snprintf(what, sizeof what, "%s: %s: pattern", path, part);
    if (!json_is_string(s))
        return mb_error(MB_MODEL, "%s: expected {\"String\": ...} or {\"Regex\": ...}", what);
    return mb_pattern_init(out, json_string_value(s), json_string_length(s), lit == NULL, what);
}

enum mb_status mb_hf_prepend(const json_t *v, const char *path, const char *part, enum mb_prepend *out)
{
    const char *scheme = NULL;
    bool old = true;
    char what[512];
    snprintf(what, sizeof what, "%s: %s", path, part);
    MB_TRY(mb_json_str(v, "prepend_scheme", what, &scheme, NULL));
    MB_TRY(mb_json_bool(v, "add_prefix_space", what, &old, NULL));
    if (scheme == NULL)
        *out = old ? MB_PREPEND_ALWAYS : MB_PREPEND_NEVER;
    else if (strcmp(scheme, "always") == 0)
        *out = MB_PREPEND_ALWAYS;
    else if (strcmp(scheme, "first") == 0)
        *out = MB_PREPEND_FIRST;
    else if (strcmp(scheme, "never") == 0)
        *out = MB_PREPEND_NEVER;
    else
        return mb_error(MB_MODEL, "%s: prepend_scheme \"%.40s\" is not supported (always, first, never)",
                        what, scheme);
    return MB_OK;
}

static enum mb_status too_many(const char *path, const char *part)
{
    return mb_error(MB_MODEL, "%s: %s: more than %d steps, or Sequences nested deeper than %d", path, part,
                    MB_STEPS_MAX, MB_HF_DEPTH);
}

static enum mb_status members(const json_t *v, const char *key, const char *path, const char *part,
                              const json_t **out)
{
    *out = json_object_get(v, key);
    if (!json_is_array(*out))
        return mb_error(MB_MODEL, "%s: %s: %s: expected a list, found %s", path, part, key,
                        mb_json_type(*out));
    return MB_OK;
}

/* ------------------------------------------------------------------ normalizer */

static enum mb_status charsmap(const json_t *v, const char *path, struct mb_charsmap *out)
{
    struct mb_bytes text = {0}, blob = {0};
    bool valid = true;
    enum mb_status st = mb_hf_text(v, "precompiled_charsmap", path, "normalizer: Precompiled", &text);
    if (st == MB_OK)
        st = mb_base64_put((const char *)text.data, text.len, &blob, &valid);
    if (st == MB_OK && !valid)
        st = mb_error(MB_MODEL, "%s: normalizer: Precompiled: precompiled_charsmap is not base64", path);
    if (st == MB_OK)
        st = mb_charsmap_init(out, blob.data, blob.len, true, path);
    mb_bytes_fini(&text);
    mb_bytes_fini(&blob);
    return st;
}

static const struct {
    const char *name;
    enum mb_norm_kind kind;
} plain_norms[] = {
    {"NFC", MB_NORM_NFC},
    {"NFD", MB_NORM_NFD},
    {"NFKC", MB_NORM_NFKC},
    {"NFKD", MB_NORM_NFKD},
    {"Lowercase", MB_NORM_LOWERCASE},
    {"StripAccents", MB_NORM_STRIP_ACCENTS},
};

static enum mb_status norm_step(struct mb_norm *s, const json_t *v, const char *type, const char *path)
{
    for (size_t i = 0; i < sizeof plain_norms / sizeof *plain_norms; i++) {
        if (strcmp(type, plain_norms[i].name) == 0) {
            s->kind = plain_norms[i].kind;
            return MB_OK;
        }
    }
    if (strcmp(type, "Prepend") == 0) {
        s->kind = MB_NORM_PREPEND;
        return mb_hf_text(v, "prepend", path, "normalizer: Prepend", &s->text);
    }
    if (strcmp(type, "Replace") == 0) {
        s->kind = MB_NORM_REPLACE;
        MB_TRY(mb_hf_text(v, "content", path, "normalizer: Replace", &s->text));
        return mb_hf_pattern(v, path, "normalizer: Replace", &s->pattern);
    }
    if (strcmp(type, "Strip") == 0) {
        s->kind = MB_NORM_STRIP;
        s->left = s->right = true;
        MB_TRY(mb_json_bool(v, "strip_left", path, &s->left, NULL));
        return mb_json_bool(v, "strip_right", path, &s->right, NULL);
    }
    if (strcmp(type, "Precompiled") == 0) {
        s->kind = MB_NORM_CHARSMAP;
        return charsmap(v, path, &s->map);
    }
    return mb_error(MB_MODEL, "%s: normalizer: type \"%.60s\" is not supported", path, type);
}

enum mb_status mb_hf_norm(struct mb_tokenizer *t, const json_t *v, const char *path, int depth)
{
    const char *type;
    const json_t *list;
    if (v == NULL || json_is_null(v))
        return MB_OK;
    MB_TRY(mb_hf_type(v, path, "normalizer", &type));
    if (depth > MB_HF_DEPTH || t->nnorms == MB_STEPS_MAX)
        return too_many(path, "normalizer");
    if (strcmp(type, "Sequence") != 0)
        return norm_step(&t->norms[t->nnorms++], v, type, path);
    MB_TRY(members(v, "normalizers", path, "normalizer", &list));
    for (size_t i = 0; i < json_array_size(list); i++)
        MB_TRY(mb_hf_norm(t, json_array_get(list, i), path, depth + 1));
    return MB_OK;
}

/* ------------------------------------------------------------------ pre_tokenizer */

static const char *const behaviors[] = {"Removed", "Isolated", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};

static enum mb_status behavior(const json_t *v, const char *path, const char *part, enum mb_behavior *out)
{
    const json_t *s = json_object_get(v, "behavior");
    for (int i = 0; i < 5 && json_is_string(s); i++) {
        if (strcmp(json_string_value(s), behaviors[i]) == 0) {
            *out = (enum mb_behavior)i;
            return MB_OK;
        }
    }
    return mb_error(MB_MODEL,
                    "%s: %s: behavior: expected Removed, Isolated, Contiguous, MergedWithPrevious or "
                    "MergedWithNext, found %.60s",
                    path, part, json_is_string(s) ? json_string_value(s) : mb_json_type(s));
}

/* A new step, or NULL if there are too many (MB_MODEL, logged). */
static struct mb_pre *new_pre(struct mb_tokenizer *t, enum mb_pre_kind kind, const char *path)
{
    if (t->npres == MB_STEPS_MAX) {
        too_many(path, "pre_tokenizer");
        return NULL;
    }
    t->pres[t->npres].kind = kind;
    return &t->pres[t->npres++];
}

/* The expression of GPT-2, which ByteLevel means by use_regex (Radford et al., 2019). */
static const char gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static enum mb_status byte_level(struct mb_tokenizer *t, const json_t *v, const char *path)
{
    bool prefix = true, regex = true;
    struct mb_pre *s;
    MB_TRY(mb_json_bool(v, "add_prefix_space", path, &prefix, NULL));
    MB_TRY(mb_json_bool(v, "use_regex", path, &regex, NULL));
    if (prefix && new_pre(t, MB_PRE_PREFIX_SPACE, path) == NULL)
        return MB_MODEL;
    if (regex) {
        if ((s = new_pre(t, MB_PRE_SPLIT, path)) == NULL)
            return MB_MODEL;
        s->behavior = MB_SPLIT_ISOLATED;
        MB_TRY(mb_pattern_init(&s->pattern, gpt2, sizeof gpt2 - 1, true, path));
    }
    return new_pre(t, MB_PRE_BYTES, path) == NULL ? MB_MODEL : MB_OK;
}

static enum mb_status metaspace(struct mb_tokenizer *t, const json_t *v, const char *path)
{
    static const char part[] = "pre_tokenizer: Metaspace";
    struct mb_pre *s;
    uint32_t cp;
    bool split = true;
    MB_TRY(mb_hf_char(v, "replacement", path, part, &cp));
    MB_TRY(mb_json_bool(v, "split", path, &split, NULL));
    if ((s = new_pre(t, MB_PRE_METASPACE, path)) == NULL)
        return MB_MODEL;
    s->mark_len = mb_utf8_put(cp, s->mark);
    MB_TRY(mb_hf_prepend(v, path, part, &s->prepend));
    if (!split)
        return MB_OK;
    if ((s = new_pre(t, MB_PRE_CLASS, path)) == NULL)
        return MB_MODEL;
    s->cp = cp;
    s->behavior = MB_SPLIT_MERGED_WITH_NEXT;
    return MB_OK;
}

static enum mb_status split(struct mb_tokenizer *t, const json_t *v, const char *path)
{
    struct mb_pre *s;
    if ((s = new_pre(t, MB_PRE_SPLIT, path)) == NULL)
        return MB_MODEL;
    MB_TRY(mb_json_bool(v, "invert", path, &s->invert, NULL));
    MB_TRY(behavior(v, path, "pre_tokenizer: Split", &s->behavior));
    return mb_hf_pattern(v, path, "pre_tokenizer: Split", &s->pattern);
}

static enum mb_status by_class(struct mb_tokenizer *t, const char *path, bool (*is_in)(uint32_t),
                               enum mb_behavior how)
{
    struct mb_pre *s = new_pre(t, MB_PRE_CLASS, path);
    if (s == NULL)
        return MB_MODEL;
    s->is_in = is_in;
    s->behavior = how;
    return MB_OK;
}

static enum mb_status pre_step(struct mb_tokenizer *t, const json_t *v, const char *type, const char *path)
{
    struct mb_pre *s;
    enum mb_behavior how = MB_SPLIT_ISOLATED;
    if (strcmp(type, "ByteLevel") == 0)
        return byte_level(t, v, path);
    if (strcmp(type, "Metaspace") == 0)
        return metaspace(t, v, path);
    if (strcmp(type, "Split") == 0)
        return split(t, v, path);
    if (strcmp(type, "Digits") == 0) {
        bool single = false;
        MB_TRY(mb_json_bool(v, "individual_digits", path, &single, NULL));
        return by_class(t, path, mb_rust_number, single ? MB_SPLIT_ISOLATED : MB_SPLIT_CONTIGUOUS);
    }
    if (strcmp(type, "Punctuation") == 0) {
        if (json_object_get(v, "behavior") != NULL)
            MB_TRY(behavior(v, path, "pre_tokenizer: Punctuation", &how));
        return by_class(t, path, mb_rust_punct, how);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return by_class(t, path, mb_is_space, MB_SPLIT_REMOVED);
    if (strcmp(type, "CharDelimiterSplit") == 0) {
        MB_TRY(by_class(t, path, NULL, MB_SPLIT_REMOVED));
        s = &t->pres[t->npres - 1];
        return mb_hf_char(v, "delimiter", path, "pre_tokenizer: CharDelimiterSplit", &s->cp);
    }
    if (strcmp(type, "BertPreTokenizer") == 0) {
        MB_TRY(by_class(t, path, mb_is_space, MB_SPLIT_REMOVED));
        return by_class(t, path, mb_rust_punct, MB_SPLIT_ISOLATED);
    }
    if (strcmp(type, "Whitespace") == 0) {
        if ((s = new_pre(t, MB_PRE_SPLIT, path)) == NULL)
            return MB_MODEL;
        s->invert = true;
        s->behavior = MB_SPLIT_REMOVED;
        /* here \w has Join_Control as well */
        static const char words[] = "[\\w\\x{200c}\\x{200d}]+|[^\\w\\s\\x{200c}\\x{200d}]+";
        return mb_pattern_init(&s->pattern, words, sizeof words - 1, true, path);
    }
    return mb_error(MB_MODEL, "%s: pre_tokenizer: type \"%.60s\" is not supported", path, type);
}

enum mb_status mb_hf_pre(struct mb_tokenizer *t, const json_t *v, const char *path, int depth)
{
    const char *type;
    const json_t *list;
    if (v == NULL || json_is_null(v))
        return MB_OK;
    MB_TRY(mb_hf_type(v, path, "pre_tokenizer", &type));
    if (depth > MB_HF_DEPTH)
        return too_many(path, "pre_tokenizer");
    if (strcmp(type, "Sequence") != 0)
        return pre_step(t, v, type, path);
    MB_TRY(members(v, "pretokenizers", path, "pre_tokenizer", &list));
    for (size_t i = 0; i < json_array_size(list); i++)
        MB_TRY(mb_hf_pre(t, json_array_get(list, i), path, depth + 1));
    return MB_OK;
}
