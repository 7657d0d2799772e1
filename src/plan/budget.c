/* Resident memory of a rank, predicted from shapes: weights, experts, KV pages. What the engine allocates is
 * written down here once more, as formulas; mpi3_budget holds the prediction against the account of a real
 * run. */
#include "plan/budget.h"

#define PANEL 16 /* outputs are packed in panels of 16 */
#define BLOCK 32 /* and inputs in blocks of 32, from the start of each leaf */

int64_t mb_sat_mul(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t mb_sat_add(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t mb_sat_sum(const int64_t *v, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum = mb_sat_add(sum, v[i]);
    return sum;
}

static int64_t round_up(int64_t v, int64_t to)
{
    return v > INT64_MAX - to ? INT64_MAX : (v + to - 1) / to * to;
}

int64_t mb_budget_weight(int64_t n, int64_t k, int64_t unit, enum mb_dtype t)
{
    int64_t begin[MB_MAX_LEAVES + 1] = {0, k}, padded = 0;
    int32_t leaves = unit > 0 && k > 0 ? mb_k_leaves(k, unit, begin) : 1;

    for (int32_t i = 0; i < leaves; i++)
        padded = mb_sat_add(padded, round_up(begin[i + 1] - begin[i], BLOCK));
    return mb_sat_mul(mb_sat_mul(round_up(n, PANEL), padded), mb_dtype_size(t));
}

/* gate and up (one weight of 2I outputs) and down. */
static int64_t ffn_bytes(const struct mb_model *m, int64_t inner, enum mb_dtype t)
{
    return mb_sat_add(mb_budget_weight(2 * inner, m->hidden, 0, t),
                      mb_budget_weight(m->hidden, inner, mb_k_unit(inner), t));
}

static int64_t f32_bytes(int64_t n)
{
    return mb_sat_mul(n, 4);
}

int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path)
{
    return ffn_bytes(m, m->expert_ffn, path);
}

/* Keys of a page are packed like a weight with d inputs and a column per position, values like one with dv
 * outputs. */
int64_t mb_budget_kv_page(const struct mb_model *m, enum mb_dtype kv, bool mtp)
{
    int64_t keys = round_up(m->mla ? (int64_t)m->kv_lora + m->rope_mla : m->head_dim, BLOCK);
    int64_t width = m->mla ? keys : mb_sat_mul(m->kv_heads, mb_sat_add(keys, round_up(m->v_dim, PANEL)));
    int64_t layers = (int64_t)m->layers + (mtp ? m->mtp_layers : 0);

    return mb_sat_mul(mb_sat_mul(MB_KV_BLOCK, width), mb_sat_mul(mb_dtype_size(kv), layers));
}

static int64_t mla_bytes(const struct mb_model *m, enum mb_dtype t)
{
    int64_t q = mb_sat_mul(m->heads, m->head_dim), latent = (int64_t)m->kv_lora + m->rope_mla;
    int64_t q_in = m->q_lora > 0 ? m->q_lora : m->hidden;
    /* absorbed: W_UK^T and W_UV, one small weight per head each */
    int64_t head =
        mb_sat_add(mb_budget_weight(m->kv_lora, m->nope, 0, t), mb_budget_weight(m->v_dim, m->kv_lora, 0, t));

    return MB_SUM(m->q_lora > 0 ? mb_budget_weight(m->q_lora, m->hidden, 0, t) : 0,
                  mb_budget_weight(q, q_in, 0, t), mb_budget_weight(latent, m->hidden, 0, t),
                  mb_sat_mul(head, m->heads), f32_bytes((int64_t)m->q_lora + m->kv_lora));
}

static int64_t attention_bytes(const struct mb_model *m, enum mb_dtype t)
{
    int64_t q = mb_sat_mul(m->heads, m->head_dim), o = mb_sat_mul(m->heads, m->v_dim);
    int64_t qkv = mb_sat_add(q, mb_sat_mul(m->kv_heads, (int64_t)m->head_dim + m->v_dim));
    int64_t norms = m->qk_norm == MB_QKNORM_WHOLE  ? mb_sat_add(q, mb_sat_mul(m->kv_heads, m->head_dim))
                    : m->qk_norm == MB_QKNORM_HEAD ? 2 * (int64_t)m->head_dim
                                                   : 0;

    return MB_SUM(mb_budget_weight(m->hidden, o, m->v_dim, t), m->o_bias ? f32_bytes(m->hidden) : 0,
                  m->mla ? mla_bytes(m, t) : mb_budget_weight(qkv, m->hidden, 0, t),
                  m->qkv_bias ? f32_bytes(qkv) : 0, f32_bytes(norms), m->sinks ? f32_bytes(m->heads) : 0);
}

/* The router with its biases; a model known only by its shapes has none. */
static int64_t router_bytes(const struct mb_model *m, int32_t layer)
{
    bool bias = mb_model_tensor(m, MB_T_ROUTER_B, layer, -1) != NULL;
    bool choice = mb_model_tensor(m, MB_T_ROUTER_BIAS, layer, -1) != NULL;
    return f32_bytes(mb_sat_mul(m->router.experts, (int64_t)m->hidden + bias + choice));
}

static int64_t layer_bytes(const struct mb_model *m, int32_t layer, enum mb_dtype t)
{
    int64_t norms =
        f32_bytes((2 + 2 * (int64_t)m->post_norms) * m->hidden * (m->norm == MB_NORM_LAYER ? 2 : 1));
    int64_t sum = mb_sat_add(attention_bytes(m, t), norms);

    if (!m->is_moe[layer])
        return MB_SUM(sum, ffn_bytes(m, m->ffn, t),
                      m->mlp_bias ? f32_bytes(2 * (int64_t)m->ffn + m->hidden) : 0);
    return MB_SUM(sum, router_bytes(m, layer), m->shared_ffn > 0 ? ffn_bytes(m, m->shared_ffn, t) : 0,
                  m->shared_gate ? f32_bytes(m->hidden) : 0);
}

/* Everything resident but routed experts. The embedding table stays as stored; a tied LM head is a second,
 * packed copy. */
static int64_t weight_bytes(const struct mb_model *m, enum mb_dtype t, bool mtp, int64_t experts)
{
    /* the embedding is the first tensor of the sorted table; a model known only by its shapes has none */
    int64_t esize = m->n_tensors > 0 && m->tensors[0].storage == MB_STORE_BF16 ? 2 : 4;
    int64_t sum = MB_SUM(mb_sat_mul(mb_sat_mul(m->vocab, m->hidden), esize),
                         mb_budget_weight(m->vocab, m->hidden, 0, t),
                         f32_bytes((m->norm == MB_NORM_LAYER ? 2 : 1) * (int64_t)m->hidden),
                         m->head_bias ? f32_bytes(m->vocab) : 0);
    int32_t layers = m->layers + (mtp ? m->mtp_layers : 0);

    for (int32_t l = 0; l < layers; l++)
        sum = mb_sat_add(sum, layer_bytes(m, l, t));
    if (layers > m->layers)
        sum = MB_SUM(sum, mb_budget_weight(m->hidden, 2 * (int64_t)m->hidden, 0, t),
                     f32_bytes(3 * (int64_t)m->hidden));
    if (m->expert_bias)
        sum = mb_sat_add(sum, mb_sat_mul(experts, f32_bytes(2 * (int64_t)m->expert_ffn + m->hidden)));
    return sum;
}

struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, const struct mb_budget_rank *r)
{
    struct mb_budget b = {0};

    b.weights = mb_sat_add(weight_bytes(m, o->path, o->mtp, r->experts), r->adapters);
    b.experts = mb_sat_mul(r->experts, mb_budget_expert(m, o->path));
    b.activations = mb_budget_activations(m, p, o, r->owned);
    b.exchange = mb_budget_exchange(m, p, o, r);
    b.staging = mb_budget_staging(m, p, o);
    b.kv_page_bytes = mb_budget_kv_page(m, o->kv_dtype, o->mtp);
    return b;
}
