/* Shapes: platform.openai.com/docs/api-reference, "Batch output object", "Completion object", "Chat completion object". */
#include "io/openai.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

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

/* --- the texts of tokens ----------------------------------------------------------------------------------------- */

#define BEFORE 4 /* ids before a token that its text can depend on */

/* Where a walk over the tokens of a row is: prompt, then output. */
struct walk {
    const struct mb_openai_options *o;
    const struct mb_record *r;
    int64_t at;              /* characters so far */
    struct mb_bytes pending; /* bytes of a character that has begun */
};

static int32_t id_at(const struct mb_record *r, int64_t i)
{
    return i < r->n_prompt ? r->prompt_ids[i] : r->output_ids[i - r->n_prompt];
}

/* The bytes of id as token i of the row. */
static enum mb_status bytes_of(const struct walk *w, int64_t i, int32_t id, struct mb_bytes *out)
{
    struct mb_decoder *d = NULL;
    int32_t before[BEFORE];
    int64_t n = i < BEFORE ? i : BEFORE;

    for (int64_t j = 0; j < n; j++)
        before[j] = id_at(w->r, i - n + j);
    MB_TRY(mb_decoder_create(w->o->tok, &d));
    mb_decoder_mode(d, true, true);
    enum mb_status st = mb_decoder_context(d, before, n);
    if (st == MB_OK)
        st = mb_decoder_put(d, id, out);
    if (st == MB_OK)
        st = mb_decoder_finish(d, out);
    mb_decoder_destroy(d);
    return st;
}

/* Bytes without a character that begins at their end and is not complete. */
static size_t whole(const uint8_t *s, size_t n)
{
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t c = s[n - k];
        size_t need = c >= 0xf5 || c < 0xc2 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if ((c & 0xc0) != 0x80)
            return need > k ? n - k : n;
    }
    return n;
}

/* What a token adds to the text: the characters that it completes. last: what is begun ends here, as U+FFFD. *rest: bytes of
 * own behind them that begin the next one. */
static enum mb_status adds(const struct walk *w, const struct mb_bytes *own, bool last, json_t **out, struct mb_bytes *rest)
{
    struct mb_bytes all = {0}, text = {0};
    enum mb_status st = mb_bytes_put(&all, w->pending.data, w->pending.len);

    if (st == MB_OK)
        st = mb_bytes_put(&all, own->data, own->len);
    size_t n = last ? all.len : whole(all.data, all.len);
    if (st == MB_OK && n > 0)
        st = mb_utf8_repair((const char *)all.data, n, false, &text);
    if (st == MB_OK && rest != NULL)
        st = mb_bytes_put(rest, all.data + n, all.len - n);
    if (st == MB_OK) {
        *out = json_stringn_nocheck(text.data != NULL ? (const char *)text.data : "", text.len);
        st = *out != NULL ? MB_OK : failed();
    }
    mb_bytes_fini(&all);
    mb_bytes_fini(&text);
    return st;
}

static int64_t characters(const json_t *text)
{
    const char *s = json_string_value(text);
    int64_t n = 0;

    for (size_t i = 0; i < json_string_length(text); i++)
        n += (s[i] & 0xc0) != 0x80;
    return n;
}

/* The next token of the walk, i: its text and, if asked for, its bytes. */
static enum mb_status step(struct walk *w, int64_t i, bool shown, json_t **text, struct mb_bytes *own)
{
    struct mb_bytes mine = {0}, rest = {0};
    bool last = i + 1 == w->r->n_prompt + w->r->n_output;
    enum mb_status st = bytes_of(w, i, id_at(w->r, i), &mine);

    if (st == MB_OK)
        st = adds(w, &mine, last, text, &rest);
    if (st == MB_OK && shown)
        w->at += characters(*text);
    if (st == MB_OK && own != NULL)
        st = mb_bytes_put(own, mine.data, mine.len);
    if (st == MB_OK) {
        mb_bytes_fini(&w->pending);
        w->pending = rest;
        rest = (struct mb_bytes){0};
    }
    mb_bytes_fini(&mine);
    mb_bytes_fini(&rest);
    return st;
}

/* The BOS that the tokenizer put in front of a prompt was not in it. */
static int64_t not_sent(const struct mb_openai_options *o, const struct mb_record *r)
{
    return r->n_prompt > 0 && mb_tokenizer_adds_front(o->tok, r->prompt_ids[0]);
}

/* The prompt as it came, special tokens and all. */
static enum mb_status prompt_text(const struct mb_openai_options *o, const struct mb_record *r, struct mb_bytes *out)
{
    int64_t from = not_sent(o, r);
    return mb_tokenizer_decode(o->tok, r->prompt_ids + from, r->n_prompt - from, false, out);
}

/* --- log-probabilities of text completions ----------------------------------------------------------------------- */

/* {token: logprob}; two ids with one text (parts of a character): the second is called token_id:N. */
static enum mb_status put_top(const struct walk *w, int64_t i, json_t *list, const int32_t *ids, const float *v, int32_t n)
{
    json_t *top = json_object();
    enum mb_status st = top != NULL ? add(list, top) : failed();

    for (int32_t j = 0; j < n && st == MB_OK && ids[j] >= 0; j++) {
        struct mb_bytes own = {0};
        char name[32];
        json_t *text = NULL;
        st = bytes_of(w, i, ids[j], &own);
        if (st == MB_OK)
            st = adds(w, &own, false, &text, NULL);
        mb_bytes_fini(&own);
        if (st != MB_OK)
            break;
        const char *key = json_string_value(text);
        snprintf(name, sizeof name, "token_id:%d", ids[j]);
        /* a key can hold no U+0000 */
        if (strlen(key) != json_string_length(text) || json_object_get(top, key) != NULL)
            key = name;
        st = put(top, key, number(v[j]));
        json_decref(text);
    }
    return st;
}

/* The alternatives of a token of the prompt, as many as outputs have; the first has none. */
static enum mb_status put_prompt_top(const struct walk *w, int64_t i, json_t *list)
{
    const struct mb_tops *t = &w->r->prompt_top;
    int32_t n = t->n < w->r->top_n ? t->n : w->r->top_n;

    if (n == 0 || t->ids[i * t->n] < 0)
        return add(list, json_null());
    return put_top(w, i, list, t->ids + i * t->n, t->logprobs + i * t->n, n);
}

static enum mb_status put_token(struct walk *w, int64_t i, bool shown, json_t *const list[4])
{
    const struct mb_record *r = w->r;
    int64_t out = i - r->n_prompt;
    const float *v = out < 0 ? r->prompt_logprobs : r->output_logprobs;
    int64_t at = w->at, k = out < 0 ? i : out;
    json_t *text;

    if (r->top_n == 0)
        ; /* not asked for: null as a whole */
    else if (out >= 0)
        MB_TRY(put_top(w, i, list[2], r->top_ids + out * r->top_n, r->top_logprobs + out * r->top_n, r->top_n));
    else
        MB_TRY(put_prompt_top(w, i, list[2]));
    MB_TRY(step(w, i, shown, &text, NULL));
    MB_TRY(add(list[0], text));
    MB_TRY(add(list[1], v != NULL ? number(v[k]) : json_null()));
    return add(list[3], json_integer(at));
}

static enum mb_status text_logprobs(const struct mb_openai_options *o, const struct mb_record *r, bool echo, json_t *choice)
{
    struct walk w = {.o = o, .r = r};
    json_t *all = json_object(), *list[4];
    static const char *const names[4] = {"tokens", "token_logprobs", "top_logprobs", "text_offset"};
    enum mb_status st;

    MB_TRY(put(choice, "logprobs", all));
    for (int i = 0; i < 4; i++)
        MB_TRY(put(all, names[i], list[i] = i == 2 && r->top_n == 0 ? json_null() : json_array()));
    st = MB_OK;
    for (int64_t i = echo ? 0 : r->n_prompt; st == MB_OK && i < r->n_prompt + r->n_output; i++)
        st = put_token(&w, i, i >= not_sent(o, r), list);
    mb_bytes_fini(&w.pending);
    return st;
}

/* --- prompt_logprobs, as vLLM answers ----------------------------------------------------------------------------- */

/* "ID": {"logprob", "rank", "decoded_token"}; rank 0: not known. */
static enum mb_status put_ranked(const struct walk *w, int64_t i, int32_t id, float v, int32_t rank, json_t *into)
{
    struct mb_bytes own = {0};
    char key[16];
    json_t *one = json_object(), *text = NULL;

    snprintf(key, sizeof key, "%d", id);
    MB_TRY(put(into, key, one));
    enum mb_status st = bytes_of(w, i, id, &own);
    if (st == MB_OK)
        st = adds(w, &own, false, &text, NULL);
    mb_bytes_fini(&own);
    MB_TRY(st);
    MB_TRY(put(one, "logprob", number(v)));
    MB_TRY(put(one, "rank", rank > 0 ? json_integer(rank) : json_null()));
    return put(one, "decoded_token", text);
}

/* The likeliest tokens in order, then the prompt's own if it is not one of them. */
static enum mb_status put_prompt_token(const struct walk *w, int64_t i, json_t *list)
{
    const struct mb_record *r = w->r;
    const struct mb_tops *t = &r->prompt_top;
    json_t *one = json_object();
    bool seen = false;

    if (r->prompt_logprobs == NULL || isnan(r->prompt_logprobs[i])) {
        json_decref(one);
        return add(list, json_null());
    }
    MB_TRY(add(list, one));
    for (int32_t j = 0; j < t->n && t->ids[i * t->n + j] >= 0; j++) {
        seen |= t->ids[i * t->n + j] == r->prompt_ids[i];
        MB_TRY(put_ranked(w, i, t->ids[i * t->n + j], t->logprobs[i * t->n + j], j + 1, one));
    }
    return seen ? MB_OK : put_ranked(w, i, r->prompt_ids[i], r->prompt_logprobs[i], 0, one);
}

static enum mb_status prompt_logprobs(const struct mb_openai_options *o, const struct mb_record *r, json_t *into)
{
    struct walk w = {.o = o, .r = r};
    json_t *list = json_array(), *text;
    enum mb_status st = put(into, "prompt_logprobs", list);

    for (int64_t i = 0; i < r->n_prompt && st == MB_OK; i++) {
        st = put_prompt_token(&w, i, list);
        if (st == MB_OK)
            st = step(&w, i, true, &text, NULL);
        if (st == MB_OK)
            json_decref(text);
    }
    mb_bytes_fini(&w.pending);
    return st;
}

/* --- log-probabilities of chats ---------------------------------------------------------------------------------- */

/* {"token", "logprob", "bytes"}: what it adds to the text, and its own bytes. Takes over text. */
static enum mb_status put_chat_token(json_t *into, json_t *text, float v, const struct mb_bytes *own)
{
    json_t *bytes;

    MB_TRY(put(into, "token", text));
    MB_TRY(put(into, "logprob", number(v)));
    MB_TRY(put(into, "bytes", bytes = json_array()));
    for (size_t i = 0; i < own->len; i++)
        MB_TRY(add(bytes, json_integer(own->data[i])));
    return MB_OK;
}

static enum mb_status chat_other(const struct walk *w, int64_t i, int32_t id, float v, json_t *top)
{
    struct mb_bytes own = {0};
    json_t *one = json_object(), *text = NULL;

    MB_TRY(add(top, one));
    enum mb_status st = bytes_of(w, i, id, &own);
    if (st == MB_OK)
        st = adds(w, &own, false, &text, NULL);
    if (st == MB_OK)
        st = put_chat_token(one, text, v, &own);
    mb_bytes_fini(&own);
    return st;
}

static enum mb_status chat_position(struct walk *w, int64_t i, json_t *list)
{
    const struct mb_record *r = w->r;
    struct mb_bytes own = {0};
    json_t *one = json_object(), *top, *text = NULL;
    float v = r->output_logprobs != NULL ? r->output_logprobs[i] : NAN;

    MB_TRY(add(list, one));
    MB_TRY(put(one, "top_logprobs", top = json_array()));
    for (int32_t j = 0; j < r->top_n && r->top_ids[i * r->top_n + j] >= 0; j++)
        MB_TRY(chat_other(w, r->n_prompt + i, r->top_ids[i * r->top_n + j], r->top_logprobs[i * r->top_n + j], top));
    enum mb_status st = step(w, r->n_prompt + i, true, &text, &own);
    if (st == MB_OK)
        st = put_chat_token(one, text, v, &own);
    mb_bytes_fini(&own);
    return st;
}

static enum mb_status chat_logprobs(const struct mb_openai_options *o, const struct mb_record *r, json_t *choice)
{
    struct walk w = {.o = o, .r = r};
    json_t *all = json_object(), *list;
    enum mb_status st = MB_OK;

    MB_TRY(put(choice, "logprobs", all));
    MB_TRY(put(all, "content", list = json_array()));
    MB_TRY(put(all, "refusal", json_null()));
    for (int64_t i = 0; i < r->n_output && st == MB_OK; i++)
        st = chat_position(&w, i, list);
    mb_bytes_fini(&w.pending);
    return st;
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
    default: /* scored: not one token was to be generated */
        return json_string("length");
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
        struct mb_bytes all = {0};
        enum mb_status st = prompt_text(o, r, &all);
        if (st == MB_OK)
            st = mb_bytes_put(&all, r->text.data, r->text.len);
        if (st == MB_OK)
            text = json_stringn_nocheck(all.data != NULL ? (const char *)all.data : "", all.len);
        mb_bytes_fini(&all);
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
        if (r[i].prompt_asked && !r[i].chat)
            MB_TRY(prompt_logprobs(o, &r[i], choice));
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
    MB_TRY(put(body, "model", r->adapter.len > 0 ? text_of(&r->adapter) : json_string(o->model)));
    MB_TRY(put_choices(o, r, n, body));
    if (r->prompt_asked && r->chat)
        MB_TRY(prompt_logprobs(o, r, body));
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
