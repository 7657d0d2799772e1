/* Nodes are what shares memory, whatever the names say: ranks with one hostname and several /dev/shm, and ranks with one
 * /dev/shm and several hostnames. Needs the right to make namespaces (root); skipped (77) without. */
#include "mpi_comm.h"

#include <sched.h>
#include <sys/mount.h>
#include "comm/shm.h"

/* A /dev/shm of this rank's own. */
static bool own_shm(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") == 0;
}

static void check_nodes(struct mb_comm *c, const int32_t want[4])
{
    int32_t node[4];

    CHECK(mb_comm_same_node(c, node) == MB_OK);
    for (int r = 0; r < 4; r++)
        CHECK(node[r] == want[r]);
}

/* In a /dev/shm of 1 MiB a larger segment is a status, not a signal later, and leaves no name. */
static void full(void)
{
    struct mb_shm_offer offer;
    struct mb_shm s = {NULL, 0};

    CHECK(mb_shm_make(4 << 20, &offer, &s) == MB_NO_SPACE && offer.name[0] == '\0' && s.base == NULL);
    CHECK(mb_shm_make(1 << 19, &offer, &s) == MB_OK);
    struct mb_shm_offer other = offer;
    struct mb_shm t = {NULL, 0};
    other.nonce[1] ^= 1; /* the name of another job's segment */
    CHECK(mb_shm_map(&other, 1 << 19, &t) == MB_IO && t.base == NULL);
    CHECK(mb_shm_map(&offer, 1 << 20, &t) == MB_IO); /* shorter than expected */
    CHECK(mb_shm_map(&offer, 1 << 19, &t) == MB_OK);
    t.base[100] = 42;
    CHECK(s.base[100] == 42);
    mb_shm_unlink(&offer);
    CHECK(mb_shm_map(&offer, 1 << 19, &t) == MB_IO);
    mb_shm_unmap(&t);
    mb_shm_unmap(&s);
    CHECK(test_shm_left() == 0);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    struct mb_comm *c = test_comm(20, NULL);
    int rank = mb_comm_rank(c);
    check_nodes(c, (int32_t[]){0, 0, 0, 0});
    int64_t cannot = rank >= 2 && !own_shm();
    CHECK(mb_comm_max_i64(c, &cannot, 1, "namespaces") == MB_OK);
    if (!cannot) {
        if (rank >= 2)
            full();
        check_nodes(c, (int32_t[]){0, 0, 2, 3});
        if (rank == 1)
            CHECK(unshare(CLONE_NEWUTS) == 0 && sethostname("elsewhere", 9) == 0);
        check_nodes(c, (int32_t[]){0, 1, 2, 3});
    }
    mb_comm_destroy(c);
    MPI_Finalize();
    return cannot ? 77 : 0;
}
