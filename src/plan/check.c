/* The composition checker: which layouts the program runs, with the reason and the nearest one that works where it does not. */
#include "plan/plan.h"

#include "base/log.h"

/* A size that may not exceed the leaves of the sums it splits. */
static enum mb_status leaves(const char *option, int32_t size, const char *what, int64_t k, int64_t unit)
{
    int64_t begin[MB_MAX_LEAVES + 1];
    int32_t s = k > 0 ? mb_k_leaves(k, unit, begin) : size;

    if (size > s)
        return mb_error(MB_LAYOUT, "%s %d is more than the %d leaves of %s (%lld inputs); nearest size that works: %d", option, (int)size,
                        (int)s, what, (long long)k, (int)s);
    return MB_OK;
}

static enum mb_status check_tp(const struct mb_model *m, int32_t tp)
{
    const char *o = "--tensor-parallel-size";

    if (tp > MB_MAX_LEAVES)
        return mb_error(MB_LAYOUT, "%s %d is more than the %d leaves of the vocabulary; nearest size that works: %d", o, (int)tp,
                        MB_MAX_LEAVES, MB_MAX_LEAVES);
    MB_TRY(leaves(o, tp, "the attention output", (int64_t)m->heads * m->v_dim, m->v_dim));
    if (m->moe_layers < m->layers && m->ffn > 0)
        MB_TRY(leaves(o, tp, "the dense FFN", m->ffn, mb_k_unit(m->ffn)));
    if (m->shared_ffn > 0)
        MB_TRY(leaves(o, tp, "the shared expert", m->shared_ffn, mb_k_unit(m->shared_ffn)));
    return MB_OK;
}

enum mb_status mb_plan_check(const struct mb_model *m, const struct mb_plan_options *o, const struct mb_layout *l)
{
    if (l->tp > 1)
        MB_TRY(check_tp(m, l->tp));
    if (l->etp > 1 && m->moe_layers > 0)
        MB_TRY(leaves("--expert-tensor-parallel-size", l->etp, "an expert", m->expert_ffn, mb_k_unit(m->expert_ffn)));
    if (m->moe_layers == 0 && (l->etp > 1 || l->edp > 1 || l->attn > 0))
        return mb_error(MB_LAYOUT, "--expert-tensor-parallel-size, --expert-data-parallel-size and --disaggregate need experts, and the "
                        "model is dense; leave them out");
    if (o->mtp && (l->tp > 1 || l->sp > 1 || l->pp > 1))
        return mb_error(MB_LAYOUT, "--save-logits=all runs the model's MTP module, which needs --tensor-parallel-size, "
                        "--sequence-parallel-size and --pipeline-parallel-size of 1, not %d, %d and %d; nearest layout that works: data "
                        "and expert parallelism, or --save-logits=last", (int)l->tp, (int)l->sp, (int)l->pp);
    if (o->n_adapters > 0 && (l->tp > 1 || l->etp > 1))
        return mb_error(MB_LAYOUT, "--adapter with --tensor-parallel-size %d and --expert-tensor-parallel-size %d: adapters need 1 and 1; "
                        "nearest layout that works: the same ranks with --expert-parallel-size", (int)l->tp, (int)l->etp);
    return MB_OK;
}
