/* Dot-rule kernels in portable C: the definition of the others. */
#include "device/cpu_tile.h"

#include <math.h>
#include <string.h>

void mb_tile_nothing(void)
{
}

static void pack_amx(uint16_t *to, int32_t rows, const void *src, int64_t n)
{
    for (int64_t k = 0; k < n; k += MB_BLOCK, to += rows * MB_BLOCK) {
        int64_t part = src == NULL ? 0 : n - k < MB_BLOCK ? n - k : MB_BLOCK;
        if (part > 0)
            memcpy(to, (const uint16_t *)src + k, (size_t)part * 2);
        memset(to + part, 0, (size_t)(MB_BLOCK - part) * 2);
    }
}

/* Two pairs of each 4 k, `rows` words apart. */
static void pack_pairs(uint32_t *to, int32_t rows, const uint16_t *src, int64_t n)
{
    int64_t end = (n + MB_BLOCK - 1) / MB_BLOCK * MB_BLOCK, k = 0;
    for (; src != NULL && k + 4 <= n; k += 4, to += 2 * rows) {
        to[0] = (uint32_t)src[k] << 16 | src[k + 2];
        to[rows] = (uint32_t)src[k + 1] << 16 | src[k + 3];
    }
    for (; k < end; k += 4, to += 2 * rows) {
        uint32_t v[4] = {0, 0, 0, 0};
        for (int64_t i = 0; src != NULL && i < 4 && k + i < n; i++)
            v[i] = src[k + i];
        to[0] = v[0] << 16 | v[2];
        to[rows] = v[1] << 16 | v[3];
    }
}

void mb_pack_row(const struct mb_tile_kernels *k, void *tile, int32_t rows, int32_t r, const void *src,
                 enum mb_dtype t, int64_t n)
{
    if (k->rows_as == MB_ROWS_AMX) {
        pack_amx((uint16_t *)tile + r * MB_BLOCK, rows, src, n);
        return;
    }
    if (k->rows_as == MB_ROWS_PAIRS) {
        pack_pairs((uint32_t *)tile + r, rows, src, n);
        return;
    }
    float *to = (float *)tile + r;
    int64_t i = 0, end = (n + MB_BLOCK - 1) / MB_BLOCK * MB_BLOCK;
    if (src != NULL && t == MB_F32)
        for (; i < n; i++)
            to[i * rows] = ((const float *)src)[i];
    else if (src != NULL)
        for (; i < n; i++)
            to[i * rows] = mb_bf16_float(((const uint16_t *)src)[i]);
    for (; i < end; i++)
        to[i * rows] = 0.0f;
}

static float weight_f32(const void *w, int64_t block, int32_t k, int32_t column)
{
    return ((const float *)w)[(block * MB_BLOCK + k) * MB_PANEL + column];
}

static float weight_bf16(const void *w, int64_t block, int32_t k, int32_t column)
{
    const uint16_t *pairs = w;
    return mb_bf16_float(pairs[((block * MB_BLOCK + k) / 2 * MB_PANEL + column) * 2 + k % 2]);
}

static inline void portable(const struct mb_tile *t, float (*weight)(const void *, int64_t, int32_t, int32_t))
{
    const float *x = t->x;
    for (int32_t i = 0; i < t->panels * t->rows * MB_PANEL; i++) {
        int32_t panel = i / MB_PANEL / t->rows, row = i / MB_PANEL % t->rows, column = i % MB_PANEL;
        const void *w = (const char *)t->w + panel * t->w_panel;
        float *c = t->c + panel * t->c_panel + row * MB_PANEL + column;
        float sum = t->add ? *c : 0.0f;
        for (int64_t b = 0; b < t->blocks; b++) {
            float even = 0.0f, odd = 0.0f;
            for (int32_t k = 0; k < MB_BLOCK; k += 2) {
                const float *xk = x + (b * MB_BLOCK + k) * t->rows + row;
                even = fmaf(xk[0], weight(w, b, k, column), even);
                odd = fmaf(xk[t->rows], weight(w, b, k + 1, column), odd);
            }
            sum += even + odd;
        }
        *c = sum;
    }
}

static void tile_f32(const struct mb_tile *t)
{
    portable(t, weight_f32);
}
static void tile_bf16(const struct mb_tile *t)
{
    portable(t, weight_bf16);
}

const struct mb_tile_kernels mb_tile_portable = {
    MB_ISA_PORTABLE, 4, 1, 1, MB_ROWS_F32, {tile_f32, tile_bf16}, mb_tile_nothing, mb_tile_nothing};

const struct mb_tile_kernels *mb_tile_kernels(enum mb_isa isa)
{
    switch (isa) {
    case MB_ISA_AVX2:
        return &mb_tile_avx2;
    case MB_ISA_AVX512:
        return &mb_tile_avx512;
    case MB_ISA_BF16:
        return &mb_tile_bf16;
    case MB_ISA_AMX:
        return &mb_tile_amx;
    default:
        return &mb_tile_portable;
    }
}
