/* What sampling shares with the logits operations. */
#ifndef MB_DEVICE_CPU_LOGITS_H
#define MB_DEVICE_CPU_LOGITS_H
#include "device/cpu_vec.h"

#define MB_VOCAB_LEAVES 16
/* (max, Σexp) of leaf `leaf` of a row of V logits; absent where the leaf has no column
 * above -inf (a token that can't be drawn is not visible). finite may be NULL. */
struct mb_osm mb_vocab_leaf_state(const struct mb_vec *vec, const float *z, int64_t V, int64_t leaf,
                                  bool *finite);
/* The tree over the leaves' states. */
struct mb_osm mb_vocab_tree(const struct mb_osm leaf[MB_VOCAB_LEAVES]);
#endif
