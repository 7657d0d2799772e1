/* Shares of what leaves divide (doc/numerics, Leaves): rank r of `of` ranks has leaves [S r / of, S (r + 1) /
 * of) of each sum, and the heads, widths and columns that belong to them. What the engine loads and what the
 * budget predicts come from here. Pure, Local. */
#ifndef MB_PLAN_PARTS_H
#define MB_PLAN_PARTS_H
#include "base/numerics.h"
#include "model/model.h"
#include "plan/grid.h"

struct mb_part_heads {
    int32_t head0, heads;  /* query heads of the rank: those of its leaves of the output projection */
    int32_t kv0, kv_heads; /* KV heads that they read; several ranks may read one */
};
struct mb_part_heads mb_part_heads(const struct mb_model *m, int32_t r, int32_t of);
/* The same of gated DeltaNet: value heads, those of its leaves of their output projection, and the key heads that these read;
 * zeros for a model without. */
struct mb_part_heads mb_part_delta(const struct mb_model *m, int32_t r, int32_t of);
/* Inputs of the share of a down-projection with ffn inputs; 0 for none. */
int64_t mb_part_width(int64_t ffn, int32_t r, int32_t of);
/* Columns [v0, v1) of the vocabulary: whole leaves, maybe none. */
void mb_part_vocab(int64_t vocab, int32_t r, int32_t of, int64_t *v0, int64_t *v1);
/* Maximal tree nodes of the share of S leaves: first leaf and number of leaves of each; returns how many. */
int32_t mb_part_nodes(int32_t S, int32_t r, int32_t of, int32_t first[MB_MAX_LEAVES],
                      int32_t count[MB_MAX_LEAVES]);
/* What a rank keeps of a weight [n, k] of this role: rows (outputs) [n0, n1), columns (inputs) [k0, k1).
 * Weights that make heads, kv_b, gate and up are cut by outputs; the output projection and down-projections
 * by inputs, at leaves of `unit` inputs (0: the sum over inputs is one leaf). Others are whole. r, of: place
 * in the tensor group, or in the slice group for a weight of routed experts. */
struct mb_part_matrix {
    int64_t n0, n1, k0, k1, unit;
};
struct mb_part_matrix mb_part_matrix(const struct mb_model *m, enum mb_role role, int64_t n, int64_t k,
                                     int32_t r, int32_t of);
#endif
