/* One row of the results under way: a choice of a request, its ids, its place in the KV pages. Local. */
#ifndef MB_ENGINE_SEQ_H
#define MB_ENGINE_SEQ_H
#include "device/ops.h"
#include "engine/draft.h"
#include "engine/masks.h"
#include "engine/prefix.h"
#include "job/record.h"
#include "job/request.h"

enum mb_save_logits { MB_LOGITS_NONE, MB_LOGITS_ALL, MB_LOGITS_LAST };

/* A request shared by its choices. */
struct mb_job {
    struct mb_request *req;
    int32_t refs;     /* sequences that still need it (+1 while choices wait to be made) */
    int32_t next;     /* next choice to make */
    struct mb_guide *guide; /* closed with the job; NULL: none */
    double arrived;
};

/* Where the grammar of a guided request is: behind the first n outputs, which are known. Found again from the ids when it has to go
 * back. */
struct mb_seq_guide {
    struct mb_config at;
    int64_t n;
    bool begun;
    struct mb_config ahead; /* where guessed ids lead: */
    int64_t n_ahead;        /* behind so many outputs; -1: nowhere */
};

/* What the ids so far mean for the next draw. Penalties: token ids seen, ascending; built when sampling needs it. */
struct mb_seen {
    bool counting;
    struct mb_sample_adjust *v;
    int32_t n, cap;
    int64_t n_counted;      /* outputs counted into v */
    struct mb_seq_guide guide;
};

/* What was found out about a sequence so far. */
struct mb_seq_got {
    float *prompt_lp;       /* [n_prompt] or NULL */
    struct mb_tops prompt_top; /* [n_prompt] */
    float *out_lp;          /* [max so far] */
    int32_t *top_ids;
    float *top_lp;
    bool greedy;            /* every scored token was the best */
    enum mb_finish finish;
    char *error;            /* the row ends as an error with this reason */
    double t_first, t_admit;
};

/* What of a whole request its rows depend on, beside their ids and positions. */
struct mb_seq_kind {
    int32_t adapter; /* index, -1: none */
    bool rope_long;  /* longrope: long factors */
};

/* What is under way, and ids that are guessed (draft.h): their rows go in one step with that of the last known id, whose results
 * say which of them are right. */
struct mb_seq_way {
    int32_t steps;  /* under way with rows of this sequence */
    int32_t drafts; /* rows of it, the last ones, that are of guessed ids: ids[n_ids ..]. Then it is the only step */
    int64_t end;    /* its results are back: rows before this one have the right ids, */
    int64_t most;   /* and it comes no further than this */
    int32_t idle;   /* draws since it guessed last */
    float hits;     /* part of the guesses that were right, lately */
    bool holes;     /* the MTP module has not seen all its rows: what it would guess is worth little */
    struct mb_guess {
        int64_t at;   /* n_ids for which it is */
        int32_t n, id[MB_DRAFTS_MOST];
    } guess; /* of the MTP module */
};

struct mb_seq {
    struct mb_job *job;
    int32_t choice, handle; /* handle: the sink's */
    int32_t *ids;           /* prompt, then outputs (forced ones are known from the start) */
    int64_t n_ids, cap;     /* known ids */
    int64_t n_prompt;
    /* Rows are counted as they are computed; without windows the row's number is its position and the place of its id. */
    int64_t n_done;         /* rows whose results are back */
    int64_t n_sched;        /* rows whose keys and values are in the pages, or are under way there */
    int64_t n_high;         /* the most that n_sched was: results of these rows are there or under way, also where it
                             * has given its pages back and computes them again. With guesses, until they are known to be wrong */
    int64_t window;         /* request.h; 0: none */
    int64_t n_fed;          /* ids of the prompt that are fed: all, or under windows all but the last */
    int64_t n_compute;      /* rows of the prompt: n_fed, and those that windows compute again */
    struct mb_seq_way way;
    int64_t max_out;        /* outputs at most */
    int64_t n_forced;       /* outputs that came from a journal: recomputed and compared */
    int64_t n_drawn;        /* outputs verified or drawn so far */
    int64_t rows_total;     /* rows computed if nothing stops it early: bulk rows reserved */
    struct mb_seq_kind kind;
    uint64_t key;
    uint64_t number;        /* in order of admission, from 1 on */
    int32_t *page;          /* KV pages, in order of position */
    int32_t n_pages;
    struct mb_prefix_place at;     /* behind the rows of n_sched in the tree of prefixes */
    struct mb_seen seen;
    struct mb_seq_got got;
    bool done;
    bool picked;            /* has rows, or results, in the batch being made */
    bool paused;            /* gave its pages back, and waits until there is room for it again */
    int32_t state;          /* 1 + its place for what linear attention keeps; 0: none yet */
};

/* Makes choice `job->next` of a job (advancing it). mem: accounted as requests. */
enum mb_status mb_seq_create(struct mb_mem *mem, struct mb_job *job, uint64_t job_seed, struct mb_seq **out);
void mb_seq_destroy(struct mb_seq *q); /* drops its reference on the job; NULL ok */
void mb_job_drop(struct mb_job *job);

/* KV positions this sequence can come to hold. */
int64_t mb_seq_positions(const struct mb_seq *q);
/* Rows that a step may take now: known ids, of one window. */
int64_t mb_seq_todo(const struct mb_seq *q);
/* Row -> its position in the model, and the place of its id. */
int64_t mb_seq_position(const struct mb_seq *q, int64_t row);
int64_t mb_seq_index(const struct mb_seq *q, int64_t row);
/* Rows of [row, row + n), which are of one window, that the results do not keep: an earlier window has predicted behind them. */
int64_t mb_seq_repeats(const struct mb_seq *q, int64_t row, int64_t n);
/* The first row of the prompt whose results are wanted; of none of them: its last one, which ends it. */
int64_t mb_seq_first_wanted(const struct mb_seq *q);
/* Does the row at this position need logits, and for what? */
bool mb_seq_draws_at(const struct mb_seq *q, int64_t pos);  /* the token after it is drawn (or forced) */
bool mb_seq_goes_on_at(const struct mb_seq *q, int64_t pos); /* unless it is stopped early, the next position is computed */
bool mb_seq_scores_at(const struct mb_seq *q, int64_t pos); /* the token after it is in the prompt and scored */

/* Sampling parameters of the draw for output `index`, with the row's adjustments appended to adj (grown) and its mask put among
 * the step's. */
struct mb_adjust_list {
    struct mb_sample_adjust *v;
    int32_t n, cap;
    int32_t *banned; /* scratch */
    int32_t cap_banned;
};
enum mb_status mb_seq_sampling(struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index,
                               struct mb_adjust_list *adj, struct mb_mask_list *masks, struct mb_sample_row *out);
/* Whether the request lets this id be drawn for output `index`; only where nothing else could be drawn is one that may not be. */
enum mb_status mb_seq_may_draw(struct mb_seq *q, const int32_t *eos, int32_t n_eos, int64_t index, int32_t id, bool *may);
enum mb_status mb_seq_push(struct mb_seq *q, int32_t id); /* appends a drawn id */
/* Of n ids behind the known ones, how many the grammar of the request lets follow each other. */
enum mb_status mb_seq_allowed(struct mb_seq *q, int32_t *n);
/* What was counted of outputs from the n-th on is forgotten: they were guessed wrongly. */
void mb_seq_rewind(struct mb_seq *q, int64_t n);

/* Moves the results into a record (arrays change owner; the sink frees them). */
enum mb_status mb_seq_record(struct mb_seq *q, struct mb_record *rec);
enum mb_status mb_seq_fail(struct mb_seq *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#endif
