/* Device code of the tree over positions (base/numerics.h, rule 2), with nodes that come one by one,
 * ascending, onto a stack. */
#ifndef CUDA_OSM_H
#define CUDA_OSM_H
#include "cuda/launch.h"

/* A pair of neighbours p < q is split at the highest bit in which they differ: a node of the stack is whole,
 * with its right half on top of it, as soon as a higher split comes. Splits are kept as bits: of nodes of the
 * stack they fall from its bottom up. */
struct mb_nodes {
    uint32_t splits = 0; /* bit b: some node but the lowest parts from the one below at bit b */
    uint32_t last = 0;
    bool any = false;

    /* Position pos comes next: how many times the two topmost nodes are joined before it is pushed. */
    __device__ __forceinline__ int32_t next(int32_t pos)
    {
        int32_t ends = 0;
        if (any) {
            int bit = 31 - __clz(static_cast<int>(last ^ static_cast<uint32_t>(pos)));
            uint32_t below = (1u << bit) - 1;
            ends = __popc(splits & below);
            splits = (splits & ~below) | 1u << bit;
        }
        any = true;
        last = static_cast<uint32_t>(pos);
        return ends;
    }
    /* Nothing comes any more: how many joins are left. */
    __device__ __forceinline__ int32_t end()
    {
        return __popc(splits);
    }
};
#endif
