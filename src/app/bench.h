/* moebatch bench: measures machines, kernels, jobs and exchanges. One function for each word behind `bench`.
 */
#ifndef MB_APP_BENCH_H
#define MB_APP_BENCH_H
#include "app/bench_out.h"
#include "conf/conf.h"
#include "device/limits.h"

/* argc, argv: for MPI, which some of them start. *exit_code: see the functions below; left alone where the
 * status says it. */
enum mb_status mb_bench_command(const struct mb_conf *c, int *argc, char ***argv, int *exit_code);

/* How results are to be printed. */
static inline enum mb_bench_form mb_bench_form_of(const struct mb_conf *c)
{
    return c->json ? MB_BENCH_JSON : c->csv ? MB_BENCH_CSV : MB_BENCH_TEXT;
}
/* Whole numbers in a list of numbers and ranges, "1-8,16,32"; *out is malloc'd. what: the option, for
 * messages. Errors: MB_USAGE (no list, numbers outside lo .. hi, more than 65,536 of them). */
enum mb_status mb_bench_list(const char *text, const char *what, int64_t lo, int64_t hi, int64_t **out,
                             int *n);

/* bench_gemm.c: this machine's limits and, with a model, the GEMMs that it needs. No MPI. */
enum mb_status mb_bench_gemm(const struct mb_conf *c);
/* bench_load.c: a model's engine at a workload; latency: few requests at once, one after the other. Starts
 * MPI; Collective over world. MB_CORRUPT: two runs of the same requests gave different results. */
enum mb_status mb_bench_load(const struct mb_conf *c, int *argc, char ***argv, bool latency);
/* bench_calibrate.c: the job's speeds, as a profile (plan/profile.h). Starts MPI; Collective over world. */
enum mb_status mb_bench_calibrate(const struct mb_conf *c, int *argc, char ***argv);
/* bench_run.c: a class of the run rule (doc/bench.md). MB_CORRUPT, nothing printed: the digest is not the class's. Starts MPI; Collective
 * over world. */
enum mb_status mb_bench_run(const struct mb_conf *c, int *argc, char ***argv);
/* The same with the rule of c's class, whose workload, seed and digest c has. */
struct mb_bench_rule;
enum mb_status mb_bench_load_rule(const struct mb_conf *c, int *argc, char ***argv, const struct mb_bench_rule *rule);
/* bench_a2a.c: the exchange of rows with experts, beside MPI_Alltoallv. Starts MPI; Collective over world. */
enum mb_status mb_bench_alltoall(const struct mb_conf *c, int *argc, char ***argv);
/* bench_nodes.c: all nodes beside each other. Starts MPI; Collective over world. *exit_code: 3 where one lags; else left alone. */
enum mb_status mb_bench_nodes(const struct mb_conf *c, int *argc, char ***argv, int *exit_code);
/* bench_compare.c: two files of results. *exit_code: 3 where something got worse, or digests differ; else left alone. */
enum mb_status mb_bench_compare(const struct mb_conf *c, int *exit_code);
/* Adds what was measured of a machine, as limit/NAME. */
void mb_bench_add_limits(struct mb_bench *out, const struct mb_limits *l);
#endif
