/* Waiting: some ranks work alone while the others wait, and a rank that does not come is a status where it
 * can be one. */
#include "mpi_comm.h"

#include <stdatomic.h>
#include "comm/impl.h"
#include "comm/wait.h"

static _Thread_local struct mb_comm *c; /* ranks may be threads (mpi_threads.c) */
static _Thread_local int rank, size, idles;

struct work {
    int steps; /* of a tenth of a second */
    enum mb_status st;
    bool done;
};

static enum mb_status do_work(void *arg)
{
    struct work *w = arg;

    for (int i = 0; i < w->steps; i++)
        usleep(100000);
    w->done = true;
    return w->st;
}

static void count_idle(void *arg)
{
    ++*(int *)arg;
}

/* Longer than the deadline; the workers' worst status is everybody's. */
static void test_alone(void)
{
    struct work w = {.steps = 25, .st = MB_OK}, bad = {.steps = 1, .st = rank == 1 ? MB_IO : MB_OK};

    mb_comm_on_idle(c, count_idle, &idles);
    CHECK(mb_comm_alone(c, rank == 0, do_work, &w, "reading a table") == MB_OK);
    CHECK(w.done == (rank == 0) && idles > 0);
    CHECK(mb_comm_alone(c, rank < 2, do_work, &bad, "copying files") == MB_IO);
    CHECK(bad.done == (rank < 2));
    mb_comm_on_idle(c, NULL, NULL);
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

struct look {
    int left;
};
static bool soon(void *arg)
{
    return --((struct look *)arg)->left < 0;
}

/* All but the last rank wait for what it does not do; it hears that they ask, and answers. */
static void test_latched(void)
{
    const struct mb_wait_for w = {"combine", "a test", 3, 2, true};
    struct look look = {100};

    CHECK(mb_wait_until(c, &w, soon, &look) == MB_OK);
    CHECK(mb_comm_barrier(c, "begin") == MB_OK);
    if (rank == size - 1) {
        int heard = 0;
        while (heard < size - 1) { /* the others are one operation ahead */
            usleep(10000);
            CHECK(mb_ctl_progress(c) == MB_OK);
            heard = 0;
            for (int r = 0; r < size - 1; r++)
                heard += c->present[r] == c->op + 1;
        }
        mb_wait_begin(c);
    } else {
        mb_wait_begin(c);
        CHECK(mb_wait_until(c, &w, never, NULL) == MB_DEADLINE);
    }
    CHECK(mb_comm_barrier(c, "end") == MB_OK);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    c = test_comm(2, NULL);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    test_alone();
    test_latched();
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
