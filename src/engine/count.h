/* What a rank counts of its work: multiply-adds of attention, bytes of keys and values, rows of its experts
 * by layer, where its time goes. Counted where the work is handed to the device. Local. */
#ifndef MB_ENGINE_COUNT_H
#define MB_ENGINE_COUNT_H
#include "device/ops.h"
#include "job/counters.h"

struct mb_tally {
    struct mb_counters counters;
    enum mb_time time_in; /* what the time since time_since goes into */
    double time_since;
    int64_t *usage;      /* [moe layers + 1][experts] rows sent to each expert so far */
    int64_t *layer_rows; /* [moe layers + 1] rows that this rank's experts were sent so far */
};

/* The arrays of it. Errors: MB_NO_MEMORY. */
enum mb_status mb_tally_create(struct mb_mem *mem, int32_t moe_layers, int32_t experts, struct mb_tally *n);
void mb_tally_destroy(struct mb_tally *n);

/* A query at position pos meets `keys` keys in each of its heads: 2 (d + dv) operations a key and head. */
static inline int64_t mb_count_keys(int32_t window, bool chunked, int32_t pos, int64_t begin, int64_t end)
{
    int64_t lo = mb_first_seen(window, chunked, pos), hi = (int64_t)pos + 1;

    lo = lo > begin ? lo : begin;
    hi = hi < end ? hi : end;
    return hi > lo ? hi - lo : 0;
}
/* One call of attention over the whole of every row's visible keys. a: as given to the device; pos [n] of the
 * rows on the host; d, dv: of a head. */
void mb_count_attention(struct mb_tally *n, const struct mb_attn_args *a, const int32_t *pos, int32_t rows,
                        int64_t d, int64_t dv);
/* One call of choose_keys: rows that see no more than topk keys cost nothing. */
void mb_count_choose(struct mb_tally *n, const struct mb_choose_args *a, const int32_t *pos, int32_t rows, int64_t d);
/* The score of so many keys for one row. */
void mb_count_choose_part(struct mb_tally *n, const struct mb_choose_args *a, int64_t keys, int64_t d);
/* Rows of k and v (MB_NO_VIEW: none) of this type go into the pages. */
void mb_count_append(struct mb_tally *n, enum mb_dtype t, struct mb_view k, struct mb_view v);
/* FLOPs of rows of the gated delta rule. */
void mb_count_delta(struct mb_tally *n, const struct mb_delta_args *a, int64_t rows);
/* From now on the rank's time goes into t; returns what it went into before, to be given back. */
enum mb_time mb_time_into(struct mb_tally *n, enum mb_time t);
#endif
