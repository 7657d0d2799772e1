/* What `moebatch plan` prints. Local. */
#ifndef MB_APP_PLAN_PRINT_H
#define MB_APP_PLAN_PRINT_H
#include "conf/conf.h"
#include "app/plan_simulate.h"
#include "plan/auto.h"

void mb_plan_print_head(const struct mb_conf *c, const struct mb_auto_in *in);
/* The best layouts; the one that is taken is marked. */
enum mb_status mb_plan_print_table(const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken);
/* The simple layouts that one would think of first, and what becomes of each. taken: NULL where nothing fits.
 */
enum mb_status mb_plan_print_simple(const struct mb_auto_in *in, const struct mb_candidate *taken);
/* The choice with the plan made for it, what it costs at --price, and why. */
void mb_plan_print_choice(const struct mb_conf *c, const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken,
                          const struct mb_plan *p);
/* All of it as one JSON object, the layouts fastest first (at most 100): --json. sim: NULL without --simulate. Errors: MB_NO_MEMORY. */
enum mb_status mb_plan_print_json(const struct mb_conf *c, const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken,
                                  const struct mb_simulated *sim);
/* A whole job script for this layout, to standard output: what moebatch.sbatch does, with nodes, ranks and options filled in.
 * plan_sbatch.c. */
void mb_plan_print_sbatch(const struct mb_conf *c, const struct mb_auto_in *in, const struct mb_candidate *taken);
/* Node-hours of the workload on the whole cluster, loading and assembly included. */
static inline double mb_plan_node_hours(const struct mb_auto_in *in, const struct mb_candidate *c)
{
    return c->cost.seconds / 3600 * in->c->nodes;
}
/* "--data-parallel-size 4 --expert-parallel-size 8 ...": sizes that a command line needs for this layout. */
void mb_plan_options_text(const struct mb_layout *l, char out[MB_LAYOUT_TEXT]);

/* Numbers of nodes that were tried for --deadline-hours. */
struct mb_plan_nodes {
    struct mb_plan_nodes_row {
        int32_t nodes;
        bool fits;
        struct mb_candidate best;
    } * row;
    int32_t n, cap;
};
enum mb_status mb_plan_print_nodes(struct mb_plan_nodes *t, const struct mb_auto_in *in, double hours,
                                   int32_t answer);
#endif
