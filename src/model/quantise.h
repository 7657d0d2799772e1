/* From numbers to codes: the forms in which `moebatch quantize` stores matrices (doc/formats). Pure, Local.
 */
#ifndef MB_MODEL_QUANTISE_H
#define MB_MODEL_QUANTISE_H
#include <stdbool.h>
#include <stdint.h>

enum mb_quantised {
    MB_QUANTISED_INT8,  /* -127 to 127, one bf16 scale a row */
    MB_QUANTISED_FP8,   /* E4M3, one f32 scale for 128 rows by 128 columns */
    MB_QUANTISED_MXFP4, /* E2M1, a power of two for 32 columns */
    MB_QUANTISED_INT4,  /* -8 to 7, one bf16 scale for 32 or 128 columns */
    MB_QUANTISED_COUNT
};
#define MB_FP8_BLOCK 128

/* "int8", "fp8", "mxfp4", "int4"; -1: none of them. */
int mb_quantised_find(const char *name);
const char *mb_quantised_name(enum mb_quantised q);

/* What became of numbers: sums of squares of the numbers and of what they lost, and the largest loss. */
struct mb_loss {
    double square, lost, worst;
    int64_t bad; /* numbers that are not finite */
};
void mb_loss_add(struct mb_loss *to, const struct mb_loss *more);
/* sqrt(lost / square); 0 for zeros. */
double mb_loss_part(const struct mb_loss *l);

/* A matrix as it is stored. Rows of codes: int8 and int4 offset by 128 and 8, in little-endian words of 32
 * bits along the row, the last one filled up with zeros; E2M1 two in a byte, the low four bits first; E4M3 a
 * byte each. */
struct mb_quantiser {
    enum mb_quantised to;
    int32_t group; /* columns of a scale: int4; else what the form has */
};
static inline int64_t mb_quantised_columns(const struct mb_quantiser *q, int64_t k)
{
    return q->to == MB_QUANTISED_INT8    ? k
           : q->to == MB_QUANTISED_FP8   ? MB_FP8_BLOCK
           : q->to == MB_QUANTISED_MXFP4 ? 32
                                         : q->group;
}
/* Bytes of a row of codes, of a row of scales (FP8: of 128 rows), and whether every group is whole. */
int64_t mb_quantised_row(const struct mb_quantiser *q, int64_t k);
int64_t mb_quantised_scales(const struct mb_quantiser *q, int64_t k);
bool mb_quantised_fits(const struct mb_quantiser *q, int64_t k);

/* n rows of k numbers to n rows of codes and scales; FP8: n whole blocks of rows, or the matrix ends with
 * them. Adds to *loss; numbers that are not finite are counted there and stored as zero. */
void mb_quantise(const struct mb_quantiser *q, const float *w, int64_t n, int64_t k, void *codes,
                 void *scales, struct mb_loss *loss);
#endif
