/* As few moves as possible from one placement to the next. */
#include <string.h>
#include "plan/layer.h"

/* holds: where the placement before has copies. */
static void note_before(struct mb_layer *y)
{
    const struct mb_placement *p = y->k->before;

    memset(y->holds, 0, (size_t)y->k->ep * (size_t)y->k->experts);
    for (int32_t e = 0; e < y->k->experts; e++) {
        int32_t n;
        const int32_t *h = mb_placement_holders(p, y->lm, e, &n);
        for (int32_t i = 0; i < n; i++)
            y->holds[(int64_t)h[i] * y->k->experts + e] = 1;
    }
}

static int64_t count_moved(const struct mb_layer *y, const struct mb_spread *s)
{
    int64_t moved = 0;

    for (int32_t e = 0; e < y->k->experts; e++)
        for (int32_t i = s->first[e]; i < s->first[e + 1]; i++)
            moved += y->holds[(int64_t)s->at[i] * y->k->experts + e] == 0;
    return moved;
}

int64_t mb_layer_moved(struct mb_layer *y, const struct mb_spread *s)
{
    if (y->k->before == NULL)
        return 0;
    note_before(y);
    return count_moved(y, s);
}

/* What two of n sets of experts have in common, by their bytes. */
static int64_t common(const uint8_t *a, const uint8_t *b, int32_t experts)
{
    int64_t n = 0;

    for (int32_t e = 0; e < experts; e++)
        n += a[e] & b[e];
    return n;
}

/* The Hungarian method by shortest augmenting paths. Column c of 1 .. n is given to row of[c]. */
struct assign {
    const uint8_t *now, *was; /* [n][experts] rows, columns */
    int32_t n, experts;
    int64_t *u, *v, *low;
    int32_t *of, *way, *used;
};

/* One column more becomes used, the cheapest in reach of column j. Returns it. */
static int32_t reach(struct assign *a, int32_t j)
{
    int64_t least = INT64_MAX;
    int32_t next = 0, row = a->of[j];

    a->used[j] = 1;
    for (int32_t c = 1; c <= a->n; c++) {
        if (a->used[c])
            continue;
        int64_t same = common(a->now + (int64_t)(row - 1) * a->experts,
                              a->was + (int64_t)(c - 1) * a->experts, a->experts);
        int64_t cost = -same - a->u[row] - a->v[c];
        if (cost < a->low[c]) {
            a->low[c] = cost;
            a->way[c] = j;
        }
        if (a->low[c] < least) {
            least = a->low[c];
            next = c;
        }
    }
    for (int32_t c = 0; c <= a->n; c++) {
        if (a->used[c]) {
            a->u[a->of[c]] += least;
            a->v[c] -= least;
        } else if (c > 0) {
            a->low[c] -= least;
        }
    }
    return next;
}

/* name[i]: the column whose set has most in common with that of row i, over all rows together. */
static void assign(struct mb_layer *y, const uint8_t *now, const uint8_t *was, int32_t n, int32_t *name)
{
    int32_t room = y->k->ep + 1;
    struct assign a = {now,
                       was,
                       n,
                       y->k->experts,
                       y->price,
                       y->price + room,
                       y->price + 2 * room,
                       y->match,
                       y->match + room,
                       y->match + 2 * room};

    memset(y->price, 0, 2 * (size_t)room * sizeof *y->price);
    memset(a.of, 0, (size_t)room * sizeof *a.of);
    for (int32_t i = 1; i <= n; i++) {
        int32_t j = 0;
        a.of[0] = i;
        for (int32_t c = 0; c <= n; c++) {
            a.low[c] = INT64_MAX;
            a.used[c] = 0;
        }
        do
            j = reach(&a, j);
        while (a.of[j] != 0);
        for (; j != 0; j = a.way[j])
            a.of[j] = a.of[a.way[j]];
    }
    for (int32_t c = 1; c <= n; c++)
        name[a.of[c] - 1] = c - 1;
}

/* What the shards of s hold. */
static void note_now(const struct mb_layer *y, const struct mb_spread *s, uint8_t *now)
{
    memset(now, 0, (size_t)y->k->ep * (size_t)y->k->experts);
    for (int32_t e = 0; e < y->k->experts; e++)
        for (int32_t i = s->first[e]; i < s->first[e + 1]; i++)
            now[(int64_t)s->at[i] * y->k->experts + e] = 1;
}

/* What shards of nodes of `each` hold together. */
static void note_nodes(const struct mb_layer *y, const uint8_t *shards, int32_t each, uint8_t *out)
{
    memset(out, 0, (size_t)(y->k->ep / each) * (size_t)y->k->experts);
    for (int32_t r = 0; r < y->k->ep; r++)
        for (int32_t e = 0; e < y->k->experts; e++)
            out[(int64_t)(r / each) * y->k->experts + e] |= shards[(int64_t)r * y->k->experts + e];
}

/* Shards of the best take the names, of nodes and inside them, under which they had most of their experts
 * before. Alike shards only. */
static void rename_shards(struct mb_layer *y)
{
    const struct mb_maker *k = y->k;
    int64_t cells = (int64_t)k->ep * k->experts;
    int32_t nodes = y->sample != NULL && k->ep % k->nodes == 0 ? k->nodes : 1, each = k->ep / nodes;
    int32_t *node = y->names, *name = node + nodes;
    uint8_t *now = y->now, *of_now = now + cells, *of_was = of_now + cells;

    note_now(y, &y->best, now);
    note_nodes(y, now, each, of_now);
    note_nodes(y, y->holds, each, of_was);
    assign(y, of_now, of_was, nodes, node);
    for (int32_t i = 0; i < nodes; i++) {
        int64_t from = (int64_t)i * each * k->experts, to = (int64_t)node[i] * each * k->experts;
        assign(y, now + from, y->holds + to, each, name + i * each);
        for (int32_t r = 0; r < each; r++)
            name[i * each + r] += node[i] * each;
    }
    for (int32_t e = 0; e < k->experts; e++)
        for (int32_t i = y->best.first[e]; i < y->best.first[e + 1]; i++) {
            y->expert[i] = e;
            y->shard[i] = name[y->best.at[i]];
        }
}

/* The placement before, as it is; false: it has other numbers of copies. */
static bool list_before(struct mb_layer *y)
{
    int32_t n = 0;

    memset(y->order, 0, (size_t)y->k->ep * sizeof *y->order);
    for (int32_t e = 0; e < y->k->experts; e++) {
        int32_t c;
        const int32_t *h = mb_placement_holders(y->k->before, y->lm, e, &c);
        for (int32_t i = 0; i < c; i++, n++) {
            if (n == y->n || ++y->order[h[i]] > y->slots[h[i]])
                return false;
            y->expert[n] = e;
            y->shard[n] = h[i];
        }
    }
    return n == y->n;
}

/* The placement before, with as many changes as bring it near the best. It replaces the best if that has more
 * moves. */
static void keep_before(struct mb_layer *y)
{
    double enough = y->best.cost * (1 + y->k->slack);

    if (!list_before(y))
        return;
    mb_layer_list(y);
    mb_layer_rate(y, &y->tried);
    mb_layer_copy(y, &y->spare, &y->tried);
    for (int32_t i = 0; i < y->n && y->spare.cost > enough; i++)
        if (!mb_layer_better(y, &y->spare))
            return;
    y->spare.moved = mb_layer_moved(y, &y->spare);
    if (y->spare.cost <= enough && y->spare.moved < y->best.moved)
        mb_layer_copy(y, &y->best, &y->spare);
}

void mb_layer_settle(struct mb_layer *y)
{
    if (y->k->before == NULL)
        return;
    if (y->k->capacity == NULL) {
        note_before(y);
        rename_shards(y);
        mb_layer_list(y);
        mb_layer_rate(y, &y->tried);
        mb_layer_copy(y, &y->best, &y->tried);
    }
    y->best.moved = mb_layer_moved(y, &y->best);
    keep_before(y);
}
