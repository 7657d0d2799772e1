/* Stored integers to bf16 with AVX2, one by one: codes of 8 bits, and columns that name their groups. */
#include "device/cpu_unpack_avx2.h"

/* Scales and zero points of 16 columns. */
struct wide {
    __m256 s[2], z[2];
    int64_t group;
};

FN bool widen(const struct unpack *u, int64_t group, struct wide *v)
{
    const struct mb_form *f = &u->w->desc.form;
    const unsigned char *p = u->panel + u->w->zero_at + group * MB_PANEL;

    if (v->group == group)
        return true;
    if (load_scales(u->w, u->panel, group, 0, 0x1.fffffep127f, v->s) & u->real)
        return false;
    UNROLL for (int h = 0; h < 2; h++)
    {
        __m256i z = _mm256_set1_epi32(f->zero_add);
        if (f->zeros)
            z = _mm256_add_epi32(z, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(p + 8 * h))));
        v->z[h] = _mm256_cvtepi32_ps(z);
    }
    v->group = group;
    return true;
}

FN __m256i value(const uint8_t *codes, int h, const struct wide *v)
{
    __m256 q = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(codes + 8 * h))));
    return rounded(_mm256_mul_ps(_mm256_sub_ps(q, v->z[h]), v->s[h]));
}

/* 16 columns of bytes to 16 rows. */
FN void transpose(const unsigned char *codes, uint8_t *dst)
{
    __m128i a[16], b[16];
    UNROLL for (int c = 0; c < 16; c++) a[c] = _mm_load_si128((const void *)(codes + mb_code_slot(c) * 16));
    UNROLL for (int round = 0; round < 2; round++)
    {
        UNROLL for (int i = 0; i < 8; i++)
        {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        UNROLL for (int i = 0; i < 8; i++)
        {
            a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 8]);
            a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 8]);
        }
    }
    UNROLL for (int k = 0; k < 16; k++)
    {
        __m128i low4 = _mm_set1_epi8(15);
        _mm_store_si128((void *)(dst + 16 * k), _mm_and_si128(a[k], low4));
        _mm_store_si128((void *)(dst + 256 + 16 * k), _mm_and_si128(_mm_srli_epi16(a[k], 4), low4));
    }
}

__attribute__((target("avx2,fma,f16c"))) bool mb_widen_ints_avx2(const struct unpack *u, int64_t block, uint16_t *dst)
{
    const struct mb_weight *w = u->w;
    const struct mb_run *r = &u->run[block];
    const unsigned char *codes = u->panel + block * w->code_block;
    uint8_t rows[MB_BLOCK * MB_PANEL] __attribute__((aligned(32)));
    struct wide v[2] = {{.group = -1}, {.group = -1}};

    if (w->desc.form.bits == 4) {
        transpose(codes, rows);
        codes = rows;
    }
    for (int64_t k = 0; k < MB_BLOCK; k += 2) {
        for (int64_t i = 0; i < 2; i++) {
            int64_t at = k + i < r->valid ? k + i : r->valid - 1;
            if (!widen(u, r->group[at / 16] >= 0 ? r->group[at / 16] : mb_stored_group(w, u->list, r->k + at),
                       &v[i]))
                return false;
        }
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i even = _mm256_srli_epi32(value(codes + k * MB_PANEL, h, &v[0]), 16),
                    odd = value(codes + (k + 1) * MB_PANEL, h, &v[1]);
            _mm256_store_si256((void *)(dst + k * MB_PANEL + 16 * h), _mm256_blend_epi16(even, odd, 0xaa));
        }
    }
    return true;
}
