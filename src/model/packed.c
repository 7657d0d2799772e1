/* From the tensors of packed formats to rows of codes. */
#include "model/packed.h"

#include <string.h>
#include "base/log.h"
#include "base/mem.h"

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

void mb_packed_form(const struct mb_packed *p, struct mb_form *f)
{
    bool fp4 = p->packing == MB_PACK_MXFP4 || p->packing == MB_PACK_NVFP4, zeros = p->zero.bytes > 0;

    *f = (struct mb_form){.code = fp4 ? MB_CODE_FP4 : MB_CODE_INT,
                          .bits = p->bits,
                          .scale = p->packing == MB_PACK_MXFP4 ? MB_SCALE_E8M0 : p->scale_storage,
                          .zeros = zeros,
                          .whole = p->tensor_scale.bytes == 0 ? MB_WHOLE_NONE : p->divides ? MB_WHOLE_OVER : MB_WHOLE_TIMES,
                          .g_idx = p->g_idx.bytes > 0,
                          .zero_add = (int16_t)(fp4 ? 0 : zeros ? p->zero_add : 1 << (p->bits - 1)),
                          .group = p->group,
                          .groups = p->groups};
}

int64_t mb_packed_blob(const struct mb_packed *p, int64_t n)
{
    struct mb_form f;

    mb_packed_form(p, &f);
    return mb_form_blob(&f, n, p->k).bytes;
}

/* ---------------------------------------------------------------- scales, zero points, groups */

static enum mb_status put_scales(const struct mb_packed *p, const struct mb_packed_parts *in, int64_t i0, int64_t n,
                                 int64_t groups, uint8_t *to, const char *what)
{
    int64_t size = scale_size(p);

    for (int64_t i = 0; i < n; i++) {
        for (int64_t g = 0; g < groups; g++, to += size) {
            int64_t at = mb_packed_by_rows(p) ? i * p->row_step * p->groups + g : g * p->n + i0 + i;
            memcpy(to, (const uint8_t *)in->scale + at * size, (size_t)size);
            if (p->packing == MB_PACK_MXFP4 && *to == MX_NAN)
                return mb_error(MB_MODEL,
                                "%s: scale of row %lld, block %lld: expected an exponent below 255, found 255 (NaN)",
                                what, (long long)(i0 + i), (long long)g);
        }
    }
    return MB_OK;
}

/* The nibble of an AWQ word that has column c of its eight. */
static const uint8_t awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/* As stored: codes and zero points of packed integers have the same offset, which falls out. */
static uint8_t zero_of(const struct mb_packed *p, const void *zero, int64_t row, int64_t g)
{
    int64_t f = mb_packed_word(p), words = up(p->n, f);
    uint32_t mask = p->bits == 8 ? 255 : 15;

    if (p->packing == MB_PACK_INTS) /* [ceil(n/f), groups] */
        return (uint8_t)(word_at(zero, row / f * p->groups + g) >> (p->bits * (row % f)) & mask);
    if (p->packing == MB_PACK_AWQ)
        return word_at(zero, g * words + row / 8) >> (4 * awq_nibble[row % 8]) & 15;
    return (uint8_t)(word_at(zero, g * words + row / f) >> (p->bits * (row % f)) & mask);
}

static enum mb_status put_groups(const struct mb_packed *p, const void *g_idx, uint8_t *to, const char *what)
{
    for (int64_t j = 0; j < p->k; j++) {
        int32_t g = (int32_t)word_at(g_idx, j);
        if (g < 0 || g >= p->groups)
            return mb_error(MB_MODEL, "%s: g_idx of column %lld: expected 0 to %d, found %d", what, (long long)j,
                            p->groups - 1, g);
    }
    memcpy(to, g_idx, 4 * (size_t)p->k);
    return MB_OK;
}

/* ---------------------------------------------------------------- codes */

/* Stored by rows, the bytes are already those of a blob: low nibbles are even columns. Plain integers get the
 * offset of packed ones. */
static void put_rows(const struct mb_packed *p, const void *code, int64_t n, uint8_t *to, int64_t stride)
{
    for (int64_t i = 0; i < n; i++, to += stride) {
        memcpy(to, (const uint8_t *)code + i * p->row_step * mb_packed_row_bytes(p), (size_t)stride);
        for (int64_t j = 0; j < stride && p->packing == MB_PACK_I8; j++)
            to[j] ^= 0x80;
    }
}

/* Words lie along n: eight rows a word, or f columns of one row. Word by word, so that they are read in order. */
static void put_columns(const struct mb_packed *p, const void *code, int64_t i0, int64_t n, uint8_t *to, int64_t stride)
{
    int64_t f = mb_packed_word(p), words = up(p->n, f);

    for (int64_t j = 0; j < p->k && p->packing == MB_PACK_AWQ; j++) {
        for (int64_t i = 0; i < n; i++) {
            int64_t r = i0 + i;
            uint32_t c = word_at(code, j * words + r / 8) >> (4 * awq_nibble[r % 8]) & 15;
            uint8_t *at = to + i * stride + j / 2;
            *at = (uint8_t)(j % 2 == 0 ? c : *at | c << 4);
        }
    }
    for (int64_t j = 0; j < up(p->k, f) && p->packing == MB_PACK_GPTQ; j++) {
        int64_t bytes = stride - 4 * j < 4 ? stride - 4 * j : 4;
        for (int64_t i = 0; i < n; i++) {
            uint32_t w = word_at(code, j * p->n + i0 + i);
            memcpy(to + i * stride + 4 * j, &w, (size_t)bytes);
        }
    }
}

enum mb_status mb_packed_rows(const struct mb_packed *p, const struct mb_packed_parts *in, int64_t i0, int64_t n,
                              void *blob, const char *what)
{
    struct mb_form f;
    uint8_t *to = blob;

    mb_packed_form(p, &f);
    struct mb_blob b = mb_form_blob(&f, n, p->k);
    int64_t stride = mb_form_row_bytes(&f, p->k), groups = mb_form_groups(&f, p->k);
    if (f.g_idx)
        MB_TRY(put_groups(p, in->g_idx, to + b.g_idx, what));
    MB_TRY(put_scales(p, in, i0, n, groups, to + b.scale, what));
    for (int64_t i = 0; i < n && f.zeros; i++)
        for (int64_t g = 0; g < groups; g++)
            to[b.zero + i * groups + g] = zero_of(p, in->zero, i0 + i, g);
    for (int64_t i = 0; i < n && f.whole; i++)
        memcpy(to + b.whole + 4 * i, in->tensor_scale, 4);
    if (mb_packed_by_rows(p))
        put_rows(p, in->code, n, to + b.code, stride);
    else
        put_columns(p, in->code, i0, n, to + b.code, stride);
    return MB_OK;
}
