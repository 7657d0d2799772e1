/* --layout auto: the layout of this job, chosen by rank 0 for the machines that the ranks are on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/setup.h"
#include "base/log.h"
#include "plan/auto.h"
#include "plan/memory.h"

/* The input is not read yet: many requests of usual length. */
#define REQUESTS 100000
#define PROMPT 1024

struct decision {
    struct mb_layout layout;
    char reason[MB_AUTO_TEXT];
};

static int64_t least_memory(const struct mb_topo *t, double fraction)
{
    int64_t least = INT64_MAX;

    for (int32_t n = 0; n < t->nodes; n++) {
        int64_t has = mb_plan_rank_memory(t, n, fraction);
        least = has < least ? has : least;
    }
    return least;
}

static enum mb_status choose(const struct mb_app *a, const struct mb_plan_options *o, struct decision *d)
{
    struct mb_cluster c;
    struct mb_auto *found = NULL;
    struct mb_plan_options tried = *o;
    struct mb_plan *p = NULL;
    int64_t prompt =
        a->conf->max_model_len > 0 && a->conf->max_model_len < PROMPT ? a->conf->max_model_len : PROMPT;

    if (o->speeds != NULL)
        c = *o->speeds;
    else
        mb_cluster_of_job(a->topo, &c);
    struct mb_auto_in in = {.m = a->model,
                            .o = o,
                            .c = &c,
                            .memory = least_memory(a->topo, o->memory_fraction),
                            .w = {REQUESTS, prompt, a->conf->max_tokens},
                            .context = a->conf->max_model_len};
    MB_TRY(mb_auto_create(&in, &found));
    int64_t at = mb_auto_settle(found, &in, a->topo);
    if (at >= 0) {
        d->layout = found->fit[at].l;
        mb_auto_reason(found, &in, at, d->reason);
    } else if (mb_auto_smallest(found) != NULL) { /* mb_plan_create says what is wrong with it */
        tried.layout = mb_layout_options_of(&mb_auto_smallest(found)->l);
    }
    mb_auto_destroy(found);
    if (at >= 0)
        return MB_OK;
    enum mb_status st = mb_plan_create(a->model, a->topo, &tried, &p);
    if (st == MB_OK) /* it works after all: none of the layouts tried did, this one was not among them */
        d->layout = p->layout;
    mb_plan_destroy(p);
    return st;
}

enum mb_status mb_app_auto(struct mb_app *a, struct mb_plan_options *o)
{
    struct decision d;
    enum mb_status st = MB_OK;

    memset(&d, 0, sizeof d);
    if (a->rank == 0)
        st = choose(a, o, &d);
    MB_TRY(mb_comm_agree(a->comm, st, "choosing a layout"));
    MB_TRY(mb_comm_bcast(a->comm, &d, sizeof d, 0, "layout"));
    o->layout = mb_layout_options_of(&d.layout);
    a->auto_reason = strdup(d.reason);
    if (a->auto_reason == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a line of text");
    return mb_comm_agree(a->comm, st, "choosing a layout");
}
