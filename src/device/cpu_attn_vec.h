/* One source of struct mb_attn_vec (cpu_attn.h). The including file defines FN (static, with its target; flatten, so that
 * the elementary functions are compiled for it too) and SET, the table's name. "omp simd" says that elements are
 * independent; no sum crosses lanes. */
#include <math.h>
#include "base/mb_math_inl.h"
#include "device/cpu_attn.h"

/* clang needs no hint, and warns where it can't follow one */
#ifdef __clang__
#define SIMD
#else
#define SIMD _Pragma("omp simd")
#endif

/* largest score; what it is beside a NaN does not matter: a NaN score makes l and every output NaN */
FN float largest(const float s[MB_KV_BLOCK])
{
    float part[MB_PANEL];
    SIMD for (int i = 0; i < MB_PANEL; i++)
    {
        float a = s[i] > s[i + 16] ? s[i] : s[i + 16];
        float b = s[i + 32] > s[i + 48] ? s[i + 32] : s[i + 48];
        part[i] = a > b ? a : b;
    }
    float m = -INFINITY;
    for (int i = 0; i < MB_PANEL; i++)
        m = part[i] > m ? part[i] : m;
    return m;
}

/* R32 of 64 values */
FN float sum_r32(const float p[MB_KV_BLOCK])
{
    float t[32];
    SIMD for (int i = 0; i < 32; i++) t[i] = p[i] + p[i + 32];
    SIMD for (int i = 0; i < 16; i++) t[i] = t[i] + t[i + 16];
    SIMD for (int i = 0; i < 8; i++) t[i] = t[i] + t[i + 8];
    for (int n = 4; n >= 1; n /= 2)
        for (int i = 0; i < n; i++)
            t[i] = t[i] + t[i + n];
    return t[0];
}

FN float softmax(struct mb_attn_block *b, float s[MB_KV_BLOCK])
{
    const float scale = b->scale, cap = b->softcap;
    const int32_t first = b->first, last = b->last;
    float seen[MB_KV_BLOCK];
    SIMD for (int i = 0; i < MB_KV_BLOCK; i++) s[i] = s[i] * scale;
    if (cap != 0.0f)
        SIMD for (int i = 0; i < MB_KV_BLOCK; i++) s[i] = cap * mb_tanhf_inl(s[i] / cap);
    SIMD for (int i = 0; i < MB_KV_BLOCK; i++) seen[i] = i >= first && i <= last ? s[i] : -INFINITY;
    float m = largest(seen), alpha = 1.0f;
    if (b->present) {
        m = b->m > m ? b->m : m;
        alpha = mb_expf_inl(b->m - m);
    }
    SIMD for (int i = 0; i < MB_KV_BLOCK; i++) s[i] = mb_expf_inl(s[i] - m);
    SIMD for (int i = 0; i < MB_KV_BLOCK; i++) s[i] = i >= first && i <= last ? s[i] : 0.0f;
    float sum = sum_r32(s);
    b->l = b->present ? fmaf(b->l, alpha, sum) : sum;
    b->m = m;
    b->present = true;
    return alpha;
}

FN void round_bf16(float s[MB_KV_BLOCK])
{
    SIMD for (int i = 0; i < MB_KV_BLOCK; i++)
    {
        uint32_t u = mb_bits_of(s[i]);
        uint32_t even = u + 0x7fffu + ((u >> 16) & 1), quiet = u | 0x400000u;
        s[i] = mb_float_of(((u & 0x7fffffffu) > 0x7f800000u ? quiet : even) & 0xffff0000u);
    }
}

FN void fold(float *restrict o, const float *restrict pv, float alpha)
{
    SIMD for (int i = 0; i < MB_PANEL; i++) o[i] = fmaf(o[i], alpha, pv[i]);
}

FN void join(float *restrict o1, const float *restrict o2, float e1, float e2)
{
    SIMD for (int i = 0; i < MB_PANEL; i++) o1[i] = fmaf(o1[i], e1, o2[i] * e2);
}

FN void weigh_index(float *restrict sum, const float *restrict s, const float *restrict w, int32_t n, float scale)
{
    for (int32_t h = 0; h < n; h++)
        SIMD for (int i = 0; i < MB_PANEL; i++)
        {
            float x = s[h * MB_PANEL + i] * scale;
            sum[i] = fmaf(w[h], x > 0.0f ? x : 0.0f, sum[i]);
        }
}

const struct mb_attn_vec SET = {softmax, round_bf16, fold, join, weigh_index};
