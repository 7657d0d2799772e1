/* What every rank of a plan needs, and how many KV pages there is room for. Of plan.c and
 * auto.c only. */
#ifndef MB_PLAN_MEMORY_H
#define MB_PLAN_MEMORY_H
#include "plan/plan.h"

/* Sets kv_pages, budget, kind, expert_bytes and weight_bytes of p from everything else in it. MB_LAYOUT, not
 * logged, with the reason in why, where a rank needs more than it may use (no reason: it was logged). O(ranks
 * + layers * experts). */
enum mb_status mb_plan_memory(const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, struct mb_plan *p, char why[MB_LAYOUT_TEXT]);

/* What one rank of a node may use: fraction of the node's free memory by its ranks. INT64_MAX where it is
 * unknown. */
int64_t mb_plan_rank_memory(const struct mb_topo *t, int32_t node, double fraction);

/* What each ep index has for experts, in bytes: the least, over the ranks that hold its shards, of what a
 * rank may use less its other weights; 1 where nothing is left, and for all where a rank's memory is not
 * known. capacity: [ep]. */
enum mb_status mb_plan_capacity(const struct mb_model *m, const struct mb_topo *t,
                                const struct mb_plan_options *o, const struct mb_plan *p, int64_t *capacity);
#endif
