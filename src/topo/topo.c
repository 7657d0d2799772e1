/* The job's topology from what its ranks found out about themselves. */
#include "topo/topo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

int32_t mb_cpus_count(const struct mb_cpus *c)
{
    int32_t n = 0;
    for (int i = 0; i < MB_MAX_CPUS / 64; i++)
        n += __builtin_popcountll(c->bits[i]);
    return n;
}

static bool cpus_has(const struct mb_cpus *c, int32_t cpu)
{
    return cpu >= 0 && cpu < MB_MAX_CPUS && (c->bits[cpu / 64] >> (cpu % 64) & 1);
}

int32_t mb_cpu_order_os(const struct mb_cpu_order *o, int32_t l)
{
    int32_t os = o->base;

    for (int32_t d = 0; d < o->digits; d++) {
        os += l % o->count[d] * o->stride[d];
        l /= o->count[d];
    }
    return l == 0 && o->digits > 0 ? os : -1;
}

/* What one rank is sorted by. */
struct place {
    int64_t node;
    int32_t numa, order, rank;
};

#define CMP(a, b) (((a) > (b)) - ((a) < (b)))

static int place_cmp(const void *va, const void *vb)
{
    const struct place *a = va, *b = vb;
    int c = CMP(a->node, b->node);

    if (c == 0)
        c = CMP(a->numa, b->numa);
    if (c == 0)
        c = CMP(a->order, b->order);
    return c ? c : CMP(a->rank, b->rank);
}

static void topo_free(struct mb_topo *t)
{
    free(t->node_of);
    free(t->order);
    free(t->index_of);
    free(t->node_first);
    free(t->threads);
    mb_free(t->local);
    free(t);
}

void mb_topo_destroy(struct mb_topo *t)
{
    if (t != NULL)
        topo_free(t);
}

static struct mb_topo *topo_alloc(int32_t ranks)
{
    struct mb_topo *t = calloc(1, sizeof *t);
    size_t n = (size_t)ranks;

    if (t == NULL)
        return NULL;
    t->ranks = ranks;
    t->node_of = calloc(n, sizeof *t->node_of);
    t->order = calloc(n, sizeof *t->order);
    t->index_of = calloc(n, sizeof *t->index_of);
    t->node_first = calloc(n + 1, sizeof *t->node_first);
    t->threads = calloc(n, sizeof *t->threads);
    t->local = mb_zalloc(NULL, MB_MEM_OTHER, n, sizeof *t->local);
    if (!t->node_of || !t->order || !t->index_of || !t->node_first || !t->threads || !t->local) {
        topo_free(t);
        return NULL;
    }
    return t;
}

/* Numbers the nodes by their lowest world rank: fills node_of and nodes. places: scratch. */
static void number_nodes(struct mb_topo *t, const int32_t *same_node, struct place *places)
{
    for (int32_t r = 0; r < t->ranks; r++)
        places[r] = (struct place){same_node[r], 0, 0, r};
    qsort(places, (size_t)t->ranks, sizeof *places, place_cmp);
    /* Every rank points at the lowest rank of its node ... */
    int32_t lowest = 0;
    for (int32_t i = 0; i < t->ranks; i++) {
        if (i == 0 || places[i].node != places[i - 1].node)
            lowest = places[i].rank;
        t->node_of[places[i].rank] = lowest;
    }
    /* ... and the lowest ranks are numbered as they come. */
    for (int32_t r = 0; r < t->ranks; r++)
        t->node_of[r] = t->node_of[r] == r ? t->nodes++ : t->node_of[t->node_of[r]];
}

static void sort_ranks(struct mb_topo *t, struct place *places)
{
    for (int32_t r = 0; r < t->ranks; r++)
        places[r] = (struct place){t->node_of[r], t->local[r].numa, t->local[r].order, r};
    qsort(places, (size_t)t->ranks, sizeof *places, place_cmp);
    for (int32_t i = 0; i < t->ranks; i++) {
        t->order[i] = places[i].rank;
        t->index_of[places[i].rank] = i;
        t->node_first[places[i].node + 1] = i + 1;
    }
}

/* Which part of its mask a rank has: part of parts ranks of its node that were given an equal mask. */
static void share_of(const struct mb_topo *t, int32_t rank, int32_t *part, int32_t *parts)
{
    int32_t node = t->node_of[rank];

    *part = *parts = 0;
    for (int32_t i = t->node_first[node]; i < t->node_first[node + 1]; i++) {
        int32_t r = t->order[i];
        if (memcmp(&t->local[r].allowed, &t->local[rank].allowed, sizeof t->local[r].allowed) != 0)
            continue;
        if (r == rank)
            *part = *parts;
        (*parts)++;
    }
}

static int32_t threads_of(const struct mb_topo *t, int32_t rank)
{
    int32_t part, parts, cpus = mb_cpus_count(&t->local[rank].allowed);

    share_of(t, rank, &part, &parts);
    int64_t n = (int64_t)(part + 1) * cpus / parts - (int64_t)part * cpus / parts;
    return cpus < parts || n < 1 ? 1 : (int32_t)n;
}

enum mb_status mb_topo_create(const struct mb_topo_local *locals, const int32_t *same_node, int32_t ranks,
                              int32_t threads_asked, struct mb_topo **out)
{
    if (ranks < 1)
        return mb_error(MB_BUG, "a topology of %d ranks", (int)ranks);
    struct mb_topo *t = topo_alloc(ranks);
    struct place *places = calloc((size_t)ranks, sizeof *places);
    if (t == NULL || places == NULL) {
        mb_topo_destroy(t);
        free(places);
        return mb_error(MB_NO_MEMORY, "no memory for the topology of %d ranks", (int)ranks);
    }
    memcpy(t->local, locals, (size_t)ranks * sizeof *locals);
    number_nodes(t, same_node, places);
    sort_ranks(t, places);
    free(places);
    for (int32_t r = 0; r < ranks; r++)
        t->threads[r] = threads_asked > 0 ? threads_asked : locals[r].threads_asked > 0 ? locals[r].threads_asked : threads_of(t, r);
    t->threads_asked = threads_asked > 0;
    *out = t;
    return MB_OK;
}

enum mb_status mb_topo_synthetic(int32_t nodes, const int32_t *ranks_per_node, struct mb_topo **out)
{
    int64_t ranks = 0;
    for (int32_t n = 0; n < nodes; n++)
        ranks += ranks_per_node[n];
    if (nodes < 1 || ranks < 1 || ranks > INT32_MAX)
        return mb_error(MB_LAYOUT, "a cluster of %d nodes and %lld ranks; at least one of each is needed",
                        (int)nodes, (long long)ranks);
    struct mb_topo_local *l = mb_zalloc(NULL, MB_MEM_OTHER, (size_t)ranks, sizeof *l);
    int32_t *node = calloc((size_t)ranks, sizeof *node);
    enum mb_status st = MB_NO_MEMORY;
    if (l == NULL || node == NULL) {
        mb_error(st, "no memory for a topology of %lld ranks", (long long)ranks);
        goto done;
    }
    for (int32_t n = 0, r = 0; n < nodes; n++)
        for (int32_t i = 0; i < ranks_per_node[n]; i++, r++) {
            node[r] = n;
            snprintf(l[r].host, sizeof l[r].host, "node%d", (int)n);
            snprintf(l[r].cpu_model, sizeof l[r].cpu_model, "synthetic");
            l[r].order = i;
            l[r].cpus_online = ranks_per_node[n];
            if (i < MB_MAX_CPUS)
                l[r].allowed.bits[i / 64] |= (uint64_t)1 << (i % 64);
        }
    st = mb_topo_create(l, node, (int32_t)ranks, 1, out);
done:
    mb_free(l);
    free(node);
    return st;
}

/* The allowed CPUs of l in hwloc order into list (room for MB_MAX_CPUS); OS order where there is no known
 * pattern or the pattern misses some. */
static int32_t cpus_in_order(const struct mb_topo_local *l, int16_t *list)
{
    int32_t n = 0, os;

    for (int32_t i = 0; i < MB_MAX_CPUS && (os = mb_cpu_order_os(&l->cpu_order, i)) >= 0; i++)
        if (cpus_has(&l->allowed, os))
            list[n++] = (int16_t)os;
    if (n == mb_cpus_count(&l->allowed))
        return n;
    n = 0;
    for (int32_t i = 0; i < MB_MAX_CPUS; i++)
        if (cpus_has(&l->allowed, i))
            list[n++] = (int16_t)i;
    return n;
}

void mb_topo_cpus(const struct mb_topo *t, int32_t rank, struct mb_cpus *out)
{
    int16_t list[MB_MAX_CPUS];
    int32_t part, parts, n = cpus_in_order(&t->local[rank], list);
    struct mb_cpus c = {{0}};

    share_of(t, rank, &part, &parts);
    int32_t lo = (int32_t)((int64_t)part * n / parts), hi = (int32_t)((int64_t)(part + 1) * n / parts);
    if (n > 0 && n < parts) {
        lo = part % n;
        hi = lo + 1;
    }
    for (int32_t i = lo; i < hi; i++)
        c.bits[list[i] / 64] |= (uint64_t)1 << (list[i] % 64);
    *out = c;
}
