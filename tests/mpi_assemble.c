/* Assembly of synthetic records on any number of ranks: the file must hold exactly the records, whoever wrote them, and be
 * the same on any number of ranks. The program writes journals (every rank one in each of two runs), assembles, and
 * compares the digest of the file with one computed from the records themselves; tests/check_results.py reads the file
 * with h5py and computes the digest from it. */
#include <mpi.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "io/assemble.h"
#include "io/digest.h"
#include "mpi_comm.h"
#include "synth.h"
#include "tmpdir.h"

/* ---------------------------------------------------------------- checks on rank 0 */
static void run_python(const char *results, const char *digest)
{
    const char *top = getenv("top_srcdir"), *python = getenv("PYTHON3");
    char *cmd;
    CHECK(asprintf(&cmd, "%s %s/tests/check_results.py %s %s", python == NULL ? "/usr/bin/python3" : python,
                   top == NULL ? "." : top, results, digest) > 0);
    int rc = system(cmd);
    CHECK(WIFEXITED(rc) && WEXITSTATUS(rc) == 0);
    free(cmd);
}

static void check_file(const struct synth_job *j, const char *results, const struct mb_assembled *got)
{
    struct mb_results *r = NULL;
    struct mb_digest sorted, ordered;
    int64_t rows;
    char hex[33];
    struct mb_hash128 want = synth_expected(j, &rows);
    CHECK(got->rows == rows && got->pending == 0 && (uint64_t)got->requests == j->lines);
    CHECK(mb_results_open(results, &r) == MB_OK);
    CHECK(mb_results_info(r)->complete && mb_results_info(r)->rows == (uint64_t)rows);
    CHECK(mb_digest_file(r, true, NULL, &ordered) == MB_OK);
    CHECK(ordered.file.lo == want.lo && ordered.file.hi == want.hi);
    CHECK(mb_digest_file(r, false, NULL, &sorted) == MB_OK);
    for (uint64_t i = 0; i < mb_results_info(r)->rows; i++) {
        struct mb_record have, rec;
        CHECK(mb_results_row(r, i, &have) == MB_OK);
        rec_make(have.line, have.choice, &rec);
        CHECK(have.error.len == rec.error.len && have.timing.total == rec.timing.total);
        CHECK(have.error.len == 0 || memcmp(have.error.data, rec.error.data, rec.error.len) == 0);
        mb_record_fini(&have);
        mb_record_fini(&rec);
    }
    mb_results_close(r);
    mb_hash128_hex(sorted.file, hex);
    run_python(results, hex);
}

/* A disk that fills up while the file is written, on every rank: all learn it, nothing is left, and the next try succeeds. */
#define NO_ROOM 20001
static void no_room(const struct mb_assemble_options *o)
{
    struct rlimit old, small;
    struct mb_assembled got;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 3000; limit < 60000; limit += 25000) {
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        enum mb_status st = mb_assemble(o, &got);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK(st == MB_IO || st == MB_NO_SPACE);
        CHECK(!mb_path_exists(o->dir->results));
    }
}

static void run_job(struct mb_comm *c, const struct synth_job *j)
{
    int rank = mb_comm_rank(c), size = mb_comm_size(c);
    struct mb_mem mem = {0};
    struct mb_bytes where = {0};
    struct mb_rundir *d = NULL;
    struct mb_shape shape = synth_shape_of(j);
    struct mb_extras extras = {0};
    struct mb_assembled got;
    char *dir = NULL;
    if (rank == 0) {
        dir = tmpdir_make();
        char *text;
        CHECK(asprintf(&text, "%s/r.h5", dir) > 0);
        CHECK(mb_bytes_put(&where, text, strlen(text) + 1) == MB_OK);
        free(text);
    }
    CHECK(mb_comm_bcast_bytes(c, &where, 0, "path") == MB_OK);
    CHECK(mb_rundir_attach((char *)where.data, 2, &d) == MB_OK);
    if (rank == 0) {
        char *one = mb_run_path(d->dir, 1);
        CHECK(mb_mkdirs(one) == MB_OK && mb_mkdirs(d->run) == MB_OK);
        free(one);
        uint64_t three = 3;
        int64_t rows[3] = {5, 2, 3};
        CHECK(mb_extras_text(&extras, "/provenance/version", "0") == MB_OK);
        CHECK(mb_extras_put(&extras, "/physical/rows", &three, rows) == MB_OK);
    }
    CHECK(mb_comm_barrier(c, "directories") == MB_OK);
    for (int run = 1; run <= 2; run++)
        synth_write_journal(j, &synth_identity, d->dir, run, rank, size);
    CHECK(mb_comm_barrier(c, "journals") == MB_OK);
    struct mb_assemble_options o = {.dir = d, .comm = c, .mem = &mem, .identity = &synth_identity, .shape = &shape,
                                    .input_lines = j->lines, .lines = j->lines, .requests = j->lines, .extras = &extras,
                                    .min_lines = j->min_lines, .round_bytes = j->round_bytes};
    if (j->round_bytes == NO_ROOM)
        no_room(&o);
    CHECK(mb_assemble(&o, &got) == MB_OK);
    CHECK(mb_mem_total(&mem) == 0);
    if (rank == 0)
        check_file(j, d->results, &got);
    CHECK(mb_comm_barrier(c, "end") == MB_OK);
    mb_extras_fini(&extras);
    mb_rundir_destroy(d);
    mb_bytes_fini(&where);
    if (rank == 0)
        tmpdir_remove(dir);
}

int main(int argc, char **argv)
{
    static const struct synth_job jobs[] = {
        {"no rows", 0, true, true, false, 1, 0, 0, 0},
        {"one row", 1, true, false, false, 1, 0, 0, 0},
        {"fewer rows than ranks", 3, false, false, false, 1, 0, 0, 0},
        {"plain", 500, false, false, false, 1, 0, 0, 0},
        {"one owner", 500, true, true, false, 1000000, 0, 0, 0},
        {"small rounds", 700, true, true, false, 1, 3000, 0, 0},
        {"last logits", 300, false, true, true, 1, 20000, 0, 0},
        {"no room", 300, true, true, false, 1, NO_ROOM, 0, 0},
        {"an error row alone", 11, true, true, false, 1, 0, 0, 0},
    };
    mb_h5_init();
    MPI_Init(&argc, &argv);
    struct mb_comm *c = test_comm(30, NULL);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        if (mb_comm_rank(c) == 0)
            fprintf(stderr, "job: %s\n", jobs[i].name);
        run_job(c, &jobs[i]);
    }
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
