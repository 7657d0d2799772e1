/* Row kernels for AVX2 + FMA. */
#include <immintrin.h>
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
OP vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
#include "device/cpu_vec_body.h"
