/* Products of signed bytes by AVX512_VNNI. VPDPBUSD multiplies unsigned by signed bytes and does not
 * saturate: rows come as code + 128, and 128 times the sum of the weights, computed beside it, is taken off
 * again. Sums wrap at 2^32 and so come out right. */
#include <immintrin.h>
#include <string.h>
#include "device/cpu_s8.h"

#ifndef KERNEL /* a test compiles this source with stand-ins for the instructions */
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define KERNEL static inline TARGET __attribute__((always_inline, no_sanitize("undefined")))
#endif
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
enum { ROWS = 12 };

KERNEL void some_rows(const struct mb_s8_tile *t, const int R)
{
    const uint8_t *x = t->x;
    const int8_t *w = t->w;
    __m512i sum[ROWS], off = _mm512_setzero_si512(), half = _mm512_set1_epi8((char)0x80);

    UNROLL for (int r = 0; r < R; r++) sum[r] = _mm512_setzero_si512();
    for (int64_t q = 0; q < t->quads; q++, w += MB_PANEL * MB_QUAD, x += R * MB_QUAD) {
        __m512i b = _mm512_loadu_si512(w);
        off = _mm512_dpbusd_epi32(off, half, b);
        UNROLL for (int r = 0; r < R; r++)
        {
            int four;
            memcpy(&four, x + r * MB_QUAD, sizeof four);
            sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(four), b);
        }
    }
    UNROLL for (int r = 0; r < R; r++)
    {
        __m512i s = _mm512_sub_epi32(sum[r], off);
        void *c = t->c + r * MB_PANEL;
        _mm512_storeu_si512(c, t->add ? _mm512_add_epi32(_mm512_loadu_si512(c), s) : s);
    }
}

#define CASE(R)                                                                                              \
    case R:                                                                                                  \
        some_rows(t, R);                                                                                     \
        break;
static TARGET void tile(const struct mb_s8_tile *t)
{
    switch (t->rows) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
    }
}

const struct mb_s8_kernels mb_s8_vnni = {ROWS, 1, tile, mb_s8_codes_avx2, mb_s8_largest_avx2};
