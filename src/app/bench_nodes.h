/* Which nodes are slower than the others. Pure. */
#ifndef MB_APP_BENCH_NODES_H
#define MB_APP_BENCH_NODES_H
#include <stdbool.h>
#include <stdint.h>

/* Marks of n values those that lie more than `threshold` (a part) below their median: slow[n]. Values that
 * are 0 were not measured: they count in nothing. Returns the median, 0 of none. */
double mb_bench_slow(const double *v, int32_t n, double threshold, bool *slow);
/* The partner of node `me` in round r of a tournament of n nodes, in which every pair meets once; -1: none.
 * Rounds: n - 1, or n if n is odd. */
int32_t mb_bench_partner(int32_t n, int32_t r, int32_t me);
#endif
