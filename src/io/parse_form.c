#include "io/parse_draft.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

/* --- what several forms share ------------------------------------------------------------------------------------ */

enum mb_status mb_draft_piece(struct mb_draft *d, const json_t *v, const char *key, struct mb_piece *out)
{
    size_t i;
    json_t *one;

    if (json_is_string(v)) {
        *out = (struct mb_piece){.text = json_string_value(v), .len = json_string_length(v)};
        return MB_OK;
    }
    if (!json_is_array(v))
        return mb_draft_bad(d, "%s: expected a string or a list of token ids, found %s", key, mb_json_type(v));
    json_array_foreach((json_t *)v, i, one) {
        int64_t id = 0;
        if (!mb_draft_whole(one, &id))
            return mb_draft_bad(d, "%s: expected token ids, found %s at place %zu", key, mb_json_type(one), i);
        if (id < 0 || id >= d->opt->vocab)
            return mb_draft_bad(d, "%s: id %lld at place %zu is outside the vocabulary, 0 to %d", key, (long long)id, i,
                                d->opt->vocab - 1);
    }
    *out = (struct mb_piece){.ids = v};
    return MB_OK;
}

enum mb_status mb_draft_prompt(struct mb_draft *d, const json_t *v, const char *key)
{
    const json_t *first = json_array_get(v, 0);

    if (v == NULL)
        return mb_draft_bad(d, "%s is missing", key);
    if (json_is_array(v) && (json_is_string(first) || json_is_array(first))) {
        if (json_array_size(v) > 1)
            return mb_draft_bad(d, "%s: a list of %zu prompts; write one line for each", key, json_array_size(v));
        return mb_draft_piece(d, first, key, &d->head);
    }
    return mb_draft_piece(d, v, key, &d->head);
}

/* The last part of a path or of "owner/name"; in a Hugging Face cache the repository's name. Not terminated: *n bytes. */
static const char *last_part(const char *s, size_t *n)
{
    const char *repo = strncmp(s, "models--", 8) == 0 ? s : strstr(s, "/models--");
    size_t end = strlen(s);

    if (repo != NULL) {
        s = repo + (*repo == '/');
        end = strcspn(s, "/");
        for (size_t i = end; i > 2; i--)
            if (s[i - 1] == '-' && s[i - 2] == '-')
                return *n = end - i, s + i;
    }
    while (end > 0 && s[end - 1] == '/')
        end--;
    size_t at = end;
    while (at > 0 && s[at - 1] != '/')
        at--;
    return *n = end - at, s + at;
}

static bool is_base(const char *base, const char *name)
{
    size_t nb, nn;
    const char *b = last_part(base, &nb), *m = last_part(name, &nn);

    return strcmp(base, name) == 0 || (nb > 0 && nb == nn && memcmp(b, m, nb) == 0);
}

enum mb_status mb_draft_adapter(struct mb_draft *d, const json_t *name, bool must_know)
{
    if (name == NULL)
        return MB_OK;
    if (!json_is_string(name))
        return mb_draft_bad(d, "%s: expected a string, found %s", must_know ? "adapter" : "model", mb_json_type(name));
    for (int32_t i = 0; i < d->opt->n_adapters; i++) {
        if (!mb_draft_is(name, d->opt->adapters[i]))
            continue;
        d->req->adapter = strdup(d->opt->adapters[i]);
        return d->req->adapter != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for a request");
    }
    if (must_know)
        return mb_draft_bad(d, "adapter \"%s\" is not loaded", json_string_value(name));
    if (d->opt->n_adapters > 0 && d->opt->base != NULL && !is_base(d->opt->base, json_string_value(name)))
        return mb_draft_bad(d, "model: \"%.100s\" is neither one of the adapters nor the model %.100s", json_string_value(name),
                            d->opt->base);
    return MB_OK;
}

/* --- chat -------------------------------------------------------------------------------------------------------- */

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a request");
}

static enum mb_status put_message(struct mb_draft *d, const char *role, json_t *content)
{
    json_t *m = json_object();
    enum mb_status st = MB_OK;

    if (d->messages == NULL)
        d->messages = json_array();
    if (m == NULL || json_object_set_new(m, "role", json_string(role)) != 0 ||
        json_object_set(m, "content", content) != 0 || json_array_append(d->messages, m) != 0)
        st = no_memory();
    json_decref(m);
    json_decref(content);
    return st;
}

enum mb_status mb_draft_messages(struct mb_draft *d, const json_t *list)
{
    size_t i;
    json_t *m;

    d->req->chat = true;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return mb_draft_bad(d, "messages: expected a list that is not empty, found %s",
                            json_is_array(list) ? "an empty one" : mb_json_type(list));
    json_array_foreach((json_t *)list, i, m) {
        const json_t *role = json_object_get(m, "role"), *content = mb_draft_get(m, "content");
        if (!json_is_object(m))
            return mb_draft_bad(d, "messages: expected objects, found %s", mb_json_type(m));
        if (!json_is_string(role))
            return mb_draft_bad(d, "messages: role is missing or no string");
        if (content != NULL && !json_is_string(content) && !json_is_array(content))
            return mb_draft_bad(d, "messages: content: expected a string or a list of text parts, found %s", mb_json_type(content));
    }
    if (d->opt->chat == NULL)
        return mb_draft_bad(d, "messages: this model has no chat template; use a prompt (/v1/completions)");
    d->messages = json_incref((json_t *)list);
    return MB_OK;
}

/* --- OpenAI batch lines ------------------------------------------------------------------------------------------ */

static enum mb_status openai_chat(struct mb_draft *d, const json_t *body)
{
    static const char *const own[] = {"messages", "model", NULL};

    d->form = MB_FORM_CHAT;
    d->req->chat = true;
    MB_TRY(mb_draft_keys(d, body, own, false));
    MB_TRY(mb_draft_settle(d));
    return mb_draft_messages(d, mb_draft_get(body, "messages"));
}

static enum mb_status openai_completion(struct mb_draft *d, const json_t *body)
{
    static const char *const own[] = {"prompt", "model", NULL};

    d->form = MB_FORM_COMPLETION;
    MB_TRY(mb_draft_keys(d, body, own, false));
    MB_TRY(mb_draft_settle(d));
    return mb_draft_prompt(d, mb_draft_get(body, "prompt"), "prompt");
}

enum mb_status mb_draft_openai(struct mb_draft *d)
{
    static const char *const own[] = {"custom_id", "method", "url", "body", NULL};
    const json_t *method = mb_draft_get(d->root, "method"), *url = mb_draft_get(d->root, "url");
    const json_t *body = mb_draft_get(d->root, "body");
    const char *key;
    json_t *v;

    d->req->openai = true;
    json_object_foreach(d->root, key, v) {
        int i = 0;
        while (own[i] != NULL && strcmp(own[i], key) != 0)
            i++;
        if (own[i] == NULL && !json_is_null(v))
            return mb_draft_bad(d, "unknown key \"%s\" beside custom_id, method, url and body", key);
    }
    if (method != NULL && !mb_draft_is(method, "POST"))
        return mb_draft_bad(d, "method: expected \"POST\"");
    if (!json_is_object(body))
        return mb_draft_bad(d, "body: expected an object, found %s", mb_json_type(body));
    if (!json_is_string(url))
        return mb_draft_bad(d, "url: expected a string, found %s", mb_json_type(url));
    if (mb_draft_is(url, "/v1/completions"))
        MB_TRY(openai_completion(d, body));
    else if (mb_draft_is(url, "/v1/chat/completions"))
        MB_TRY(openai_chat(d, body));
    else if (mb_draft_is(url, "/v1/responses") || mb_draft_is(url, "/v1/embeddings"))
        return mb_draft_bad(d, "url: %s is not served here: this program continues, chats (/v1/completions, /v1/chat/completions) and scores",
                            json_string_value(url));
    else
        return mb_draft_bad(d, "url: \"%s\" is neither /v1/completions nor /v1/chat/completions", json_string_value(url));
    return mb_draft_adapter(d, mb_draft_get(body, "model"), false);
}

/* --- ShareGPT ---------------------------------------------------------------------------------------------------- */

/* The names data sets give the speakers. */
static const char *role_of(const json_t *from)
{
    static const char *const names[][2] = {{"human", "user"}, {"user", "user"}, {"system", "system"},
        {"gpt", "assistant"}, {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"bing", "assistant"},
        {"bard", "assistant"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (mb_draft_is(from, names[i][0]))
            return names[i][1];
    return NULL;
}

/* Without a chat template the turns are the prompt, an empty line between two of them. */
static enum mb_status join_turn(struct mb_draft *d, const json_t *value)
{
    if (d->joined.len > 0)
        MB_TRY(mb_bytes_put(&d->joined, "\n\n", 2));
    return mb_bytes_put(&d->joined, json_string_value(value), json_string_length(value));
}

static enum mb_status turn(struct mb_draft *d, const json_t *t, size_t place, bool *end, bool *asked)
{
    const json_t *value = json_object_get(t, "value");
    const char *role = role_of(json_object_get(t, "from"));

    if (role == NULL)
        return mb_draft_bad(d, "conversations: turn %zu: \"from\" is neither human, gpt nor system", place);
    *end = strcmp(role, "assistant") == 0;
    if (*end)
        return MB_OK;
    if (!json_is_string(value))
        return mb_draft_bad(d, "conversations: turn %zu: value: expected a string, found %s", place, mb_json_type(value));
    *asked |= strcmp(role, "user") == 0;
    if (d->opt->chat == NULL)
        return join_turn(d, value);
    json_t *content = json_stringn_nocheck(json_string_value(value), json_string_length(value));
    return content != NULL ? put_message(d, role, content) : no_memory();
}

enum mb_status mb_draft_sharegpt(struct mb_draft *d)
{
    static const char *const own[] = {"id", "conversations", NULL};
    const json_t *list = mb_draft_get(d->root, "conversations");
    bool end = false, asked = false;
    size_t i;
    json_t *t;

    d->form = MB_FORM_SHAREGPT;
    MB_TRY(mb_draft_keys(d, d->root, own, true));
    MB_TRY(mb_draft_settle(d));
    if (!json_is_array(list))
        return mb_draft_bad(d, "conversations: expected a list, found %s", mb_json_type(list));
    json_array_foreach((json_t *)list, i, t) {
        MB_TRY(turn(d, t, i, &end, &asked));
        if (end)
            break;
    }
    if (!asked)
        return mb_draft_bad(d, "conversations: no turn of a human before the first answer");
    if (d->messages == NULL)
        d->head = (struct mb_piece){.text = d->joined.data ? (const char *)d->joined.data : "", .len = d->joined.len};
    return MB_OK;
}
