#include "base/files.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

void mb_files_fini(struct mb_files *f)
{
    for (int32_t i = 0; i < f->n; i++)
        free(f->v[i].name);
    free(f->v);
    memset(f, 0, sizeof *f);
}

enum mb_status mb_files_put(struct mb_files *f, const char *name, uint64_t bytes,
                            const struct mb_hash128 *hash)
{
    char *copy = strdup(name);

    if (copy != NULL && f->n == f->cap) {
        int32_t cap = f->cap ? 2 * f->cap : 16;
        void *p = realloc(f->v, (size_t)cap * sizeof *f->v);
        if (p != NULL) {
            f->v = p;
            f->cap = cap;
        }
    }
    if (copy == NULL || f->n == f->cap) {
        free(copy);
        return mb_error(MB_NO_MEMORY, "no memory for a list of files");
    }
    f->v[f->n++] = (struct mb_file_sum){.name = copy,
                                        .bytes = bytes,
                                        .hash = hash != NULL ? *hash : (struct mb_hash128){0, 0},
                                        .known = hash != NULL};
    return MB_OK;
}

struct mb_file_sum *mb_files_find(const struct mb_files *f, const char *name)
{
    for (int32_t i = 0; i < f->n; i++) {
        if (strcmp(f->v[i].name, name) == 0)
            return &f->v[i];
    }
    return NULL;
}

/* ---------------------------------------------------------------- as JSON */
json_t *mb_files_json(const struct mb_files *f)
{
    json_t *list = json_array();
    char hex[33];

    for (int32_t i = 0; i < f->n && list != NULL; i++) {
        mb_hash128_hex(f->v[i].hash, hex);
        json_t *item = json_pack("{s:s, s:I, s:s}", "name", f->v[i].name, "bytes", (json_int_t)f->v[i].bytes,
                                 "hash", f->v[i].known ? hex : "");
        if (item == NULL || json_array_append_new(list, item) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

bool mb_hash128_parse(const char *hex, struct mb_hash128 *out)
{
    char half[17] = {0};

    if (hex == NULL || strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32)
        return false;
    memcpy(half, hex, 16);
    out->hi = strtoull(half, NULL, 16);
    out->lo = strtoull(hex + 16, NULL, 16);
    return true;
}

static enum mb_status parse_one(const json_t *item, const char *what, struct mb_files *out)
{
    const char *name = json_string_value(json_object_get(item, "name")),
               *hex = json_string_value(json_object_get(item, "hash"));
    const json_t *bytes = json_object_get(item, "bytes");
    struct mb_hash128 h;

    if (name == NULL || hex == NULL || !json_is_integer(bytes) || json_integer_value(bytes) < 0 ||
        (*hex != 0 && !mb_hash128_parse(hex, &h)))
        return mb_error(MB_CORRUPT, "%s: the list of files has an item that is no name, size and hash", what);
    return mb_files_put(out, name, (uint64_t)json_integer_value(bytes), *hex != 0 ? &h : NULL);
}

enum mb_status mb_files_parse(const json_t *obj, const char *what, struct mb_files *out)
{
    struct mb_files f = {0};
    enum mb_status st = obj == NULL || json_is_array(obj)
                            ? MB_OK
                            : mb_error(MB_CORRUPT, "%s: the list of files is no list", what);

    for (size_t i = 0; i < json_array_size(obj) && st == MB_OK; i++)
        st = parse_one(json_array_get(obj, i), what, &f);
    if (st != MB_OK)
        mb_files_fini(&f);
    else
        *out = f;
    return st;
}

/* ---------------------------------------------------------------- what differs */
static int32_t differs(const struct mb_file_sum *a, const struct mb_file_sum *b, const char *where)
{
    char old[33], now[33];

    if (a->bytes != b->bytes) {
        mb_error(MB_INPUT, "%s was made with another %s: it had %llu bytes, and has %llu now", where, a->name,
                 (unsigned long long)a->bytes, (unsigned long long)b->bytes);
        return 1;
    }
    if (!a->known || !b->known || (a->hash.hi == b->hash.hi && a->hash.lo == b->hash.lo))
        return 0;
    mb_hash128_hex(a->hash, old);
    mb_hash128_hex(b->hash, now);
    mb_error(MB_INPUT, "%s was made with another %s: its contents had the hash %s, and have %s now", where,
             a->name, old, now);
    return 1;
}

int32_t mb_files_differ(const struct mb_files *a, const struct mb_files *b, const char *where)
{
    int32_t n = 0;

    for (int32_t i = 0; i < a->n; i++) {
        const struct mb_file_sum *now = mb_files_find(b, a->v[i].name);
        if (now != NULL) {
            n += differs(&a->v[i], now, where);
            continue;
        }
        mb_error(MB_INPUT, "%s was made with a file %s, which is not there now", where, a->v[i].name);
        n++;
    }
    for (int32_t i = 0; i < b->n; i++) {
        if (mb_files_find(a, b->v[i].name) != NULL)
            continue;
        mb_error(MB_INPUT, "%s was made without the file %s, which is there now", where, b->v[i].name);
        n++;
    }
    return n;
}
