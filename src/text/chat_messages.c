#include "text/chat_messages.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "jinja/jinja.h"

static const char mark[] = "CONTINUE_FINAL_MESSAGE_TAG ";

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for the messages of a chat");
}

static enum mb_status bad(char *err, size_t cap, const char *why)
{
    snprintf(err, cap, "messages: %s", why);
    return MB_REQUEST;
}

/* ------------------------------------------------------------------ content */

/* The text of a part: {"type": "text", "text": ...} or a string. */
static const json_t *text_of(const json_t *part)
{
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    if (json_is_string(part))
        return part;
    bool plain = json_is_string(type) && strcmp(json_string_value(type), "text") == 0;
    return plain && json_is_string(text) ? text : NULL;
}

static enum mb_status join(const json_t *parts, json_t **out)
{
    struct mb_bytes all = {0};
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < json_array_size(parts) && st == MB_OK; i++) {
        const json_t *t = text_of(json_array_get(parts, i));
        if (i > 0)
            st = mb_bytes_put(&all, "\n", 1);
        if (st == MB_OK)
            st = mb_bytes_put(&all, json_string_value(t), json_string_length(t));
    }
    *out = st == MB_OK ? json_stringn_nocheck(all.data != NULL ? (const char *)all.data : "", all.len) : NULL;
    mb_bytes_fini(&all);
    return *out != NULL ? MB_OK : no_memory();
}

static enum mb_status content(json_t *m, bool parts, char *err, size_t cap)
{
    const json_t *v = json_object_get(m, "content");
    json_t *text;
    if (!json_is_array(v))
        return MB_OK;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (text_of(json_array_get(v, i)) == NULL)
            return bad(err, cap, "a content part that is not text");
    if (parts)
        return MB_OK;
    MB_TRY(join(v, &text));
    return json_object_set_new(m, "content", text) == 0 ? MB_OK : no_memory();
}

/* ------------------------------------------------------------------ tool calls and reasoning */

/* The arguments of a call as a value; text that is no JSON stays text. */
static enum mb_status arguments(json_t *function)
{
    const json_t *v = json_object_get(function, "arguments");
    json_t *value = NULL;
    char why[8];
    if (!json_is_object(function))
        return MB_OK;
    if (json_is_string(v) && json_string_length(v) > 0) {
        enum mb_status st = mb_json_parse(json_string_value(v), json_string_length(v), "", MB_REQUEST, why,
                                          sizeof why, &value);
        if (st == MB_OK && !json_is_object(value) && !json_is_array(value)) {
            json_decref(value);
            value = NULL;
        }
    } else if (v == NULL || json_is_null(v) || json_is_string(v)) {
        value = json_object();
    }
    return value == NULL || json_object_set_new(function, "arguments", value) == 0 ? MB_OK : no_memory();
}

/* Reasoning goes by three names; templates read one of them. */
static enum mb_status reasoning(json_t **m)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    json_t *v = NULL, *all;
    for (size_t i = 0; i < 3 && v == NULL; i++)
        v = json_object_get(*m, names[i]);
    if (v == NULL)
        return MB_OK;
    all = json_object();
    if (all == NULL || json_object_set(all, "thinking", v) != 0 || json_object_update(all, *m) != 0 ||
        json_object_set(all, "reasoning_content", v) != 0) {
        json_decref(all);
        return no_memory();
    }
    json_decref(*m);
    *m = all;
    return MB_OK;
}

static enum mb_status ready(json_t **m, bool parts, bool none, char *err, size_t cap)
{
    const char *key;
    size_t len, i;
    void *next;
    json_t *v, *call;
    json_object_keylen_foreach_safe(*m, next, key, len, v)
    {
        if (json_is_null(v) && !(none && len == 7 && memcmp(key, "content", 7) == 0))
            json_object_deln(*m, key, len);
    }
    MB_TRY(content(*m, parts, err, cap));
    json_array_foreach(json_object_get(*m, "tool_calls"), i, call)
        MB_TRY(arguments(json_object_get(call, "function")));
    return reasoning(m);
}

enum mb_status mb_chat_messages(const json_t *from, bool parts, bool none, char *err, size_t cap,
                                json_t **out)
{
    json_t *list = json_array(), *m = NULL;
    enum mb_status st = list != NULL ? MB_OK : no_memory();
    for (size_t i = 0; i < json_array_size(from) && st == MB_OK; i++) {
        m = json_deep_copy(json_array_get(from, i));
        if (m == NULL)
            st = no_memory();
        else if (!json_is_object(m))
            st = bad(err, cap, "expected objects");
        if (st == MB_OK)
            st = ready(&m, parts, none, err, cap);
        if (st == MB_OK && json_array_append(list, m) != 0)
            st = no_memory();
        json_decref(m);
    }
    if (st == MB_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}

/* ------------------------------------------------------------------ continue_final_message */

/* The place of the last message's text: the content itself, or the last part with a text. */
static json_t *last_text(json_t *messages, json_t **holder, const char **key)
{
    json_t *m = json_array_get(messages, json_array_size(messages) - 1), *v = json_object_get(m, "content");
    *holder = m;
    *key = "content";
    for (size_t i = json_array_size(v); i > 0 && json_is_array(v); i--) {
        json_t *part = json_array_get(v, i - 1);
        if (json_object_get(part, "text") != NULL) {
            *holder = part;
            *key = "text";
            return json_object_get(part, "text");
        }
    }
    return json_is_array(v) ? NULL : v;
}

enum mb_status mb_chat_mark(json_t *messages, char *err, size_t cap, json_t **last)
{
    json_t *holder, *text;
    const char *key;
    struct mb_bytes all = {0};
    text = last_text(messages, &holder, &key);
    if (!json_is_string(text))
        return bad(err, cap, "continue_final_message: the last message has no content to continue");
    enum mb_status st = mb_bytes_put(&all, json_string_value(text), json_string_length(text));
    if (st == MB_OK)
        st = mb_bytes_put(&all, mark, sizeof mark - 1);
    *last = json_incref(text);
    if (st == MB_OK &&
        json_object_set_new(holder, key, json_stringn_nocheck((const char *)all.data, all.len)) != 0)
        st = no_memory();
    mb_bytes_fini(&all);
    if (st != MB_OK) {
        json_decref(*last);
        *last = NULL;
    }
    return st;
}

enum mb_status mb_chat_cut(const json_t *last, struct mb_bytes *text, char *err, size_t cap)
{
    const char *all = (const char *)text->data, *final = json_string_value(last), *at = NULL;
    const size_t n = sizeof mark - 2; /* without its space */
    size_t final_n = mb_jinja_strip(final, json_string_length(last), &final);
    bool has = final_n == 0 || (text->len > 0 && memmem(all, text->len, final, final_n) != NULL);
    for (const char *from = all; text->len > 0;) {
        const char *hit = memmem(from, (size_t)(all + text->len - from), mark, n);
        if (hit == NULL)
            break;
        at = hit;
        from = hit + 1;
    }
    if (!has || at == NULL)
        return bad(
            err, cap,
            "continue_final_message: the chat template changes the last message, so it cannot be continued");
    size_t keep = (size_t)(at - all);
    bool spaced = text->len - keep > n && at[n] == ' ';
    text->len = spaced ? keep : mb_jinja_strip(all, keep, NULL);
    return MB_OK;
}
