/* Measured exchanges as results. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench_a2a.h"

static const char formula[] =
    "seconds of the busiest node's bytes to others over limit/link of a node to others";

static const char *const part_names[MB_A2A_PARTS] = {"dispatch", "combine", "both"};

/* Bytes or messages of one part (0: dispatch, 1: combine, 2: both) on a link. */
static int64_t of_part(const int64_t v[2][MB_LINK_COUNT], int part, int link)
{
    return part == MB_A2A_BOTH ? v[0][link] + v[1][link] : v[part][link];
}

static json_t *by_link(const struct mb_a2a_moved *m, int ranks, int part, bool messages)
{
    static const char *const names[MB_LINK_COUNT] = {NULL, "shm", "intra", "inter"};
    json_t *o = json_object();

    for (int l = MB_LINK_SHM; l < MB_LINK_COUNT; l++) {
        int64_t sum = 0;
        for (int r = 0; r < ranks; r++)
            sum += of_part(messages ? m[r].messages : m[r].bytes, part, l);
        (void)json_object_set_new(o, names[l], json_integer((json_int_t)sum));
    }
    return o;
}

/* What a rank sends to others, by whatever link. */
static double sent(const struct mb_a2a_moved *m, int part)
{
    double sum = 0;

    for (int l = MB_LINK_SHM; l < MB_LINK_COUNT; l++)
        sum += (double)of_part(m->bytes, part, l);
    return sum;
}

/* Bytes to other nodes of the node that sends most. */
static double busiest_node(const struct mb_a2a *a, const struct mb_a2a_moved *m, int part)
{
    double most = 0, here = 0;

    for (int r = 0; r < a->app.size; r++) {
        here = r > 0 && a->node_of[r] == a->node_of[r - 1] ? here : 0;
        here += (double)of_part(m[r].bytes, part, MB_LINK_INTER);
        most = here > most ? here : most;
    }
    return most;
}

/* Least, median and most over ranks of their medians over repetitions. */
static void over_ranks(const struct mb_a2a *a, const struct mb_a2a_found *f, int part, double out[3])
{
    double v[MB_LIMIT_REPEATS], *each = calloc((size_t)a->app.size, sizeof *each);

    memset(out, 0, 3 * sizeof *out);
    if (each == NULL)
        return;
    for (int i = 0; i < a->app.size; i++) {
        for (int r = 0; r < a->repeats; r++)
            v[r] = f->times[i].v[r][part];
        each[i] = mb_bench_median(v, a->repeats);
    }
    out[0] = mb_bench_least(each, a->app.size);
    out[1] = mb_bench_median(each, a->app.size);
    out[2] = mb_bench_most(each, a->app.size);
    free(each);
}

static json_t *fields_of(const struct mb_a2a *a, const struct mb_a2a_case *q, const struct mb_a2a_found *f,
                         int part, double median)
{
    double ranks[3], most = 0;

    over_ranks(a, f, part, ranks);
    for (int r = 0; r < a->app.size; r++)
        most = fmax(most, sent(&f->moved[r], part));
    json_t *o = json_pack("{s:s, s:s, s:b, s:I, s:i, s:i, s:I, s:i, s:f, s:f, s:f, s:f, s:o, s:o}",
                          "algorithm", f->algorithm, "part", part_names[part], "auto", (int)f->chosen,
                          "hidden", (json_int_t)q->hidden, "experts", (int)q->experts, "topk", (int)q->k,
                          "tokens", (json_int_t)f->tokens, "rounds", (int)f->rounds, "ranks_min", ranks[0],
                          "ranks_median", ranks[1], "ranks_max", ranks[2], "bus_gbytes_per_second",
                          most / median / 1e9, "bytes", by_link(f->moved, a->app.size, part, false),
                          "messages", by_link(f->moved, a->app.size, part, true));
    if (o != NULL && f->formula != NULL) {
        (void)json_object_set_new(o, "formula_bytes", by_link(f->formula, a->app.size, part, false));
        (void)json_object_set_new(o, "formula_messages", by_link(f->formula, a->app.size, part, true));
    }
    return o;
}

void mb_a2a_add(const struct mb_a2a *a, const struct mb_a2a_case *q, const struct mb_a2a_found *f)
{
    for (int part = 0; part < MB_A2A_PARTS; part++) {
        double v[MB_LIMIT_REPEATS];
        char name[128];
        for (int r = 0; r < a->repeats; r++) {
            v[r] = 0;
            for (int i = 0; i < a->app.size; i++)
                v[r] = fmax(v[r], f->times[i].v[r][part]);
        }
        double bytes = busiest_node(a, f->moved, part), bound = a->link_inter > 0 ? bytes / a->link_inter : 0;
        snprintf(name, sizeof name, "alltoall/%s/hidden=%lld/experts=%d/topk=%d/tokens=%lld/%s", f->algorithm,
                 (long long)q->hidden, (int)q->experts, (int)q->k, (long long)f->tokens, part_names[part]);
        mb_bench_add(a->out, &(struct mb_measured){
                                 .name = name,
                                 .unit = "s",
                                 .less = true,
                                 .samples = v,
                                 .n = a->repeats,
                                 .bound = bound,
                                 .formula = formula,
                                 .fields = fields_of(a, q, f, part, mb_bench_median(v, a->repeats))});
    }
}
