/* Inside of the engine: the parts that one step needs. */
#ifndef MB_ENGINE_WORK_H
#define MB_ENGINE_WORK_H
#include "engine/engine.h"
#include "engine/lora.h"
#include "engine/seq.h"
#include "engine/weights.h"

/* Flags in the exchange header. */
#define MB_FLAG_IDLE 1u /* no rows this step, none waiting, source at its end */
#define MB_FLAG_STOP 2u /* this member was asked to stop */

/* The rows of one step: host integers and their device copies. Decode rows first, then prefill chunks; a sequence's rows
 * are contiguous, positions ascending. */
struct mb_batch {
    int32_t rows, seqs;
    struct mb_seq **seq;          /* [seqs] */
    int32_t *ids, *pos, *rope, *slot, *row_seq; /* [max_rows] */
    int32_t *page_table;          /* [max_seqs][max_pages] */
    int32_t max_pages;
    struct mb_lora_run *run;      /* [<= seqs]: rows with an adapter, by adapter */
    int32_t n_runs;
    uint16_t *tag;                /* [max_rows] adapter + 1, 0 none: travels with rows to their experts */
    /* rows whose logits are needed */
    int32_t n_out;
    int32_t *out_row;             /* [max_rows] */
    struct mb_seq **out_seq;      /* [max_rows] */
    int64_t *out_pos;             /* [max_rows] */
    struct mb_view d_ids, d_pos, d_rope, d_slot, d_row_seq, d_page_table; /* views of this step */
};

/* Device buffers of a step, made once for max_rows. */
struct mb_work {
    int64_t max_rows;
    int32_t logit_rows;           /* rows of logits at a time: prompt log-probabilities in bounded memory */
    struct mb_buf *x, *h, *raw, *t, *qkv, *q, *attn, *gu, *act, *routed;
    struct mb_buf *qa, *qa_h, *qlat, *olat, *kva; /* MLA */
    struct mb_buf *head_f;        /* MLA with adapters: latent queries or head outputs before rounding */
    struct mb_buf *z, *experts, *weights, *bad, *sgate;
    struct mb_buf *ints;          /* ids, pos, rope, slot, row_seq */
    struct mb_buf *page_table;
    struct mb_buf *mtp_idx, *mtp_in, *mtp_x;
    struct mb_buf *rope_cos, *rope_sin;
    int64_t rope_rows;            /* positions per table; the long table follows the short one */
    /* experts: grown when more rows arrive than ever before */
    struct mb_buf *e_gu, *e_act, *e_y, *e_yf; /* e_yf: before rounding, where adapters add to it */
    int64_t e_rows;
    struct mb_gemm_group *groups;
    /* head */
    struct mb_buf *hx, *hn, *logits, *stats, *best, *lbad, *idx, *drawn, *target, *lp, *top_ids, *top_lp, *srows, *sadj;
    int64_t adj_cap;
    /* host side */
    int32_t *h_experts;           /* [moe layers][max_rows][k] */
    float *h_weights;
    int32_t *h_served;
    int64_t *usage;               /* [moe layers + 1][experts] rows sent to each expert so far */
    int32_t *h_bad;               /* [max_rows] */
    float *h_hidden;              /* [layers + 1][max_rows][hidden] under --save-hidden */
    float *h_rows;                /* staging for bulk rows */
    uint16_t *h_u16;
    int32_t *h_i32;               /* [logit_rows * max(4, MB_MAX_TOP)] */
    float *h_f32;
    struct mb_sample_row *h_srows;
    struct mb_adjust_list adj;
};

struct mb_engine {
    struct mb_engine_options o;
    struct mb_stream *stream;
    struct mb_weights w;
    struct mb_xchg *xchg;
    struct mb_lora_set *lora;     /* [n_adapters] */
    struct mb_buf *lora_x, *lora_y, *lora_z, *lora_h;
    bool expert_lora;             /* dispatched rows carry their adapter */
    struct mb_kv **kv;            /* [all_layers] */
    int32_t all_layers;           /* with the MTP module */
    struct mb_work work;
    struct mb_batch batch, mtp_batch;
    bool mtp;                     /* the MTP module's logits are saved */
    struct mb_counters counters;
    /* scheduler */
    struct mb_seq **running;      /* in order of admission */
    int32_t n_running;
    struct mb_job **waiting;      /* ring of requests with choices to make */
    int32_t n_waiting, cap_waiting;
    struct mb_seq *held;          /* the next sequence, made but not yet admitted for want of pages */
    bool source_ended;
    int32_t *free_page;
    int32_t n_free_page;
    /* this step */
    int64_t step;
    enum mb_status status;        /* own worst */
    bool told;                    /* the others have seen it */
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
void mb_sched_batch(struct mb_engine *e);
enum mb_status mb_sched_retire(struct mb_engine *e, struct mb_sink *sink);

/* work.c */
enum mb_status mb_work_create(struct mb_engine *e);
void mb_work_destroy(struct mb_engine *e);
enum mb_status mb_work_experts(struct mb_engine *e, int64_t rows);
enum mb_status mb_work_upload(struct mb_engine *e);

/* layers.c: embedding and all layers of one step; x holds the residual stream. */
enum mb_status mb_layers_run(struct mb_engine *e);
enum mb_status mb_layer_run(struct mb_engine *e, int32_t l, struct mb_view x);
/* mtp.c: the MTP module over this step's rows, its logits to the sink */
enum mb_status mb_mtp_run(struct mb_engine *e, struct mb_sink *sink);
/* attn.c: t = attention of layer l over h */
enum mb_status mb_attn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view t);
/* moe.c: t = FFN of layer l; raw is the unrounded norm output */
enum mb_status mb_ffn_run(struct mb_engine *e, int32_t l, struct mb_view h, struct mb_view raw, struct mb_view t);
/* Looks at the heads of the first exchange of a step; may end the step early. *leave: a peer failed, go no further. */
void mb_engine_heads(struct mb_engine *e, const struct mb_xchg_head *heads);
void mb_engine_mine(const struct mb_engine *e, int32_t layer, struct mb_xchg_head *out);
/* head.c: logits of the rows that need them, scores, draws */
enum mb_status mb_head_run(struct mb_engine *e, struct mb_sink *sink);
/* save.c: routing and residual stream of this step to the sink */
enum mb_status mb_save_routing(struct mb_engine *e, struct mb_sink *sink);
enum mb_status mb_keep_hidden(struct mb_engine *e, int32_t index);
enum mb_status mb_save_hidden(struct mb_engine *e, struct mb_sink *sink);

static inline struct mb_view mb_rows_of(struct mb_buf *b, int64_t rows, int64_t cols, enum mb_dtype t)
{
    return mb_view_of(b, 0, rows, cols, t);
}
#endif
