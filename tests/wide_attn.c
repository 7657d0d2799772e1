/* Stands in for attention's AVX-512 loops, see wide_avx512.c. */
#define FN static
#define SET mb_attn_avx512
#include "device/cpu_attn_vec.h"
