/* What the results say beside the rows: provenance, metrics, physical counts. Gathered from all ranks, kept by rank 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "app/job.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "config.h"
#include "io/counts.h"

/* One rank's share, flat. */
struct report_msg {
    struct mb_tick_msg tick;
    struct mb_counters counters;
    int64_t expert_bytes, peak_bytes, grown_bytes, cat_peak[MB_MEM_COUNT];
    double load_seconds;
    char host[64];
};

static void iso_time(double utc, char out[32])
{
    time_t t = (time_t)utc;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static char *joined_args(const struct mb_job_state *j)
{
    struct mb_bytes b = {0};
    enum mb_status st = MB_OK;
    for (int i = 0; i < j->argc && st == MB_OK; i++) {
        st = mb_bytes_put(&b, " ", i > 0);
        if (st == MB_OK)
            st = mb_bytes_put(&b, j->argv[i], strlen(j->argv[i]));
    }
    if (st == MB_OK)
        st = mb_bytes_put(&b, "", 1);
    if (st != MB_OK)
        mb_bytes_fini(&b);
    return (char *)b.data;
}

/* Takes a malloc'd text. */
static enum mb_status put_owned(struct mb_extras *x, const char *path, char *text)
{
    enum mb_status st = text == NULL ? mb_error(MB_NO_MEMORY, "no memory for %s", path) : mb_extras_text(x, path, text);
    free(text);
    return st;
}

static enum mb_status software(struct mb_extras *x, const struct mb_job_state *j)
{
    char text[256], h5[32];

    MB_TRY(mb_extras_text(x, "/provenance/version", PACKAGE_VERSION));
    MB_TRY(mb_extras_text(x, "/provenance/commit", MB_COMMIT));
    mb_h5_version(h5, sizeof h5);
    snprintf(text, sizeof text, "%s; %s", mb_comm_library(j->app.comm), h5);
    return mb_extras_text(x, "/provenance/libraries", text);
}

static enum mb_status model_files(struct mb_extras *x, const struct mb_job_state *j)
{
    const struct mb_model *m = j->app.model;
    char hex[33];
    uint64_t n = (uint64_t)m->n_files;

    mb_hash128_hex(j->app.model_id, hex);
    MB_TRY(mb_extras_text(x, "/provenance/model", m->dir));
    MB_TRY(mb_extras_text(x, "/provenance/model_hash", hex));
    MB_TRY(mb_extras_texts(x, "/provenance/model_files", n, (const char *const *)m->files));
    return mb_extras_put(x, "/provenance/model_file_bytes", &n, m->file_bytes);
}

/* Everything the job was made from: name, bytes, hash. */
static enum mb_status files(struct mb_extras *x, const struct mb_files *f)
{
    uint64_t n = (uint64_t)f->n, *bytes = calloc((size_t)n + 1, sizeof *bytes);
    char (*hex)[33] = calloc((size_t)n + 1, sizeof *hex);
    const char **name = calloc((size_t)n + 1, sizeof *name), **hash = calloc((size_t)n + 1, sizeof *hash);
    enum mb_status st = bytes == NULL || hex == NULL || name == NULL || hash == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory for a list of files") : MB_OK;

    for (uint64_t i = 0; i < n && st == MB_OK; i++) {
        if (f->v[i].known)
            mb_hash128_hex(f->v[i].hash, hex[i]);
        name[i] = f->v[i].name;
        hash[i] = hex[i];
        bytes[i] = f->v[i].bytes;
    }
    if (st == MB_OK)
        st = mb_extras_texts(x, "/provenance/files", n, name);
    if (st == MB_OK)
        st = mb_extras_put(x, "/provenance/file_bytes", &n, bytes);
    if (st == MB_OK)
        st = mb_extras_texts(x, "/provenance/file_hashes", n, hash);
    free(bytes);
    free(hex);
    free(name);
    free(hash);
    return st;
}

static enum mb_status slurm(struct mb_extras *x)
{
    static const char *const names[] = {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT",
                                        "SLURM_JOB_NODELIST", "SLURM_JOB_PARTITION"};
    char text[512] = "";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *v = getenv(names[i]);
        if (v != NULL)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s\n", names[i], v);
    }
    return mb_extras_text(x, "/provenance/slurm", text);
}

static enum mb_status hosts(struct mb_extras *x, const struct mb_job_state *j)
{
    const struct mb_topo *t = j->app.topo;
    uint64_t n = (uint64_t)t->ranks;
    const char **name = calloc(n, sizeof *name), **cpu = calloc(n, sizeof *cpu);
    enum mb_status st = name == NULL || cpu == NULL ? mb_error(MB_NO_MEMORY, "no memory for the table of hosts") : MB_OK;

    for (uint64_t r = 0; r < n && st == MB_OK; r++) {
        name[r] = t->local[r].host;
        cpu[r] = t->local[r].cpu_model;
    }
    if (st == MB_OK)
        st = mb_extras_texts(x, "/provenance/host", n, name);
    if (st == MB_OK)
        st = mb_extras_texts(x, "/provenance/cpu", n, cpu);
    if (st == MB_OK)
        st = mb_extras_put(x, "/provenance/threads", &n, t->threads);
    free(name);
    free(cpu);
    return st;
}

static enum mb_status provenance(struct mb_extras *x, const struct mb_job_state *j)
{
    char when[32];
    double now = mb_utc();

    MB_TRY(software(x, j));
    MB_TRY(put_owned(x, "/provenance/command", joined_args(j)));
    MB_TRY(put_owned(x, "/provenance/deck", mb_conf_deck(j->app.conf)));
    MB_TRY(put_owned(x, "/provenance/plan", mb_plan_json(j->app.plan)));
    MB_TRY(put_owned(x, "/provenance/incarnations", mb_rundir_incarnations(j->dir->dir)));
    MB_TRY(mb_order_events(j->dir->dir, x));
    MB_TRY(mb_extras_text(x, "/provenance/numeric_path", j->app.path_name));
    MB_TRY(mb_extras_text(x, "/provenance/hwloc", j->app.hwloc_xml));
    iso_time(now - (mb_now() - j->t_start), when);
    MB_TRY(mb_extras_text(x, "/provenance/started", when));
    iso_time(now, when);
    MB_TRY(mb_extras_text(x, "/provenance/finished", when));
    MB_TRY(model_files(x, j));
    MB_TRY(files(x, &j->identity.files));
    MB_TRY(slurm(x));
    return hosts(x, j);
}

enum mb_status mb_job_save_provenance(const struct mb_job_state *j)
{
    struct mb_extras x = {0};
    char *path = mb_path_join(j->dir->run, MB_RUNDIR_EXTRAS);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : provenance(&x, j);

    if (st == MB_OK)
        st = mb_extras_save(&x, path, 0);
    mb_extras_fini(&x);
    free(path);
    return st;
}

/* [ranks][2][link classes]: dispatch, combine. Rank by rank of world. */
static enum mb_status traffic(struct mb_extras *x, const struct report_msg *all, uint64_t n)
{
    static const char *const links[MB_LINK_COUNT] = {"self", "shm", "intra", "inter"};
    uint64_t dims[3] = {n, 2, MB_LINK_COUNT}, l = MB_LINK_COUNT;
    int64_t *bytes = calloc(n * 2 * MB_LINK_COUNT, sizeof *bytes), *messages = calloc(n * 2 * MB_LINK_COUNT, sizeof *messages);
    enum mb_status st = bytes == NULL || messages == NULL ? mb_error(MB_NO_MEMORY, "no memory for traffic counts") : MB_OK;

    for (uint64_t r = 0; r < n && st == MB_OK; r++) {
        size_t size = sizeof all->counters.dispatch_bytes;
        memcpy(bytes + r * 2 * MB_LINK_COUNT, all[r].counters.dispatch_bytes, size);
        memcpy(bytes + (r * 2 + 1) * MB_LINK_COUNT, all[r].counters.combine_bytes, size);
        memcpy(messages + r * 2 * MB_LINK_COUNT, all[r].counters.dispatch_messages, size);
        memcpy(messages + (r * 2 + 1) * MB_LINK_COUNT, all[r].counters.combine_messages, size);
    }
    if (st == MB_OK)
        st = mb_extras_put(x, "/physical/exchange_bytes", dims, bytes);
    if (st == MB_OK)
        st = mb_extras_put(x, "/physical/exchange_messages", dims, messages);
    if (st == MB_OK)
        st = mb_extras_texts(x, "/physical/links", l, links);
    free(bytes);
    free(messages);
    return st;
}

#define COLUMN(name, member) {name, offsetof(struct report_msg, member)}
static enum mb_status per_rank(struct mb_extras *x, const struct report_msg *all, uint64_t n)
{
    static const struct {
        const char *path;
        size_t at;
    } cols[] = {COLUMN("/physical/rows", counters.expert_rows), COLUMN("/physical/expert_bytes", expert_bytes),
                COLUMN("/physical/group_bytes", counters.group_bytes), COLUMN("/physical/group_messages", counters.group_messages),
                COLUMN("/physical/cache_hits", counters.fetch.hits), COLUMN("/physical/fetched_from_ranks", counters.fetch.peer),
                COLUMN("/physical/fetched_from_files", counters.fetch.file), COLUMN("/physical/prefetched", counters.fetch.announced),
                COLUMN("/physical/fetched_bytes", counters.fetch.bytes), COLUMN("/physical/rows_kept", counters.fetch.rows_kept),
                COLUMN("/metrics/attended_rows", counters.rows), COLUMN("/metrics/steps", counters.steps),
                COLUMN("/metrics/idle_steps", counters.idle_steps),
                COLUMN("/metrics/cached_rows", counters.reuse.cached), COLUMN("/metrics/recomputed_rows", counters.reuse.again),
                COLUMN("/metrics/preempted", counters.reuse.preempted),
                COLUMN("/metrics/guessed_rows", counters.reuse.drafts.made), COLUMN("/metrics/right_guesses", counters.reuse.drafts.right),
                COLUMN("/physical/attention_flops", counters.attention_flops), COLUMN("/physical/kv_bytes", counters.kv_bytes),
                COLUMN("/metrics/pipeline_ticks", counters.pipeline_ticks), COLUMN("/metrics/pipeline_steps", counters.pipeline_steps),
                COLUMN("/metrics/empty_steps", counters.empty_steps), COLUMN("/metrics/peak_bytes", peak_bytes),
                COLUMN("/metrics/resident_growth_bytes", grown_bytes),
                COLUMN("/metrics/weight_bytes_read", counters.weight_bytes_read),
                COLUMN("/metrics/weight_bytes_received", counters.weight_bytes_received)};
    int64_t *v = calloc(n, sizeof *v);
    enum mb_status st = v == NULL ? mb_error(MB_NO_MEMORY, "no memory for counts of ranks") : MB_OK;

    for (size_t c = 0; c < sizeof cols / sizeof cols[0] && st == MB_OK; c++) {
        for (uint64_t r = 0; r < n; r++)
            memcpy(&v[r], (const char *)&all[r] + cols[c].at, sizeof v[r]);
        st = mb_extras_put(x, cols[c].path, &n, v);
    }
    free(v);
    return st;
}

/* Peak bytes of each category on each rank, [ranks][categories]. */
static enum mb_status memory(struct mb_extras *x, const struct report_msg *all, uint64_t n)
{
    uint64_t dims[2] = {n, MB_MEM_COUNT}, c = MB_MEM_COUNT;
    const char *names[MB_MEM_COUNT];
    int64_t *v = calloc(n * MB_MEM_COUNT, sizeof *v);
    enum mb_status st = v == NULL ? mb_error(MB_NO_MEMORY, "no memory for counts of ranks") : MB_OK;

    for (int i = 0; i < MB_MEM_COUNT; i++)
        names[i] = mb_mem_name((enum mb_mem_cat)i);
    for (uint64_t r = 0; r < n && st == MB_OK; r++)
        memcpy(v + r * MB_MEM_COUNT, all[r].cat_peak, sizeof all[r].cat_peak);
    if (st == MB_OK)
        st = mb_extras_put(x, "/metrics/memory_peak", dims, v);
    if (st == MB_OK)
        st = mb_extras_texts(x, "/metrics/memory_categories", c, names);
    free(v);
    return st;
}

/* What the time of each rank went into, [ranks][parts]: all but assembly, which is not over, and what was before the model. */
static enum mb_status times(struct mb_extras *x, const struct report_msg *all, uint64_t n)
{
    static const char *const names[] = {"attention", "experts", "head", "exchange", "waiting", "rest", "load"};
    static const int part[] = {MB_TIME_ATTENTION, MB_TIME_EXPERTS, MB_TIME_HEAD, MB_TIME_EXCHANGE, MB_TIME_WAIT, MB_TIME_REST};
    uint64_t p = sizeof names / sizeof *names, dims[2] = {n, p};
    double *v = calloc(n * p, sizeof *v);
    enum mb_status st = v == NULL ? mb_error(MB_NO_MEMORY, "no memory for times of ranks") : MB_OK;

    for (uint64_t r = 0; r < n && st == MB_OK; r++) {
        for (uint64_t i = 0; i < p - 1; i++)
            v[r * p + i] = all[r].counters.seconds[part[i]];
        v[r * p + p - 1] = all[r].load_seconds;
    }
    if (st == MB_OK)
        st = mb_extras_put(x, "/metrics/seconds", dims, v);
    if (st == MB_OK)
        st = mb_extras_texts(x, "/metrics/seconds_columns", p, names);
    free(v);
    return st;
}

static enum mb_status usage(struct mb_extras *x, const struct mb_job_state *j, const int64_t *sum)
{
    uint64_t dims[2] = {(uint64_t)j->app.model->moe_layers, (uint64_t)j->app.model->router.experts};

    if (sum == NULL)
        return MB_OK;
    return mb_extras_put(x, "/metrics/expert_usage", dims, sum);
}

/* Rows that each rank's experts were sent, [ranks][MoE layers]. Collective. */
static enum mb_status layer_rows(struct mb_job_state *j)
{
    uint64_t dims[2] = {(uint64_t)j->app.size, (uint64_t)j->app.model->moe_layers};
    const int64_t *mine = mb_engine_layer_rows(j->app.engine);

    if (mine == NULL)
        return MB_OK;
    int64_t *all = malloc(sizeof *all * (size_t)(dims[0] * dims[1]));
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for the rows of %d ranks", j->app.size) : MB_OK;
    st = mb_comm_agree(j->app.comm, st, "rows of ranks");
    if (st == MB_OK)
        st = mb_comm_allgather(j->app.comm, mine, sizeof *mine * dims[1], all, "rows of ranks");
    if (st == MB_OK && j->app.rank == 0)
        st = mb_extras_put(&j->extras, "/physical/layer_rows", dims, all);
    free(all);
    return mb_comm_agree(j->app.comm, st, "rows of ranks");
}

/* Under ZeRO-inference, [MoE layers][counts]: what was needed of each layer, where it came from, and which rows then stayed. */
static enum mb_status on_demand(struct mb_extras *x, const struct mb_job_state *j, const int64_t *sum)
{
    static const char *const names[MB_ENGINE_ZERO_COUNTS] = {"there", "from ranks", "from files", "announced", "rows kept", "rows sent"};
    uint64_t n = MB_ENGINE_ZERO_COUNTS, dims[2] = {(uint64_t)j->app.plan->placement->moe_layers, n};

    MB_TRY(mb_extras_put(x, "/physical/experts_on_demand", dims, sum));
    return mb_extras_texts(x, "/physical/experts_on_demand_columns", n, names);
}

static void fill_msg(const struct mb_job_state *j, struct report_msg *m)
{
    memset(m, 0, sizeof *m);
    if (j->app.engine != NULL) {
        mb_job_own_tick(j, &m->tick);
        mb_engine_counters(j->app.engine, &m->counters);
        m->expert_bytes = mb_engine_expert_bytes(j->app.engine);
    }
    for (int i = 0; i < MB_MEM_COUNT; i++) {
        m->cat_peak[i] = j->app.mem.peak[i];
        m->peak_bytes += m->cat_peak[i];
    }
    int64_t now, most;
    mb_mem_resident(&now, &most);
    m->grown_bytes = most - j->resident;
    m->load_seconds = j->load_seconds;
}

static void add_counters(struct mb_counters *sum, const struct mb_counters *c)
{
    int64_t *to = (int64_t *)sum;
    const int64_t *v = (const int64_t *)c;

    for (size_t i = 0; i < offsetof(struct mb_counters, seconds) / sizeof(int64_t); i++)
        to[i] += v[i];
    for (int t = 0; t < MB_TIME_COUNT; t++)
        sum->seconds[t] += c->seconds[t];
    sum->seconds_stage_wait += c->seconds_stage_wait;
    sum->seconds_done += c->seconds_done;
    sum->seconds_run += c->seconds_run;
    sum->seconds_tail += c->seconds_tail;
}

/* What rank 0 reports at the end, from n ranks' shares. */
static void sum_up(struct mb_job_state *j, const struct report_msg *all, int n)
{
    struct mb_report_end *e = &j->end;

    *e = (struct mb_report_end){.ranks = n, .load_seconds = j->load_seconds, .lanes = j->app.plan->layout.dp,
                                .stages = j->app.plan->layout.pp, .leaders = mb_layout_leaders(&j->app.plan->layout)};
    for (int r = 0; r < n; r++) {
        const struct report_msg *m = &all[r];
        add_counters(&e->sum, &m->counters);
        j->ticks[r] = m->tick;
        memcpy(j->spent[r], m->counters.seconds, sizeof m->counters.seconds);
        j->spent[r][MB_SPENT_LOAD] = m->load_seconds;
        e->peak_bytes = m->peak_bytes > e->peak_bytes ? m->peak_bytes : e->peak_bytes;
        e->grown_bytes = m->grown_bytes > e->grown_bytes ? m->grown_bytes : e->grown_bytes;
    }
    e->spent = (const double (*)[MB_SPENT_COUNT])j->spent;
}

enum mb_status mb_job_last_counts(struct mb_job_state *j)
{
    struct report_msg mine, *all = calloc((size_t)j->app.size, sizeof *all);
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counters of %d ranks", j->app.size) : MB_OK;

    st = mb_comm_agree(j->app.comm, st, "the last counters");
    fill_msg(j, &mine);
    if (st == MB_OK)
        st = mb_comm_allgather(j->app.comm, &mine, sizeof mine, all, "the last counters");
    for (int r = 0; r < j->app.size && st == MB_OK; r++)
        j->wrote |= all[r].tick.written > 0;
    if (st == MB_OK && j->app.rank == 0 && j->ticks != NULL)
        sum_up(j, all, j->app.size);
    free(all);
    return st;
}

void mb_job_own_counts(struct mb_job_state *j)
{
    struct report_msg mine;

    fill_msg(j, &mine);
    if (j->app.rank == 0 && j->ticks != NULL)
        sum_up(j, &mine, 1);
}

/* Sums over ranks, of which some may have no cache. Collective. */
static enum mb_status sum_on_demand(struct mb_job_state *j)
{
    const int64_t *own = mb_engine_zero(j->app.engine);
    int32_t cells = j->app.plan->placement->moe_layers * MB_ENGINE_ZERO_COUNTS;
    int64_t *sum = NULL;
    enum mb_status st = MB_OK;

    if (j->app.plan->cache == NULL)
        return MB_OK;
    sum = calloc((size_t)cells + 1, sizeof *sum);
    if (sum == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for counts of experts");
    else if (own != NULL)
        memcpy(sum, own, (size_t)cells * sizeof *sum);
    st = mb_comm_agree(j->app.comm, st, "counts of experts");
    if (st == MB_OK)
        st = mb_comm_sum_i64(j->app.comm, sum, cells, "counts of experts");
    if (st == MB_OK && j->app.rank == 0)
        st = on_demand(&j->extras, j, sum);
    free(sum);
    return mb_comm_agree(j->app.comm, st, "counts of experts");
}

/* This rank's counters alone, as one of one rank. */
static enum mb_status own_extras(const struct mb_job_state *j, struct mb_extras *x)
{
    struct report_msg mine;
    const int64_t *rows = mb_engine_layer_rows(j->app.engine), *zero = mb_engine_zero(j->app.engine);
    uint64_t dims[2] = {1, (uint64_t)j->app.model->moe_layers};

    fill_msg(j, &mine);
    MB_TRY(per_rank(x, &mine, 1));
    MB_TRY(memory(x, &mine, 1));
    MB_TRY(traffic(x, &mine, 1));
    MB_TRY(times(x, &mine, 1));
    MB_TRY(usage(x, j, mb_engine_usage(j->app.engine)));
    if (rows != NULL)
        MB_TRY(mb_extras_put(x, "/physical/layer_rows", dims, rows));
    return j->app.plan->cache != NULL && zero != NULL ? on_demand(x, j, zero) : MB_OK;
}

void mb_job_keep_counts(const struct mb_job_state *j, bool quiet)
{
    struct mb_extras x = {0};

    if (j->app.engine != NULL && j->dir != NULL && j->dir->run != NULL && own_extras(j, &x) == MB_OK)
        mb_counts_save(&x, j->dir->run, j->app.rank, quiet);
    mb_extras_fini(&x);
}

/* What earlier runs of this job counted goes to what this one did. */
static enum mb_status add_earlier(void *arg)
{
    struct mb_job_state *j = arg;
    return mb_counts_add_runs(&j->extras, j->dir->dir, j->dir->number);
}

static enum mb_status extras_of(struct mb_job_state *j, const struct report_msg *all, const int64_t *sum)
{
    uint64_t n = (uint64_t)j->app.size;

    MB_TRY(provenance(&j->extras, j));
    MB_TRY(per_rank(&j->extras, all, n));
    MB_TRY(memory(&j->extras, all, n));
    MB_TRY(times(&j->extras, all, n));
    MB_TRY(traffic(&j->extras, all, n));
    return usage(&j->extras, j, sum);
}

enum mb_status mb_job_gather(struct mb_job_state *j)
{
    const struct mb_model *m = j->app.model;
    const int64_t *own = mb_engine_usage(j->app.engine);
    int64_t cells = (int64_t)m->moe_layers * m->router.experts, *sum = NULL;
    struct report_msg mine, *all = calloc((size_t)j->app.size, sizeof *all);
    enum mb_status st = all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counters of %d ranks", j->app.size) : MB_OK;

    if (own != NULL) {
        sum = malloc(sizeof *sum * (size_t)(cells + 1));
        if (sum == NULL)
            st = mb_error(MB_NO_MEMORY, "no memory for counters");
        else
            memcpy(sum, own, sizeof *sum * (size_t)cells);
    }
    st = mb_comm_agree(j->app.comm, st, "gathering counters");
    fill_msg(j, &mine);
    if (st == MB_OK)
        st = mb_comm_allgather(j->app.comm, &mine, sizeof mine, all, "counters");
    if (st == MB_OK && sum != NULL)
        st = mb_comm_sum_i64(j->app.comm, sum, (int32_t)cells, "expert usage");
    if (st == MB_OK && j->app.rank == 0) {
        st = extras_of(j, all, sum);
    }
    st = mb_comm_agree(j->app.comm, st, "gathering counters");
    if (st == MB_OK)
        st = layer_rows(j);
    if (st == MB_OK)
        st = sum_on_demand(j);
    if (st == MB_OK)
        st = mb_comm_alone(j->app.comm, j->app.rank == 0, add_earlier, j, "counters of earlier runs");
    free(all);
    free(sum);
    return mb_comm_agree(j->app.comm, st, "gathering counters");
}
