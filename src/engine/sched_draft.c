/* The scheduler: guessed ids (draft.h). Their rows stand behind that of the last known id, in pages of the
 * sequence, but in nobody else's sight: the tree of prefixes has them when they are known to be right. Those
 * that are wrong leave nothing: the next rows of the sequence are written over them. */
#include <string.h>
#include "engine/ngram.h"
#include "engine/sched_impl.h"

#define TRY_AGAIN 32     /* draws after which a sequence guesses once, though it does not pay */
#define MODULE_JUDGED 64 /* guesses by which the MTP module is judged */
#define MODULE_REST 4096 /* steps after which it may try again */
#define FADE 0.1         /* of a sequence's hits, with each guess */

/* ---------------------------------------------------------------- how many */

/* Rows that those who run have beside guesses, and how many of them draw. */
static void count_rows(struct mb_sched *s)
{
    struct mb_sched_draft *d = &s->draft;
    int64_t prompts = 0;

    d->draws = 0;
    d->generates = false;
    for (int32_t i = 0; i < s->n_running; i++) {
        const struct mb_seq *q = s->running[i];
        int64_t todo = q->done || q->paused ? 0 : mb_seq_todo(q);
        d->generates |= q->max_out > 1;
        if (mb_sched_decodes(q) && todo == 1)
            d->draws++;
        else
            prompts += todo > 0 ? todo : 0;
    }
    d->draws = (d->draws + s->o.depth - 1) / s->o.depth;
    int64_t rows = d->draws + prompts;
    d->rows = (int32_t)(rows < s->o.max_rows ? rows : s->o.max_rows);
    d->spare = s->o.max_rows - d->rows;
}

/* Whether the MTP module pays; now and then it runs to find out. */
static void switch_module(struct mb_sched *s)
{
    struct mb_sched_draft *d = &s->draft;

    if (d->pays && !s->o.drafts.always && d->sums.judged >= MODULE_JUDGED && d->draws > 0 &&
        !mb_draft_module_pays(&d->sums, s->o.drafts.extra, d->rows, d->draws)) {
        d->pays = false;
        d->rest = 0;
    } else if (!d->pays && ++d->rest >= MODULE_REST) {
        d->pays = true;
        d->sums.judged = 0;
    }
    d->module = s->o.drafts.how == MB_DRAFT_MTP && d->pays && d->generates;
}

void mb_sched_draft_begin(struct mb_sched *s)
{
    if (s->o.drafts.how == MB_DRAFT_OFF)
        return;
    count_rows(s);
    switch_module(s);
    s->draft.price = mb_draft_price(&s->draft.sums, s->draft.rows, s->draft.draws);
}

/* Guesses that pay, or one to find out whether they would. */
static int32_t wanted(struct mb_sched *s, struct mb_seq *q)
{
    const struct mb_drafting *o = &s->o.drafts;
    int32_t n = o->most;

    if (o->how == MB_DRAFT_NGRAM && !o->always)
        n = mb_draft_count(q->way.hits, s->draft.price, o->most);
    if (n == 0 && ++q->way.idle >= TRY_AGAIN)
        n = 1;
    return n;
}

/* ---------------------------------------------------------------- what */

static bool ends_text(const struct mb_sched *s, const struct mb_seq *q, int32_t id)
{
    const struct mb_request *r = q->job->req;

    for (int32_t i = 0; i < s->o.n_eos && !r->sampling.ignore_eos; i++) {
        if (s->o.eos[i] == id)
            return true;
    }
    for (int32_t i = 0; i < r->n_stop_ids; i++) {
        if (r->stop_ids[i] == id)
            return true;
    }
    return false;
}

/* Up to n ids behind the known ones of q. */
static int32_t guess(const struct mb_sched *s, struct mb_seq *q, int32_t n)
{
    const struct mb_guess *g = &q->way.guess;

    if (s->o.drafts.how == MB_DRAFT_NGRAM)
        return mb_ngram_guess(q->ids, q->n_ids, n);
    if (g->at != q->n_ids)
        return 0;
    n = g->n < n ? g->n : n;
    memcpy(q->ids + q->n_ids, g->id, sizeof *g->id * (size_t)n);
    return n;
}

enum mb_status mb_sched_draft(struct mb_sched *s, struct mb_seq *q, int32_t room, int32_t *out)
{
    int64_t left = q->rows_total - q->n_ids;

    *out = 0;
    if (s->o.drafts.how == MB_DRAFT_OFF || q->way.steps > 0 || q->n_high > q->n_sched ||
        q->n_ids < q->n_prompt + q->n_forced || q->way.holes)
        return MB_OK;
    int32_t n = wanted(s, q);
    n = n < left ? n : (int32_t)left;
    n = n < s->draft.spare ? n : s->draft.spare;
    n = n < room ? n : room;
    if (n <= 0)
        return MB_OK;
    n = guess(s, q, n);
    for (int32_t i = 0; i < n; i++) {
        if (ends_text(s, q, q->ids[q->n_ids + i]))
            n = i;
    }
    MB_TRY(mb_seq_allowed(q, &n));
    *out = mb_sched_spare(s, q, n);
    s->draft.spare -= *out;
    q->way.idle = *out > 0 ? 0 : q->way.idle;
    return MB_OK;
}

/* ---------------------------------------------------------------- which were right */

/* The first row of a sequence with bad router logits, as a position; those behind it are worth nothing. */
static int64_t first_bad(const struct mb_flight *f, int32_t i, const struct mb_found *found)
{
    for (int32_t r = 0; r < f->seq_rows[i]; r++) {
        if (found->bad_layer[f->seq_row[i] + r] >= 0)
            return f->seq_pos[i] + r;
    }
    return f->seq_pos[i] + f->seq_rows[i];
}

static void judged(struct mb_sched *s, struct mb_seq *q, bool right)
{
    mb_draft_judge(&s->draft.sums, right);
    q->way.hits += (float)(FADE * ((double)right - (double)q->way.hits));
}

void mb_sched_judge(struct mb_sched *s, const struct mb_flight *f, const struct mb_found *found)
{
    for (int32_t i = 0; i < f->seqs; i++) {
        struct mb_seq *q = f->seq[i];
        f->seq_kept[i] = f->seq_rows[i];
        if (q->way.drafts == 0)
            continue;
        int64_t all = q->n_ids + q->way.drafts, bad = first_bad(f, i, found);
        q->way.end = q->n_ids;
        q->way.most = bad + 1 < all ? bad + 1 : all;
    }
    for (int32_t i = 0; i < f->n_out; i++) { /* rows ascend */
        struct mb_seq *q = f->out_seq[i];
        int64_t pos = f->out_pos[i];
        if (q->way.drafts == 0 || pos + 1 != q->way.end || pos + 1 >= q->way.most || found->bad[i])
            continue;
        bool right = found->drawn[i] == q->ids[pos + 1];
        q->way.end += right;
        judged(s, q, right);
    }
    for (int32_t i = 0; i < f->seqs; i++) {
        struct mb_seq *q = f->seq[i];
        if (q->way.drafts == 0)
            continue;
        f->seq_kept[i] = (int32_t)(q->way.end - f->seq_pos[i]);
        mb_seq_rewind(q, q->way.end - q->n_prompt);
    }
}

void mb_sched_settle(struct mb_sched *s, const struct mb_flight *f)
{
    for (int32_t i = 0; i < f->seqs; i++) {
        struct mb_seq *q = f->seq[i];
        int64_t first = f->seq_pos[i] + f->seq_rows[i] - q->way.drafts; /* guess */
        int64_t last = q->way.end < q->n_ids ? q->way.end : q->n_ids,
                drawn = q->n_ids - 1 < last ? q->n_ids - 1 : last;
        if (q->way.drafts == 0)
            continue;
        s->counters->reuse.drafts.right += drawn > first ? drawn - first : 0;
        f->seq_kept[i] = (int32_t)(drawn - f->seq_pos[i]);
        if (q->n_sched >= last && last > first) /* less: it has given way */
            mb_sched_enter(s, q, first, last - first, -1);
        q->n_sched = q->n_sched < last ? q->n_sched : last;
        q->n_high = q->n_high < last ? q->n_high : last;
        q->way.drafts = 0;
    }
}

void mb_sched_timed(struct mb_sched *s, int32_t rows, double seconds)
{
    if (s->o.drafts.how != MB_DRAFT_OFF && rows > 0)
        mb_draft_time(&s->draft.sums, rows, seconds);
}
