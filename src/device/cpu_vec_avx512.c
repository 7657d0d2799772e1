/* Row kernels for AVX-512. */
#include <immintrin.h>
#include <stdint.h>
#define TARGET "avx512f,avx2,fma"
#define FN static __attribute__((target(TARGET)))
#define LANES 16
#define SET mb_vec_avx512
#define OP static inline __attribute__((always_inline, target(TARGET)))

typedef __m512 vec;
OP vec v_zero(void)
{
    return _mm512_setzero_ps();
}
OP vec v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
OP void v_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}
OP vec v_set1(float c)
{
    return _mm512_set1_ps(c);
}
OP vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
OP vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
OP vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}
OP vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

typedef __m512i ivec;
OP ivec iv_set1(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}
OP ivec iv_from(uint32_t x)
{
    return _mm512_add_epi32(_mm512_set1_epi32((int)x),
                            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}
OP ivec iv_xor(ivec a, ivec b)
{
    return _mm512_xor_si512(a, b);
}
OP void iv_store(uint32_t *p, ivec v)
{
    _mm512_storeu_si512(p, v);
}
OP ivec iv_mul(ivec a, uint32_t b, ivec *high)
{
    __m512i m = _mm512_set1_epi32((int)b);
    __m512i even = _mm512_mul_epu32(a, m), odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), m);
    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}
#include "device/cpu_vec_body.h"
