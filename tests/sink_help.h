/* A sink with its journal, and what it wrote of a row. */
#ifndef MB_TESTS_SINK_HELP_H
#define MB_TESTS_SINK_HELP_H
#include "base/fs.h"
#include "io/sink.h"
#include "records.h"
#include "tmpdir.h"

static const struct mb_identity who = {.input = {1, 2}, .model = {3, 4}, .seed = 5, .path = (char *)"f32"};

struct fixture {
    char *dir, *path;
    struct mb_tokenizer *tok;
    struct mb_journal *journal;
    struct mb_sink *sink;
};

static void open_all(struct fixture *f, const char *tokenizer, struct mb_sink_options o)
{
    const char *top = getenv("top_srcdir");
    char name[128], *tok;
    snprintf(name, sizeof name, "tests/data/tokenizers/%s", tokenizer);
    tok = mb_path_join(top == NULL ? "." : top, name);
    f->dir = tmpdir_make();
    f->path = mb_journal_path(f->dir, 0);
    struct mb_journal_options jo = {.dir = f->dir, .identity = &who, .run = 1, .rank = 0};
    assert_int_equal(mb_tokenizer_load(tok, &f->tok), MB_OK);
    assert_int_equal(mb_journal_create(&jo, &f->journal), MB_OK);
    o.tokenizer = f->tok;
    o.journal = f->journal;
    assert_int_equal(mb_sink_create(&o, &f->sink), MB_OK);
    free(tok);
}

static void close_all(struct fixture *f)
{
    mb_sink_destroy(f->sink);
    mb_journal_destroy(f->journal);
    mb_tokenizer_destroy(f->tok);
    free(f->path);
    tmpdir_remove(f->dir);
}

/* The record of a line. */
static void read_row(struct fixture *f, uint64_t line, struct mb_record *out)
{
    struct mb_journal_reader *r = NULL;
    struct mb_frame fr;
    struct mb_done d;
    bool got, found = false;
    assert_int_equal(mb_journal_open(f->path, &r), MB_OK);
    while (mb_journal_next(r, &fr, &got) == MB_OK && got) {
        if (fr.kind != MB_JOURNAL_DONE)
            continue;
        assert_true(mb_done_parse(fr.payload, fr.len, &d));
        if (d.head.line != line)
            continue;
        assert_int_equal(mb_record_unpack(d.record, d.n, out), MB_OK);
        found = true;
    }
    assert_true(found);
    mb_journal_close(r);
}
#endif
