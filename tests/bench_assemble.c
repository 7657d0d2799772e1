/* bench_assemble ROWS DIR: writes journals of ROWS short rows (every rank one), folds and assembles them, computes the
 * digest; prints seconds of each and the largest resident memory of rank 0. Started under mpirun or alone. */
#include <mpi.h>
#include <sys/resource.h>
#include "io/assemble.h"
#include "io/digest.h"
#include "io/resume.h"
#include "mpi_comm.h"
#include "synth.h"
#include "tmpdir.h"

static double resident_mib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_maxrss / 1024;
}

static double lap(struct mb_comm *c, double *t, const char *what)
{
    CHECK(mb_comm_barrier(c, what) == MB_OK);
    double now = mb_now(), took = now - *t;
    *t = now;
    if (mb_comm_rank(c) == 0)
        printf("%-10s %8.2f s   %8.0f MiB resident at most\n", what, took, resident_mib());
    fflush(stdout);
    return took;
}

static void digest(const char *path)
{
    struct mb_results *r = NULL;
    struct mb_digest d;
    CHECK(mb_results_open(path, &r) == MB_OK);
    CHECK(mb_digest_file(r, false, NULL, &d) == MB_OK);
    mb_results_close(r);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    struct mb_comm *c = test_comm(600, NULL);
    uint64_t lines = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    struct synth_job j = {.name = "bench", .lines = lines};
    struct mb_shape shape = synth_shape_of(&j);
    struct mb_rundir *d = NULL;
    struct mb_resume *resume = NULL;
    struct mb_assembled got;
    char *path;
    double t = mb_now();
    CHECK(argc > 2 && asprintf(&path, "%s/bench.h5", argv[2]) > 0);
    CHECK(mb_rundir_attach(path, 1, &d) == MB_OK);
    if (mb_comm_rank(c) == 0)
        CHECK(mb_remove_tree(d->dir) == MB_OK && mb_mkdirs(d->run) == MB_OK);
    CHECK(mb_comm_barrier(c, "start") == MB_OK);
    for (int run = 1; run <= 2; run++) {
        if (run == 2 && mb_comm_rank(c) == 0) {
            char *two = mb_run_path(d->dir, 2);
            CHECK(mb_mkdirs(two) == MB_OK);
            free(two);
        }
        lap(c, &t, "write");
        synth_write_journal(&j, &synth_identity, d->dir, run, mb_comm_rank(c), mb_comm_size(c));
    }
    lap(c, &t, "write");
    if (mb_comm_rank(c) == 0)
        CHECK(mb_resume_fold(d->dir, NULL, NULL, lines, NULL, &resume) == MB_OK);
    mb_resume_destroy(resume);
    lap(c, &t, "fold");
    struct mb_assemble_options o = {.dir = d, .comm = c, .identity = &synth_identity, .shape = &shape, .input_lines = lines,
                                    .lines = lines, .requests = lines};
    d->number = 2;
    CHECK(mb_assemble(&o, &got) == MB_OK);
    lap(c, &t, "assemble");
    if (mb_comm_rank(c) == 0)
        digest(path);
    lap(c, &t, "digest");
    if (mb_comm_rank(c) == 0)
        printf("%lld rows, %lld tokens\n", (long long)got.rows, (long long)(got.prompt_tokens + got.output_tokens));
    mb_rundir_destroy(d);
    free(path);
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
