#include "plan/split.h"

#include <stdbool.h>

/* Copies [a, b) by rows of their shards without them, fewest first. */
static void sort_bases(const struct mb_copies *c, int32_t a, int32_t b, const double *share,
                       const double *sum, int32_t *order, double *base)
{
    for (int32_t i = a; i < b; i++) {
        double x = sum[c->at[i]] - share[i];
        int32_t to = i - a;
        for (; to > 0 && base[to - 1] > x; to--) {
            base[to] = base[to - 1];
            order[to] = order[to - 1];
        }
        base[to] = x;
        order[to] = i;
    }
}

/* Splits the rows of one expert so that the shards of its copies are level, as far as that is possible.
 * Returns the largest change of a share. */
static double level(const struct mb_copies *c, int32_t e, double rows, double *share, double *sum,
                    int32_t *order, double *base)
{
    int32_t n = c->first[e + 1] - c->first[e], m = 1;
    double filled = 0, most = 0;

    sort_bases(c, c->first[e], c->first[e + 1], share, sum, order, base);
    while (m < n && filled + m * (base[m] - base[m - 1]) < rows) {
        filled += m * (base[m] - base[m - 1]);
        m++;
    }
    double top = base[m - 1] + (rows - filled) / m;
    for (int32_t j = 0; j < n; j++) {
        int32_t i = order[j];
        double now = j < m ? top - base[j] : 0, moved = now > share[i] ? now - share[i] : share[i] - now;
        sum[c->at[i]] = base[j] + now;
        share[i] = now;
        most = moved > most ? moved : most;
    }
    return most;
}

/* Sums are made anew, so that what was rounded on the way does not stay. */
static double sum_up(const struct mb_copies *c, const double *share, double *sum)
{
    double most = 0;

    for (int32_t r = 0; r < c->ep; r++)
        sum[r] = 0;
    for (int32_t i = 0; i < c->first[c->experts]; i++)
        sum[c->at[i]] += share[i];
    for (int32_t r = 0; r < c->ep; r++)
        most = sum[r] > most ? sum[r] : most;
    return most;
}

double mb_split_rows(const struct mb_copies *c, const double *rows, double *share, double *sum,
                     int32_t *order, double *base)
{
    double all = 0;
    bool several = false;

    for (int32_t e = 0; e < c->experts; e++) {
        int32_t n = c->first[e + 1] - c->first[e];
        all += rows[e];
        several |= n > 1;
        for (int32_t i = c->first[e]; i < c->first[e + 1]; i++)
            share[i] = rows[e] / n;
    }
    (void)sum_up(c, share, sum);
    for (int32_t s = 0; several && s < MB_SPLIT_SWEEPS; s++) {
        double moved = 0;
        for (int32_t j = 0; j < c->experts; j++) {
            int32_t e = s % 2 == 0 ? j : c->experts - 1 - j;
            if (c->first[e + 1] - c->first[e] < 2)
                continue;
            double m = level(c, e, rows[e], share, sum, order, base);
            moved = m > moved ? m : moved;
        }
        if (moved <= all / c->ep * 1e-7)
            break;
    }
    return sum_up(c, share, sum);
}

void mb_split_parts(const double *share, int32_t n, int64_t parts, int32_t *out)
{
    double all = 0;
    int64_t left = parts;

    for (int32_t i = 0; i < n; i++)
        all += share[i];
    for (int32_t i = 0; i < n; i++) {
        double part = all > 0 ? share[i] / all * (double)parts : (double)parts / n;
        out[i] = (int32_t)(part < (double)left ? part : (double)left);
        left -= out[i];
    }
    for (; left > 0; left--) { /* to the one that is furthest below its proportion */
        int32_t best = 0;
        double want = -1;
        for (int32_t i = 0; i < n; i++) {
            double part = all > 0 ? share[i] / all * (double)parts : (double)parts / n;
            if (part - out[i] > want) {
                want = part - out[i];
                best = i;
            }
        }
        out[best]++;
    }
}

void mb_split_numbers(int32_t *part, int32_t n, int64_t parts)
{
    int64_t all = 0, at = 0, from = 0;

    for (int32_t i = 0; i < n; i++)
        all += part[i];
    for (int32_t i = 0; i < n; i++) { /* boundaries are rounded: no part is off by one or more */
        at += all > 0 ? part[i] : 1;
        int64_t to = (at * parts + (all > 0 ? all : n) / 2) / (all > 0 ? all : n);
        part[i] = (int32_t)(to - from);
        from = to;
    }
}
