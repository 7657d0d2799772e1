/* The scheduler: what a step found out goes into sequences, and who is at the end leaves. */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/sched_impl.h"

/* ---------------------------------------------------------------- into sequences */

static bool ends(const struct mb_sched *s, const struct mb_seq *q, int32_t id)
{
    for (int32_t i = 0; i < s->o.n_eos && !q->job->req->sampling.ignore_eos; i++) {
        if (s->o.eos[i] == id)
            return true;
    }
    return false;
}

/* A token that was not known before joins the sequence, if the request lets it. */
static enum mb_status append(struct mb_sched *s, struct mb_seq *q, int64_t index, int32_t id)
{
    bool may;

    MB_TRY(mb_seq_may_draw(q, s->o.eos, s->o.n_eos, index, id, &may));
    if (!may && q->job->guide != NULL)
        return mb_seq_fail(q, "nothing can be drawn at output token %lld: %s and the other limits of the request leave no token",
                           (long long)index, q->job->req->guide_key);
    if (!may)
        return mb_seq_fail(q,
                           "nothing can be drawn at output token %lld: allowed_token_ids, bad_words and "
                           "min_tokens leave no token",
                           (long long)index);
    return mb_seq_push(q, id);
}

/* What a row of the prompt found out about the token behind it. */
static void keep_score(struct mb_seq *q, int64_t pos, const struct mb_found *f, int32_t i)
{
    const struct mb_tops *t = &q->got.prompt_top;

    q->got.prompt_lp[pos + 1] = f->lp[i];
    q->got.greedy &= f->best[i] == q->ids[pos + 1];
    for (int32_t j = 0; j < t->n; j++) {
        t->ids[(pos + 1) * t->n + j] = f->top_ids[i * MB_MAX_TOP + j];
        t->logprobs[(pos + 1) * t->n + j] = f->top_lp[i * MB_MAX_TOP + j];
    }
}

static void keep_draw(struct mb_seq *q, int64_t index, const struct mb_found *f, int32_t i)
{
    int32_t n = q->job->req->top_n;

    q->got.out_lp[index] = f->lp[i];
    for (int32_t j = 0; j < n; j++) {
        q->got.top_ids[index * n + j] = f->top_ids[i * MB_MAX_TOP + j];
        q->got.top_lp[index * n + j] = f->top_lp[i * MB_MAX_TOP + j];
    }
    q->n_drawn = index + 1;
    if (q->got.t_first == 0)
        q->got.t_first = mb_now();
}

/* One output token, known from a journal or new: its log-probability, its end conditions. */
static enum mb_status take_draw(struct mb_sched *s, struct mb_seq *q, int64_t pos, const struct mb_found *f,
                                int32_t i, struct mb_sink *sink)
{
    int64_t index = pos - (q->n_prompt - 1);
    bool known = index < q->n_forced, stop = false;
    int32_t id = f->drawn[i];

    if (known && q->ids[pos + 1] != id)
        return mb_error(
            MB_CORRUPT,
            "request %s choice %d: output token %lld was %d in the journal and is %d now; the journal, the "
            "model or this machine's arithmetic is damaged",
            q->job->req->id.data, q->choice, (long long)index, q->ids[pos + 1], id);
    if (pos + 1 == q->n_ids)
        MB_TRY(append(s, q, index, id));
    if (q->got.error != NULL)
        return MB_OK;
    if (s->draft.module && f->guess[i] >= 0)
        q->way.guess = (struct mb_guess){q->n_ids, 1, {f->guess[i]}};
    keep_draw(q, index, f, i);
    s->counters->output_tokens += !known;
    MB_TRY(sink->ops->token(sink, q->handle, index, id, !known, &stop));
    if (ends(s, q, id))
        q->got.finish = MB_FINISH_EOS;
    else if (stop)
        q->got.finish = MB_FINISH_STOP;
    else if (index + 1 == q->max_out)
        q->got.finish = MB_FINISH_LENGTH;
    else
        return MB_OK;
    q->done = true;
    return MB_OK;
}

static enum mb_status take_row(struct mb_sched *s, const struct mb_flight *f, int32_t i,
                               const struct mb_found *found, struct mb_sink *sink)
{
    struct mb_seq *q = f->out_seq[i];
    int64_t pos = f->out_pos[i];

    if (q->done || pos < 0 || (q->way.drafts > 0 && pos >= q->way.end))
        return MB_OK;
    if (found->bad[i])
        return mb_seq_fail(q, "a logit at position %lld is not finite", (long long)pos);
    if (mb_seq_scores_at(q, pos))
        keep_score(q, pos, found, i);
    return mb_seq_draws_at(q, pos) ? take_draw(s, q, pos, found, i, sink) : MB_OK;
}

/* The first layer of rows [row, row + n) with a bad router, and *at: the first such row; -1: none. Of several
 * layers the first is named, wherever the news came from. */
static int32_t bad_layer(const struct mb_found *found, int32_t row, int32_t n, int32_t *at)
{
    int32_t layer = -1;

    for (int32_t r = row + n - 1; r >= row; r--) {
        int32_t bad = found->bad_layer[r];
        *at = bad >= 0 ? r : *at;
        layer = bad >= 0 && (layer < 0 || bad < layer) ? bad : layer;
    }
    return layer;
}

/* Whether q has, from wherever, the row of `of` at this position. */
static bool has_row(const struct mb_seq *q, const struct mb_seq *of, int64_t pos)
{
    return q->window == 0 && of->window == 0 && q->n_high - q->way.drafts > pos && mb_sched_kind(q) == mb_sched_kind(of) &&
           memcmp(q->ids, of->ids, sizeof *q->ids * (size_t)(pos + 1)) == 0;
}

/* Sequences whose rows have bad router logits, and those that share these rows; nobody else gets them. */
static enum mb_status fail_rows(struct mb_sched *s, const struct mb_flight *f, const struct mb_found *found)
{
    for (int32_t i = 0; i < f->seqs; i++) {
        int32_t row = -1, layer = bad_layer(found, f->seq_row[i], f->seq_kept[i], &row);
        struct mb_seq *of = f->seq[i];
        if (layer < 0)
            continue;
        int64_t pos = f->seq_pos[i] + row - f->seq_row[i];
        for (int32_t j = 0; s->o.share && j < s->n_running; j++) {
            if (has_row(s->running[j], of, pos))
                MB_TRY(mb_seq_fail(s->running[j], "a router logit is not finite in layer %d", layer));
        }
        MB_TRY(mb_seq_fail(of, "a router logit is not finite in layer %d", layer));
        mb_sched_forget(s);
    }
    return MB_OK;
}

enum mb_status mb_sched_use(struct mb_sched *s, const struct mb_flight *f, const struct mb_found *found,
                            struct mb_sink *sink)
{
    mb_sched_judge(s, f, found);
    MB_TRY(fail_rows(s, f, found));
    for (int32_t i = 0; i < f->n_out; i++)
        MB_TRY(take_row(s, f, i, found, sink));
    mb_sched_settle(s, f);
    return MB_OK;
}

/* ---------------------------------------------------------------- after a step */

/* The MTP module predicts two tokens ahead: the last row has nothing to predict and is NaN. */
static enum mb_status last_mtp_row(struct mb_sched *s, const struct mb_seq *q, struct mb_sink *sink)
{
    int64_t last = q->n_fed + (q->n_drawn > 0 ? q->n_drawn - 1 : 0) - 1;

    if (!s->o.mtp || q->got.error != NULL || last < 0)
        return MB_OK;
    return sink->ops->bulk(sink, q->handle, MB_BULK_MTP, last, 1, s->no_logits);
}

/* What part of max_tokens a sequence draws: the last ones count most. */
static void learn(struct mb_sched *s, const struct mb_seq *q)
{
    s->drawn += q->n_drawn;
    s->allowed += q->max_out;
    if (s->allowed > 1 << 20) {
        s->drawn /= 2;
        s->allowed /= 2;
    }
}

static enum mb_status finish(struct mb_sched *s, struct mb_seq *q, struct mb_sink *sink)
{
    struct mb_record rec = {0};
    bool failed = q->got.error != NULL;

    mb_sched_release(s, q);
    if (!failed && q->max_out > 0)
        learn(s, q);
    enum mb_status st = last_mtp_row(s, q, sink);
    if (st == MB_OK)
        st = mb_seq_record(q, &rec);
    if (st == MB_OK)
        st = mb_sched_copy_id(q->job->req, &rec);
    if (st == MB_OK)
        st = sink->ops->done(sink, q->handle, &rec);
    else
        mb_record_fini(&rec);
    s->counters->requests_done++;
    s->counters->requests_error += failed;
    s->counters->prompt_tokens += q->n_prompt;
    mb_seq_destroy(q);
    return st;
}

/* Results of a sequence's rows before `end` are back. */
static void land(struct mb_seq *q, int64_t end)
{
    q->n_done = end > q->n_done ? end : q->n_done;
    q->way.steps--;
}

enum mb_status mb_sched_retire(struct mb_sched *s, const struct mb_flight *f, struct mb_sink *sink)
{
    int32_t kept = 0;
    enum mb_status st = MB_OK;

    for (int32_t i = 0; i < f->seqs; i++)
        land(f->seq[i], f->seq_pos[i] + f->seq_rows[i]);
    for (int32_t i = 0; i < f->n_rides; i++)
        land(f->ride[i], f->ride_end[i]);
    for (int32_t i = 0; i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        if (q->max_out == 0 && q->n_done == q->n_compute && !q->done) {
            q->got.finish = q->job->req->kind == MB_KIND_GENERATE ? MB_FINISH_LENGTH : MB_FINISH_NONE;
            q->done = true;
        }
        if (q->done && q->way.steps == 0 && st == MB_OK)
            st = finish(s, q, sink);
        else
            s->running[kept++] = q;
    }
    s->n_running = kept;
    return st;
}

int64_t mb_sched_pages_used(const struct mb_sched *s)
{
    return mb_pages_held(&s->pages);
}
