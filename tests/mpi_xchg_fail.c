/* What an exchange says when it is used wrongly, when ranks are out of step, and where shared memory can't be had. */
#include "mpi_comm.h"

#include "comm/xchg.h"
#include "plain_ops.h"

static _Thread_local struct mb_comm *c; /* ranks may be threads (mpi_threads.c) */
static _Thread_local int rank, size;
static _Thread_local int32_t first[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8}, member[8], node[64]; /* rank 0 has all experts */
static _Thread_local struct mb_serve tables;

static struct mb_xchg *make(enum mb_alltoall algorithm, const int32_t *nodes, int32_t n_nodes, uint64_t shm, struct mb_topo **t)
{
    struct mb_xchg *x = NULL;

    CHECK(mb_topo_synthetic(n_nodes, nodes, t) == MB_OK);
    struct mb_xchg_options o = {.ops = &plain_ops, .node = (*t)->node_of, .algorithm = algorithm, .hidden = 16, .k = 2,
                                .experts = 8, .x_type = MB_F32, .y_type = MB_F32, .max_rows = 4, .shm_bytes = shm,
                                .eager_bytes = 65536};
    CHECK(mb_xchg_create(c, &o, &x) == MB_OK);
    return x;
}

static enum mb_status dispatch(struct mb_xchg *x, int64_t step, int32_t layer, enum mb_status st, int32_t e0, int32_t e1,
                               int64_t rows)
{
    struct mb_xchg_head mine = {.step = step, .layer = layer, .status = st};
    struct mb_dispatched d;
    int32_t experts[10] = {e0, e1, e0, e1, e0, e1, e0, e1, e0, e1};
    float weights[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct mb_buf *in = NULL;

    plain_buf_alloc(NULL, MB_MEM_OTHER, 5 * 16 * 4, &in);
    struct mb_xchg_rows own = {mb_view_of(in, 0, rows, 16, MB_F32), experts, weights, NULL};
    enum mb_status got = mb_xchg_dispatch(x, &tables, &mine, &own, &d);
    plain_buf_free(in);
    return got;
}

static enum mb_status step(struct mb_xchg *x, int64_t number, enum mb_status st)
{
    struct mb_xchg_head mine = {.step = number, .layer = -1, .status = st};
    const struct mb_xchg_head *heads;

    return mb_xchg_step(x, &mine, &heads);
}

static enum mb_status combine(struct mb_xchg *x, int64_t rows, int64_t out_rows)
{
    struct mb_buf *b = NULL;

    plain_buf_alloc(NULL, MB_MEM_OTHER, 1 << 16, &b);
    enum mb_status st = mb_xchg_combine(x, mb_view_of(b, 0, rows, 16, MB_F32), mb_view_of(b, 1 << 15, out_rows, 16, MB_F32));
    plain_buf_free(b);
    return st;
}

static void done(struct mb_xchg *x, struct mb_topo *t)
{
    CHECK(mb_comm_barrier(c, "end of a case") == MB_OK);
    mb_xchg_destroy(x);
    mb_topo_destroy(t);
}

/* Ranks in different steps, or different layers: everyone is told MB_BUG, and the exchange is of no more use. */
static void out_of_step(enum mb_alltoall algorithm, const int32_t *nodes, int32_t n_nodes)
{
    struct mb_topo *t;
    struct mb_xchg *x = make(algorithm, nodes, n_nodes, 1 << 20, &t);

    CHECK(dispatch(x, rank == 1 ? 8 : 7, 3, MB_OK, 0, 1, 3) == MB_BUG);
    CHECK(dispatch(x, 9, 3, MB_OK, 0, 1, 3) == MB_BUG);
    done(x, t);
    x = make(algorithm, nodes, n_nodes, 1 << 20, &t);
    CHECK(dispatch(x, 7, rank == size - 1 ? 4 : 3, MB_OK, 0, 1, 0) == MB_BUG);
    done(x, t);
}

/* Different operations. With a status in its header the other one is a peer that gave up, not a bug. */
static void other_operation(enum mb_alltoall algorithm, const int32_t *nodes, int32_t n_nodes, enum mb_status st)
{
    struct mb_topo *t;
    struct mb_xchg *x = make(algorithm, nodes, n_nodes, 1 << 20, &t);
    enum mb_status got = rank == 0 ? step(x, 7, st) : dispatch(x, 7, 3, MB_OK, 0, 1, 3);

    CHECK(got == (st == MB_OK ? MB_BUG : MB_PEER));
    done(x, t);
}

/* A member fails in its experts, after the dispatch: the combine ends everywhere, and all know. Then it is a peer that goes
 * on to the next step to tell the others, while they are in this one: not a bug either. */
static void failed_member(enum mb_alltoall algorithm, const int32_t *nodes, int32_t n_nodes, int failing)
{
    struct mb_topo *t;
    struct mb_xchg *x = make(algorithm, nodes, n_nodes, 1 << 20, &t);

    CHECK(dispatch(x, 1, 0, MB_OK, 3, 4, 2) == MB_OK);
    CHECK(combine(x, rank == 0 ? 4 * size : 0, 2) == MB_OK);
    CHECK(dispatch(x, 1, 1, MB_OK, 3, 4, 2) == MB_OK);
    if (rank == failing) {
        struct mb_buf *b = NULL;
        plain_buf_alloc(NULL, MB_MEM_OTHER, 2 * 16 * 4, &b);
        mb_xchg_fail(x, MB_DEVICE);
        CHECK(mb_xchg_combine(x, MB_NO_VIEW, mb_view_of(b, 0, 2, 16, MB_F32)) == MB_DEVICE);
        plain_buf_free(b);
    } else {
        CHECK(combine(x, rank == 0 ? 4 * size : 0, 2) == MB_PEER);
    }
    /* one more dispatch, without rows, carries it to all */
    struct mb_xchg_head mine = {.step = 2, .status = rank == failing ? MB_DEVICE : MB_PEER};
    struct mb_dispatched d;
    struct mb_xchg_rows none = {.x = MB_NO_VIEW};
    CHECK(mb_xchg_dispatch(x, &tables, &mine, &none, &d) == MB_OK && d.rows == 0);
    for (int r = 0; r < size; r++)
        CHECK(d.heads[r].status == (r == failing ? MB_DEVICE : MB_PEER));
    done(x, t);
    x = make(algorithm, nodes, n_nodes, 1 << 20, &t);
    CHECK(dispatch(x, rank == failing ? 2 : 1, 1, rank == failing ? MB_DEVICE : MB_OK, 3, 4, rank == failing ? 0 : 2) == MB_PEER);
    done(x, t);
}

static void wrong_use(void)
{
    int32_t nodes[] = {size};
    struct mb_topo *t;
    struct mb_xchg *x = make(MB_A2A_HIER, nodes, 1, 1 << 20, &t);

    CHECK(dispatch(x, 1, 0, MB_OK, 3, 3, 1) == MB_BUG); /* an expert twice */
    CHECK(dispatch(x, 1, 0, MB_OK, 3, 8, 1) == MB_BUG); /* no such expert */
    CHECK(dispatch(x, 1, 0, MB_OK, 3, 4, 5) == MB_BUG); /* more rows than agreed */
    CHECK(combine(x, 0, 0) == MB_BUG);                  /* nothing was dispatched */
    CHECK(dispatch(x, 1, 0, MB_OK, 3, 4, 1) == MB_OK);  /* all on rank 0: 2 terms a row */
    CHECK(combine(x, rank == 0 ? 2 * size + 1 : 0, rank == 0 ? 1 : 2) == MB_BUG);
    CHECK(combine(x, rank == 0 ? 2 * size : 0, 1) == MB_OK);
    CHECK(combine(x, rank == 0 ? 2 * size : 0, 1) == MB_BUG);
    done(x, t);
}

/* More shared memory than the machine has, or too little for a row: flat everywhere, and it works; too little for flat's
 * rings: messages everywhere. */
static void without_shm(enum mb_alltoall algorithm, uint64_t shm)
{
    int32_t nodes[] = {size - 1, 1};
    struct mb_topo *t;
    struct mb_xchg *x = make(algorithm, nodes, 2, shm, &t);
    struct mb_xchg_counts n;

    CHECK(mb_xchg_algorithm(x) == MB_A2A_FLAT);
    for (int64_t s = 0; s < 3; s++) {
        CHECK(dispatch(x, s, 0, MB_OK, 3, 4, 2) == MB_OK);
        CHECK(combine(x, rank == 0 ? 4 * size : 0, 2) == MB_OK);
    }
    test_no_shm_left(c);
    mb_xchg_counts(x, &n);
    CHECK(n.dispatch_messages[MB_LINK_SHM] == 0 && (rank == size - 1) == (n.dispatch_messages[MB_LINK_INTRA] == 0));
    done(x, t);
}

static void disagreement(void)
{
    int32_t nodes[] = {size};
    struct mb_topo *t;
    struct mb_xchg *x = NULL;

    CHECK(mb_topo_synthetic(1, nodes, &t) == MB_OK);
    struct mb_xchg_options o = {.ops = &plain_ops, .node = t->node_of, .algorithm = MB_A2A_FLAT, .hidden = rank == 0 ? 16 : 32,
                                .k = 2, .experts = 8, .max_rows = 4};
    CHECK(mb_xchg_create(c, &o, &x) == MB_BUG && x == NULL);
    o.hidden = 16;
    o.k = rank == 0 ? 9 : 2; /* only rank 0's options are impossible */
    CHECK(mb_xchg_create(c, &o, &x) == MB_BUG && x == NULL);
    o.k = 2;
    o.max_rows = (int64_t)1 << 31;
    CHECK(mb_xchg_create(c, &o, &x) == MB_LAYOUT && x == NULL);
    mb_topo_destroy(t);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    c = test_comm(20, NULL);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    tables = (struct mb_serve){.ids = 8, .members = size, .first = first, .member = member, .node = node};
    int32_t one[] = {size}, two[] = {1, size - 1};
    wrong_use();
    disagreement();
    out_of_step(MB_A2A_FLAT, one, 1);
    out_of_step(MB_A2A_HIER, one, 1);
    out_of_step(MB_A2A_HIER, two, 2);
    other_operation(MB_A2A_FLAT, one, 1, MB_OK);
    other_operation(MB_A2A_FLAT, one, 1, MB_DEVICE);
    other_operation(MB_A2A_HIER, one, 1, MB_OK);
    other_operation(MB_A2A_HIER, one, 1, MB_DEVICE);
    for (int failing = 0; failing < size; failing++) {
        failed_member(MB_A2A_FLAT, one, 1, failing);
        failed_member(MB_A2A_HIER, one, 1, failing);
        failed_member(MB_A2A_HIER, two, 2, failing);
    }
    without_shm(MB_A2A_HIER, (uint64_t)1 << 50);
    without_shm(MB_A2A_HIER, 4096);
    without_shm(MB_A2A_FLAT, 4096);
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
