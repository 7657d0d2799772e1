/* What the MPI tests of comm share: a communicator, checks that say rank and line, a verdict that all ranks agree on. */
#ifndef MB_TESTS_MPI_COMM_H
#define MB_TESTS_MPI_COMM_H
#include <dirent.h>
#include <time.h>
#include <sys/stat.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/comm.h"

#ifdef main /* another name for it where ranks are threads (mpi_threads.c) */
int main(int argc, char **argv);
#endif

/* A failed check ends the whole job: the other ranks may already be waiting for this one. */
#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #cond);                                   \
            MPI_Abort(MPI_COMM_WORLD, 1);                                                                              \
        }                                                                                                              \
    } while (0)

static inline struct mb_comm *test_comm(double deadline, struct mb_mem *mem)
{
    struct mb_comm_options o = {.deadline = deadline, .mem = mem};
    struct mb_comm *c = NULL;

    CHECK(mb_comm_create(&o, &c) == MB_OK);
    mb_log_set_rank(mb_comm_rank(c), mb_comm_size(c));
    return c;
}

/* Names of ours in /dev/shm, but for those that a killed job left before (they are old). */
static inline int test_shm_left(void)
{
    DIR *d = opendir("/dev/shm");
    int n = 0;

    CHECK(d != NULL);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
    {
        struct stat st;
        n += strncmp(e->d_name, "moebatch-", 9) == 0 && fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_mtime > time(NULL) - 120;
    }
    closedir(d);
    return n;
}

/* Nothing of ours stays in /dev/shm. Other tests may run at the same time, whose names live for moments. Collective. */
static inline void test_no_shm_left(struct mb_comm *c)
{
    double t = mb_now();

    CHECK(mb_comm_barrier(c, "look at /dev/shm") == MB_OK);
    if (mb_comm_rank(c) == 0)
        while (test_shm_left() > 0)
            CHECK(mb_now() - t < 10);
}
#endif
