/* The tree over a weight's leaves, which come in order, for one output of a GEMM. */
#ifndef CUDA_TREE_H
#define CUDA_TREE_H
#include "cuda/row.h"

enum { MB_TREE_LEVELS = 4 }; /* open nodes of 16 leaves */

/* Sums of one output: of the leaf under way, and of nodes whose right half is missing. */
struct mb_total {
    float c, open[MB_TREE_LEVELS];
};

/* Leaf l is done: it closes the nodes whose right half it ends. Places in `open` are known to the compiler: registers. */
MB_DEVICE void mb_end_leaf(struct mb_total &t, int32_t l)
{
    float v = t.c;
    bool moving = true;

    MB_UNROLL
    for (int i = 0; i < MB_TREE_LEVELS; i++) {
        bool closes = moving && (l >> i & 1) != 0;
        if (moving && !closes)
            t.open[i] = v;
        v = closes ? t.open[i] + v : v;
        moving = closes;
    }
    t.c = moving ? v : 0; /* moving: the root of 16 leaves */
}

MB_DEVICE float mb_root_of(const struct mb_total &t, int32_t leaves)
{
    float v = t.c; /* of 16 */
    bool any = leaves == 1 << MB_TREE_LEVELS;

    MB_UNROLL
    for (int i = 0; i < MB_TREE_LEVELS; i++)
        if ((leaves >> i & 1) != 0) {
            v = any ? t.open[i] + v : t.open[i];
            any = true;
        }
    return v;
}
#endif
