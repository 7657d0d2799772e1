/* moebatch bench throughput and latency: a model's own engine, with requests made in memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench.h"
#include "app/bench_feed.h"
#include "app/bench_roof.h"
#include "app/setup.h"
#include "base/clock.h"
#include "base/log.h"

#define WARM_REQUESTS 8
#define WARM_TOKENS 4

/* One run of the engine, over all ranks; on rank 0. */
struct outcome {
    double seconds;
    struct mb_bench_count sum;
    double decode;               /* tokens/s while every request was decoding */
    double spent[MB_TIME_COUNT]; /* seconds, mean over ranks */
    struct mb_times times[MB_BENCH_TIMES];
};

struct load {
    struct mb_app app;
    bool latency;
    int repeats;
    struct mb_bench *out; /* rank 0; NULL elsewhere */
    struct mb_bench_work work;
    struct mb_bench_feed *feed;
    struct mb_limits limits; /* of all ranks together */
    struct mb_roof roof;
    int64_t leader; /* number of this rank among those that lead; -1: it does not */
    int64_t leaders;
    int64_t *batches;
    int n_batches;
};

/* ---------------------------------------------------------------- gathering */
static double percentile(const double *sorted, int64_t n, double p)
{
    double at = p * (double)(n - 1);
    int64_t i = (int64_t)at;

    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The times of all ranks to rank 0, sorted. Collective. */
static enum mb_status gather_times(struct load *l, const struct mb_times *mine, struct mb_times *all)
{
    struct mb_comm *comm = l->app.comm;
    uint64_t *off = calloc(2 * ((size_t)l->app.size + 1), sizeof *off);
    uint8_t *got = NULL;

    MB_TRY(mb_comm_agree(comm, off == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of ranks") : MB_OK,
                         "times"));
    for (int r = 1; r <= l->app.size; r++)
        off[r] = (uint64_t)mine->n * sizeof *mine->v;
    enum mb_status st =
        mb_comm_alltoallv(comm, (const uint8_t *)mine->v, off, &got, off + l->app.size + 1, "times");
    uint64_t bytes = st == MB_OK ? off[2 * l->app.size + 1] : 0;
    if (st == MB_OK && l->app.rank == 0) {
        *all = (struct mb_times){malloc(bytes + 1), (int64_t)(bytes / sizeof *all->v), 0};
        if (all->v == NULL)
            st = mb_error(MB_NO_MEMORY, "no memory for %lld times", (long long)all->n);
        else if (bytes > 0)
            memcpy(all->v, got, bytes);
        if (all->v != NULL)
            qsort(all->v, (size_t)all->n, sizeof *all->v, by_value);
    }
    mb_free(got);
    free(off);
    return mb_comm_agree(comm, st, "times");
}

static void outcome_fini(struct outcome *o)
{
    for (int i = 0; i < MB_BENCH_TIMES; i++)
        free(o->times[i].v);
    memset(o, 0, sizeof *o);
}

/* What a rank tells rank 0 of a run. Flat. */
struct told {
    struct mb_bench_count count;
    double spent[MB_TIME_COUNT];
};

static void add_told(struct outcome *o, const struct told *t, int ranks)
{
    const struct mb_bench_count *c = &t->count;

    o->sum.requests += c->requests;
    o->sum.errors += c->errors;
    o->sum.prompt_tokens += c->prompt_tokens;
    o->sum.output_tokens += c->output_tokens;
    o->sum.digest += c->digest;
    if (c->after > 0 && c->last > c->first)
        o->decode += (double)c->after / (c->last - c->first);
    for (int i = 0; i < MB_TIME_COUNT; i++)
        o->spent[i] += t->spent[i] / ranks;
}

/* Collective. */
static enum mb_status gather(struct load *l, const double *before, struct outcome *o)
{
    struct mb_counters now;
    struct told mine, *all = calloc((size_t)l->app.size, sizeof *all);

    MB_TRY(mb_comm_agree(l->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counters") : MB_OK,
                         "counters"));
    memset(&mine, 0, sizeof mine);
    mb_engine_counters(l->app.engine, &now);
    mb_bench_feed_count(l->feed, &mine.count);
    for (int i = 0; i < MB_TIME_COUNT; i++)
        mine.spent[i] = now.seconds[i] - before[i];
    enum mb_status st = mb_comm_allgather(l->app.comm, &mine, sizeof mine, all, "counters");
    for (int r = 0; r < l->app.size && st == MB_OK; r++)
        add_told(o, &all[r], l->app.size);
    free(all);
    for (int i = 0; i < MB_BENCH_TIMES && st == MB_OK; i++)
        st = gather_times(l, mb_bench_feed_times(l->feed, (enum mb_bench_time)i), &o->times[i]);
    return st;
}

/* ---------------------------------------------------------------- runs */
/* n requests, at most `running` at once on a leader, `output` tokens each (0: no limit). Collective. */
static enum mb_status run(struct load *l, int64_t n, int64_t running, int64_t output, struct outcome *o)
{
    struct mb_counters before;
    bool reads = l->leader >= 0 && (running == 0 || l->leader < running);
    int64_t stride = running > 0 && running < l->leaders ? running : l->leaders,
            each = (running + stride - 1) / stride;

    memset(o, 0, sizeof *o);
    mb_bench_feed_begin(l->feed, n, l->leader, reads ? stride : 0, running > 0 ? each : 0, output);
    mb_engine_counters(l->app.engine, &before);
    MB_TRY(mb_comm_barrier(l->app.comm, "the start of a run"));
    double t = mb_now();
    enum mb_status st =
        mb_engine_run(l->app.engine, mb_bench_feed_source(l->feed), mb_bench_feed_sink(l->feed));
    if (st != MB_OK && !mb_engine_agreed(l->app.engine))
        mb_comm_end(l->app.comm, st); /* the others may be waiting in an exchange */
    st = mb_comm_agree(l->app.comm, st, "the end of a run");
    o->seconds = mb_now() - t;
    if (st == MB_OK && mb_bench_feed_error(l->feed)[0] != '\0')
        st = mb_error(MB_LAYOUT, "%s", mb_bench_feed_error(l->feed));
    MB_TRY(mb_comm_agree(l->app.comm, st, "the requests of a run"));
    st = gather(l, before.seconds, o);
    if (st != MB_OK)
        outcome_fini(o);
    return st;
}

/* ---------------------------------------------------------------- bounds */
/* Sequences that run at once. */
static double at_once(const struct load *l)
{
    double most = (double)(l->latency ? l->app.conf->concurrency : l->leaders * l->app.plan->max_num_seqs);

    return most < (double)l->work.n ? most : (double)l->work.n;
}

static double bound_prefill(const struct load *l)
{
    double flops = 0;

    for (int64_t i = 0; i < l->work.n; i++)
        flops += mb_roof_prompt(&l->roof, l->work.prompt[i]);
    return mb_roof_seconds(&l->roof, flops, mb_roof_bytes(&l->roof, (double)l->work.prompts, 0));
}

/* Mean context while a request decodes: its prompt and half of what it generates. */
static double mean_context(const struct load *l)
{
    return ((double)l->work.prompts + (double)l->work.outputs / 2) / (double)l->work.n;
}

static double bound_job(const struct load *l)
{
    double b = at_once(l), steps = ceil((double)(l->work.outputs - l->work.n) / b);

    return bound_prefill(l) + steps * mb_roof_step(&l->roof, b, mean_context(l));
}

static const char on_job[] = "job: prefill + (output tokens - requests) / B decoding steps of B sequences at "
                             "their mean context; B: sequences at once";
static const char on_prefill[] = "prefill: max(FLOPs / f, bytes / r); FLOPs: 2 for each weight a token "
                                 "meets, attention and the last row's logits; bytes: the weights once; f, r: "
                                 "the best samples of multiplying and reading, of all ranks together";
static const char on_decode[] = "decode: B / max(FLOPs / f, bytes / r) of a step of B sequences; bytes: "
                                "dense weights of each copy, experts that B rows reach when routed evenly, "
                                "E (1 - (1 - k/E)^B), keys and values at the mean context";

/* ---------------------------------------------------------------- results */
struct series {
    double v[MB_LIMIT_REPEATS];
    int n;
};

static void put(struct series *s, double v)
{
    if (s->n < MB_LIMIT_REPEATS)
        s->v[s->n++] = v;
}

static void add(const struct load *l, const char *name, const char *unit, bool less, const struct series *s,
                double bound, const char *formula)
{
    if (l->out != NULL && s->n > 0)
        mb_bench_add(l->out, &(struct mb_measured){.name = name,
                                                   .unit = unit,
                                                   .less = less,
                                                   .samples = s->v,
                                                   .n = s->n,
                                                   .bound = isfinite(bound) ? bound : 0,
                                                   .formula = formula});
}

/* mean, p50, p90, p99 of one kind of time; the bound is that of the mean and the median. */
static void add_times(const struct load *l, const char *what, const struct outcome *o,
                      enum mb_bench_time which, double bound)
{
    static const struct {
        const char *name;
        double p;
    } wanted[] = {{"mean", -1}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct series s = {.n = 0};
        char name[64];
        for (int r = 0; r < l->repeats; r++) {
            const struct mb_times *t = &o[r].times[which];
            double sum = 0;
            for (int64_t j = 0; j < t->n && wanted[i].p < 0; j++)
                sum += t->v[j];
            if (t->n > 0)
                put(&s, wanted[i].p < 0 ? sum / (double)t->n : percentile(t->v, t->n, wanted[i].p));
        }
        snprintf(name, sizeof name, "%s/%s", what, wanted[i].name);
        add(l, name, "s", true, &s, i < 2 ? bound : 0, which == MB_BENCH_TTFT ? on_prefill : on_decode);
    }
}

static void add_spent(const struct load *l, const struct outcome *o)
{
    static const char *const names[MB_TIME_COUNT] = {"rest", "attention", "experts",
                                                     "head", "exchange",  "wait"};

    for (int i = 0; i < MB_TIME_COUNT; i++) {
        struct series s = {.n = 0};
        char name[64];
        for (int r = 0; r < l->repeats; r++)
            put(&s, o[r].spent[i]);
        snprintf(name, sizeof name, "time/%s", names[i]);
        add(l, name, "s", true, &s, 0, NULL);
    }
}

/* The job itself: o[repeats]. */
static void add_job(const struct load *l, const struct outcome *o)
{
    struct series seconds = {.n = 0}, output = {.n = 0}, total = {.n = 0}, requests = {.n = 0};
    double bound = bound_job(l), ctx = mean_context(l), step = mb_roof_step(&l->roof, at_once(l), ctx);
    double first = l->latency ? bound_prefill(l) / (double)l->work.n : 0;

    for (int r = 0; r < l->repeats; r++) {
        const struct mb_bench_count *c = &o[r].sum;
        put(&seconds, o[r].seconds);
        put(&output, (double)c->output_tokens / o[r].seconds);
        put(&total, (double)(c->prompt_tokens + c->output_tokens) / o[r].seconds);
        put(&requests, (double)c->requests / o[r].seconds);
    }
    add(l, "job", "s", true, &seconds, bound, on_job);
    add(l, "throughput/output", "tokens/s", false, &output, (double)l->work.outputs / bound, on_job);
    add(l, "throughput/total", "tokens/s", false, &total, (double)(l->work.prompts + l->work.outputs) / bound,
        on_job);
    add(l, "throughput/requests", "requests/s", false, &requests, (double)l->work.n / bound, on_job);
    add_times(l, "ttft", o, MB_BENCH_TTFT, first);
    add_times(l, "tpot", o, MB_BENCH_TPOT, step);
    add_times(l, "itl", o, MB_BENCH_ITL, step);
    add_times(l, "total", o, MB_BENCH_TOTAL, 0);
    add_spent(l, o);
}

static enum mb_status measure_prefill(struct load *l)
{
    struct series s = {.n = 0};

    for (int r = 0; r < l->repeats; r++) {
        struct outcome o;
        MB_TRY(run(l, l->work.n, 0, 1, &o));
        put(&s, (double)o.sum.prompt_tokens / o.seconds);
        outcome_fini(&o);
    }
    add(l, "prefill", "tokens/s", false, &s, (double)l->work.prompts / bound_prefill(l), on_prefill);
    return MB_OK;
}

/* Decoding at b sequences: the first b requests, all at once; counted from when all have their first token.
 */
static enum mb_status measure_batch(struct load *l, int64_t b)
{
    struct series s = {.n = 0};
    char name[64];

    for (int r = 0; r < l->repeats; r++) {
        struct outcome o;
        MB_TRY(run(l, b, b, 0, &o));
        if (o.decode > 0)
            put(&s, o.decode);
        outcome_fini(&o);
    }
    snprintf(name, sizeof name, "decode/B=%lld", (long long)b);
    add(l, name, "tokens/s", false, &s, (double)b / mb_roof_step(&l->roof, (double)b, mean_context(l)),
        on_decode);
    return MB_OK;
}

static enum mb_status measure_job(struct load *l)
{
    int64_t running = l->latency ? l->app.conf->concurrency : 0;
    struct outcome o[MB_LIMIT_REPEATS];
    enum mb_status st = MB_OK;
    const char *expected = l->app.conf->expect_digest;
    char hex[17];

    memset(o, 0, sizeof o);
    for (int r = 0; r < l->repeats && st == MB_OK; r++) {
        st = run(l, l->work.n, running, 0, &o[r]);
        if (st == MB_OK && o[r].sum.digest != o[0].sum.digest)
            st = mb_error(MB_CORRUPT,
                          "two runs of the same requests gave different tokens or log-probabilities");
        if (st == MB_OK && (o[r].sum.requests != l->work.n || o[r].sum.output_tokens != l->work.outputs))
            st = mb_error(MB_BUG, "%lld requests with %lld tokens came back of %lld with %lld",
                          (long long)o[r].sum.requests, (long long)o[r].sum.output_tokens,
                          (long long)l->work.n, (long long)l->work.outputs);
    }
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)o[0].sum.digest);
    mb_log_set_quiet(l->app.rank != 0); /* all see the same sums: one says it */
    if (st == MB_OK && expected[0] != '\0' && strcmp(hex, expected) != 0)
        st = mb_error(MB_CORRUPT,
                      "the digest is %s, not %s: tokens or log-probabilities are others than were expected",
                      hex, expected);
    mb_log_set_quiet(false);
    if (st == MB_OK && l->out != NULL) {
        mb_bench_fact(l->out, "digest", json_string(hex));
        add_job(l, o);
    }
    for (int r = 0; r < l->repeats; r++)
        outcome_fini(&o[r]);
    return st;
}

/* ---------------------------------------------------------------- the machines */
/* All at the same time, as they will work. Collective. */
static enum mb_status measure_limits(struct load *l)
{
    const struct mb_topo *t = l->app.topo;
    struct mb_limits mine, *all = calloc((size_t)l->app.size, sizeof *all);
    int32_t node = t->node_of[l->app.rank], ranks = t->node_first[node + 1] - t->node_first[node];

    MB_TRY(mb_comm_agree(l->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for limits") : MB_OK,
                         "limits"));
    enum mb_status st = mb_comm_barrier(l->app.comm, "measuring limits");
    if (st == MB_OK)
        st = mb_limits_measure(l->app.dev, &l->app.mem, (uint64_t)(l->app.conf->buffer / ranks), l->repeats,
                               &mine);
    st = mb_comm_agree(l->app.comm, st, "measuring limits");
    if (st == MB_OK)
        st = mb_comm_allgather(l->app.comm, &mine, sizeof mine, all, "limits");
    l->limits.repeats = l->repeats;
    for (int r = 0; r < l->app.size && st == MB_OK; r++) {
        for (int i = 0; i < MB_LIMIT_COUNT; i++)
            for (int j = 0; j < l->repeats; j++)
                l->limits.rate[i][j] += all[r].rate[i][j];
    }
    free(all);
    return st;
}

static void make_roof(struct load *l)
{
    const struct mb_layout *y = &l->app.plan->layout;
    enum mb_limit which;

    mb_roof_of(l->app.model, l->app.model->keep == MB_KEEP_INT8 ? 1 : (double)mb_dtype_size(l->app.path), (double)mb_dtype_size(l->app.kv), &l->roof);
    l->roof.flops = mb_limit_peak(&l->limits, l->app.path, &which);
    l->roof.read = mb_limit_best(&l->limits, MB_LIMIT_READ);
    l->roof.copies = (double)l->leaders * y->sp;
    l->roof.lanes = y->dp;
    if (l->out != NULL) {
        json_t *o = mb_roof_json(&l->roof);
        if (o != NULL)
            (void)json_object_set_new(o, "instruction", json_string(mb_limit_name(which)));
        mb_bench_fact(l->out, "roofline", o);
    }
}

static void add_facts(struct load *l)
{
    const struct mb_conf *c = l->app.conf;
    const struct mb_topo *t = l->app.topo;
    struct mb_device_info info;
    char layout[MB_LAYOUT_TEXT];
    int64_t threads = 0;

    for (int r = 0; r < l->app.size; r++)
        threads += t->threads[r];
    l->app.ops->info(l->app.dev, &info);
    mb_layout_text(&l->app.plan->layout, layout);
    mb_bench_fact(l->out, "host", json_string(t->local[0].host));
    mb_bench_fact(l->out, "cpu", json_string(t->local[0].cpu_model));
    mb_bench_fact(l->out, "nodes", json_integer(t->nodes));
    mb_bench_fact(l->out, "ranks", json_integer(l->app.size));
    mb_bench_fact(l->out, "threads", json_integer(threads));
    mb_bench_fact(l->out, "device", json_string(info.isa));
    mb_bench_fact(l->out, "layout", json_string(layout));
    mb_bench_fact(l->out, "model", json_string(c->random_weights[0] != '\0' ? c->random_weights : c->model));
    mb_bench_fact(l->out, "random_weights", json_boolean(c->random_weights[0] != '\0'));
    char kept[160];
    mb_model_kept(l->app.model, l->app.path, kept, sizeof kept);
    mb_bench_fact(l->out, "numeric_path", json_string(l->app.path_name));
    mb_bench_fact(l->out, "weights", json_string(kept));
    mb_bench_fact(l->out, "requests", json_integer(l->work.n));
    mb_bench_fact(l->out, "prompt_tokens", json_integer(l->work.prompts));
    mb_bench_fact(l->out, "output_tokens", json_integer(l->work.outputs));
    mb_bench_fact(l->out, "requests_left_out", json_integer(l->work.left_out));
    mb_bench_fact(l->out, "seed", json_integer((json_int_t)l->work.seed));
    mb_bench_fact(l->out, "concurrency", json_integer((json_int_t)at_once(l)));
    mb_bench_add_limits(l->out, &l->limits);
}

/* ---------------------------------------------------------------- the whole */
/* Leaders are numbered by lane and batch. */
static void find_leader(struct load *l)
{
    const struct mb_layout *y = &l->app.plan->layout;
    struct mb_place at;

    mb_layout_place(y, l->app.topo->index_of[l->app.rank], &at);
    l->leaders = mb_layout_leaders(y);
    l->leader = mb_place_leads(&at) ? (int64_t)at.lane * y->adp + at.a : -1;
}

static enum mb_status prepare(struct load *l)
{
    const struct mb_conf *c = l->app.conf;

    MB_TRY(mb_app_plan(&l->app));
    MB_TRY(mb_app_device(&l->app));
    MB_TRY(mb_bench_work_create(&l->app, l->latency ? 8 : 64, &l->work));
    enum mb_status st =
        l->app.rank == 0 ? mb_bench_create(l->latency ? "latency" : "throughput", &l->out) : MB_OK;
    if (st == MB_OK)
        st = mb_bench_feed_create(&l->work, &l->app.mem, &l->feed);
    if (st == MB_OK)
        st = mb_bench_list(c->decode_batches, "--decode-batches", 1, 1 << 20, &l->batches, &l->n_batches);
    MB_TRY(mb_comm_agree(l->app.comm, st, "preparing a benchmark"));
    mb_log_set_quiet(false);
    find_leader(l);
    MB_TRY(measure_limits(l));
    if (l->out != NULL)
        add_facts(l);
    make_roof(l);
    double t = mb_now();
    MB_TRY(mb_app_engine(&l->app, NULL, NULL));
    struct series s = {.v = {mb_now() - t}, .n = 1};
    add(l, "load", "s", true, &s, 0, NULL);
    return MB_OK;
}

static enum mb_status measure(struct load *l)
{
    struct outcome warm;
    int64_t most = l->leaders * l->app.plan->max_num_seqs;

    MB_TRY(run(l, l->work.n < WARM_REQUESTS * l->leaders ? l->work.n : WARM_REQUESTS * l->leaders, 0,
               WARM_TOKENS, &warm));
    outcome_fini(&warm);
    MB_TRY(measure_job(l));
    if (!l->latency)
        MB_TRY(measure_prefill(l));
    for (int i = 0; i < l->n_batches && !l->latency; i++) {
        if (l->batches[i] <= l->work.n && l->batches[i] <= most)
            MB_TRY(measure_batch(l, l->batches[i]));
    }
    enum mb_status st =
        l->out != NULL ? mb_bench_print(l->out, stdout, mb_bench_form_of(l->app.conf), l->app.conf->output)
                       : MB_OK;
    return mb_comm_agree(l->app.comm, st, "printing results");
}

enum mb_status mb_bench_load(const struct mb_conf *c, int *argc, char ***argv, bool latency)
{
    struct load *l = calloc(1, sizeof *l);

    if (l == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a benchmark");
    l->latency = latency;
    l->repeats = (int)c->repeats;
    enum mb_status st = mb_app_start(&l->app, c, argc, argv);
    if (st == MB_OK)
        st = prepare(l);
    if (st == MB_OK)
        st = measure(l);
    mb_app_end_device(&l->app);
    mb_bench_feed_destroy(l->feed);
    mb_bench_work_fini(&l->work);
    mb_bench_destroy(l->out);
    free(l->batches);
    mb_app_end(&l->app);
    free(l);
    return st;
}
