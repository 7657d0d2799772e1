#include "io/parse_draft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

#define GENERATES (MB_FORM_PLAIN | MB_FORM_COMPLETION | MB_FORM_CHAT | MB_FORM_SHAREGPT)

struct key;
typedef enum mb_status (*key_reader)(struct mb_draft *d, const struct key *k, const json_t *v);

/* One row per sampling key: where it may stand, how it is read, its legal range, and where it goes in the request. */
struct key {
    const char *name;
    unsigned forms;
    key_reader read;
    double lo, hi;
    size_t offset;
};

static enum mb_status read_real(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_number(v))
        return mb_draft_bad(d, "%s: expected a number, found %s", k->name, mb_json_type(v));
    double x = json_number_value(v);
    if (!(x >= k->lo && x <= k->hi))
        return mb_draft_bad(d, "%s: %.9g is outside %.9g to %.9g", k->name, x, k->lo, k->hi);
    *(float *)((char *)d->req + k->offset) = (float)x;
    return MB_OK;
}

/* Integers may be written 16.0 (spreadsheets and data frames do). */
static enum mb_status whole(struct mb_draft *d, const struct key *k, const json_t *v, int64_t *out)
{
    double x = json_is_real(v) ? json_real_value(v) : 0;

    if (json_is_real(v) && fabs(x) < 9e15 && floor(x) == x)
        *out = (int64_t)x;
    else if (json_is_integer(v))
        *out = json_integer_value(v);
    else
        return mb_draft_bad(d, "%s: expected an integer, found %s", k->name, mb_json_type(v));
    if (k->lo < k->hi && ((double)*out < k->lo || (double)*out > k->hi))
        return mb_draft_bad(d, "%s: %lld is outside %.0f to %.0f", k->name, (long long)*out, k->lo, k->hi);
    return MB_OK;
}

static enum mb_status read_int64(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x;
    MB_TRY(whole(d, k, v, &x));
    *(int64_t *)((char *)d->req + k->offset) = x;
    return MB_OK;
}

static enum mb_status read_int32(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x;
    MB_TRY(whole(d, k, v, &x));
    *(int32_t *)((char *)d->req + k->offset) = (int32_t)x;
    return MB_OK;
}

static enum mb_status read_bool(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->name, mb_json_type(v));
    *(bool *)((char *)d->req + k->offset) = json_is_true(v);
    return MB_OK;
}

/* Below 1e-5 logits divided by the temperature leave the range of f32. */
static enum mb_status read_temperature(struct mb_draft *d, const struct key *k, const json_t *v)
{
    MB_TRY(read_real(d, k, v));
    double x = json_number_value(v);
    if (x > 0 && x < 1e-5)
        return mb_draft_bad(d, "temperature: %.9g is neither 0 nor at least 1e-05", x);
    return MB_OK;
}

static enum mb_status read_seed(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x;
    MB_TRY(whole(d, k, v, &x));
    d->req->sampling.seed = (uint64_t)x;
    d->req->sampling.has_seed = true;
    return MB_OK;
}

/* Both names of the limit may stand in a chat body if they agree. */
static enum mb_status read_limit(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x, *limit = &d->req->sampling.max_tokens;
    MB_TRY(whole(d, k, v, &x));
    if (*limit >= 0 && *limit != x)
        return mb_draft_bad(d, "%s: contradicts the other limit, %lld", k->name, (long long)*limit);
    *limit = x;
    return MB_OK;
}

/* Completions: the number of alternatives; chat: a boolean beside top_logprobs; plain lines may use either. */
static enum mb_status read_logprobs(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x = 0;
    if (json_is_boolean(v) && d->form != MB_FORM_COMPLETION) {
        d->req->want_logprobs = json_is_true(v);
        return MB_OK;
    }
    if (d->form == MB_FORM_CHAT)
        return mb_draft_bad(d, "logprobs: expected true or false, found %s", mb_json_type(v));
    MB_TRY(whole(d, k, v, &x));
    d->req->want_logprobs = true;
    d->req->top_n = (int32_t)x;
    return MB_OK;
}

static enum mb_status read_top_logprobs(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return whole(d, k, v, &d->top_logprobs);
}

static enum mb_status put_stop(struct mb_draft *d, const json_t *v)
{
    struct mb_request *r = d->req;
    if (!json_is_string(v) || json_string_length(v) == 0)
        return mb_draft_bad(d, "stop: expected strings that are not empty, found %s",
                            json_is_string(v) ? "an empty one" : mb_json_type(v));
    if (r->n_stop == MB_MAX_STOP)
        return mb_draft_bad(d, "stop: more than %d strings", MB_MAX_STOP);
    MB_TRY(mb_draft_text(v, &r->stop[r->n_stop]));
    r->n_stop++;
    return MB_OK;
}

static enum mb_status read_stop(struct mb_draft *d, const struct key *k, const json_t *v)
{
    size_t i;
    json_t *one;
    (void)k;
    if (!json_is_array(v))
        return put_stop(d, v);
    json_array_foreach((json_t *)v, i, one)
        MB_TRY(put_stop(d, one));
    return MB_OK;
}

/* A token id written as a decimal number in its shortest form, or -1. */
static int32_t id_of_key(const char *s, int32_t vocab)
{
    int64_t x = 0;
    size_t n = strlen(s);
    if (n == 0 || n > 10 || (n > 1 && s[0] == '0'))
        return -1;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        x = x * 10 + (*s - '0');
    }
    return x < vocab ? (int32_t)x : -1;
}

static int by_id(const void *a, const void *b)
{
    const struct mb_bias *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static enum mb_status read_bias(struct mb_draft *d, const struct key *k, const json_t *v)
{
    struct mb_sampling *s = &d->req->sampling;
    const char *name;
    json_t *one;

    if (!json_is_object(v))
        return mb_draft_bad(d, "%s: expected an object of token ids, found %s", k->name, mb_json_type(v));
    size_t n = json_object_size(v);
    if (n == 0)
        return MB_OK;
    if (n > (size_t)d->opt->vocab)
        return mb_draft_bad(d, "%s: more entries than the vocabulary has", k->name);
    s->bias = malloc(n * sizeof *s->bias);
    if (s->bias == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    json_object_foreach((json_t *)v, name, one) {
        int32_t id = id_of_key(name, d->opt->vocab);
        if (id < 0)
            return mb_draft_bad(d, "%s: \"%s\" is no token id below %d", k->name, name, d->opt->vocab);
        double x = json_is_number(one) ? json_number_value(one) : NAN;
        if (!(x >= k->lo && x <= k->hi))
            return mb_draft_bad(d, "%s: the value of %d is no number from %.0f to %.0f", k->name, id, k->lo, k->hi);
        s->bias[s->n_bias++] = (struct mb_bias){id, (float)x};
    }
    qsort(s->bias, (size_t)s->n_bias, sizeof *s->bias, by_id);
    return MB_OK;
}

static enum mb_status read_stream(struct mb_draft *d, const struct key *k, const json_t *v)
{
    (void)k;
    if (json_is_false(v))
        return MB_OK;
    return mb_draft_bad(d, "key \"stream\" is not supported: results are written when they are complete");
}

/* Labels of the sender, without a bearing on the result. */
static enum mb_status read_label(struct mb_draft *d, const struct key *k, const json_t *v)
{
    (void)d, (void)k, (void)v;
    return MB_OK;
}

#define IN_REQUEST(field) offsetof(struct mb_request, field)
#define IN_SAMPLING(field) offsetof(struct mb_request, sampling.field)
#define OPENAI (MB_FORM_COMPLETION | MB_FORM_CHAT)

static const struct key keys[] = {
    {"temperature", GENERATES, read_temperature, 0, 100, IN_SAMPLING(temperature)},
    {"top_p", GENERATES, read_real, 1e-6, 1, IN_SAMPLING(top_p)},
    {"min_p", GENERATES, read_real, 0, 1, IN_SAMPLING(min_p)},
    {"top_k", GENERATES, read_int32, -1, INT32_MAX, IN_SAMPLING(top_k)},
    {"repetition_penalty", GENERATES, read_real, 1e-3, 1e3, IN_SAMPLING(repetition)},
    {"frequency_penalty", GENERATES, read_real, -2, 2, IN_SAMPLING(frequency)},
    {"presence_penalty", GENERATES, read_real, -2, 2, IN_SAMPLING(presence)},
    {"ignore_eos", GENERATES, read_bool, 0, 0, IN_SAMPLING(ignore_eos)},
    {"max_tokens", GENERATES, read_limit, 0, 1e15, 0},
    {"max_completion_tokens", MB_FORM_CHAT, read_limit, 0, 1e15, 0},
    {"min_tokens", GENERATES, read_int64, 0, 1e15, IN_SAMPLING(min_tokens)},
    {"seed", GENERATES, read_seed, 0, 0, 0},
    {"n", GENERATES, read_int32, 1, MB_MAX_CHOICES, IN_REQUEST(n)},
    {"stop", GENERATES, read_stop, 0, 0, 0},
    {"logit_bias", GENERATES, read_bias, -100, 100, 0},
    {"logprobs", GENERATES, read_logprobs, 0, MB_MAX_TOP, 0},
    {"top_logprobs", MB_FORM_CHAT, read_top_logprobs, 0, MB_MAX_TOP, 0},
    {"echo", MB_FORM_PLAIN | MB_FORM_COMPLETION, read_bool, 0, 0, IN_REQUEST(echo)},
    {"stream", OPENAI, read_stream, 0, 0, 0},
    {"user", OPENAI, read_label, 0, 0, 0},
    {"metadata", OPENAI, read_label, 0, 0, 0},
};

/* Keys other engines give a meaning that this one has not: named as such, so that they are not taken for typing errors. */
static const char *const unsupported[] = {
    "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "response_format", "best_of", "suffix",
    "stream_options", "modalities", "audio", "prediction", "reasoning_effort", "verbosity", "web_search_options",
    "service_tier", "store", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
    "use_beam_search", "length_penalty", "early_stopping", "stop_token_ids", "include_stop_str_in_output",
    "skip_special_tokens", "spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs", "allowed_token_ids",
    "bad_words", "add_special_tokens", "add_generation_prompt", "continue_final_message", "chat_template",
    "chat_template_kwargs", "documents", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta", "no_repeat_ngram_size",
    "echo", "top_logprobs", "stream", "max_completion_tokens", "messages",
};

static enum mb_status refuse(struct mb_draft *d, const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(name, keys[i].name) == 0 && (d->form == MB_FORM_LOGLIKELIHOOD || d->form == MB_FORM_ROLLING))
            return mb_draft_bad(d, "key \"%s\" has no meaning in a line that is scored", name);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (strcmp(name, unsupported[i]) == 0)
            return mb_draft_bad(d, "key \"%s\" is not supported here", name);
    return mb_draft_bad(d, "unknown key \"%s\"", name);
}

static const struct key *find_key(const char *name, enum mb_form form)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if ((keys[i].forms & form) && strcmp(name, keys[i].name) == 0)
            return &keys[i];
    return NULL;
}

enum mb_status mb_draft_keys(struct mb_draft *d, const json_t *obj, const char *const *own, bool loose)
{
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)obj, name, v) {
        int i = 0;
        while (own[i] != NULL && strcmp(own[i], name) != 0)
            i++;
        if (own[i] != NULL)
            continue;
        if (json_is_null(v)) /* clients write out every field they know */
            continue;
        const struct key *k = find_key(name, d->form);
        if (k == NULL && loose)
            continue;
        if (k == NULL)
            return refuse(d, name);
        MB_TRY(k->read(d, k, v));
    }
    return MB_OK;
}

enum mb_status mb_draft_settle(struct mb_draft *d)
{
    struct mb_request *r = d->req;
    struct mb_sampling *s = &r->sampling;

    if (s->max_tokens < 0)
        s->max_tokens = d->opt->max_tokens >= 0 ? d->opt->max_tokens : 256;
    if (s->min_tokens > s->max_tokens)
        return mb_draft_bad(d, "min_tokens: %lld is more than max_tokens, %lld", (long long)s->min_tokens,
                            (long long)s->max_tokens);
    if (s->top_k < 0)
        s->top_k = 0;
    if (d->top_logprobs >= 0 && !r->want_logprobs)
        return mb_draft_bad(d, "top_logprobs: needs logprobs: true");
    if (d->top_logprobs > 0)
        r->top_n = (int32_t)d->top_logprobs;
    r->want_prompt_logprobs = r->echo && r->want_logprobs;
    return MB_OK;
}
