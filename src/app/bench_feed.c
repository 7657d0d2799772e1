#include "app/bench_feed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

struct row {
    bool used;
    uint64_t request;
    double last; /* when its last token came */
};

struct feed_source {
    struct mb_source base; /* first: the engine's pointer is the feed's */
    struct mb_bench_feed *f;
};
struct feed_sink {
    struct mb_sink base;
    struct mb_bench_feed *f;
};

struct mb_bench_feed {
    struct feed_source source;
    struct feed_sink sink;
    const struct mb_bench_work *w;
    struct mb_mem *mem;
    int64_t end, next, stride, most_running, most_output, running;
    struct row *row;
    int32_t n_rows;
    struct mb_bench_count count;
    struct mb_times times[MB_BENCH_TIMES];
    char error[512];
};

/* ---------------------------------------------------------------- source */
static enum mb_status make(const struct mb_bench_feed *f, int64_t i, struct mb_request **out)
{
    const struct mb_bench_work *w = f->w;
    struct mb_request *r = calloc(1, sizeof *r);
    char *id = NULL;

    int n = r == NULL ? -1 : asprintf(&id, "%lld", (long long)i + 1);
    if (n < 0) {
        free(r);
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    }
    *r = (struct mb_request){.line = (uint64_t)i, .id = {id, (size_t)n}, .kind = MB_KIND_GENERATE, .n = 1};
    mb_sampling_init(&r->sampling);
    r->sampling.temperature = 0;
    r->sampling.ignore_eos = true;
    r->sampling.max_tokens =
        f->most_output > 0 && f->most_output < w->output[i] ? f->most_output : w->output[i];
    r->n_prompt = r->score_from = w->prompt[i];
    r->prompt = mb_alloc(f->mem, MB_MEM_REQUESTS, (size_t)r->n_prompt, sizeof *r->prompt);
    if (r->prompt == NULL) {
        mb_request_destroy(r);
        return mb_error(MB_NO_MEMORY, "no memory for a prompt");
    }
    for (int64_t p = 0; p < r->n_prompt; p++)
        r->prompt[p] = mb_bench_work_id(w, i, p);
    *out = r;
    return MB_OK;
}

static enum mb_status next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state)
{
    struct mb_bench_feed *f = ((struct feed_source *)s)->f;
    int32_t got = 0;

    while (got < room && f->next < f->end && (f->most_running == 0 || f->running < f->most_running)) {
        enum mb_status st = make(f, f->next, &out[got]);
        if (st != MB_OK) {
            while (got > 0)
                mb_request_destroy(out[--got]);
            return st;
        }
        got++;
        f->running++;
        f->next += f->stride;
    }
    *n = got;
    *state = f->next >= f->end ? MB_SOURCE_END : got > 0 ? MB_SOURCE_SOME : MB_SOURCE_WAIT;
    return MB_OK;
}
static const struct mb_source_ops source_ops = {next};

/* ---------------------------------------------------------------- sink */
static enum mb_status keep(struct mb_bench_feed *f, enum mb_bench_time which, double seconds)
{
    struct mb_times *t = &f->times[which];

    if (isnan(seconds))
        return MB_OK;
    if (t->n == t->cap) {
        int64_t cap = 2 * t->cap + 256;
        void *p = mb_grow(f->mem, MB_MEM_REQUESTS, t->v, (size_t)cap, sizeof *t->v);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %lld times", (long long)cap);
        t->v = p;
        t->cap = cap;
    }
    t->v[t->n++] = seconds;
    return MB_OK;
}

static enum mb_status begin(struct mb_sink *s, const struct mb_request *req, int32_t choice, int64_t max_rows,
                            int32_t *handle)
{
    struct mb_bench_feed *f = ((struct feed_sink *)s)->f;
    int32_t i = 0;

    (void)choice;
    (void)max_rows;
    while (i < f->n_rows && f->row[i].used)
        i++;
    if (i == f->n_rows) {
        int32_t n = 2 * f->n_rows + 64;
        struct row *p = mb_grow(f->mem, MB_MEM_REQUESTS, f->row, (size_t)n, sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %d rows under way", n);
        memset(p + f->n_rows, 0, (size_t)(n - f->n_rows) * sizeof *p);
        f->row = p;
        f->n_rows = n;
    }
    f->row[i] = (struct row){.used = true, .request = req->line};
    *handle = i;
    return MB_OK;
}

static enum mb_status token(struct mb_sink *s, int32_t handle, int64_t index, int32_t id, bool journal,
                            bool *stop)
{
    struct mb_bench_feed *f = ((struct feed_sink *)s)->f;
    struct row *r = &f->row[handle];
    double now = mb_now();

    (void)id;
    (void)journal;
    *stop = false;
    f->count.last = now;
    f->count.after++;
    if (index == 0) {
        f->count.first = now;
        f->count.after = 0;
    } else {
        MB_TRY(keep(f, MB_BENCH_ITL, now - r->last));
    }
    r->last = now;
    return MB_OK;
}

static enum mb_status bulk(struct mb_sink *s, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data)
{
    (void)s, (void)handle, (void)kind, (void)row, (void)n, (void)data;
    return MB_OK;
}

static uint64_t digest_of(const struct mb_record *r)
{
    uint64_t part[4] = {r->line, (uint64_t)r->n_output, 0, 0};

    part[2] = r->n_output > 0 ? mb_hash64(r->output_ids, (size_t)r->n_output * sizeof *r->output_ids) : 0;
    part[3] = r->n_output > 0 && r->output_logprobs != NULL
                  ? mb_hash64(r->output_logprobs, (size_t)r->n_output * sizeof(float))
                  : 0;
    return mb_hash64(part, sizeof part);
}

static enum mb_status done(struct mb_sink *s, int32_t handle, struct mb_record *rec)
{
    struct mb_bench_feed *f = ((struct feed_sink *)s)->f;
    struct mb_bench_count *c = &f->count;
    const struct mb_timing *t = &rec->timing;

    if (handle >= 0)
        f->row[handle].used = false;
    f->running--;
    c->requests++;
    c->prompt_tokens += rec->n_prompt;
    c->output_tokens += rec->n_output;
    if (rec->status != MB_ROW_OK) {
        if (c->errors++ == 0)
            snprintf(f->error, sizeof f->error, "request %llu: %.*s", (unsigned long long)rec->line + 1,
                     (int)rec->error.len, rec->error.data != NULL ? rec->error.data : "");
    } else {
        c->digest += digest_of(rec);
    }
    enum mb_status st = keep(f, MB_BENCH_TTFT, t->ttft);
    if (st == MB_OK)
        st = keep(f, MB_BENCH_TPOT, t->tpot);
    if (st == MB_OK)
        st = keep(f, MB_BENCH_TOTAL, t->total);
    if (st == MB_OK)
        st = keep(f, MB_BENCH_QUEUE, t->queue);
    mb_record_fini(rec);
    return st;
}

static enum mb_status step_end(struct mb_sink *s)
{
    (void)s;
    return MB_OK;
}
static const struct mb_sink_ops sink_ops = {begin, token, bulk, done, step_end};

/* ---------------------------------------------------------------- the feed */
enum mb_status mb_bench_feed_create(const struct mb_bench_work *w, struct mb_mem *mem,
                                    struct mb_bench_feed **out)
{
    struct mb_bench_feed *f = mb_zalloc(mem, MB_MEM_REQUESTS, 1, sizeof *f);

    if (f == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for requests");
    f->w = w;
    f->mem = mem;
    f->source = (struct feed_source){{&source_ops}, f};
    f->sink = (struct feed_sink){{&sink_ops}, f};
    *out = f;
    return MB_OK;
}

void mb_bench_feed_destroy(struct mb_bench_feed *f)
{
    if (f == NULL)
        return;
    for (int i = 0; i < MB_BENCH_TIMES; i++)
        mb_free(f->times[i].v);
    mb_free(f->row);
    mb_free(f);
}

void mb_bench_feed_begin(struct mb_bench_feed *f, int64_t n, int64_t first, int64_t stride, int64_t running,
                         int64_t output)
{
    f->end = stride > 0 ? n : 0;
    f->next = stride > 0 ? first : 0;
    f->stride = stride;
    f->most_running = running;
    f->most_output = output;
    f->running = 0;
    f->count = (struct mb_bench_count){0};
    f->error[0] = '\0';
    for (int i = 0; i < MB_BENCH_TIMES; i++)
        f->times[i].n = 0;
    for (int32_t i = 0; i < f->n_rows; i++)
        f->row[i].used = false;
}

struct mb_source *mb_bench_feed_source(struct mb_bench_feed *f)
{
    return &f->source.base;
}

struct mb_sink *mb_bench_feed_sink(struct mb_bench_feed *f)
{
    return &f->sink.base;
}

void mb_bench_feed_count(const struct mb_bench_feed *f, struct mb_bench_count *out)
{
    *out = f->count;
}

const struct mb_times *mb_bench_feed_times(const struct mb_bench_feed *f, enum mb_bench_time which)
{
    return &f->times[which];
}

const char *mb_bench_feed_error(const struct mb_bench_feed *f)
{
    return f->error;
}
