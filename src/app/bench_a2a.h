/* What the files of `moebatch bench alltoall` share. For app/bench_a2a*.c only. */
#ifndef MB_APP_BENCH_A2A_H
#define MB_APP_BENCH_A2A_H
#include "app/bench.h"
#include "app/setup.h"
#include "comm/xchg.h"

struct mb_a2a_list {
    int64_t *v;
    int n;
};

/* Seconds of one call, as this rank saw it: of dispatch, combine, both; by repetition. */
enum mb_a2a_part { MB_A2A_DISPATCH, MB_A2A_COMBINE, MB_A2A_BOTH, MB_A2A_PARTS };
struct mb_a2a_times {
    double v[MB_LIMIT_REPEATS][MB_A2A_PARTS];
};
/* What one exchange sends, by link; of dispatch and combine. */
struct mb_a2a_moved {
    int64_t bytes[2][MB_LINK_COUNT], messages[2][MB_LINK_COUNT];
};

struct mb_a2a {
    struct mb_app app;
    struct mb_bench *out;  /* rank 0; NULL elsewhere */
    struct mb_comm *group; /* all ranks, in topology order */
    int32_t index;         /* own rank there */
    int32_t *node_of;      /* [ranks] by index */
    struct mb_stream *stream;
    enum mb_dtype type;
    int repeats;
    double exponent; /* of the routes */
    uint64_t seed;
    struct mb_a2a_list hidden, experts, topk, tokens;
    double link_inter, link_intra; /* bytes/s that a node, a rank inside a node, can send and get at once; 0:
                                      there is none */
};

/* One set of sizes. */
struct mb_a2a_case {
    int64_t hidden, most; /* most: tokens of a rank */
    int32_t experts, k;
    struct mb_model m; /* what the plan's functions need of one: sizes */
    uint8_t is_moe[2];
    int32_t window[2], first_layer[2];
    struct mb_plan p;
    struct mb_serve *serve;
    int32_t *route; /* [most * k] */
    float *weight;  /* [most * k] */
    struct mb_buf *x, *y, *sum;
    int64_t y_rows; /* room in y */
    int64_t step;   /* of the exchanges so far */
};

/* bench_a2a_run.c: measures all algorithms and MPI at every number of tokens. Collective over world. */
enum mb_status mb_a2a_measure(struct mb_a2a *a, struct mb_a2a_case *q);
/* bench_a2a_print.c: one measurement of all ranks; seconds: of a call. moved, formula: sums over ranks
 * (formula NULL: not known), busiest: bytes/s of the rank that took longest for what it sends. rank 0. */
struct mb_a2a_found {
    const char *algorithm;
    bool chosen; /* what auto would take */
    int64_t tokens;
    int32_t rounds;
    const struct mb_a2a_times *times;           /* [ranks] */
    const struct mb_a2a_moved *moved, *formula; /* [ranks] each */
};
void mb_a2a_add(const struct mb_a2a *a, const struct mb_a2a_case *q, const struct mb_a2a_found *f);
#endif
