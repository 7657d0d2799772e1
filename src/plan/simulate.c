/* A step of a group, layer by layer. */
#include "plan/simulate.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/alltoall.h"
#include "plan/serve.h"
#include "plan/sim_routes.h"
#include "plan/traffic.h"

struct sim {
    const struct mb_sim_in *in;
    struct mb_sim *out;
    int32_t n, k, homes, domains, nodes; /* members; those that attend */
    int32_t *home;                       /* [homes] member that attends */
    int32_t *node, *domain;              /* [n] of members, from 0 */
    int32_t *node_of_domain;             /* [domains] */
    int32_t *ids, *by;                   /* [homes][rows][k] experts of rows, ascending; who serves them */
    int32_t *first, *list; /* [experts + 1], [homes * rows * k] places in ids, expert by expert */
    struct mb_sim_popularity popularity;
    int32_t *scratch; /* [n + copies] */
    struct mb_serve_share *share;
    int32_t shares;                   /* room for */
    uint8_t *turn;                    /* [n][MB_SERVE_TURNS] */
    int32_t *turns, *row;             /* [n] */
    int64_t *pairs, *used;            /* [n] rows of experts; experts with rows */
    double *to_net, *from_net, *link; /* [nodes] [nodes] [n] bytes */
    struct mb_traffic_peer *peer;     /* [domains] */
    int32_t *touched;
};

/* ---------------------------------------------------------------- memory */

static void sim_fini(struct sim *s)
{
    void *all[] = {s->home,    s->node,   s->domain, s->node_of_domain, s->ids,
                   s->by,      s->first,  s->list,   s->popularity.sum, s->popularity.order,
                   s->scratch, s->share,  s->turn,   s->turns,          s->row,
                   s->pairs,   s->used,   s->to_net, s->from_net,       s->link,
                   s->peer,    s->touched};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static bool alloc_members(struct sim *s)
{
    size_t n = (size_t)s->n;

    s->home = calloc(n, sizeof *s->home);
    s->node = calloc(n, sizeof *s->node);
    s->domain = calloc(n, sizeof *s->domain);
    s->node_of_domain = calloc(n, sizeof *s->node_of_domain);
    s->turn = calloc(n, MB_SERVE_TURNS);
    s->turns = calloc(n, sizeof *s->turns);
    s->row = calloc(n, sizeof *s->row);
    s->pairs = calloc(n, sizeof *s->pairs);
    s->used = calloc(n, sizeof *s->used);
    s->to_net = calloc(n, sizeof *s->to_net);
    s->from_net = calloc(n, sizeof *s->from_net);
    s->link = calloc(n, sizeof *s->link);
    s->peer = calloc(n, sizeof *s->peer);
    s->touched = calloc(n, sizeof *s->touched);
    return s->home != NULL && s->node != NULL && s->domain != NULL && s->node_of_domain != NULL &&
           s->turn != NULL && s->turns != NULL && s->row != NULL && s->pairs != NULL && s->used != NULL &&
           s->to_net != NULL && s->from_net != NULL && s->link != NULL && s->peer != NULL &&
           s->touched != NULL;
}

static bool alloc_rows(struct sim *s)
{
    const struct mb_placement *pl = s->in->p->placement;
    size_t experts = (size_t)pl->experts, cells = (size_t)s->homes * (size_t)s->in->rows * (size_t)s->k + 1;

    s->shares = MB_SERVE_SHARES(s->n, s->n);
    s->ids = malloc(cells * sizeof *s->ids);
    s->by = malloc(cells * sizeof *s->by);
    s->list = malloc(cells * sizeof *s->list);
    s->first = calloc(experts + 1, sizeof *s->first);
    s->popularity.experts = pl->experts;
    s->popularity.sum = calloc(experts, sizeof *s->popularity.sum);
    s->popularity.order = calloc(experts, sizeof *s->popularity.order);
    s->scratch = calloc(2 * (size_t)s->n, sizeof *s->scratch);
    s->share = calloc((size_t)s->shares, sizeof *s->share);
    return s->ids != NULL && s->by != NULL && s->list != NULL && s->first != NULL &&
           s->popularity.sum != NULL && s->popularity.order != NULL && s->scratch != NULL && s->share != NULL;
}

static enum mb_status sim_init(const struct mb_sim_in *in, struct mb_sim *out, struct sim *s)
{
    const struct mb_layout *l = &in->p->layout;

    *s = (struct sim){.in = in, .out = out, .n = mb_layout_group(l), .k = in->shape.k};
    if (!alloc_members(s))
        return mb_error(MB_NO_MEMORY, "no memory to simulate %d ranks", (int)s->n);
    for (int32_t m = 0; m < s->n; m++) {
        struct mb_place at;
        mb_layout_place(l, m, &at);
        if (at.a >= 0)
            s->home[s->homes++] = m;
        s->node[m] = in->p->node_of[m] - in->p->node_of[0];
    }
    s->nodes = s->node[s->n - 1] + 1;
    s->domains = mb_alltoall_rows[in->p->alltoall].partition(s->node, s->n, s->domain);
    for (int32_t m = 0; m < s->n; m++)
        s->node_of_domain[s->domain[m]] = s->node[m];
    return alloc_rows(s)
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory to simulate %lld rows", (long long)(s->homes * in->rows));
}

/* ---------------------------------------------------------------- rows */

static void take_recorded(struct sim *s, int32_t lm)
{
    const struct mb_sim_in *in = s->in;
    const uint16_t *from = in->recorded + (int64_t)lm * in->recorded_rows * s->k;

    for (int64_t i = 0; i < s->homes * in->rows; i++) {
        const uint16_t *e = from + i % in->recorded_rows * s->k;
        int32_t *ids = s->ids + i * s->k;
        for (int32_t j = 0; j < s->k; j++) {
            int32_t to = j;
            for (; to > 0 && ids[to - 1] > e[j]; to--)
                ids[to] = ids[to - 1];
            ids[to] = e[j];
        }
    }
}

static void make_rows(struct sim *s, int32_t lm)
{
    const struct mb_sim_in *in = s->in;

    if (in->recorded != NULL) {
        take_recorded(s, lm);
        return;
    }
    mb_sim_popularity_make(&s->popularity, in->exponent, in->seed, lm);
    for (int32_t h = 0; h < s->homes; h++)
        for (int64_t r = 0; r < in->rows; r++) {
            const uint32_t key[3] = {(uint32_t)s->home[h], (uint32_t)r, (uint32_t)lm};
            mb_sim_draw(&s->popularity, s->k, in->seed, key, s->ids + ((int64_t)h * in->rows + r) * s->k);
        }
}

/* Places of each expert, in the order of homes and rows. */
static void list_places(struct sim *s)
{
    int32_t experts = s->in->p->placement->experts;
    int64_t cells = s->homes * s->in->rows * s->k;

    memset(s->first, 0, ((size_t)experts + 1) * sizeof *s->first);
    for (int64_t i = 0; i < cells; i++)
        s->first[s->ids[i] + 1]++;
    for (int32_t e = 0; e < experts; e++)
        s->first[e + 1] += s->first[e];
    memcpy(s->popularity.order, s->first, (size_t)experts * sizeof *s->popularity.order);
    for (int64_t i = 0; i < cells; i++)
        s->list[s->popularity.order[s->ids[i]]++] = (int32_t)i;
}

/* ---------------------------------------------------------------- who serves them */

static int32_t home_of(const struct sim *s, int32_t place)
{
    return s->home[place / (s->in->rows * s->k)];
}

/* Rows of an expert whose copies have quotas: the n-th of a home takes the home's n-th turn, as mb_serve_turn
 * says. */
static void by_turns(struct sim *s, const struct mb_serve *v, int32_t e)
{
    int32_t n = mb_serve_shares(v, e, s->scratch, s->scratch + s->n, s->share), last = -1, count = 0;

    memset(s->turns, 0, (size_t)s->n * sizeof *s->turns);
    for (int32_t i = 0; i < n; i++) {
        int32_t h = s->share[i].home;
        memset(s->turn + (int64_t)h * MB_SERVE_TURNS + s->turns[h], s->share[i].copy,
               (size_t)s->share[i].turns);
        s->turns[h] += s->share[i].turns;
    }
    for (int32_t i = s->first[e]; i < s->first[e + 1]; i++) {
        int32_t h = home_of(s, s->list[i]);
        count = h == last ? count + 1 : 0;
        last = h;
        s->by[s->list[i]] =
            v->member[v->first[e] + s->turn[(int64_t)h * MB_SERVE_TURNS + mb_serve_turn_at(h, count)]];
    }
}

static void serve(struct sim *s, const struct mb_serve *v)
{
    for (int32_t e = 0; e < v->ids; e++) {
        int32_t copies = v->first[e + 1] - v->first[e];
        if (s->first[e] == s->first[e + 1])
            continue;
        if (v->part != NULL && copies > 1) {
            by_turns(s, v, e);
            continue;
        }
        if (copies > 1)
            mb_serve_row(v, e, s->row);
        for (int32_t i = s->first[e]; i < s->first[e + 1]; i++)
            s->by[s->list[i]] = copies == 1 ? v->member[v->first[e]] : s->row[home_of(s, s->list[i])];
    }
}

/* Rows of experts of each member, and of how many experts. */
static void count_pairs(struct sim *s, int32_t experts)
{
    memset(s->pairs, 0, (size_t)s->n * sizeof *s->pairs);
    memset(s->used, 0, (size_t)s->n * sizeof *s->used);
    memset(s->row, 0xff, (size_t)s->n * sizeof *s->row);
    for (int32_t e = 0; e < experts; e++)
        for (int32_t i = s->first[e]; i < s->first[e + 1]; i++) {
            int32_t m = s->by[s->list[i]];
            s->pairs[m]++;
            s->used[m] += s->row[m] != e;
            s->row[m] = e;
        }
}

/* ---------------------------------------------------------------- messages */

/* What a home's messages to one domain carry. */
static void add_peer(struct sim *s, int32_t home, int32_t d, struct mb_traffic *dispatch,
                     struct mb_traffic *combine)
{
    const struct mb_exchange_shape *x = &s->in->shape;
    const struct mb_traffic_peer *q = &s->peer[d];
    int32_t a = s->node[home], b = s->node_of_domain[d];
    enum mb_link link = a != b ? MB_LINK_INTER : x->shm ? MB_LINK_SHM : MB_LINK_INTRA;
    int64_t row = mb_plan_dispatch_row_bytes(x->k, x->hidden, x->x_type, x->tagged,
                                             s->in->p->placement->quota != NULL),
            there = q->rows * row, back = q->value_bytes;

    mb_traffic_message(dispatch, link, there, x->eager_bytes);
    mb_traffic_message(combine, link, back, x->eager_bytes);
    if (a != b) {
        s->to_net[a] += (double)there;
        s->from_net[b] += (double)there;
        s->to_net[b] += (double)back;
        s->from_net[a] += (double)back;
    } else {
        s->link[home] += (double)(there + back);
    }
    s->out->reach += (double)q->rows;
}

/* Headers go to all domains of the group; those without rows are counted at once. */
static void add_headers(struct sim *s, int32_t home, struct mb_traffic *t)
{
    int32_t near = 0, me = s->domain[home];

    for (int32_t d = me; d >= 0 && s->node_of_domain[d] == s->node[home]; d--)
        near++;
    for (int32_t d = me + 1; d < s->domains && s->node_of_domain[d] == s->node[home]; d++)
        near++;
    enum mb_link link = s->in->shape.shm ? MB_LINK_SHM : MB_LINK_INTRA;
    int64_t count[2] = {near - 1, s->domains - near};
    for (int i = 0; i < 2; i++) {
        enum mb_link to = i == 0 ? link : MB_LINK_INTER;
        t->bytes[to] += count[i] * MB_XCHG_HEADER;
        t->messages[to] += count[i];
    }
}

/* A touched peer's header was counted with the others. */
static void less_header(struct mb_traffic *t, enum mb_link link)
{
    t->bytes[link] -= MB_XCHG_HEADER;
    t->messages[link]--;
}

static void add_home(struct sim *s, int32_t h, struct mb_traffic *dispatch, struct mb_traffic *combine)
{
    const struct mb_sim_in *in = s->in;
    int32_t home = s->home[h], touched = 0, at[MB_TRAFFIC_K];

    for (int64_t r = 0; r < in->rows; r++) {
        int64_t cell = ((int64_t)h * in->rows + r) * s->k;
        for (int32_t j = 0; j < s->k; j++)
            at[j] = s->domain[s->by[cell + j]];
        mb_traffic_row(&in->shape, s->ids + cell, at, s->k, s->domain[home], s->peer, s->touched, &touched);
    }
    for (int32_t i = 0; i < touched; i++) {
        int32_t d = s->touched[i];
        enum mb_link link = s->node_of_domain[d] != s->node[home] ? MB_LINK_INTER
                            : in->shape.shm                       ? MB_LINK_SHM
                                                                  : MB_LINK_INTRA;
        add_peer(s, home, d, dispatch, combine);
        less_header(dispatch, link);
        less_header(combine, link);
        s->peer[d] = (struct mb_traffic_peer){0, 0};
    }
}

static void count_traffic(struct sim *s)
{
    struct mb_traffic d = {{0}, {0}}, c = {{0}, {0}};

    memset(s->to_net, 0, (size_t)s->n * sizeof *s->to_net);
    memset(s->from_net, 0, (size_t)s->n * sizeof *s->from_net);
    memset(s->link, 0, (size_t)s->n * sizeof *s->link);
    for (int32_t h = 0; h < s->homes; h++)
        add_home(s, h, &d, &c);
    for (int32_t m = 0; m < s->n; m++) { /* members without rows send headers, too */
        add_headers(s, m, &d);
        add_headers(s, m, &c);
    }
    for (int i = 0; i < MB_LINK_COUNT; i++) {
        s->out->dispatch.bytes[i] += d.bytes[i] * s->in->p->layout.dp;
        s->out->dispatch.messages[i] += d.messages[i] * s->in->p->layout.dp;
        s->out->combine.bytes[i] += c.bytes[i] * s->in->p->layout.dp;
        s->out->combine.messages[i] += c.messages[i] * s->in->p->layout.dp;
    }
}

/* ---------------------------------------------------------------- a layer */

static double most_of(const double *v, int32_t n)
{
    double most = 0;

    for (int32_t i = 0; i < n; i++)
        most = v[i] > most ? v[i] : most;
    return most;
}

static void note_balance(struct sim *s)
{
    double most = 0, nodes = 0, fullest;
    int32_t holders = mb_layout_expert(&s->in->p->layout);

    for (int32_t m = 0; m < s->n; m++)
        most = (double)s->pairs[m] > most ? (double)s->pairs[m] : most;
    most *= (double)holders / (double)(s->homes * s->in->rows * s->k);
    s->out->shard_mean += most;
    s->out->shard_most = most > s->out->shard_most ? most : s->out->shard_most;
    for (int32_t i = 0; i < s->nodes; i++)
        nodes += s->to_net[i] / s->nodes;
    fullest = most_of(s->to_net, s->nodes);
    s->out->node_mean += nodes > 0 ? fullest / nodes : 0;
}

/* Seconds of the layer's exchange: the fullest node's network and the fullest member's link, one after the
 * other, a message after another, and the waits of auto's estimate (alltoall.c). */
static double exchange_seconds(const struct sim *s)
{
    const struct mb_cluster *c = s->in->cost->c;
    double net = most_of(s->to_net, s->nodes), in = most_of(s->from_net, s->nodes),
           link = most_of(s->link, s->n), sent = 2.0 * (s->domains - 1),
           speed = (c->net > 0 ? c->net : MB_ALLTOALL_NET) * MB_COST_WIRE;

    net = in > net ? in : net;
    return net / speed + link / (c->link * MB_COST_WIRE) + sent * MB_COST_POST +
           2 * (s->nodes > 1 ? c->net_wait : c->link_wait);
}

static double expert_seconds(const struct sim *s)
{
    double most = 0;

    for (int32_t m = 0; m < s->n; m++) {
        double t = mb_cost_experts(s->in->cost, (double)s->pairs[m], (double)s->used[m]);
        most = t > most ? t : most;
    }
    return most;
}

static enum mb_status one_layer(struct sim *s, int32_t stage, int32_t j, double *experts, double *exchange)
{
    const struct mb_plan *p = s->in->p;
    struct mb_serve *v = NULL;

    MB_TRY(mb_serve_create(p, s->in->m, 0, stage, j, &v));
    make_rows(s, mb_serve_layer(p, s->in->m, stage, j));
    list_places(s);
    serve(s, v);
    count_pairs(s, v->ids);
    count_traffic(s);
    note_balance(s);
    *experts += expert_seconds(s);
    *exchange += exchange_seconds(s);
    s->out->plan_bytes +=
        (int64_t)(sizeof *v + sizeof *v->first * ((size_t)v->ids + 1) +
                  (sizeof *v->member + (v->part != NULL) * sizeof *v->part) * (size_t)v->first[v->ids] +
                  (sizeof *v->node + (v->part != NULL) * sizeof *v->stage) * (size_t)v->members);
    if (v->part != NULL) /* the own turns (mb_serve_settle) */
        s->out->plan_bytes += v->ids * ((int64_t)sizeof *v->turns + MB_SERVE_TURNS);
    mb_serve_destroy(v);
    s->out->layers++;
    return MB_OK;
}

/* The slowest stage's times. */
static enum mb_status all_stages(struct sim *s)
{
    const struct mb_plan *p = s->in->p;
    double part[MB_COST_PARTS], rest;
    struct mb_cost_in in = *s->in->cost;

    in.no_experts = true;
    rest = mb_cost_stage(&in, s->in->step, part);
    for (int32_t stage = 0; stage < p->layout.pp; stage++) {
        double experts = 0, exchange = 0;
        for (int32_t j = 0; j < mb_serve_exchanges(p, s->in->m, stage); j++)
            MB_TRY(one_layer(s, stage, j, &experts, &exchange));
        if (experts + exchange + rest <= s->out->seconds)
            continue;
        s->out->experts = experts;
        s->out->exchange = exchange;
        s->out->rest = rest;
        s->out->seconds = experts + exchange + rest;
    }
    return MB_OK;
}

/* Every rank has the whole plan (plan.h). */
static int64_t plan_bytes(const struct mb_plan *p)
{
    const struct mb_placement *pl = p->placement;
    int64_t cells = (int64_t)pl->moe_layers * pl->experts, entries = pl->first[cells];

    return (int64_t)(sizeof *p + sizeof *pl) +
           p->layout.world * (int64_t)(sizeof *p->node_of + 3 * sizeof *p->total_bytes) +
           (cells + 1) * (int64_t)sizeof *pl->first +
           entries * (int64_t)(sizeof *pl->shard + (pl->quota != NULL) * sizeof *pl->quota) +
           2 * p->layout.pp * (int64_t)sizeof *p->kind;
}

enum mb_status mb_simulate(const struct mb_sim_in *in, struct mb_sim *out, char why[MB_LAYOUT_TEXT])
{
    struct mb_sim x = {.plan_bytes = plan_bytes(in->p)};
    struct sim s;

    if (in->p->layout.lane_scope)
        return mb_layout_no(why, "--simulate goes through the exchanges of a stage, and with --expert-scope "
                                 "lane stages share theirs");
    if (in->shape.k < 1 || in->shape.k > MB_TRAFFIC_K || in->p->placement->experts < in->shape.k)
        return mb_layout_no(why, "--simulate needs a model with experts, at most %d of a row", MB_TRAFFIC_K);
    enum mb_status st = sim_init(in, &x, &s);
    if (st == MB_OK)
        st = all_stages(&s);
    x.members = s.n;
    x.domains = s.domains;
    x.rows = s.homes * in->rows;
    x.pairs = x.rows * s.k;
    if (st == MB_OK && x.layers > 0) {
        x.shard_mean /= (double)x.layers;
        x.node_mean /= (double)x.layers;
        x.reach /= (double)(x.layers * x.rows);
        *out = x;
    }
    sim_fini(&s);
    return st;
}
