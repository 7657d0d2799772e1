/* Inside of the engine: the parts that one step needs. */
#ifndef MB_ENGINE_WORK_H
#define MB_ENGINE_WORK_H
#include "engine/engine.h"
#include "engine/lora.h"
#include "engine/seq.h"
#include "engine/weights.h"

/* Flags in the exchange header; they are the leader's (of a member of its group: as in the step header). */
#define MB_FLAG_IDLE 1u /* no rows this step, none under way or waiting, source at its end */
#define MB_FLAG_STOP 2u /* this group was asked to stop */

/* A row whose logits are needed. */
struct mb_out {
    int32_t row;     /* of the batch */
    int32_t target;  /* token whose log-probability is wanted, if it is known; -1: the drawn one */
    int32_t top_n;
    int32_t keep;    /* its logits go to the results */
    int32_t next;    /* a token may follow that has one behind it: those of the MTP module do, too */
};

/* The rows of one step, as every rank of the attention group knows them: made by the leader, sent in the step header. Decode rows first,
 * then prefill chunks; a sequence's rows are contiguous, positions ascending. */
struct mb_batch {
    int32_t rows, seqs;
    int32_t *ids, *pos, *rope, *row_seq; /* [max_rows] */
    uint16_t *tag;                /* [max_rows] adapter + 1, 0 none: travels with rows to their experts */
    int32_t *page_table;          /* [max_seqs][max_pages]; a page is one of the part that keeps its segment */
    int32_t max_pages;
    int32_t n_out;
    struct mb_out *out;           /* [max_rows] */
    struct mb_sample_row *sample; /* [max_rows] */
    struct mb_adjust_list adj;
    /* This rank's part (sequence parallelism: rows whose segment it keeps) and own rows (tensor parallelism: whose residual stream it
     * keeps), both ascending. */
    int32_t n_part, own0, n_own;
    int32_t *part_row;            /* [max_rows] rows of the batch */
    int32_t *p_ids, *p_pos, *p_rope, *p_slot, *p_seq; /* [max_rows] of the part */
    /* All rows in the order of parts (sequence parallelism only): part p has [g_at[p], g_at[p + 1]). */
    int32_t *g_at, *g_pos, *g_seq; /* [sp + 1], [max_rows], [max_rows] */
    struct mb_view d_g_pos, d_g_seq;
    struct mb_lora_run *run;      /* [<= seqs + 1]: runs of the part's rows with an adapter */
    int32_t n_runs;
    uint16_t *own_tag;            /* [max_rows] */
    struct mb_view d_ids, d_pos, d_rope, d_slot, d_row_seq, d_page_table; /* of the part, in this step */
};
/* Row i of the own ones, as a row of the batch. */
static inline int32_t mb_own_row(const struct mb_batch *b, int32_t i)
{
    return b->part_row[b->own0 + i];
}

/* What the leader keeps of a step until its results are back. */
struct mb_flight {
    int64_t step, tick;           /* tick: when its results are there */
    int32_t rows, seqs, n_out;
    struct mb_seq **seq;          /* [max_seqs] */
    int32_t *seq_row, *seq_rows;  /* [max_seqs] first row in the batch, rows */
    int64_t *seq_pos;             /* [max_seqs] number of the first row (seq.h) */
    struct mb_seq **out_seq;      /* [max_rows] */
    int64_t *out_pos;             /* [max_rows] place of its id; -1: a row that is not kept */
};

/* What a step found out, row by row; of the whole batch on the leader. */
struct mb_found {
    int32_t *drawn, *best, *bad;  /* [max_rows] of the rows with logits */
    float *lp;                    /* [max_rows] */
    int32_t *top_ids;             /* [max_rows][MB_MAX_TOP] */
    float *top_lp;
    int32_t *bad_layer;           /* [max_rows] first layer in which a row of the batch has router logits that are not finite; -1: none */
    /* under --save-routing: [moe layers][max_rows][k], by rows of the batch */
    int32_t *experts, *served;
    float *weights;
    float *hidden;                /* under --save-hidden: [layers + 1][max_rows][hidden], by rows of the batch */
};

/* Device buffers of a step, made once for max_rows. */
struct mb_work {
    int64_t max_rows;
    int32_t logit_rows;           /* rows of logits at a time: prompt log-probabilities in bounded memory */
    struct mb_buf *h_part;        /* rows of the part, where they are more than the own ones */
    struct mb_buf *x, *h, *raw, *t, *qkv, *q, *attn, *gu, *act, *routed;
    struct mb_buf *qa, *qa_h, *qlat, *olat, *kva; /* MLA */
    struct mb_buf *head_f;        /* MLA with adapters: latent queries or head outputs before rounding */
    struct mb_buf *z, *experts, *weights, *bad, *sgate;
    struct mb_buf *ints;          /* ids, pos, rope, slot, row_seq */
    struct mb_buf *page_table;
    struct mb_buf *mtp_in, *mtp_x;
    struct mb_buf *rope_cos, *rope_sin;
    struct mb_buf *q_growth; /* f32 [rope_rows, 1] factors of the queries, where they grow with the position */
    struct mb_buf *inside;   /* inputs of experts times the router's weights, where these go inside */
    int64_t rope_rows;            /* positions per table; the long table follows the short one */
    /* experts: grown when more rows arrive than ever before */
    struct mb_buf *e_gu, *e_act, *e_y, *e_yf; /* e_yf: before rounding, where adapters add to it */
    int64_t e_rows;
    struct mb_gemm_group *groups;
    /* head */
    struct mb_buf *hn2, *logits_part; /* of a group's share */
    struct mb_buf *hx, *hn, *logits, *stats, *best, *lbad, *idx, *drawn, *target, *lp, *top_ids, *top_lp, *srows, *sadj;
    int64_t adj_cap;
    /* host side, of the own rows */
    int32_t *h_experts;           /* [moe layers][max_rows][k] */
    float *h_ones;                /* [max_rows] 1, where the router's weights go inside */
    int32_t *h_ids;               /* [max_rows][k] ids in the exchange, where they are not the experts */
    float *h_weights;
    int32_t *h_served;
    int64_t *usage;               /* [moe layers + 1][experts] rows sent to each expert so far */
    int64_t *layer_rows;          /* [moe layers + 1] rows that this rank's experts were sent so far */
    int32_t *h_bad;               /* [max_rows] */
    float *h_hidden;              /* [layers + 1][max_rows][hidden] under --save-hidden */
    float *h_rows;                /* staging for bulk rows */
    uint16_t *h_u16;
    int32_t *h_i32;               /* [logit_rows * MB_MAX_TOP] */
    float *h_f32;
    int32_t *h_where;             /* [3 * logit_rows] */
    struct mb_sample_row *h_srows; /* [logit_rows] */
};

/* Memory that grows and stays: on the host (pinned) and on the device. */
struct mb_grown {
    void *p;
    struct mb_buf *buf;
    uint64_t bytes;
};
/* What the shares of a group need in transit (share.c, segments.c, results.c). */
struct mb_transit {
    struct mb_grown send, recv, parts, inner, idx, gathered, square, state, nodes, q_all, ints, z, low, terms, tags;
    struct mb_piece *out, *in;    /* [largest group] */
    struct mb_bytes msg, result;
};

/* Experts that an exchange finds here, in the order of their ids. */
struct mb_served {
    int32_t n;
    int32_t *layer, *index;       /* [n] index: into that layer's expert[] */
        const struct mb_ffn **ffn;    /* [n] under ZeRO-inference; NULL where it is not here */
    uint8_t *pick;                /* [n] under ZeRO-inference: those computed now; NULL: all */
};

struct mb_engine {
    struct mb_engine_options o;
    struct mb_stream *stream;
    struct mb_team t;
    struct mb_weights w;
    struct mb_xchg *xchg;
    struct mb_served *served;     /* [exchanges] */
    struct mb_zero *zero;         /* experts on demand; NULL: all are resident */
    struct mb_lora_set *lora;     /* [n_adapters] */
    struct mb_buf *lora_x, *lora_y, *lora_z, *lora_h;
    bool expert_lora;             /* dispatched rows carry their adapter */
    struct mb_kv **kv;            /* [all_layers][pools]; NULL where the layer is another stage's */
    int32_t all_layers;           /* with the MTP module */
    struct mb_work work;
    struct mb_transit transit;
    struct mb_batch batch;
    struct mb_found found;
    bool mtp;                     /* the MTP module's logits are saved */
    int32_t *mtp_ids;             /* [2 * max_rows] next tokens of the part's rows; tokens drawn */
    uint16_t *mtp_tag;            /* [max_rows] zeros */
    struct mb_counters counters;
    enum mb_time time_in;         /* what the time since time_since goes into */
    double time_since;
    /* scheduler, of a leader */
    struct mb_seq **running;      /* in order of admission */
    int32_t n_running;
    struct mb_job **waiting;      /* ring of requests with choices to make */
    int32_t n_waiting, cap_waiting;
    struct mb_seq *held;          /* the next sequence, made but not yet admitted for want of pages */
    bool source_ended;
    int32_t **free_page;          /* [sp] stacks */
    int32_t *n_free_page;         /* [sp] */
    int64_t *stage_tick;          /* [pp] of a leader: ticks until each stage has done its last step */
    int64_t results_tick;         /* ticks until the results that it last waited for were there */
    struct mb_flight *flight;     /* ring of depth */
    int32_t depth, first_flight, n_flights; /* depth: steps under way at once, one per stage */
    /* this step */
    int64_t step;                 /* of this stage; under lane scope the exchanges count ticks = step + stage */
    int32_t exchange;             /* next exchange of the step */
    uint32_t flags;               /* the leader's, of this step */
    int64_t end_step;             /* the step in which all agreed to end; -1: not yet */
    enum mb_status status;        /* own worst */
    bool told;                    /* the others have seen it */
    bool lost;                    /* the exchange ended in the middle: ranks are out of step */
    bool apart;                   /* the run ended here, and the others can't know */
    bool peers_idle, peers_stop;  /* all idle; somebody asked to stop */
    enum mb_status peers_status;
    bool step_known;              /* heads of this step were seen */
    bool empty;                   /* no member has rows: the rest of the step is skipped */
};

/* sched.c */
enum mb_status mb_sched_create(struct mb_engine *e);
void mb_sched_destroy(struct mb_engine *e);
enum mb_status mb_sched_fill(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink);
/* The batch of the next step, and its flight. */
enum mb_status mb_sched_batch(struct mb_engine *e);
/* A step's sequences move on; finished ones leave. */
enum mb_status mb_sched_retire(struct mb_engine *e, struct mb_flight *f, struct mb_sink *sink);

/* batch.c: the batch on every rank of the group */
enum mb_status mb_batch_create(struct mb_engine *e, struct mb_batch *b);
void mb_batch_destroy(struct mb_batch *b);
/* Part, own rows, slots and runs of this rank. */
void mb_batch_share(struct mb_engine *e, struct mb_batch *b);
/* Sends the step header down the line; takes it from the leader. Collective over the line. */
enum mb_status mb_batch_post(struct mb_engine *e);
enum mb_status mb_batch_take(struct mb_engine *e);

/* results.c: what a step found out, to the leader; draws and records there */
enum mb_status mb_found_create(struct mb_engine *e);
void mb_found_destroy(struct mb_engine *e);
/* Sends this rank's results of the step to the leader (nothing to do where it is alone). */
enum mb_status mb_results_post(struct mb_engine *e);
/* Takes the results of the oldest flight: waits for them. Leader. */
enum mb_status mb_results_take(struct mb_engine *e, struct mb_sink *sink);
/* Forgets the rows of the last step. */
void mb_found_reset(struct mb_engine *e, int32_t rows);
/* Logits of batch.out[i], as many floats as the vocabulary: to the sink, or to the leader with the results. */
enum mb_status mb_results_logits(struct mb_engine *e, int32_t i, const float *z, struct mb_sink *sink);
enum mb_status mb_results_mtp(struct mb_engine *e, int32_t i, const float *z, struct mb_sink *sink);
/* Draws, scores and ends of the flight's rows, from e->found. */
enum mb_status mb_results_use(struct mb_engine *e, struct mb_flight *f, struct mb_sink *sink);

/* share.c: rows and sums that a group divides. A split: member m has rows [at[m], at[m+1]). */
struct mb_split {
    struct mb_comm *c;            /* NULL: one member */
    int32_t n, me;
    const int64_t *at;
};
/* all = the rows of every member, in order of members; mine: the own ones. */
enum mb_status mb_share_gather(struct mb_engine *e, const struct mb_split *s, struct mb_view all, struct mb_view mine, int32_t layer);
/* out [own rows, n] f32 = tree over all leaves from the node values of every member; parts [nodes of this member][all rows][n] f32. */
enum mb_status mb_share_fold(struct mb_engine *e, const struct mb_split *s, const struct mb_rowpar *w, struct mb_view out,
                             struct mb_buf *parts, int32_t layer);
/* out [own rows, n] f32 = x [all rows, k] W^T + bias for a weight that a group shares; x has this member's inputs. */
enum mb_status mb_share_gemm(struct mb_engine *e, const struct mb_split *s, const struct mb_rowpar *w, struct mb_view out, struct mb_view x,
                             struct mb_view bias, int32_t layer);
/* The tensor group's split of the part's rows; at: room for tp + 1. */
struct mb_split mb_share_tp(const struct mb_engine *e, int64_t *at);
/* all = h of the part's rows: the own ones, or those of the whole tensor group (rounded norm outputs). */
enum mb_status mb_share_part(struct mb_engine *e, int32_t l, struct mb_view own, struct mb_view *all);
/* x [own rows, hidden] = the embedding of the own rows. */
enum mb_status mb_share_embed(struct mb_engine *e, struct mb_view x);
/* Whole-vector norms of q and k over a tensor group (OLMoE). */
enum mb_status mb_share_norms(struct mb_engine *e, int32_t l, struct mb_view q, struct mb_view k);
/* transit.c */
void *mb_transit_host(struct mb_engine *e, struct mb_grown *g, uint64_t bytes);      /* NULL: no memory; logged */
struct mb_buf *mb_transit_dev(struct mb_engine *e, struct mb_grown *g, uint64_t bytes);
enum mb_status mb_transit_create(struct mb_engine *e);
/* The exchange, and buffers of the sizes that the plan counted, once the weights are there. Collective over world. */
enum mb_status mb_transit_rooms(struct mb_engine *e);
void mb_transit_destroy(struct mb_engine *e);

/* segments.c: attention whose KV segments lie on the ranks of a sequence group */
enum mb_status mb_segments_attend(struct mb_engine *e, int32_t l, struct mb_view out, struct mb_view q);

/* work.c */
enum mb_status mb_work_create(struct mb_engine *e);
void mb_work_destroy(struct mb_engine *e);
enum mb_status mb_work_experts(struct mb_engine *e, int64_t rows);
enum mb_status mb_work_upload(struct mb_engine *e);

/* layers.c: this stage's layers of one step; x holds the residual stream of the own rows. */
enum mb_status mb_layers_run(struct mb_engine *e);
enum mb_status mb_layer_run(struct mb_engine *e, int32_t l, struct mb_view x);
/* mtp.c: the MTP module over this step's rows, its logits to the results. Behind mb_head_run, on every rank of the last stage
 * that attends, with rows or without, whatever happened before: its exchange is the stage's last. Collective over the stage's
 * attention group. */
enum mb_status mb_mtp_create(struct mb_engine *e);
void mb_mtp_destroy(struct mb_engine *e);
enum mb_status mb_mtp_run(struct mb_engine *e, struct mb_sink *sink);
static inline bool mb_mtp_here(const struct mb_engine *e)
{
    return e->mtp && e->t.attends && e->t.last_stage;
}
/* attn.c: t [own rows] = attention of layer l over h [part rows]. */
enum mb_status mb_attn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view t);
/* One call of the attention operation for a pool of heads. */
struct mb_attn_args mb_attn_args_of(const struct mb_engine *e, int32_t l, const struct mb_pool *p, struct mb_view q);
/* moe.c: t = FFN of layer l; h, raw: rounded and unrounded norm output of the own rows */
enum mb_status mb_ffn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t);
/* experts.c: y = rounded outputs of the experts here for the rows of a dispatch */
enum mb_status mb_experts_run(struct mb_engine *e, const struct mb_dispatched *d, struct mb_view *y);
enum mb_status mb_experts_create(struct mb_engine *e);
void mb_experts_destroy(struct mb_engine *e);
/* Takes part in an exchange without rows: for experts that others need. */
enum mb_status mb_moe_serve(struct mb_engine *e);
/* Where other ranks would wait in vain for one that failed (groups, stages, lanes), a failure ends the job with its exit code: then
 * this does not return. */
void mb_engine_must(const struct mb_engine *e, enum mb_status st);
/* engine.c: looks at the heads of an exchange; what this rank says in one. */
void mb_engine_heads(struct mb_engine *e, const struct mb_xchg_head *heads);
void mb_engine_mine(const struct mb_engine *e, int32_t layer, struct mb_xchg_head *out);
/* head.c: logits of the rows that need them, scores, draws: into e->found of the rank that samples */
enum mb_status mb_head_run(struct mb_engine *e, struct mb_sink *sink);
/* The same head behind the MTP module's norm: logits of its rows x [own rows, hidden], to the results. */
enum mb_status mb_head_mtp(struct mb_engine *e, struct mb_view x, struct mb_sink *sink);
/* save.c: routing and residual stream of a flight to the sink */
enum mb_status mb_save_flight(struct mb_engine *e, const struct mb_flight *f, struct mb_sink *sink);
enum mb_status mb_keep_hidden(struct mb_engine *e, int32_t index);

static inline struct mb_view mb_rows_of(struct mb_buf *b, int64_t rows, int64_t cols, enum mb_dtype t)
{
    return mb_view_of(b, 0, rows, cols, t);
}
/* Whether the rest of the step is skipped: by all members alike, behind a dispatch. An own failure that the others have not seen
 * ends no step: the next dispatch carries it. */
static inline bool mb_step_over(const struct mb_engine *e)
{
    return e->peers_status != MB_OK || e->empty || e->told || e->lost;
}
#endif
