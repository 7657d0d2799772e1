/* Resident weights of one rank: packed GEMM weights and f32 vectors on the device. Loaded once, immutable afterwards. */
#ifndef MB_ENGINE_WEIGHTS_H
#define MB_ENGINE_WEIGHTS_H
#include "engine/engine.h"
#include "engine/team.h"

/* A small f32 tensor [rows, cols] on the device; buf NULL: the model has none (view is then MB_NO_VIEW). */
struct mb_vec {
    struct mb_buf *buf;
    struct mb_view view;
};

/* This rank's part of a row-parallel weight [n, k]: the maximal tree nodes of its leaves (doc/numerics, Leaves), one packed weight each.
 * A rank that holds all leaves has one. */
#define MB_MAX_NODES 8
struct mb_rowpar {
    int32_t n;                        /* nodes here */
    struct mb_weight *w[MB_MAX_NODES];
    int32_t pos[MB_MAX_NODES];        /* first leaf of each */
    int64_t x_col[MB_MAX_NODES];      /* first input of each, counted from the rank's first */
    int32_t leaves;                   /* of the whole weight */
    int64_t k0, k1;                   /* inputs of this rank */
};
/* A gated FFN: gate and up stacked as one weight [2I, H] (outputs are independent, so stacking changes no bit). */
struct mb_ffn {
    struct mb_weight *gate_up;
    struct mb_rowpar down;
    struct mb_vec gate_up_b, down_b;
    int64_t width, whole; /* I of this rank and of the model */
};

struct mb_mla {
    struct mb_weight *q_a, *q, *kv_a; /* q: from q_a's latent, or from the row itself without q_lora */
    struct mb_vec q_a_norm, kv_a_norm;
    struct mb_weight **w_uk, **w_uv; /* [own heads]: kv_b split per head; w_uk transposed (absorbed form) */
};

#define MB_INDEX_EPS 1e-6f /* of the LayerNorm of index keys (DeepSeek-V3.2, GLM-MoE-DSA: whatever rms_norm_eps) */
struct mb_index_weights {
    struct mb_weight *q, *k, *w; /* queries from the compressed query, the key, weights of heads */
    struct mb_vec k_norm, k_norm_b;
};

/* Gated DeltaNet, of the own heads (mb_team.d): outputs q, k, v, z one after another, and b, a. */
struct mb_delta {
    struct mb_weight *qkvz, *ba;
    struct mb_vec conv, a_log, dt, norm; /* conv: [taps, channels of q, k and v] */
};

struct mb_layer {
    struct mb_vec attn_norm, attn_norm_b, ffn_norm, ffn_norm_b, attn_post, ffn_post;
    struct mb_weight *qkv; /* [h d + 2 g d, H] of the own heads, and h d for the gates of their outputs, if any; MLA: unused */
    struct mb_vec qkv_b, q_norm, k_norm, sinks;
    struct mb_rowpar o; /* of gated DeltaNet, too */
    struct mb_vec o_b;
    struct mb_mla mla;
    struct mb_index_weights index; /* where the layer has an indexer */
    struct mb_delta delta;
    /* FFN */
    bool moe;
    int32_t moe_index; /* among the MoE layers of the model */
    int32_t exchange;  /* number in the step */
    struct mb_ffn dense, shared;
    struct mb_vec shared_gate; /* [1, H] */
    struct mb_vec router, router_b, router_bias;
    int32_t n_owned;
    int32_t *owned;        /* [n_owned] experts that this rank serves, ascending */
    struct mb_ffn *expert; /* [n_owned] */
};

struct mb_weights {
    struct mb_vec embed; /* [v1 - v0, H], bf16 if stored so */
    int64_t v0, v1;      /* vocabulary of this rank: whole leaves */
    struct mb_vec final_norm, final_norm_b, head_b;
    struct mb_weight *head;
    struct mb_vec mtp_enorm, mtp_hnorm, mtp_norm;
    struct mb_weight *mtp_proj;
    struct mb_layer *layer; /* [layers] of the model, with the MTP module's after them if it is in use; empty where they belong to others */
    int32_t layers, heads;  /* heads: of this rank */
    int64_t expert_bytes, dense_bytes; /* resident */
    int64_t bytes_read, bytes_received;
};

/* Reads what this rank needs. Tensors of which the ranks of a stage hold shares are read once in the job (readers take turns) and
 * broadcast to them; experts are read by those who hold them. Collective over world. */
enum mb_status mb_weights_load(const struct mb_engine_options *o, const struct mb_team *t, struct mb_stream *s, bool mtp,
                               struct mb_weights *w);
void mb_ffn_free(const struct mb_ops *ops, struct mb_ffn *f); /* half-made ok */
void mb_weights_fini(const struct mb_ops *ops, struct mb_weights *w); /* half-loaded ok */
#endif
