/* What a layout is expected to do in a second: an estimate from the devices' data sheets and the formulas
 * below, to compare layouts and to size clusters; nothing was measured on a GPU. Pure, Local.
 *
 * A step of an attention group has some rows. In a layer a rank computes its share of the projections, of
 * attention over the rows' contexts, of the dense or shared FFN, and the rows that its experts got. Each of
 * these takes the longer of FLOPs at MB_COST_GEMM of the peak and bytes (weights, KV) at MB_COST_STREAM of
 * the memory's bandwidth. Rows travel to experts and back, and partial sums inside tensor, slice and sequence
 * groups, at MB_COST_WIRE of a link; nothing overlaps. A stage takes the sum over its layers, a step goes
 * through pp stages, and m steps in pp stages leave (pp - 1) / (m + pp - 1) of the time idle.
 *
 * Before that the weights are loaded: each byte of the model is read once by the job, MB_COST_FILE bytes/s a
 * node, and what other nodes read comes over the network. After it the results are put together by one rank,
 * so many seconds a request and a token (measured: 1.29 million requests of 11.9 million tokens in 7.9 s). */
#ifndef MB_PLAN_COST_H
#define MB_PLAN_COST_H
#include "plan/cluster.h"
#include "plan/plan.h"

#define MB_COST_GEMM 0.6
#define MB_COST_STREAM 0.8
#define MB_COST_WIRE 0.8
#define MB_COST_OPS 12      /* operations of a layer that must be started one after another */
#define MB_COST_POST 0.5e-6 /* seconds to post one more message of an exchange */
#define MB_COST_FILE 2e9    /* of a shared file system. A guess, the same for all layouts */
#define MB_COST_ROW 2e-6
#define MB_COST_TOKEN 0.45e-6

struct mb_workload {
    int64_t requests, prompt, output; /* prompt and generated tokens of each request */
};

struct mb_cost_in {
    const struct mb_model *m;
    const struct mb_cluster *c;
    const struct mb_layout *l;
    const int32_t *first_layer; /* [pp + 1] */
    enum mb_dtype path, kv;
    struct mb_workload w;
    double rows;  /* of a full step of an attention group */
    double seqs;  /* under way at once in an attention group, > 0 */
    double bytes; /* of weights that a rank keeps, at most */
    int32_t zero; /* --zero-inference, per cent of its experts that a rank keeps; the others come from the files when rows need them.
                     0: it keeps all */
    bool no_experts; /* layers without their routed experts and the exchange, which are known otherwise (simulate.h) */
};

/* One step of every attention group. */
struct mb_cost_step {
    double rows;      /* of a group */
    double context;   /* positions that a row attends to, in the mean */
    double sequences; /* whose KV is read */
    double sampled;   /* rows that need logits */
};

/* Seconds of so many rows of experts on a rank, of `used` experts (slices of etp). */
double mb_cost_experts(const struct mb_cost_in *in, double pairs, double used);

enum mb_cost_part {
    MB_COST_COMPUTE,
    MB_COST_MEMORY,
    MB_COST_LINK,
    MB_COST_NETWORK,
    MB_COST_LATENCY,
    MB_COST_PARTS
};
extern const char *const mb_cost_part_name[MB_COST_PARTS];

/* Seconds of the slowest stage, by what they are spent on; returns their sum. */
double mb_cost_stage(const struct mb_cost_in *in, const struct mb_cost_step *s, double part[MB_COST_PARTS]);

/* Of `peers` equal holders of a layer's experts (contiguous ranges): how many a row's k experts lie on, in
 * the mean over evenly drawn experts, or groups of experts where the router limits a row to some; *lone:
 * those of them with only one of its experts. */
double mb_cost_peers(const struct mb_router *r, int32_t peers, double *lone);
/* Bytes that one row sends to other nodes and gets back, in the mean, in one layer whose copy of the experts
 * spans `nodes` nodes: the rows and values of hier (plan/traffic.c) without headers. */
double mb_cost_row_bytes(const struct mb_model *m, enum mb_dtype path, int32_t nodes);

struct mb_cost {
    double prefill, decode; /* prompt tokens/s and generated tokens/s of the job while it does only that */
    double load, assembly;  /* seconds before and after the workload */
    double seconds;         /* of the job: the workload, loading and assembly */
    double idle;            /* share of it in which a pipeline fills and drains */
    double part[MB_COST_PARTS]; /* share of a stage's time */
    enum mb_cost_part most;
};
void mb_cost_estimate(const struct mb_cost_in *in, struct mb_cost *out);
#endif
