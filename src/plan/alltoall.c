/* The algorithms of an exchange. */
#include "plan/alltoall.h"

#include <string.h>
#include "plan/cost.h"

/* ---------------------------------------------------------------- partitions */
static int32_t each_alone(const int32_t *node, int32_t n, int32_t *domain)
{
    (void)node;
    for (int32_t i = 0; i < n; i++)
        domain[i] = i;
    return n;
}

static int32_t by_node(const int32_t *node, int32_t n, int32_t *domain)
{
    int32_t count = 0;

    for (int32_t i = 0; i < n; i++) {
        count += i == 0 || node[i] != node[i - 1];
        domain[i] = count - 1;
    }
    return count;
}

int32_t mb_alltoall_nodes(const int32_t *node_of, int32_t world, int32_t group)
{
    int32_t most = 1;

    for (int32_t g = 0; g + group <= world; g += group) {
        int32_t n = 1;
        for (int32_t i = g + 1; i < g + group; i++)
            n += node_of[i] != node_of[i - 1];
        most = n > most ? n : most;
    }
    return most;
}

/* ---------------------------------------------------------------- what travels */
/* Of rows that are drawn evenly. */
struct mean {
    double row,
        values;     /* bytes of a row on its way; of all that comes back of it from the members it reaches */
    double members; /* that a row reaches, the own one too */
    double other_rank;      /* the part of them that are other ranks, */
    double other_node;      /* and ranks of other nodes */
    double nodes, all_back; /* nodes a row reaches besides its own; bytes that come back from them */
};

static struct mean mean_of(const struct mb_alltoall_case *c)
{
    const struct mb_router *r = &c->m->router;
    const struct mb_layout *l = c->l;
    double es = (double)mb_dtype_size(c->path), h = (double)c->m->hidden, lone,
           hit = mb_cost_peers(r, l->ep, &lone);
    double copy = (double)l->ep * l->etp, near = copy / c->nodes;
    struct mean x = {.row = (double)mb_plan_dispatch_row_bytes(r->k, c->m->hidden, c->path, false, false),
                     .values = h * (lone * es + (hit - lone) * 4) * l->etp,
                     .members = hit * l->etp,
                     .other_rank = (copy - 1) / copy,
                     .other_node = near < copy ? (copy - near) / copy : 0};

    if (c->nodes > 1) {
        double away = (c->nodes - 1.0) / c->nodes, all = mb_cost_row_bytes(c->m, c->path, c->nodes);
        x.nodes = mb_cost_peers(r, c->nodes, &lone) * away;
        x.all_back = all - x.nodes * x.row;
    }
    return x;
}

static void flat_traffic(const struct mb_alltoall_case *c, double rows, struct mb_alltoall_load *out)
{
    struct mean x = mean_of(c);
    double all = rows * (x.members * x.row + x.values);

    *out = (struct mb_alltoall_load){.net = all * x.other_node,
                                     .link = all * (x.other_rank - x.other_node),
                                     .messages = 2.0 * (mb_layout_group(c->l) - 1),
                                     .far_waits = c->nodes > 1 ? 2 : 0,
                                     .waits = c->nodes > 1 ? 0 : 2};
}

/* Inside a node what arrived is published once more, and the members that need it read it. */
static void hier_traffic(const struct mb_alltoall_case *c, double rows, struct mb_alltoall_load *out)
{
    struct mean x = mean_of(c);
    double all = x.members * x.row + x.values;

    *out = (struct mb_alltoall_load){.net = rows * (x.nodes * x.row + x.all_back),
                                     .link = rows * (all * x.other_rank + (1 + x.nodes) * x.row),
                                     .messages = 2.0 * (c->nodes - 1),
                                     .far_waits = c->nodes > 1 ? 2 : 0,
                                     .waits = 2};
}

/* ---------------------------------------------------------------- the choice */
double mb_alltoall_seconds(const struct mb_alltoall_case *c, enum mb_alltoall kind, double rows)
{
    double net = c->c->net > 0 ? c->c->net : MB_ALLTOALL_NET,
           senders = (double)mb_layout_group(c->l) / c->nodes;
    struct mb_alltoall_load x;

    mb_alltoall_rows[kind].traffic(c, rows, &x);
    return x.net * senders / (net * MB_COST_WIRE) + x.link / (c->c->link * MB_COST_WIRE) +
           x.messages * MB_COST_POST + x.far_waits * c->c->net_wait + x.waits * c->c->link_wait;
}

static enum mb_alltoall flat(const struct mb_alltoall_case *c)
{
    (void)c;
    return MB_A2A_FLAT;
}

static enum mb_alltoall hier(const struct mb_alltoall_case *c)
{
    (void)c;
    return MB_A2A_HIER;
}

/* Where each rank has a node of its own the two are the same. */
static enum mb_alltoall faster(const struct mb_alltoall_case *c)
{
    double share = 1.0 / ((double)c->l->tp * c->l->sp), seconds[MB_A2A_COUNT] = {0};
    int32_t group = mb_layout_group(c->l);

    if (c->m->router.experts == 0 || c->nodes == 1 || c->nodes == group)
        return MB_A2A_FLAT;
    for (enum mb_alltoall a = MB_A2A_FLAT; a <= MB_A2A_HIER; a++)
        seconds[a] = mb_alltoall_seconds(c, a, c->rows * share) + mb_alltoall_seconds(c, a, c->seqs * share);
    return seconds[MB_A2A_HIER] <= seconds[MB_A2A_FLAT] ? MB_A2A_HIER : MB_A2A_FLAT;
}

const struct mb_alltoall_row mb_alltoall_rows[MB_A2A_COUNT] = {
    [MB_A2A_AUTO] = {"auto", "flat or hier, whichever is expected to be faster", faster, NULL, NULL},
    [MB_A2A_FLAT] = {"flat", "a row to each rank that needs it", flat, each_alone, flat_traffic},
    [MB_A2A_HIER] = {"hier", "a row to each node that needs it once, and on through its memory", hier,
                     by_node, hier_traffic},
};

enum mb_alltoall mb_alltoall_named(const char *name)
{
    int i = 0;

    while (i < MB_A2A_COUNT && strcmp(mb_alltoall_rows[i].name, name) != 0)
        i++;
    return (enum mb_alltoall)i;
}
