/* Memory of a rank, predicted from shapes before a weight is read. Bytes; sums saturate at INT64_MAX instead
 * of wrapping. Pure, Local. */
#ifndef MB_PLAN_BUDGET_H
#define MB_PLAN_BUDGET_H
#include "plan/plan.h"

/* Resident bytes of a packed GEMM weight of n outputs and k inputs in this type: outputs padded to 16, each K
 * leaf to 32. */
int64_t mb_budget_weight(int64_t n, int64_t k, int32_t leaves, enum mb_dtype t);
/* One routed expert with its biases. */
int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path);
/* One KV page of every layer. */
int64_t mb_budget_kv_page(const struct mb_model *m, enum mb_dtype kv);
/* Everything but KV pages (and total) of a rank that owns `owned` experts at most in a layer and expert_bytes
 * in all, on a node with node_ranks ranks. p needs world, nodes, alltoall, max_num_seqs and max_batch_rows.
 */
struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, int32_t owned, int64_t expert_bytes,
                                 int32_t node_ranks);
/* a * b and a + b for non-negative values, INT64_MAX where they don't fit. */
int64_t mb_sat_mul(int64_t a, int64_t b);
int64_t mb_sat_add(int64_t a, int64_t b);
#endif
