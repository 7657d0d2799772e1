/* The tree rule (base/numerics.h) over leaves or nodes that come one by one, ascending in position, onto a
 * stack of open nodes. A pair of neighbours p < q is split at the highest bit in which they differ: a node of
 * the stack is whole, and its right half is on top of it, as soon as a higher split comes. */
#ifndef MB_DEVICE_CPU_TREE_H
#define MB_DEVICE_CPU_TREE_H
#include <stdint.h>

enum { MB_TREE_DEPTH = 33 }; /* most open nodes: 31-bit positions */

struct mb_tree {
    uint32_t last;               /* position on top */
    int32_t top;                 /* open nodes */
    int8_t split[MB_TREE_DEPTH]; /* of node i > 0: the bit at which it parts from node i - 1 */
};

/* Position pos comes next: how many times the two topmost nodes are joined before it is pushed. */
static inline int32_t mb_tree_next(struct mb_tree *t, int32_t pos)
{
    int32_t bit = t->top > 0 ? 31 - __builtin_clz(t->last ^ (uint32_t)pos) : 0, ends = 0;
    for (; t->top > 1 && t->split[t->top - 1] < bit; t->top--)
        ends++;
    t->split[t->top++] = (int8_t)bit;
    t->last = (uint32_t)pos;
    return ends;
}
/* Nothing comes any more: how many joins are left. */
static inline int32_t mb_tree_end(struct mb_tree *t)
{
    int32_t ends = t->top > 1 ? t->top - 1 : 0;
    t->top = 0;
    return ends;
}
/* Open nodes that positions 0 .. n - 1 (n >= 1) need at most, the next one included. */
static inline int32_t mb_tree_depth(int32_t n)
{
    return 33 - (n > 1 ? __builtin_clz((unsigned)n - 1) : 32);
}
#endif
