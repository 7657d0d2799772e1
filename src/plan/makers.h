/* Placements that follow what is known: how often experts were used, how much memory ranks have. Pure
 * integers and IEEE doubles in a fixed order: the same on every rank. Local. */
#ifndef MB_PLAN_MAKERS_H
#define MB_PLAN_MAKERS_H
#include <jansson.h>
#include "plan/plan.h"

#define MB_MAKER_K 128
struct mb_maker {
    int32_t moe_layers, experts, ep;
    int32_t redundant;    /* copies of experts in a layer beyond the one that each has */
    const int64_t *usage; /* [usage_layers][experts] rows of an earlier job; NULL, a layer beyond them or one
                             without rows: all experts alike */
    int32_t usage_layers;
    const int64_t *capacity; /* [ep] what each shard has for experts, in any unit, > 0; NULL: all the same */

    /* What rows between nodes cost, beside their balance; nodes <= 1: nothing. In seconds of one row of an
     * expert: a row that goes to another node, and what comes back of it, a lone value or a sum. */
    int32_t nodes, k;       /* experts of a row, at most MB_MAKER_K */
    int32_t groups;         /* of experts, that a row is limited to some of; 0: none */
    const int32_t *node_of; /* [ep], ascending */
    double far_row, far_lone, far_sum;

    const struct mb_placement *before; /* of this shape; NULL: none */
    double slack;                      /* what may be left of the best for fewer moves, as in 0.01 */
};

/* Experts of a layer that each shard may hold. Alike: ceil((experts + redundant) / ep). By capacity: experts
 * + redundant in all, none more than `experts`, the largest ratio of experts to capacity as small as can be
 * (each next one to the shard with the smallest ratio then; the lowest of equal ones). */
void mb_maker_slots(const struct mb_maker *k, int32_t *slots);

/* A placement for these: in each layer the cheapest of what several makers find, by the rows of the fullest
 * shard (split.h) and by what rows between nodes cost. They are
 *  - copies for experts with most rows a copy, again and again, as long as there are shards for them; then
 * the copies, those with most rows first, to the shard with fewest rows that has room and no copy of the
 * expert; then the fullest shard gives a copy away, or changes it for another shard's, as long as the larger
 * of the two gets smaller. By capacity alone, without copies: contiguous ranges;
 *  - with usage, and where sizes divide: DeepSeek's balancer over all shards, and node by node (eplb.c).
 * The cheapest one is then changed as long as that makes it cheaper (layer.h).
 * Quotas are given where there is usage and copies.
 * After a placement before, revision is its next, and moved counts copies that were not there: of what costs
 * at most `slack` more than the best, what moves least: the best one under other names of its shards, or the
 * placement before with changes. Errors: MB_LAYOUT, not logged, with the reason in why: more copies than
 * there can be, another shape before. */
enum mb_status mb_placement_make(const struct mb_maker *k, struct mb_placement **out,
                                 char why[MB_LAYOUT_TEXT]);

/* placement.c: room for `holders` entries in all; first[] is zero; quota[] where asked for. NULL without
 * memory. */
struct mb_placement *mb_placement_alloc(int32_t moe_layers, int32_t experts, int32_t ep, int64_t holders,
                                        bool quotas);
/* placement_file.c: values of the keys "owner" and "quota" (JSON null: none) of a plan, owned by the caller.
 */
json_t *mb_placement_owner(const struct mb_placement *p);
json_t *mb_placement_quota(const struct mb_placement *p);
#endif
