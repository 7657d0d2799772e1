/* Routers: from logits to chosen experts and their weights, a warp a row. What the CPU's route.c does one after the other is done by
 * lanes; sums are R32, lane j having the terms j, j + 32, ... */
#include "cuda/row.h"
#include "cuda/select.h"

namespace {

enum { WARPS = 8 };

/* One row under way. Arrays are in shared memory. */
struct pick {
    const struct mb_router *r;
    const float *z;   /* [E] logits */
    float *score;     /* [E] what weights come from */
    float *choice;    /* [E] what is compared (may be score) */
    float *group;     /* [E] */
    float *weights;   /* [k] */
    int32_t *experts; /* [k] */
    uint8_t *taken;   /* [E] */
};
MB_DEVICE size_t pick_bytes(int32_t experts, int32_t k)
{
    return ((static_cast<size_t>(experts) * 3 + 2 * static_cast<size_t>(k)) * 4 + static_cast<size_t>(experts) + 15) / 16 * 16;
}

/* Index of the largest of v[0..n) not yet taken, the lowest one of equals; marks it taken. NaN: only if it comes first. */
MB_DEVICE int32_t take_best(const float *v, int32_t n, uint8_t *taken)
{
    struct mb_best b = {0, -1}, first = {0, -1};

    for (int32_t i = mb_lane(); i < n; i += MB_WARP) {
        if (taken[i])
            continue;
        struct mb_best c = {v[i], i};
        if (first.at < 0)
            first.at = i;
        if (c.v == c.v)
            b = mb_better(b, c);
    }
    b = mb_warp_best(b);
    first = mb_warp_best(first); /* all 0: the lowest place */
    if (b.at < 0 || v[first.at] != v[first.at])
        b.at = first.at;
    __syncwarp();
    if (mb_lane() == 0)
        taken[b.at] = 1;
    __syncwarp();
    return b.at;
}

MB_DEVICE void clear(uint8_t *taken, int32_t n)
{
    for (int32_t i = mb_lane(); i < n; i += MB_WARP)
        taken[i] = 0;
    __syncwarp();
}

MB_DEVICE void put(const struct pick &p, int32_t j, int32_t expert, float weight)
{
    if (mb_lane() == 0) {
        p.experts[j] = expert;
        p.weights[j] = weight;
    }
    __syncwarp();
}

MB_DEVICE void take_k(const struct pick &p)
{
    clear(p.taken, p.r->experts);
    for (int32_t j = 0; j < p.r->k; j++) {
        int32_t e = take_best(p.choice, p.r->experts, p.taken);
        put(p, j, e, p.score[e]);
    }
}

MB_DEVICE float largest(const float *z, int32_t n)
{
    float m = -INFINITY;

    for (int32_t i = mb_lane(); i < n; i += MB_WARP)
        m = z[i] > m ? z[i] : m;
    for (int d = 16; d > 0; d /= 2) {
        float o = __shfl_xor_sync(MB_ALL, m, d);
        m = o > m ? o : m;
    }
    return m + 0.0f; /* -0 and +0 are one value */
}

MB_DEVICE float sum_exp(const float *z, float m, int32_t n)
{
    return mb_r32_terms(n, [=](float p, int64_t i) { return p + mb_expf_inl(z[i] - m); });
}

MB_DEVICE void exp_div(float *out, const float *z, float m, float l, int32_t n)
{
    for (int32_t i = mb_lane(); i < n; i += MB_WARP)
        out[i] = mb_expf_inl(z[i] - m) / l;
    __syncwarp();
}

MB_DEVICE void softmax_all(const struct pick &p)
{
    int32_t E = p.r->experts;
    float m = largest(p.z, E);

    exp_div(p.score, p.z, m, sum_exp(p.z, m, E), E);
}

MB_DEVICE void copy(float *to, const float *from, int32_t n)
{
    for (int32_t i = mb_lane(); i < n; i += MB_WARP)
        to[i] = from[i];
    __syncwarp();
}

/* Score of a group of n choices: its largest, or the sum of its two largest. */
MB_DEVICE float group_score(const float *v, int32_t n, bool two)
{
    float first = v[0], second = -INFINITY;

    for (int32_t i = 1; i < n; i++)
        if (v[i] > first) {
            second = first;
            first = v[i];
        } else if (v[i] > second) {
            second = v[i];
        }
    return two && n > 1 ? first + second : first;
}

/* Choices outside the topk_groups best groups become `masked`. */
MB_DEVICE void limit_groups(const struct pick &p, bool two, float masked)
{
    int32_t G = p.r->groups, n = p.r->experts / G;

    for (int32_t g = mb_lane(); g < G; g += MB_WARP)
        p.group[g] = group_score(p.choice + g * n, n, two);
    clear(p.taken, G);
    for (int32_t j = 0; j < p.r->topk_groups; j++)
        (void)take_best(p.group, G, p.taken);
    for (int32_t i = mb_lane(); i < p.r->experts; i += MB_WARP)
        if (!p.taken[i / n])
            p.choice[i] = masked;
    __syncwarp();
}

MB_DEVICE void sigmoids(const struct pick &p)
{
    for (int32_t i = mb_lane(); i < p.r->experts; i += MB_WARP)
        p.score[i] = mb_sigmoidf_inl(p.z[i]);
    __syncwarp();
}

/* Choice by score + bias. */
MB_DEVICE void add_bias(const struct pick &p, const float *bias)
{
    for (int32_t i = mb_lane(); i < p.r->experts; i += MB_WARP)
        p.choice[i] = bias != nullptr ? p.score[i] + bias[i] : p.score[i];
    __syncwarp();
}

/* Softmax over the k chosen logits, in top-k order. */
MB_DEVICE void topk_softmax(const struct pick &p)
{
    copy(p.score, p.z, p.r->experts);
    take_k(p);
    float m = p.weights[0], sum = sum_exp(p.weights, m, p.r->k);
    __syncwarp();
    exp_div(p.weights, p.weights, m, sum, p.r->k);
}

/* PhiMoE: per expert, the largest z wins, its weight is the softmax over those within a relative 2 eps of it; for the second expert
 * the first is left out. */
MB_DEVICE void sparsemixer(const struct pick &p)
{
    int32_t E = p.r->experts;
    float limit = 2.0f * p.r->eps;

    clear(p.taken, E);
    for (int32_t j = 0; j < p.r->k; j++) {
        int32_t best = take_best(p.z, E, p.taken);
        float m = p.z[best];
        for (int32_t i = mb_lane(); i < E; i += MB_WARP) {
            float a = fabsf(p.z[i]), scale = a > m ? a : m;
            bool out = (p.taken[i] && i != best) || (m - p.z[i]) / scale > limit;
            p.score[i] = out ? 0.0f : mb_expf_inl(p.z[i] - m);
        }
        __syncwarp();
        float sum = mb_r32_sum_of(p.score, E);
        put(p, j, best, p.score[best] / sum);
    }
}

MB_DEVICE void choose(struct pick &p, const float *bias)
{
    int32_t E = p.r->experts;

    switch (p.r->kind) {
    case MB_ROUTER_SOFTMAX:
    case MB_ROUTER_SOFTMAX_GROUPED:
        softmax_all(p);
        p.choice = p.score;
        if (p.r->kind == MB_ROUTER_SOFTMAX_GROUPED)
            limit_groups(p, false, 0.0f);
        break;
    case MB_ROUTER_SIGMOID_GROUPED:
        sigmoids(p);
        add_bias(p, bias);
        limit_groups(p, true, -INFINITY);
        break;
    case MB_ROUTER_TOPK_SOFTMAX:
        p.choice = p.score;
        topk_softmax(p);
        return;
    case MB_ROUTER_SPARSEMIXER:
        sparsemixer(p);
        return;
    case MB_ROUTER_SOFTMAX_PAIRS:
        softmax_all(p);
        copy(p.choice, p.score, E);
        limit_groups(p, true, 0.0f);
        break;
    case MB_ROUTER_SOFTMAX_BIAS:
        softmax_all(p);
        add_bias(p, bias);
        break;
    default: /* MB_ROUTER_TOPK_SIGMOID */
        copy(p.choice, p.z, E);
        sigmoids(p);
        break;
    }
    take_k(p);
}

/* ||w||_p: exactly sum |w| for 1 and sqrt(sum w^2) for 2; else by exp and log. */
MB_DEVICE float p_norm(const struct pick &p)
{
    const float *w = p.weights;
    float e = p.r->p;

    if (e == 2.0f)
        return sqrtf(mb_r32_dot_of(w, w, p.r->k));
    float sum = mb_r32_terms(p.r->k, [=](float s, int64_t i) {
        float a = fabsf(w[i]);
        return s + (e == 1.0f ? a : mb_expf_inl(e * mb_logf_inl(a)));
    });
    return e == 1.0f ? sum : mb_expf_inl(mb_logf_inl(sum) / e);
}

MB_DEVICE void renormalise(const struct pick &p)
{
    int32_t k = p.r->k;
    float by = p.r->renorm == MB_RENORM_PNORM ? p_norm(p) : mb_r32_sum_of(p.weights, k);

    if (p.r->renorm == MB_RENORM_SUM_EPS)
        by = by + 1e-20f;
    if (p.r->renorm == MB_RENORM_SUM_MIN)
        by = by > p.r->least ? by : p.r->least;
    for (int32_t j = mb_lane(); j < k; j += MB_WARP) {
        float w = p.weights[j];
        w = p.r->renorm != MB_RENORM_NONE ? w / by : w;
        p.weights[j] = p.r->scale != 1.0f ? w * p.r->scale : w;
    }
    __syncwarp();
}

MB_DEVICE bool all_finite(const float *z, int32_t n)
{
    bool odd = false;

    for (int32_t i = mb_lane(); i < n; i += MB_WARP)
        odd |= (mb_bits_of(z[i]) & 0x7f800000u) == 0x7f800000u;
    return !__any_sync(MB_ALL, odd);
}

__global__ void __launch_bounds__(WARPS *MB_WARP)
    route_kernel(struct mb_mat experts, struct mb_mat weights, struct mb_mat bad, struct mb_mat z, struct mb_mat bias,
                 struct mb_router r, int warps)
{
    MB_SHARED(uint8_t, shared);
    int64_t row = static_cast<int64_t>(blockIdx.x) * warps + mb_warp();
    if (row >= z.rows)
        return;
    float *f = reinterpret_cast<float *>(shared + static_cast<size_t>(mb_warp()) * pick_bytes(r.experts, r.k));
    int32_t E = r.experts;
    struct pick p = {&r, mb_row_f32(z, row), f, f + E, f + 2 * E, f + 3 * E, reinterpret_cast<int32_t *>(f + 3 * E + r.k), nullptr};

    p.taken = reinterpret_cast<uint8_t *>(p.experts + r.k);
    bool finite = all_finite(p.z, E);
    if (finite) {
        choose(p, bias.p != nullptr ? mb_row_f32(bias, 0) : nullptr);
        renormalise(p);
    }
    for (int32_t j = mb_lane(); j < r.k; j += MB_WARP) {
        mb_row_i32(experts, row)[j] = finite ? p.experts[j] : j;
        mb_row_f32(weights, row)[j] = finite ? p.weights[j] : 0;
    }
    if (mb_lane() == 0)
        *mb_row_i32(bad, row) = !finite;
}

} // namespace

extern "C" cudaError_t mb_k_route(cudaStream_t s, struct mb_mat experts, struct mb_mat weights, struct mb_mat bad, struct mb_mat z,
                                  struct mb_mat bias, const struct mb_router *r)
{
    size_t each = ((static_cast<size_t>(r->experts) * 3 + 2 * static_cast<size_t>(r->k)) * 4 + static_cast<size_t>(r->experts) + 15) / 16 * 16;
    int warps = WARPS;

    if (z.rows == 0)
        return cudaSuccess;
    while (warps > 1 && static_cast<size_t>(warps) * each > (48u << 10))
        warps /= 2;
    return MB_LAUNCH(route_kernel, dim3(static_cast<uint32_t>((z.rows + warps - 1) / warps)), dim3(static_cast<uint32_t>(warps * MB_WARP)),
                     static_cast<size_t>(warps) * each, s, experts, weights, bad, z, bias, *r, warps);
}
