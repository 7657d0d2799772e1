/* Attention's inner loops for AVX-512F. */
#define FN static __attribute__((target("avx512f,avx2,fma"), flatten))
#define SET mb_attn_avx512
#include "device/cpu_attn_vec.h"
