/* Memory of a rank, predicted from shapes before a weight is read. Bytes; sums saturate at INT64_MAX instead
 * of wrapping. Pure, Local. */
#ifndef MB_PLAN_BUDGET_H
#define MB_PLAN_BUDGET_H
#include "plan/parts.h"
#include "plan/plan.h"
#include "plan/rooms.h"

/* Share r of `of` ranks of what leaves divide (doc/numerics, Leaves). {0, 1}: all of it. */
struct mb_part_of {
    int32_t r, of;
};
#define MB_WHOLE ((struct mb_part_of){0, 1})
/* Columns of the vocabulary of a tensor rank. */
static inline int64_t mb_columns(int64_t vocab, struct mb_part_of s)
{
    int64_t v0, v1;
    mb_part_vocab(vocab, s.r, s.of, &v0, &v1);
    return v1 - v0;
}

/* Resident bytes of a packed GEMM weight of n outputs and k inputs in this type: outputs padded to 16, each K
 * leaf to 32. unit: 0 for one leaf, else the unit of a row-parallel weight's leaves, of which the share is
 * counted. */
int64_t mb_budget_weight(int64_t n, int64_t k, int64_t unit, struct mb_part_of s, enum mb_dtype t);
/* The GEMM weights of a slice of one routed expert; its biases count as weights. */
int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path, struct mb_part_of slice);
/* The largest piece of an expert in transit between ranks: rows of either weight, or a bias. */
int64_t mb_budget_piece(const struct mb_model *m, enum mb_dtype path);
/* What a tensor rank of a stage with layers [first, last) keeps of everything but routed experts; the last
 * stage has the head and an MTP module in use. O(layers of the stage). */
struct mb_budget_stage {
    int32_t first, last;
    bool is_first, is_last;
};
int64_t mb_budget_dense(const struct mb_model *m, const struct mb_plan_options *o, const struct mb_budget_stage *g,
                        struct mb_part_of s, struct mb_part_of linear);
/* The share of linear attention's heads of tensor rank t in part q. */
static inline struct mb_part_of mb_linear_share(const struct mb_layout *l, int32_t q, int32_t t)
{
    return (struct mb_part_of){q * l->tp + t, l->sp * l->tp};
}
/* One KV page of every layer of the stage. */
int64_t mb_budget_kv_page(const struct mb_model *m, const struct mb_plan_options *o,
                          const struct mb_budget_stage *g, struct mb_part_of s);

/* Under ZeRO-inference (p->zero, p->min_experts): experts that a rank of a group keeps whose ep shards hold
 * `held` experts in so many MoE layers: the given part of an even share; not less than min_experts of each
 * layer and one more, in which the others come and go, nor more than there are. And how many a layer's
 * exchange may find on a rank that owns `owned` of it and keeps `kept` in all: copies of others' experts come
 * beside its own. */
int32_t mb_budget_kept(const struct mb_plan *p, int64_t layers, int64_t experts, int64_t held);
int32_t mb_budget_served(int64_t owned, int64_t kept, int64_t experts);

/* What a rank keeps, counted by the caller. */
struct mb_budget_rank {
    struct mb_place at;
    int32_t owned;        /* most experts in one layer */
    int32_t node0, node1; /* indices [node0, node1) of its node's ranks */
    int32_t widest;       /* ranks of the largest node */
    int64_t experts;      /* of all its layers */
    int64_t dense;        /* mb_budget_dense; 0 where it does not attend */
    int64_t adapters;     /* bytes of adapters' matrices */
};
/* Everything but KV pages (and total). Of p: layout, first_layer, nodes, alltoall, max_num_seqs,
 * max_batch_rows, max_len, max_pages_per_seq. O(1). */
struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, const struct mb_budget_rank *r);

/* Resident bytes of the adapters' matrices: those of each stage's tensor ranks [pp][tp], and of each shard's
 * slices of experts [groups][ep][etp], a group being a stage, or the lane under lane scope. In
 * budget_adapters.c. */
void mb_budget_adapters(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                        int64_t *dense, int64_t *routed);
/* The largest rank of an adapter; 0 without adapters. */
int64_t mb_budget_adapter_rank(const struct mb_plan_options *o);
/* Whether dispatched rows say which adapter is theirs. */
bool mb_budget_tagged(const struct mb_plan_options *o);

/* A rank's shares as the parts of the budget need them. */
struct mb_budget_view {
    const struct mb_model *m;
    const struct mb_plan *p;
    const struct mb_plan_options *o;
    const struct mb_budget_rank *r;
    struct mb_part_of tensor, slice, linear; /* linear: of linear attention's heads */
    bool attends, last, sampler, leads;
    int64_t es;         /* bytes of an element of the path */
    int64_t ys; /* of queries and of what experts return */
    int64_t R, own;     /* rows of a step; those whose residual stream is kept here */
    int64_t pairs;      /* (row, expert) pairs computed here at a time */
    int64_t pairs_each; /* that one member may send of them */
    int64_t logit_rows; /* rows whose logits are held at a time */
};
/* The widest input or output here of a weight that an adapter's term can be added to. budget_adapters.c */
int64_t mb_budget_adapter_width(const struct mb_budget_view *v);
/* The engine's buffers: bytes [MB_ROOM_COUNT], of which those of the exchange are left alone. rooms_step.c */
void mb_budget_step_rooms(const struct mb_budget_view *v, int64_t *bytes);
/* budget_step.c */
/* The choice of keys of one row, which goes to a stage whose first layer shares it. */
static inline int64_t mb_budget_choice(const struct mb_model *m)
{
    return m->indexer.topk > 0 ? 4 * ((int64_t)m->indexer.topk + 1) : 0;
}
/* What a rank posts on its line in one step: headers, rows between stages, results. */
int64_t mb_budget_posts(const struct mb_budget_view *v);
/* Its largest sum while a rank loads and runs. */
int64_t mb_budget_staging(const struct mb_budget_view *v, const struct mb_rooms *r);
/* The rooms of a rank. In budget.c. */
void mb_budget_rooms(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                     const struct mb_budget_rank *r, struct mb_rooms *out);

/* a * b and the sum of n values, all non-negative; INT64_MAX where they don't fit. */
int64_t mb_sat_mul(int64_t a, int64_t b);
int64_t mb_sat_add(int64_t a, int64_t b);
int64_t mb_sat_sum(const int64_t *v, int n);
#define MB_SUM(...)                                                                                          \
    mb_sat_sum((const int64_t[]){__VA_ARGS__},                                                               \
               (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
static inline int64_t mb_most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t mb_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
#endif
