/* DeepSeek-V3's multi-token-prediction module (doc/models): row i takes the main model's normed
 * hidden of token i and the embedding of token i + 1 and predicts token i + 2. It is one more decoder layer
 * of the last stage, with pages of its own, run over the rows of a step behind the head: then the rank that
 * samples knows every next token, and the batch is the main one's with other ids, whoever keeps a row. A row
 * that nothing follows is computed for nothing. Its logits are results (--save-logits=all), or what they hold for likeliest is
 * a guess at the token after the next (draft.h). */
#include <string.h>
#include "base/log.h"
#include "engine/step.h"

/* Row r of the batch is followed by the next id of its sequence, if that has a row, too. */
static int32_t follows(const struct mb_batch *b, int32_t r)
{
    return r + 1 < b->rows && b->row_seq[r + 1] == b->row_seq[r] ? b->ids[r + 1] : 0;
}

/* ids[i] = the token behind row i of the own part: known from the prompt, else the one that the first rank of
 * the group has drawn. 0 where none can be (a logit that is not finite). */
static enum mb_status next_ids(struct mb_pass *p, int32_t *ids)
{
    const struct mb_batch *b = p->batch;
    struct mb_where at = {"the tokens drawn", p->step, -1};
    int32_t *drawn = p->work->mtp_ids + p->work->max_rows, ranks = p->c->t.g.tp_size * p->c->t.g.sp_size;
    uint64_t bytes = sizeof *drawn * (uint64_t)b->n_out;
    bool first = p->c->t.g.sp_rank == 0 && p->c->t.g.tp_rank == 0;

    for (int32_t i = 0; first && i < b->n_out; i++)
        drawn[i] = p->found->bad[i] ? 0 : p->found->drawn[i];
    for (int32_t r = 0; r < ranks; r++) {
        p->work->out[r] = (struct mb_piece){drawn, first ? bytes : 0};
        p->work->in[r] = (struct mb_piece){drawn, r == 0 ? bytes : 0};
    }
    if (p->c->t.g.att != NULL)
        MB_TRY(mb_comm_swap(p->c->t.g.att, p->work->out, p->work->in, &at));
    for (int32_t i = 0; i < b->part.n; i++)
        ids[i] = follows(b, b->part.row[i]);
    for (int32_t i = 0, r = 0; i < b->n_out; i++) { /* both ascend by row */
        const struct mb_out *o = &b->out[i];
        while (r < b->part.n && b->part.row[r] < o->row)
            r++;
        if (r < b->part.n && b->part.row[r] == o->row)
            ids[r] = o->target >= 0 ? o->target : drawn[i];
    }
    return MB_OK;
}

/* x = eh_proj([RMS(Emb(t+1); enorm) ; RMS(h; hnorm)]) of the own rows, h after the main model's final norm */
static enum mb_status combine_inputs(struct mb_pass *p, struct mb_view x)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_weights *w = &p->c->w;
    int64_t M = x.rows, H = m->hidden;
    struct mb_view h = mb_rows(p, MB_SB_RAW, M, H, MB_F32), t = mb_rows(p, MB_SB_T, M, H, MB_F32);
    struct mb_view both = mb_rows(p, MB_SB_MTP_IN, M, 2 * H, p->c->o.path);
    struct mb_view left = mb_view_cols(both, 0, H), right = mb_view_cols(both, H, H);
    struct mb_gemm_group g = {.w = w->mtp_proj, .rows = M};

    MB_TRY(next_ids(p, p->batch->part.ids));
    if (p->batch->part.n > 0)
        MB_TRY(ops->copy_in(p->c->stream, p->batch->dev.ids, p->batch->part.ids));
    MB_TRY(mb_tp_embed(p, t));
    if (M == 0)
        return MB_OK;
    MB_TRY(ops->norm(p->c->stream, MB_NO_VIEW, h, mb_rows(p, MB_SB_X, M, H, MB_F32), w->final_norm.view,
                     w->final_norm_b.view, m->norm, m->norm_eps, 1, 1));
    MB_TRY(ops->norm(p->c->stream, right, MB_NO_VIEW, h, w->mtp_hnorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps,
                     1, 1));
    MB_TRY(ops->norm(p->c->stream, left, MB_NO_VIEW, t, w->mtp_enorm.view, MB_NO_VIEW, MB_NORM_RMS, m->norm_eps,
                     1, 1));
    return ops->gemm(p->c->stream, x, both, &g, 1);
}

enum mb_status mb_mtp_run(struct mb_step *s, struct mb_sink *sink)
{
    struct mb_pass p = s->pass;
    struct mb_batch b = *p.batch; /* the same rows with the next ids; adapters leave the module alone: its tags are 0 */
    struct mb_view x = mb_rows(&p, MB_SB_MTP_X, b.part.n_own, s->c->o.model->hidden, MB_F32);

    b.part.ids = p.work->mtp_ids;
    b.part.own_tag = p.work->mtp_tag;
    b.part.n_runs = 0;
    p.batch = &b;
    if (s->status == MB_OK && b.rows > 0)
        s->status = combine_inputs(&p, x);
    (void)mb_layer_run(s, &p, s->c->o.model->layers, x); /* s->status has it */
    if (s->status == MB_OK && !mb_step_over(s) && b.rows > 0)
        s->status = mb_mtp_saved(s->c) ? mb_head_mtp(&p, x, sink) : mb_head_guess(&p, x);
    return s->status;
}
