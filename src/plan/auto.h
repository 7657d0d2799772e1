/* The planner: which layout of a cluster suits a model and a workload. Pure, Local.
 *
 * Every layout is looked at that mb_plan_refusal takes and that (mb_auto_admits)
 *  - has the sizes that were given;
 *  - keeps tensor, sequence and slice groups inside a node, whose links they need in every layer (a size that
 *    was given is taken as it is);
 *  - has no more shards than experts, and no more stages than layers;
 *  - splits sequences only where a context of more than MB_AUTO_CONTEXT positions is asked for.
 * Of those that fit into memory it takes the one with the least estimated time (plan/cost.h), loading and
 * assembly included; of equally fast ones that which splits least: expert and data parallelism before tensors
 * or slices of experts, those before pipeline stages. Too little KV needs no rule: few sequences at once are
 * slow, and the estimate knows how many there are. */
#ifndef MB_PLAN_AUTO_H
#define MB_PLAN_AUTO_H
#include "plan/cost.h"

#define MB_AUTO_CONTEXT 16384

struct mb_auto_in {
    const struct mb_model *m;
    const struct mb_plan_options *o; /* its layout: sizes that were given; max_num_seqs and the like as in
                                        mb_plan_create. No placement but equal ranges is looked at. */
    const struct mb_cluster *c;
    int64_t memory; /* bytes that a rank may use; INT64_MAX: not known */
    struct mb_workload w;
    int64_t context; /* positions of the longest sequence asked for */
};

/* How far a layout goes beyond expert and data parallelism: 1 for tensor parallelism, 1 for slices of
 * experts, 3 for stages, where they were not given. */
enum { MB_AUTO_STAGES = 3, MB_AUTO_LEVELS = 6 };

struct mb_candidate {
    struct mb_layout l;
    int32_t level;
    int64_t weights, experts, rest; /* bytes of the fullest rank; rest: activations, exchange, staging */
    int64_t kv;                     /* what it gives to KV pages */
    int64_t need;                   /* weights + experts + rest + KV of one sequence */
    int64_t room;                   /* sequences of the workload's length for which there is KV */
    int64_t seqs;                   /* under way at once in an attention group: room and --max-num-seqs */
    struct mb_cost cost;
};

struct mb_auto {
    struct mb_candidate *fit;                  /* [n] fastest first */
    int64_t n, tried, legal;                   /* legal: taken by mb_plan_refusal */
    struct mb_candidate least[MB_AUTO_LEVELS]; /* of each level the one that needs least; need 0: none */
    char refused[MB_LAYOUT_TEXT];              /* why one was refused, if any was */
};

bool mb_auto_admits(const struct mb_auto_in *in, const struct mb_layout *l);
/* Every layout that mb_auto_admits takes, once. */
void mb_auto_layouts(const struct mb_auto_in *in, void (*visit)(void *arg, const struct mb_layout *l),
                     void *arg);
/* Memory and cost of one layout (level, room and seqs too; seqs 0: no sequence fits, and no cost). MB_LAYOUT,
 * not logged, with the reason in why, where mb_plan_refusal refuses. */
enum mb_status mb_auto_rate(const struct mb_auto_in *in, const struct mb_layout *l, struct mb_candidate *out,
                            char why[MB_LAYOUT_TEXT]);
/* Rates all. n = 0 where none fits. Errors: MB_NO_MEMORY. */
enum mb_status mb_auto_create(const struct mb_auto_in *in, struct mb_auto **out);
void mb_auto_destroy(struct mb_auto *a); /* NULL ok */
/* Of all that were looked at the one that needs least memory, whether it fits or not; NULL: none was legal.
 */
const struct mb_candidate *mb_auto_smallest(const struct mb_auto *a);
/* The first of fit that mb_plan_works takes on this topology; -1: none of the first few hundred. */
int64_t mb_auto_settle(const struct mb_auto *a, const struct mb_auto_in *in, const struct mb_topo *t);
/* A sentence: why fit[i] was chosen. */
#define MB_AUTO_TEXT 1024
void mb_auto_reason(const struct mb_auto *a, const struct mb_auto_in *in, int64_t i, char out[MB_AUTO_TEXT]);

/* The smallest number of nodes of this kind, not below in->c->nodes, on which something fits (seconds <= 0),
 * or on which the workload takes no longer than this; 0: none up to MB_AUTO_NODES ranks. Up to 128 nodes each
 * number is tried, beyond that 64 between two powers of two. seen(arg, nodes, best) is told of every number
 * tried (best NULL: nothing fits). Errors: MB_NO_MEMORY. */
#define MB_AUTO_NODES 65536
enum mb_status mb_auto_nodes(const struct mb_auto_in *in, double seconds,
                             void (*seen)(void *arg, int32_t nodes, const struct mb_candidate *best),
                             void *arg, int32_t *nodes);
#endif
