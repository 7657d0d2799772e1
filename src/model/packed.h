/* Weights stored in fewer bits than their values have: what a file holds for one matrix [n, k], and its way
 * to rows of codes.
 *
 * The value of element (i, j) is fl32((q - z) * s): q the stored code, z the zero point of its group (0:
 * none), s the group's scale widened to f32. Where a format has two scales, s = fl32(block * tensor) or
 * fl32(block / tensor). MXFP4's scale is a power of two that is applied to the exponent; values below 2^-126
 * are zero. Groups count from column 0 of the whole matrix. Layouts: doc/formats in the words of those who
 * publish them:
 *  - MXFP4 (gpt-oss): blocks U8 [E, rows, k/32, 16], low nibble first; scales U8 [E, rows, k/32], 2^(s - 127)
 *  - MXFP4 with a tensor for each expert (compressed-tensors): weight_packed U8 [n, k/2], weight_scale U8 [n, k/32]
 *  - packed integers (compressed-tensors): I32 [n, ceil(k/f)], f codes of 32/f bits a word along k, offset
 * 2^(bits-1); scales [n, groups]; zero points I32 [ceil(n/f), groups] packed along n; g_idx I32 [k]: group of
 * a column
 *  - plain integers (compressed-tensors int-quantized): I8 [n, k], scales [n, groups]
 *  - AWQ (gemm): I32 [k, n/8], column c of the word's eight at nibble 0 4 1 5 2 6 3 7; zero points alike
 * [groups, n/8]; scales [groups, n]
 *  - GPTQ: I32 [k/f, n] along k; zero points I32 [groups, n/f] along n, stored minus 1 in version 1 and never
 * masked; scales [groups, n]; g_idx [k]
 *  - NVFP4: U8 [n, k/2], low nibble first; scales E4M3 [n, k/16]; one f32 that multiplies (modelopt) or
 * divides (compressed-tensors) Pure, Local, but mb_packed_bind, which reads no file either. */
#ifndef MB_MODEL_PACKED_H
#define MB_MODEL_PACKED_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "device/ops.h"

enum mb_packing {
    MB_PACK_MXFP4,
    MB_PACK_INTS,
    MB_PACK_I8,
    MB_PACK_AWQ,
    MB_PACK_GPTQ,
    MB_PACK_NVFP4,
    MB_PACKINGS
};

/* Bytes of a tensor in a file; bytes 0: the format has none. */
struct mb_packed_bytes {
    uint64_t offset, bytes;
    uint16_t file;
};

struct mb_packed {
    uint8_t packing;       /* enum mb_packing */
    uint8_t bits;          /* of a code */
    uint8_t zero_add;      /* added to stored zero points */
    uint8_t scale_storage; /* enum mb_storage of scales; MXFP4: none */
    bool divides;          /* the tensor's scale divides */
    bool shuffled;         /* groups are not runs of columns (act-order) */
    int32_t n, k;
    int32_t groups, group;  /* columns of a group: all but the last have as many (without g_idx) */
    int32_t row0, row_step; /* stored row of logical row i: row0 + i * row_step (MXFP4's gate and up) */
    struct mb_packed_bytes code, scale, zero, g_idx, tensor_scale;
};

/* Codes a 32-bit word. */
static inline int32_t mb_packed_word(const struct mb_packed *p)
{
    return 32 / p->bits;
}
/* Along k in memory (rows of codes are contiguous), or along n. */
static inline bool mb_packed_by_rows(const struct mb_packed *p)
{
    return p->packing != MB_PACK_AWQ && p->packing != MB_PACK_GPTQ;
}
/* Bytes of codes of one stored row (by rows), and the piece of `code` that rows [i0, i0 + n) need: offset
 * from its start. */
int64_t mb_packed_row_bytes(const struct mb_packed *p);
void mb_packed_codes(const struct mb_packed *p, int64_t i0, int64_t n, uint64_t *off, uint64_t *bytes);
/* The same of `scale`. */
void mb_packed_scales(const struct mb_packed *p, int64_t i0, int64_t n, uint64_t *off, uint64_t *bytes);
/* The same format as a device knows it, and bytes of a blob (device/form.h) of n rows. */
void mb_packed_form(const struct mb_packed *p, struct mb_form *f);
int64_t mb_packed_blob(const struct mb_packed *p, int64_t n);

/* What rows [i0, i0 + n) were read into. Pointers may be unaligned but for g_idx; NULL where the format has
 * none. */
struct mb_packed_parts {
    const void *code, *scale; /* the pieces that mb_packed_codes and mb_packed_scales name */
    const void *zero;         /* whole */
    const void *g_idx, *tensor_scale;
};
/* blob = the rows. what: the tensor's name for messages. Errors: MB_MODEL, logged: a g_idx outside the groups, an
 * exponent that stands for NaN. */
enum mb_status mb_packed_rows(const struct mb_packed *p, const struct mb_packed_parts *in, int64_t i0, int64_t n,
                              void *blob, const char *what);
/* "mxfp4", "int4", "int8", "awq", "gptq", "nvfp4" */
const char *mb_packed_name(const struct mb_packed *p);
/* Whether the table's entry can be read: sizes fit each other, places lie in files of these sizes. */
bool mb_packed_fits(const struct mb_packed *p, const uint64_t *file_bytes, int32_t n_files);
#endif
