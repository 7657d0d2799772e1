/* moebatch bench run: what the rule fixes is put in the place of options, the rest is bench throughput's job.
 */
#include <stdio.h>
#include "app/bench.h"
#include "app/bench_rules.h"
#include "base/log.h"

enum mb_status mb_bench_run(const struct mb_conf *c, int *argc, char ***argv)
{
    const struct mb_bench_rule *rule = mb_bench_rule_named(c->bench_class);
    struct mb_conf mine = *c; /* its texts stay c's, but for those of the rule, which nobody frees */
    char workload[64], digest[32], names[256];

    if (rule == NULL) {
        mb_bench_rule_names(names, sizeof names);
        return mb_error(MB_USAGE, "--class '%s' is none of %s", c->bench_class, names);
    }
    snprintf(workload, sizeof workload, "%s", rule->workload);
    snprintf(digest, sizeof digest, "%s", rule->digest);
    mine.workload = workload;
    mine.expect_digest = digest;
    mine.seed = rule->seed;
    return mb_bench_load_rule(&mine, argc, argv, rule);
}
