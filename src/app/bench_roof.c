#include "app/bench_roof.h"

#include <math.h>
#include <string.h>

/* Weights that rows are multiplied with; vectors and the embedding are none. */
static bool is_matrix(const struct mb_tensor *t)
{
    return t->n > 1 && t->k > 1 && t->role != MB_T_EMBED;
}

void mb_roof_of(const struct mb_model *m, double element, double kv, struct mb_roof *out)
{
    struct mb_roof r = {.m = m, .experts = m->router.experts, .k = m->router.k, .copies = 1, .lanes = 1};

    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = &m->tensors[i];
        double weights = (double)t->n * (double)t->k;
        if (!is_matrix(t) || t->layer >= m->layers || t->role == MB_T_HEAD)
            continue;
        if (t->expert >= 0) {
            r.token_flops += t->expert < m->router.k ? 2 * weights : 0; /* all experts have one size */
            r.expert_bytes += t->expert == 0 ? weights * element : 0;
        } else {
            r.token_flops += 2 * weights;
            r.dense_bytes += weights * (t->role == MB_T_ROUTER ? 4 : element);
        }
    }
    /* the head, its own or the embedding */
    r.head_flops = 2.0 * m->vocab * m->hidden;
    r.dense_bytes += (double)m->vocab * m->hidden * element;
    double width = m->mla ? m->kv_lora + m->rope_mla : (double)m->kv_heads * (m->head_dim + m->v_dim);
    const struct mb_delta_shape *d = &m->delta;
    double cells = (double)d->value_heads * d->dk * d->dv * m->linear_layers;
    r.kv_bytes = width * kv * (m->layers - m->linear_layers);
    r.state_bytes = 8 * cells;
    r.token_flops += 7 * cells;
    *out = r;
}

double mb_roof_attention(const struct mb_roof *r, double ctx)
{
    const struct mb_model *m = r->m;
    double each = m->mla ? 2.0 * m->heads * (2.0 * m->kv_lora + m->rope_mla)
                         : 2.0 * m->heads * (m->head_dim + m->v_dim),
           sum = 0;

    for (int32_t l = 0; l < m->layers; l++) {
        if (mb_is_linear(m, l))
            continue;
        double seen = m->window[l] > 0 && m->window[l] < ctx ? m->window[l] : ctx;
        sum += each * seen;
    }
    return sum;
}

double mb_roof_prompt(const struct mb_roof *r, int64_t n)
{
    double sum = (double)n * r->token_flops + r->head_flops;

    for (int64_t p = 1; p <= n; p++)
        sum += mb_roof_attention(r, (double)p);
    return sum;
}

double mb_roof_bytes(const struct mb_roof *r, double b, double positions)
{
    double reached =
        r->experts > 0 ? r->experts * (1 - pow(1 - r->k / r->experts, b / r->lanes)) * r->lanes : 0;

    return r->dense_bytes * fmin(r->copies, b) + reached * r->expert_bytes + positions * r->kv_bytes + b * r->state_bytes;
}

double mb_roof_seconds(const struct mb_roof *r, double flops, double bytes)
{
    return fmax(flops / r->flops, bytes / r->read);
}

double mb_roof_step(const struct mb_roof *r, double b, double ctx)
{
    double flops = b * (r->token_flops + r->head_flops + mb_roof_attention(r, ctx));

    return mb_roof_seconds(r, flops, mb_roof_bytes(r, b, b * ctx));
}

json_t *mb_roof_json(const struct mb_roof *r)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "flops", r->flops,
                     "read", r->read, "token_flops", r->token_flops, "head_flops", r->head_flops,
                     "attention_flops_at_1", mb_roof_attention(r, 1), "dense_bytes", r->dense_bytes,
                     "expert_bytes", r->expert_bytes, "kv_bytes", r->kv_bytes, "state_bytes", r->state_bytes, "experts", r->experts, "k",
                     r->k, "copies", r->copies, "lanes", r->lanes);
}
