/* What differs between architectures, as data: one row each. Everything else in src/model works on rows, and nothing outside
 * src/model sees them. Adding an architecture is adding a row (and perhaps a table of tensor names) in arch.c. */
#ifndef MB_MODEL_ARCH_H
#define MB_MODEL_ARCH_H
#include <stdbool.h>
#include <stdint.h>
#include "device/ops.h"
#include "model/model.h"

/* Sizes a tensor's shape is made of. */
enum mb_dim {
    D_END,
    D_HIDDEN, D_HIDDEN2, /* H, 2H */
    D_VOCAB,
    D_Q, D_KV, D_QKV, D_Q_KV, D_O, /* heads*d, kv*d, heads*d + 2 kv*d, heads*d + kv*d (where v starts), heads*dv */
    D_HEAD, D_HEADS,
    D_FFN, D_SHARED,
    D_EXPERTS, D_WIDTH, D_WIDTH2, D_STACK, /* E, I, 2I, E*I */
    D_QLORA, D_KVLORA, D_KVA, D_KVB,       /* MLA: kv_lora + rope, heads*(nope + dv) */
    D_INDEX, D_INDEX_HEADS, D_INDEX_Q,     /* indexer: width, heads, heads*width */
    D_Q2,                                  /* 2 heads*d */
    /* gated DeltaNet: taps; channels of q, k and v; those of v; value heads, twice; their width; q, k, v and z */
    D_TAPS, D_CHANNELS, D_VALUES, D_VHEADS, D_VHEADS2, D_VHEAD, D_QKVZ,
    D_ONE
};

/* When a tensor must be there: all bits must hold. */
enum {
    N_UNTIED = 1,   /* the LM head is its own tensor */
    N_HEAD_B = 2,   /* the LM head has a bias */
    N_DENSE = 4,    /* layer with a dense FFN */
    N_MOE = 8,      /* layer with experts */
    N_MTP = 16,     /* the MTP module's layer */
    N_QKV_B = 32, N_O_B = 64, N_MLP_B = 128,
    N_QLORA = 256, N_NO_QLORA = 512, /* MLA with or without q compression */
    N_SHARED = 1024,                 /* model with a shared expert */
    N_QK_NORM = 2048,                /* q and k are normed with weights */
    N_INDEX = 4096,                  /* layer with an indexer of its own */
    N_FULL = 8192, N_LINEAR = 16384  /* layer with keys and values, layer with gated DeltaNet */
};

/* How the logical [n, k] lies in the stored tensor. */
enum {
    L_PLAIN = 0,
    L_STACKED = 1,    /* expert e is the e-th of E equal blocks */
    L_TRANSPOSED = 2, /* [k, n] */
    L_EVEN = 4, L_ODD = 8, /* its output is every second of twice as many */
    L_UNUSED = 16,    /* may be there; nobody needs it */
    L_HALVES = 32     /* one half of twice as many outputs: gate first, up (start D_WIDTH) second */
};

/* One tensor (or part of one). "a|b" in name: either. {l}, {e}: layer, expert. Rows of a fused tensor start at dim `start`. */
struct mb_pattern {
    uint8_t role;
    uint8_t layout;
    uint16_t when;
    const char *name;
    uint8_t n, k;     /* logical; n D_ONE: a vector */
    uint8_t start;    /* D_END: row 0 */
    uint8_t shape[4]; /* stored, if it is not [n, k] (or [k] of a vector); D_END-terminated */
};

struct mb_flag {
    const char *key; /* NULL: always value */
    bool value;      /* default */
};

enum mb_moe_rule {
    MOE_NONE,
    MOE_ALL,
    MOE_STEP,        /* mlp_only_layers, decoder_sparse_step */
    MOE_FIRST_DENSE, /* mlp_layer_types, else first_k_dense_replace */
    MOE_RANGE,       /* moe_layer_start_index to moe_layer_end_index, every moe_layer_interval */
    MOE_INTERLEAVED  /* moe_layers, else every interleave_moe_layer_step */
};
enum mb_window_rule {
    WIN_NONE,
    WIN_ALL,       /* sliding_window */
    WIN_ALTERNATE, /* layer_types, else even layers slide */
    WIN_BEHIND,    /* layer_types, else layers from max_window_layers on */
    WIN_CHUNKS     /* layer_types, else attention_chunk_size in layers that rotate */
};

#define MB_ARCH_TABLES 8
struct mb_arch {
    const char *name;         /* for people */
    const char *model_types;  /* model_type in config.json, "a|b" */
    const char *classes;      /* architectures[0] where there is no model_type */
    const char *class_decides; /* a model_type that other networks share: only with one of the classes */

    enum mb_norm_kind norm;
    double eps_default;       /* where the config has none */
    bool eps_fixed;           /* the config's is not read */
    bool post_norms, norm_bias;
    int act;                  /* enum mb_act_kind, or -1: hidden_act says */
    struct mb_flag tied, head_bias, qkv_bias, o_bias, mlp_bias;
    bool expert_bias;

    bool mla;
    bool indexer;             /* index_topk and its kin */
    enum mb_rope_style index_rope;
    double latent_eps;
    int32_t head_default;     /* head_dim where the key is absent (null means hidden / heads); 0: hidden / heads */
    enum mb_qknorm qk_norm;   /* if qk_norm_if holds; without a key always */
    struct mb_flag qk_norm_if;
    const char *clip_key;     /* NULL: never clipped */
    const char *scale_key;    /* attention scale; NULL: 1/sqrt(d) */
    const char *softcap_key;
    bool sinks;
    bool delta;               /* layer_types, else every full_attention_interval-th layer has attention, the others gated DeltaNet */
    bool q_gate, norm_plus_one; /* see mb_model */
    enum mb_window_rule window;
    int32_t window_default;   /* where the key is absent (null means none); 0: none */
    enum mb_rope_style rope_style;
    double theta_default;
    double partial_default;   /* part of a head that turns where no key says so; 0: partial rotation is not known here */
    const char *rotary_key;   /* its width in elements; NULL: none */
    const char *rope_default; /* JSON of the settings where there are none; NULL: plain */
    bool still_layers;        /* no_rope_layers, no_rope_layer_interval, and queries that grow in them */
    bool mscales;             /* longrope: short_mscale and long_mscale are the factors */

    enum mb_moe_rule moe;
    int32_t dense_default;    /* first_k_dense_replace where there is none */
    const char *dense_key;    /* dense FFN width; NULL: intermediate_size */
    const char *width_key;    /* expert FFN width */
    bool weight_inside;       /* see mb_model */
    int32_t groups_default;   /* n_group and topk_group where there are none; 0: they must be there */
    enum mb_router_kind router;
    enum mb_renorm_kind renorm;   /* if renorm_if holds */
    struct mb_flag renorm_if;
    const char *pnorm_key;    /* p of MB_RENORM_PNORM; null there: not normalised */
    bool scaled;              /* routed_scaling_factor */
    double scaling_default;
    bool by_method;           /* topk_method chooses between greedy and group-limited */
    const char *method;       /* topk_method must be this; NULL: not read */
    const char *scoring;      /* scoring_func must be one of these "a|b"; NULL: not read */
    int32_t k_fixed;          /* the router always picks this many; 0: by config */
    const char *shared_key;   /* shared width; NULL: none. With shared_count: number of shared experts of the expert width */
    bool shared_count, shared_gate;
    int32_t shared_default;   /* number of shared experts where there is no key */
    bool mtp;
    const char *embed_key, *logit_key, *residual_key;
    bool scalars_optional;    /* embed, logit, residual and scale keys are 1 where they are absent */
    bool logit_divides;       /* logits are divided by logit_key */
    const char *refuse;       /* keys "a|b" that must be absent, null, false or 0 */
    const char *demand;       /* keys "a|b" that must be absent, null or true */
    const char *skip;         /* names "a|b" begin so in parts that are not read: images, MTP modules of other kinds */
    const struct mb_pattern *split, *fused; /* a table of experts one by one, and that of fused ones, which files may have in its place */
    const struct mb_pattern *tables[MB_ARCH_TABLES]; /* each ends with name NULL; NULL-terminated */
};

/* All rows; *n gets their number. */
const struct mb_arch *mb_arch_all(int *n);
/* By model_type or, if that is NULL, class name; NULL: unknown. */
const struct mb_arch *mb_arch_find(const char *model_type, const char *cls);
/* Why a model_type that is known is not supported; NULL: it is not known. */
const char *mb_arch_refusal(const char *model_type);
/* Whether a list "a|b" has a word. */
bool mb_arch_lists(const char *list, const char *word);
/* By mb_model.arch; NULL: unknown. */
const struct mb_arch *mb_arch_named(const char *name);
#endif
