/* The composition checker: which layouts the program runs, with the reason where it does not. */
#include "plan/plan.h"

#define MOST_IDS 65536 /* an expert's number in an exchange is a u16 */

/* A size that may not exceed the leaves of the sums it splits. */
static enum mb_status leaves(char *why, const char *option, int32_t size, const char *what, int64_t k,
                             int64_t unit)
{
    int64_t begin[MB_MAX_LEAVES + 1];
    int32_t s = k > 0 ? mb_k_leaves(k, unit, begin) : size;

    if (size > s)
        return mb_layout_no(why, "%s %d is more than the %d leaves of %s (%lld inputs)", option, (int)size,
                            (int)s, what, (long long)k);
    return MB_OK;
}

/* The ranks of an attention group divide the heads of linear attention. */
static enum mb_status check_linear(const struct mb_model *m, const struct mb_layout *l, char *why)
{
    return leaves(why, l->sp == 1 ? "--tensor-parallel-size" : "--tensor-parallel-size times --sequence-parallel-size", l->tp * l->sp,
                  "the linear attention's output", (int64_t)m->delta.value_heads * m->delta.dv, m->delta.dv);
}

static enum mb_status check_tp(const struct mb_model *m, int32_t tp, char *why)
{
    const char *o = "--tensor-parallel-size";

    if (tp > MB_MAX_LEAVES)
        return mb_layout_no(why, "%s %d is more than the %d leaves of the vocabulary", o, (int)tp,
                            MB_MAX_LEAVES);
    MB_TRY(leaves(why, o, tp, "the attention output", (int64_t)m->heads * m->v_dim, m->v_dim));
    if (m->moe_layers < m->layers && m->ffn > 0)
        MB_TRY(leaves(why, o, tp, "the dense FFN", m->ffn, mb_k_unit(m->ffn)));
    if (m->shared_ffn > 0)
        MB_TRY(leaves(why, o, tp, "the shared expert", m->shared_ffn, mb_k_unit(m->shared_ffn)));
    return MB_OK;
}

static enum mb_status check_experts(const struct mb_model *m, const struct mb_layout *l, char *why)
{
    int64_t pad = 1;

    if (m->moe_layers == 0) {
        if (l->etp > 1 || l->edp > 1 || l->attn > 0 || l->lane_scope)
            return mb_layout_no(
                why, "--expert-tensor-parallel-size, --expert-data-parallel-size, --expert-scope lane and "
                     "--disaggregate need experts, and the model is dense");
        return MB_OK;
    }
    if (l->etp > 1)
        MB_TRY(leaves(why, "--expert-tensor-parallel-size", l->etp, "an expert", m->expert_ffn,
                      mb_k_unit(m->expert_ffn)));
    while (l->lane_scope && pad < m->router.experts)
        pad *= 2;
    if (l->lane_scope && l->pp * pad > MOST_IDS)
        return mb_layout_no(why,
                            "--expert-scope lane with --pipeline-parallel-size %d: %lld numbers for experts "
                            "in an exchange, at most %d",
                            (int)l->pp, (long long)(l->pp * pad), MOST_IDS);
    return MB_OK;
}

static enum mb_status check_zero(const struct mb_model *m, const struct mb_plan_options *o, const struct mb_layout *l, char *why)
{
    if (m->moe_layers == 0)
        return mb_layout_no(why, "--zero-inference keeps a part of the experts, and the model is dense");
    if (l->etp > 1)
        return mb_layout_no(why,
                            "--zero-inference with --expert-tensor-parallel-size %d: experts are fetched whole, which needs 1",
                            (int)l->etp);
    if (o->min_experts > m->router.experts)
        return mb_layout_no(why, "--min-experts %d is more than the %d experts of a layer", (int)o->min_experts,
                            (int)m->router.experts);
    return MB_OK;
}

static enum mb_status check_guesses(const struct mb_model *m, const struct mb_plan_guesses *g, char *why)
{
    if (g->most > 0 && m->linear_layers > 0)
        return mb_layout_no(why, "--speculative, but the state of this model's linear attention cannot go back behind a token that was "
                                 "guessed wrongly; use --speculative off");
    if (g->module && m->mtp_layers == 0)
        return mb_layout_no(why, "--speculative mtp, but this model has no MTP module; --speculative ngram needs none");
    return MB_OK;
}

enum mb_status mb_plan_refusal(const struct mb_model *m, const struct mb_plan_options *o,
                               const struct mb_layout *l, char why[MB_LAYOUT_TEXT])
{
    if (l->pp > m->layers)
        return mb_layout_no(why, "--pipeline-parallel-size %d, but the model has %d layers", (int)l->pp,
                            (int)m->layers);
    if (l->sp > MB_MAX_PARTS)
        return mb_layout_no(why, "--sequence-parallel-size %d is more than %d", (int)l->sp, MB_MAX_PARTS);
    if (l->tp > 1)
        MB_TRY(check_tp(m, l->tp, why));
    if (l->tp * l->sp > 1 && m->linear_layers > 0)
        MB_TRY(check_linear(m, l, why));
    MB_TRY(check_experts(m, l, why));
    MB_TRY(check_guesses(m, &o->guesses, why));
    if (o->zero > 0)
        MB_TRY(check_zero(m, o, l, why));
    return MB_OK;
}
