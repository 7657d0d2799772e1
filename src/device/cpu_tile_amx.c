/* Dot-rule kernels on AMX tiles: TDPBF16PS adds exactly as the rule says (an FMA chain over the even k of 32,
 * one over the odd k, then c + (e + o), subnormals as zero), which the self-test confirms before it is used.
 * bf16 rows by bf16 weights only. */
#include "device/cpu_amx.h"
#include "device/cpu_tile.h"

#define AMX static __attribute__((target("amx-tile,amx-bf16")))
enum { ROWS = MB_AMX_ROWS, ROW_BYTES = MB_AMX_ROW_BYTES, TILE_BYTES = ROWS * ROW_BYTES };

/* Tiles 0..3: results of row half i / 2 and panel i % 2; 4, 5: rows; 6, 7: weights. All 16 rows of 64 bytes.
 */
AMX void end(void)
{
    _tile_release();
}

/* 16 rows by one panel; the tile may have 16 or 32 rows */
AMX void one(const char *x, int64_t x_block, const char *w, float *c, int64_t blocks, bool add)
{
    if (add)
        _tile_loadd(0, c, ROW_BYTES);
    else
        _tile_zero(0);
    for (int64_t b = 0; b < blocks; b++) {
        _tile_loadd(4, x + b * x_block, ROW_BYTES);
        _tile_loadd(6, w + b * TILE_BYTES, ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
    }
    _tile_stored(0, c, ROW_BYTES);
}

/* 32 rows by two panels */
AMX void four(const char *x, const char *w, const char *w1, float *c, float *c1, int64_t blocks, bool add)
{
    if (add) {
        _tile_loadd(0, c, ROW_BYTES);
        _tile_loadd(1, c1, ROW_BYTES);
        _tile_loadd(2, c + ROWS * MB_PANEL, ROW_BYTES);
        _tile_loadd(3, c1 + ROWS * MB_PANEL, ROW_BYTES);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t b = 0; b < blocks; b++, x += 2 * TILE_BYTES, w += TILE_BYTES, w1 += TILE_BYTES) {
        _tile_loadd(4, x, ROW_BYTES);
        _tile_loadd(6, w, ROW_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, w1, ROW_BYTES);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x + TILE_BYTES, ROW_BYTES);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, ROW_BYTES);
    _tile_stored(1, c1, ROW_BYTES);
    _tile_stored(2, c + ROWS * MB_PANEL, ROW_BYTES);
    _tile_stored(3, c1 + ROWS * MB_PANEL, ROW_BYTES);
}

AMX void tile_bf16(const struct mb_tile *t)
{
    const char *w = t->w, *x = t->x;
    int64_t x_block = t->rows * ROW_BYTES;
    int32_t p = 0;
    __asm__ volatile(
        "" ::
            : "memory"); /* rows packed before are in memory: the tile loads do not say what they read */
    for (; t->rows == 2 * ROWS && p + 2 <= t->panels; p += 2)
        four(x, w + p * t->w_panel, w + (p + 1) * t->w_panel, t->c + p * t->c_panel,
             t->c + (p + 1) * t->c_panel, t->blocks, t->add);
    for (; p < t->panels; p++)
        for (int32_t r = 0; r < t->rows; r += ROWS)
            one(x + r * ROW_BYTES, x_block, w + p * t->w_panel, t->c + p * t->c_panel + r * MB_PANEL,
                t->blocks, t->add);
}

const struct mb_tile_kernels mb_tile_amx = {
    MB_ISA_AMX, 2 * ROWS, ROWS, 2, MB_ROWS_AMX, {NULL, tile_bf16}, mb_amx_begin, end};
