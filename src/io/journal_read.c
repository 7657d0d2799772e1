#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/wire.h"
#include "io/journal_format.h"

#define WINDOW (1u << 20)

struct mb_journal_reader {
    int fd;
    char *path;
    uint64_t size;    /* of the file when it was opened */
    uint64_t at;      /* place of the next frame */
    uint8_t *buf;     /* file bytes [buf_at, buf_at + buf_n) */
    uint64_t buf_at;
    size_t buf_n, cap;
    bool ended;
    enum mb_journal_end end;
};

enum mb_status mb_bulk_hash(int fd, const char *path, uint64_t offset, uint64_t n, enum mb_status st_bad, uint64_t *out)
{
    struct mb_hasher *h = mb_hasher_create();
    uint8_t *piece = malloc(WINDOW);
    enum mb_status st = MB_OK;
    if (h == NULL || piece == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory to check %s", path);
    while (st == MB_OK && n > 0) {
        size_t m = n < WINDOW ? (size_t)n : WINDOW;
        st = mb_pread_all(fd, piece, m, offset, path, st_bad);
        if (st == MB_OK)
            mb_hasher_put(h, piece, m);
        offset += m;
        n -= m;
    }
    if (st == MB_OK)
        *out = mb_hasher_64(h);
    mb_hasher_destroy(h);
    free(piece);
    return st;
}

enum mb_status mb_journal_open(const char *path, struct mb_journal_reader **out)
{
    struct stat sb;
    struct mb_journal_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to read %s", path);
    r->path = strdup(path);
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    enum mb_status st = MB_OK;
    if (r->fd < 0 || fstat(r->fd, &sb) != 0)
        st = mb_error(MB_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(sb.st_mode))
        st = mb_error(MB_IO, "%s: not a regular file", path);
    if (st == MB_OK) {
        r->size = (uint64_t)sb.st_size;
        r->cap = r->size < WINDOW ? (size_t)r->size + 1 : WINDOW;
        r->buf = malloc(r->cap);
        if (r->path == NULL || r->buf == NULL)
            st = mb_error(MB_NO_MEMORY, "no memory to read %s", path);
    }
    if (st != MB_OK) {
        mb_journal_close(r);
        return st;
    }
    *out = r;
    return MB_OK;
}

void mb_journal_close(struct mb_journal_reader *r)
{
    if (r == NULL)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r->path);
    free(r->buf);
    free(r);
}

/* Makes file bytes [at, at + n) lie in the buffer; the caller has checked that the file has them. */
static enum mb_status window(struct mb_journal_reader *r, uint64_t at, size_t n)
{
    if (at >= r->buf_at && at + n <= r->buf_at + r->buf_n)
        return MB_OK;
    if (n > r->cap) {
        uint8_t *p = realloc(r->buf, n);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for a frame of %zu bytes", r->path, n);
        r->buf = p;
        r->cap = n;
    }
    size_t want = r->size - at < r->cap ? (size_t)(r->size - at) : r->cap;
    r->buf_n = 0;
    MB_TRY(mb_pread_all(r->fd, r->buf, want, at, r->path, MB_IO));
    r->buf_at = at;
    r->buf_n = want;
    return MB_OK;
}

/* Whether a whole, undamaged frame begins at `at`; its payload length in *len. */
static enum mb_status frame_at(struct mb_journal_reader *r, uint64_t at, bool *valid, uint32_t *len)
{
    *valid = false;
    if (at > r->size || r->size - at < MB_FRAME_HEAD + 8)
        return MB_OK;
    MB_TRY(window(r, at, MB_FRAME_HEAD));
    struct mb_wire w = mb_wire_of(r->buf + (at - r->buf_at), MB_FRAME_HEAD);
    uint32_t marker = mb_wire_u32(&w), n = mb_wire_u32(&w);
    uint64_t hash = mb_wire_u64(&w);
    if (marker != MB_FRAME_MARKER || n < 8 || n > MB_FRAME_MAX || n > r->size - at - MB_FRAME_HEAD)
        return MB_OK;
    MB_TRY(window(r, at, MB_FRAME_HEAD + (size_t)n));
    const uint8_t *payload = r->buf + (at - r->buf_at) + MB_FRAME_HEAD;
    *valid = mb_hash64(payload, n) == hash && payload[0] >= MB_JOURNAL_HEAD && payload[0] <= MB_JOURNAL_ERROR;
    *len = n;
    return MB_OK;
}

/* Looks for a valid frame behind the damage at `at`. */
static enum mb_status find_behind(struct mb_journal_reader *r, uint64_t at, bool *found)
{
    uint32_t marker = MB_FRAME_MARKER, len;
    *found = false;
    for (uint64_t pos = at + 1; r->size > MB_FRAME_HEAD && pos < r->size - MB_FRAME_HEAD;) {
        size_t n = r->size - pos < WINDOW ? (size_t)(r->size - pos) : WINDOW;
        MB_TRY(window(r, pos, n));
        const uint8_t *base = r->buf + (pos - r->buf_at);
        const uint8_t *hit = memmem(base, n, &marker, sizeof marker);
        if (hit == NULL) {
            pos += n < WINDOW ? n : n - 3;
            continue;
        }
        pos += (uint64_t)(hit - base);
        MB_TRY(frame_at(r, pos, found, &len));
        if (*found)
            return MB_OK;
        pos++;
    }
    return MB_OK;
}

static enum mb_status finish(struct mb_journal_reader *r)
{
    bool found = false;
    r->ended = true;
    r->end = MB_JOURNAL_WHOLE;
    if (r->at == r->size)
        return MB_OK;
    r->end = MB_JOURNAL_TORN;
    MB_TRY(find_behind(r, r->at, &found));
    if (found) {
        r->end = MB_JOURNAL_CORRUPT;
        mb_warn("%s is damaged at byte %llu of %llu, with valid records behind it: the records before are used, what "
                "was behind is computed again", r->path, (unsigned long long)r->at, (unsigned long long)r->size);
    }
    return MB_OK;
}

enum mb_status mb_journal_next(struct mb_journal_reader *r, struct mb_frame *f, bool *got)
{
    uint32_t len = 0;
    *got = false;
    if (r->ended)
        return MB_OK;
    bool valid = false;
    MB_TRY(frame_at(r, r->at, &valid, &len));
    if (!valid)
        return finish(r);
    const uint8_t *payload = r->buf + (r->at - r->buf_at) + MB_FRAME_HEAD;
    *f = (struct mb_frame){(enum mb_journal_kind)payload[0], r->at + MB_FRAME_HEAD, len, payload};
    r->at += MB_FRAME_HEAD + (uint64_t)len;
    *got = true;
    return MB_OK;
}

enum mb_journal_end mb_journal_end(const struct mb_journal_reader *r)
{
    return r->end;
}

enum mb_status mb_journal_head(const struct mb_frame *f, const char *path, struct mb_identity *out)
{
    json_t *v = NULL;
    int64_t version = -1;
    if (f->kind != MB_JOURNAL_HEAD)
        return mb_error(MB_CORRUPT, "%s does not begin with the head of a journal", path);
    MB_TRY(mb_json_parse(f->payload + 8, f->len - 8, path, MB_CORRUPT, NULL, 0, &v));
    enum mb_status st = MB_OK;
    if (json_is_object(v))
        st = mb_json_int(v, "version", 0, INT32_MAX, path, &version, NULL);
    if (st == MB_OK && version != MB_JOURNAL_VERSION)
        st = mb_error(MB_INPUT, "%s: journal of version %lld, this program reads version %d", path, (long long)version,
                      MB_JOURNAL_VERSION);
    if (st == MB_OK)
        st = mb_identity_parse(json_object_get(v, "identity"), path, out);
    json_decref(v);
    return st;
}

bool mb_done_parse(const uint8_t *payload, size_t n, struct mb_done *out)
{
    struct mb_wire w = mb_wire_of(payload, n);
    struct mb_done d = {0};
    uint8_t head[8];

    mb_wire_get(&w, head, sizeof head);
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if (head[1] >> i & 1)
            d.bulk_hash[i] = mb_wire_u64(&w);
        if (head[1] >> i & 1)
            d.bulk_bytes[i] = mb_wire_u64(&w);
    }
    if (w.bad || !mb_record_peek(w.p, w.n, &d.head))
        return false;
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if ((d.head.bulk_rows[i] > 0) != (head[1] >> i & 1) ||
            (d.head.bulk_rows[i] > 0 && d.bulk_bytes[i] % (uint64_t)d.head.bulk_rows[i] != 0))
            return false;
    }
    d.record = w.p;
    d.n = w.n;
    d.record_at = (uint32_t)(w.p - payload);
    *out = d;
    return true;
}
