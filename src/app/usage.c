/* --expert-usage: how often earlier jobs' routers chose each expert. */
#include <stdlib.h>
#include <string.h>
#include "app/setup.h"
#include "base/log.h"
#include "io/h5.h"

#define USAGE "/metrics/expert_usage"
#define TRACE "/routing/experts"
#define TRACE_CELLS ((uint64_t)1 << 22) /* read at a time */

struct reader {
    const char *path;
    const struct mb_model *m;
    int64_t *usage; /* [layers][experts], added to */
};

static enum mb_status check_shape(const struct reader *r, const char *set, uint64_t layers, uint64_t experts)
{
    if (layers == (uint64_t)r->m->moe_layers && experts == (uint64_t)r->m->router.experts)
        return MB_OK;
    return mb_error(MB_INPUT,
                    "--expert-usage %s: %s has %llu layers of %llu experts, the model %d of %d; give results "
                    "of this model",
                    r->path, set, (unsigned long long)layers, (unsigned long long)experts,
                    (int)r->m->moe_layers, (int)r->m->router.experts);
}

static enum mb_status add_counts(struct reader *r, struct mb_h5_set *s)
{
    const uint64_t start[2] = {0, 0};

    MB_TRY(check_shape(r, USAGE, s->dims[0], s->dims[1]));
    uint64_t n = s->dims[0] * s->dims[1];
    int64_t *more = calloc((size_t)n + 1, sizeof *more);
    enum mb_status st = more == NULL ? mb_error(MB_NO_MEMORY, "no memory for the usage of experts") : MB_OK;
    if (st == MB_OK)
        st = mb_h5_read(s, start, s->dims, more);
    for (uint64_t i = 0; i < n && st == MB_OK; i++) {
        if (more[i] < 0 || more[i] > INT64_MAX / 4 - r->usage[i])
            st = mb_error(MB_INPUT, "--expert-usage %s: " USAGE " has a number of rows that cannot be",
                          r->path);
        else
            r->usage[i] += more[i];
    }
    free(more);
    return st;
}

/* Rows [at, at + count[1]) of one layer, of a saved routing. */
static enum mb_status add_rows(struct reader *r, struct mb_h5_set *s, const uint64_t *at,
                               const uint64_t *count, uint16_t *ids)
{
    int64_t *usage = r->usage + at[0] * (uint64_t)r->m->router.experts;

    MB_TRY(mb_h5_read(s, at, count, ids));
    for (uint64_t i = 0; i < count[1] * count[2]; i++) {
        if (ids[i] >= r->m->router.experts)
            return mb_error(MB_INPUT, "--expert-usage %s: " TRACE " names expert %d of %d", r->path,
                            (int)ids[i], (int)r->m->router.experts);
        usage[ids[i]]++;
    }
    return MB_OK;
}

/* Results without counts, as filters and other programs leave them, have the choices of every row. */
static enum mb_status add_trace(struct reader *r, struct mb_h5_set *s)
{
    uint64_t rows = s->dims[1], k = s->dims[2], each = k > 0 && k < TRACE_CELLS ? TRACE_CELLS / k : 1;
    enum mb_status st = check_shape(r, TRACE, s->dims[0], (uint64_t)r->m->router.experts);
    uint16_t *ids = st == MB_OK && k <= TRACE_CELLS ? malloc((size_t)(each * (k + 1)) * sizeof *ids) : NULL;

    if (st == MB_OK && ids == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a routing of %llu experts a row", (unsigned long long)k);
    for (uint64_t l = 0; l < s->dims[0] && st == MB_OK; l++)
        for (uint64_t i = 0; i < rows && st == MB_OK; i += each) {
            const uint64_t at[3] = {l, i, 0}, count[3] = {1, rows - i < each ? rows - i : each, k};
            st = add_rows(r, s, at, count, ids);
        }
    free(ids);
    return st;
}

static enum mb_status add_file(struct reader *r)
{
    struct mb_h5 *h = NULL;
    struct mb_h5_set *s = NULL;

    MB_TRY(mb_h5_open(r->path, false, &h));
    bool counts = mb_h5_has(h, USAGE), trace = mb_h5_has(h, TRACE);
    enum mb_status st = counts || trace ? MB_OK
                                        : mb_error(MB_INPUT,
                                                   "--expert-usage %s has neither " USAGE " nor " TRACE
                                                   ": it is not the complete results of a model with experts",
                                                   r->path);
    if (st == MB_OK)
        st = counts ? mb_h5_find(h, USAGE, MB_H5_I64, 2, &s) : mb_h5_find(h, TRACE, MB_H5_U16, 3, &s);
    if (st == MB_OK)
        st = counts ? add_counts(r, s) : add_trace(r, s);
    mb_h5_set_close(s);
    (void)mb_h5_close(h); /* only read */
    return st;
}

enum mb_status mb_usage_read(const char *paths, const struct mb_model *m, int64_t *usage)
{
    uint64_t n = (uint64_t)m->moe_layers * (uint64_t)m->router.experts;
    char *list = strdup(paths), *rest = list, *path;
    int64_t most = 0;
    enum mb_status st = list == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of files") : MB_OK;

    while (st == MB_OK && (path = strsep(&rest, ",")) != NULL) {
        struct reader r = {path, m, usage};
        st = add_file(&r);
    }
    for (uint64_t i = 0; i < n && st == MB_OK; i++)
        most = usage[i] > most ? usage[i] : most;
    if (st == MB_OK && most == 0)
        st = mb_error(MB_INPUT,
                      "--expert-usage %s: " USAGE
                      " has counted no row: give results of a job that computed some",
                      paths);
    free(list);
    return st;
}

static enum mb_status read_usage(void *arg)
{
    const struct mb_app *a = arg;

    return mb_usage_read(a->conf->expert_usage, a->model, a->usage);
}

enum mb_status mb_app_usage(struct mb_app *a)
{
    uint64_t n = (uint64_t)a->model->moe_layers * (uint64_t)a->model->router.experts;

    if (a->conf->expert_usage[0] == 0)
        return MB_OK;
    a->usage = calloc((size_t)n + 1, sizeof *a->usage);
    enum mb_status st = a->usage == NULL ? mb_error(MB_NO_MEMORY, "no memory for the usage of %llu experts",
                                                    (unsigned long long)n)
                                         : MB_OK;
    MB_TRY(mb_comm_agree(a->comm, st, "usage of experts"));
    MB_TRY(mb_comm_alone(a->comm, a->rank == 0, read_usage, a, "reading the usage of experts"));
    return mb_comm_bcast(a->comm, a->usage, n * sizeof *a->usage, 0, "usage of experts");
}
