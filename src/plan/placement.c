/* Which ep indices hold which expert: makers, the file, and what an index owns. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "plan/makers.h"

#define PLACEMENT_FILE_MAX ((uint64_t)64 << 20)

void mb_placement_destroy(struct mb_placement *p)
{
    if (p == NULL)
        return;
    mb_free(p->first);
    mb_free(p->shard);
    free(p);
}

static enum mb_status no_memory(int32_t moe_layers, int32_t experts)
{
    return mb_error(MB_NO_MEMORY, "no memory for the placement of %d experts in %d layers", (int)experts,
                    (int)moe_layers);
}

struct mb_placement *mb_placement_alloc(int32_t moe_layers, int32_t experts, int32_t ep, int64_t holders)
{
    struct mb_placement *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    *p = (struct mb_placement){.revision = 1, .moe_layers = moe_layers, .experts = experts, .ep = ep};
    p->first = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)moe_layers * (size_t)experts + 1, sizeof *p->first);
    p->shard = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)holders + 1, sizeof *p->shard);
    if (p->first == NULL || p->shard == NULL) {
        mb_placement_destroy(p);
        return NULL;
    }
    return p;
}

/* Index r owns experts [rE/ep, (r+1)E/ep): so expert e belongs to the r with rE/ep <= e < (r+1)E/ep, which is
 * floor(((e + 1) ep - 1) / E). With ep > E some indices own nothing. */
static int32_t uniform_owner(int32_t e, int32_t experts, int32_t ep)
{
    return (int32_t)((((int64_t)e + 1) * ep - 1) / experts);
}

static enum mb_status one_holder(int32_t moe_layers, int32_t experts, int32_t ep, bool scattered,
                                 struct mb_placement **out)
{
    int64_t n = (int64_t)moe_layers * experts;
    struct mb_placement *p = mb_placement_alloc(moe_layers, experts, ep, n);

    if (p == NULL)
        return no_memory(moe_layers, experts);
    for (int64_t i = 0; i < n; i++) {
        int32_t e = (int32_t)(i % experts);
        p->shard[i] = scattered ? e % ep : uniform_owner(e, experts, ep);
        p->first[i + 1] = i + 1;
    }
    *out = p;
    return MB_OK;
}

enum mb_status mb_placement_uniform(int32_t moe_layers, int32_t experts, int32_t ep,
                                    struct mb_placement **out)
{
    return one_holder(moe_layers, experts, ep, false, out);
}

enum mb_status mb_placement_scattered(int32_t moe_layers, int32_t experts, int32_t ep,
                                      struct mb_placement **out)
{
    return one_holder(moe_layers, experts, ep, true, out);
}

/* From holders[(lm * experts + e) * ep + r] != 0: ep index r holds expert e. */
static enum mb_status of_holders(int32_t moe_layers, int32_t experts, int32_t ep, const uint8_t *holders,
                                 struct mb_placement **out)
{
    int64_t n = (int64_t)moe_layers * experts, total = 0;

    for (int64_t i = 0; i < n * ep; i++)
        total += holders[i] != 0;
    struct mb_placement *p = mb_placement_alloc(moe_layers, experts, ep, total);
    if (p == NULL)
        return no_memory(moe_layers, experts);
    for (int64_t i = 0, at = 0; i < n; i++) {
        for (int32_t r = 0; r < ep; r++) {
            if (holders[i * ep + r])
                p->shard[at++] = r;
        }
        p->first[i + 1] = at;
        if (p->first[i] == at) {
            mb_placement_destroy(p);
            return mb_error(MB_LAYOUT, "the placement gives expert %d of MoE layer %d to no rank",
                            (int)(i % experts), (int)(i / experts));
        }
    }
    *out = p;
    return MB_OK;
}

int32_t mb_placement_owned(const struct mb_placement *p, int32_t lm, int32_t r, int32_t *out)
{
    int32_t n = 0, holders;

    for (int32_t e = 0; e < p->experts; e++) {
        const int32_t *h = mb_placement_holders(p, lm, e, &holders);
        for (int32_t i = 0; i < holders; i++) {
            if (h[i] == r)
                out[n++] = e;
        }
    }
    return n;
}

/* ---------------------------------------------------------------- the file */

static enum mb_status read_holder(const char *path, const json_t *v, int32_t lm, int32_t e, int32_t ep,
                                  uint8_t *holders)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= ep)
        return mb_error(MB_INPUT,
                        "%s: owner[%d][%d] must be an integer from 0 to %d (ep is %d), or a list of such",
                        path, (int)lm, (int)e, (int)ep - 1, (int)ep);
    holders[json_integer_value(v)] = 1;
    return MB_OK;
}

/* One layer's row of the file. */
static enum mb_status read_layer(const char *path, const json_t *row, int32_t lm, int32_t experts, int32_t ep,
                                 uint8_t *holders)
{
    if (!json_is_array(row) || json_array_size(row) != (size_t)experts)
        return mb_error(MB_INPUT, "%s: owner[%d] must be an array of %d ep indices, one per expert", path,
                        (int)lm, (int)experts);
    for (int32_t e = 0; e < experts; e++) {
        const json_t *v = json_array_get(row, (size_t)e);
        if (json_is_array(v) && json_array_size(v) == 0)
            return mb_error(MB_INPUT, "%s: owner[%d][%d] is an empty list; each expert needs a rank", path,
                            (int)lm, (int)e);
        for (size_t i = 0; json_is_array(v) && i < json_array_size(v); i++)
            MB_TRY(read_holder(path, json_array_get(v, i), lm, e, ep, holders + (int64_t)e * ep));
        if (!json_is_array(v))
            MB_TRY(read_holder(path, v, lm, e, ep, holders + (int64_t)e * ep));
    }
    return MB_OK;
}

enum mb_status mb_placement_load(const char *path, int32_t moe_layers, int32_t experts, int32_t ep,
                                 struct mb_placement **out)
{
    json_t *doc = NULL;
    int64_t layer = (int64_t)experts * ep;

    MB_TRY(mb_json_load(path, PLACEMENT_FILE_MAX, MB_INPUT, &doc));
    const json_t *owner = json_object_get(doc, "owner");
    uint8_t *holders = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)moe_layers + 1, (size_t)layer + 1);
    enum mb_status st = holders == NULL ? no_memory(moe_layers, experts) : MB_OK;
    if (st == MB_OK && (!json_is_array(owner) || json_array_size(owner) != (size_t)moe_layers))
        st = mb_error(MB_INPUT, "%s: \"owner\" must be an array of %d arrays, one per MoE layer", path,
                      (int)moe_layers);
    for (int32_t lm = 0; lm < moe_layers && st == MB_OK; lm++)
        st = read_layer(path, json_array_get(owner, (size_t)lm), lm, experts, ep, holders + lm * layer);
    if (st == MB_OK)
        st = of_holders(moe_layers, experts, ep, holders, out);
    mb_free(holders);
    json_decref(doc);
    return st;
}
