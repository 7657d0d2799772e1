#include "io/counts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/rundir.h"
#include "io/scan.h"
#include "io/schema.h"

#define NAME "counts-"
#define MOST_RANKS 1000000 /* more than any job */
#define USAGE "/metrics/expert_usage"

/* ---------------------------------------------------------------- adding */
static const struct mb_extra *find(const struct mb_extras *x, const char *path)
{
    for (int32_t i = 0; i < x->n; i++) {
        if (strcmp(x->v[i].path, path) == 0)
            return &x->v[i];
    }
    return NULL;
}

/* Whether b can be added to a: the same axes, but for the first of what is by rank. */
static bool fits(const struct mb_extra *a, const struct mb_extra *b, bool whole)
{
    bool same = a->type == b->type && a->rank == b->rank && a->rank > 0;
    for (int i = whole ? 0 : 1; same && i < a->rank; i++)
        same = a->dims[i] == b->dims[i];
    return same;
}

static bool counted(const struct mb_extra *e)
{
    return e->type == MB_H5_I64 || e->type == MB_H5_F64;
}

static void add_values(enum mb_h5_type type, void *to, const void *from, uint64_t n, bool most)
{
    int64_t *sum = to;
    const int64_t *v = from;
    double *seconds = to;
    const double *more = from;
    for (uint64_t i = 0; i < n; i++) {
        if (type == MB_H5_F64)
            seconds[i] += more[i];
        else
            sum[i] = most ? (v[i] > sum[i] ? v[i] : sum[i]) : (int64_t)((uint64_t)sum[i] + (uint64_t)v[i]);
    }
}

static enum mb_status add_one(struct mb_extras *to, const struct mb_extra *e, uint64_t rank)
{
    const struct mb_extra *old = find(to, e->path);
    const struct mb_dataset *d = mb_dataset_find(e->path);
    enum mb_runs runs = d == NULL ? MB_RUNS_LAST : d->runs;
    bool whole = runs == MB_RUNS_SUM, most = runs == MB_RUNS_MOST_BY_RANK;
    uint64_t dims[MB_H5_MAX_RANK], at = 0, n = e->bytes / sizeof(int64_t), all = n;
    if (!counted(e) || e->rank < 1 || runs == MB_RUNS_LAST || (old != NULL && !fits(old, e, whole)) || (!whole && e->dims[0] == 0))
        return mb_error(MB_CORRUPT, "%s: counts of two runs do not have the same shape", e->path);
    memcpy(dims, e->dims, sizeof dims);
    if (!whole) {
        uint64_t row = n / e->dims[0];
        at = rank * row;
        dims[0] += rank;
        if (old != NULL && old->dims[0] > dims[0])
            dims[0] = old->dims[0];
        all = dims[0] * row;
    }
    int64_t *sum = calloc((size_t)all + 1, sizeof *sum);
    if (sum == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %s", e->path);
    if (old != NULL && old->bytes > 0)
        memcpy(sum, old->data, old->bytes);
    add_values(e->type, sum + at, e->data, n, most);
    enum mb_status st = mb_extras_put(to, e->path, dims, sum);
    free(sum);
    return st;
}

enum mb_status mb_counts_add(struct mb_extras *to, const struct mb_extras *from, uint64_t rank)
{
    for (int32_t i = 0; i < from->n; i++) {
        const struct mb_extra *e = &from->v[i];
        struct mb_extras one = {(struct mb_extra *)(uintptr_t)e, 1, 1};
        if (counted(e))
            MB_TRY(add_one(to, e, rank));
        else if (find(to, e->path) == NULL)
            MB_TRY(mb_extras_merge(to, &one));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- files */
void mb_counts_save(const struct mb_extras *own, const char *run, int rank, bool quiet)
{
    char name[32];
    snprintf(name, sizeof name, NAME "%06d", rank);
    char *path = mb_path_join(run, name);
    if (path != NULL)
        (void)mb_extras_save(own, path,
                             MB_PUBLISH_ADVISORY | (quiet ? MB_PUBLISH_SILENT : 0)); /* counts, not results */
    free(path);
}

/* A damaged file costs only the counts in it. */
static enum mb_status add_file(struct mb_extras *to, const char *run, const char *name, uint64_t rank)
{
    struct mb_extras own = {0};
    char *path = mb_path_join(run, name);
    enum mb_status st =
        path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_extras_load(&own, path);
    if (st == MB_OK)
        st = mb_counts_add(to, &own, rank);
    if (st == MB_CORRUPT) {
        mb_warn("%s is left out of /metrics and /physical", path);
        st = MB_OK;
    }
    mb_extras_fini(&own);
    free(path);
    return st;
}

static enum mb_status add_run(struct mb_extras *to, const char *run)
{
    DIR *d = opendir(run);
    enum mb_status st = MB_OK;
    if (d == NULL)
        return MB_OK; /* gone: nothing of it counts */
    for (struct dirent *e = readdir(d); e != NULL && st == MB_OK; e = readdir(d)) {
        char *end = NULL;
        const char *digits = e->d_name + sizeof NAME - 1;
        if (strncmp(e->d_name, NAME, sizeof NAME - 1) != 0)
            continue;
        uint64_t rank = strtoull(digits, &end, 10);
        if (end != digits && *end == 0 && rank < MOST_RANKS)
            st = add_file(to, run, e->d_name, rank);
    }
    closedir(d);
    return st;
}

enum mb_status mb_counts_add_runs(struct mb_extras *to, const char *dir, int32_t except)
{
    int64_t runs = except > 0;
    for (int32_t n = mb_rundir_next(dir, 0); n > 0; n = mb_rundir_next(dir, n)) {
        char *run = n == except ? NULL : mb_run_path(dir, n);
        if (n == except)
            continue;
        if (run == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a path");
        enum mb_status st = add_run(to, run);
        free(run);
        MB_TRY(st);
        runs++;
    }
    return mb_extras_put(to, "/metrics/runs", NULL, &runs);
}

enum mb_status mb_counts_add_results(struct mb_extras *to, const char *results)
{
    struct mb_h5 *h = NULL;
    struct mb_h5_set *s = NULL;
    struct mb_extra e = {
        .path = (char *)(uintptr_t)USAGE, .type = MB_H5_I64, .rank = 2};
    const uint64_t zero[2] = {0, 0};
    MB_TRY(mb_h5_open(results, false, &h));
    enum mb_status st = mb_h5_has(h, USAGE) ? mb_h5_find(h, USAGE, MB_H5_I64, 2, &s) : MB_OK;
    if (st == MB_OK && s != NULL) {
        memcpy(e.dims, s->dims, 2 * sizeof *e.dims);
        bool small = s->dims[0] <= 65536 && s->dims[1] <= 65536; /* layers, experts */
        e.bytes = small ? s->dims[0] * s->dims[1] * sizeof(int64_t) : 0;
        e.data = small ? calloc(1, e.bytes + 1) : NULL;
        st = !small ? mb_error(MB_INPUT, "%s: " USAGE " has more layers or experts than a model can", results)
             : e.data == NULL ? mb_error(MB_NO_MEMORY, "no memory for " USAGE)
                              : mb_h5_read(s, zero, s->dims, e.data);
        if (st == MB_OK)
            st = add_one(to, &e, 0);
        free(e.data);
    }
    mb_h5_set_close(s);
    (void)mb_h5_close(h); /* only read */
    return st;
}
