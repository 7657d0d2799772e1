/* What the files that make values of stored codes with AVX2 share: cpu_unpack_avx2.c by tables, cpu_unpack_ints_avx2.c one by
 * one. */
#ifndef MB_DEVICE_CPU_UNPACK_AVX2_H
#define MB_DEVICE_CPU_UNPACK_AVX2_H
#include <immintrin.h>
#include <string.h>
#include "device/cpu_weight.h"

#define FN static inline __attribute__((always_inline, target("avx2,fma,f16c")))
/* Arrays of vectors must become registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define BIG static __attribute__((target("avx2,fma,f16c")))

/* Tables of a group, as bytes of bf16, for the 16 columns in the order of mb_code_slot. FP8: low and high are
 * of ordinary numbers, sub_low and sub_high of those whose upper exponent bits are 0. */
struct tables {
    uint8_t low[MB_PANEL * 16], high[MB_PANEL * 16], sub_low[MB_PANEL * 16], sub_high[MB_PANEL * 16];
    float s[MB_PANEL]; /* scales */
    int64_t group;
    bool sub; /* sub_low, sub_high are made */
} __attribute__((aligned(64)));

/* Codes whose numbers are 0 and eight sizes with a sign: only those are multiplied. Of a code, at is 2 * its
 * size's place, or 128 for 0; sign is 128 where it is negative. */
struct sizes {
    __m256 q;
    __m256i at, sign;
};

struct unpack {
    struct sizes sizes;
    __m256 q[2]; /* numbers of the 16 half bytes: even ones, odd ones */
    bool by_size;
    const struct mb_weight *w;
    const unsigned char *panel;
    struct tables t[2];
    int last; /* of t, that was asked for last */
    int real; /* bits: columns that the weight has */
    int32_t list;
    bool one_list;            /* of all columns */
    const struct mb_run *run; /* of that list */
};

/* ---------------------------------------------------------------- scales */
FN __m256 widen8(__m128i bytes) /* of 8 E4M3 bytes: as f16 with another bias */
{
    __m128i h = _mm_and_si128(_mm_slli_epi16(_mm_cvtepi8_epi16(bytes), 7), _mm_set1_epi16((short)0xbfff));
    return _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(256));
}

/* Scales of 16 columns. Returns bits: columns whose scale is not of a size between least and most, or all of
 * them for a type that is not read here. */
FN int load_scales(const struct mb_weight *w, const unsigned char *panel, int64_t group, float least,
                   float most, __m256 s[2])
{
    const struct mb_form *f = &w->desc.form;
    const unsigned char *p = panel + w->scale_at + group * MB_PANEL * mb_form_scale_size(f);
    __m256 sign = _mm256_set1_ps(-0.0f);
    int bad = 0;

    s[0] = s[1] = _mm256_setzero_ps();
    if (f->scale == MB_STORE_F8E4M3) {
        __m128i b = _mm_load_si128((const void *)p), nan = _mm_set1_epi8(0x7f);
        bad = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(b, nan), nan));
        s[0] = widen8(b);
        s[1] = widen8(_mm_unpackhi_epi64(b, b));
    } else {
        for (int h = 0; h < 2; h++) {
            if (f->scale == MB_STORE_F32)
                s[h] = _mm256_load_ps((const float *)(const void *)p + 8 * h);
            else if (f->scale == MB_STORE_F16)
                s[h] = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p + h));
            else if (f->scale == MB_STORE_BF16)
                s[h] = _mm256_castsi256_ps(_mm256_slli_epi32(
                    _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)p + h)), 16));
            else
                return 0xffff;
        }
    }
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m256 whole = _mm256_setzero_ps();
        if (f->whole)
            whole = _mm256_load_ps((const float *)(const void *)(panel + w->whole_at) + 8 * h);
        s[h] = f->whole == MB_WHOLE_TIMES  ? _mm256_mul_ps(s[h], whole)
               : f->whole == MB_WHOLE_OVER ? _mm256_div_ps(s[h], whole)
                                           : s[h];
        __m256 size = _mm256_andnot_ps(sign, s[h]);
        s[h] = _mm256_and_ps(s[h], _mm256_cmp_ps(size, _mm256_set1_ps(0x1p-126f), _CMP_NLT_UQ));
        size = _mm256_andnot_ps(sign, s[h]);
        bad |= _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(size, _mm256_set1_ps(least), _CMP_NGE_UQ),
                                               _mm256_cmp_ps(size, _mm256_set1_ps(most), _CMP_NLE_UQ)))
               << (8 * h);
    }
    return bad;
}

/* f32 to bf16 in the upper half of 32 bits, whose lower half is rubbish. Finite values and infinities. */
FN __m256i rounded(__m256 v)
{
    __m256i u = _mm256_castps_si256(v),
            odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    return _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
}

/* cpu_unpack_ints_avx2.c: a block of integers whose groups may change with every k. False: a scale that is not finite. */
bool mb_widen_ints_avx2(const struct unpack *u, int64_t block, uint16_t *dst);
#endif
