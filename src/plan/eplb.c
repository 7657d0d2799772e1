/* DeepSeek's expert parallelism load balancer: groups of experts are packed on nodes, experts are replicated
 * inside each node by load, and copies are packed on the node's shards, heaviest first. With one group on one
 * node it is their global balancing. */
#include <string.h>
#include "plan/layer.h"

/* Numbers 0 .. n - 1 by weight, heaviest first; equal ones stay in order. */
static void by_weight(const double *weight, int32_t n, int32_t *order)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t to = i;
        for (; to > 0 && weight[order[to - 1]] < weight[i]; to--)
            order[to] = order[to - 1];
        order[to] = i;
    }
}

/* The i-th heaviest to the lightest of the packs that are not full; n / packs go into each. */
static void pack(const double *weight, int32_t n, int32_t packs, int32_t *order, double *sum, int32_t *used,
                 int32_t *out)
{
    by_weight(weight, n, order);
    for (int32_t p = 0; p < packs; p++) {
        sum[p] = 0;
        used[p] = 0;
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t best = -1;
        for (int32_t p = 0; p < packs; p++) {
            if (used[p] < n / packs && (best < 0 || sum[p] < sum[best]))
                best = p;
        }
        out[order[i]] = best;
        sum[best] += weight[order[i]];
        used[best]++;
    }
}

/* A copy more for the expert with most rows a copy, until there are `all`. */
static void replicate(const double *rows, const int32_t *ids, int32_t n, int32_t all, int32_t *copies)
{
    for (int32_t i = 0; i < n; i++)
        copies[ids[i]] = 1;
    for (int32_t left = all - n; left > 0; left--) {
        int32_t best = ids[0];
        for (int32_t i = 1; i < n; i++) {
            if (rows[ids[i]] * copies[best] > rows[best] * copies[ids[i]])
                best = ids[i];
        }
        copies[best]++;
    }
}

/* A shard that got an expert twice serves both shares by one copy; the place goes to another expert. */
static void no_twice(struct mb_layer *y)
{
    int32_t experts = y->k->experts;

    memset(y->holds, 0, (size_t)y->k->ep * (size_t)experts);
    for (int32_t i = 0; i < y->n; i++) {
        uint8_t *held = y->holds + (int64_t)y->shard[i] * experts;
        if (held[y->expert[i]] == 0)
            held[y->expert[i]] = 1;
        else
            y->expert[i] = -1 - y->expert[i];
    }
    for (int32_t i = 0; i < y->n; i++) {
        uint8_t *held = y->holds + (int64_t)y->shard[i] * experts;
        int32_t best = -1;
        if (y->expert[i] >= 0)
            continue;
        y->copies[-1 - y->expert[i]]--;
        for (int32_t e = 0; e < experts; e++) {
            if (!held[e] && (best < 0 || y->rows[e] * y->copies[best] > y->rows[best] * y->copies[e]))
                best = e;
        }
        held[best] = 1;
        y->expert[i] = best;
        y->copies[best]++;
    }
}

/* The copies of one node's experts, from number `from` on, on its shards. */
static void fill_node(struct mb_layer *y, const int32_t *ids, int32_t n, int32_t node, int32_t nodes,
                      int32_t from)
{
    int32_t all = y->n / nodes, ep = y->k->ep / nodes, c = 0;
    double *weight = y->base, *sum = weight + all;
    int32_t *used = y->order + all;

    replicate(y->rows, ids, n, all, y->copies);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < y->copies[ids[i]]; j++) {
            y->expert[from + c] = ids[i];
            weight[c++] = y->rows[ids[i]] / y->copies[ids[i]];
        }
    pack(weight, all, ep, y->order, sum, used, y->shard + from);
    for (int32_t i = 0; i < all; i++)
        y->shard[from + i] += node * ep;
}

bool mb_layer_eplb(struct mb_layer *y, int32_t groups, int32_t nodes)
{
    const struct mb_maker *k = y->k;
    int32_t each = k->experts / groups, *ids = y->match, *of = ids + k->experts;
    double *weight = y->base, *sum = weight + groups;

    if (k->capacity != NULL || k->experts % groups != 0 || groups % nodes != 0 || k->ep % nodes != 0 ||
        y->n % k->ep != 0)
        return false;
    for (int32_t g = 0; g < groups; g++) {
        weight[g] = 0;
        for (int32_t e = g * each; e < (g + 1) * each; e++)
            weight[g] += y->rows[e];
    }
    pack(weight, groups, nodes, y->order, sum, y->order + groups, of);
    for (int32_t node = 0; node < nodes; node++) {
        int32_t n = 0;
        for (int32_t g = 0; g < groups; g++)
            for (int32_t e = g * each; of[g] == node && e < (g + 1) * each; e++)
                ids[n++] = e;
        fill_node(y, ids, n, node, nodes, node * (y->n / nodes));
    }
    no_twice(y);
    mb_layer_list(y);
    return true;
}
