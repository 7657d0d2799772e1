/* The engine's two ends in memory: a source that gives out the requests of a benchmark and a sink that takes
 * the time of every token. On the leaders of attention groups, which share the requests in turn. Local unless
 * said otherwise. */
#ifndef MB_APP_BENCH_FEED_H
#define MB_APP_BENCH_FEED_H
#include "app/bench_work.h"
#include "job/sink.h"
#include "job/source.h"

struct mb_times { /* seconds */
    double *v;
    int64_t n, cap;
};

enum mb_bench_time {
    MB_BENCH_TTFT,
    MB_BENCH_TPOT,
    MB_BENCH_ITL,
    MB_BENCH_TOTAL,
    MB_BENCH_QUEUE,
    MB_BENCH_TIMES
};

/* What one run of the engine did here. */
struct mb_bench_count {
    int64_t requests, errors, prompt_tokens, output_tokens;
    uint64_t digest; /* sum over requests of a hash of number, tokens and log-probabilities: the same on every
                        layout */
    int64_t after;   /* tokens that came behind the last first token of a request */
    double first, last; /* when that one came, and the last token of all; seconds on this rank's clock */
};

struct mb_bench_feed;
enum mb_status mb_bench_feed_create(const struct mb_bench_work *w, struct mb_mem *mem,
                                    struct mb_bench_feed **out);
void mb_bench_feed_destroy(struct mb_bench_feed *f); /* NULL ok */

/* Before a run of the engine: requests [0, n) of the work, of them every stride-th from first on (stride 0:
 * none); at most `running` at once (0: as many as the engine takes), and at most `output` tokens each (0: as
 * the work says). What was counted is forgotten. */
void mb_bench_feed_begin(struct mb_bench_feed *f, int64_t n, int64_t first, int64_t stride, int64_t running,
                         int64_t output);
struct mb_source *mb_bench_feed_source(struct mb_bench_feed *f);
struct mb_sink *mb_bench_feed_sink(struct mb_bench_feed *f);
void mb_bench_feed_count(const struct mb_bench_feed *f, struct mb_bench_count *out);
const struct mb_times *mb_bench_feed_times(const struct mb_bench_feed *f, enum mb_bench_time which);
/* Why the first request failed; "" if none did. */
const char *mb_bench_feed_error(const struct mb_bench_feed *f);
#endif
