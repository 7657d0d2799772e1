/* One request: what a line of the input asks for, already checked and encoded. Made by io (job/source.h), read by engine.
 * Local. */
#ifndef MB_JOB_REQUEST_H
#define MB_JOB_REQUEST_H
#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include "base/status.h"

/* What the answer of a request is held to; text: guide/guide.h. */
enum mb_guide_kind {
    MB_GUIDE_NONE,
    MB_GUIDE_REGEX,  /* a regular expression, which the answer matches as a whole */
    MB_GUIDE_CHOICE, /* a JSON list of strings, of which it is one */
    MB_GUIDE_JSON,   /* a JSON Schema, as JSON text, of which it is a valid document */
};

enum mb_kind { MB_KIND_GENERATE = 0, MB_KIND_LOGLIKELIHOOD = 1, MB_KIND_ROLLING = 2 };

#define MB_MAX_TOP 20      /* top_logprobs asked for */
#define MB_MAX_CHOICES 128 /* n */
#define MB_MAX_STOP 16     /* stop strings */
#define MB_MAX_STOP_IDS 64
#define MB_MAX_BAD_WORDS 256

struct mb_bias {
    int32_t id;
    float bias;
};

/* Sequences of ids that must not be generated: the last id of one may not follow its others. */
struct mb_bad_words {
    int32_t *ids;
    int32_t *end; /* [n]: sequence i is ids[end[i - 1] .. end[i]), never empty */
    int32_t n;
};

struct mb_sampling {
    float temperature, top_p, min_p;
    int32_t top_k;
    float repetition, frequency, presence;
    bool ignore_eos;
    int64_t max_tokens, min_tokens;
    bool has_seed;
    uint64_t seed;
    struct mb_bias *bias; /* ids ascending */
    int32_t n_bias;
    int32_t *allowed; /* the only ids that may be drawn, ascending; NULL: all */
    int32_t n_allowed;
    struct mb_bad_words bad;
};
/* temperature 1, everything else off (top_p, repetition 1; top_k, min_p, penalties 0), max_tokens -1 (= absent; a request
 * made by io always has a number, clipped so that prompt + max_tokens fit the model; 0 is legal: nothing is drawn) */
void mb_sampling_init(struct mb_sampling *s);

/* What the journal knows of one choice of this request at resume. */
struct mb_choice_state {
    bool done;        /* its DONE or ERROR record is in a journal: nothing to compute */
    int32_t n_forced; /* drawn tokens that were recorded: recomputed and compared */
    int32_t *forced;  /* mb_alloc'd (category requests) */
};

struct mb_text { /* bytes with a length; may hold U+0000 */
    char *data;
    size_t len;
};

struct mb_request {
    uint64_t line;     /* 0-based line number in the unsplit input: the journal's key */
    struct mb_text id; /* as text; a missing id is the 1-based line number */
    enum mb_kind kind;
    /* not NULL: an error row with this reason (UTF-8, malloc'd); nothing below is set then but n. A line that could not be
     * read has n = 1; a good line whose text does not fit the model keeps its n and fills n error rows. */
    char *error;
    int32_t n;         /* choices (1 for scoring) */
    struct mb_sampling sampling;
    /* prompt ids; for scoring context + continuation. n_prompt >= 1 unless there is nothing to run. */
    int32_t *prompt; /* mb_alloc'd (category requests) */
    int64_t n_prompt;
    /* scoring: tokens [score_from, n_prompt) are scored; token 0 never is (it has no predecessor). Rolling: 1. Generate:
     * n_prompt. */
    int64_t score_from;
    /* scoring: 0, and every token of the prompt is fed, or positions of the model: the prompt is longer, and is fed in windows
     * of this length. Window w begins at token w * window and predicts the `window` tokens behind it; the last one, which ends
     * where the others would run past the prompt, begins earlier and predicts only what none before it has. The last token of
     * the prompt is not fed then. */
    int64_t window;
    bool want_logprobs;        /* output_logprobs are always kept; this and top_n are for --openai-output */
    bool want_prompt_logprobs; /* echo with logprobs, or prompt_logprobs: generate kind */
    bool prompt_asked;         /* prompt_logprobs was given: OpenAI's answer has it as vLLM's */
    int32_t top_n;             /* 0 .. MB_MAX_TOP */
    int32_t prompt_top_n;      /* the same for the tokens of the prompt */
    bool echo;
    struct mb_text stop[MB_MAX_STOP];
    int32_t n_stop;
    int32_t *stop_ids; /* ids that end a row as EOS does, but with finish "stop" */
    int32_t n_stop_ids;
    enum mb_guide_kind guide_kind;
    struct mb_text guide;
    const char *guide_key; /* of the line, for messages; static */
    bool include_stop; /* the stop string, or the token that ended the row, belongs to the text */
    bool keep_special; /* special tokens belong to the text */
    char *adapter;             /* NULL: none */
    struct mb_choice_state *resume; /* [n] mb_alloc'd, or NULL: nothing known */
    bool openai, chat;         /* the form of the line, for --openai-output */
};

/* Frees everything in and including r; NULL ok. r itself, strings and bias are malloc'd; prompt, resume and forced come
 * from mb_alloc. */
void mb_request_destroy(struct mb_request *r);

/* The Philox key of a choice: from the request's seed and the choice index, else from (job seed, id, choice index). Never
 * from a line number where an id is given, never from a rank. XXH3-64 of four little-endian u64: (1, seed, choice, 0) or
 * (2, job seed, choice, XXH3-64 of the id's bytes). */
uint64_t mb_request_key(const struct mb_request *r, uint64_t job_seed, int32_t choice);
#endif
