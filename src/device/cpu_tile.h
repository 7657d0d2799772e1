/* The dot-rule kernels: some rows times some panels of 16 columns, over whole blocks of 32 k. GEMM and
 * attention are loops around them. Packed operands: weights  [panel][block][32 k][16 columns] f32, or
 * [panel][block][16 pairs of k][16 columns][2] bf16; every leaf begins a block, missing k and columns are
 * zeros; rows     [block][32 k][rows] f32, zeros where the leaf has no k; or as enum mb_rows_as says; results  [panel][rows][16] f32. Every kernel set computes, per element, c = c + (e + o) block by
 * block as base/numerics.h says, so all have the same bits. They expect the contract's floating-point mode.
 */
#ifndef MB_DEVICE_CPU_TILE_H
#define MB_DEVICE_CPU_TILE_H
#include "device/cpu.h"

#define MB_BLOCK 32
#define MB_PANEL 16

struct mb_tile {
    const void *x;   /* rows of this tile */
    const void *w;   /* first panel, first block */
    int64_t w_panel; /* bytes from panel to panel */
    int64_t ahead;   /* while weights are read, those so many bytes further are fetched into the cache */
    float *c;
    int64_t c_panel; /* floats from panel to panel */
    int64_t blocks;
    int32_t panels; /* any number */
    int32_t rows;   /* as packed: a multiple of the kernel set's row_step, at most its rows */
    bool add;       /* false: c starts at +0 */
};
typedef void (*mb_tile_fn)(const struct mb_tile *t);

/* How a kernel set wants rows packed. */
enum mb_rows_as {
    MB_ROWS_F32,  /* [block][32 k][rows] */
    MB_ROWS_AMX,  /* [block][rows][32 k] bf16 */
    MB_ROWS_PAIRS /* [block][8][2][rows] pairs of bf16: of each 4 k, (k high, k + 2 low), then (k + 1 high, k + 3 low) */
};
struct mb_tile_kernels {
    enum mb_isa isa;
    int32_t rows, row_step; /* most rows of a tile; rows are padded to a multiple of row_step */
    int32_t panels;         /* panels that share a load of the rows */
    enum mb_rows_as rows_as;
    mb_tile_fn fn[2];       /* by weight type: MB_F32, MB_BF16 (NULL: none) */
    void (*begin)(void);    /* before a thread's first tile and after its last one: the AMX tile registers */
    void (*end)(void);
};
_Static_assert(MB_F32 == 0 && MB_BF16 == 1, "fn is indexed by type");

/* Bytes of one packed row and block. */
static inline int64_t mb_packed_block(const struct mb_tile_kernels *k)
{
    return MB_BLOCK * (k->rows_as == MB_ROWS_F32 ? 4 : 2);
}
/* Packs the n values of src (type t; NULL: zeros) as row r of a tile of `rows` rows, padded with zeros to
 * whole blocks. */
void mb_pack_row(const struct mb_tile_kernels *k, void *tile, int32_t rows, int32_t r, const void *src,
                 enum mb_dtype t, int64_t n);

/* n rows are cut evenly into the fewest tiles: tile i holds rows mb_cut_begin(i) .. mb_cut_begin(i + 1) - 1,
 * the last of which may be padding (steps * row_step rows in all). */
struct mb_cut {
    int64_t tiles, steps;
};
static inline int64_t mb_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline struct mb_cut mb_cut_rows(const struct mb_tile_kernels *k, int64_t n)
{
    int64_t steps = mb_ceil_div(n, k->row_step);
    return (struct mb_cut){mb_ceil_div(steps, k->rows / k->row_step), steps};
}
static inline int64_t mb_cut_begin(const struct mb_tile_kernels *k, struct mb_cut c, int64_t i)
{
    return c.steps * i / c.tiles * k->row_step;
}

/* The kernel set of an ISA. */
const struct mb_tile_kernels *mb_tile_kernels(enum mb_isa isa);
extern const struct mb_tile_kernels mb_tile_portable, mb_tile_avx2, mb_tile_avx512, mb_tile_bf16, mb_tile_amx;
void mb_tile_nothing(void);

/* Whether an ISA's kernels equal the scalar dot rule on this machine, on random tiles of every shape. */
bool mb_tile_self_test(enum mb_isa isa);
/* Whether a set is faster at tiles of bf16 than another one; both run on this machine (cpu_race.c). */
bool mb_tile_faster(enum mb_isa isa, enum mb_isa than);
#endif
