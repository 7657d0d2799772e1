#include "app/bench_work.h"

#include <stdlib.h>
#include <string.h>
#include "app/workload.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"

#define MOST_BYTES ((uint64_t)4 << 30)
#define MOST_REQUESTS 10000000
#define MOST_TOKENS 100000000

/* A request as a file has it. */
struct text {
    struct mb_bytes bytes; /* of the prompt */
    int32_t *ids;          /* or its ids */
    int64_t n_ids, output;
};

struct maker {
    struct mb_app *app;
    struct mb_bench_work w;
    int64_t cap, cap_ids, usual, most; /* most: requests wanted */
    int64_t max_len;
    struct mb_bytes flat;
};

int32_t mb_bench_work_id(const struct mb_bench_work *w, int64_t i, int64_t at)
{
    uint32_t word[4], ctr[4] = {(uint32_t)(at / 4), (uint32_t)i, 0, 1};

    if (w->at[i] < w->at[i + 1])
        return w->ids[w->at[i] + at];
    mb_philox4x32(ctr, w->seed, word);
    return (int32_t)(((uint64_t)word[at % 4] * (uint64_t)w->vocab) >> 32);
}

void mb_bench_work_fini(struct mb_bench_work *w)
{
    mb_free(w->prompt);
    mb_free(w->output);
    mb_free(w->at);
    mb_free(w->ids);
    memset(w, 0, sizeof *w);
}

/* ---------------------------------------------------------------- the list */
static enum mb_status grow(struct maker *k, int64_t n, int64_t ids)
{
    struct mb_bench_work *w = &k->w;
    struct mb_mem *mem = &k->app->mem;

    if (n + 1 > k->cap) {
        int64_t cap = 2 * n + 64;
        void *p = mb_grow(mem, MB_MEM_REQUESTS, w->prompt, (size_t)cap, sizeof *w->prompt);
        w->prompt = p != NULL ? p : w->prompt;
        void *o = mb_grow(mem, MB_MEM_REQUESTS, w->output, (size_t)cap, sizeof *w->output);
        w->output = o != NULL ? o : w->output;
        void *a = mb_grow(mem, MB_MEM_REQUESTS, w->at, (size_t)cap + 1, sizeof *w->at);
        w->at = a != NULL ? a : w->at;
        if (p == NULL || o == NULL || a == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %lld requests", (long long)n);
        w->at[0] = 0;
        k->cap = cap;
    }
    if (ids > k->cap_ids) {
        void *p = mb_grow(mem, MB_MEM_REQUESTS, w->ids, (size_t)(2 * ids), sizeof *w->ids);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %lld tokens", (long long)ids);
        w->ids = p;
        k->cap_ids = 2 * ids;
    }
    return MB_OK;
}

/* ids NULL: drawn. Requests that do not fit are left out. */
static enum mb_status add(struct maker *k, int64_t prompt, int64_t output, const int32_t *ids)
{
    struct mb_bench_work *w = &k->w;
    int64_t i = w->n, from = i > 0 ? w->at[i] : 0, more = ids != NULL ? prompt : 0;

    if (prompt < 1 || output < 1 || prompt + output > k->max_len) {
        w->left_out++;
        return MB_OK;
    }
    MB_TRY(grow(k, i + 1, from + more));
    w->prompt[i] = (int32_t)prompt;
    w->output[i] = (int32_t)output;
    w->at[i + 1] = from + more;
    if (more > 0)
        memcpy(w->ids + from, ids, (size_t)more * sizeof *ids);
    w->n++;
    w->prompts += prompt;
    w->outputs += output;
    return MB_OK;
}

/* ---------------------------------------------------------------- files */
static enum mb_status put_text(struct mb_bytes *b, const json_t *v)
{
    size_t i;
    json_t *part;

    if (json_is_string(v))
        return mb_bytes_put(b, json_string_value(v), json_string_length(v));
    json_array_foreach(v, i, part)
    { /* of a message: {"type": "text", "text": ...} */
        if (json_is_object(part))
            MB_TRY(put_text(b, json_object_get(part, "text")));
    }
    return MB_OK;
}

static enum mb_status put_ids(struct text *t, const json_t *list)
{
    size_t i;
    json_t *v;

    t->ids = malloc((json_array_size(list) + 1) * sizeof *t->ids);
    if (t->ids == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a prompt");
    json_array_foreach(list, i, v)
    {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        t->ids[t->n_ids++] = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
    }
    return MB_OK;
}

/* special: with what the post-processor adds */
static int64_t tokens_of(const struct maker *k, const struct mb_bytes *b, bool special, struct mb_ids *ids)
{
    if (k->app->tok != NULL &&
        mb_tokenizer_encode(k->app->tok, (const char *)b->data, b->len, special, ids) == MB_OK)
        return ids->n;
    return ((int64_t)b->len + MB_WORKLOAD_BYTES - 1) / MB_WORKLOAD_BYTES;
}

/* What stands before the first answer, and how long that is. */
static enum mb_status of_conversation(const struct maker *k, const json_t *turns, struct text *t)
{
    size_t i;
    json_t *turn;

    json_array_foreach(turns, i, turn)
    {
        const char *from = json_string_value(json_object_get(turn, "from"));
        const json_t *value = json_object_get(turn, "value");
        bool answer = from != NULL && (strcmp(from, "gpt") == 0 || strcmp(from, "assistant") == 0 ||
                                       strcmp(from, "chatgpt") == 0);
        if (!answer) {
            MB_TRY(put_text(&t->bytes, value));
            continue;
        }
        struct mb_bytes b = {0};
        struct mb_ids ids = {0};
        MB_TRY(put_text(&b, value));
        t->output = tokens_of(k, &b, false, &ids);
        free(ids.v);
        mb_bytes_fini(&b);
        return MB_OK;
    }
    return MB_OK;
}

static enum mb_status of_request(const json_t *line, struct text *t)
{
    const json_t *body = json_object_get(line, "body"), *in = json_is_object(body) ? body : line;
    const json_t *prompt = json_object_get(in, "prompt"), *ids = json_object_get(in, "prompt_ids"), *turn;
    const json_t *most = json_object_get(in, "max_completion_tokens");
    size_t i;

    if (!json_is_integer(most))
        most = json_object_get(in, "max_tokens");
    if (json_is_integer(most))
        t->output = json_integer_value(most);
    if (ids == NULL && json_is_integer(json_array_get(prompt, 0)))
        ids = prompt;
    if (ids != NULL)
        return put_ids(t, ids);
    if (prompt != NULL)
        return put_text(&t->bytes, prompt);
    json_array_foreach(json_object_get(in, "messages"), i, turn)
        MB_TRY(put_text(&t->bytes, json_object_get(turn, "content")));
    return MB_OK;
}

static bool ids_known(const struct maker *k, const struct text *t)
{
    for (int64_t i = 0; i < t->n_ids; i++) {
        if (t->ids[i] < 0 || t->ids[i] >= k->w.vocab)
            return false;
    }
    return true;
}

static enum mb_status add_object(struct maker *k, const json_t *o)
{
    const json_t *turns = json_object_get(o, "conversations");
    struct text t = {.output = k->app->conf->max_tokens};
    struct mb_ids ids = {0};
    enum mb_status st = json_is_array(turns) ? of_conversation(k, turns, &t) : of_request(o, &t);

    if (st == MB_OK && t.ids != NULL)
        st = add(k, ids_known(k, &t) ? t.n_ids : 0, t.output, t.ids);
    else if (st == MB_OK) {
        int64_t n = t.bytes.len == 0 ? 0 : tokens_of(k, &t.bytes, true, &ids);
        st = add(k, n, t.output, ids.n == n ? ids.v : NULL);
    }
    free(ids.v);
    free(t.ids);
    mb_bytes_fini(&t.bytes);
    return st;
}

static enum mb_status read_lines(struct maker *k, const char *path, const struct mb_bytes *text)
{
    for (size_t at = 0; at < text->len && k->w.n < k->most;) {
        const char *line = (const char *)text->data + at, *end = memchr(line, '\n', text->len - at);
        size_t n = end != NULL ? (size_t)(end - line) : text->len - at;
        json_t *o = json_loadb(line, n, 0, NULL);
        enum mb_status st = json_is_object(o) ? add_object(k, o) : MB_OK;
        k->w.left_out += !json_is_object(o) && n > 0;
        json_decref(o);
        MB_TRY(st);
        at += n + 1;
    }
    return k->w.n > 0
               ? MB_OK
               : mb_error(MB_INPUT,
                          "--workload %s has no request in JSON lines, or ShareGPT, that this model takes",
                          path);
}

static enum mb_status read_file(struct maker *k, const char *path)
{
    struct mb_bytes text = {0};
    json_t *all = NULL, *o;
    size_t i;
    enum mb_status st = mb_file_read(path, MOST_BYTES, MB_INPUT, &text);

    size_t blank = 0;
    while (st == MB_OK && blank < text.len && strchr(" \t\r\n", text.data[blank]) != NULL)
        blank++;
    if (st == MB_OK && blank < text.len && text.data[blank] == '[')
        st = mb_json_parse(text.data, text.len, path, MB_INPUT, NULL, 0, &all);
    json_array_foreach(all, i, o)
    {
        if (st == MB_OK && k->w.n < k->most)
            st = add_object(k, o);
    }
    if (st == MB_OK && (all == NULL || k->w.n == 0))
        st = read_lines(k, path, &text);
    json_decref(all);
    mb_bytes_fini(&text);
    return st;
}

/* ---------------------------------------------------------------- rank 0, and the others */
static enum mb_status by_lengths(struct maker *k, const struct mb_workload *w)
{
    int64_t n = w->requests < k->most ? w->requests : k->most;

    if (w->output < 1 || w->prompt + w->output > k->max_len)
        return mb_error(MB_LAYOUT,
                        "requests of %lld + %lld tokens are not between 1 + 1 tokens and the %lld that this "
                        "job takes (--max-model-len)",
                        (long long)w->prompt, (long long)w->output, (long long)k->max_len);
    for (int64_t i = 0; i < n; i++)
        MB_TRY(add(k, w->prompt, w->output, NULL));
    return MB_OK;
}

static enum mb_status make(void *arg)
{
    struct maker *k = arg;
    struct mb_bench_work *w = &k->w;
    const struct mb_conf *c = k->app->conf;
    struct mb_workload spec = {k->usual, 128, 64};
    bool given = c->workload[0] != '\0', file = given && mb_path_exists(c->workload);

    if (given && !file)
        MB_TRY(mb_workload_parse(c->workload, k->usual, &spec));
    MB_TRY(file ? read_file(k, c->workload) : by_lengths(k, &spec));
    struct mb_bench_work head = *w;
    MB_TRY(mb_bytes_put(&k->flat, &head, sizeof head));
    MB_TRY(mb_bytes_put(&k->flat, w->prompt, (size_t)w->n * sizeof *w->prompt));
    MB_TRY(mb_bytes_put(&k->flat, w->output, (size_t)w->n * sizeof *w->output));
    MB_TRY(mb_bytes_put(&k->flat, w->at, (size_t)(w->n + 1) * sizeof *w->at));
    return mb_bytes_put(&k->flat, w->ids, (size_t)w->at[w->n] * sizeof *w->ids);
}

/* From rank 0's bytes, which are one binary's. */
static enum mb_status take(struct maker *k)
{
    const uint8_t *at = k->flat.data;
    struct mb_bench_work head;

    memcpy(&head, at, sizeof head);
    at += sizeof head;
    size_t n = (size_t)head.n * sizeof *head.prompt, places = (size_t)(head.n + 1) * sizeof *head.at;
    size_t ids = k->flat.len - sizeof head - 2 * n - places;
    MB_TRY(grow(k, head.n, (int64_t)(ids / sizeof *head.ids)));
    struct mb_bench_work *w = &k->w;
    head.prompt = w->prompt;
    head.output = w->output;
    head.at = w->at;
    head.ids = w->ids;
    *w = head;
    memcpy(w->prompt, at, n);
    memcpy(w->output, at + n, n);
    memcpy(w->at, at + 2 * n, places);
    if (ids > 0)
        memcpy(w->ids, at + 2 * n + places, ids);
    return MB_OK;
}

enum mb_status mb_bench_work_create(struct mb_app *a, int64_t usual, struct mb_bench_work *out)
{
    const struct mb_conf *c = a->conf;
    struct maker k = {.app = a,
                      .usual = usual,
                      .max_len = a->plan->max_len < MOST_TOKENS ? a->plan->max_len : MOST_TOKENS,
                      .most = c->num_requests > 0 ? c->num_requests : MOST_REQUESTS};

    k.w.seed = (uint64_t)c->seed;
    k.w.vocab = a->model->vocab;
    enum mb_status st = mb_comm_alone(a->comm, a->rank == 0, make, &k, "making requests");
    if (st == MB_OK)
        st = mb_comm_bcast_bytes(a->comm, &k.flat, 0, "requests");
    if (st == MB_OK && a->rank != 0)
        st = take(&k);
    st = mb_comm_agree(a->comm, st, "requests");
    mb_bytes_fini(&k.flat);
    if (st == MB_OK)
        *out = k.w;
    else
        mb_bench_work_fini(&k.w);
    return st;
}
