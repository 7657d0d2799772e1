/* The AMX kernels' source on tile registers in plain C that do what TDPBF16PS was measured to do; see
 * wide_avx512.c. */
#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mb_math.h"

static _Thread_local struct {
    unsigned char config[64];
    bool ready;
    unsigned char row[8][16][64];
} amx;

/* Every use of a tile register needs a configuration of 16 rows of 64 bytes. */
static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "wide_amx: %s\n", what);
        abort();
    }
}
static void load_config(const void *config)
{
    memcpy(amx.config, config, sizeof amx.config);
    need(amx.config[0] == 1, "palette");
    for (int i = 0; i < 8; i++)
        need(amx.config[16 + 2 * i] == 64 && amx.config[17 + 2 * i] == 0 && amx.config[48 + i] == 16,
             "tile shape");
    amx.ready = true;
}
static void release(void)
{
    need(amx.ready, "release without a configuration");
    amx.ready = false;
}
static void zero(int t)
{
    need(amx.ready, "no configuration");
    memset(amx.row[t], 0, sizeof amx.row[t]);
}
static void load(int t, const void *p, long stride)
{
    need(amx.ready, "no configuration");
    for (int r = 0; r < 16; r++)
        memcpy(amx.row[t][r], (const char *)p + r * stride, 64);
}
static void store(int t, void *p, long stride)
{
    need(amx.ready, "no configuration");
    for (int r = 0; r < 16; r++)
        memcpy((char *)p + r * stride, amx.row[t][r], 64);
}
static float half(const unsigned char *row, int i)
{
    uint16_t h;
    memcpy(&h, row + 2 * i, 2);
    return mb_bf16_float(h);
}
static void dot(int c, int a, int b)
{
    need(amx.ready, "no configuration");
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) {
            float even = 0, odd = 0, sum;
            for (int k = 0; k < 16; k++) {
                even = fmaf(half(amx.row[a][m], 2 * k), half(amx.row[b][k], 2 * n), even);
                odd = fmaf(half(amx.row[a][m], 2 * k + 1), half(amx.row[b][k], 2 * n + 1), odd);
            }
            memcpy(&sum, amx.row[c][m] + 4 * n, 4);
#ifdef WRONG_ORDER
            sum = sum + even;
            sum = sum + odd;
#else
            even = even + odd;
            sum = sum + even;
#endif
            memcpy(amx.row[c][m] + 4 * n, &sum, 4);
        }
}
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig load_config
#define _tile_release release
#define _tile_zero zero
#define _tile_loadd load
#define _tile_stored store
#define _tile_dpbf16ps dot
#include "device/cpu_tile_amx.c"
