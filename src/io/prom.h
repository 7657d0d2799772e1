/* RESULTS.h5.d/metrics.prom: how a job is, as Prometheus's text format, for the node exporter's textfile
 * collector. Local. */
#ifndef MB_IO_PROM_H
#define MB_IO_PROM_H
#include "base/mem.h"
#include "io/rundir.h"

struct mb_prom {
    const char *job; /* RESULTS.h5, the label of every series */
    const struct mb_run_status *s;
    int32_t running;  /* sequences under way */
    int32_t ranks;
    const int64_t *expert_rows; /* [ranks] (row, expert) pairs that each rank's experts computed */
    double imbalance;           /* most / mean of these; 0: not known */
    const struct mb_mem *mem;   /* of rank 0; may be NULL */
    double updated;             /* seconds since 1970 */
};
/* Appends the text. At most 256 ranks have a series of their own. Errors: MB_NO_MEMORY. */
enum mb_status mb_prom_text(const struct mb_prom *p, struct mb_bytes *out);
/* Replaces dir/metrics.prom. Nothing depends on it: failing is said once, by status.json. */
void mb_prom_write(const char *dir, const struct mb_prom *p);
#endif
