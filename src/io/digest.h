/* The digest of a results file: one hash per row, one over all rows. Layout-independent. Local. */
#ifndef MB_IO_DIGEST_H
#define MB_IO_DIGEST_H
#include <stdbool.h>
#include <stdio.h>
#include "base/hash.h"
#include "io/results.h"

struct mb_digest {
    struct mb_hash128 file;
    struct mb_hash128 tokens; /* over what a row has without --save-*: ids, log-probabilities, text, scores; the same bits for
                               * any set of --save-* options, and those of file where nothing was saved */
    uint64_t rows;     /* that are in it */
    uint64_t degraded; /* rows that are not, because a disabled expert touched them */
};
/* in_order: rows as they stand in the file, else by (id, choice, hash of the row in that digest). requests: gets one
 * "hash id choice" line a row in that order, ids as mb_put_safe shows them; may be NULL. Memory does not grow with the rows
 * (io/digest_sort.h). */
enum mb_status mb_digest_file(struct mb_results *r, bool in_order, FILE *requests, struct mb_digest *out);
#endif
