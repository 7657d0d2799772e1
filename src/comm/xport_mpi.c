/* The transport over MPI. */
#include "base/log.h"
#include "comm/impl.h"
#include "comm/xport.h"

#define TAG_FIRST 11
#define CANCEL_LOOKS 100000

struct over_mpi {
    struct mb_comm *c;
    MPI_Request *rq; /* [slots] */
    int *done;
};

/* What fails here fails for good: the caller sees it in the transport. */
static bool went_well(struct mb_xport *t, int rc, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;

    if (rc == MPI_SUCCESS)
        return true;
    MPI_Error_string(rc, text, &n);
    if (t->failed == MB_OK)
        t->failed = mb_error(MB_LOST, "%s: %s; a rank or the network is gone", call, text);
    return false;
}

static void post_recv(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span to)
{
    struct over_mpi *m = t->state;

    t->left++;
    (void)went_well(t,
                    MPI_Irecv(to.p, (int)to.n, MPI_BYTE, peer, TAG_FIRST + channel, m->c->mpi, &m->rq[slot]),
                    "MPI_Irecv");
}

static void post_send(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span from)
{
    struct over_mpi *m = t->state;

    t->left++;
    (void)went_well(
        t, MPI_Isend(from.p, (int)from.n, MPI_BYTE, peer, TAG_FIRST + channel, m->c->mpi, &m->rq[slot]),
        "MPI_Isend");
}

static int32_t test(struct mb_xport *t)
{
    struct over_mpi *m = t->state;
    int n = 0;

    if (t->left == 0)
        return 0;
    if (!went_well(t, MPI_Testsome(t->slots, m->rq, &n, m->done, MPI_STATUSES_IGNORE), "MPI_Testsome") ||
        n == MPI_UNDEFINED)
        return 0; /* nothing is under way */
    for (int i = 0; i < n; i++)
        t->done[i] = m->done[i];
    t->left -= n;
    return n;
}

static bool cancel(struct mb_xport *t)
{
    struct over_mpi *m = t->state;
    int done = t->left == 0;

    for (int32_t i = 0; !done && i < t->slots; i++)
        if (m->rq[i] != MPI_REQUEST_NULL)
            MPI_Cancel(&m->rq[i]);
    for (int look = 0; !done && look < CANCEL_LOOKS; look++)
        MPI_Testall(t->slots, m->rq, &done, MPI_STATUSES_IGNORE);
    return done != 0;
}

static void destroy(struct mb_xport *t)
{
    struct over_mpi *m = t->state;

    if (m != NULL) {
        mb_free(m->rq);
        mb_free(m->done);
    }
    mb_free(m);
}

static const struct mb_xport_kind mpi = {"mpi", false, post_recv, post_send, test, cancel, destroy};

enum mb_status mb_xport_mpi(struct mb_comm *c, struct mb_mem *mem, int32_t slots, struct mb_xport *out)
{
    struct over_mpi *m = mb_zalloc(mem, MB_MEM_EXCHANGE, 1, sizeof *m);

    *out = (struct mb_xport){.kind = &mpi, .state = m, .slots = slots};
    out->done = mb_alloc(mem, MB_MEM_EXCHANGE, (size_t)slots, sizeof *out->done);
    if (m != NULL) {
        m->c = c;
        m->rq = mb_alloc(mem, MB_MEM_EXCHANGE, (size_t)slots, sizeof(MPI_Request));
        m->done = mb_alloc(mem, MB_MEM_EXCHANGE, (size_t)slots, sizeof *m->done);
    }
    if (m == NULL || out->done == NULL || m->rq == NULL || m->done == NULL) {
        mb_xport_fini(out);
        return MB_NO_MEMORY;
    }
    for (int32_t i = 0; i < slots; i++)
        m->rq[i] = MPI_REQUEST_NULL;
    return MB_OK;
}
