/* Dot-rule kernels for AVX2 + FMA. */
#include <immintrin.h>
#define TARGET "avx2,fma"
#define LANES 8
#define REGISTERS 16
#define OP static inline __attribute__((always_inline, target(TARGET)))

typedef __m256 vec;
OP vec v_zero(void)
{
    return _mm256_setzero_ps();
}
OP vec v_load(const float *p)
{
    return _mm256_load_ps(p);
}
OP void v_store(float *p, vec v)
{
    _mm256_store_ps(p, v);
}
OP vec v_set1(const float *p)
{
    return _mm256_broadcast_ss(p);
}
OP vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
OP vec v_even(const void *pair)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(pair), 16));
}
OP vec v_odd(const void *pair)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_load_si256(pair), _mm256_set1_epi32((int)0xffff0000)));
}
#include "device/cpu_tile_vec.h"

const struct mb_tile_kernels mb_tile_avx2 = {
    MB_ISA_AVX2, ROWS_MAX, 1, 1, MB_ROWS_F32, {tile_f32, tile_bf16}, mb_tile_nothing, mb_tile_nothing};
