/* Memory of LoRA adapters, predicted from the shapes of their matrices. A is f32 as stored, B a packed GEMM
 * weight. */
#include "plan/budget.h"

/* A [r, in] and B [out, r] of the part of a weight. */
static int64_t pair_bytes(int64_t r, int64_t in, int64_t out, enum mb_dtype t)
{
    return mb_sat_add(mb_sat_mul(mb_sat_mul(r, in), 4), mb_budget_weight(out, r, 0, MB_WHOLE, t));
}

/* Absorbed MLA: a head's terms are a pair for its queries and one for its outputs. */
static int64_t kv_b_bytes(const struct mb_model *m, int64_t r, struct mb_part_of s, enum mb_dtype t)
{
    int64_t head = mb_sat_add(pair_bytes(r, m->nope, m->kv_lora, t), pair_bytes(r, m->kv_lora, m->v_dim, t));
    return mb_sat_mul(head, mb_part_heads(m, s.r, s.of).heads);
}

static int64_t lora_bytes(const struct mb_model *m, const struct mb_lora *l, struct mb_part_of s,
                          enum mb_dtype t)
{
    enum mb_role role = (enum mb_role)l->a.role;
    struct mb_part_matrix w = mb_part_matrix(m, role, l->b.n, l->a.k, s.r, s.of);

    return role == MB_T_KV_B ? kv_b_bytes(m, l->a.n, s, t) : pair_bytes(l->a.n, w.k1 - w.k0, w.n1 - w.n0, t);
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

/* A pair on an expert, to every slice of every shard that holds it; `all`: the shards of the stage or lane.
 */
static void add_routed(const struct mb_model *m, const struct mb_plan *p, const struct mb_lora *l,
                       enum mb_dtype t, int64_t *all)
{
    int32_t etp = p->layout.etp, n;
    const int32_t *h = mb_placement_holders(p->placement, moe_index(m, l->a.layer), l->a.expert, &n);

    for (int32_t j = 0; j < n; j++) {
        for (int32_t x = 0; x < etp; x++) {
            int64_t *to = &all[(int64_t)h[j] * etp + x];
            *to = mb_sat_add(*to, lora_bytes(m, l, (struct mb_part_of){x, etp}, t));
        }
    }
}

void mb_budget_adapters(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                        int64_t *dense, int64_t *routed)
{
    const struct mb_layout *l = &p->layout;

    for (int32_t k = 0; k < o->n_adapters; k++) {
        const struct mb_adapter *a = o->adapters[k];
        for (int64_t i = 0; i < a->n_loras; i++) {
            const struct mb_lora *lo = &a->loras[i];
            int64_t s = stage_of(p, lo->a.layer);
            if (mb_role_of_expert((enum mb_role)lo->a.role)) {
                add_routed(m, p, lo, o->path, routed + (l->lane_scope ? 0 : s * l->ep * l->etp));
                continue;
            }
            for (int32_t t = 0; t < l->tp; t++) {
                int64_t *to = &dense[s * l->tp + t];
                *to = mb_sat_add(*to, lora_bytes(m, lo, (struct mb_part_of){t, l->tp}, o->path));
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

int64_t mb_budget_adapter_rank(const struct mb_plan_options *o)
{
    int64_t r = 0;

    for (int32_t i = 0; i < o->n_adapters; i++)
        r = mb_most(r, o->adapters[i]->rank);
    return r;
}

int64_t mb_budget_adapter_width(const struct mb_budget_view *v)
{
    const struct mb_model *m = v->m;
    int64_t own = mb_part_heads(m, v->tensor.r, v->tensor.of).heads;
    int64_t heads = mb_most(mb_sat_mul(own, m->head_dim), mb_sat_mul(own, m->v_dim));
    int64_t ffn = mb_most(mb_part_width(m->ffn, v->tensor.r, v->tensor.of),
                          mb_part_width(m->shared_ffn, v->tensor.r, v->tensor.of));
    int64_t mla = mb_most(m->q_lora, (int64_t)m->kv_lora + m->rope_mla);

    ffn = mb_most(ffn, mb_part_width(m->expert_ffn, v->slice.r, v->slice.of));
    return mb_most(mb_most(m->hidden, heads), mb_most(ffn, mla));
}
