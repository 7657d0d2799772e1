/* A window over one dataset of a results file. Of io/results.c only. Local. */
#ifndef MB_IO_COLUMN_H
#define MB_IO_COLUMN_H
#include <stdint.h>
#include "io/h5.h"

struct mb_column {
    struct mb_h5_set *set; /* NULL: the file has no such dataset */
    int axis;              /* along which the window moves: 0, or 1 where a dataset is [layers, rows, ...] */
    uint64_t from, n;      /* what the window holds */
    uint64_t cap;          /* elements along the axis it has room for */
    uint8_t *buf;
};

/* Opens path; rank as in mb_h5_find. Only where there is one if optional. */
enum mb_status mb_column_open(struct mb_h5 *h, const char *path, enum mb_h5_type type, int rank, int axis, bool optional,
                              struct mb_column *out);
void mb_column_close(struct mb_column *c);
/* Bytes of one element along the axis (rank 1: of one element), without the dimensions before the axis. */
uint64_t mb_column_stride(const struct mb_column *c);
/* Elements [from, from + n) along the axis, of index `outer` before it (0 if axis is 0); n may be 0 (strings: 1 at most). *out is valid until the
 * next call. MB_INPUT beyond the end. */
enum mb_status mb_column_get(struct mb_column *c, uint64_t outer, uint64_t from, uint64_t n, const void **out);
#endif
