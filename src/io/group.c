#include "io/group.h"

#include <string.h>
#include "base/log.h"

struct mb_group mb_group_of(struct mb_comm *comm)
{
    return comm == NULL ? (struct mb_group){NULL, 0, 1} : (struct mb_group){comm, mb_comm_rank(comm), mb_comm_size(comm)};
}

enum mb_status mb_group_agree(struct mb_group *g, enum mb_status mine, const char *what)
{
    return g->comm == NULL ? mine : mb_comm_agree(g->comm, mine, what);
}

enum mb_status mb_group_allgather(struct mb_group *g, const void *in, uint64_t n, void *out, const char *what)
{
    if (g->comm != NULL)
        return mb_comm_allgather(g->comm, in, n, out, what);
    memcpy(out, in, n);
    return MB_OK;
}

enum mb_status mb_group_max(struct mb_group *g, int64_t *v, int32_t n, const char *what)
{
    return g->comm == NULL ? MB_OK : mb_comm_max_i64(g->comm, v, n, what);
}

enum mb_status mb_group_bcast(struct mb_group *g, struct mb_bytes *b, const char *what)
{
    return g->comm == NULL ? MB_OK : mb_comm_bcast_bytes(g->comm, b, 0, what);
}

enum mb_status mb_group_alltoallv(struct mb_group *g, const uint8_t *send, const uint64_t *off, uint8_t **recv,
                                  uint64_t *recv_off, const char *what)
{
    if (g->comm != NULL)
        return mb_comm_alltoallv(g->comm, send, off, recv, recv_off, what);
    uint64_t n = off[1] - off[0];
    uint8_t *copy = mb_alloc(NULL, MB_MEM_EXCHANGE, n, 1);
    if (copy == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu bytes of %s", (unsigned long long)n, what);
    if (n > 0)
        memcpy(copy, send + off[0], n);
    recv_off[0] = 0;
    recv_off[1] = n;
    *recv = copy;
    return MB_OK;
}

enum mb_status mb_group_alone(struct mb_group *g, enum mb_status (*work)(void *arg), void *arg, const char *what)
{
    return g->comm == NULL ? work(arg) : mb_comm_alone(g->comm, g->rank == 0, work, arg, what);
}

void mb_group_watch(struct mb_group *g, const char *what)
{
    if (g->comm != NULL)
        mb_watch_begin(g->comm, what);
}

void mb_group_watch_end(struct mb_group *g)
{
    if (g->comm != NULL)
        mb_watch_end(g->comm);
}
