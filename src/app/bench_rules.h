/* The classes of `bench run`: a published shape with weights from a seed, requests from it, and the digest of
 * what they give (doc/bench.md). Constant data. */
#ifndef MB_APP_BENCH_RULES_H
#define MB_APP_BENCH_RULES_H
#include <stdint.h>

#define MB_BENCH_RULES 1 /* the number of the rule; results of another one cannot be compared */
struct mb_bench_rule {
    const char *name;
    const char *shape;    /* whose config.json --random-weights must name */
    const char *workload; /* as --workload */
    int64_t seed;
    const char *digest; /* of its tokens and log-probabilities */
};
/* NULL: there is none of this name. */
const struct mb_bench_rule *mb_bench_rule_named(const char *name);
/* "demo, granite-1b": all names, into out. */
void mb_bench_rule_names(char *out, unsigned long n);
#endif
