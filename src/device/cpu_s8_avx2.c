/* Products of signed bytes by AVX2: weights widened to 16 bits, pairs multiplied and added in 32 (no
 * instruction saturates). */
#include <immintrin.h>
#include <string.h>
#include <math.h>
#include "device/cpu_s8.h"

#define KERNEL static inline __attribute__((always_inline, target("avx2"), no_sanitize("undefined")))
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
enum { ROWS = 3 }; /* a row has four registers of sums */

/* Sums of pairs: of columns 4v .. 4v + 3, two each. */
KERNEL void quads(const int16_t *x, const int8_t *w, int64_t n, __m256i sum[ROWS][4], const int R)
{
    for (int64_t q = 0; q < n; q++, w += MB_PANEL * MB_QUAD, x += R * MB_QUAD) {
        __m256i b[4];
        UNROLL for (int v = 0; v < 4; v++) b[v] =
            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * v)));
        UNROLL for (int r = 0; r < R; r++)
        {
            long long four;
            memcpy(&four, x + r * MB_QUAD, sizeof four);
            __m256i a = _mm256_set1_epi64x(four);
            UNROLL for (int v = 0; v < 4; v++) sum[r][v] =
                _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(a, b[v]));
        }
    }
}

/* Columns 0 .. 7 of sums of pairs of columns 0 .. 3 and 4 .. 7. */
KERNEL __m256i fold(__m256i low, __m256i high)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
}

KERNEL void rows(const struct mb_s8_tile *t, const int R)
{
    __m256i sum[ROWS][4];

    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < 4; v++) sum[r][v] = _mm256_setzero_si256();
    quads(t->x, t->w, t->quads, sum, R);
    UNROLL for (int r = 0; r < R; r++)
    {
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i *c = (__m256i *)(void *)(t->c + r * MB_PANEL + 8 * h),
                    s = fold(sum[r][2 * h], sum[r][2 * h + 1]);
            _mm256_storeu_si256(c, t->add ? _mm256_add_epi32(_mm256_loadu_si256(c), s) : s);
        }
    }
}

static __attribute__((target("avx2"))) void tile(const struct mb_s8_tile *t)
{
    if (t->rows == 1)
        rows(t, 1);
    else if (t->rows == 2)
        rows(t, 2);
    else
        rows(t, 3);
}

static __attribute__((target("avx2"))) uint32_t largest(const float *x, int64_t n)
{
    __m256i most = _mm256_setzero_si256(), mask = _mm256_set1_epi32(0x7fffffff);
    uint32_t lane[8], m;
    int64_t i = 0;

    for (; i + 8 <= n; i += 8)
        most = _mm256_max_epi32(
            most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), mask));
    _mm256_storeu_si256((__m256i *)(void *)lane, most);
    m = mb_s8_largest(x + i, n - i);
    for (int l = 0; l < 8; l++)
        m = lane[l] > m ? lane[l] : m;
    return m;
}

static __attribute__((target("avx2"))) void codes(const float *x, int64_t n, float scale, int16_t *out)
{
    __m256 s = _mm256_set1_ps(scale);
    int64_t i = 0;

    for (; !isnan(scale) && scale != 0 && i + 8 <= n; i += 8) {
        __m256i q = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_loadu_ps(x + i), s));
        __m128i half =
            _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)); /* |q| <= 127 */
        _mm_storeu_si128((__m128i *)(void *)(out + i), half);
    }
    mb_s8_codes(x + i, n - i, scale, out + i);
}

const struct mb_s8_kernels mb_s8_avx2 = {ROWS, 2, tile, codes, largest};

/* ---------------------------------------------------------------- for the AVX-512 set, which quantises by
 * these */
void mb_s8_codes_avx2(const float *x, int64_t n, float scale, int16_t *out)
{
    codes(x, n, scale, out);
}
uint32_t mb_s8_largest_avx2(const float *x, int64_t n)
{
    return largest(x, n);
}
