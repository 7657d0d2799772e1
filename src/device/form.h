/* Weights kept as a file stores them: codes of 4 or 8 bits, scales of groups of columns, zero points. The
 * value of element (i, j) in group g is, in f32 and then rounded to the weight's type (doc/numerics, rule 6),
 *
 *     (code - zero[i][g]) * s[i][g]       integers; zero = stored + zero_add, or zero_add alone
 *     code * s[i][g]                      FP4 (E2M1), FP8
 *     code * 2^(scale[i][g] - 127)        scales E8M0: by the exponent; below 2^-126: zero
 *
 * S8 (path int8): code * s[i][leaf], a signed byte and an f32 scale for each leaf of K; made on the device, not read
 * from files. groups is the number of leaves, and the matrix is a weight of its own (group, k0 mean nothing).
 *
 * s is the scale widened to f32, times or over the row's second scale where there is one; an s below 2^-126
 * is zero, as everywhere in the program. Groups count from column 0 of the whole matrix, of which a weight
 * may hold the columns from k0 on; with g_idx each column names its group. Pure, Local. */
#ifndef MB_DEVICE_FORM_H
#define MB_DEVICE_FORM_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "device/form_value.h"

_Static_assert(sizeof(struct mb_form) == 24, "no padding");

/* Whether files hold it: what goes between file and device is codes. */
static inline bool mb_form_stored(const struct mb_form *f)
{
    return f->code != MB_CODE_NONE && f->code != MB_CODE_S8;
}
static inline struct mb_form mb_form_s8(int32_t leaves)
{
    return (struct mb_form){.code = MB_CODE_S8, .bits = 8, .scale = MB_STORE_F32, .group = 1, .groups = leaves};
}
static inline bool mb_form_equal(const struct mb_form *a, const struct mb_form *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}
/* First group of k columns, and how many a weight of them holds. */
static inline int64_t mb_form_group0(const struct mb_form *f)
{
    return f->g_idx || f->code == MB_CODE_S8 ? 0 : f->k0 / f->group;
}
static inline int64_t mb_form_groups(const struct mb_form *f, int64_t k)
{
    return f->g_idx || f->code == MB_CODE_S8 ? f->groups : (f->k0 + k - 1) / f->group - f->k0 / f->group + 1;
}
/* Bytes of codes of a row of k in a blob. */
static inline int64_t mb_form_row_bytes(const struct mb_form *f, int64_t k)
{
    return f->bits == 4 ? (k + 1) / 2 : k;
}

/* ---------------------------------------------------------------- on the host */
/* Rows of codes outside a device; 4 bits: the low nibble is the even column. Row i of a host matrix is row
 * scale_n0 + i here and its column j is column scale_k0 + j, whose group counts from the first one held. */
struct mb_host_codes {
    struct mb_form form; /* k0: of column 0 */
    int64_t groups;      /* held */
    const uint8_t *code; /* [rows][code_stride] */
    int64_t code_stride;
    const void *scale;    /* [rows][groups] of form.scale */
    const uint8_t *zero;  /* [rows][groups], NULL: none */
    const float *whole;   /* [rows], NULL: none */
    const int32_t *g_idx; /* [columns], NULL: none */
};

/* One piece of memory for n rows of k columns: whole, g_idx, scales, zeros, codes. */
struct mb_blob {
    int64_t whole, g_idx, scale, zero, code, bytes; /* offsets, and the size */
};
static inline struct mb_blob mb_form_blob(const struct mb_form *f, int64_t n, int64_t k)
{
    int64_t cells = n * mb_form_groups(f, k);
    struct mb_blob b = {0};

    b.g_idx = f->whole ? 4 * n : 0;
    b.scale = b.g_idx + (f->g_idx ? 4 * k : 0);
    b.zero = b.scale + cells * mb_form_scale_size(f);
    b.code = b.zero + (f->zeros ? cells : 0);
    b.bytes = b.code + n * mb_form_row_bytes(f, k);
    return b;
}
static inline struct mb_host_codes mb_form_view(const struct mb_form *f, int64_t n, int64_t k,
                                                const void *blob)
{
    struct mb_blob b = mb_form_blob(f, n, k);
    const unsigned char *p = blob;

    return (struct mb_host_codes){.form = *f,
                                  .groups = mb_form_groups(f, k),
                                  .code = p + b.code,
                                  .code_stride = mb_form_row_bytes(f, k),
                                  .scale = p + b.scale,
                                  .zero = f->zeros ? p + b.zero : NULL,
                                  .whole = f->whole ? (const float *)(const void *)(p + b.whole) : NULL,
                                  .g_idx = f->g_idx ? (const int32_t *)(const void *)(p + b.g_idx) : NULL};
}
static inline uint8_t mb_host_code(const struct mb_host_codes *c, int64_t i, int64_t j)
{
    const uint8_t *row = c->code + i * c->code_stride;
    return c->form.bits == 8 ? row[j] : row[j / 2] >> (4 * (j % 2)) & 15;
}
static inline int64_t mb_host_group(const struct mb_host_codes *c, int64_t j)
{
    return c->g_idx != NULL ? c->g_idx[j] : (c->form.k0 + j) / c->form.group - c->form.k0 / c->form.group;
}

/* ---------------------------------------------------------------- in a device's memory */
/* Bytes of a panel of 16 columns (outputs), each part on a cache line of its own: codes of whole blocks of 32
 * k, scales, zero points and second scales; and of what belongs to the whole weight. */
static inline int64_t mb_form_line(int64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
static inline int64_t mb_form_panel_bytes(const struct mb_form *f, int64_t blocks, int64_t groups)
{
    return blocks * (16 * 32 / 8) * f->bits + mb_form_line(groups * 16 * mb_form_scale_size(f)) +
           (f->zeros ? mb_form_line(groups * 16) : 0) + (f->whole ? 64 : 0);
}
/* The latter: lists of groups, one more than the weight has matrices, and which of them each of n rows has.
 */
static inline int64_t mb_form_extra_bytes(const struct mb_form *f, int64_t n, int64_t k)
{
    return f->g_idx ? (f->g_idx + 1) * mb_form_line(4 * k) + mb_form_line(n) : 0;
}
#endif
