/* Control messages: Isend of owned copies; arrivals are found by Iprobe and queued per tag in order. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "comm/impl.h"
#include "comm/wait.h"

#define CTL_MAX (1u << 20)
#define TAKE_AT_ONCE 64 /* arrivals taken in by one progress call */

static void push(struct mb_ctl_queue *q, struct mb_ctl_msg *m)
{
    m->next = NULL;
    if (q->tail != NULL)
        q->tail->next = m;
    else
        q->head = m;
    q->tail = m;
}

static struct mb_ctl_msg *pop(struct mb_ctl_queue *q)
{
    struct mb_ctl_msg *m = q->head;

    q->head = m->next;
    if (q->head == NULL)
        q->tail = NULL;
    return m;
}

static bool is_done(struct mb_comm *c, struct mb_ctl_msg *m)
{
    int done = 0;

    mb_mpi_check(c, MPI_Test(&m->rq, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
}

static enum mb_status send_copy(struct mb_comm *c, int to, int tag, const void *data, uint32_t n)
{
    struct mb_ctl_msg *m = mb_alloc(c->mem, MB_MEM_EXCHANGE, 1, sizeof *m + n);

    if (m == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a control message of %u bytes", n);
    m->from = c->rank;
    m->n = n;
    if (n > 0)
        memcpy(m->data, data, n);
    mb_mpi_check(c, MPI_Isend(m->data, (int)n, MPI_BYTE, to, tag, c->ctl.mpi, &m->rq), "MPI_Isend");
    push(&c->ctl.sent, m);
    return MB_OK;
}

void mb_ctl_init(struct mb_comm *c)
{
    c->ctl.mpi = MPI_COMM_NULL;
}

static void drop_queue(struct mb_ctl_queue *q)
{
    while (q->head != NULL)
        mb_free(pop(q));
}

/* What nobody asked for is here all the same: its request goes with it. */
void mb_ctl_end(struct mb_comm *c)
{
    for (int tag = 0; tag < MB_CTL_TAGS; tag++)
        for (struct mb_ctl_msg *m = c->ctl.recv[tag].head; m != NULL; m = m->next)
            (void)is_done(c, m);
}

void mb_ctl_fini(struct mb_comm *c)
{
    drop_queue(&c->ctl.sent);
    for (int tag = 0; tag < MB_CTL_TAGS; tag++)
        drop_queue(&c->ctl.recv[tag]);
}

void mb_ctl_present(struct mb_comm *c, int to, enum mb_presence kind)
{
    uint64_t m[2] = {c->op, kind};

    send_copy(c, to, MB_CTL_PRESENT, m, sizeof m); /* without memory the line just knows less */
}

/* Frees what has left. Sends complete in any order. */
static void test_sent(struct mb_comm *c)
{
    struct mb_ctl_queue left = {NULL, NULL};

    while (c->ctl.sent.head != NULL) {
        struct mb_ctl_msg *m = pop(&c->ctl.sent);
        if (is_done(c, m))
            mb_free(m);
        else
            push(&left, m);
    }
    c->ctl.sent = left;
}

static void take_present(struct mb_comm *c, int from)
{
    uint64_t m[2] = {0, 0};
    MPI_Request rq;
    int done = 0;

    /* Sixteen bytes that were probed are here: the test succeeds at once. */
    mb_mpi_check(c, MPI_Irecv(m, sizeof m, MPI_BYTE, from, MB_CTL_PRESENT, c->ctl.mpi, &rq), "MPI_Irecv");
    while (!done)
        mb_mpi_check(c, MPI_Test(&rq, &done, MPI_STATUS_IGNORE), "MPI_Test");
    mb_wait_heard(c, from, m[0], (int)m[1]);
}

static enum mb_status take_message(struct mb_comm *c, const MPI_Status *s)
{
    int n = 0;

    MPI_Get_count(s, MPI_BYTE, &n);
    struct mb_ctl_msg *m = mb_alloc(c->mem, MB_MEM_EXCHANGE, 1, sizeof *m + (size_t)n);
    if (m == NULL)
        return MB_NO_MEMORY;
    m->from = s->MPI_SOURCE;
    m->n = (uint32_t)n;
    mb_mpi_check(c, MPI_Irecv(m->data, n, MPI_BYTE, s->MPI_SOURCE, s->MPI_TAG, c->ctl.mpi, &m->rq), "MPI_Irecv");
    push(&c->ctl.recv[s->MPI_TAG], m);
    return MB_OK;
}

enum mb_status mb_ctl_progress(struct mb_comm *c)
{
    enum mb_status st = MB_OK;

    test_sent(c);
    for (int i = 0; i < TAKE_AT_ONCE && st == MB_OK; i++) {
        MPI_Status s;
        int here = 0;
        mb_mpi_check(c, MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, c->ctl.mpi, &here, &s), "MPI_Iprobe");
        if (!here)
            break;
        if (s.MPI_TAG == MB_CTL_PRESENT)
            take_present(c, s.MPI_SOURCE);
        else
            st = take_message(c, &s);
    }
    return st;
}

enum mb_status mb_ctl_send(struct mb_comm *c, int to, enum mb_ctl_tag tag, const void *data, uint32_t n)
{
    if (n > CTL_MAX || to < 0 || to >= c->size || tag < MB_CTL_LEASE_ASK || tag > MB_CTL_USER)
        return mb_error(MB_BUG, "control message to rank %d, tag %d, %u bytes: outside the limits", to, (int)tag, n);
    MB_TRY(send_copy(c, to, tag, data, n));
    c->ctl.bytes += n;
    c->ctl.messages++;
    test_sent(c);
    return MB_OK;
}

enum mb_status mb_ctl_poll(struct mb_comm *c, enum mb_ctl_tag tag, int *from, struct mb_bytes *out, bool *got)
{
    struct mb_ctl_queue *q = &c->ctl.recv[tag];

    *got = false;
    if (mb_ctl_progress(c) != MB_OK)
        return mb_error(MB_NO_MEMORY, "no memory for an arriving control message");
    if (q->head == NULL || !is_done(c, q->head))
        return MB_OK;
    out->len = 0;
    MB_TRY(mb_bytes_put(out, q->head->data, q->head->n));
    struct mb_ctl_msg *m = pop(q);
    *from = m->from;
    *got = true;
    mb_free(m);
    return MB_OK;
}

static bool all_left(void *arg)
{
    struct mb_comm *c = arg;

    mb_ctl_progress(c);
    return c->ctl.sent.head == NULL;
}

enum mb_status mb_ctl_flush(struct mb_comm *c)
{
    struct mb_wait_for w = {"sending control messages", NULL, -1, -1, false};

    return mb_wait_until(c, &w, all_left, c);
}

void mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages)
{
    *bytes = c->ctl.bytes;
    *messages = c->ctl.messages;
}
