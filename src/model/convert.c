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
    case MB_STORE_CODES:
        break;
    }
    return 0;
}

static void codes_to_f32(const struct mb_host_matrix *m, float *dst)
{
    const struct mb_host_codes *c = &m->codes;

    for (int64_t i = 0; i < m->n; i++) {
        int64_t row = m->scale_n0 + i, last = -1;
        float s = 0, whole = c->whole != NULL ? c->whole[row] : 1;
        uint8_t zero = 0;
        for (int64_t j = 0; j < m->k; j++) {
            int64_t column = m->scale_k0 + j, g = mb_host_group(c, column);
            if (g != last) {
                s = mb_form_scale(&c->form, c->scale, row * c->groups + g, whole);
                zero = c->zero != NULL ? c->zero[row * c->groups + g] : 0;
                last = g;
            }
            dst[i * m->k + j] =
                mb_form_value(&c->form, mb_form_number(&c->form, mb_host_code(c, row, column), zero), s);
        }
    }
}

void mb_host_to_f32(const struct mb_host_matrix *m, float *dst)
{
    if (m->storage == MB_STORE_CODES) {
        codes_to_f32(m, dst);
        return;
    }
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

/* ---------------------------------------------------------------- blobs */

static void codes_to_blob(const struct mb_host_matrix *m, const struct mb_form *f, const struct mb_blob *b, uint8_t *to)
{
    const struct mb_host_codes *c = &m->codes;
    int64_t row = mb_form_row_bytes(f, m->k), cells = mb_form_groups(f, m->k), size = mb_form_scale_size(f);

    memcpy(to + b->code, c->code + m->scale_n0 * c->code_stride, (size_t)(m->n * row));
    memcpy(to + b->scale, (const uint8_t *)c->scale + m->scale_n0 * cells * size, (size_t)(m->n * cells * size));
    if (f->zeros)
        memcpy(to + b->zero, c->zero + m->scale_n0 * cells, (size_t)(m->n * cells));
    if (f->whole)
        memcpy(to + b->whole, c->whole + m->scale_n0, (size_t)(4 * m->n));
    if (f->g_idx)
        memcpy(to + b->g_idx, c->g_idx, (size_t)(4 * m->k));
}

/* Whole rows: columns from the first one on. */
void mb_host_blob(const struct mb_host_matrix *m, const struct mb_form *f, void *blob)
{
    struct mb_blob b = mb_form_blob(f, m->n, m->k);
    int64_t groups = mb_form_groups(f, m->k), g0 = mb_form_group0(f);
    uint8_t *to = blob;

    if (m->storage == MB_STORE_CODES) {
        codes_to_blob(m, f, &b, to);
        return;
    }
    for (int64_t i = 0; i < m->n; i++) {
        memcpy(to + b.scale + 4 * i * groups, m->scale + (i + m->scale_n0) / m->block_n * m->scale_stride + g0,
               (size_t)(4 * groups));
        memcpy(to + b.code + i * m->k, (const uint8_t *)m->base + i * m->stride_n, (size_t)m->k);
    }
}
