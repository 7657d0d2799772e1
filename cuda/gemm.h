/* GEMM weights in device memory, and the launchers of what reads and writes them. Read by C and C++.
 *
 * A weight is panels of 16 columns (outputs), a panel blocks of 32 k (each leaf begins one), and behind them, of weights kept as
 * stored, scales [group][16 columns], zero points alike, second scales [16] (device/form.h has the sizes: those of the CPU).
 * Inside a block elements lie as the threads of a warp take them, 16 bytes each, without a gap between neighbours: a thread has
 * 4 columns (q) of the even or of the odd k (p), so that what it loads goes into one of the two chains of the dot rule, and a row's
 * value serves four products. With V elements in 16 bytes, m = k / 2, p = k % 2, q = column / 4, j = column % 4:
 *
 *     place in the block = ((m / (V/4) * 4 + q) * 2 + p) * V + m % (V/4) * 4 + j
 *
 * in elements: f32 (V 4), bf16 (8), codes of 8 bits (16) and of 4 bits (32, the low nibble first). Signed bytes (path int8) lie with
 * the last two terms the other way round, j * 4 + m % 4: four k of a column in a word. */
#ifndef CUDA_GEMM_H
#define CUDA_GEMM_H
#include "cuda/kernels.h"

enum { MB_BLOCK = 32, MB_PANEL = 16 };

/* Place of element (k, column) of a block, in elements of `bits` bits. */
MB_INLINE int32_t mb_block_place(int32_t bits, bool s8, int32_t k, int32_t column)
{
    int32_t v = 128 / bits, quad = v / 4, m = k / 2, p = k % 2, q = column / 4, j = column % 4;
    int32_t in = s8 ? j * 4 + m % quad : m % quad * 4 + j;
    return ((m / quad * 4 + q) * 2 + p) * v + in;
}

/* A weight as kernels see it; lies in device memory in front of its panels. */
struct mb_k_weight {
    const uint8_t *data;    /* panels */
    int64_t panel_bytes;
    int64_t scale_at, zero_at, whole_at; /* in a panel */
    const int32_t *g_idx;   /* [lists][list_words] or NULL */
    const uint8_t *list_of; /* [n] or NULL */
    int64_t list_words;
    int32_t n, k, blocks, block_bytes, bits;
    int32_t dtype; /* enum mb_dtype of its values */
    int32_t group0; /* group that its first one is of the whole matrix's */
    int32_t leaves;
    int32_t leaf[MB_MAX_LEAVES + 1], block[MB_MAX_LEAVES + 1];
    struct mb_form form;
};
MB_INLINE int32_t mb_leaf_of_block(const struct mb_k_weight *w, int32_t block)
{
    int32_t l = 0;
    while (l + 1 < w->leaves && w->block[l + 1] <= block)
        l++;
    return l;
}
/* First k of a block, and how many it has. */
MB_INLINE int32_t mb_block_k(const struct mb_k_weight *w, int32_t block, int32_t *valid)
{
    int32_t l = mb_leaf_of_block(w, block), k = w->leaf[l] + (block - w->block[l]) * MB_BLOCK, left = w->leaf[l + 1] - k;
    *valid = left < MB_BLOCK ? left : MB_BLOCK;
    return k;
}

/* One group's rows in a launch. An item is a tile of rows by some panels; those of a job begin at item0. */
struct mb_k_job {
    const struct mb_k_weight *w;
    const float *bias; /* [n] or NULL */
    int64_t row0, x_col, out_col;
    int32_t rows, item0;
    int32_t row_tiles;
};

#ifdef __cplusplus
extern "C" {
#endif
/* gemm.cu: few rows. Tiles of at most MB_FEW_ROWS rows by a panel; most_rows: of any job. */
enum { MB_FEW_ROWS = 16 };
cudaError_t mb_k_gemm_few(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs,
                          int32_t items, int32_t kind, int32_t most_rows);
/* gemm_tile.cu: many rows. Tiles of MB_TILE_ROWS or half as many (narrow) rows by MB_TILE_PANELS panels. */
enum { MB_TILE_ROWS = 64, MB_TILE_PANELS = 4 };
cudaError_t mb_k_gemm_tile(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs,
                           int32_t items, int32_t kind, int32_t narrow);
/* What a launch's weights are: their loads and values are compiled for it. */
enum mb_weight_kind { MB_KIND_F32, MB_KIND_BF16, MB_KIND_CODES_F32, MB_KIND_CODES_BF16 }; /* the latter: stored, of that type */

/* weight.cu: rows [n0, n0 + n) and columns [k0, k0 + k) of a weight from rows of numbers or to them */
struct mb_k_rows {
    void *p;
    int64_t stride;   /* elements from row to row */
    int32_t storage;  /* enum mb_storage, not CODES */
    const float *scale; /* of FP8: [n][scale_stride], one for each k / block_k */
    int64_t scale_stride;
    int32_t block_k, first_k; /* column k of the rows has scale (first_k + k) / block_k */
};
cudaError_t mb_k_pack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k0, int64_t k,
                      struct mb_k_rows from);
cudaError_t mb_k_unpack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k, void *rows);
/* Codes of 4 or 8 bits: rows of `stride` bytes, of which column `first` is the weight's column k0. */
cudaError_t mb_k_pack_codes(cudaStream_t s, const struct mb_k_weight *w, int32_t bits, int64_t n0, int64_t n, int64_t k0, int64_t k,
                            const uint8_t *codes, int64_t stride, int32_t first);
cudaError_t mb_k_unpack_codes(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int64_t k, uint8_t *codes,
                              int64_t stride);
/* Tables beside the codes, of `size` bytes an element: to panel offset `at`, [group][16]; from or to [n][groups], groups g0 .. */
cudaError_t mb_k_pack_table(cudaStream_t s, const struct mb_k_weight *w, int64_t at, int32_t size, int64_t n0, int64_t n,
                            int32_t g0, int32_t groups, void *table, int32_t unpack);
#ifdef __cplusplus
}
#endif
#endif
