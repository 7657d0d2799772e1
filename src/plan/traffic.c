/* What an exchange sends, from routing and placement: the formulas of the exchange's messages. */
#include "plan/traffic.h"
#include "plan/alltoall.h"
#include "plan/serve.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

/* All of them, and whose is whose. */
struct peers {
    int32_t n, n_touched;
    int32_t *of, *touched; /* [world] the peer of each rank; peers with rows */
    struct mb_traffic_peer *at;
};

static int int_cmp(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Values of one row (ids ascending, n of them, owners' peers in `at`) that a peer sends back. */
static int64_t values_of(const struct mb_exchange_shape *s, const int32_t *ids, const int32_t *at, int32_t n,
                         int32_t peer)
{
    int32_t first[MB_TRAFFIC_K], count[MB_TRAFFIC_K], here = 0;
    uint8_t held[MB_TRAFFIC_K];
    int64_t bytes = 0;

    for (int32_t i = 0; i < n; i++) {
        held[i] = at[i] == peer;
        here += held[i];
    }
    if (here == 1)
        return s->hidden * mb_dtype_size(s->y_type);
    int32_t nodes = mb_tree_maximal(ids, held, n, first, count);
    for (int32_t i = 0; i < nodes; i++)
        bytes += s->hidden * (count[i] > 1 ? 4 : mb_dtype_size(s->y_type));
    return bytes;
}

void mb_traffic_row(const struct mb_exchange_shape *s, const int32_t *ids, const int32_t *domain, int32_t n,
                    int32_t own, struct mb_traffic_peer *peer, int32_t *touched, int32_t *n_touched)
{
    for (int32_t i = 0; i < n; i++) {
        struct mb_traffic_peer *to = &peer[domain[i]];
        bool seen = domain[i] == own;
        for (int32_t j = 0; j < i && !seen; j++)
            seen = domain[j] == domain[i];
        if (seen)
            continue;
        if (to->rows++ == 0)
            touched[(*n_touched)++] = domain[i];
        to->value_bytes += values_of(s, ids, domain, n, domain[i]);
    }
}

/* counts: [ids] of the own rows before this one, where copies have quotas. */
static enum mb_status add_row(const struct mb_plan *p, const struct mb_serve *v, int32_t index,
                              const struct mb_exchange_shape *s, const int32_t *experts, int32_t *counts,
                              struct peers *q)
{
    int32_t ids[MB_TRAFFIC_K], at[MB_TRAFFIC_K], n = 0;

    memcpy(ids, experts, (size_t)s->k * sizeof *ids);
    qsort(ids, (size_t)s->k, sizeof *ids, int_cmp);
    for (int32_t i = 0; i < s->k; i++) {
        if (ids[i] < 0 || ids[i] >= p->placement->experts)
            return mb_error(MB_BUG, "a row is routed to expert %d of %d", (int)ids[i],
                            (int)p->placement->experts);
        if (n > 0 && ids[i] == ids[n - 1])
            continue;
        ids[n] = ids[i];
        int32_t by = v->part == NULL
                         ? mb_serve_pick(v, ids[i], index)
                         : v->member[v->first[ids[i]] + mb_serve_turn(v, ids[i], counts[ids[i]]++)];
        at[n++] = q->of[by];
    }
    mb_traffic_row(s, ids, at, n, q->of[index], q->at, q->touched, &q->n_touched);
    return MB_OK;
}

/* Counts one rank's rows. */
static enum mb_status fill_peers(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                                 const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                                 struct peers *q)
{
    struct mb_serve *v = NULL;
    int32_t *counts = NULL;

    if (s->k < 1 || s->k > MB_TRAFFIC_K)
        return mb_error(MB_BUG, "%d experts a row", (int)s->k);
    enum mb_status st = mb_serve_create_layer(p, moe_layer, &v);
    if (st == MB_OK)
        st = mb_serve_settle(v, index);
    if (st == MB_OK && (counts = calloc((size_t)v->ids + 1, sizeof *counts)) == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for the traffic of %d experts", (int)v->ids);
    for (int64_t r = 0; r < rows && st == MB_OK; r++)
        st = add_row(p, v, index, s, experts + r * s->k, counts, q);
    free(counts);
    mb_serve_destroy(v);
    return st;
}

static void free_peers(struct peers *q)
{
    free(q->of);
    free(q->touched);
    free(q->at);
}

static enum mb_status make_peers(const struct mb_plan *p, struct peers *q)
{
    size_t world = (size_t)p->layout.world;

    *q = (struct peers){.of = calloc(world, sizeof *q->of),
                        .touched = calloc(world, sizeof *q->touched),
                        .at = calloc(world, sizeof *q->at)};
    if (q->of == NULL || q->touched == NULL || q->at == NULL) {
        free_peers(q);
        return mb_error(MB_NO_MEMORY, "no memory for the traffic of %d ranks", (int)world);
    }
    q->n = mb_alltoall_rows[p->alltoall].partition(p->node_of, (int32_t)world, q->of);
    return MB_OK;
}

enum mb_status mb_plan_traffic(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                               const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                               struct mb_traffic *dispatch, struct mb_traffic *combine)
{
    struct peers q;
    struct mb_traffic d = {{0}, {0}}, c = {{0}, {0}};

    MB_TRY(make_peers(p, &q));
    enum mb_status st = fill_peers(p, moe_layer, index, s, experts, rows, &q);
    for (int32_t i = 0, first = 0; i < q.n && st == MB_OK; i++) {
        while (q.of[first] != i)
            first++;
        if (i == q.of[index])
            continue;
        bool near = p->node_of[first] == p->node_of[index];
        enum mb_link link = !near ? MB_LINK_INTER : s->shm ? MB_LINK_SHM : MB_LINK_INTRA;
        mb_traffic_message(&d, link,
                           q.at[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged,
                                                                     p->placement->quota != NULL),
                           s->eager_bytes);
        mb_traffic_message(&c, link, q.at[i].value_bytes, s->eager_bytes);
    }
    free_peers(&q);
    if (st != MB_OK)
        return st;
    *dispatch = d;
    *combine = c;
    return MB_OK;
}

enum mb_status mb_plan_traffic_to(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                                  const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                                  int64_t *row_bytes, int64_t *value_bytes)
{
    struct peers q;

    MB_TRY(make_peers(p, &q));
    enum mb_status st = fill_peers(p, moe_layer, index, s, experts, rows, &q);
    for (int32_t i = 0; i < q.n && st == MB_OK; i++) {
        row_bytes[i] = q.at[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged,
                                                                 p->placement->quota != NULL);
        value_bytes[i] = q.at[i].value_bytes;
    }
    free_peers(&q);
    return st;
}
