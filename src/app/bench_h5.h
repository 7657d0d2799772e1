/* Results of a benchmark as HDF5, for those who read them beside the results of jobs: /results has a row for
 * each measured thing (name, unit, better, median, min, max, bound, fraction, formula; NaN and "" where there
 * is none), /samples what they were made of (offsets, values), attributes of the file the facts that are
 * texts or whole numbers, and /json the whole, which is what `bench compare` reads. Local. */
#ifndef MB_APP_BENCH_H5_H
#define MB_APP_BENCH_H5_H
#include "base/json.h"
#include "base/status.h"

/* Whether a name asks for HDF5: it ends with .h5 or .hdf5. */
bool mb_bench_h5_named(const char *path);
/* root: as mb_bench_json gives it; text: the same, printed. Appears whole or not at all. */
enum mb_status mb_bench_h5_write(const char *path, const json_t *root, const char *text);
/* Results of a benchmark from a file of either kind (told by its first bytes), at most `most` bytes of JSON.
 * Errors: MB_INPUT. */
enum mb_status mb_bench_read(const char *path, uint64_t most, json_t **out);
#endif
