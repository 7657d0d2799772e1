/* Exchanges, again and again: ours by each algorithm, and MPI's with the same bytes. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench_a2a.h"
#include "base/clock.h"
#include "base/log.h"
#include "comm/plain.h"
#include "plan/alltoall.h"

#define SAMPLE_SECONDS 0.002 /* a sample is as many calls as take this long */
#define MOST_CALLS 10000
#define WARM 3

/* What is measured at one number of tokens: a call of it, adding the seconds of its parts. */
struct subject {
    struct mb_a2a *a;
    struct mb_a2a_case *q;
    int64_t tokens;
    enum mb_status (*call)(struct subject *s, double seconds[2]);
    /* ours */
    struct mb_xchg *x;
    int32_t rounds;
    /* MPI's */
    int64_t *out[2], *in[2]; /* [ranks] bytes to and from each, of dispatch and combine */
    uint8_t *send, *recv;
    uint64_t room;
};

/* ---------------------------------------------------------------- ours */
static enum mb_status room_for(const struct mb_a2a *a, struct mb_a2a_case *q, int64_t rows)
{
    if (rows <= q->y_rows)
        return MB_OK;
    a->app.ops->buf_free(q->y);
    q->y = NULL;
    q->y_rows = 0;
    MB_TRY(a->app.ops->buf_alloc(a->app.dev, MB_MEM_ACTIVATIONS,
                                 (uint64_t)(rows * q->hidden * mb_dtype_size(a->type)), &q->y));
    q->y_rows = rows;
    return MB_OK;
}

/* The experts' work is left out: what they would return lies in y. */
static enum mb_status combine(struct subject *s, const struct mb_dispatched *d, struct mb_view out)
{
    struct mb_a2a_case *q = s->q;
    enum mb_status st = room_for(s->a, q, d->rows);
    struct mb_view y = MB_NO_VIEW;

    if (st == MB_OK && q->y != NULL)
        y = mb_view_of(q->y, 0, d->rows, q->hidden, s->a->type);
    else if (st == MB_OK)
        y = mb_view_rows(mb_view_of(q->x, 0, q->most, q->hidden, s->a->type), 0, 0);
    if (st != MB_OK)
        mb_xchg_fail(s->x, st);
    enum mb_status got = mb_xchg_combine(s->x, y, out);
    return st != MB_OK ? st : got;
}

static enum mb_status exchange(struct subject *s, double seconds[2])
{
    struct mb_a2a_case *q = s->q;
    struct mb_xchg_head mine = {.step = ++q->step};
    struct mb_xchg_rows in = {.x = mb_view_of(q->x, 0, s->tokens, q->hidden, s->a->type),
                              .experts = q->route,
                              .weights = q->weight};
    struct mb_view out = mb_view_of(q->sum, 0, s->tokens, q->hidden, MB_F32);
    struct mb_dispatched d;

    for (bool first = true;; first = false) {
        double t = mb_now();
        MB_TRY(first ? mb_xchg_dispatch(s->x, q->serve, &mine, &in, &d) : mb_xchg_again(s->x, &mine, &d));
        double u = mb_now();
        seconds[0] += u - t;
        MB_TRY(combine(s, &d, out));
        seconds[1] += mb_now() - u;
        s->rounds = d.rounds;
        if (d.round + 1 >= d.rounds)
            return MB_OK;
    }
}

/* ---------------------------------------------------------------- MPI's */
static enum mb_status plain(struct subject *s, double seconds[2])
{
    double t = mb_now();
    MB_TRY(mb_plain_alltoallv(s->a->group, s->send, s->out[0], s->recv, s->room, s->in[0], true));
    double u = mb_now();
    seconds[0] += u - t;
    MB_TRY(mb_plain_alltoallv(s->a->group, s->send, s->out[1], s->recv, s->room, s->in[1], false));
    seconds[1] += mb_now() - u;
    return MB_OK;
}

/* ---------------------------------------------------------------- samples */
/* Calls of a sample: the same on all ranks. */
static enum mb_status warm_up(struct subject *s, int64_t *calls)
{
    double parts[2], once = 0;

    for (int i = 0; i < WARM; i++) {
        parts[0] = parts[1] = 0;
        MB_TRY(s->call(s, parts));
        once = parts[0] + parts[1];
    }
    int64_t us = (int64_t)(once * 1e6) + 1;
    MB_TRY(mb_comm_max_i64(s->a->group, &us, 1, "the time of an exchange"));
    *calls = (int64_t)(SAMPLE_SECONDS * 1e6) / us + 1;
    *calls = *calls < MOST_CALLS ? *calls : MOST_CALLS;
    return MB_OK;
}

static enum mb_status sample(struct subject *s, struct mb_a2a_times *out, int64_t *calls)
{
    MB_TRY(warm_up(s, calls));
    for (int r = 0; r < s->a->repeats; r++) {
        double parts[2] = {0, 0};
        MB_TRY(mb_comm_barrier(s->a->group, "the start of a sample"));
        double t = mb_now();
        for (int64_t i = 0; i < *calls; i++)
            MB_TRY(s->call(s, parts));
        out->v[r][MB_A2A_BOTH] = (mb_now() - t) / (double)*calls;
        out->v[r][MB_A2A_DISPATCH] = parts[0] / (double)*calls;
        out->v[r][MB_A2A_COMBINE] = parts[1] / (double)*calls;
    }
    return MB_OK;
}

/* What a rank tells rank 0. Flat. */
struct told {
    struct mb_a2a_times times;
    struct mb_a2a_moved moved, formula;
};

/* Rank 0 adds what all ranks tell. Collective. */
static enum mb_status report(struct subject *s, const struct told *mine, struct mb_a2a_found *f,
                             bool with_formula)
{
    size_t n = (size_t)s->a->app.size;
    struct told *all = calloc(n, sizeof *all);
    struct mb_a2a_times *times = calloc(n, sizeof *times);
    struct mb_a2a_moved *moved = calloc(n, sizeof *moved), *formula = calloc(n, sizeof *formula);
    bool ok = all != NULL && times != NULL && moved != NULL && formula != NULL;
    enum mb_status st =
        mb_comm_agree(s->a->group, ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for times"), "times");

    if (st == MB_OK)
        st = mb_comm_allgather(s->a->group, mine, sizeof *mine, all, "times");
    for (size_t r = 0; r < n && st == MB_OK; r++) {
        times[r] = all[r].times;
        moved[r] = all[r].moved;
        formula[r] = all[r].formula;
    }
    f->times = times;
    f->moved = moved;
    f->formula = with_formula ? formula : NULL;
    f->tokens = s->tokens;
    if (st == MB_OK && s->a->out != NULL)
        mb_a2a_add(s->a, s->q, f);
    free(all);
    free(times);
    free(moved);
    free(formula);
    return st;
}

/* ---------------------------------------------------------------- an algorithm */
static void moved_since(const struct mb_xchg *x, const struct mb_xchg_counts *b, int64_t calls,
                        struct mb_a2a_moved *out)
{
    struct mb_xchg_counts c;

    mb_xchg_counts(x, &c);
    for (int l = 0; l < MB_LINK_COUNT; l++) {
        out->bytes[0][l] = (c.dispatch_bytes[l] - b->dispatch_bytes[l]) / calls;
        out->bytes[1][l] = (c.combine_bytes[l] - b->combine_bytes[l]) / calls;
        out->messages[0][l] = (c.dispatch_messages[l] - b->dispatch_messages[l]) / calls;
        out->messages[1][l] = (c.combine_messages[l] - b->combine_messages[l]) / calls;
    }
}

static struct mb_exchange_shape shape_of(const struct mb_a2a *a, const struct mb_a2a_case *q)
{
    return (struct mb_exchange_shape){.k = q->k,
                                      .hidden = q->hidden,
                                      .x_type = a->type,
                                      .y_type = a->type,
                                      .eager_bytes = (uint64_t)a->app.conf->a2a_eager};
}

/* By the formulas of the plan: dispatch is what this rank sends, combine what comes back to it. */
static enum mb_status expected(const struct mb_a2a *a, const struct mb_a2a_case *q, int64_t tokens, bool shm,
                               struct mb_a2a_moved *out)
{
    struct mb_exchange_shape e = shape_of(a, q);
    struct mb_traffic d, c;

    e.shm = shm;
    MB_TRY(mb_plan_traffic(&q->p, 0, a->index, &e, q->route, tokens, &d, &c));
    memcpy(out->bytes[0], d.bytes, sizeof d.bytes);
    memcpy(out->bytes[1], c.bytes, sizeof c.bytes);
    memcpy(out->messages[0], d.messages, sizeof d.messages);
    memcpy(out->messages[1], c.messages, sizeof c.messages);
    return MB_OK;
}

static enum mb_status one_size(struct subject *s, const char *name, bool chosen)
{
    struct told mine;
    struct mb_a2a_found f = {.algorithm = name, .chosen = chosen};
    struct mb_xchg_counts before;
    int64_t calls = 1;

    memset(&mine, 0, sizeof mine);
    mb_xchg_counts(s->x, &before);
    enum mb_status st = sample(s, &mine.times, &calls);
    if (st != MB_OK)
        mb_comm_end(s->a->app.comm, st); /* the others wait in the exchange */
    moved_since(s->x, &before, WARM + calls * s->a->repeats, &mine.moved);
    int64_t *b = mine.moved.bytes[0];
    bool shm = mb_xchg_algorithm(s->x) != MB_A2A_HIER && b[MB_LINK_SHM] > 0;
    MB_TRY(mb_comm_agree(s->a->group, expected(s->a, s->q, s->tokens, shm, &mine.formula),
                         "the formulas of an exchange"));
    f.rounds = s->rounds;
    return report(s, &mine, &f, true);
}

/* What auto takes where all steps have so many tokens of each rank. */
static enum mb_alltoall by_auto(const struct mb_a2a *a, const struct mb_a2a_case *q, int64_t tokens)
{
    struct mb_cluster speeds;

    mb_cluster_of_job(a->app.topo, &speeds);
    const struct mb_alltoall_case c = {.m = &q->m,
                                       .l = &q->p.layout,
                                       .c = &speeds,
                                       .nodes = a->app.topo->nodes,
                                       .path = a->type,
                                       .rows = (int32_t)tokens,
                                       .seqs = (int32_t)tokens};
    return mb_alltoall_rows[MB_A2A_AUTO].resolve(&c);
}

static enum mb_status algorithm(struct mb_a2a *a, struct mb_a2a_case *q, enum mb_alltoall kind)
{
    struct subject s = {.a = a, .q = q, .call = exchange};
    const struct mb_plan_options o = {.path = a->type,
                                      .kv_dtype = a->type,
                                      .shm_bytes = (uint64_t)a->app.conf->shm_size,
                                      .eager_bytes = (uint64_t)a->app.conf->a2a_eager};
    struct mb_rooms rooms;

    q->p.alltoall = kind;
    MB_TRY(mb_comm_agree(a->group, mb_plan_rooms(&q->p, &q->m, a->app.topo, &o, a->index, &rooms),
                         "the rooms of an exchange"));
    struct mb_xchg_options x = {.ops = a->app.ops,
                                .dev = a->app.dev,
                                .stream = a->stream,
                                .mem = &a->app.mem,
                                .node = a->node_of,
                                .algorithm = kind,
                                .hidden = q->hidden,
                                .k = q->k,
                                .experts = q->experts,
                                .x_type = a->type,
                                .y_type = a->type,
                                .max_rows = q->most,
                                .shm_bytes = o.shm_bytes,
                                .eager_bytes = o.eager_bytes,
                                .shape = &rooms.shape};
    MB_TRY(mb_xchg_create(a->group, &x, &s.x));
    const char *name = mb_alltoall_rows[mb_xchg_algorithm(s.x)].name;
    enum mb_status st = MB_OK;
    if (kind == MB_A2A_HIER && mb_xchg_algorithm(s.x) != kind)
        kind = MB_A2A_AUTO; /* it fell back: flat is measured by itself */
    for (int i = 0; i < a->tokens.n && st == MB_OK && kind != MB_A2A_AUTO; i++) {
        s.tokens = a->tokens.v[i];
        st = one_size(&s, name, kind == by_auto(a, q, s.tokens));
    }
    mb_xchg_destroy(s.x);
    return st;
}

/* ---------------------------------------------------------------- MPI_Alltoallv */
static void plain_fini(struct subject *s)
{
    for (int i = 0; i < 2; i++) {
        free(s->out[i]);
        free(s->in[i]);
    }
    mb_free(s->send);
    mb_free(s->recv);
}

static int64_t sum(const int64_t *v, int n)
{
    int64_t s = 0;
    for (int i = 0; i < n; i++)
        s += v[i];
    return s;
}

/* The bytes that flat sends without headers: rows to each rank, and the values that come back from it. */
static enum mb_status plain_sizes(struct subject *s)
{
    const struct mb_a2a *a = s->a;
    struct mb_exchange_shape e = shape_of(a, s->q);

    for (int i = 0; i < 2; i++) {
        s->out[i] = calloc((size_t)a->app.size, sizeof *s->out[i]);
        s->in[i] = calloc((size_t)a->app.size, sizeof *s->in[i]);
        if (s->out[i] == NULL || s->in[i] == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for counts");
    }
    return mb_plan_traffic_to(&s->q->p, 0, a->index, &e, s->q->route, s->tokens, s->out[0], s->in[1]);
}

/* What others get and send: all tell all. Collective. */
static enum mb_status plain_swap(struct subject *s)
{
    int n = s->a->app.size;
    int64_t *all = calloc((size_t)n * (size_t)n, sizeof *all);
    enum mb_status st = mb_comm_agree(
        s->a->group, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counts") : MB_OK, "counts");

    for (int i = 0; i < 2 && st == MB_OK; i++) {
        const int64_t *mine = i == 0 ? s->out[0] : s->in[1];
        int64_t *theirs = i == 0 ? s->in[0] : s->out[1];
        st = mb_comm_allgather(s->a->group, mine, (uint64_t)n * sizeof *mine, all, "counts");
        for (int r = 0; r < n && st == MB_OK; r++)
            theirs[r] = all[(size_t)r * (size_t)n + (size_t)s->a->index];
    }
    free(all);
    return st;
}

static void plain_moved(const struct subject *s, struct mb_a2a_moved *out)
{
    const struct mb_a2a *a = s->a;

    for (int i = 0; i < 2; i++)
        for (int r = 0; r < a->app.size; r++) {
            enum mb_link l = r == a->index                           ? MB_LINK_SELF
                             : a->node_of[r] == a->node_of[a->index] ? MB_LINK_INTRA
                                                                     : MB_LINK_INTER;
            out->bytes[i][l] += s->out[i][r];
            out->messages[i][l] += s->out[i][r] > 0 && l != MB_LINK_SELF;
        }
}

/* Collective. */
static enum mb_status plain_size(struct subject *s)
{
    int n = s->a->app.size;
    struct told mine;
    struct mb_a2a_found f = {.algorithm = "MPI_Alltoallv", .rounds = 1};
    int64_t calls;

    memset(&mine, 0, sizeof mine);
    MB_TRY(mb_comm_agree(s->a->group, plain_sizes(s), "the sizes of MPI_Alltoallv"));
    MB_TRY(plain_swap(s));
    int64_t most = 0;
    for (int i = 0; i < 2; i++) {
        most = sum(s->out[i], n) > most ? sum(s->out[i], n) : most;
        most = sum(s->in[i], n) > most ? sum(s->in[i], n) : most;
    }
    MB_TRY(mb_comm_max_i64(s->a->group, &most, 1, "the sizes of MPI_Alltoallv"));
    if (most > INT_MAX)
        return MB_OK; /* more than its counts can say */
    s->room = (uint64_t)most;
    s->send = mb_zalloc(&s->a->app.mem, MB_MEM_EXCHANGE, (size_t)most + 1, 1);
    s->recv = mb_zalloc(&s->a->app.mem, MB_MEM_EXCHANGE, (size_t)most + 1, 1);
    bool ok = s->send != NULL && s->recv != NULL;
    MB_TRY(mb_comm_agree(s->a->group, ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for MPI_Alltoallv"),
                         "MPI_Alltoallv"));
    enum mb_status st = sample(s, &mine.times, &calls);
    if (st != MB_OK)
        mb_comm_end(s->a->app.comm, st);
    plain_moved(s, &mine.moved);
    return report(s, &mine, &f, false);
}

enum mb_status mb_a2a_measure(struct mb_a2a *a, struct mb_a2a_case *q)
{
    const char *asked = a->app.conf->alltoall;
    enum mb_status st = MB_OK;

    if (strcmp(asked, "hier") != 0)
        st = algorithm(a, q, MB_A2A_FLAT);
    if (st == MB_OK && strcmp(asked, "flat") != 0)
        st = algorithm(a, q, MB_A2A_HIER);
    q->p.alltoall = MB_A2A_FLAT;
    for (int i = 0; i < a->tokens.n && st == MB_OK; i++) {
        struct subject s = {.a = a, .q = q, .tokens = a->tokens.v[i], .call = plain};
        st = plain_size(&s);
        plain_fini(&s);
    }
    return st;
}
