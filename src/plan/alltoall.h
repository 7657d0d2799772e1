/* The algorithms of an exchange, a row each. One sets itself apart from another by what it takes for nodes of
 * the group, its domains: the exchange (comm/xchg.h) and the formulas of what it sends (traffic.c) are one
 * code for all. Pure, Local.
 *
 * `auto` takes the one that is expected to be faster for a full step and a step of one row for each sequence
 * together: seconds by the bytes and messages of rows that are drawn evenly, and the speeds that the planner
 * reckons with (cost.h). These are integers of the plan, the same on all ranks; a rank's own rows say
 * nothing. */
#ifndef MB_PLAN_ALLTOALL_H
#define MB_PLAN_ALLTOALL_H
#include "plan/cluster.h"
#include "plan/plan.h"

/* What a choice goes by. */
struct mb_alltoall_case {
    const struct mb_model *m;
    const struct mb_layout *l;
    const struct mb_cluster *c; /* speeds; net 0: MB_ALLTOALL_NET */
    int32_t nodes;              /* of the machine, that a group lies on at most */
    enum mb_dtype path;
    int32_t rows, seqs; /* of a full step of an attention group; sequences of it */
};
#define MB_ALLTOALL_NET 1.25e9 /* bytes/s of a node whose network nobody knows */

/* What the exchange of a layer moves because of a rank's rows, both ways, in the mean. */
struct mb_alltoall_load {
    double net;               /* bytes to and from other nodes */
    double link;              /* bytes inside the node */
    double messages;          /* that a rank posts */
    int32_t far_waits, waits; /* for a message from another node; for others in the node: one after another */
};
struct mb_alltoall_row {
    const char *name, *help;
    /* The algorithm that runs where this one is asked for: one that has a partition. */
    enum mb_alltoall (*resolve)(const struct mb_alltoall_case *c);
    /* Domains of n members, whose machine nodes ascend: domain[n], from 0, ascending too. Returns how many.
     * NULL: resolve gives another one. */
    int32_t (*partition)(const int32_t *node, int32_t n, int32_t *domain);
    void (*traffic)(const struct mb_alltoall_case *c, double rows, struct mb_alltoall_load *out);
};
extern const struct mb_alltoall_row mb_alltoall_rows[MB_A2A_COUNT];

/* Seconds of an exchange with so many rows of each rank. kind: one that has a partition. */
double mb_alltoall_seconds(const struct mb_alltoall_case *c, enum mb_alltoall kind, double rows);
/* The nodes that one of the groups of `group` neighbours among `world` ranks lies on, at most. */
int32_t mb_alltoall_nodes(const int32_t *node_of, int32_t world, int32_t group);
/* By name; MB_A2A_COUNT: none. */
enum mb_alltoall mb_alltoall_named(const char *name);
#endif
