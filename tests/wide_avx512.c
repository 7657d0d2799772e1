/* The AVX-512 kernels' source with vectors of 16 lanes in plain C, and a machine that says it has AVX-512,
 * AVX512_BF16 and AMX: linked into unit_gemm and unit_attention, these stand in for the real ones, so that their loops,
 * packing and cutting are tested on any machine. What is not tested so are the few intrinsics behind v_load
 * ... v_odd. */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "device/cpu_isa.h"

#define TARGET "sse2"
#define KERNEL static /* R and NV are ordinary parameters here: small code, quick to compile with sanitizers */
#define UNROLL
#define ROLLED
#define LANES 16
#define REGISTERS 32
typedef struct {
    float f[LANES];
} vec;
#define OP static

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
OP vec v_set1(const float *p)
{
    vec v;
    for (int i = 0; i < LANES; i++)
        v.f[i] = *p;
    return v;
}
OP vec v_add(vec a, vec b)
{
    for (int i = 0; i < LANES; i++)
        a.f[i] += b.f[i];
    return a;
}
OP vec v_fma(vec a, vec b, vec c)
{
    for (int i = 0; i < LANES; i++)
        c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return c;
}
OP vec halves(const void *pair, int odd)
{
    vec v;
    for (int i = 0; i < LANES; i++) {
        uint16_t h;
        memcpy(&h, (const char *)pair + 4 * i + 2 * odd, 2);
        v.f[i] = mb_bf16_float(h);
    }
    return v;
}
OP vec v_even(const void *pair)
{
    return halves(pair, 0);
}
OP vec v_odd(const void *pair)
{
    return halves(pair, 1);
}
#include "device/cpu_tile_vec.h"

const struct mb_tile_kernels mb_tile_avx512 = {
    MB_ISA_AVX512, ROWS_MAX, 1, 2, MB_ROWS_F32, {tile_f32, tile_bf16}, mb_tile_nothing, mb_tile_nothing};

enum mb_isa mb_isa_detect(void)
{
    return MB_ISA_AMX;
}

bool mb_isa_has(enum mb_isa isa)
{
    return isa <= MB_ISA_AMX;
}

/* stand-ins run no race */
bool mb_tile_faster(enum mb_isa isa, enum mb_isa than)
{
    (void)isa;
    (void)than;
    return true;
}
