/* A file as a tree: every dataset in it, every attribute, and what HDF5's convention of dimension scales says
 * of them. */
#include <hdf5.h>
#include <hdf5_hl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "io/h5_own.h"

#define DEEPEST 8 /* groups in groups */

/* ---------------------------------------------------------------- datasets */
struct walk {
    struct mb_h5 *h;
    mb_h5_visit *fn;
    void *arg;
};

/* The type and rank of a dataset, where they are among those of the schema. */
static bool known(hid_t d, enum mb_h5_type *type, int *rank)
{
    hid_t t = H5Dget_type(d), space = H5Dget_space(d);
    bool fits = false;
    for (int i = 0; i < MB_H5_TYPES && !fits; i++) {
        fits = mb_h5_type_fits(t, (enum mb_h5_type)i);
        *type = (enum mb_h5_type)i;
    }
    *rank = H5Sget_simple_extent_ndims(space);
    H5Sclose(space);
    H5Tclose(t);
    return fits && *rank >= 0 && *rank <= MB_H5_MAX_RANK;
}

static enum mb_status visit(struct walk *w, const char *path)
{
    struct mb_h5_set *s = NULL;
    enum mb_h5_type type = MB_H5_U8;
    int rank = 0;
    hid_t d = H5Dopen2(w->h->id, path, H5P_DEFAULT);
    if (d < 0)
        return mb_h5_failed(w->h, path, "cannot open this dataset", false);
    bool is_known = known(d, &type, &rank);
    H5Dclose(d);
    if (!is_known)
        return MB_OK;
    MB_TRY(mb_h5_find(w->h, path, type, rank, &s));
    enum mb_status st = w->fn(w->arg, s);
    mb_h5_set_close(s);
    return st;
}

static enum mb_status group(struct walk *w, const char *path, int deep);

/* One link of a group: only what lies in this file itself is followed. */
static enum mb_status member(struct walk *w, const char *path, int deep)
{
    H5L_info_t link;
    H5O_info_t o;
    if (H5Lget_info(w->h->id, path, &link, H5P_DEFAULT) < 0)
        return mb_h5_failed(w->h, path, "reading", false);
    if (link.type != H5L_TYPE_HARD)
        return MB_OK;
    if (H5Oget_info_by_name(w->h->id, path, &o, H5P_DEFAULT) < 0)
        return mb_h5_failed(w->h, path, "reading", false);
    return o.type == H5O_TYPE_DATASET ? visit(w, path)
           : o.type == H5O_TYPE_GROUP ? group(w, path, deep + 1)
                                      : MB_OK;
}

static enum mb_status group(struct walk *w, const char *path, int deep)
{
    H5G_info_t g;
    char name[128], full[256];
    if (deep > DEEPEST)
        return mb_error(MB_INPUT, "%s: %s: too many groups in each other", w->h->path, path);
    if (H5Gget_info_by_name(w->h->id, path, &g, H5P_DEFAULT) < 0)
        return mb_h5_failed(w->h, path, "reading", false);
    for (hsize_t i = 0; i < g.nlinks; i++) {
        ssize_t n =
            H5Lget_name_by_idx(w->h->id, path, H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (n < 0 || (size_t)n >= sizeof name || strlen(path) + (size_t)n + 2 > sizeof full)
            return mb_h5_failed(w->h, path, "reading the names in it", false);
        snprintf(full, sizeof full, "%s/%s", path[1] == 0 ? "" : path, name);
        MB_TRY(member(w, full, deep));
    }
    return MB_OK;
}

enum mb_status mb_h5_walk(struct mb_h5 *h, mb_h5_visit *fn, void *arg)
{
    struct walk w = {h, fn, arg};
    return group(&w, "/", 0);
}

/* ---------------------------------------------------------------- attributes */
/* Text of one attribute, malloc'd; NULL without one where it is neither a text nor an integer. */
static enum mb_status value_of(struct mb_h5 *h, const char *path, const char *name, char **out)
{
    hid_t a = H5Aopen_by_name(h->id, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0)
        return mb_h5_failed(h, path, name, false);
    hid_t t = H5Aget_type(a), space = H5Aget_space(a);
    bool one = H5Sget_simple_extent_npoints(space) == 1, text = one && mb_h5_type_fits(t, MB_H5_TEXT);
    bool number = one && mb_h5_type_fits(t, MB_H5_I64);
    H5Sclose(space);
    H5Tclose(t);
    H5Aclose(a);
    *out = NULL;
    if (text)
        return mb_h5_get_text(h, path, name, out);
    if (!number)
        return MB_OK;
    int64_t v = 0;
    MB_TRY(mb_h5_get_i64(h, path, name, &v));
    *out = malloc(32);
    if (*out == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for attribute %s", h->path, name);
    snprintf(*out, 32, "%lld", (long long)v);
    return MB_OK;
}

enum mb_status mb_h5_attrs(struct mb_h5 *h, const char *path, mb_h5_visit_attr *fn, void *arg)
{
    H5O_info_t o;
    char name[128];
    enum mb_status st = MB_OK;
    if (H5Oget_info_by_name(h->id, path, &o, H5P_DEFAULT) < 0)
        return mb_h5_failed(h, path, "reading", false);
    for (hsize_t i = 0; i < o.num_attrs && st == MB_OK; i++) {
        char *v = NULL;
        ssize_t n =
            H5Aget_name_by_idx(h->id, path, H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (n < 0 || (size_t)n >= sizeof name)
            return mb_h5_failed(h, path, "reading its attributes", false);
        st = value_of(h, path, name, &v);
        if (st == MB_OK && v != NULL)
            st = fn(arg, name, v);
        free(v);
    }
    return st;
}

bool mb_h5_has_attr(struct mb_h5 *h, const char *path, const char *name)
{
    htri_t there = H5Aexists_by_name(h->id, path, name, H5P_DEFAULT);
    if (there < 0)
        H5Eclear2(H5E_DEFAULT);
    return there > 0;
}

/* ---------------------------------------------------------------- dimension scales */
enum mb_status mb_h5_scale(struct mb_h5 *h, const char *path, const char *name)
{
    hid_t d = H5Dopen2(h->id, path, H5P_DEFAULT);
    enum mb_status st = d < 0 || H5DSset_scale(d, name) < 0
                            ? mb_h5_failed(h, path, "cannot make a dimension scale", true)
                            : MB_OK;
    if (d >= 0)
        mb_h5_shut(h, path, d);
    return st;
}

enum mb_status mb_h5_attach(struct mb_h5 *h, const char *path, int dim, const char *scale)
{
    hid_t d = H5Dopen2(h->id, path, H5P_DEFAULT), s = H5Dopen2(h->id, scale, H5P_DEFAULT);
    enum mb_status st = MB_OK;
    if (d < 0 || s < 0 || H5DSattach_scale(d, s, (unsigned)dim) < 0)
        st = mb_h5_failed(h, path, "cannot attach a dimension scale", true);
    if (s >= 0)
        mb_h5_shut(h, scale, s);
    if (d >= 0)
        mb_h5_shut(h, path, d);
    return st;
}

enum mb_status mb_h5_label(struct mb_h5 *h, const char *path, int dim, const char *label)
{
    hid_t d = H5Dopen2(h->id, path, H5P_DEFAULT);
    enum mb_status st = d < 0 || H5DSset_label(d, (unsigned)dim, label) < 0
                            ? mb_h5_failed(h, path, "cannot name a dimension", true)
                            : MB_OK;
    if (d >= 0)
        mb_h5_shut(h, path, d);
    return st;
}

enum mb_status mb_h5_group(struct mb_h5 *h, const char *path)
{
    hid_t g = H5Gcreate2(h->id, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    enum mb_status st = g < 0 ? mb_h5_failed(h, path, "cannot make this group", true) : MB_OK;
    if (g >= 0 && H5Gclose(g) < 0 && st == MB_OK)
        st = mb_h5_failed(h, path, "cannot make this group", true);
    return st;
}

enum mb_status mb_h5_axis(struct mb_h5 *h, const char *path, const char *name, uint64_t n)
{
    struct mb_h5_set *s = NULL;
    MB_TRY(mb_h5_make(h, path, MB_H5_U8, 1, &n, NULL, &s));
    mb_h5_set_close(s);
    return mb_h5_scale(h, path, name);
}
