#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "text/jinja.h"

#define FILE_MAX (64u << 20)

struct mb_chat {
    struct mb_jtemplate *plain; /* "default" */
    struct mb_jtemplate *tool_use;
    json_t *tokens; /* variables for the special tokens */
};

void mb_chat_destroy(struct mb_chat *c)
{
    if (c == NULL)
        return;
    mb_jinja_destroy(c->plain);
    mb_jinja_destroy(c->tool_use);
    json_decref(c->tokens);
    free(c);
}

static enum mb_status new_chat(struct mb_chat **out)
{
    *out = calloc(1, sizeof **out);
    if (*out != NULL)
        (*out)->tokens = json_object();
    if (*out != NULL && (*out)->tokens != NULL)
        return MB_OK;
    mb_chat_destroy(*out);
    *out = NULL;
    return mb_error(MB_NO_MEMORY, "no memory for a chat template");
}

enum mb_status mb_chat_create(const char *source, size_t n, const json_t *tokens, const char *what,
                              struct mb_chat **out)
{
    struct mb_chat *c = NULL;
    MB_TRY(new_chat(&c));
    enum mb_status st = mb_jinja_compile(source, n, what, &c->plain);
    if (st == MB_OK && tokens != NULL && json_object_update(c->tokens, (json_t *)tokens) != 0)
        st = mb_error(MB_NO_MEMORY, "no memory for a chat template");
    if (st == MB_OK)
        *out = c;
    else
        mb_chat_destroy(c);
    return st;
}

/* ------------------------------------------------------------------ loading */

/* A token is a string or {"content": string}. */
static json_t *token_text(json_t *v)
{
    json_t *content = json_is_object(v) ? json_object_get(v, "content") : v;
    return json_is_string(content) ? content : NULL;
}

static enum mb_status load_tokens(struct mb_chat *c, const json_t *config)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *v = token_text(json_object_get(config, names[i]));
        if (v != NULL && json_object_set(c->tokens, names[i], v) != 0)
            return mb_error(MB_NO_MEMORY, "no memory for a chat template");
    }
    json_t *more = json_object_get(config, "additional_special_tokens"), *list, *v;
    size_t i;
    if (!json_is_array(more))
        return MB_OK;
    list = json_array();
    json_array_foreach(more, i, v)
    {
        if (token_text(v) != NULL)
            json_array_append(list, token_text(v));
    }
    if (json_object_set_new(c->tokens, "additional_special_tokens", list) != 0)
        return mb_error(MB_NO_MEMORY, "no memory for a chat template");
    return MB_OK;
}

/* A list of named templates: "default" and "tool_use" are the ones that rendering picks. */
static enum mb_status load_named(struct mb_chat *c, const json_t *list, const char *path)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v)
    {
        const json_t *name = json_object_get(v, "name"), *text = json_object_get(v, "template");
        char what[512];
        if (!json_is_string(name) || !json_is_string(text))
            return mb_error(
                MB_MODEL, "%s: chat_template: entry %zu is not {\"name\": ..., \"template\": ...}", path, i);
        bool plain = strcmp(json_string_value(name), "default") == 0;
        struct mb_jtemplate **to = plain ? &c->plain : &c->tool_use;
        if (!plain && strcmp(json_string_value(name), "tool_use") != 0)
            continue;
        if (*to != NULL)
            return mb_error(MB_MODEL, "%s: chat_template: two templates are named %s", path,
                            json_string_value(name));
        snprintf(what, sizeof what, "%s: chat_template \"%s\"", path, json_string_value(name));
        MB_TRY(mb_jinja_compile(json_string_value(text), json_string_length(text), what, to));
    }
    return MB_OK;
}

static enum mb_status load_config(struct mb_chat *c, const char *path, bool with_template)
{
    json_t *root = NULL;
    MB_TRY(mb_json_load(path, FILE_MAX, MB_MODEL, &root));
    const json_t *t = json_object_get(root, "chat_template");
    enum mb_status st = load_tokens(c, root);
    char what[512];
    snprintf(what, sizeof what, "%s: chat_template", path);
    if (st == MB_OK && with_template && json_is_string(t))
        st = mb_jinja_compile(json_string_value(t), json_string_length(t), what, &c->plain);
    else if (st == MB_OK && with_template && json_is_array(t))
        st = load_named(c, t, path);
    else if (st == MB_OK && with_template && t != NULL && !json_is_null(t))
        st = mb_error(MB_MODEL, "%s: expected a string or a list, found %s", what, mb_json_type(t));
    json_decref(root);
    return st;
}

static enum mb_status load_file(struct mb_chat *c, const char *path)
{
    struct mb_bytes text = {0};
    enum mb_status st = mb_file_read(path, MB_JSOURCE_MAX, MB_MODEL, &text);
    if (st == MB_OK)
        st = mb_jinja_compile((const char *)text.data, text.len, path, &c->plain);
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status load_dir(struct mb_chat *c, const char *dir)
{
    char *jinja = mb_path_join(dir, "chat_template.jinja"),
         *config = mb_path_join(dir, "tokenizer_config.json");
    enum mb_status st = MB_OK;
    if (jinja == NULL || config == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    bool own = st == MB_OK && mb_path_exists(jinja);
    if (own)
        st = load_file(c, jinja);
    if (st == MB_OK && mb_path_exists(config))
        st = load_config(c, config, !own);
    free(jinja);
    free(config);
    return st;
}

enum mb_status mb_chat_load(const char *dir, struct mb_chat **out)
{
    struct mb_chat *c = NULL;
    MB_TRY(new_chat(&c));
    enum mb_status st = load_dir(c, dir);
    bool none = st == MB_OK && c->plain == NULL && c->tool_use == NULL;
    if (st != MB_OK || none)
        mb_chat_destroy(c);
    if (st == MB_OK)
        *out = none ? NULL : c;
    return st;
}

/* ------------------------------------------------------------------ rendering */

enum mb_status mb_chat_render(const struct mb_chat *c, const json_t *messages, const json_t *tools,
                              bool add_generation_prompt, const json_t *extra, int64_t now, char *err,
                              size_t cap, struct mb_bytes *out)
{
    const struct mb_jtemplate *t = tools != NULL && c->tool_use != NULL ? c->tool_use : c->plain;
    if (t == NULL) {
        if (err != NULL)
            snprintf(err, cap, "the model has no default chat template");
        return MB_REQUEST;
    }
    json_t *vars = json_object();
    bool ok = vars != NULL && json_object_update(vars, c->tokens) == 0;
    ok = ok && (extra == NULL || json_object_update(vars, (json_t *)extra) == 0);
    ok = ok && json_object_set(vars, "messages", (json_t *)messages) == 0;
    ok = ok &&
         json_object_set_new(vars, "tools", tools == NULL ? json_null() : json_incref((json_t *)tools)) == 0;
    ok = ok && json_object_set_new(vars, "add_generation_prompt", json_boolean(add_generation_prompt)) == 0;
    if (ok && json_object_get(vars, "documents") == NULL)
        ok = json_object_set_new(vars, "documents", json_null()) == 0;
    enum mb_status st = ok ? mb_jinja_render(t, vars, now, err, cap, out)
                           : mb_error(MB_NO_MEMORY, "no memory for the variables of a chat template");
    json_decref(vars);
    return st;
}
