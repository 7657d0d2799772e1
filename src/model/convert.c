/* Stored elements as f32, exactly. */
#include <math.h>
#include <string.h>
#include "model/element.h"
#include "model/reader.h"

static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, man = h & 1023, bits;
    float x;

    if (exp == 0) { /* zero or subnormal: man * 2^-24 */
        x = (float)man * 0x1p-24f;
        return sign != 0 ? -x : x;
    }
    bits = sign | (exp == 31 ? 0xffu << 23 : (exp + 112) << 23) | man << 13;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float from_bf16(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* E4M3 without infinities: bias 7, 0x7f and 0xff are NaN. */
static float from_f8(uint8_t b)
{
    int exp = b >> 3 & 15, man = b & 7;
    float x;

    if ((b & 0x7f) == 0x7f)
        return NAN;
    x = exp == 0 ? (float)man * 0x1p-9f : ldexpf((float)(8 + man), exp - 10);
    return b & 0x80 ? -x : x;
}

float mb_element_f32(enum mb_storage storage, const void *base, int64_t at)
{
    switch (storage) {
    case MB_STORE_F32:
        return ((const float *)base)[at];
    case MB_STORE_F16:
        return from_f16(((const uint16_t *)base)[at]);
    case MB_STORE_BF16:
        return from_bf16(((const uint16_t *)base)[at]);
    case MB_STORE_F8E4M3:
        return from_f8(((const uint8_t *)base)[at]);
    case MB_STORE_F8E5M2: /* the upper byte of an f16 */
        return from_f16((uint16_t)(((const uint8_t *)base)[at] << 8));
    }
    return 0;
}

void mb_host_to_f32(const struct mb_host_matrix *m, float *dst)
{
    for (int64_t i = 0; i < m->n; i++) {
        const float *scale = NULL;
        if (m->scale != NULL)
            scale = m->scale + (i + m->scale_n0) / m->block_n * m->scale_stride;
        for (int64_t j = 0; j < m->k; j++) {
            float x = mb_element_f32(m->storage, m->base, i * m->stride_n + j * m->stride_k);
            dst[i * m->k + j] = scale == NULL ? x : x * scale[(j + m->scale_k0) / m->block_k];
        }
    }
}
