/* The numeric contract in code: the scalar definition of every sum and expression whose bits are promised. The portable
 * CPU backend is these functions in loops; every other kernel must equal it with ==. Local, pure; no allocation. */
#ifndef MB_BASE_NUMERICS_H
#define MB_BASE_NUMERICS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mb_math.h"

/* Changes whenever the bits of a result may: jobs of two versions cannot be one. */
#define MB_NUMERIC_VERSION 1

/* Rule 1, the dot rule. n products, k upward in blocks of 32 from the start of the leaf: e = FMA chain over even k from
 * +0, o = FMA chain over odd k from +0, then c = c + (e + o); missing k are zeros. Returns c, started from +0. */
float mb_dot(const float *x, const float *w, int64_t n);

/* Rule 3, R32: 32 partial sums p[j] over i = j mod 32 upwards from +0, then p[j] + p[j+16], +8, +4, +2, +1. Missing terms
 * are +0. sum: p += x (plain add); sq and dot: p = fmaf(a, b, p). */
float mb_r32_sum(const float *x, int64_t n);
float mb_r32_sq(const float *x, int64_t n);
float mb_r32_dot(const float *x, const float *w, int64_t n);
/* The end of R32: folds the 32 partial sums (overwritten) and returns the sum. For kernels that build p themselves. */
float mb_r32_end(float p[32]);

/* Rule 2, the tree rule over integer positions: a node covers an aligned power-of-two range; its value is left + right,
 * or the one that is present. Because a node with one present side has that side's value, the tree over given
 * positions is the trie of their bits: split the (ascending) list where the highest differing bit changes.
 * mb_tree_split: index m (first < m < last+1) at which the list pos[0..n) (n >= 2, strictly ascending) splits. */
int32_t mb_tree_split(const int32_t *pos, int32_t n);
/* Sum of v[0..n) at positions pos[0..n) by the tree rule; n >= 1. */
float mb_tree_sum(const float *v, const int32_t *pos, int32_t n);

/* The maximal tree nodes, among the present positions pos[0..n) (ascending), whose present leaves are all held.
 * held[i] says whether the caller holds pos[i]. Node j covers the list entries first[j] .. first[j] + count[j] - 1.
 * first, count: room for n. Returns the number of nodes (0 if none is held). This is what a rank (or node) sends. */
int32_t mb_tree_maximal(const int32_t *pos, const uint8_t *held, int32_t n, int32_t *first, int32_t *count);

/* Leaves of a row-parallel weight: K inputs in units of `unit` (o_proj: one head's value width; else 64 if K > 512, else
 * 1). begin[0 .. S] gets the S + 1 boundaries; returns S (1 .. 16). begin: room for 17. */
#define MB_MAX_LEAVES 16
int32_t mb_k_leaves(int64_t K, int64_t unit, int64_t begin[MB_MAX_LEAVES + 1]);
/* The same for a wanted number of leaves (--reduction-leaves, 1 .. 16) instead of the rule's own. */
int32_t mb_k_leaves_of(int64_t K, int64_t unit, int32_t want, int64_t begin[MB_MAX_LEAVES + 1]);
MB_INLINE int64_t mb_k_unit(int64_t K)
{
    return K > 512 ? 64 : 1;
}
/* Vocabulary leaves: 16 leaves of ceil(V/16) columns (the last may be short or absent). */
MB_INLINE int64_t mb_vocab_leaf(int64_t V)
{
    return (V + 15) / 16;
}

/* KV: blocks of 64 keys, segments of 512 positions by default (both aligned at position 0). */
#define MB_KV_BLOCK 64
#define MB_KV_SEGMENT 512

/* Online softmax state of one (row, head): m, l and an output vector kept by the caller. */
struct mb_osm {
    float m, l;
    bool present; /* false: absent (no visible key yet), not zero */
};
/* An absent side has factor 0 and is to be skipped, not scaled: its out vector may be undefined.
 * The (+) of two partial states on scalars: m = max, e_i = expf(m_i - m), l = fmaf(l1, e1, l2*e2); *e1, *e2 are the
 * factors by which the caller scales out vectors likewise: out = fmaf(o1, e1, o2*e2). Left operand first. */
struct mb_osm mb_osm_join(struct mb_osm a, struct mb_osm b, float *e1, float *e2);

/* Expressions: each has one function. */
float mb_silu(float g);                     /* g / (1 + expf(-g)) */
float mb_gelu_erf(float g);                 /* 0.5 g (1 + erf(g / sqrt 2)) */
float mb_gelu_tanh(float g);                /* 0.5 g (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) */
float mb_swiglu_clamped(float g, float u, float limit); /* GPT-OSS: (min(max(u,-L),L)+1) * min(g,L) * sigmoid(1.702 g) */
float mb_softplus(float x);                 /* max(x, 0) + log1p(t), t = expf(-|x|), w = 1 + t: log1p(t) = w == 1 ? t : logf(w) (t / (w - 1)) */
float mb_softcap(float s, float cap);       /* cap * tanhf(s / cap) */

/* Gumbel noise of token id at a position: g = -logf(-logf(u)), u = ((x >> 9) + 0.5) 2^-23, x = word (id & 3) of
 * Philox4x32-10 at counter (id >> 2, position lo, position hi, 0). */
float mb_gumbel(uint64_t key, int64_t position, int32_t id);
/* g of one 32-bit word x, for callers that use all four words of a Philox block. */
float mb_gumbel_of(uint32_t x);
#endif
