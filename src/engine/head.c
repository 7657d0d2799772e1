/* Logits of the rows that need them: scores of known tokens, draws of new ones. In pieces of logit_rows rows, so that prompt
 * log-probabilities of a long chunk need bounded memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/work.h"

struct piece {
    int32_t first, n; /* entries of the batch's out lists */
    int32_t top_n;    /* largest asked for */
    struct mb_view z, stats;
    int32_t *drawn, *best, *bad, *target; /* [n] on the host */
    float *lp;
};

static enum mb_status logits(struct mb_engine *e, struct piece *p)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    struct mb_view idx = mb_rows_of(e->work.idx, p->n, 1, MB_I32);
    struct mb_view hx = mb_rows_of(e->work.hx, p->n, m->hidden, MB_F32);
    struct mb_view hn = mb_rows_of(e->work.hn, p->n, m->hidden, e->o.path);
    struct mb_gemm_group g = {.w = e->w.head, .rows = p->n, .bias = e->w.head_b.view};

    p->z = mb_rows_of(e->work.logits, p->n, m->vocab, MB_F32);
    p->stats = mb_rows_of(e->work.stats, p->n, 2, MB_F32);
    MB_TRY(ops->copy_in(e->stream, idx, e->batch.out_row + p->first));
    MB_TRY(ops->gather(e->stream, hx, mb_rows_of(e->work.x, e->batch.rows, m->hidden, MB_F32), idx));
    MB_TRY(ops->norm(e->stream, hn, MB_NO_VIEW, hx, e->w.final_norm.view, e->w.final_norm_b.view, m->norm, m->norm_eps, 1, 1));
    MB_TRY(ops->gemm(e->stream, p->z, hn, &g, 1));
    return m->logit_scale != 1.0f ? ops->scale(e->stream, p->z, m->logit_scale) : MB_OK;
}

/* Sampling parameters of each row; rows that draw nothing take the argmax, which costs nothing. */
static enum mb_status sampling_rows(struct mb_engine *e, struct piece *p)
{
    const struct mb_model *m = e->o.model;
    e->work.adj.n = 0;
    p->top_n = 0;
    for (int32_t i = 0; i < p->n; i++) {
        struct mb_seq *q = e->batch.out_seq[p->first + i];
        int64_t pos = e->batch.out_pos[p->first + i];
        e->work.h_srows[i] = (struct mb_sample_row){.repetition = 1.0f, .top_p = 1.0f, .adj_begin = e->work.adj.n, .adj_end = e->work.adj.n};
        if (mb_seq_draws_at(q, pos) && !q->done) {
            MB_TRY(mb_seq_sampling(q, m->eos, m->n_eos, pos - (q->n_prompt - 1), &e->work.adj, &e->work.h_srows[i]));
            if (q->job->req->top_n > p->top_n)
                p->top_n = q->job->req->top_n;
        }
    }
    return MB_OK;
}

static enum mb_status adjust_upload(struct mb_engine *e, struct mb_view *out)
{
    const struct mb_ops *ops = e->o.ops;
    int64_t n = e->work.adj.n;

    *out = mb_rows_of(e->work.sadj, n, sizeof(struct mb_sample_adjust), MB_U8);
    if (n == 0)
        return MB_OK;
    if (n > e->work.adj_cap) {
        ops->buf_free(e->work.sadj);
        e->work.sadj = NULL;
        e->work.adj_cap = 0;
        MB_TRY(ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(2 * n) * sizeof(struct mb_sample_adjust), &e->work.sadj));
        e->work.adj_cap = 2 * n;
        out->buf = e->work.sadj;
    }
    return ops->copy_in(e->stream, *out, e->work.adj.v);
}

static enum mb_status draw(struct mb_engine *e, struct piece *p)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view best = mb_rows_of(e->work.best, p->n, 1, MB_I32), bad = mb_rows_of(e->work.lbad, p->n, 1, MB_I32);
    struct mb_view drawn = mb_rows_of(e->work.drawn, p->n, 1, MB_I32);
    struct mb_view rows = mb_rows_of(e->work.srows, p->n, sizeof(struct mb_sample_row), MB_U8), adj;

    MB_TRY(sampling_rows(e, p));
    MB_TRY(ops->logit_stats(e->stream, p->stats, best, bad, p->z));
    MB_TRY(ops->copy_in(e->stream, rows, e->work.h_srows));
    MB_TRY(adjust_upload(e, &adj));
    MB_TRY(ops->sample(e->stream, drawn, p->z, p->stats, rows, adj));
    MB_TRY(ops->copy_out(e->stream, p->drawn, drawn));
    MB_TRY(ops->copy_out(e->stream, p->best, best));
    return ops->copy_out(e->stream, p->bad, bad);
}

/* The token whose log-probability a row gives: the drawn one, or the next of the prompt. */
static enum mb_status score(struct mb_engine *e, struct piece *p)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view target = mb_rows_of(e->work.target, p->n, 1, MB_I32), lp = mb_rows_of(e->work.lp, p->n, 1, MB_F32);

    for (int32_t i = 0; i < p->n; i++) {
        const struct mb_seq *q = e->batch.out_seq[p->first + i];
        int64_t pos = e->batch.out_pos[p->first + i];
        p->target[i] = pos + 1 < q->n_prompt ? q->ids[pos + 1] : p->drawn[i];
    }
    MB_TRY(ops->copy_in(e->stream, target, p->target));
    MB_TRY(ops->logprob(e->stream, lp, p->z, p->stats, target));
    MB_TRY(ops->copy_out(e->stream, p->lp, lp));
    if (p->top_n == 0)
        return MB_OK;
    struct mb_view ti = mb_rows_of(e->work.top_ids, p->n, p->top_n, MB_I32), tl = mb_rows_of(e->work.top_lp, p->n, p->top_n, MB_F32);
    MB_TRY(ops->top(e->stream, ti, tl, p->z, p->stats));
    MB_TRY(ops->copy_out(e->stream, e->work.h_i32 + 4 * e->work.logit_rows, ti));
    return ops->copy_out(e->stream, e->work.h_f32 + e->work.logit_rows, tl);
}

static bool ends(const struct mb_engine *e, const struct mb_seq *q, int32_t id)
{
    for (int32_t i = 0; i < e->o.model->n_eos && !q->job->req->sampling.ignore_eos; i++) {
        if (e->o.model->eos[i] == id)
            return true;
    }
    return false;
}

/* One output token, forced or new: its log-probability, its end conditions. */
static enum mb_status take_draw(struct mb_engine *e, struct piece *p, int32_t i, struct mb_seq *q, int64_t pos, struct mb_sink *sink)
{
    int64_t index = pos - (q->n_prompt - 1);
    bool forced = pos + 1 < q->n_ids, stop = false;
    int32_t id = p->drawn[i], n = q->job->req->top_n;

    if (forced && q->ids[pos + 1] != id)
        return mb_error(MB_CORRUPT, "request %s choice %d: output token %lld was %d in the journal and is %d now; the journal, the "
                        "model or this machine's arithmetic is damaged", q->job->req->id.data, q->choice, (long long)index,
                        q->ids[pos + 1], id);
    if (!forced)
        MB_TRY(mb_seq_push(q, id));
    q->out_lp[index] = p->lp[i];
    for (int32_t j = 0; j < n; j++) {
        q->top_ids[index * n + j] = e->work.h_i32[4 * e->work.logit_rows + i * p->top_n + j];
        q->top_lp[index * n + j] = e->work.h_f32[e->work.logit_rows + i * p->top_n + j];
    }
    q->n_drawn = index + 1;
    if (q->t_first == 0)
        q->t_first = mb_now();
    e->counters.output_tokens += !forced;
    bool eos = ends(e, q, id);
    MB_TRY(sink->ops->token(sink, q->handle, index, id, !forced, &stop));
    if (eos)
        q->finish = MB_FINISH_EOS;
    else if (stop)
        q->finish = MB_FINISH_STOP;
    else if (index + 1 == q->max_out)
        q->finish = MB_FINISH_LENGTH;
    else
        return MB_OK;
    q->done = true;
    return MB_OK;
}

static enum mb_status take_row(struct mb_engine *e, struct piece *p, int32_t i, struct mb_sink *sink)
{
    struct mb_seq *q = e->batch.out_seq[p->first + i];
    int64_t pos = e->batch.out_pos[p->first + i];

    if (q->done)
        return MB_OK;
    if (p->bad[i])
        return mb_seq_fail(q, "a logit at position %lld is not finite", (long long)pos);
    if (mb_seq_scores_at(q, pos)) {
        q->prompt_lp[pos + 1] = p->lp[i];
        q->greedy_so_far &= p->best[i] == q->ids[pos + 1];
    }
    return mb_seq_draws_at(q, pos) ? take_draw(e, p, i, q, pos, sink) : MB_OK;
}

static enum mb_status save_logits(struct mb_engine *e, struct piece *p, struct mb_sink *sink)
{
    int64_t V = e->o.model->vocab;

    if (e->o.save_logits == MB_LOGITS_NONE)
        return MB_OK;
    MB_TRY(e->o.ops->copy_out(e->stream, e->work.h_rows, p->z));
    for (int32_t i = 0; i < p->n; i++) {
        struct mb_seq *q = e->batch.out_seq[p->first + i];
        int64_t pos = e->batch.out_pos[p->first + i], row = pos - q->job->req->hidden;
        if (e->o.save_logits == MB_LOGITS_LAST)
            row = 0; /* each later row replaces the one before: the last one stays */
        if (q->handle >= 0 && row >= 0 && !q->done)
            MB_TRY(sink->ops->bulk(sink, q->handle, MB_BULK_LOGITS, row, 1, e->work.h_rows + i * V));
    }
    return MB_OK;
}

enum mb_status mb_head_run(struct mb_engine *e, struct mb_sink *sink)
{
    int32_t cap = e->work.logit_rows, *h = e->work.h_i32;

    for (int32_t first = 0; first < e->batch.n_out; first += cap) {
        struct piece p = {.first = first, .n = e->batch.n_out - first < cap ? e->batch.n_out - first : cap};
        p.drawn = h;
        p.best = h + cap;
        p.bad = h + 2 * cap;
        p.target = h + 3 * cap;
        p.lp = e->work.h_f32;
        MB_TRY(logits(e, &p));
        MB_TRY(draw(e, &p));
        MB_TRY(score(e, &p));
        MB_TRY(save_logits(e, &p, sink));
        for (int32_t i = 0; i < p.n; i++)
            MB_TRY(take_row(e, &p, i, sink));
    }
    return MB_OK;
}
