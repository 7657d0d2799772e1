/* How results were made, for inspect: layout, machines, where the time went and the speed. What a file does
 * not have is not shown. */
#include "io/inspect_job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "io/h5.h"

enum { HOSTS_SHOWN = 8, NAME = 72, PARTS = 32, PIECE = 512 };

/* ---------------------------------------------------------------- layout */
static json_int_t size_of(const json_t *sizes, const char *name)
{
    const json_t *v = json_object_get(sizes, name);
    return json_is_integer(v) ? json_integer_value(v) : 0;
}

/* As the header block of run has it. */
static void layout(const json_t *plan, struct mb_table *t, json_t *o)
{
    const json_t *s = json_object_get(plan, "sizes");
    const char *alltoall = json_string_value(json_object_get(plan, "alltoall"));

    if (!json_is_object(s))
        return;
    if (o != NULL) {
        json_object_set(o, "layout", (json_t *)(uintptr_t)s);
        json_object_set_new(o, "alltoall", json_string(alltoall != NULL ? alltoall : ""));
        return;
    }
    mb_table_row(t,
                 "layout\t\tlanes %lld x stages %lld x (tp %lld x sp %lld x adp %lld | ep %lld x etp %lld x "
                 "edp %lld)%s%.16s",
                 (long long)size_of(s, "lanes"), (long long)size_of(s, "stages"), (long long)size_of(s, "tp"),
                 (long long)size_of(s, "sp"), (long long)size_of(s, "adp"), (long long)size_of(s, "ep"),
                 (long long)size_of(s, "etp"), (long long)size_of(s, "edp"),
                 alltoall != NULL ? ", all-to-all " : "", alltoall != NULL ? alltoall : "");
}

/* ---------------------------------------------------------------- machines */
struct machine {
    char name[NAME];
    int64_t ranks, threads;
};
struct machines {
    struct machine v[HOSTS_SHOWN];
    int n;
    int64_t more, ranks; /* more: ranks on machines that are not among these */
};

static void count_rank(struct machines *m, const char *name, int32_t threads)
{
    int i = 0;

    m->ranks++;
    while (i < m->n && strncmp(m->v[i].name, name, NAME - 1) != 0)
        i++;
    if (i == HOSTS_SHOWN) {
        m->more++;
        return;
    }
    if (i == m->n) {
        snprintf(m->v[i].name, NAME, "%s", name);
        m->n++;
    }
    m->v[i].ranks++;
    m->v[i].threads += threads;
}

/* The names of ranks [from, from + *n), as many as fit. */
static enum mb_status some_ranks(struct mb_h5_set *hosts, struct mb_h5_set *threads, uint64_t from,
                                 uint64_t *n, struct machines *m)
{
    char *name[PIECE] = {NULL};
    int32_t k[PIECE];

    MB_TRY(mb_h5_read_texts(hosts, from, 1 << 20, n, name));
    enum mb_status st = mb_h5_read(threads, &from, n, k);
    for (uint64_t i = 0; i < *n && st == MB_OK; i++)
        count_rank(m, name[i] != NULL ? name[i] : "", k[i]);
    mb_h5_free_text(name, *n);
    return st;
}

static enum mb_status read_machines(struct mb_h5 *h, struct machines *m)
{
    struct mb_h5_set *hosts = NULL, *threads = NULL;
    enum mb_status st = mb_h5_find(h, "/provenance/host", MB_H5_TEXT, 1, &hosts);

    if (st == MB_OK)
        st = mb_h5_find(h, "/provenance/threads", MB_H5_I32, 1, &threads);
    if (st == MB_OK && hosts->dims[0] != threads->dims[0])
        st = mb_error(MB_INPUT, "/provenance: hosts of %" PRIu64 " ranks, threads of %" PRIu64,
                      hosts->dims[0], threads->dims[0]);
    for (uint64_t from = 0, n; st == MB_OK && from < hosts->dims[0]; from += n) {
        n = hosts->dims[0] - from < PIECE ? hosts->dims[0] - from : PIECE;
        st = some_ranks(hosts, threads, from, &n, m);
    }
    mb_h5_set_close(threads);
    mb_h5_set_close(hosts);
    return st;
}

static enum mb_status machines(struct mb_h5 *h, struct mb_table *t, json_t *o)
{
    struct machines m = {.n = 0};
    json_t *list = o != NULL ? json_array() : NULL;

    if (!mb_h5_has(h, "/provenance/host") || !mb_h5_has(h, "/provenance/threads")) {
        json_decref(list);
        return MB_OK;
    }
    enum mb_status st = read_machines(h, &m);
    for (int i = 0; i < m.n && st == MB_OK; i++) {
        const struct machine *k = &m.v[i];
        if (o != NULL)
            json_array_append_new(list, json_pack("{s:s, s:I, s:I}", "host", k->name, "ranks",
                                                  (json_int_t)k->ranks, "threads", (json_int_t)k->threads));
        else
            mb_table_row(t, "%s\t%s\t%lld ranks, %lld threads", i == 0 ? "machines" : "", k->name,
                         (long long)k->ranks, (long long)k->threads);
    }
    if (m.more > 0 && o == NULL)
        mb_table_row(t, "\tothers\t%lld ranks", (long long)m.more);
    if (o != NULL) {
        json_object_set_new(o, "ranks", json_integer(m.ranks));
        json_object_set_new(o, "machines", list);
    }
    return st;
}

/* ---------------------------------------------------------------- time */
struct times {
    double sum[PARTS], most; /* over ranks; most: of a rank, without load */
    char name[PARTS][24];
    uint64_t parts, ranks;
};

static enum mb_status part_names(struct mb_h5 *h, struct times *x)
{
    struct mb_h5_set *s = NULL;
    char *name[PARTS] = {NULL};
    uint64_t n = x->parts;

    MB_TRY(mb_h5_find(h, "/metrics/seconds_columns", MB_H5_TEXT, 1, &s));
    enum mb_status st = s->dims[0] == n ? mb_h5_read_texts(s, 0, 1 << 16, &n, name) : MB_INPUT;
    if (st == MB_OK && n != x->parts)
        st = MB_INPUT;
    for (uint64_t i = 0; i < n && st == MB_OK; i++)
        snprintf(x->name[i], sizeof x->name[i], "%s", name[i] != NULL ? name[i] : "");
    mb_h5_free_text(name, PARTS);
    mb_h5_set_close(s);
    return st == MB_INPUT ? mb_error(st, "/metrics/seconds: its columns are not named") : st;
}

static enum mb_status read_times(struct mb_h5 *h, struct mb_h5_set *s, struct times *x)
{
    double v[PARTS];

    x->ranks = s->dims[0];
    x->parts = s->dims[1];
    if (x->parts == 0 || x->parts > PARTS)
        return mb_error(MB_INPUT, "/metrics/seconds: %" PRIu64 " parts of a rank's time", x->parts);
    MB_TRY(part_names(h, x));
    for (uint64_t r = 0; r < x->ranks; r++) {
        const uint64_t at[2] = {r, 0}, n[2] = {1, x->parts};
        double own = 0;
        MB_TRY(mb_h5_read(s, at, n, v));
        for (uint64_t i = 0; i < x->parts; i++) {
            x->sum[i] += v[i];
            own += strcmp(x->name[i], "load") != 0 ? v[i] : 0;
        }
        x->most = own > x->most ? own : x->most;
    }
    return MB_OK;
}

static void put_times(const struct times *x, int64_t prompt, int64_t output, struct mb_table *t, json_t *o)
{
    double all = 0, run = x->most > 1e-9 ? x->most : 1e-9;
    json_t *parts = o != NULL ? json_object() : NULL;

    for (uint64_t i = 0; i < x->parts; i++)
        all += x->sum[i];
    if (t != NULL)
        mb_table_row(t, "speed\twithout load and assembly\t%.1f tokens/s, %.1f generated/s",
                     (double)(prompt + output) / run, (double)output / run);
    for (uint64_t i = 0; i < x->parts; i++) {
        double mean = x->ranks > 0 ? x->sum[i] / (double)x->ranks : 0;
        if (o != NULL)
            json_object_set_new(parts, x->name[i], json_real(mean));
        else
            mb_table_row(t, "%s\t%s\t%.1f s, %.1f %%", i == 0 ? "mean time of a rank" : "", x->name[i], mean,
                         all > 0 ? 100 * x->sum[i] / all : 0);
    }
    if (o == NULL)
        return;
    json_object_set_new(o, "tokens_per_second", json_real((double)(prompt + output) / run));
    json_object_set_new(o, "output_tokens_per_second", json_real((double)output / run));
    json_object_set_new(o, "mean_seconds", parts);
}

static enum mb_status times(struct mb_h5 *h, int64_t prompt, int64_t output, struct mb_table *t, json_t *o)
{
    struct mb_h5_set *s = NULL;
    struct times x = {.parts = 0};

    if (!mb_h5_has(h, "/metrics/seconds") || !mb_h5_has(h, "/metrics/seconds_columns"))
        return MB_OK;
    MB_TRY(mb_h5_find(h, "/metrics/seconds", MB_H5_F64, 2, &s));
    enum mb_status st = read_times(h, s, &x);
    mb_h5_set_close(s);
    if (st == MB_OK)
        put_times(&x, prompt, output, t, o);
    return st;
}

enum mb_status mb_inspect_job(struct mb_results *r, const char *path, struct mb_table *t, json_t *o)
{
    const struct mb_results_info *f = mb_results_info(r);
    struct mb_h5 *h = NULL;
    char *plan = NULL;

    MB_TRY(mb_results_provenance(r, "plan", &plan));
    json_t *v = plan != NULL ? json_loads(plan, 0, NULL) : NULL;
    layout(v, t, o);
    json_decref(v);
    free(plan);
    MB_TRY(mb_h5_open(path, false, &h));
    enum mb_status st = machines(h, t, o);
    if (st == MB_OK)
        st = times(h, (int64_t)f->n_prompt, (int64_t)f->n_output, t, o);
    enum mb_status closed = mb_h5_close(h);
    return st == MB_OK ? closed : st;
}
