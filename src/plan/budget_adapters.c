/* Memory of LoRA adapters, predicted from the shapes of their matrices. A is f32 as stored, B a packed GEMM
 * weight. */
#include "plan/budget.h"

static int64_t pair_bytes(int64_t r, int64_t in, int64_t out, enum mb_dtype t)
{
    return mb_sat_add(mb_sat_mul(mb_sat_mul(r, in), 4), mb_budget_weight(out, r, 0, MB_WHOLE, t));
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

static int32_t stage_of(const struct mb_plan *p, int32_t layer)
{
    int32_t s = 0;
    while (s + 1 < p->layout.pp && layer >= p->first_layer[s + 1])
        s++;
    return s;
}

void mb_budget_adapters(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                        int64_t *dense, int64_t *routed)
{
    for (int32_t k = 0; k < o->n_adapters; k++) {
        const struct mb_adapter *a = o->adapters[k];
        for (int64_t i = 0; i < a->n_loras; i++) {
            const struct mb_tensor *ta = &a->loras[i].a, *tb = &a->loras[i].b;
            int32_t s = stage_of(p, ta->layer), n;
            int64_t bytes = ta->role == MB_T_KV_B ? kv_b_bytes(m, ta->n, o->path)
                                                  : pair_bytes(ta->n, ta->k, tb->n, o->path);
            if (!mb_role_of_expert((enum mb_role)ta->role)) {
                dense[s] = mb_sat_add(dense[s], bytes);
                continue;
            }
            const int32_t *h = mb_placement_holders(p->placement, moe_index(m, ta->layer), ta->expert, &n);
            for (int32_t j = 0; j < n; j++) {
                int64_t *to = &routed[(p->layout.lane_scope ? 0 : (int64_t)s * p->layout.ep) + h[j]];
                *to = mb_sat_add(*to, bytes);
            }
        }
    }
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
    int64_t heads = mb_most(mb_sat_mul(m->heads, m->head_dim), mb_sat_mul(m->heads, m->v_dim));
    int64_t ffn = mb_most(mb_most(m->ffn, m->expert_ffn), m->shared_ffn);
    int64_t mla = mb_most(m->q_lora, (int64_t)m->kv_lora + m->rope_mla);
    return mb_most(mb_most(m->hidden, heads), mb_most(ffn, mla));
}

/* Input and term in f32, A x in f32 for each leaf of K and once in the type of the path. */
int64_t mb_budget_adapter_rows(const struct mb_model *m, const struct mb_plan *p,
                               const struct mb_plan_options *o)
{
    int64_t r = 0;

    if (o->n_adapters == 0)
        return 0;
    for (int32_t i = 0; i < o->n_adapters; i++)
        r = mb_most(r, o->adapters[i]->rank);
    return mb_sat_mul(mb_sat_add(mb_sat_mul(widest(m), 8), mb_sat_mul(r, 4 * (MB_MAX_LEAVES + 1))),
                      p->max_batch_rows);
}
