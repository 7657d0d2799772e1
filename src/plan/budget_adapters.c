/* Memory of LoRA adapters, predicted from the shapes of their matrices. A is f32 as stored, B a packed GEMM
 * weight. */
#include "plan/budget.h"

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t pair_bytes(int64_t r, int64_t in, int64_t out, enum mb_dtype t)
{
    return mb_sat_add(mb_sat_mul(mb_sat_mul(r, in), 4), mb_budget_weight(out, r, 0, t));
}

/* Absorbed MLA: a head's terms are a pair for its queries and one for its outputs. */
static int64_t kv_b_bytes(const struct mb_model *m, int64_t r, enum mb_dtype t)
{
    int64_t head = mb_sat_add(pair_bytes(r, m->nope, m->kv_lora, t), pair_bytes(r, m->kv_lora, m->v_dim, t));
    return mb_sat_mul(head, m->heads);
}

/* The row of the placement that a layer of the model has. */
static int32_t moe_index(const struct mb_model *m, int32_t layer)
{
    int32_t lm = 0;
    for (int32_t l = 0; l < layer; l++)
        lm += m->is_moe[l];
    return lm;
}

static bool holds(const struct mb_placement *pl, int32_t lm, int32_t expert, int32_t shard)
{
    int32_t n;
    const int32_t *h = mb_placement_holders(pl, lm, expert, &n);

    for (int32_t i = 0; i < n; i++) {
        if (h[i] == shard)
            return true;
    }
    return false;
}

static int64_t adapter_bytes(const struct mb_model *m, const struct mb_placement *pl,
                             const struct mb_adapter *a, enum mb_dtype path, int32_t index)
{
    int64_t sum = 0;

    for (int64_t i = 0; i < a->n_loras; i++) {
        const struct mb_tensor *ta = &a->loras[i].a, *tb = &a->loras[i].b;
        bool routed = mb_role_of_expert((enum mb_role)ta->role);
        if (routed && !holds(pl, moe_index(m, ta->layer), ta->expert, index))
            continue;
        sum = mb_sat_add(sum, ta->role == MB_T_KV_B ? kv_b_bytes(m, ta->n, path)
                                                    : pair_bytes(ta->n, ta->k, tb->n, path));
    }
    return sum;
}

int64_t mb_budget_adapters(const struct mb_model *m, const struct mb_placement *pl,
                           const struct mb_plan_options *o, int32_t index)
{
    int64_t sum = 0;

    for (int32_t i = 0; i < o->n_adapters; i++)
        sum = mb_sat_add(sum, adapter_bytes(m, pl, o->adapters[i], o->path, index));
    return sum;
}

bool mb_budget_tagged(const struct mb_plan_options *o)
{
    for (int32_t i = 0; i < o->n_adapters; i++) {
        if (mb_adapter_on_experts(o->adapters[i]))
            return true;
    }
    return false;
}

/* The widest input or output of a weight that a term can be added to. */
static int64_t widest(const struct mb_model *m)
{
    int64_t heads = max64(mb_sat_mul(m->heads, m->head_dim), mb_sat_mul(m->heads, m->v_dim));
    int64_t ffn = max64(max64(m->ffn, m->expert_ffn), m->shared_ffn);
    int64_t mla = max64(m->q_lora, (int64_t)m->kv_lora + m->rope_mla);
    return max64(max64(m->hidden, heads), max64(ffn, mla));
}

/* Input and term in f32, A x in f32 for each leaf of K and once in the type of the path; MLA's heads and the
 * experts' outputs before they are rounded. */
int64_t mb_budget_adapter_rows(const struct mb_model *m, const struct mb_plan *p,
                               const struct mb_plan_options *o, int64_t expert_rows)
{
    int64_t r = 0, heads = m->mla ? mb_sat_mul(m->heads, max64(m->kv_lora, m->v_dim)) : 0;
    bool unrounded = mb_budget_tagged(o) && o->path != MB_F32;

    if (o->n_adapters == 0)
        return 0;
    for (int32_t i = 0; i < o->n_adapters; i++)
        r = max64(r, o->adapters[i]->rank);
    int64_t row =
        MB_SUM(mb_sat_mul(widest(m), 8), mb_sat_mul(r, 4 * (MB_MAX_LEAVES + 1)), mb_sat_mul(heads, 4));
    return MB_SUM(mb_sat_mul(row, p->max_batch_rows),
                  unrounded ? mb_sat_mul(expert_rows, 4 * (int64_t)m->hidden) : 0);
}
