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
        return mb_error(MB_IO, "%s: %s", path, strerror(errno));
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
struct pending {
    struct mb_done_ref ref;
    uint64_t hash[MB_BULK_COUNT];
};

struct mb_jscan {
    struct mb_jscan_file file;
    char *run_dir, *path;
    struct mb_journal_reader *reader;
    uint64_t n_lines;
    bool at_end;
    /* records with bulk data in file order: [0, given) handed out, [given, ready) known good, [ready, n) undecided */
    struct pending *queue;
    size_t given, ready, n, cap;
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
                            uint64_t n_lines, struct mb_jscan **out)
{
    struct mb_jscan *s = calloc(1, sizeof *s);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to read a journal");
    s->file = file;
    s->n_lines = n_lines;
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
    free(s->queue);
    free(s);
}

bool mb_jscan_corrupt(const struct mb_jscan *s)
{
    return mb_journal_end(s->reader) == MB_JOURNAL_CORRUPT;
}

/* Whether the bytes of one bulk extent have the hash that was recorded. */
static bool extent_good(struct mb_jscan *s, int kind, uint64_t offset, uint64_t bytes, uint64_t want)
{
    char *path = mb_bulk_path(s->run_dir, s->file.writer, (enum mb_bulk_kind)kind);
    uint64_t have = 0;
    off_t size = 0, end;
    bool good = false;
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        size = lseek(fd, 0, SEEK_END);
    if (fd >= 0 && !__builtin_add_overflow(offset, bytes, &end) && end <= size)
        good = mb_bulk_hash(fd, path, offset, bytes, MB_IO, &have) == MB_OK && have == want;
    if (fd >= 0)
        close(fd);
    free(path);
    return good;
}

static bool bulk_good(struct mb_jscan *s, const struct pending *p)
{
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if (p->ref.bulk_bytes[i] > 0 &&
            !extent_good(s, i, p->ref.head.bulk_offset[i], p->ref.bulk_bytes[i], p->hash[i]))
            return false;
    }
    return true;
}

/* A SYNC frame: everything before `upto` has its data. */
static void accept_upto(struct mb_jscan *s, uint64_t upto)
{
    while (s->ready < s->n && s->queue[s->ready].ref.offset < upto)
        s->ready++;
}

/* The end of the file: what no SYNC covers is checked; records without their data are left out. */
static void check_rest(struct mb_jscan *s)
{
    size_t kept = s->ready;
    for (size_t i = s->ready; i < s->n; i++) {
        if (bulk_good(s, &s->queue[i]))
            s->queue[kept++] = s->queue[i];
        else
            mb_warn("%s: the routing or logits of line %llu did not reach the disk: it is computed again", s->path,
                    (unsigned long long)s->queue[i].ref.head.line + 1);
    }
    s->n = s->ready = kept;
}

static enum mb_status enqueue(struct mb_jscan *s, const struct pending *p)
{
    if (s->given == s->n)
        s->given = s->ready = s->n = 0;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        void *q = realloc(s->queue, cap * sizeof *s->queue);
        if (q == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for records that wait for a SYNC", s->path);
        s->queue = q;
        s->cap = cap;
    }
    s->queue[s->n++] = *p;
    return MB_OK;
}

static enum mb_status take_done(struct mb_jscan *s, const struct mb_frame *f, struct mb_jscan_item *item)
{
    struct mb_done d;
    struct pending p = {0};
    bool bulk = false;

    if (!mb_done_parse(f->payload, f->len, &d) || d.head.line >= s->n_lines)
        return mb_error(MB_CORRUPT, "%s: the record at byte %llu is whole but makes no sense for this input", s->path,
                        (unsigned long long)f->offset);
    p.ref = (struct mb_done_ref){s->file, f->offset + d.record_at, d.n, mb_record_content(d.record, d.n), d.head, {0}};
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        p.ref.bulk_bytes[i] = d.bulk_bytes[i];
        p.hash[i] = d.bulk_hash[i];
        bulk = bulk || d.bulk_bytes[i] > 0;
    }
    if (bulk)
        return enqueue(s, &p);
    item->kind = MB_JSCAN_DONE;
    item->done = p.ref;
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

/* Reads one frame; item stays MB_JSCAN_END if it held nothing to hand out now. */
static enum mb_status read_one(struct mb_jscan *s, struct mb_jscan_item *item)
{
    struct mb_frame f;
    bool got;
    MB_TRY(mb_journal_next(s->reader, &f, &got));
    if (!got) {
        s->at_end = true;
        check_rest(s);
        return MB_OK;
    }
    if (f.kind == MB_JOURNAL_TOKENS)
        return take_tokens(s, &f, item);
    if (f.kind == MB_JOURNAL_DONE || f.kind == MB_JOURNAL_ERROR)
        return take_done(s, &f, item);
    if (f.kind == MB_JOURNAL_SYNC) {
        struct mb_wire w = mb_wire_of(f.payload + 8, f.len - 8);
        accept_upto(s, mb_wire_u64(&w));
    }
    return MB_OK;
}

enum mb_status mb_jscan_next(struct mb_jscan *s, struct mb_jscan_item *item)
{
    item->kind = MB_JSCAN_END;
    for (;;) {
        if (s->given < s->ready) {
            item->kind = MB_JSCAN_DONE;
            item->done = s->queue[s->given++].ref;
            return MB_OK;
        }
        if (s->at_end)
            return MB_OK;
        MB_TRY(read_one(s, item));
        if (item->kind != MB_JSCAN_END)
            return MB_OK;
    }
}
