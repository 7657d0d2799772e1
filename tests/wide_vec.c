/* The row kernels' AVX-512 set with vectors of 16 lanes in plain C: linked with unit_vec.c it stands in for
 * the real one, so that loops, tails and folds of that width are tested on any machine. What is not tested so
 * are the intrinsics behind v_zero ... iv_mul. */
#include <math.h>
#include <string.h>
#include "device/cpu_vec.h"

#define FN static
#define LANES 16
#define SET mb_vec_avx512
#define OP static inline __attribute__((always_inline))
#define EACH for (int i = 0; i < LANES; i++)

typedef struct {
    float f[LANES];
} vec;
OP vec v_zero(void)
{
    return (vec){{0}};
}
OP vec v_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
OP void v_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}
OP vec v_set1(float c)
{
    vec v;
    EACH v.f[i] = c;
    return v;
}
OP vec v_add(vec a, vec b)
{
    EACH a.f[i] += b.f[i];
    return a;
}
OP vec v_sub(vec a, vec b)
{
    EACH a.f[i] -= b.f[i];
    return a;
}
OP vec v_mul(vec a, vec b)
{
    EACH a.f[i] *= b.f[i];
    return a;
}
OP vec v_max(vec a, vec b)
{
    EACH a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}
OP vec v_fma(vec a, vec b, vec c)
{
    EACH c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return c;
}

typedef struct {
    uint32_t u[LANES];
} ivec;
OP ivec iv_set1(uint32_t x)
{
    ivec v;
    EACH v.u[i] = x;
    return v;
}
OP ivec iv_from(uint32_t x)
{
    ivec v;
    EACH v.u[i] = x + (uint32_t)i;
    return v;
}
OP ivec iv_xor(ivec a, ivec b)
{
    EACH a.u[i] ^= b.u[i];
    return a;
}
OP void iv_store(uint32_t *p, ivec v)
{
    memcpy(p, &v, sizeof v);
}
OP ivec iv_mul(ivec a, uint32_t b, ivec *high)
{
    EACH
    {
        uint64_t p = (uint64_t)a.u[i] * b;
        high->u[i] = (uint32_t)(p >> 32);
        a.u[i] = (uint32_t)p;
    }
    return a;
}
#include "device/cpu_vec_body.h"
