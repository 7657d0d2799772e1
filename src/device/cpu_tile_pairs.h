/* Dot-rule kernels from an instruction that multiplies pairs of bf16: per lane, sum = fma(high, high), then fma(low, low), each
 * rounded to f32. With pairs (k high, k + 2 low) that is the chain of the even k, with (k + 1, k + 3) that of the odd k, so the
 * rule's order holds exactly at two products an instruction. Rows are packed in such pairs. Weights stay as every other kernel has
 * them, pairs (k low, k + 1 high): the words of k and of k + 2 give both kinds of pairs by a shift and a blend each, which several
 * rows share. The including file has
 *   TARGET   its target attribute
 *   vec      16 floats; v_zero, v_load, v_store, v_add
 *   pairs    16 pairs of bf16; p_load, p_set1(const uint32_t *), p_even(a, b) = (low of a) high, (low of b) low,
 *            p_odd(a, b) = (high of a) high, (high of b) low; v_dot(pairs, pairs, vec)
 * and gets tile_bf16. A tile is up to ROWS_MAX rows by two panels: both chains of all of it stay in registers. */
#include <string.h>
#include "device/cpu_tile.h"
#include "device/cpu_tile_code.h"

enum { ROWS_MAX = 6, WORDS = MB_BLOCK / 2, MOST_SUMS = 2 * ROWS_MAX };

/* R rows by P panels over all blocks. x: [block][16 words: even, odd of each 4 k][R]; w: [block][16 words][16 columns]. */
KERNEL void panels(const struct mb_tile *t, const char *w, float *c, const int R, const int P)
{
    const uint32_t *x = t->x;
    const int64_t blocks = t->blocks, w_panel = t->w_panel, c_panel = t->c_panel, ahead = t->ahead;
    ROLLED for (int64_t b = 0; b < blocks; b++) {
        vec even[MOST_SUMS], odd[MOST_SUMS];
        UNROLL for (int i = 0; i < R * P; i++) even[i] = odd[i] = v_zero();
        ROLLED for (int k = 0; k < WORDS; k += 2) {
            pairs e[2], o[2];
            UNROLL for (int p = 0; p < P; p++)
            {
                const char *at = w + p * w_panel + k * (MB_PANEL * 4);
                __builtin_prefetch(at + ahead, 0, 2);
                __builtin_prefetch(at + ahead + MB_PANEL * 4, 0, 2);
                pairs first = p_load(at), second = p_load(at + MB_PANEL * 4);
                e[p] = p_even(first, second);
                o[p] = p_odd(first, second);
            }
            UNROLL for (int r = 0; r < R; r++)
            {
                pairs xe = p_set1(x + k * R + r), xo = p_set1(x + (k + 1) * R + r);
                UNROLL for (int p = 0; p < P; p++)
                {
                    even[r * P + p] = v_dot(xe, e[p], even[r * P + p]);
                    odd[r * P + p] = v_dot(xo, o[p], odd[r * P + p]);
                }
            }
        }
        UNROLL for (int i = 0; i < R * P; i++)
        {
            float *at = c + i % P * c_panel + i / P * MB_PANEL;
            v_store(at, v_add(v_load(at), v_add(even[i], odd[i])));
        }
        x += WORDS * R;
        w += MB_BLOCK * MB_PANEL * 2;
    }
}

KERNEL void rows(const struct mb_tile *t, const int R)
{
    const char *w = t->w;
    float *c = t->c;
    int32_t p = 0;
    for (; !t->add && p < t->panels; p++)
        memset(c + p * t->c_panel, 0, (size_t)R * MB_PANEL * sizeof *c);
    for (p = 0; p + 2 <= t->panels; p += 2)
        panels(t, w + p * t->w_panel, c + p * t->c_panel, R, 2);
    if (p < t->panels)
        panels(t, w + p * t->w_panel, c + p * t->c_panel, R, 1);
}

static __attribute__((target(TARGET), no_sanitize("undefined"))) void tile_bf16(const struct mb_tile *t)
{
    switch (t->rows) {
    case 1:
        rows(t, 1);
        break;
    case 2:
        rows(t, 2);
        break;
    case 3:
        rows(t, 3);
        break;
    case 4:
        rows(t, 4);
        break;
    case 5:
        rows(t, 5);
        break;
    case 6:
        rows(t, 6);
        break;
    }
}
