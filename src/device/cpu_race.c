/* Which of two kernel sets is faster on this machine, where no flag of the CPU says it: AVX512_BF16 has twice
 * the rate of FMA on some machines and less than it on others. About two milliseconds at start. The bits are
 * the same either way. */
#include "base/clock.h"
#include "device/cpu_tile.h"

enum { BLOCKS = 32, PANELS = 2, CALLS = 48, TRIES = 8, MOST_ROWS = 32 };

struct room {
    unsigned char x[MOST_ROWS * BLOCKS * MB_BLOCK * 4] __attribute__((aligned(64)));
    unsigned char w[PANELS * BLOCKS * MB_BLOCK * MB_PANEL * 2] __attribute__((aligned(64)));
    float c[PANELS * MOST_ROWS * MB_PANEL] __attribute__((aligned(64)));
};

/* Seconds of a row, the least of some tries: what else the machine does only adds. */
static double seconds_of(struct room *m, const struct mb_tile_kernels *k)
{
    struct mb_tile t = {.x = m->x,
                        .w = m->w,
                        .w_panel = (int64_t)sizeof m->w / PANELS,
                        .c = m->c,
                        .c_panel = k->rows * MB_PANEL,
                        .blocks = BLOCKS,
                        .panels = PANELS,
                        .rows = k->rows};
    double least = 1e9;
    k->begin();
    for (int i = 0; i < TRIES; i++) {
        double begin = mb_now();
        for (int j = 0; j < CALLS; j++)
            k->fn[MB_BF16](&t);
        double took = mb_now() - begin;
        least = took < least ? took : least;
    }
    k->end();
    return least / k->rows;
}

bool mb_tile_faster(enum mb_isa isa, enum mb_isa than)
{
    struct room *m = mb_zalloc(NULL, MB_MEM_OTHER, 1, sizeof *m);
    if (m == NULL)
        return false;
    uint32_t old = mb_fp_enter();
    bool faster = seconds_of(m, mb_tile_kernels(isa)) < seconds_of(m, mb_tile_kernels(than));
    mb_fp_restore(old);
    mb_free(m);
    return faster;
}
