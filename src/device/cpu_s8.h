/* Products of signed bytes with exact sums in 32 bits: the int8 path (doc/numerics, 5). Rows are quantised
 * where a GEMM reads them, each leaf of a row with a scale of its own, so that |code| <= 127 on both sides
 * and a leaf of up to 133,144 k cannot overflow. Which kernel adds, and in what order, changes no bit. */
#ifndef MB_DEVICE_CPU_S8_H
#define MB_DEVICE_CPU_S8_H
#include "device/cpu_weight.h"

#define MB_S8_MOST_K 133144 /* of a leaf: 127 * 127 * that stays below 2^31 */
#define MB_QUAD 4
#define MB_QUADS (MB_BLOCK / MB_QUAD)
#define MB_S8_BLOCK (MB_BLOCK * MB_PANEL) /* bytes of a block of a panel */

/* Some rows times a panel: c[row][16] (+)= sum over quads of k. w: [quad][16][4]. x: [quad][rows][4], in the
 * kernel's own type. */
struct mb_s8_tile {
    const void *x;
    const int8_t *w;
    int32_t *c;
    int64_t quads;
    int32_t rows;
    bool add;
};
struct mb_s8_kernels {
    int32_t rows; /* most rows of a tile */
    int32_t size; /* bytes of an element of x: 2 as int16_t, 1 as code + 128 */
    void (*fn)(const struct mb_s8_tile *t);
    /* codes of n numbers by mb_s8_scale's scale, as int16_t */
    void (*codes)(const float *x, int64_t n, float scale, int16_t *out);
    /* the bits of the largest magnitude: NaN is above infinity */
    uint32_t (*largest)(const float *x, int64_t n);
};
/* The set for an ISA; what it needs beyond the ISA is asked of the CPU. */
const struct mb_s8_kernels *mb_s8_kernels(enum mb_isa isa);
/* cpu_s8_avx2.c, for AVX-512 too */
void mb_s8_codes_avx2(const float *x, int64_t n, float scale, int16_t *out);
uint32_t mb_s8_largest_avx2(const float *x, int64_t n);
extern const struct mb_s8_kernels mb_s8_portable, mb_s8_avx2, mb_s8_vnni;
/* The same after the comparison: a set that differs here is left out with a warning. */
const struct mb_s8_kernels *mb_s8_choose(enum mb_isa isa);
/* Whether a set equals the portable one on this machine, on random tiles of every shape. */
bool mb_s8_self_test(const struct mb_s8_kernels *k);

/* Scale of numbers whose largest magnitude has these bits: m / 127, 0 if that is no normal number, NaN if m
 * is not finite (codes are then 0, and so is nothing of what is computed with them). */
float mb_s8_scale(uint32_t largest);

/* Portable C: the definition. */
uint32_t mb_s8_largest(const float *x, int64_t n);
void mb_s8_codes(const float *x, int64_t n, float scale, int16_t *out);
#endif
