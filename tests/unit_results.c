/* Results without MPI: assembled by the tool, inspected, partial, merged from parts; and the digest sees every bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "base/publish.h"
#include "io/asm.h"
#include "io/digest.h"
#include "io/digest_sort.h"
#include "io/h5.h"
#include "io/rundir.h"
#include "io/start.h"
#include "io/tools.h"
#include "synth.h"
#include "tmpdir.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define MB_TEST_SANITIZED 1
#else
#define MB_TEST_SANITIZED 0
#endif

/* ---------------------------------------------------------------- helpers */
static char *digest_of(const char *path, bool in_order)
{
    struct mb_results *r = NULL;
    struct mb_digest d;
    char *hex = malloc(33);
    assert_int_equal(mb_results_open(path, &r), MB_OK);
    assert_int_equal(mb_digest_file(r, in_order, NULL, &d), MB_OK);
    mb_results_close(r);
    mb_hash128_hex(d.file, hex);
    return hex;
}

/* The independent script; what it prints last. */
static char *python_digest(const char *path, const char *how)
{
    const char *top = getenv("top_srcdir"), *python = getenv("PYTHON3");
    char *cmd, *hex = calloc(1, 64), rest[64];
    assert_true(asprintf(&cmd, "%s %s/tests/digest.py %s %s", python == NULL ? "/usr/bin/python3" : python,
                         top == NULL ? "." : top, path, how) > 0);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    assert_int_equal(fread(hex, 1, 32, f), 32);
    assert_int_equal(fread(rest, 1, sizeof rest, f), 1); /* the newline */
    assert_int_equal(pclose(f), 0);
    free(cmd);
    return hex;
}

static uint64_t requests_of(const struct synth_job *j)
{
    return j->lines - j->first;
}

/* A run that has ended, with its owner file and journals of three writers; input_path may not exist. */
static struct mb_rundir *make_job(const char *results, const struct synth_job *j, uint64_t input_lines, const char *shard,
                                  const char *input_path, struct mb_hash128 input_hash)
{
    static char *const argv[] = {(char *)"moebatch", (char *)"run", (char *)"-i", (char *)"a b"};
    struct mb_identity id = synth_identity;
    struct mb_shape shape = synth_shape_of(j);
    struct mb_input_info info = {.total_lines = input_lines, .first = j->first, .lines = requests_of(j),
                                 .requests = requests_of(j)};
    struct mb_owner o = {.ranks = 3, .argc = 4, .argv = (char **)argv, .input = &info, .identity = &id, .shape = &shape};
    struct mb_rundir *d = NULL;
    enum mb_start state;
    id.shard = (char *)shard;
    id.input = input_hash;
    snprintf(info.path, sizeof info.path, "%s", input_path);
    assert_int_equal(mb_start(&(struct mb_start_options){.results = results, .resume = true, .overwrite = false}, &o, NULL, &state, &d), MB_OK);
    for (int w = 0; w < 3; w++)
        synth_write_journal(j, &id, d->dir, d->number, w, 3);
    return d;
}

/* Both halves of the rows: run 1 and run 2 of the synthetic job. */
static void make_both(const char *results, const struct synth_job *j, uint64_t input_lines, const char *shard,
                      const char *input_path, struct mb_hash128 hash)
{
    mb_rundir_destroy(make_job(results, j, input_lines, shard, input_path, hash));
    mb_rundir_destroy(make_job(results, j, input_lines, shard, input_path, hash));
}

static const struct mb_hash128 no_hash = {1, 2};

static const struct synth_job whole = {.name = "whole", .lines = 120, .routing = true, .logits = true};

/* ---------------------------------------------------------------- tests */
static void test_assemble_and_status(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *runs = mb_path_join(dir, "r.h5.d/run-0001");
    int64_t rows;
    int code = -1;
    char want[33], *text = NULL;
    size_t n = 0;
    assert_int_equal(mb_results_status(stdout, path, false, &code), MB_INPUT);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_INPUT);
    mb_rundir_destroy(make_job(path, &whole, 120, "", "gone.jsonl", no_hash));
    FILE *f = open_memstream(&text, &n);
    assert_int_equal(mb_results_status(f, path, false, &code), MB_OK);
    fclose(f);
    assert_int_equal(code, 75);
    assert_non_null(strstr(text, "/120 requests are done"));
    assert_non_null(strstr(text, "moebatch run -i 'a b' --resume"));
    free(text);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_STOP); /* half of it is missing */
    assert_false(mb_path_exists(path));
    mb_rundir_destroy(make_job(path, &whole, 120, "", "gone.jsonl", no_hash));
    assert_int_equal(mb_results_assemble(path, false, true, NULL, NULL), MB_OK);
    assert_true(mb_path_exists(runs)); /* kept */
    assert_int_equal(mb_results_status(stdout, path, false, &code), MB_OK);
    assert_int_equal(code, 0);
    mb_hash128_hex(synth_expected(&whole, &rows), want);
    char *have = digest_of(path, true), *sorted = digest_of(path, false), *python = python_digest(path, "");
    assert_string_equal(have, want);
    assert_string_equal(sorted, python);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK); /* complete: nothing to do */
    free(have);
    free(sorted);
    free(python);
    free(runs);
    free(path);
    tmpdir_remove(dir);
}

/* A partial file: done rows as they are, the others pending with the ids of the input. */
static void test_partial(void **state)
{
    (void)state;
    for (int with_input = 0; with_input < 2; with_input++) {
        char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *input = mb_path_join(dir, "in.jsonl");
        struct synth_job j = whole;
        struct mb_bytes text = {0};
        struct mb_results *r = NULL;
        int code = -1, pending = 0, done = 0;
        j.lines = 30;
        for (int i = 0; i < 30; i++) {
            char line[160];
            int len = snprintf(line, sizeof line, "{\"id\": \"in-%d\", \"prompt\": \"x\", \"n\": %d}\n", i, i % 7 == 3 ? 3 : 1);
            if (i % 7 != 3 && i % 3 == 1)
                len = snprintf(line, sizeof line, "{\"id\": \"in-%d\", \"context\": \"x\", \"continuation\": \"y\"}\n", i);
            assert_int_equal(mb_bytes_put(&text, line, (size_t)len), MB_OK);
        }
        struct mb_hash128 hash = mb_hash128_of(text.data, text.len);
        if (with_input)
            assert_int_equal(mb_publish_bytes(input, text.data, text.len, 0), MB_OK);
        mb_rundir_destroy(make_job(path, &j, 30, "", input, hash));
        assert_int_equal(mb_results_assemble(path, true, false, NULL, NULL), MB_OK);
        assert_int_equal(mb_results_status(stdout, path, true, &code), MB_OK);
        assert_int_equal(code, 75);
        assert_int_equal(mb_results_open(path, &r), MB_OK);
        assert_false(mb_results_info(r)->complete);
        for (uint64_t i = 0; i < mb_results_info(r)->rows; i++) {
            struct mb_record rec;
            char id[40];
            assert_int_equal(mb_results_row(r, i, &rec), MB_OK);
            snprintf(id, sizeof id, with_input ? "in-%d" : "%d", (int)rec.line + (with_input ? 0 : 1));
            if (rec.status == MB_ROW_PENDING) {
                assert_int_equal(rec.id.len, strlen(id));
                assert_memory_equal(rec.id.data, id, rec.id.len);
                assert_int_equal(rec.n_prompt + rec.n_output + rec.n_rows, 0);
                if (with_input)
                    assert_int_equal(rec.kind, rec.line % 7 != 3 && rec.line % 3 == 1 ? MB_KIND_LOGLIKELIHOOD : MB_KIND_GENERATE);
                pending++;
            } else {
                done++;
            }
            mb_record_fini(&rec);
        }
        mb_results_close(r);
        assert_true(pending > 5 && done > 5);
        if (with_input) /* all choices of all lines are there: 4 lines have three */
            assert_int_equal(pending + done, 30 + 2 * 4);
        char *have = digest_of(path, false), *python = python_digest(path, "");
        assert_string_equal(have, python);
        free(have);
        free(python);
        mb_rundir_destroy(make_job(path, &j, 30, "", input, hash)); /* resumed: the other half */
        assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
        assert_int_equal(mb_results_status(stdout, path, true, &code), MB_OK);
        assert_int_equal(code, 0);
        mb_bytes_fini(&text);
        free(input);
        free(path);
        tmpdir_remove(dir);
    }
}

/* Parts of the input in jobs of their own: joined, the file is that of the whole. */
static void test_merge(void **state)
{
    (void)state;
    static const uint64_t cut[4] = {0, 40, 41, 120};
    char *dir = tmpdir_make(), *parts[3], *one = mb_path_join(dir, "whole.h5"), *all = mb_path_join(dir, "all.h5");
    for (int i = 0; i < 3; i++) {
        char name[32], shard[16];
        struct synth_job j = whole;
        snprintf(name, sizeof name, "part%d.h5", i);
        snprintf(shard, sizeof shard, "%d/3", i + 1);
        parts[i] = mb_path_join(dir, name);
        j.first = cut[i];
        j.lines = cut[i + 1];
        make_both(parts[i], &j, 120, shard, "gone", no_hash);
        if (i == 2) {
            const char *two[2] = {parts[0], parts[1]}, *twice[3] = {parts[0], parts[1], parts[1]};
            assert_int_equal(mb_results_merge((const char *[]){parts[0], parts[1], parts[2]}, 3, all, false, NULL), MB_INPUT);
            assert_int_equal(mb_results_merge(two, 2, all, false, NULL), MB_INPUT);
            assert_int_equal(mb_results_merge(twice, 3, all, false, NULL), MB_INPUT);
        }
        assert_int_equal(mb_results_assemble(parts[i], false, false, NULL, NULL), MB_OK);
    }
    make_both(one, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(one, false, false, NULL, NULL), MB_OK);
    const char *order[3] = {parts[2], parts[0], parts[1]};
    assert_int_equal(mb_results_merge(order, 3, all, false, NULL), MB_OK);
    assert_int_equal(mb_results_merge(order, 3, all, false, NULL), MB_INPUT); /* exists */
    assert_int_equal(mb_results_merge(order, 3, all, true, NULL), MB_OK);
    for (int in_order = 0; in_order < 2; in_order++) {
        char *want = digest_of(one, in_order), *have = digest_of(all, in_order);
        char *python = python_digest(all, in_order ? "--in-order" : "");
        assert_string_equal(have, want);
        assert_string_equal(have, python);
        free(want);
        free(have);
        free(python);
    }
    for (int i = 0; i < 3; i++)
        free(parts[i]);
    free(one);
    free(all);
    tmpdir_remove(dir);
}

static bool is_nan(const uint8_t *v)
{
    float f;
    memcpy(&f, v, sizeof f);
    return isnan(f);
}

/* One changed bit anywhere in what the digest covers changes it; in what it does not cover, it does not. */
static void test_digest_sees_every_bit(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum mb_h5_type type;
        int rank;
        uint64_t at[3];
        bool seen;
    } places[] = {
        {"/tokens/prompt_ids", MB_H5_I32, 1, {40}, true},     {"/tokens/prompt_logprobs", MB_H5_F32, 1, {40}, true},
        {"/tokens/output_ids", MB_H5_I32, 1, {20}, true},     {"/tokens/output_logprobs", MB_H5_F32, 1, {20}, true},
        {"/tokens/top_ids", MB_H5_I32, 2, {0, 1}, true},      {"/tokens/top_logprobs", MB_H5_F32, 2, {0, 1}, true},
        {"/requests/logprob_sum", MB_H5_F64, 1, {4}, true},   {"/requests/is_greedy", MB_H5_U8, 1, {7}, true},
        {"/requests/kind", MB_H5_KIND, 1, {0}, true},         {"/requests/finish_reason", MB_H5_FINISH, 1, {0}, true},
        {"/requests/choice", MB_H5_U32, 1, {6}, true},        {"/routing/experts", MB_H5_U16, 3, {1, 30, 1}, true},
        {"/routing/weights", MB_H5_F32, 3, {2, 30, 0}, true}, {"/logits", MB_H5_F32, 2, {17, 4}, true},
        {"/requests/reply", MB_H5_U8, 1, {3}, false},
        {"/timing/queue", MB_H5_F64, 1, {4}, false},          {"/physical/rank", MB_H5_U16, 3, {1, 30, 1}, false},
    };
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5");
    make_both(path, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
    char *before = digest_of(path, false);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        uint64_t one[3] = {1, 1, 1}, at[3] = {places[i].at[0], places[i].at[1], places[i].at[2]};
        for (int pass = 0; pass < 2; pass++) { /* changed, and changed back */
            struct mb_h5 *h = NULL;
            struct mb_h5_set *s = NULL;
            uint8_t v[8] = {0};
            assert_int_equal(mb_h5_open(path, true, &h), MB_OK);
            assert_int_equal(mb_h5_find(h, places[i].path, places[i].type, places[i].rank, &s), MB_OK);
            do { /* a NaN is a NaN, whatever its bits */
                assert_int_equal(mb_h5_read(s, at, one, v), MB_OK);
            } while (places[i].type == MB_H5_F32 && pass == 0 && is_nan(v) && ++at[0] < 1000);
            v[0] ^= 1;
            assert_int_equal(mb_h5_write(s, at, one, v), MB_OK);
            mb_h5_set_close(s);
            assert_int_equal(mb_h5_close(h), MB_OK);
            char *now = digest_of(path, false);
            assert_int_equal(strcmp(now, before) != 0, pass == 0 && places[i].seen);
            free(now);
        }
    }
    free(before);
    free(path);
    tmpdir_remove(dir);
}

static void test_digest_sees_text(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5");
    static const char *const names[] = {"/requests/text", "/requests/id"};
    make_both(path, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
    for (int i = 0; i < 2; i++) {
        char *before = digest_of(path, false), *v = NULL;
        struct mb_h5 *h = NULL;
        struct mb_h5_set *s = NULL;
        uint64_t at = 3, one = 1;
        assert_int_equal(mb_h5_open(path, true, &h), MB_OK);
        assert_int_equal(mb_h5_find(h, names[i], MB_H5_TEXT, 1, &s), MB_OK);
        assert_int_equal(mb_h5_read(s, &at, &one, &v), MB_OK);
        v[0] ^= 1;
        assert_int_equal(mb_h5_write(s, &at, &one, &v), MB_OK);
        mb_h5_free_text(&v, 1);
        mb_h5_set_close(s);
        assert_int_equal(mb_h5_close(h), MB_OK);
        char *now = digest_of(path, false);
        assert_string_not_equal(now, before);
        free(now);
        free(before);
    }
    free(path);
    tmpdir_remove(dir);
}

/* Runs of a few rows in a file against one run in memory against the library's sort of the same rows. */
static int by_row(const void *pa, const void *pb)
{
    const struct mb_digest_row *a = pa, *b = pb;
    int c = strcmp(a->id, b->id);
    return c != 0 ? c : a->choice != b->choice ? (a->choice > b->choice) - (a->choice < b->choice)
                                               : (a->hash.hi > b->hash.hi) - (a->hash.hi < b->hash.hi);
}

static void check_sorted(uint64_t run_bytes, const struct mb_digest_row *put, const struct mb_digest_row *want, int n)
{
    struct mb_digest_sort *s = NULL;
    struct mb_digest_row got;
    bool end = false;
    assert_int_equal(mb_digest_sort_create(run_bytes, &s), MB_OK);
    for (int i = 0; i < n; i++)
        assert_int_equal(mb_digest_sort_put(s, &put[i]), MB_OK);
    for (int i = 0; i < n; i++) {
        assert_int_equal(mb_digest_sort_next(s, &got, &end), MB_OK);
        assert_false(end);
        assert_int_equal(got.id_len, want[i].id_len);
        assert_memory_equal(got.id == NULL ? "" : got.id, want[i].id, got.id_len);
        assert_int_equal(got.choice, want[i].choice);
        assert_int_equal(got.hash.hi, want[i].hash.hi);
    }
    assert_int_equal(mb_digest_sort_next(s, &got, &end), MB_OK);
    assert_true(end);
    mb_digest_sort_destroy(s);
}

static void test_digest_sort(void **state)
{
    (void)state;
    enum { N = 700, LONG = 70000 };
    struct mb_digest_row *rows = calloc(N, sizeof *rows), *want = calloc(N, sizeof *want);
    char *ids = calloc(N, 16), *longer = calloc(2, LONG + 1);
    assert_true(rows != NULL && want != NULL && ids != NULL && longer != NULL);
    memset(longer, 'q', LONG); /* longer than what is read of a run at once */
    for (int i = 0; i < N; i++) {
        uint64_t r = rec_mix((uint64_t)i);
        char *id = i == 5 ? longer : ids + 16 * i;
        if (i != 5 && r % 7 != 0) /* else empty */
            snprintf(id, 16, r % 3 == 0 ? "q%d" : "row-%d", (int)(r % 100));
        rows[i] = (struct mb_digest_row){{r % 5, 0}, id, (uint32_t)strlen(id), (uint32_t)(r >> 8) % 4};
    }
    memcpy(want, rows, N * sizeof *rows);
    qsort(want, N, sizeof *want, by_row);
    static const uint64_t runs[] = {0, 1, 200, 5000};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        for (int n = i == 0 ? N : 0; n <= N; n += N)
            check_sorted(runs[i], rows, want, n);
    free(rows);
    free(want);
    free(ids);
    free(longer);
}

/* Entries in any order, many of them equal, up to patterns that are bad for pivots; and no more memory than they are. */
static void test_asm_sort(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct mb_row_entry *e = malloc(N * sizeof *e);
    assert_non_null(e);
    for (int how = 0; how < 5; how++) {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < N; i++) {
            uint64_t line = how == 0 ? i : how == 1 ? N - i : how == 2 ? rec_mix(i) % N : how == 3 ? 7 : i < N / 2 ? i : N - i;
            e[i] = (struct mb_row_entry){.line = line, .choice = (uint8_t)(rec_mix(i) % 3), .offset = i};
            sum += line * 3 + e[i].choice + i;
        }
        mb_asm_sort(e, N);
        for (uint64_t i = 0; i < N; i++)
            sum -= e[i].line * 3 + e[i].choice + e[i].offset;
        assert_int_equal(sum, 0);
        for (uint64_t i = 1; i < N; i++)
            assert_true(e[i - 1].line < e[i].line || (e[i - 1].line == e[i].line &&
                        (e[i - 1].choice < e[i].choice || (e[i - 1].choice == e[i].choice && e[i - 1].offset < e[i].offset))));
    }
    free(e);
}

/* What rank 0 holds of a row while results are assembled: 100 bytes are promised. */
static void test_asm_memory(void **state)
{
    (void)state;
    enum { N = 1600000 };
    struct rusage before, after;
    struct mb_mem mem = {0};
    struct mb_asm a = {.g = mb_group_of(NULL), .owners = 1, .mem = &mem, .lines = N, .requests = N};
    assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
    for (uint64_t i = 0; i < N; i++) {
        struct mb_row_entry e = {.line = rec_mix(i) % N, .n = 128, .choice = (uint8_t)(i % 100), .offset = i};
        assert_int_equal(mb_asm_add(&a, &e, 1), MB_OK);
    }
    mb_asm_sort(a.e, a.n);
    assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
    int64_t grown = (after.ru_maxrss - before.ru_maxrss) * 1024, counted = atomic_load(&mem.peak[MB_MEM_INDEX]);
    print_message("%lld bytes a row resident, %lld counted\n", (long long)grown / N, (long long)counted / N);
    assert_true(counted <= 100LL * N);
    if (!MB_TEST_SANITIZED)
        assert_true(grown <= 100LL * N);
    mb_asm_fini(&a);
}

static void test_inspect(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *text = NULL;
    size_t n = 0;
    static const struct mb_inspect_options ways[] = {
        {.text = false}, {.json = true}, {.text = true}, {.text = true, .json = true}, {.routing = true},
        {.routing = true, .json = true}, {.digest = true, .requests = true},
    };
    static const char *const says[] = {"finish reason", "\"rows\": 154", "error: prompt: too long", "\"is_greedy\":true",
                                       "MAX/MEAN", "{\"layer\":2,", "req-4 2\n"};
    make_both(path, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct mb_inspect_options o = ways[i];
        FILE *f = open_memstream(&text, &n);
        o.path = path;
        assert_int_equal(mb_inspect(f, &o), MB_OK);
        fclose(f);
        if (strstr(text, says[i]) == NULL)
            fail_msg("inspect, way %zu, does not say %s but:\n%s", i, says[i], text);
        free(text);
    }
    assert_int_equal(mb_inspect(stdout, &(struct mb_inspect_options){.path = dir}), MB_INPUT);
    free(path);
    tmpdir_remove(dir);
}

/* A results file cut anywhere is refused or read in part, and never crashes the reader. */
static void test_cut_file(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *cut = mb_path_join(dir, "cut.h5");
    struct mb_bytes all = {0};
    make_both(path, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
    assert_int_equal(mb_file_read(path, 1 << 26, MB_IO, &all), MB_OK);
    mb_log_set_quiet(true);
    for (size_t i = 0; i < 40; i++) {
        struct mb_results *r = NULL;
        assert_int_equal(mb_publish_bytes(cut, all.data, all.len * i / 40, 0), MB_OK);
        assert_int_equal(mb_results_open(cut, &r), MB_INPUT);
    }
    mb_log_set_quiet(false);
    mb_bytes_fini(&all);
    free(cut);
    free(path);
    tmpdir_remove(dir);
}

/* A full disk while the file is written: no results, no leftovers, journals as they were, and a second try succeeds. */
static void test_no_room(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *tmp = mb_path_join(dir, "r.h5.d/assembling-0000.h5");
    int64_t rows;
    char want[33];
    make_both(path, &whole, 120, "", "gone", no_hash);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 1000; limit < 40000; limit += 9000) {
        struct rlimit old, small;
        getrlimit(RLIMIT_FSIZE, &old);
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        enum mb_status st = mb_results_assemble(path, false, false, NULL, NULL);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(st, MB_IO);
        assert_false(mb_path_exists(path));
        assert_false(mb_path_exists(tmp));
    }
    assert_int_equal(mb_results_assemble(path, false, false, NULL, NULL), MB_OK);
    mb_hash128_hex(synth_expected(&whole, &rows), want);
    char *have = digest_of(path, true);
    assert_string_equal(have, want);
    free(have);
    free(tmp);
    free(path);
    tmpdir_remove(dir);
}

/* Complete results whose journals were not removed yet (a kill in between): --resume has nothing to do but to tidy up. */
static void test_resume_of_complete(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_path_join(dir, "r.h5"), *runs = mb_path_join(dir, "r.h5.d/run-0001");
    struct mb_identity id = synth_identity;
    struct mb_shape shape = synth_shape_of(&whole);
    struct mb_input_info info = {.total_lines = 120, .lines = 120, .requests = 120};
    struct mb_owner o = {.ranks = 1, .input = &info, .identity = &id, .shape = &shape};
    struct mb_rundir *d = NULL;
    enum mb_start s = MB_START_FRESH;
    make_both(path, &whole, 120, "", "gone", no_hash);
    assert_int_equal(mb_results_assemble(path, false, true, NULL, NULL), MB_OK);
    id.input = no_hash;
    id.seed++;
    assert_int_equal(mb_start(&(struct mb_start_options){.results = path, .resume = true, .overwrite = false}, &o, NULL, &s, &d), MB_INPUT); /* another job's results */
    assert_true(mb_path_exists(runs));
    id.seed--;
    assert_int_equal(mb_start(&(struct mb_start_options){.results = path, .resume = false, .overwrite = false}, &o, NULL, &s, &d), MB_INPUT);
    assert_int_equal(mb_start(&(struct mb_start_options){.results = path, .resume = true, .overwrite = false}, &o, NULL, &s, &d), MB_OK);
    assert_int_equal(s, MB_START_COMPLETE);
    assert_null(d);
    assert_false(mb_path_exists(runs));
    free(runs);
    free(path);
    tmpdir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assemble_and_status),   cmocka_unit_test(test_partial),
        cmocka_unit_test(test_merge),                 cmocka_unit_test(test_digest_sees_every_bit),
        cmocka_unit_test(test_digest_sees_text),      cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_digest_sort),           cmocka_unit_test(test_asm_sort),
        cmocka_unit_test(test_asm_memory),
        cmocka_unit_test(test_cut_file),              cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_resume_of_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
