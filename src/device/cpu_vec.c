/* Row kernels in portable C, and the choice of a set. */
#include "device/cpu_vec.h"

#include <math.h>
#define FN static
#define LANES 1
#define SET mb_vec_portable
#define OP static inline

typedef float vec;
OP vec v_zero(void)
{
    return 0;
}
OP vec v_load(const float *p)
{
    return *p;
}
OP void v_store(float *p, vec v)
{
    *p = v;
}
OP vec v_set1(float c)
{
    return c;
}
OP vec v_add(vec a, vec b)
{
    return a + b;
}
OP vec v_sub(vec a, vec b)
{
    return a - b;
}
OP vec v_mul(vec a, vec b)
{
    return a * b;
}
OP vec v_max(vec a, vec b)
{
    return a > b ? a : b;
}
OP vec v_fma(vec a, vec b, vec c)
{
    return fmaf(a, b, c);
}

typedef uint32_t ivec;
OP ivec iv_set1(uint32_t x)
{
    return x;
}
OP ivec iv_from(uint32_t x)
{
    return x;
}
OP ivec iv_xor(ivec a, ivec b)
{
    return a ^ b;
}
OP void iv_store(uint32_t *p, ivec v)
{
    *p = v;
}
OP ivec iv_mul(ivec a, uint32_t b, ivec *high)
{
    uint64_t p = (uint64_t)a * b;
    *high = (uint32_t)(p >> 32);
    return (uint32_t)p;
}
#include "device/cpu_vec_body.h"

const struct mb_vec *mb_vec_of(const struct mb_device *dev)
{
    if (dev->isa >= MB_ISA_AVX512)
        return &mb_vec_avx512;
    return dev->isa >= MB_ISA_AVX2 ? &mb_vec_avx2 : &mb_vec_portable;
}
