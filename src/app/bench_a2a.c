/* moebatch bench alltoall: the exchange of rows with experts, by sizes, beside MPI's own and what links can
 * do. */
#include "app/bench_a2a.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench_routes.h"
#include "base/clock.h"
#include "base/log.h"
#include "comm/group.h"

#define LINK_BYTES ((uint64_t)8 << 20)

/* ---------------------------------------------------------------- one set of sizes */
static void case_fini(const struct mb_a2a *a, struct mb_a2a_case *q)
{
    mb_serve_destroy(q->serve);
    mb_placement_destroy(q->p.placement);
    free(q->route);
    free(q->weight);
    a->app.ops->buf_free(q->x);
    a->app.ops->buf_free(q->y);
    a->app.ops->buf_free(q->sum);
}

/* A layer of experts over all ranks: each attends for itself, and has an equal range of experts. */
static void make_plan(const struct mb_a2a *a, struct mb_a2a_case *q)
{
    int32_t n = a->app.size;

    q->is_moe[0] = 1;
    q->first_layer[1] = 1;
    q->m = (struct mb_model){.layers = 1,
                             .moe_layers = 1,
                             .hidden = (int32_t)q->hidden,
                             .expert_ffn = 1,
                             .heads = 1,
                             .kv_heads = 1,
                             .head_dim = 1,
                             .v_dim = 1,
                             .vocab = 1,
                             .is_moe = q->is_moe,
                             .window = q->window,
                             .router = {.experts = q->experts, .k = q->k}};
    q->p = (struct mb_plan){
        .layout = {.world = n, .dp = 1, .pp = 1, .tp = 1, .sp = 1, .adp = n, .ep = n, .etp = 1, .edp = 1},
        .nodes = a->app.topo->nodes,
        .node_of = a->node_of,
        .first_layer = q->first_layer,
        .alltoall = MB_A2A_FLAT,
        .max_num_seqs = (int32_t)q->most,
        .max_batch_rows = (int32_t)q->most,
        .max_len = 1,
        .max_pages_per_seq = 1};
}

static enum mb_status make_buffers(const struct mb_a2a *a, struct mb_a2a_case *q)
{
    int64_t cells = q->most * q->hidden, pairs = q->most * q->k;
    float *v = malloc((size_t)cells * sizeof *v);

    q->route = malloc((size_t)pairs * sizeof *q->route);
    q->weight = malloc((size_t)pairs * sizeof *q->weight);
    if (v == NULL || q->route == NULL || q->weight == NULL) {
        free(v);
        return mb_error(MB_NO_MEMORY, "no memory for %lld rows of %lld", (long long)q->most,
                        (long long)q->hidden);
    }
    for (int64_t i = 0; i < pairs; i++)
        q->weight[i] = 1.0f / (float)q->k;
    for (int64_t i = 0; i < cells; i++)
        v[i] = (float)(i % 251) / 128 - 1; /* exact in bf16 */
    enum mb_status st =
        a->app.ops->buf_alloc(a->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)cells * sizeof *v, &q->sum);
    if (st == MB_OK)
        st = a->app.ops->buf_alloc(a->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)(cells * mb_dtype_size(a->type)),
                                   &q->x);
    struct mb_view sum = mb_view_of(q->sum, 0, q->most, q->hidden, MB_F32),
                   x = mb_view_of(q->x, 0, q->most, q->hidden, a->type);
    if (st == MB_OK)
        st = a->app.ops->copy_in(a->stream, sum, v);
    if (st == MB_OK)
        st = a->app.ops->copy(a->stream, x, sum);
    free(v);
    return st;
}

static enum mb_status run_case(struct mb_a2a *a, int64_t hidden, int32_t experts, int32_t k)
{
    struct mb_a2a_case q = {.hidden = hidden, .experts = experts, .k = k, .most = 1};

    for (int i = 0; i < a->tokens.n; i++)
        q.most = a->tokens.v[i] > q.most ? a->tokens.v[i] : q.most;
    make_plan(a, &q);
    enum mb_status st = make_buffers(a, &q);
    if (st == MB_OK)
        st = mb_placement_uniform(1, experts, a->app.size, &q.p.placement);
    if (st == MB_OK)
        st = mb_serve_create_layer(&q.p, 0, &q.serve);
    if (st == MB_OK)
        st = mb_bench_routes_draw(a->exponent, a->seed, a->index, q.most, experts, k, q.route);
    st = mb_comm_agree(a->app.comm, st, "an exchange to measure");
    if (st == MB_OK)
        st = mb_a2a_measure(a, &q);
    case_fini(a, &q);
    return st;
}

static enum mb_status run_all(struct mb_a2a *a)
{
    for (int h = 0; h < a->hidden.n; h++)
        for (int e = 0; e < a->experts.n; e++)
            for (int k = 0; k < a->topk.n; k++) {
                if (a->topk.v[k] <= a->experts.v[e])
                    MB_TRY(run_case(a, a->hidden.v[h], (int32_t)a->experts.v[e], (int32_t)a->topk.v[k]));
            }
    return MB_OK;
}

/* ---------------------------------------------------------------- links */
/* Every rank with a partner sends it LINK_BYTES and gets as much from the one before; all at once. Own
 * seconds of the best repetition, 0 without a partner. Collective over the group. */
static enum mb_status ring(struct mb_a2a *a, int to, int from, double *samples)
{
    const struct mb_where at = {"measuring links", -1, -1};
    size_t n = (size_t)a->app.size;
    struct mb_piece *send = calloc(n, sizeof *send), *recv = calloc(n, sizeof *recv);
    uint8_t *room = mb_zalloc(&a->app.mem, MB_MEM_EXCHANGE, 2, LINK_BYTES);
    enum mb_status st = send == NULL || recv == NULL || room == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to measure links")
                            : MB_OK;

    st = mb_comm_agree(a->group, st, "measuring links");
    if (st == MB_OK && to >= 0) {
        send[to] = (struct mb_piece){room, LINK_BYTES};
        recv[from] = (struct mb_piece){room + LINK_BYTES, LINK_BYTES};
    }
    for (int r = -1; r < a->repeats && st == MB_OK; r++) { /* once to warm up */
        st = mb_comm_barrier(a->group, "measuring links");
        double t = mb_now();
        if (st == MB_OK)
            st = mb_comm_swap(a->group, send, recv, &at);
        if (r >= 0)
            samples[r] = to >= 0 ? mb_now() - t : 0;
    }
    free(send);
    free(recv);
    mb_free(room);
    return mb_comm_agree(a->group, st, "measuring links");
}

/* Bytes/s of the slowest rank in each repetition, times `ranks`, as a limit; the best one into *best.
 * Collective. */
static enum mb_status add_link(struct mb_a2a *a, const char *name, const double *mine, double ranks,
                               double *best)
{
    double(*all)[MB_LIMIT_REPEATS] = calloc((size_t)a->app.size, sizeof *all), v[MB_LIMIT_REPEATS];

    MB_TRY(mb_comm_agree(a->group, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for links") : MB_OK,
                         "links"));
    enum mb_status st = mb_comm_allgather(a->group, mine, sizeof *all, all, "links");
    for (int r = 0; r < a->repeats && st == MB_OK; r++) {
        double slowest = 0;
        for (int i = 0; i < a->app.size; i++)
            slowest = all[i][r] > slowest ? all[i][r] : slowest;
        v[r] = slowest > 0 ? ranks * (double)LINK_BYTES / slowest / 1e9 : 0;
        *best = v[r] * 1e9 > *best ? v[r] * 1e9 : *best;
    }
    free(all);
    if (st == MB_OK && a->out != NULL)
        mb_bench_add(a->out,
                     &(struct mb_measured){.name = name, .unit = "GB/s", .samples = v, .n = a->repeats});
    return st;
}

/* Inside nodes each rank sends to the next one; between nodes to the rank with its number on the next node.
 */
static enum mb_status measure_links(struct mb_a2a *a)
{
    const struct mb_topo *t = a->app.topo;
    int32_t node = a->node_of[a->index], first = t->node_first[node], here = t->node_first[node + 1] - first,
            me = a->index - first;
    int32_t next = (node + 1) % t->nodes, before = (node + t->nodes - 1) % t->nodes, least = here;
    double samples[MB_LIMIT_REPEATS];

    for (int32_t i = 0; i < t->nodes; i++) {
        int32_t n = t->node_first[i + 1] - t->node_first[i];
        least = n < least ? n : least;
    }
    if (t->ranks > t->nodes) {
        bool in = here > 1;
        MB_TRY(ring(a, in ? first + (me + 1) % here : -1, in ? first + (me + here - 1) % here : -1, samples));
        MB_TRY(add_link(a, "limit/link of a rank inside its node", samples, 1, &a->link_intra));
    }
    if (t->nodes < 2)
        return MB_OK;
    bool in = me < least;
    MB_TRY(ring(a, in ? t->node_first[next] + me : -1, in ? t->node_first[before] + me : -1, samples));
    return add_link(a, "limit/link of a node to others", samples, least, &a->link_inter);
}

/* ---------------------------------------------------------------- the whole */
static enum mb_status read_lists(struct mb_a2a *a)
{
    const struct mb_conf *c = a->app.conf;
    char text[3][24] = {"", "", ""};
    struct mb_model *m = NULL;

    if (c->model[0] != '\0') {
        MB_TRY(mb_app_open_shapes(c->model, (int32_t)c->k, &m));
        bool moe = m->moe_layers > 0;
        a->type = mb_app_path(c, m);
        snprintf(text[0], sizeof text[0], "%d", m->hidden);
        snprintf(text[1], sizeof text[1], "%d", m->router.experts);
        snprintf(text[2], sizeof text[2], "%d", m->router.k);
        mb_model_destroy(m);
        if (!moe)
            return mb_error(MB_MODEL, "%s has no experts, and so no exchange to measure", c->model);
    } else {
        a->type = strcmp(c->dtype, "f32") == 0 ? MB_F32 : MB_BF16;
    }
    MB_TRY(
        mb_bench_list(text[0][0] ? text[0] : c->hidden, "--hidden", 1, 1 << 20, &a->hidden.v, &a->hidden.n));
    MB_TRY(mb_bench_list(text[1][0] ? text[1] : c->experts, "--experts", 1, 32768, &a->experts.v,
                         &a->experts.n));
    MB_TRY(mb_bench_list(text[2][0] ? text[2] : c->topk, "--topk", 1, 128, &a->topk.v, &a->topk.n));
    MB_TRY(mb_bench_list(c->tokens, "--tokens", 1, 1 << 20, &a->tokens.v, &a->tokens.n));
    return mb_bench_routes_parse(c->routes, "--routes", &a->exponent);
}

static enum mb_status index_nodes(struct mb_a2a *a)
{
    const struct mb_topo *t = a->app.topo;

    a->index = t->index_of[a->app.rank];
    a->node_of = calloc((size_t)t->ranks, sizeof *a->node_of);
    if (a->node_of == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of ranks");
    for (int32_t i = 0; i < t->ranks; i++)
        a->node_of[i] = t->node_of[t->order[i]];
    return MB_OK;
}

static void add_facts(struct mb_a2a *a)
{
    const struct mb_topo *t = a->app.topo;

    mb_bench_fact(a->out, "host", json_string(t->local[0].host));
    mb_bench_fact(a->out, "cpu", json_string(t->local[0].cpu_model));
    mb_bench_fact(a->out, "nodes", json_integer(t->nodes));
    mb_bench_fact(a->out, "ranks", json_integer(t->ranks));
    mb_bench_fact(a->out, "mpi", json_string(mb_comm_library(a->app.comm)));
    mb_bench_fact(a->out, "type", json_string(a->type == MB_F32 ? "f32" : "bf16"));
    mb_bench_fact(a->out, "routes", json_string(a->app.conf->routes));
    mb_bench_fact(a->out, "seed", json_integer((json_int_t)a->seed));
}

static enum mb_status prepare(struct mb_a2a *a)
{
    MB_TRY(mb_comm_agree(a->app.comm, read_lists(a), "the sizes to measure"));
    a->app.path = a->type;
    MB_TRY(mb_app_topology(&a->app));
    MB_TRY(mb_app_device(&a->app));
    enum mb_status st = index_nodes(a);
    if (st == MB_OK)
        st = a->app.ops->stream_create(a->app.dev, &a->stream);
    if (st == MB_OK && a->app.rank == 0)
        st = mb_bench_create("alltoall", &a->out);
    MB_TRY(mb_comm_agree(a->app.comm, st, "preparing a benchmark"));
    MB_TRY(mb_comm_split(a->app.comm, "the exchange", 0, a->index, &a->group));
    mb_log_set_quiet(false);
    if (a->out != NULL)
        add_facts(a);
    return MB_OK;
}

enum mb_status mb_bench_alltoall(const struct mb_conf *c, int *argc, char ***argv)
{
    struct mb_a2a *a = calloc(1, sizeof *a);

    if (a == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a benchmark");
    a->repeats = (int)c->repeats;
    a->seed = (uint64_t)c->seed;
    enum mb_status st = mb_app_start(&a->app, c, argc, argv);
    if (st == MB_OK)
        st = prepare(a);
    if (st == MB_OK)
        st = measure_links(a);
    if (st == MB_OK)
        st = run_all(a);
    if (st == MB_OK) {
        st = a->out != NULL ? mb_bench_print(a->out, stdout, mb_bench_form_of(c), c->output) : MB_OK;
        st = mb_comm_agree(a->app.comm, st, "printing results");
    }
    if (a->stream != NULL)
        a->app.ops->stream_destroy(a->stream);
    mb_comm_destroy(a->group);
    mb_app_end_device(&a->app);
    mb_bench_destroy(a->out);
    free(a->node_of);
    free(a->hidden.v);
    free(a->experts.v);
    free(a->topk.v);
    free(a->tokens.v);
    mb_app_end(&a->app);
    free(a);
    return st;
}
