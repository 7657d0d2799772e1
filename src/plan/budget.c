/* Memory of a rank, predicted from shapes. What the engine and the exchange allocate is written down here
 * once more, as formulas; a test holds the prediction against the account of a real run. */
#include "plan/budget.h"

#define STAGING_MAX ((int64_t)64 << 20) /* one read of the weight reader, and its conversion */

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

static int64_t round_up(int64_t v, int64_t to)
{
    return v > INT64_MAX - to ? INT64_MAX : (v + to - 1) / to * to;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

int64_t mb_budget_weight(int64_t n, int64_t k, int32_t leaves, enum mb_dtype t)
{
    /* A leaf of a row-parallel weight is a multiple of its unit; only units below 32 need padding, and those
     * weights are small. One padded block a leaf bounds it. */
    int64_t padded =
        leaves <= 1 ? round_up(k, 32) : mb_sat_add(k, k % 32 || k / leaves % 32 ? 32 * (int64_t)leaves : 0);
    return mb_sat_mul(mb_sat_mul(round_up(n, 16), padded), mb_dtype_size(t));
}

/* Leaves of a row-parallel weight with K inputs (numerics, Leaves), as far as padding needs them. */
static int32_t leaves_of(int64_t k)
{
    return k <= 512 ? 8 : k < 2048 ? 4 : k < 8192 ? 8 : 16;
}

/* gate and up (one weight of 2I outputs) and down. */
static int64_t ffn_bytes(const struct mb_model *m, int64_t inner, enum mb_dtype t)
{
    return mb_sat_add(mb_budget_weight(2 * inner, m->hidden, 1, t),
                      mb_budget_weight(m->hidden, inner, leaves_of(inner), t));
}

static int64_t f32_bytes(int64_t n)
{
    return mb_sat_mul(n, 4);
}

int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path)
{
    int64_t bias = m->expert_bias ? f32_bytes(2 * (int64_t)m->expert_ffn + m->hidden) : 0;
    return mb_sat_add(ffn_bytes(m, m->expert_ffn, path), bias);
}

int64_t mb_budget_kv_page(const struct mb_model *m, enum mb_dtype kv)
{
    int64_t width =
        m->mla ? (int64_t)m->kv_lora + m->rope_mla : mb_sat_mul(m->kv_heads, (int64_t)m->head_dim + m->v_dim);
    return mb_sat_mul(mb_sat_mul(MB_KV_BLOCK, width), mb_sat_mul(mb_dtype_size(kv), m->layers));
}

static int64_t attention_bytes(const struct mb_model *m, enum mb_dtype t)
{
    int64_t q = mb_sat_mul(m->heads, m->head_dim), o = mb_sat_mul(m->heads, m->v_dim), sum;

    sum = mb_budget_weight(m->hidden, o, leaves_of(o), t);
    if (m->mla) {
        if (m->q_lora > 0)
            sum = mb_sat_add(sum, mb_budget_weight(m->q_lora, m->hidden, 1, t));
        sum = mb_sat_add(sum, mb_budget_weight(q, m->q_lora > 0 ? m->q_lora : m->hidden, 1, t));
        sum = mb_sat_add(sum, mb_budget_weight((int64_t)m->kv_lora + m->rope_mla, m->hidden, 1, t));
        /* absorbed: W_UK^T and W_UV, one small weight per head each */
        int64_t head = mb_sat_add(mb_budget_weight(m->kv_lora, m->nope, 1, t),
                                  mb_budget_weight(m->v_dim, m->kv_lora, 1, t));
        return mb_sat_add(sum, mb_sat_mul(head, m->heads));
    }
    int64_t kv = mb_sat_mul(m->kv_heads, (int64_t)m->head_dim + m->v_dim);
    sum = mb_sat_add(sum, mb_budget_weight(mb_sat_add(q, kv), m->hidden, 1, t));
    return mb_sat_add(sum, f32_bytes(mb_sat_add(q, kv))); /* biases and q/k norms, bounded */
}

static int64_t layer_bytes(const struct mb_model *m, int32_t layer, enum mb_dtype t)
{
    int64_t sum = mb_sat_add(attention_bytes(m, t), f32_bytes(6 * (int64_t)m->hidden)); /* norms, biases */

    if (!m->is_moe[layer])
        return mb_sat_add(sum, ffn_bytes(m, m->ffn, t));
    sum = mb_sat_add(sum, f32_bytes(mb_sat_mul(m->router.experts, (int64_t)m->hidden + 2)));
    if (m->shared_ffn > 0)
        sum = mb_sat_add(sum, ffn_bytes(m, m->shared_ffn, t));
    return sum;
}

/* Everything resident but routed experts. The embedding table stays as stored; a tied LM head is a second,
 * packed copy. */
static int64_t weight_bytes(const struct mb_model *m, enum mb_dtype t)
{
    /* the embedding is the first tensor of the sorted table; a model known only by its shapes has none */
    int64_t esize = m->n_tensors > 0 && m->tensors[0].storage == MB_STORE_BF16 ? 2 : 4;
    int64_t sum = mb_sat_mul(mb_sat_mul(m->vocab, m->hidden), esize);

    sum = mb_sat_add(sum, mb_budget_weight(m->vocab, m->hidden, 1, t));
    for (int32_t l = 0; l < m->layers; l++)
        sum = mb_sat_add(sum, layer_bytes(m, l, t));
    return sum;
}

/* (row, expert) pairs a rank computes in one step. Balanced routing gives rows * k; twice that is planned
 * for, never more than there can be. */
static int64_t expert_rows(const struct mb_model *m, const struct mb_plan *p, int32_t owned)
{
    int64_t worst = mb_sat_mul(mb_sat_mul(p->world, p->max_batch_rows), min64(m->router.k, owned));
    return min64(worst, mb_sat_mul(2 * (int64_t)p->max_batch_rows, m->router.k));
}

static int64_t activation_bytes(const struct mb_model *m, const struct mb_plan *p, enum mb_dtype t,
                                int32_t owned)
{
    int64_t ts = mb_dtype_size(t), h = m->hidden;
    int64_t q = mb_sat_mul(m->heads, m->mla ? (int64_t)m->kv_lora + m->rope_mla : m->head_dim);
    int64_t o = mb_sat_mul(m->heads, m->mla ? m->kv_lora : m->v_dim);
    int64_t kv =
        m->mla ? (int64_t)m->kv_lora + m->rope_mla : mb_sat_mul(m->kv_heads, (int64_t)m->head_dim + m->v_dim);
    int64_t inner = max64(m->ffn, m->shared_ffn);
    /* residual, unrounded norm, two sums (f32); norm output; q, k, v before and after; attention output;
     * gate-up, product */
    int64_t row = 4 * h * 4 + h * ts;
    row = mb_sat_add(row, mb_sat_add(mb_sat_mul(4 + ts, mb_sat_add(q, kv)), mb_sat_mul(ts, o)));
    row = mb_sat_add(row, mb_sat_mul(inner, 8 + ts));
    row = mb_sat_add(
        row, mb_sat_add(f32_bytes(m->vocab), f32_bytes(mb_sat_add(m->router.experts, 2 * m->router.k))));
    int64_t sum = mb_sat_mul(row, p->max_batch_rows);
    int64_t pair = mb_sat_add(mb_sat_mul(m->expert_ffn, 8 + ts), h * ts);
    if (m->router.experts > 0)
        sum = mb_sat_add(sum, mb_sat_mul(pair, expert_rows(m, p, owned)));
    return sum;
}

/* Send and receive sides of dispatch and combine, the sorted rows of the own experts, the share of the shared
 * segment. */
static int64_t exchange_bytes(const struct mb_model *m, const struct mb_plan *p,
                              const struct mb_plan_options *o, int32_t owned, int32_t node_ranks)
{
    if (m->router.experts == 0 || p->world == 1)
        return mb_sat_mul(mb_sat_mul(p->world, MB_XCHG_HEADER), 2);
    int64_t groups = p->alltoall == MB_A2A_HIER ? p->nodes : p->world;
    int64_t copies = mb_sat_mul(p->max_batch_rows, min64(m->router.k, groups));
    int64_t there = mb_plan_dispatch_row_bytes(m->router.k, m->hidden, o->path),
            back = 4 * (int64_t)m->hidden;
    int64_t sum = mb_sat_mul(2 * copies, mb_sat_add(there, back));

    sum = mb_sat_add(sum, mb_sat_mul(expert_rows(m, p, owned), mb_dtype_size(o->path) * (int64_t)m->hidden));
    sum = mb_sat_add(sum, mb_sat_mul(4 * (int64_t)p->world, MB_XCHG_HEADER));
    if (p->alltoall == MB_A2A_HIER && node_ranks > 1)
        sum = mb_sat_add(sum, (int64_t)(o->shm_bytes / (uint64_t)node_ranks));
    return sum;
}

/* The reader's block and its f32 form: as large as the largest weight read at once, at most STAGING_MAX each.
 */
static int64_t staging_bytes(const struct mb_model *m)
{
    int64_t largest =
        max64(mb_sat_mul(m->vocab, m->hidden), mb_sat_mul(2 * (int64_t)m->expert_ffn, m->hidden));
    return 2 * min64(f32_bytes(largest), STAGING_MAX);
}

struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, int32_t owned, int64_t expert_bytes,
                                 int32_t node_ranks)
{
    struct mb_budget b = {0};

    b.weights = weight_bytes(m, o->path);
    b.experts = expert_bytes;
    b.activations = activation_bytes(m, p, o->path, owned);
    b.exchange = exchange_bytes(m, p, o, owned, node_ranks);
    b.staging = staging_bytes(m);
    b.kv_page_bytes = mb_budget_kv_page(m, o->kv_dtype);
    return b;
}
