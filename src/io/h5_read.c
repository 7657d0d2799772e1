/* Reading: datasets that are what they say, strings within bounds, attributes. */
#include "io/h5_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

/* ---------------------------------------------------------------- datasets */
bool mb_h5_type_fits(hid_t t, enum mb_h5_type want)
{
    if (want == MB_H5_TEXT)
        return H5Tis_variable_str(t) > 0;
    if (want >= MB_H5_KIND)
        return H5Tget_size(t) == 1 && (H5Tget_class(t) == H5T_ENUM || H5Tget_class(t) == H5T_INTEGER);
    hid_t w = mb_h5_type_of(want);
    bool same = H5Tequal(t, w) > 0;
    H5Tclose(w);
    return same;
}

/* What deflate, the best packer that results are written with, makes of zeros at most, and a little more. */
#define MOST_PACKED 1100
#define LEAST_BYTES ((uint64_t)1 << 20)

/* Elements that a file claims but does not hold would read as fill values, and cost what they claim. A
 * dataset (and each of its chunks) is no larger than what is stored of it can hold. */
static bool is_stored(const struct mb_h5_set *s)
{
    hid_t p = H5Dget_create_plist((hid_t)s->id);
    H5D_layout_t layout = H5Pget_layout(p);
    hsize_t chunk[MB_H5_MAX_RANK] = {0}, file = 0;
    hid_t type = H5Dget_type((hid_t)s->id);
    uint64_t bytes = H5Tget_size(type), piece = bytes, stored = H5Dget_storage_size((hid_t)s->id), most = 0;
    bool good = layout == H5D_CONTIGUOUS || layout == H5D_COMPACT || layout == H5D_CHUNKED;
    good =
        good && H5Pget_external_count(p) == 0 && H5Fget_filesize(s->file->id, &file) >= 0 && stored <= file;
    if (good && layout == H5D_CHUNKED)
        good = H5Pget_chunk(p, s->rank, chunk) == s->rank;
    for (int i = 0; i < s->rank && good; i++) {
        good = mb_mul_ok(bytes, s->dims[i], &bytes);
        good = good && (layout != H5D_CHUNKED || mb_mul_ok(piece, chunk[i], &piece));
    }
    H5Tclose(type);
    H5Pclose(p);
    if (!good || bytes == 0)
        return good;
    if (layout != H5D_CHUNKED)
        return stored >= bytes;
    good = mb_mul_ok(stored, MOST_PACKED, &most);
    most = most > LEAST_BYTES ? most : LEAST_BYTES;
    return good && bytes <= most && piece <= most;
}

enum mb_status mb_h5_find(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank,
                          struct mb_h5_set **out)
{
    struct mb_h5_set *s = NULL;
    hsize_t dims[MB_H5_MAX_RANK] = {0};
    MB_TRY(mb_h5_set_new(h, path, type, rank, &s));
    s->id = H5Dopen2(h->id, path, H5P_DEFAULT);
    if (s->id < 0) {
        mb_h5_set_close(s);
        return mb_h5_failed(h, path, "cannot open this dataset", false);
    }
    hid_t space = H5Dget_space((hid_t)s->id), t = H5Dget_type((hid_t)s->id);
    int have = H5Sget_simple_extent_ndims(space);
    bool fits = mb_h5_type_fits(t, type), shaped = have == rank;
    if (shaped && rank > 0)
        shaped = H5Sget_simple_extent_dims(space, dims, NULL) == rank;
    H5Sclose(space);
    H5Tclose(t);
    for (int i = 0; i < rank; i++)
        s->dims[i] = dims[i];
    bool axis = strncmp(path, MB_H5_AXES, strlen(MB_H5_AXES)) == 0; /* without values: never stored */
    bool stored = fits && shaped && (axis || is_stored(s));
    if (stored) {
        *out = s;
        return MB_OK;
    }
    mb_h5_set_close(s);
    if (fits && shaped)
        return mb_error(MB_INPUT, "%s: %s says that it has more elements than the file holds: it is damaged",
                        h->path, path);
    return mb_error(MB_INPUT,
                    "%s: %s has another %s than moebatch-results/1 says (%d dimensions found, %d expected)",
                    h->path, path, fits ? "shape" : "type", have, rank);
}

/* ---------------------------------------------------------------- strings */
/* Every string of a read is one block behind a link, so that those of a read that fails are found again. */
struct string {
    struct string *before;
    char text[];
};
struct strings {
    struct string *last;
    uint64_t bytes, most;
    bool beyond; /* one would have been more than most */
    bool none;   /* there was no memory for one */
};

static void *string_new(size_t n, void *arg)
{
    struct strings *all = arg;
    uint64_t bytes = 0;
    all->beyond = all->beyond || !mb_add_ok(all->bytes, n, &bytes) || bytes > all->most;
    struct string *s = all->beyond ? NULL : malloc(sizeof *s + n);
    all->none = all->none || (s == NULL && !all->beyond);
    if (s == NULL)
        return NULL;
    s->before = all->last;
    all->last = s;
    all->bytes = bytes;
    return s->text;
}

static void string_kept(void *text, void *arg)
{
    (void)text;
    (void)arg; /* all of a failed read go together */
}

static void strings_free(struct strings *all)
{
    while (all->last != NULL) {
        struct string *s = all->last;
        all->last = s->before;
        free(s);
    }
}

void mb_h5_free_text(char **v, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (v[i] != NULL)
            free(v[i] - offsetof(struct string, text));
        v[i] = NULL;
    }
}

/* No string in a file is longer than the file. */
static uint64_t file_bytes(const struct mb_h5 *h)
{
    hsize_t n = 0;
    return H5Fget_filesize(h->id, &n) < 0 ? 0 : (uint64_t)n;
}

/* MB_STOP, and not a word, if they are more than all->most bytes. */
static enum mb_status read_strings(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count,
                                   struct strings *all, char **dst)
{
    hid_t in_file, in_mem, t = mb_h5_type_of(MB_H5_TEXT), how = H5Pcreate(H5P_DATASET_XFER);
    enum mb_status st = MB_OK;
    bool empty = mb_h5_select(s, start, count, &in_file, &in_mem);
    uint64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= count[i];
    memset(dst, 0, (size_t)n * sizeof *dst);
    H5Pset_vlen_mem_manager(how, string_new, all, string_kept, all);
    if (!empty && H5Dread((hid_t)s->id, t, in_mem, in_file, how, dst) < 0) {
        strings_free(all);
        memset(dst, 0, (size_t)n * sizeof *dst);
        if (all->beyond || all->none)
            H5Eclear2(H5E_DEFAULT);
        if (all->none)
            st = mb_error(MB_NO_MEMORY, "%s: no memory for the texts of %s", s->file->path, s->path);
        else
            st = all->beyond ? MB_STOP : mb_h5_failed(s->file, s->path, "reading", false);
    }
    H5Pclose(how);
    H5Tclose(t);
    H5Sclose(in_mem);
    H5Sclose(in_file);
    return st;
}

static enum mb_status too_long(const struct mb_h5_set *s)
{
    return mb_error(MB_INPUT, "%s: %s: a string is longer than the file: it is damaged", s->file->path,
                    s->path);
}

static enum mb_status read_all_strings(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count,
                                       char **dst)
{
    struct strings all = {.most = file_bytes(s->file)};
    enum mb_status st = read_strings(s, start, count, &all, dst);
    return st == MB_STOP ? too_long(s) : st;
}

enum mb_status mb_h5_read_texts(struct mb_h5_set *s, uint64_t from, uint64_t most, uint64_t *n, char **dst)
{
    uint64_t file = file_bytes(s->file), want = *n;
    for (;; want /= 2) {
        struct strings all = {.most = want > 1 && most < file ? most : file};
        enum mb_status st = read_strings(s, &from, &want, &all, dst);
        if (st == MB_STOP && want > 1)
            continue;
        if (st == MB_STOP)
            return too_long(s);
        if (st == MB_OK)
            *n = want;
        return st;
    }
}

enum mb_status mb_h5_read(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, void *dst)
{
    hid_t in_file, in_mem, t;
    if (s->type == MB_H5_TEXT)
        return read_all_strings(s, start, count, dst);
    bool empty = mb_h5_select(s, start, count, &in_file, &in_mem);
    /* enums are read with the file's own type: a number without a name stays a number */
    t = s->type >= MB_H5_KIND ? H5Dget_type((hid_t)s->id) : mb_h5_type_of(s->type);
    enum mb_status st = MB_OK;
    if (!empty && H5Dread((hid_t)s->id, t, in_mem, in_file, H5P_DEFAULT, dst) < 0)
        st = mb_h5_failed(s->file, s->path, "reading", false);
    H5Tclose(t);
    H5Sclose(in_mem);
    H5Sclose(in_file);
    return st;
}

/* ---------------------------------------------------------------- attributes */
static enum mb_status attr_write(struct mb_h5 *h, const char *path, const char *name, hid_t type,
                                 const void *value)
{
    if (mb_h5_has_attr(h, path, name) && H5Adelete_by_name(h->id, path, name, H5P_DEFAULT) < 0)
        return mb_h5_failed(h, path, name, true);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate_by_name(h->id, path, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    enum mb_status st = a < 0 || H5Awrite(a, type, value) < 0 ? mb_h5_failed(h, path, name, true) : MB_OK;
    if (a >= 0 && H5Aclose(a) < 0 && st == MB_OK)
        st = mb_h5_failed(h, path, name, true);
    H5Sclose(space);
    return st;
}

enum mb_status mb_h5_attr_text(struct mb_h5 *h, const char *path, const char *name, const char *value)
{
    hid_t t = mb_h5_text_type();
    enum mb_status st = attr_write(h, path, name, t, &value);
    H5Tclose(t);
    return st;
}

enum mb_status mb_h5_attr_i64(struct mb_h5 *h, const char *path, const char *name, int64_t value)
{
    return attr_write(h, path, name, H5T_STD_I64LE, &value);
}

/* A scalar attribute of this type into dst. */
static enum mb_status attr_read(struct mb_h5 *h, const char *path, const char *name, enum mb_h5_type want,
                                void *dst)
{
    hid_t a = H5Aopen_by_name(h->id, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0)
        return mb_h5_failed(h, path, name, false);
    hid_t t = H5Aget_type(a), space = H5Aget_space(a), mem = mb_h5_type_of(want);
    enum mb_status st = MB_OK;
    if (!mb_h5_type_fits(t, want) || H5Sget_simple_extent_npoints(space) != 1)
        st = mb_error(MB_INPUT, "%s: %s: attribute %s has another type than moebatch-results/1 says", h->path,
                      path, name);
    else if (H5Aread(a, mem, dst) < 0)
        st = mb_h5_failed(h, path, name, false);
    H5Tclose(mem);
    H5Sclose(space);
    H5Tclose(t);
    H5Aclose(a);
    return st;
}

enum mb_status mb_h5_get_text(struct mb_h5 *h, const char *path, const char *name, char **out)
{
    char *v = NULL;
    MB_TRY(attr_read(h, path, name, MB_H5_TEXT, &v));
    char *copy = strdup(v == NULL ? "" : v);
    if (v != NULL)
        H5free_memory(v);
    if (copy == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for attribute %s", h->path, name);
    *out = copy;
    return MB_OK;
}

enum mb_status mb_h5_get_i64(struct mb_h5 *h, const char *path, const char *name, int64_t *out)
{
    int64_t v = 0;
    MB_TRY(attr_read(h, path, name, MB_H5_I64, &v));
    *out = v;
    return MB_OK;
}
