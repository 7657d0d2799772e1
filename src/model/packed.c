/* From packed codes to f32. */
#include "model/packed.h"

#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "model/element.h"

#define MX_BIAS 127
#define MX_NAN 255

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static uint32_t word_at(const void *p, int64_t i)
{
    uint32_t w;
    memcpy(&w, (const uint8_t *)p + 4 * i, sizeof w);
    return w;
}

const char *mb_packed_name(const struct mb_packed *p)
{
    static const char *const names[MB_PACKINGS] = {"mxfp4", "int4", "int8", "awq", "gptq", "nvfp4"};
    return p->packing == MB_PACK_INTS && p->bits == 8 ? names[MB_PACK_I8] : names[p->packing];
}

/* ---------------------------------------------------------------- places */

int64_t mb_packed_row_bytes(const struct mb_packed *p)
{
    switch ((enum mb_packing)p->packing) {
    case MB_PACK_MXFP4:
    case MB_PACK_NVFP4:
        return p->k / 2;
    case MB_PACK_INTS:
        return 4 * up(p->k, mb_packed_word(p));
    case MB_PACK_I8:
        return p->k;
    case MB_PACK_AWQ:
    case MB_PACK_GPTQ:
    case MB_PACKINGS:
        break;
    }
    return 0;
}

static int64_t stored_rows(const struct mb_packed *p, int64_t n)
{
    return (n - 1) * p->row_step + 1;
}

void mb_packed_codes(const struct mb_packed *p, int64_t i0, int64_t n, uint64_t *off, uint64_t *bytes)
{
    int64_t row = mb_packed_row_bytes(p);

    *off = mb_packed_by_rows(p) ? (uint64_t)((p->row0 + i0 * p->row_step) * row) : 0;
    *bytes = mb_packed_by_rows(p) ? (uint64_t)(stored_rows(p, n) * row) : p->code.bytes;
}

static int64_t scale_size(const struct mb_packed *p)
{
    return p->packing == MB_PACK_MXFP4 ? 1 : mb_storage_size((enum mb_storage)p->scale_storage);
}

void mb_packed_scales(const struct mb_packed *p, int64_t i0, int64_t n, uint64_t *off, uint64_t *bytes)
{
    int64_t row = p->groups * scale_size(p);

    *off = mb_packed_by_rows(p) ? (uint64_t)((p->row0 + i0 * p->row_step) * row) : 0;
    *bytes = mb_packed_by_rows(p) ? (uint64_t)(stored_rows(p, n) * row) : p->scale.bytes;
}

int64_t mb_packed_scratch(const struct mb_packed *p, int64_t n)
{
    return (int64_t)sizeof(float) * (2 * n * p->groups + p->k);
}

static bool inside(const struct mb_packed_bytes *p, const uint64_t *file_bytes, int32_t n_files,
                   uint64_t need)
{
    uint64_t end;

    if (p->bytes == 0)
        return true;
    return p->bytes >= need && p->file < n_files && mb_add_ok(p->offset, p->bytes, &end) &&
           end <= file_bytes[p->file];
}

static bool sizes_ok(const struct mb_packed *p)
{
    return p->packing < MB_PACKINGS && (p->bits == 4 || p->bits == 8) &&
           p->scale_storage <= MB_STORE_F8E4M3 && p->n >= 1 && p->k >= 1 && p->groups >= 1 && p->group >= 1 &&
           p->row0 >= 0 && p->row_step >= 1 && p->row_step <= 2 &&
           (p->g_idx.bytes > 0 || (int64_t)p->groups * p->group >= p->k) && p->code.bytes > 0 &&
           p->scale.bytes > 0;
}

bool mb_packed_fits(const struct mb_packed *p, const uint64_t *file_bytes, int32_t n_files)
{
    uint64_t code, scale, off, zero = 0;

    if (!sizes_ok(p))
        return false;
    mb_packed_codes(p, 0, p->n, &off, &code);
    code += off;
    mb_packed_scales(p, 0, p->n, &off, &scale);
    scale += off;
    if (!mb_packed_by_rows(p)) {
        int64_t f = mb_packed_word(p);
        code = 4 * (uint64_t)(p->packing == MB_PACK_AWQ ? p->k * up(p->n, f) : up(p->k, f) * p->n);
        scale = (uint64_t)(p->groups * (int64_t)p->n * scale_size(p));
        zero = 4 * (uint64_t)(p->groups * up(p->n, f));
        if (p->zero.bytes == 0)
            return false;
    } else if (p->zero.bytes > 0) {
        zero = 4 * (uint64_t)(up(p->n, mb_packed_word(p)) * p->groups);
    }
    return inside(&p->code, file_bytes, n_files, code) && inside(&p->scale, file_bytes, n_files, scale) &&
           inside(&p->zero, file_bytes, n_files, zero) &&
           inside(&p->g_idx, file_bytes, n_files, 4 * (uint64_t)p->k) &&
           inside(&p->tensor_scale, file_bytes, n_files, sizeof(float));
}

/* ---------------------------------------------------------------- scales, zero points, groups */

static enum mb_status fill_scales(const struct mb_packed *p, const struct mb_packed_parts *in, int64_t i0,
                                  int64_t n, float *s, const char *what)
{
    float whole = 1;

    if (in->tensor_scale != NULL)
        memcpy(&whole, in->tensor_scale, sizeof whole);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t g = 0; g < p->groups; g++) {
            int64_t at = mb_packed_by_rows(p) ? i * p->row_step * p->groups + g : g * p->n + i0 + i;
            if (p->packing == MB_PACK_MXFP4) {
                uint8_t e = ((const uint8_t *)in->scale)[at];
                if (e == MX_NAN)
                    return mb_error(
                        MB_MODEL,
                        "%s: scale of row %lld, block %lld: expected an exponent below 255, found 255 (NaN)",
                        what, (long long)(i0 + i), (long long)g);
                s[i * p->groups + g] = (float)e; /* applied to the exponent */
                continue;
            }
            float block = mb_element_f32((enum mb_storage)p->scale_storage, in->scale, at);
            s[i * p->groups + g] = in->tensor_scale == NULL ? block
                                   : p->divides             ? block / whole
                                                            : block * whole;
        }
    }
    return MB_OK;
}

/* The nibble of an AWQ word that has column c of its eight. */
static const uint8_t awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

static float zero_of(const struct mb_packed *p, const void *zero, int64_t row, int64_t g)
{
    int64_t f = mb_packed_word(p), words = up(p->n, f);
    uint32_t mask = p->bits == 8 ? 255 : 15;

    switch ((enum mb_packing)p->packing) {
    case MB_PACK_INTS: /* [ceil(n/f), groups], with the codes' offset */
        return (float)(int32_t)(word_at(zero, row / f * p->groups + g) >> (p->bits * (row % f)) & mask) -
               (float)(1 << (p->bits - 1));
    case MB_PACK_AWQ:
        return (float)(word_at(zero, g * words + row / 8) >> (4 * awq_nibble[row % 8]) & 15);
    case MB_PACK_GPTQ:
        return (float)((word_at(zero, g * words + row / f) >> (p->bits * (row % f)) & mask) + p->zero_add);
    case MB_PACK_MXFP4:
    case MB_PACK_I8:
    case MB_PACK_NVFP4:
    case MB_PACKINGS:
        break;
    }
    return 0;
}

static enum mb_status fill_groups(const struct mb_packed *p, const void *g_idx, int32_t *of, const char *what)
{
    for (int64_t j = 0; j < p->k; j++) {
        int32_t g = g_idx != NULL ? (int32_t)word_at(g_idx, j) : (int32_t)(j / p->group);
        if (g < 0 || g >= p->groups)
            return mb_error(MB_MODEL, "%s: g_idx of column %lld: expected 0 to %d, found %d", what,
                            (long long)j, p->groups - 1, g);
        of[j] = g;
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- codes */

static const float fp4[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

static void row_codes(const struct mb_packed *p, const uint8_t *row, float *q)
{
    int64_t f = mb_packed_word(p);
    float offset = (float)(1 << (p->bits - 1));
    uint32_t mask = p->bits == 8 ? 255 : 15;

    if (p->packing == MB_PACK_MXFP4 || p->packing == MB_PACK_NVFP4) {
        for (int64_t j = 0; j < p->k; j++)
            q[j] = fp4[row[j / 2] >> (4 * (j % 2)) & 15];
        return;
    }
    if (p->packing == MB_PACK_I8) {
        for (int64_t j = 0; j < p->k; j++)
            q[j] = (float)(int8_t)row[j];
        return;
    }
    for (int64_t j = 0; j < p->k; j++)
        q[j] = (float)(word_at(row, j / f) >> (p->bits * (j % f)) & mask) - offset;
}

/* Words lie along n: eight rows a word, or eight columns of one row. Column by column, so that the words are
 * read in order. */
static void column_codes(const struct mb_packed *p, const void *code, int64_t i0, int64_t n, float *q)
{
    int64_t f = mb_packed_word(p), words = up(p->n, f);
    uint32_t mask = p->bits == 8 ? 255 : 15;

    for (int64_t j = 0; j < p->k; j++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t r = i0 + i;
            uint32_t c = p->packing == MB_PACK_AWQ
                             ? word_at(code, j * words + r / 8) >> (4 * awq_nibble[r % 8]) & 15
                             : word_at(code, j / f * p->n + r) >> (p->bits * (j % f)) & mask;
            q[i * p->k + j] = (float)c;
        }
    }
}

/* m * 2^(e - 127) without a product, whose operands might be subnormal: what is below 2^-126 is zero. */
static float mx_value(float m, int e)
{
    uint32_t bits, exponent;

    memcpy(&bits, &m, sizeof bits);
    if (m == 0)
        return m;
    exponent = (bits >> 23 & 255) +
               (uint32_t)e; /* of m: 126 to 129; a sum of 127 or less is below the smallest normal */
    if (exponent <= MX_BIAS)
        return 0;
    exponent -= MX_BIAS;
    bits = exponent >= 255 ? (bits & 0x80000000u) | 0x7f800000u : (bits & 0x807fffffu) | exponent << 23;
    memcpy(&m, &bits, sizeof m);
    return m;
}

static void apply(const struct mb_packed *p, const float *s, const float *z, const int32_t *group, float *row)
{
    for (int64_t j = 0; j < p->k && p->packing == MB_PACK_MXFP4; j++)
        row[j] = mx_value(row[j], (int)s[group[j]]);
    for (int64_t j = 0; j < p->k && p->packing != MB_PACK_MXFP4; j++)
        row[j] = (z == NULL ? row[j] : row[j] - z[group[j]]) * s[group[j]];
}

enum mb_status mb_packed_decode(const struct mb_packed *p, const struct mb_packed_parts *in, int64_t i0,
                                int64_t n, void *scratch, float *dst, const char *what)
{
    float *s = scratch, *z = in->zero != NULL ? s + n * p->groups : NULL;
    int32_t *group = (int32_t *)(s + 2 * n * p->groups);

    MB_TRY(fill_groups(p, in->g_idx, group, what));
    MB_TRY(fill_scales(p, in, i0, n, s, what));
    for (int64_t i = 0; i < n && z != NULL; i++)
        for (int64_t g = 0; g < p->groups; g++)
            z[i * p->groups + g] = zero_of(p, in->zero, i0 + i, g);
    if (!mb_packed_by_rows(p))
        column_codes(p, in->code, i0, n, dst);
    for (int64_t i = 0; i < n; i++) {
        if (mb_packed_by_rows(p))
            row_codes(p, (const uint8_t *)in->code + i * p->row_step * mb_packed_row_bytes(p),
                      dst + i * p->k);
        apply(p, s + i * p->groups, z == NULL ? NULL : z + i * p->groups, group, dst + i * p->k);
    }
    return MB_OK;
}
