/* What app adds to the results beside the rows: /provenance, /metrics, /health, /physical, as a list of
 * datasets with paths. Kept in the run's directory too, so that `moebatch assemble` after a kill knows it.
 * Local. */
#ifndef MB_IO_EXTRAS_H
#define MB_IO_EXTRAS_H
#include <stdint.h>
#include "base/status.h"
#include "io/h5.h"

struct mb_extra {
    char *path; /* "/metrics/expert_usage" */
    enum mb_h5_type
        type; /* a number type, or MB_H5_TEXT: data holds the NUL-terminated strings, one after the other */
    int rank; /* 0: scalar */
    uint64_t dims[MB_H5_MAX_RANK];
    uint8_t *data;
    uint64_t bytes;
};
/* Zero-initialise. */
struct mb_extras {
    struct mb_extra *v;
    int32_t n, cap;
};
void mb_extras_fini(struct mb_extras *x);

/* All copy what they are given; a later entry of a path replaces the earlier one. Type and rank of a path are
 * those of the results' table (io/schema.h). Errors: MB_NO_MEMORY; MB_BUG for a path that it does not have,
 * or that has another type. */
enum mb_status mb_extras_put(struct mb_extras *x, const char *path, const uint64_t *dims, const void *data);
enum mb_status mb_extras_text(struct mb_extras *x, const char *path,
                              const char *value); /* NULL value: nothing */
enum mb_status mb_extras_texts(struct mb_extras *x, const char *path, uint64_t n, const char *const *values);
/* Entries of `more` replace and add. */
enum mb_status mb_extras_merge(struct mb_extras *x, const struct mb_extras *more);

/* One file (replaced atomically, fsynced; flags: MB_PUBLISH_... or 0). load: a file that is not there gives
 * no entries; MB_CORRUPT if it is damaged. */
enum mb_status mb_extras_save(const struct mb_extras *x, const char *path, unsigned flags);
enum mb_status mb_extras_load(struct mb_extras *x, const char *path);

/* Writes them all. Serial file. */
enum mb_status mb_extras_write(const struct mb_extras *x, struct mb_h5 *h);
#endif
