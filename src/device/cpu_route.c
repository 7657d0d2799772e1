/* Routers: from logits to chosen experts and their weights. */
#include <math.h>
#include <string.h>
#include "device/cpu_vec.h"

struct route {
    struct mb_view experts, weights, bad, z, bias;
    const struct mb_router *r;
    const struct mb_vec *vec;
    unsigned char *scratch; /* per thread: 3 E floats, E bytes */
    int64_t scratch_size;
};

/* One row under way. */
struct pick {
    const struct mb_router *r;
    const struct mb_vec *vec;
    const float *z;   /* [E] logits */
    float *score;     /* [E] what weights come from */
    float *choice;    /* [E] what is compared (may be score) */
    float *group;     /* [groups] */
    uint8_t *taken;   /* [E] */
    int32_t *experts; /* [k] */
    float *weights;   /* [k] */
};

/* Index of the largest of v[0..n) not yet taken, the lowest one of equals; marks it taken. */
static int32_t take_best(const float *v, int32_t n, uint8_t *taken)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || v[i] > v[best]))
            best = i;
    taken[best] = 1;
    return best;
}

static void take_k(struct pick *p)
{
    memset(p->taken, 0, (size_t)p->r->experts);
    for (int32_t j = 0; j < p->r->k; j++) {
        p->experts[j] = take_best(p->choice, p->r->experts, p->taken);
        p->weights[j] = p->score[p->experts[j]];
    }
}

static void softmax_all(struct pick *p)
{
    bool finite;
    int32_t E = p->r->experts;
    float m = p->vec->max(p->z, E, &finite);
    p->vec->exp_div(p->score, p->z, m, p->vec->r32_exp(p->z, m, E), E);
}

/* Score of a group of n choices: its largest, or the sum of its two largest. */
static float group_score(const float *v, int32_t n, bool two)
{
    float first = v[0], second = -INFINITY;
    for (int32_t i = 1; i < n; i++)
        if (v[i] > first) {
            second = first;
            first = v[i];
        } else if (v[i] > second)
            second = v[i];
    return two && n > 1 ? first + second : first;
}

/* Choices outside the topk_groups best groups become `masked`. */
static void limit_groups(struct pick *p, bool two, float masked)
{
    int32_t G = p->r->groups, n = p->r->experts / G;
    for (int32_t g = 0; g < G; g++)
        p->group[g] = group_score(p->choice + g * n, n, two);
    memset(p->taken, 0, (size_t)G);
    for (int32_t j = 0; j < p->r->topk_groups; j++)
        take_best(p->group, G, p->taken);
    for (int32_t i = 0; i < p->r->experts; i++)
        if (!p->taken[i / n])
            p->choice[i] = masked;
}

/* Softmax over the k chosen logits, in top-k order. */
static void topk_softmax(struct pick *p)
{
    p->score = p->choice;
    memcpy(p->choice, p->z, (size_t)p->r->experts * sizeof *p->z);
    take_k(p);
    float m = p->weights[0];
    float sum = p->vec->r32_exp(p->weights, m, p->r->k);
    p->vec->exp_div(p->weights, p->weights, m, sum, p->r->k);
}

/* Sigmoid of each of the k largest logits. */
static void topk_sigmoid(struct pick *p)
{
    memcpy(p->choice, p->z, (size_t)p->r->experts * sizeof *p->z);
    p->vec->sigmoid(p->score, p->z, p->r->experts);
    take_k(p);
}

static void softmax_pairs(struct pick *p)
{
    softmax_all(p);
    memcpy(p->choice, p->score, (size_t)p->r->experts * sizeof *p->score);
    limit_groups(p, true, 0.0f);
    take_k(p);
}

/* Choice by score + bias. */
static void add_bias(struct pick *p, const float *bias)
{
    if (bias != NULL)
        p->vec->add(p->choice, p->score, bias, p->r->experts);
    else
        memcpy(p->choice, p->score, (size_t)p->r->experts * sizeof *p->score);
}

/* PhiMoE: per expert, the largest z wins, its weight is the softmax over those within a relative 2 eps of it;
 * for the second expert the first is left out. */
static void sparsemixer(struct pick *p)
{
    int32_t E = p->r->experts;
    float limit = 2.0f * p->r->eps;
    memset(p->taken, 0, (size_t)E);
    for (int32_t j = 0; j < p->r->k; j++) {
        int32_t best = take_best(p->z, E, p->taken);
        float m = p->z[best];
        for (int32_t i = 0; i < E; i++) {
            float a = fabsf(p->z[i]), scale = a > m ? a : m;
            bool out = (p->taken[i] && i != best) || (m - p->z[i]) / scale > limit;
            p->score[i] = out ? 0.0f : mb_expf(p->z[i] - m);
        }
        p->experts[j] = best;
        p->weights[j] = p->score[best] / p->vec->r32_sum(p->score, E);
    }
}

static void choose(struct pick *p, const float *bias)
{
    int32_t E = p->r->experts;
    switch (p->r->kind) {
    case MB_ROUTER_SOFTMAX:
    case MB_ROUTER_SOFTMAX_GROUPED:
        softmax_all(p);
        p->choice = p->score;
        if (p->r->kind == MB_ROUTER_SOFTMAX_GROUPED)
            limit_groups(p, false, 0.0f);
        take_k(p);
        break;
    case MB_ROUTER_SIGMOID_GROUPED:
        p->vec->sigmoid(p->score, p->z, E);
        add_bias(p, bias);
        limit_groups(p, true, -INFINITY);
        take_k(p);
        break;
    case MB_ROUTER_TOPK_SOFTMAX:
        topk_softmax(p);
        break;
    case MB_ROUTER_SPARSEMIXER:
        sparsemixer(p);
        break;
    case MB_ROUTER_SOFTMAX_PAIRS:
        softmax_pairs(p);
        break;
    case MB_ROUTER_SOFTMAX_BIAS:
        softmax_all(p);
        add_bias(p, bias);
        take_k(p);
        break;
    case MB_ROUTER_TOPK_SIGMOID:
        topk_sigmoid(p);
        break;
    }
}

/* ||w||_p: exactly Σ|w| for 1 and sqrt(Σw^2) for 2; else by exp and log. */
static float p_norm(const struct pick *p, float *tmp)
{
    int32_t k = p->r->k;
    float e = p->r->p;
    if (e == 2.0f)
        return sqrtf(p->vec->r32_dot(p->weights, p->weights, k));
    for (int32_t j = 0; j < k; j++) {
        float a = fabsf(p->weights[j]);
        tmp[j] = e == 1.0f ? a : mb_expf(e * mb_logf(a));
    }
    float sum = p->vec->r32_sum(tmp, k);
    return e == 1.0f ? sum : mb_expf(mb_logf(sum) / e);
}

static void renormalise(struct pick *p)
{
    int32_t k = p->r->k;
    float by = 0;
    switch (p->r->renorm) {
    case MB_RENORM_NONE:
        break;
    case MB_RENORM_SUM:
        by = p->vec->r32_sum(p->weights, k);
        break;
    case MB_RENORM_SUM_EPS:
        by = p->vec->r32_sum(p->weights, k) + 1e-20f;
        break;
    case MB_RENORM_PNORM:
        by = p_norm(p, p->score);
        break;
    case MB_RENORM_SUM_MIN:
        by = p->vec->r32_sum(p->weights, k);
        by = by > p->r->least ? by : p->r->least;
        break;
    }
    if (p->r->renorm != MB_RENORM_NONE)
        p->vec->div(p->weights, p->weights, by, k);
    if (p->r->scale != 1.0f)
        p->vec->mul(p->weights, p->weights, p->r->scale, k);
}

static void route_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct route *t = arg;
    int32_t E = t->r->experts;
    float *f = (float *)(void *)(t->scratch + thread * t->scratch_size);
    const float *bias = mb_has_view(t->bias) ? mb_row_f32(t->bias, 0) : NULL;
    for (int64_t i = begin; i < end; i++) {
        bool finite;
        struct pick p = {t->r,
                         t->vec,
                         mb_row_f32(t->z, i),
                         f,
                         f + E,
                         f + 2 * E,
                         (uint8_t *)(f + 3 * E),
                         mb_row_i32(t->experts, i),
                         mb_row_f32(t->weights, i)};
        t->vec->max(p.z, E, &finite);
        *mb_row_i32(t->bad, i) = !finite;
        if (finite) {
            choose(&p, bias);
            renormalise(&p);
            continue;
        }
        for (int32_t j = 0; j < t->r->k; j++) {
            p.experts[j] = j;
            p.weights[j] = 0;
        }
    }
}

enum mb_status mb_cpu_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights,
                            struct mb_view bad, struct mb_view z, struct mb_view bias,
                            const struct mb_router *r)
{
    MB_TRY(mb_check_route(experts, weights, bad, z, bias, r));
    int64_t size = ((int64_t)r->experts * 13 + 63) / 64 * 64;
    struct route t = {experts, weights, bad, z, bias, r, mb_vec_of(s->dev), NULL, size};
    t.scratch = mb_cpu_scratch(s, (uint64_t)(size * s->dev->threads));
    if (t.scratch == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, z.rows, mb_grain(r->experts, 4 * (int64_t)r->k), route_rows, &t);
    return MB_OK;
}
