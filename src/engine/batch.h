/* The rows of a step as plain data, and what the step found out about them. No communication: whoever
 * schedules makes a batch, every rank of its attention group knows it, and results of its rows come back row
 * by row. */
#ifndef MB_ENGINE_BATCH_H
#define MB_ENGINE_BATCH_H
#include "device/ops.h"
#include "engine/seq.h"

/* A row whose logits are needed. */
struct mb_out {
    int32_t row;    /* of the batch */
    int32_t target; /* token whose log-probability is wanted, if it is known; -1: the drawn one */
    int32_t top_n;
    int32_t keep; /* its logits go to the results */
    int32_t next; /* a token may follow that has one behind it: those of the MTP module do, too */
    int32_t draws; /* its token is drawn */
};

/* Before the rows of a step: the ranks of a part copy a page. In order: what was copied may be copied. */
struct mb_page_copy {
    int32_t part, from, to;
};

/* A contiguous run of rows that share an adapter. */
struct mb_lora_run {
    int32_t adapter;
    int64_t row0, rows;
};

/* What of a batch is this rank's: the part (sequence parallelism: rows whose segment it keeps) and of it the
 * own rows (tensor parallelism: whose residual stream it keeps), both ascending. */
struct mb_batch_part {
    int32_t n, own0, n_own;
    int32_t *row;                           /* [max_rows] rows of the batch */
    int32_t *ids, *pos, *rope, *slot, *seq; /* [max_rows] */
    struct mb_lora_run *run;                /* [<= seqs + 1]: runs of the part's rows with an adapter */
    int32_t n_runs;
    uint16_t *own_tag; /* [max_rows] */
};

/* All rows in the order of parts (sequence parallelism only): part p has [at[p], at[p + 1]). */
struct mb_batch_order {
    int32_t *at, *pos, *seq; /* [sp + 1], [max_rows], [max_rows] */
    int32_t *row, *place;    /* [max_rows] rows of the batch in this order; where each is in it */
};

/* The integers on the device, in this step: of the part; order_*, row, place: of all rows, see above; all_*: of all rows in the batch's
 * order, for linear attention. */
struct mb_batch_dev {
    struct mb_view ids, pos, rope, slot, seq, page_table, order_pos, order_seq, row, place, all_pos, all_state;
};

/* The rows of one step, as every rank of the attention group knows them: made by the leader, sent in the step
 * header. Decode rows first, then prefill chunks; a sequence's rows are contiguous, positions ascending. */
struct mb_batch {
    int32_t rows, seqs;
    bool module; /* the MTP module runs over the rows */
    int32_t *ids, *pos, *rope, *row_seq; /* [max_rows] */
    int32_t *row_state;  /* [max_rows] state of each row's sequence */
    uint16_t *tag;       /* [max_rows] adapter + 1, 0 none: travels with rows to their experts */
    int32_t *page_table; /* [max_seqs][max_pages]; a page is one of the part that keeps its segment */
    int32_t max_pages;
    struct mb_page_copy *copy; /* [max_seqs] */
    int32_t n_copies;
    int32_t *copy_pages; /* [2 * max_seqs] scratch: those of a part */
    int32_t *state; /* [max_seqs] whose place it is for what linear attention keeps of a sequence: 0 .. max_seqs - 1 */
    int32_t n_out;
    struct mb_out *out;           /* [max_rows] ascending by row; several may be of one */
    struct mb_sample_row *sample; /* [max_rows] */
    struct mb_adjust_list adj;
    struct mb_mask_list masks;
    struct mb_batch_part part;
    struct mb_batch_order order;
    struct mb_batch_dev dev;
};
/* Row i of the own ones, as a row of the batch. */
static inline int32_t mb_own_row(const struct mb_batch *b, int32_t i)
{
    return b->part.row[b->part.own0 + i];
}

/* What a batch has to have room for. */
struct mb_batch_limits {
    struct mb_mem *mem;
    int32_t max_rows, max_seqs, max_pages; /* max_pages: of a sequence */
    int32_t vocab;
};
enum mb_status mb_batch_create(const struct mb_batch_limits *l, int32_t sp, struct mb_batch *b);
void mb_batch_destroy(struct mb_batch *b);
void mb_batch_clear(struct mb_batch *b); /* no rows */

/* Where a rank stands among those that share a batch. */
struct mb_batch_share {
    int32_t sp_rank, sp_size, tp_rank, tp_size;
    int32_t segment; /* positions of a KV segment */
};
/* Part, own rows, slots and runs of that rank. */
void mb_batch_divide(struct mb_batch *b, const struct mb_batch_share *s);

/* What a step found out, row by row; of the whole batch on the leader. */
struct mb_found {
    int32_t *drawn, *best, *bad; /* [max_rows] of the rows with logits */
    int32_t *guess;              /* [max_rows] what the MTP module holds for likeliest behind the drawn token; -1: nothing */
    float *lp;                   /* [max_rows] */
    int32_t *top_ids;            /* [max_rows][MB_MAX_TOP] */
    float *top_lp;
    int32_t *bad_layer; /* [max_rows] first layer in which a row of the batch has router logits that are not
                           finite; -1: none */
    /* under --save-routing: [moe layers][max_rows][k], by rows of the batch */
    int32_t *experts, *served;
    float *weights;
    float *hidden; /* under --save-hidden: [layers + 1][max_rows][hidden], by rows of the batch */
};
/* The lists of it over ints [(5 + MB_MAX_TOP) rows] and floats [(1 + MB_MAX_TOP) rows]; the planes are the
 * caller's. */
void mb_found_over(int32_t *ints, float *floats, int64_t rows, struct mb_found *f);
/* Forgets the rows of the last step. */
void mb_found_reset(struct mb_found *f, int32_t rows);
#endif
