#include "text/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "text/chat_messages.h"
#include "jinja/jinja.h"
#include "text/special.h"

#define FILE_MAX (64u << 20)

struct mb_chat {
    struct mb_jtemplate *plain; /* "default" */
    struct mb_jtemplate *tool_use;
    char *plain_flaw, *tool_use_flaw; /* why one did not compile */
    bool continues;                   /* a template knows of content */
    json_t *tokens;                   /* variables for the special tokens */
};

void mb_chat_destroy(struct mb_chat *c)
{
    if (c == NULL)
        return;
    mb_jinja_destroy(c->plain);
    mb_jinja_destroy(c->tool_use);
    free(c->plain_flaw);
    free(c->tool_use_flaw);
    json_decref(c->tokens);
    free(c);
}

const char *mb_chat_flaw(const struct mb_chat *c)
{
    return c->plain_flaw != NULL ? c->plain_flaw : c->tool_use_flaw;
}

static enum mb_status new_chat(struct mb_chat **out)
{
    *out = calloc(1, sizeof **out);
    if (*out != NULL)
        return MB_OK;
    return mb_error(MB_NO_MEMORY, "no memory for a chat template");
}

/* One of the two templates; what is wrong with it is kept. */
static enum mb_status take(struct mb_chat *c, bool tool_use, const char *source, size_t n, const char *what)
{
    char err[600] = "";
    struct mb_jtemplate **t = tool_use ? &c->tool_use : &c->plain;
    char **flaw = tool_use ? &c->tool_use_flaw : &c->plain_flaw;
    enum mb_status st = mb_jinja_compile(source, n, what, err, sizeof err, t);
    c->continues = c->continues || memmem(source, n, "content", 7) != NULL;
    if (st != MB_MODEL)
        return st;
    *flaw = strdup(err);
    return *flaw != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for a chat template");
}

enum mb_status mb_chat_create(const char *source, size_t n, const json_t *tokens, const char *what,
                              struct mb_chat **out)
{
    struct mb_chat *c = NULL;
    MB_TRY(new_chat(&c));
    enum mb_status st = take(c, false, source, n, what);
    if (st == MB_OK && c->plain_flaw != NULL)
        st = mb_error(MB_MODEL, "%s", c->plain_flaw);
    c->tokens = tokens != NULL ? json_deep_copy(tokens) : json_object();
    if (st == MB_OK && c->tokens == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a chat template");
    if (st == MB_OK)
        *out = c;
    else
        mb_chat_destroy(c);
    return st;
}

/* ------------------------------------------------------------------ loading */

/* A list of named templates: "default" and "tool_use" are the ones that rendering picks. */
static enum mb_status take_named(struct mb_chat *c, const json_t *list, const char *path)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i), *name = json_object_get(v, "name"),
                     *text = json_object_get(v, "template");
        char what[512];
        bool tool_use = json_is_string(name) && strcmp(json_string_value(name), "tool_use") == 0;
        bool plain = json_is_string(name) && strcmp(json_string_value(name), "default") == 0;
        bool again = tool_use ? c->tool_use != NULL || c->tool_use_flaw != NULL
                              : c->plain != NULL || c->plain_flaw != NULL;
        if (!json_is_string(name) || !json_is_string(text) || ((plain || tool_use) && again))
            return mb_error(MB_MODEL,
                            "%s: chat_template: entry %zu is not {\"name\": ..., \"template\": ...}, or a "
                            "name comes twice",
                            path, i);
        snprintf(what, sizeof what, "%s: chat_template \"%s\"", path, json_string_value(name));
        if (plain || tool_use)
            MB_TRY(take(c, tool_use, json_string_value(text), json_string_length(text), what));
    }
    return MB_OK;
}

static enum mb_status take_config(struct mb_chat *c, const char *path)
{
    json_t *root = NULL;
    char what[512];
    MB_TRY(mb_json_load(path, FILE_MAX, MB_MODEL, &root));
    const json_t *t = json_object_get(root, "chat_template");
    enum mb_status st = MB_OK;
    snprintf(what, sizeof what, "%s: chat_template", path);
    if (json_is_string(t))
        st = take(c, false, json_string_value(t), json_string_length(t), what);
    else if (json_is_array(t))
        st = take_named(c, t, path);
    else if (t != NULL && !json_is_null(t))
        st = mb_error(MB_MODEL, "%s: expected a string or a list, found %s", what, mb_json_type(t));
    json_decref(root);
    return st;
}

/* A file of its own; *found: it is there. */
static enum mb_status take_file(struct mb_chat *c, bool tool_use, const char *dir, const char *name,
                                bool *found)
{
    struct mb_bytes text = {0};
    char *path = mb_path_join(dir, name);
    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    if (mb_path_exists(path)) {
        *found = true;
        st = mb_file_read(path, MB_JSOURCE_MAX, MB_MODEL, &text);
        if (st == MB_OK)
            st = take(c, tool_use, text.data != NULL ? (const char *)text.data : "", text.len, path);
    }
    mb_bytes_fini(&text);
    free(path);
    return st;
}

static enum mb_status load_dir(struct mb_chat *c, const char *dir)
{
    bool own = false;
    char *config = mb_path_join(dir, "tokenizer_config.json");
    enum mb_status st =
        config == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_special_load(dir, &c->tokens);
    if (st == MB_OK)
        st = take_file(c, false, dir, "chat_template.jinja", &own);
    if (st == MB_OK)
        st = take_file(c, true, dir, "additional_chat_templates/tool_use.jinja", &own);
    if (st == MB_OK && !own && mb_path_exists(config))
        st = take_config(c, config);
    free(config);
    return st;
}

enum mb_status mb_chat_load(const char *dir, struct mb_chat **out)
{
    struct mb_chat *c = NULL;
    MB_TRY(new_chat(&c));
    enum mb_status st = load_dir(c, dir);
    bool none = st == MB_OK && c->plain == NULL && c->tool_use == NULL && mb_chat_flaw(c) == NULL;
    if (st != MB_OK || none)
        mb_chat_destroy(c);
    if (st == MB_OK)
        *out = none ? NULL : c;
    return st;
}

/* ------------------------------------------------------------------ rendering */

static enum mb_status pick(const struct mb_chat *c, bool tools, char *err, size_t cap,
                           const struct mb_jtemplate **out)
{
    bool tool_use = tools && (c->tool_use != NULL || c->tool_use_flaw != NULL);
    const char *flaw = tool_use ? c->tool_use_flaw : c->plain_flaw;
    *out = tool_use ? c->tool_use : c->plain;
    if (*out != NULL)
        return MB_OK;
    snprintf(err, cap, "%s", flaw != NULL ? flaw : "the model has no default chat template");
    return MB_REQUEST;
}

static bool set(json_t *vars, const char *key, const json_t *v)
{
    return json_object_set_new(vars, key, v == NULL ? json_null() : json_incref((json_t *)v)) == 0;
}

/* The variables of the template; messages are made ready already. NULL: no memory. */
static json_t *variables(const struct mb_chat *c, const struct mb_chat_ask *ask, const json_t *messages)
{
    json_t *vars = json_object();
    bool ok = vars != NULL && json_object_update(vars, c->tokens) == 0;
    ok = ok && (ask->extra == NULL || json_object_update(vars, (json_t *)ask->extra) == 0);
    ok = ok && set(vars, "messages", messages) && set(vars, "tools", ask->tools) &&
         set(vars, "documents", ask->documents);
    ok = ok &&
         json_object_set_new(vars, "add_generation_prompt", json_boolean(ask->add_generation_prompt)) == 0;
    if (ok)
        return vars;
    json_decref(vars);
    (void)mb_error(MB_NO_MEMORY, "no memory for the variables of a chat template");
    return NULL;
}

static enum mb_status render(const struct mb_chat *c, const struct mb_jtemplate *t,
                             const struct mb_chat_ask *ask, json_t *messages, char *err, size_t cap,
                             struct mb_bytes *text)
{
    json_t *last = NULL;
    enum mb_status st = MB_OK;
    if (ask->continue_final_message && !c->continues) {
        snprintf(err, cap, "continue_final_message: the chat template has no content to continue");
        return MB_REQUEST;
    }
    if (ask->continue_final_message)
        MB_TRY(mb_chat_mark(messages, err, cap, &last));
    json_t *vars = variables(c, ask, messages);
    st = vars != NULL ? mb_jinja_render(t, vars, ask->now, err, cap, text) : MB_NO_MEMORY;
    if (st == MB_OK && last != NULL)
        st = mb_chat_cut(last, text, err, cap);
    json_decref(vars);
    json_decref(last);
    return st;
}

enum mb_status mb_chat_render(const struct mb_chat *c, const struct mb_chat_ask *ask, char *err, size_t cap,
                              struct mb_bytes *out)
{
    const struct mb_jtemplate *t;
    struct mb_bytes text = {0};
    json_t *messages = NULL;
    char none[1];
    if (err == NULL)
        err = none, cap = 0;
    MB_TRY(pick(c, ask->tools != NULL, err, cap, &t));
    struct mb_jinja_wants wants = mb_jinja_wants(t);
    enum mb_status st = mb_chat_messages(ask->messages, wants.walks_content, wants.asks_none, err, cap, &messages);
    if (st == MB_OK)
        st = render(c, t, ask, messages, err, cap, &text);
    if (st == MB_OK)
        st = mb_bytes_put(out, text.data, text.len);
    mb_bytes_fini(&text);
    json_decref(messages);
    return st;
}
