/* What an exchange sends, from routing and placement: the formulas of the exchange's messages. */
#include "plan/serve.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

#define MAX_K 128

/* The other side of messages: one node (hier) or one rank (flat). */
struct peer {
    int64_t rows;        /* rows that go there */
    int64_t value_bytes; /* values that come back */
};

static int32_t peer_of(const struct mb_plan *p, int32_t index)
{
    return p->alltoall == MB_A2A_HIER ? p->node_of[index] : index;
}

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

static enum mb_status add_row(const struct mb_plan *p, const struct mb_serve *v, int32_t index,
                              const struct mb_exchange_shape *s, const int32_t *experts, int32_t self,
                              struct peer *peers)
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
        at[n++] = peer_of(p, mb_serve_pick(v, ids[i], index));
    }
    for (int32_t i = 0; i < n; i++) {
        bool seen = at[i] == self;
        for (int32_t j = 0; j < i && !seen; j++)
            seen = at[j] == at[i];
        if (seen)
            continue;
        peers[at[i]].rows++;
        peers[at[i]].value_bytes += values_of(s, ids, at, n, at[i]);
    }
    return MB_OK;
}

static void add_message(struct mb_traffic *t, enum mb_link link, int64_t bytes, uint64_t eager)
{
    t->bytes[link] += MB_XCHG_HEADER + bytes;
    t->messages[link] += (uint64_t)bytes > eager ? 2 : 1;
}

/* Fills peers[n] for one rank's rows. */
static enum mb_status fill_peers(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                                 const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                                 struct peer *peers)
{
    struct mb_serve *v = NULL;

    if (s->k < 1 || s->k > MAX_K)
        return mb_error(MB_BUG, "%d experts a row", (int)s->k);
    enum mb_status st = mb_serve_create_layer(p, moe_layer, &v);
    for (int64_t r = 0; r < rows && st == MB_OK; r++)
        st = add_row(p, v, index, s, experts + r * s->k, peer_of(p, index), peers);
    mb_serve_destroy(v);
    return st;
}

static int32_t peers_of(const struct mb_plan *p)
{
    return p->alltoall == MB_A2A_HIER ? p->nodes : p->layout.world;
}

static enum mb_status make_peers(const struct mb_plan *p, struct peer **out)
{
    int32_t n = peers_of(p);

    *out = calloc((size_t)n, sizeof **out);
    return *out != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the traffic of %d ranks", (int)n);
}

enum mb_status mb_plan_traffic(const struct mb_plan *p, int32_t moe_layer, int32_t index,
                               const struct mb_exchange_shape *s, const int32_t *experts, int64_t rows,
                               struct mb_traffic *dispatch, struct mb_traffic *combine)
{
    int32_t n = peers_of(p), self = peer_of(p, index);
    struct peer *peers = NULL;
    struct mb_traffic d = {{0}, {0}}, c = {{0}, {0}};

    MB_TRY(make_peers(p, &peers));
    enum mb_status st = fill_peers(p, moe_layer, index, s, experts, rows, peers);
    for (int32_t i = 0; i < n && st == MB_OK; i++) {
        if (i == self)
            continue;
        bool near = p->alltoall != MB_A2A_HIER && p->node_of[i] == p->node_of[index];
        enum mb_link link = !near ? MB_LINK_INTER : s->shm ? MB_LINK_SHM : MB_LINK_INTRA;
        add_message(&d, link,
                    peers[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged),
                    s->eager_bytes);
        add_message(&c, link, peers[i].value_bytes, s->eager_bytes);
    }
    free(peers);
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
    struct peer *peers = NULL;

    MB_TRY(make_peers(p, &peers));
    enum mb_status st = fill_peers(p, moe_layer, index, s, experts, rows, peers);
    for (int32_t i = 0; i < peers_of(p) && st == MB_OK; i++) {
        row_bytes[i] = peers[i].rows * mb_plan_dispatch_row_bytes(s->k, s->hidden, s->x_type, s->tagged);
        value_bytes[i] = peers[i].value_bytes;
    }
    free(peers);
    return st;
}
