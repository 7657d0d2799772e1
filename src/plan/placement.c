/* Which ep indices hold which expert: the simple makers, and what an index owns. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/makers.h"
#include "plan/split.h"

void mb_placement_destroy(struct mb_placement *p)
{
    if (p == NULL)
        return;
    mb_free(p->first);
    mb_free(p->shard);
    mb_free(p->quota);
    free(p);
}

static enum mb_status no_memory(int32_t moe_layers, int32_t experts)
{
    return mb_error(MB_NO_MEMORY, "no memory for the placement of %d experts in %d layers", (int)experts,
                    (int)moe_layers);
}

struct mb_placement *mb_placement_alloc(int32_t moe_layers, int32_t experts, int32_t ep, int64_t holders,
                                        bool quotas)
{
    struct mb_placement *p = calloc(1, sizeof *p);

    if (p == NULL)
        return NULL;
    *p = (struct mb_placement){.revision = 1, .moe_layers = moe_layers, .experts = experts, .ep = ep};
    p->first = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)moe_layers * (size_t)experts + 1, sizeof *p->first);
    p->shard = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)holders + 1, sizeof *p->shard);
    if (quotas)
        p->quota = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)holders + 1, sizeof *p->quota);
    if (p->first == NULL || p->shard == NULL || (quotas && p->quota == NULL)) {
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
    struct mb_placement *p = mb_placement_alloc(moe_layers, experts, ep, n, false);

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

/* Rows of each shard of a layer, into sum [ep]. Returns all. */
static double rows_of_shards(const struct mb_placement *p, const int64_t *usage, int32_t lm, double *sum)
{
    double all = 0;

    memset(sum, 0, (size_t)p->ep * sizeof *sum);
    for (int32_t e = 0; e < p->experts; e++) {
        int64_t i = (int64_t)lm * p->experts + e;
        for (int64_t c = p->first[i]; c < p->first[i + 1]; c++) {
            double part = p->quota != NULL ? (double)p->quota[c] / MB_SPLIT_PARTS
                                           : 1.0 / (double)(p->first[i + 1] - p->first[i]);
            sum[p->shard[c]] += part * (double)usage[i];
        }
        all += (double)usage[i];
    }
    return all;
}

double mb_placement_fullest(const struct mb_placement *p, const int64_t *usage, int32_t layers)
{
    double *sum = calloc((size_t)p->ep, sizeof *sum), total = 0;
    int32_t n = 0;

    for (int32_t lm = 0; sum != NULL && lm < layers && lm < p->moe_layers; lm++) {
        double all = rows_of_shards(p, usage, lm, sum), most = 0;
        for (int32_t r = 0; r < p->ep; r++)
            most = sum[r] > most ? sum[r] : most;
        if (all <= 0)
            continue;
        total += most * p->ep / all;
        n++;
    }
    free(sum);
    return n > 0 ? total / n : 0;
}
