/* Dot-rule kernels for AVX-512F: f32 FMA in the order of the AMX instruction. */
#include <immintrin.h>
#define TARGET "avx512f,avx2,fma"
#define LANES 16
#define REGISTERS 32
#define OP static inline __attribute__((always_inline, target(TARGET)))

typedef __m512 vec;
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
OP vec v_set1(const float *p)
{
    return _mm512_set1_ps(*p);
}
OP vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
OP vec v_even(const void *pair)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(pair), 16));
}
OP vec v_odd(const void *pair)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_load_si512(pair), _mm512_set1_epi32((int)0xffff0000)));
}
#include "device/cpu_tile_vec.h"

const struct mb_tile_kernels mb_tile_avx512 = {
    MB_ISA_AVX512, ROWS_MAX, 1, 2, MB_ROWS_F32, {tile_f32, tile_bf16}, mb_tile_nothing, mb_tile_nothing};
