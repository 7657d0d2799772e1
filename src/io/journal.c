#include "io/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "base/wire.h"
#include "io/journal_format.h"

struct bulk_file {
    int fd; /* -1: not opened yet */
    char *path;
    uint64_t end;       /* first byte that is not reserved */
    uint64_t row_bytes; /* 0: kind not in use */
};

struct mb_journal {
    pthread_mutex_t lock; /* over everything below that changes */
    pthread_cond_t wake;
    pthread_t thread;
    bool has_thread, leaving;
    double interval;
    char *path, *dir;
    int fd, rank;
    struct bulk_file bulk[MB_BULK_COUNT];
    struct mb_bytes tokens, frames; /* gathered since the last flush */
    uint32_t n_tokens;
    int64_t rows_gathered, rows_written, rows_acknowledged;
    uint64_t bytes, synced; /* of the file; of them on the disk for certain */
    enum mb_status failed;  /* sticky */
};

static const char *const bulk_names[MB_BULK_COUNT] = {"experts", "weights", "physical", "logits", "hidden", "mtp"};

const char *mb_bulk_name(enum mb_bulk_kind kind)
{
    return (unsigned)kind < MB_BULK_COUNT ? bulk_names[kind] : "unknown";
}

char *mb_journal_path(const char *dir, int rank)
{
    char *out;
    return asprintf(&out, "%s/journal-%06d", dir, rank) < 0 ? NULL : out;
}

char *mb_bulk_path(const char *dir, int rank, enum mb_bulk_kind kind)
{
    char *out;
    return asprintf(&out, "%s/bulk-%06d-%s", dir, rank, mb_bulk_name(kind)) < 0 ? NULL : out;
}

/* ---------------------------------------------------------------- frames */
enum mb_status mb_frame_put(struct mb_bytes *out, const void *head, size_t n_head, const void *body, size_t n)
{
    uint64_t len;
    if (!mb_add_ok(n_head, n, &len) || len > MB_FRAME_MAX)
        return mb_error(MB_BUG, "a journal frame of %zu bytes is longer than a frame may be", n);
    size_t start = out->len;
    struct mb_wire_out o = {out, MB_OK};
    mb_wire_put_u32(&o, MB_FRAME_MARKER);
    mb_wire_put_u32(&o, (uint32_t)len);
    mb_wire_put_u64(&o, 0);
    mb_wire_put(&o, head, n_head);
    mb_wire_put(&o, body, n);
    if (o.st != MB_OK) {
        out->len = start;
        return o.st;
    }
    uint64_t hash = mb_hash64(out->data + start + MB_FRAME_HEAD, (size_t)len);
    memcpy(out->data + start + 8, &hash, sizeof hash);
    return MB_OK;
}

static void payload_head(uint8_t head[8], enum mb_journal_kind kind, uint8_t mask, uint32_t count)
{
    memset(head, 0, 8);
    head[0] = (uint8_t)kind;
    head[1] = mask;
    memcpy(head + 4, &count, sizeof count);
}

/* ---------------------------------------------------------------- writing; the lock is held */
static enum mb_status write_out(struct mb_journal *j, const void *data, size_t n)
{
    if (j->failed != MB_OK || n == 0)
        return j->failed;
    j->failed = mb_write_all(j->fd, data, n, j->path);
    if (j->failed == MB_OK)
        j->bytes += n;
    else if (ftruncate(j->fd, (off_t)j->bytes) != 0) /* so that the file ends with a whole frame */
        mb_warn("%s: cannot cut off an unfinished write: %s", j->path, strerror(errno));
    return j->failed;
}

static enum mb_status flush_locked(struct mb_journal *j)
{
    uint8_t head[8];
    if (j->failed == MB_OK && j->n_tokens > 0) {
        payload_head(head, MB_JOURNAL_TOKENS, 0, j->n_tokens);
        j->failed = mb_frame_put(&j->frames, head, sizeof head, j->tokens.data, j->tokens.len);
        j->tokens.len = 0;
        j->n_tokens = 0;
    }
    MB_TRY(write_out(j, j->frames.data, j->frames.len));
    j->frames.len = 0;
    j->rows_written += j->rows_gathered;
    j->rows_gathered = 0;
    return MB_OK;
}

/* ---------------------------------------------------------------- fsync */
/* At most 2 s: on_lost may come while another thread hangs in a write. */
static bool take(struct mb_journal *j)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 2;
    return pthread_mutex_timedlock(&j->lock, &t) == 0;
}

/* Bulk files first: an acknowledged record has its data. After one failure nothing is acknowledged any more: the kernel reports a
 * write that failed once and forgets the pages, so that a later success says nothing of them. */
static enum mb_status sync_files(struct mb_journal *j)
{
    int fd[MB_BULK_COUNT];
    enum mb_status st = MB_OK;
    bool held = take(j);
    if (held)
        st = j->failed;
    int64_t rows = j->rows_written;
    uint64_t bytes = j->bytes;
    for (int i = 0; i < MB_BULK_COUNT; i++)
        fd[i] = j->bulk[i].fd;
    if (held)
        pthread_mutex_unlock(&j->lock);
    for (int i = 0; i < MB_BULK_COUNT && st == MB_OK; i++)
        st = mb_sync_data(fd[i], j->bulk[i].path);
    if (st == MB_OK)
        st = mb_sync_data(j->fd, j->path);
    if (!held || !take(j))
        return st;
    if (st != MB_OK && j->failed == MB_OK)
        j->failed = st;
    if (j->failed == MB_OK && rows > j->rows_acknowledged)
        j->rows_acknowledged = rows;
    if (j->failed == MB_OK && bytes > j->synced)
        j->synced = bytes;
    pthread_mutex_unlock(&j->lock);
    return st;
}

static void *sync_thread(void *arg)
{
    struct mb_journal *j = arg;
    pthread_mutex_lock(&j->lock);
    while (!j->leaving) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += (time_t)j->interval;
        t.tv_nsec += (long)((j->interval - (double)(time_t)j->interval) * 1e9);
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        int e = 0;
        while (!j->leaving && e == 0)
            e = pthread_cond_timedwait(&j->wake, &j->lock, &t);
        if (j->leaving)
            break;
        bool dirty = j->bytes > j->synced && j->failed == MB_OK;
        pthread_mutex_unlock(&j->lock);
        if (dirty)
            (void)sync_files(j); /* a failure is sticky and comes out of the next flush */
        pthread_mutex_lock(&j->lock);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---------------------------------------------------------------- life */
static enum mb_status start_thread(struct mb_journal *j)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&j->thread, NULL, sync_thread, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e != 0)
        return mb_error(MB_NO_MEMORY, "cannot start the thread that fsyncs %s: %s", j->path, strerror(e));
    j->has_thread = true;
    return MB_OK;
}

static enum mb_status write_head(struct mb_journal *j, const struct mb_journal_options *o)
{
    uint8_t head[8];
    json_t *v = json_pack("{s:i, s:i, s:i, s:o}", "version", MB_JOURNAL_VERSION, "run", o->run, "rank", o->rank,
                          "identity", mb_identity_json(o->identity));
    char *text = v == NULL ? NULL : json_dumps(v, JSON_COMPACT);
    json_decref(v);
    if (text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the head of %s", j->path);
    payload_head(head, MB_JOURNAL_HEAD, 0, 1);
    enum mb_status st = mb_frame_put(&j->frames, head, sizeof head, text, strlen(text));
    free(text);
    return st == MB_OK ? flush_locked(j) : st;
}

static enum mb_status open_files(struct mb_journal *j, const struct mb_journal_options *o)
{
    j->path = mb_journal_path(o->dir, o->rank);
    j->dir = strdup(o->dir);
    if (j->path == NULL || j->dir == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        j->bulk[i].path = mb_bulk_path(o->dir, o->rank, (enum mb_bulk_kind)i);
        if (j->bulk[i].path == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    j->fd = open(j->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (j->fd < 0)
        return mb_file_error(errno, j->path, "open");
    return mb_dir_sync(o->dir);
}

enum mb_status mb_journal_create(const struct mb_journal_options *o, struct mb_journal **out)
{
    struct mb_journal *j = calloc(1, sizeof *j);
    if (j == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a journal");
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, &attr);
    pthread_condattr_destroy(&attr);
    j->interval = o->sync_interval;
    j->rank = o->rank;
    j->fd = -1;
    for (int i = 0; i < MB_BULK_COUNT; i++)
        j->bulk[i].fd = -1;
    enum mb_status st = open_files(j, o);
    if (st == MB_OK)
        st = write_head(j, o);
    if (st == MB_OK && j->interval > 0)
        st = start_thread(j);
    if (st != MB_OK)
        mb_journal_destroy(j);
    else
        *out = j;
    return st;
}

static void end_thread(struct mb_journal *j)
{
    if (!j->has_thread)
        return;
    pthread_mutex_lock(&j->lock);
    j->leaving = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    j->has_thread = false;
}

enum mb_status mb_journal_settle(struct mb_journal *j)
{
    end_thread(j);
    return mb_journal_sync_now(j);
}

void mb_journal_destroy(struct mb_journal *j)
{
    if (j == NULL)
        return;
    end_thread(j);
    if (j->fd >= 0) {
        (void)mb_journal_sync_now(j);
        close(j->fd);
    }
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if (j->bulk[i].fd >= 0)
            close(j->bulk[i].fd);
        free(j->bulk[i].path);
    }
    mb_bytes_fini(&j->tokens);
    mb_bytes_fini(&j->frames);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j->path);
    free(j->dir);
    free(j);
}

/* ---------------------------------------------------------------- gathering */
enum mb_status mb_journal_token(struct mb_journal *j, uint64_t line, int32_t choice, int64_t index, int32_t id)
{
    pthread_mutex_lock(&j->lock);
    struct mb_wire_out o = {&j->tokens, j->failed};
    if (index < 0 || index > UINT32_MAX)
        o.st = mb_error(MB_BUG, "token index %lld of line %llu", (long long)index, (unsigned long long)line);
    mb_wire_put_u64(&o, line);
    mb_wire_put_i32(&o, choice);
    mb_wire_put_u32(&o, (uint32_t)index);
    mb_wire_put_i32(&o, id);
    if (o.st == MB_OK)
        j->n_tokens++;
    else if (j->failed == MB_OK)
        j->failed = o.st;
    pthread_mutex_unlock(&j->lock);
    return o.st;
}

/* XXH3 of the bulk bytes of an extent, read back from the file (from the page cache, as it was just written). */
static enum mb_status hash_extent(struct mb_journal *j, int kind, const struct mb_extent *e, uint64_t out[2])
{
    const struct bulk_file *f = &j->bulk[kind];
    uint64_t n, end;
    if (f->fd < 0 || !mb_mul_ok((uint64_t)e->rows, f->row_bytes, &n) || n == 0 || !mb_add_ok(e->offset, n, &end) ||
        end > f->end)
        return mb_error(MB_BUG, "a record points at %s data that was never written", bulk_names[kind]);
    out[1] = n;
    return mb_bulk_hash(f->fd, f->path, e->offset, n, MB_BUG, &out[0]);
}

enum mb_status mb_journal_record(struct mb_journal *j, const struct mb_record *r)
{
    struct mb_bytes packed = {0};
    uint8_t head[8 + MB_BULK_COUNT * 16];
    uint8_t mask = 0;
    size_t n = 8;
    enum mb_status st = MB_OK;

    for (int i = 0; i < MB_BULK_COUNT && st == MB_OK; i++) {
        uint64_t h[2] = {0, 0};
        if (r->bulk[i].rows <= 0)
            continue;
        st = hash_extent(j, i, &r->bulk[i], h);
        memcpy(head + n, h, sizeof h);
        n += sizeof h;
        mask |= (uint8_t)(1u << i);
    }
    if (st == MB_OK)
        st = mb_record_pack(r, &packed);
    payload_head(head, r->status == MB_ROW_ERROR ? MB_JOURNAL_ERROR : MB_JOURNAL_DONE, mask, 1);
    pthread_mutex_lock(&j->lock);
    if (st == MB_OK)
        st = j->failed;
    if (st == MB_OK)
        st = mb_frame_put(&j->frames, head, n, packed.data, packed.len);
    if (st == MB_OK)
        j->rows_gathered++;
    pthread_mutex_unlock(&j->lock);
    mb_bytes_fini(&packed);
    return st;
}

enum mb_status mb_journal_flush(struct mb_journal *j)
{
    pthread_mutex_lock(&j->lock);
    enum mb_status st = flush_locked(j);
    pthread_mutex_unlock(&j->lock);
    return st;
}

enum mb_status mb_journal_sync_now(struct mb_journal *j)
{
    enum mb_status st = MB_OK;
    bool clean = false;
    if (take(j)) {
        st = flush_locked(j);
        clean = st == MB_OK && j->failed == MB_OK && j->bytes == j->synced;
        pthread_mutex_unlock(&j->lock);
    }
    enum mb_status synced = clean ? MB_OK : sync_files(j);
    return st != MB_OK ? st : synced;
}

void mb_journal_counts(struct mb_journal *j, int64_t *written, int64_t *acknowledged, int64_t *bytes)
{
    pthread_mutex_lock(&j->lock);
    *written = j->rows_written;
    *acknowledged = j->rows_acknowledged;
    *bytes = (int64_t)j->bytes;
    pthread_mutex_unlock(&j->lock);
}

/* ---------------------------------------------------------------- bulk data */
void mb_journal_bulk_rows(struct mb_journal *j, const uint64_t row_bytes[MB_BULK_COUNT])
{
    for (int i = 0; i < MB_BULK_COUNT; i++)
        j->bulk[i].row_bytes = row_bytes[i];
}

static enum mb_status bulk_open(struct mb_journal *j, struct bulk_file *f)
{
    if (f->fd >= 0)
        return MB_OK;
    f->fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0)
        return mb_file_error(errno, f->path, "open");
    return mb_dir_sync(j->dir);
}

enum mb_status mb_bulk_reserve(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t bytes, uint64_t *offset)
{
    struct bulk_file *f = &j->bulk[kind];
    uint64_t end;
    pthread_mutex_lock(&j->lock);
    enum mb_status st = bulk_open(j, f);
    if (st == MB_OK && (!mb_add_ok(f->end, bytes, &end) || end > INT64_MAX))
        st = mb_error(MB_NO_SPACE, "%s would grow beyond what a file can hold", f->path);
    if (st == MB_OK) {
        *offset = f->end;
        f->end = end;
    }
    pthread_mutex_unlock(&j->lock);
    return st;
}

void mb_bulk_trim(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t offset, uint64_t bytes, uint64_t used)
{
    struct bulk_file *f = &j->bulk[kind];
    pthread_mutex_lock(&j->lock);
    if (offset + bytes == f->end && used <= bytes)
        f->end = offset + used;
    pthread_mutex_unlock(&j->lock);
}

enum mb_status mb_bulk_write(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t offset, const void *data, uint64_t n)
{
    const struct bulk_file *f = &j->bulk[kind];
    if (f->fd < 0)
        return mb_error(MB_BUG, "%s: written before a range was reserved", f->path);
    return mb_pwrite_all(f->fd, data, n, offset, f->path);
}
