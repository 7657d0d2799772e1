/* A model as data: what config.json and the safetensors headers say, checked, in our terms. Nothing here is specific to a
 * rank. Immutable after mb_model_open. No code outside src/model compares an architecture's name. */
#ifndef MB_MODEL_MODEL_H
#define MB_MODEL_MODEL_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "base/mem.h"
#include "base/status.h"
#include "device/ops.h"
#include "model/packed.h"

/* What a tensor is for. Per-layer roles are looked up with a layer, expert roles with an expert too. */
enum mb_role {
    MB_T_EMBED, MB_T_FINAL_NORM, MB_T_FINAL_NORM_B, MB_T_HEAD, MB_T_HEAD_B, /* HEAD absent: tied to EMBED */
    /* per layer */
    MB_T_ATTN_NORM, MB_T_ATTN_NORM_B, MB_T_FFN_NORM, MB_T_FFN_NORM_B,       /* before attention, before the FFN */
    MB_T_ATTN_POST, MB_T_FFN_POST,                                          /* post-norms (Grok) */
    MB_T_Q, MB_T_K, MB_T_V, MB_T_O, MB_T_Q_B, MB_T_K_B, MB_T_V_B, MB_T_O_B,
    MB_T_Q_NORM, MB_T_K_NORM, MB_T_SINKS,
    MB_T_Q_A, MB_T_Q_A_NORM, MB_T_Q_BPROJ, MB_T_KV_A, MB_T_KV_A_NORM, MB_T_KV_B, /* MLA; without q_lora: MB_T_Q */
    MB_T_GATE, MB_T_UP, MB_T_DOWN, MB_T_GATE_B, MB_T_UP_B, MB_T_DOWN_B,          /* dense FFN */
    MB_T_ROUTER, MB_T_ROUTER_B, MB_T_ROUTER_BIAS,      /* weight, logit bias (GPT-OSS), choice bias (V3) */
    MB_T_SH_GATE, MB_T_SH_UP, MB_T_SH_DOWN, MB_T_SH_SCALAR, /* shared expert; its scalar gate (Qwen2) */
    /* per layer and expert */
    MB_T_E_GATE, MB_T_E_UP, MB_T_E_DOWN, MB_T_E_GATE_B, MB_T_E_UP_B, MB_T_E_DOWN_B,
    /* MTP module: its layer index is `layers`; its decoder tensors use the roles above */
    MB_T_MTP_ENORM, MB_T_MTP_HNORM, MB_T_MTP_PROJ, MB_T_MTP_NORM,
    /* per layer: the indexer's queries, keys and weights of heads. (Random weights are drawn by role: new ones go to the end.) */
    MB_T_IX_Q, MB_T_IX_K, MB_T_IX_K_NORM, MB_T_IX_K_NORM_B, MB_T_IX_W,
    /* per layer: queries with their gates, by head; gated DeltaNet, its projections by key head or one by one */
    MB_T_QG,
    MB_T_L_QKVZ, MB_T_L_BA, MB_T_L_QKV, MB_T_L_Z, MB_T_L_B, MB_T_L_A,
    MB_T_L_CONV, MB_T_L_A_LOG, MB_T_L_DT, MB_T_L_NORM, MB_T_L_OUT,
    MB_T_COUNT
};

/* A logical matrix [n, k] (a vector is [1, k]) inside a file: element (i, j) lies at offset + (i*stride_n + j*stride_k) *
 * element size. Fused, stacked and transposed layouts are strides. */
struct mb_tensor {
    uint8_t role;    /* enum mb_role */
    uint8_t storage; /* enum mb_storage */
    uint16_t file;
    int32_t layer, expert; /* -1 where it has none */
    uint64_t offset;       /* bytes from the start of the file */
    int64_t n, k, stride_n, stride_k;
    /* FP8 scales ([ceil(rows/bn), ceil(cols/bk)] of the stored tensor, one for all or one a row being blocks of that size);
     * scale_bytes, in the file, 0: none */
    uint64_t scale_offset, scale_bytes;
    uint16_t scale_file;
    uint8_t scale_storage; /* enum mb_storage: F32, F16 or BF16, widened when read */
    int32_t block_n, block_k, scale_stride; /* blocks per stored row */
    int64_t scale_n0, scale_k0;             /* stored position of element (0, 0) */
    /* 0, or 1 + index in the model's table of packed weights: then storage is MB_STORE_F32, what a reader makes of it, and
     * file and offset are those of the codes */
    int32_t packed;
};

/* Norm of q and k: of each head, of all heads as one vector, of each head behind the rotation, and this without a weight. */
enum mb_qknorm { MB_QKNORM_NONE, MB_QKNORM_HEAD, MB_QKNORM_WHOLE, MB_QKNORM_HEAD_AFTER, MB_QKNORM_BARE_AFTER };
static inline bool mb_qknorm_by_head(enum mb_qknorm k)
{
    return k == MB_QKNORM_HEAD || k == MB_QKNORM_HEAD_AFTER || k == MB_QKNORM_BARE_AFTER;
}
/* Which weights are kept as stored: those whose kernels are made for it (not int8, of which the values are made one by one), all
 * that can be, or none. */
enum mb_keep { MB_KEEP_AUTO, MB_KEEP_STORED, MB_KEEP_WIDE, MB_KEEP_INT8 /* path int8: all GEMM weights but kv_b as signed bytes */ };
enum mb_model_dtype { MB_PATH_F32, MB_PATH_BF16, MB_PATH_FP8, MB_PATH_INT8 };

/* Sparse attention: in layers with an indexer a row attends to the topk keys of the highest index scores; the layers behind it that
 * share (up to the next one with its own) to the same keys. */
struct mb_indexer {
    int32_t topk, heads, width; /* topk 0: there is none, attention is dense */
    enum mb_rope_style rope;    /* of the first rope_mla columns of its queries and keys */
    uint8_t *shares;            /* [layers (+1)]: not 0: this layer takes the choice of the one before */
};

/* Gated DeltaNet: heads and widths of keys and values, and positions of the convolution. */
struct mb_delta_shape {
    int32_t key_heads, value_heads, dk, dv, taps;
};

#define MB_MAX_EOS 16
struct mb_model {
    char arch[32];      /* for people and provenance only */
    char *dir;          /* as given */
    int32_t n_files;
    char **files;       /* names inside dir */
    uint64_t *file_bytes;

    /* shapes */
    int32_t layers, hidden, vocab;
    int32_t heads, kv_heads, head_dim, v_dim; /* MLA: head_dim = nope + rope of a query; kv_heads = heads */
    int32_t ffn;                              /* dense FFN width (0: no dense layer) */
    int32_t expert_ffn, shared_ffn;           /* widths; shared_ffn 0: none */
    int64_t max_positions;
    uint8_t *is_moe;                          /* [layers (+1 MTP)] */
    int32_t *window;                          /* [layers (+1)]: 0 = full */
    bool chunked;                             /* windows are runs of positions that do not slide (Llama-4) */
    uint8_t *still;                           /* [layers (+1)]: not 0: q and k are neither rotated nor normed (NoPE) */
    int32_t moe_layers;                       /* number of set is_moe among the first `layers` */
    uint8_t *linear;                          /* [layers (+1)]: not 0: gated DeltaNet in place of attention; NULL: nowhere */
    int32_t linear_layers;                    /* number of them */
    struct mb_delta_shape delta;

    /* mechanisms */
    enum mb_norm_kind norm;
    float norm_eps, latent_eps;
    bool post_norms, norm_bias, qkv_bias, o_bias, head_bias;
    bool norm_plus_one; /* weights of norms are stored less 1, but for the norm inside gated DeltaNet */
    bool q_gate;        /* attention's output is multiplied by sigmoid(gate), a projection beside the query's */
    enum mb_qknorm qk_norm;
    float clip_qkv;    /* 0: none */
    float attn_scale;  /* f64 rounded to f32 */
    float softcap;     /* 0: none */
    bool sinks;
    enum mb_rope_style rope_style;
    int32_t rope_dim;  /* columns of each head that turn: the first ones; in MLA the last ones */
    float *inv_freq;   /* [rope_dim / 2]: computed in f64, rounded to f32 */
    float *inv_freq_long; /* longrope's second set, or NULL */
    double rope_att, rope_att_long; /* cos and sin are multiplied by it (in f64) */
    double q_growth, q_unit;        /* queries are multiplied by 1 + growth * ln(1 + floor((pos + shift) / unit)); growth 0: not */
    int32_t q_shift;
    bool q_still_only;              /* only in layers that do not rotate */
    int64_t rope_switch;            /* longrope: long if prompt + max_tokens exceed it; 0: never */
    bool mla;
    int32_t q_lora, kv_lora, nope, rope_mla;
    struct mb_indexer indexer;      /* MLA with q_lora only */
    enum mb_act_kind act;
    float act_limit;
    bool mlp_bias, expert_bias;
    struct mb_router router;        /* experts = 0: dense model */
    bool shared_gate;               /* sigmoid scalar gate on the shared expert */
    float embed_scale, logit_scale; /* 1: none */
    float residual_scale;           /* what a block adds to the residual stream is multiplied by it; 1: none */
    bool weight_inside;             /* a router's weight multiplies the expert's input, not its output (Llama-4) */
    bool tied;
    int32_t mtp_layers;             /* 0 or 1 */

    /* ids */
    int32_t bos;                    /* -1: none */
    int32_t eos[MB_MAX_EOS];
    int32_t n_eos;
    enum mb_model_dtype auto_path;  /* what --dtype auto means for this storage */

    /* tensors, sorted by (role, layer, expert) */
    struct mb_tensor *tensors;
    int64_t n_tensors;
    struct mb_packed *packed; /* [n_packed]: model/packed.h */
    int64_t n_packed;
    int64_t params_total, params_active;
    bool random;          /* weights are drawn (model/random.h), there are no files */
    uint64_t random_seed;
    enum mb_keep keep;
    struct mb_form expert_form[2]; /* how all routed experts keep gate and up, and down (code NONE: not all alike) */

    /* generation_config.json, as defaults for requests (NaN / -1: not given) */
    float gen_temperature, gen_top_p, gen_min_p, gen_repetition;
    int32_t gen_top_k;
    int32_t gen_do_sample; /* 0: greedy, 1: sample */
};

/* Reads and checks config.json, generation_config.json and all safetensors headers of a HF directory. Local (rank 0; the
 * others get it by mb_model_pack/unpack). Errors: MB_MODEL, logged with file, key, expected and found, before any weight is
 * read. k_override: 0, or --k (impossible for this model: MB_LAYOUT). dir may also be the path of a config.json alone, for
 * planning: then n_files is 0 and the tensors have shapes and a storage guessed from the config, but no place. */
enum mb_status mb_model_open(const char *dir, int32_t k_override, struct mb_model **out);
void mb_model_destroy(struct mb_model *m); /* NULL and half-built ok */

/* Flat form for broadcast: everything above. Local. */
enum mb_status mb_model_pack(const struct mb_model *m, struct mb_bytes *out);
enum mb_status mb_model_unpack(const void *data, size_t n, struct mb_model **out);

static inline bool mb_is_linear(const struct mb_model *m, int32_t layer)
{
    return m->linear != NULL && m->linear[layer] != 0;
}
/* Whether this is the weight of a norm that is stored less 1. */
bool mb_model_plus_one(const struct mb_model *m, enum mb_role role);
/* NULL if the model has no such tensor. layer, expert: -1 where the role has none. O(log n). */
const struct mb_tensor *mb_model_tensor(const struct mb_model *m, enum mb_role role, int32_t layer, int32_t expert);
/* How a device keeps this tensor's matrix: as it is stored, or (code NONE) in the path's type. Routed experts' take the form that
 * all of them have. k0: first column of the matrix that is kept. */
struct mb_form mb_model_form(const struct mb_model *m, const struct mb_tensor *t, int64_t k0);
/* The form of a weight of n matrices one below the other: theirs if it is one, else NONE. */
struct mb_form mb_model_form_of(const struct mb_model *m, const struct mb_tensor *const *t, int n);
/* Sets what is kept as stored; mb_model_open says MB_KEEP_AUTO. For the start of a job, before anybody else holds the model.
 * mb_keep_of: of --weights and --dtype. */
void mb_model_keep(struct mb_model *m, enum mb_keep keep);
enum mb_keep mb_keep_of(const char *weights, const char *dtype);
/* The type of queries, of experts' outputs and of matrices that the int8 path leaves wide; path: of GEMM inputs. */
static inline enum mb_dtype mb_model_narrow(const struct mb_model *m, enum mb_dtype path)
{
    return m->keep == MB_KEEP_INT8 ? MB_BF16 : path;
}
/* What is kept in which form, for people: "bf16", "bf16; experts mxfp4 as stored". type: of the path. */
void mb_model_kept(const struct mb_model *m, enum mb_dtype type, char *text, size_t size);
/* Bytes from the first to the last byte of the tensor in its file (what a reader reads). */
uint64_t mb_tensor_span(const struct mb_tensor *t);

/* cos and sin tables [positions][rope_dim/2]: angle = fl32(pos * inv_freq), cos and sin in f64 * att, rounded to f32.
 * which: 0 normal, 1 long. Local. */
void mb_model_rope_table(const struct mb_model *m, int which, int64_t positions, float *cos_out, float *sin_out);

/* Takes the defaults for requests from another file than generation_config.json; NULL: there are none. Local. Errors: MB_MODEL. */
enum mb_status mb_model_generation(struct mb_model *m, const char *path);

/* [positions] factors of the queries (q_growth), in f64, rounded to f32. Local. */
void mb_model_query_table(const struct mb_model *m, int64_t positions, float *out);

/* Hash of the model's identity for provenance and resume: bytes of config.json and generation_config.json, file names and
 * sizes, headers. The full content hash is left to `check`. */
struct mb_hash128;
enum mb_status mb_model_identity(const char *dir, struct mb_hash128 *out);

/* "expert gate" */
const char *mb_role_name(enum mb_role role);
/* The model in words, "key : value" lines: what `inspect -m` prints. */
/* One more id that ends a text (the tokenizer's own); one that is known or outside the vocabulary changes nothing. For the start
 * of a job, before anybody else holds the model. Errors: MB_MODEL beyond MB_MAX_EOS. */
enum mb_status mb_model_add_eos(struct mb_model *m, int32_t id);
void mb_model_print(FILE *f, const struct mb_model *m);
/* The same numbers as a JSON object (malloc'd text), for `inspect -m --json`; NULL without memory. */
char *mb_model_json(const struct mb_model *m);
/* What `check -m` does: opens (all checks of mb_model_open), prints, then reads everything: the hash of each file, and weights
 * that are not finite. What is wrong is explained on stderr. Errors: those of mb_model_open, MB_IO. mem may be NULL. */
enum mb_status mb_model_check(FILE *f, const char *dir, struct mb_mem *mem);
#endif
