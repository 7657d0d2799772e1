#include "model/arch.h"

#include <string.h>

/* ---------------------------------------------------------------- tensor names */
#define LAYER "model.layers.{l}."
#define ATTN LAYER "self_attn."
#define END {.name = NULL}

static const struct mb_pattern hf_frame[] = {
    {MB_T_EMBED, 0, 0, "model.embed_tokens.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_FINAL_NORM, 0, 0, "model.norm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_HEAD, 0, N_UNTIED, "lm_head.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_HEAD_B, 0, N_HEAD_B, "lm_head.bias", D_ONE, D_VOCAB, 0, {0}},
    {MB_T_ATTN_NORM, 0, 0, LAYER "input_layernorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_NORM, 0, 0, LAYER "post_attention_layernorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_COUNT, L_UNUSED, 0, ATTN "rotary_emb.inv_freq", 0, 0, 0, {0}},
    END};

static const struct mb_pattern hf_norm_bias[] = {
    {MB_T_FINAL_NORM_B, 0, 0, "model.norm.bias", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_ATTN_NORM_B, 0, 0, LAYER "input_layernorm.bias", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_NORM_B, 0, 0, LAYER "post_attention_layernorm.bias", D_ONE, D_HIDDEN, 0, {0}},
    END};

static const struct mb_pattern hf_attn[] = {
    {MB_T_Q, 0, 0, ATTN "q_proj.weight", D_Q, D_HIDDEN, 0, {0}},
    {MB_T_K, 0, 0, ATTN "k_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_V, 0, 0, ATTN "v_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_O, 0, 0, ATTN "o_proj.weight", D_HIDDEN, D_O, 0, {0}},
    {MB_T_Q_B, 0, N_QKV_B, ATTN "q_proj.bias", D_ONE, D_Q, 0, {0}},
    {MB_T_K_B, 0, N_QKV_B, ATTN "k_proj.bias", D_ONE, D_KV, 0, {0}},
    {MB_T_V_B, 0, N_QKV_B, ATTN "v_proj.bias", D_ONE, D_KV, 0, {0}},
    {MB_T_O_B, 0, N_O_B, ATTN "o_proj.bias", D_ONE, D_HIDDEN, 0, {0}},
    END};

static const struct mb_pattern head_qk_norm[] = {
    {MB_T_Q_NORM, 0, N_QK_NORM, ATTN "q_norm.weight|" ATTN "query_layernorm.weight", D_ONE, D_HEAD, 0, {0}},
    {MB_T_K_NORM, 0, N_QK_NORM, ATTN "k_norm.weight|" ATTN "key_layernorm.weight", D_ONE, D_HEAD, 0, {0}},
    END};

static const struct mb_pattern whole_qk_norm[] = {
    {MB_T_Q_NORM, 0, N_QK_NORM, ATTN "q_norm.weight", D_ONE, D_Q, 0, {0}},
    {MB_T_K_NORM, 0, N_QK_NORM, ATTN "k_norm.weight", D_ONE, D_KV, 0, {0}},
    END};

static const struct mb_pattern mla_attn[] = {
    {MB_T_Q, 0, N_NO_QLORA, ATTN "q_proj.weight", D_Q, D_HIDDEN, 0, {0}},
    {MB_T_Q_A, 0, N_QLORA, ATTN "q_a_proj.weight", D_QLORA, D_HIDDEN, 0, {0}},
    {MB_T_Q_A_NORM, 0, N_QLORA, ATTN "q_a_layernorm.weight", D_ONE, D_QLORA, 0, {0}},
    {MB_T_Q_BPROJ, 0, N_QLORA, ATTN "q_b_proj.weight", D_Q, D_QLORA, 0, {0}},
    {MB_T_KV_A, 0, 0, ATTN "kv_a_proj_with_mqa.weight", D_KVA, D_HIDDEN, 0, {0}},
    {MB_T_KV_A_NORM, 0, 0, ATTN "kv_a_layernorm.weight", D_ONE, D_KVLORA, 0, {0}},
    {MB_T_KV_B, 0, 0, ATTN "kv_b_proj.weight", D_KVB, D_KVLORA, 0, {0}},
    {MB_T_O, 0, 0, ATTN "o_proj.weight", D_HIDDEN, D_O, 0, {0}},
    END};

#define INDEXER ATTN "indexer."
static const struct mb_pattern indexer[] = {
    {MB_T_IX_Q, 0, N_INDEX, INDEXER "wq_b.weight", D_INDEX_Q, D_QLORA, 0, {0}},
    {MB_T_IX_K, 0, N_INDEX, INDEXER "wk.weight", D_INDEX, D_HIDDEN, 0, {0}},
    {MB_T_IX_K_NORM, 0, N_INDEX, INDEXER "k_norm.weight", D_ONE, D_INDEX, 0, {0}},
    {MB_T_IX_K_NORM_B, 0, N_INDEX, INDEXER "k_norm.bias", D_ONE, D_INDEX, 0, {0}},
    {MB_T_IX_W, 0, N_INDEX, INDEXER "weights_proj.weight", D_INDEX_HEADS, D_HIDDEN, 0, {0}},
    END};

static const struct mb_pattern dense_mlp[] = {
    {MB_T_GATE, 0, N_DENSE, LAYER "mlp.gate_proj.weight", D_FFN, D_HIDDEN, 0, {0}},
    {MB_T_UP, 0, N_DENSE, LAYER "mlp.up_proj.weight", D_FFN, D_HIDDEN, 0, {0}},
    {MB_T_DOWN, 0, N_DENSE, LAYER "mlp.down_proj.weight", D_HIDDEN, D_FFN, 0, {0}},
    {MB_T_GATE_B, 0, N_DENSE | N_MLP_B, LAYER "mlp.gate_proj.bias", D_ONE, D_FFN, 0, {0}},
    {MB_T_UP_B, 0, N_DENSE | N_MLP_B, LAYER "mlp.up_proj.bias", D_ONE, D_FFN, 0, {0}},
    {MB_T_DOWN_B, 0, N_DENSE | N_MLP_B, LAYER "mlp.down_proj.bias", D_ONE, D_HIDDEN, 0, {0}},
    END};

#define BSM LAYER "block_sparse_moe."
static const struct mb_pattern mixtral_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, BSM "gate.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, 0, N_MOE, BSM "experts.{e}.w1.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_UP, 0, N_MOE, BSM "experts.{e}.w3.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_DOWN, 0, N_MOE, BSM "experts.{e}.w2.weight", D_HIDDEN, D_WIDTH, 0, {0}},
    END};

#define MLP LAYER "mlp."
static const struct mb_pattern mlp_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, MLP "gate.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, 0, N_MOE, MLP "experts.{e}.gate_proj.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_UP, 0, N_MOE, MLP "experts.{e}.up_proj.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_DOWN, 0, N_MOE, MLP "experts.{e}.down_proj.weight", D_HIDDEN, D_WIDTH, 0, {0}},
    END};

static const struct mb_pattern qwen_shared[] = {
    {MB_T_SH_GATE, 0, N_MOE | N_SHARED, MLP "shared_expert.gate_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_UP, 0, N_MOE | N_SHARED, MLP "shared_expert.up_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_DOWN, 0, N_MOE | N_SHARED, MLP "shared_expert.down_proj.weight", D_HIDDEN, D_SHARED, 0, {0}},
    {MB_T_SH_SCALAR, 0, N_MOE | N_SHARED, MLP "shared_expert_gate.weight", D_ONE, D_HIDDEN, 0, {D_ONE, D_HIDDEN}},
    END};

static const struct mb_pattern deepseek_shared[] = {
    {MB_T_SH_GATE, 0, N_MOE | N_SHARED, MLP "shared_experts.gate_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_UP, 0, N_MOE | N_SHARED, MLP "shared_experts.up_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_DOWN, 0, N_MOE | N_SHARED, MLP "shared_experts.down_proj.weight", D_HIDDEN, D_SHARED, 0, {0}},
    END};

static const struct mb_pattern deepseek_v3[] = {
    {MB_T_ROUTER_BIAS, 0, N_MOE, MLP "gate.e_score_correction_bias", D_ONE, D_EXPERTS, 0, {0}},
    {MB_T_MTP_ENORM, 0, N_MTP, LAYER "enorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_MTP_HNORM, 0, N_MTP, LAYER "hnorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_MTP_PROJ, 0, N_MTP, LAYER "eh_proj.weight", D_HIDDEN, D_HIDDEN2, 0, {0}},
    {MB_T_MTP_NORM, 0, N_MTP, LAYER "shared_head.norm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_COUNT, L_UNUSED, N_MTP, LAYER "embed_tokens.weight", 0, 0, 0, {0}},
    {MB_T_COUNT, L_UNUSED, N_MTP, LAYER "shared_head.head.weight", 0, 0, 0, {0}},
    END};

#define BLOCK "transformer.blocks.{l}."
#define DBRX_ATTN BLOCK "norm_attn_norm.attn."
static const struct mb_pattern dbrx[] = {
    {MB_T_EMBED, 0, 0, "transformer.wte.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_FINAL_NORM, 0, 0, "transformer.norm_f.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_HEAD, 0, N_UNTIED, "lm_head.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_ATTN_NORM, 0, 0, BLOCK "norm_attn_norm.norm_1.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_NORM, 0, 0, BLOCK "norm_attn_norm.norm_2.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_Q, 0, 0, DBRX_ATTN "Wqkv.weight", D_Q, D_HIDDEN, 0, {D_QKV, D_HIDDEN}},
    {MB_T_K, 0, 0, DBRX_ATTN "Wqkv.weight", D_KV, D_HIDDEN, D_Q, {D_QKV, D_HIDDEN}},
    {MB_T_V, 0, 0, DBRX_ATTN "Wqkv.weight", D_KV, D_HIDDEN, D_Q_KV, {D_QKV, D_HIDDEN}},
    {MB_T_O, 0, 0, DBRX_ATTN "out_proj.weight", D_HIDDEN, D_O, 0, {0}},
    {MB_T_ROUTER, 0, N_MOE, BLOCK "ffn.router.layer.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, L_STACKED, N_MOE, BLOCK "ffn.experts.mlp.w1", D_WIDTH, D_HIDDEN, 0, {D_STACK, D_HIDDEN}},
    {MB_T_E_UP, L_STACKED, N_MOE, BLOCK "ffn.experts.mlp.v1", D_WIDTH, D_HIDDEN, 0, {D_STACK, D_HIDDEN}},
    {MB_T_E_DOWN, L_STACKED | L_TRANSPOSED, N_MOE, BLOCK "ffn.experts.mlp.w2", D_HIDDEN, D_WIDTH, 0, {D_STACK, D_HIDDEN}},
    END};

#define GROK(x) LAYER x ".scale|" LAYER x ".weight"
static const struct mb_pattern grok[] = {
    {MB_T_EMBED, 0, 0, "model.embed_tokens.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_FINAL_NORM, 0, 0, "model.norm.scale|model.norm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_HEAD, 0, N_UNTIED, "lm_head.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_ATTN_NORM, 0, 0, GROK("pre_attn_norm"), D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_ATTN_POST, 0, 0, GROK("post_attn_norm"), D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_NORM, 0, 0, GROK("pre_moe_norm"), D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_POST, 0, 0, GROK("post_moe_norm"), D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_Q, 0, 0, LAYER "attn.q_proj.weight", D_Q, D_HIDDEN, 0, {0}},
    {MB_T_K, 0, 0, LAYER "attn.k_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_V, 0, 0, LAYER "attn.v_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_O, 0, 0, LAYER "attn.o_proj.weight", D_HIDDEN, D_O, 0, {0}},
    {MB_T_ROUTER, 0, N_MOE, LAYER "moe_block.gate.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, 0, N_MOE, LAYER "moe_block.experts.{e}.linear.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_UP, 0, N_MOE, LAYER "moe_block.experts.{e}.linear_v.weight", D_WIDTH, D_HIDDEN, 0, {0}},
    {MB_T_E_DOWN, 0, N_MOE, LAYER "moe_block.experts.{e}.linear_1.weight", D_HIDDEN, D_WIDTH, 0, {0}},
    {MB_T_COUNT, L_UNUSED, 0, LAYER "attn.rotary_emb.inv_freq", 0, 0, 0, {0}},
    END};

/* Experts compute y = x W: [E, in, out]; gate and up are the even and odd columns of one matrix. */
#define GPT_E MLP "experts."
static const struct mb_pattern gpt_oss[] = {
    {MB_T_SINKS, 0, 0, ATTN "sinks", D_ONE, D_HEADS, 0, {0}},
    {MB_T_ROUTER, 0, N_MOE, MLP "router.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_ROUTER_B, 0, N_MOE, MLP "router.bias", D_ONE, D_EXPERTS, 0, {0}},
    {MB_T_E_GATE, L_STACKED | L_TRANSPOSED | L_EVEN, N_MOE, GPT_E "gate_up_proj", D_WIDTH, D_HIDDEN, 0,
     {D_EXPERTS, D_HIDDEN, D_WIDTH2}},
    {MB_T_E_UP, L_STACKED | L_TRANSPOSED | L_ODD, N_MOE, GPT_E "gate_up_proj", D_WIDTH, D_HIDDEN, 0,
     {D_EXPERTS, D_HIDDEN, D_WIDTH2}},
    {MB_T_E_DOWN, L_STACKED | L_TRANSPOSED, N_MOE, GPT_E "down_proj", D_HIDDEN, D_WIDTH, 0, {D_EXPERTS, D_WIDTH, D_HIDDEN}},
    {MB_T_E_GATE_B, L_STACKED | L_EVEN, N_MOE, GPT_E "gate_up_proj_bias", D_ONE, D_WIDTH, 0, {D_EXPERTS, D_WIDTH2}},
    {MB_T_E_UP_B, L_STACKED | L_ODD, N_MOE, GPT_E "gate_up_proj_bias", D_ONE, D_WIDTH, 0, {D_EXPERTS, D_WIDTH2}},
    {MB_T_E_DOWN_B, L_STACKED, N_MOE, GPT_E "down_proj_bias", D_ONE, D_HIDDEN, 0, {D_EXPERTS, D_HIDDEN}},
    END};

static const struct mb_pattern minimax_bias[] = {
    {MB_T_ROUTER_BIAS, 0, N_MOE, BSM "e_score_correction_bias", D_ONE, D_EXPERTS, 0, {0}},
    END};

static const struct mb_pattern ernie_bias[] = {
    {MB_T_ROUTER_BIAS, 0, N_MOE, MLP "moe_statics.e_score_correction_bias", D_ONE, D_EXPERTS, 0, {D_ONE, D_EXPERTS}},
    END};

/* One matrix for gate and up of all experts, and one for down; y = W x. */
static const struct mb_pattern granite_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, BSM "router.layer.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, L_STACKED | L_HALVES, N_MOE, BSM "input_linear.weight", D_WIDTH, D_HIDDEN, 0, {D_EXPERTS, D_WIDTH2, D_HIDDEN}},
    {MB_T_E_UP, L_STACKED | L_HALVES, N_MOE, BSM "input_linear.weight", D_WIDTH, D_HIDDEN, D_WIDTH, {D_EXPERTS, D_WIDTH2, D_HIDDEN}},
    {MB_T_E_DOWN, L_STACKED, N_MOE, BSM "output_linear.weight", D_HIDDEN, D_WIDTH, 0, {D_EXPERTS, D_HIDDEN, D_WIDTH}},
    END};

static const struct mb_pattern fused_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, MLP "gate.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, L_STACKED | L_HALVES, N_MOE, GPT_E "gate_up_proj", D_WIDTH, D_HIDDEN, 0, {D_EXPERTS, D_WIDTH2, D_HIDDEN}},
    {MB_T_E_UP, L_STACKED | L_HALVES, N_MOE, GPT_E "gate_up_proj", D_WIDTH, D_HIDDEN, D_WIDTH, {D_EXPERTS, D_WIDTH2, D_HIDDEN}},
    {MB_T_E_DOWN, L_STACKED, N_MOE, GPT_E "down_proj", D_HIDDEN, D_WIDTH, 0, {D_EXPERTS, D_HIDDEN, D_WIDTH}},
    END};

/* Queries with a gate of each head's outputs: rows of a head are its query, then its gate. */
static const struct mb_pattern gated_attn[] = {
    {MB_T_QG, 0, N_FULL, ATTN "q_proj.weight", D_Q2, D_HIDDEN, 0, {0}},
    {MB_T_K, 0, N_FULL, ATTN "k_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_V, 0, N_FULL, ATTN "v_proj.weight", D_KV, D_HIDDEN, 0, {0}},
    {MB_T_O, 0, N_FULL, ATTN "o_proj.weight", D_HIDDEN, D_O, 0, {0}},
    {MB_T_Q_NORM, 0, N_FULL, ATTN "q_norm.weight", D_ONE, D_HEAD, 0, {0}},
    {MB_T_K_NORM, 0, N_FULL, ATTN "k_norm.weight", D_ONE, D_HEAD, 0, {0}},
    END};

#define DELTA LAYER "linear_attn."
#define DELTA_REST                                                                                                                 \
    {MB_T_L_CONV, L_TRANSPOSED, N_LINEAR, DELTA "conv1d.weight", D_TAPS, D_CHANNELS, 0, {D_CHANNELS, D_ONE, D_TAPS}},              \
    {MB_T_L_A_LOG, 0, N_LINEAR, DELTA "A_log", D_ONE, D_VHEADS, 0, {0}},                                                           \
    {MB_T_L_DT, 0, N_LINEAR, DELTA "dt_bias", D_ONE, D_VHEADS, 0, {0}},                                                            \
    {MB_T_L_NORM, 0, N_LINEAR, DELTA "norm.weight", D_ONE, D_VHEAD, 0, {0}},                                                       \
    {MB_T_L_OUT, 0, N_LINEAR, DELTA "out_proj.weight", D_HIDDEN, D_VALUES, 0, {0}}
static const struct mb_pattern grouped_delta[] = {
    {MB_T_L_QKVZ, 0, N_LINEAR, DELTA "in_proj_qkvz.weight", D_QKVZ, D_HIDDEN, 0, {0}},
    {MB_T_L_BA, 0, N_LINEAR, DELTA "in_proj_ba.weight", D_VHEADS2, D_HIDDEN, 0, {0}}, DELTA_REST, END};

static const struct mb_pattern split_delta[] = {
    {MB_T_L_QKV, 0, N_LINEAR, DELTA "in_proj_qkv.weight", D_CHANNELS, D_HIDDEN, 0, {0}},
    {MB_T_L_Z, 0, N_LINEAR, DELTA "in_proj_z.weight", D_VALUES, D_HIDDEN, 0, {0}},
    {MB_T_L_B, 0, N_LINEAR, DELTA "in_proj_b.weight", D_VHEADS, D_HIDDEN, 0, {0}},
    {MB_T_L_A, 0, N_LINEAR, DELTA "in_proj_a.weight", D_VHEADS, D_HIDDEN, 0, {0}}, DELTA_REST, END};

/* y = x W */
#define L4 LAYER "feed_forward."
static const struct mb_pattern llama4_ffn[] = {
    {MB_T_ROUTER, 0, N_MOE, L4 "router.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_E_GATE, L_STACKED | L_TRANSPOSED | L_HALVES, N_MOE, L4 "experts.gate_up_proj", D_WIDTH, D_HIDDEN, 0,
     {D_EXPERTS, D_HIDDEN, D_WIDTH2}},
    {MB_T_E_UP, L_STACKED | L_TRANSPOSED | L_HALVES, N_MOE, L4 "experts.gate_up_proj", D_WIDTH, D_HIDDEN, D_WIDTH,
     {D_EXPERTS, D_HIDDEN, D_WIDTH2}},
    {MB_T_E_DOWN, L_STACKED | L_TRANSPOSED, N_MOE, L4 "experts.down_proj", D_HIDDEN, D_WIDTH, 0, {D_EXPERTS, D_WIDTH, D_HIDDEN}},
    {MB_T_SH_GATE, 0, N_MOE, L4 "shared_expert.gate_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_UP, 0, N_MOE, L4 "shared_expert.up_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},
    {MB_T_SH_DOWN, 0, N_MOE, L4 "shared_expert.down_proj.weight", D_HIDDEN, D_SHARED, 0, {0}},
    {MB_T_GATE, 0, N_DENSE, L4 "gate_proj.weight", D_FFN, D_HIDDEN, 0, {0}},
    {MB_T_UP, 0, N_DENSE, L4 "up_proj.weight", D_FFN, D_HIDDEN, 0, {0}},
    {MB_T_DOWN, 0, N_DENSE, L4 "down_proj.weight", D_HIDDEN, D_FFN, 0, {0}},
    END};

/* Routers under names of their own; experts are those of mlp_moe. */
#define EXPERTS_OF_MLP                                                                                                             \
    {MB_T_E_GATE, 0, N_MOE, MLP "experts.{e}.gate_proj.weight", D_WIDTH, D_HIDDEN, 0, {0}},                                        \
    {MB_T_E_UP, 0, N_MOE, MLP "experts.{e}.up_proj.weight", D_WIDTH, D_HIDDEN, 0, {0}},                                            \
    {MB_T_E_DOWN, 0, N_MOE, MLP "experts.{e}.down_proj.weight", D_HIDDEN, D_WIDTH, 0, {0}}
#define SHARED_MLP                                                                                                                 \
    {MB_T_SH_GATE, 0, N_MOE | N_SHARED, MLP "shared_mlp.gate_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},                            \
    {MB_T_SH_UP, 0, N_MOE | N_SHARED, MLP "shared_mlp.up_proj.weight", D_SHARED, D_HIDDEN, 0, {0}},                                \
    {MB_T_SH_DOWN, 0, N_MOE | N_SHARED, MLP "shared_mlp.down_proj.weight", D_HIDDEN, D_SHARED, 0, {0}}
static const struct mb_pattern hunyuan_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, MLP "gate.wg.weight", D_EXPERTS, D_HIDDEN, 0, {0}}, EXPERTS_OF_MLP, SHARED_MLP, END};

static const struct mb_pattern hy3_moe[] = {
    {MB_T_ROUTER, 0, N_MOE, MLP "router.gate.weight", D_EXPERTS, D_HIDDEN, 0, {0}},
    {MB_T_ROUTER_BIAS, 0, N_MOE, MLP "expert_bias", D_ONE, D_EXPERTS, 0, {0}}, EXPERTS_OF_MLP, SHARED_MLP, END};

#define BAIL LAYER "attention."
static const struct mb_pattern bailing[] = {
    {MB_T_EMBED, 0, 0, "model.word_embeddings.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_FINAL_NORM, 0, 0, "model.norm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_HEAD, 0, N_UNTIED, "lm_head.weight", D_VOCAB, D_HIDDEN, 0, {0}},
    {MB_T_ATTN_NORM, 0, 0, LAYER "input_layernorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_FFN_NORM, 0, 0, LAYER "post_attention_layernorm.weight", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_Q, 0, 0, BAIL "query_key_value.weight", D_Q, D_HIDDEN, 0, {D_QKV, D_HIDDEN}},
    {MB_T_K, 0, 0, BAIL "query_key_value.weight", D_KV, D_HIDDEN, D_Q, {D_QKV, D_HIDDEN}},
    {MB_T_V, 0, 0, BAIL "query_key_value.weight", D_KV, D_HIDDEN, D_Q_KV, {D_QKV, D_HIDDEN}},
    {MB_T_Q_B, 0, N_QKV_B, BAIL "query_key_value.bias", D_ONE, D_Q, 0, {D_QKV}},
    {MB_T_K_B, 0, N_QKV_B, BAIL "query_key_value.bias", D_ONE, D_KV, D_Q, {D_QKV}},
    {MB_T_V_B, 0, N_QKV_B, BAIL "query_key_value.bias", D_ONE, D_KV, D_Q_KV, {D_QKV}},
    {MB_T_O, 0, 0, BAIL "dense.weight", D_HIDDEN, D_O, 0, {0}},
    {MB_T_O_B, 0, N_O_B, BAIL "dense.bias", D_ONE, D_HIDDEN, 0, {0}},
    {MB_T_Q_NORM, 0, N_QK_NORM, BAIL "query_layernorm.weight", D_ONE, D_HEAD, 0, {0}},
    {MB_T_K_NORM, 0, N_QK_NORM, BAIL "key_layernorm.weight", D_ONE, D_HEAD, 0, {0}},
    {MB_T_ROUTER_BIAS, 0, N_MOE, MLP "gate.expert_bias", D_ONE, D_EXPERTS, 0, {0}},
    END};

/* ---------------------------------------------------------------- rows. Defaults are those of the published code. */
static const struct mb_arch rows[] = {
    {.name = "Mixtral", .model_types = "mixtral", .classes = "MixtralForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .window = WIN_ALL, .theta_default = 1e6, .moe = MOE_ALL,
     .width_key = "intermediate_size", .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM, .renorm_if = {NULL, true},
     .tables = {hf_frame, hf_attn, mixtral_moe}},
    {.name = "Mistral", .model_types = "mistral", .classes = "MistralForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .window = WIN_ALL, .window_default = 4096, .theta_default = 1e4,
     .tables = {hf_frame, hf_attn, dense_mlp}},
    {.name = "Llama", .model_types = "llama", .classes = "LlamaForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .mlp_bias = {"mlp_bias", false}, .theta_default = 1e4, .tables = {hf_frame, hf_attn, dense_mlp}},
    {.name = "Qwen2-MoE", .model_types = "qwen2_moe", .classes = "Qwen2MoeForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"qkv_bias", true}, .theta_default = 1e4, .moe = MOE_STEP,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM,
     .renorm_if = {"norm_topk_prob", false}, .shared_key = "shared_expert_intermediate_size", .shared_gate = true,
     .refuse = "use_sliding_window", .tables = {hf_frame, hf_attn, dense_mlp, mlp_moe, qwen_shared}},
    {.name = "Qwen3-MoE", .model_types = "qwen3_moe", .classes = "Qwen3MoeForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .qk_norm = MB_QKNORM_HEAD, .theta_default = 1e4, .moe = MOE_STEP, .width_key = "moe_intermediate_size",
     .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM, .renorm_if = {"norm_topk_prob", false},
     .refuse = "use_sliding_window", .tables = {hf_frame, hf_attn, head_qk_norm, dense_mlp, mlp_moe}},
    {.name = "OLMoE", .model_types = "olmoe", .classes = "OlmoeForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .qk_norm = MB_QKNORM_WHOLE, .clip_key = "clip_qkv", .theta_default = 1e4, .moe = MOE_ALL,
     .width_key = "intermediate_size", .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM,
     .renorm_if = {"norm_topk_prob", false}, .tables = {hf_frame, hf_attn, whole_qk_norm, mlp_moe}},
    {.name = "DeepSeek-V2", .model_types = "deepseek_v2", .classes = "DeepseekV2ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .latent_eps = 1e-6, .rope_style = MB_ROPE_INTERLEAVED,
     .theta_default = 1e4, .moe = MOE_FIRST_DENSE, .width_key = "moe_intermediate_size", .router = MB_ROUTER_SOFTMAX,
     .scaled = true, .scaling_default = 1, .by_method = true, .scoring = "softmax",
     .shared_key = "n_shared_experts", .shared_count = true, .refuse = "attention_bias|norm_topk_prob",
     .tables = {hf_frame, mla_attn, dense_mlp, mlp_moe, deepseek_shared}},
    {.name = "DeepSeek-V3", .model_types = "deepseek_v3|kimi_k2", .classes = "DeepseekV3ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .latent_eps = 1e-6, .rope_style = MB_ROPE_INTERLEAVED,
     .theta_default = 1e4, .moe = MOE_FIRST_DENSE, .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED,
     .renorm = MB_RENORM_SUM_EPS, .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 2.5,
     .method = "noaux_tc", .scoring = "sigmoid", .shared_key = "n_shared_experts", .shared_count = true, .mtp = true,
     .refuse = "attention_bias", .tables = {hf_frame, mla_attn, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "DeepSeek-V3.2", .model_types = "deepseek_v32", .classes = "DeepseekV32ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .indexer = true, .index_rope = MB_ROPE_HALF, .latent_eps = 1e-6,
     .rope_style = MB_ROPE_INTERLEAVED, .theta_default = 1e4, .moe = MOE_FIRST_DENSE, .dense_default = 3,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .renorm = MB_RENORM_SUM_EPS,
     .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 2.5, .method = "noaux_tc", .scoring = "sigmoid",
     .shared_key = "n_shared_experts", .shared_count = true, .refuse = "attention_bias",
     .tables = {hf_frame, mla_attn, indexer, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "GLM-MoE-DSA", .model_types = "glm_moe_dsa", .classes = "GlmMoeDsaForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .indexer = true, .index_rope = MB_ROPE_INTERLEAVED, .latent_eps = 1e-6,
     .rope_style = MB_ROPE_INTERLEAVED, .theta_default = 1e4, .moe = MOE_FIRST_DENSE, .dense_default = 3,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1, .renorm = MB_RENORM_SUM_EPS,
     .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 2.5, .method = "noaux_tc", .scoring = "sigmoid",
     .shared_key = "n_shared_experts", .shared_count = true, .shared_default = 1, .refuse = "attention_bias",
     .tables = {hf_frame, mla_attn, indexer, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "DBRX", .model_types = "dbrx", .classes = "DbrxForCausalLM", .norm = MB_NORM_LAYER, .eps_default = 1e-5,
     .eps_fixed = true, .act = -1, .tied = {"tie_word_embeddings", false}, .clip_key = "attn_config.clip_qkv",
     .theta_default = 1e4, .moe = MOE_ALL, .width_key = "ffn_config.ffn_hidden_size", .router = MB_ROUTER_SOFTMAX,
     .renorm = MB_RENORM_PNORM, .renorm_if = {NULL, true}, .pnorm_key = "ffn_config.moe_normalize_expert_weights",
     .tables = {dbrx}},
    {.name = "Grok-1", .model_types = "grok-1|grok1|grok_1", .classes = "Grok1ModelForCausalLM", .eps_default = 1e-5,
     .act = MB_ACT_GELU_TANH, .tied = {"tie_word_embeddings", true}, .post_norms = true, .scale_key = "attn_output_multiplier",
     .softcap_key = "max_attn_value", .theta_default = 1e4, .moe = MOE_ALL, .width_key = "intermediate_size",
     .router = MB_ROUTER_SOFTMAX, .embed_key = "embedding_multiplier_scale", .logit_key = "output_multiplier_scale",
     .tables = {grok}},
    {.name = "GPT-OSS", .model_types = "gpt_oss", .classes = "GptOssForCausalLM", .eps_default = 1e-5,
     .act = MB_ACT_SWIGLU_CLAMPED, .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", true},
     .o_bias = {"attention_bias", true}, .expert_bias = true, .sinks = true, .window = WIN_ALTERNATE, .window_default = 128,
     .theta_default = 150000, .moe = MOE_ALL, .width_key = "intermediate_size", .router = MB_ROUTER_TOPK_SOFTMAX,
     .tables = {hf_frame, hf_attn, gpt_oss}},
    {.name = "PhiMoE", .model_types = "phimoe", .classes = "PhiMoEForCausalLM|PhimoeForCausalLM", .norm = MB_NORM_LAYER,
     .eps_default = 1e-5, .norm_bias = true, .act = -1, .tied = {"tie_word_embeddings", false},
     .head_bias = {"lm_head_bias", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .window = WIN_ALL, .theta_default = 1e6, .mscales = true, .moe = MOE_ALL, .width_key = "intermediate_size",
     .router = MB_ROUTER_SPARSEMIXER, .k_fixed = 2, .tables = {hf_frame, hf_norm_bias, hf_attn, mixtral_moe}},
    {.name = "GLM-4.5", .model_types = "glm4_moe", .classes = "Glm4MoeForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .qk_norm = MB_QKNORM_HEAD,
     .qk_norm_if = {"use_qk_norm", false}, .theta_default = 1e4, .partial_default = 0.5, .moe = MOE_FIRST_DENSE,
     .dense_default = 1, .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1,
     .renorm = MB_RENORM_SUM_EPS, .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 1,
     .shared_key = "n_shared_experts", .shared_count = true, .shared_default = 1, .mtp = true,
     .tables = {hf_frame, hf_attn, head_qk_norm, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "GLM-4.7-Flash", .model_types = "glm4_moe_lite", .classes = "Glm4MoeLiteForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .latent_eps = 1e-6, .rope_style = MB_ROPE_INTERLEAVED,
     .theta_default = 1e4, .moe = MOE_FIRST_DENSE, .dense_default = 1, .width_key = "moe_intermediate_size",
     .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1, .renorm = MB_RENORM_SUM_EPS, .renorm_if = {"norm_topk_prob", true},
     .scaled = true, .scaling_default = 1.8, .method = "noaux_tc", .shared_key = "n_shared_experts", .shared_count = true,
     .shared_default = 1, .mtp = true, .refuse = "attention_bias",
     .tables = {hf_frame, mla_attn, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "MiniMax-M2", .model_types = "minimax_m2", .classes = "MiniMaxM2ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .head_default = 128, .qk_norm = MB_QKNORM_WHOLE, .qk_norm_if = {"use_qk_norm", true},
     .theta_default = 5e6, .partial_default = 1, .rotary_key = "rotary_dim", .moe = MOE_ALL, .width_key = "intermediate_size",
     .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1, .renorm = MB_RENORM_SUM, .renorm_if = {NULL, true},
     .scoring = "sigmoid", .refuse = "shared_intermediate_size", .demand = "use_routing_bias",
     .tables = {hf_frame, hf_attn, whole_qk_norm, mixtral_moe, minimax_bias}},
    {.name = "dots.llm1", .model_types = "dots1", .classes = "Dots1ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .qk_norm = MB_QKNORM_HEAD, .window = WIN_BEHIND, .theta_default = 1e4, .moe = MOE_FIRST_DENSE,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1, .renorm = MB_RENORM_SUM_EPS,
     .renorm_if = {"norm_topk_prob", false}, .scaled = true, .scaling_default = 1, .method = "noaux_tc",
     .scoring = "sigmoid|noaux_tc", .shared_key = "n_shared_experts", .shared_count = true,
     .tables = {hf_frame, hf_attn, head_qk_norm, dense_mlp, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "ERNIE-4.5", .model_types = "ernie4_5_moe", .classes = "Ernie4_5_MoeForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", true}, .rope_style = MB_ROPE_INTERLEAVED, .theta_default = 5e5, .moe = MOE_RANGE,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SOFTMAX_BIAS, .renorm = MB_RENORM_SUM_MIN, .renorm_if = {NULL, true},
     .shared_key = "moe_num_shared_experts", .shared_count = true, .shared_default = 2, .refuse = "use_bias",
     .tables = {hf_frame, hf_attn, dense_mlp, mlp_moe, deepseek_shared, ernie_bias}},
    {.name = "Granite-MoE", .model_types = "granitemoe", .classes = "GraniteMoeForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .scale_key = "attention_multiplier", .theta_default = 1e4, .moe = MOE_ALL, .width_key = "intermediate_size",
     .router = MB_ROUTER_TOPK_SOFTMAX, .embed_key = "embedding_multiplier", .logit_key = "logits_scaling",
     .residual_key = "residual_multiplier", .scalars_optional = true, .logit_divides = true,
     .tables = {hf_frame, hf_attn, granite_moe}},
    {.name = "Hunyuan-A13B", .model_types = "hunyuan_v1_moe", .classes = "HunYuanMoEV1ForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .qk_norm = MB_QKNORM_HEAD_AFTER, .qk_norm_if = {"use_qk_norm", true}, .theta_default = 1e4, .moe = MOE_ALL,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM, .renorm_if = {NULL, true},
     .shared_key = "num_shared_expert", .shared_count = true, .shared_default = 1, .refuse = "use_cla|mlp_bias|moe_layer_num_skipped",
     .tables = {hf_frame, hf_attn, head_qk_norm, hunyuan_moe}},
    {.name = "Solar-Open", .model_types = "solar_open", .classes = "SolarOpenForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .head_default = 128, .theta_default = 1e6,
     .moe = MOE_ALL, .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1,
     .renorm = MB_RENORM_SUM_EPS, .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 1,
     .shared_key = "n_shared_experts", .shared_count = true, .shared_default = 1, .refuse = "use_qk_norm|first_k_dense_replace",
     .tables = {hf_frame, hf_attn, mlp_moe, deepseek_shared, deepseek_v3}},
    {.name = "Hy3", .model_types = "hy_v3", .classes = "HYV3ForCausalLM", .eps_default = 1e-5, .act = -1,
     .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false}, .o_bias = {"attention_bias", false},
     .qk_norm = MB_QKNORM_HEAD, .theta_default = 11158840, .moe = MOE_FIRST_DENSE, .dense_default = 1,
     .width_key = "moe_intermediate_size|expert_hidden_dim", .router = MB_ROUTER_SIGMOID_GROUPED, .groups_default = 1,
     .renorm = MB_RENORM_SUM_EPS, .renorm_if = {NULL, true}, .scaled = true, .scaling_default = 2.826,
     .shared_key = "num_shared_experts", .shared_count = true, .shared_default = 1,
     .demand = "qk_norm|route_norm|moe_router_use_sigmoid|moe_router_enable_expert_bias",
     .tables = {hf_frame, hf_attn, head_qk_norm, dense_mlp, hy3_moe}},
    {.name = "Ling-2", .model_types = "bailing_moe_v2|bailing_moe", .classes = "BailingMoeV2ForCausalLM",
     .class_decides = "bailing_moe", .eps_default = 1e-6, .act = -1, .tied = {"tie_word_embeddings", false},
     .qkv_bias = {"use_qkv_bias", false}, .o_bias = {"use_bias", false}, .qk_norm = MB_QKNORM_HEAD,
     .qk_norm_if = {"use_qk_norm", true}, .theta_default = 6e5, .partial_default = 1, .moe = MOE_FIRST_DENSE,
     .width_key = "moe_intermediate_size", .router = MB_ROUTER_SIGMOID_GROUPED, .renorm = MB_RENORM_SUM_EPS,
     .renorm_if = {NULL, true}, .scaled = true, .scaling_default = 1, .scoring = "sigmoid", .shared_key = "num_shared_experts",
     .shared_count = true, .demand = "moe_router_enable_expert_bias", .tables = {bailing, dense_mlp, mlp_moe, deepseek_shared}},
    {.name = "Llama-4", .model_types = "llama4_text|llama4", .classes = "Llama4ForCausalLM|Llama4ForConditionalGeneration",
     .eps_default = 1e-5, .act = -1, .tied = {"tie_word_embeddings", false}, .qkv_bias = {"attention_bias", false},
     .o_bias = {"attention_bias", false}, .head_default = 128, .qk_norm = MB_QKNORM_BARE_AFTER, .qk_norm_if = {"use_qk_norm", true},
     .window = WIN_CHUNKS, .window_default = 8192, .rope_style = MB_ROPE_INTERLEAVED, .theta_default = 5e5, .still_layers = true,
     .moe = MOE_INTERLEAVED, .dense_key = "intermediate_size_mlp", .width_key = "intermediate_size",
     .router = MB_ROUTER_TOPK_SIGMOID, .k_fixed = 1, .weight_inside = true, .shared_key = "intermediate_size",
     .tables = {hf_frame, hf_attn, llama4_ffn}},
    {.name = "Mistral-4", .model_types = "mistral4", .classes = "Mistral4ForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .mla = true, .latent_eps = 1e-6, .rope_style = MB_ROPE_INTERLEAVED,
     .theta_default = 1e4,
     .rope_default = "{\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 128.0, \"beta_fast\": 32.0, \"beta_slow\": 1.0,"
                     "\"original_max_position_embeddings\": 8192, \"mscale\": 1.0, \"mscale_all_dim\": 1.0,"
                     "\"llama_4_scaling_beta\": 0.1}",
     .moe = MOE_FIRST_DENSE, .width_key = "moe_intermediate_size", .router = MB_ROUTER_SOFTMAX_PAIRS, .groups_default = 1,
     .renorm = MB_RENORM_SUM_EPS, .renorm_if = {"norm_topk_prob", true}, .scaled = true, .scaling_default = 1,
     .shared_key = "n_shared_experts", .shared_count = true, .shared_default = 1, .refuse = "attention_bias",
     .tables = {hf_frame, mla_attn, dense_mlp, fused_moe, deepseek_shared}},
    {.name = "Qwen3-Next", .model_types = "qwen3_next", .classes = "Qwen3NextForCausalLM", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .head_default = 256, .qk_norm = MB_QKNORM_HEAD, .delta = true, .q_gate = true,
     .norm_plus_one = true, .theta_default = 1e4, .partial_default = 0.25, .moe = MOE_STEP, .width_key = "moe_intermediate_size",
     .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM, .renorm_if = {"norm_topk_prob", true},
     .shared_key = "shared_expert_intermediate_size", .shared_gate = true, .refuse = "attention_bias|use_sliding_window",
     .skip = "mtp.", .split = mlp_moe, .fused = fused_moe,
     .tables = {hf_frame, gated_attn, grouped_delta, dense_mlp, mlp_moe, qwen_shared}},
    {.name = "Qwen3.5-MoE", .model_types = "qwen3_5_moe_text|qwen3_5_moe",
     .classes = "Qwen3_5MoeForCausalLM|Qwen3_5MoeForConditionalGeneration", .eps_default = 1e-6, .act = -1,
     .tied = {"tie_word_embeddings", false}, .head_default = 256, .qk_norm = MB_QKNORM_HEAD, .delta = true, .q_gate = true,
     .norm_plus_one = true, .theta_default = 1e4, .partial_default = 0.25, .moe = MOE_ALL, .width_key = "moe_intermediate_size",
     .router = MB_ROUTER_SOFTMAX, .renorm = MB_RENORM_SUM, .renorm_if = {NULL, true},
     .shared_key = "shared_expert_intermediate_size", .shared_gate = true, .refuse = "attention_bias|use_sliding_window",
     .demand = "attn_output_gate", .skip = "mtp.|model.visual.|visual.", .split = mlp_moe, .fused = fused_moe,
     .tables = {hf_frame, gated_attn, split_delta, mlp_moe, qwen_shared}},
};

/* Networks that are known and not built: they must not pass for a relative of theirs. */
static const struct {
    const char *model_types, *why;
} refusals[] = {
    {"qwen3_5|qwen3_5_text", "of the Qwen3.5 networks only those with experts (qwen3_5_moe) are supported"},
    {"bailing_hybrid|kimi_linear|minimax|minimax_text_01", "its linear attention is not supported"},
    {"bailing_moe", "only the network of architectures BailingMoeV2ForCausalLM (Ling 2) is supported under this name"},
    {"granitemoeshared|granitemoehybrid", "of the Granite networks with experts only granitemoe is supported"},
};

const char *mb_arch_refusal(const char *model_type)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        if (mb_arch_lists(refusals[i].model_types, model_type))
            return refusals[i].why;
    }
    return NULL;
}

const struct mb_arch *mb_arch_all(int *n)
{
    *n = (int)(sizeof rows / sizeof rows[0]);
    return rows;
}

bool mb_arch_lists(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *p = list; *p != 0;) {
        size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n + (p[n] == '|');
    }
    return false;
}

const struct mb_arch *mb_arch_find(const char *model_type, const char *cls)
{
    int n;
    const struct mb_arch *all = mb_arch_all(&n);

    for (int i = 0; i < n; i++) {
        const struct mb_arch *a = all + i;
        bool ours = cls != NULL && mb_arch_lists(a->classes, cls);
        bool shared = model_type != NULL && a->class_decides != NULL && mb_arch_lists(a->class_decides, model_type);
        if (model_type == NULL || shared ? ours : mb_arch_lists(a->model_types, model_type))
            return a;
    }
    return NULL;
}

const struct mb_arch *mb_arch_named(const char *name)
{
    int n;
    const struct mb_arch *all = mb_arch_all(&n);

    for (int i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return all + i;
    }
    return NULL;
}
