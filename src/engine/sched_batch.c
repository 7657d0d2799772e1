/* The scheduler: which rows make up a step. */
#include <string.h>
#include "engine/sched_impl.h"

/* A batch being made, and its flight. */
struct making {
    struct mb_batch *b;
    struct mb_flight *f;
};

/* A row that the results do not keep; the MTP module alone has to know the token behind it. */
static void add_repeat(struct mb_sched *s, struct making *k, struct mb_seq *q, int32_t row, int64_t at)
{
    struct mb_batch *b = k->b;

    if (!s->o.mtp)
        return;
    int32_t i = b->n_out++;
    k->f->out_seq[i] = q;
    k->f->out_pos[i] = -1;
    b->out[i] = (struct mb_out){row, q->ids[at + 1], 0, false, false};
    b->sample[i] =
        (struct mb_sample_row){.repetition = 1.0f, .top_p = 1.0f, .adj_begin = b->adj.n, .adj_end = b->adj.n};
}

/* A row whose logits are needed: what for. A known next token (of the prompt, or forced) is the target; else
 * the drawn one. */
static enum mb_status add_out(struct mb_sched *s, struct making *k, struct mb_seq *q, int32_t row,
                              int64_t pos)
{
    struct mb_batch *b = k->b;
    bool draws = mb_seq_draws_at(q, pos), all = s->o.save_logits == MB_LOGITS_ALL;
    bool last = s->o.save_logits == MB_LOGITS_LAST && pos >= q->n_fed - 1;

    if (!all && !last && !draws && !mb_seq_scores_at(q, pos))
        return MB_OK;
    int32_t i = b->n_out++;
    k->f->out_seq[i] = q;
    k->f->out_pos[i] = pos;
    b->out[i] = (struct mb_out){row, pos + 1 < q->n_prompt ? q->ids[pos + 1] : -1, 0, all || last,
                                mb_seq_goes_on_at(q, pos)};
    b->sample[i] =
        (struct mb_sample_row){.repetition = 1.0f, .top_p = 1.0f, .adj_begin = b->adj.n, .adj_end = b->adj.n};
    if (mb_seq_scores_at(q, pos))
        b->out[i].top_n = q->got.prompt_top.n;
    if (!draws)
        return MB_OK;
    b->out[i].top_n = q->job->req->top_n;
    return mb_seq_sampling(q, s->o.eos, s->o.n_eos, pos - (q->n_prompt - 1), &b->adj, &b->sample[i]);
}

static enum mb_status add_rows(struct mb_sched *s, struct making *k, struct mb_seq *q, int64_t rows)
{
    struct mb_batch *b = k->b;
    struct mb_flight *f = k->f;

    if (rows <= 0)
        return MB_OK;
    memcpy(b->page_table + (size_t)b->seqs * (size_t)b->max_pages, q->page,
           sizeof(int32_t) * (size_t)q->n_pages);
    f->seq[b->seqs] = q;
    f->seq_row[b->seqs] = b->rows;
    f->seq_rows[b->seqs] = (int32_t)rows;
    f->seq_pos[b->seqs] = q->n_sched;
    int64_t again = mb_seq_repeats(q, q->n_sched, rows);
    for (int64_t i = 0; i < rows; i++) {
        int32_t r = b->rows++;
        int64_t pos = mb_seq_position(q, q->n_sched + i), at = mb_seq_index(q, q->n_sched + i);
        b->ids[r] = q->ids[at];
        b->pos[r] = (int32_t)pos;
        b->rope[r] = (int32_t)(pos + (q->rope_long ? s->o.rope_rows : 0));
        b->row_seq[r] = b->seqs;
        b->tag[r] = (uint16_t)(q->adapter + 1);
        if (i < again)
            add_repeat(s, k, q, r, at);
        else
            MB_TRY(add_out(s, k, q, r, at));
    }
    b->seqs++;
    q->n_sched += rows;
    q->in_flight++;
    q->picked = true;
    return MB_OK;
}

/* Sequences that wait for nothing but this step. With several steps under way each takes its part of them, or
 * the first would have them all. */
static enum mb_status add_decode(struct mb_sched *s, struct making *k, int32_t adapter, int32_t *left)
{
    for (int32_t i = 0; i < s->n_running && k->b->rows<s->o.max_rows && * left> 0; i++) {
        struct mb_seq *q = s->running[i];
        if (q->adapter != adapter || q->done || mb_seq_todo(q) != 1 || q->n_sched < q->n_prompt ||
            q->max_out == 0)
            continue;
        MB_TRY(add_rows(s, k, q, 1));
        (*left)--;
    }
    return MB_OK;
}

static enum mb_status add_prefill(struct mb_sched *s, struct making *k, int32_t adapter)
{
    int32_t max = s->o.max_rows;

    for (int32_t i = 0; i < s->n_running && k->b->rows < max; i++) {
        struct mb_seq *q = s->running[i];
        int64_t todo = mb_seq_todo(q), room = max - k->b->rows;
        bool decode = todo == 1 && q->n_sched >= q->n_prompt && q->max_out > 0;
        if (q->adapter == adapter && !q->picked && !q->done && !(decode && s->o.depth > 1))
            MB_TRY(add_rows(s, k, q, todo < room ? todo : room));
    }
    return MB_OK;
}

enum mb_status mb_sched_batch(struct mb_sched *s, struct mb_batch *b)
{
    struct making k = {b, mb_sched_next(s)};
    int32_t decode = (s->n_running + s->o.depth - 1) / s->o.depth;
    enum mb_status st = MB_OK;

    mb_batch_clear(b);
    for (int32_t i = 0; i < s->n_running; i++)
        s->running[i]->picked = false;
    for (int32_t a = -1; st == MB_OK && a < s->o.n_adapters; a++)
        st = add_decode(s, &k, a, &decode);
    for (int32_t a = -1; st == MB_OK && a < s->o.n_adapters; a++)
        st = add_prefill(s, &k, a);
    k.f->rows = b->rows;
    k.f->seqs = b->seqs;
    k.f->n_out = b->n_out;
    s->counters->rows += b->rows;
    return st;
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
        f->rows = f->seqs = f->n_out = 0;
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
