/* A sink for engines whose records a test looks at, or throws away: it hears nothing of what comes before a
 * record is done. */
#ifndef MB_TESTS_QUIET_SINK_H
#define MB_TESTS_QUIET_SINK_H
#include "job/sink.h"

static inline enum mb_status quiet_begin(struct mb_sink *s, const struct mb_request *req, int32_t choice,
                                         int64_t max_rows, int32_t *handle)
{
    (void)s, (void)req, (void)choice, (void)max_rows;
    *handle = 0;
    return MB_OK;
}

static inline enum mb_status quiet_token(struct mb_sink *s, int32_t handle, int64_t index, int32_t id,
                                         bool journal, bool *stop)
{
    (void)s, (void)handle, (void)index, (void)id, (void)journal;
    *stop = false;
    return MB_OK;
}

static inline enum mb_status quiet_bulk(struct mb_sink *s, int32_t handle, enum mb_bulk_kind kind,
                                        int64_t row, int64_t n, const void *data)
{
    (void)s, (void)handle, (void)kind, (void)row, (void)n, (void)data;
    return MB_OK;
}

static inline enum mb_status quiet_step(struct mb_sink *s)
{
    (void)s;
    return MB_OK;
}
#endif
