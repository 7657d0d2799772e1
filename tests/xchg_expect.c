/* Formulas of an exchange. */
#include "mpi_comm.h"

#include "xchg_expect.h"

void xchg_world(const struct kase *q, int32_t me, struct world *w)
{
    int32_t i = 0, size = q->size;

    w->me = me;
    w->size = size;
    for (int32_t b = 0; b < q->nodes; b++)
        for (int32_t j = 0; j < q->per_node[b]; j++)
            w->real[i++] = b;
    int32_t most = 0;
    for (int32_t b = 0; b < q->nodes; b++)
        most = q->per_node[b] > most ? q->per_node[b] : most;
    /* rings of 4 KiB at least, with 128 bytes each, two for every ordered pair */
    w->shm = most > 1 && (q->shm - 64) / (uint64_t)(2 * most * (most - 1)) / 64 * 64 >= 4096 + 128;
    w->nodes = q->algorithm == MB_A2A_HIER ? q->nodes : size;
    for (i = 0; i < size; i++)
        w->node[i] = q->algorithm == MB_A2A_HIER ? w->real[i] : i;
    memset(w->count, 0, sizeof w->count);
    for (i = 0; i < size; i++)
        w->count[w->node[i]]++;
    w->first[0] = 0;
    for (i = 0; i < w->nodes; i++)
        w->first[i + 1] = w->first[i] + w->count[i];
}

int32_t xchg_agent(const struct world *w, int32_t s, int32_t b)
{
    int32_t a = w->node[s];

    return w->first[b] + (s - w->first[a] + a) % w->count[b];
}

enum mb_link xchg_link(const struct world *w, int32_t a, int32_t b)
{
    return w->real[a] != w->real[b] ? MB_LINK_INTER : w->shm ? MB_LINK_SHM : MB_LINK_INTRA;
}

/* Bytes of the values that the holder of `held` returns for a row: the largest aligned ranges whose chosen
 * experts it has. */
static int64_t value_bytes(const struct kase *q, const int32_t *ids, const uint8_t *held, int64_t *lone,
                           int64_t *inner)
{
    int64_t bytes = 0;

    for (int32_t i = 0; i < q->k; i++) {
        int level = 0, in = 0;
        bool all = true, lowest = true;
        if (!held[i])
            continue;
        while (level < 11) {
            for (int32_t j = 0; j < q->k; j++)
                if (ids[j] >> (level + 1) == ids[i] >> (level + 1))
                    all &= held[j] != 0;
            if (!all)
                break;
            level++;
        }
        for (int32_t j = 0; j < q->k; j++)
            if (ids[j] >> level == ids[i] >> level) {
                in++;
                lowest &= ids[j] >= ids[i];
            }
        if (!lowest)
            continue; /* counted at its lowest expert */
        *lone += in == 1;
        *inner += in > 1;
        bytes += q->hidden * (in > 1 ? 4 : mb_dtype_size(q->yt));
    }
    return bytes;
}

int64_t xchg_row_bytes(const struct kase *q)
{
    return (2 * (q->k + q->tagged) + 3) / 4 * 4 + 4 * q->k + (q->hidden * mb_dtype_size(q->xt) + 3) / 4 * 4;
}

static void add_message(const struct kase *q, int64_t bytes, enum mb_link l, int64_t *b, int64_t *m)
{
    b[l] += 64 + bytes;
    m[l] += bytes > (int64_t)q->eager ? 2 : 1;
}

/* The member that serves an expert for rows of a home: itself, else one of its node, else any, in turn by
 * home. */
int32_t xchg_owner(const struct holders *ho, int32_t home, int32_t expert)
{
    int32_t size = ho->v.members;
    const uint8_t *h = ho->holds + (int64_t)expert * size;
    int32_t list[MAX_N], n = 0;

    if (h[home])
        return home;
    for (int32_t m = 0; m < size; m++) {
        if (h[m] && ho->node[m] == ho->node[home])
            list[n++] = m;
    }
    for (int32_t m = 0; n == 0 && m < size; m++) {
        for (int32_t i = m; i < size; i++) {
            if (h[i])
                list[n++] = i;
        }
        break;
    }
    return list[home % n];
}

/* What this member sends to and for node b as the home of rows, and what it returns to source s as an agent.
 */
void xchg_expect_network(const struct kase *q, const struct world *w, const struct holders *ho,
                         const struct input *all, struct expect *e)
{
    int32_t rank = w->me, size = w->size;
    uint8_t held[MAX_K];
    int64_t lone = 0, inner = 0;

    for (int32_t b = 0; b < w->nodes; b++) {
        int64_t rows = 0;
        if (b == w->node[rank])
            continue;
        for (int32_t m = 0; m < all[rank].m; m++) {
            bool any = false;
            for (int32_t j = 0; j < q->k; j++)
                any |= w->node[xchg_owner(ho, rank, all[rank].experts[m * q->k + j])] == b;
            rows += any;
        }
        add_message(q, rows * xchg_row_bytes(q), xchg_link(w, rank, xchg_agent(w, rank, b)), e->db, e->dm);
    }
    for (int32_t s = 0; s < size; s++) {
        int64_t bytes = 0;
        if (w->node[s] == w->node[rank] || xchg_agent(w, s, w->node[rank]) != rank)
            continue;
        for (int32_t m = 0; m < all[s].m; m++) {
            for (int32_t j = 0; j < q->k; j++)
                held[j] = w->node[xchg_owner(ho, s, all[s].experts[m * q->k + j])] == w->node[rank];
            bytes += value_bytes(q, all[s].experts + m * q->k, held, &lone, &inner);
        }
        add_message(q, bytes, xchg_link(w, rank, s), e->cb, e->cm);
    }
}

/* The agent of s's rows in this node: s itself if it lives here. */
int32_t xchg_agent_here(const struct world *w, int32_t s)
{
    int32_t rank = w->me;

    return w->node[s] == w->node[rank] ? s : xchg_agent(w, s, w->node[rank]);
}

/* Shared memory (all in one round) and the rank itself. */
void xchg_expect_node(const struct kase *q, const struct world *w, const struct holders *ho,
                      const struct input *all, struct expect *e)
{
    int32_t rank = w->me, size = w->size;
    int64_t lone[MAX_N] = {0}, inner[MAX_N] = {0}, self_rows = 0,
            meta = xchg_row_bytes(q) - (q->hidden * mb_dtype_size(q->xt) + 3) / 4 * 4;

    for (int32_t s = 0; s < size; s++) {
        int32_t agent = xchg_agent_here(w, s);
        int64_t published = 0;
        for (int32_t m = 0; m < all[s].m; m++) {
            uint8_t mine[MAX_K];
            bool other = false, own = false;
            for (int32_t j = 0; j < q->k; j++) {
                int32_t o = xchg_owner(ho, s, all[s].experts[m * q->k + j]);
                mine[j] = o == rank;
                own |= o == rank;
                e->served += o == rank;
                other |= o != rank && w->node[o] == w->node[rank];
            }
            published += other;
            self_rows += own && s == rank;
            if (agent != rank)
                value_bytes(q, all[s].experts + m * q->k, mine, &lone[agent], &inner[agent]);
        }
        if (agent == rank && w->count[w->node[rank]] > 1) {
            e->db[MB_LINK_SHM] += 64 + published * (meta + q->hidden * mb_dtype_size(q->xt));
            e->dm[MB_LINK_SHM]++;
        }
    }
    for (int32_t a = 0; a < size; a++) {
        e->cm[MB_LINK_SHM] += (lone[a] > 0) + (inner[a] > 0);
        e->cb[MB_LINK_SHM] += 64 * ((lone[a] > 0) + (inner[a] > 0)) +
                              q->hidden * (lone[a] * mb_dtype_size(q->yt) + inner[a] * 4);
    }
    e->db[MB_LINK_SELF] += self_rows * q->hidden * mb_dtype_size(q->xt);
    e->dm[MB_LINK_SELF] += self_rows > 0;
}

void xchg_check_counts(const struct kase *q, const struct mb_xchg *x, const struct expect *e, bool one_round)
{
    struct mb_xchg_counts n;

    mb_xchg_counts(x, &n);
    CHECK(n.served_rows == e->served);
    for (int l = 0; l < MB_LINK_COUNT; l++) {
        if ((l == MB_LINK_SHM && !one_round && q->algorithm == MB_A2A_HIER) || l == MB_LINK_SELF)
            continue;
        CHECK(n.dispatch_bytes[l] == e->db[l]);
        CHECK(n.dispatch_messages[l] == e->dm[l]);
        CHECK(n.combine_bytes[l] == e->cb[l]);
        CHECK(n.combine_messages[l] == e->cm[l]);
    }
    CHECK(n.dispatch_bytes[MB_LINK_SELF] == e->db[MB_LINK_SELF]);
    CHECK(n.dispatch_messages[MB_LINK_SELF] == e->dm[MB_LINK_SELF]);
    CHECK(n.combine_bytes[MB_LINK_SELF] == e->served * q->hidden * mb_dtype_size(q->yt));
}
