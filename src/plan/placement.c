/* Which ep index serves which expert: makers, the file, and what an index owns. */
#include "plan/plan.h"

#include <stdlib.h>
#include "base/json.h"
#include "base/log.h"

#define PLACEMENT_FILE_MAX ((uint64_t)64 << 20)

void mb_placement_destroy(struct mb_placement *p)
{
    if (p == NULL)
        return;
    mb_free(p->owner);
    free(p);
}

static struct mb_placement *placement_alloc(int32_t moe_layers, int32_t experts, int32_t ep)
{
    struct mb_placement *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    *p = (struct mb_placement){1, moe_layers, experts, ep, NULL};
    p->owner = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)moe_layers * (size_t)experts, sizeof *p->owner);
    if (p->owner == NULL) {
        free(p);
        return NULL;
    }
    return p;
}

static enum mb_status no_memory(int32_t moe_layers, int32_t experts)
{
    return mb_error(MB_NO_MEMORY, "no memory for the placement of %d experts in %d layers", (int)experts,
                    (int)moe_layers);
}

int32_t mb_placement_owned(const struct mb_placement *p, int32_t lm, int32_t r, int32_t *out)
{
    const int32_t *owner = p->owner + (int64_t)lm * p->experts;
    int32_t n = 0;

    for (int32_t e = 0; e < p->experts; e++)
        if (owner[e] == r)
            out[n++] = e;
    return n;
}

/* Index r owns experts [rE/ep, (r+1)E/ep): so expert e belongs to the r with rE/ep <= e < (r+1)E/ep, which is
 * floor(((e + 1) ep - 1) / E). With ep > E some indices own nothing. */
enum mb_status mb_placement_uniform(int32_t moe_layers, int32_t experts, int32_t ep,
                                    struct mb_placement **out)
{
    struct mb_placement *p = placement_alloc(moe_layers, experts, ep);

    if (p == NULL)
        return no_memory(moe_layers, experts);
    for (int32_t lm = 0; lm < moe_layers; lm++)
        for (int32_t e = 0; e < experts; e++)
            p->owner[(int64_t)lm * experts + e] = (int32_t)((((int64_t)e + 1) * ep - 1) / experts);
    *out = p;
    return MB_OK;
}

enum mb_status mb_placement_scattered(int32_t moe_layers, int32_t experts, int32_t ep,
                                      struct mb_placement **out)
{
    struct mb_placement *p = placement_alloc(moe_layers, experts, ep);

    if (p == NULL)
        return no_memory(moe_layers, experts);
    for (int32_t lm = 0; lm < moe_layers; lm++)
        for (int32_t e = 0; e < experts; e++)
            p->owner[(int64_t)lm * experts + e] = e % ep;
    *out = p;
    return MB_OK;
}

/* One layer's row of the file. */
static enum mb_status read_layer(const char *path, const json_t *row, int32_t lm,
                                 const struct mb_placement *p)
{
    if (!json_is_array(row) || json_array_size(row) != (size_t)p->experts)
        return mb_error(MB_INPUT, "%s: owner[%d] must be an array of %d ep indices, one per expert", path,
                        (int)lm, (int)p->experts);
    for (int32_t e = 0; e < p->experts; e++) {
        const json_t *v = json_array_get(row, (size_t)e);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= p->ep)
            return mb_error(MB_INPUT, "%s: owner[%d][%d] must be an integer from 0 to %d (ep is %d)", path,
                            (int)lm, (int)e, (int)p->ep - 1, (int)p->ep);
        p->owner[(int64_t)lm * p->experts + e] = (int32_t)json_integer_value(v);
    }
    return MB_OK;
}

enum mb_status mb_placement_load(const char *path, int32_t moe_layers, int32_t experts, int32_t ep,
                                 struct mb_placement **out)
{
    json_t *doc = NULL;
    struct mb_placement *p = NULL;
    enum mb_status st = mb_json_load(path, PLACEMENT_FILE_MAX, MB_INPUT, &doc);

    if (st != MB_OK)
        return st;
    const json_t *owner = json_object_get(doc, "owner");
    if (!json_is_array(owner) || json_array_size(owner) != (size_t)moe_layers) {
        st = mb_error(MB_INPUT, "%s: \"owner\" must be an array of %d arrays, one per MoE layer", path,
                      (int)moe_layers);
        goto done;
    }
    p = placement_alloc(moe_layers, experts, ep);
    if (p == NULL) {
        st = no_memory(moe_layers, experts);
        goto done;
    }
    for (int32_t lm = 0; lm < moe_layers && st == MB_OK; lm++)
        st = read_layer(path, json_array_get(owner, (size_t)lm), lm, p);
    if (st == MB_OK) {
        *out = p;
        p = NULL;
    }
done:
    mb_placement_destroy(p);
    json_decref(doc);
    return st;
}
