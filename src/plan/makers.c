#include "plan/makers.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

/* One layer under way: copies of experts, expert by expert, and the shard of each. */
struct layer {
    int32_t experts, ep, n; /* n: copies in all */
    int32_t *first;         /* [experts + 1] copies of each expert */
    int32_t *expert, *at;   /* [n] of each copy; at < 0: nowhere yet */
    double *load;           /* [n] rows of each copy */
    int32_t *slots, *used;  /* [ep] */
    double *sum;            /* [ep] rows of each shard */
    int32_t *order;         /* [n] copies, those with most rows first */
    int32_t *copies, *sorted,
        *closed;   /* [experts] copies of each; the same numbers, largest first; no more */
    int64_t *most; /* [experts] copies that so many experts can have together */
};

void mb_maker_slots(const struct mb_maker *k, int32_t *slots)
{
    int64_t n = (int64_t)k->experts + k->redundant;

    for (int32_t r = 0; r < k->ep; r++)
        slots[r] = k->capacity != NULL ? 0 : (int32_t)((n + k->ep - 1) / k->ep);
    for (int64_t i = 0; k->capacity != NULL && i < n; i++) {
        int32_t best = -1;
        for (int32_t r = 0; r < k->ep; r++) {
            if (slots[r] < k->experts && (best < 0 || (double)(slots[r] + 1) * (double)k->capacity[best] <
                                                          (double)(slots[best] + 1) * (double)k->capacity[r]))
                best = r;
        }
        slots[best]++;
    }
}

/* ---------------------------------------------------------------- copies */

/* Rows of the experts of a layer; all alike where nothing is known. */
static double rows_of(const struct mb_maker *k, int32_t lm, int32_t e)
{
    const int64_t *u = k->usage != NULL && lm < k->usage_layers ? k->usage + (int64_t)lm * k->experts : NULL;
    int64_t sum = 0;

    for (int32_t i = 0; u != NULL && i < k->experts; i++)
        sum += u[i] > 0;
    return sum > 0 ? (double)u[e] : 1.0;
}

/* Whether copies in these numbers, largest first, can be spread: any m experts have at most the sum over
 * shards of min(slots, m) copies (Gale and Ryser). */
static bool can_spread(const struct layer *y, const int32_t *sorted, int32_t n)
{
    int64_t sum = 0;

    for (int32_t m = 0; m < n; m++) {
        sum += sorted[m];
        if (sum > y->most[m])
            return false;
    }
    return true;
}

/* The largest of the sums above for m = 1 .. experts. */
static void sum_slots(struct layer *y)
{
    for (int32_t m = 1; m <= y->experts; m++) {
        y->most[m - 1] = 0;
        for (int32_t r = 0; r < y->ep; r++)
            y->most[m - 1] += y->slots[r] < m ? y->slots[r] : m;
    }
}

/* One copy more in a list of numbers, largest first: the first of its equals grows. Returns where. */
static int32_t grow(int32_t *sorted, int32_t value)
{
    int32_t i = 0;

    while (sorted[i] != value)
        i++;
    sorted[i]++;
    return i;
}

/* An expert that can't have one copy more never will: the others' only get more. */
static void count_copies(const struct mb_maker *k, struct layer *y, const double *rows)
{
    int32_t *copies = y->copies, *sorted = y->sorted;

    for (int32_t e = 0; e < k->experts; e++) {
        copies[e] = sorted[e] = 1;
        y->closed[e] = 0;
    }
    for (int32_t left = k->redundant; left > 0;) {
        int32_t best = -1;
        for (int32_t e = 0; e < k->experts; e++) {
            if (!y->closed[e] && (best < 0 || rows[e] * copies[best] > rows[best] * copies[e]))
                best = e;
        }
        int32_t at = grow(sorted, copies[best]);
        if (can_spread(y, sorted, k->experts)) {
            copies[best]++;
            left--;
        } else {
            sorted[at]--;
            y->closed[best] = 1;
        }
    }
}

static void take_all(struct layer *y)
{
    for (int32_t i = 0; i < y->n; i++)
        y->at[i] = -1;
    for (int32_t r = 0; r < y->ep; r++) {
        y->used[r] = 0;
        y->sum[r] = 0;
    }
}

static void list_copies(struct layer *y, const double *rows)
{
    int32_t n = 0;

    for (int32_t e = 0; e < y->experts; e++) {
        y->first[e] = n;
        for (int32_t c = 0; c < y->copies[e]; c++) {
            y->expert[n] = e;
            y->load[n++] = rows[e] / y->copies[e];
        }
    }
    y->first[y->experts] = n;
    take_all(y);
    for (int32_t i = 0; i < n; i++) { /* by insertion: equal ones stay in order */
        int32_t to = i;
        for (; to > 0 && y->load[y->order[to - 1]] < y->load[i]; to--)
            y->order[to] = y->order[to - 1];
        y->order[to] = i;
    }
}

/* ---------------------------------------------------------------- shards */

static bool holds(const struct layer *y, int32_t r, int32_t e)
{
    for (int32_t i = y->first[e]; i < y->first[e + 1]; i++) {
        if (y->at[i] == r)
            return true;
    }
    return false;
}

static void put(struct layer *y, int32_t i, int32_t r)
{
    if (y->at[i] >= 0) {
        y->used[y->at[i]]--;
        y->sum[y->at[i]] -= y->load[i];
    }
    y->at[i] = r;
    y->used[r]++;
    y->sum[r] += y->load[i];
}

static bool put_least(struct layer *y, int32_t i)
{
    int32_t best = -1;

    for (int32_t r = 0; r < y->ep; r++) {
        if (y->used[r] < y->slots[r] && !holds(y, r, y->expert[i]) && (best < 0 || y->sum[r] < y->sum[best]))
            best = r;
    }
    if (best >= 0)
        put(y, i, best);
    return best >= 0;
}

/* To the shard with most room: experts taken by their numbers of copies, this way all copies find a place. */
static void put_emptiest(struct layer *y, int32_t i)
{
    int32_t best = -1;

    for (int32_t r = 0; r < y->ep; r++) {
        if (holds(y, r, y->expert[i]))
            continue;
        int32_t room = y->slots[r] - y->used[r], most = best < 0 ? 0 : y->slots[best] - y->used[best];
        if (room > most || (room == most && best >= 0 && y->sum[r] < y->sum[best]))
            best = r;
    }
    put(y, i, best);
}

/* Copies with most rows first, where that works out. */
static void spread(struct layer *y)
{
    int32_t i = 0;

    while (i < y->n && put_least(y, y->order[i]))
        i++;
    if (i == y->n)
        return;
    take_all(y);
    for (int32_t c = y->ep; c > 0; c--) {
        for (i = 0; i < y->n; i++) {
            if (y->copies[y->expert[y->order[i]]] == c)
                put_emptiest(y, y->order[i]);
        }
    }
}

/* ---------------------------------------------------------------- better */

struct change {
    int32_t give, take, to; /* take < 0: nothing comes back */
    double most;            /* rows of the fuller of the two shards then */
};

static void consider(const struct layer *y, int32_t from, int32_t give, int32_t take, int32_t to,
                     struct change *best)
{
    double back = take < 0 ? 0 : y->load[take], a = y->sum[from] - y->load[give] + back,
           b = y->sum[to] + y->load[give] - back;
    double most = a > b ? a : b;

    if (most < best->most && !holds(y, to, y->expert[give]) && (take < 0 || !holds(y, from, y->expert[take])))
        *best = (struct change){give, take, to, most};
}

/* One change that makes the fullest shard emptier; false: there is none. */
static bool improve(struct layer *y)
{
    int32_t full = 0;

    for (int32_t r = 1; r < y->ep; r++)
        full = y->sum[r] > y->sum[full] ? r : full;
    struct change best = {.give = -1, .most = y->sum[full] * (1 - 1e-9)}; /* sums are rounded */
    for (int32_t i = 0; i < y->n; i++) {
        if (y->at[i] != full)
            continue;
        for (int32_t r = 0; r < y->ep; r++) {
            if (r != full && y->used[r] < y->slots[r])
                consider(y, full, i, -1, r, &best);
        }
        for (int32_t j = 0; j < y->n; j++) {
            if (y->at[j] != full)
                consider(y, full, i, j, y->at[j], &best);
        }
    }
    if (best.give < 0)
        return false;
    int32_t to = best.to;
    put(y, best.give, to);
    if (best.take >= 0)
        put(y, best.take, full);
    return true;
}

/* ---------------------------------------------------------------- a layer */

static void ranges(struct layer *y)
{
    for (int32_t i = 0, r = 0; i < y->n; i++) {
        while (y->used[r] >= y->slots[r])
            r++;
        put(y, i, r);
    }
}

static int by_number(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void make_layer(const struct mb_maker *k, int32_t lm, struct layer *y, double *rows)
{
    for (int32_t e = 0; e < k->experts; e++)
        rows[e] = rows_of(k, lm, e);
    count_copies(k, y, rows);
    list_copies(y, rows);
    if (k->usage == NULL && k->redundant == 0) {
        ranges(y);
    } else {
        spread(y);
        for (int32_t i = 0; i < y->n && improve(y); i++)
            ;
    }
    for (int32_t e = 0; e < y->experts; e++)
        qsort(y->at + y->first[e], (size_t)(y->first[e + 1] - y->first[e]), sizeof *y->at, by_number);
}

static void make(const struct mb_maker *k, struct layer *y, double *rows, struct mb_placement *p)
{
    int64_t at = 0;

    mb_maker_slots(k, y->slots);
    sum_slots(y);
    for (int32_t lm = 0; lm < k->moe_layers; lm++) {
        make_layer(k, lm, y, rows);
        for (int32_t e = 0; e < k->experts; e++) {
            for (int32_t i = y->first[e]; i < y->first[e + 1]; i++)
                p->shard[at++] = y->at[i];
            p->first[(int64_t)lm * k->experts + e + 1] = at;
        }
    }
}

/* All of a layer's lists are parts of two blocks. */
static void set_lists(struct layer *y, int32_t *ints, double *reals, int64_t *wide)
{
    int32_t n = y->n, experts = y->experts, ep = y->ep;

    y->expert = ints;
    y->at = y->expert + n;
    y->order = y->at + n;
    y->first = y->order + n;
    y->copies = y->first + experts + 1;
    y->sorted = y->copies + experts;
    y->closed = y->sorted + experts;
    y->slots = y->closed + experts;
    y->used = y->slots + ep;
    y->load = reals;
    y->sum = y->load + n;
    y->most = wide;
}

enum mb_status mb_placement_make(const struct mb_maker *k, struct mb_placement **out,
                                 char why[MB_LAYOUT_TEXT])
{
    int64_t can = (int64_t)k->experts * (k->ep - 1);

    if (k->redundant > can)
        return mb_layout_no(
            why,
            "--num-redundant-experts %d: %d experts on %d shards can have %lld copies more, one of "
            "each expert on a shard",
            (int)k->redundant, (int)k->experts, (int)k->ep, (long long)can);
    struct layer y = {.experts = k->experts, .ep = k->ep, .n = k->experts + k->redundant};
    size_t n = (size_t)y.n, experts = (size_t)k->experts, ep = (size_t)k->ep;
    int32_t *ints = calloc(3 * n + 4 * experts + 1 + 2 * ep, sizeof *ints);
    double *reals = calloc(n + ep + experts, sizeof *reals);
    int64_t *wide = calloc(experts, sizeof *wide);
    struct mb_placement *p =
        mb_placement_alloc(k->moe_layers, k->experts, k->ep, (int64_t)k->moe_layers * y.n);
    bool ok = ints != NULL && reals != NULL && wide != NULL && p != NULL;

    if (ok) {
        set_lists(&y, ints, reals, wide);
        make(k, &y, y.sum + ep, p);
        *out = p;
    } else {
        mb_placement_destroy(p);
    }
    free(ints);
    free(reals);
    free(wide);
    return ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory to place %d experts", (int)y.n);
}
