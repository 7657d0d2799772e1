/* MPI's own exchange, to measure ours beside it. */
#ifndef MB_COMM_PLAIN_H
#define MB_COMM_PLAIN_H
#include "comm/comm.h"

/* MPI_Alltoallv of bytes that lie behind each other: send_n[r] to rank r, recv_n[r] from it. counts: recv_n
 * is not known and comes first, by MPI_Alltoall. recv has room for room bytes. A blocking call, under the
 * watchdog. Collective over c. Errors: MB_LAYOUT where counts do not fit an int; MB_BUG where more comes than
 * there is room for. */
enum mb_status mb_plain_alltoallv(struct mb_comm *c, const void *send, const int64_t *send_n, void *recv,
                                  uint64_t room, int64_t *recv_n, bool counts);
#endif
