/* The plan of a job: pure integers from (model, topology, options). The same on every rank that computes it.
 * No MPI, no I/O. Immutable; a placement is replaced whole and carries a revision. Local.
 *
 * Ranks are named by their index in topology order (struct mb_topo: order, index_of); world rank =
 * topo->order[index]. */
#ifndef MB_PLAN_PLAN_H
#define MB_PLAN_PLAN_H
#include "base/link.h"
#include "base/mem.h"
#include "base/status.h"
#include "model/adapter.h"
#include "model/model.h"
#include "plan/grid.h"
#include "topo/topo.h"

struct mb_cluster;
enum mb_alltoall { MB_A2A_AUTO, MB_A2A_FLAT, MB_A2A_HIER, MB_A2A_COUNT }; /* alltoall.h */

struct mb_plan_options {
    struct mb_layout_options layout; /* experts: filled in from the model */
    int32_t segment;                 /* --kv-segment; 0: MB_KV_SEGMENT */
    int32_t max_num_seqs;            /* per attention group */
    int32_t max_batch_rows;          /* rows of a step per attention group (decode rows + prefill chunk) */
    int64_t max_model_len;           /* 0: the model's */
    enum mb_dtype path;              /* GEMM-input type */
    enum mb_dtype kv_dtype;
    double memory_fraction; /* --gpu-memory-utilization */
    int64_t kv_pages;       /* 0: sized from memory */
    enum mb_alltoall alltoall;
    const struct mb_cluster *speeds; /* by which `auto` chooses it; NULL: of the job's machines. Borrowed */
    struct mb_plan_guesses {
        int32_t most; /* rows of guessed tokens of a sequence in a step; 0: none */
        bool module;  /* the MTP module makes them */
    } guesses;
    bool mtp; /* the MTP module is in use: one more layer of weights and KV, and of experts to place */
    const char *placement; /* NULL or "uniform", "scattered" (round-robin, for tests of the formulas),
                              "usage", "capacity" (plan/makers.h), or a file */
    const int64_t
        *usage;         /* [MoE layers of the model][experts] for these makers; NULL: not known. Borrowed. */
    int32_t redundant;  /* --num-redundant-experts, for these makers */
    const char *placement_before; /* a file, from which these makers move as little as they can; NULL: none. Borrowed */
    uint64_t shm_bytes; /* --shm-size, per node */
    uint64_t eager_bytes;                        /* --a2a-eager */
    bool save_logits, save_routing, save_hidden; /* rows kept for the results */
    const struct mb_adapter *const *adapters;    /* borrowed while the plan is made */
    int32_t n_adapters;
    int32_t zero;        /* --zero-inference, per cent of an even share of experts; 0: all are resident */
    int32_t min_experts; /* of each layer that stay resident */
};

/* Which ep indices hold each expert of each MoE layer (several: replicas); an MTP module in use, if it has
 * experts, is the last of these layers. */
struct mb_placement {
    uint32_t revision;
    int32_t moe_layers, experts, ep;
    int64_t *first; /* [moe_layers * experts + 1] boundaries in shard; entry lm * experts + e */
    int32_t *shard; /* ep indices, ascending inside an expert */
    int32_t *quota; /* which part of the expert's rows each of them is to get, of MB_SPLIT_PARTS (plan/split.h). NULL: copies
                       are taken in turn by home */
    int64_t moved;  /* of them that the placement before did not have (a maker's) */
};
/* The holders of an expert: *n of them, ascending. */
static inline const int32_t *mb_placement_holders(const struct mb_placement *p, int32_t lm, int32_t expert,
                                                  int32_t *n)
{
    int64_t i = (int64_t)lm * p->experts + expert;
    *n = (int32_t)(p->first[i + 1] - p->first[i]);
    return p->shard + p->first[i];
}
/* Experts owned by ep index r in MoE layer lm, ascending, into out (room for experts); returns how many. */
int32_t mb_placement_owned(const struct mb_placement *p, int32_t lm, int32_t r, int32_t *out);
enum mb_status mb_placement_uniform(int32_t moe_layers, int32_t experts, int32_t ep,
                                    struct mb_placement **out);
enum mb_status mb_placement_scattered(int32_t moe_layers, int32_t experts, int32_t ep,
                                      struct mb_placement **out);
/* JSON file {"owner": [[ep index of each expert, or a list of several] per MoE layer], "quota": [[null, or for each of its
 * owners its part of MB_SPLIT_PARTS] per MoE layer], "placement_revision": n}; what a plan's JSON has, too. */
enum mb_status mb_placement_load(const char *path, int32_t moe_layers, int32_t experts, int32_t ep,
                                 struct mb_placement **out);
/* Rows of the fullest shard by the mean of shards, of usage [layers][experts], in the mean over layers with rows; 0: none, or
 * no memory. */
double mb_placement_fullest(const struct mb_placement *p, const int64_t *usage, int32_t layers);
/* The text of such a file, malloc'd; NULL without memory. */
char *mb_placement_text(const struct mb_placement *p);
void mb_placement_destroy(struct mb_placement *p);

struct mb_budget { /* bytes per rank, predicted; the categories of base/mem.h */
    int64_t weights, experts, kv, activations, exchange, staging, total;
    int64_t state;                         /* in kv: what linear attention keeps of sequences that run */
    int64_t kv_page_bytes;                 /* one page over all layers of the rank; 0: it does not attend */
    int64_t late; /* in exchange: messages of steps under way beside one (a stage each), which wait only where their
                     receiver is late */
};

struct mb_plan {
    struct mb_layout layout;
    int32_t nodes;
    int32_t *node_of;          /* [world] node of each index */
    int32_t *first_layer;      /* [pp + 1] layers of each stage; an MTP module in use belongs to the last */
    enum mb_alltoall alltoall; /* resolved: flat or hier */
    struct mb_placement *placement;
    int64_t kv_pages; /* of each rank that attends */
    int32_t max_num_seqs, max_batch_rows;
    int64_t max_len; /* longest sequence */
    int32_t max_pages_per_seq;
    struct mb_budget budget;   /* of the fullest rank */
    struct mb_budget *kind;    /* [2 * pp] of the fullest rank of stage s: [2 s] that attends, [2 s + 1] that
                                  only holds experts */
    int64_t *expert_bytes;     /* [world] resident bytes of routed experts of each index */
    int64_t *weight_bytes;     /* [world] resident bytes of everything else */
    int64_t *total_bytes;      /* [world] all that each index needs: total of its budget */
    int32_t zero, min_experts; /* as in the options */
    int32_t *cache; /* [world] experts that each index keeps under ZeRO-inference; NULL: all of its own */
};
/* Errors: MB_LAYOUT with both values and the nearest layout that works. */
enum mb_status mb_plan_create(const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, struct mb_plan **out);
void mb_plan_destroy(struct mb_plan *p);
/* Whether a layout works with these options, memory included; equal ranges stand for a placement file, which
 * belongs to one layout. */
bool mb_plan_works(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o,
                   const struct mb_layout *l);
/* Sequences at once for which a rank has memory: the most, of halves of 1024 (or of the rows of a step), for each of which there are
 * pages of 1024 positions, or of the longest sequence. At least 1; whether that works is for mb_plan_create to say. o: all but
 * max_num_seqs. */
int32_t mb_plan_seqs(const struct mb_model *m, const struct mb_topo *t, const struct mb_plan_options *o);
/* Layers of each stage into first_layer[pp + 1]: contiguous ranges whose dearest, by multiply-adds of a row,
 * is as cheap as can be. 1 <= pp <= layers. */
void mb_plan_stages(const struct mb_model *m, int32_t pp, int32_t *first_layer);
/* Rows of a step: --max-batch-rows, or what is taken where it is not given. */
int32_t mb_plan_batch_rows(const struct mb_plan_options *o);
/* The budget of one index. m, t, o: those of the plan. O(layers * experts): for tests and tables. */
enum mb_status mb_plan_budget(const struct mb_plan *p, const struct mb_model *m, const struct mb_topo *t,
                              const struct mb_plan_options *o, int32_t index, struct mb_budget *out);
/* Whether the program can run this layout with this model and these options: the one place that refuses
 * compositions (memory is another: memory.h). MB_LAYOUT, not logged: why gets the reason. check.c */
enum mb_status mb_plan_refusal(const struct mb_model *m, const struct mb_plan_options *o,
                               const struct mb_layout *l, char why[MB_LAYOUT_TEXT]);
/* malloc'd JSON of the plan (provenance, `plan --json`). */
char *mb_plan_json(const struct mb_plan *p);

/* The exchange's formulas (design 7), for tests and prediction. Bytes of one dispatched row: expert ids (u16)
 * of its k experts, if tagged its adapter (u16), if chosen which copy of each serves it (u8), padded to 4 together, k weights
 * (f32), and the row.
 * Bytes of a combine row: H * (esize of y for a lone term, 4 for an inner node). */
#define MB_XCHG_HEADER 64
int64_t mb_plan_dispatch_row_bytes(int32_t k, int64_t hidden, enum mb_dtype x, bool tagged, bool chosen);

/* What the messages of one MoE layer's exchange carry because of the rows of one rank (index), by link class
 * (MB_LINK_INTRA, or MB_LINK_SHM where ranks of a machine share memory, and MB_LINK_INTER): dispatch is what it sends, combine what comes back to it. A row goes once
 * to each other node (flat: rank) that holds one of its experts; the values that come back are the maximal
 * tree nodes held there. Each pair has its message even without rows, and a second one where the rows exceed
 * eager_bytes. Sums over all indices are the job's. What hier copies inside a node is not in it.
 * experts: [rows][k] in any order. Errors: MB_NO_MEMORY, MB_BUG (an expert that is none). Pure, Local. */
struct mb_traffic {
    int64_t bytes[MB_LINK_COUNT], messages[MB_LINK_COUNT];
};
struct mb_exchange_shape {
    int32_t k;
    int64_t hidden;
    enum mb_dtype x_type, y_type; /* what the expert GEMM reads; what it returns */
    uint64_t eager_bytes;
    bool tagged; /* rows say which adapter is theirs: an adapter has terms on experts */
    bool shm;    /* ranks of a machine share memory */
};
enum mb_status mb_plan_traffic(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                               const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                               struct mb_traffic *dispatch, struct mb_traffic *combine);
/* The same by peer, without headers: bytes of rows that index sends to each other rank (hier: node), and of values that come
 * back from it, [world] or [nodes]; 0 for the own one. */
enum mb_status mb_plan_traffic_to(const struct mb_plan *p, int32_t moe_layer, int32_t index, const struct mb_exchange_shape *s,
                                  const int32_t *experts, int64_t rows, int64_t *row_bytes, int64_t *value_bytes);
#endif
