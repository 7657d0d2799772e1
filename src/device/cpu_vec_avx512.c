/* Row kernels for AVX-512. */
#include <immintrin.h>
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
OP vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
OP vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
#include "device/cpu_vec_body.h"
