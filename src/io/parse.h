/* One line of the input -> one request, checked and encoded. Two stages: the form (JSON, keys, types, ranges: needs no
 * tokenizer; rank 0's index runs it over the whole input to know the number of choices of every line) and the encoding
 * (text -> ids, BOS rules, lengths). What is wrong with a line becomes the request's error, never a status: a bad line is
 * an error row. Everything here is Local and re-entrant; the options and what they point to are borrowed and immutable.
 *
 * Forms of a line (a JSON object; which one is decided by its keys):
 *   OpenAI batch    custom_id, method, url, body; /v1/completions and /v1/chat/completions
 *   ShareGPT        conversations; the request is the conversation before the first assistant turn
 *   log-likelihood  context | context_ids, continuation | continuation_ids
 *   rolling         text | text_ids
 *   plain           prompt | prompt_ids | messages
 * A key with the value null counts as absent. A key the form does not know is an error that names it (but for ShareGPT,
 * whose data sets carry keys of their own: those are ignored, sampling keys are honoured). Empty lines (nothing but spaces,
 * tabs and carriage returns) are no lines: they have no row, but they count in line numbers. */
#ifndef MB_IO_PARSE_H
#define MB_IO_PARSE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "job/request.h"
#include "text/chat.h"
#include "text/tokenizer.h"

#define MB_LINE_MAX ((uint64_t)64 << 20) /* bytes of a line; a longer one is an error row */

enum mb_add_bos { MB_BOS_AUTO, MB_BOS_YES, MB_BOS_NO };
enum mb_input_format { MB_FORMAT_JSONL, MB_FORMAT_TXT, MB_FORMAT_JSON };

/* Renders messages through the model's chat template; the time is the callee's to know. Appends UTF-8 to *text. MB_REQUEST with
 * a reason in err: this row is an error. */
typedef enum mb_status (*mb_chat_fn)(void *arg, const struct mb_chat_ask *ask, struct mb_bytes *text, char *err, size_t cap);

#define MB_MAX_SCORED_BYTES ((uint64_t)16 << 20) /* about eight novels */

struct mb_parse_options {
    const struct mb_tokenizer *tok; /* not needed by mb_parse_scan */
    struct mb_mem *mem;             /* may be NULL */
    enum mb_input_format format;
    int32_t vocab;                  /* ids are 0 .. vocab-1 */
    int64_t max_len;                /* prompt + output positions of the model */
    int64_t longest_token; /* bytes; 0: not known. Longer texts than 4 * max_len of them are refused untokenised; those that are
                            * scored in windows (rolling) or cut (truncate_left) only beyond MB_MAX_SCORED_BYTES */
    int32_t bos;                    /* -1: none */
    int32_t prefix;                 /* what text starts from that is scored with nothing before it: BOS, else EOS; -1: none */
    enum mb_add_bos add_bos;        /* text only; ids never get one */
    bool truncate_left;             /* drop tokens at the front instead of "too long" */
    bool score;                     /* plain lines are scored: log-likelihood of the prompt after an empty context */
    int64_t max_tokens;             /* where a request has none; negative: 256 */
    /* defaults of requests without the key; NaN and negative top_k: not given */
    float temperature, top_p, min_p, repetition;
    int32_t top_k;
    const char *stop[MB_MAX_STOP];
    int32_t n_stop;
    const char *const *adapters;    /* names a request may use, as "adapter" or as OpenAI's "model" */
    int32_t n_adapters;
    const char *base;           /* the model's name, a path or that of a repository: where there are adapters, an OpenAI "model"
                                 * that is none of them must be this, or end as this does. NULL: anything means the model */
    mb_chat_fn chat;            /* NULL: the model has no chat template */
    void *chat_arg;
};
/* Everything off, no defaults; tok, vocab, max_len are the caller's to set. */
void mb_parse_options_init(struct mb_parse_options *o);

/* What the index needs to know of a line. */
struct mb_line_scan {
    struct mb_text id; /* as text; malloc'd, the caller frees id.data */
    bool own_id;       /* the line has an id that could be read; else id is the 1-based line number */
    bool bad;          /* stage one failed: an error row */
    bool foreign;      /* no JSON, and no object that was meant to be */
    int32_t n;         /* rows: choices; 1 for a bad line */
};

/* Whether a line is empty: no row. */
bool mb_line_blank(const void *text, size_t n, enum mb_input_format format);

/* Stage one only. line: 0-based number in the unsplit input. Errors: MB_NO_MEMORY. */
enum mb_status mb_parse_scan(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                             struct mb_line_scan *out);

/* Both stages. text: the bytes of one line without its newline. *out is never NULL on MB_OK; what is wrong with the line is
 * in (*out)->error. Errors: MB_NO_MEMORY (logged). */
enum mb_status mb_parse_line(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                             struct mb_request **out);

/* The same for a line that is an error whatever it says ("duplicate id", "longer than 64 MiB"): keeps its id where it can be
 * read, n = 1. text may be NULL with n = 0. */
enum mb_status mb_parse_refused(const struct mb_parse_options *o, const void *text, size_t n, uint64_t line,
                                const char *reason, struct mb_request **out);
#endif
