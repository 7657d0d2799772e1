/* Bulk results of a step: routing and the residual stream, row by row of each sequence, to the sink. */
#include <string.h>
#include "engine/work.h"

/* First result row of a sequence's rows of this step, and how many of them the results keep (a prepended BOS is computed
 * but is no row of the results). */
static int64_t kept_rows(const struct mb_seq *q, int64_t *first, int64_t *skip)
{
    int64_t hidden = q->job->req->hidden;
    *skip = q->n_done < hidden ? hidden - q->n_done : 0;
    *first = q->n_done + *skip - hidden;
    return q->step_rows - *skip;
}

static enum mb_status save_seq_routing(struct mb_engine *e, struct mb_sink *sink, const struct mb_seq *q)
{
    int32_t Lm = e->o.model->moe_layers, k = e->o.model->router.k;
    int64_t first, skip, n = kept_rows(q, &first, &skip), per = (int64_t)Lm * k, plane = e->work.max_rows * k;
    uint16_t *ex = e->work.h_u16, *by = ex + per;
    float *w = e->work.h_rows;

    for (int64_t i = 0; i < n; i++) {
        int64_t row = q->step_row + skip + i;
        for (int32_t l = 0; l < Lm; l++) {
            for (int32_t j = 0; j < k; j++) {
                int64_t at = l * plane + row * k + j;
                ex[l * k + j] = (uint16_t)e->work.h_experts[at];
                by[l * k + j] = (uint16_t)e->work.h_served[at];
                w[l * k + j] = e->work.h_weights[at];
            }
        }
        MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_EXPERTS, first + i, 1, ex));
        MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_WEIGHTS, first + i, 1, w));
        MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_PHYSICAL, first + i, 1, by));
    }
    return MB_OK;
}

enum mb_status mb_save_routing(struct mb_engine *e, struct mb_sink *sink)
{
    if (!e->o.save_routing || e->o.model->moe_layers == 0)
        return MB_OK;
    for (int32_t i = 0; i < e->batch.seqs; i++)
        MB_TRY(save_seq_routing(e, sink, e->batch.seq[i]));
    return MB_OK;
}

/* Keeps the residual stream of this step at index 0 (after the embedding) .. layers. */
enum mb_status mb_keep_hidden(struct mb_engine *e, int32_t index)
{
    int64_t H = e->o.model->hidden, M = e->batch.rows;

    if (M == 0)
        return MB_OK;
    return e->o.ops->copy_out(e->stream, e->work.h_hidden + index * e->work.max_rows * H, mb_rows_of(e->work.x, M, H, MB_F32));
}

enum mb_status mb_save_hidden(struct mb_engine *e, struct mb_sink *sink)
{
    int64_t H = e->o.model->hidden, L1 = e->o.model->layers + 1;

    for (int32_t s = 0; s < e->batch.seqs && e->o.save_hidden; s++) {
        const struct mb_seq *q = e->batch.seq[s];
        int64_t first, skip, n = kept_rows(q, &first, &skip);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t l = 0; l < L1; l++)
                memcpy(e->work.h_rows + l * H, e->work.h_hidden + (l * e->work.max_rows + q->step_row + skip + i) * H, sizeof(float) * (size_t)H);
            MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_HIDDEN, first + i, 1, e->work.h_rows));
        }
    }
    return MB_OK;
}
