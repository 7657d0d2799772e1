/* config.json: shapes and mechanisms except rope and router. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"

/* Limits of sizes: far above every published model, far below what could overflow later. */
enum { MAX_LAYERS = 4096, MAX_WIDTH = 1 << 20, MAX_HEADS = 4096, MAX_VOCAB = 1 << 24 };

static enum mb_status need_i32(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int32_t *out)
{
    int64_t x;
    MB_TRY(mb_cfg_need_int(c, keys, lo, hi, &x));
    *out = (int32_t)x;
    return MB_OK;
}

static enum mb_status get_flag(const struct mb_cfg *c, struct mb_flag f, bool *out)
{
    *out = f.value;
    return f.key == NULL ? MB_OK : mb_cfg_bool(c, f.key, out);
}

static enum mb_status load_sizes(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t pos = 0;
    MB_TRY(need_i32(c, "num_hidden_layers|n_layers", 1, MAX_LAYERS, &m->layers));
    MB_TRY(need_i32(c, "hidden_size|d_model", 1, MAX_WIDTH, &m->hidden));
    MB_TRY(need_i32(c, "vocab_size", 1, MAX_VOCAB, &m->vocab));
    MB_TRY(need_i32(c, "num_attention_heads|n_heads", 1, MAX_HEADS, &m->heads));
    MB_TRY(mb_cfg_need_int(c, "max_position_embeddings|max_seq_len", 1, (int64_t)1 << 31, &pos));
    m->max_positions = pos;
    return MB_OK;
}

static enum mb_status load_gqa(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    int64_t kv = m->heads, d = 0;
    bool found;

    MB_TRY(mb_cfg_int(c, "num_key_value_heads|attn_config.kv_n_heads", 1, MAX_HEADS, &kv, NULL));
    if (m->heads % kv != 0)
        return mb_error(MB_MODEL, "%s: num_key_value_heads: expected a divisor of the %d heads, found %lld", c->path, m->heads,
                        (long long)kv);
    MB_TRY(mb_cfg_int(c, "head_dim|attention_head_dim", 1, MAX_WIDTH, &d, &found));
    if (a->head_default > 0 && json_object_get(c->root, "head_dim") == NULL && !found) {
        d = a->head_default;
        found = true;
    }
    if (!found && m->hidden % m->heads != 0)
        return mb_error(MB_MODEL, "%s: num_attention_heads: expected a divisor of hidden_size %d where head_dim is not given, "
                        "found %d", c->path, m->hidden, m->heads);
    m->kv_heads = (int32_t)kv;
    m->head_dim = found ? (int32_t)d : m->hidden / m->heads;
    m->v_dim = m->head_dim;
    m->rope_dim = m->head_dim;
    return MB_OK;
}

static enum mb_status load_mla(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t q_lora = 0;

    MB_TRY(mb_cfg_int(c, "q_lora_rank", 1, MAX_WIDTH, &q_lora, NULL));
    m->q_lora = (int32_t)q_lora;
    MB_TRY(need_i32(c, "kv_lora_rank", 1, MAX_WIDTH, &m->kv_lora));
    MB_TRY(need_i32(c, "qk_nope_head_dim", 1, MAX_WIDTH, &m->nope));
    MB_TRY(need_i32(c, "qk_rope_head_dim", 1, MAX_WIDTH, &m->rope_mla));
    MB_TRY(need_i32(c, "v_head_dim", 1, MAX_WIDTH, &m->v_dim));
    m->mla = true;
    m->kv_heads = m->heads;
    m->head_dim = m->nope + m->rope_mla;
    m->rope_dim = m->rope_mla;
    return MB_OK;
}

static enum mb_status load_norm(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    double eps = a->eps_default;
    bool normed;

    if (!a->eps_fixed)
        MB_TRY(mb_cfg_real(c, "rms_norm_eps|layer_norm_eps", 1e-30, 1, &eps, NULL));
    m->norm = a->norm;
    m->norm_eps = (float)eps;
    m->latent_eps = (float)a->latent_eps;
    m->post_norms = a->post_norms;
    m->norm_bias = a->norm_bias;
    m->norm_plus_one = a->norm_plus_one;
    m->q_gate = a->q_gate;
    MB_TRY(get_flag(c, a->qk_norm_if, &normed));
    m->qk_norm = normed || a->qk_norm_if.key == NULL ? a->qk_norm : MB_QKNORM_NONE;
    return MB_OK;
}

static enum mb_status load_act(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    static const struct {
        const char *name;
        enum mb_act_kind kind;
    } acts[] = {{"silu", MB_ACT_SILU}, {"swish", MB_ACT_SILU}, {"gelu", MB_ACT_GELU_ERF},
                {"gelu_new", MB_ACT_GELU_TANH}, {"gelu_pytorch_tanh", MB_ACT_GELU_TANH}};
    const char *name = "silu";
    double limit = 7;

    m->act = a->act < 0 ? MB_ACT_SILU : (enum mb_act_kind)a->act;
    if (m->act == MB_ACT_SWIGLU_CLAMPED) {
        MB_TRY(mb_cfg_real(c, "swiglu_limit", 1e-6, 1e6, &limit, NULL));
        m->act_limit = (float)limit;
        return MB_OK;
    }
    if (a->act >= 0)
        return MB_OK;
    MB_TRY(mb_cfg_str(c, "hidden_act|ffn_config.ffn_act_fn.name", &name, NULL));
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        if (strcmp(acts[i].name, name) == 0) {
            m->act = acts[i].kind;
            return MB_OK;
        }
    }
    return mb_error(MB_MODEL, "%s: hidden_act: expected silu, gelu or gelu_pytorch_tanh, found \"%.60s\"", c->path, name);
}

static enum mb_status load_float(const struct mb_cfg *c, const char *key, bool optional, float *out)
{
    double x = 1;

    if (key == NULL)
        return MB_OK;
    MB_TRY(optional ? mb_cfg_real(c, key, 1e-9, 1e9, &x, NULL) : mb_cfg_need_real(c, key, 1e-9, 1e9, &x));
    *out = (float)x;
    return MB_OK;
}

static enum mb_status load_scalars(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    double clip = 0;
    bool opt = a->scalars_optional;

    m->embed_scale = m->logit_scale = m->residual_scale = 1;
    MB_TRY(load_float(c, a->embed_key, opt, &m->embed_scale));
    MB_TRY(load_float(c, a->logit_key, opt, &m->logit_scale));
    MB_TRY(load_float(c, a->residual_key, opt, &m->residual_scale));
    MB_TRY(load_float(c, a->softcap_key, false, &m->softcap));
    if (a->logit_divides)
        m->logit_scale = (float)(1 / (double)m->logit_scale);
    m->attn_scale = (float)(1 / sqrt((double)m->head_dim));
    MB_TRY(load_float(c, a->scale_key, opt, &m->attn_scale));
    if (a->clip_key != NULL)
        MB_TRY(mb_cfg_real(c, a->clip_key, 1e-6, 1e9, &clip, NULL));
    m->clip_qkv = (float)clip;
    m->sinks = a->sinks;
    return MB_OK;
}

static enum mb_status load_flags(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    MB_TRY(get_flag(c, a->tied, &m->tied));
    MB_TRY(get_flag(c, a->head_bias, &m->head_bias));
    MB_TRY(get_flag(c, a->qkv_bias, &m->qkv_bias));
    MB_TRY(get_flag(c, a->o_bias, &m->o_bias));
    MB_TRY(get_flag(c, a->mlp_bias, &m->mlp_bias));
    m->expert_bias = a->expert_bias;
    return MB_OK;
}

/* ---------------------------------------------------------------- layers that do not rotate */
/* A list of one entry a layer, 1: rotates; absent, null or empty: all but every no_rope_layer_interval-th. */
static enum mb_status load_still(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    int64_t interval = 4;
    size_t n = 0;

    m->still = calloc((size_t)m->layers + 1, 1);
    int64_t *rotates = calloc((size_t)m->layers + 1, sizeof *rotates);
    enum mb_status st = m->still != NULL && rotates != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    if (st == MB_OK && a->still_layers)
        st = mb_cfg_ints(c, "no_rope_layers", 0, 1, rotates, (size_t)m->layers, &n);
    if (st == MB_OK && a->still_layers)
        st = mb_cfg_int(c, "no_rope_layer_interval", 1, INT32_MAX, &interval, NULL);
    if (st == MB_OK && n != 0 && n != (size_t)m->layers)
        st = mb_error(MB_MODEL, "%s: no_rope_layers: expected a list of %d, found %zu", c->path, m->layers, n);
    for (int32_t l = 0; st == MB_OK && a->still_layers && l < m->layers; l++)
        m->still[l] = n > 0 ? rotates[l] == 0 : (l + 1) % interval == 0;
    free(rotates);
    return st;
}

/* attn_temperature_tuning: queries of layers that do not rotate grow with the position. Some files have a number for true. */
static enum mb_status load_growth(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    double growth = 0.1, unit = 8192;
    const json_t *v;

    if (!a->still_layers)
        return MB_OK;
    MB_TRY(mb_cfg_get(c, "attn_temperature_tuning", &v, NULL, 0));
    if (v != NULL && (json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0)))
        return MB_OK;
    MB_TRY(mb_cfg_real(c, "attn_scale", 0, 1e6, &growth, NULL));
    MB_TRY(mb_cfg_real(c, "floor_scale", 1, 1e12, &unit, NULL));
    m->q_growth = growth;
    m->q_unit = unit;
    m->q_shift = 1;
    m->q_still_only = true;
    return MB_OK;
}

/* ---------------------------------------------------------------- windows */
static bool types_rule(enum mb_window_rule r)
{
    return r == WIN_ALTERNATE || r == WIN_BEHIND || r == WIN_CHUNKS;
}

/* layer_types, where it is given, must say what the windows say, except where it is the rule. */
static enum mb_status load_layer_types(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, int32_t window)
{
    const char *name = a->window == WIN_CHUNKS ? "chunked_attention" : "sliding_attention";
    const json_t *v;
    char text[96];

    MB_TRY(mb_cfg_get(c, "layer_types", &v, NULL, 0));
    if (v == NULL)
        return MB_OK;
    if (!json_is_array(v) || json_array_size(v) != (size_t)m->layers)
        return mb_error(MB_MODEL, "%s: layer_types: expected a list of %d, found %s", c->path, m->layers,
                        mb_cfg_text(v, text, sizeof text));
    for (int32_t l = 0; l < m->layers; l++) {
        const json_t *x = json_array_get(v, (size_t)l);
        const char *s = json_string_value(x);
        bool slides = s != NULL && strcmp(s, name) == 0, indexed = s != NULL && a->indexer && strcmp(s, "indexed_attention") == 0;
        if (!slides && !indexed && (s == NULL || strcmp(s, "full_attention") != 0))
            return mb_error(MB_MODEL, "%s: layer_types: expected %s or full_attention, found %s", c->path, name,
                            mb_cfg_text(x, text, sizeof text));
        if (!types_rule(a->window) && slides != (m->window[l] > 0))
            return mb_error(MB_MODEL, "%s: layer_types: expected %s for layer %d of %s, found %s (mixed layers are not supported)",
                            c->path, slides ? "full_attention" : name, l, a->name, s);
        m->window[l] = slides ? window : 0;
    }
    return MB_OK;
}

static bool has_window(const struct mb_model *m, enum mb_window_rule r, int32_t l, int64_t from)
{
    switch (r) {
    case WIN_NONE:
        return false;
    case WIN_ALL:
        return true;
    case WIN_ALTERNATE:
        return l % 2 == 0;
    case WIN_BEHIND:
        return l >= from;
    case WIN_CHUNKS:
        return !m->still[l];
    }
    return false;
}

static enum mb_status load_windows(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    const char *key = a->window == WIN_CHUNKS ? "attention_chunk_size" : "sliding_window";
    int64_t w = json_object_get(c->root, key) == NULL ? a->window_default : 0, from = 0;

    m->window = calloc((size_t)m->layers + 1, sizeof *m->window);
    if (m->window == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    if (a->window != WIN_NONE)
        MB_TRY(mb_cfg_int(c, key, 1, INT32_MAX, &w, NULL));
    if (a->window == WIN_BEHIND && w > 0)
        MB_TRY(mb_cfg_need_int(c, "max_window_layers", 0, INT32_MAX, &from));
    for (int32_t l = 0; l < m->layers; l++)
        m->window[l] = has_window(m, a->window, l, from) ? (int32_t)w : 0;
    m->chunked = a->window == WIN_CHUNKS;
    if (a->delta)
        return MB_OK; /* layer_types say something else */
    if (a->window == WIN_ALTERNATE && w == 0)
        return mb_error(MB_MODEL, "%s: sliding_window: expected an integer from 1 to %d, found null", c->path, INT32_MAX);
    return load_layer_types(m, a, c, (int32_t)w);
}

/* ---------------------------------------------------------------- what is not supported */
/* Keys "a|b" that are there must say `want`; a number counts as true unless it is 0. */
static enum mb_status want_flags(const struct mb_arch *a, const struct mb_cfg *c, const char *keys, bool want)
{
    char key[64], text[96];
    const json_t *v;

    for (const char *p = keys; p != NULL && *p != 0;) {
        size_t n = strcspn(p, "|");
        memcpy(key, p, n);
        key[n] = 0;
        MB_TRY(mb_cfg_get(c, key, &v, NULL, 0));
        bool set = json_is_true(v) || (json_is_number(v) && json_number_value(v) != 0);
        if (v != NULL && !json_is_boolean(v) && !json_is_number(v))
            return mb_error(MB_MODEL, "%s: %s: expected true or false, found %s", c->path, key, mb_cfg_text(v, text, sizeof text));
        if (v != NULL && set != want)
            return mb_error(MB_MODEL, "%s: %s: expected %s (another value is not supported for %s), found %s", c->path, key,
                            want ? "true" : "false", a->name, mb_cfg_text(v, text, sizeof text));
        p += n + (p[n] == '|');
    }
    return MB_OK;
}

static enum mb_status load_storage(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *name = "bfloat16";

    MB_TRY(mb_cfg_str(c, "torch_dtype", &name, NULL)); /* old form */
    MB_TRY(mb_cfg_str(c, "dtype", &name, NULL));
    q->storage = strcmp(name, "float32") == 0 ? MB_STORE_F32 : strcmp(name, "float16") == 0 ? MB_STORE_F16 : MB_STORE_BF16;
    return MB_OK;
}

/* Mechanisms that would change every result, under whatever model_type they come. */
static enum mb_status refuse_mechanisms(const struct mb_arch *a, const struct mb_cfg *c)
{
    static const char *const keys[] = {"index_topk", "index_n_heads", "linear_num_key_heads", "linear_num_value_heads",
                                       "linear_attn_config"};
    const json_t *v;

    for (size_t i = a->indexer ? 2 : 0; i < sizeof keys / sizeof keys[0]; i++) {
        MB_TRY(mb_cfg_get(c, keys[i], &v, NULL, 0));
        if (v != NULL && !(a->delta && strncmp(keys[i], "linear_num", 10) == 0))
            return mb_error(MB_MODEL, "%s: %s: expected nothing (%s is not supported), found a value", c->path, keys[i],
                            keys[i][0] == 'i' ? "sparse attention by an indexer" : "linear attention");
    }
    return MB_OK;
}

enum mb_status mb_load_config(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, struct mb_quant *q)
{
    MB_TRY(load_storage(c, q));
    MB_TRY(refuse_mechanisms(a, c));
    MB_TRY(want_flags(a, c, a->refuse, false));
    MB_TRY(want_flags(a, c, a->demand, true));
    MB_TRY(mb_load_quant(c, q));
    MB_TRY(load_sizes(m, c));
    MB_TRY(a->mla ? load_mla(m, c) : load_gqa(m, a, c));
    if ((int64_t)m->heads * m->head_dim > MAX_WIDTH || (int64_t)m->heads * m->v_dim > MAX_WIDTH)
        return mb_error(MB_MODEL, "%s: num_attention_heads: expected heads x width of at most %d, found %d x %d", c->path,
                        MAX_WIDTH, m->heads, m->head_dim > m->v_dim ? m->head_dim : m->v_dim);
    MB_TRY(load_norm(m, a, c));
    MB_TRY(load_act(m, a, c));
    MB_TRY(load_flags(m, a, c));
    MB_TRY(load_scalars(m, a, c));
    MB_TRY(load_still(m, a, c));
    MB_TRY(load_growth(m, a, c));
    MB_TRY(a->delta ? mb_load_delta(m, c) : MB_OK);
    MB_TRY(load_windows(m, a, c));
    return a->indexer ? mb_load_indexer(m, a, c) : MB_OK;
}
