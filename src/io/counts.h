/* What a job counted over all its runs. Every rank keeps its own counters in its run's directory, as
 * "counts-RANK" (a list of extras whose first axis, where they are by rank, has length 1); assembly adds up
 * those of all runs. A rank that is killed loses what it counted since it last wrote them. Local. */
#ifndef MB_IO_COUNTS_H
#define MB_IO_COUNTS_H
#include "io/extras.h"

/* Writes them into a run's directory. Nothing depends on it: failing is a warning, or with quiet not even
 * that. */
void mb_counts_save(const struct mb_extras *own, const char *run, int rank, bool quiet);

/* Adds integers and seconds of `from` to those of the same path: usage of experts and experts on demand as they are, all
 * others to the row of `rank` (and following ones), which the axis of ranks grows to; peaks: the larger one.
 * Names and the like are taken over where `to` has none. Errors: MB_CORRUPT for shapes that don't fit,
 * MB_NO_MEMORY. */
enum mb_status mb_counts_add(struct mb_extras *to, const struct mb_extras *from, uint64_t rank);
/* Adds what the ranks of all runs under dir kept, but of run `except` (0: none), and puts their number, and
 * one more for `except`, into /metrics/runs. A damaged file is warned of and left out. */
enum mb_status mb_counts_add_runs(struct mb_extras *to, const char *dir, int32_t except);
/* Adds the usage of experts of a results file, if it has any. Errors: MB_INPUT. */
enum mb_status mb_counts_add_results(struct mb_extras *to, const char *results);
#endif
