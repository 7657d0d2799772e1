#include "io/parse_draft.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/utf8.h"

void mb_parse_options_init(struct mb_parse_options *o)
{
    *o = (struct mb_parse_options){
        .bos = -1, .prefix = -1, .temperature = NAN, .top_p = NAN, .min_p = NAN, .repetition = NAN, .top_k = -1, .max_tokens = 256};
}

enum mb_status mb_draft_bad(struct mb_draft *d, const char *fmt, ...)
{
    va_list ap;
    if (d->err[0] == 0) {
        va_start(ap, fmt);
        vsnprintf(d->err, sizeof d->err, fmt, ap);
        va_end(ap);
    }
    return MB_REQUEST;
}

const json_t *mb_draft_get(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

bool mb_draft_whole(const json_t *v, int64_t *out)
{
    double x = json_is_real(v) ? json_real_value(v) : 0;
    bool is_whole = json_is_real(v) && fabs(x) < 9e15 && floor(x) == x;

    if (is_whole)
        *out = (int64_t)x;
    else if (json_is_integer(v))
        *out = json_integer_value(v);
    return is_whole || json_is_integer(v);
}

bool mb_draft_is(const json_t *v, const char *text)
{
    return json_is_string(v) && json_string_length(v) == strlen(text) &&
           memcmp(json_string_value(v), text, json_string_length(v)) == 0;
}

static enum mb_status put_text(const char *s, size_t n, struct mb_text *out)
{
    char *p = malloc(n + 1);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    if (n > 0)
        memcpy(p, s, n);
    p[n] = 0;
    *out = (struct mb_text){p, n};
    return MB_OK;
}

enum mb_status mb_draft_text(const json_t *v, struct mb_text *out)
{
    return put_text(json_string_value(v), json_string_length(v), out);
}

static enum mb_status number_id(uint64_t line, struct mb_text *out)
{
    char num[24];
    int n = snprintf(num, sizeof num, "%llu", (unsigned long long)line + 1);
    return put_text(num, (size_t)n, out);
}

/* The id under key, if it is one. Read before anything else, so that an error row can be told by its id. */
static enum mb_status use_id(struct mb_draft *d, const char *key, const json_t *v)
{
    struct mb_text id = {0};

    if (v == NULL)
        return MB_OK;
    int64_t whole;
    if (mb_draft_whole(v, &whole)) {
        char num[24];
        int n = snprintf(num, sizeof num, "%lld", (long long)whole);
        MB_TRY(put_text(num, (size_t)n, &id));
    } else if (!json_is_string(v)) {
        return mb_draft_bad(d, "%s: expected a string or an integer, found %s", key, mb_json_type(v));
    } else if (memchr(json_string_value(v), 0, json_string_length(v)) != NULL) {
        return mb_draft_bad(d, "%s: holds U+0000", key);
    } else {
        MB_TRY(mb_draft_text(v, &id));
    }
    free(d->req->id.data);
    d->req->id = id;
    d->own_id = true;
    return MB_OK;
}

static enum mb_status read_id(struct mb_draft *d, const char *key)
{
    return use_id(d, key, mb_draft_get(d->root, key));
}

/* Of a line that is no JSON. */
static enum mb_status rescue_id(struct mb_draft *d, const char *text, size_t n)
{
    const char *key = "custom_id";
    json_t *v = mb_line_member(text, n, key);
    if (v == NULL)
        v = mb_line_member(text, n, key = "id");
    enum mb_status st = v == NULL || json_is_null(v) ? MB_OK : use_id(d, key, v);
    json_decref(v);
    d->err[0] = 0; /* what is wrong with the line is said by others */
    return st == MB_REQUEST ? MB_OK : st;
}

static bool has_any(const json_t *obj, const char *const *names)
{
    for (; *names != NULL; names++)
        if (mb_draft_get(obj, *names) != NULL)
            return true;
    return false;
}

/* Exactly one of two keys: a text or ids. */
static enum mb_status text_or_ids(struct mb_draft *d, const char *text, const char *ids, struct mb_piece *out)
{
    const json_t *t = mb_draft_get(d->root, text), *i = mb_draft_get(d->root, ids);

    if (t != NULL && i != NULL)
        return mb_draft_bad(d, "%s and %s are both given", text, ids);
    if (t == NULL && i == NULL)
        return mb_draft_bad(d, "%s or %s is missing", text, ids);
    if (i != NULL && !json_is_array(i))
        return mb_draft_bad(d, "%s: expected a list of integers, found %s", ids, mb_json_type(i));
    if (t != NULL && !json_is_string(t))
        return mb_draft_bad(d, "%s: expected a string, found %s", text, mb_json_type(t));
    return mb_draft_piece(d, t != NULL ? t : i, t != NULL ? text : ids, out);
}

static enum mb_status form_loglikelihood(struct mb_draft *d)
{
    static const char *const own[] = {"id", "context", "context_ids", "continuation", "continuation_ids", "adapter", NULL};

    d->form = MB_FORM_LOGLIKELIHOOD;
    d->req->kind = MB_KIND_LOGLIKELIHOOD;
    MB_TRY(mb_draft_keys(d, d->root, own, false));
    MB_TRY(text_or_ids(d, "context", "context_ids", &d->head));
    MB_TRY(text_or_ids(d, "continuation", "continuation_ids", &d->tail));
    if (d->tail.ids != NULL ? json_array_size(d->tail.ids) == 0 : d->tail.len == 0)
        return mb_draft_bad(d, "the continuation is empty");
    return mb_draft_adapter(d, mb_draft_get(d->root, "adapter"), true);
}

static enum mb_status form_rolling(struct mb_draft *d)
{
    static const char *const own[] = {"id", "text", "text_ids", "adapter", NULL};

    d->form = MB_FORM_ROLLING;
    d->req->kind = MB_KIND_ROLLING;
    MB_TRY(mb_draft_keys(d, d->root, own, false));
    MB_TRY(text_or_ids(d, "text", "text_ids", &d->head));
    return mb_draft_adapter(d, mb_draft_get(d->root, "adapter"), true);
}

/* moebatch score: the prompt becomes a continuation after nothing, and what concerns sampling has no meaning. */
static enum mb_status score_instead(struct mb_draft *d)
{
    struct mb_request *r = d->req;

    r->kind = MB_KIND_LOGLIKELIHOOD;
    r->n = 1;
    r->top_n = 0;
    r->echo = r->want_logprobs = r->want_prompt_logprobs = false;
    r->prompt_top_n = r->prompt_asked ? (int32_t)d->prompt_logprobs : 0;
    d->tail = d->head;
    d->head = (struct mb_piece){.text = "", .len = 0};
    if (d->tail.ids != NULL ? json_array_size(d->tail.ids) == 0 : d->tail.len == 0)
        return mb_draft_bad(d, "the prompt is empty: nothing to score");
    return MB_OK;
}

static enum mb_status form_plain(struct mb_draft *d)
{
    static const char *const own[] = {"id", "prompt", "prompt_ids", "messages", "adapter", NULL};
    const json_t *text = mb_draft_get(d->root, "prompt"), *ids = mb_draft_get(d->root, "prompt_ids");
    const json_t *messages = mb_draft_get(d->root, "messages");

    d->form = messages != NULL ? MB_FORM_TALK : MB_FORM_PLAIN;
    MB_TRY(mb_draft_keys(d, d->root, own, false));
    MB_TRY(mb_draft_settle(d));
    if (messages != NULL && (text != NULL || ids != NULL))
        return mb_draft_bad(d, "messages and %s are both given", text != NULL ? "prompt" : "prompt_ids");
    if (messages != NULL && d->opt->score)
        return mb_draft_bad(d, "messages cannot be scored; give context and continuation, or use moebatch run");
    if (messages != NULL)
        MB_TRY(mb_draft_messages(d, messages));
    else if (text != NULL && ids == NULL)
        MB_TRY(mb_draft_prompt(d, text, "prompt"));
    else
        MB_TRY(text_or_ids(d, "prompt", "prompt_ids", &d->head));
    MB_TRY(mb_draft_adapter(d, mb_draft_get(d->root, "adapter"), true));
    return d->opt->score ? score_instead(d) : MB_OK;
}

static enum mb_status form_txt(struct mb_draft *d, const char *text, size_t n)
{
    if (!mb_utf8_valid(text, n))
        return mb_draft_bad(d, "not UTF-8");
    d->form = MB_FORM_PLAIN;
    d->head = (struct mb_piece){.text = text, .len = n};
    MB_TRY(mb_draft_settle(d));
    return d->opt->score ? score_instead(d) : MB_OK;
}

/* A line of the batch form: its id is custom_id. */
static bool is_batch(const json_t *root)
{
    static const char *const openai[] = {"custom_id", "method", "url", "body", NULL};
    return has_any(root, openai);
}

static enum mb_status form_of(struct mb_draft *d)
{
    static const char *const talk[] = {"conversations", NULL};
    static const char *const loglik[] = {"context", "context_ids", "continuation", "continuation_ids", NULL};
    static const char *const rolling[] = {"text", "text_ids", NULL};
    static const char *const plain[] = {"prompt", "prompt_ids", "messages", NULL};

    if (!json_is_object(d->root))
        return mb_draft_bad(d, "expected an object, found %s", mb_json_type(d->root));
    bool batch = is_batch(d->root);
    MB_TRY(read_id(d, batch ? "custom_id" : "id"));
    if (batch)
        return mb_draft_openai(d);
    if (has_any(d->root, talk))
        return mb_draft_sharegpt(d);
    if (!has_any(d->root, plain) && has_any(d->root, loglik))
        return form_loglikelihood(d);
    if (!has_any(d->root, plain) && has_any(d->root, rolling))
        return form_rolling(d);
    return form_plain(d);
}

static void defaults(struct mb_draft *d)
{
    const struct mb_parse_options *o = d->opt;
    struct mb_sampling *s = &d->req->sampling;

    mb_sampling_init(s);
    if (!isnan(o->temperature))
        s->temperature = o->temperature;
    if (!isnan(o->top_p))
        s->top_p = o->top_p;
    if (!isnan(o->min_p))
        s->min_p = o->min_p;
    if (!isnan(o->repetition))
        s->repetition = o->repetition;
    if (o->top_k >= 0)
        s->top_k = o->top_k;
}

/* "\r\n" ends a line too. */
static size_t trim(const char *s, size_t n)
{
    return n > 0 && s[n - 1] == '\r' ? n - 1 : n;
}

/* The first character that is no white space, or 0. */
static char first_of(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && (s[i] == ' ' || s[i] == '\t'))
        i++;
    return i < n ? s[i] : 0;
}

static enum mb_status form(struct mb_draft *d, const char *text, size_t n, const char *refused)
{
    char why[200];
    enum mb_status st;

    defaults(d);
    if (d->opt->format == MB_FORMAT_TXT)
        return refused != NULL ? mb_draft_bad(d, "%s", refused) : form_txt(d, text, trim(text, n));
    if (n == 0) {
        return mb_draft_bad(d, "%s", refused != NULL ? refused : "an empty line");
    }
    st = mb_json_parse(text, n, "", MB_REQUEST, why, sizeof why, &d->root);
    d->foreign = st == MB_REQUEST && first_of(text, n) != '{';
    if (st == MB_REQUEST)
        MB_TRY(rescue_id(d, text, n));
    else if (refused != NULL && json_is_object(d->root) &&
             read_id(d, is_batch(d->root) ? "custom_id" : "id") == MB_NO_MEMORY)
        return MB_NO_MEMORY;
    if (refused != NULL || st != MB_OK)
        return mb_draft_bad(d, "%s", refused != NULL ? refused : why);
    return form_of(d);
}

static void draft_fini(struct mb_draft *d)
{
    json_decref(d->root);
    json_decref(d->messages);
    json_decref(d->extra);
    mb_bytes_fini(&d->joined);
    mb_request_destroy(d->req);
}

static enum mb_status draft_init(struct mb_draft *d, const struct mb_parse_options *o, uint64_t line)
{
    *d = (struct mb_draft){.opt = o, .top_logprobs = -1, .prompt_logprobs = -1, .form = MB_FORM_PLAIN};
    d->req = calloc(1, sizeof *d->req);
    if (d->req == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    d->req->line = line;
    d->req->n = 1;
    return number_id(line, &d->req->id);
}

/* The reason may quote the line: cut characters and control codes are cleaned, it must be UTF-8 in the results. */
static enum mb_status clean_reason(const char *why, char **out)
{
    struct mb_bytes b = {0};
    enum mb_status st = mb_utf8_repair(why, strlen(why), false, &b);
    if (st == MB_OK)
        st = mb_bytes_put(&b, "", 1);
    if (st != MB_OK) {
        mb_bytes_fini(&b);
        return st;
    }
    for (size_t i = 0; i + 1 < b.len; i++)
        if (b.data[i] < 0x20 || b.data[i] == 0x7f)
            b.data[i] = ' ';
    *out = (char *)b.data;
    return MB_OK;
}

/* An error row: id, line and reason of the draft's request, nothing else of it. */
static enum mb_status make_error(struct mb_draft *d, int32_t n)
{
    struct mb_request *bad = calloc(1, sizeof *bad);

    if (bad == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    bad->line = d->req->line;
    bad->n = n;
    bad->openai = d->req->openai;
    bad->chat = d->req->chat;
    mb_sampling_init(&bad->sampling);
    enum mb_status st = clean_reason(d->err, &bad->error);
    if (st != MB_OK) {
        mb_request_destroy(bad);
        return st;
    }
    bad->id = d->req->id;
    d->req->id = (struct mb_text){0};
    mb_request_destroy(d->req);
    d->req = bad;
    return MB_OK;
}

static enum mb_status parse(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                            const char *refused, struct mb_request **out)
{
    struct mb_draft d;
    enum mb_status st = draft_init(&d, o, line);

    if (st == MB_OK)
        st = form(&d, text, n, refused);
    int32_t rows = st == MB_OK ? d.req->n : 1;
    if (st == MB_OK)
        st = mb_draft_encode(&d);
    if (st == MB_REQUEST)
        st = make_error(&d, rows);
    if (st == MB_OK) {
        *out = d.req;
        d.req = NULL;
    }
    draft_fini(&d);
    return st;
}

enum mb_status mb_parse_line(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                             struct mb_request **out)
{
    return parse(o, text, n, line, NULL, out);
}

enum mb_status mb_parse_refused(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                                const char *reason, struct mb_request **out)
{
    return parse(o, text, n, line, reason, out);
}

enum mb_status mb_parse_scan(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                             struct mb_line_scan *out)
{
    struct mb_draft d;
    enum mb_status st = draft_init(&d, o, line);

    if (st == MB_OK)
        st = form(&d, text, n, NULL);
    if (st == MB_OK || st == MB_REQUEST) {
        *out = (struct mb_line_scan){d.req->id, d.own_id, st != MB_OK, d.foreign, st == MB_OK ? d.req->n : 1};
        d.req->id = (struct mb_text){0};
        st = MB_OK;
    }
    draft_fini(&d);
    return st;
}

bool mb_line_blank(const void *text, size_t n, enum mb_input_format format)
{
    const char *s = text;

    if (format == MB_FORMAT_TXT)
        return trim(s, n) == 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r')
            return false;
    return true;
}
