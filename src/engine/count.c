#include "engine/count.h"

#include "base/clock.h"
#include "base/log.h"

void mb_count_attention(struct mb_tally *n, const struct mb_attn_args *a, const int32_t *pos, int32_t rows,
                        int64_t d, int64_t dv)
{
    int64_t keys = 0;

    for (int32_t i = 0; i < rows; i++) {
        int64_t seen = mb_count_keys(a->window, a->chunked, pos[i], 0, INT64_MAX), most = a->chosen.cols - 1;
        keys += a->chosen.buf != NULL && seen > most ? most : seen;
    }
    n->counters.attention_flops += 2 * keys * a->heads * (d + dv);
}

void mb_count_choose(struct mb_tally *n, const struct mb_choose_args *a, const int32_t *pos, int32_t rows, int64_t d)
{
    for (int32_t i = 0; i < rows; i++)
        mb_count_choose_part(n, a, pos[i] >= a->topk ? (int64_t)pos[i] + 1 : 0, d);
}

void mb_count_choose_part(struct mb_tally *n, const struct mb_choose_args *a, int64_t keys, int64_t d)
{
    n->counters.attention_flops += 2 * keys * a->heads * (d + 1);
}

void mb_count_append(struct mb_tally *n, enum mb_dtype t, struct mb_view k, struct mb_view v)
{
    int64_t width = k.cols + (v.buf != NULL ? v.cols : 0);

    n->counters.kv_bytes += k.rows * width * mb_dtype_size(t);
}

void mb_count_delta(struct mb_tally *n, const struct mb_delta_args *a, int64_t rows)
{
    n->counters.attention_flops += 7 * rows * a->value_heads * a->dk * a->dv;
}

enum mb_time mb_time_into(struct mb_tally *n, enum mb_time t)
{
    enum mb_time before = n->time_in;
    double now = mb_now();

    n->counters.seconds[before] += now - n->time_since;
    n->time_since = now;
    n->time_in = t;
    return before;
}

enum mb_status mb_tally_create(struct mb_mem *mem, int32_t moe_layers, int32_t experts, struct mb_tally *n)
{
    size_t layers = (size_t)moe_layers + 1;

    n->usage = mb_zalloc(mem, MB_MEM_OTHER, layers * (size_t)experts + 1, sizeof(int64_t));
    n->layer_rows = mb_zalloc(mem, MB_MEM_OTHER, layers, sizeof(int64_t));
    return n->usage != NULL && n->layer_rows != NULL
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory for counters of experts");
}

void mb_tally_destroy(struct mb_tally *n)
{
    mb_free(n->usage);
    mb_free(n->layer_rows);
    n->usage = n->layer_rows = NULL;
}
