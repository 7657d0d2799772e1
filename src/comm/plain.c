#include "comm/plain.h"

#include <limits.h>
#include <stdlib.h>
#include "base/log.h"
#include "comm/impl.h"

/* Counts and places of one side, as MPI wants them. */
static bool layout(const int64_t *n, int size, int *count, int *at)
{
    int64_t sum = 0;

    for (int r = 0; r < size; r++) {
        if (n[r] < 0 || sum > INT_MAX - n[r])
            return false;
        count[r] = (int)n[r];
        at[r] = (int)sum;
        sum += n[r];
    }
    return true;
}

static enum mb_status exchange(struct mb_comm *c, const void *send, const int64_t *send_n, void *recv,
                               uint64_t room, int64_t *recv_n, bool counts, int *ints)
{
    int *sc = ints, *sa = sc + c->size, *rc = sa + c->size, *ra = rc + c->size;

    mb_watch_begin(c, "MPI_Alltoallv");
    if (counts)
        mb_mpi_check(c, MPI_Alltoall(send_n, 1, MPI_INT64_T, recv_n, 1, MPI_INT64_T, c->mpi), "MPI_Alltoall");
    bool fits = layout(send_n, c->size, sc, sa) && layout(recv_n, c->size, rc, ra);
    uint64_t more = fits ? (uint64_t)ra[c->size - 1] + (uint64_t)rc[c->size - 1] : 0;
    if (fits && more <= room)
        mb_mpi_check(c, MPI_Alltoallv(send, sc, sa, MPI_BYTE, recv, rc, ra, MPI_BYTE, c->mpi),
                     "MPI_Alltoallv");
    mb_watch_end(c);
    if (!fits)
        return mb_error(MB_LAYOUT, "MPI_Alltoallv can't move more than %d bytes a rank; give fewer --tokens",
                        INT_MAX);
    return more <= room ? MB_OK
                        : mb_error(MB_BUG, "%llu bytes come where there is room for %llu",
                                   (unsigned long long)more, (unsigned long long)room);
}

enum mb_status mb_plain_alltoallv(struct mb_comm *c, const void *send, const int64_t *send_n, void *recv,
                                  uint64_t room, int64_t *recv_n, bool counts)
{
    int small[4 * 64], *ints = c->size <= 64 ? small : malloc(4 * (size_t)c->size * sizeof *ints);

    if (ints == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for counts of %d ranks", c->size);
    enum mb_status st = exchange(c, send, send_n, recv, room, recv_n, counts, ints);
    if (ints != small)
        free(ints);
    return st;
}
