/* Placements as JSON files, read and written. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "plan/makers.h"
#include "plan/split.h"

#define PLACEMENT_FILE_MAX ((uint64_t)256 << 20)

struct reader {
    const char *path;
    struct mb_placement *p; /* NULL: only counted */
    int64_t at;             /* entries so far */
};

static enum mb_status bad_entry(const struct reader *f, int32_t lm, int32_t e, int32_t ep)
{
    return mb_error(
        MB_INPUT,
        "%s: owner[%d][%d] must be an integer from 0 to %d (ep is %d), or a list of such, none twice",
        f->path, (int)lm, (int)e, (int)ep - 1, (int)ep);
}

/* One holder into its place among those of its expert, from number `first` on. */
static enum mb_status read_holder(struct reader *f, const json_t *v, const json_t *part, int64_t first,
                                  int32_t lm, int32_t e, int32_t ep)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= ep)
        return bad_entry(f, lm, e, ep);
    int32_t r = (int32_t)json_integer_value(v);
    int64_t to = f->at++;
    if (f->p == NULL)
        return MB_OK;
    for (; to > first && f->p->shard[to - 1] >= r; to--) {
        if (f->p->shard[to - 1] == r)
            return bad_entry(f, lm, e, ep);
        f->p->shard[to] = f->p->shard[to - 1];
        if (f->p->quota != NULL)
            f->p->quota[to] = f->p->quota[to - 1];
    }
    f->p->shard[to] = r;
    if (f->p->quota != NULL)
        f->p->quota[to] = part != NULL ? (int32_t)json_integer_value(part) : MB_SPLIT_PARTS;
    return MB_OK;
}

/* Quotas of an expert with n copies: n parts that sum to all, or null for all alike. */
static enum mb_status check_parts(const struct reader *f, const json_t *parts, size_t n, int32_t lm,
                                  int32_t e)
{
    json_int_t sum = 0;
    bool good = json_is_array(parts) && json_array_size(parts) == n;

    for (size_t i = 0; good && i < n; i++) {
        const json_t *v = json_array_get(parts, i);
        good = json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= MB_SPLIT_PARTS;
        sum += good ? json_integer_value(v) : 0;
    }
    if (good && sum == MB_SPLIT_PARTS)
        return MB_OK;
    return mb_error(MB_INPUT,
                    "%s: quota[%d][%d] must be null, or for each of the expert's %zu owners its part of %d",
                    f->path, (int)lm, (int)e, n, MB_SPLIT_PARTS);
}

/* Copies whose quotas are not said get equal parts. */
static void equal_parts(struct mb_placement *p, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        p->quota[first + i] = (int32_t)(MB_SPLIT_PARTS * (i + 1) / n - MB_SPLIT_PARTS * i / n);
}

static enum mb_status read_expert(struct reader *f, const json_t *v, const json_t *parts, int32_t lm,
                                  int32_t e, int32_t ep)
{
    int64_t first = f->at;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    bool said = parts != NULL && !json_is_null(parts);

    if (n == 0)
        return mb_error(MB_INPUT, "%s: owner[%d][%d] is an empty list; each expert needs a rank", f->path,
                        (int)lm, (int)e);
    if (said && json_is_array(v))
        MB_TRY(check_parts(f, parts, n, lm, e));
    for (size_t i = 0; i < n; i++)
        MB_TRY(read_holder(f, json_is_array(v) ? json_array_get(v, i) : v,
                           said && json_is_array(v) ? json_array_get(parts, i) : NULL, first, lm, e, ep));
    if (f->p != NULL && f->p->quota != NULL && !(said && json_is_array(v)))
        equal_parts(f->p, first, f->at - first);
    return MB_OK;
}

/* All layers, counted or filled in. */
static enum mb_status read_layers(struct reader *f, const json_t *owner, const json_t *quota, int32_t layers,
                                  int32_t experts, int32_t ep)
{
    f->at = 0;
    for (int32_t lm = 0; lm < layers; lm++) {
        const json_t *row = json_array_get(owner, (size_t)lm), *parts = json_array_get(quota, (size_t)lm);
        if (!json_is_array(row) || json_array_size(row) != (size_t)experts)
            return mb_error(MB_INPUT, "%s: owner[%d] must be an array of %d ep indices, one per expert",
                            f->path, (int)lm, (int)experts);
        if (quota != NULL && (!json_is_array(parts) || json_array_size(parts) != (size_t)experts))
            return mb_error(MB_INPUT, "%s: quota[%d] must be an array of %d entries, one per expert", f->path,
                            (int)lm, (int)experts);
        for (int32_t e = 0; e < experts; e++) {
            MB_TRY(
                read_expert(f, json_array_get(row, (size_t)e), json_array_get(parts, (size_t)e), lm, e, ep));
            if (f->p != NULL)
                f->p->first[(int64_t)lm * experts + e + 1] = f->at;
        }
    }
    return MB_OK;
}

/* A plan's JSON has the same keys. */
enum mb_status mb_placement_load(const char *path, int32_t moe_layers, int32_t experts, int32_t ep,
                                 struct mb_placement **out)
{
    struct reader f = {.path = path};
    json_t *doc = NULL;

    MB_TRY(mb_json_load(path, PLACEMENT_FILE_MAX, MB_INPUT, &doc));
    const json_t *owner = json_object_get(doc, "owner"), *quota = json_object_get(doc, "quota"),
                 *revision = json_object_get(doc, "placement_revision");
    enum mb_status st = MB_OK;
    if (json_is_null(quota))
        quota = NULL;
    if (!json_is_array(owner) || json_array_size(owner) != (size_t)moe_layers)
        st = mb_error(MB_INPUT, "%s: \"owner\" must be an array of %d arrays, one per MoE layer", path,
                      (int)moe_layers);
    else if (quota != NULL && (!json_is_array(quota) || json_array_size(quota) != (size_t)moe_layers))
        st = mb_error(MB_INPUT, "%s: \"quota\" must be an array of %d arrays, one per MoE layer", path,
                      (int)moe_layers);
    if (st == MB_OK)
        st = read_layers(&f, owner, quota, moe_layers, experts, ep);
    if (st == MB_OK) {
        f.p = mb_placement_alloc(moe_layers, experts, ep, f.at, quota != NULL);
        st = f.p == NULL ? mb_error(MB_NO_MEMORY, "no memory for the placement of %d experts in %d layers",
                                    (int)experts, (int)moe_layers)
                         : read_layers(&f, owner, quota, moe_layers, experts, ep);
    }
    if (st == MB_OK && json_is_integer(revision) && json_integer_value(revision) > 0 &&
        json_integer_value(revision) < UINT32_MAX)
        f.p->revision = (uint32_t)json_integer_value(revision);
    json_decref(doc);
    if (st != MB_OK) {
        mb_placement_destroy(f.p);
        return st;
    }
    *out = f.p;
    return MB_OK;
}

/* ---------------------------------------------------------------- written */

static json_t *ints(const int32_t *v, int64_t n)
{
    json_t *a = json_array();

    for (int64_t i = 0; i < n; i++)
        json_array_append_new(a, json_integer(v[i]));
    return a;
}

json_t *mb_placement_owner(const struct mb_placement *p)
{
    json_t *layers = json_array();

    for (int32_t lm = 0; lm < p->moe_layers; lm++) {
        json_t *a = json_array();
        for (int32_t e = 0; e < p->experts; e++) {
            int32_t n;
            const int32_t *h = mb_placement_holders(p, lm, e, &n);
            json_array_append_new(a, n == 1 ? json_integer(h[0]) : ints(h, n));
        }
        json_array_append_new(layers, a);
    }
    return layers;
}

json_t *mb_placement_quota(const struct mb_placement *p)
{
    json_t *layers = json_array();

    if (p->quota == NULL) {
        json_decref(layers);
        return json_null();
    }
    for (int32_t lm = 0; lm < p->moe_layers; lm++) {
        json_t *a = json_array();
        for (int32_t e = 0; e < p->experts; e++) {
            int64_t i = (int64_t)lm * p->experts + e, n = p->first[i + 1] - p->first[i];
            json_array_append_new(a, n == 1 ? json_null() : ints(p->quota + p->first[i], n));
        }
        json_array_append_new(layers, a);
    }
    return layers;
}

char *mb_placement_text(const struct mb_placement *p)
{
    json_t *doc = json_pack("{s:i, s:i, s:o, s:o}", "placement_revision", (int)p->revision, "ep", (int)p->ep,
                            "owner", mb_placement_owner(p), "quota", mb_placement_quota(p));
    char *text = doc != NULL ? json_dumps(doc, JSON_COMPACT) : NULL;

    json_decref(doc);
    return text;
}
