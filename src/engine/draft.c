#include "engine/draft.h"

#define FADE 0.98      /* of a step's time, with each step */
#define TRUSTED 64     /* guesses that are remembered */
#define FIRST_HITS 0.7 /* before any was judged */
#define UNKNOWN 0.5    /* part of a step's cost that grows with its rows, as long as all steps are alike */

void mb_draft_time(struct mb_draft_sums *s, int32_t rows, double seconds)
{
    double r = rows;

    s->n = FADE * s->n + 1;
    s->x = FADE * s->x + r;
    s->y = FADE * s->y + seconds;
    s->xx = FADE * s->xx + r * r;
    s->xy = FADE * s->xy + r * seconds;
}

void mb_draft_judge(struct mb_draft_sums *s, bool right)
{
    s->judged = s->judged < TRUSTED ? s->judged + 1 : TRUSTED;
    s->hits += ((double)right - s->hits) / s->judged;
}

double mb_draft_hits(const struct mb_draft_sums *s)
{
    double known = s->judged / TRUSTED;

    return known * s->hits + (1 - known) * FIRST_HITS;
}

/* Seconds of a step without rows, and of each row: between nothing and all of it. */
static void line(const struct mb_draft_sums *s, double *fixed, double *row)
{
    double mean = s->y / s->n, rows = s->x / s->n, spread = s->xx / s->n - rows * rows;

    *row = spread > 0.01 * rows * rows ? (s->xy / s->n - rows * mean) / spread : UNKNOWN * mean / rows;
    *row = *row < 0 ? 0 : *row * rows > mean ? mean / rows : *row;
    *fixed = mean - *row * rows;
}

double mb_draft_price(const struct mb_draft_sums *s, int32_t rows, int32_t draws)
{
    double fixed, row;

    if (s->n <= 0 || s->y <= 0 || rows <= 0)
        return UNKNOWN;
    line(s, &fixed, &row);
    return row * draws / (fixed + row * rows);
}

int32_t mb_draft_count(double hits, double price, int32_t most)
{
    double brings = hits;
    int32_t n = 0;

    while (n < most && brings > price) {
        n++;
        brings *= hits;
    }
    return n;
}

bool mb_draft_module_pays(const struct mb_draft_sums *s, double extra, int32_t rows, int32_t draws)
{
    double fixed, row, hits = mb_draft_hits(s);

    if (s->n <= 0 || s->y <= 0)
        return true;
    line(s, &fixed, &row);
    return (1 + hits) * (fixed + row * rows) >= (1 + extra) * (fixed + row * (rows + draws));
}
