/* The scheduler of one attention group: which sequences run, which of their rows make up a step, and what
 * becomes of them when its results are there. Of its leader. Knows no groups, no weights and no device: a
 * batch goes out, what a step found comes in. Its choices never touch a result's bits. Local. */
#ifndef MB_ENGINE_SCHED_H
#define MB_ENGINE_SCHED_H
#include "engine/batch.h"
#include "engine/pages.h"
#include "engine/prefix.h"
#include "job/counters.h"
#include "job/sink.h"
#include "job/source.h"

struct mb_sched_options {
    struct mb_mem *mem;
    uint64_t seed;
    int32_t max_seqs, max_rows; /* sequences that run at once, rows of a step */
    int32_t max_pages;          /* KV pages of a sequence at most */
    int64_t kv_pages;           /* of each part */
    int32_t parts, segment;     /* sequence parallelism: parts that keep pages; positions of a segment */
    int32_t depth;              /* steps under way at once, one per pipeline stage */
    const int32_t *eos;         /* [n_eos] */
    int32_t n_eos, vocab;
    int64_t rope_switch, rope_rows; /* longrope: longer sequences take positions behind rope_rows; 0: none */
    const char *const *adapter_names;
    int32_t n_adapters;
    enum mb_save_logits save_logits;
    bool states; /* the model keeps something of sequences beside pages */
    bool mtp;    /* the MTP module's logits are results, too */
    bool share; /* rows with the same ids before them are computed once; not where results keep more of each
                   row than tokens and their log-probabilities, nor under mtp, whose keys depend on the next
                   id, nor under states, which are of whole sequences */
    struct mb_drafting drafts;
    struct mb_guides *guides; /* NULL: there is no tokenizer, so no request can be guided */
};

/* What is kept of a step until its results are back. */
struct mb_flight {
    int64_t step, tick; /* tick: when its results are there */
    int32_t rows, seqs, n_out;
    struct mb_seq **seq;         /* [max_seqs] */
    int32_t *seq_row, *seq_rows; /* [max_seqs] first row in the batch, rows, */
    int32_t *seq_skip;           /* how many of them, the first ones, the results have from elsewhere, */
    int32_t *seq_kept;           /* and how many are what they were guessed to be: set when the results are used */
    int64_t *seq_pos;            /* [max_seqs] number of the first row (seq.h) */
    struct mb_seq **out_seq;     /* [max_rows] */
    int64_t *out_pos;            /* [max_rows] place of its id; -1: a row that is not kept */
    struct mb_seq **ride;        /* [max_seqs] sequences that have results of others' rows alone, */
    int64_t *ride_end;           /* up to this row of theirs */
    int32_t n_rides;
};

/* A row of the batch being made that a sequence wants results of. */
struct mb_ask {
    struct mb_seq *seq;
    int64_t at; /* place of its id */
    int32_t row, order;
    bool again; /* not kept */
};

/* Scratch of sched_fit.c. */
struct mb_fit {
    const struct mb_seq **q;
    int64_t *begin, *draw, *end; /* steps until each begins its prompt, draws, and ends */
    int64_t *times;
    int64_t *own; /* [parts] of each */
};

/* Guesses (sched_draft.c). */
struct mb_sched_draft {
    struct mb_draft_sums sums;
    int32_t rows, draws, spare; /* of the batch being made: rows beside guesses, those that draw, and how many guesses it has room for */
    double price;               /* tokens that a guess has to bring */
    bool generates, pays;       /* somebody draws; the MTP module brings more than it costs */
    bool module;                /* it runs in this step */
    int32_t rest;               /* steps since it was found not to */
};

struct mb_sched {
    struct mb_sched_options o;
    struct mb_counters *counters;
    struct mb_seq **running; /* in order of admission */
    int32_t n_running;
    struct mb_job **waiting; /* ring of requests with choices to make */
    int32_t n_waiting;
    struct mb_seq *held; /* the next sequence, made but not yet admitted for want of pages */
    bool source_ended;
    uint64_t admitted; /* sequences so far */
    struct mb_pages pages;
    struct mb_prefix prefix; /* under share */
    struct mb_fit fit;       /* [max_seqs + 1] */
    int64_t drawn,
        allowed;        /* outputs of sequences that have ended, and what they could have been: both fade */
    struct mb_ask *ask; /* [max_rows] of the batch being made */
    int32_t n_asks;
    struct mb_flight *flight; /* ring of depth */
    int32_t first_flight, n_flights;
    int64_t *stage_tick;  /* [depth] ticks until each stage has done its last step */
    int64_t results_tick; /* ticks until the results that it last waited for were there */
    uint8_t *state_used;  /* [max_seqs + 1] scratch, under states */
    float *no_logits;     /* [vocab] NaN, under mtp */
    struct mb_sched_draft draft;
};
/* counters: get what is scheduled and done; borrowed, as the options' lists are. Errors: MB_NO_MEMORY. */
enum mb_status mb_sched_create(const struct mb_sched_options *o, struct mb_counters *counters,
                               struct mb_sched *s);
void mb_sched_destroy(struct mb_sched *s); /* half-made ok */

/* Requests in, and as many sequences admitted as there will be pages for, going by how long others became;
 * rows that need no computing go to the sink. */
enum mb_status mb_sched_fill(struct mb_sched *s, struct mb_source *src, struct mb_sink *sink);
/* The batch of the next step (what of it is whose is not known here), and its flight, which is not yet under
 * way. */
enum mb_status mb_sched_batch(struct mb_sched *s, struct mb_batch *b);
/* The flight that the last batch made, and it is under way from now on: step is its number. rows: whether it
 * has any (one without is kept so that steps and results stay in order). */
struct mb_flight *mb_sched_launch(struct mb_sched *s, int64_t step, bool rows);
/* Draws, scores and ends of a flight's rows. */
enum mb_status mb_sched_use(struct mb_sched *s, const struct mb_flight *f, const struct mb_found *found,
                            struct mb_sink *sink);
/* The step's sequences move on; finished ones leave. */
enum mb_status mb_sched_retire(struct mb_sched *s, const struct mb_flight *f, struct mb_sink *sink);
/* The oldest flight has landed: its results were used. */
void mb_sched_land(struct mb_sched *s);
/* A step with so many rows of this group took so many seconds. */
void mb_sched_timed(struct mb_sched *s, int32_t rows, double seconds);
/* No rows under way, nothing waiting, and nothing more to come. */
bool mb_sched_idle(const struct mb_sched *s);
/* Pages that sequences hold, each counted once; what is kept for later ones is not among them. */
int64_t mb_sched_pages_used(const struct mb_sched *s);

static inline struct mb_flight *mb_sched_oldest(struct mb_sched *s)
{
    return &s->flight[s->first_flight];
}
static inline struct mb_flight *mb_sched_next(struct mb_sched *s)
{
    return &s->flight[(s->first_flight + s->n_flights) % s->o.depth];
}
#endif
