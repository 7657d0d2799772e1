#include "app/plan_simulate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench_routes.h"
#include "base/clock.h"
#include "base/log.h"
#include "io/h5.h"

/* Of links, for people and in JSON. */
static const char *const link_words[MB_LINK_COUNT] = {"in ranks", "through the memory of nodes",
                                                      "inside nodes", "between nodes"},
                         *const link_keys[MB_LINK_COUNT] = {"self", "shm", "intra", "inter"};

#define TRACE "/routing/experts"
#define TRACE_CELLS ((uint64_t)1 << 26) /* of a recorded routing that are used */

/* ---------------------------------------------------------------- recorded routes */

static enum mb_status check_trace(const struct mb_h5_set *s, const char *path, const struct mb_model *m)
{
    if (s->dims[0] == (uint64_t)m->moe_layers && s->dims[2] == (uint64_t)m->router.k && s->dims[1] > 0)
        return MB_OK;
    return mb_error(MB_INPUT,
                    "--simulate %s: " TRACE
                    " has %llu rows of %llu experts in %llu layers, the model routes to %d in %d",
                    path, (unsigned long long)s->dims[1], (unsigned long long)s->dims[2],
                    (unsigned long long)s->dims[0], (int)m->router.k, (int)m->moe_layers);
}

static enum mb_status read_set(struct mb_h5_set *s, const char *path, const struct mb_model *m,
                               uint16_t **out, int64_t *rows)
{
    MB_TRY(check_trace(s, path, m));
    uint64_t each = s->dims[0] * s->dims[2],
             n = s->dims[1] < TRACE_CELLS / each ? s->dims[1] : TRACE_CELLS / each;
    const uint64_t at[3] = {0, 0, 0}, count[3] = {s->dims[0], n, s->dims[2]};
    uint16_t *v = malloc((size_t)(n * each + 1) * sizeof *v);
    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a routing of %llu rows", (unsigned long long)n);
    enum mb_status st = mb_h5_read(s, at, count, v);
    for (uint64_t i = 0; i < n * each && st == MB_OK; i++) {
        if (v[i] >= m->router.experts)
            st = mb_error(MB_INPUT, "--simulate %s: " TRACE " names expert %d of %d", path, (int)v[i],
                          (int)m->router.experts);
    }
    if (st != MB_OK) {
        free(v);
        return st;
    }
    *out = v;
    *rows = (int64_t)n;
    return MB_OK;
}

static enum mb_status read_trace(const char *path, const struct mb_model *m, uint16_t **out, int64_t *rows)
{
    struct mb_h5 *h = NULL;
    struct mb_h5_set *s = NULL;

    MB_TRY(mb_h5_open(path, false, &h));
    enum mb_status st = mb_h5_has(h, TRACE)
                            ? MB_OK
                            : mb_error(MB_INPUT,
                                       "--simulate %s has no " TRACE ": give results of a job with "
                                       "--save-routing, uniform, or zipf:S",
                                       path);
    if (st == MB_OK)
        st = mb_h5_find(h, TRACE, MB_H5_U16, 3, &s);
    if (st == MB_OK)
        st = read_set(s, path, m, out, rows);
    mb_h5_set_close(s);
    (void)mb_h5_close(h); /* only read */
    return st;
}

static bool is_drawn(const char *what)
{
    return strcmp(what, "uniform") == 0 || strncmp(what, "zipf:", 5) == 0;
}

/* ---------------------------------------------------------------- the step */

/* Rows of a rank as given, else a step in which every sequence under way has one. */
static void fill_step(const struct mb_conf *c, const struct mb_auto_in *in, const struct mb_candidate *taken,
                      struct mb_simulated *x)
{
    const struct mb_layout *l = &taken->l;
    int64_t ranks = (int64_t)l->tp * l->sp, groups = (int64_t)l->dp * l->adp,
            each = (in->w.requests + groups - 1) / groups, seqs = taken->seqs < each ? taken->seqs : each;

    seqs = seqs / l->pp > 1 ? seqs / l->pp : 1;
    x->rows = c->simulate_rows > 0 ? c->simulate_rows : (seqs + ranks - 1) / ranks;
    double rows = (double)(x->rows * ranks), under_way = rows < (double)seqs ? rows : (double)seqs;
    x->step =
        (struct mb_cost_step){rows, (double)in->w.prompt + (double)in->w.output / 2, under_way, under_way};
}

enum mb_status mb_plan_simulate(const struct mb_conf *c, const struct mb_auto_in *in,
                                const struct mb_candidate *taken, const struct mb_plan *p,
                                struct mb_simulated *out)
{
    struct mb_simulated x = {.rows = 0};
    uint16_t *trace = NULL;
    char why[MB_LAYOUT_TEXT] = "";
    double part[MB_COST_PARTS];
    struct mb_cost_in cost = {.m = in->m,
                              .c = in->c,
                              .l = &p->layout,
                              .first_layer = p->first_layer,
                              .path = in->o->path,
                              .kv = in->o->kv_dtype,
                              .w = in->w};
    struct mb_sim_in s = {.p = p,
                          .m = in->m,
                          .cost = &cost,
                          .step = &x.step,
                          .shape = {.k = in->m->router.k,
                                    .hidden = in->m->hidden,
                                    .x_type = in->o->path,
                                    .y_type = in->o->path,
                                    .eager_bytes = in->o->eager_bytes,
                                    .shm = in->o->shm_bytes > 0},
                          .seed = (uint64_t)c->seed};

    fill_step(c, in, taken, &x);
    s.rows = x.rows;
    if (is_drawn(c->simulate))
        MB_TRY(mb_bench_routes_parse(c->simulate, "--simulate", &s.exponent));
    else
        MB_TRY(read_trace(c->simulate, in->m, &trace, &s.recorded_rows));
    s.recorded = trace;
    x.predicted = mb_cost_stage(&cost, &x.step, part);
    double t = mb_now();
    enum mb_status st = mb_simulate(&s, &x.s, why);
    x.took = mb_now() - t;
    free(trace);
    if (st != MB_OK)
        return why[0] != '\0' ? mb_error(st, "%s", why) : st;
    *out = x;
    return MB_OK;
}

/* ---------------------------------------------------------------- printed */

static void print_links(const char *what, const struct mb_traffic *t)
{
    printf("%-10s:", what);
    for (int i = 0, n = 0; i < MB_LINK_COUNT; i++) {
        if (t->messages[i] > 0)
            printf("%s %.2f GB %s in %" PRId64 " messages", n++ > 0 ? "," : "", (double)t->bytes[i] / 1e9,
                   link_words[i], t->messages[i]);
    }
    printf("\n");
}

void mb_plan_print_simulated(const struct mb_conf *c, const struct mb_plan *p, const struct mb_simulated *x)
{
    const struct mb_sim *s = &x->s;

    printf("\nsimulated : a step of %" PRId64 " rows a rank on %d ranks, routes %s, %" PRId64
           " layers with experts, in %.1f s\n",
           x->rows, (int)p->layout.world, c->simulate, s->layers, x->took);
    print_links("dispatch", &s->dispatch);
    print_links("combine", &s->combine);
    printf("balance   : rows of the fullest rank's experts %.3f of the mean in the mean over layers, %.3f at "
           "most",
           s->shard_mean, s->shard_most);
    if (s->node_mean > 0)
        printf("; bytes of the fullest node %.3f of the mean", s->node_mean);
    printf("\nreach     : a row goes to %.2f of %" PRId64 " other %s\n", s->reach, s->domains - 1,
           p->alltoall == MB_A2A_HIER ? "nodes" : "ranks");
    printf(
        "step      : %.3g ms: experts %.3g, exchange %.3g, all else %.3g (%.3g ms by the planner's means)\n",
        s->seconds * 1e3, s->experts * 1e3, s->exchange * 1e3, s->rest * 1e3, x->predicted * 1e3);
    printf("plan      : %.2f MiB on a rank\n", (double)s->plan_bytes / (1 << 20));
}

static json_t *links_json(const struct mb_traffic *t)
{
    json_t *o = json_object();

    for (int i = 0; i < MB_LINK_COUNT; i++) {
        if (t->messages[i] > 0)
            json_object_set_new(o, link_keys[i],
                                json_pack("{s:I, s:I}", "bytes", (json_int_t)t->bytes[i], "messages",
                                          (json_int_t)t->messages[i]));
    }
    return o;
}

json_t *mb_plan_simulated_json(const struct mb_conf *c, const struct mb_simulated *x)
{
    const struct mb_sim *s = &x->s;

    return json_pack(
        "{s:s, s:I, s:I, s:I, s:o, s:o, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f, s:f}, s:I}", "routes",
        c->simulate, "rows_of_a_rank", (json_int_t)x->rows, "layers", (json_int_t)s->layers, "group_ranks",
        (json_int_t)s->members, "dispatch", links_json(&s->dispatch), "combine", links_json(&s->combine),
        "fullest_shard_mean", s->shard_mean, "fullest_shard_most", s->shard_most, "fullest_node_mean",
        s->node_mean, "reach", s->reach, "step_seconds", "all", s->seconds, "experts", s->experts, "exchange",
        s->exchange, "rest", s->rest, "estimate", x->predicted, "plan_bytes", (json_int_t)s->plan_bytes);
}
