/* The sink: text of a row, stop strings across tokens, bulk data, what reaches the journal. With a real byte-level
 * tokenizer, so that a character may lie across tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "sink_help.h"

/* Ids of a text, byte by byte: no merges, so every character of several bytes lies across tokens. */
static struct mb_ids bytes_of(const struct mb_tokenizer *t, const char *text, size_t n)
{
    struct mb_ids all = {calloc(n + 1, sizeof(int32_t)), 0, (int64_t)n + 1};
    for (size_t i = 0; i < n; i++) {
        /* GPT-2's alphabet: printable Latin-1 stands for itself, the rest for U+0100 and up in order */
        unsigned c = (unsigned char)text[i], u = c;
        if (c <= 32 || (c >= 127 && c <= 160) || c == 173)
            u = 256 + (c <= 32 ? c : c <= 160 ? c - 127 + 33 : 67);
        char utf8[3] = {(char)u, 0, 0};
        if (u >= 128) {
            utf8[0] = (char)(0xc0 | u >> 6);
            utf8[1] = (char)(0x80 | (u & 63));
        }
        all.v[all.n] = mb_tokenizer_id(t, utf8, strlen(utf8));
        assert_true(all.v[all.n] >= 0);
        all.n++;
    }
    return all;
}

/* Runs one row of `text` with these stop strings; what was stored. The id of a token that ends the row is given by eos. */
static void run_row(struct fixture *f, const char *text, const char *const *stops, int n_stops, int eos, uint64_t line,
                    struct mb_record *out, int64_t *used)
{
    struct mb_request req = {.line = line, .id = {(char *)"r", 1}, .kind = MB_KIND_GENERATE, .n = 1};
    struct mb_ids ids = bytes_of(f->tok, text, strlen(text));
    struct mb_record rec = {.line = line, .n = 1};
    bool stop = false;
    int32_t h = -1;
    for (int i = 0; i < n_stops; i++)
        req.stop[req.n_stop++] = (struct mb_text){(char *)stops[i], strlen(stops[i])};
    assert_int_equal(f->sink->ops->begin(f->sink, &req, 0, 100, &h), MB_OK);
    int64_t n = 0;
    while (n < ids.n && !stop) {
        assert_int_equal(f->sink->ops->token(f->sink, h, n, ids.v[n], n % 2 == 0, &stop), MB_OK);
        n++;
    }
    rec.n_output = n;
    rec.output_ids = malloc((size_t)(n + 1) * 4);
    memcpy(rec.output_ids, ids.v, (size_t)n * 4);
    rec.output_logprobs = rec_floats(1, n);
    rec.finish = stop ? MB_FINISH_STOP : eos ? MB_FINISH_EOS : MB_FINISH_LENGTH;
    assert_int_equal(f->sink->ops->done(f->sink, h, &rec), MB_OK);
    assert_null(rec.output_ids); /* taken over */
    assert_int_equal(f->sink->ops->step_end(f->sink), MB_OK);
    free(ids.v);
    *used = n;
    read_row(f, line, out);
}

static void assert_text(const struct mb_record *r, const char *want)
{
    assert_int_equal(r->text.len, strlen(want));
    assert_memory_equal(r->text.data == NULL ? "" : r->text.data, want, strlen(want));
}

static void test_stop_strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *stops[3];
        const char *want;
        bool stops_early;
    } cases[] = {
        {"one two three four five six", {"three"}, "one two ", true},
        {"one two three four five six", {"o thr"}, "one tw", true},    /* across tokens */
        {"one two three four five six", {"six", "wo", "e tw"}, "on", true}, /* earliest wins */
        {"one two three", {"zzz"}, "one two three", false},
        {"caf\xc3\xa9 \xe6\x96\x87\xe5\xad\x97 end of it", {"\xe6\x96\x87\xe5\xad\x97"}, "caf\xc3\xa9 ", true},
        {"stop", {"stop"}, "", true},
        {"aaaaaaaaab aaaab", {"aab"}, "aaaaaaa", true},
    };
    struct fixture f = {0};
    open_all(&f, "gpt2_bytelevel", (struct mb_sink_options){0});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mb_record r;
        int64_t used;
        int n = 0;
        while (n < 3 && cases[i].stops[n] != NULL)
            n++;
        run_row(&f, cases[i].text, cases[i].stops, n, 0, i, &r, &used);
        assert_text(&r, cases[i].want);
        assert_int_equal(r.finish, cases[i].stops_early ? MB_FINISH_STOP : MB_FINISH_LENGTH);
        assert_int_equal(r.n_output, used); /* a matched stop string's tokens stay */
        assert_int_equal(r.id.len, 1);
        mb_record_fini(&r);
    }
    close_all(&f);
}

/* The last id of a row that ends with EOS is no text, even if the tokenizer would print it. */
static void test_eos_is_no_text(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct mb_record r;
    int64_t used;
    open_all(&f, "gpt2_bytelevel", (struct mb_sink_options){0});
    struct mb_ids ids = bytes_of(f.tok, "hello world!", 12);
    run_row(&f, "hello world!", NULL, 0, 1, 0, &r, &used);
    assert_int_equal(r.n_output, ids.n);
    assert_text(&r, "hello world");
    mb_record_fini(&r);
    free(ids.v);
    close_all(&f);
}

/* A character cut by the end, and U+0000. */
static void test_repair(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct mb_request req = {.line = 0, .id = {(char *)"r", 1}, .kind = MB_KIND_GENERATE, .n = 1};
    struct mb_ids ids = {0};
    bool stop;
    int32_t h;
    open_all(&f, "gpt2_bytelevel", (struct mb_sink_options){0});
    assert_int_equal(mb_tokenizer_encode(f.tok, "a\0b\xf0\x9f\xa6\x84", 7, false, &ids), MB_OK);
    assert_int_equal(f.sink->ops->begin(f.sink, &req, 0, 10, &h), MB_OK);
    for (int64_t i = 0; i < ids.n - 1; i++)
        assert_int_equal(f.sink->ops->token(f.sink, h, i, ids.v[i], true, &stop), MB_OK);
    struct mb_record rec = {.n = 1, .finish = MB_FINISH_LENGTH, .n_output = ids.n - 1, .output_ids = ids.v};
    rec.output_logprobs = rec_floats(1, ids.n - 1);
    assert_int_equal(f.sink->ops->done(f.sink, h, &rec), MB_OK);
    assert_int_equal(f.sink->ops->step_end(f.sink), MB_OK);
    struct mb_bytes all = {0};
    assert_int_equal(mb_file_read(f.path, 1 << 20, MB_IO, &all), MB_OK);
    assert_non_null(memmem(all.data, all.len, "a\xef\xbf\xbd" "b\xef\xbf\xbd", 8));
    mb_bytes_fini(&all);
    close_all(&f);
}

static void test_bulk(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        struct fixture f = {0};
        struct mb_request req = {.line = 0, .id = {(char *)"r", 1}, .kind = MB_KIND_ROLLING, .n = 1};
        float logits[4][2] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}}, back[4][2] = {{0}};
        int32_t h, prompt[4] = {1, 2, 3, 4};
        struct mb_sink_options o = {.row_bytes = {[MB_BULK_LOGITS] = 8}, .logits_last = last != 0};
        open_all(&f, "gpt2_bytelevel", o);
        assert_int_equal(f.sink->ops->begin(f.sink, &req, 0, 5, &h), MB_OK);
        assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_EXPERTS, 0, 1, logits), MB_BUG);
        assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_LOGITS, 4, 2, logits), MB_BUG);
        assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_LOGITS, 0, 3, logits), MB_OK);
        assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_LOGITS, 1, 2, logits[1]), MB_OK); /* computed again */
        assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_LOGITS, 3, 1, logits[3]), MB_OK);
        struct mb_record rec = {.n = 1, .kind = MB_KIND_ROLLING, .n_prompt = 4, .n_rows = 4};
        rec.prompt_ids = malloc(sizeof prompt);
        memcpy(rec.prompt_ids, prompt, sizeof prompt);
        assert_int_equal(f.sink->ops->done(f.sink, h, &rec), MB_OK);
        char *bulk = mb_bulk_path(f.dir, 0, MB_BULK_LOGITS);
        struct mb_bytes all = {0};
        assert_int_equal(mb_file_read(bulk, 1 << 20, MB_IO, &all), MB_OK);
        assert_int_equal(all.len, last ? 8 : 32);
        memcpy(back, all.data, all.len);
        assert_true(back[0][0] == (last ? 7 : 1) && (last || back[3][1] == 8));
        mb_bytes_fini(&all);
        free(bulk);
        close_all(&f);
    }
}

/* A row that says it has more bulk rows than were written is a bug, not a result with holes. */
static void test_bulk_missing(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct mb_request req = {.line = 0, .id = {(char *)"r", 1}, .kind = MB_KIND_ROLLING, .n = 1};
    float logits[2] = {1, 2};
    int32_t h;
    open_all(&f, "gpt2_bytelevel", (struct mb_sink_options){.row_bytes = {[MB_BULK_LOGITS] = 8}});
    assert_int_equal(f.sink->ops->begin(f.sink, &req, 0, 5, &h), MB_OK);
    assert_int_equal(f.sink->ops->bulk(f.sink, h, MB_BULK_LOGITS, 1, 1, logits), MB_OK);
    struct mb_record rec = {.n = 1, .kind = MB_KIND_ROLLING, .n_rows = 2};
    assert_int_equal(f.sink->ops->done(f.sink, h, &rec), MB_BUG);
    close_all(&f);
}

/* Rows that never began, and handles used again. */
static void test_error_rows_and_handles(void **state)
{
    (void)state;
    struct fixture f = {0};
    struct mb_sink_counts c;
    struct mb_request req = {.line = 0, .id = {(char *)"r", 1}, .kind = MB_KIND_GENERATE, .n = 1};
    int32_t h[200], again;
    open_all(&f, "gpt2_bytelevel", (struct mb_sink_options){0});
    struct mb_record rec = {.line = 9, .n = 1, .status = MB_ROW_ERROR, .finish = MB_FINISH_ERROR, .id = rec_text("bad"),
                            .error = rec_text("no such key")};
    assert_int_equal(f.sink->ops->done(f.sink, -1, &rec), MB_OK);
    for (int i = 0; i < 200; i++)
        assert_int_equal(f.sink->ops->begin(f.sink, &req, 0, 5, &h[i]), MB_OK);
    rec = (struct mb_record){.n = 1};
    assert_int_equal(f.sink->ops->done(f.sink, h[77], &rec), MB_OK);
    rec = (struct mb_record){.n = 1};
    assert_int_equal(f.sink->ops->done(f.sink, h[77], &rec), MB_BUG);
    assert_int_equal(f.sink->ops->begin(f.sink, &req, 0, 5, &again), MB_OK);
    assert_int_equal(again, h[77]);
    assert_int_equal(f.sink->ops->step_end(f.sink), MB_OK);
    mb_sink_count(f.sink, &c);
    assert_int_equal(c.rows, 2);
    assert_int_equal(c.error_rows, 1);
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_strings), cmocka_unit_test(test_eos_is_no_text),
        cmocka_unit_test(test_repair),       cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_bulk_missing), cmocka_unit_test(test_error_rows_and_handles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
