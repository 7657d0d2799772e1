/* DeepSeek-V3's multi-token-prediction module (doc/models): row i takes the main model's normed
 * hidden of token i and the embedding of token i + 1 and predicts token i + 2. It is one more decoder layer
 * of the last stage, with pages of its own, run over the rows of a step behind the head: then the rank that
 * samples knows every next token, and the batch is the main one's with other ids, whoever keeps a row. A row
 * that nothing follows is computed for nothing. */
#include <string.h>
#include "base/log.h"
#include "engine/work.h"

enum mb_status mb_mtp_create(struct mb_engine *e)
{
    size_t rows = (size_t)e->o.plan->max_batch_rows;

    if (!mb_mtp_here(e))
        return MB_OK;
    e->mtp_ids = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, 2 * rows, sizeof(int32_t));
    e->mtp_tag = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof(uint16_t));
    return e->mtp_ids != NULL && e->mtp_tag != NULL
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory for the next tokens of %zu rows", rows);
}

void mb_mtp_destroy(struct mb_engine *e)
{
    mb_free(e->mtp_ids);
    mb_free(e->mtp_tag);
}

/* ids[i] = the token behind row i of the own part: known from the prompt, else the one that the first rank of
 * the group has drawn. 0 where none can be (a logit that is not finite). */
static enum mb_status next_ids(struct mb_engine *e, int32_t *ids)
{
    const struct mb_batch *b = &e->batch;
    struct mb_where at = {"the tokens drawn", e->step, -1};
    int32_t *drawn = e->mtp_ids + e->work.max_rows, ranks = e->t.l.tp * e->t.l.sp;
    uint64_t bytes = sizeof *drawn * (uint64_t)b->n_out;
    bool first = e->t.at.q == 0 && e->t.at.t == 0;

    for (int32_t i = 0; first && i < b->n_out; i++)
        drawn[i] = e->found.bad[i] ? 0 : e->found.drawn[i];
    for (int32_t r = 0; r < ranks; r++) {
        e->transit.out[r] = (struct mb_piece){drawn, first ? bytes : 0};
        e->transit.in[r] = (struct mb_piece){drawn, r == 0 ? bytes : 0};
    }
    if (e->t.att != NULL)
        MB_TRY(mb_comm_swap(e->t.att, e->transit.out, e->transit.in, &at));
    memset(ids, 0, sizeof *ids * (size_t)b->n_part);
    for (int32_t i = 0, p = 0; i < b->n_out; i++) { /* both ascend by row */
        const struct mb_out *o = &b->out[i];
        while (p < b->n_part && b->part_row[p] < o->row)
            p++;
        if (p < b->n_part && b->part_row[p] == o->row)
            ids[p] = o->target >= 0 ? o->target : drawn[i];
    }
    return MB_OK;
}

/* x = eh_proj([RMS(Emb(t+1); enorm) ; RMS(h; hnorm)]) of the own rows, h after the main model's final norm */
static enum mb_status combine_inputs(struct mb_engine *e, struct mb_view x)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    const struct mb_weights *w = &e->w;
    int64_t M = x.rows, H = m->hidden;
    struct mb_view h = mb_rows_of(e->work.raw, M, H, MB_F32), t = mb_rows_of(e->work.t, M, H, MB_F32);
    struct mb_view both = mb_rows_of(e->work.mtp_in, M, 2 * H, e->o.path);
    struct mb_view left = mb_view_cols(both, 0, H), right = mb_view_cols(both, H, H);
    struct mb_gemm_group g = {.w = w->mtp_proj, .rows = M};

    MB_TRY(next_ids(e, e->batch.p_ids));
    if (e->batch.n_part > 0)
        MB_TRY(ops->copy_in(e->stream, e->batch.d_ids, e->batch.p_ids));
    MB_TRY(mb_share_embed(e, t));
    if (M == 0)
        return MB_OK;
    MB_TRY(ops->norm(e->stream, MB_NO_VIEW, h, mb_rows_of(e->work.x, M, H, MB_F32), w->final_norm.view,
                     w->final_norm_b.view, m->norm, m->norm_eps, 1, 1));
    MB_TRY(ops->norm(e->stream, right, MB_NO_VIEW, h, w->mtp_hnorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps,
                     1, 1));
    MB_TRY(ops->norm(e->stream, left, MB_NO_VIEW, t, w->mtp_enorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps,
                     1, 1));
    return ops->gemm(e->stream, x, both, &g, 1);
}

enum mb_status mb_mtp_run(struct mb_engine *e, struct mb_sink *sink)
{
    struct mb_batch keep = e->batch;
    struct mb_view x = mb_rows_of(e->work.mtp_x, e->batch.n_own, e->o.model->hidden, MB_F32);

    e->batch.p_ids = e->mtp_ids;
    e->batch.own_tag = e->mtp_tag; /* adapters leave the module alone: its tags are 0 */
    e->batch.n_runs = 0;
    if (e->status == MB_OK && e->batch.rows > 0)
        e->status = combine_inputs(e, x);
    (void)mb_layer_run(e, e->o.model->layers, x); /* e->status has it */
    if (e->status == MB_OK && !mb_step_over(e) && e->batch.rows > 0)
        e->status = mb_head_mtp(e, x, sink);
    e->batch = keep;
    return e->status;
}
