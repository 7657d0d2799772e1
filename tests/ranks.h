/* The ranks of a job as threads of one process that knows no MPI: what the engine calls of comm is taken over
 * by --wrap (ranks.c), exchanges go over the transport `loop`. One rank runs at a time; it gives way only
 * where it waits for others, so whatever a rank does between two waits is whole, and nothing has to be safe
 * for threads. */
#ifndef MB_TESTS_RANKS_H
#define MB_TESTS_RANKS_H
#include "comm/comm.h"

/* Runs body(world, arg) as each of n ranks. A rank that waits in vain ends the process. */
void ranks_run(int n, void (*body)(struct mb_comm *world, void *arg), void *arg);
/* Ends the process unless it holds: assertions of cmocka belong to its own thread. */
#define MUST(x) ((x) ? (void)0 : ranks_fail(#x, __FILE__, __LINE__))
void ranks_fail(const char *what, const char *file, int line);
#endif
