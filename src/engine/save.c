/* Bulk results of a step: routing and the residual stream, row by row of each sequence, to the sink. */
#include <string.h>
#include "engine/step.h"

/* Rows of sequence i of a flight that the results keep (they have some from an earlier window, or from before the
 * sequence gave way; others were guessed wrongly): the first result row, the first batch row, and how many. */
static int64_t kept_rows(const struct mb_flight *f, int32_t i, int64_t *first, int64_t *row)
{
    int64_t skip = f->seq_skip[i];

    *first = mb_seq_index(f->seq[i], f->seq_pos[i]) + skip;
    *row = f->seq_row[i] + skip;
    return f->seq_kept[i] - skip;
}

/* Routing of batch rows [row, row + n) as the results have it: row by row, all layers of each. */
static void turn_routing(const struct mb_pass *p, int64_t row, int64_t n, uint16_t *ex, uint16_t *by,
                         float *w)
{
    int64_t Lm = p->c->o.model->moe_layers, k = p->c->o.model->router.k, plane = p->work->max_rows * k,
            to = 0;

    for (int64_t r = row; r < row + n; r++) {
        for (int64_t l = 0; l < Lm; l++) {
            for (int64_t at = l * plane + r * k; at < l * plane + (r + 1) * k; at++, to++) {
                ex[to] = (uint16_t)p->found->experts[at];
                by[to] = (uint16_t)p->found->served[at];
                w[to] = p->found->weights[at];
            }
        }
    }
}

static enum mb_status save_routing(struct mb_pass *p, const struct mb_flight *f, int32_t s,
                                   struct mb_sink *sink)
{
    int64_t first, row, rows = kept_rows(f, s, &first, &row),
                        per = (int64_t)p->c->o.model->moe_layers * p->c->o.model->router.k;
    int32_t handle = f->seq[s]->handle;

    for (int64_t i = 0, n; i < rows; i += n) {
        n = rows - i < MB_SAVE_ROWS ? rows - i : MB_SAVE_ROWS;
        uint16_t *ex = p->work->h_u16, *by = ex + n * per;
        float *w = p->work->h_rows;
        turn_routing(p, row + i, n, ex, by, w);
        MB_TRY(sink->ops->bulk(sink, handle, MB_BULK_EXPERTS, first + i, n, ex));
        MB_TRY(sink->ops->bulk(sink, handle, MB_BULK_WEIGHTS, first + i, n, w));
        MB_TRY(sink->ops->bulk(sink, handle, MB_BULK_PHYSICAL, first + i, n, by));
    }
    return MB_OK;
}

static enum mb_status save_hidden(struct mb_pass *p, const struct mb_flight *f, int32_t s,
                                  struct mb_sink *sink)
{
    int64_t H = p->c->o.model->hidden, L1 = p->c->o.model->layers + 1, first, row,
            n = kept_rows(f, s, &first, &row);

    for (int64_t i = 0; i < n; i++) {
        for (int64_t l = 0; l < L1; l++)
            memcpy(p->work->h_rows + l * H, p->found->hidden + (l * p->work->max_rows + row + i) * H,
                   sizeof(float) * (size_t)H);
        MB_TRY(sink->ops->bulk(sink, f->seq[s]->handle, MB_BULK_HIDDEN, first + i, 1, p->work->h_rows));
    }
    return MB_OK;
}

enum mb_status mb_save_flight(struct mb_pass *p, const struct mb_flight *f, struct mb_sink *sink)
{
    for (int32_t s = 0; s < f->seqs; s++) {
        if (p->c->o.save_routing && p->c->o.model->moe_layers > 0)
            MB_TRY(save_routing(p, f, s, sink));
        if (p->c->o.save_hidden)
            MB_TRY(save_hidden(p, f, s, sink));
    }
    return MB_OK;
}

/* Keeps the residual stream of the own rows at index 0 (after the embedding) .. layers. */
enum mb_status mb_keep_hidden(struct mb_pass *p, int32_t index)
{
    int64_t H = p->c->o.model->hidden, M = p->batch->part.n_own;

    if (M == 0)
        return MB_OK;
    return p->c->o.ops->copy_out(p->c->stream, p->work->h_hidden + index * p->work->max_rows * H,
                                 mb_rows(p, MB_SB_X, M, H, MB_F32));
}
