/* moebatch bench nodes: every node's limits, a matrix product, reading of weights and links to every other
 * node; who lags is named. */
#include "app/bench_nodes.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "app/bench.h"
#include "app/setup.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "comm/group.h"

#define LINK_BYTES ((uint64_t)8 << 20)
#define GEMM_ROWS 512
#define GEMM_SIDE 2048
#define READ_PIECE ((size_t)16 << 20)

/* What a node is measured by. */
enum kind { READ, FLOPS, GEMM, WEIGHTS, KINDS };
static const char *const kind_names[KINDS] = {"read", "peak", "gemm", "weights"};
static const char *const kind_units[KINDS] = {"GB/s", "GFLOP/s", "GFLOP/s", "GB/s"};

/* Of one rank, in its repetitions; per second. Flat. */
struct told {
    double v[KINDS][MB_LIMIT_REPEATS];
};

struct nodes {
    struct mb_app app;
    struct mb_bench *out; /* rank 0 */
    struct mb_stream *stream;
    int repeats;
    struct told mine;
    double (*node)[KINDS][MB_LIMIT_REPEATS]; /* [nodes], on rank 0 */
    double *link;                            /* [nodes][nodes] bytes/s, on rank 0 */
    char (*name)[96];                        /* [nodes] hosts, with a number where one name comes twice */
    char slow[2048];                         /* who lags, for people */
    int n_slow;
};

/* ---------------------------------------------------------------- a rank's measurements */
static enum mb_status time_gemm(struct nodes *b, struct mb_weight *w, struct mb_buf *x, struct mb_buf *out)
{
    const struct mb_gemm_group g = {.w = w, .rows = GEMM_ROWS, .bias = MB_NO_VIEW};
    struct mb_view in = mb_view_of(x, 0, GEMM_ROWS, GEMM_SIDE, b->app.path),
                   to = mb_view_of(out, 0, GEMM_ROWS, GEMM_SIDE, MB_F32);

    for (int r = -1; r < b->repeats; r++) { /* once to warm up */
        double t = mb_now();
        MB_TRY(b->app.ops->gemm(b->stream, to, in, &g, 1));
        MB_TRY(b->app.ops->sync(b->stream));
        if (r >= 0)
            b->mine.v[GEMM][r] = 2.0 * GEMM_ROWS * GEMM_SIDE * GEMM_SIDE / (mb_now() - t);
    }
    return MB_OK;
}

static enum mb_status measure_gemm(struct nodes *b)
{
    const struct mb_ops *ops = b->app.ops;
    struct mb_weight_desc d = {.n = GEMM_SIDE,
                               .k = GEMM_SIDE,
                               .dtype = b->app.path,
                               .leaves = 1,
                               .leaf = {0, GEMM_SIDE},
                               .cat = MB_MEM_WEIGHTS};
    struct mb_weight *w = NULL;
    struct mb_buf *x = NULL, *out = NULL;

    enum mb_status st = ops->weight_create(b->app.dev, &d, &w);
    if (st == MB_OK)
        st = ops->buf_alloc(b->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)GEMM_ROWS * GEMM_SIDE * 4, &x);
    if (st == MB_OK)
        st = ops->buf_alloc(b->app.dev, MB_MEM_ACTIVATIONS, (uint64_t)GEMM_ROWS * GEMM_SIDE * 4, &out);
    if (st == MB_OK)
        st = time_gemm(b, w, x, out);
    ops->weight_free(w);
    ops->buf_free(x);
    ops->buf_free(out);
    return st;
}

/* Bytes/s from the beginning of a file, as far as --buffer; what the kernel kept of it is dropped first,
 * where it lets go. */
static enum mb_status read_file(struct nodes *b, const char *path, uint64_t bytes, void *room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return mb_error(MB_IO, "%s can't be opened; give a model with its weights, or none", path);
    enum mb_status st = MB_OK;
    for (int r = 0; r < b->repeats && st == MB_OK; r++) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        double t = mb_now();
        for (uint64_t at = 0; at < bytes && st == MB_OK; at += READ_PIECE)
            st = mb_pread_all(fd, room, bytes - at < READ_PIECE ? bytes - at : READ_PIECE, at, path, MB_IO);
        b->mine.v[WEIGHTS][r] = (double)bytes / (mb_now() - t);
    }
    close(fd);
    return st;
}

/* One rank of each node, the others wait at the agreement. */
static enum mb_status measure_weights(struct nodes *b)
{
    const struct mb_topo *t = b->app.topo;
    int32_t node = t->node_of[b->app.rank];
    struct mb_model *m = NULL;

    if (b->app.conf->model[0] == '\0' || t->order[t->node_first[node]] != b->app.rank)
        return MB_OK;
    MB_TRY(mb_app_open_shapes(b->app.conf->model, 0, &m));
    void *room = mb_alloc(&b->app.mem, MB_MEM_STAGING, READ_PIECE, 1);
    enum mb_status st = room == NULL ? mb_error(MB_NO_MEMORY, "no memory to read weights") : MB_OK;
    int32_t largest = 0;
    for (int32_t f = 1; f < m->n_files; f++)
        largest = m->file_bytes[f] > m->file_bytes[largest] ? f : largest;
    if (st == MB_OK && m->n_files == 0)
        st = mb_error(MB_MODEL, "%s has no weights to read", b->app.conf->model);
    if (st == MB_OK) {
        uint64_t bytes = m->file_bytes[largest] < (uint64_t)b->app.conf->buffer
                             ? m->file_bytes[largest]
                             : (uint64_t)b->app.conf->buffer;
        char *path = mb_path_join(m->dir, m->files[largest]);
        st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : read_file(b, path, bytes, room);
        free(path);
    }
    mb_free(room);
    mb_model_destroy(m);
    return st;
}

static enum mb_status measure_machine(struct nodes *b)
{
    const struct mb_topo *t = b->app.topo;
    int32_t node = t->node_of[b->app.rank], ranks = t->node_first[node + 1] - t->node_first[node];
    struct mb_limits l;
    enum mb_limit which;

    MB_TRY(
        mb_limits_measure(b->app.dev, &b->app.mem, (uint64_t)(b->app.conf->buffer / ranks), b->repeats, &l));
    (void)mb_limit_peak(&l, b->app.path, &which);
    memcpy(b->mine.v[READ], l.rate[MB_LIMIT_READ], sizeof b->mine.v[READ]);
    memcpy(b->mine.v[FLOPS], l.rate[which], sizeof b->mine.v[FLOPS]);
    return measure_gemm(b);
}

/* All ranks at the same time, as they will work; nodes are the sums of their ranks. Collective. */
static enum mb_status measure_nodes(struct nodes *b)
{
    const struct mb_topo *t = b->app.topo;
    struct told *all = calloc((size_t)b->app.size, sizeof *all);

    MB_TRY(mb_comm_agree(b->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for nodes") : MB_OK,
                         "nodes"));
    enum mb_status st = mb_comm_barrier(b->app.comm, "measuring nodes");
    if (st == MB_OK)
        st = mb_comm_agree(b->app.comm, measure_machine(b), "measuring nodes");
    if (st == MB_OK)
        st = mb_comm_agree(b->app.comm, measure_weights(b), "reading weights");
    if (st == MB_OK)
        st = mb_comm_allgather(b->app.comm, &b->mine, sizeof b->mine, all, "nodes");
    for (int r = 0; r < b->app.size && st == MB_OK; r++)
        for (int k = 0; k < KINDS; k++)
            for (int i = 0; i < b->repeats; i++)
                b->node[t->node_of[r]][k][i] += all[r].v[k][i];
    free(all);
    return st;
}

/* ---------------------------------------------------------------- links */
static int32_t ranks_of(const struct mb_topo *t, int32_t node)
{
    return t->node_first[node + 1] - t->node_first[node];
}

/* The world rank that this one meets on another node; -1: none. */
static int32_t opposite(const struct nodes *b, int32_t other)
{
    const struct mb_topo *t = b->app.topo;
    int32_t node = t->node_of[b->app.rank], me = t->index_of[b->app.rank] - t->node_first[node];

    return other >= 0 && me < ranks_of(t, other) ? t->order[t->node_first[other] + me] : -1;
}

/* Every pair of nodes once, as many pairs at a time as there are; both ways at once. Collective. */
static enum mb_status one_round(struct nodes *b, int32_t round, struct mb_piece *send, struct mb_piece *recv,
                                uint8_t *room, double *all)
{
    const struct mb_where at = {"measuring links", round, -1};
    const struct mb_topo *t = b->app.topo;
    int32_t peer = opposite(b, mb_bench_partner(t->nodes, round, t->node_of[b->app.rank]));
    double best = 0;

    for (int r = -1; r < b->repeats; r++) {
        if (peer >= 0) {
            send[peer] = (struct mb_piece){room, LINK_BYTES};
            recv[peer] = (struct mb_piece){room + LINK_BYTES, LINK_BYTES};
        }
        MB_TRY(mb_comm_barrier(b->app.comm, "measuring links"));
        double s = mb_now();
        MB_TRY(mb_comm_swap(b->app.comm, send, recv, &at));
        double rate = (double)LINK_BYTES / (mb_now() - s);
        best = r >= 0 && peer >= 0 && rate > best ? rate : best;
        if (peer >= 0)
            send[peer] = recv[peer] = (struct mb_piece){NULL, 0};
    }
    MB_TRY(mb_comm_allgather(b->app.comm, &best, sizeof best, all, "links"));
    for (int r = 0; r < b->app.size; r++) {
        int32_t node = t->node_of[r], other = mb_bench_partner(t->nodes, round, node);
        if (other >= 0)
            b->link[(int64_t)node * t->nodes + other] += all[r];
    }
    return MB_OK;
}

static enum mb_status measure_links(struct nodes *b)
{
    const struct mb_topo *t = b->app.topo;
    size_t n = (size_t)b->app.size;
    struct mb_piece *send = calloc(n, sizeof *send), *recv = calloc(n, sizeof *recv);
    double *all = calloc(n, sizeof *all);
    uint8_t *room = mb_zalloc(&b->app.mem, MB_MEM_EXCHANGE, 2, LINK_BYTES);
    bool ok = send != NULL && recv != NULL && all != NULL && room != NULL;
    enum mb_status st = mb_comm_agree(
        b->app.comm, ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory to measure links"), "links");

    for (int32_t r = 0; r < t->nodes - 1 + t->nodes % 2 && t->nodes > 1 && st == MB_OK; r++)
        st = one_round(b, r, send, recv, room, all);
    free(send);
    free(recv);
    free(all);
    mb_free(room);
    return st;
}

/* ---------------------------------------------------------------- who lags */
static void blame(struct nodes *b, const char *what, double value, double median)
{
    size_t at = strlen(b->slow);

    b->n_slow++;
    if (at + 1 < sizeof b->slow)
        snprintf(b->slow + at, sizeof b->slow - at, "%s%s (%.1f %% of the median)", at > 0 ? "; " : "", what,
                 100 * value / median);
}

static void add_kind(struct nodes *b, int kind, double *v, bool *slow)
{
    int32_t n = b->app.topo->nodes;

    for (int32_t i = 0; i < n; i++)
        v[i] = mb_bench_median(b->node[i][kind], b->repeats);
    double median = mb_bench_slow(v, n, b->app.conf->threshold, slow);
    for (int32_t i = 0; i < n; i++) {
        double samples[MB_LIMIT_REPEATS];
        char name[160];
        if (v[i] <= 0)
            continue;
        for (int r = 0; r < b->repeats; r++)
            samples[r] = b->node[i][kind][r] / 1e9;
        snprintf(name, sizeof name, "node/%s/%s", b->name[i], kind_names[kind]);
        mb_bench_add(b->out,
                     &(struct mb_measured){.name = name,
                                           .unit = kind_units[kind],
                                           .samples = samples,
                                           .n = b->repeats,
                                           .fields = json_pack("{s:s, s:s, s:b}", "node", b->name[i], "kind",
                                                               kind_names[kind], "slow", (int)slow[i])});
        snprintf(name, sizeof name, "%s: %s", b->name[i], kind_names[kind]);
        if (slow[i])
            blame(b, name, v[i], median);
    }
}

/* A pair is slow beside all pairs; a node is if the median of its pairs is. */
static enum mb_status add_links(struct nodes *b)
{
    int32_t n = b->app.topo->nodes, pairs = n * (n - 1) / 2, p = 0;
    double *v = calloc((size_t)pairs + 1, sizeof *v);
    bool *slow = calloc((size_t)pairs + 1, sizeof *slow);

    if (v == NULL || slow == NULL) {
        free(v);
        free(slow);
        return mb_error(MB_NO_MEMORY, "no memory for links");
    }
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = i + 1; j < n; j++)
            v[p++] = fmin(b->link[(int64_t)i * n + j], b->link[(int64_t)j * n + i]);
    double median = mb_bench_slow(v, pairs, b->app.conf->threshold, slow);
    p = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = i + 1; j < n; j++, p++) {
            char name[256];
            double rate = v[p] / 1e9;
            snprintf(name, sizeof name, "link/%s/%s", b->name[i], b->name[j]);
            mb_bench_add(b->out, &(struct mb_measured){.name = name,
                                                       .unit = "GB/s",
                                                       .samples = &rate,
                                                       .n = 1,
                                                       .fields = json_pack("{s:s, s:s, s:b}", "node",
                                                                           b->name[i], "other", b->name[j],
                                                                           "slow", (int)slow[p])});
            snprintf(name, sizeof name, "%s - %s: link", b->name[i], b->name[j]);
            if (slow[p])
                blame(b, name, v[p], median);
        }
    free(v);
    free(slow);
    return MB_OK;
}

static enum mb_status report(struct nodes *b)
{
    int32_t n = b->app.topo->nodes;
    double *v = calloc((size_t)n, sizeof *v);
    bool *slow = calloc((size_t)n, sizeof *slow);
    enum mb_status st = v == NULL || slow == NULL ? mb_error(MB_NO_MEMORY, "no memory for nodes") : MB_OK;

    for (int k = 0; k < KINDS && st == MB_OK; k++)
        add_kind(b, k, v, slow);
    free(v);
    free(slow);
    if (st == MB_OK)
        st = add_links(b);
    mb_bench_fact(b->out, "slow", json_string(b->n_slow > 0 ? b->slow : "none"));
    mb_bench_fact(b->out, "slow_count", json_integer(b->n_slow));
    return st == MB_OK ? mb_bench_print(b->out, stdout, mb_bench_form_of(b->app.conf), b->app.conf->output)
                       : st;
}

/* ---------------------------------------------------------------- the whole */
static void name_nodes(struct nodes *b)
{
    const struct mb_topo *t = b->app.topo;

    for (int32_t i = 0; i < t->nodes; i++) {
        const char *host = t->local[t->order[t->node_first[i]]].host;
        bool twice = false;
        for (int32_t j = 0; j < t->nodes; j++)
            twice |= j != i && strcmp(host, t->local[t->order[t->node_first[j]]].host) == 0;
        snprintf(b->name[i], sizeof b->name[i], twice ? "%s#%d" : "%s", host, i);
    }
}

static enum mb_status prepare(struct nodes *b)
{
    const struct mb_conf *c = b->app.conf;

    b->app.path = strcmp(c->dtype, "f32") == 0 ? MB_F32 : MB_BF16;
    MB_TRY(mb_app_topology(&b->app));
    MB_TRY(mb_app_device(&b->app));
    size_t n = (size_t)b->app.topo->nodes;
    b->node = calloc(n, sizeof *b->node);
    b->link = calloc(n * n, sizeof *b->link);
    b->name = calloc(n, sizeof *b->name);
    bool ok = b->node != NULL && b->link != NULL && b->name != NULL;
    enum mb_status st = ok ? b->app.ops->stream_create(b->app.dev, &b->stream)
                           : mb_error(MB_NO_MEMORY, "no memory for %zu nodes", n);
    if (st == MB_OK && b->app.rank == 0)
        st = mb_bench_create("nodes", &b->out);
    MB_TRY(mb_comm_agree(b->app.comm, st, "preparing a benchmark"));
    mb_log_set_quiet(false);
    name_nodes(b);
    if (b->out != NULL) {
        mb_bench_fact(b->out, "cpu", json_string(b->app.topo->local[0].cpu_model));
        mb_bench_fact(b->out, "nodes", json_integer(b->app.topo->nodes));
        mb_bench_fact(b->out, "ranks", json_integer(b->app.size));
        mb_bench_fact(b->out, "threshold", json_real(c->threshold));
    }
    return MB_OK;
}

enum mb_status mb_bench_nodes(const struct mb_conf *c, int *argc, char ***argv, int *exit_code)
{
    struct nodes *b = calloc(1, sizeof *b);

    if (b == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a benchmark");
    b->repeats = (int)c->repeats;
    enum mb_status st = mb_app_start(&b->app, c, argc, argv);
    if (st == MB_OK)
        st = prepare(b);
    if (st == MB_OK)
        st = measure_nodes(b);
    if (st == MB_OK)
        st = measure_links(b);
    if (st == MB_OK) {
        st = mb_comm_agree(b->app.comm, b->out != NULL ? report(b) : MB_OK, "printing results");
        int32_t slow = b->n_slow;
        if (st == MB_OK)
            st = mb_comm_bcast(b->app.comm, &slow, sizeof slow, 0, "who lags");
        if (st == MB_OK && slow > 0)
            *exit_code = 3;
    }
    if (b->stream != NULL)
        b->app.ops->stream_destroy(b->stream);
    mb_app_end_device(&b->app);
    mb_bench_destroy(b->out);
    free(b->node);
    free(b->link);
    free(b->name);
    mb_app_end(&b->app);
    free(b);
    return st;
}
