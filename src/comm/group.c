/* Swaps of known sizes, messages in the background, and the barrier of those who have finished early. */
#include "comm/group.h"

#include <string.h>
#include <time.h>
#include "base/log.h"
#include "comm/impl.h"
#include "comm/wait.h"

#define TAG_SWAP 21
#define TAG_POST 30

struct mb_posted {
    struct mb_posted *next;
    MPI_Request rq;
    uint8_t data[];
};

/* Bytes of a piece from `at` on. */
static uint64_t rest_of(const struct mb_comm *c, uint64_t n, uint64_t at)
{
    uint64_t left = n > at ? n - at : 0;

    return left < c->piece ? left : c->piece;
}

/* Posts bytes [at, at + piece) of what goes to and comes from each rank; both sides of a pair cut alike. Returns how many
 * requests. */
static int post_pieces(struct mb_comm *c, const struct mb_piece *send, const struct mb_piece *recv, uint64_t at)
{
    MPI_Request *rq = c->swap;
    int n = 0;

    for (int d = 1; d < c->size; d++) {
        int from = (c->rank - d + c->size) % c->size, to = (c->rank + d) % c->size;
        uint64_t in = rest_of(c, recv[from].n, at), out = rest_of(c, send[to].n, at);
        if (in > 0)
            mb_mpi_check(
                c, MPI_Irecv((uint8_t *)recv[from].p + at, (int)in, MPI_BYTE, from, TAG_SWAP, c->mpi, &rq[n++]),
                "MPI_Irecv");
        if (out == 0)
            continue;
        mb_mpi_check(c, MPI_Isend((uint8_t *)send[to].p + at, (int)out, MPI_BYTE, to, TAG_SWAP, c->mpi, &rq[n++]),
                     "MPI_Isend");
        c->moved_bytes += (int64_t)out;
        c->moved_messages++;
    }
    return n;
}

void mb_comm_begin(struct mb_comm *c)
{
    mb_wait_begin(c);
}

enum mb_status mb_comm_swap(struct mb_comm *c, const struct mb_piece *send, const struct mb_piece *recv,
                            const struct mb_where *at)
{
    mb_wait_begin(c);
    return mb_comm_swap_some(c, send, recv, at);
}

enum mb_status mb_comm_swap_some(struct mb_comm *c, const struct mb_piece *send, const struct mb_piece *recv,
                                 const struct mb_where *at)
{
    struct mb_wait_for w = {"exchange in a group", at->what, at->step, at->layer, false};
    int n;

    for (uint64_t from = 0; (n = post_pieces(c, send, recv, from)) > 0; from += c->piece)
        MB_TRY(mb_wait_all(c, &w, c->swap, n));
    return MB_OK;
}

/* Frees what has left; sends complete in any order. */
static bool all_left(void *arg)
{
    struct mb_comm *c = arg;
    struct mb_posted **at = &c->posted;

    while (*at != NULL) {
        struct mb_posted *m = *at;
        int done = 0;
        mb_mpi_check(c, MPI_Test(&m->rq, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (done) {
            *at = m->next;
            mb_free(m);
        } else {
            at = &m->next;
        }
    }
    return c->posted == NULL;
}

static enum mb_status post_piece(struct mb_comm *c, int to, int tag, const uint8_t *data, uint64_t n)
{
    struct mb_posted *m = mb_alloc(c->mem, MB_MEM_EXCHANGE, 1, sizeof *m + n);

    if (m == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a message of %llu bytes", (unsigned long long)n);
    if (n > 0)
        memcpy(m->data, data, n);
    mb_mpi_check(c, MPI_Isend(m->data, (int)n, MPI_BYTE, to, TAG_POST + tag, c->mpi, &m->rq), "MPI_Isend");
    m->next = c->posted;
    c->posted = m;
    c->moved_bytes += (int64_t)n;
    c->moved_messages++;
    return MB_OK;
}

/* A whole piece says that another one follows, if it is an empty one. */
enum mb_status mb_comm_post(struct mb_comm *c, int to, int tag, const void *data, uint64_t n)
{
    uint64_t at = 0;

    (void)all_left(c);
    for (; n - at >= c->piece; at += c->piece)
        MB_TRY(post_piece(c, to, tag, (const uint8_t *)data + at, c->piece));
    return post_piece(c, to, tag, n > at ? (const uint8_t *)data + at : NULL, n - at);
}

void mb_comm_posted_flush(struct mb_comm *c)
{
    struct mb_wait_for w = {"sending messages", NULL, -1, -1, false};

    (void)mb_wait_until(c, &w, all_left, c);
}

struct probe {
    struct mb_comm *c;
    int from, tag;
    MPI_Message m;
    MPI_Status s;
};

static bool arrived(void *arg)
{
    struct probe *p = arg;
    int here = 0;

    mb_mpi_check(p->c, MPI_Improbe(p->from, TAG_POST + p->tag, p->c->mpi, &here, &p->m, &p->s),
                 "MPI_Improbe");
    return here != 0;
}

enum mb_status mb_comm_take(struct mb_comm *c, int from, int tag, struct mb_bytes *out,
                            const struct mb_where *at)
{
    struct mb_wait_for w = {"a message from another rank", at->what, at->step, at->layer, false};
    struct probe p = {.c = c, .from = from, .tag = tag};
    int n;

    out->len = 0;
    do {
        MPI_Request rq;
        MB_TRY(mb_wait_until(c, &w, arrived, &p));
        MPI_Get_count(&p.s, MPI_BYTE, &n);
        MB_TRY(mb_bytes_reserve(out, (uint64_t)n));
        mb_mpi_check(c, MPI_Imrecv(out->data + out->len, n, MPI_BYTE, &p.m, &rq), "MPI_Imrecv");
        MB_TRY(mb_wait_all(c, &w, &rq, 1));
        out->len += (uint64_t)n;
    } while ((uint64_t)n == c->piece);
    return MB_OK;
}

void mb_comm_moved(const struct mb_comm *c, int64_t *bytes, int64_t *messages)
{
    *bytes += c->moved_bytes;
    *messages += c->moved_messages;
}

enum mb_status mb_comm_meet(struct mb_comm *c, enum mb_status (*idle)(void *arg), void *arg)
{
    enum mb_status st = MB_OK;
    struct timespec pause = {0, 200000};
    MPI_Request rq;
    int done = 0;

    mb_wait_begin(c);
    mb_mpi_check(c, MPI_Ibarrier(c->mpi, &rq), "MPI_Ibarrier");
    for (;;) {
        mb_mpi_check(c, MPI_Test(&rq, &done, MPI_STATUS_IGNORE), "MPI_Test");
        if (done)
            return st;
        mb_ctl_progress(c);
        enum mb_status now = idle != NULL ? idle(arg) : MB_OK;
        st = st == MB_OK ? now : st;
        nanosleep(&pause, NULL);
    }
}
