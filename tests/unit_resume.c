/* Folding journals: what is done, what is begun, with which tokens; overlapping runs must agree; damage is survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/publish.h"
#include "base/mem.h"
#include "io/journal.h"
#include "io/resume.h"
#include "io/resume_map.h"
#include "io/scan.h"
#include "records.h"
#include "tmpdir.h"

#define LINES 40

static const struct mb_identity who = {.input = {1, 2}, .model = {3, 4}, .seed = 5, .sampling = (char *)"max_tokens=16", .path = (char *)"f32"};

static char *new_run(const char *dir, int run)
{
    char *path = mb_run_path(dir, run);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static struct mb_journal *writer(const char *run_dir, int run, int rank)
{
    struct mb_journal *j = NULL;
    struct mb_journal_options o = {.dir = run_dir, .identity = &who, .run = run, .rank = rank};
    assert_int_equal(mb_journal_create(&o, &j), MB_OK);
    return j;
}

static void put_record(struct mb_journal *j, uint64_t line, int32_t choice)
{
    struct mb_record r;
    rec_make(line, choice, &r);
    assert_int_equal(mb_journal_record(j, &r), MB_OK);
    mb_record_fini(&r);
}

static int32_t token_of(uint64_t line, int32_t c, int64_t i)
{
    return (int32_t)(line * 1000 + (uint64_t)c * 100 + (uint64_t)i);
}

static void put_tokens(struct mb_journal *j, uint64_t line, int32_t c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++)
        assert_int_equal(mb_journal_token(j, line, c, i, token_of(line, c, i)), MB_OK);
    assert_int_equal(mb_journal_flush(j), MB_OK);
}

/* Lines 0 .. 19 done; 20 begun; line 24 (three choices): choice 1 done, choice 2 begun; the rest untouched. */
static void first_run(const char *dir)
{
    char *run = new_run(dir, 1);
    struct mb_journal *a = writer(run, 1, 0), *b = writer(run, 1, 1);
    for (uint64_t line = 0; line < 20; line++) {
        put_tokens(line % 2 ? a : b, line, 0, 0, 3);
        for (int32_t c = 0; c < rec_choices(line); c++)
            put_record(line % 2 ? a : b, line, c);
    }
    put_tokens(a, 20, 0, 0, 5);
    put_tokens(b, 24, 2, 0, 2);
    put_tokens(b, 24, 1, 0, 2);
    put_record(b, 24, 1);
    mb_journal_destroy(a);
    mb_journal_destroy(b);
    free(run);
}

static void expect_first(const struct mb_resume *r, const char *run_dir)
{
    const struct mb_resume_entry *e;
    int32_t n;
    bool done;
    struct mb_request *req = calloc(1, sizeof *req);
    for (uint64_t line = 0; line < LINES; line++) {
        mb_resume_line(r, line, &done, &e, &n);
        assert_int_equal(done, line < 20);
        assert_int_equal(n, line == 20 ? 1 : line == 24 ? 2 : 0);
    }
    mb_resume_line(r, 24, &done, &e, &n);
    req->line = 24;
    req->n = 3;
    assert_int_equal(mb_resume_fill(run_dir, e, n, req), MB_OK);
    assert_false(req->resume[0].done);
    assert_int_equal(req->resume[0].n_forced, 0);
    assert_true(req->resume[1].done);
    assert_int_equal(req->resume[2].n_forced, 2);
    assert_int_equal(req->resume[2].forced[1], token_of(24, 2, 1));
    for (int i = 0; i < 3; i++)
        mb_free(req->resume[i].forced);
    mb_free(req->resume);
    memset(req, 0, sizeof *req);
    req->line = 24;
    req->n = 2; /* an input in which line 24 has fewer choices */
    assert_int_equal(mb_resume_fill(run_dir, e, n, req), MB_CORRUPT);
    mb_free(req->resume);
    free(req);
}

static void test_fold(void **state)
{
    (void)state;
    char *dir = tmpdir_make();
    struct mb_resume *r = NULL;
    struct mb_resume_counts c;
    struct mb_mem mem = {0};
    first_run(dir);
    assert_int_equal(mb_resume_fold(dir, NULL, NULL, LINES, &mem, &r), MB_OK); /* as `status` asks: writes nothing */
    mb_resume_count(r, &c);
    assert_int_equal(c.lines_begun, 2);
    assert_int_equal(c.tokens, 7);
    mb_resume_destroy(r);
    char *run = new_run(dir, 2);
    assert_int_equal(mb_resume_fold(dir, run, &who, LINES, &mem, &r), MB_OK);
    mb_resume_count(r, &c);
    assert_int_equal(c.lines_done, 20);
    assert_int_equal(c.rows_done, 20 + 2 * 3 + 1);
    assert_int_equal(c.lines_begun, 2);
    assert_int_equal(c.tokens, 7);
    assert_int_equal(c.duplicates, 0);
    expect_first(r, run);
    mb_resume_destroy(r);
    assert_int_equal(mb_mem_total(&mem), 0);
    free(run);
    tmpdir_remove(dir);
}

/* A second run that went on, and a first one that went on writing after it was thought dead. */
static void test_overlap(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *run;
    struct mb_resume *r = NULL;
    struct mb_resume_counts c;
    const struct mb_resume_entry *e;
    int32_t n;
    bool done;
    first_run(dir);
    run = new_run(dir, 2);
    struct mb_journal *j = writer(run, 2, 0);
    put_tokens(j, 20, 0, 5, 9); /* goes on behind the forced ones */
    put_record(j, 5, 0);        /* done by both */
    put_record(j, 24, 0);
    put_record(j, 24, 2);
    put_record(j, 24, 1); /* and here for choice 1 */
    put_tokens(j, 30, 0, 4, 6); /* behind a gap: of no use */
    mb_journal_destroy(j);
    free(run);
    run = new_run(dir, 3);
    assert_int_equal(mb_resume_fold(dir, run, &who, LINES, NULL, &r), MB_OK);
    mb_resume_count(r, &c);
    assert_int_equal(c.lines_done, 21);
    assert_int_equal(c.duplicates, 2);
    mb_resume_line(r, 20, &done, &e, &n);
    assert_int_equal(n, 1);
    assert_int_equal(e->n_forced, 9);
    mb_resume_line(r, 30, &done, &e, &n);
    assert_int_equal(n, 0);
    mb_resume_line(r, 24, &done, &e, &n);
    assert_true(done);
    mb_resume_destroy(r);
    free(run);
    tmpdir_remove(dir);
}

static void test_conflicts(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        char *dir = tmpdir_make(), *run;
        struct mb_resume *r = NULL;
        struct mb_record rec;
        struct mb_identity other = who;
        first_run(dir);
        run = new_run(dir, 2);
        struct mb_journal *j = writer(run, 2, 0);
        if (kind == 0) { /* another record of line 5 */
            rec_make(5, 0, &rec);
            rec.prompt_logprobs[1] += 1;
            assert_int_equal(mb_journal_record(j, &rec), MB_OK);
            mb_record_fini(&rec);
        } else if (kind == 1) { /* another token */
            assert_int_equal(mb_journal_token(j, 20, 0, 2, 7), MB_OK);
        } else if (kind == 2) { /* a line the input does not have */
            put_record(j, LINES, 0);
        } else { /* another run's identity */
            other.seed++;
        }
        mb_journal_destroy(j);
        assert_int_equal(mb_resume_fold(dir, NULL, &other, LINES, NULL, &r), kind == 3 ? MB_INPUT : MB_CORRUPT);
        assert_null(r);
        free(run);
        tmpdir_remove(dir);
    }
}

/* One flipped bit in a journal: fewer lines are done, none is wrong. */
static void test_damage(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *run, *path;
    struct mb_bytes all = {0};
    int damaged = 0;
    first_run(dir);
    run = mb_run_path(dir, 1);
    path = mb_journal_path(run, 1);
    assert_int_equal(mb_file_read(path, 1 << 20, MB_IO, &all), MB_OK);
    mb_log_set_quiet(true);
    for (size_t at = 0; at < all.len; at += 97) {
        struct mb_resume *r = NULL;
        struct mb_resume_counts c;
        all.data[at] ^= 16;
        assert_int_equal(mb_publish_bytes(path, all.data, all.len, 0), MB_OK);
        all.data[at] ^= 16;
        assert_int_equal(mb_resume_fold(dir, NULL, &who, LINES, NULL, &r), MB_OK);
        mb_resume_count(r, &c);
        assert_true(c.lines_done <= 20 && c.lines_done >= 10);
        damaged += c.damaged;
        mb_resume_destroy(r);
    }
    mb_log_set_quiet(false);
    assert_true(damaged > 3);
    mb_bytes_fini(&all);
    free(path);
    free(run);
    tmpdir_remove(dir);
}

/* A power failure: the record reached the disk, its logits did not. */
static void test_bulk_lost(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *run = new_run(dir, 1), *bulk = mb_bulk_path(run, 0, MB_BULK_LOGITS);
    uint64_t rows[MB_BULK_COUNT] = {[MB_BULK_LOGITS] = 8}, at;
    struct mb_journal *j = writer(run, 1, 0);
    mb_journal_bulk_rows(j, rows);
    for (uint64_t line = 0; line < 6; line++) {
        struct mb_record r;
        rec_make(line, 0, &r);
        r.n = 1;
        assert_int_equal(mb_bulk_reserve(j, MB_BULK_LOGITS, 8, &at), MB_OK);
        assert_int_equal(mb_bulk_write(j, MB_BULK_LOGITS, at, &line, 8), MB_OK);
        r.bulk[MB_BULK_LOGITS] = (struct mb_extent){at, 1};
        assert_int_equal(mb_journal_record(j, &r), MB_OK);
        mb_record_fini(&r);
        if (line == 2)
            assert_int_equal(mb_journal_sync_now(j), MB_OK);
        assert_int_equal(mb_journal_flush(j), MB_OK);
    }
    mb_journal_destroy(j);
    /* one that was fsynced, one behind it */
    int fd = open(bulk, O_WRONLY);
    assert_int_equal(pwrite(fd, "????????", 8, 1 * 8), 8);
    assert_int_equal(pwrite(fd, "????????", 8, 4 * 8), 8);
    close(fd);
    struct mb_resume *r = NULL;
    const struct mb_resume_entry *e;
    char *next = new_run(dir, 2);
    int32_t n;
    for (int how = 0; how < 3; how++) { /* the whole file; cut in front of line 5; quickly looked at */
        assert_int_equal(mb_resume_fold(dir, how < 2 ? next : NULL, &who, 6, NULL, &r), MB_OK);
        for (uint64_t line = 0; line < 6; line++) {
            bool done;
            mb_resume_line(r, line, &done, &e, &n);
            assert_int_equal(done, (how == 2 || (line != 1 && line != 4)) && (how == 0 || line != 5));
        }
        mb_resume_destroy(r);
        assert_int_equal(truncate(bulk, 5 * 8 + 7), 0);
    }
    assert_int_equal(unlink(bulk), 0);
    struct mb_resume_counts c;
    assert_int_equal(mb_resume_fold(dir, next, &who, 6, NULL, &r), MB_OK);
    mb_resume_count(r, &c);
    assert_int_equal(c.rows_done, 0);
    mb_resume_destroy(r);
    free(next);
    free(bulk);
    free(run);
    tmpdir_remove(dir);
}

/* The hash table against a plain array, with lines that fall on the same places. */
static void test_map(void **state)
{
    (void)state;
    enum { KEYS = 700 };
    struct mb_resume_map m = {0};
    struct mb_line_state *s = NULL, **list = NULL;
    bool have[KEYS] = {false};
    int64_t n, choices, count = 0;
    for (uint64_t step = 0; step < 20000; step++) {
        uint64_t k = rec_mix(step) % KEYS, line = k * 4096;
        if (rec_mix(step + 1000000) % 3 == 0) {
            mb_resume_map_drop(&m, line);
            have[k] = false;
        } else {
            assert_int_equal(mb_resume_map_get(&m, line, &s), MB_OK);
            assert_int_equal(s->line, line);
            assert_int_equal(s->n_done != 0, have[k]);
            s->n_done = 1;
            have[k] = true;
        }
    }
    for (int k = 0; k < KEYS; k++)
        count += have[k];
    assert_int_equal(mb_resume_map_list(&m, &list, &n, &choices), MB_OK);
    assert_int_equal(n, count);
    for (int64_t i = 0; i < n; i++)
        assert_true(have[list[i]->line / 4096]);
    free(list);
    mb_resume_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold),   cmocka_unit_test(test_overlap),   cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_bulk_lost), cmocka_unit_test(test_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
