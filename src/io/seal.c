#include "io/seal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/log.h"
#include "base/mem.h"
#include "io/digest.h"
#include "io/h5.h"

#define PIECE ((uint64_t)4 << 20)
#define MOST_PACKED 1100 /* deflate makes nothing smaller than to 1/1032 */

static const char *const of_set = "xxh3", *const of_file = "contents";
static const char *const of_rows[] = {"digest", "digest_tokens"};

/* ---------------------------------------------------------------- one dataset */
static enum mb_status hash_attr(void *arg, const char *name, const char *value)
{
    struct mb_hasher *h = arg;
    if (strcmp(name, of_set) == 0 || strcmp(name, of_file) == 0 || strcmp(name, of_rows[0]) == 0 ||
        strcmp(name, of_rows[1]) == 0)
        return MB_OK;
    mb_hasher_field(h, name, strlen(name));
    mb_hasher_field(h, value, strlen(value));
    return MB_OK;
}

static void put_values(const struct mb_h5_set *s, const void *data, uint64_t n, struct mb_hasher *h)
{
    const char *const *text = data;
    if (s->type != MB_H5_TEXT)
        mb_hasher_put(h, data, (size_t)(n * mb_h5_size(s->type)));
    for (uint64_t i = 0; s->type == MB_H5_TEXT && i < n; i++)
        mb_hasher_field(h, text[i] == NULL ? "" : text[i], text[i] == NULL ? 0 : strlen(text[i]));
}

/* The box [start, start + count) into buf and the hash. */
static enum mb_status hash_box(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, void *buf,
                               struct mb_hasher *h)
{
    uint64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= count[i];
    MB_TRY(mb_h5_read(s, start, count, buf));
    put_values(s, buf, n, h);
    if (s->type == MB_H5_TEXT)
        mb_h5_free_text(buf, n);
    return MB_OK;
}

/* The first axis of which one step is at most a piece, *step bytes long. */
static int axis_of(const struct mb_h5_set *s, uint64_t *step)
{
    int axis = s->rank == 0 ? 0 : s->rank - 1;
    for (*step = mb_h5_size(s->type); axis > 0 && *step <= PIECE / s->dims[axis]; axis--)
        *step *= s->dims[axis];
    return axis;
}

/* A column of strings: as many at a time as a piece holds of their bytes. */
static enum mb_status hash_texts(struct mb_h5_set *s, struct mb_hasher *h)
{
    enum { MANY = 4096 };
    char **v = calloc(MANY, sizeof *v);
    enum mb_status st = v == NULL ? mb_error(MB_NO_MEMORY, "no memory to read %s", s->path) : MB_OK;
    for (uint64_t from = 0, n; from < s->dims[0] && st == MB_OK; from += n) {
        n = s->dims[0] - from < MANY ? s->dims[0] - from : MANY;
        st = mb_h5_read_texts(s, from, PIECE, &n, v);
        if (st == MB_OK) {
            put_values(s, v, n, h);
            mb_h5_free_text(v, n);
        }
    }
    free(v);
    return st;
}

/* All values in row-major order, a piece at a time. */
static enum mb_status hash_values(struct mb_h5_set *s, struct mb_hasher *h)
{
    if (s->type == MB_H5_TEXT && s->rank == 1)
        return hash_texts(s, h);
    uint64_t start[MB_H5_MAX_RANK] = {0}, count[MB_H5_MAX_RANK], step = 1;
    int axis = axis_of(s, &step);
    uint64_t most = step < PIECE ? PIECE / step : 1;
    void *buf = mb_alloc(NULL, MB_MEM_STAGING, (size_t)most, (size_t)step);
    enum mb_status st = buf == NULL ? mb_error(MB_NO_MEMORY, "no memory to read %s", s->path) : MB_OK;
    for (int i = 0; i < s->rank; i++)
        count[i] = i < axis ? 1 : s->dims[i];
    if (s->rank == 0 && st == MB_OK)
        st = hash_box(s, start, count, buf, h);
    while (s->rank > 0 && st == MB_OK && start[0] < s->dims[0]) {
        uint64_t left = s->dims[axis] - start[axis];
        count[axis] = left < most ? left : most;
        st = hash_box(s, start, count, buf, h);
        start[axis] += count[axis];
        for (int i = axis; i > 0 && start[i] == s->dims[i]; i--) {
            start[i] = 0;
            start[i - 1]++;
        }
    }
    mb_free(buf);
    return st;
}

/* Whether the file is large enough for what the dataset claims to hold, so that a small one cannot cost
 * hours. */
static enum mb_status check_size(const struct mb_h5_set *s, uint64_t file_bytes, bool *empty)
{
    uint64_t bytes = mb_h5_size(s->type);
    *empty = false;
    for (int i = 0; i < s->rank; i++)
        *empty = *empty || s->dims[i] == 0;
    for (int i = 0; i < s->rank && !*empty; i++) {
        if (!mb_mul_ok(bytes, s->dims[i], &bytes) || bytes / MOST_PACKED > file_bytes)
            return mb_error(MB_INPUT, "%s claims to hold more than the file can", s->path);
    }
    return MB_OK;
}

struct seal {
    struct mb_h5 *h;
    uint64_t file_bytes;
    struct mb_hasher *set, *file;
    bool write;
    enum mb_status worst; /* when checking: goes on behind a dataset that is not whole */
};

static enum mb_status hash_set(struct seal *x, struct mb_h5_set *s, char hex[33])
{
    uint32_t what[2] = {(uint32_t)s->type, (uint32_t)s->rank};
    bool empty = false;
    mb_hasher_reset(x->set);
    mb_hasher_field(x->set, s->path, strlen(s->path));
    mb_hasher_field(x->set, what, sizeof what);
    mb_hasher_field(x->set, s->dims, (size_t)s->rank * sizeof *s->dims);
    MB_TRY(mb_h5_attrs(x->h, s->path, hash_attr, x->set));
    if (strncmp(s->path, MB_H5_AXES, strlen(MB_H5_AXES)) != 0) { /* those have a length and no values */
        MB_TRY(check_size(s, x->file_bytes, &empty));
        if (!empty)
            MB_TRY(hash_values(s, x->set));
    }
    mb_hash128_hex(mb_hasher_128(x->set), hex);
    return MB_OK;
}

/* A dataset's own checksum is written or compared. */
static enum mb_status compare(struct seal *x, const struct mb_h5_set *s, const char *hex)
{
    char *have = NULL;
    if (x->write)
        return mb_h5_attr_text(x->h, s->path, of_set, hex);
    if (!mb_h5_has_attr(x->h, s->path, of_set))
        return mb_error(MB_INPUT, "%s has no checksum (attribute \"%s\"): it was not written by moebatch",
                        s->path, of_set);
    MB_TRY(mb_h5_get_text(x->h, s->path, of_set, &have));
    enum mb_status st = strcmp(have, hex) == 0
                            ? MB_OK
                            : mb_error(MB_INPUT, "%s is not what was written: its checksum differs", s->path);
    free(have);
    return st;
}

static enum mb_status one_set(void *arg, struct mb_h5_set *s)
{
    struct seal *x = arg;
    char hex[33] = "";
    enum mb_status st = hash_set(x, s, hex);
    if (st == MB_OK)
        st = compare(x, s, hex);
    mb_hasher_field(x->file, s->path, strlen(s->path));
    mb_hasher_field(x->file, hex, strlen(hex));
    if (x->write || st == MB_NO_MEMORY)
        return st;
    x->worst = st != MB_OK ? st : x->worst;
    return MB_OK;
}

/* ---------------------------------------------------------------- the file */
static enum mb_status compare_file(struct seal *x, const char *name, struct mb_hash128 hash, const char *what)
{
    char hex[33], *have = NULL;
    mb_hash128_hex(hash, hex);
    if (x->write)
        return mb_h5_attr_text(x->h, "/", name, hex);
    if (!mb_h5_has_attr(x->h, "/", name))
        return mb_error(MB_INPUT,
                        "the file has no attribute \"%s\" to compare with: it was not finished, or written "
                        "by an older version",
                        name);
    MB_TRY(mb_h5_get_text(x->h, "/", name, &have));
    enum mb_status st = strcmp(have, hex) == 0
                            ? MB_OK
                            : mb_error(MB_INPUT, "%s: \"%s\" is %s, computed is %s", what, name, have, hex);
    free(have);
    return st;
}

static enum mb_status contents(struct seal *x)
{
    MB_TRY(mb_h5_attrs(x->h, "/", hash_attr, x->file));
    MB_TRY(mb_h5_walk(x->h, one_set, x));
    enum mb_status st = compare_file(x, of_file, mb_hasher_128(x->file),
                                     "datasets or attributes of the file are not what was written");
    return x->worst != MB_OK ? x->worst : st;
}

static enum mb_status digests_of(const char *path, struct mb_digest *out)
{
    struct mb_results *r = NULL;
    MB_TRY(mb_results_open(path, &r));
    enum mb_status st = mb_digest_file(r, false, NULL, out);
    mb_results_close(r);
    return st;
}

static enum mb_status seal(const char *path, bool write, struct mb_digest *d)
{
    struct seal x = {.write = write, .set = mb_hasher_create(), .file = mb_hasher_create()};
    struct stat file;
    enum mb_status st =
        x.set == NULL || x.file == NULL ? mb_error(MB_NO_MEMORY, "no memory to hash %s", path) : MB_OK;
    if (st == MB_OK)
        st = mb_h5_open(path, write, &x.h);
    x.file_bytes = st == MB_OK && stat(path, &file) == 0 ? (uint64_t)file.st_size : 0;
    if (st == MB_OK)
        st = contents(&x);
    if (st == MB_OK)
        st = compare_file(&x, of_rows[0], d->file, "rows are not what was written");
    if (st == MB_OK)
        st = compare_file(&x, of_rows[1], d->tokens, "rows are not what was written");
    enum mb_status closed = mb_h5_close(x.h);
    mb_hasher_destroy(x.set);
    mb_hasher_destroy(x.file);
    return st != MB_OK ? st : closed;
}

enum mb_status mb_seal_write(const char *path)
{
    struct mb_digest d;
    MB_TRY(digests_of(path, &d));
    return seal(path, true, &d);
}

enum mb_status mb_seal_check(const char *path, struct mb_hash128 *digest, struct mb_hash128 *tokens)
{
    struct mb_digest d = {.rows = 0};
    enum mb_status rows = digests_of(path, &d), st = rows == MB_NO_MEMORY ? rows : seal(path, false, &d);
    if (rows != MB_OK || st != MB_OK)
        return rows != MB_OK ? rows : st;
    *digest = d.file;
    *tokens = d.tokens;
    return MB_OK;
}

enum mb_status mb_seal_stored(const char *path, const char *name, char out[33])
{
    struct mb_h5 *h = NULL;
    char *have = NULL;
    MB_TRY(mb_h5_open(path, false, &h));
    enum mb_status st = mb_h5_has_attr(h, "/", name) ? mb_h5_get_text(h, "/", name, &have) : MB_OK;
    (void)mb_h5_close(h); /* only read */
    if (st == MB_OK)
        snprintf(out, 33, "%s", have == NULL ? "" : have);
    free(have);
    return st;
}
