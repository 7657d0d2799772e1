/* Inside `bench throughput` and `bench latency`: a model under a workload (bench_load.c), what is said of it
 * (bench_load_figures.c), and the same for another model (bench_load_other.c). Nothing else includes this
 * file. */
#ifndef MB_APP_BENCH_LOAD_IMPL_H
#define MB_APP_BENCH_LOAD_IMPL_H
#include "app/bench.h"
#include "app/bench_feed.h"
#include "app/bench_roof.h"
#include "app/bench_rules.h"
#include "app/setup.h"

/* One run of the engine, over all ranks; on rank 0. */
struct mb_outcome {
    double seconds;
    struct mb_bench_count sum;
    double decode;               /* tokens/s while every request was decoding */
    double spent[MB_TIME_COUNT]; /* seconds, mean over ranks */
    double joules;               /* of all nodes; negative: not known */
    struct mb_times times[MB_BENCH_TIMES];
};

struct mb_load {
    struct mb_app app;
    bool latency;
    const struct mb_bench_rule *rule; /* of bench run; NULL: none */
    int repeats;
    const char *prefix;   /* of the names of what is measured: "", "against/" */
    struct mb_conf other; /* options for the model of --against */
    struct mb_bench *out; /* rank 0; NULL elsewhere */
    struct mb_bench_work work;
    struct mb_bench_feed *feed;
    struct mb_limits limits; /* of all ranks together */
    struct mb_roof roof;
    int64_t leader; /* number of this rank among those that lead; -1: it does not */
    int64_t leaders;
    int64_t *batches;
    int n_batches;
};

struct mb_series {
    double v[MB_LIMIT_REPEATS];
    int n;
};
static inline void mb_series_put(struct mb_series *s, double v)
{
    if (s->n < MB_LIMIT_REPEATS)
        s->v[s->n++] = v;
}

/* ---------------------------------------------------------------- bench_load.c */
/* What one model's engine, device and requests are made of goes. Local. */
void mb_load_put_away(struct mb_load *l);
/* A model from its description to its engine; measures it. Collective over world. */
enum mb_status mb_load_prepare(struct mb_load *l);
enum mb_status mb_load_measure(struct mb_load *l);

/* ---------------------------------------------------------------- bench_load_figures.c; rank 0 keeps them,
 * Local */
void mb_load_add(const struct mb_load *l, const char *name, const char *unit, bool less,
                 const struct mb_series *s, double bound, const char *formula);
/* The job itself: o[repeats]. */
void mb_load_add_job(const struct mb_load *l, const struct mb_outcome *o);
void mb_load_add_prefill(const struct mb_load *l, const struct mb_series *s);
void mb_load_add_decode(const struct mb_load *l, int64_t b, const struct mb_series *s);
void mb_load_add_facts(struct mb_load *l);
/* Of the model of --against: what is not as for the first one. */
void mb_load_add_other_facts(struct mb_load *l);
/* What the model's roofline is on these machines; a fact too. */
void mb_load_roof(struct mb_load *l);

/* ---------------------------------------------------------------- bench_load_other.c */
/* Whether --against names a model that can be run, before the first one is. Collective over world. */
enum mb_status mb_load_check_other(struct mb_load *l);
/* The same for --against, and the ratios. Collective over world. */
enum mb_status mb_load_other(struct mb_load *l);
#endif
