/* Kinds and parameters of operations (device/ops.h) that kernels read as they are: plain data, which compilers for devices
 * understand, too. */
#ifndef MB_DEVICE_KINDS_H
#define MB_DEVICE_KINDS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mb_math.h"

enum mb_dtype { MB_F32, MB_BF16, MB_I32, MB_U8, MB_DTYPE_COUNT };
MB_INLINE int64_t mb_dtype_size(enum mb_dtype t)
{
    return t == MB_BF16 ? 2 : t == MB_U8 ? 1 : 4;
}

/* ---------------------------------------------------------------- mechanisms */
enum mb_norm_kind { MB_NORM_RMS, MB_NORM_LAYER };
enum mb_act_kind { MB_ACT_SILU, MB_ACT_GELU_ERF, MB_ACT_GELU_TANH, MB_ACT_SWIGLU_CLAMPED };
enum mb_rope_style { MB_ROPE_HALF, MB_ROPE_INTERLEAVED };
enum mb_router_kind {
    MB_ROUTER_SOFTMAX,          /* softmax over all, top-k (Mixtral, Qwen, OLMoE, DBRX, Grok, DeepSeek-V2 greedy) */
    MB_ROUTER_SOFTMAX_GROUPED,  /* DeepSeek-V2 group_limited_greedy: group score = max, other groups' scores 0 */
    MB_ROUTER_SIGMOID_GROUPED,  /* DeepSeek-V3 noaux_tc: choice by sigmoid + bias, group score = sum of its 2 largest */
    MB_ROUTER_TOPK_SOFTMAX,     /* GPT-OSS, Granite: top-k of z, softmax over the chosen */
    MB_ROUTER_SPARSEMIXER,      /* PhiMoE */
    MB_ROUTER_SOFTMAX_PAIRS,    /* Mistral-4: softmax, group score = sum of its 2 largest, other groups' scores 0 */
    MB_ROUTER_SOFTMAX_BIAS,     /* ERNIE-4.5: choice by softmax + bias, weights without it */
    MB_ROUTER_TOPK_SIGMOID      /* Llama-4: top-k of z, sigmoid of each of the chosen */
};
#define MB_ROUTER_LAST MB_ROUTER_TOPK_SIGMOID
/* Kinds that choose among the experts of the best groups. */
MB_INLINE bool mb_router_grouped(enum mb_router_kind k)
{
    return k == MB_ROUTER_SOFTMAX_GROUPED || k == MB_ROUTER_SIGMOID_GROUPED || k == MB_ROUTER_SOFTMAX_PAIRS;
}
enum mb_renorm_kind {
    MB_RENORM_NONE,
    MB_RENORM_SUM,     /* w / sum */
    MB_RENORM_SUM_EPS, /* w / (sum + 1e-20): DeepSeek-V3 */
    MB_RENORM_PNORM,   /* w / ||w||_p: DBRX */
    MB_RENORM_SUM_MIN  /* w / max(sum, least): ERNIE-4.5 */
};
#define MB_RENORM_LAST MB_RENORM_SUM_MIN
struct mb_router {
    enum mb_router_kind kind;
    enum mb_renorm_kind renorm;
    int32_t experts, k;
    int32_t groups, topk_groups; /* grouped kinds; else 1, 1 */
    float scale;                 /* routed_scaling_factor, applied last; 1: not applied */
    float p;                     /* MB_RENORM_PNORM */
    float eps;                   /* sparsemixer's jitter eps */
    float least;                 /* MB_RENORM_SUM_MIN */
};

/* First position that a row at pos sees under a window (struct mb_attn_args). */
MB_INLINE int32_t mb_first_seen(int32_t window, bool chunked, int32_t pos)
{
    if (window <= 0 || pos < window)
        return 0;
    return chunked ? pos - pos % window : pos - window + 1;
}

/* A state of the gated delta rule (struct mb_delta_args). */
#define MB_DELTA_COLS 16
MB_INLINE int64_t mb_delta_tile(int64_t dk, int64_t dv) /* elements of a head's state */
{
    return (dv + MB_DELTA_COLS - 1) / MB_DELTA_COLS * MB_DELTA_COLS * dk;
}
#define MB_DELTA_EPS 1e-6f /* in the norm of q and k */
#define MB_MAX_TAPS 16

/* Per-row sampling parameters (doc/numerics, Sampling); a U8 view of these, cols = sizeof. */
struct mb_sample_row {
    float temperature; /* 0: argmax */
    int32_t top_k;     /* 0: off */
    float top_p;       /* >= 1: off */
    float min_p;       /* 0: off */
    float repetition, frequency, presence; /* 1, 0, 0: off */
    int32_t adj_begin, adj_end;            /* this row's entries in the adjust list */
    uint64_t key;
    int64_t position; /* index in the sequence of the token being drawn */
    int32_t only;     /* not 0: ids without an adjustment cannot be drawn */
    int32_t mask;     /* 1 + row of the masks: ids whose bit is not set cannot be drawn; 0: none */
};
/* One token id's adjustments, ids ascending within a row. z = raw; then repetition (HF form) if in_prompt or n_out > 0;
 * then - frequency * n_out - (n_out > 0 ? presence : 0); then + bias (may be -inf). */
struct mb_sample_adjust {
    int32_t id;
    int32_t in_prompt;
    int32_t n_out;
    float bias;
};

#define MB_MAX_NORM_LEAVES 512 /* of a norm over a vector that ranks share */
#endif
