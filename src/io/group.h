/* The ranks that assemble results: those of a communicator, or one process without MPI. Thin: every function is comm's
 * function of that name, or what it means for one rank. Collective over the group. */
#ifndef MB_IO_GROUP_H
#define MB_IO_GROUP_H
#include "comm/comm.h"

struct mb_group {
    struct mb_comm *comm; /* NULL: one process, no MPI */
    int rank, size;
};
struct mb_group mb_group_of(struct mb_comm *comm); /* Local */

enum mb_status mb_group_agree(struct mb_group *g, enum mb_status mine, const char *what);
enum mb_status mb_group_allgather(struct mb_group *g, const void *in, uint64_t n, void *out, const char *what);
enum mb_status mb_group_max(struct mb_group *g, int64_t *v, int32_t n, const char *what);
enum mb_status mb_group_bcast(struct mb_group *g, struct mb_bytes *b, const char *what); /* from rank 0 */
/* As mb_comm_alltoallv; mb_free(*recv). */
enum mb_status mb_group_alltoallv(struct mb_group *g, const uint8_t *send, const uint64_t *off, uint8_t **recv,
                                  uint64_t *recv_off, const char *what);
/* work(arg) on rank 0, for however long it takes; its outcome on all. */
enum mb_status mb_group_alone(struct mb_group *g, enum mb_status (*work)(void *arg), void *arg, const char *what);
/* Around calls that may block (HDF5): the watchdog. Local. */
void mb_group_watch(struct mb_group *g, const char *what);
void mb_group_watch_end(struct mb_group *g);
#endif
