/* A model in words: what `inspect -m` prints. */
#include <inttypes.h>
#include <math.h>
#include "model/model.h"

static const char *const role_names[MB_T_COUNT] = {
    [MB_T_EMBED] = "embedding", [MB_T_FINAL_NORM] = "final norm", [MB_T_FINAL_NORM_B] = "final norm bias",
    [MB_T_HEAD] = "LM head", [MB_T_HEAD_B] = "LM head bias", [MB_T_ATTN_NORM] = "attention norm",
    [MB_T_ATTN_NORM_B] = "attention norm bias", [MB_T_FFN_NORM] = "FFN norm", [MB_T_FFN_NORM_B] = "FFN norm bias",
    [MB_T_ATTN_POST] = "attention post-norm", [MB_T_FFN_POST] = "FFN post-norm", [MB_T_Q] = "q", [MB_T_K] = "k", [MB_T_V] = "v",
    [MB_T_O] = "o", [MB_T_Q_B] = "q bias", [MB_T_K_B] = "k bias", [MB_T_V_B] = "v bias", [MB_T_O_B] = "o bias",
    [MB_T_Q_NORM] = "q norm", [MB_T_K_NORM] = "k norm", [MB_T_SINKS] = "sinks", [MB_T_Q_A] = "q_a", [MB_T_Q_A_NORM] = "q_a norm",
    [MB_T_Q_BPROJ] = "q_b", [MB_T_KV_A] = "kv_a", [MB_T_KV_A_NORM] = "kv_a norm", [MB_T_KV_B] = "kv_b", [MB_T_GATE] = "gate",
    [MB_T_UP] = "up", [MB_T_DOWN] = "down", [MB_T_GATE_B] = "gate bias", [MB_T_UP_B] = "up bias", [MB_T_DOWN_B] = "down bias",
    [MB_T_ROUTER] = "router", [MB_T_ROUTER_B] = "router bias", [MB_T_ROUTER_BIAS] = "router choice bias",
    [MB_T_SH_GATE] = "shared gate", [MB_T_SH_UP] = "shared up", [MB_T_SH_DOWN] = "shared down",
    [MB_T_SH_SCALAR] = "shared scalar gate", [MB_T_E_GATE] = "expert gate", [MB_T_E_UP] = "expert up",
    [MB_T_E_DOWN] = "expert down", [MB_T_E_GATE_B] = "expert gate bias", [MB_T_E_UP_B] = "expert up bias",
    [MB_T_E_DOWN_B] = "expert down bias", [MB_T_MTP_ENORM] = "MTP embedding norm", [MB_T_MTP_HNORM] = "MTP hidden norm",
    [MB_T_MTP_PROJ] = "MTP projection", [MB_T_MTP_NORM] = "MTP final norm",
    [MB_T_IX_Q] = "indexer q", [MB_T_IX_K] = "indexer k", [MB_T_IX_K_NORM] = "indexer k norm", [MB_T_IX_K_NORM_B] = "indexer k norm bias",
    [MB_T_IX_W] = "indexer weights of heads", [MB_T_QG] = "q and gate",
    [MB_T_L_QKVZ] = "DeltaNet q k v z", [MB_T_L_BA] = "DeltaNet b a", [MB_T_L_QKV] = "DeltaNet q k v", [MB_T_L_Z] = "DeltaNet z",
    [MB_T_L_B] = "DeltaNet b", [MB_T_L_A] = "DeltaNet a", [MB_T_L_CONV] = "DeltaNet convolution", [MB_T_L_A_LOG] = "DeltaNet A_log",
    [MB_T_L_DT] = "DeltaNet dt bias", [MB_T_L_NORM] = "DeltaNet norm", [MB_T_L_OUT] = "DeltaNet output"};

const char *mb_role_name(enum mb_role role)
{
    return (unsigned)role < MB_T_COUNT ? role_names[role] : "?";
}

static void print_attention(FILE *f, const struct mb_model *m)
{
    static const char *const norms[] = {[MB_QKNORM_NONE] = "", [MB_QKNORM_HEAD] = ", q and k normed per head",
                                        [MB_QKNORM_WHOLE] = ", q and k normed whole",
                                        [MB_QKNORM_HEAD_AFTER] = ", q and k normed per head after the rotation",
                                        [MB_QKNORM_BARE_AFTER] = ", q and k normed per head after the rotation, without weights"};
    int32_t sliding = 0, window = 0, still = 0;

    for (int32_t l = 0; l < m->layers; l++) {
        sliding += m->window[l] > 0;
        still += m->still[l] != 0;
        window = m->window[l] > 0 ? m->window[l] : window;
    }
    if (m->mla)
        fprintf(f, "attention : latent (MLA), %d heads of %d + %d rotary, values %d, kv rank %d, q rank %d", m->heads, m->nope,
                m->rope_mla, m->v_dim, m->kv_lora, m->q_lora);
    else
        fprintf(f, "attention : %d heads on %d KV heads of %d", m->heads, m->kv_heads, m->head_dim);
    fprintf(f, "%s%s%s%s", norms[m->qk_norm], m->qkv_bias ? ", q k v biases" : "", m->o_bias ? ", o bias" : "",
            m->sinks ? ", sinks" : "");
    if (m->clip_qkv > 0)
        fprintf(f, ", q k v clipped at %g", (double)m->clip_qkv);
    if (m->softcap > 0)
        fprintf(f, ", scores capped at %g", (double)m->softcap);
    if (sliding > 0)
        fprintf(f, ", %s %d in %d of %d layers", m->chunked ? "chunks of" : "window", window, sliding, m->layers);
    if (still > 0)
        fprintf(f, ", no rotation in %d layers", still);
    if (m->indexer.topk > 0)
        fprintf(f, ", of %d keys chosen by an indexer (%d heads of %d)", m->indexer.topk, m->indexer.heads, m->indexer.width);
    if (m->q_growth != 0)
        fprintf(f, ", queries grow by %g ln every %g positions", m->q_growth, m->q_unit);
    if (m->q_gate)
        fprintf(f, ", output gates");
    if (m->linear_layers > 0)
        fprintf(f, "\nlinear    : gated DeltaNet in %d of %d layers, %d key heads of %d, %d value heads of %d, convolution over %d positions",
                m->linear_layers, m->layers, m->delta.key_heads, m->delta.dk, m->delta.value_heads, m->delta.dv, m->delta.taps);
    fprintf(f, "\nrotary    : width %d, %s, %s", m->rope_dim, m->rope_style == MB_ROPE_HALF ? "half-split" : "interleaved",
            m->inv_freq_long != NULL ? "long and short factors" : "one set of frequencies");
    fprintf(f, ", amplitude %.6g, score scale %.6g, positions up to %" PRId64 "\n", m->rope_att, (double)m->attn_scale,
            m->max_positions);
}

static void print_router(FILE *f, const struct mb_model *m)
{
    static const char *const kinds[] = {
        [MB_ROUTER_SOFTMAX] = "softmax, top-k", [MB_ROUTER_SOFTMAX_GROUPED] = "softmax, group-limited top-k",
        [MB_ROUTER_SIGMOID_GROUPED] = "sigmoid with choice bias, group-limited top-k",
        [MB_ROUTER_TOPK_SOFTMAX] = "top-k, softmax over the chosen", [MB_ROUTER_SPARSEMIXER] = "sparsemixer",
        [MB_ROUTER_SOFTMAX_PAIRS] = "softmax, group-limited top-k", [MB_ROUTER_SOFTMAX_BIAS] = "softmax with choice bias, top-k",
        [MB_ROUTER_TOPK_SIGMOID] = "top-k, sigmoid of each of the chosen"};
    static const char *const renorms[] = {[MB_RENORM_NONE] = "not normalised", [MB_RENORM_SUM] = "divided by their sum",
                                          [MB_RENORM_SUM_EPS] = "divided by their sum", [MB_RENORM_PNORM] = "divided by their p-norm",
                                          [MB_RENORM_SUM_MIN] = "divided by their sum"};
    const struct mb_router *r = &m->router;

    if (r->experts == 0) {
        fprintf(f, "experts   : none (dense model)\n");
        return;
    }
    fprintf(f, "experts   : %d, %d per token, width %d, in %d of %d layers\n", r->experts, r->k, m->expert_ffn, m->moe_layers,
            m->layers);
    fprintf(f, "router    : %s", kinds[r->kind]);
    if (r->groups > 1)
        fprintf(f, " (%d of %d groups)", r->topk_groups, r->groups);
    fprintf(f, ", weights %s", renorms[r->renorm]);
    if (r->scale != 1)
        fprintf(f, ", times %g", (double)r->scale);
    if (m->weight_inside)
        fprintf(f, ", on the expert's input");
    fprintf(f, "\n");
    if (m->shared_ffn > 0)
        fprintf(f, "shared    : width %d%s\n", m->shared_ffn, m->shared_gate ? ", gated" : "");
}

static void print_rest(FILE *f, const struct mb_model *m)
{
    static const char *const acts[] = {[MB_ACT_SILU] = "SwiGLU", [MB_ACT_GELU_ERF] = "GEGLU (erf)",
                                       [MB_ACT_GELU_TANH] = "GEGLU (tanh)", [MB_ACT_SWIGLU_CLAMPED] = "clamped SwiGLU"};

    fprintf(f, "FFN       : %s", acts[m->act]);
    if (m->act == MB_ACT_SWIGLU_CLAMPED)
        fprintf(f, " at %g", (double)m->act_limit);
    if (m->ffn > 0)
        fprintf(f, ", dense layers of width %d%s", m->ffn, m->mlp_bias ? " with biases" : "");
    fprintf(f, "%s\n", m->expert_bias ? ", expert biases" : "");
    fprintf(f, "norms     : %s%s, eps %g%s\n", m->norm == MB_NORM_RMS ? "RMS" : "layer", m->norm_bias ? " with biases" : m->norm_plus_one ? " with weights 1 + w" : "",
            (double)m->norm_eps, m->post_norms ? ", before and after each block" : "");
    fprintf(f, "head      : %s%s", m->tied ? "tied to the embedding" : "its own", m->head_bias ? ", bias" : "");
    if (m->embed_scale != 1 || m->logit_scale != 1)
        fprintf(f, ", embedding times %g, logits times %g", (double)m->embed_scale, (double)m->logit_scale);
    if (m->residual_scale != 1)
        fprintf(f, ", blocks times %g", (double)m->residual_scale);
    fprintf(f, "\n");
    if (m->mtp_layers > 0)
        fprintf(f, "MTP       : %d module\n", m->mtp_layers);
    fprintf(f, "tokens    : vocabulary %d, bos %d, eos", m->vocab, m->bos);
    for (int32_t i = 0; i < m->n_eos; i++)
        fprintf(f, " %d", m->eos[i]);
    fprintf(f, "%s\n", m->n_eos == 0 ? " none" : "");
}

/* Bytes in the files. Parts that several experts share are counted with each. */
static uint64_t stored_bytes(const struct mb_model *m, const struct mb_tensor *t)
{
    if (t->packed == 0)
        return (uint64_t)(t->n * t->k * mb_storage_size((enum mb_storage)t->storage)) + t->scale_bytes;
    const struct mb_packed *p = m->packed + (t->packed - 1);
    uint64_t code = p->code.bytes / (uint64_t)p->row_step, scale = p->scale.bytes / (uint64_t)p->row_step;
    return code + scale + p->zero.bytes + p->g_idx.bytes + p->tensor_scale.bytes;
}

static void print_packed(FILE *f, const struct mb_model *m)
{
    const char *last = NULL;

    for (int64_t i = 0; i < m->n_packed; i++) { /* a model has one or two formats, by name */
        const char *name = mb_packed_name(m->packed + i);
        uint64_t bytes = 0;
        bool told = name == last;
        for (int64_t j = 0; j < i && !told; j++)
            told = mb_packed_name(m->packed + j) == name;
        last = name;
        for (int64_t j = 0; j < m->n_tensors && !told; j++) {
            const struct mb_tensor *t = m->tensors + j;
            if (t->packed > 0 && mb_packed_name(m->packed + (t->packed - 1)) == name)
                bytes += stored_bytes(m, t);
        }
        if (!told)
            fprintf(f, ", %s %" PRIu64, name, bytes);
    }
}

static void print_storage(FILE *f, const struct mb_model *m)
{
    static const char *const names[] = {[MB_STORE_F32] = "f32", [MB_STORE_F16] = "f16", [MB_STORE_BF16] = "bf16",
                                        [MB_STORE_F8E4M3] = "fp8", [MB_STORE_F8E5M2] = "fp8 e5m2"};
    static const char *const paths[] = {[MB_PATH_F32] = "f32", [MB_PATH_BF16] = "bf16", [MB_PATH_FP8] = "fp8",
                                        [MB_PATH_INT8] = "int8"};
    uint64_t bytes[MB_STORE_LAST + 1] = {0}, expert = 0, total = 0;

    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        uint64_t b = stored_bytes(m, t);
        bytes[t->storage] += t->packed == 0 ? b : 0;
        total += b;
        expert += t->expert >= 0 ? b : 0;
    }
    fprintf(f, "parameters: %" PRId64 " in all, %" PRId64 " active per token\n", m->params_total, m->params_active);
    fprintf(f, "tensors   : %" PRId64 ", %" PRIu64 " bytes (%" PRIu64 " in experts)", m->n_tensors, total, expert);
    for (int s = 0; s <= MB_STORE_LAST; s++)
        if (bytes[s] > 0)
            fprintf(f, ", %s %" PRIu64, names[s], bytes[s]);
    print_packed(f, m);
    fprintf(f, "; --dtype auto means %s\n", paths[m->auto_path]);
    for (int32_t i = 0; i < m->n_files; i++)
        fprintf(f, "file      : %s, %" PRIu64 " bytes\n", m->files[i], m->file_bytes[i]);
}

void mb_model_print(FILE *f, const struct mb_model *m)
{
    fprintf(f, "model     : %s\nfamily    : %s\nlayers    : %d, hidden %d\n", m->dir, m->arch, m->layers, m->hidden);
    print_attention(f, m);
    print_router(f, m);
    print_rest(f, m);
    print_storage(f, m);
    if (!isnan(m->gen_temperature) || !isnan(m->gen_top_p) || m->gen_top_k >= 0 || !isnan(m->gen_repetition)) {
        fprintf(f, "defaults  :");
        if (!isnan(m->gen_temperature))
            fprintf(f, " temperature %g", (double)m->gen_temperature);
        if (!isnan(m->gen_top_p))
            fprintf(f, " top_p %g", (double)m->gen_top_p);
        if (m->gen_top_k >= 0)
            fprintf(f, " top_k %d", m->gen_top_k);
        if (!isnan(m->gen_repetition))
            fprintf(f, " repetition_penalty %g", (double)m->gen_repetition);
        fprintf(f, " (generation_config.json)\n");
    }
}
