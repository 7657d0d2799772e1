#include "io/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/wire.h"
#include "io/journal_format.h"

/* ---------------------------------------------------------------- which journals there are */
struct list {
    struct mb_jscan_file *v;
    int32_t n, cap;
};

char *mb_run_path(const char *dir, int32_t run)
{
    char *out;
    return asprintf(&out, "%s/run-%04d", dir, run) < 0 ? NULL : out;
}

/* The number behind a prefix, or -1. */
static int32_t number_of(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    char *end;
    if (strncmp(name, prefix, n) != 0 || name[n] < '0' || name[n] > '9')
        return -1;
    long v = strtol(name + n, &end, 10);
    return *end != 0 || v < 0 || v > 9999999 ? -1 : (int32_t)v;
}

static enum mb_status list_put(struct list *l, struct mb_jscan_file f)
{
    if (l->n == l->cap) {
        int32_t cap = l->cap ? 2 * l->cap : 16;
        void *p = realloc(l->v, (size_t)cap * sizeof *l->v);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the list of journals");
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n++] = f;
    return MB_OK;
}

/* Entries of a directory whose name is prefix + number; run < 0: the numbers are runs, else writers of that run. */
static enum mb_status list_dir(const char *path, const char *prefix, int32_t run, struct list *l)
{
    DIR *d = opendir(path);
    if (d == NULL && errno == ENOENT)
        return MB_OK;
    if (d == NULL)
        return mb_error(mb_status_of_errno(errno), "%s: %s", path, strerror(errno));
    enum mb_status st = MB_OK;
    for (struct dirent *e = readdir(d); e != NULL && st == MB_OK; e = readdir(d)) {
        int32_t v = number_of(e->d_name, prefix);
        if (v >= 0)
            st = list_put(l, run < 0 ? (struct mb_jscan_file){v, 0} : (struct mb_jscan_file){run, v});
    }
    closedir(d);
    return st;
}

static int by_run_writer(const void *pa, const void *pb)
{
    const struct mb_jscan_file *a = pa, *b = pb;
    if (a->run != b->run)
        return a->run < b->run ? -1 : 1;
    return a->writer < b->writer ? -1 : a->writer > b->writer;
}

enum mb_status mb_jscan_list(const char *dir, struct mb_jscan_file **out, int32_t *n)
{
    struct list runs = {0}, files = {0};
    enum mb_status st = list_dir(dir, "run-", -1, &runs);
    for (int32_t i = 0; i < runs.n && st == MB_OK; i++) {
        char *path = mb_run_path(dir, runs.v[i].run);
        st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                          : list_dir(path, "journal-", runs.v[i].run, &files);
        free(path);
    }
    free(runs.v);
    if (st != MB_OK) {
        free(files.v);
        return st;
    }
    if (files.n > 0)
        qsort(files.v, (size_t)files.n, sizeof *files.v, by_run_writer);
    *out = files.v;
    *n = files.n;
    return MB_OK;
}

/* ---------------------------------------------------------------- one journal */
struct mb_jscan {
    struct mb_jscan_file file;
    char *run_dir, *path;
    struct mb_journal_reader *reader;
    uint64_t n_lines;
    enum mb_jscan_check check;
    int64_t n_bad; /* records without their bulk data */
    struct {
        int fd; /* -1: not opened yet */
        char *path;
    } bulk[MB_BULK_COUNT];
};

static enum mb_status check_head(struct mb_jscan *s, const struct mb_identity *identity)
{
    struct mb_frame f;
    struct mb_identity id = {0};
    bool got;
    MB_TRY(mb_journal_next(s->reader, &f, &got));
    if (!got)
        return MB_OK;
    MB_TRY(mb_journal_head(&f, s->path, &id));
    enum mb_status st = identity == NULL ? MB_OK : mb_identity_match(&id, identity, false, s->path);
    mb_identity_fini(&id);
    return st;
}

enum mb_status mb_jscan_open(const char *dir, struct mb_jscan_file file, const struct mb_identity *identity,
                            uint64_t n_lines, enum mb_jscan_check check, struct mb_jscan **out)
{
    struct mb_jscan *s = calloc(1, sizeof *s);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to read a journal");
    s->file = file;
    s->n_lines = n_lines;
    s->check = check;
    for (int i = 0; i < MB_BULK_COUNT; i++)
        s->bulk[i].fd = -1;
    s->run_dir = mb_run_path(dir, file.run);
    s->path = s->run_dir == NULL ? NULL : mb_journal_path(s->run_dir, file.writer);
    enum mb_status st = s->path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : MB_OK;
    if (st == MB_OK)
        st = mb_journal_open(s->path, &s->reader);
    if (st == MB_OK)
        st = check_head(s, identity);
    if (st != MB_OK)
        mb_jscan_close(s);
    else
        *out = s;
    return st;
}

void mb_jscan_close(struct mb_jscan *s)
{
    if (s == NULL)
        return;
    mb_journal_close(s->reader);
    free(s->run_dir);
    free(s->path);
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if (s->bulk[i].fd >= 0)
            close(s->bulk[i].fd);
        free(s->bulk[i].path);
    }
    free(s);
}

bool mb_jscan_corrupt(const struct mb_jscan *s)
{
    return mb_journal_end(s->reader) == MB_JOURNAL_CORRUPT;
}

/* Opens the file of a kind once. A file that is not there never reached the disk: fd stays -1. */
static enum mb_status open_bulk(struct mb_jscan *s, int kind)
{
    if (s->bulk[kind].path != NULL)
        return MB_OK;
    s->bulk[kind].path = mb_bulk_path(s->run_dir, s->file.writer, (enum mb_bulk_kind)kind);
    if (s->bulk[kind].path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    s->bulk[kind].fd = open(s->bulk[kind].path, O_RDONLY | O_CLOEXEC);
    if (s->bulk[kind].fd < 0 && errno != ENOENT)
        return mb_error(MB_IO, "%s: %s", s->bulk[kind].path, strerror(errno));
    return MB_OK;
}

/* Whether the bytes of one bulk extent are there, with the hash that was recorded. */
static enum mb_status extent_good(struct mb_jscan *s, int kind, const struct mb_done *d, bool *good)
{
    uint64_t have = 0, end;
    *good = false;
    MB_TRY(open_bulk(s, kind));
    if (s->bulk[kind].fd < 0)
        return MB_OK;
    off_t size = lseek(s->bulk[kind].fd, 0, SEEK_END);
    if (!mb_add_ok(d->head.bulk_offset[kind], d->bulk_bytes[kind], &end) || size < 0 || end > (uint64_t)size)
        return MB_OK;
    enum mb_status st = MB_OK;
    if (s->check == MB_JSCAN_HASHED)
        st = mb_bulk_hash(s->bulk[kind].fd, s->bulk[kind].path, d->head.bulk_offset[kind], d->bulk_bytes[kind], MB_IO, &have);
    *good = s->check != MB_JSCAN_HASHED || (st == MB_OK && have == d->bulk_hash[kind]);
    return st == MB_IO ? MB_OK : st; /* what a disk cannot read any more is lost, and no reason to stop */
}

static enum mb_status bulk_good(struct mb_jscan *s, const struct mb_done *d, bool *good)
{
    *good = true;
    for (int i = 0; i < MB_BULK_COUNT && *good; i++) {
        if (d->bulk_bytes[i] > 0)
            MB_TRY(extent_good(s, i, d, good));
        if (!*good && s->n_bad++ < 3)
            mb_warn("%s: the %s of line %llu, choice %d, are not what was written: the row is computed again", s->path,
                    mb_bulk_name((enum mb_bulk_kind)i), (unsigned long long)d->head.line + 1, d->head.choice);
    }
    return MB_OK;
}

static enum mb_status take_done(struct mb_jscan *s, const struct mb_frame *f, struct mb_jscan_item *item)
{
    struct mb_done d;
    bool good = true;

    if (!mb_done_parse(f->payload, f->len, &d) || d.head.line >= s->n_lines)
        return mb_error(MB_CORRUPT, "%s: the record at byte %llu is whole but makes no sense for this input", s->path,
                        (unsigned long long)f->offset);
    if (s->check != MB_JSCAN_UNCHECKED)
        MB_TRY(bulk_good(s, &d, &good));
    if (!good)
        return MB_OK;
    item->kind = MB_JSCAN_DONE;
    item->done = (struct mb_done_ref){s->file, f->offset + d.record_at, d.n, mb_record_content(d.record, d.n), d.head};
    return MB_OK;
}

static enum mb_status take_tokens(struct mb_jscan *s, const struct mb_frame *f, struct mb_jscan_item *item)
{
    struct mb_wire w = mb_wire_of(f->payload + 4, f->len - 4);
    item->count = mb_wire_u32(&w);
    if (w.n != (uint64_t)item->count * MB_JOURNAL_TOKEN_BYTES)
        return mb_error(MB_CORRUPT, "%s: the tokens at byte %llu have a wrong count", s->path,
                        (unsigned long long)f->offset);
    item->tokens = w.p;
    item->kind = MB_JSCAN_TOKENS;
    return MB_OK;
}

enum mb_status mb_jscan_next(struct mb_jscan *s, struct mb_jscan_item *item)
{
    struct mb_frame f;
    bool got = true;
    item->kind = MB_JSCAN_END;
    while (item->kind == MB_JSCAN_END) {
        MB_TRY(mb_journal_next(s->reader, &f, &got));
        if (!got) {
            if (s->n_bad > 3)
                mb_warn("%s: so it is with %lld rows in all", s->path, (long long)s->n_bad);
            s->n_bad = 0;
            return MB_OK;
        }
        if (f.kind == MB_JOURNAL_TOKENS)
            MB_TRY(take_tokens(s, &f, item));
        else if (f.kind == MB_JOURNAL_DONE || f.kind == MB_JOURNAL_ERROR)
            MB_TRY(take_done(s, &f, item));
    }
    return MB_OK;
}
