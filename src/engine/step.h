/* One step: what lives while it runs. A pass is the rows that go through the layers together, with the
 * buffers that they need; the step around it has the exchanges with others, and what members tell each other
 * in them. */
#ifndef MB_ENGINE_STEP_H
#define MB_ENGINE_STEP_H
#include "base/wire.h"
#include "engine/batch.h"
#include "engine/context.h"
#include "engine/count.h"
#include "engine/sched.h"

/* Flags in the exchange header; they are the leader's (of a member of its group: as in the step header). */
#define MB_FLAG_IDLE 1u /* no rows this step, none under way or waiting, source at its end */
#define MB_FLAG_STOP 2u /* this group was asked to stop */

/* The buffers of a step, by plan's table (plan/rooms.h); none grows. */
#define MB_STEP_ROOMS (MB_ROOM_COUNT - MB_XB_COUNT)
struct mb_work {
    int64_t max_rows;
    int32_t logit_rows; /* rows of logits at a time: prompt log-probabilities in bounded memory */
    void *host[MB_STEP_ROOMS];
    struct mb_buf *dev[MB_STEP_ROOMS];
    /* those on the host, by what they hold */
    struct mb_gemm_group *groups;
    int32_t *h_experts; /* [moe layers][max_rows][k] */
    float *h_weights;
    int32_t *h_served;
    int32_t *h_ids;  /* [max_rows][k] ids in the exchange, where they are not the experts */
    float *h_ones;   /* [max_rows] 1, where the router's weights go inside */
    int32_t *h_bad;  /* [max_rows] */
    float *h_hidden; /* [layers + 1][max_rows][hidden] under --save-hidden */
    float *h_rows;   /* staging for bulk rows */
    uint16_t *h_u16; /* [2 * MB_SAVE_ROWS * moe layers * k] under --save-routing */
    int32_t *h_i32;  /* [logit_rows * MB_MAX_TOP] */
    float *h_f32;
    int32_t *h_where;              /* [3 * logit_rows] */
    struct mb_sample_row *h_srows; /* [logit_rows] */
    int32_t *mtp_ids;              /* [2 * max_rows] next tokens of the part's rows; tokens drawn */
    uint16_t *mtp_tag;             /* [max_rows] zeros */
    /* what travels in a group */
    struct mb_piece *out, *in; /* [largest group] */
    struct mb_bytes msg, result;
};

/* Rows that go through the layers together. */
struct mb_pass {
    const struct mb_context *c;
    struct mb_tally *tally;
    int64_t step; /* its number, for messages */
    struct mb_batch *batch;
    struct mb_work *work;
    struct mb_found *found;
    const struct mb_flight
        *flight; /* of the rows, where their results are used at once; NULL: results travel to the leader */
};

/* What the heads of the exchanges said, the same on all members. */
struct mb_peers {
    bool known;            /* heads of this step were seen */
    bool idle, stop;       /* all idle; somebody asked to stop */
    enum mb_status status; /* the worst */
};

struct mb_step {
    const struct mb_context *c;
    struct mb_pass pass;
    struct mb_xchg *xchg;
    struct mb_zero *zero;  /* experts on demand; NULL: all are resident */
    int64_t number;        /* of this stage; under lane scope the exchanges count ticks = number + stage */
    int32_t exchange;      /* next exchange of the step */
    uint32_t flags;        /* the leader's */
    enum mb_status status; /* own worst */
    struct mb_peers peers;
    bool told;  /* the others have seen the own one */
    bool lost;  /* the exchange ended in the middle: ranks are out of step */
    bool empty; /* no member has rows: the rest of the step is skipped */
};

/* ---------------------------------------------------------------- step.c */

/* The next step, as yet without rows. */
void mb_step_begin(struct mb_step *s);
/* This rank's part of the batch, and its own rows. */
void mb_step_divide(struct mb_step *s);
/* What this rank says in an exchange. layer: for messages. */
struct mb_xchg_head mb_step_head(const struct mb_step *s, int32_t layer);
/* An exchange is over in which this rank said mine: looks at the heads of all members. Every member sees the
 * same heads, so every member draws the same conclusions: from the first exchange of a step whether anybody
 * has rows, is asked to stop, or is idle; from every exchange whether somebody failed. Returns whether the
 * rest of the step is skipped. */
bool mb_step_heard(struct mb_step *s, const struct mb_xchg_head *mine, const struct mb_xchg_head *heads,
                   int32_t members);
/* Whether the rest of the step is skipped: by all members alike, behind a dispatch. An own failure that the
 * others have not seen ends no step: the next dispatch carries it. */
static inline bool mb_step_over(const struct mb_step *s)
{
    return s->peers.status != MB_OK || s->empty || s->told || s->lost;
}

/* ---------------------------------------------------------------- header.c: the batch, on every rank of the
 * group */

/* Sends the step header down the line; takes it from the leader. Collective over the line. */
enum mb_status mb_header_post(struct mb_step *s);
enum mb_status mb_header_take(struct mb_step *s);

/* ---------------------------------------------------------------- results.c: what a step found out, to the
 * leader */

/* Sends this rank's results of the step to the leader (nothing to do where it is alone). */
enum mb_status mb_results_post(struct mb_pass *p);
/* Takes the results of the flight, waiting for them: into found and the sink. Leader. */
enum mb_status mb_results_take(struct mb_pass *p, const struct mb_flight *f, struct mb_sink *sink);
/* Logits of batch.out[i], as many floats as the vocabulary: to the sink, or to the leader with the results.
 */
enum mb_status mb_results_logits(struct mb_pass *p, int32_t i, const float *z, struct mb_sink *sink);
enum mb_status mb_results_mtp(struct mb_pass *p, int32_t i, const float *z, struct mb_sink *sink);

/* ---------------------------------------------------------------- tp.c: rows and sums that a group divides
 */

/* Member m has rows [at[m], at[m+1]). */
struct mb_split {
    struct mb_comm *c; /* NULL: one member */
    int32_t n, me;
    const int64_t *at;
};
/* all = the rows of every member, in order of members; mine: the own ones. Collective over the split. */
enum mb_status mb_allgather_rows(struct mb_pass *p, const struct mb_split *s, struct mb_view all,
                                 struct mb_view mine, int32_t layer);
/* out [own rows, n] f32 = tree over all leaves from the node values of every member; parts [nodes of this
 * member][all rows][n] f32. Collective over the split. */
enum mb_status mb_reduce_scatter_rows(struct mb_pass *p, const struct mb_split *s, const struct mb_rowpar *w,
                                      struct mb_view out, struct mb_buf *parts, int32_t layer);
/* The tensor group's split of the part's rows; at: room for tp + 1. */
struct mb_split mb_tp_split(const struct mb_pass *p, int64_t *at);
/* all = h of the part's rows: the own ones, or those of the whole tensor group (rounded norm outputs). */
enum mb_status mb_tp_allgather(struct mb_pass *p, int32_t l, struct mb_view own, struct mb_view *all);
/* out [own rows, n] f32 = x [part rows, k] W^T + bias for a row-parallel weight; x has this member's inputs.
 */
enum mb_status mb_tp_gemm_reduce_scatter(struct mb_pass *p, const struct mb_rowpar *w, struct mb_view out,
                                         struct mb_view x, struct mb_view bias, int32_t layer);
/* The same over the members of s, where x has the rows of all of them, in their order. Collective over s. */
enum mb_status mb_gemm_reduce_scatter(struct mb_pass *p, const struct mb_split *s, const struct mb_rowpar *w, struct mb_view out,
                                      struct mb_view x, struct mb_view bias, int32_t layer);
/* x [own rows, hidden] = the embedding of the own rows. */
enum mb_status mb_tp_embed(struct mb_pass *p, struct mb_view x);
/* Whole-vector norms of q and k over a tensor group (OLMoE). */
enum mb_status mb_tp_norms(struct mb_pass *p, int32_t l, struct mb_view q, struct mb_view k);

/* ---------------------------------------------------------------- work.c */

/* What is needed to hold rows, and found over it. */
enum mb_status mb_work_create(const struct mb_context *c, struct mb_work *w, struct mb_found *f);
/* What is needed for rows to travel, once the weights are there, whose reading needs memory too. */
enum mb_status mb_work_travel(const struct mb_context *c, struct mb_work *w);
void mb_work_destroy(const struct mb_context *c, struct mb_work *w); /* half-made ok */
enum mb_status mb_work_upload(struct mb_pass *p);
/* A buffer in which so many bytes are needed. NULL: that is more than was planned, a bug; logged. */
void *mb_room_host(struct mb_pass *p, enum mb_sbuf id, int64_t bytes);
struct mb_buf *mb_room_dev(struct mb_pass *p, enum mb_sbuf id, int64_t bytes);
static inline struct mb_buf *mb_dev(const struct mb_pass *p, enum mb_sbuf id)
{
    return p->work->dev[id - MB_XB_COUNT];
}
/* Its first rows. */
static inline struct mb_view mb_rows(const struct mb_pass *p, enum mb_sbuf id, int64_t rows, int64_t cols,
                                     enum mb_dtype t)
{
    return mb_rows_of(mb_dev(p, id), rows, cols, t);
}

/* ---------------------------------------------------------------- a pass on its way */

/* segments.c: attention whose KV segments lie on the ranks of a sequence group */
enum mb_status mb_segments_attend(struct mb_pass *p, int32_t l, struct mb_view out, struct mb_view q);
/* indexer.c: what a row attends to, for layer l and those behind it that share: chosen by index scores of h [part rows] and the
 * normed latent queries [part rows, q_lora]. Nothing where the layer has no indexer of its own. */
enum mb_status mb_indexer_run(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view latent);
/* The choice of the last indexer that ran, for mb_attn_args; MB_NO_VIEW: the model has none. Of the part's rows; in a sequence group of
 * all rows, in the order of parts, and then also on the host (MB_SB_H_CHOSEN). */
struct mb_view mb_indexer_choice(const struct mb_pass *p, int64_t rows);
/* index_parts.c: the choice of all rows over a sequence group. mine: queries and weights of the part's rows. Collective over the group. */
enum mb_status mb_index_parts(struct mb_pass *p, int32_t layer, const struct mb_choose_args *mine);
/* attn.c: t [own rows] = attention of layer l over h [own rows]. Collective over the attention group. */
enum mb_status mb_attn_run(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view t);
/* Pages that the batch copies before its rows. */
enum mb_status mb_attn_copy_pages(struct mb_pass *p);
/* delta.c: t [own rows] = gated DeltaNet of layer l over h [own rows]. Its heads, not positions, are divided over the attention group,
 * every member of which walks through all rows. Collective over that group. */
enum mb_status mb_delta_run(struct mb_pass *p, int32_t l, struct mb_view h, struct mb_view t);
/* One call of the attention operation for a pool of heads. */
struct mb_attn_args mb_attn_args_of(const struct mb_pass *p, int32_t l, const struct mb_pool *pool,
                                    struct mb_view q);
/* experts.c: y = rounded outputs of the experts here for the rows of a dispatch; s: which are here. zero:
 * where they come on demand, else NULL. */
enum mb_status mb_experts_run(struct mb_pass *p, const struct mb_served *s, struct mb_zero *zero,
                              const struct mb_dispatched *d, struct mb_view *y);
/* The same of experts [from, to) of those here, whole and resident ones without adapters, into rows of y from
 * d->first on. Each of a dispatch's experts once, the first ones first. */
enum mb_status mb_experts_some(struct mb_pass *p, const struct mb_served *s, const struct mb_dispatched *d,
                               int32_t from, int32_t to, struct mb_view y);
/* head.c: logits of the rows that need them, scores, draws: into found of the rank that samples */
enum mb_status mb_head_run(struct mb_pass *p, struct mb_sink *sink);
/* The same head behind the MTP module's norm: logits of its rows x [own rows, hidden], to the results. */
enum mb_status mb_head_mtp(struct mb_pass *p, struct mb_view x, struct mb_sink *sink);
/* The likeliest token of each of its rows that draw, into found of the rank that samples: a guess at what follows the drawn one. */
enum mb_status mb_head_guess(struct mb_pass *p, struct mb_view x);
/* save.c: routing and residual stream of a flight to the sink */
enum mb_status mb_save_flight(struct mb_pass *p, const struct mb_flight *f, struct mb_sink *sink);
enum mb_status mb_keep_hidden(struct mb_pass *p, int32_t index);

/* lora_terms.c: the terms of adapters that a pass's rows have */

/* One term: B(A x) of a pair, scaled, over rows [row0, row0 + rows). */
struct mb_lora_term {
    const struct mb_lora_pair *pair;
    float scale;
    int64_t row0, rows;
};
/* out[rows of each term] += the term, for a weight whose outputs are here and whose inputs are whole: out
 * f32, x in the type of GEMM inputs, both with all rows. Local. */
enum mb_status mb_lora_add(struct mb_pass *p, const struct mb_lora_term *t, int32_t n, struct mb_view out,
                           struct mb_view x);
/* The same for a row-parallel weight, whose inputs the members of s divide: x [all rows, inputs here], out
 * [own rows]. Members send the nodes of A x that they hold; the owner of a row completes the tree and applies
 * B. terms: the same list on every member, ascending in row0; those of one rank r travel together. Collective
 * over s. */
enum mb_status mb_lora_sum(struct mb_pass *p, const struct mb_split *s, const struct mb_lora_term *t,
                           int32_t n, struct mb_view out, struct mb_view x, int32_t layer);
/* The terms at a site of layer l for all runs of this step's batch: out and x as for mb_lora_add, or for the
 * output and down-projections as for mb_lora_sum over the tensor group. */
enum mb_status mb_lora_site(struct mb_pass *p, int32_t l, enum mb_lora_site site, struct mb_view out,
                            struct mb_view x);
/* Room for n terms, until the next call; NULL: no memory, logged. */
struct mb_lora_term *mb_lora_terms(struct mb_pass *p, int64_t n);
/* Whether a row of this step has an adapter that touches kv_b in layer l. */
bool mb_lora_touches_kv_b(const struct mb_pass *p, int32_t l);
/* Adds the kv_b terms of every own head: up false: queries into the latent space; true: latent outputs to
 * head outputs. */
enum mb_status mb_lora_heads(struct mb_pass *p, int32_t l, bool up, struct mb_view out, int64_t out_step,
                             struct mb_view x, int64_t x_step);

/* ---------------------------------------------------------------- a step on its way */

/* layers.c: this stage's layers of one step. */
enum mb_status mb_layers_run(struct mb_step *s);
/* One decoder layer over the residual stream x of the pass's own rows, in place. */
enum mb_status mb_layer_run(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view x);
/* mtp.c: the MTP module over this step's rows: its logits to the results, or guesses. Behind mb_head_run, on every rank
 * of the last stage that attends, with rows or without, whatever happened before: its exchange is the stage's
 * last. Collective over the stage's attention group. */
enum mb_status mb_mtp_run(struct mb_step *s, struct mb_sink *sink);
/* moe.c: t = FFN of layer l; h, raw: rounded and unrounded norm output of the own rows */
enum mb_status mb_ffn_run(struct mb_step *s, struct mb_pass *p, int32_t l, struct mb_view h,
                          struct mb_view raw, struct mb_view t);
/* Takes part in an exchange without rows: for experts that others need. */
enum mb_status mb_moe_serve(struct mb_step *s);
#endif
