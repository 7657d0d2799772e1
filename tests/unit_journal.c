/* The journal: what was written comes back; cut at any byte, the valid prefix comes back; a flipped bit is never believed
 * and is told from a torn end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/log.h"
#include "base/publish.h"
#include "base/wire.h"
#include "io/journal.h"
#include "records.h"
#include "tmpdir.h"

#define LINES 9

static const struct mb_identity who = {.input = {1, 2}, .model = {3, 4}, .seed = 5, .sampling = (char *)"max_tokens=16", .path = (char *)"f32"};

static struct mb_journal *make(const char *dir, int rank, double interval)
{
    struct mb_journal *j = NULL;
    struct mb_journal_options o = {.dir = dir, .identity = &who, .run = 1, .rank = rank, .sync_interval = interval};
    assert_int_equal(mb_journal_create(&o, &j), MB_OK);
    return j;
}

/* One step a line: two tokens, then the line's records. */
static void fill(struct mb_journal *j)
{
    for (uint64_t line = 0; line < LINES; line++) {
        assert_int_equal(mb_journal_token(j, line, 0, 0, (int32_t)line * 10), MB_OK);
        assert_int_equal(mb_journal_token(j, line + 100, 1, 7, -1), MB_OK);
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record r;
            rec_make(line, c, &r);
            assert_int_equal(mb_journal_record(j, &r), MB_OK);
            mb_record_fini(&r);
        }
        assert_int_equal(mb_journal_flush(j), MB_OK);
    }
}

/* Reads the file; checks every record against the generator. Returns the frames, and how the file ends. */
static int read_all(const char *path, enum mb_journal_end *end, uint64_t *ends, int max)
{
    struct mb_journal_reader *r = NULL;
    struct mb_frame f;
    bool got;
    int n = 0;
    assert_int_equal(mb_journal_open(path, &r), MB_OK);
    for (;;) {
        assert_int_equal(mb_journal_next(r, &f, &got), MB_OK);
        if (!got)
            break;
        if (f.kind == MB_JOURNAL_DONE || f.kind == MB_JOURNAL_ERROR) {
            struct mb_done d;
            struct mb_record have, want;
            assert_true(mb_done_parse(f.payload, f.len, &d));
            assert_int_equal(mb_record_unpack(d.record, d.n, &have), MB_OK);
            rec_make(d.head.line, d.head.choice, &want);
            assert_true(mb_record_equal(&have, &want));
            assert_int_equal(f.kind == MB_JOURNAL_ERROR, want.status == MB_ROW_ERROR);
            mb_record_fini(&have);
            mb_record_fini(&want);
        }
        if (n < max)
            ends[n] = f.offset + f.len;
        n++;
    }
    *end = mb_journal_end(r);
    mb_journal_close(r);
    return n;
}

static void test_round_trip(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_journal_path(dir, 3);
    struct mb_journal *j = make(dir, 3, 0);
    struct mb_journal_reader *r = NULL;
    struct mb_frame f;
    struct mb_identity id = {0};
    int64_t written, acked, bytes;
    enum mb_journal_end end;
    bool got;

    fill(j);
    mb_journal_counts(j, &written, &acked, &bytes);
    assert_int_equal(written, LINES + 2);
    assert_int_equal(acked, 0);
    assert_int_equal(mb_journal_sync_now(j), MB_OK);
    mb_journal_counts(j, &written, &acked, &bytes);
    assert_int_equal(acked, LINES + 2);
    assert_int_equal(read_all(path, &end, NULL, 0), 1 + LINES + LINES + 2);
    assert_int_equal(end, MB_JOURNAL_WHOLE);
    mb_journal_destroy(j);

    assert_int_equal(mb_journal_open(path, &r), MB_OK);
    assert_int_equal(mb_journal_next(r, &f, &got), MB_OK);
    assert_int_equal(mb_journal_head(&f, path, &id), MB_OK);
    assert_int_equal(mb_identity_match(&who, &id, false, "x"), MB_OK);
    mb_identity_fini(&id);
    /* tokens and records come in the order of the step: records were gathered first, then one TOKENS frame */
    uint32_t tokens = 0;
    while (mb_journal_next(r, &f, &got) == MB_OK && got) {
        if (f.kind != MB_JOURNAL_TOKENS)
            continue;
        struct mb_wire w = mb_wire_of(f.payload + 4, f.len - 4);
        assert_int_equal(mb_wire_u32(&w), 2);
        assert_int_equal(mb_wire_u64(&w), tokens);
        assert_int_equal(mb_wire_i32(&w), 0);
        assert_int_equal(mb_wire_u32(&w), 0);
        assert_int_equal(mb_wire_i32(&w), tokens * 10);
        tokens++;
    }
    assert_int_equal(tokens, LINES);
    mb_journal_close(r);
    free(path);
    tmpdir_remove(dir);
}

static void put_file(const char *path, const uint8_t *data, size_t n)
{
    assert_int_equal(mb_publish_bytes(path, data, n, 0), MB_OK);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_journal_path(dir, 0), *cut = mb_journal_path(dir, 1);
    struct mb_journal *j = make(dir, 0, 0);
    struct mb_bytes all = {0};
    uint64_t ends[64], none[1];
    enum mb_journal_end end;
    fill(j);
    mb_journal_destroy(j);
    int frames = read_all(path, &end, ends, 64);
    assert_int_equal(mb_file_read(path, 1 << 20, MB_IO, &all), MB_OK);
    for (size_t n = 0; n <= all.len; n++) {
        int want = 0;
        bool whole = n == 0;
        for (int i = 0; i < frames; i++) {
            want += ends[i] <= n;
            whole = whole || ends[i] == n;
        }
        put_file(cut, all.data, n);
        assert_int_equal(read_all(cut, &end, none, 0), want);
        assert_int_equal(end, whole ? MB_JOURNAL_WHOLE : MB_JOURNAL_TORN);
    }
    mb_bytes_fini(&all);
    free(path);
    free(cut);
    tmpdir_remove(dir);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_journal_path(dir, 0), *bad = mb_journal_path(dir, 1);
    struct mb_journal *j = make(dir, 0, 0);
    struct mb_bytes all = {0};
    uint64_t ends[64], none[1];
    enum mb_journal_end end;
    fill(j);
    mb_journal_destroy(j);
    int frames = read_all(path, &end, ends, 64);
    assert_int_equal(mb_file_read(path, 1 << 20, MB_IO, &all), MB_OK);
    mb_log_set_quiet(true);
    for (size_t bit = 0; bit < all.len * 8; bit += 3) {
        int hit = 0;
        while (ends[hit] <= bit / 8)
            hit++;
        all.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        put_file(bad, all.data, all.len);
        all.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(read_all(bad, &end, none, 0), hit);
        assert_int_equal(end, hit == frames - 1 ? MB_JOURNAL_TORN : MB_JOURNAL_CORRUPT);
    }
    mb_log_set_quiet(false);
    mb_bytes_fini(&all);
    free(path);
    free(bad);
    tmpdir_remove(dir);
}

static void test_second_writer_refused(void **state)
{
    (void)state;
    char *dir = tmpdir_make();
    struct mb_journal *j = make(dir, 0, 0), *k = NULL;
    struct mb_journal_options o = {.dir = dir, .identity = &who, .run = 1, .rank = 0};
    assert_int_equal(mb_journal_create(&o, &k), MB_IO);
    assert_null(k);
    mb_journal_destroy(j);
    tmpdir_remove(dir);
}

static void test_thread_acknowledges(void **state)
{
    (void)state;
    char *dir = tmpdir_make();
    struct mb_journal *j = make(dir, 0, 0.02);
    int64_t written, acked = 0, bytes;
    fill(j);
    for (int i = 0; i < 500 && acked < LINES + 2; i++) {
        usleep(10000);
        mb_journal_counts(j, &written, &acked, &bytes);
    }
    assert_int_equal(acked, LINES + 2);
    mb_journal_destroy(j);
    tmpdir_remove(dir);
}

/* In place of the library's: while `slow` holds, the journal's thread takes its time and gets an error; the caller's own fsync, which
 * comes and goes meanwhile, does not. */
static atomic_int slow, under_way;
static pthread_t self;

int fdatasync(int fd)
{
    if (!slow || pthread_equal(pthread_self(), self))
        return fsync(fd);
    under_way = 1;
    usleep(300000);
    errno = EIO;
    return -1;
}

/* The error of an fsync that the thread has under way at the end is not lost. */
static void test_thread_fails_late(void **state)
{
    (void)state;
    char *dir = tmpdir_make();
    struct mb_journal *j = make(dir, 0, 0.01);
    self = pthread_self();
    slow = 1;
    fill(j);
    for (int i = 0; i < 1000 && !under_way; i++)
        usleep(1000);
    assert_true(under_way);
    mb_log_set_quiet(true);
    assert_int_equal(mb_journal_settle(j), MB_IO);
    slow = 0;
    mb_journal_destroy(j);
    mb_log_set_quiet(false);
    tmpdir_remove(dir);
}

/* A full disk: the file keeps ending with a whole frame, and nothing is ever appended behind the failure. */
static void test_failed_write_is_final(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_journal_path(dir, 0);
    struct mb_journal *j = make(dir, 0, 0);
    enum mb_journal_end end;
    uint64_t none[1];
    fill(j);
    int frames = read_all(path, &end, none, 0);
    int64_t written, acked, bytes;
    struct rlimit old, small;
    mb_journal_counts(j, &written, &acked, &bytes);
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){(rlim_t)bytes + 100, old.rlim_max}; /* a part of the next step fits */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < 100; i++)
        assert_int_equal(mb_journal_token(j, 0, 0, i, 0), MB_OK);
    assert_int_equal(mb_journal_flush(j), MB_NO_SPACE);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(mb_journal_token(j, 0, 0, 0, 0), MB_NO_SPACE);
    assert_int_equal(mb_journal_flush(j), MB_NO_SPACE);
    mb_journal_destroy(j);
    assert_int_equal(read_all(path, &end, none, 0), frames);
    assert_int_equal(end, MB_JOURNAL_WHOLE);
    free(path);
    tmpdir_remove(dir);
}

static void test_bulk(void **state)
{
    (void)state;
    char *dir = tmpdir_make(), *path = mb_journal_path(dir, 0), *bulk = mb_bulk_path(dir, 0, MB_BULK_LOGITS);
    struct mb_journal *j = make(dir, 0, 0);
    uint64_t rows[MB_BULK_COUNT] = {[MB_BULK_LOGITS] = 12}, a, b;
    float data[3] = {1, 2, 3};
    struct mb_record r;
    struct mb_journal_reader *reader = NULL;
    struct mb_frame f;
    struct mb_done d;
    bool got, seen = false;

    mb_journal_bulk_rows(j, rows);
    assert_int_equal(mb_bulk_write(j, MB_BULK_LOGITS, 0, data, 12), MB_BUG); /* before a reserve */
    assert_int_equal(mb_bulk_reserve(j, MB_BULK_LOGITS, 120, &a), MB_OK);
    assert_int_equal(mb_bulk_write(j, MB_BULK_LOGITS, a, data, 12), MB_OK);
    mb_bulk_trim(j, MB_BULK_LOGITS, a, 120, 12);
    assert_int_equal(mb_bulk_reserve(j, MB_BULK_LOGITS, 120, &b), MB_OK);
    assert_int_equal(b, 12);
    assert_int_equal(mb_bulk_reserve(j, MB_BULK_LOGITS, UINT64_MAX - 50, &b), MB_NO_SPACE);
    rec_make(0, 0, &r);
    r.bulk[MB_BULK_LOGITS] = (struct mb_extent){a, 1};
    assert_int_equal(mb_journal_record(j, &r), MB_OK);
    r.bulk[MB_BULK_LOGITS].rows = 1000; /* beyond what was reserved */
    assert_int_equal(mb_journal_record(j, &r), MB_BUG);
    mb_record_fini(&r);
    assert_int_equal(mb_journal_sync_now(j), MB_OK);
    mb_journal_destroy(j);

    assert_int_equal(mb_journal_open(path, &reader), MB_OK);
    while (mb_journal_next(reader, &f, &got) == MB_OK && got) {
        if (f.kind != MB_JOURNAL_DONE)
            continue;
        assert_true(mb_done_parse(f.payload, f.len, &d));
        assert_true(d.bulk_hash[MB_BULK_LOGITS] == mb_hash64(data, 12));
        seen = true;
    }
    assert_true(seen);
    mb_journal_close(reader);
    free(path);
    free(bulk);
    tmpdir_remove(dir);
}

static void test_identity(void **state)
{
    (void)state;
    struct mb_identity b = who;
    b.path = (char *)"bf16";
    assert_int_equal(mb_identity_match(&who, &b, false, "run-0001"), MB_INPUT);
    b = who;
    b.shard = (char *)"1/4";
    assert_int_equal(mb_identity_match(&who, &b, false, "run-0001"), MB_INPUT);
    assert_int_equal(mb_identity_match(&who, &b, true, "run-0001"), MB_OK);
    b.model.lo++;
    assert_int_equal(mb_identity_match(&who, &b, true, "run-0001"), MB_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),          cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_flipped_bits),        cmocka_unit_test(test_second_writer_refused),
        cmocka_unit_test(test_thread_acknowledges),
        cmocka_unit_test(test_thread_fails_late), cmocka_unit_test(test_failed_write_is_final),
        cmocka_unit_test(test_bulk),                cmocka_unit_test(test_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
