/* LoRA adapters: low-rank terms that are added where a row's request asks for them, y = fl(Wx + fl(s * B(Ax))). A by R32 on
 * f32 (row-parallel modules: split at the weight's leaves, summed by the tree), Ax rounded as a GEMM input, B by the dot rule.
 * A batch holds rows of different adapters: rows of one adapter are contiguous, so each term is a few GEMMs over views. */
#ifndef MB_ENGINE_LORA_H
#define MB_ENGINE_LORA_H
#include "engine/weights.h"
#include "model/adapter.h"

enum mb_lora_site { /* where a term can be added in a layer */
    MB_LORA_Q, MB_LORA_K, MB_LORA_V, MB_LORA_O, MB_LORA_Q_A, MB_LORA_Q_B, MB_LORA_KV_A,
    MB_LORA_GATE, MB_LORA_UP, MB_LORA_DOWN, MB_LORA_SH_GATE, MB_LORA_SH_UP, MB_LORA_SH_DOWN,
    MB_LORA_SITES
};
/* A's inputs and B's outputs are those of the weight's part that is here (plan/parts.h). */
struct mb_lora_pair {
    struct mb_vec a;     /* f32 [r, in]; buf NULL: the adapter leaves this weight alone */
    struct mb_weight *b; /* [out, r] */
    int64_t unit, inputs; /* of the leaves of A's sum (0: one leaf), and of the whole weight */
};
struct mb_lora_expert {
    struct mb_lora_pair gate, up, down;
};
struct mb_lora_layer {
    struct mb_lora_pair site[MB_LORA_SITES];
    struct mb_lora_expert *expert; /* [owned] or NULL */
    /* kv_b in absorbed form: q_lat += s A^T (B_k^T q_nope), head output += s B_v (A o_lat) */
    struct mb_lora_pair *uk, *uv;  /* [own heads] or NULL */
};
struct mb_lora_set {
    float scale;
    int32_t rank;
    struct mb_lora_layer *layer; /* [layers] */
};

struct mb_engine;
/* Loads all adapters of the options. Collective over world. */
enum mb_status mb_lora_load(struct mb_engine *e);
void mb_lora_destroy(struct mb_engine *e);

/* A contiguous run of rows that share an adapter. */
struct mb_lora_run {
    int32_t adapter;
    int64_t row0, rows;
};

/* ---------------------------------------------------------------- lora_terms.c */

/* One term: B(A x) of a pair, scaled, over rows [row0, row0 + rows). */
struct mb_lora_term {
    const struct mb_lora_pair *pair;
    float scale;
    int64_t row0, rows;
};
struct mb_split;
/* out[rows of each term] += the term, for a weight whose outputs are here and whose inputs are whole: out f32, x in the
 * type of GEMM inputs, both with all rows. Local. */
enum mb_status mb_lora_add(struct mb_engine *e, const struct mb_lora_term *t, int32_t n, struct mb_view out,
                           struct mb_view x);
/* The same for a row-parallel weight, whose inputs the members of s divide: x [all rows, inputs here], out [own rows].
 * Members send the nodes of A x that they hold; the owner of a row completes the tree and applies B. terms: the same
 * list on every member, ascending in row0; those of one rank r travel together. Collective over s. */
enum mb_status mb_lora_sum(struct mb_engine *e, const struct mb_split *s, const struct mb_lora_term *t, int32_t n,
                           struct mb_view out, struct mb_view x, int32_t layer);
/* The terms at a site of layer l for all runs of this step's batch: out and x as for mb_lora_add, or for the output and
 * down-projections as for mb_lora_sum over the tensor group. */
enum mb_status mb_lora_site(struct mb_engine *e, int32_t l, enum mb_lora_site site, struct mb_view out,
                            struct mb_view x);
/* Room for n terms, until the next call; NULL: no memory, logged. */
struct mb_lora_term *mb_lora_terms(struct mb_engine *e, int64_t n);
/* Whether a row of this step has an adapter that touches kv_b in layer l. */
bool mb_lora_touches_kv_b(const struct mb_engine *e, int32_t l);
/* Adds the kv_b terms of every own head: up false: queries into the latent space; true: latent outputs to head
 * outputs. */
enum mb_status mb_lora_heads(struct mb_engine *e, int32_t l, bool up, struct mb_view out, int64_t out_step,
                             struct mb_view x, int64_t x_step);
/* Whether any adapter has terms on routed experts (then dispatched rows carry their adapter). */
bool mb_lora_on_experts(const struct mb_engine_options *o);
#endif
