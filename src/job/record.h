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

/* How results, their exports and people call kinds, statuses and ends; by the enums' values. */
extern const char *const mb_kind_names[3], *const mb_row_status_names[4], *const mb_finish_names[5];

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

/* Likeliest tokens at places of a row, likeliest first. */
struct mb_tops {
    int32_t n;       /* of each place; 0: none, and the arrays are NULL */
    int32_t *ids;    /* [places][n]; -1 where there is none */
    float *logprobs; /* [places][n]; NaN there */
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
    int64_t n_prompt;     
    int32_t *prompt_ids;
    float *prompt_logprobs; /* [n_prompt] or NULL: not asked for */
    struct mb_tops prompt_top; /* [n_prompt]; the first token, which nothing predicts, has none */
    int64_t n_output;
    int32_t *output_ids;
    float *output_logprobs; /* [n_output] */
    int32_t top_n;
    int32_t *top_ids;      /* [n_output][top_n] */
    float *top_logprobs;
    double logprob_sum;
    uint8_t is_greedy;
    struct mb_text text; /* generated text as UTF-8 (invalid bytes and U+0000 as U+FFFD) */
    int64_t n_rows;      /* rows of this record in /rows/offsets: prompt + outputs without the last; scoring: n_prompt, or one
                          * less where the last token did not fit */
    struct mb_extent bulk[MB_BULK_COUNT];
    struct mb_timing timing; /* not compared between records, not in the digest */
    /* for OpenAI's lines: */
    bool openai, chat, want_logprobs, echo, prompt_asked;
    struct mb_text adapter; /* that served the row; empty: the model alone. Not in results */
};
/* The five flags in one byte, as /requests/reply has them. */
enum { MB_REPLY_OPENAI = 1, MB_REPLY_CHAT = 2, MB_REPLY_LOGPROBS = 4, MB_REPLY_ECHO = 8, MB_REPLY_PROMPT = 16 };

/* Every string and array of a record is malloc'd and belongs to it. output_logprobs may be NULL (scoring has none); an array
 * of no elements may be NULL.
 *
 * Frees the contents (not r itself) and leaves r empty. */
void mb_record_fini(struct mb_record *r);

/* Serialised form, appended to out: little-endian, every array with its length, NaN in one form; what two records of one
 * row may differ in (timing, place of bulk data) comes last. unpack checks every length and makes its own copies. Errors:
 * MB_NO_MEMORY; unpack: MB_CORRUPT (not logged) for a malformed payload. */
enum mb_status mb_record_pack(const struct mb_record *r, struct mb_bytes *out);
enum mb_status mb_record_unpack(const void *data, size_t n, struct mb_record *out);

/* The counts of a packed record, without its strings and arrays; false if malformed. */
struct mb_record_head {
    uint64_t line;
    int32_t choice, n, top_n, prompt_top_n;
    uint8_t kind, status, finish;
    int64_t n_prompt, n_output, n_rows;
    int64_t bulk_rows[MB_BULK_COUNT];
    uint64_t bulk_offset[MB_BULK_COUNT];
};
bool mb_record_peek(const void *data, size_t n, struct mb_record_head *out);

/* XXH3-64 over the part of a packed record that two records of one row must share; 0 if n is too short to be one. */
uint64_t mb_record_content(const void *data, size_t n);

/* Whether two records of one row say the same (everything but timing and where bulk data lies). */
bool mb_record_equal(const struct mb_record *a, const struct mb_record *b);

/* Row hash of the digest, without routing and logits: the caller puts those fields after it. Puts the fields id, kind,
 * status, finish_reason, choice, prompt_ids, prompt_logprobs, output_ids, output_logprobs, top_ids, top_logprobs,
 * logprob_sum, is_greedy, text, and where the prompt has them its tokens' top ids and log-probabilities from the second on; error and pending rows have empty fields after status. h is not reset. */
void mb_record_hash(const struct mb_record *r, struct mb_hasher *h);
/* n floats with every NaN as 0x7fc00000 (v NULL: all are NaN): without and with the length in front that makes a field. */
void mb_record_put_f32(struct mb_hasher *h, const float *v, uint64_t n);
void mb_record_hash_f32(struct mb_hasher *h, const float *v, uint64_t n);
#endif
