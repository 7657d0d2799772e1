/* The engine's two ends for verify: rows of a results file in as requests to be scored, what comes back
 * compared with what the file says. On the leaders of attention groups, which share the rows in turn; each
 * reads the file itself. Local. */
#ifndef MB_APP_VERIFY_FEED_H
#define MB_APP_VERIFY_FEED_H
#include "io/results.h"
#include "job/sink.h"
#include "job/source.h"

enum mb_verify_field {
    MB_VERIFY_PROMPT,  /* /tokens/prompt_logprobs */
    MB_VERIFY_OUTPUT,  /* /tokens/output_logprobs */
    MB_VERIFY_SUM,     /* /requests/logprob_sum */
    MB_VERIFY_GREEDY,  /* /requests/is_greedy */
    MB_VERIFY_EXPERTS, /* /routing/experts */
    MB_VERIFY_WEIGHTS, /* /routing/weights */
    MB_VERIFY_ERROR,   /* the row could not be computed */
    MB_VERIFY_FIELDS
};
const char *mb_verify_field_name(enum mb_verify_field f);

/* A place where file and computation differ. Flat. */
struct mb_verify_diff {
    uint64_t row;
    int32_t field;
    int64_t at;            /* token or bulk row, counted in the row */
    int32_t layer, choice; /* of routing: which of the stored layers, which of the chosen experts; -1 */
    double stored, computed;
    uint64_t stored_bits, computed_bits;
    char id[64], why[200]; /* of the row, cut; MB_VERIFY_ERROR: the reason */
};
struct mb_verify_count {
    int64_t sampled;  /* rows drawn here */
    int64_t verified; /* computed and compared */
    int64_t differ;   /* of these */
    int64_t left_out; /* nothing to compare: errors, degraded and pending rows, rows without a second token */
    int64_t tokens;   /* log-probabilities compared */
    int64_t routed;   /* rows of routing compared */
    struct mb_verify_diff first; /* the least row with a difference, where differ > 0 */
};

struct mb_verify_options {
    const char *results;
    double fraction;
    uint64_t seed;
    int64_t leader, leaders; /* own number; -1: no rows here */
    int64_t window;          /* rows with more tokens were scored in windows of this length (job/request.h) */
    int32_t vocab;
    struct mb_mem *mem;
};
struct mb_verify_feed;
/* Errors: those of mb_results_open. */
enum mb_status mb_verify_feed_create(const struct mb_verify_options *o, struct mb_verify_feed **out);
void mb_verify_feed_destroy(struct mb_verify_feed *f); /* NULL ok */
struct mb_source *mb_verify_feed_source(struct mb_verify_feed *f);
struct mb_sink *mb_verify_feed_sink(struct mb_verify_feed *f);
const struct mb_verify_count *mb_verify_feed_count(const struct mb_verify_feed *f);
/* Whether row i belongs to the sample: XXH3-64 of (seed, i), both u64 little-endian, is less than fraction *
 * 2^64. Pure. */
bool mb_verify_drawn(uint64_t seed, uint64_t i, double fraction);
#endif
