/* A step of a job that does not run: rows are routed, copies chosen and messages counted for every rank of a
 * group, by the placement, the tables (serve.h) and the formulas (traffic.h) that the job itself would go by,
 * layer by layer. Rows come from a recorded routing, or are drawn. Groups of other lanes do the same. Pure,
 * Local. */
#ifndef MB_PLAN_SIMULATE_H
#define MB_PLAN_SIMULATE_H
#include "plan/cost.h"

struct mb_sim_in {
    const struct mb_plan *p; /* under stage scope */
    const struct mb_model *m;
    const struct mb_cost_in
        *cost; /* of this layout: the machine's speeds, and what a step takes without experts */
    const struct mb_cost_step *step; /* of an attention group, in which each of its members sends `rows` */
    struct mb_exchange_shape shape;
    int64_t rows; /* that a member which attends sends in each layer */

    /* Where rows go. */
    const uint16_t
        *recorded; /* [MoE layers][recorded_rows][k], members take rows one after another; NULL: drawn */
    int64_t recorded_rows;
    double exponent; /* of the popularity of experts by their rank, which is another in each layer; 0: all
                        alike */
    uint64_t seed;
};

struct mb_sim {
    int64_t members, layers, domains;    /* of a group; MoE layers; domains of a group */
    int64_t rows, pairs;                 /* of a layer, in a group */
    struct mb_traffic dispatch, combine; /* of all layers and lanes in a step */
    double shard_mean,
        shard_most;   /* rows of the fullest member's experts by the mean: mean and most over layers */
    double node_mean; /* bytes of the fullest node's network by the mean, mean over layers; 0: one node */
    double reach;     /* domains that a row goes to, besides its own, in the mean */
    double experts, exchange, rest,
        seconds;        /* of the slowest stage: its layers' experts, exchanges, everything else, and all */
    int64_t plan_bytes; /* what a rank's plan, placement and tables take */
};
/* O(layers * (members * rows * k^2 + copies * members)) time, O(members * rows * k) memory. Errors:
 * MB_NO_MEMORY; MB_LAYOUT, not logged: lane scope, with the reason in why. */
enum mb_status mb_simulate(const struct mb_sim_in *in, struct mb_sim *out, char why[MB_LAYOUT_TEXT]);
#endif
