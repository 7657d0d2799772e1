/* Where tokens and finished records go. Implemented in io, used by engine, handed over by app. Lives on the rank that
 * samples. All members Local and non-blocking but for the write itself. */
#ifndef MB_JOB_SINK_H
#define MB_JOB_SINK_H
#include "job/record.h"

struct mb_sink;
struct mb_sink_ops {
    /* Opens a row under way: the sink keeps the incremental decoder, the stop strings and bulk space under *handle.
     * max_rows: bulk rows the row can have at most. req stays valid until done(). */
    enum mb_status (*begin)(struct mb_sink *s, const struct mb_request *req, int32_t choice, int64_t max_rows,
                            int32_t *handle);
    /* A token was drawn at output index `index`. journal: false for forced tokens, which are in a journal already.
     * *stop: a stop string is complete. */
    enum mb_status (*token)(struct mb_sink *s, int32_t handle, int64_t index, int32_t id, bool journal, bool *stop);
    /* Bulk rows [row, row + n) of a row under way, packed as enum mb_bulk_kind says. */
    enum mb_status (*bulk)(struct mb_sink *s, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data);
    /* The row is finished: the sink takes over rec's contents (adds text, id, bulk extents), writes it with the next
     * step_end, and forgets the handle. For rows that never began (error rows) handle is -1. */
    enum mb_status (*done)(struct mb_sink *s, int32_t handle, struct mb_record *rec);
    /* End of a step: one write of everything since the last. */
    enum mb_status (*step_end)(struct mb_sink *s);
};
struct mb_sink {
    const struct mb_sink_ops *ops;
};
#endif
