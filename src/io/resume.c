#include "io/resume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/publish.h"
#include "base/wire.h"
#include "io/resume_map.h"
#include "io/scan.h"

#define PIECE ((size_t)4 << 20)

struct dup {
    uint64_t line, content;
    int32_t choice;
    bool known; /* content was seen in the second pass */
};

struct mb_resume {
    uint64_t n_lines;
    enum mb_jscan_check check;
    uint64_t *bits; /* 1: all choices done */
    struct mb_resume_map map;
    struct dup *dups;
    int64_t n_dups, cap_dups;
    struct mb_resume_entry *entries; /* by (line, choice) */
    int64_t n_entries;
    struct mb_resume_counts counts;
};

static bool bit(const struct mb_resume *r, uint64_t line)
{
    return line < r->n_lines && (r->bits[line / 64] >> (line % 64) & 1);
}

/* ---------------------------------------------------------------- folding */
static enum mb_status note_dup(struct mb_resume *r, const struct mb_done_ref *d)
{
    if (r->n_dups == r->cap_dups) {
        int64_t cap = r->cap_dups ? 2 * r->cap_dups : 64;
        void *p = realloc(r->dups, (size_t)cap * sizeof *r->dups);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for rows that are in two journals");
        r->dups = p;
        r->cap_dups = cap;
    }
    r->dups[r->n_dups++] = (struct dup){.line = d->head.line, .choice = d->head.choice};
    return MB_OK;
}

static enum mb_status fold_done(struct mb_resume *r, const struct mb_done_ref *d)
{
    const struct mb_record_head *h = &d->head;
    if (bit(r, h->line))
        return note_dup(r, d);
    if (h->n > 1) {
        struct mb_line_state *s = NULL;
        bool again = false;
        MB_TRY(mb_resume_map_get(&r->map, h->line, &s));
        MB_TRY(mb_line_done(s, h->choice, h->n, &again));
        if (again)
            return note_dup(r, d);
        r->counts.rows_done++;
        if (s->n_done < h->n)
            return MB_OK;
    } else {
        r->counts.rows_done++;
    }
    mb_resume_map_drop(&r->map, h->line);
    r->bits[h->line / 64] |= 1ull << (h->line % 64);
    r->counts.lines_done++;
    return MB_OK;
}

static enum mb_status fold_tokens(struct mb_resume *r, const struct mb_jscan_item *item)
{
    struct mb_wire w = mb_wire_of(item->tokens, (size_t)item->count * MB_JOURNAL_TOKEN_BYTES);
    for (uint32_t i = 0; i < item->count; i++) {
        uint64_t line = mb_wire_u64(&w);
        uint32_t choice = mb_wire_u32(&w), index = mb_wire_u32(&w);
        int32_t id = mb_wire_i32(&w);
        struct mb_line_state *s = NULL;
        if (line >= r->n_lines || choice >= MB_MAX_CHOICES)
            return mb_error(MB_CORRUPT, "a journal has a token of line %llu, choice %u, which this input does not have",
                            (unsigned long long)line, choice);
        if (bit(r, line))
            continue;
        MB_TRY(mb_resume_map_get(&r->map, line, &s));
        MB_TRY(mb_line_token(s, (int32_t)choice, index, id));
    }
    return MB_OK;
}

static enum mb_status fold_journal(struct mb_resume *r, const char *dir, struct mb_jscan_file file,
                                   const struct mb_identity *identity)
{
    struct mb_jscan *s = NULL;
    struct mb_jscan_item item = {.kind = MB_JSCAN_DONE};
    MB_TRY(mb_jscan_open(dir, file, identity, r->n_lines, r->check, &s));
    enum mb_status st = MB_OK;
    while (st == MB_OK && item.kind != MB_JSCAN_END) {
        st = mb_jscan_next(s, &item);
        if (st == MB_OK && item.kind == MB_JSCAN_DONE)
            st = fold_done(r, &item.done);
        else if (st == MB_OK && item.kind == MB_JSCAN_TOKENS)
            st = fold_tokens(r, &item);
    }
    if (st == MB_OK)
        r->counts.damaged += mb_jscan_corrupt(s);
    mb_jscan_close(s);
    return st;
}

/* ---------------------------------------------------------------- rows in two journals must be equal */
static int by_line_choice(const void *pa, const void *pb)
{
    const struct dup *a = pa, *b = pb;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    return a->choice < b->choice ? -1 : a->choice > b->choice;
}

static enum mb_status compare_done(struct mb_resume *r, const struct mb_done_ref *d)
{
    struct dup key = {.line = d->head.line, .choice = d->head.choice};
    struct dup *dup = bsearch(&key, r->dups, (size_t)r->n_dups, sizeof *r->dups, by_line_choice);
    if (dup == NULL)
        return MB_OK;
    if (!dup->known) {
        dup->known = true;
        dup->content = d->content;
        return MB_OK;
    }
    if (dup->content == d->content)
        return MB_OK;
    return mb_error(MB_CORRUPT, "line %llu, choice %d: run-%04d/journal-%06d holds another result than an earlier journal; "
                                "one of the machines or builds that took part computes wrongly: find it (moebatch verify), "
                                "remove its run directory and resume",
                    (unsigned long long)d->head.line + 1, d->head.choice, d->file.run, d->file.writer);
}

static enum mb_status compare_dups(struct mb_resume *r, const char *dir, const struct mb_jscan_file *files, int32_t n)
{
    enum mb_status st = MB_OK;
    int64_t kept = 0;
    if (r->n_dups == 0)
        return MB_OK;
    qsort(r->dups, (size_t)r->n_dups, sizeof *r->dups, by_line_choice);
    for (int64_t i = 0; i < r->n_dups; i++) { /* the same row may have been noted several times */
        if (i == 0 || by_line_choice(&r->dups[kept - 1], &r->dups[i]) != 0)
            r->dups[kept++] = r->dups[i];
    }
    r->n_dups = r->counts.duplicates = kept;
    for (int32_t i = 0; i < n && st == MB_OK; i++) {
        struct mb_jscan *s = NULL;
        struct mb_jscan_item item = {.kind = MB_JSCAN_DONE};
        st = mb_jscan_open(dir, files[i], NULL, r->n_lines, r->check, &s);
        while (st == MB_OK && item.kind != MB_JSCAN_END) {
            st = mb_jscan_next(s, &item);
            if (st == MB_OK && item.kind == MB_JSCAN_DONE)
                st = compare_done(r, &item.done);
        }
        mb_jscan_close(s);
    }
    return st;
}

/* ---------------------------------------------------------------- entries and the file of forced tokens */
static int by_line(const void *pa, const void *pb)
{
    const struct mb_line_state *a = *(struct mb_line_state *const *)pa, *b = *(struct mb_line_state *const *)pb;
    return a->line < b->line ? -1 : a->line > b->line;
}

struct forced_file {
    int fd;
    char *path;
    struct mb_bytes buf;
    uint64_t at;
};

static enum mb_status forced_put(struct forced_file *f, const int32_t *ids, int32_t n, uint64_t *offset)
{
    *offset = f->at;
    MB_TRY(mb_bytes_put(&f->buf, ids, (size_t)n * sizeof *ids));
    f->at += (uint64_t)n * sizeof *ids;
    if (f->buf.len < PIECE)
        return MB_OK;
    MB_TRY(mb_write_all(f->fd, f->buf.data, f->buf.len, f->path));
    f->buf.len = 0;
    return MB_OK;
}

static enum mb_status forced_finish(struct forced_file *f, const char *run_dir)
{
    MB_TRY(mb_write_all(f->fd, f->buf.data, f->buf.len, f->path));
    MB_TRY(mb_sync_file(f->fd, f->path));
    return mb_dir_sync(run_dir);
}

static enum mb_status write_entries(struct mb_resume *r, struct mb_line_state *const *lines, int64_t n,
                                    struct forced_file *f)
{
    for (int64_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < lines[i]->n_choices; c++) {
            const struct mb_choice_tokens *t = &lines[i]->choices[c];
            struct mb_resume_entry *e = &r->entries[r->n_entries];
            if (!t->done && t->n == 0)
                continue;
            *e = (struct mb_resume_entry){lines[i]->line, 0, 0, c, t->done ? -1 : t->n};
            if (!t->done) {
                e->hash = mb_hash64(t->ids, (size_t)t->n * sizeof *t->ids);
                MB_TRY(forced_put(f, t->ids, t->n, &e->offset));
            }
            r->n_entries++;
        }
    }
    return MB_OK;
}

static void count_begun(struct mb_resume *r, struct mb_line_state *const *lines, int64_t n)
{
    r->counts.lines_begun = n;
    for (int64_t i = 0; i < n; i++)
        for (int32_t c = 0; c < lines[i]->n_choices; c++)
            r->counts.tokens += lines[i]->choices[c].done ? 0 : lines[i]->choices[c].n;
}

/* The unfinished lines are counted, and if there is a run that goes on with them (run_dir), written for it. */
static enum mb_status make_entries(struct mb_resume *r, const char *run_dir, struct mb_mem *mem)
{
    struct forced_file f = {-1, NULL, {0}, 0};
    int64_t n = 0, choices = 0;
    struct mb_line_state **lines = NULL;
    enum mb_status st = mb_resume_map_list(&r->map, &lines, &n, &choices);
    if (st == MB_OK)
        count_begun(r, lines, n);
    if (run_dir == NULL)
        n = 0;
    if (st == MB_OK && n > 0) {
        qsort(lines, (size_t)n, sizeof *lines, by_line);
        r->entries = mb_alloc(mem, MB_MEM_INDEX, (size_t)choices, sizeof *r->entries);
        f.path = mb_path_join(run_dir, "forced");
        f.fd = f.path == NULL ? -1 : open(f.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (r->entries == NULL || f.path == NULL)
            st = mb_error(MB_NO_MEMORY, "no memory for the unfinished lines of earlier runs");
        else if (f.fd < 0)
            st = mb_file_error(errno, f.path, "open");
    }
    if (st == MB_OK && n > 0)
        st = write_entries(r, lines, n, &f);
    if (st == MB_OK && n > 0)
        st = forced_finish(&f, run_dir);
    if (f.fd >= 0)
        close(f.fd);
    mb_bytes_fini(&f.buf);
    free(f.path);
    free(lines);
    return st;
}

/* ---------------------------------------------------------------- what earlier runs wrote is on the disk */
static enum mb_status sync_one(const char *path)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return mb_file_error(errno, path, "open");
    enum mb_status st = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) ? mb_sync_file(fd, path) : MB_OK;
    close(fd);
    return st;
}

/* A run that was killed left what it had written to the kernel. Its rows are called acknowledged from now on, so they must outlive a
 * power loss, too. */
static enum mb_status sync_run(const char *dir, int32_t run)
{
    char *path = mb_run_path(dir, run);
    DIR *d = path == NULL ? NULL : opendir(path);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : MB_OK;

    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL && st == MB_OK; e = readdir(d)) {
        char *file = e->d_name[0] == '.' ? NULL : mb_path_join(path, e->d_name);
        if (file != NULL)
            st = sync_one(file);
        free(file);
    }
    if (d != NULL)
        closedir(d);
    if (st == MB_OK && d != NULL)
        st = mb_dir_sync(path);
    free(path);
    return st;
}

/* files: ascending by run */
static enum mb_status sync_runs(const char *dir, const struct mb_jscan_file *files, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (i == 0 || files[i].run != files[i - 1].run)
            MB_TRY(sync_run(dir, files[i].run));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- life and questions */
enum mb_status mb_resume_fold(const char *dir, const char *run_dir, const struct mb_identity *identity, uint64_t n_lines,
                              struct mb_mem *mem, struct mb_resume **out)
{
    struct mb_jscan_file *files = NULL;
    int32_t n = 0;
    struct mb_resume *r = calloc(1, sizeof *r);
    if (r == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to fold journals");
    r->n_lines = n_lines;
    r->check = run_dir == NULL ? MB_JSCAN_SIZED : MB_JSCAN_HASHED;
    r->bits = mb_zalloc(mem, MB_MEM_INDEX, (size_t)(n_lines / 64 + 1), sizeof *r->bits);
    enum mb_status st = r->bits == NULL ? mb_error(MB_NO_MEMORY, "no memory for a bit per line") : MB_OK;
    if (st == MB_OK)
        st = mb_jscan_list(dir, &files, &n);
    if (st == MB_OK && run_dir != NULL)
        st = sync_runs(dir, files, n);
    for (int32_t i = 0; i < n && st == MB_OK; i++)
        st = fold_journal(r, dir, files[i], identity);
    if (st == MB_OK)
        st = compare_dups(r, dir, files, n);
    if (st == MB_OK)
        st = make_entries(r, run_dir, mem);
    mb_resume_map_fini(&r->map); /* the tokens are in the file now */
    free(files);
    if (st != MB_OK)
        mb_resume_destroy(r);
    else
        *out = r;
    return st;
}

void mb_resume_destroy(struct mb_resume *r)
{
    if (r == NULL)
        return;
    mb_free(r->bits);
    mb_resume_map_fini(&r->map);
    free(r->dups);
    mb_free(r->entries);
    free(r);
}

void mb_resume_count(const struct mb_resume *r, struct mb_resume_counts *out)
{
    *out = r->counts;
}

void mb_resume_line(const struct mb_resume *r, uint64_t line, bool *done, const struct mb_resume_entry **entries,
                    int32_t *n)
{
    int64_t lo = 0, hi = r->n_entries;
    *done = bit(r, line);
    *entries = NULL;
    *n = 0;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (r->entries[mid].line < line)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (hi = lo; hi < r->n_entries && r->entries[hi].line == line; hi++)
        (*n)++;
    if (*n > 0)
        *entries = &r->entries[lo];
}

/* ---------------------------------------------------------------- the leasing rank */
static enum mb_status fill_one(const char *path, int fd, const struct mb_resume_entry *e, struct mb_choice_state *c)
{
    if (e->n_forced < 0) {
        c->done = true;
        return MB_OK;
    }
    c->forced = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)e->n_forced, sizeof *c->forced);
    if (c->forced == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d forced tokens", e->n_forced);
    size_t bytes = (size_t)e->n_forced * sizeof *c->forced;
    MB_TRY(mb_pread_all(fd, c->forced, bytes, e->offset, path, MB_CORRUPT));
    c->n_forced = e->n_forced;
    if (mb_hash64(c->forced, bytes) != e->hash)
        return mb_error(MB_CORRUPT, "%s: the tokens of line %llu are not those that were written", path,
                        (unsigned long long)e->line + 1);
    return MB_OK;
}

enum mb_status mb_resume_fill(const char *run_dir, const struct mb_resume_entry *entries, int32_t n,
                              struct mb_request *req)
{
    bool any = false;
    for (int32_t i = 0; i < n; i++)
        any = any || entries[i].line == req->line;
    if (!any || req->error != NULL || req->resume != NULL)
        return MB_OK;
    char *path = mb_path_join(run_dir, "forced");
    req->resume = mb_zalloc(NULL, MB_MEM_REQUESTS, (size_t)req->n, sizeof *req->resume);
    if (path == NULL || req->resume == NULL) {
        free(path);
        return mb_error(MB_NO_MEMORY, "no memory for what earlier runs know of line %llu", (unsigned long long)req->line);
    }
    enum mb_status st = MB_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        st = mb_error(MB_IO, "%s: %s", path, strerror(errno));
    for (int32_t i = 0; i < n && st == MB_OK; i++) {
        const struct mb_resume_entry *e = &entries[i];
        if (e->line != req->line)
            continue;
        if (e->choice < 0 || e->choice >= req->n || e->n_forced < -1 || req->resume[e->choice].forced != NULL)
            st = mb_error(MB_CORRUPT, "line %llu has no choice %d, but an earlier run recorded one",
                          (unsigned long long)req->line + 1, e->choice);
        else
            st = fill_one(path, fd, e, &req->resume[e->choice]);
    }
    if (fd >= 0)
        close(fd);
    free(path);
    return st;
}
