#include "io/parse_draft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

#define GENERATES (MB_FORM_PLAIN | MB_FORM_COMPLETION | MB_FORM_CHAT | MB_FORM_TALK | MB_FORM_SHAREGPT)

struct key;
typedef enum mb_status (*key_reader)(struct mb_draft *d, const struct key *k, const json_t *v);

/* One row per key: what it is (its name, where it may stand, its range), how it is read, and where it goes in the request. */
struct key {
    const struct mb_request_key *of;
    key_reader read;
    size_t offset;
};

static enum mb_status read_real(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_number(v))
        return mb_draft_bad(d, "%s: expected a number, found %s", k->of->name, mb_json_type(v));
    double x = json_number_value(v);
    if (!(x >= k->of->lo && x <= k->of->hi))
        return mb_draft_bad(d, "%s: %.9g is outside %.9g to %.9g", k->of->name, x, k->of->lo, k->of->hi);
    *(float *)((char *)d->req + k->offset) = (float)x;
    return MB_OK;
}

static enum mb_status whole(struct mb_draft *d, const struct key *k, const json_t *v, int64_t *out)
{
    if (!mb_draft_whole(v, out))
        return mb_draft_bad(d, "%s: expected an integer, found %s", k->of->name, mb_json_type(v));
    if (k->of->lo < k->of->hi && ((double)*out < k->of->lo || (double)*out > k->of->hi))
        return mb_draft_bad(d, "%s: %lld is outside %.0f to %.0f", k->of->name, (long long)*out, k->of->lo, k->of->hi);
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
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
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
        return mb_draft_bad(d, "%s: contradicts the other limit, %lld", k->of->name, (long long)*limit);
    *limit = x;
    return MB_OK;
}

/* Completions: the number of alternatives; chat: a boolean beside top_logprobs; plain lines may use either. */
static enum mb_status read_logprobs(struct mb_draft *d, const struct key *k, const json_t *v)
{
    int64_t x = 0;
    if (json_is_false(v) || (json_is_true(v) && d->form != MB_FORM_COMPLETION)) {
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

static enum mb_status read_prompt_logprobs(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return whole(d, k, v, &d->prompt_logprobs);
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
    d->stop_given = true;
    if (!json_is_array(v))
        return put_stop(d, v);
    json_array_foreach((json_t *)v, i, one)
        MB_TRY(put_stop(d, one));
    return MB_OK;
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A list of ids of the vocabulary, at most `most`: made ascending, each once. malloc'd. */
static enum mb_status read_ids(struct mb_draft *d, const char *key, const json_t *v, size_t most, int32_t **out, int32_t *n)
{
    struct mb_piece list;
    size_t i;
    json_t *one;

    if (!json_is_array(v))
        return mb_draft_bad(d, "%s: expected a list of token ids, found %s", key, mb_json_type(v));
    MB_TRY(mb_draft_piece(d, v, key, &list));
    if (json_array_size(v) > most)
        return mb_draft_bad(d, "%s: more than %zu ids", key, most);
    int32_t *ids = malloc((json_array_size(v) + 1) * sizeof *ids);
    if (ids == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    json_array_foreach((json_t *)v, i, one)
        ids[i] = (int32_t)json_integer_value(one);
    qsort(ids, json_array_size(v), sizeof *ids, ascending);
    *n = 0;
    for (i = 0; i < json_array_size(v); i++)
        if (i == 0 || ids[i] != ids[i - 1])
            ids[(*n)++] = ids[i];
    *out = ids;
    return MB_OK;
}

static enum mb_status read_add_special(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
    d->no_special = json_is_false(v);
    return MB_OK;
}

static enum mb_status read_stop_ids(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return read_ids(d, k->of->name, v, MB_MAX_STOP_IDS, &d->req->stop_ids, &d->req->n_stop_ids);
}

static enum mb_status read_allowed(struct mb_draft *d, const struct key *k, const json_t *v)
{
    struct mb_sampling *s = &d->req->sampling;
    MB_TRY(read_ids(d, k->of->name, v, (size_t)d->opt->vocab, &s->allowed, &s->n_allowed));
    return s->n_allowed > 0 ? MB_OK : mb_draft_bad(d, "%s: an empty list: nothing could be generated", k->of->name);
}

/* They become ids in stage two. */
static enum mb_status read_bad_words(struct mb_draft *d, const struct key *k, const json_t *v)
{
    size_t i;
    json_t *one;

    if (!json_is_array(v) || json_array_size(v) > MB_MAX_BAD_WORDS / 2)
        return mb_draft_bad(d, "%s: expected a list of at most %d strings", k->of->name, MB_MAX_BAD_WORDS / 2);
    json_array_foreach((json_t *)v, i, one)
        if (!json_is_string(one) || json_string_length(one) == 0)
            return mb_draft_bad(d, "%s: expected strings that are not empty, found %s", k->of->name,
                                json_is_string(one) ? "an empty one" : mb_json_type(one));
    d->bad_words = v;
    return MB_OK;
}

static enum mb_status read_skip_special(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
    d->req->keep_special = json_is_false(v);
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
        return mb_draft_bad(d, "%s: expected an object of token ids, found %s", k->of->name, mb_json_type(v));
    size_t n = json_object_size(v);
    if (n == 0)
        return MB_OK;
    if (n > (size_t)d->opt->vocab)
        return mb_draft_bad(d, "%s: more entries than the vocabulary has", k->of->name);
    s->bias = malloc(n * sizeof *s->bias);
    if (s->bias == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    json_object_foreach((json_t *)v, name, one) {
        int32_t id = id_of_key(name, d->opt->vocab);
        if (id < 0)
            return mb_draft_bad(d, "%s: \"%s\" is no token id below %d", k->of->name, name, d->opt->vocab);
        double x = json_is_number(one) ? json_number_value(one) : NAN;
        if (!(x >= k->of->lo && x <= k->of->hi))
            return mb_draft_bad(d, "%s: the value of %d is no number from %.0f to %.0f", k->of->name, id, k->of->lo, k->of->hi);
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

/* --- what a chat template is told --- */

static enum mb_status put_extra(struct mb_draft *d, const char *key, const json_t *v, bool replace)
{
    if (d->extra == NULL)
        d->extra = json_object();
    if (!replace && json_object_get(d->extra, key) != NULL)
        return MB_OK;
    return d->extra != NULL && json_object_set(d->extra, key, (json_t *)v) == 0 ? MB_OK
                                                                                : mb_error(MB_NO_MEMORY, "no memory for a request");
}

/* They go before keys of the line that say the same. */
static enum mb_status read_kwargs(struct mb_draft *d, const struct key *k, const json_t *v)
{
    static const char *const own[] = {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message",
                                      "chat_template", "tokenize"};
    const char *name;
    json_t *one;

    if (!json_is_object(v))
        return mb_draft_bad(d, "%s: expected an object, found %s", k->of->name, mb_json_type(v));
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (json_object_get(v, own[i]) != NULL)
            return mb_draft_bad(d, "%s: \"%s\" is no variable of a template; give it beside %s", k->of->name, own[i], k->of->name);
    json_object_foreach((json_t *)v, name, one)
        MB_TRY(put_extra(d, name, one, true));
    return MB_OK;
}

static enum mb_status read_effort(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_string(v))
        return mb_draft_bad(d, "%s: expected a string, found %s", k->of->name, mb_json_type(v));
    return put_extra(d, k->of->name, v, false);
}

static enum mb_status read_thinking(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
    return put_extra(d, k->of->name, v, false);
}

/* tools and documents; an empty list is none. */
static enum mb_status read_objects(struct mb_draft *d, const struct key *k, const json_t *v)
{
    size_t i;
    json_t *one;

    if (!json_is_array(v))
        return mb_draft_bad(d, "%s: expected a list of objects, found %s", k->of->name, mb_json_type(v));
    json_array_foreach((json_t *)v, i, one)
        if (!json_is_object(one))
            return mb_draft_bad(d, "%s: expected objects, found %s", k->of->name, mb_json_type(one));
    if (json_array_size(v) > 0)
        *(const json_t **)((char *)d + k->offset) = v;
    return MB_OK;
}

static enum mb_status read_generation_prompt(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
    d->ask.add_generation_prompt = json_is_true(v);
    d->ask_given = true;
    return MB_OK;
}

static enum mb_status read_continue(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (!json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected true or false, found %s", k->of->name, mb_json_type(v));
    d->ask.continue_final_message = json_is_true(v);
    return MB_OK;
}

/* A call of a tool is text of the answer here: nothing forces or forbids one. */
static enum mb_status read_tool_choice(struct mb_draft *d, const struct key *k, const json_t *v)
{
    if (mb_draft_is(v, "none") || mb_draft_is(v, "auto"))
        return MB_OK;
    return mb_draft_bad(d, "%s: only \"none\" and \"auto\" are supported: no call can be forced", k->of->name);
}

/* --- what the answer is held to (parse_guide.c) --- */

static enum mb_status read_guide(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return mb_draft_guide(d, (enum mb_guide_kind)k->offset, k->of->name, v);
}

static enum mb_status read_response_format(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return mb_draft_response_format(d, k->of->name, v);
}

static enum mb_status read_structured(struct mb_draft *d, const struct key *k, const json_t *v)
{
    return mb_draft_structured(d, k->of->name, v);
}

#define IN_DRAFT(field) offsetof(struct mb_draft, field)
#define IN_REQUEST(field) offsetof(struct mb_request, field)
#define IN_SAMPLING(field) offsetof(struct mb_request, sampling.field)
#define KEY(id) &mb_request_keys[MB_KEY_##id]

static const struct key keys[] = {
    {KEY(TEMPERATURE), read_temperature, IN_SAMPLING(temperature)},
    {KEY(TOP_P), read_real, IN_SAMPLING(top_p)},
    {KEY(MIN_P), read_real, IN_SAMPLING(min_p)},
    {KEY(TOP_K), read_int32, IN_SAMPLING(top_k)},
    {KEY(REPETITION_PENALTY), read_real, IN_SAMPLING(repetition)},
    {KEY(FREQUENCY_PENALTY), read_real, IN_SAMPLING(frequency)},
    {KEY(PRESENCE_PENALTY), read_real, IN_SAMPLING(presence)},
    {KEY(IGNORE_EOS), read_bool, IN_SAMPLING(ignore_eos)},
    {KEY(MAX_TOKENS), read_limit, 0},
    {KEY(MAX_COMPLETION_TOKENS), read_limit, 0},
    {KEY(MIN_TOKENS), read_int64, IN_SAMPLING(min_tokens)},
    {KEY(SEED), read_seed, 0},
    {KEY(N), read_int32, IN_REQUEST(n)},
    {KEY(STOP), read_stop, 0},
    {KEY(ADD_SPECIAL_TOKENS), read_add_special, 0},
    {KEY(STOP_TOKEN_IDS), read_stop_ids, 0},
    {KEY(INCLUDE_STOP), read_bool, IN_REQUEST(include_stop)},
    {KEY(SKIP_SPECIAL_TOKENS), read_skip_special, 0},
    {KEY(ALLOWED_TOKEN_IDS), read_allowed, 0},
    {KEY(BAD_WORDS), read_bad_words, 0},
    {KEY(LOGIT_BIAS), read_bias, 0},
    {KEY(GUIDED_REGEX), read_guide, MB_GUIDE_REGEX},
    {KEY(GUIDED_CHOICE), read_guide, MB_GUIDE_CHOICE},
    {KEY(GUIDED_JSON), read_guide, MB_GUIDE_JSON},
    {KEY(RESPONSE_FORMAT), read_response_format, 0},
    {KEY(STRUCTURED_OUTPUTS), read_structured, 0},
    {KEY(LOGPROBS), read_logprobs, 0},
    {KEY(TOP_LOGPROBS), read_top_logprobs, 0},
    {KEY(PROMPT_LOGPROBS), read_prompt_logprobs, 0},
    {KEY(ECHO), read_bool, IN_REQUEST(echo)},
    {KEY(CHAT_TEMPLATE_KWARGS), read_kwargs, 0},
    {KEY(REASONING_EFFORT), read_effort, 0},
    {KEY(ENABLE_THINKING), read_thinking, 0},
    {KEY(TOOLS), read_objects, IN_DRAFT(ask.tools)},
    {KEY(TOOL_CHOICE), read_tool_choice, 0},
    {KEY(PARALLEL_TOOL_CALLS), read_label, 0},
    {KEY(DOCUMENTS), read_objects, IN_DRAFT(ask.documents)},
    {KEY(ADD_GENERATION_PROMPT), read_generation_prompt, 0},
    {KEY(CONTINUE_FINAL_MESSAGE), read_continue, 0},
    {KEY(STREAM), read_stream, 0},
    {KEY(USER), read_label, 0},
    {KEY(METADATA), read_label, 0},
    {KEY(STORE), read_label, 0},
    {KEY(SERVICE_TIER), read_label, 0},
    {KEY(SAFETY_IDENTIFIER), read_label, 0},
    {KEY(PROMPT_CACHE_KEY), read_label, 0},
    {KEY(PROMPT_CACHE_RETENTION), read_label, 0},
    {KEY(REQUEST_ID), read_label, 0},
    {KEY(PRIORITY), read_label, 0},
};

/* Keys other engines give a meaning that this one has not: named as such, so that they are not taken for typing errors. */
static const char *const unsupported[] = {
    "tools", "tool_choice", "functions", "function_call", "parallel_tool_calls", "best_of", "suffix",
    "stream_options", "modalities", "audio", "prediction", "reasoning_effort", "verbosity", "web_search_options",
    "service_tier", "store", "guided_grammar",
    "use_beam_search", "length_penalty", "early_stopping", "spaces_between_special_tokens",
    "truncate_prompt_tokens", "add_special_tokens", "add_generation_prompt", "continue_final_message", "chat_template",
    "chat_template_kwargs", "documents", "typical_p", "mirostat", "mirostat_tau", "mirostat_eta", "no_repeat_ngram_size",
    "echo", "top_logprobs", "stream", "max_completion_tokens", "messages", "return_tokens_as_token_ids",
    "return_token_ids", "detokenize", "logits_processors",
};

/* Values of those keys that change nothing, as clients write them who write out their defaults: JSON texts between bars; * is
 * any true or false. A key may have several rows. */
static const struct {
    const char *name, *values;
} neutral[] = {
    {"tools", "[]"},
    {"tool_choice", "\"none\"|\"auto\""},
    {"functions", "[]"},
    {"function_call", "\"none\"|\"auto\""},
    {"parallel_tool_calls", "*"},
    {"best_of", "1|1.0"},
    {"suffix", "\"\""},
    {"stream", "false"},
    {"stream_options", "{}"},
    {"modalities", "[\"text\"]|[]"},
    {"verbosity", "\"medium\""},
    {"use_beam_search", "false"},
    {"length_penalty", "1|1.0"},
    {"early_stopping", "false"},
    {"spaces_between_special_tokens", "true"},
    {"truncate_prompt_tokens", "-1"},
    {"add_generation_prompt", "true"},
    {"continue_final_message", "false"},
    {"chat_template_kwargs", "{}"},
    {"documents", "[]"},
    {"typical_p", "1|1.0"},
    {"mirostat", "0"},
    {"no_repeat_ngram_size", "0"},
    {"echo", "false"},
    {"top_logprobs", "0|0.0"},
    {"return_tokens_as_token_ids", "false"},
    {"return_token_ids", "false"},
    {"detokenize", "true"},
    {"logits_processors", "[]"},
};

/* Whether one of the values between the bars is the JSON text s. */
static bool listed(const char *values, const char *s, size_t n)
{
    for (const char *v = values; *v != 0;) {
        size_t k = strcspn(v, "|");
        if (k == n && memcmp(v, s, n) == 0)
            return true;
        v += k + (v[k] == '|');
    }
    return false;
}

/* A chat's messages are no place for add_special_tokens: true, which would give the rendered prompt a second BOS. */
static bool changes_nothing(const char *name, const json_t *v)
{
    char s[32];

    if (strcmp(name, "add_special_tokens") == 0)
        return json_is_false(v);
    for (size_t i = 0; i < sizeof neutral / sizeof neutral[0]; i++) {
        if (strcmp(name, neutral[i].name) != 0)
            continue;
        if (neutral[i].values[0] == '*')
            return json_is_boolean(v);
        size_t n = json_dumpb(v, s, sizeof s, JSON_COMPACT | JSON_ENCODE_ANY);
        return n > 0 && n <= sizeof s && listed(neutral[i].values, s, n);
    }
    return false;
}

static enum mb_status refuse(struct mb_draft *d, const char *name)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(name, keys[i].of->name) == 0 && (d->form == MB_FORM_LOGLIKELIHOOD || d->form == MB_FORM_ROLLING))
            return mb_draft_bad(d, "key \"%s\" has no meaning in a line that is scored", name);
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (strcmp(name, unsupported[i]) == 0)
            return mb_draft_bad(d, "key \"%s\" is not supported here", name);
    return mb_draft_bad(d, "unknown key \"%s\"", name);
}

static const struct key *find_key(const char *name, enum mb_form form)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if ((keys[i].of->forms & form) && strcmp(name, keys[i].of->name) == 0)
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
        if (k == NULL && (d->form & GENERATES) && changes_nothing(name, v))
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
    if (r->guide_kind != MB_GUIDE_NONE && s->ignore_eos)
        return mb_draft_bad(d, "ignore_eos: contradicts %s, whose end is where the text ends", r->guide_key);
    if (d->ask.continue_final_message && d->ask_given && d->ask.add_generation_prompt)
        return mb_draft_bad(d, "continue_final_message and add_generation_prompt contradict each other");
    if (d->top_logprobs > 0 && !r->want_logprobs)
        return mb_draft_bad(d, "top_logprobs: needs logprobs: true");
    if (d->top_logprobs > 0)
        r->top_n = (int32_t)d->top_logprobs;
    r->prompt_asked = d->prompt_logprobs >= 0;
    r->want_prompt_logprobs = r->prompt_asked || (r->echo && r->want_logprobs);
    r->prompt_top_n = r->echo ? r->top_n : 0;
    if (d->prompt_logprobs > r->prompt_top_n)
        r->prompt_top_n = (int32_t)d->prompt_logprobs;
    return MB_OK;
}
