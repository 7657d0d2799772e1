/* moebatch bench calibrate: what the ranks of this job reach at matrix products by size, at reading weights,
 * at starting an operation, and on the links between them, all at work at the same time; as a profile for
 * plan and --layout auto. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench.h"
#include "app/setup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/group.h"
#include "plan/profile.h"

#define SIDE 2048 /* of weights that are multiplied */
#define SMALL 64  /* of the smallest */
#define WEIGHTS 4 /* taken in turn, so that no cache holds them all: 4 x 8 or 16 MB */
#define LINK_BYTES ((uint64_t)8 << 20)
#define WAIT_BYTES ((uint64_t)64)
static const int32_t rows_of[] = {1, 16, 64, 256, 1024};
enum { ROWS = sizeof rows_of / sizeof *rows_of, MOST_ROWS = 1024 };

struct calibrate {
    struct mb_app app;
    struct mb_bench *out; /* rank 0 */
    struct mb_stream *stream;
    struct mb_comm *group; /* ranks in topology order */
    int32_t index;         /* of this rank in it */
    int repeats;
    struct mb_profile p; /* on rank 0 */
};

/* The slowest rank's value of each repetition, as a measurement; its median is *out. Collective. */
static enum mb_status put(struct calibrate *b, const char *name, const char *unit, bool less, double scale,
                          const double *mine, double *out)
{
    double(*all)[MB_LIMIT_REPEATS] = calloc((size_t)b->app.size, sizeof *all), v[MB_LIMIT_REPEATS] = {0};

    MB_TRY(mb_comm_agree(b->group, all == NULL ? mb_error(MB_NO_MEMORY, "no memory to calibrate") : MB_OK,
                         "calibrating"));
    enum mb_status st = mb_comm_allgather(b->group, mine, sizeof *all, all, "calibrating");
    bool any = false;
    for (int r = 0; r < b->repeats && st == MB_OK; r++) {
        for (int i = 0; i < b->app.size; i++) {
            if (all[i][r] > 0 && (v[r] <= 0 || (less ? all[i][r] > v[r] : all[i][r] < v[r])))
                v[r] = all[i][r];
        }
        any |= v[r] > 0;
    }
    free(all);
    if (st != MB_OK || !any)
        return st;
    *out = mb_bench_median(v, b->repeats);
    for (int r = 0; r < b->repeats; r++)
        v[r] *= scale;
    if (b->out != NULL)
        mb_bench_add(b->out, &(struct mb_measured){
                                 .name = name, .unit = unit, .less = less, .samples = v, .n = b->repeats});
    return MB_OK;
}

/* ---------------------------------------------------------------- products */

struct products {
    struct mb_weight *w[WEIGHTS];
    struct mb_buf *x, *y;
    int32_t side;
};

static void products_fini(struct calibrate *b, struct products *q)
{
    for (int i = 0; i < WEIGHTS; i++)
        b->app.ops->weight_free(q->w[i]);
    b->app.ops->buf_free(q->x);
    b->app.ops->buf_free(q->y);
}

static enum mb_status products_init(struct calibrate *b, int32_t side, struct products *q)
{
    const struct mb_ops *ops = b->app.ops;
    struct mb_weight_desc d = {
        .n = side, .k = side, .dtype = b->app.path, .leaves = 1, .leaf = {0, side}, .cat = MB_MEM_WEIGHTS};
    enum mb_status st = MB_OK;

    *q = (struct products){.side = side};
    for (int i = 0; i < WEIGHTS && st == MB_OK; i++)
        st = ops->weight_create(b->app.dev, &d, &q->w[i]);
    if (st == MB_OK)
        st = ops->buf_alloc(b->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)MOST_ROWS * (uint64_t)side * 4, &q->x);
    if (st == MB_OK)
        st = ops->buf_alloc(b->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)MOST_ROWS * (uint64_t)side * 4, &q->y);
    return st;
}

/* Seconds of a product of so many rows, in the mean over all weights, in each repetition. */
static enum mb_status time_rows(struct calibrate *b, const struct products *q, int32_t rows, double *seconds)
{
    struct mb_view in = mb_view_of(q->x, 0, rows, q->side, b->app.path),
                   to = mb_view_of(q->y, 0, rows, q->side, MB_F32);

    for (int r = -1; r < b->repeats; r++) { /* once to warm up */
        double t = mb_now();
        for (int i = 0; i < WEIGHTS; i++) {
            const struct mb_gemm_group g = {.w = q->w[i], .rows = rows, .bias = MB_NO_VIEW};
            MB_TRY(b->app.ops->gemm(b->stream, to, in, &g, 1));
            MB_TRY(b->app.ops->sync(b->stream));
        }
        if (r >= 0)
            seconds[r] = (mb_now() - t) / WEIGHTS;
    }
    return MB_OK;
}

static enum mb_status measure_rows(struct calibrate *b, const struct products *q, int i)
{
    double v[MB_LIMIT_REPEATS] = {0}, bytes = (double)SIDE * SIDE * (double)mb_dtype_size(b->app.path),
           rate = 0;
    char name[64];

    MB_TRY(mb_comm_barrier(b->group, "calibrating"));
    MB_TRY(mb_comm_agree(b->group, time_rows(b, q, rows_of[i], v), "measuring products"));
    for (int r = 0; r < b->repeats; r++)
        v[r] = 2.0 * rows_of[i] * SIDE * SIDE / v[r];
    snprintf(name, sizeof name, "gemm/%d rows", (int)rows_of[i]);
    MB_TRY(put(b, name, "GFLOP/s", false, 1e-9, v, &rate));
    b->p.flops = rate > b->p.flops ? rate : b->p.flops;
    if (rows_of[i] > 1)
        return MB_OK;
    for (int r = 0; r < b->repeats; r++)
        v[r] = v[r] / (2.0 * SIDE * SIDE) * bytes;
    return put(b, "weights read by one row", "GB/s", false, 1e-9, v, &b->p.bandwidth);
}

/* Large ones by rows, and the smallest: what it takes to start one. */
static enum mb_status measure_products(struct calibrate *b)
{
    struct products large = {.side = SIDE}, small = {.side = SMALL};
    double v[MB_LIMIT_REPEATS] = {0};

    enum mb_status st = products_init(b, SIDE, &large);
    if (st == MB_OK)
        st = products_init(b, SMALL, &small);
    st = mb_comm_agree(b->group, st, "measuring products");
    for (int i = 0; i < ROWS && st == MB_OK; i++)
        st = measure_rows(b, &large, i);
    if (st == MB_OK)
        st = mb_comm_agree(b->group, time_rows(b, &small, 1, v), "measuring products");
    if (st == MB_OK)
        st = put(b, "smallest operation", "us", true, 1e6, v, &b->p.op);
    products_fini(b, &large);
    products_fini(b, &small);
    return st;
}

/* ---------------------------------------------------------------- links */

/* Every rank with a partner sends it so much and gets as much from the one before, all at once: seconds in
 * each repetition; 0 without a partner. Collective over the group. */
static enum mb_status ring(struct calibrate *b, int32_t to, int32_t from, uint64_t bytes, double *seconds)
{
    const struct mb_where at = {"calibrating", -1, -1};
    size_t n = (size_t)b->app.size;
    struct mb_piece *send = calloc(n, sizeof *send), *recv = calloc(n, sizeof *recv);
    uint8_t *room = mb_zalloc(&b->app.mem, MB_MEM_EXCHANGE, 2, bytes);
    enum mb_status st = send == NULL || recv == NULL || room == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to measure links")
                            : MB_OK;

    st = mb_comm_agree(b->group, st, "measuring links");
    if (st == MB_OK && to >= 0) {
        send[to] = (struct mb_piece){room, bytes};
        recv[from] = (struct mb_piece){room + bytes, bytes};
    }
    for (int r = -1; r < b->repeats && st == MB_OK; r++) { /* once to warm up */
        st = mb_comm_barrier(b->group, "measuring links");
        double t = mb_now();
        if (st == MB_OK)
            st = mb_comm_swap(b->group, send, recv, &at);
        if (r >= 0)
            seconds[r] = to >= 0 ? mb_now() - t : 0;
    }
    free(send);
    free(recv);
    mb_free(room);
    return mb_comm_agree(b->group, st, "measuring links");
}

/* A kind of link: small messages, then large ones. senders: ranks that share what is said of it. */
static enum mb_status measure_link(struct calibrate *b, const char *what, int32_t to, int32_t from,
                                   double senders, double *wait, double *rate)
{
    double v[MB_LIMIT_REPEATS] = {0};
    char name[64];

    MB_TRY(ring(b, to, from, WAIT_BYTES, v));
    snprintf(name, sizeof name, "small message %s", what);
    MB_TRY(put(b, name, "us", true, 1e6, v, wait));
    MB_TRY(ring(b, to, from, LINK_BYTES, v));
    for (int r = 0; r < b->repeats; r++)
        v[r] = v[r] > 0 ? senders * (double)LINK_BYTES / v[r] : 0;
    snprintf(name, sizeof name, "bytes %s", what);
    return put(b, name, "GB/s", false, 1e-9, v, rate);
}

/* Inside nodes each rank sends to the next one; between nodes to the rank with its number on the next node.
 */
static enum mb_status measure_links(struct calibrate *b)
{
    const struct mb_topo *t = b->app.topo;
    int32_t node = t->node_of[b->app.rank], first = t->node_first[node],
            here = t->node_first[node + 1] - first, me = b->index - first, next = (node + 1) % t->nodes,
            before = (node + t->nodes - 1) % t->nodes, least = here;

    for (int32_t i = 0; i < t->nodes; i++) {
        int32_t n = t->node_first[i + 1] - t->node_first[i];
        least = n < least ? n : least;
    }
    if (t->ranks > t->nodes)
        MB_TRY(measure_link(b, "inside a node", here > 1 ? first + (me + 1) % here : -1,
                            here > 1 ? first + (me + here - 1) % here : -1, 1, &b->p.link_wait, &b->p.link));
    if (t->nodes < 2)
        return MB_OK;
    bool in = me < least;
    return measure_link(b, "between nodes", in ? t->node_first[next] + me : -1,
                        in ? t->node_first[before] + me : -1, least, &b->p.net_wait, &b->p.net);
}

/* ---------------------------------------------------------------- the whole */

static enum mb_status prepare(struct calibrate *b)
{
    const struct mb_conf *c = b->app.conf;

    b->app.path = strcmp(c->dtype, "f32") == 0 ? MB_F32 : MB_BF16;
    MB_TRY(mb_app_topology(&b->app));
    MB_TRY(mb_app_device(&b->app));
    enum mb_status st = b->app.ops->stream_create(b->app.dev, &b->stream);
    if (st == MB_OK && b->app.rank == 0)
        st = mb_bench_create("calibrate", &b->out);
    MB_TRY(mb_comm_agree(b->app.comm, st, "preparing a benchmark"));
    mb_log_set_quiet(false);
    b->index = b->app.topo->index_of[b->app.rank];
    MB_TRY(mb_comm_split(b->app.comm, "calibrate", 0, b->index, &b->group));
    if (b->out != NULL) {
        mb_bench_fact(b->out, "cpu", json_string(b->app.topo->local[0].cpu_model));
        mb_bench_fact(b->out, "nodes", json_integer(b->app.topo->nodes));
        mb_bench_fact(b->out, "ranks", json_integer(b->app.size));
        mb_bench_fact(b->out, "dtype", json_string(b->app.path == MB_F32 ? "f32" : "bf16"));
    }
    return MB_OK;
}

static enum mb_status report(struct calibrate *b)
{
    char *text = mb_profile_text(&b->p);

    if (text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a profile");
    mb_bench_fact(b->out, "profile", json_loads(text, 0, NULL));
    enum mb_status st = mb_bench_print(b->out, stdout, mb_bench_form_of(b->app.conf), b->app.conf->output);
    if (st == MB_OK && b->app.conf->profile_out[0] != '\0')
        st = mb_publish_bytes(b->app.conf->profile_out, text, strlen(text), 0);
    free(text);
    return st;
}

enum mb_status mb_bench_calibrate(const struct mb_conf *c, int *argc, char ***argv)
{
    struct calibrate *b = calloc(1, sizeof *b);

    if (b == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a benchmark");
    b->repeats = (int)c->repeats;
    enum mb_status st = mb_app_start(&b->app, c, argc, argv);
    if (st == MB_OK)
        st = prepare(b);
    if (st == MB_OK)
        st = measure_products(b);
    if (st == MB_OK)
        st = measure_links(b);
    if (st == MB_OK)
        st = mb_comm_agree(b->app.comm, b->out != NULL ? report(b) : MB_OK, "printing results");
    if (b->stream != NULL)
        b->app.ops->stream_destroy(b->stream);
    mb_app_end_device(&b->app);
    mb_bench_destroy(b->out);
    mb_app_end(&b->app);
    free(b);
    return st;
}
