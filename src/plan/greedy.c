/* Copies by rows, then shards by rows, then changes. */
#include <stdlib.h>
#include "plan/layer.h"

/* One layer under way: copies of experts, expert by expert, and the shard of each. */
struct greedy {
    int32_t experts, ep, n; /* n: copies in all */
    int32_t *first;         /* [experts + 1] copies of each expert */
    int32_t *expert, *at;   /* [n] of each copy; at < 0: nowhere yet */
    double *load;           /* [n] rows of each copy */
    const int32_t *slots;   /* [ep] */
    int32_t *used;          /* [ep] */
    double *sum;            /* [ep] rows of each shard */
    int32_t *order;         /* [n] copies, those with most rows first */
    int32_t *copies, *sorted,
        *closed;   /* [experts] copies of each; the same numbers, largest first; no more */
    int64_t *most; /* [experts] copies that so many experts can have together */
};

/* ---------------------------------------------------------------- copies */

/* Whether copies in these numbers, largest first, can be spread: any m experts have at most the sum over
 * shards of min(slots, m) copies (Gale and Ryser). */
static bool can_spread(const struct greedy *y, const int32_t *sorted, int32_t n)
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
static void sum_slots(struct greedy *y)
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
static void count_copies(int32_t redundant, struct greedy *y, const double *rows)
{
    int32_t *copies = y->copies, *sorted = y->sorted;

    for (int32_t e = 0; e < y->experts; e++) {
        copies[e] = sorted[e] = 1;
        y->closed[e] = 0;
    }
    for (int32_t left = redundant; left > 0;) {
        int32_t best = -1;
        for (int32_t e = 0; e < y->experts; e++) {
            if (!y->closed[e] && (best < 0 || rows[e] * copies[best] > rows[best] * copies[e]))
                best = e;
        }
        int32_t at = grow(sorted, copies[best]);
        if (can_spread(y, sorted, y->experts)) {
            copies[best]++;
            left--;
        } else {
            sorted[at]--;
            y->closed[best] = 1;
        }
    }
}

static void take_all(struct greedy *y)
{
    for (int32_t i = 0; i < y->n; i++)
        y->at[i] = -1;
    for (int32_t r = 0; r < y->ep; r++) {
        y->used[r] = 0;
        y->sum[r] = 0;
    }
}

static void list_copies(struct greedy *y, const double *rows)
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

static bool holds(const struct greedy *y, int32_t r, int32_t e)
{
    for (int32_t i = y->first[e]; i < y->first[e + 1]; i++) {
        if (y->at[i] == r)
            return true;
    }
    return false;
}

static void put(struct greedy *y, int32_t i, int32_t r)
{
    if (y->at[i] >= 0) {
        y->used[y->at[i]]--;
        y->sum[y->at[i]] -= y->load[i];
    }
    y->at[i] = r;
    y->used[r]++;
    y->sum[r] += y->load[i];
}

static bool put_least(struct greedy *y, int32_t i)
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
static void put_emptiest(struct greedy *y, int32_t i)
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
static void spread(struct greedy *y)
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

static void consider(const struct greedy *y, int32_t from, int32_t give, int32_t take, int32_t to,
                     struct change *best)
{
    double back = take < 0 ? 0 : y->load[take], a = y->sum[from] - y->load[give] + back,
           b = y->sum[to] + y->load[give] - back;
    double most = a > b ? a : b;

    if (most < best->most && !holds(y, to, y->expert[give]) && (take < 0 || !holds(y, from, y->expert[take])))
        *best = (struct change){give, take, to, most};
}

/* One change that makes the fullest shard emptier; false: there is none. */
static bool improve(struct greedy *y)
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

static void ranges(struct greedy *y)
{
    for (int32_t i = 0, r = 0; i < y->n; i++) {
        while (y->used[r] >= y->slots[r])
            r++;
        put(y, i, r);
    }
}

/* All lists are parts of two blocks. */
static void set_lists(struct greedy *y, int32_t *ints, double *reals, int64_t *wide)
{
    int32_t n = y->n, experts = y->experts;

    y->expert = ints;
    y->at = y->expert + n;
    y->order = y->at + n;
    y->first = y->order + n;
    y->copies = y->first + experts + 1;
    y->sorted = y->copies + experts;
    y->closed = y->sorted + experts;
    y->used = y->closed + experts;
    y->load = reals;
    y->sum = y->load + n;
    y->most = wide;
}

static void make(struct mb_layer *l, struct greedy *y)
{
    sum_slots(y);
    count_copies(l->k->redundant, y, l->rows);
    list_copies(y, l->rows);
    if (l->k->usage == NULL && l->k->redundant == 0) {
        ranges(y);
    } else {
        spread(y);
        for (int32_t i = 0; i < y->n && improve(y); i++)
            ;
    }
    for (int32_t i = 0; i < y->n; i++) {
        l->expert[i] = y->expert[i];
        l->shard[i] = y->at[i];
    }
    mb_layer_list(l);
}

bool mb_layer_greedy(struct mb_layer *l)
{
    struct greedy y = {.experts = l->k->experts, .ep = l->k->ep, .n = l->n, .slots = l->slots};
    size_t n = (size_t)y.n, experts = (size_t)y.experts, ep = (size_t)y.ep;
    int32_t *ints = calloc(3 * n + 4 * experts + 1 + ep, sizeof *ints);
    double *reals = calloc(n + ep, sizeof *reals);
    int64_t *wide = calloc(experts, sizeof *wide);
    bool ok = ints != NULL && reals != NULL && wide != NULL;

    if (ok) {
        set_lists(&y, ints, reals, wide);
        make(l, &y);
    }
    free(ints);
    free(reals);
    free(wide);
    return ok;
}
