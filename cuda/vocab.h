/* Rows of logits: the log-softmax statistics by 16 vocabulary leaves, by the warps of one block. */
#ifndef CUDA_VOCAB_H
#define CUDA_VOCAB_H
#include "cuda/row.h"

enum { MB_VOCAB_LEAVES = 16 };

/* A leaf's state, its first largest logit (the leaf's end: none), and whether all are finite: in all lanes. */
struct mb_leaf {
    struct mb_osm s;
    int32_t best;
    bool finite;
};

MB_DEVICE struct mb_leaf mb_leaf_of(const float *z, int64_t V, int leaf)
{
    int64_t width = mb_vocab_leaf(V), begin = leaf * width, end = begin + width < V ? begin + width : V;
    struct mb_best b = {-INFINITY, -1};
    struct mb_leaf l;
    bool odd = false;

    for (int64_t i = begin + mb_lane(); i < end; i += MB_WARP) {
        struct mb_best c = {z[i], static_cast<int32_t>(i)};
        odd |= (mb_bits_of(c.v) & 0x7f800000u) == 0x7f800000u;
        if (c.v == c.v)
            b = mb_better(b, c);
    }
    b = mb_warp_best(b);
    l.finite = !__any_sync(MB_ALL, odd);
    l.best = b.at >= 0 ? b.at : begin < end ? static_cast<int32_t>(end) : 0;
    l.s.m = b.at >= 0 ? b.v + 0.0f : -INFINITY; /* -0 and +0 are one value */
    l.s.present = l.s.m > -INFINITY;
    l.s.l = 0;
    if (l.s.present) {
        const float *p = z + begin;
        float m = l.s.m;
        l.s.l = mb_r32_terms(end - begin, [=](float sum, int64_t i) { return sum + mb_expf_inl(p[i] - m); });
    }
    return l;
}

/* The tree over the leaves' states, which lanes 0 .. 15 of a warp have: 16 positions, so that halving is the tree. In lane 0. */
MB_DEVICE struct mb_osm mb_vocab_tree(struct mb_osm s)
{
    for (int d = 1; d < MB_VOCAB_LEAVES; d *= 2) {
        struct mb_osm right;
        float e1, e2;
        right.m = __shfl_down_sync(MB_ALL, s.m, d);
        right.l = __shfl_down_sync(MB_ALL, s.l, d);
        right.present = __shfl_down_sync(MB_ALL, static_cast<int>(s.present), d) != 0;
        s = mb_osm_join_inl(s, right, &e1, &e2);
    }
    return s;
}

/* The best of a block's threads, in all of them. room: one for each warp. */
MB_DEVICE struct mb_best mb_block_best(struct mb_best b, struct mb_best *room, int warps)
{
    b = mb_warp_best(b);
    __syncthreads(); /* room may still be read */
    if (mb_lane() == 0)
        room[mb_warp()] = b;
    __syncthreads();
    b.at = -1;
    for (int i = 0; i < warps; i++)
        b = mb_better(b, room[i]);
    return b;
}
#endif
