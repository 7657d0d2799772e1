#include "model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "device/ops.h"
#include "model/foreign.h"

/* Every type the format knows; only those with a storage can be a weight. */
static const struct {
    const char *name;
    uint8_t bits;
    int8_t storage;
} dtypes[] = {
    {"F32", 32, MB_STORE_F32},
    {"F16", 16, MB_STORE_F16},
    {"BF16", 16, MB_STORE_BF16},
    {"F8_E4M3", 8, MB_STORE_F8E4M3},
    {"F8_E5M2", 8, MB_STORE_F8E5M2},
    {"F8_E8M0", 8, -1},
    {"F6_E2M3", 6, -1},
    {"F6_E3M2", 6, -1},
    {"F4", 4, -1},
    {"BOOL", 8, -1},
    {"U8", 8, -1},
    {"I8", 8, -1},
    {"U16", 16, -1},
    {"I16", 16, -1},
    {"U32", 32, -1},
    {"I32", 32, -1},
    {"U64", 64, -1},
    {"I64", 64, -1},
    {"F64", 64, -1},
    {"C64", 64, -1},
};
#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

const char *mb_st_dtype_name(uint8_t dtype)
{
    return dtype < N_DTYPES ? dtypes[dtype].name : "?";
}

int mb_st_storage(uint8_t dtype)
{
    return dtype < N_DTYPES ? dtypes[dtype].storage : -1;
}

const char *mb_st_name(const struct mb_shards *s, const struct mb_st_entry *e)
{
    return (const char *)s->names.data + e->name;
}

void mb_st_shape_text(const int64_t *shape, int rank, char *out, size_t cap)
{
    size_t at = (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < rank && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
    if (at < cap)
        snprintf(out + at, cap - at, "]");
}

static enum mb_status raw_header_fd(int fd, const char *path, struct mb_bytes *out, uint64_t *size)
{
    struct stat sb;
    uint8_t head[MB_FOREIGN_HEAD] = {0}, *word = head;
    uint64_t n = 0;

    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode))
        return mb_error(MB_MODEL, "%s: expected a regular file, found something else", path);
    if (sb.st_size < 8)
        return mb_error(MB_MODEL, "%s: size: expected at least 8 bytes, found %lld", path, (long long)sb.st_size);
    size_t len = sb.st_size < MB_FOREIGN_HEAD ? (size_t)sb.st_size : MB_FOREIGN_HEAD;
    MB_TRY(mb_pread_all(fd, head, len, 0, path, MB_MODEL));
    const char *kind = mb_foreign_kind(head, len);
    if (kind != NULL)
        return mb_error(MB_MODEL, "%s: expected a safetensors file, found %s", path, kind);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | word[i];
    if (n < 2 || n > MB_ST_MAX_HEADER)
        return mb_error(MB_MODEL, "%s: header length: expected 2 to %u bytes, found %llu", path, MB_ST_MAX_HEADER,
                        (unsigned long long)n);
    if (n > (uint64_t)sb.st_size - 8)
        return mb_error(MB_MODEL, "%s: header length: expected at most the %lld bytes of the file after it, found %llu",
                        path, (long long)sb.st_size - 8, (unsigned long long)n);
    MB_TRY(mb_bytes_put(out, word, 8));
    MB_TRY(mb_bytes_reserve(out, n));
    MB_TRY(mb_pread_all(fd, out->data + out->len, n, 8, path, MB_MODEL));
    out->len += n;
    *size = (uint64_t)sb.st_size;
    return MB_OK;
}

enum mb_status mb_st_raw_header(const char *path, struct mb_bytes *out, uint64_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mb_error(MB_MODEL, "%s: expected a safetensors file, found: %s", path, strerror(errno));
    enum mb_status st = raw_header_fd(fd, path, out, size);
    close(fd);
    return st;
}

/* ---------------------------------------------------------------- one tensor of a header */
static enum mb_status parse_shape(const json_t *v, const char *path, const char *name, struct mb_st_entry *e)
{
    if (!json_is_array(v))
        return mb_error(MB_MODEL, "%s: %s: shape: expected a list, found %s", path, name, mb_json_type(v));
    if (json_array_size(v) > MB_ST_MAX_RANK)
        return mb_error(MB_MODEL, "%s: %s: shape: expected at most %d dimensions, found %zu", path, name, MB_ST_MAX_RANK,
                        json_array_size(v));
    e->rank = (uint8_t)json_array_size(v);
    for (size_t i = 0; i < e->rank; i++) {
        const json_t *d = json_array_get(v, i);
        if (!json_is_integer(d))
            return mb_error(MB_MODEL, "%s: %s: shape: expected integers, found %s", path, name, mb_json_type(d));
        e->shape[i] = json_integer_value(d);
        if (e->shape[i] < 0)
            return mb_error(MB_MODEL, "%s: %s: shape: expected sizes of 0 or more, found %lld", path, name,
                            (long long)e->shape[i]);
    }
    return MB_OK;
}

static enum mb_status parse_dtype(const json_t *v, const char *path, const char *name, struct mb_st_entry *e)
{
    if (!json_is_string(v))
        return mb_error(MB_MODEL, "%s: %s: dtype: expected a string, found %s", path, name, mb_json_type(v));
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (strcmp(dtypes[i].name, json_string_value(v)) == 0) {
            e->dtype = (uint8_t)i;
            return MB_OK;
        }
    }
    return mb_error(MB_MODEL, "%s: %s: dtype: expected a safetensors type such as F32 or BF16, found \"%.40s\"", path, name,
                    json_string_value(v));
}

static enum mb_status parse_offsets(const json_t *v, const char *path, const char *name, uint64_t data, struct mb_st_entry *e)
{
    if (!json_is_array(v) || json_array_size(v) != 2 || !json_is_integer(json_array_get(v, 0)) ||
        !json_is_integer(json_array_get(v, 1)))
        return mb_error(MB_MODEL, "%s: %s: data_offsets: expected a list of two integers, found %s", path, name,
                        json_is_array(v) ? "another list" : mb_json_type(v));
    int64_t b = json_integer_value(json_array_get(v, 0)), end = json_integer_value(json_array_get(v, 1));
    if (b < 0 || end < b || (uint64_t)end > data)
        return mb_error(MB_MODEL, "%s: %s: data_offsets: expected begin <= end <= the file's %llu data bytes, found [%lld, %lld]",
                        path, name, (unsigned long long)data, (long long)b, (long long)end);
    e->offset = (uint64_t)b;
    e->bytes = (uint64_t)(end - b);
    return MB_OK;
}

static enum mb_status check_size(const char *path, const char *name, const struct mb_st_entry *e)
{
    uint64_t bits = dtypes[e->dtype].bits;
    char shape[256];
    bool ok = true;

    mb_st_shape_text(e->shape, e->rank, shape, sizeof shape);
    for (int i = 0; i < e->rank; i++)
        ok = ok && mb_mul_ok(bits, (uint64_t)e->shape[i], &bits);
    if (!ok)
        return mb_error(MB_MODEL, "%s: %s: shape: expected a size that fits 64 bits, found %s", path, name, shape);
    if (bits % 8 != 0 || bits / 8 != e->bytes)
        return mb_error(MB_MODEL, "%s: %s: data_offsets: expected %llu bytes for %s of %s, found %llu", path, name,
                        (unsigned long long)(bits / 8), shape, dtypes[e->dtype].name, (unsigned long long)e->bytes);
    return MB_OK;
}

static enum mb_status push_entry(struct mb_shards *s, const char *path, const char *name, struct mb_st_entry *e)
{
    size_t len = strlen(name);

    if (len == 0 || len > MB_ST_MAX_NAME)
        return mb_error(MB_MODEL, "%s: tensor name: expected 1 to %d bytes, found %zu (%.40s...)", path, MB_ST_MAX_NAME, len,
                        name);
    if (s->n_entries == s->cap) {
        int64_t cap = s->cap == 0 ? 256 : s->cap * 2;
        void *p = realloc(s->entries, (size_t)cap * sizeof *s->entries);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for %lld tensor entries", path, (long long)cap);
        s->entries = p;
        s->cap = cap;
    }
    e->name = s->names.len;
    MB_TRY(mb_bytes_put(&s->names, name, len + 1));
    s->entries[s->n_entries++] = *e;
    return MB_OK;
}

static enum mb_status parse_tensor(struct mb_shards *s, uint32_t file, const char *path, const char *name, const json_t *v,
                                   uint64_t data)
{
    struct mb_st_entry e = {.file = file};

    if (!json_is_object(v))
        return mb_error(MB_MODEL, "%s: %.200s: expected an object, found %s", path, name, mb_json_type(v));
    MB_TRY(parse_dtype(json_object_get(v, "dtype"), path, name, &e));
    MB_TRY(parse_shape(json_object_get(v, "shape"), path, name, &e));
    MB_TRY(parse_offsets(json_object_get(v, "data_offsets"), path, name, data, &e));
    MB_TRY(check_size(path, name, &e));
    return push_entry(s, path, name, &e);
}

static enum mb_status check_metadata(const char *path, const json_t *v)
{
    const char *key;
    json_t *item;

    if (!json_is_object(v))
        return mb_error(MB_MODEL, "%s: __metadata__: expected an object, found %s", path, mb_json_type(v));
    json_object_foreach((json_t *)v, key, item) {
        if (!json_is_string(item))
            return mb_error(MB_MODEL, "%s: __metadata__: %.200s: expected a string, found %s", path, key, mb_json_type(item));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- the data is one gapless row */
static int by_place(const void *a, const void *b, void *entries)
{
    const struct mb_st_entry *x = (struct mb_st_entry *)entries + *(const uint32_t *)a;
    const struct mb_st_entry *y = (struct mb_st_entry *)entries + *(const uint32_t *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* entries[first..) have offsets from the start of the data; checks them and makes them offsets in the file. */
static enum mb_status check_cover(struct mb_shards *s, int64_t first, const char *path, uint64_t data, uint64_t start)
{
    uint32_t n = (uint32_t)(s->n_entries - first);
    struct mb_st_entry *own = n > 0 ? s->entries + first : NULL; /* a header may be empty, and the first one at that */
    uint32_t *order = malloc(((size_t)n + 1) * sizeof *order);
    uint64_t at = 0;
    enum mb_status st = MB_OK;

    if (order == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for %u tensor entries", path, n);
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, n, sizeof *order, by_place, own);
    for (uint32_t i = 0; i < n && st == MB_OK; i++) {
        struct mb_st_entry *e = own + order[i];
        if (e->offset != at)
            st = mb_error(MB_MODEL, "%s: %s: data_offsets: expected to begin at %llu (no holes, no overlaps), found %llu", path,
                          mb_st_name(s, e), (unsigned long long)at, (unsigned long long)e->offset);
        at = e->offset + e->bytes;
        e->offset += start;
    }
    if (st == MB_OK && at != data)
        st = mb_error(MB_MODEL, "%s: size: expected %llu data bytes from its header, found %llu", path, (unsigned long long)at,
                      (unsigned long long)data);
    free(order);
    return st;
}

static enum mb_status parse_header(struct mb_shards *s, uint32_t file, const char *path, const struct mb_bytes *raw,
                                   uint64_t size)
{
    int64_t first = s->n_entries;
    uint64_t data = size - raw->len;
    json_t *root, *v;
    const char *name;

    if (raw->data[8] != '{')
        return mb_error(MB_MODEL, "%s: header: expected {, found byte 0x%02x", path, raw->data[8]);
    MB_TRY(mb_json_parse(raw->data + 8, raw->len - 8, path, MB_MODEL, NULL, 0, &root));
    enum mb_status st = MB_OK;
    if (json_object_size(root) > (size_t)(MB_ST_MAX_TENSORS - s->n_entries))
        st = mb_error(MB_MODEL, "%s: header: expected at most %d tensors, found %zu more after %lld", path, MB_ST_MAX_TENSORS,
                      json_object_size(root), (long long)s->n_entries);
    if (st == MB_OK) {
        json_object_foreach(root, name, v) {
            if (strcmp(name, "__metadata__") == 0)
                st = check_metadata(path, v);
            else
                st = parse_tensor(s, file, path, name, v, data);
            if (st != MB_OK)
                break;
        }
    }
    json_decref(root);
    return st == MB_OK ? check_cover(s, first, path, data, raw->len) : st;
}

enum mb_status mb_st_read_header(struct mb_shards *s, uint32_t file)
{
    struct mb_bytes raw = {0};
    uint64_t size = 0;
    char *path = mb_path_join(s->dir, s->files[file]);

    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = mb_st_raw_header(path, &raw, &size);
    if (st == MB_OK)
        st = parse_header(s, file, path, &raw, size);
    if (st == MB_OK)
        s->file_bytes[file] = size;
    mb_bytes_fini(&raw);
    free(path);
    return st;
}
