/* Linked with --wrap=mb_xchg_dispatch_begin: on rank MB_TEST_APART the dispatch of step MB_TEST_STEP fails as it does when ranks are
 * out of step (with MB_TEST_IO: as when a file cannot be read), without a word to the others, who go on waiting for it. */
#include <mpi.h>
#include <stdlib.h>
#include "base/log.h"
#include "comm/xchg.h"

enum mb_status __real_mb_xchg_dispatch_begin(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                             const struct mb_xchg_rows *in);
enum mb_status __wrap_mb_xchg_dispatch_begin(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                             const struct mb_xchg_rows *in);

enum mb_status __wrap_mb_xchg_dispatch_begin(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                             const struct mb_xchg_rows *in)
{
    const char *who = getenv("MB_TEST_APART"), *when = getenv("MB_TEST_STEP");
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (who != NULL && when != NULL && rank == atoi(who) && mine->step >= atoi(when))
        return mb_error(getenv("MB_TEST_IO") != NULL ? MB_IO : MB_BUG, "the test's exchange failed in step %lld", (long long)mine->step);
    return __real_mb_xchg_dispatch_begin(x, v, mine, in);
}
