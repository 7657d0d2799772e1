#include "base/numerics.h"

#include <math.h>
#include "base/mb_math.h"
#include "base/mb_math_inl.h"
#include "base/numerics_inl.h"

/* ---------------------------------------------------------------- sums */
/* One block of the dot rule: the two chains, missing products as zeros. */
static float dot_block(const float *x, const float *w, int64_t n)
{
    float e = 0, o = 0;
    for (int64_t k = 0; k < 32; k += 2) {
        e = fmaf(k < n ? x[k] : 0, k < n ? w[k] : 0, e);
        o = fmaf(k + 1 < n ? x[k + 1] : 0, k + 1 < n ? w[k + 1] : 0, o);
    }
    return e + o;
}

float mb_dot(const float *x, const float *w, int64_t n)
{
    float c = 0;
    for (int64_t k = 0; k < n; k += 32)
        c = c + dot_block(x + k, w + k, n - k);
    return c;
}

float mb_r32_end(float p[32])
{
    for (int d = 16; d > 0; d /= 2)
        for (int j = 0; j < d; j++)
            p[j] = p[j] + p[j + d];
    return p[0];
}

float mb_r32_sum(const float *x, int64_t n)
{
    float p[32] = {0};
    for (int64_t i = 0; i < n; i++)
        p[i % 32] = p[i % 32] + x[i];
    return mb_r32_end(p);
}

float mb_r32_sq(const float *x, int64_t n)
{
    return mb_r32_dot(x, x, n);
}

float mb_r32_dot(const float *x, const float *w, int64_t n)
{
    float p[32] = {0};
    for (int64_t i = 0; i < n; i++)
        p[i % 32] = fmaf(x[i], w[i], p[i % 32]);
    return mb_r32_end(p);
}

/* ---------------------------------------------------------------- trees */
int32_t mb_tree_split(const int32_t *pos, int32_t n)
{
    uint32_t differ = (uint32_t)pos[0] ^ (uint32_t)pos[n - 1];
    uint32_t bit = 1u << (31 - __builtin_clz(differ));
    int32_t lo = 0, hi = n - 1; /* pos[lo] lacks the bit, pos[hi] has it */
    while (hi - lo > 1) {
        int32_t mid = lo + (hi - lo) / 2;
        if ((uint32_t)pos[mid] & bit)
            hi = mid;
        else
            lo = mid;
    }
    return hi;
}

float mb_tree_sum(const float *v, const int32_t *pos, int32_t n)
{
    if (n == 1)
        return v[0];
    int32_t m = mb_tree_split(pos, n);
    float left = mb_tree_sum(v, pos, m);
    return left + mb_tree_sum(v + m, pos + m, n - m);
}

/* Nodes of the sub-list [at, at + n) appended to first and count, of which *got are filled. */
static void maximal(const int32_t *pos, const uint8_t *held, int32_t at, int32_t n, int32_t *first,
                    int32_t *count, int32_t *got)
{
    int32_t have = 0;
    for (int32_t i = at; i < at + n; i++)
        have += held[i] != 0;
    if (have == n) {
        first[*got] = at;
        count[(*got)++] = n;
    } else if (have > 0) {
        int32_t m = mb_tree_split(pos + at, n);
        maximal(pos, held, at, m, first, count, got);
        maximal(pos, held, at + m, n - m, first, count, got);
    }
}

int32_t mb_tree_maximal(const int32_t *pos, const uint8_t *held, int32_t n, int32_t *first, int32_t *count)
{
    int32_t got = 0;
    if (n > 0)
        maximal(pos, held, 0, n, first, count, &got);
    return got;
}

/* ---------------------------------------------------------------- leaves */
int32_t mb_k_leaves_of(int64_t K, int64_t unit, int32_t want, int64_t begin[MB_MAX_LEAVES + 1])
{
    int64_t U = unit > 0 ? K / unit + (K % unit != 0) : K;
    int64_t S = U < want ? U : want;
    S = S < 1 ? 1 : S > MB_MAX_LEAVES ? MB_MAX_LEAVES : S;
    for (int64_t i = 0; i <= S; i++) {
        int64_t at = i * U / S * unit;
        begin[i] = at < K && i < S ? at : K;
    }
    return (int32_t)S;
}

int32_t mb_k_leaves(int64_t K, int64_t unit, int64_t begin[MB_MAX_LEAVES + 1])
{
    int32_t want = K <= 512 ? 8 : K < 2048 ? 4 : K < 8192 ? 8 : 16;
    return mb_k_leaves_of(K, unit, want, begin);
}

/* ---------------------------------------------------------------- expressions */
struct mb_osm mb_osm_join(struct mb_osm a, struct mb_osm b, float *e1, float *e2)
{
    return mb_osm_join_inl(a, b, e1, e2);
}

float mb_silu(float g)
{
    return mb_silu_inl(g);
}

float mb_gelu_erf(float g)
{
    return mb_gelu_erf_inl(g);
}

float mb_gelu_tanh(float g)
{
    return mb_gelu_tanh_inl(g);
}

float mb_swiglu_clamped(float g, float u, float limit)
{
    return mb_swiglu_clamped_inl(g, u, limit);
}

float mb_softcap(float s, float cap)
{
    return mb_softcap_inl(s, cap);
}

float mb_softplus(float x)
{
    return mb_softplus_inl(x);
}

float mb_gumbel_of(uint32_t x)
{
    return mb_gumbel_of_inl(x);
}

float mb_gumbel(uint64_t key, int64_t position, int32_t id)
{
    return mb_gumbel_inl(key, position, id);
}
