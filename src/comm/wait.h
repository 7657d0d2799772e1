/* The one waiting function: test, then yield, then short sleeps. MPI requests and flags in shared memory are waited for
 * alike. While it waits, control messages are progressed.
 *
 * The deadline counts only time in which the waiter itself ran: a step between two looks that took longer than a cap
 * (because the process was suspended) counts as the cap. It begins anew whenever a rank says that it is at work alone
 * (mb_comm_alive). At half of the deadline one line names the operation and the
 * ranks that have not arrived; at its end on_lost runs (the journal) and the job ends with MPI_Abort(75). */
#ifndef MB_COMM_WAIT_H
#define MB_COMM_WAIT_H
#include <mpi.h>
#include "comm/comm.h"

/* What a wait is about, for messages. */
struct mb_wait_for {
    const char *op;   /* "broadcast", "dispatch" */
    const char *what; /* what is broadcast ...; NULL: none */
    int64_t step;     /* negative: none */
    int32_t layer;    /* negative: none */
    bool latch;       /* the end of the deadline is MB_DEADLINE, and the caller ends the job */
};

/* Returns MB_OK once ready(arg) says true. ready is called again and again and may do work (receive, unpack, publish), but
 * must not block. When the deadline passes: MB_DEADLINE, logged, with w->latch, else it does not return. Local (what is waited for may not be). */
enum mb_status mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg), void *arg);
/* Waits for all n requests (MPI_REQUEST_NULL allowed) and frees them. */
enum mb_status mb_wait_all(struct mb_comm *c, const struct mb_wait_for *w, MPI_Request *rq, int n);
/* Called by every rank at the start of each collective operation or exchange: how "who has arrived" is known. */
void mb_wait_begin(struct mb_comm *c);
/* A message of another rank about how far it is. */
void mb_wait_heard(struct mb_comm *c, int from, uint64_t op, int kind); /* kind: enum mb_presence */
#endif
