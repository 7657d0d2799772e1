/* What an exchange sends, from routing and placement: the formulas of the exchange's messages. */
#include "plan/alltoall.h"
#include "plan/serve.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

#define MAX_K 128

/* The other side of messages: a domain (alltoall.h). */
struct peer {
    int64_t rows;        /* rows that go there */
    int64_t value_bytes; /* values that come back */
};

/* All of them, and whose is whose. */
struct peers {
    int32_t n;
    int32_t *of; /* [world] the peer of each rank */
    struct peer *at;
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
    int32_t first[MAX_K], count[MAX_K];
    uint8_t held[MAX_K];
    int64_t bytes = 0;

    for (int32_t i = 0; i < n; i++)
        held[i] = at[i] == peer;
    int32_t nodes = mb_tree_maximal(ids, held, n, first, count);
    for (int32_t i = 0; i < nodes; i++)
        bytes += s->hidden * (count[i] > 1 ? 4 : mb_dtype_size(s->y_type));
    return bytes;
}

/* counts: [ids] of the own rows before this one, where copies have quotas. */
static enum mb_status add_row(const struct mb_plan *p, const struct mb_serve *v, int32_t index,
                              const struct mb_exchange_shape *s, const int32_t *experts, int32_t *counts, struct peers *q)
{
    int32_t ids[MAX_K], at[MAX_K], n = 0;

    memcpy(ids, experts, (size_t)s->k * sizeof *ids);
    qsort(ids, (size_t)s->k, sizeof *ids, int_cmp);
    for (int32_t i = 0; i < s->k; i++) {
        if (ids[i] < 0 || ids[i] >= p->placement->experts)
            return mb_error(MB_BUG, "a row is routed to expert %d of %d", (int)ids[i],
                            (int)p->placement->experts);
        if (n > 0 && ids[i] == ids[n - 1])
            continue;
        ids[n] = ids[i];
        int32_t by = v->part == NULL ? mb_serve_pick(v, ids[i], index)
                                     : v->member[v->first[ids[i]] + mb_serve_turn(v, ids[i], counts[ids[i]]++)];
        at[n++] = q->of[by];
    }
    for (int32_t i = 0; i < n; i++) {
        bool seen = at[i] == q->of[index];
        for (int32_t j = 0; j < i && !seen; j++)
            seen = at[j] == at[i];
        if (seen)
            continue;
        q->at[at[i]].rows++;
        q->at[at[i]].value_bytes += values_of(s, ids, at, n, at[i]);
    }
    return MB_OK;
}

static void add_message(struct mb_traffic *t, enum mb_link link, int64_t bytes, uint64_t eager)
{
    t->bytes[link] += MB_XCHG_HEADER + bytes;
    t->messages[link] += (uint64_t)bytes > eager ? 2 : 1;
}

/* Counts one rank's rows. */
static enum mb_status fill_peers(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                                 const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                                 struct peers *q)
{
    struct mb_serve *v = NULL;
    int32_t *counts = NULL;

    if (s->k < 1 || s->k > MAX_K)
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
    free(q->at);
}

static enum mb_status make_peers(const struct mb_plan *p, struct peers *q)
{
    size_t world = (size_t)p->layout.world;

    *q = (struct peers){.of = calloc(world, sizeof *q->of), .at = calloc(world, sizeof *q->at)};
    if (q->of == NULL || q->at == NULL) {
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
        add_message(&d, link,
                    q.at[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged, p->placement->quota != NULL),
                    s->eager_bytes);
        add_message(&c, link, q.at[i].value_bytes, s->eager_bytes);
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
        row_bytes[i] = q.at[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged, p->placement->quota != NULL);
        value_bytes[i] = q.at[i].value_bytes;
    }
    free_peers(&q);
    return st;
}
