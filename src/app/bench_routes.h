/* Routes for measuring exchanges: which experts rows go to. Pure. */
#ifndef MB_APP_BENCH_ROUTES_H
#define MB_APP_BENCH_ROUTES_H
#include <stdint.h>
#include "base/status.h"

/* An option's "uniform", or "zipf:S" with S > 0: the i-th most chosen expert is chosen as often as 1 / i^S
 * says, which of them that is follows from the seed. *exponent: 0 for uniform. Errors: MB_USAGE. */
enum mb_status mb_bench_routes_parse(const char *what, const char *option, double *exponent);
/* Experts of `rows` rows of one rank, k distinct ones each, into out[rows * k]; drawn one after the other
 * without putting back. The same for the same seed and rank. Errors: MB_NO_MEMORY. */
enum mb_status mb_bench_routes_draw(double exponent, uint64_t seed, int32_t rank, int64_t rows,
                                    int32_t experts, int32_t k, int32_t *out);
#endif
