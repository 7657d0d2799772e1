/* Waits that end badly, one a run; cli_deadline.bats looks at what is said and at the exit code.
 * comm_wait MODE DEADLINE: barrier | exchange-flat | exchange-hier | call | suspended | kill */
#include "mpi_comm.h"

#include <signal.h>
#include "comm/xchg.h"
#include "plain_ops.h"

static int rank, size;

static void on_lost(void *arg)
{
    (void)arg;
    mb_print("rank %d: journal written", rank);
}

static void pause_for(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)(1e9 * (seconds - (double)(time_t)seconds))};

    nanosleep(&t, NULL);
}

static struct mb_xchg *exchange(struct mb_comm *c, enum mb_alltoall algorithm, struct mb_topo **t)
{
    int32_t nodes[] = {size - 1, 1};
    struct mb_xchg *x = NULL;

    CHECK(mb_topo_synthetic(2, nodes, t) == MB_OK);
    struct mb_xchg_options o = {.ops = &plain_ops, .node = (*t)->node_of, .algorithm = algorithm, .hidden = 16, .shm_bytes = 1 << 20};
    CHECK(mb_xchg_create(c, &o, &x) == MB_OK);
    return x;
}

/* Rank 1 does not come to step 12. */
static void missing_in_exchange(struct mb_comm *c, enum mb_alltoall algorithm)
{
    struct mb_xchg_head mine = {.step = 12, .layer = 3};
    const struct mb_xchg_head *heads;
    struct mb_topo *t;
    struct mb_xchg *x = exchange(c, algorithm, &t);

    if (rank == 1)
        pause_for(40);
    mb_xchg_step(x, &mine, &heads);
}

/* All ranks but 1 are stopped, while they wait, for longer than the deadline; then rank 1 arrives: nobody gives up. */
static void suspended(struct mb_comm *c, double deadline)
{
    int32_t pid = (int32_t)getpid(), *all = calloc((size_t)size, sizeof *all);

    CHECK(mb_comm_allgather(c, &pid, sizeof pid, all, "process ids") == MB_OK);
    if (rank == 1) {
        pause_for(0.2 * deadline);
        for (int r = 0; r < size; r++)
            if (r != 1)
                kill(all[r], SIGSTOP);
        pause_for(1.5 * deadline);
        for (int r = 0; r < size; r++)
            if (r != 1)
                kill(all[r], SIGCONT);
        pause_for(0.1 * deadline);
    }
    CHECK(mb_comm_barrier(c, "after a stop") == MB_OK);
    free(all);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    CHECK(argc == 3);
    struct mb_comm *c = test_comm(atof(argv[2]), NULL);
    const char *mode = argv[1];
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    mb_comm_on_lost(c, on_lost, NULL);
    if (strcmp(mode, "barrier") == 0) {
        if (rank == 1)
            pause_for(40);
        mb_comm_barrier(c, "start of assembly");
    } else if (strcmp(mode, "exchange-flat") == 0) {
        missing_in_exchange(c, MB_A2A_FLAT);
    } else if (strcmp(mode, "exchange-hier") == 0) {
        missing_in_exchange(c, MB_A2A_HIER);
    } else if (strcmp(mode, "call") == 0) {
        mb_watch_begin(c, "closing the results file");
        if (rank == 1)
            pause_for(40);
        mb_watch_end(c);
        pause_for(20);
    } else if (strcmp(mode, "suspended") == 0) {
        suspended(c, atof(argv[2]));
    } else if (strcmp(mode, "kill") == 0) {
        struct mb_topo *t;
        exchange(c, MB_A2A_HIER, &t);
        raise(SIGKILL);
    } else {
        CHECK(!"mode");
    }
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
