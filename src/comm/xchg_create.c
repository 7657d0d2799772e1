/* An exchange is made and taken apart. */
#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "comm/xchg_impl.h"

static int32_t machines(int32_t n, const struct mb_xchg_options *o)
{
    int32_t count = 1;

    for (int32_t i = 1; i < n; i++)
        count += o->node[i] != o->node[i - 1];
    return count;
}

/* All ranks must have been told the same. */
static enum mb_status same_options(struct mb_comm *c, const struct mb_xchg_options *o)
{
    int64_t v[] = {o->hidden,
                   o->k,
                   o->experts,
                   o->x_type,
                   o->y_type,
                   (int64_t)o->eager_bytes,
                   (int64_t)o->shm_bytes,
                   o->algorithm,
                   machines(c->size, o),
                   o->max_rows,
                   o->tagged,
                   o->chosen};
    enum { N = sizeof v / sizeof v[0] };
    int64_t both[2 * N];

    for (int i = 0; i < N; i++) {
        both[i] = v[i];
        both[N + i] = -v[i];
    }
    MB_TRY(mb_comm_max_i64(c, both, 2 * N, "exchange options"));
    for (int i = 0; i < N; i++)
        if (both[i] != -both[N + i])
            return mb_error(MB_BUG, "ranks disagree on option %d of the exchange: from %lld to %lld", i,
                            (long long)-both[N + i], (long long)both[i]);
    return MB_OK;
}

static enum mb_status check_options(int32_t n, const struct mb_xchg_options *o)
{
    if (o->hidden <= 0 || o->k < 0 || o->k > o->experts || o->k > MB_ROUTE_MAX_K ||
        o->experts > UINT16_MAX + 1 || n > UINT16_MAX || o->max_rows < 0 ||
        (o->algorithm != MB_A2A_FLAT && o->algorithm != MB_A2A_HIER))
        return mb_error(MB_BUG,
                        "exchange of %d ranks, hidden %lld, %d of %d experts, %lld rows, algorithm %d: "
                        "outside the limits",
                        n, (long long)o->hidden, o->k, o->experts, (long long)o->max_rows, (int)o->algorithm);
    if (o->max_rows > INT32_MAX)
        return mb_error(
            MB_LAYOUT,
            "%lld rows a step and member are more than an exchange can number; lower --max-batch-rows",
            (long long)o->max_rows);
    return MB_OK;
}

static void init_sizes(struct mb_xchg *x)
{
    const struct mb_xchg_options *o = &x->o;
    x->size.x = o->hidden * mb_dtype_size(o->x_type);
    x->size.y = o->hidden * mb_dtype_size(o->y_type);
    x->size.row = mb_plan_dispatch_row_bytes(o->k, o->hidden, o->x_type, o->tagged, o->chosen);
    /* The most that can lie behind a header; a buffer for more would never be filled. */
    uint64_t most = (uint64_t)mb_xchg_message(o->max_rows, o->k, o->hidden, x->size.row);
    x->size.eager = o->eager_bytes < most ? o->eager_bytes : most;
    x->rt.k = o->k;
    x->rt.ids = o->experts;
    x->rt.tagged = o->tagged;
    x->rt.chosen = o->chosen;
    x->rt.meta_bytes = mb_route_meta_bytes(o->k, o->tagged, o->chosen);
}

/* What the partition is made of. */
static enum mb_status init_cut(struct mb_xchg *x, int32_t n, int32_t me)
{
    int32_t *all = mb_zalloc(x->o.mem, MB_MEM_EXCHANGE, 3 * (size_t)n + 1, sizeof *all);

    if (all == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the tables of the exchange");
    x->machine = all;
    x->rt.cut = (struct mb_cut){.n = n, .me = me, .first = all + n, .of = all + 2 * n + 1};
    memcpy(x->machine, x->o.node, (size_t)n * sizeof *x->machine);
    x->o.node = NULL;
    return MB_OK;
}

static void partition(struct mb_xchg *x, enum mb_alltoall algorithm)
{
    x->algorithm = algorithm;
    mb_cut_make(&x->rt.cut, x->machine, &mb_alltoall_rows[algorithm]);
}

static void set_links(struct mb_xchg *x)
{
    const int32_t *machine = x->machine, me = x->rt.cut.me;
    bool shm = x->algorithm == MB_A2A_HIER || x->near.ring > 0;

    for (int32_t i = 0; i < x->rt.cut.n; i++)
        x->link[i] = i == me                     ? MB_LINK_SELF
                     : machine[i] != machine[me] ? MB_LINK_INTER
                     : shm                       ? MB_LINK_SHM
                                                 : MB_LINK_INTRA;
}

static bool sends_here(const struct mb_cut *c, int32_t s)
{
    return c->of[s] != c->mine && mb_cut_agent(c, s, c->mine) == c->me;
}

static void count_peers(struct mb_xchg *x)
{
    const struct mb_cut *c = &x->rt.cut;

    x->disp.n_in = 0;
    for (int32_t s = 0; s < c->n; s++)
        x->disp.n_in += sends_here(c, s);
    x->disp.n_out = x->comb.n_in = c->domains - 1;
    x->comb.n_out = x->disp.n_in;
}

/* Sources; and the other nodes' agents, next node first, so that not all begin with the same one. */
static void set_peers(struct mb_xchg *x)
{
    const struct mb_cut *c = &x->rt.cut;
    int32_t n = 0;

    for (int32_t s = 0; s < c->n; s++) {
        if (!sends_here(c, s))
            continue;
        x->disp.in[n].from = s;
        x->comb.out[n++].to = s;
    }
    for (int32_t d = 1; d < c->domains; d++)
        x->disp.out[d - 1].to = x->comb.in[d - 1].from = mb_cut_agent(c, c->me, (c->mine + d) % c->domains);
}

static int64_t widest(const struct mb_cut *c)
{
    int32_t most = 1;

    for (int32_t b = 0; b < c->domains; b++)
        most = mb_cut_count(c, b) > most ? mb_cut_count(c, b) : most;
    return most;
}

/* The planned shape, as the partition came out; without a plan, of a member that may be sent everything. */
static struct mb_xchg_shape shape_of(const struct mb_xchg *x)
{
    const struct mb_xchg_options *o = &x->o;
    const struct mb_cut *c = &x->rt.cut;
    int64_t rows = o->max_rows;
    struct mb_xchg_shape s = {
        .holders = 1, .own = rows, .each = rows, .rows = rows * c->n, .others = rows * (c->n - 1)};

    s.pairs = s.rows * o->k;
    s.pairs_each = rows * o->k;
    if (o->shape != NULL)
        s = *o->shape;
    if (o->shape != NULL && c->domains != s.nodes)
        s.holders = c->domains; /* went flat */
    s.members = c->n;
    s.ids = o->experts;
    s.nodes = c->domains;
    s.near = mb_cut_near(c);
    s.widest = widest(c);
    s.together = x->near.n;
    s.k = o->k;
    s.hidden = o->hidden;
    s.x_size = mb_dtype_size(o->x_type);
    s.y_size = mb_dtype_size(o->y_type);
    s.tagged = o->tagged;
    s.chosen = o->chosen;
    s.eager = (int64_t)x->size.eager;
    return s;
}

/* Buffers, messages and tables, once the partition stands. */
static enum mb_status init_parts(struct mb_xchg *x)
{
    struct mb_xchg_shape s = shape_of(x);

    count_peers(x);
    MB_TRY(mb_xchg_rooms(x, &s));
    set_links(x);
    set_peers(x);
    enum mb_status st = mb_net_init(x, &x->disp, 0);
    if (st == MB_OK)
        st = mb_net_init(x, &x->comb, 1);
    return st == MB_OK ? st : mb_error(st, "no memory for the messages of the exchange");
}

/* hier that cannot have its segments everywhere becomes flat everywhere. */
static enum mb_status init_node(struct mb_xchg *x)
{
    char why[MB_SHM_WHY] = "";
    enum mb_status st;

    partition(x, x->o.algorithm);
    st = mb_node_init(x, why);
    if (x->algorithm == MB_A2A_FLAT && st == MB_OK)
        return mb_near_init(x);
    if (st != MB_NO_SPACE && st != MB_IO)
        return st;
    if (x->rt.cut.me == 0)
        mb_warn("--alltoall hier goes flat: no shared segment of %llu KiB a node (--shm-size): %s",
                (unsigned long long)(x->o.shm_bytes >> 10), why);
    mb_node_fini(x);
    partition(x, MB_A2A_FLAT);
    return mb_node_init(x, why);
}

/* What each member has room for. */
static enum mb_status share_quotas(struct mb_xchg *x)
{
    struct mb_xchg_quota *all = calloc((size_t)x->rt.cut.n, sizeof *all);
    enum mb_status st =
        all != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the tables of the exchange");

    st = mb_comm_agree(x->c, st, "exchange");
    if (st == MB_OK)
        st = mb_comm_allgather(x->c, &x->buf.room.quota, sizeof x->buf.room.quota, all,
                               "room of the exchange");
    if (st == MB_OK)
        mb_route_init(&x->rt, all, x->buf.room.back);
    free(all);
    return st;
}

static enum mb_status init(struct mb_xchg *x, const struct mb_xchg_options *o, int32_t n, int32_t me)
{
    x->o = *o;
    MB_TRY(check_options(n, o));
    MB_TRY(init_cut(x, n, me));
    init_sizes(x);
    return MB_OK;
}

enum mb_status mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o, struct mb_xchg **out)
{
    struct mb_xchg *x = calloc(1, sizeof *x);
    enum mb_status st =
        x != NULL ? init(x, o, c->size, c->rank) : mb_error(MB_NO_MEMORY, "no memory for the exchange");

    if (x != NULL)
        x->c = c;
    st = mb_comm_agree(c, st, "exchange");
    if (st == MB_OK)
        st = same_options(c, o);
    if (st == MB_OK)
        st = init_node(x);
    if (st == MB_OK)
        st = mb_comm_agree(c, init_parts(x), "exchange");
    if (st == MB_OK)
        st = share_quotas(x);
    if (st != MB_OK) {
        mb_xchg_destroy(x);
        return st;
    }
    x->o.shape = NULL;
    *out = x;
    return MB_OK;
}

enum mb_status mb_xchg_create_alone(const struct mb_xchg_options *o, const struct mb_xchg_alone *a,
                                    struct mb_xchg **out)
{
    struct mb_xchg *x = calloc(1, sizeof *x);
    enum mb_status st =
        x != NULL ? init(x, o, a->members, a->me) : mb_error(MB_NO_MEMORY, "no memory for the exchange");

    if (st == MB_OK) {
        x->o.loop = a->loop;
        partition(x, o->algorithm);
        st = mb_node_tables(x);
    }
    if (st == MB_OK && x->algorithm == MB_A2A_HIER)
        mb_node_lend(x, a->segment);
    else if (st == MB_OK && a->segment != NULL)
        mb_near_lend(x, a->segment);
    if (st == MB_OK)
        st = init_parts(x);
    if (st != MB_OK) {
        mb_xchg_destroy(x);
        return st;
    }
    mb_route_init(&x->rt, a->quota, x->buf.room.back);
    x->o.shape = NULL;
    *out = x;
    return MB_OK;
}

/* After an operation that could not be completed, what has not arrived is taken back; memory that could still
 * be read or written stays, for the job is ending. */
static bool quiet(struct net *net)
{
    return net->port.kind == NULL || net->port.kind->cancel(&net->port);
}

void mb_xchg_destroy(struct mb_xchg *x)
{
    if (x == NULL)
        return;
    bool none = quiet(&x->disp);
    none &= quiet(&x->comb);
    mb_node_fini(x);
    if (none) {
        mb_net_fini(&x->disp);
        mb_net_fini(&x->comb);
        mb_xchg_rooms_fini(x);
    }
    mb_near_fini(x);
    mb_free(x->machine);
    free(x);
}
