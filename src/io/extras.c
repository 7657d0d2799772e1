#include "io/extras.h"

#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/publish.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/wire.h"
#include "io/schema.h"

#define MAGIC 0x3158454du /* "MEX1" */

static void extra_fini(struct mb_extra *e)
{
    free(e->path);
    free(e->data);
    memset(e, 0, sizeof *e);
}

void mb_extras_fini(struct mb_extras *x)
{
    for (int32_t i = 0; i < x->n; i++)
        extra_fini(&x->v[i]);
    free(x->v);
    *x = (struct mb_extras){0};
}

static struct mb_extra *slot_of(struct mb_extras *x, const char *path)
{
    for (int32_t i = 0; i < x->n; i++) {
        if (strcmp(x->v[i].path, path) == 0) {
            extra_fini(&x->v[i]);
            return &x->v[i];
        }
    }
    if (x->n == x->cap) {
        int32_t cap = x->cap ? 2 * x->cap : 32;
        struct mb_extra *p = realloc(x->v, (size_t)cap * sizeof *p);
        if (p == NULL)
            return NULL;
        x->v = p;
        x->cap = cap;
    }
    memset(&x->v[x->n], 0, sizeof *x->v);
    return &x->v[x->n++];
}

static enum mb_status put(struct mb_extras *x, const struct mb_extra *from)
{
    char *path = strdup(from->path);
    uint8_t *data = malloc(from->bytes + 1);
    struct mb_extra *e = path == NULL || data == NULL ? NULL : slot_of(x, path);
    if (e == NULL) {
        free(path);
        free(data);
        return mb_error(MB_NO_MEMORY, "no memory for %s", from->path);
    }
    if (from->bytes > 0)
        memcpy(data, from->data, from->bytes);
    data[from->bytes] = 0;
    *e = *from;
    e->path = path;
    e->data = data;
    return MB_OK;
}

static bool count_of(int rank, const uint64_t *dims, uint64_t *n)
{
    *n = 1;
    for (int i = 0; i < rank; i++) {
        if (!mb_mul_ok(*n, dims[i], n))
            return false;
    }
    return true;
}

/* The row of the table that has the path, with this type if it is text. */
static enum mb_status dataset_of(const char *path, bool text, int rank, const struct mb_dataset **out)
{
    const struct mb_dataset *d = mb_dataset_find(path);
    if (d == NULL || (d->type == MB_H5_TEXT) != text || (text && d->rank != rank))
        return mb_error(MB_BUG, "%s is no dataset of this type in the table of the results", path);
    *out = d;
    return MB_OK;
}

enum mb_status mb_extras_put(struct mb_extras *x, const char *path, const uint64_t *dims, const void *data)
{
    const struct mb_dataset *d = NULL;
    MB_TRY(dataset_of(path, false, 0, &d));
    struct mb_extra e = {.path = (char *)path, .type = d->type, .rank = d->rank, .data = (uint8_t *)data};
    if (!count_of(d->rank, dims, &e.bytes) || !mb_mul_ok(e.bytes, mb_h5_size(d->type), &e.bytes))
        return mb_error(MB_BUG, "%s: not a shape that can be stored", path);
    for (int i = 0; i < d->rank; i++)
        e.dims[i] = dims[i];
    return put(x, &e);
}

enum mb_status mb_extras_texts(struct mb_extras *x, const char *path, uint64_t n, const char *const *values)
{
    const struct mb_dataset *d = NULL;
    struct mb_bytes all = {0};
    enum mb_status st = dataset_of(path, true, 1, &d);
    for (uint64_t i = 0; i < n && st == MB_OK; i++)
        st = mb_bytes_put(&all, values[i], strlen(values[i]) + 1);
    struct mb_extra e = {
        .path = (char *)path, .type = MB_H5_TEXT, .rank = 1, .dims = {n}, .data = all.data, .bytes = all.len};
    if (st == MB_OK)
        st = put(x, &e);
    mb_bytes_fini(&all);
    return st;
}

enum mb_status mb_extras_text(struct mb_extras *x, const char *path, const char *value)
{
    const struct mb_dataset *d = NULL;
    if (value == NULL)
        return MB_OK;
    MB_TRY(dataset_of(path, true, 0, &d));
    struct mb_extra e = {
        .path = (char *)path, .type = MB_H5_TEXT, .data = (uint8_t *)value, .bytes = strlen(value) + 1};
    return put(x, &e);
}

enum mb_status mb_extras_merge(struct mb_extras *x, const struct mb_extras *more)
{
    for (int32_t i = 0; i < more->n; i++)
        MB_TRY(put(x, &more->v[i]));
    return MB_OK;
}

/* ---------------------------------------------------------------- file */
static void put_string(struct mb_wire_out *o, const char *s)
{
    uint32_t n = s == NULL ? UINT32_MAX : (uint32_t)strlen(s);
    mb_wire_put_u32(o, n);
    if (s != NULL)
        mb_wire_put(o, s, (size_t)n + 1);
}

enum mb_status mb_extras_save(const struct mb_extras *x, const char *path, unsigned flags)
{
    struct mb_bytes b = {0};
    struct mb_wire_out o = {&b, MB_OK};
    mb_wire_put_u64(&o, 0);
    mb_wire_put_u32(&o, MAGIC);
    mb_wire_put_i32(&o, x->n);
    for (int32_t i = 0; i < x->n; i++) {
        const struct mb_extra *e = &x->v[i];
        put_string(&o, e->path);
        put_string(&o, NULL); /* a unit, in files of old versions */
        mb_wire_put_u32(&o, (uint32_t)e->type);
        mb_wire_put_i32(&o, e->rank);
        mb_wire_put(&o, e->dims, sizeof e->dims);
        mb_wire_put_u64(&o, e->bytes);
        mb_wire_put(&o, e->data, e->bytes);
    }
    if (o.st == MB_OK) {
        uint64_t hash = mb_hash64(b.data + 8, b.len - 8);
        memcpy(b.data, &hash, sizeof hash);
        o.st = mb_publish_bytes(path, b.data, b.len, flags);
    }
    mb_bytes_fini(&b);
    return o.st;
}

static const char *get_string(struct mb_wire *w)
{
    uint32_t n = mb_wire_u32(w);
    if (n == UINT32_MAX)
        return NULL;
    const char *s = (const char *)mb_wire_skip(w, (size_t)n + 1);
    if (s != NULL && strnlen(s, (size_t)n + 1) != n)
        w->bad = true;
    return s;
}

static enum mb_status get_one(struct mb_wire *w, struct mb_extras *x, const char *path)
{
    struct mb_extra e = {0};
    uint64_t n = 0;
    e.path = (char *)get_string(w);
    (void)get_string(w);
    e.type = (enum mb_h5_type)mb_wire_u32(w);
    e.rank = mb_wire_i32(w);
    mb_wire_get(w, e.dims, sizeof e.dims);
    e.bytes = mb_wire_u64(w);
    e.data = (uint8_t *)mb_wire_skip(w, (size_t)e.bytes);
    bool good = !w->bad && e.path != NULL && e.type < MB_H5_TYPES && e.rank >= 0 &&
                e.rank <= MB_H5_MAX_RANK && count_of(e.rank, e.dims, &n) &&
                (e.type == MB_H5_TEXT ? e.bytes >= n : n * mb_h5_size(e.type) == e.bytes);
    return good ? put(x, &e) : mb_error(MB_CORRUPT, "%s: an entry is malformed", path);
}

enum mb_status mb_extras_load(struct mb_extras *x, const char *path)
{
    struct mb_bytes b = {0};
    if (!mb_path_exists(path))
        return MB_OK;
    enum mb_status st = mb_file_read(path, (uint64_t)1 << 32, MB_IO, &b);
    struct mb_wire w = mb_wire_of(b.data, b.len);
    uint64_t hash = mb_wire_u64(&w);
    if (st == MB_OK && (w.bad || mb_hash64(w.p, w.n) != hash || mb_wire_u32(&w) != MAGIC))
        st = mb_error(MB_CORRUPT, "%s is damaged", path);
    int32_t n = mb_wire_i32(&w);
    for (int32_t i = 0; i < n && st == MB_OK; i++)
        st = get_one(&w, x, path);
    mb_bytes_fini(&b);
    return st;
}

/* ---------------------------------------------------------------- HDF5 */
static enum mb_status write_texts(const struct mb_extra *e, struct mb_h5 *h)
{
    uint64_t n = e->rank == 0 ? 1 : e->dims[0], at = 0;
    const char **v = calloc((size_t)n + 1, sizeof *v);
    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %s", e->path);
    for (uint64_t i = 0; i < n; i++) {
        const char *s = (const char *)e->data + at;
        v[i] = at < e->bytes ? s : "";
        at += at < e->bytes ? strnlen(s, e->bytes - at) + 1 : 0;
    }
    enum mb_status st = mb_h5_put(h, e->path, MB_H5_TEXT, e->rank, e->dims, v);
    free(v);
    return st;
}

enum mb_status mb_extras_write(const struct mb_extras *x, struct mb_h5 *h)
{
    for (int32_t i = 0; i < x->n; i++) {
        const struct mb_extra *e = &x->v[i];
        if (e->type == MB_H5_TEXT)
            MB_TRY(write_texts(e, h));
        else
            MB_TRY(mb_h5_put(h, e->path, e->type, e->rank, e->dims, e->data));
    }
    return MB_OK;
}
