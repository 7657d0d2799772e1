/* The AVX512_BF16 kernels' source with pairs and an instruction in plain C that does what VDPBF16PS was
 * measured to do (the high halves first, each product fused, subnormals as zero); see wide_avx512.c. */
#include <math.h>
#include <string.h>
#include "base/mb_math.h"
#include "device/cpu_tile.h"

#define TARGET "sse2"
#define KERNEL static
#define UNROLL
#define ROLLED
#define OP static
typedef struct {
    float f[16];
} vec;
typedef struct {
    uint32_t w[16];
} pairs;

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
OP vec v_add(vec a, vec b)
{
    for (int i = 0; i < 16; i++)
        a.f[i] += b.f[i];
    return a;
}
OP pairs p_load(const void *p)
{
    pairs v;
    memcpy(&v, p, sizeof v);
    return v;
}
OP pairs p_set1(const uint32_t *p)
{
    pairs v;
    for (int i = 0; i < 16; i++)
        v.w[i] = *p;
    return v;
}
OP pairs p_even(pairs a, pairs b)
{
    for (int i = 0; i < 16; i++)
        a.w[i] = a.w[i] << 16 | (b.w[i] & 0xffff);
    return a;
}
OP pairs p_odd(pairs a, pairs b)
{
    for (int i = 0; i < 16; i++)
        a.w[i] = (a.w[i] & 0xffff0000u) | b.w[i] >> 16;
    return a;
}
OP vec v_dot(pairs a, pairs b, vec sum)
{
    for (int i = 0; i < 16; i++) {
        sum.f[i] =
            fmaf(mb_bf16_float((uint16_t)(a.w[i] >> 16)), mb_bf16_float((uint16_t)(b.w[i] >> 16)), sum.f[i]);
        sum.f[i] = fmaf(mb_bf16_float((uint16_t)a.w[i]), mb_bf16_float((uint16_t)b.w[i]), sum.f[i]);
    }
    return sum;
}
#include "device/cpu_tile_pairs.h"

const struct mb_tile_kernels mb_tile_bf16 = {
    MB_ISA_BF16, ROWS_MAX, 1, 2, MB_ROWS_PAIRS, {NULL, tile_bf16}, mb_tile_nothing, mb_tile_nothing};
