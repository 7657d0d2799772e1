/* Attention's inner loops over the keys of one block and over output vectors; one source (cpu_attn_vec.h),
 * compiled once per ISA, lanes are elements: every set has the same bits. They expect the contract's
 * floating-point mode. */
#ifndef MB_DEVICE_CPU_ATTN_H
#define MB_DEVICE_CPU_ATTN_H
#include "device/cpu_kv.h"

/* One (row, head) in one block of 64 keys, of which keys first..last (within the block) are visible. */
struct mb_attn_block {
    int32_t first, last;
    float scale, softcap;
    float m, l; /* the state before (present) and after */
    bool present;
};
struct mb_attn_vec {
    /* s: 64 raw dots, becomes p = mb_expf(s - m'), masked keys +0; updates m and l and returns alpha (1 if
     * the state was absent). */
    float (*softmax)(struct mb_attn_block *b, float s[MB_KV_BLOCK]);
    /* s rounded to bf16 and back */
    void (*round)(float s[MB_KV_BLOCK]);
    /* n vectors of 16: o = pv, or o = fmaf(o, alpha, pv) */
    void (*fold)(float *o, const float *pv, float alpha);
    /* o1 = fmaf(o1, e1, o2 * e2), 16 floats */
    void (*join)(float *o1, const float *o2, float e1, float e2);
    /* sum = fmaf(w[h], max(s[h] * scale, 0), sum) for heads h ascending; sum: 16 keys, s: [n][16] raw dots */
    void (*index)(float *sum, const float *s, const float *w, int32_t n, float scale);
};
const struct mb_attn_vec *mb_attn_vec_of(enum mb_isa isa);
extern const struct mb_attn_vec mb_attn_portable, mb_attn_avx2, mb_attn_avx512;
#endif
