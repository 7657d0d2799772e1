/* Which files a model consists of, and the table of all their tensors by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "model/foreign.h"
#include "model/safetensors.h"

#define MAX_INDEX_BYTES 100000000u

void mb_shards_fini(struct mb_shards *s)
{
    if (s->files != NULL)
        for (int32_t i = 0; i < s->n_files; i++)
            free(s->files[i]);
    free(s->files);
    free(s->file_bytes);
    free(s->entries);
    mb_bytes_fini(&s->names);
    free(s->slots);
    free(s->dir);
    memset(s, 0, sizeof *s);
}

/* ---------------------------------------------------------------- files */
static enum mb_status add_file(struct mb_shards *s, const char *name)
{
    char **files = realloc(s->files, ((size_t)s->n_files + 1) * sizeof *files);
    if (files == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for file names");
    s->files = files;
    files[s->n_files] = strdup(name);
    if (files[s->n_files] == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for file names");
    s->n_files++;
    return MB_OK;
}

/* A name from the index is used only if it is a plain file name: it can't leave the directory. */
static enum mb_status check_file_name(const char *what, const char *tensor, const json_t *v)
{
    if (!json_is_string(v))
        return mb_error(MB_MODEL, "%s: weight_map: %.200s: expected a file name, found %s", what, tensor, mb_json_type(v));
    const char *name = json_string_value(v);
    size_t n = strlen(name), suffix = strlen(".safetensors");
    if (n != json_string_length(v) || n > 255 || name[0] == '.' || strchr(name, '/') != NULL || strchr(name, '\\') != NULL)
        return mb_error(MB_MODEL, "%s: weight_map: %.200s: expected the name of a file in the same directory, found \"%.255s\"",
                        what, tensor, name);
    if (n <= suffix || strcmp(name + n - suffix, ".safetensors") != 0)
        return mb_error(MB_MODEL, "%s: weight_map: %.200s: expected a .safetensors file, found \"%s\"", what, tensor, name);
    return MB_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum mb_status files_of_map(struct mb_shards *s, const json_t *map, const char *what)
{
    size_t n = json_object_size(map), i = 0;
    const char **all = malloc((n + 1) * sizeof *all);
    enum mb_status st = MB_OK;
    const char *key;
    json_t *v;

    if (all == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for %zu names", what, n);
    json_object_foreach((json_t *)map, key, v) {
        st = check_file_name(what, key, v);
        if (st != MB_OK)
            break;
        all[i++] = json_string_value(v);
    }
    if (st == MB_OK)
        qsort(all, n, sizeof *all, by_text);
    for (i = 0; i < n && st == MB_OK; i++) {
        if (i > 0 && strcmp(all[i], all[i - 1]) == 0)
            continue;
        if (s->n_files == MB_ST_MAX_FILES)
            st = mb_error(MB_MODEL, "%s: weight_map: expected at most %d files, found more", what, MB_ST_MAX_FILES);
        else
            st = add_file(s, all[i]);
    }
    free(all);
    return st;
}

static enum mb_status load_map(const char *path, json_t **root, json_t **map)
{
    MB_TRY(mb_json_load(path, MAX_INDEX_BYTES, MB_MODEL, root));
    *map = json_object_get(*root, "weight_map");
    enum mb_status st = MB_OK;
    if (!json_is_object(*map))
        st = mb_error(MB_MODEL, "%s: weight_map: expected an object, found %s", path, mb_json_type(*map));
    else if (json_object_size(*map) == 0)
        st = mb_error(MB_MODEL, "%s: weight_map: expected at least one tensor, found none", path);
    else if (json_object_size(*map) > MB_ST_MAX_TENSORS)
        st = mb_error(MB_MODEL, "%s: weight_map: expected at most %d tensors, found %zu", path, MB_ST_MAX_TENSORS,
                      json_object_size(*map));
    if (st != MB_OK) {
        json_decref(*root);
        *root = NULL;
    }
    return st;
}

/* Fills the list of files; *root (may stay NULL) is the index, *map its weight_map. */
static enum mb_status list_files(struct mb_shards *s, const char *name, json_t **root, json_t **map)
{
    char single[128], index[160], *p_single = NULL, *p_index = NULL;
    enum mb_status st = MB_OK;

    snprintf(single, sizeof single, "%s.safetensors", name);
    snprintf(index, sizeof index, "%s.index.json", single);
    p_single = mb_path_join(s->dir, single);
    p_index = mb_path_join(s->dir, index);
    if (p_single == NULL || p_index == NULL) {
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    } else if (mb_path_exists(p_index)) {
        st = load_map(p_index, root, map);
        if (st == MB_OK)
            st = files_of_map(s, *map, p_index);
        for (int32_t i = 0; st == MB_OK && mb_path_exists(p_single); i++) {
            if (i == s->n_files)
                st = mb_error(MB_MODEL, "%s: weight_map: expected %s among its files because it is there too, found only others; "
                              "remove the one that is not meant", p_index, single);
            else if (strcmp(s->files[i], single) == 0)
                break;
        }
    } else if (mb_path_exists(p_single)) {
        st = add_file(s, single);
    } else {
        char other[512];
        st = mb_error(MB_MODEL, "%s: expected %s or %s, found neither%s", s->dir, single, index,
                      mb_foreign_in(s->dir, other, sizeof other));
    }
    free(p_single);
    free(p_index);
    return st;
}

enum mb_status mb_shards_list(const char *dir, const char *name, struct mb_shards *out)
{
    struct mb_shards s = {0};
    json_t *root = NULL, *map = NULL;

    s.dir = strdup(dir);
    enum mb_status st = s.dir == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : list_files(&s, name, &root, &map);
    json_decref(root);
    if (st == MB_OK)
        *out = s;
    else
        mb_shards_fini(&s);
    return st;
}

/* ---------------------------------------------------------------- the table */
static uint64_t slot_of(const struct mb_shards *s, const char *name)
{
    uint64_t i = mb_hash64(name, strlen(name)) & (s->n_slots - 1);
    while (s->slots[i] != 0 && strcmp(mb_st_name(s, s->entries + s->slots[i] - 1), name) != 0)
        i = (i + 1) & (s->n_slots - 1);
    return i;
}

struct mb_st_entry *mb_shards_find(const struct mb_shards *s, const char *name)
{
    uint32_t e = s->n_slots == 0 ? 0 : s->slots[slot_of(s, name)];
    return e == 0 ? NULL : s->entries + e - 1;
}

static enum mb_status build_table(struct mb_shards *s)
{
    s->n_slots = 64;
    while (s->n_slots < 2 * (uint64_t)s->n_entries)
        s->n_slots *= 2;
    s->slots = calloc(s->n_slots, sizeof *s->slots);
    if (s->slots == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a table of %lld tensors", s->dir, (long long)s->n_entries);
    for (int64_t i = 0; i < s->n_entries; i++) {
        const char *name = mb_st_name(s, s->entries + i);
        uint64_t slot = slot_of(s, name);
        if (s->slots[slot] != 0)
            return mb_error(MB_MODEL, "%s: %s: expected in one file, found in %s and %s", s->dir, name,
                            s->files[s->entries[s->slots[slot] - 1].file], s->files[s->entries[i].file]);
        s->slots[slot] = (uint32_t)i + 1;
    }
    return MB_OK;
}

static enum mb_status check_map(const struct mb_shards *s, const json_t *map)
{
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)map, name, v) {
        const struct mb_st_entry *e = mb_shards_find(s, name);
        if (e == NULL)
            return mb_error(MB_MODEL, "%s: index: weight_map: %.200s: expected in %s, found in no file", s->dir, name,
                            json_string_value(v));
        if (strcmp(s->files[e->file], json_string_value(v)) != 0)
            return mb_error(MB_MODEL, "%s: index: weight_map: %.200s: expected in %s, found in %s", s->dir, name,
                            json_string_value(v), s->files[e->file]);
    }
    return MB_OK;
}

/* The index decides: what it does not name, or names in another file, is left out. */
static void drop_unnamed(struct mb_shards *s, const json_t *map)
{
    const struct mb_st_entry *first = NULL;
    struct mb_st_entry copy;
    int64_t kept = 0;

    for (int64_t i = 0; i < s->n_entries; i++) {
        const struct mb_st_entry *e = s->entries + i;
        const char *file = json_string_value(json_object_get(map, mb_st_name(s, e)));
        if (file != NULL && strcmp(file, s->files[e->file]) == 0) {
            s->entries[kept++] = *e;
        } else if (first == NULL) {
            copy = *e;
            first = &copy;
        }
    }
    if (first != NULL)
        mb_warn("%s: %lld tensors are ignored because the index does not name them in the files they are in, the first is %s of %s", s->dir,
                (long long)(s->n_entries - kept), mb_st_name(s, first), s->files[first->file]);
    s->n_entries = kept;
}

static enum mb_status read_all(struct mb_shards *s, const json_t *map)
{
    s->file_bytes = calloc((size_t)s->n_files + 1, sizeof *s->file_bytes);
    if (s->file_bytes == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for file sizes");
    for (int32_t i = 0; i < s->n_files; i++)
        MB_TRY(mb_st_read_header(s, (uint32_t)i));
    if (map != NULL)
        drop_unnamed(s, map);
    MB_TRY(build_table(s));
    return map == NULL ? MB_OK : check_map(s, map);
}

enum mb_status mb_shards_open(const char *dir, const char *name, struct mb_shards *out)
{
    struct mb_shards s = {0};
    json_t *root = NULL, *map = NULL;

    memset(out, 0, sizeof *out);
    s.dir = strdup(dir);
    enum mb_status st = s.dir == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : list_files(&s, name, &root, &map);
    if (st == MB_OK)
        st = read_all(&s, map);
    json_decref(root);
    if (st == MB_OK)
        *out = s;
    else
        mb_shards_fini(&s);
    return st;
}
