/* What a spread of copies costs, and changes that make it cheaper. */
#include "plan/layer.h"

#include <string.h>
#include "base/numerics.h"

void mb_layer_copy(const struct mb_layer *y, struct mb_spread *to, const struct mb_spread *from)
{
    memcpy(to->first, from->first, ((size_t)y->k->experts + 1) * sizeof *to->first);
    memcpy(to->at, from->at, (size_t)y->n * sizeof *to->at);
    memcpy(to->share, from->share, (size_t)y->n * sizeof *to->share);
    memcpy(to->sum, from->sum, (size_t)y->k->ep * sizeof *to->sum);
    to->most = from->most;
    to->cost = from->cost;
    to->moved = from->moved;
}

void mb_layer_list(struct mb_layer *y)
{
    struct mb_spread *s = &y->tried;
    int32_t experts = y->k->experts;

    memset(s->first, 0, ((size_t)experts + 1) * sizeof *s->first);
    for (int32_t i = 0; i < y->n; i++)
        s->first[y->expert[i] + 1]++;
    for (int32_t e = 0; e < experts; e++)
        s->first[e + 1] += s->first[e];
    memset(y->copies, 0, (size_t)experts * sizeof *y->copies);
    for (int32_t i = 0; i < y->n; i++) { /* by insertion: shards ascend */
        int32_t e = y->expert[i], to = s->first[e] + y->copies[e]++;
        for (; to > s->first[e] && s->at[to - 1] > y->shard[i]; to--)
            s->at[to] = s->at[to - 1];
        s->at[to] = y->shard[i];
    }
}

/* ---------------------------------------------------------------- what it costs */

/* The node whose copy of an expert serves a row of node `home`: the own one, else one of the others in turn.
 */
static int32_t node_for(const struct mb_layer *y, const struct mb_spread *s, int32_t e, int32_t home,
                        int32_t turn)
{
    int32_t a = s->first[e], n = s->first[e + 1] - a;

    for (int32_t i = 0; i < n; i++) {
        if (y->k->node_of[s->at[a + i]] == home)
            return home;
    }
    return y->k->node_of[s->at[a + turn % n]];
}

/* What one drawn row costs between nodes, in rows of experts: to each other node once, and back from there as
 * the largest nodes of its tree. */
static double far_row(const struct mb_layer *y, const struct mb_spread *s, int32_t r)
{
    const struct mb_maker *k = y->k;
    const int32_t *ids = y->sample + (int64_t)r * k->k;
    int32_t node[MB_MAKER_K], first[MB_MAKER_K], count[MB_MAKER_K], home = r % k->nodes;
    double cost = 0;

    for (int32_t i = 0; i < k->k; i++)
        node[i] = node_for(y, s, ids[i], home, r / k->nodes);
    for (int32_t i = 0; i < k->k; i++) {
        uint8_t held[MB_MAKER_K];
        bool seen = node[i] == home;
        for (int32_t j = 0; j < k->k; j++) {
            held[j] = node[j] == node[i];
            seen |= j < i && held[j];
        }
        if (seen)
            continue;
        int32_t values = mb_tree_maximal(ids, held, k->k, first, count);
        cost += k->far_row;
        for (int32_t v = 0; v < values; v++)
            cost += count[v] > 1 ? k->far_sum : k->far_lone;
    }
    return cost;
}

void mb_layer_rate(struct mb_layer *y, struct mb_spread *s)
{
    const struct mb_copies c = {y->k->experts, y->k->ep, s->first, s->at};
    double far = 0;

    s->most = mb_split_rows(&c, y->rows, s->share, s->sum, y->order, y->base);
    for (int32_t r = 0; y->sample != NULL && r < MB_LAYER_SAMPLE; r++)
        far += far_row(y, s, r);
    s->cost = s->most * y->k->ep / y->all + (y->sample != NULL ? far / MB_LAYER_SAMPLE / y->k->k : 0);
}

void mb_layer_offer(struct mb_layer *y)
{
    mb_layer_rate(y, &y->tried);
    if (y->any && y->tried.cost >= y->best.cost * (1 - 1e-9))
        return;
    struct mb_spread was = y->best;
    y->best = y->tried;
    y->tried = was;
    y->any = true;
}

/* ---------------------------------------------------------------- better */

/* The full shards are those with most rows; where copies level them, several have as many. A change takes
 * rows from them to another shard. gain: how much lower they stand then, about. */
struct change {
    int32_t give, take; /* copies by number that change places; give < 0: `more` gets the place of take */
    int32_t more;
    double gain;
};
#define CHANGES 8 /* of each kind that are tried, the most promising first */

static bool holds(const struct mb_layer *y, int32_t r, int32_t e)
{
    return y->holds[(int64_t)r * y->k->experts + e] != 0;
}

static void note_held(struct mb_layer *y, const struct mb_spread *s)
{
    memset(y->holds, 0, (size_t)y->k->ep * (size_t)y->k->experts);
    for (int32_t e = 0; e < y->k->experts; e++)
        for (int32_t i = s->first[e]; i < s->first[e + 1]; i++) {
            y->holds[(int64_t)s->at[i] * y->k->experts + e] = 1;
            y->order[i] = e;
        }
}

static bool full(const struct mb_spread *s, int32_t r)
{
    return s->sum[r] >= s->most * (1 - 1e-4);
}

static void note_change(struct change *c, struct change x)
{
    int32_t at = CHANGES;

    for (; at > 0 && c[at - 1].gain < x.gain; at--) {
        if (at < CHANGES)
            c[at] = c[at - 1];
    }
    if (at < CHANGES)
        c[at] = x;
}

/* Copy i of a full shard and copy j of another change places. */
static void try_swap(const struct mb_layer *y, const struct mb_spread *s, int32_t n, int32_t i, int32_t j,
                     struct change *c)
{
    double less = s->share[i] - s->share[j], gain = less / n, room = s->most - s->sum[s->at[j]] - less;

    gain = room < gain ? room : gain;
    if (gain > c[CHANGES - 1].gain && !holds(y, s->at[j], y->order[i]) && !holds(y, s->at[i], y->order[j]))
        note_change(c, (struct change){i, j, -1, gain});
}

/* Copy j, of an expert that has others, gives its place to one more of expert e, all of whose copies are on
 * full shards. */
static void try_more(const struct mb_layer *y, const struct mb_spread *s, int32_t n, int32_t e, int32_t j,
                     struct change *c)
{
    int32_t f = y->order[j];
    double to = s->most - s->sum[s->at[j]] + s->share[j],
           gain = (y->rows[e] < to ? y->rows[e] : to) / (n + 1), room = 0;

    if (gain <= c[CHANGES - 1].gain || e == f || s->first[f + 1] - s->first[f] < 2 || holds(y, s->at[j], e))
        return;
    for (int32_t i = s->first[f]; i < s->first[f + 1]; i++)
        room += i != j ? s->most - s->sum[s->at[i]] : 0;
    if (room >= s->share[j]) /* the others of f can take what it had */
        note_change(c, (struct change){-1, j, e, gain});
}

static void try_all(const struct mb_layer *y, const struct mb_spread *s, struct change *swaps,
                    struct change *more)
{
    int32_t n = 0;

    for (int32_t r = 0; r < y->k->ep; r++)
        n += full(s, r);
    for (int32_t j = 0; j < y->n; j++) {
        if (full(s, s->at[j]))
            continue;
        for (int32_t i = 0; i < y->n; i++) {
            if (full(s, s->at[i]))
                try_swap(y, s, n, i, j, swaps);
        }
        for (int32_t e = 0; e < y->k->experts; e++) {
            if (full(s, s->at[s->first[e]]))
                try_more(y, s, n, e, j, more);
        }
    }
}

/* s with the change made, into tried. */
static void change(struct mb_layer *y, const struct mb_spread *s, const struct change *c)
{
    for (int32_t e = 0, i = 0; e < y->k->experts; e++)
        for (; i < s->first[e + 1]; i++) {
            y->expert[i] = i == c->take && c->give < 0 ? c->more : e;
            y->shard[i] = s->at[c->give < 0 ? i : i == c->give ? c->take : i == c->take ? c->give : i];
        }
    mb_layer_list(y);
}

bool mb_layer_better(struct mb_layer *y, struct mb_spread *s)
{
    struct change c[2 * CHANGES] = {{0}};

    if (s->most * y->k->ep <= y->all * (1 + MB_LAYER_ENOUGH))
        return false;
    note_held(y, s);
    try_all(y, s, c, c + CHANGES);
    for (int i = 0; i < 2 * CHANGES; i++) {
        if (c[i].gain <= s->most * 1e-6)
            continue;
        change(y, s, &c[i]);
        mb_layer_rate(y, &y->tried);
        if (y->tried.cost >= s->cost * (1 - 1e-6))
            continue;
        mb_layer_copy(y, s, &y->tried);
        return true;
    }
    return false;
}
