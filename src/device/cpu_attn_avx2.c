/* Attention's inner loops for AVX2 + FMA. */
#define FN static __attribute__((target("avx2,fma"), flatten))
#define SET mb_attn_avx2
#include "device/cpu_attn_vec.h"
