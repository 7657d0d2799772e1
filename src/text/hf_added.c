/* The added tokens of a tokenizer.json together with those that only the files beside it name, as HF
 * transformers puts them together: added_tokens_decoder of tokenizer_config.json (by id; its flags go before
 * tokenizer.json's), or without one added_tokens.json; then the named special tokens. A token that the
 * vocabulary lacks gets the next free id, whatever the file says. */
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "text/hf_parts.h"

#define FILE_MAX (64u << 20)

static const char *const flag_names[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

struct merge {
    const struct mb_tokenizer *t;
    json_t *list, *by_text; /* the tokens, and the same objects by content */
    json_t *config, *map;   /* tokenizer_config.json, special_tokens_map.json; or NULL */
    json_int_t next;        /* free id */
    const char *path;
};

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for added tokens");
}

enum mb_status mb_hf_beside(const char *path, const char *name, json_t **out)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    char *file = dir == NULL ? NULL : mb_path_join(dir, name);
    enum mb_status st = file == NULL ? no_memory() : MB_OK;

    if (st == MB_OK && mb_path_exists(file))
        st = mb_json_load(file, FILE_MAX, MB_MODEL, out);
    if (st == MB_OK && *out != NULL && !json_is_object(*out))
        st = mb_error(MB_MODEL, "%s: expected an object, found %s", file, mb_json_type(*out));
    free(file);
    free(dir);
    return st;
}

static enum mb_status index_list(struct merge *m)
{
    size_t i;
    json_t *v;

    json_array_foreach(m->list, i, v)
    {
        const json_t *id = json_object_get(v, "id");
        const char *text = json_string_value(json_object_get(v, "content"));
        if (text == NULL)
            continue; /* refused later, by name */
        if (json_object_set(m->by_text, text, v) != 0)
            return no_memory();
        if (json_is_integer(id) && json_integer_value(id) >= m->next && json_integer_value(id) < MB_ID_MAX)
            m->next = json_integer_value(id) + 1;
    }
    return MB_OK;
}

/* special: what the flag is where v does not say; v: an object with flags, or a plain text. */
static enum mb_status set_flags(json_t *token, const json_t *v, bool special, const char *path)
{
    bool flag[5] = {false}, was = json_is_true(json_object_get(token, "special"));

    flag[4] = special;
    if (json_is_object(v) && !special)
        MB_TRY(mb_json_bool(v, flag_names[4], path, &flag[4], NULL));
    flag[3] = !flag[4];
    for (int i = 0; i < 4 && json_is_object(v); i++)
        MB_TRY(mb_json_bool(v, flag_names[i], path, &flag[i], NULL));
    flag[4] |= was; /* what was special once is left out of texts */
    for (int i = 0; i < 5; i++) {
        if (json_object_set_new(token, flag_names[i], json_boolean(flag[i])) != 0)
            return no_memory();
    }
    return MB_OK;
}

/* over: flags of a token that is there already are replaced. */
static enum mb_status add(struct merge *m, const json_t *v, bool special, bool over)
{
    const json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
    const char *s = json_string_value(text);

    if (s == NULL || *s == 0)
        return MB_OK;
    json_t *old = json_object_get(m->by_text, s);
    if (old != NULL)
        return over ? set_flags(old, v, special, m->path) : MB_OK;
    int32_t id = mb_vocab_find(&m->t->vocab, s, json_string_length(text));
    json_t *token = json_pack("{s:O,s:I}", "content", text, "id", id >= 0 ? (json_int_t)id : m->next);
    enum mb_status st = token == NULL ? no_memory() : set_flags(token, v, special, m->path);
    if (st == MB_OK && (json_array_append(m->list, token) != 0 || json_object_set(m->by_text, s, token) != 0))
        st = no_memory();
    if (id < 0)
        m->next++;
    json_decref(token);
    return st;
}

static const json_t *named_token(const struct merge *m, const char *key)
{
    const json_t *v = json_object_get(m->map, key);
    return v != NULL ? v : json_object_get(m->config, key);
}

static bool is_named(const struct merge *m, const char *text)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        const json_t *v = named_token(m, named[i]);
        const char *s = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
        if (s != NULL && strcmp(s, text) == 0)
            return true;
    }
    return false;
}

struct numbered {
    long long id;
    const char *text;
    const json_t *v;
};

static int by_id(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* A token that has a name is special, whatever its entry says. */
static enum mb_status add_listed(struct merge *m, const json_t *v)
{
    const char *text = json_string_value(json_object_get(v, "content"));

    MB_TRY(add(m, v, false, true));
    if (!is_named(m, text))
        return MB_OK;
    return json_object_set_new(json_object_get(m->by_text, text), "special", json_true()) == 0 ? MB_OK
                                                                                               : no_memory();
}

/* added_tokens_decoder, in the order of its numbers. */
static enum mb_status add_decoder(struct merge *m, const json_t *decoder)
{
    size_t n = 0, count = json_object_size(decoder);
    struct numbered *all = malloc((count + 1) * sizeof *all);
    enum mb_status st = all == NULL ? no_memory() : MB_OK;
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)decoder, key, v)
    {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (st == MB_OK && (end == key || *end != 0 || !json_is_string(json_object_get(v, "content"))))
            st = mb_error(
                MB_MODEL,
                "%s: added_tokens_decoder of tokenizer_config.json: \"%.40s\" is no id with a content",
                m->path, key);
        if (st == MB_OK)
            all[n++] = (struct numbered){id, NULL, v};
    }
    if (st == MB_OK)
        qsort(all, n, sizeof *all, by_id);
    for (size_t i = 0; i < n && st == MB_OK; i++)
        st = add_listed(m, all[i].v);
    free(all);
    return st;
}

/* added_tokens.json: {"<|im_end|>": 700, ...} */
static enum mb_status add_file(struct merge *m)
{
    json_t *root = NULL, *v;
    const char *key;
    enum mb_status st = mb_hf_beside(m->path, "added_tokens.json", &root);
    size_t n = 0;
    struct numbered *all = malloc((json_object_size(root) + 1) * sizeof *all);

    if (st == MB_OK && all == NULL)
        st = no_memory();
    json_object_foreach(root, key, v)
    {
        if (st == MB_OK && !json_is_integer(v))
            st = mb_error(MB_MODEL, "%s: added_tokens.json beside it: \"%.40s\" has no id", m->path, key);
        if (st == MB_OK)
            all[n++] = (struct numbered){json_integer_value(v), key, NULL};
    }
    if (st == MB_OK)
        qsort(all, n, sizeof *all, by_id);
    for (size_t i = 0; i < n && st == MB_OK; i++) {
        json_t *text = json_string(all[i].text);
        bool special = is_named(m, all[i].text);
        json_t *token = json_pack("{s:o,s:b}", "content", text, "special", special);
        st = token == NULL ? no_memory() : add(m, token, special, false);
        json_decref(token);
    }
    free(all);
    json_decref(root);
    return st;
}

static enum mb_status add_members(struct merge *m, const json_t *v)
{
    size_t i;
    const char *key;
    json_t *e;

    json_array_foreach(v, i, e) MB_TRY(add(m, e, true, false));
    json_object_foreach((json_t *)v, key, e) MB_TRY(add(m, e, true, false));
    return MB_OK;
}

static enum mb_status add_named(struct merge *m)
{
    static const char *const more[] = {"extra_special_tokens", "additional_special_tokens"};

    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        MB_TRY(add(m, named_token(m, named[i]), true, false));
    for (size_t i = 0; i < 2; i++) {
        MB_TRY(add_members(m, json_object_get(m->config, more[i])));
        MB_TRY(add_members(m, json_object_get(m->map, more[i])));
    }
    return MB_OK;
}

static enum mb_status fill(struct merge *m)
{
    const json_t *decoder;

    MB_TRY(mb_hf_beside(m->path, "tokenizer_config.json", &m->config));
    if (m->config == NULL)
        return MB_OK;
    decoder = json_object_get(m->config, "added_tokens_decoder");
    if (decoder == NULL)
        MB_TRY(mb_hf_beside(m->path, "special_tokens_map.json", &m->map));
    m->next = m->t->vocab.count;
    MB_TRY(index_list(m));
    if (json_is_object(decoder))
        MB_TRY(add_decoder(m, decoder));
    else if (decoder == NULL)
        MB_TRY(add_file(m));
    return add_named(m);
}

enum mb_status mb_hf_added(const struct mb_tokenizer *t, const json_t *own, const char *path, json_t **out)
{
    if (own != NULL && !json_is_null(own) && !json_is_array(own))
        return mb_error(MB_MODEL, "%s: added_tokens: expected a list, found %s", path, mb_json_type(own));
    struct merge m = {.t = t, .path = path, .by_text = json_object()};
    m.list = json_is_array(own) ? json_deep_copy(own) : json_array();
    enum mb_status st = m.list == NULL || m.by_text == NULL ? no_memory() : fill(&m);
    json_decref(m.by_text);
    json_decref(m.config);
    json_decref(m.map);
    if (st == MB_OK)
        *out = m.list;
    else
        json_decref(m.list);
    return st;
}
