/* Memory of a rank, predicted from shapes before a weight is read. Bytes; sums saturate at INT64_MAX instead
 * of wrapping. Pure, Local. */
#ifndef MB_PLAN_BUDGET_H
#define MB_PLAN_BUDGET_H
#include "plan/plan.h"

/* Resident bytes of a packed GEMM weight of n outputs and k inputs in this type: outputs padded to 16, each K
 * leaf to 32. unit: 0 for one leaf, else the unit of a row-parallel weight's leaves. */
int64_t mb_budget_weight(int64_t n, int64_t k, int64_t unit, enum mb_dtype t);
/* The GEMM weights of one routed expert; its biases count as weights. */
int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path);
/* One KV page of every layer. */
int64_t mb_budget_kv_page(const struct mb_model *m, enum mb_dtype kv, bool mtp);

/* A rank of a node with node_ranks ranks that owns `owned` experts at most in a layer, and `experts` of all
 * layers together; adapters: bytes of their terms. */
struct mb_budget_rank {
    int32_t owned, node_ranks;
    int64_t experts, adapters;
};
/* Resident bytes of the adapters' matrices on index: those every rank holds, and those of its own experts.
 * In budget_adapters.c. */
int64_t mb_budget_adapters(const struct mb_model *m, const struct mb_placement *pl,
                           const struct mb_plan_options *o, int32_t index);
/* Room for the terms of max_batch_rows rows and of this many rows of experts; 0 without adapters. */
int64_t mb_budget_adapter_rows(const struct mb_model *m, const struct mb_plan *p,
                               const struct mb_plan_options *o, int64_t expert_rows);
/* Whether dispatched rows say which adapter is theirs. */
bool mb_budget_tagged(const struct mb_plan_options *o);
/* Everything but KV pages (and total). p needs world, nodes, alltoall, max_num_seqs, max_batch_rows, max_len
 * and max_pages_per_seq. */
struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, const struct mb_budget_rank *r);
/* Parts of it, in budget_step.c. */
int64_t mb_budget_activations(const struct mb_model *m, const struct mb_plan *p,
                              const struct mb_plan_options *o, int32_t owned);
int64_t mb_budget_exchange(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                           const struct mb_budget_rank *r);
int64_t mb_budget_staging(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o);

/* a * b and the sum of n values, all non-negative; INT64_MAX where they don't fit. */
int64_t mb_sat_mul(int64_t a, int64_t b);
int64_t mb_sat_add(int64_t a, int64_t b);
int64_t mb_sat_sum(const int64_t *v, int n);
#define MB_SUM(...)                                                                                          \
    mb_sat_sum((const int64_t[]){__VA_ARGS__},                                                               \
               (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
#endif
