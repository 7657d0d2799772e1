/* The vector kernels, once for every vector ISA: only the number of lanes and registers differs. The including file has
 *   TARGET             its target attribute, a string
 *   LANES, REGISTERS   floats in a vector, vector registers
 *   vec                  the vector type; v_zero, v_load, v_store, v_set1, v_add, v_fma(a, b, c) = a*b + c;
 *   v_even, v_odd      the even and the odd k of LANES bf16 pairs, widened to f32
 * and gets tile_f32 and tile_bf16 for up to ROWS_MAX rows. A tile is R rows by NV vectors. Where the registers allow, the
 * even and the odd chain run side by side, so that a weight is loaded once; else one after the other, so that twice the
 * rows share a load. The order inside a chain is the same, and so are the bits. */
#include <string.h>
#include "device/cpu_tile.h"
#include "device/cpu_tile_code.h"

enum {
    VECS = MB_PANEL / LANES,             /* vectors in a panel */
    SUMS = (REGISTERS - 4) / VECS * VECS, /* registers for partial sums; the rest hold weights and a row's value */
    ROWS_MAX = SUMS / 2,                 /* AVX2: one panel is 2 vectors; AVX-512: two panels are */
    MAX_NV = 2 * VECS,
    MAX_SUMS = 32
};

/* Vector v of the weights of k (f32: one k; bf16: the pair that holds k), columns v*LANES of panel v / VECS. */
KERNEL vec weight(const char *w, int64_t w_panel, int64_t k, int v, bool half)
{
    const char *p = w + (v / VECS) * w_panel;
    int column = v % VECS * LANES;
    if (!half)
        return v_load((const float *)(const void *)p + k * MB_PANEL + column);
    const void *pair = p + (k / 2 * MB_PANEL + column) * 4;
    return k % 2 == 0 ? v_even(pair) : v_odd(pair);
}

/* Asks for the line of k's weights `ahead` bytes further. Hardware prefetchers stop at 4 KiB, a page of keys or values
 * is often no longer. */
KERNEL void fetch(const char *w, int64_t w_panel, int64_t ahead, int k, const int NV, const bool half)
{
    const char *line = w + ahead + (half ? k / 2 : k) * (MB_PANEL * 4);
    if (half && k % 2 != 0)
        return;
    _mm_prefetch(line, _MM_HINT_T1);
    if (NV > VECS)
        _mm_prefetch(line + w_panel, _MM_HINT_T1);
}

/* sum += one chain of a block: 16 values of k from `parity` in steps of 2 */
KERNEL void chain(vec sum[], const float *x, const char *w, int64_t w_panel, int64_t ahead, int parity,
                   const int R, const int NV,
                  const bool half)
{
    ROLLED for (int k = parity; k < MB_BLOCK; k += 2) {
        vec b[MAX_NV];
        fetch(w, w_panel, ahead, k, NV, half);
        UNROLL for (int v = 0; v < NV; v++) b[v] = weight(w, w_panel, k, v, half);
        UNROLL for (int r = 0; r < R; r++) {
            vec a = v_set1(x + k * R + r);
            UNROLL for (int v = 0; v < NV; v++) sum[r * NV + v] = v_fma(a, b[v], sum[r * NV + v]);
        }
    }
}

/* both chains of a block side by side */
KERNEL void chains(vec even[], vec odd[], const float *x, const char *w, int64_t w_panel, int64_t ahead,
                   const int R, const int NV,
                   const bool half)
{
    ROLLED for (int k = 0; k < MB_BLOCK; k += 2) {
        vec b[MAX_NV], d[MAX_NV];
        fetch(w, w_panel, ahead, k, NV, half);
        fetch(w, w_panel, ahead, k + 1, NV, half);
        UNROLL for (int v = 0; v < NV; v++)
        {
            b[v] = weight(w, w_panel, k, v, half);
            d[v] = weight(w, w_panel, k + 1, v, half);
        }
        UNROLL for (int r = 0; r < R; r++) {
            vec a = v_set1(x + k * R + r), c = v_set1(x + (k + 1) * R + r);
            UNROLL for (int v = 0; v < NV; v++)
            {
                even[r * NV + v] = v_fma(a, b[v], even[r * NV + v]);
                odd[r * NV + v] = v_fma(c, d[v], odd[r * NV + v]);
            }
        }
    }
}


KERNEL void panels(const struct mb_tile *t, const char *w, float *c, const int R, const int NV, const bool half)
{
    const float *x = t->x;
    const int64_t blocks = t->blocks, w_panel = t->w_panel, c_panel = t->c_panel, ahead = t->ahead;
    ROLLED for (int64_t b = 0; b < blocks; b++) {
        vec even[MAX_SUMS], odd[MAX_SUMS];
        UNROLL for (int i = 0; i < R * NV; i++) even[i] = odd[i] = v_zero();
        if (2 * R * NV <= SUMS) {
            chains(even, odd, x, w, w_panel, ahead, R, NV, half);
        } else {
            chain(even, x, w, w_panel, ahead, 0, R, NV, half);
            chain(odd, x, w, w_panel, ahead, 1, R, NV, half);
        }
        UNROLL for (int i = 0; i < R * NV; i++)
        {
            float *at = c + (i % NV / VECS) * c_panel + i / NV * MB_PANEL + i % VECS * LANES;
            v_store(at, v_add(v_load(at), v_add(even[i], odd[i])));
        }
        x += MB_BLOCK * R;
        w += MB_BLOCK * MB_PANEL * (half ? 2 : 4);
    }
}

/* all panels of a tile of R rows: two at a time where the registers hold them */
KERNEL void rows(const struct mb_tile *t, const int R, const bool half)
{
    const char *w = t->w;
    float *c = t->c;
    int32_t p = 0;
    for (; !t->add && p < t->panels; p++)
        memset(c + p * t->c_panel, 0, (size_t)R * MB_PANEL * sizeof *c);
    p = 0;
    if (R * MAX_NV <= SUMS)
        for (; p + 2 <= t->panels; p += 2)
            panels(t, w + p * t->w_panel, c + p * t->c_panel, R, MAX_NV, half);
    for (; p < t->panels; p++)
        panels(t, w + p * t->w_panel, c + p * t->c_panel, R, VECS, half);
}

#define ROWS_CASE(R, half)                                                                                             \
    case R:                                                                                                            \
        rows(t, R, half);                                                                                              \
        break;
#if LANES == 8
#define ROWS_MORE(half)
#else
#define ROWS_MORE(half)                                                                                                \
    ROWS_CASE(7, half) ROWS_CASE(8, half) ROWS_CASE(9, half)                                                           \
    ROWS_CASE(10, half) ROWS_CASE(11, half) ROWS_CASE(12, half) ROWS_CASE(13, half) ROWS_CASE(14, half)
#endif
#define ROWS_SWITCH(half)                                                                                              \
    switch (t->rows) {                                                                                                 \
        ROWS_CASE(1, half) ROWS_CASE(2, half) ROWS_CASE(3, half)                                                       \
        ROWS_CASE(4, half) ROWS_CASE(5, half) ROWS_CASE(6, half)                                                       \
        ROWS_MORE(half)                                                                                                \
    }

static __attribute__((target(TARGET), no_sanitize("undefined"))) void tile_f32(const struct mb_tile *t)
{
    ROWS_SWITCH(false)
}
static __attribute__((target(TARGET), no_sanitize("undefined"))) void tile_bf16(const struct mb_tile *t)
{
    ROWS_SWITCH(true)
}
