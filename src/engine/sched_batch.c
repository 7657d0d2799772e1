/* The scheduler: which rows make up a step. */
#include <stdlib.h>
#include <string.h>
#include "engine/sched_impl.h"

/* ---------------------------------------------------------------- rows whose logits are needed */

bool mb_sched_wants(const struct mb_sched *s, const struct mb_seq *q, int64_t at)
{
    return s->o.save_logits == MB_LOGITS_ALL || (s->o.save_logits == MB_LOGITS_LAST && at >= q->n_fed - 1) ||
           mb_seq_draws_at(q, at) || mb_seq_scores_at(q, at);
}

void mb_sched_ask(struct mb_sched *s, struct mb_seq *q, int32_t row, int64_t at, bool again)
{
    int32_t i = s->n_asks++;

    s->ask[i] = (struct mb_ask){q, at, row, i, again};
}

/* A row that the results do not keep; the MTP module alone has to know the token behind it. */
static void put_again(struct mb_batch *b, int32_t i, const struct mb_ask *a)
{
    b->out[i] = (struct mb_out){a->row, a->seq->ids[a->at + 1], 0, false, false, false};
}

/* What a row is for. A known next token (of the prompt, or forced) is the target; else the drawn one. */
static enum mb_status put_out(struct mb_sched *s, struct mb_batch *b, int32_t i, const struct mb_ask *a)
{
    struct mb_seq *q = a->seq;
    int64_t pos = a->at;
    bool keep =
        s->o.save_logits == MB_LOGITS_ALL || (s->o.save_logits == MB_LOGITS_LAST && pos >= q->n_fed - 1);

    b->out[i] = (struct mb_out){a->row, pos + 1 < q->n_prompt ? q->ids[pos + 1] : -1, 0, keep,
                                mb_seq_goes_on_at(q, pos), mb_seq_draws_at(q, pos)};
    if (mb_seq_scores_at(q, pos))
        b->out[i].top_n = q->got.prompt_top.n;
    if (!mb_seq_draws_at(q, pos))
        return MB_OK;
    b->out[i].top_n = q->job->req->top_n;
    return mb_seq_sampling(q, s->o.eos, s->o.n_eos, pos - (q->n_prompt - 1), &b->adj, &b->masks, &b->sample[i]);
}

static int by_row(const void *a, const void *b)
{
    const struct mb_ask *x = a, *y = b;
    return x->row != y->row ? (x->row > y->row) - (x->row < y->row)
                            : (x->order > y->order) - (x->order < y->order);
}

/* What was asked for, in the order of rows; one row may serve several sequences. */
static enum mb_status put_outs(struct mb_sched *s, struct mb_making *k)
{
    struct mb_batch *b = k->b;

    if (k->f->n_rides > 0)
        qsort(s->ask, (size_t)s->n_asks, sizeof *s->ask, by_row);
    for (int32_t i = 0; i < s->n_asks; i++) {
        const struct mb_ask *a = &s->ask[i];
        k->f->out_seq[i] = a->seq;
        k->f->out_pos[i] = a->again ? -1 : a->at;
        b->sample[i] = (struct mb_sample_row){
            .repetition = 1.0f, .top_p = 1.0f, .adj_begin = b->adj.n, .adj_end = b->adj.n};
        b->n_out++;
        if (a->again)
            put_again(b, i, a);
        else
            MB_TRY(put_out(s, b, i, a));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- rows */

/* A place for what linear attention keeps of a sequence. One that begins, for whatever reason, needs no state
 * of before, and may take any that no other running one has; there are as many as sequences that run. */
static int32_t state_of(struct mb_sched *s, struct mb_seq *q)
{
    int32_t first = 1;

    if (q->state > 0 && mb_seq_position(q, q->n_sched) > 0)
        return q->state - 1;
    memset(s->state_used, 0, (size_t)s->o.max_seqs + 1);
    for (int32_t i = 0; i < s->n_running; i++)
        s->state_used[s->running[i] != q ? s->running[i]->state : 0] = 1;
    while (s->state_used[first])
        first++;
    if (q->state == 0 || s->state_used[q->state])
        q->state = first;
    return q->state - 1;
}

static void open_flight(const struct mb_batch *b, struct mb_flight *f, struct mb_seq *q, int64_t rows,
                        int64_t skip)
{
    f->seq[b->seqs] = q;
    f->seq_row[b->seqs] = b->rows;
    f->seq_rows[b->seqs] = (int32_t)rows;
    f->seq_skip[b->seqs] = (int32_t)skip;
    f->seq_pos[b->seqs] = q->n_sched;
}

/* Rows that results have from elsewhere: of an earlier window, or from before the sequence gave way. */
static int64_t known_rows(const struct mb_seq *q, int64_t rows)
{
    int64_t again = mb_seq_repeats(q, q->n_sched, rows), had = q->n_high - q->n_sched;

    had = had < rows ? had : rows;
    return again > had ? again : had;
}

/* The MTP module has to know what follows the last row of a sequence in the batch. */
static bool module_asks(const struct mb_sched *s, const struct mb_seq *q, int64_t at, bool last)
{
    return s->draft.module && last && at + 1 < q->n_ids;
}

/* The rows of q's next ids, and behind them those of guesses. */
static void add_rows(struct mb_sched *s, struct mb_making *k, struct mb_seq *q, int64_t rows, int32_t drafts)
{
    struct mb_batch *b = k->b;
    int64_t again = known_rows(q, rows), first = mb_seq_position(q, q->n_sched);

    memcpy(b->page_table + (size_t)b->seqs * (size_t)b->max_pages, q->page,
           sizeof(int32_t) * (size_t)q->n_pages);
    if (s->o.states)
        b->state[b->seqs] = state_of(s, q);
    open_flight(b, k->f, q, rows + drafts, again);
    mb_sched_enter(s, q, first, rows, b->rows);
    for (int64_t i = 0; i < rows + drafts; i++) {
        int32_t r = b->rows++;
        int64_t pos = first + i, at = mb_seq_index(q, q->n_sched + i);
        b->ids[r] = q->ids[at];
        b->pos[r] = (int32_t)pos;
        b->rope[r] = (int32_t)(pos + (q->kind.rope_long ? s->o.rope_rows : 0));
        b->row_seq[r] = b->seqs;
        b->tag[r] = (uint16_t)(q->kind.adapter + 1);
        if (i >= again && mb_sched_wants(s, q, at))
            mb_sched_ask(s, q, r, at, false);
        else if ((i < again && s->o.mtp) || module_asks(s, q, at, i == rows - 1))
            mb_sched_ask(s, q, r, at, true);
    }
    b->seqs++;
    s->counters->reuse.again += q->n_high > q->n_sched + rows ? rows : q->n_high - q->n_sched;
    s->counters->reuse.drafts.made += drafts;
    q->n_sched += rows + drafts;
    q->n_high = q->n_sched > q->n_high ? q->n_sched : q->n_high;
    q->way.steps++;
    q->way.drafts = drafts;
    q->way.holes |= !s->draft.module && s->o.drafts.how == MB_DRAFT_MTP;
    q->picked = true;
}

/* A sequence gets up to `most` rows of the batch, less what others have computed or compute in it. */
static enum mb_status serve(struct mb_sched *s, struct mb_making *k, struct mb_seq *q, int64_t most)
{
    int32_t drafts = 0;

    if (mb_sched_share(s, k, q))
        return MB_OK;
    int64_t rows = mb_seq_todo(q), asks = s->o.max_rows - s->n_asks;
    rows = rows < most ? rows : most;
    rows = rows < asks ? rows : asks;
    if (rows > 0)
        rows = mb_sched_room(s, k->b, q, rows);
    if (rows <= 0)
        return MB_OK;
    int64_t left = s->o.max_rows - k->b->rows < asks ? s->o.max_rows - k->b->rows : asks;
    if (mb_sched_decodes(q))
        MB_TRY(mb_sched_draft(s, q, (int32_t)(left - rows), &drafts));
    add_rows(s, k, q, rows, drafts);
    return MB_OK;
}

static bool runs(const struct mb_seq *q)
{
    return !q->done && !q->paused && mb_seq_todo(q) > 0;
}

bool mb_sched_decodes(const struct mb_seq *q)
{
    return mb_seq_todo(q) == 1 && q->n_sched >= q->n_prompt && q->max_out > 0;
}

/* Sequences that wait for nothing but this step. With several steps under way each takes its part of them, or
 * the first would have them all. */
static enum mb_status add_decode(struct mb_sched *s, struct mb_making *k, int32_t adapter, int32_t *left)
{
    for (int32_t i = 0; *left > 0 && i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        if (q->kind.adapter != adapter || !runs(q) || !mb_sched_decodes(q))
            continue;
        MB_TRY(serve(s, k, q, k->b->rows < s->o.max_rows));
        *left -= q->picked;
    }
    return MB_OK;
}

/* A full batch may still serve others with its rows. */
static enum mb_status add_prefill(struct mb_sched *s, struct mb_making *k, int32_t adapter)
{
    for (int32_t i = 0; i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        if (q->kind.adapter == adapter && runs(q) && !q->picked && !(mb_sched_decodes(q) && s->o.depth > 1))
            MB_TRY(serve(s, k, q, s->o.max_rows - k->b->rows));
    }
    return MB_OK;
}

enum mb_status mb_sched_batch(struct mb_sched *s, struct mb_batch *b)
{
    struct mb_making k = {b, mb_sched_next(s)};
    int32_t decode = (s->n_running + s->o.depth - 1) / s->o.depth;

    mb_batch_clear(b);
    mb_sched_draft_begin(s);
    b->module = s->o.mtp || s->draft.module;
    s->pages.batch++;
    s->n_asks = k.f->n_rides = 0;
    for (int32_t i = 0; i < s->n_running; i++)
        s->running[i]->picked = false;
    for (int32_t a = -1; a < s->o.n_adapters; a++)
        MB_TRY(add_decode(s, &k, a, &decode));
    for (int32_t a = -1; a < s->o.n_adapters; a++)
        MB_TRY(add_prefill(s, &k, a));
    MB_TRY(put_outs(s, &k));
    k.f->rows = b->rows;
    k.f->seqs = b->seqs;
    k.f->n_out = b->n_out;
    s->counters->rows += b->rows;
    return MB_OK;
}

/* ---------------------------------------------------------------- on its way */

/* Ticks of the pipeline, in which a stage does one step, a step goes from a stage to the next, and what
 * waited for results begins behind them. Returns the tick after which the results of the step that begins now
 * are there. */
static int64_t count_tick(struct mb_sched *s, bool rows)
{
    int64_t t = s->results_tick;

    for (int32_t i = 0; i < s->o.depth; i++) {
        t = (s->stage_tick[i] > t ? s->stage_tick[i] : t) + 1;
        s->stage_tick[i] = t;
    }
    if (rows) {
        s->counters->pipeline_steps++;
        s->counters->pipeline_ticks = t;
    }
    return t;
}

struct mb_flight *mb_sched_launch(struct mb_sched *s, int64_t step, bool rows)
{
    struct mb_flight *f = mb_sched_next(s);

    if (!rows)
        f->rows = f->seqs = f->n_out = f->n_rides = 0;
    f->step = step;
    f->tick = count_tick(s, rows);
    s->n_flights++;
    return f;
}

void mb_sched_land(struct mb_sched *s)
{
    s->results_tick = mb_sched_oldest(s)->tick;
    s->first_flight = (s->first_flight + 1) % s->o.depth;
    s->n_flights--;
}

bool mb_sched_idle(const struct mb_sched *s)
{
    bool rows = false;

    for (int32_t i = 0; i < s->n_flights; i++)
        rows |= s->flight[(s->first_flight + i) % s->o.depth].rows > 0;
    return s->source_ended && s->n_running == 0 && s->n_waiting == 0 && s->held == NULL && !rows;
}
