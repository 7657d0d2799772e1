/* Messages between nodes: one header with up to `eager` bytes behind it, and a second message for what is longer. */
#include "base/log.h"
#include "comm/xchg_impl.h"

#define TAG_FIRST 11
#define TAG_BODY 12
#define CANCEL_LOOKS 100000

static uint64_t first_bytes(const struct mb_xchg *x)
{
    return mb_up64(MB_XCHG_HEADER + x->eager);
}

bool mb_net_init(struct mb_xchg *x, struct net *net, const int32_t *from, int32_t n_in, const int32_t *to, int32_t n_out)
{
    struct mb_mem *mem = x->o.mem;
    size_t n_rq = 2 * ((size_t)n_in + (size_t)n_out);
    void *firsts = NULL;

    net->in = mb_zalloc(mem, MB_MEM_EXCHANGE, (size_t)n_in, sizeof *net->in);
    net->out = mb_zalloc(mem, MB_MEM_EXCHANGE, (size_t)n_out, sizeof *net->out);
    net->rq = mb_alloc(mem, MB_MEM_EXCHANGE, n_rq, sizeof *net->rq);
    net->done = mb_alloc(mem, MB_MEM_EXCHANGE, n_rq, sizeof *net->done);
    if (net->in == NULL || net->out == NULL || net->rq == NULL || net->done == NULL)
        return false;
    if (n_in > 0 && x->o.ops->host_alloc(x->o.dev, (uint64_t)n_in * first_bytes(x), &firsts) != MB_OK)
        return false;
    net->firsts = firsts;
    net->n_in = n_in;
    net->n_out = n_out;
    for (int32_t i = 0; i < n_in; i++) {
        net->in[i].from = from[i];
        net->in[i].first = net->firsts + (uint64_t)i * first_bytes(x);
    }
    for (int32_t i = 0; i < n_out; i++)
        net->out[i].to = to[i];
    for (size_t i = 0; i < n_rq; i++)
        net->rq[i] = MPI_REQUEST_NULL;
    return true;
}

/* After an operation that could not be completed: what has not arrived is cancelled. Returns whether nothing is left that
 * could still touch the buffers. */
static bool cancel(struct net *net)
{
    int32_t n = 2 * (net->n_in + net->n_out);
    int done = net->left == 0;

    for (int32_t i = 0; !done && i < 2 * net->n_in; i++)
        if (net->rq[i] != MPI_REQUEST_NULL)
            MPI_Cancel(&net->rq[i]);
    for (int look = 0; !done && look < CANCEL_LOOKS; look++)
        MPI_Testall(n, net->rq, &done, MPI_STATUSES_IGNORE);
    return done != 0;
}

void mb_net_fini(struct mb_xchg *x, struct net *net)
{
    if (net->rq != NULL && !cancel(net))
        return; /* the job is ending; memory that MPI may still read or write stays */
    for (int32_t i = 0; i < net->n_in; i++)
        x->o.ops->host_free(x->o.dev, net->in[i].body.p);
    x->o.ops->host_free(x->o.dev, net->firsts);
    x->o.ops->host_free(x->o.dev, net->stage.p);
    mb_free(net->in);
    mb_free(net->out);
    mb_free(net->rq);
    mb_free(net->done);
}

void mb_net_post(struct mb_xchg *x, struct net *net)
{
    for (int32_t i = 0; i < net->n_in; i++) {
        struct inmsg *m = &net->in[i];
        m->ready = m->taken = false;
        m->rows = NULL;
        mb_mpi_check(x->c, MPI_Irecv(m->first, (int)(MB_XCHG_HEADER + x->eager), MPI_BYTE, m->from, TAG_FIRST,
                                     x->c->mpi, &net->rq[i]), "MPI_Irecv");
        net->left++;
    }
}

/* Second messages are counted in units of 4 bytes. Their buffers have room for the last unit. */
static int body_units(uint64_t bytes)
{
    return (int)((bytes + 3) / 4);
}

void mb_net_send(struct mb_xchg *x, struct net *net, int32_t i, int64_t *bytes, int64_t *messages)
{
    struct outmsg *m = &net->out[i];
    uint8_t *at = net->stage.p + m->at;
    MPI_Request *rq = net->rq + 2 * net->n_in;
    struct xhead h;
    enum mb_link link = x->link[m->to];

    memcpy(&h, at, sizeof h);
    bool second = h.bytes > x->eager;
    int first = (int)(MB_XCHG_HEADER + (second ? 0 : h.bytes));
    mb_mpi_check(x->c, MPI_Isend(at, first, MPI_BYTE, m->to, TAG_FIRST, x->c->mpi, &rq[i]), "MPI_Isend");
    net->left++;
    if (second) {
        mb_mpi_check(x->c, MPI_Isend(at + MB_XCHG_HEADER, body_units(h.bytes), MPI_INT32_T, m->to, TAG_BODY, x->c->mpi,
                                     &rq[net->n_out + i]), "MPI_Isend");
        net->left++;
    }
    bytes[link] += MB_XCHG_HEADER + (int64_t)h.bytes;
    messages[link] += second ? 2 : 1;
}

/* A first message is here: its rows too, or the second message is asked for. */
static bool got_first(struct mb_xchg *x, struct net *net, int32_t i)
{
    struct inmsg *m = &net->in[i];

    memcpy(&m->head, m->first, sizeof m->head);
    if (!mb_xchg_check(x, &m->head))
        return false;
    if (m->head.bytes <= x->eager) {
        m->rows = m->first + MB_XCHG_HEADER;
        m->ready = true;
        return true;
    }
    uint8_t *to = mb_xchg_host(x, &m->body, m->head.bytes + 4);
    mb_mpi_check(x->c, MPI_Irecv(to, body_units(m->head.bytes), MPI_INT32_T, m->from, TAG_BODY, x->c->mpi,
                                 &net->rq[net->n_in + i]), "MPI_Irecv");
    net->left++;
    return true;
}

static void got_body(struct net *net, int32_t i)
{
    net->in[i].rows = net->in[i].body.p;
    net->in[i].ready = true;
}

bool mb_net_poll(struct mb_xchg *x, struct net *net)
{
    int n = 0;

    if (net->left == 0)
        return true;
    mb_mpi_check(x->c, MPI_Testsome(2 * (net->n_in + net->n_out), net->rq, &n, net->done, MPI_STATUSES_IGNORE),
                 "MPI_Testsome");
    if (n == MPI_UNDEFINED)
        return true; /* nothing is under way yet */
    net->left -= n;
    for (int j = 0; j < n; j++) {
        int32_t i = net->done[j];
        if (i < net->n_in) {
            if (!got_first(x, net, i))
                return false;
        } else if (i < 2 * net->n_in) {
            got_body(net, i - net->n_in);
        }
    }
    return true;
}
