/* Before a kernel set computes anything, it is compared with the scalar dot rule on this machine. AMX is the
 * reason: its order of additions is measured, not promised by its makers. A few milliseconds at start. */
#include <string.h>
#include "base/rng.h"
#include "device/cpu_tile.h"

enum { BLOCKS = 3, K = BLOCKS * MB_BLOCK, MOST_ROWS = 32, PANELS = 3 };
struct sample {
    float x[MOST_ROWS * K], w[PANELS * MB_PANEL * K]; /* one after the other, exact in bf16 */
    unsigned char packed_x[MOST_ROWS * K * 4] __attribute__((aligned(64)));
    unsigned char packed_w[PANELS * MB_PANEL * K * 4] __attribute__((aligned(64)));
    float c[PANELS * MOST_ROWS * MB_PANEL] __attribute__((aligned(64)));
};

/* Values of very different sizes, now and then so small that products are flushed to zero, all exact in bf16.
 */
static void fill(float *v, int32_t n, uint64_t key)
{
    for (int32_t i = 0; i < n; i++) {
        uint32_t ctr[4] = {(uint32_t)i, 0, 0, 0}, u[4];
        mb_philox4x32(ctr, key, u);
        uint32_t exponent = 127 - 12 + u[0] % 24 - (u[1] % 32 == 0 ? 60 : 0);
        v[i] = mb_float_of((u[2] & 0x80000000u) | exponent << 23 | (u[2] & 0x7f) << 16);
    }
}

static void pack(struct sample *s, const struct mb_tile_kernels *k, enum mb_dtype t, int32_t rows)
{
    uint16_t half[K];
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t i = 0; i < K; i++)
            half[i] = mb_bf16_of(s->x[r * K + i]);
        mb_pack_row(k, s->packed_x, rows, r, half, MB_BF16, K);
    }
    for (int32_t c = 0; c < PANELS * MB_PANEL; c++)
        for (int32_t i = 0; i < K; i++) {
            int64_t panel = c / MB_PANEL * MB_PANEL * K, lane = c % MB_PANEL;
            if (t == MB_F32)
                ((float *)(void *)s->packed_w)[panel + i * MB_PANEL + lane] = s->w[c * K + i];
            else
                ((uint16_t *)(void *)s->packed_w)[panel + (i / 2 * MB_PANEL + lane) * 2 + i % 2] =
                    mb_bf16_of(s->w[c * K + i]);
        }
}

static bool same(const struct sample *s, int32_t rows)
{
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < PANELS * MB_PANEL; c++)
            if (s->c[(c / MB_PANEL * rows + r) * MB_PANEL + c % MB_PANEL] !=
                mb_dot(s->x + r * K, s->w + c * K, K))
                return false;
    return true;
}

/* One tile in two calls, the second adding to the first. */
static bool try_tile(struct sample *s, const struct mb_tile_kernels *k, enum mb_dtype t, int32_t rows)
{
    int64_t size = mb_dtype_size(t);
    fill(s->x, rows * K, (uint64_t)rows);
    fill(s->w, PANELS * MB_PANEL * K, (uint64_t)rows + 1000);
    pack(s, k, t, rows);
    struct mb_tile tile = {.x = s->packed_x, .w = s->packed_w, .w_panel = MB_PANEL * K * size, .c = s->c};
    tile.c_panel = rows * MB_PANEL;
    tile.blocks = 1;
    tile.panels = PANELS;
    tile.rows = rows;
    k->begin();
    k->fn[t](&tile);
    tile.x = s->packed_x + rows * mb_packed_block(k);
    tile.w = s->packed_w + MB_BLOCK * MB_PANEL * size;
    tile.blocks = BLOCKS - 1;
    tile.add = true;
    k->fn[t](&tile);
    k->end();
    return same(s, rows);
}

bool mb_tile_self_test(enum mb_isa isa)
{
    if (mb_isa_plain(isa) != isa && !mb_tile_self_test(MB_ISA_AVX512))
        return false; /* few rows, f32 and attention use AVX-512 there */
    const struct mb_tile_kernels *k = mb_tile_kernels(isa);
    struct sample *s = mb_zalloc(NULL, MB_MEM_OTHER, 1, sizeof *s);
    if (s == NULL)
        return false;
    uint32_t old = mb_fp_enter();
    bool ok = true;
    for (int t = 0; t < 2 && ok; t++)
        for (int32_t rows = k->row_step; rows <= k->rows && ok && k->fn[t] != NULL; rows += k->row_step)
            ok = try_tile(s, k, (enum mb_dtype)t, rows);
    mb_fp_restore(old);
    mb_free(s);
    return ok;
}
