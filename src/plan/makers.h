/* Placements that follow what is known: how often experts were used, how much memory ranks have. Pure
 * integers and IEEE doubles in a fixed order: the same on every rank. Local. */
#ifndef MB_PLAN_MAKERS_H
#define MB_PLAN_MAKERS_H
#include "plan/plan.h"

struct mb_maker {
    int32_t moe_layers, experts, ep;
    int32_t redundant;    /* copies of experts in a layer beyond the one that each has */
    const int64_t *usage; /* [usage_layers][experts] rows of an earlier job; NULL, a layer beyond them or one
                             without rows: all experts alike */
    int32_t usage_layers;
    const int64_t *capacity; /* [ep] what each shard has for experts, in any unit, > 0; NULL: all the same */
};

/* Experts of a layer that each shard may hold. Alike: ceil((experts + redundant) / ep). By capacity: experts
 * + redundant in all, none more than `experts`, the largest ratio of experts to capacity as small as can be
 * (each next one to the shard with the smallest ratio then; the lowest of equal ones). */
void mb_maker_slots(const struct mb_maker *k, int32_t *slots);

/* A placement for these. A copy goes to the expert with most rows a copy, again and again, as long as there
 * are shards for it; then the copies, those with most rows first, to the shard with fewest rows that has room
 * and no copy of the expert; then the fullest shard gives a copy away, or changes it for another shard's, as
 * long as the larger of the two gets smaller. By capacity alone, without copies: contiguous ranges. Errors:
 * MB_LAYOUT, not logged, with the reason in why: more copies than there can be. O(layers * (experts +
 * redundant) * (ep + experts)) time. */
enum mb_status mb_placement_make(const struct mb_maker *k, struct mb_placement **out,
                                 char why[MB_LAYOUT_TEXT]);

/* placement.c: room for `holders` entries in all; first[] is zero. NULL without memory. */
struct mb_placement *mb_placement_alloc(int32_t moe_layers, int32_t experts, int32_t ep, int64_t holders);
#endif
