/* Assembly of synthetic records on any number of ranks: the file must hold exactly the records, whoever wrote them, and be
 * the same on any number of ranks. The program writes journals (every rank one in each of two runs), assembles, and
 * compares the digest of the file with one computed from the records themselves; tests/check_results.py reads the file
 * with h5py and computes the digest from it. argv[1], if given: only leave the file there (timing). */
#include <math.h>
#include <mpi.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "io/assemble.h"
#include "io/digest.h"
#include "io/journal.h"
#include "io/scan.h"
#include "mpi_comm.h"
#include "records.h"
#include "tmpdir.h"

#define LM 3
#define K 2
#define V 5

static const struct mb_identity who = {{1, 2}, {3, 4}, 5, NULL, NULL, (char *)"f32", NULL, NULL};
static int32_t layers[LM] = {1, 2, 4};

struct job {
    const char *name;
    uint64_t lines;
    bool routing, logits, last;
    uint64_t min_lines, round_bytes; /* of assembly */
};

/* ---------------------------------------------------------------- bulk rows follow from (line, choice, row) */
static uint64_t bulk_seed(const struct mb_record *r, int64_t row)
{
    return rec_mix(r->line * 977 + (uint64_t)r->choice * 31 + (uint64_t)row * 7);
}

static void bulk_row(const struct mb_record *r, int64_t row, uint16_t experts[LM * K], float weights[LM * K], float logits[V])
{
    uint64_t s = bulk_seed(r, row);
    for (int i = 0; i < LM * K; i++) {
        experts[i] = (uint16_t)(rec_mix(s + (uint64_t)i) % 64);
        weights[i] = (float)(rec_mix(s + 100 + (uint64_t)i) % 1000) / 1000.0f;
    }
    for (int i = 0; i < V; i++)
        logits[i] = (float)(rec_mix(s + 200 + (uint64_t)i) % 1000) - 500.0f;
    if (s % 5 == 0)
        logits[1] = NAN;
}

static struct mb_shape shape_of(const struct job *j)
{
    return (struct mb_shape){.routing = j->routing, .logits = j->logits, .logits_last = j->last, .n_layers = LM,
                             .layers = layers, .k = K, .vocab = V};
}

static void put_bulk(struct mb_journal *w, const struct mb_shape *s, struct mb_record *r)
{
    for (int kind = 0; kind < MB_BULK_COUNT; kind++) {
        uint64_t size = mb_shape_row_bytes(s, (enum mb_bulk_kind)kind), at;
        int64_t rows = kind == MB_BULK_LOGITS && s->logits_last && r->n_rows > 0 ? 1 : r->n_rows;
        if (size == 0 || rows == 0 || r->status == MB_ROW_ERROR)
            continue;
        CHECK(mb_bulk_reserve(w, (enum mb_bulk_kind)kind, (uint64_t)rows * size, &at) == MB_OK);
        r->bulk[kind] = (struct mb_extent){at, rows};
        for (int64_t i = 0; i < rows; i++) {
            uint16_t e[LM * K], *ep = e;
            float wt[LM * K], lg[V];
            bulk_row(r, rows == 1 && kind == MB_BULK_LOGITS && s->logits_last ? r->n_rows - 1 : i, e, wt, lg);
            const void *p = kind == MB_BULK_WEIGHTS ? (void *)wt : kind == MB_BULK_LOGITS ? (void *)lg : (void *)ep;
            CHECK(mb_bulk_write(w, (enum mb_bulk_kind)kind, at + (uint64_t)i * size, p, size) == MB_OK);
        }
    }
}

/* Row (line, choice) is written by a rank and run that follow from it; every 13th by both runs. */
static bool writes(uint64_t line, int32_t choice, int run, int rank, int size)
{
    uint64_t m = rec_mix(line * 3 + (uint64_t)choice);
    int w = (int)(m % (uint64_t)size), in = 1 + (int)(m >> 32 & 1);
    return rank == w && (in == run || line % 13 == 0);
}

static void write_journal(const struct job *j, const char *dir, int run, int rank, int size)
{
    struct mb_journal *w = NULL;
    struct mb_shape s = shape_of(j);
    uint64_t row_bytes[MB_BULK_COUNT];
    char *path = mb_run_path(dir, run);
    struct mb_journal_options o = {.dir = path, .identity = &who, .run = run, .rank = rank};
    CHECK(mb_journal_create(&o, &w) == MB_OK);
    for (int i = 0; i < MB_BULK_COUNT; i++)
        row_bytes[i] = mb_shape_row_bytes(&s, (enum mb_bulk_kind)i);
    mb_journal_bulk_rows(w, row_bytes);
    for (uint64_t n = 0; n < j->lines; n++) {
        uint64_t line = j->lines - 1 - n; /* completion order is not input order */
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record r;
            if (!writes(line, c, run, rank, size))
                continue;
            rec_make(line, c, &r);
            put_bulk(w, &s, &r);
            CHECK(mb_journal_record(w, &r) == MB_OK);
            mb_record_fini(&r);
        }
        if (n % 32 == 0)
            CHECK(mb_journal_flush(w) == MB_OK);
    }
    mb_journal_destroy(w);
    free(path);
}

/* ---------------------------------------------------------------- the digest from the records */
static void hash_bulk(const struct job *j, const struct mb_record *r, struct mb_hasher *h)
{
    int64_t n = r->status == MB_ROW_ERROR ? 0 : r->n_rows;
    uint16_t *e = calloc((size_t)(n + 1) * LM * K, sizeof *e);
    float *w = calloc((size_t)(n + 1) * LM * K, sizeof *w), *lg = calloc((size_t)(n + 1) * V, sizeof *lg);
    for (int64_t i = 0; i < n; i++)
        bulk_row(r, i, e + i * LM * K, w + i * LM * K, lg + i * V);
    uint16_t *le = calloc((size_t)(n + 1) * K, sizeof *le);
    float *lw = calloc((size_t)(n + 1) * K, sizeof *lw);
    for (int l = 0; l < LM && j->routing; l++) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(le + i * K, e + (i * LM + l) * K, K * sizeof *le);
            memcpy(lw + i * K, w + (i * LM + l) * K, K * sizeof *lw);
        }
        mb_hasher_field(h, le, (size_t)n * K * sizeof *le);
        mb_record_hash_f32(h, lw, (uint64_t)n * K);
    }
    if (j->logits && j->last)
        mb_record_hash_f32(h, lg + (n > 0 ? n - 1 : 0) * V, n > 0 ? V : 0);
    else if (j->logits)
        mb_record_hash_f32(h, lg, (uint64_t)n * V);
    free(e);
    free(w);
    free(lg);
    free(le);
    free(lw);
}

/* File digest in the order of the input. */
static struct mb_hash128 expected(const struct job *j, int64_t *rows)
{
    struct mb_hasher *all = mb_hasher_create(), *h = mb_hasher_create();
    *rows = 0;
    for (uint64_t line = 0; line < j->lines; line++) {
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record r;
            rec_make(line, c, &r);
            mb_hasher_reset(h);
            if (r.status == MB_ROW_ERROR)
                r.n_prompt = r.n_rows = 0;
            mb_record_hash(&r, h);
            hash_bulk(j, &r, h);
            struct mb_hash128 d = mb_hasher_128(h);
            uint64_t bytes[2] = {__builtin_bswap64(d.hi), __builtin_bswap64(d.lo)};
            mb_hasher_put(all, bytes, sizeof bytes);
            mb_record_fini(&r);
            (*rows)++;
        }
    }
    struct mb_hash128 out = mb_hasher_128(all);
    mb_hasher_destroy(all);
    mb_hasher_destroy(h);
    return out;
}

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

static void check_file(const struct job *j, const char *results, const struct mb_assembled *got)
{
    struct mb_results *r = NULL;
    struct mb_digest sorted, ordered;
    int64_t rows;
    char hex[33];
    struct mb_hash128 want = expected(j, &rows);
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

static void run_job(struct mb_comm *c, const struct job *j)
{
    int rank = mb_comm_rank(c), size = mb_comm_size(c);
    struct mb_mem mem = {0};
    struct mb_bytes where = {0};
    struct mb_rundir *d = NULL;
    struct mb_shape shape = shape_of(j);
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
        double load[3] = {0.5, 0.25, 0.25};
        CHECK(mb_extras_text(&extras, "/provenance/version", "0") == MB_OK);
        CHECK(mb_extras_put(&extras, "/metrics/load", MB_H5_F64, 1, &three, load, "1") == MB_OK);
    }
    CHECK(mb_comm_barrier(c, "directories") == MB_OK);
    for (int run = 1; run <= 2; run++)
        write_journal(j, d->dir, run, rank, size);
    CHECK(mb_comm_barrier(c, "journals") == MB_OK);
    struct mb_assemble_options o = {.dir = d, .comm = c, .mem = &mem, .identity = &who, .shape = &shape,
                                    .input_lines = j->lines, .lines = j->lines, .requests = j->lines, .extras = &extras,
                                    .min_lines = j->min_lines, .round_bytes = j->round_bytes};
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
    static const struct job jobs[] = {
        {"no rows", 0, true, true, false, 1, 0},
        {"one row", 1, true, false, false, 1, 0},
        {"fewer rows than ranks", 3, false, false, false, 1, 0},
        {"plain", 500, false, false, false, 1, 0},
        {"one owner", 500, true, true, false, 1000000, 0},
        {"small rounds", 700, true, true, false, 1, 3000},
        {"last logits", 300, false, true, true, 1, 20000},
        {"an error row alone", 11, true, true, false, 1, 0},
    };
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
