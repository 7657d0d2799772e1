/* The scheduler: whether pages will do. A sequence grows page by page, so what counts is not what it could
 * come to need but what all that run need at once at the worst time: some end before others are long. How
 * many tokens a sequence draws is not known before; those that ended say what part of max_tokens is likely.
 */
#include <stdlib.h>
#include <string.h>
#include "engine/sched_impl.h"

#define TIMES 64        /* looked at */
#define TRUST (1 << 10) /* tokens that have to be drawn before what was seen outweighs max_tokens */

int64_t mb_sched_pages_of(const struct mb_sched *s, int32_t part, int64_t n)
{
    int64_t per = s->o.segment / MB_KV_BLOCK, turn = 2 * (int64_t)s->o.parts * per, of = n / turn * 2 * per;

    if (s->o.parts == 1)
        return n;
    for (int64_t i = n / turn * turn; i < n; i += per) {
        if (mb_sched_part_of(s, i) == part)
            of += n - i < per ? n - i : per;
    }
    return of;
}

/* Outputs still to come of a sequence. */
static int64_t to_come(const struct mb_sched *s, const struct mb_seq *q)
{
    int64_t left = q->max_out - q->n_drawn;
    double part = (double)(s->drawn + TRUST) / (double)(s->allowed + TRUST);

    return q->done || left <= 0 ? 0 : (int64_t)((double)left * part) + 1;
}

/* Pages of a part that come back when q ends: those nobody else has. */
static int64_t own_pages(const struct mb_sched *s, const struct mb_seq *q, int32_t part)
{
    int64_t n = 0;

    for (int32_t k = 0; k < q->n_pages; k++)
        n += mb_sched_part_of(s, k) == part && mb_page_at(&s->pages, part, q->page[k])->seqs == 1;
    return n;
}

/* Who would run, the one that comes last. Prompts are computed one after the other, in the rows of a step
 * that are not those of sequences that draw. */
struct company {
    const struct mb_fit *f;
    int32_t n;
    int64_t common;  /* pages that the one that comes has from others */
    int64_t backlog; /* rows of prompts so far */
    int64_t rate;    /* of them in a step */
};

static void join(const struct mb_sched *s, struct company *c, const struct mb_seq *q)
{
    int32_t i = c->n++;
    int64_t todo = mb_seq_todo(q);

    c->f->q[i] = q;
    c->f->begin[i] = c->backlog / c->rate;
    c->backlog += q->done || todo <= 1 ? 0 : todo;
    c->f->draw[i] = c->backlog / c->rate;
    c->f->end[i] = c->f->draw[i] + to_come(s, q);
    for (int32_t p = 0; p < s->o.parts; p++)
        c->f->own[i * s->o.parts + p] = own_pages(s, q, p);
}

/* Pages of a part by which sequence i has grown after so many steps. */
static int64_t growth(const struct mb_sched *s, const struct company *c, int32_t i, int32_t part,
                      int64_t step)
{
    const struct mb_seq *q = c->f->q[i];
    int64_t has = mb_sched_pages_of(s, part, i == c->n - 1 ? c->common : q->n_pages),
            most = mb_seq_positions(q);
    int64_t n = q->n_ids + (step > c->f->draw[i] ? step - c->f->draw[i] : 0);

    if (step < c->f->begin[i])
        return 0;
    int64_t then = mb_sched_pages_of(s, part, mb_sched_pages_for(n < most && q->window == 0 ? n : most));
    return then > has ? then - has : 0;
}

/* Pages of a part in use after so many steps, when some have ended. */
static int64_t in_use(const struct mb_sched *s, const struct company *c, int32_t part, int64_t step)
{
    int64_t n = s->pages.n_held[part];

    for (int32_t i = 0; i < c->n; i++)
        n += c->f->end[i] >= step ? growth(s, c, i, part, step) : -c->f->own[i * s->o.parts + part];
    return n;
}

/* Even if nobody gives any back. */
static bool fits_all(const struct mb_sched *s, const struct company *c)
{
    for (int32_t p = 0; p < s->o.parts; p++) {
        int64_t n = s->pages.n_held[p];
        for (int32_t i = 0; i < c->n; i++)
            n += growth(s, c, i, p, c->f->end[i]);
        if (n > s->o.kv_pages)
            return false;
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The times at which somebody ends, or some of them. */
static bool fits_at_all_times(const struct mb_sched *s, const struct company *c)
{
    int64_t *times = c->f->times;

    memcpy(times, c->f->end, sizeof *times * (size_t)c->n);
    qsort(times, (size_t)c->n, sizeof *times, by_number);
    for (int32_t t = 0; t < (c->n < TIMES ? c->n : TIMES); t++) {
        int64_t at = times[c->n <= TIMES ? t : (int64_t)(t + 1) * c->n / TIMES - 1];
        for (int32_t p = 0; p < s->o.parts; p++) {
            if (in_use(s, c, p, at) > s->o.kv_pages)
                return false;
        }
    }
    return true;
}

/* Rows of a step that prompts have beside those who draw. */
static int64_t prompt_rows(const struct mb_sched *s)
{
    int64_t n = s->o.max_rows, least = (s->o.max_rows + 3) / 4;

    for (int32_t i = 0; i < s->n_running; i++)
        n -= !s->running[i]->paused && mb_seq_todo(s->running[i]) <= 1;
    return n > least ? n : least;
}

bool mb_sched_fits(const struct mb_sched *s, const struct mb_seq *q)
{
    struct company c = {&s->fit, 0, mb_sched_common(s, q) / MB_KV_BLOCK, 0, prompt_rows(s)};

    for (int32_t i = 0; i < s->n_running; i++) {
        if (s->running[i] != q && !s->running[i]->paused)
            join(s, &c, s->running[i]);
    }
    join(s, &c, q);
    return c.n == 1 || fits_all(s, &c) || fits_at_all_times(s, &c);
}
