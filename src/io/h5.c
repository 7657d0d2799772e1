#include "io/h5_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

uint64_t mb_h5_size(enum mb_h5_type t)
{
    static const uint8_t size[MB_H5_TYPES] = {1, 2, 4, 4, 8, 8, 4, 8, 1, 1, 1, sizeof(char *)};
    return size[t];
}

void mb_h5_version(char *out, unsigned long n)
{
    unsigned a = 0, b = 0, c = 0;
    H5get_libversion(&a, &b, &c);
    snprintf(out, n, "HDF5 %u.%u.%u", a, b, c);
}

/* ---------------------------------------------------------------- errors */
struct reason {
    char text[256];
    bool no_space;
};

/* Walked from the call inwards: the last one is where it happened. */
static herr_t inner_reason(unsigned n, const H5E_error2_t *e, void *arg)
{
    struct reason *r = arg;
    (void)n;
    snprintf(r->text, sizeof r->text, "%s", e->desc);
    for (char *nl = strchr(r->text, '\n'); nl != NULL; nl = strchr(nl, '\n')) /* ctime's, in the middle of a reason */
        *nl = ' ';
    r->no_space = r->no_space || strstr(e->desc, "No space left") != NULL || strstr(e->desc, "quota exceeded") != NULL;
    return 0;
}

enum mb_status mb_h5_failed(const struct mb_h5 *h, const char *path, const char *what, bool writing)
{
    struct reason r = {"no reason given", false};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, inner_reason, &r);
    H5Eclear2(H5E_DEFAULT);
    enum mb_status st = !writing ? MB_INPUT : r.no_space ? MB_NO_SPACE : MB_IO;
    return mb_error(st, "%s: %s%s%s: %s", h->path, path, *path ? ": " : "", what, r.text);
}

/* ---------------------------------------------------------------- types */
struct member {
    const char *name;
    uint8_t value;
};
static const struct member kinds[] = {{"generate", 0}, {"loglikelihood", 1}, {"rolling", 2}, {NULL, 0}};
static const struct member statuses[] = {{"ok", 0}, {"error", 1}, {"degraded", 2}, {"pending", 3}, {NULL, 0}};
static const struct member finishes[] = {{"none", 0}, {"eos", 1}, {"length", 2}, {"stop", 3}, {"error", 4}, {NULL, 0}};

static hid_t enum_type(const struct member *m)
{
    hid_t t = H5Tenum_create(H5T_STD_U8LE);
    for (; t >= 0 && m->name != NULL; m++)
        H5Tenum_insert(t, m->name, &m->value);
    return t;
}

hid_t mb_h5_text_type(void)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, H5T_VARIABLE);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

hid_t mb_h5_type_of(enum mb_h5_type t)
{
    switch (t) {
    case MB_H5_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case MB_H5_U16:
        return H5Tcopy(H5T_STD_U16LE);
    case MB_H5_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case MB_H5_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case MB_H5_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case MB_H5_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case MB_H5_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case MB_H5_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case MB_H5_KIND:
        return enum_type(kinds);
    case MB_H5_STATUS:
        return enum_type(statuses);
    case MB_H5_FINISH:
        return enum_type(finishes);
    default:
        return mb_h5_text_type();
    }
}

/* ---------------------------------------------------------------- files */
void mb_h5_init(void)
{
    H5dont_atexit();
    H5open(); /* while MPI is not up, it hooks nothing into MPI_Finalize */
}

static enum mb_status file_new(const char *path, struct mb_h5 **out)
{
    struct mb_h5 *h = calloc(1, sizeof *h);
    if (h != NULL)
        h->path = strdup(path);
    if (h == NULL || h->path == NULL) {
        free(h);
        return mb_error(MB_NO_MEMORY, "no memory to open %s", path);
    }
    mb_h5_init();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* we log its reasons ourselves */
    h->id = -1;
    *out = h;
    return MB_OK;
}

static void file_free(struct mb_h5 *h)
{
    free(h->path);
    free(h);
}

enum mb_status mb_h5_new(const char *path, struct mb_h5 **out)
{
    return file_new(path, out);
}

enum mb_status mb_h5_begin(struct mb_h5 *h, const void *comm)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    h->collective = comm != NULL;
    h->writes = true;
#ifdef H5_HAVE_PARALLEL
    if (comm != NULL)
        H5Pset_fapl_mpio(access, (MPI_Comm)(uintptr_t)comm, MPI_INFO_NULL); /* Open MPI's handle is a pointer */
#endif
    h->id = H5Fcreate(h->path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Pclose(access);
    return h->id >= 0 ? MB_OK : mb_h5_failed(h, "", "cannot create", true);
}

enum mb_status mb_h5_create(const char *path, const void *comm, struct mb_h5 **out)
{
    struct mb_h5 *h = NULL;
    MB_TRY(mb_h5_new(path, &h));
    enum mb_status st = mb_h5_begin(h, comm);
    if (st == MB_OK)
        *out = h;
    else
        file_free(h);
    return st;
}

enum mb_status mb_h5_open(const char *path, bool write, struct mb_h5 **out)
{
    struct mb_h5 *h = NULL;
    MB_TRY(file_new(path, &h));
    h->writes = write;
    h->id = H5Fopen(path, write ? H5F_ACC_RDWR : H5F_ACC_RDONLY, H5P_DEFAULT);
    if (h->id >= 0) {
        *out = h;
        return MB_OK;
    }
    enum mb_status st = mb_h5_failed(h, "", "cannot open", write);
    file_free(h);
    return st;
}

enum mb_status mb_h5_close(struct mb_h5 *h)
{
    if (h == NULL)
        return MB_OK;
    enum mb_status st = h->id >= 0 && H5Fclose(h->id) < 0 ? mb_h5_failed(h, "", "closing", true) : MB_OK;
    if (st == MB_OK)
        st = h->lost;
    file_free(h);
    return st;
}

/* ---------------------------------------------------------------- datasets */
enum mb_status mb_h5_set_new(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, struct mb_h5_set **out)
{
    struct mb_h5_set *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->path = strdup(path);
    if (s == NULL || s->path == NULL) {
        free(s);
        return mb_error(MB_NO_MEMORY, "no memory for dataset %s", path);
    }
    s->file = h;
    s->id = -1;
    s->type = type;
    s->rank = rank;
    *out = s;
    return MB_OK;
}

void mb_h5_shut(struct mb_h5 *h, const char *path, hid_t dataset)
{
    if (H5Dclose(dataset) < 0 && h->writes && h->lost == MB_OK)
        h->lost = mb_h5_failed(h, path, "writing what was kept of it", true);
}

void mb_h5_set_close(struct mb_h5_set *s)
{
    if (s == NULL)
        return;
    if (s->id >= 0)
        mb_h5_shut(s->file, s->path, (hid_t)s->id);
    free(s->path);
    free(s);
}

static hid_t space_of(int rank, const hsize_t *dims)
{
    return rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, dims, NULL);
}

/* Creation properties: missing groups are made; chunks, shuffle, deflate and a checksum where there is something to deflate. */
static hid_t layout_of(int rank, const hsize_t *dims, const uint64_t *chunk)
{
    hsize_t cut[MB_H5_MAX_RANK];
    bool empty = false;
    hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    for (int i = 0; i < rank; i++) {
        empty = empty || dims[i] == 0;
        cut[i] = chunk != NULL && chunk[i] < dims[i] ? chunk[i] : dims[i];
    }
    if (chunk == NULL || rank == 0 || empty)
        return p;
    H5Pset_chunk(p, rank, cut);
    H5Pset_fill_time(p, H5D_FILL_TIME_NEVER); /* every element is written */
    H5Pset_shuffle(p);
    H5Pset_deflate(p, 1);
    H5Pset_fletcher32(p); /* of the bytes in the file: a flipped bit is an error where it is read */
    return p;
}

enum mb_status mb_h5_make(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, const uint64_t *dims,
                          const uint64_t *chunk, struct mb_h5_set **out)
{
    struct mb_h5_set *s = NULL;
    hsize_t size[MB_H5_MAX_RANK] = {0};
    enum mb_status st = mb_h5_set_new(h, path, type, rank, &s); /* a rank that fails here must not keep the others waiting below */
    for (int i = 0; i < rank; i++)
        size[i] = dims[i];
    hid_t t = mb_h5_type_of(type), space = space_of(rank, size), create = layout_of(rank, size, chunk);
    hid_t link = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(link, 1);
    hid_t id = st == MB_OK || h->collective ? H5Dcreate2(h->id, path, t, space, link, create, H5P_DEFAULT) : -1;
    if (st == MB_OK && id < 0)
        st = mb_h5_failed(h, path, "cannot make this dataset", true);
    H5Pclose(link);
    H5Pclose(create);
    H5Sclose(space);
    H5Tclose(t);
    if (st != MB_OK) {
        if (id >= 0)
            H5Dclose(id);
        mb_h5_set_close(s);
        return st;
    }
    s->id = id;
    for (int i = 0; i < rank; i++)
        s->dims[i] = dims[i];
    *out = s;
    return MB_OK;
}

bool mb_h5_has(struct mb_h5 *h, const char *path)
{
    /* every group on the way must be asked for */
    char part[256];
    size_t n = strlen(path);
    if (n >= sizeof part)
        return false;
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (H5Lexists(h->id, part, H5P_DEFAULT) <= 0) {
            H5Eclear2(H5E_DEFAULT);
            return false;
        }
    }
    return true;
}

bool mb_h5_select(const struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, hid_t *in_file, hid_t *in_mem)
{
    hsize_t from[MB_H5_MAX_RANK], n[MB_H5_MAX_RANK];
    bool empty = false;
    *in_file = H5Dget_space((hid_t)s->id);
    for (int i = 0; i < s->rank; i++) {
        from[i] = start[i];
        n[i] = count[i];
        empty = empty || n[i] == 0;
    }
    *in_mem = space_of(s->rank, n);
    if (s->rank == 0)
        return false;
    if (empty) {
        H5Sselect_none(*in_file);
        H5Sselect_none(*in_mem);
    } else {
        H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, from, NULL, n, NULL);
    }
    return empty;
}

enum mb_status mb_h5_write(struct mb_h5_set *s, const uint64_t *start, const uint64_t *count, const void *data)
{
    hid_t in_file, in_mem, t = mb_h5_type_of(s->type), how = H5Pcreate(H5P_DATASET_XFER);
    bool empty = mb_h5_select(s, start, count, &in_file, &in_mem), full = true;
    enum mb_status st = MB_OK;
    const uint8_t nothing = 0;
    for (int i = 0; i < s->rank; i++)
        full = full && s->dims[i] != 0;
#ifdef H5_HAVE_PARALLEL
    if (s->file->collective)
        H5Pset_dxpl_mpio(how, H5FD_MPIO_COLLECTIVE);
#endif
    if (full && (!empty || s->file->collective) &&
        H5Dwrite((hid_t)s->id, t, in_mem, in_file, how, empty ? &nothing : data) < 0)
        st = mb_h5_failed(s->file, s->path, "writing", true);
    H5Pclose(how);
    H5Tclose(t);
    H5Sclose(in_mem);
    H5Sclose(in_file);
    return st;
}

enum mb_status mb_h5_put(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, const uint64_t *dims,
                         const void *data)
{
    static const uint64_t zero[MB_H5_MAX_RANK] = {0};
    struct mb_h5_set *s = NULL;
    MB_TRY(mb_h5_make(h, path, type, rank, dims, NULL, &s));
    enum mb_status st = mb_h5_write(s, zero, dims, data);
    mb_h5_set_close(s);
    return st;
}

enum mb_status mb_h5_copy(struct mb_h5 *from, const char *path, struct mb_h5 *to, const char *new_path)
{
    hid_t link = H5Pcreate(H5P_LINK_CREATE);
    hid_t how = H5Pcreate(H5P_OBJECT_COPY);
    H5Pset_create_intermediate_group(link, 1);
    H5Pset_copy_object(how, H5O_COPY_WITHOUT_ATTR_FLAG);
    herr_t e = H5Ocopy(from->id, path, to->id, new_path, how, link);
    H5Pclose(how);
    H5Pclose(link);
    return e < 0 ? mb_h5_failed(to, new_path, "copying", true) : MB_OK;
}

enum mb_status mb_h5_copy_members(struct mb_h5 *from, const char *group, const char *skip, struct mb_h5 *to,
                                  const char *new_group)
{
    H5G_info_t g;
    char name[128], old[256], new[256];

    if (H5Gget_info_by_name(from->id, group, &g, H5P_DEFAULT) < 0)
        return mb_h5_failed(from, group, "reading", false);
    for (hsize_t i = 0; i < g.nlinks; i++) {
        ssize_t n = H5Lget_name_by_idx(from->id, group, H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (n < 0 || (size_t)n >= sizeof name)
            return mb_h5_failed(from, group, "reading", false);
        if (strcmp(name, skip) == 0)
            continue;
        snprintf(old, sizeof old, "%.100s/%s", group, name);
        snprintf(new, sizeof new, "%.100s/%s", new_group, name);
        MB_TRY(mb_h5_copy(from, old, to, new));
    }
    return MB_OK;
}
