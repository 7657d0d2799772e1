/* Drives the exchange until at least MB megabytes have crossed between nodes, and prints what was counted, so that it can be
 * compared with the counters of the network interfaces. Nodes are the machine's (or NODES synthetic ones on one machine).
 * xchg_bytes flat|hier MB [NODES]
 * Prints per node: node, host, ranks, bytes and messages sent to other nodes; then the totals, seconds, MB/s, seconds that rank 0 waited. */
#include "mpi_comm.h"

#include "comm/xchg.h"

#define HIDDEN 2048
#define K 4
#define EXPERTS 64
#define ROWS 256

struct line {
    char host[64];
    int64_t bytes, messages;
};

static struct mb_comm *c;
static int rank, size;
static const struct mb_ops *ops;
static struct mb_device *dev;
static struct mb_stream *stream;

static struct mb_topo *machine(int32_t nodes)
{
    struct mb_topo_local mine, *all = calloc((size_t)size, sizeof *all);
    int32_t *same = calloc((size_t)size, sizeof *same), *per = calloc((size_t)size, sizeof *per);
    struct mb_topo *t = NULL;

    if (nodes > 0) {
        for (int32_t b = 0; b < nodes; b++)
            per[b] = (b + 1) * size / nodes - b * size / nodes;
        CHECK(mb_topo_synthetic(nodes, per, &t) == MB_OK);
    } else {
        CHECK(mb_topo_discover(NULL, &mine, NULL) == MB_OK);
        CHECK(mb_comm_allgather(c, &mine, sizeof mine, all, "topology") == MB_OK);
        CHECK(mb_comm_same_node(c, same) == MB_OK);
        CHECK(mb_topo_create(all, same, size, 1, &t) == MB_OK);
    }
    free(all);
    free(same);
    free(per);
    return t;
}

/* One layer's exchange: each row goes to K experts, spread evenly. */
static void one_layer(struct mb_xchg *x, const struct mb_serve *v, int64_t step, struct mb_buf *in, struct mb_buf *y,
                      struct mb_buf *out)
{
    static int32_t experts[ROWS * K];
    static float weights[ROWS * K];
    struct mb_xchg_head mine = {.step = step};
    struct mb_dispatched d;

    for (int32_t i = 0; i < ROWS * K; i++) {
        experts[i] = (i / K * 5 + i % K * (EXPERTS / K) + rank) % EXPERTS;
        weights[i] = 0.25f;
    }
    struct mb_xchg_rows own = {mb_view_of(in, 0, ROWS, HIDDEN, MB_BF16), experts, weights, NULL};
    CHECK(mb_xchg_dispatch(x, v, &mine, &own, &d) == MB_OK);
    CHECK(mb_xchg_combine(x, mb_view_of(y, 0, d.rows, HIDDEN, MB_BF16), mb_view_of(out, 0, ROWS, HIDDEN, MB_F32)) == MB_OK);
}

static int64_t inter(const struct mb_xchg *x, int64_t *messages)
{
    struct mb_xchg_counts n;

    mb_xchg_counts(x, &n);
    *messages = n.dispatch_messages[MB_LINK_INTER] + n.combine_messages[MB_LINK_INTER];
    return n.dispatch_bytes[MB_LINK_INTER] + n.combine_bytes[MB_LINK_INTER];
}

static int64_t total(int64_t v)
{
    CHECK(mb_comm_sum_i64(c, &v, 1, "bytes") == MB_OK);
    return v;
}

static void report(const struct mb_xchg *x, const struct mb_topo *t, double seconds)
{
    struct mb_xchg_counts n;
    struct line mine = {.host = ""}, *all = calloc((size_t)size, sizeof *all);
    int64_t bytes = 0, messages = 0;

    mb_xchg_counts(x, &n);
    gethostname(mine.host, sizeof mine.host - 1);
    mine.bytes = inter(x, &mine.messages);
    CHECK(mb_comm_allgather(c, &mine, sizeof mine, all, "counts") == MB_OK);
    for (int32_t b = 0; rank == 0 && b < t->nodes; b++) {
        int64_t nb = 0, nm = 0;
        for (int32_t i = t->node_first[b]; i < t->node_first[b + 1]; i++) {
            nb += all[t->order[i]].bytes;
            nm += all[t->order[i]].messages;
        }
        printf("node %d host %s ranks %d sent_bytes %lld messages %lld\n", b, all[t->order[t->node_first[b]]].host,
               t->node_first[b + 1] - t->node_first[b], (long long)nb, (long long)nm);
        bytes += nb;
        messages += nm;
    }
    if (rank == 0)
        printf("total %s inter_bytes %lld messages %lld seconds %.3f MB/s %.1f waiting %.3f\n",
               mb_xchg_algorithm(x) == MB_A2A_HIER ? "hier" : "flat", (long long)bytes, (long long)messages, seconds,
               1e-6 * (double)bytes / seconds, n.seconds_wait);
    free(all);
}

int main(int argc, char **argv)
{
    static int32_t first[EXPERTS + 1], member[EXPERTS], node[64];
    struct mb_comm *world;
    struct mb_xchg *x = NULL;
    struct mb_buf *in, *y, *out;
    int64_t messages, want;
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    CHECK(argc >= 3);
    world = c = test_comm(120, NULL);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    CHECK(size <= 64);
    struct mb_device_options d = {.threads = 1, .isa = "auto", .path = MB_BF16};
    ops = mb_ops_find("cpu");
    CHECK(ops->open(&d, &dev) == MB_OK && ops->stream_create(dev, &stream) == MB_OK);
    want = (int64_t)(1e6 * atof(argv[2]));
    struct mb_topo *t = machine(argc > 3 ? atoi(argv[3]) : 0);
    CHECK(t->nodes > 1); /* else nothing ever crosses */
    CHECK(mb_comm_split(world, "part", 0, t->index_of[rank], &c) == MB_OK); /* members in topology order */
    for (int32_t m = 0; m < size; m++)
        node[m] = t->node_of[t->order[m]];
    for (int32_t e = 0; e < EXPERTS; e++) {
        first[e + 1] = e + 1;
        member[e] = (int32_t)(((int64_t)(e + 1) * size - 1) / EXPERTS);
    }
    struct mb_serve v = {.ids = EXPERTS, .members = size, .first = first, .member = member, .node = node};
    rank = mb_comm_rank(c);
    struct mb_xchg_options o = {.ops = ops, .dev = dev, .stream = stream, .node = node, .hidden = HIDDEN, .k = K, .experts = EXPERTS,
                                .algorithm = strcmp(argv[1], "hier") == 0 ? MB_A2A_HIER : MB_A2A_FLAT, .x_type = MB_BF16,
                                .y_type = MB_BF16, .max_rows = ROWS, .shm_bytes = 64u << 20, .eager_bytes = 64u << 10};
    CHECK(mb_xchg_create(c, &o, &x) == MB_OK);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, ROWS * HIDDEN * 2, &in) == MB_OK);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, (uint64_t)size * ROWS * K * HIDDEN * 2, &y) == MB_OK);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, ROWS * HIDDEN * 4, &out) == MB_OK);
    CHECK(mb_comm_barrier(c, "start") == MB_OK);
    double start = mb_now();
    for (int64_t step = 0; step % 4 != 0 || total(inter(x, &messages)) < want; step++)
        one_layer(x, &v, step, in, y, out);
    report(x, t, mb_now() - start);
    ops->buf_free(in);
    ops->buf_free(y);
    ops->buf_free(out);
    mb_xchg_destroy(x);
    mb_comm_destroy(c);
    c = world;
    mb_topo_destroy(t);
    ops->stream_destroy(stream);
    ops->close(dev);
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
