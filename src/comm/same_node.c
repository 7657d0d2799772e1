/* Which ranks share memory: tried, not assumed. The lowest rank of each hostname offers a small segment; who can map it is
 * on its node. Ranks left over (containers with one hostname and several /dev/shm) go into the next round. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "comm/impl.h"
#include "comm/shm.h"

#define SEGMENT 4096

struct host {
    char name[64];
};
struct finding {
    struct host *host;          /* [size] */
    struct mb_shm_offer *offer; /* [size] */
    int32_t *joined;            /* [size] */
};

/* The lowest rank of r's hostname that has no node yet. */
static int leader_of(const struct mb_comm *c, const struct finding *f, const int32_t *node, int r)
{
    for (int i = 0; i < c->size; i++)
        if (node[i] < 0 && strcmp(f->host[i].name, f->host[r].name) == 0)
            return i;
    return r;
}

static enum mb_status one_round(struct mb_comm *c, struct finding *f, int32_t *node)
{
    struct mb_shm_offer mine = {.name = ""};
    struct mb_shm s = {NULL, 0};
    int32_t joined = -1;
    bool open = node[c->rank] < 0;
    int leader = open ? leader_of(c, f, node, c->rank) : -1;

    if (leader == c->rank) {
        mb_shm_make(SEGMENT, &mine, &s); /* without it the rank is a node of its own */
        joined = c->rank;
    }
    MB_TRY(mb_comm_allgather(c, &mine, sizeof mine, f->offer, "nodes"));
    if (open && leader != c->rank && mb_shm_map(&f->offer[leader], SEGMENT, &s) == MB_OK)
        joined = leader;
    enum mb_status st = mb_comm_allgather(c, &joined, sizeof joined, f->joined, "nodes");
    mb_shm_unlink(&mine);
    mb_shm_unmap(&s);
    for (int r = 0; st == MB_OK && r < c->size; r++)
        if (f->joined[r] >= 0)
            node[r] = f->joined[r];
    return st;
}

static bool any_open(const struct mb_comm *c, const int32_t *node)
{
    for (int r = 0; r < c->size; r++)
        if (node[r] < 0)
            return true;
    return false;
}

static enum mb_status find(struct mb_comm *c, struct finding *f, int32_t *node)
{
    struct host own = {.name = ""};

    if (gethostname(own.name, sizeof own.name - 1) != 0)
        snprintf(own.name, sizeof own.name, "rank-%d", c->rank);
    MB_TRY(mb_comm_allgather(c, &own, sizeof own, f->host, "host names"));
    for (int r = 0; r < c->size; r++)
        node[r] = -1;
    while (any_open(c, node))
        MB_TRY(one_round(c, f, node));
    return MB_OK;
}

enum mb_status mb_comm_same_node(struct mb_comm *c, int32_t *same_node)
{
    size_t n = (size_t)c->size;
    struct finding f = {.host = mb_alloc(c->mem, MB_MEM_OTHER, n, sizeof *f.host),
                        .offer = mb_alloc(c->mem, MB_MEM_OTHER, n, sizeof *f.offer),
                        .joined = mb_alloc(c->mem, MB_MEM_OTHER, n, sizeof *f.joined)};
    enum mb_status st = MB_OK;

    if (f.host == NULL || f.offer == NULL || f.joined == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for the table of nodes");
    st = mb_comm_agree(c, st, "nodes");
    if (st == MB_OK)
        st = find(c, &f, same_node);
    mb_free(f.host);
    mb_free(f.offer);
    mb_free(f.joined);
    return st;
}
