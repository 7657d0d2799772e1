/* Dot-rule kernels on AVX512_BF16: VDPBF16PS adds as cpu_tile_pairs.h says (measured on AMD Zen 5; the
 * self-test confirms it on the machine before it is used), with subnormals as zero whatever the mode. bf16
 * rows by bf16 weights only. Twice the rate of FMA on some machines and less than FMA on others:
 * mb_isa_choose measures. */
#include <immintrin.h>
#define TARGET "avx512f,avx512bw,avx512bf16"
#define OP static inline __attribute__((always_inline, target(TARGET)))

typedef __m512 vec;
typedef __m512i pairs;
OP vec v_zero(void)
{
    return _mm512_setzero_ps();
}
OP vec v_load(const float *p)
{
    return _mm512_load_ps(p);
}
OP void v_store(float *p, vec v)
{
    _mm512_store_ps(p, v);
}
OP vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
OP pairs p_load(const void *p)
{
    return _mm512_load_si512(p);
}
OP pairs p_set1(const void *p)
{
    return _mm512_set1_epi32(*(const int *)p);
}
OP pairs p_even(pairs a, pairs b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, b, _mm512_slli_epi32(a, 16));
}
OP pairs p_odd(pairs a, pairs b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(b, 16), a);
}
OP vec v_dot(pairs a, pairs b, vec sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}
#include "device/cpu_tile_pairs.h"

const struct mb_tile_kernels mb_tile_bf16 = {
    MB_ISA_BF16, ROWS_MAX, 1, 2, MB_ROWS_PAIRS, {NULL, tile_bf16}, mb_tile_nothing, mb_tile_nothing};
