#include "io/digest_sort.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/publish.h"

#define RUN_BYTES ((uint64_t)32 << 20)
#define READ_BYTES 65536

/* As it lies in a run, in memory and in the file: this, and the id behind it. */
struct packed {
    struct mb_hash128 hash;
    uint32_t id_len, choice;
};

struct run { /* of the file: what is not read of it yet, and its first row */
    uint64_t at, end;
    struct mb_bytes buf;
    size_t used;
    struct mb_digest_row row;
};

struct mb_digest_sort {
    uint64_t run_bytes;
    struct mb_bytes ids; /* of the run in memory: rows point into it by offset until they are sorted */
    struct mb_digest_row *rows;
    uint64_t n, cap, next;
    int fd; /* -1: none yet */
    uint64_t file_bytes;
    struct run *runs;
    int n_runs, left; /* left: runs in the heap */
    struct run **heap;
    bool started;
};

static int compare(const void *pa, const void *pb)
{
    const struct mb_digest_row *a = pa, *b = pb;
    size_t n = a->id_len < b->id_len ? a->id_len : b->id_len;
    int c = n == 0 ? 0 : memcmp(a->id, b->id, n);
    if (c != 0)
        return c;
    if (a->id_len != b->id_len)
        return a->id_len < b->id_len ? -1 : 1;
    if (a->choice != b->choice)
        return a->choice < b->choice ? -1 : 1;
    if (a->hash.hi != b->hash.hi)
        return a->hash.hi < b->hash.hi ? -1 : 1;
    return a->hash.lo < b->hash.lo ? -1 : a->hash.lo > b->hash.lo;
}

enum mb_status mb_digest_sort_create(uint64_t run_bytes, struct mb_digest_sort **out)
{
    struct mb_digest_sort *s = calloc(1, sizeof *s);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to sort rows");
    s->run_bytes = run_bytes == 0 ? RUN_BYTES : run_bytes;
    s->fd = -1;
    *out = s;
    return MB_OK;
}

void mb_digest_sort_destroy(struct mb_digest_sort *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < s->n_runs; i++)
        mb_bytes_fini(&s->runs[i].buf);
    if (s->fd >= 0)
        close(s->fd);
    mb_bytes_fini(&s->ids);
    free(s->rows);
    free(s->runs);
    free(s->heap);
    free(s);
}

/* ---------------------------------------------------------------- the unnamed file */
static enum mb_status file_failed(const char *what)
{
    bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    return mb_error(full ? MB_NO_SPACE : MB_IO,
                    "%s the rows that are sorted for the digest under $TMPDIR (/tmp): %s; set TMPDIR to a "
                    "place with room",
                    what, strerror(errno));
}

static enum mb_status file_open(struct mb_digest_sort *s)
{
    const char *dir = getenv("TMPDIR");
    if (s->fd >= 0)
        return MB_OK;
    s->fd = mb_file_unnamed(dir != NULL && *dir != 0 ? dir : "/tmp");
    return s->fd < 0 ? file_failed("cannot store") : MB_OK;
}

static enum mb_status file_put(struct mb_digest_sort *s, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t k = write(s->fd, p, n);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return file_failed("cannot store");
        p += k;
        n -= (size_t)k;
        s->file_bytes += (uint64_t)k;
    }
    return MB_OK;
}

static enum mb_status put_rows(struct mb_digest_sort *s)
{
    struct mb_bytes b = {0};
    enum mb_status st = MB_OK;
    for (uint64_t i = 0; i < s->n && st == MB_OK; i++) {
        struct packed p = {s->rows[i].hash, s->rows[i].id_len, s->rows[i].choice};
        st = mb_bytes_put(&b, &p, sizeof p);
        if (st == MB_OK && p.id_len > 0)
            st = mb_bytes_put(&b, s->rows[i].id, p.id_len);
        if (st == MB_OK && (b.len >= READ_BYTES || i + 1 == s->n)) {
            st = file_put(s, b.data, b.len);
            b.len = 0;
        }
    }
    mb_bytes_fini(&b);
    return st;
}

/* ---------------------------------------------------------------- runs */
static void sort_run(struct mb_digest_sort *s)
{
    uint64_t at = 0;
    for (uint64_t i = 0; i < s->n; i++) { /* ids do not move any more */
        s->rows[i].id = (const char *)s->ids.data + at;
        at += s->rows[i].id_len;
    }
    if (s->n > 0)
        qsort(s->rows, (size_t)s->n, sizeof *s->rows, compare);
}

static enum mb_status spill(struct mb_digest_sort *s)
{
    struct run *runs = realloc(s->runs, (size_t)(s->n_runs + 1) * sizeof *runs);
    if (runs == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to sort rows");
    s->runs = runs;
    sort_run(s);
    MB_TRY(file_open(s));
    uint64_t from = s->file_bytes;
    MB_TRY(put_rows(s));
    s->runs[s->n_runs++] = (struct run){.at = from, .end = s->file_bytes};
    s->n = 0;
    s->ids.len = 0;
    return MB_OK;
}

enum mb_status mb_digest_sort_put(struct mb_digest_sort *s, const struct mb_digest_row *row)
{
    if (s->n > 0 && s->ids.len + row->id_len + (s->n + 1) * sizeof *row > s->run_bytes)
        MB_TRY(spill(s));
    if (s->n == s->cap) {
        uint64_t cap = s->cap ? 2 * s->cap : 256;
        struct mb_digest_row *p = realloc(s->rows, (size_t)cap * sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory to sort rows");
        s->rows = p;
        s->cap = cap;
    }
    if (row->id_len > 0)
        MB_TRY(mb_bytes_put(&s->ids, row->id, row->id_len));
    s->rows[s->n] = *row;
    s->rows[s->n++].id = NULL;
    return MB_OK;
}

/* ---------------------------------------------------------------- merging */
/* At least n bytes of the run behind what is used; MB_CORRUPT if it ends before. */
static enum mb_status fill(struct mb_digest_sort *s, struct run *r, size_t n)
{
    if (r->buf.len - r->used >= n)
        return MB_OK;
    if (r->used > 0)
        memmove(r->buf.data, r->buf.data + r->used, r->buf.len - r->used);
    r->buf.len -= r->used;
    r->used = 0;
    MB_TRY(mb_bytes_reserve(&r->buf, n > READ_BYTES ? n : READ_BYTES));
    while (r->buf.len < n) {
        uint64_t want = r->end - r->at < READ_BYTES ? r->end - r->at : READ_BYTES;
        MB_TRY(mb_bytes_reserve(&r->buf, (size_t)want));
        ssize_t k = want == 0 ? 0 : pread(s->fd, r->buf.data + r->buf.len, (size_t)want, (off_t)r->at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k == 0 ? mb_error(MB_IO, "the file of sorted rows under $TMPDIR is shorter than written")
                          : file_failed("cannot read");
        r->at += (uint64_t)k;
        r->buf.len += (size_t)k;
    }
    return MB_OK;
}

/* The next row of a run into r->row; *end: it has none. */
static enum mb_status advance(struct mb_digest_sort *s, struct run *r, bool *end)
{
    struct packed p;
    *end = r->at == r->end && r->used == r->buf.len;
    if (*end)
        return MB_OK;
    MB_TRY(fill(s, r, sizeof p));
    memcpy(&p, r->buf.data + r->used, sizeof p);
    MB_TRY(fill(s, r, sizeof p + p.id_len));
    r->row =
        (struct mb_digest_row){p.hash, (const char *)r->buf.data + r->used + sizeof p, p.id_len, p.choice};
    r->used += sizeof p + p.id_len;
    return MB_OK;
}

static void sift(struct mb_digest_sort *s, int at)
{
    for (int child; (child = 2 * at + 1) < s->left; at = child) {
        if (child + 1 < s->left && compare(&s->heap[child + 1]->row, &s->heap[child]->row) < 0)
            child++;
        if (compare(&s->heap[at]->row, &s->heap[child]->row) <= 0)
            return;
        struct run *t = s->heap[at];
        s->heap[at] = s->heap[child];
        s->heap[child] = t;
    }
}

static enum mb_status start(struct mb_digest_sort *s)
{
    s->started = true;
    if (s->n_runs == 0) {
        sort_run(s);
        return MB_OK;
    }
    MB_TRY(spill(s));
    mb_bytes_fini(&s->ids);
    free(s->rows);
    s->rows = NULL;
    s->heap = calloc((size_t)s->n_runs, sizeof *s->heap);
    if (s->heap == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to sort rows");
    for (int i = 0; i < s->n_runs; i++) {
        bool end = false;
        MB_TRY(advance(s, &s->runs[i], &end));
        if (!end)
            s->heap[s->left++] = &s->runs[i];
    }
    for (int i = s->left / 2 - 1; i >= 0; i--)
        sift(s, i);
    return MB_OK;
}

enum mb_status mb_digest_sort_next(struct mb_digest_sort *s, struct mb_digest_row *row, bool *end)
{
    bool over = false;
    if (!s->started) {
        MB_TRY(start(s));
    } else if (s->n_runs > 0 &&
               s->left > 0) { /* the row that was given out goes now: it lay in its run's buffer */
        MB_TRY(advance(s, s->heap[0], &over));
        if (over)
            s->heap[0] = s->heap[--s->left];
        sift(s, 0);
    }
    *end = s->n_runs > 0 ? s->left == 0 : s->next == s->n;
    if (!*end)
        *row = s->n_runs > 0 ? s->heap[0]->row : s->rows[s->next++];
    return MB_OK;
}
