/* Collectives over world for setup, assembly and the end: nonblocking MPI through the waiting function. */
#include <limits.h>
#include <string.h>
#include "base/log.h"
#include "comm/impl.h"
#include "comm/wait.h"

#define PIECE ((uint64_t)64 << 20)  /* bytes of one broadcast or point-to-point message */
#define GATHER_MAX ((uint64_t)1 << 30) /* bytes an all-gather moves at once */
#define PEERS_AT_ONCE 16

static struct mb_wait_for about(const char *op, const char *what)
{
    return (struct mb_wait_for){op, what, -1, -1, false};
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum mb_status mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what)
{
    struct mb_wait_for w = about("broadcast", what);
    uint8_t *p = data;

    mb_wait_begin(c);
    for (uint64_t at = 0; at < n; at += PIECE) {
        MPI_Request rq;
        int piece = (int)min_u64(PIECE, n - at);
        mb_mpi_check(c, MPI_Ibcast(p + at, piece, MPI_BYTE, root, c->mpi, &rq), "MPI_Ibcast");
        MB_TRY(mb_wait_all(c, &w, &rq, 1));
    }
    return MB_OK;
}

enum mb_status mb_comm_bcast_bytes(struct mb_comm *c, struct mb_bytes *b, int root, const char *what)
{
    uint64_t n = b->len;
    enum mb_status st = MB_OK;

    MB_TRY(mb_comm_bcast(c, &n, sizeof n, root, what));
    if (c->rank != root) {
        b->len = 0;
        st = mb_bytes_reserve(b, n);
    }
    MB_TRY(mb_comm_agree(c, st, what));
    MB_TRY(mb_comm_bcast(c, b->data, n, root, what));
    b->len = n;
    return MB_OK;
}

static enum mb_status gather_once(struct mb_comm *c, const void *in, int n, void *out, const char *what)
{
    struct mb_wait_for w = about("all-gather", what);
    MPI_Request rq;

    mb_wait_begin(c);
    mb_mpi_check(c, MPI_Iallgather(in, n, MPI_BYTE, out, n, MPI_BYTE, c->mpi, &rq), "MPI_Iallgather");
    return mb_wait_all(c, &w, &rq, 1);
}

/* Pieces of every rank's block go through a buffer, because a piece of all blocks is not contiguous in out. */
static enum mb_status gather_pieces(struct mb_comm *c, const uint8_t *in, uint64_t n, uint8_t *out, uint64_t piece,
                                    const char *what)
{
    uint8_t *tmp = mb_alloc(c->mem, MB_MEM_EXCHANGE, (size_t)c->size, piece);
    enum mb_status st = mb_comm_agree(
        c, tmp != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the all-gather of %s", what), what);

    for (uint64_t at = 0; st == MB_OK && at < n; at += piece) {
        uint64_t len = min_u64(piece, n - at);
        st = gather_once(c, in + at, (int)len, tmp, what);
        for (int r = 0; st == MB_OK && r < c->size; r++)
            memcpy(out + (uint64_t)r * n + at, tmp + (uint64_t)r * len, len);
    }
    mb_free(tmp);
    return st;
}

enum mb_status mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out, const char *what)
{
    uint64_t piece = GATHER_MAX / (uint64_t)c->size;

    if (n <= piece)
        return gather_once(c, in, (int)n, out, what);
    return gather_pieces(c, in, n, out, piece, what);
}

static enum mb_status reduce_i64(struct mb_comm *c, int64_t *v, int32_t n, MPI_Op op, const char *what)
{
    struct mb_wait_for w = about("all-reduce", what);
    MPI_Request rq;

    mb_wait_begin(c);
    mb_mpi_check(c, MPI_Iallreduce(MPI_IN_PLACE, v, n, MPI_INT64_T, op, c->mpi, &rq), "MPI_Iallreduce");
    return mb_wait_all(c, &w, &rq, 1);
}

enum mb_status mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what)
{
    return reduce_i64(c, v, n, MPI_MAX, what);
}

enum mb_status mb_comm_sum_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what)
{
    return reduce_i64(c, v, n, MPI_SUM, what);
}

enum mb_status mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what)
{
    /* The worst status, and among its ranks the lowest. "A peer failed" is no cause: it gives way to the peer's own. */
    int64_t weight = mine == MB_PEER ? 1 : mine == MB_OK ? 0 : 1 + (int64_t)mine;
    int64_t v = (weight << 32) + (INT_MAX - c->rank);

    MB_TRY(reduce_i64(c, &v, 1, MPI_MAX, what));
    weight = v >> 32;
    enum mb_status worst = weight == 1 ? MB_PEER : weight == 0 ? MB_OK : (enum mb_status)(weight - 1);
    int rank = INT_MAX - (int)(v & INT_MAX);
    if (worst == MB_OK || rank != c->rank)
        mb_log_drop_held(); /* nothing happened, or another rank says it */
    else
        mb_log_say_held();
    if (c->rank == 0 && mine == MB_OK && worst != MB_OK)
        mb_error(worst, "%s: rank %d ended with \"%s\"; its own message says why", what, rank, mb_status_name(worst));
    return worst;
}

enum mb_status mb_comm_barrier(struct mb_comm *c, const char *what)
{
    struct mb_wait_for w = about("barrier", what);
    MPI_Request rq;

    mb_wait_begin(c);
    mb_mpi_check(c, MPI_Ibarrier(c->mpi, &rq), "MPI_Ibarrier");
    return mb_wait_all(c, &w, &rq, 1);
}

/* The counts each rank has for me: off becomes the boundaries of what I receive. */
static enum mb_status swap_counts(struct mb_comm *c, const uint64_t *off, uint64_t *recv_off, const char *what)
{
    struct mb_wait_for w = about("all-to-all", what);
    uint64_t *n = mb_alloc(c->mem, MB_MEM_EXCHANGE, (size_t)c->size, sizeof *n);
    enum mb_status st = n != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the all-to-all of %s", what);
    MPI_Request rq;

    st = mb_comm_agree(c, st, what);
    if (st != MB_OK) {
        mb_free(n);
        return st;
    }
    for (int r = 0; r < c->size; r++)
        n[r] = off[r + 1] - off[r];
    mb_wait_begin(c);
    mb_mpi_check(c, MPI_Ialltoall(n, 1, MPI_UINT64_T, recv_off + 1, 1, MPI_UINT64_T, c->mpi, &rq), "MPI_Ialltoall");
    st = mb_wait_all(c, &w, &rq, 1);
    mb_free(n);
    recv_off[0] = 0;
    for (int r = 0; r < c->size; r++)
        recv_off[r + 1] += recv_off[r];
    return st;
}

/* One piece (from byte `at`) of the blocks exchanged with the ranks at distances d0 .. d1 - 1. */
static enum mb_status swap_piece(struct mb_comm *c, const uint8_t *send, const uint64_t *off, uint8_t *recv,
                                 const uint64_t *recv_off, int d0, int d1, uint64_t at, const char *what)
{
    struct mb_wait_for w = about("all-to-all", what);
    MPI_Request rq[2 * PEERS_AT_ONCE];
    int n = 0;

    for (int d = d0; d < d1; d++) {
        int to = (c->rank + d) % c->size, from = (c->rank - d + c->size) % c->size;
        uint64_t out = off[to + 1] - off[to], in = recv_off[from + 1] - recv_off[from];
        if (in > at)
            mb_mpi_check(c, MPI_Irecv(recv + recv_off[from] + at, (int)min_u64(PIECE, in - at), MPI_BYTE, from, 1, c->mpi,
                                      &rq[n++]), "MPI_Irecv");
        if (out > at)
            mb_mpi_check(c, MPI_Isend(send + off[to] + at, (int)min_u64(PIECE, out - at), MPI_BYTE, to, 1, c->mpi,
                                      &rq[n++]), "MPI_Isend");
    }
    return mb_wait_all(c, &w, rq, n);
}

static enum mb_status swap_blocks(struct mb_comm *c, const uint8_t *send, const uint64_t *off, uint8_t *recv,
                                  const uint64_t *recv_off, const char *what)
{
    uint64_t most = 0;

    mb_wait_begin(c);
    for (int r = 0; r < c->size; r++) {
        uint64_t out = off[r + 1] - off[r], in = recv_off[r + 1] - recv_off[r];
        most = out > most ? out : most;
        most = in > most ? in : most;
    }
    uint64_t own = off[c->rank + 1] - off[c->rank];
    if (own > 0)
        memcpy(recv + recv_off[c->rank], send + off[c->rank], own);
    for (int d = 1; d < c->size; d += PEERS_AT_ONCE) {
        int end = d + PEERS_AT_ONCE < c->size ? d + PEERS_AT_ONCE : c->size;
        for (uint64_t at = 0; at < most; at += PIECE)
            MB_TRY(swap_piece(c, send, off, recv, recv_off, d, end, at, what));
    }
    return MB_OK;
}

enum mb_status mb_comm_alltoallv(struct mb_comm *c, const uint8_t *send, const uint64_t *off, uint8_t **recv,
                                 uint64_t *recv_off, const char *what)
{
    uint8_t *buf = NULL;
    enum mb_status st;

    MB_TRY(swap_counts(c, off, recv_off, what));
    buf = mb_alloc(c->mem, MB_MEM_EXCHANGE, recv_off[c->size], 1);
    st = buf != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for %llu received bytes of %s",
                                        (unsigned long long)recv_off[c->size], what);
    st = mb_comm_agree(c, st, what);
    if (st == MB_OK)
        st = swap_blocks(c, send, off, buf, recv_off, what);
    if (st != MB_OK) {
        mb_free(buf);
        return st;
    }
    *recv = buf;
    return MB_OK;
}
