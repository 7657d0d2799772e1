/* moebatch bench throughput and latency: a model's own engine, with requests made in memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench_load_impl.h"
#include "base/clock.h"
#include "base/energy.h"
#include "base/log.h"

#define WARM_REQUESTS 8
#define WARM_TOKENS 4

/* ---------------------------------------------------------------- gathering */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The times of all ranks to rank 0, sorted. Collective. */
static enum mb_status gather_times(struct mb_load *l, const struct mb_times *mine, struct mb_times *all)
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

static void outcome_fini(struct mb_outcome *o)
{
    for (int i = 0; i < MB_BENCH_TIMES; i++)
        free(o->times[i].v);
    memset(o, 0, sizeof *o);
}

/* What a rank tells rank 0 of a run. Flat. */
struct told {
    struct mb_bench_count count;
    double spent[MB_TIME_COUNT];
    double joules; /* of the node, from its first rank; negative: not known */
};

static void add_told(struct mb_outcome *o, const struct told *t, int ranks)
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
    o->joules = o->joules < 0 || t->joules < 0 ? -1 : o->joules + t->joules;
}

/* Collective. */
static enum mb_status gather(struct mb_load *l, const double *before, double joules, struct mb_outcome *o)
{
    struct mb_counters now;
    struct told mine, *all = calloc((size_t)l->app.size, sizeof *all);

    MB_TRY(mb_comm_agree(l->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counters") : MB_OK,
                         "counters"));
    memset(&mine, 0, sizeof mine);
    mine.joules = joules;
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
/* Which reads the machine's counters. */
static bool first_of_node(const struct mb_load *l)
{
    const struct mb_topo *t = l->app.topo;

    return t->order[t->node_first[t->node_of[l->app.rank]]] == l->app.rank;
}

/* n requests, at most `running` at once on a leader, `output` tokens each (0: no limit). Collective. */
static enum mb_status run(struct mb_load *l, int64_t n, int64_t running, int64_t output, struct mb_outcome *o)
{
    struct mb_counters before;
    struct mb_energy from = {.n = 0}, to = {.n = 0};
    bool first = first_of_node(l);
    bool reads = l->leader >= 0 && (running == 0 || l->leader < running);
    int64_t stride = running > 0 && running < l->leaders ? running : l->leaders,
            each = (running + stride - 1) / stride;

    memset(o, 0, sizeof *o);
    mb_bench_feed_begin(l->feed, n, l->leader, reads ? stride : 0, running > 0 ? each : 0, output);
    mb_engine_counters(l->app.engine, &before);
    MB_TRY(mb_comm_barrier(l->app.comm, "the start of a run"));
    if (first)
        mb_energy_read(MB_ENERGY_ROOT, &from);
    double t = mb_now();
    enum mb_status st =
        mb_engine_run(l->app.engine, mb_bench_feed_source(l->feed), mb_bench_feed_sink(l->feed));
    if (st != MB_OK && !mb_engine_agreed(l->app.engine))
        mb_comm_end(l->app.comm, st); /* the others may be waiting in an exchange */
    st = mb_comm_agree(l->app.comm, st, "the end of a run");
    o->seconds = mb_now() - t;
    if (first)
        mb_energy_read(MB_ENERGY_ROOT, &to);
    if (st == MB_OK && mb_bench_feed_error(l->feed)[0] != '\0')
        st = mb_error(MB_LAYOUT, "%s", mb_bench_feed_error(l->feed));
    MB_TRY(mb_comm_agree(l->app.comm, st, "the requests of a run"));
    st = gather(l, before.seconds, first ? mb_energy_between(&from, &to) : 0, o);
    if (st != MB_OK)
        outcome_fini(o);
    return st;
}

static enum mb_status measure_prefill(struct mb_load *l)
{
    struct mb_series s = {.n = 0};

    for (int r = 0; r < l->repeats; r++) {
        struct mb_outcome o;
        MB_TRY(run(l, l->work.n, 0, 1, &o));
        mb_series_put(&s, (double)o.sum.prompt_tokens / o.seconds);
        outcome_fini(&o);
    }
    mb_load_add_prefill(l, &s);
    return MB_OK;
}

/* Decoding at b sequences: the first b requests, all at once; counted from when all have their first token.
 */
static enum mb_status measure_batch(struct mb_load *l, int64_t b)
{
    struct mb_series s = {.n = 0};

    for (int r = 0; r < l->repeats; r++) {
        struct mb_outcome o;
        MB_TRY(run(l, b, b, 0, &o));
        if (o.decode > 0)
            mb_series_put(&s, o.decode);
        outcome_fini(&o);
    }
    mb_load_add_decode(l, b, &s);
    return MB_OK;
}

static enum mb_status measure_job(struct mb_load *l)
{
    int64_t running = l->latency ? l->app.conf->concurrency : 0;
    struct mb_outcome o[MB_LIMIT_REPEATS];
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
        mb_bench_fact(l->out, l->prefix[0] != '\0' ? "against_digest" : "digest", json_string(hex));
        mb_load_add_job(l, o);
    }
    for (int r = 0; r < l->repeats; r++)
        outcome_fini(&o[r]);
    return st;
}

/* ---------------------------------------------------------------- the machines */
/* All at the same time, as they will work. Collective. */
static enum mb_status measure_limits(struct mb_load *l)
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

/* ---------------------------------------------------------------- the whole */
/* Leaders are numbered by lane and batch. */
static void find_leader(struct mb_load *l)
{
    const struct mb_layout *y = &l->app.plan->layout;
    struct mb_place at;

    mb_layout_place(y, l->app.topo->index_of[l->app.rank], &at);
    l->leaders = mb_layout_leaders(y);
    l->leader = mb_place_leads(&at) ? (int64_t)at.lane * y->adp + at.a : -1;
}

/* Lists and results, which are made once; and the limits. Collective. */
static enum mb_status prepare_first(struct mb_load *l)
{
    const struct mb_conf *c = l->app.conf;
    enum mb_status st =
        l->app.rank == 0 ? mb_bench_create(l->rule != NULL ? "run" : l->latency ? "latency" : "throughput", &l->out) : MB_OK;

    if (st == MB_OK)
        st = mb_bench_list(c->decode_batches, "--decode-batches", 1, 1 << 20, &l->batches, &l->n_batches);
    MB_TRY(mb_comm_agree(l->app.comm, st, "preparing a benchmark"));
    mb_log_set_quiet(false);
    find_leader(l);
    MB_TRY(measure_limits(l));
    if (l->out != NULL)
        mb_load_add_facts(l);
    return MB_OK;
}

/* A model from its description to its engine. Collective. */
enum mb_status mb_load_prepare(struct mb_load *l)
{
    bool first = l->prefix[0] == '\0';

    mb_mem_restart(&l->app.mem);
    MB_TRY(mb_app_plan(&l->app));
    MB_TRY(mb_app_device(&l->app));
    MB_TRY(mb_bench_work_create(&l->app, l->latency ? 8 : 64, &l->work));
    MB_TRY(mb_comm_agree(l->app.comm, mb_bench_feed_create(&l->work, &l->app.mem, &l->feed),
                         "preparing a benchmark"));
    if (first) {
        MB_TRY(prepare_first(l));
    } else {
        find_leader(l);
        if (l->out != NULL)
            mb_load_add_other_facts(l);
    }
    mb_load_roof(l);
    double t = mb_now();
    MB_TRY(mb_app_engine(&l->app, NULL, NULL));
    struct mb_series s = {.v = {mb_now() - t}, .n = 1};
    mb_load_add(l, "load", "s", true, &s, 0, NULL);
    return MB_OK;
}

/* Most memory of a rank, and of all together. Collective. */
static enum mb_status measure_memory(struct mb_load *l)
{
    int64_t mine = 0, sum = 0, most = 0, *all = calloc((size_t)l->app.size, sizeof *all);
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of ranks") : MB_OK;

    for (int i = 0; i < MB_MEM_COUNT; i++)
        mine += l->app.mem.peak[i];
    st = mb_comm_agree(l->app.comm, st, "memory");
    if (st == MB_OK)
        st = mb_comm_allgather(l->app.comm, &mine, sizeof mine, all, "memory");
    for (int r = 0; r < l->app.size && st == MB_OK; r++) {
        sum += all[r];
        most = all[r] > most ? all[r] : most;
    }
    free(all);
    MB_TRY(st);
    mb_load_add(l, "memory/rank", "byte", true, &(struct mb_series){{(double)most}, 1}, 0, NULL);
    mb_load_add(l, "memory/all", "byte", true, &(struct mb_series){{(double)sum}, 1}, 0, NULL);
    return MB_OK;
}

enum mb_status mb_load_measure(struct mb_load *l)
{
    struct mb_outcome warm;
    int64_t most = l->leaders * l->app.plan->max_num_seqs;

    MB_TRY(run(l, l->work.n < WARM_REQUESTS * l->leaders ? l->work.n : WARM_REQUESTS * l->leaders, 0,
               WARM_TOKENS, &warm));
    outcome_fini(&warm);
    MB_TRY(measure_job(l));
    bool parts = !l->latency && l->rule == NULL;
    if (parts)
        MB_TRY(measure_prefill(l));
    for (int i = 0; i < l->n_batches && parts; i++) {
        if (l->batches[i] <= l->work.n && l->batches[i] <= most)
            MB_TRY(measure_batch(l, l->batches[i]));
    }
    return measure_memory(l);
}

/* What one model's engine, device and requests are made of goes. Local. */
void mb_load_put_away(struct mb_load *l)
{
    mb_app_end_device(&l->app);
    mb_bench_feed_destroy(l->feed);
    l->feed = NULL;
    mb_bench_work_fini(&l->work);
}

static enum mb_status bench(const struct mb_conf *c, int *argc, char ***argv, bool latency, const struct mb_bench_rule *rule)
{
    struct mb_load *l = calloc(1, sizeof *l);

    if (l == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a benchmark");
    l->latency = latency;
    l->rule = rule;
    l->prefix = "";
    l->repeats = (int)c->repeats;
    enum mb_status st = mb_app_start(&l->app, c, argc, argv);
    if (st == MB_OK)
        st = mb_load_check_other(l);
    if (st == MB_OK)
        st = mb_load_prepare(l);
    if (st == MB_OK)
        st = mb_load_measure(l);
    if (st == MB_OK && c->against[0] != '\0')
        st = mb_load_other(l);
    if (st == MB_OK) {
        st = l->out != NULL ? mb_bench_print(l->out, stdout, mb_bench_form_of(c), c->output) : MB_OK;
        st = mb_comm_agree(l->app.comm, st, "printing results");
    }
    mb_load_put_away(l);
    mb_bench_destroy(l->out);
    free(l->batches);
    mb_app_end(&l->app);
    free(l);
    return st;
}

enum mb_status mb_bench_load(const struct mb_conf *c, int *argc, char ***argv, bool latency)
{
    return bench(c, argc, argv, latency, NULL);
}

enum mb_status mb_bench_load_rule(const struct mb_conf *c, int *argc, char ***argv, const struct mb_bench_rule *rule)
{
    return bench(c, argc, argv, false, rule);
}
