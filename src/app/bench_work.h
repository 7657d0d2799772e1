/* The requests of a benchmark: how long they are, and their tokens. */
#ifndef MB_APP_BENCH_WORK_H
#define MB_APP_BENCH_WORK_H
#include "app/setup.h"

struct mb_bench_work {
    int64_t n;
    int32_t *prompt, *output; /* [n] tokens of each */
    int64_t *at; /* [n + 1] place of its prompt's ids in ids; empty: they are drawn from the seed */
    int32_t *ids;
    int64_t prompts, outputs; /* sums */
    int64_t
        left_out; /* requests of a file that are longer than the model or the layout takes, or have no text */
    uint64_t seed;
    int32_t vocab;
};

/* --workload: '[REQUESTS x] PROMPT+OUTPUT' (by default 64 x 128+64, or where one is latency 8 x 128+64), or a
 * file: JSON lines as run takes them or an OpenAI batch, or ShareGPT (a JSON array, or lines). Of a file each
 * request has the tokens of its text (of messages: of their contents, without a template), and generates as
 * many as it allows (max_tokens, else --max-tokens); of ShareGPT the prompt is what stands before the first
 * answer, and as many are generated as that has. Without a tokenizer four bytes count as a token, and tokens
 * are drawn. --num-requests: the first ones. Read by rank 0. Collective over world. Errors: MB_USAGE,
 * MB_INPUT, MB_IO, MB_LAYOUT where requests do not fit. */
enum mb_status mb_bench_work_create(struct mb_app *a, int64_t usual, struct mb_bench_work *out);
void mb_bench_work_fini(struct mb_bench_work *w);
/* Token `at` of prompt i. Pure. */
int32_t mb_bench_work_id(const struct mb_bench_work *w, int64_t i, int64_t at);
#endif
