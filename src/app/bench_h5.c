#include "app/bench_h5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/publish.h"
#include "io/h5.h"

bool mb_bench_h5_named(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL && (strcmp(dot, ".h5") == 0 || strcmp(dot, ".hdf5") == 0);
}

/* ---------------------------------------------------------------- writing */
static enum mb_status put_texts(struct mb_h5 *h, const json_t *list, const char *key)
{
    uint64_t n = json_array_size(list);
    const char **v = calloc(n + 1, sizeof *v);
    char path[64];
    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu results", (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        v[i] = json_string_value(json_object_get(json_array_get(list, i), key));
        v[i] = v[i] == NULL ? "" : v[i];
    }
    snprintf(path, sizeof path, "/results/%s", key);
    enum mb_status st = mb_h5_put(h, path, MB_H5_TEXT, 1, &n, v);
    free(v);
    return st;
}

static double number_of(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static enum mb_status put_numbers(struct mb_h5 *h, const json_t *list, const char *key)
{
    uint64_t n = json_array_size(list);
    double *v = calloc(n + 1, sizeof *v);
    char path[64];
    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu results", (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++)
        v[i] = number_of(json_object_get(json_array_get(list, i), key));
    snprintf(path, sizeof path, "/results/%s", key);
    enum mb_status st = mb_h5_put(h, path, MB_H5_F64, 1, &n, v);
    free(v);
    return st;
}

static enum mb_status put_samples(struct mb_h5 *h, const json_t *list)
{
    uint64_t n = json_array_size(list), ends = n + 1, all = 0, at = 0;
    for (uint64_t i = 0; i < n; i++)
        all += json_array_size(json_object_get(json_array_get(list, i), "samples"));
    int64_t *offset = calloc(ends, sizeof *offset);
    double *v = calloc(all + 1, sizeof *v);
    enum mb_status st = offset == NULL || v == NULL ? mb_error(MB_NO_MEMORY, "no memory for samples") : MB_OK;
    for (uint64_t i = 0; i < n && st == MB_OK; i++) {
        const json_t *s = json_object_get(json_array_get(list, i), "samples");
        for (size_t j = 0; j < json_array_size(s); j++)
            v[at++] = number_of(json_array_get(s, j));
        offset[i + 1] = (int64_t)at;
    }
    if (st == MB_OK)
        st = mb_h5_put(h, "/samples/offsets", MB_H5_I64, 1, &ends, offset);
    if (st == MB_OK)
        st = mb_h5_put(h, "/samples/values", MB_H5_F64, 1, &all, v);
    free(offset);
    free(v);
    return st;
}

static enum mb_status put_facts(struct mb_h5 *h, const json_t *root)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)root, key, v)
    {
        if (json_is_string(v))
            MB_TRY(mb_h5_attr_text(h, "/", key, json_string_value(v)));
        else if (json_is_integer(v))
            MB_TRY(mb_h5_attr_i64(h, "/", key, json_integer_value(v)));
    }
    return MB_OK;
}

static enum mb_status fill(struct mb_h5 *h, const json_t *root, const char *text)
{
    static const char *const texts[] = {"name", "unit", "better", "formula"}, *const numbers[] = {
                                                                                  "median", "min", "max",
                                                                                  "bound", "fraction"};
    const json_t *list = json_object_get(root, "results");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        MB_TRY(put_texts(h, list, texts[i]));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        MB_TRY(put_numbers(h, list, numbers[i]));
    MB_TRY(put_samples(h, list));
    MB_TRY(mb_h5_put(h, "/json", MB_H5_TEXT, 0, NULL, &text));
    return put_facts(h, root);
}

enum mb_status mb_bench_h5_write(const char *path, const json_t *root, const char *text)
{
    struct mb_publish *p = NULL;
    struct mb_h5 *h = NULL;
    MB_TRY(mb_publish_open(path, NULL, MB_PUBLISH_BY_NAME, &p));
    enum mb_status st = mb_h5_create(p->tmp, NULL, &h);
    if (st == MB_OK)
        st = fill(h, root, text);
    enum mb_status closed = mb_h5_close(h);
    st = st == MB_OK ? closed : st;
    if (st == MB_OK)
        return mb_publish_commit(p, NULL, NULL);
    mb_publish_drop(p);
    return st;
}

/* ---------------------------------------------------------------- reading */
static bool is_hdf5(const char *path)
{
    unsigned char head[4] = {0};
    FILE *f = fopen(path, "rbe");
    bool same = f != NULL && fread(head, 1, sizeof head, f) == sizeof head &&
                memcmp(head, "\x89HDF", sizeof head) == 0;
    if (f != NULL)
        fclose(f);
    return same;
}

static enum mb_status load_h5(const char *path, uint64_t most, json_t **out)
{
    struct mb_h5 *h = NULL;
    struct mb_h5_set *s = NULL;
    char *text = NULL;
    MB_TRY(mb_h5_open(path, false, &h));
    enum mb_status st = mb_h5_find(h, "/json", MB_H5_TEXT, 0, &s);
    if (st == MB_OK)
        st = mb_h5_read(s, NULL, NULL, &text);
    size_t n = text == NULL ? 0 : strlen(text);
    if (st == MB_OK && (n == 0 || n > most))
        st = mb_error(MB_INPUT, "%s: /json has no results of a benchmark in it", path);
    if (st == MB_OK)
        st = mb_json_parse(text, n, path, MB_INPUT, NULL, 0, out);
    mb_h5_free_text(&text, 1);
    mb_h5_set_close(s);
    enum mb_status closed = mb_h5_close(h);
    return st == MB_OK ? closed : st;
}

enum mb_status mb_bench_read(const char *path, uint64_t most, json_t **out)
{
    return is_hdf5(path) ? load_h5(path, most, out) : mb_json_load(path, most, MB_INPUT, out);
}
