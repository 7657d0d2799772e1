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
    uint64_t want[MB_BULK_COUNT]; /* hashes of its bulk data */
    struct mb_hasher *hasher;     /* over the rows of `kind` that were read of it, from the first to the `next`th */
    enum mb_bulk_kind kind;
    int64_t next;
};

void mb_row_entry_of(const struct mb_done_ref *d, struct mb_row_entry *out)
{
    *out = (struct mb_row_entry){
        .line = d->head.line, .offset = d->offset, .content = d->content, .n_prompt = (uint32_t)d->head.n_prompt,
        .n_output = (uint32_t)d->head.n_output, .n_rows = (uint32_t)d->head.n_rows, .len = (uint32_t)d->len, .file = d->file,
        .choice = (uint8_t)d->head.choice, .n = (uint8_t)d->head.n, .top_n = (uint8_t)d->head.top_n, .status = d->head.status & 7u,
        .prompt_top = (uint8_t)d->head.prompt_top_n & 31u,
    };
    if (out->status == MB_ROW_ERROR) /* an error row has no tokens, however far it came */
        out->n_prompt = out->n_output = out->n_rows = out->top_n = out->prompt_top = 0;
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

/* Head of the record of an entry, and the hashes that stand before it in its frame. */
static enum mb_status load_head(struct journal_rows *r, const struct mb_row_entry *e)
{
    struct open_file *f = NULL;
    uint64_t pairs[2 * MB_BULK_COUNT] = {0}, n = 0;

    if (r->has_last && r->last_offset == e->offset && r->last_file.run == e->file.run && r->last_file.writer == e->file.writer)
        return MB_OK;
    r->has_last = false;
    MB_TRY(load(r, e));
    if (!mb_record_peek(r->scratch.data, r->scratch.len, &r->last))
        return mb_error(MB_CORRUPT, "run-%04d/journal-%06d: a record is malformed", e->file.run, e->file.writer);
    for (int i = 0; i < MB_BULK_COUNT; i++)
        n += r->last.bulk_rows[i] > 0;
    if (n * 16 > e->offset)
        return mb_error(MB_CORRUPT, "run-%04d/journal-%06d: a record is malformed", e->file.run, e->file.writer);
    MB_TRY(file_of(r, e->file, -1, &f));
    MB_TRY(mb_pread_all(f->fd, pairs, (size_t)n * 16, e->offset - n * 16, f->path, MB_CORRUPT));
    n = 0;
    for (int i = 0; i < MB_BULK_COUNT; i++)
        r->want[i] = r->last.bulk_rows[i] > 0 ? pairs[2 * n++] : 0;
    r->last_file = e->file;
    r->last_offset = e->offset;
    r->next = 0;
    r->has_last = true;
    return MB_OK;
}

/* Rows come in order, in as many pieces as the reader likes; behind the last one their hash must be that of the record. */
static enum mb_status check_rows(struct journal_rows *r, const struct mb_row_entry *e, enum mb_bulk_kind kind, int64_t from,
                                 int64_t n, const void *data, size_t bytes)
{
    if (from == 0) {
        mb_hasher_reset(r->hasher);
        r->kind = kind;
        r->next = 0;
    }
    if (kind != r->kind || from != r->next)
        return mb_error(MB_BUG, "bulk rows %lld of line %llu are read out of order", (long long)from,
                        (unsigned long long)e->line + 1);
    mb_hasher_put(r->hasher, data, bytes);
    r->next += n;
    if (r->next < r->last.bulk_rows[kind] || mb_hasher_64(r->hasher) == r->want[kind])
        return MB_OK;
    return mb_error(MB_IO, "run-%04d, writer %d: the %s of line %llu, choice %d, are not what was written; moebatch run --resume "
                           "computes the row again", e->file.run, e->file.writer, mb_bulk_name(kind),
                    (unsigned long long)e->line + 1, e->choice);
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
    MB_TRY(load_head(r, e));
    if (r->last.bulk_rows[kind] == 0)
        return MB_OK;
    if (from < 0 || n < 0 || n > r->last.bulk_rows[kind] || from > r->last.bulk_rows[kind] - n ||
        !mb_mul_ok((uint64_t)from, row_bytes, &skip) || !mb_mul_ok((uint64_t)n, row_bytes, &bytes) ||
        !mb_add_ok(r->last.bulk_offset[kind], skip, &at))
        return mb_error(MB_CORRUPT, "line %llu has fewer rows of %s than its record says", (unsigned long long)e->line + 1,
                        mb_bulk_name(kind));
    MB_TRY(file_of(r, e->file, (int)kind, &f));
    *absent = false;
    MB_TRY(mb_pread_all(f->fd, dst, (size_t)bytes, at, f->path, MB_IO));
    return check_rows(r, e, kind, from, n, dst, (size_t)bytes);
}

static void journal_destroy(struct mb_rows *base)
{
    struct journal_rows *r = (struct journal_rows *)base;
    for (int i = 0; i < OPEN_FILES; i++)
        close_file(&r->files[i]);
    mb_bytes_fini(&r->scratch);
    mb_hasher_destroy(r->hasher);
    free(r->dir);
    free(r);
}

enum mb_status mb_rows_journal(const char *dir, const struct mb_pending *pending, struct mb_rows **out)
{
    static const struct mb_rows_ops ops = {.record = journal_record, .bulk = journal_bulk, .destroy = journal_destroy};
    struct journal_rows *r = calloc(1, sizeof *r);
    if (r != NULL) {
        r->dir = strdup(dir);
        r->hasher = mb_hasher_create();
    }
    if (r == NULL || r->dir == NULL || r->hasher == NULL) {
        if (r != NULL) {
            mb_hasher_destroy(r->hasher);
            free(r->dir);
        }
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
