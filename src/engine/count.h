/* What a rank counts of its work: multiply-adds of attention, bytes of keys and values, rows of its experts
 * by layer, ticks of the pipeline. Integers only, counted where the work is handed to the device. Local. */
#ifndef MB_ENGINE_COUNT_H
#define MB_ENGINE_COUNT_H
#include "device/ops.h"
#include "job/counters.h"

struct mb_engine;

/* A query at position pos meets `keys` keys in each of its heads: 2 (d + dv) operations a key and head. */
static inline int64_t mb_count_keys(int32_t window, bool chunked, int32_t pos, int64_t begin, int64_t end)
{
    int64_t lo = mb_first_seen(window, chunked, pos), hi = (int64_t)pos + 1;

    lo = lo > begin ? lo : begin;
    hi = hi < end ? hi : end;
    return hi > lo ? hi - lo : 0;
}
/* One call of attention over the whole of every row's visible keys: the part's rows. a: as given to the
 * device; d, dv: of a head. */
void mb_count_attention(struct mb_engine *e, const struct mb_attn_args *a, int64_t d, int64_t dv);
/* rows rows of k and v (MB_NO_VIEW: none) go into the pages. */
void mb_count_append(struct mb_engine *e, struct mb_view k, struct mb_view v);
/* A step was put on its way by a leader: ticks of its pipeline, in which a stage does one step, a step goes
 * from a stage to the next, and what waited for results begins behind them. rows: whether it has any. Returns
 * the tick after which its results are there. */
int64_t mb_count_tick(struct mb_engine *e, bool rows);
/* From now on the rank's time goes into t; returns what it went into before, to be given back. Local. */
enum mb_time mb_time_into(struct mb_engine *e, enum mb_time t);
#endif
