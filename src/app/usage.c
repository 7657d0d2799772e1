/* --expert-usage: how often an earlier job's routers chose each expert, read from its results by rank 0. */
#include <stdlib.h>
#include "app/setup.h"
#include "base/log.h"
#include "io/h5.h"

#define USAGE "/metrics/expert_usage"

static enum mb_status read_set(const struct mb_app *a, struct mb_h5_set *s, int64_t *usage)
{
    const uint64_t start[2] = {0, 0}, layers = (uint64_t)a->model->moe_layers,
                   experts = (uint64_t)a->model->router.experts;

    if (s->dims[0] != layers || s->dims[1] != experts)
        return mb_error(MB_INPUT,
                        "--expert-usage %s: " USAGE
                        " has %llu layers of %llu experts, the model %llu of %llu; give "
                        "results of this model",
                        a->conf->expert_usage, (unsigned long long)s->dims[0], (unsigned long long)s->dims[1],
                        (unsigned long long)layers, (unsigned long long)experts);
    int64_t most = 0;
    MB_TRY(mb_h5_read(s, start, s->dims, usage));
    for (uint64_t i = 0; i < layers * experts; i++) {
        most = usage[i] > most ? usage[i] : most;
        if (usage[i] < 0)
            return mb_error(MB_INPUT, "--expert-usage %s: " USAGE " has a negative number of rows",
                            a->conf->expert_usage);
    }
    if (most == 0)
        return mb_error(MB_INPUT, "--expert-usage %s: " USAGE " has counted no row: give results of a job that computed some",
                        a->conf->expert_usage);
    return MB_OK;
}

static enum mb_status read_usage(void *arg)
{
    const struct mb_app *a = arg;
    struct mb_h5 *h = NULL;
    struct mb_h5_set *s = NULL;

    MB_TRY(mb_h5_open(a->conf->expert_usage, false, &h));
    enum mb_status st = MB_OK;
    if (!mb_h5_has(h, USAGE))
        st = mb_error(MB_INPUT,
                      "--expert-usage %s has no " USAGE
                      ": it is not the complete results of a model with experts",
                      a->conf->expert_usage);
    if (st == MB_OK)
        st = mb_h5_find(h, USAGE, MB_H5_I64, 2, &s);
    if (st == MB_OK)
        st = read_set(a, s, a->usage);
    mb_h5_set_close(s);
    (void)mb_h5_close(h); /* only read */
    return st;
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
