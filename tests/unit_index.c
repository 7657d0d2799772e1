/* Rank 0's index: lines, rows, hash, repeated ids, shards, text files, JSON arrays, pipes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/publish.h"
#include "base/log.h"
#include "fake_tokenizer.h"
#include "io/index.h"
#include "io/split.h"

static char dir[] = "/tmp/unit_index.XXXXXX";
static struct mb_mem mem;

static char *write_file(const char *name, const void *data, size_t n)
{
    char *path = mb_path_join(dir, name);
    assert_non_null(path);
    assert_int_equal(mb_publish_bytes(path, data, n, 0), MB_OK);
    return path;
}

static enum mb_status open_index(const char *path, int32_t shard, int32_t shards, struct mb_index **out)
{
    struct mb_parse_options parse;
    mb_parse_options_init(&parse);
    parse.vocab = FAKE_VOCAB;
    parse.max_len = 32;
    parse.mem = &mem;
    struct mb_index_options o = {.path = path, .spool_dir = dir, .kept = true, .parse = &parse, .shard = shard, .shards = shards,
                                .mem = &mem};
    return mb_index_create(&o, out);
}

static struct mb_index *index_text(const char *name, const char *text)
{
    struct mb_index *x = NULL;
    char *path = write_file(name, text, strlen(text));
    assert_int_equal(open_index(path, 0, 1, &x), MB_OK);
    free(path);
    return x;
}

static void assert_line(const struct mb_index *x, uint64_t line, uint64_t offset, uint32_t len, int32_t n, uint32_t flags)
{
    struct mb_line l;
    mb_index_line(x, line, &l);
    assert_int_equal(l.offset, offset);
    assert_int_equal(l.len, len);
    assert_int_equal(l.n, n);
    assert_int_equal(l.flags, flags);
}

static void test_lines(void **state)
{
    static const char text[] = "{\"prompt\":\"a\"}\n"            /* 0: 14 bytes */
                               "\n"                              /* 1: at 15, empty */
                               "{\"prompt\":\"b\",\"n\":3}\r\n"  /* 2: at 16, 21 bytes with \r */
                               "nonsense\n"                      /* 3: at 38 */
                               "{\"prompt\":\"c\",\"n\":2}";     /* 4: at 47, no newline at the end */
    struct mb_index *x = index_text("a.jsonl", text);
    const struct mb_input_info *i = mb_index_info(x);
    (void)state;
    assert_int_equal(i->total_lines, 5);
    assert_int_equal(i->lines, 5);
    assert_int_equal(i->first, 0);
    assert_int_equal(i->rows, 1 + 3 + 1 + 2);
    assert_int_equal(i->bad, 1);
    assert_int_equal(i->bytes, strlen(text));
    assert_int_equal(i->format, MB_FORMAT_JSONL);
    struct mb_hash128 h = mb_hash128_of(text, strlen(text));
    assert_true(i->hash.lo == h.lo && i->hash.hi == h.hi);
    assert_line(x, 0, 0, 14, 1, 0);
    assert_line(x, 1, 15, 0, 0, 0);
    assert_line(x, 2, 16, 21, 3, 0);
    assert_line(x, 3, 38, 8, 1, MB_LINE_BAD);
    assert_line(x, 4, 47, 20, 2, 0);
    static const uint64_t first_row[] = {0, 1, 1, 4, 5, 7};
    for (uint64_t k = 0; k <= 5; k++)
        assert_int_equal(mb_index_row(x, k), first_row[k]);
    uint64_t line;
    int32_t choice;
    mb_index_find(x, 3, &line, &choice);
    assert_true(line == 2 && choice == 2);
    mb_index_find(x, 6, &line, &choice);
    assert_true(line == 4 && choice == 1);
    mb_index_find(x, 0, &line, &choice);
    assert_true(line == 0 && choice == 0);
    mb_index_destroy(x);
}

static void test_empty(void **state)
{
    struct mb_index *x = index_text("empty.jsonl", "");
    (void)state;
    assert_int_equal(mb_index_info(x)->total_lines, 0);
    assert_int_equal(mb_index_info(x)->rows, 0);
    assert_int_equal(mb_index_row(x, 0), 0);
    mb_index_destroy(x);
    x = index_text("blank.jsonl", "\n \n");
    assert_int_equal(mb_index_info(x)->total_lines, 2);
    assert_int_equal(mb_index_info(x)->rows, 0);
    mb_index_destroy(x);
    x = index_text("mark.jsonl", "\xef\xbb\xbf{\"prompt\":\"a\"}\n");
    assert_line(x, 0, 3, 14, 1, 0);
    mb_index_destroy(x);
}

static void test_repeated_ids(void **state)
{
    static const char text[] = "{\"id\":\"a\",\"prompt\":\"a\",\"n\":2}\n" /* 0 */
                               "{\"id\":\"b\",\"prompt\":\"a\",\"n\":2}\n"
                               "{\"id\":\"a\",\"prompt\":\"a\",\"n\":2}\n" /* 2: repeats a */
                               "{\"id\":6,\"prompt\":\"a\"}\n"             /* 3: the number of line 5 */
                               "{\"custom_id\":\"a\",\"body\":{}}\n"       /* 4: bad, and repeats a */
                               "{\"prompt\":\"a\",\"n\":4}\n"              /* 5: implicit 6 */
                               "broken\n"                                  /* 6: implicit 7 */
                               "{\"id\":\"7\",\"prompt\":\"a\"}\n"         /* 7: repeats the implicit 7 */
                               "{\"id\":\"07\",\"prompt\":\"a\"}\n";       /* 8: text, not a number */
    struct mb_index *x = index_text("ids.jsonl", text);
    static const bool dup[] = {false, false, true, false, true, true, false, true, false};
    (void)state;
    for (uint64_t i = 0; i < 9; i++) {
        struct mb_line l;
        mb_index_line(x, i, &l);
        assert_int_equal((l.flags & MB_LINE_DUPLICATE) != 0, dup[i]);
        if (dup[i])
            assert_int_equal(l.n, 1);
    }
    assert_int_equal(mb_index_info(x)->bad, 5);
    assert_int_equal(mb_index_info(x)->rows, 2 + 2 + 7);
    mb_index_destroy(x);
}

static void test_shards(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    (void)state;
    for (int i = 0; i < 200; i++)
        fprintf(f, "{\"id\":\"%d\",\"prompt\":\"a\",\"n\":%d}\n", i % 150, i % 3 + 1);
    fclose(f);
    char *path = write_file("shards.jsonl", text, len);
    struct mb_index *whole, *x;
    assert_int_equal(open_index(path, 0, 1, &whole), MB_OK);
    for (int32_t shards = 1; shards < 300; shards += 37) {
        uint64_t next = 0;
        for (int32_t s = 0; s < shards; s++) {
            assert_int_equal(open_index(path, s, shards, &x), MB_OK);
            const struct mb_input_info *i = mb_index_info(x);
            assert_int_equal(i->first, next);
            assert_true(i->lines <= 200u / (unsigned)shards + 1);
            assert_int_equal(i->rows, mb_index_row(whole, next + i->lines) - mb_index_row(whole, next));
            for (uint64_t l = next; l < next + i->lines; l++) {
                struct mb_line a, b;
                mb_index_line(whole, l, &a);
                mb_index_line(x, l, &b);
                /* also what repeats a line of another shard */
                assert_true(a.offset == b.offset && a.len == b.len && a.n == b.n && a.flags == b.flags);
                assert_int_equal(mb_index_row(x, l), mb_index_row(whole, l) - mb_index_row(whole, next));
            }
            next += i->lines;
            mb_index_destroy(x);
        }
        assert_int_equal(next, 200);
    }
    uint64_t row = 0, line;
    int32_t choice;
    for (uint64_t l = 0; l < 200; l++) {
        struct mb_line a;
        mb_index_line(whole, l, &a);
        for (int32_t c = 0; c < a.n; c++) {
            mb_index_find(whole, row++, &line, &choice);
            assert_true(line == l && choice == c);
        }
    }
    mb_index_destroy(whole);
    free(path);
    free(text);
}

static void test_text_and_arrays(void **state)
{
    struct mb_index *x = index_text("a.txt", "one\r\n\n two\n{\n");
    (void)state;
    assert_int_equal(mb_index_info(x)->format, MB_FORMAT_TXT);
    assert_int_equal(mb_index_info(x)->rows, 3);
    assert_line(x, 2, 6, 4, 1, 0);
    mb_index_destroy(x);

    x = index_text("a.json", " [ {\"conversations\":[{\"from\":\"human\",\"value\":\"a,]}\\\"[\"}]},\n 5 ,{\"prompt\":\"x\",\"n\":2}\n] \n");
    assert_int_equal(mb_index_info(x)->format, MB_FORMAT_JSON);
    assert_int_equal(mb_index_info(x)->total_lines, 3);
    assert_int_equal(mb_index_info(x)->rows, 4);
    assert_int_equal(mb_index_info(x)->bad, 1);
    mb_index_destroy(x);

    x = index_text("lines.json", "{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}\n");
    assert_int_equal(mb_index_info(x)->format, MB_FORMAT_JSONL);
    assert_int_equal(mb_index_info(x)->rows, 2);
    mb_index_destroy(x);

    x = index_text("none.json", "[]");
    assert_int_equal(mb_index_info(x)->total_lines, 0);
    mb_index_destroy(x);

    static const char *const bad[] = {"[{}", "[{},]", "[,{}]", "[{}] x", "[{}", "[\"a", "[{}]]"};
    mb_log_set_quiet(true);
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        char *path = write_file("bad.json", bad[k], strlen(bad[k]));
        assert_int_equal(open_index(path, 0, 1, &x), MB_INPUT);
        free(path);
    }
    assert_int_equal(open_index("/nonexistent/x", 0, 1, &x), MB_INPUT);
    assert_int_equal(open_index("/tmp", 0, 1, &x), MB_INPUT);
    mb_log_set_quiet(false);
}

/* The same file in pieces of every size gives the same lines. */
static void test_pieces(void **state)
{
    static const char *const texts[] = {"ab\n\ncd\r\nefgh\n\nx", "[1, [2,\",]\\\"\"] ,{\"a\":[]}]\n"};
    (void)state;
    for (int t = 0; t < 2; t++) {
        size_t n = strlen(texts[t]);
        char want[200] = "";
        for (size_t piece = n; piece > 0; piece--) {
            struct mb_splitter s;
            struct mb_cut c;
            const char *why;
            bool got;
            char have[200] = "";
            mb_splitter_init(&s, t == 0 ? MB_FORMAT_JSONL : MB_FORMAT_JSON, 0, &mem);
            for (size_t at = 0, k; at <= n; at += k ? k : 1) {
                k = n - at < piece ? n - at : piece;
                assert_int_equal(mb_splitter_put(&s, texts[t] + at, k), MB_OK);
                for (;;) {
                    assert_int_equal(mb_splitter_next(&s, &c, &got, &why), MB_OK);
                    if (!got)
                        break;
                    sprintf(have + strlen(have), "%d:%.*s|", (int)c.offset, (int)c.len, (const char *)c.text);
                    assert_memory_equal(texts[t] + c.offset, c.text, c.len);
                }
            }
            mb_splitter_fini(&s);
            if (piece == n)
                strcpy(want, have);
            assert_string_equal(have, want);
        }
        assert_string_equal(want, t == 0 ? "0:ab|3:|4:cd\r|8:efgh|13:|14:x|" : "1:1|3: [2,\",]\\\"\"] |16:{\"a\":[]}|");
    }
}

/* A line of 64 MiB and a bit: an error row; its neighbours are found, and it is not kept in memory. */
static void test_too_long(void **state)
{
    char *path = mb_path_join(dir, "long.jsonl");
    FILE *f = fopen(path, "w");
    struct mb_index *x;
    static char block[1 << 16];
    (void)state;
    assert_non_null(f);
    memset(block, 'x', sizeof block);
    fputs("{\"prompt\":\"a\"}\n", f);
    for (size_t i = 0; i < (MB_LINE_MAX >> 16) + 40; i++)
        fwrite(block, 1, sizeof block, f);
    fputs("\n{\"prompt\":\"b\"}\n", f);
    fclose(f);
    assert_int_equal(open_index(path, 0, 1, &x), MB_OK);
    assert_int_equal(mb_index_info(x)->total_lines, 3);
    assert_line(x, 0, 0, 14, 1, 0);
    assert_line(x, 1, 15, 0, 1, MB_LINE_TOO_LONG | MB_LINE_BAD);
    assert_line(x, 2, 15 + MB_LINE_MAX + (40 << 16) + 1, 14, 1, 0);
    mb_index_destroy(x);
    unlink(path);
    free(path);
}

/* The index of what comes through a pipe. */
static struct mb_index *index_pipe(const char *text)
{
    int fds[2], saved = dup(STDIN_FILENO);
    struct mb_index *x = NULL;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), strlen(text));
    close(fds[1]);
    dup2(fds[0], STDIN_FILENO);
    assert_int_equal(open_index("-", 0, 1, &x), MB_OK);
    dup2(saved, STDIN_FILENO);
    close(fds[0]);
    close(saved);
    assert_true(mb_index_info(x)->spooled);
    return x;
}

static void assert_copy(const char *path, const char *text)
{
    struct mb_bytes copy = {0};
    assert_int_equal(mb_file_read(path, 100, MB_IO, &copy), MB_OK);
    assert_int_equal(copy.len, strlen(text));
    assert_memory_equal(copy.data, text, copy.len);
    mb_bytes_fini(&copy);
}

/* The copy gets its name when somebody takes it and publishes it; until then an earlier one stays. */
static void test_pipe(void **state)
{
    static const char one[] = "{\"prompt\":\"a\"}\n", two[] = "{\"prompt\":\"b\"}\n{\"prompt\":\"c\"}\n";
    struct mb_index *x = index_pipe(one);
    char *path = strdup(mb_index_info(x)->path);
    (void)state;
    assert_int_equal(mb_index_info(x)->rows, 1);
    assert_false(mb_path_exists(path));
    assert_int_equal(mb_publish_commit(mb_index_take_copy(x), NULL, NULL), MB_OK);
    assert_null(mb_index_take_copy(x));
    assert_copy(path, one);
    mb_index_destroy(x);
    x = index_pipe(two);
    assert_int_equal(mb_index_info(x)->rows, 2);
    mb_index_destroy(x); /* a refused start */
    assert_copy(path, one);
    x = index_pipe(""); /* nothing comes: the copy of the first start is the input */
    assert_int_equal(mb_index_info(x)->rows, 1);
    assert_false(mb_index_info(x)->nothing);
    assert_null(mb_index_take_copy(x));
    mb_index_destroy(x);
    assert_copy(path, one);
    assert_int_equal(mb_remove_file(path), MB_OK);
    x = index_pipe("");
    assert_true(mb_index_info(x)->nothing);
    mb_index_destroy(x);
    free(path);
}

/* Many lines, all with one id in the second half: time and memory stay linear. */
static void test_many(void **state)
{
    enum { LINES = 100000 };
    char *path = mb_path_join(dir, "many.jsonl");
    FILE *f = fopen(path, "w");
    struct mb_index *x;
    (void)state;
    assert_non_null(f);
    for (int i = 0; i < LINES; i++) {
        if (i < LINES / 2)
            fprintf(f, "{\"id\":\"request-%d\",\"prompt\":\"The quick brown fox jumps over the lazy dog\",\"max_tokens\":64}\n", i);
        else
            fputs("{\"id\":\"same\",\"prompt\":\"The quick brown fox\"}\n", f);
    }
    fclose(f);
    double t = mb_now();
    assert_int_equal(open_index(path, 0, 1, &x), MB_OK);
    t = mb_now() - t;
    assert_int_equal(mb_index_info(x)->bad, LINES / 2 - 1);
    printf("index: %d lines in %.3f s, %.1f bytes a line kept\n", LINES, t,
           (double)mem.now[MB_MEM_INDEX] / LINES);
    assert_true(mem.now[MB_MEM_INDEX] < 17 * LINES);
    mb_index_destroy(x);
    free(path);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int drop_dir(void **state)
{
    (void)state;
    return mb_remove_tree(dir) != MB_OK || mb_mem_total(&mem) != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),           cmocka_unit_test(test_empty),        cmocka_unit_test(test_repeated_ids),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_text_and_arrays), cmocka_unit_test(test_too_long),     cmocka_unit_test(test_pipe),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
