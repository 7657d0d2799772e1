/* moebatch plan --simulate. Local. */
#ifndef MB_APP_PLAN_SIMULATE_H
#define MB_APP_PLAN_SIMULATE_H
#include <jansson.h>
#include "conf/conf.h"
#include "plan/auto.h"
#include "plan/simulate.h"

struct mb_simulated {
    struct mb_sim s;
    struct mb_cost_step step; /* of an attention group */
    int64_t rows;             /* of a rank that attends */
    double predicted;         /* seconds of the same step by the planner's estimate, which knows no routes */
    double took;              /* seconds that the simulation took */
};
/* A step of the chosen layout, rows routed as --simulate says. Errors: MB_USAGE, MB_INPUT (no such routes),
 * MB_LAYOUT, MB_NO_MEMORY. */
enum mb_status mb_plan_simulate(const struct mb_conf *c, const struct mb_auto_in *in,
                                const struct mb_candidate *taken, const struct mb_plan *p,
                                struct mb_simulated *out);
void mb_plan_print_simulated(const struct mb_conf *c, const struct mb_plan *p, const struct mb_simulated *x);
json_t *mb_plan_simulated_json(const struct mb_conf *c, const struct mb_simulated *x);
#endif
