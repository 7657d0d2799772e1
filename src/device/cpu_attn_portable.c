/* Attention's inner loops in portable C, and the choice among the sets. */
#define FN static
#define SET mb_attn_portable
#include "device/cpu_attn_vec.h"

const struct mb_attn_vec *mb_attn_vec_of(enum mb_isa isa)
{
    return isa == MB_ISA_PORTABLE ? &mb_attn_portable : isa == MB_ISA_AVX2 ? &mb_attn_avx2 : &mb_attn_avx512;
}
