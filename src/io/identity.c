#include "io/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

void mb_identity_fini(struct mb_identity *id)
{
    mb_files_fini(&id->files);
    free(id->adapters);
    free(id->sampling);
    free(id->path);
    free(id->saved);
    free(id->shard);
    memset(id, 0, sizeof *id);
}

static const char *or_empty(const char *s)
{
    return s == NULL ? "" : s;
}

json_t *mb_identity_json(const struct mb_identity *id)
{
    char input[33], model[33], seed[24];

    mb_hash128_hex(id->input, input);
    mb_hash128_hex(id->model, model);
    /* JSON integers of other readers may not hold 64 bits */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)id->seed);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "input", input, "model", model, "seed", seed,
                     "adapters", or_empty(id->adapters), "sampling", or_empty(id->sampling), "path",
                     or_empty(id->path), "saved", or_empty(id->saved), "shard", or_empty(id->shard), "files", mb_files_json(&id->files));
}

static const char *member(const json_t *obj, const char *key, const char *what, enum mb_status *st)
{
    const char *s = json_string_value(json_object_get(obj, key));
    if (s == NULL && *st == MB_OK)
        *st = mb_error(MB_CORRUPT, "%s: the identity of the run has no %s", what, key);
    return s;
}

static char *member_copy(const json_t *obj, const char *key, const char *what, enum mb_status *st)
{
    const char *s = member(obj, key, what, st);
    char *copy = s == NULL ? NULL : strdup(s);
    if (s != NULL && copy == NULL)
        *st = mb_error(MB_NO_MEMORY, "no memory for the identity of a run");
    return copy;
}

static struct mb_hash128 member_hash(const json_t *obj, const char *key, const char *what, enum mb_status *st)
{
    const char *s = member(obj, key, what, st);
    struct mb_hash128 h = {0, 0};
    if (s == NULL)
        return h;
    if (!mb_hash128_parse(s, &h))
        *st = mb_error(MB_CORRUPT, "%s: the identity's %s is not a hash of 32 hexadecimal digits", what, key);
    return h;
}

enum mb_status mb_identity_parse(const json_t *obj, const char *what, struct mb_identity *out)
{
    enum mb_status st = MB_OK;
    struct mb_identity id = {0};

    id.input = member_hash(obj, "input", what, &st);
    id.model = member_hash(obj, "model", what, &st);
    const char *seed = member(obj, "seed", what, &st);
    id.seed = seed == NULL ? 0 : strtoull(seed, NULL, 10);
    id.adapters = member_copy(obj, "adapters", what, &st);
    id.sampling = member_copy(obj, "sampling", what, &st);
    id.path = member_copy(obj, "path", what, &st);
    id.saved = member_copy(obj, "saved", what, &st);
    id.shard = member_copy(obj, "shard", what, &st);
    if (st == MB_OK)
        st = mb_files_parse(json_object_get(obj, "files"), what, &id.files);
    if (st != MB_OK)
        mb_identity_fini(&id);
    else
        *out = id;
    return st;
}

static int differs(const char *name, const char *a, const char *b, const char *where)
{
    if (strcmp(or_empty(a), or_empty(b)) == 0)
        return 0;
    mb_error(MB_INPUT, "%s was made with another %s: '%s' there, '%s' now", where, name, or_empty(a), or_empty(b));
    return 1;
}

enum mb_status mb_identity_match(const struct mb_identity *a, const struct mb_identity *b, bool but_shard,
                                 const char *where)
{
    char old[33], now[33];
    int n = 0;

    mb_hash128_hex(a->input, old);
    mb_hash128_hex(b->input, now);
    n += differs("input", old, now, where);
    mb_hash128_hex(a->model, old);
    mb_hash128_hex(b->model, now);
    int32_t files = mb_files_differ(&a->files, &b->files, where);
    n += files;
    if (files == 0) /* else the file was named */
        n += differs("model", old, now, where);
    snprintf(old, sizeof old, "%llu", (unsigned long long)a->seed);
    snprintf(now, sizeof now, "%llu", (unsigned long long)b->seed);
    n += differs("seed", old, now, where);
    n += differs("set of adapters", a->adapters, b->adapters, where);
    n += differs("set of sampling defaults", a->sampling, b->sampling, where);
    n += differs("numeric path", a->path, b->path, where);
    n += differs("choice of what is saved", a->saved, b->saved, where);
    if (!but_shard)
        n += differs("shard", a->shard, b->shard, where);
    if (n == 0)
        return MB_OK;
    return mb_error(MB_INPUT, "%s cannot be continued by this run: give the same again, or start afresh with --overwrite "
                              "or another -o", where);
}
