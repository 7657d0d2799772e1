/* Weights without files: a model known by its config.json gets numbers drawn from a seed, for measuring
 * speed. Element (i, j) of a tensor depends on the seed, the tensor's role, layer and expert, and (i, j)
 * alone: every rank that makes a part of it makes the same bits, whatever it makes beside it. Local. */
#ifndef MB_MODEL_RANDOM_H
#define MB_MODEL_RANDOM_H
#include "model/model.h"

/* Makes a model that was opened from a config.json alone ready to be read (model/reader.h). Weights are f32
 * where the config says so, else bf16: what a packed format would hold is bf16 here. MB_MODEL if the model
 * has files. */
enum mb_status mb_model_randomise(struct mb_model *m, uint64_t seed);

/* Rows [n0, n0 + n) of a tensor of such a model into dst: n * k elements of t->storage (MB_STORE_F32 or
 * MB_STORE_BF16). Norms are 1; biases, sinks and choice biases 0; the embedding is drawn with a standard
 * deviation of 1 and everything else with one of 0.02. A drawn element is sd * (b0 + b1 + b2 + b3 - 510) /
 * sqrt(21845), b the bytes of a word of Philox4x32-10: word j % 4 of counter (j / 4, i, 0, 0), key = XXH3-64
 * of four little-endian u64 (seed, role, layer, expert). */
void mb_random_rows(const struct mb_model *m, const struct mb_tensor *t, int64_t n0, int64_t n, void *dst);
#endif
