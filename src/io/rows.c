#include "io/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"

#define OPEN_FILES 256 /* kept open at once, below the usual limit of 1024 */

struct open_file {
    struct mb_jscan_file file;
    int kind; /* -1: the journal, else enum mb_bulk_kind */
    int fd;   /* -1: free */
    char *path;
};

struct journal_rows {
    struct mb_rows base;
    char *dir;
    const struct mb_pending *pending;
    struct open_file files[OPEN_FILES];
    struct mb_bytes scratch;
    /* head of the record whose bulk data was read last */
    struct mb_jscan_file last_file;
    uint64_t last_offset;
    struct mb_record_head last;
    bool has_last;
};

void mb_row_entry_of(const struct mb_done_ref *d, struct mb_row_entry *out)
{
    *out = (struct mb_row_entry){
        .line = d->head.line, .offset = d->offset, .content = d->content, .n_prompt = d->head.n_prompt,
        .n_output = d->head.n_output, .n_rows = d->head.n_rows, .len = (uint32_t)d->len, .file = d->file,
        .choice = d->head.choice, .n = d->head.n, .top_n = d->head.top_n, .status = d->head.status,
    };
    if (out->status == MB_ROW_ERROR) /* an error row has no tokens, however far it came */
        out->n_prompt = out->n_output = out->n_rows = out->top_n = 0;
}

void mb_rows_destroy(struct mb_rows *r)
{
    if (r != NULL)
        r->ops->destroy(r);
}

static void close_file(struct open_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct open_file){.fd = -1};
}

/* The open file of a journal (kind -1) or bulk file; the one that had its slot is closed. */
static enum mb_status file_of(struct journal_rows *r, struct mb_jscan_file file, int kind, struct open_file **out)
{
    uint64_t key = (uint64_t)file.run * 1000003u + (uint64_t)file.writer * 7u + (uint64_t)(kind + 1);
    struct open_file *f = &r->files[key % OPEN_FILES];
    if (f->fd >= 0 && f->kind == kind && f->file.run == file.run && f->file.writer == file.writer) {
        *out = f;
        return MB_OK;
    }
    close_file(f);
    char *run = mb_run_path(r->dir, file.run);
    if (run != NULL)
        f->path = kind < 0 ? mb_journal_path(run, file.writer) : mb_bulk_path(run, file.writer, (enum mb_bulk_kind)kind);
    free(run);
    if (f->path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0) {
        enum mb_status st = mb_error(MB_IO, "%s: %s", f->path, strerror(errno));
        close_file(f);
        return st;
    }
    f->file = file;
    f->kind = kind;
    *out = f;
    return MB_OK;
}

/* The packed record into scratch, checked against what was indexed. */
static enum mb_status load(struct journal_rows *r, const struct mb_row_entry *e)
{
    struct open_file *f = NULL;
    MB_TRY(file_of(r, e->file, -1, &f));
    r->scratch.len = 0;
    MB_TRY(mb_bytes_reserve(&r->scratch, e->len));
    MB_TRY(mb_pread_all(f->fd, r->scratch.data, e->len, e->offset, f->path, MB_CORRUPT));
    r->scratch.len = e->len;
    if (mb_record_content(r->scratch.data, e->len) != e->content)
        return mb_error(MB_CORRUPT, "%s: the record at byte %llu changed while it was read", f->path,
                        (unsigned long long)e->offset);
    return MB_OK;
}

static enum mb_status pending_record(struct journal_rows *r, const struct mb_row_entry *e, struct mb_record *out)
{
    struct mb_record rec = {.line = e->line, .choice = e->choice, .n = e->n, .status = MB_ROW_PENDING};
    if (r->pending != NULL && r->pending->describe != NULL) {
        MB_TRY(r->pending->describe(r->pending->arg, e->line, &rec.id, &rec.kind));
    } else {
        char *id;
        if (asprintf(&id, "%llu", (unsigned long long)e->line + 1) < 0)
            return mb_error(MB_NO_MEMORY, "no memory for an id");
        rec.id = (struct mb_text){id, strlen(id)};
    }
    *out = rec;
    return MB_OK;
}

static enum mb_status journal_record(struct mb_rows *base, const struct mb_row_entry *e, struct mb_record *out)
{
    struct journal_rows *r = (struct journal_rows *)base;
    if (e->file.writer == MB_ROWS_PENDING)
        return pending_record(r, e, out);
    MB_TRY(load(r, e));
    enum mb_status st = mb_record_unpack(r->scratch.data, r->scratch.len, out);
    if (st == MB_CORRUPT)
        return mb_error(st, "run-%04d/journal-%06d: the record at byte %llu is malformed", e->file.run, e->file.writer,
                        (unsigned long long)e->offset);
    return st;
}

static enum mb_status journal_bulk(struct mb_rows *base, const struct mb_row_entry *e, enum mb_bulk_kind kind,
                                   uint64_t row_bytes, int64_t from, int64_t n, void *dst, bool *absent)
{
    struct journal_rows *r = (struct journal_rows *)base;
    struct open_file *f = NULL;
    uint64_t at, bytes, skip;
    *absent = true;
    if (e->file.writer == MB_ROWS_PENDING)
        return MB_OK;
    if (!r->has_last || r->last_offset != e->offset || r->last_file.run != e->file.run ||
        r->last_file.writer != e->file.writer) {
        MB_TRY(load(r, e));
        r->has_last = mb_record_peek(r->scratch.data, r->scratch.len, &r->last);
        r->last_file = e->file;
        r->last_offset = e->offset;
        if (!r->has_last)
            return mb_error(MB_CORRUPT, "run-%04d/journal-%06d: a record is malformed", e->file.run, e->file.writer);
    }
    if (r->last.bulk_rows[kind] == 0)
        return MB_OK;
    if (from < 0 || n < 0 || n > r->last.bulk_rows[kind] || from > r->last.bulk_rows[kind] - n ||
        !mb_mul_ok((uint64_t)from, row_bytes, &skip) || !mb_mul_ok((uint64_t)n, row_bytes, &bytes) ||
        !mb_add_ok(r->last.bulk_offset[kind], skip, &at))
        return mb_error(MB_CORRUPT, "line %llu has fewer rows of %s than its record says", (unsigned long long)e->line + 1,
                        mb_bulk_name(kind));
    MB_TRY(file_of(r, e->file, (int)kind, &f));
    *absent = false;
    return mb_pread_all(f->fd, dst, (size_t)bytes, at, f->path, MB_CORRUPT);
}

static void journal_destroy(struct mb_rows *base)
{
    struct journal_rows *r = (struct journal_rows *)base;
    for (int i = 0; i < OPEN_FILES; i++)
        close_file(&r->files[i]);
    mb_bytes_fini(&r->scratch);
    free(r->dir);
    free(r);
}

enum mb_status mb_rows_journal(const char *dir, const struct mb_pending *pending, struct mb_rows **out)
{
    static const struct mb_rows_ops ops = {.record = journal_record, .bulk = journal_bulk, .destroy = journal_destroy};
    struct journal_rows *r = calloc(1, sizeof *r);
    if (r != NULL)
        r->dir = strdup(dir);
    if (r == NULL || r->dir == NULL) {
        free(r);
        return mb_error(MB_NO_MEMORY, "no memory to read journals");
    }
    r->base.ops = &ops;
    r->pending = pending;
    for (int i = 0; i < OPEN_FILES; i++)
        r->files[i].fd = -1;
    *out = &r->base;
    return MB_OK;
}
