/* One finished row of the results: (request, choice). Built by engine (numbers), completed by the sink (text), serialised
 * into the journal, read back by assembly. Local. */
#ifndef MB_JOB_RECORD_H
#define MB_JOB_RECORD_H
#include <stdint.h>
#include "base/hash.h"
#include "base/mem.h"
#include "job/request.h"

enum mb_row_status { MB_ROW_OK = 0, MB_ROW_ERROR = 1, MB_ROW_DEGRADED = 2, MB_ROW_PENDING = 3 };
enum mb_finish { MB_FINISH_NONE = 0, MB_FINISH_EOS = 1, MB_FINISH_LENGTH = 2, MB_FINISH_STOP = 3, MB_FINISH_ERROR = 4 };

/* Bulk data lies in files beside the journal, one per kind and writer; a record points into them. */
enum mb_bulk_kind {
    MB_BULK_EXPERTS, /* u16 [rows][Lm][k] */
    MB_BULK_WEIGHTS, /* f32 [rows][Lm][k] */
    MB_BULK_PHYSICAL,/* u16 [rows][Lm][k]: rank that served it (not in the digest) */
    MB_BULK_LOGITS,  /* f32 [rows][V] (or one row under --save-logits=last) */
    MB_BULK_HIDDEN,  /* f32 [rows][L+1][H] */
    MB_BULK_MTP,     /* f32 [rows][V] */
    MB_BULK_COUNT
};
struct mb_extent {
    uint64_t offset; /* bytes in the writer's file of that kind */
    int64_t rows;    /* 0: none */
};

struct mb_timing { /* seconds, f64 */
    double queue, ttft, tpot, total;
};

struct mb_record {
    uint64_t line;
    int32_t choice, n; /* choice of n */
    struct mb_text id;
    uint8_t kind, status, finish;
    struct mb_text error; /* status MB_ROW_ERROR: why */
    int64_t n_prompt;     /* without hidden tokens */
    int32_t *prompt_ids;
    float *prompt_logprobs; /* [n_prompt] or NULL: not asked for */
    int64_t n_output;
    int32_t *output_ids;
    float *output_logprobs; /* [n_output] */
    int32_t top_n;
    int32_t *top_ids;      /* [n_output][top_n] */
    float *top_logprobs;
    double logprob_sum;
    uint8_t is_greedy;
    struct mb_text text; /* generated text as UTF-8 (invalid bytes and U+0000 as U+FFFD) */
    int64_t n_rows;      /* rows of this record in /rows/offsets: prompt + outputs without the last; scoring: n_prompt */
    struct mb_extent bulk[MB_BULK_COUNT];
    struct mb_timing timing; /* not compared between records, not in the digest */
    /* for --openai-output: */
    bool openai, chat;
};

/* Frees the contents (not r itself). */
void mb_record_fini(struct mb_record *r);

/* Serialised form: little-endian, every array with its length; unpack checks every length and makes its own copies.
 * unpack returns MB_CORRUPT (not logged) for a malformed payload. */
enum mb_status mb_record_pack(const struct mb_record *r, struct mb_bytes *out);
enum mb_status mb_record_unpack(const void *data, size_t n, struct mb_record *out);

/* Whether two records of one row say the same (everything but timing and where bulk data lies). */
bool mb_record_equal(const struct mb_record *a, const struct mb_record *b);

/* Row hash of the digest (interface.md), without routing and logits: the caller puts those fields after it. */
void mb_record_hash(const struct mb_record *r, struct mb_hasher *h);
#endif
