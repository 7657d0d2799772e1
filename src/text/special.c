#include "text/special.h"

#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"

#define FILE_MAX (64u << 20)

static const char *const named[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

static bool is_named(const char *key)
{
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        if (strcmp(key, named[i]) == 0)
            return true;
    return false;
}

/* A token is a string or {"content": string}. */
static json_t *token_text(json_t *v)
{
    json_t *content = json_is_object(v) ? json_object_get(v, "content") : v;
    return json_is_string(content) ? content : NULL;
}

static enum mb_status put(json_t *all, const char *key, json_t *v)
{
    v = token_text(v);
    return v == NULL || json_object_set(all, key, v) == 0
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory for special tokens");
}

static bool ends_in_token(const char *key)
{
    size_t n = strlen(key);
    return n > 6 && strcmp(key + n - 6, "_token") == 0;
}

/* Tokens of the model's own: keys that end in "_token" with a text, and the members of extra_special_tokens.
 */
static enum mb_status add_from(json_t *all, const json_t *from, bool own)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)from, key, v)
    {
        if (is_named(key) || (own && ends_in_token(key) && json_is_string(v)))
            MB_TRY(put(all, key, v));
    }
    json_object_foreach(json_object_get(from, "extra_special_tokens"), key, v) MB_TRY(put(all, key, v));
    return MB_OK;
}

static enum mb_status load(const char *dir, const char *name, json_t **out)
{
    char *path = mb_path_join(dir, name);
    enum mb_status st = MB_OK;
    *out = NULL;
    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    if (mb_path_exists(path))
        st = mb_json_load(path, FILE_MAX, MB_MODEL, out);
    if (st == MB_OK && *out != NULL && !json_is_object(*out)) {
        st = mb_error(MB_MODEL, "%s: expected an object, found %s", path, mb_json_type(*out));
        json_decref(*out);
        *out = NULL;
    }
    free(path);
    return st;
}

enum mb_status mb_special_load(const char *dir, json_t **out)
{
    json_t *config = NULL, *map = NULL, *all = json_object();
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for special tokens") : MB_OK;
    if (st == MB_OK)
        st = load(dir, "tokenizer_config.json", &config);
    if (st == MB_OK && json_object_get(config, "added_tokens_decoder") == NULL)
        st = load(dir, "special_tokens_map.json", &map);
    if (st == MB_OK)
        st = add_from(all, config, true);
    if (st == MB_OK)
        st = add_from(all, map, false);
    json_decref(config);
    json_decref(map);
    if (st == MB_OK)
        *out = all;
    else
        json_decref(all);
    return st;
}

static int32_t id_of(const json_t *all, const char *key, const struct mb_tokenizer *t)
{
    const json_t *v = json_object_get(all, key);
    return json_is_string(v) ? mb_tokenizer_id(t, json_string_value(v), json_string_length(v)) : -1;
}

enum mb_status mb_special_eos(const char *dir, const struct mb_tokenizer *t, int32_t *id)
{
    json_t *all;
    MB_TRY(mb_special_load(dir, &all));
    *id = id_of(all, "eos_token", t);
    json_decref(all);
    return MB_OK;
}

enum mb_status mb_special_prefix(const char *dir, const struct mb_tokenizer *t, int32_t *id)
{
    json_t *all;
    MB_TRY(mb_special_load(dir, &all));
    int32_t bos = id_of(all, "bos_token", t);
    *id = bos >= 0 ? bos : id_of(all, "eos_token", t);
    json_decref(all);
    return MB_OK;
}
