/* How rank 0 divides the input, without messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "fake_tokenizer.h"
#include "io/lease.h"

static struct mb_mem mem;

/* What earlier runs know, as a rule instead of journals: every third line is done, every seventh is under way. */
struct mb_resume {
    int32_t choices;
    struct mb_resume_entry entries[MB_MAX_CHOICES];
};

void mb_resume_line(const struct mb_resume *r, uint64_t line, bool *done, const struct mb_resume_entry **entries, int32_t *n)
{
    struct mb_resume *w = (struct mb_resume *)r;
    *done = line % 3 == 0;
    *n = line % 7 == 0 && !*done ? r->choices : 0;
    *entries = r->entries;
    for (int32_t i = 0; i < *n; i++)
        w->entries[i] = (struct mb_resume_entry){line, 100 * line, 5, i, 2};
}

enum mb_status mb_resume_fill(const char *run_dir, const struct mb_resume_entry *entries, int32_t n, struct mb_request *req)
{
    (void)run_dir, (void)entries, (void)n, (void)req;
    return MB_BUG;
}

static struct mb_index *make_index(int lines)
{
    char path[] = "/tmp/unit_lease.XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    struct mb_parse_options parse;
    struct mb_index *x;

    assert_non_null(f);
    for (int i = 0; i < lines; i++)
        fputs(i % 10 == 4 ? "\n" : "{\"prompt\":\"a\",\"n\":2}\n", f);
    fclose(f);
    mb_parse_options_init(&parse);
    parse.vocab = FAKE_VOCAB;
    struct mb_index_options o = {.path = path, .parse = &parse, .shards = 1, .mem = &mem};
    assert_int_equal(mb_index_create(&o, &x), MB_OK);
    unlink(path);
    return x;
}

struct game {
    struct mb_index *x;
    struct mb_lease *l;
    uint8_t *seen;
    int64_t *got; /* lines per rank */
    int64_t entries;
    bool *end;
    uint64_t biggest; /* block */
};

static struct game begin(int lines, int ranks, int capacity, const struct mb_resume *resume)
{
    struct game g = {.x = make_index(lines)};
    struct mb_lease_options o = {.index = g.x, .resume = resume, .ranks = ranks, .leasers = ranks, .capacity = capacity, .mem = &mem};
    assert_int_equal(mb_lease_create(&o, &g.l), MB_OK);
    g.seen = calloc((size_t)lines + 1, 1);
    g.got = calloc((size_t)ranks, sizeof *g.got);
    g.end = calloc((size_t)ranks, sizeof *g.end);
    return g;
}

static void finish(struct game *g)
{
    mb_lease_destroy(g->l);
    mb_index_destroy(g->x);
    free(g->seen);
    free(g->got);
    free(g->end);
    assert_int_equal(mb_mem_total(&mem), 0);
}

/* One question of a rank: lines got, -1 for "not now". */
static int64_t ask(struct game *g, int rank, double later)
{
    struct mb_bytes msg = {0};
    struct mb_lease_head head;
    bool got;

    assert_int_equal(mb_lease_block(g->l, rank, mb_now() + later, &msg, &got), MB_OK);
    if (!got) {
        mb_bytes_fini(&msg);
        return -1;
    }
    memcpy(&head, msg.data, sizeof head);
    assert_int_equal(msg.len, sizeof head + head.n_lines * sizeof(struct mb_lease_line) +
                                  head.n_entries * sizeof(struct mb_resume_entry));
    assert_true(msg.len <= MB_LEASE_BYTES + sizeof head);
    for (uint32_t i = 0; i < head.n_lines; i++) {
        struct mb_lease_line line;
        struct mb_line info;
        memcpy(&line, msg.data + sizeof head + i * sizeof line, sizeof line);
        mb_index_line(g->x, line.line, &info);
        assert_true(info.n > 0 && line.n == info.n && line.offset == info.offset && line.len == info.len);
        assert_int_equal(g->seen[line.line]++, 0);
    }
    g->got[rank] += head.n_lines;
    g->entries += head.n_entries;
    g->end[rank] = head.end;
    if (head.n_lines > g->biggest)
        g->biggest = head.n_lines;
    mb_bytes_fini(&msg);
    return head.n_lines;
}

/* Few lines: everyone gets an even share, also when rank 0 is much quicker to ask. */
static void test_small_inputs_are_spread(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 9; ranks++) {
        for (int lines = 0; lines <= 30; lines++) {
            struct game g = begin(lines, ranks, 64, NULL);
            int64_t total = (int64_t)mb_lease_total(g.l), given = 0, k;
            for (int i = 0; i < 20 && (k = ask(&g, 0, 0)) > 0; i++)
                given += k;
            for (int r = 1; r < ranks; r++)
                given += (k = ask(&g, r, 0)) > 0 ? k : 0;
            for (int r = 0; r < ranks; r++) {
                assert_true(g.got[r] >= total / ranks && g.got[r] <= (total + ranks - 1) / ranks);
                assert_int_equal(g.end[r] ? 0 : ask(&g, r, 0), 0);
                assert_true(g.end[r]);
            }
            assert_int_equal(given, total);
            assert_true(mb_lease_over(g.l, mb_now()));
            finish(&g);
        }
    }
}

/* A rank that never asks: its lines go to the others after a while. */
static void test_silent_rank(void **state)
{
    struct game g = begin(100, 4, 64, NULL);
    int64_t k;
    (void)state;
    for (int r = 0; r < 3; r++)
        assert_true(ask(&g, r, 0) > 0);
    assert_int_equal(ask(&g, 0, 0), -1);
    while ((k = ask(&g, 0, 11)) > 0)
        ;
    assert_int_equal(k, 0);
    assert_int_equal(mb_lease_left(g.l), 0);
    assert_false(mb_lease_over(g.l, mb_now()));
    assert_true(mb_lease_over(g.l, mb_now() + 30));
    finish(&g);
}

/* Many lines: blocks follow the speed of a rank and shrink to one line; each line once. */
static void test_stealing(void **state)
{
    enum { LINES = 20000, RANKS = 5 };
    struct game g = begin(LINES, RANKS, 32, NULL);
    unsigned seed = 1;
    int64_t last = 0, k;
    (void)state;
    while (mb_lease_left(g.l) > 0) {
        seed = seed * 1103515245 + 12345;
        int r = (int)(seed >> 16) % 16;
        r = r < 12 ? 0 : r - 11; /* rank 0 is twelve times as fast */
        k = ask(&g, r, 0);
        last = k > 0 ? k : last;
    }
    for (int i = 0; i < LINES; i++)
        assert_int_equal(g.seen[i], i % 10 == 4 ? 0 : 1);
    assert_true(g.got[0] > 8 * g.got[1]);
    assert_int_equal(last, 1);
    assert_int_equal(g.biggest, 32);
    finish(&g);
}

static void test_resume(void **state)
{
    enum { LINES = 5000 };
    struct mb_resume resume = {.choices = 2};
    struct game g = begin(LINES, 3, 1000, &resume);
    int64_t todo = 0, known = 0;
    (void)state;
    for (int i = 0; i < LINES; i++) {
        bool left = i % 3 != 0 && i % 10 != 4;
        todo += left;
        known += left && i % 7 == 0 ? 2 : 0;
    }
    assert_int_equal(mb_lease_total(g.l), todo);
    for (int r = 0; mb_lease_left(g.l) > 0; r = (r + 1) % 3)
        assert_true(ask(&g, r, 0) > 0);
    for (int i = 0; i < LINES; i++)
        assert_int_equal(g.seen[i], i % 3 != 0 && i % 10 != 4);
    assert_int_equal(g.entries, known);
    finish(&g);
}

/* Much is known of every line: the message stays within its bounds. */
static void test_message_size(void **state)
{
    struct mb_resume resume = {.choices = MB_MAX_CHOICES};
    struct game g = begin(20000, 1, 20000, &resume);
    int blocks = 0;
    (void)state;
    while (mb_lease_left(g.l) > 0) {
        assert_true(ask(&g, 0, 0) > 0);
        blocks++;
    }
    assert_true(blocks > 10);
    finish(&g);
}

/* Lines whose prompts begin with one of seven texts, of lengths that differ. */
static struct mb_index *make_mixed(char *path, int lines)
{
    FILE *f = fdopen(mkstemp(path), "w");
    struct mb_parse_options parse;
    struct mb_index *x;

    assert_non_null(f);
    for (int i = 0; i < lines; i++) {
        const char *key = i % 7 < 3 ? "prompt" : i % 7 < 5 ? "context" : "messages";
        fprintf(f, "{\"id\": %d, \"%s\": %s", i, key, i % 7 < 5 ? "\"" : "[{\"role\": \"user\", \"content\": \"");
        for (int k = 0; k < 60; k++)
            fprintf(f, "\\\"%c]", 'a' + i % 7); /* 240 bytes that all of a group have */
        fprintf(f, "%*d", 30 + i * 13 % 40, i);
        fputs(i % 7 < 5 ? "\"" : "\"}]", f);
        fputs(i % 7 == 3 || i % 7 == 4 ? ", \"continuation\": \" x\"}\n" : "}\n", f);
    }
    fclose(f);
    mb_parse_options_init(&parse);
    parse.vocab = FAKE_VOCAB;
    struct mb_index_options o = {.path = path, .parse = &parse, .shards = 1, .mem = &mem};
    assert_int_equal(mb_index_create(&o, &x), MB_OK);
    return x;
}

/* Every line once; those that begin alike together, or the longest first; and whole groups in a block. */
static void test_orders(void **state)
{
    char path[] = "/tmp/unit_lease.XXXXXX";
    struct mb_index *x = make_mixed(path, 210);
    uint64_t *by = NULL;
    struct mb_line line, before = {.len = UINT32_MAX};
    int seen[210] = {0}, groups = 0;

    (void)state;
    assert_int_equal(mb_line_order_make(x, MB_LINES_INPUT, &mem, &by), MB_OK);
    assert_null(by);
    assert_int_equal(mb_line_order_make(x, MB_LINES_LENGTH, &mem, &by), MB_OK);
    for (int i = 0; i < 210; i++) {
        mb_index_line(x, by[i] & ~MB_LINES_NEW, &line);
        assert_true(line.len <= before.len && seen[by[i] & ~MB_LINES_NEW]++ == 0);
        before = line;
    }
    mb_free(by);
    assert_int_equal(mb_line_order_make(x, MB_LINES_PREFIX, &mem, &by), MB_OK);
    for (int i = 0; i < 210; i++) {
        uint64_t at = by[i] & ~MB_LINES_NEW;
        assert_int_equal(seen[at]++, 1);
        assert_true(i == 0 || (at % 7 != (by[i - 1] & ~MB_LINES_NEW) % 7) <= ((by[i] & MB_LINES_NEW) != 0));
        groups += i == 0 || at % 7 != (by[i - 1] & ~MB_LINES_NEW) % 7;
    }
    assert_int_equal(groups, 7);
    mb_free(by);
    struct game g = {.x = x, .seen = calloc(210, 1), .got = calloc(4, sizeof(int64_t)), .end = calloc(4, 1)};
    struct mb_lease_options o = {.index = x, .ranks = 4, .leasers = 4, .capacity = 20, .mem = &mem, .order = MB_LINES_PREFIX};
    assert_int_equal(mb_lease_create(&o, &g.l), MB_OK);
    for (int r = 0; mb_lease_left(g.l) > 0; r = (r + 1) % 4)
        (void)ask(&g, r, 0);
    for (int i = 0; i < 210; i++)
        assert_int_equal(g.seen[i], 1);
    finish(&g);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_inputs_are_spread), cmocka_unit_test(test_silent_rank), cmocka_unit_test(test_stealing),
        cmocka_unit_test(test_resume),                  cmocka_unit_test(test_message_size),
        cmocka_unit_test(test_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
