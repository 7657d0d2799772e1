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

struct mb_context;
/* Loads all adapters of the options. Collective over world. */
enum mb_status mb_lora_load(struct mb_context *c);
void mb_lora_destroy(struct mb_context *c);
/* Whether any adapter has terms on routed experts (then dispatched rows carry their adapter). */
bool mb_lora_on_experts(const struct mb_engine_options *o);
#endif
