/* Row kernels for AVX2 + FMA. */
#include <immintrin.h>
#include <stdint.h>
#define TARGET "avx2,fma"
#define FN static __attribute__((target(TARGET)))
#define LANES 8
#define SET mb_vec_avx2
#define OP static inline __attribute__((always_inline, target(TARGET)))

typedef __m256 vec;
OP vec v_zero(void)
{
    return _mm256_setzero_ps();
}
OP vec v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
OP void v_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}
OP vec v_set1(float c)
{
    return _mm256_set1_ps(c);
}
OP vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
OP vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
OP vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}
OP vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

typedef __m256i ivec;
OP ivec iv_set1(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}
OP ivec iv_from(uint32_t x)
{
    return _mm256_add_epi32(_mm256_set1_epi32((int)x), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
OP ivec iv_xor(ivec a, ivec b)
{
    return _mm256_xor_si256(a, b);
}
OP void iv_store(uint32_t *p, ivec v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}
OP ivec iv_mul(ivec a, uint32_t b, ivec *high)
{
    __m256i m = _mm256_set1_epi32((int)b);
    __m256i even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
#include "device/cpu_vec_body.h"
