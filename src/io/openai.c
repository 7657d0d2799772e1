/* Shapes: platform.openai.com/docs/api-reference, "Batch output object", "Completion object", "Chat completion object". */
#include "io/openai.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"

static enum mb_status failed(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a line of --openai-output");
}

/* Takes over v. */
static enum mb_status put(json_t *obj, const char *key, json_t *v)
{
    return json_object_set_new(obj, key, v) == 0 ? MB_OK : failed();
}

static enum mb_status add(json_t *list, json_t *v)
{
    return json_array_append_new(list, v) == 0 ? MB_OK : failed();
}

static json_t *text_of(const struct mb_text *t)
{
    return json_stringn_nocheck(t->data != NULL ? t->data : "", t->len);
}

static json_t *number(float x)
{
    if (isnan(x))
        return json_null();
    return json_real(isinf(x) ? copysign(9999.0, (double)x) : (double)x);
}

/* The text of ids; chars: its characters. */
static enum mb_status decode(const struct mb_openai_options *o, const int32_t *ids, int64_t n, bool skip, json_t **out,
                             int64_t *chars)
{
    struct mb_bytes b = {0};
    enum mb_status st = mb_tokenizer_decode(o->tok, ids, n, skip, &b);

    if (st == MB_OK) {
        *out = json_stringn_nocheck(b.data != NULL ? (const char *)b.data : "", b.len);
        st = *out != NULL ? MB_OK : failed();
    }
    for (size_t i = 0; st == MB_OK && chars != NULL && i < b.len; i++)
        *chars += (b.data[i] & 0xc0) != 0x80;
    mb_bytes_fini(&b);
    return st;
}

/* --- log-probabilities of text completions ----------------------------------------------------------------------- */

/* {token: logprob}; two ids with one text (parts of a character): the second is called token_id:N. */
static enum mb_status put_top(const struct mb_openai_options *o, json_t *list, const int32_t *ids, const float *v, int32_t n)
{
    json_t *top = json_object();
    enum mb_status st = top != NULL ? MB_OK : failed();

    for (int32_t i = 0; i < n && st == MB_OK && ids[i] >= 0; i++) {
        char name[32];
        json_t *text = NULL;
        st = decode(o, &ids[i], 1, false, &text, NULL);
        if (st != MB_OK)
            break;
        const char *key = json_string_value(text);
        snprintf(name, sizeof name, "token_id:%d", ids[i]);
        /* a key can hold no U+0000 */
        if (strlen(key) != json_string_length(text) || json_object_get(top, key) != NULL)
            key = name;
        st = put(top, key, number(v[i]));
        json_decref(text);
    }
    if (st != MB_OK) {
        json_decref(top);
        return st;
    }
    return add(list, top);
}

struct columns {
    json_t *tokens, *logprobs, *top, *offsets;
    int64_t at; /* characters so far */
};

static enum mb_status put_tokens(const struct mb_openai_options *o, struct columns *c, const int32_t *ids, const float *v,
                                 int64_t n, const struct mb_record *top)
{
    for (int64_t i = 0; i < n; i++) {
        json_t *text;
        int64_t at = c->at;
        MB_TRY(decode(o, &ids[i], 1, false, &text, &c->at));
        MB_TRY(add(c->tokens, text));
        MB_TRY(add(c->logprobs, v != NULL ? number(v[i]) : json_null()));
        MB_TRY(add(c->offsets, json_integer(at)));
        if (top != NULL && top->top_n > 0)
            MB_TRY(put_top(o, c->top, top->top_ids + i * top->top_n, top->top_logprobs + i * top->top_n, top->top_n));
        else
            MB_TRY(add(c->top, json_null()));
    }
    return MB_OK;
}

static enum mb_status text_logprobs(const struct mb_openai_options *o, const struct mb_record *r, bool echo, json_t *choice)
{
    struct columns c = {0};
    json_t *all = json_object();

    MB_TRY(put(choice, "logprobs", all));
    MB_TRY(put(all, "tokens", c.tokens = json_array()));
    MB_TRY(put(all, "token_logprobs", c.logprobs = json_array()));
    MB_TRY(put(all, "top_logprobs", c.top = json_array()));
    MB_TRY(put(all, "text_offset", c.offsets = json_array()));
    if (echo)
        MB_TRY(put_tokens(o, &c, r->prompt_ids, r->prompt_logprobs, r->n_prompt, NULL));
    return put_tokens(o, &c, r->output_ids, r->output_logprobs, r->n_output, r);
}

/* --- log-probabilities of chats ---------------------------------------------------------------------------------- */

/* {"token", "logprob", "bytes"}; bytes null where the token is only a part of a character. */
static enum mb_status chat_token(const struct mb_openai_options *o, int32_t id, float v, json_t *into)
{
    json_t *text, *bytes;

    MB_TRY(decode(o, &id, 1, false, &text, NULL));
    MB_TRY(put(into, "token", text));
    MB_TRY(put(into, "logprob", number(v)));
    const char *s = json_string_value(text);
    size_t n = json_string_length(text);
    if (memmem(s, n, "\xef\xbf\xbd", 3) != NULL)
        return put(into, "bytes", json_null());
    MB_TRY(put(into, "bytes", bytes = json_array()));
    for (size_t i = 0; i < n; i++)
        MB_TRY(add(bytes, json_integer((unsigned char)s[i])));
    return MB_OK;
}

static enum mb_status chat_position(const struct mb_openai_options *o, const struct mb_record *r, int64_t i, json_t *list)
{
    json_t *one = json_object(), *top;
    float v = r->output_logprobs != NULL ? r->output_logprobs[i] : NAN;

    MB_TRY(add(list, one));
    MB_TRY(put(one, "top_logprobs", top = json_array()));
    MB_TRY(chat_token(o, r->output_ids[i], v, one));
    for (int32_t j = 0; j < r->top_n && r->top_ids[i * r->top_n + j] >= 0; j++) {
        json_t *other = json_object();
        MB_TRY(add(top, other));
        MB_TRY(chat_token(o, r->top_ids[i * r->top_n + j], r->top_logprobs[i * r->top_n + j], other));
    }
    return MB_OK;
}

static enum mb_status chat_logprobs(const struct mb_openai_options *o, const struct mb_record *r, json_t *choice)
{
    json_t *all = json_object(), *list;

    MB_TRY(put(choice, "logprobs", all));
    MB_TRY(put(all, "content", list = json_array()));
    MB_TRY(put(all, "refusal", json_null()));
    for (int64_t i = 0; i < r->n_output; i++)
        MB_TRY(chat_position(o, r, i, list));
    return MB_OK;
}

/* --- the body ---------------------------------------------------------------------------------------------------- */

static json_t *finish_reason(const struct mb_record *r)
{
    switch (r->finish) {
    case MB_FINISH_EOS:
    case MB_FINISH_STOP:
        return json_string("stop");
    case MB_FINISH_LENGTH:
        return json_string("length");
    default:
        return json_null();
    }
}

static enum mb_status chat_choice(const struct mb_openai_options *o, const struct mb_record *r, json_t *choice)
{
    json_t *message = json_object();

    MB_TRY(put(choice, "message", message));
    MB_TRY(put(message, "role", json_string("assistant")));
    MB_TRY(put(message, "content", text_of(&r->text)));
    MB_TRY(put(message, "refusal", json_null()));
    if (r->want_logprobs)
        return chat_logprobs(o, r, choice);
    return put(choice, "logprobs", json_null());
}

static enum mb_status text_choice(const struct mb_openai_options *o, const struct mb_record *r, json_t *choice)
{
    bool scored = r->kind != MB_KIND_GENERATE, echo = r->echo || scored;
    json_t *text = NULL;

    if (echo) {
        json_t *prompt;
        MB_TRY(decode(o, r->prompt_ids, r->n_prompt, true, &prompt, NULL));
        struct mb_bytes all = {0};
        enum mb_status st = mb_bytes_put(&all, json_string_value(prompt), json_string_length(prompt));
        if (st == MB_OK)
            st = mb_bytes_put(&all, r->text.data, r->text.len);
        if (st == MB_OK)
            text = json_stringn_nocheck(all.data != NULL ? (const char *)all.data : "", all.len);
        mb_bytes_fini(&all);
        json_decref(prompt);
        MB_TRY(st);
    } else {
        text = text_of(&r->text);
    }
    MB_TRY(put(choice, "text", text));
    if (r->want_logprobs || scored)
        return text_logprobs(o, r, echo, choice);
    return put(choice, "logprobs", json_null());
}

static enum mb_status put_choices(const struct mb_openai_options *o, const struct mb_record *r, int32_t n, json_t *body)
{
    json_t *choices = json_array();

    MB_TRY(put(body, "choices", choices));
    for (int32_t i = 0; i < n; i++) {
        json_t *choice = json_object();
        MB_TRY(add(choices, choice));
        MB_TRY(put(choice, "index", json_integer(r[i].choice)));
        MB_TRY(r[i].chat ? chat_choice(o, &r[i], choice) : text_choice(o, &r[i], choice));
        MB_TRY(put(choice, "finish_reason", finish_reason(&r[i])));
    }
    return MB_OK;
}

static enum mb_status put_usage(const struct mb_record *r, int32_t n, json_t *body)
{
    json_t *usage;
    int64_t output = 0;

    for (int32_t i = 0; i < n; i++)
        output += r[i].n_output;
    MB_TRY(put(body, "usage", usage = json_object()));
    MB_TRY(put(usage, "prompt_tokens", json_integer(r->n_prompt)));
    MB_TRY(put(usage, "completion_tokens", json_integer(output)));
    return put(usage, "total_tokens", json_integer(r->n_prompt + output));
}

static enum mb_status good_body(const struct mb_openai_options *o, const struct mb_record *r, int32_t n, json_t *body)
{
    MB_TRY(put(body, "id", json_sprintf("%s-%llu", r->chat ? "chatcmpl" : "cmpl", (unsigned long long)r->line + 1)));
    MB_TRY(put(body, "object", json_string(r->chat ? "chat.completion" : "text_completion")));
    MB_TRY(put(body, "created", json_integer(o->created)));
    MB_TRY(put(body, "model", json_string(o->model)));
    MB_TRY(put_choices(o, r, n, body));
    return put_usage(r, n, body);
}

static enum mb_status error_body(const struct mb_record *bad, json_t *body)
{
    json_t *error = json_object();

    MB_TRY(put(body, "error", error));
    MB_TRY(put(error, "message", text_of(&bad->error)));
    MB_TRY(put(error, "type", json_string("invalid_request_error")));
    MB_TRY(put(error, "param", json_null()));
    return put(error, "code", json_null());
}

static enum mb_status put_response(const struct mb_openai_options *o, const struct mb_record *r, int32_t n,
                                   const struct mb_record *bad, json_t *root)
{
    json_t *response = json_object(), *body;

    MB_TRY(put(root, "response", response));
    MB_TRY(put(response, "status_code", json_integer(bad != NULL ? 400 : 200)));
    MB_TRY(put(response, "request_id", json_sprintf("req_%llu", (unsigned long long)r->line + 1)));
    MB_TRY(put(response, "body", body = json_object()));
    MB_TRY(bad != NULL ? error_body(bad, body) : good_body(o, r, n, body));
    return put(root, "error", json_null());
}

static enum mb_status put_pending(json_t *root)
{
    json_t *error;

    MB_TRY(put(root, "response", json_null()));
    MB_TRY(put(root, "error", error = json_object()));
    MB_TRY(put(error, "code", json_string("pending")));
    return put(error, "message", json_string("the job has not finished this request"));
}

static enum mb_status make_line(const struct mb_openai_options *o, const struct mb_record *r, int32_t n, json_t *root)
{
    const struct mb_record *bad = NULL;
    bool pending = false;

    for (int32_t i = 0; i < n; i++) {
        pending |= r[i].status == MB_ROW_PENDING;
        if (bad == NULL && r[i].status == MB_ROW_ERROR)
            bad = &r[i];
    }
    MB_TRY(put(root, "id", json_sprintf("batch_req_%llu", (unsigned long long)r->line + 1)));
    MB_TRY(put(root, "custom_id", text_of(&r->id)));
    return pending ? put_pending(root) : put_response(o, r, n, bad, root);
}

static int append(const char *data, size_t n, void *out)
{
    return mb_bytes_put(out, data, n) == MB_OK ? 0 : -1;
}

enum mb_status mb_openai_line(const struct mb_openai_options *o, const struct mb_record *r, int32_t n, struct mb_bytes *out)
{
    json_t *root = json_object();
    size_t before = out->len;
    enum mb_status st = root != NULL ? make_line(o, r, n, root) : failed();

    if (st == MB_OK && json_dump_callback(root, append, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0)
        st = mb_error(MB_BUG, "line %llu: its results make no JSON", (unsigned long long)r->line + 1);
    if (st == MB_OK)
        st = mb_bytes_put(out, "\n", 1);
    if (st != MB_OK)
        out->len = before;
    json_decref(root);
    return st;
}
