/* Packed GEMM weights (layout: device/cpu_tile.h), or as a file stores them: then a panel is codes of its
 * blocks, scales [group][16 columns], zero points alike, second scales [16]. The codes of a block: 4 bits [16
 * columns, in the order of mb_code_slot][16]: low nibble k, high nibble k + 16 FP8      [2 halves][16 columns
 * in that order][16 k] 8 bits   [32 k][16 columns] Values exist only in a small buffer, into which blocks are
 * unpacked as the tile kernels read them. */
#ifndef MB_DEVICE_CPU_WEIGHT_H
#define MB_DEVICE_CPU_WEIGHT_H
#include <stdatomic.h>
#include "device/cpu_tile.h"
#include "device/host.h"

/* A block of 32 k. */
struct mb_run {
    int32_t group[2]; /* of its halves, counted from the weight's first; -1: a half has several */
    int32_t k, valid; /* first column of the weight; columns before the leaf ends */
};

struct mb_weight {
    struct mb_device *dev;
    struct mb_weight_desc desc;
    int64_t block[MB_MAX_LEAVES + 1]; /* block[l]: first block of leaf l; block[leaves]: blocks of a panel */
    int64_t panels;
    int64_t panel_bytes;
    unsigned char *data; /* panels * panel_bytes; then g_idx, list_of */
    /* as stored */
    int64_t groups, code_block;          /* groups here; bytes of the codes of a block */
    int64_t scale_at, zero_at, whole_at; /* in a panel */
    int32_t lists;                       /* of groups: 1 without g_idx */
    struct mb_run *run;                  /* [lists][blocks] */
    int32_t *g_idx;                      /* [lists][list_words], or NULL */
    int64_t list_words;
    uint8_t *list_of; /* [n] list of each row, or NULL */
    atomic_bool odd;  /* has codes that only the portable way unpacks (NaN) */
};

static inline bool mb_weight_stored(const struct mb_weight *w)
{
    return w->desc.form.code != MB_CODE_NONE;
}
/* Place of k in a panel, counted in k with each leaf padded to whole blocks. */
static inline int64_t mb_weight_place(const struct mb_weight *w, int32_t leaf, int64_t k)
{
    return w->block[leaf] * MB_BLOCK + k - w->desc.leaf[leaf];
}
/* Columns c and c + 4 of each eight side by side, as 256-bit registers take them. */
static inline int64_t mb_code_slot(int64_t column)
{
    return (column / 8 * 4 + column % 4) * 2 + column / 4 % 2;
}
/* Byte of a block, and bit in it, of the code of k (0 .. 31) and a column. */
static inline int64_t mb_code_byte(const struct mb_form *f, int64_t k, int64_t column, int *shift)
{
    *shift = f->bits == 4 && k >= 16 ? 4 : 0;
    if (f->bits == 8 && f->code == MB_CODE_INT)
        return k * MB_PANEL + column;
    return (f->bits == 4 ? 0 : k / 16 * 256) + mb_code_slot(column) * 16 + k % 16;
}

/* cpu_stored.c: the parts of weight_create, weight_put and weight_get for weights kept as stored. create:
 * sizes and tables, before the data is allocated (*bytes: of it). */
enum mb_status mb_stored_create(struct mb_weight *w, uint64_t *bytes);
enum mb_status mb_stored_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
void mb_stored_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);

/* cpu_s8.c: the same for weights of the int8 path. A panel: [block][8 quads of k][16 columns][4 k] signed bytes, then f32 scales
 * [leaf][16]. put takes whole rows: numbers, which it quantises, or codes of this form. */
static inline bool mb_weight_s8(const struct mb_weight *w)
{
    return w->desc.form.code == MB_CODE_S8;
}
enum mb_status mb_s8_create(struct mb_weight *w, uint64_t *bytes);
enum mb_status mb_s8_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
void mb_s8_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);
/* cpu_gemm_s8.c: mb_cpu_gemm where all weights are of that kind; x is f32. */
enum mb_status mb_cpu_gemm_s8(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups,
                              int32_t n_groups);
/* cpu_gemm.c: the caller of a GEMM has a look at what else it has to do, once a millisecond. */
void mb_cpu_look(struct mb_stream *s);
/* cpu_unpack.c: dst[blocks e - b][32 k][16] of the weight's type, packed as the tile kernels read it. Zeros
 * where a leaf has no k; columns beyond n have unspecified finite values. In the contract's floating-point
 * mode. */
void mb_widen(const struct mb_weight *w, int64_t panel, int64_t b, int64_t e, void *dst);
/* One block: what the others must equal. */
void mb_widen_portable(const struct mb_weight *w, const unsigned char *panel, int64_t block, void *dst);
/* The same blocks; bf16 only (cpu_unpack_avx2.c). */
void mb_widen_avx2(const struct mb_weight *w, const unsigned char *panel, int64_t b, int64_t e,
                   uint16_t *dst);

/* One panel times the 1 to MB_DOT_ROWS rows of a tile (w, w_panel, panels and blocks of it are not looked at), the values on
 * their way from the tables straight into the sums: where rows are few, that is faster than a buffer. bf16 only. */
#define MB_DOT_ROWS 2
void mb_dot_avx2(const struct mb_weight *w, const unsigned char *panel, int64_t b, int64_t e, const struct mb_tile *tile);

/* List of groups of column c of a panel. */
static inline int32_t mb_stored_list(const struct mb_weight *w, const unsigned char *panel, int64_t c)
{
    int64_t row = (panel - w->data) / w->panel_bytes * MB_PANEL + c;
    return w->list_of == NULL || row >= w->desc.n ? 0 : w->list_of[row];
}
/* Scale and zero point of a group and column of a panel; the group of a column k of the weight under a list.
 */
float mb_stored_scale(const struct mb_weight *w, const unsigned char *panel, int64_t group, int64_t column);
static inline uint8_t mb_stored_zero(const struct mb_weight *w, const unsigned char *panel, int64_t group,
                                     int64_t column)
{
    return w->desc.form.zeros ? panel[w->zero_at + group * MB_PANEL + column] : 0;
}
static inline int64_t mb_stored_group(const struct mb_weight *w, int32_t list, int64_t k)
{
    const struct mb_form *f = &w->desc.form;
    return w->g_idx != NULL ? w->g_idx[list * w->list_words + k] : (f->k0 + k) / f->group - f->k0 / f->group;
}
#endif
