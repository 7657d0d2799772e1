/* DeepSeek-V3's multi-token-prediction module (reference SPEC 3.4): row i takes the main model's normed hidden of token i and
 * the embedding of token i + 1 and predicts token i + 2. It is one more decoder layer with pages of its own, run at the end
 * of a step over the rows whose next token is known by then. */
#include "base/log.h"
#include "engine/work.h"

/* Rows of this step whose next token is known; the last row of a finished sequence has no successor that counts. */
static void pick_rows(struct mb_engine *e, struct mb_batch *out)
{
    const struct mb_batch *b = &e->batch;
    const struct mb_flight *f = &e->flight[e->first_flight];

    out->rows = 0;
    out->seqs = b->seqs;
    for (int32_t r = 0; r < b->rows; r++) {
        const struct mb_seq *q = f->seq[b->row_seq[r]];
        int64_t pos = b->pos[r];
        int64_t last = q->n_prompt + (q->n_drawn > 0 ? q->n_drawn - 1 : 0) - 1;
        if (q->error != NULL || pos + 1 >= q->n_ids || (q->done && pos >= last))
            continue;
        int32_t i = out->rows++;
        out->p_ids[i] = q->ids[pos + 1];
        out->p_pos[i] = b->pos[r];
        out->p_rope[i] = b->rope[r];
        out->p_slot[i] = b->p_slot[r];
        out->p_seq[i] = b->row_seq[r];
        out->part_row[i] = r;
    }
    out->n_part = out->n_own = out->rows;
}

/* x = eh_proj([RMS(Emb(t+1); enorm) ; RMS(h; hnorm)]), h after the main model's final norm */
static enum mb_status combine_inputs(struct mb_engine *e, const struct mb_batch *mb, struct mb_view x)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    int64_t M = mb->rows, H = m->hidden;
    struct mb_view idx = mb_rows_of(e->work.mtp_idx, M, 1, MB_I32), ids = mb_view_of(e->work.ints, 0, M, 1, MB_I32);
    struct mb_view h = mb_rows_of(e->work.raw, M, H, MB_F32), t = mb_rows_of(e->work.t, M, H, MB_F32);
    struct mb_view both = mb_rows_of(e->work.mtp_in, M, 2 * H, e->o.path);
    struct mb_gemm_group g = {.w = e->w.mtp_proj, .rows = M};

    MB_TRY(ops->copy_in(e->stream, idx, mb->part_row));
    MB_TRY(ops->copy_in(e->stream, ids, mb->p_ids));
    MB_TRY(ops->gather(e->stream, t, mb_rows_of(e->work.x, e->batch.rows, H, MB_F32), idx));
    MB_TRY(ops->norm(e->stream, MB_NO_VIEW, h, t, e->w.final_norm.view, e->w.final_norm_b.view, m->norm, m->norm_eps, 1, 1));
    MB_TRY(ops->norm(e->stream, mb_view_cols(both, H, H), MB_NO_VIEW, h, e->w.mtp_hnorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, 1));
    MB_TRY(ops->embed(e->stream, t, e->w.embed.view, ids, m->embed_scale));
    MB_TRY(ops->norm(e->stream, mb_view_cols(both, 0, H), MB_NO_VIEW, t, e->w.mtp_enorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps, 1, 1));
    return ops->gemm(e->stream, x, both, &g, 1);
}

static enum mb_status emit(struct mb_engine *e, struct mb_sink *sink, const struct mb_batch *mb, struct mb_view x)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;

    for (int32_t first = 0; first < mb->rows; first += e->work.logit_rows) {
        int32_t n = mb->rows - first < e->work.logit_rows ? mb->rows - first : e->work.logit_rows;
        struct mb_view hn = mb_rows_of(e->work.hn, n, m->hidden, e->o.path), z = mb_rows_of(e->work.logits, n, m->vocab, MB_F32);
        struct mb_gemm_group g = {.w = e->w.head, .rows = n, .bias = e->w.head_b.view};
        MB_TRY(ops->norm(e->stream, hn, MB_NO_VIEW, mb_view_rows(x, first, n), e->w.mtp_norm.view, MB_NO_VIEW, m->norm, m->norm_eps, 1, 1));
        MB_TRY(ops->gemm(e->stream, z, hn, &g, 1));
        MB_TRY(ops->copy_out(e->stream, e->work.h_rows, z));
        for (int32_t i = 0; i < n; i++) {
            const struct mb_seq *q = e->flight[e->first_flight].seq[mb->p_seq[first + i]];
            int64_t row = mb->p_pos[first + i] - q->job->req->hidden;
            if (row >= 0)
                MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_MTP, row, 1, e->work.h_rows + (int64_t)i * m->vocab));
        }
    }
    return MB_OK;
}

/* Every member takes part in the module's exchange in every step that has rows anywhere, whatever happened here before. */
enum mb_status mb_mtp_run(struct mb_engine *e, struct mb_sink *sink)
{
    const struct mb_model *m = e->o.model;
    struct mb_batch *mb = &e->mtp_batch, keep = e->batch;

    mb->rows = mb->n_part = mb->n_own = mb->own0 = mb->n_runs = 0; /* adapters leave the module alone: its tags stay 0 */
    if (e->status == MB_OK)
        pick_rows(e, mb);
    struct mb_view x2 = mb_rows_of(e->work.mtp_x, mb->rows, m->hidden, MB_F32);
    if (e->status == MB_OK && mb->rows > 0)
        e->status = combine_inputs(e, mb, x2);
    e->batch = *mb;
    e->batch.page_table = keep.page_table;
    if (e->status == MB_OK && mb->rows > 0)
        e->status = mb_work_upload(e);
    enum mb_status st = mb_layer_run(e, m->layers, x2);
    if (st == MB_OK && mb->rows > 0)
        st = emit(e, sink, mb, x2);
    e->batch = keep; /* the same arrays; what the layer changed is views */
    return st;
}
