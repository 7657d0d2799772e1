#include "engine/count.h"

#include "base/clock.h"
#include "engine/work.h"

void mb_count_attention(struct mb_engine *e, const struct mb_attn_args *a, int64_t d, int64_t dv)
{
    const struct mb_batch *b = &e->batch;
    int64_t keys = 0;

    for (int32_t i = 0; i < b->n_part; i++)
        keys += mb_count_keys(a->window, a->chunked, b->p_pos[i], 0, INT64_MAX);
    e->counters.attention_flops += 2 * keys * a->heads * (d + dv);
}

void mb_count_append(struct mb_engine *e, struct mb_view k, struct mb_view v)
{
    int64_t width = k.cols + (v.buf != NULL ? v.cols : 0);

    e->counters.kv_bytes += k.rows * width * mb_dtype_size(e->o.kv_dtype);
}

int64_t mb_count_tick(struct mb_engine *e, bool rows)
{
    int64_t t = e->results_tick;

    for (int32_t s = 0; s < e->t.l.pp; s++) {
        t = (e->stage_tick[s] > t ? e->stage_tick[s] : t) + 1;
        e->stage_tick[s] = t;
    }
    if (rows) {
        e->counters.pipeline_steps++;
        e->counters.pipeline_ticks = t;
    }
    return t;
}

enum mb_time mb_time_into(struct mb_engine *e, enum mb_time t)
{
    enum mb_time before = e->time_in;
    double now = mb_now();

    e->counters.seconds[before] += now - e->time_since;
    e->time_since = now;
    e->time_in = t;
    return before;
}
