#include "comm/xchg_impl.h"

#include <limits.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/wait.h"

#define EAGER_MAX ((uint64_t)1 << 30)

/* ---------------------------------------------------------------- memory that grows */
static uint64_t grown(uint64_t have, uint64_t need)
{
    return need > have + have / 2 ? mb_up64(need) : mb_up64(have + have / 2);
}

static _Noreturn void no_memory(struct mb_xchg *x, uint64_t bytes)
{
    mb_error(MB_NO_MEMORY, "no memory for %llu bytes of the exchange; fewer rows a step (--max-num-seqs) need less",
             (unsigned long long)bytes);
    mb_comm_end(x->c, MB_NO_MEMORY);
}

void *mb_xchg_room(struct mb_xchg *x, struct vec *v, uint64_t n, uint64_t size)
{
    uint64_t need = n * size;

    if (v->p == NULL || need > v->bytes) {
        uint64_t bytes = grown(v->bytes, need);
        void *p = mb_grow(x->o.mem, MB_MEM_EXCHANGE, v->p, bytes, 1);
        if (p == NULL)
            no_memory(x, bytes);
        v->p = p;
        v->bytes = bytes;
    }
    return v->p;
}

uint8_t *mb_xchg_host(struct mb_xchg *x, struct hostbuf *h, uint64_t bytes)
{
    if (h->p == NULL || bytes > h->bytes) {
        uint64_t want = grown(h->bytes, bytes);
        void *p = NULL;
        x->o.ops->host_free(x->o.dev, h->p);
        h->p = NULL;
        if (x->o.ops->host_alloc(x->o.dev, want, &p) != MB_OK)
            no_memory(x, want);
        h->p = p;
        h->bytes = want;
    }
    return h->p;
}

struct mb_buf *mb_xchg_dev(struct mb_xchg *x, struct devbuf *d, uint64_t bytes, uint64_t keep)
{
    const struct mb_ops *ops = x->o.ops;

    if (d->buf == NULL || bytes > d->bytes) {
        struct devbuf new = {NULL, grown(d->bytes, bytes)};
        mb_xchg_must(x, ops->buf_alloc(x->o.dev, MB_MEM_EXCHANGE, new.bytes, &new.buf));
        if (d->buf != NULL && keep > 0)
            mb_xchg_must(x, ops->copy(x->o.stream, mb_view_of(new.buf, 0, 1, (int64_t)keep, MB_U8),
                                      mb_view_of(d->buf, 0, 1, (int64_t)keep, MB_U8)));
        if (d->buf != NULL)
            mb_xchg_must(x, ops->sync(x->o.stream)); /* nothing under way reads what is freed */
        ops->buf_free(d->buf);
        *d = new;
    }
    return d->buf;
}

void mb_xchg_must(struct mb_xchg *x, enum mb_status st)
{
    if (st != MB_OK)
        mb_comm_end(x->c, st);
}

/* ---------------------------------------------------------------- one operation */
static const char *op_name(int32_t op)
{
    static const char *const names[] = {"?", "dispatch", "combine", "step"};

    return names[op >= XOP_DISPATCH && op <= XOP_STEP ? op : 0];
}

static void set_head(struct mb_xchg *x, const struct xhead *h)
{
    x->heads[h->from] = (struct mb_xchg_head){h->step, h->layer, h->op, (enum mb_status)h->status, h->flags, h->total};
}

void mb_xchg_begin(struct mb_xchg *x, enum xop op, const struct mb_xchg_head *mine, int64_t rows)
{
    mb_wait_begin(x->c);
    x->failed = MB_OK;
    x->mine = (struct xhead){.version = XCHG_VERSION, .op = (int32_t)op, .step = mine->step, .layer = mine->layer,
                             .status = (uint32_t)mine->status, .flags = mine->flags, .from = x->me, .total = rows};
    if (op != XOP_COMBINE) {
        memset(x->heads, 0, (size_t)x->n * sizeof *x->heads);
        set_head(x, &x->mine);
    }
    mb_node_begin(x);
}

/* A member that has failed goes on to tell the others, who may be in the middle of something: no bug. */
static void out_of_step(struct mb_xchg *x, const struct xhead *h)
{
    const struct xhead *own = &x->mine;

    if (x->failed != MB_OK)
        return;
    x->failed = h->status != MB_OK || own->status != MB_OK ? MB_PEER : MB_BUG;
    if (x->failed == MB_BUG)
        mb_error(MB_BUG, "ranks are out of step: rank %d is in %s, step %lld, layer %d; rank %d in %s, step %lld, layer %d",
                 mb_xchg_rank(x, h->from), op_name(h->op), (long long)h->step, h->layer, mb_xchg_rank(x, x->me), op_name(own->op),
                 (long long)own->step, own->layer);
    else if (h->status != MB_OK && (x->me == 0 || h->op != own->op))
        mb_error(MB_PEER, "rank %d left %s, step %lld, layer %d, with \"%s\"; its own message says why", mb_xchg_rank(x, h->from),
                 op_name(own->op), (long long)own->step, own->layer, mb_status_name((enum mb_status)h->status));
}

void mb_xchg_told(struct mb_xchg *x, uint32_t status)
{
    if (status > (uint32_t)x->told)
        x->told = (enum mb_status)status;
}

bool mb_xchg_check(struct mb_xchg *x, const struct xhead *h)
{
    const struct xhead *own = &x->mine;

    if (h->version != XCHG_VERSION || h->from < 0 || h->from >= x->n) {
        x->failed = mb_error(MB_BUG, "an exchange header of version %u from member %d was received in %s, step %lld: all "
                             "ranks must run the same program", h->version, h->from, op_name(own->op), (long long)own->step);
        return false;
    }
    if (h->op != own->op || h->step != own->step || h->layer != own->layer) {
        out_of_step(x, h);
        if (h->op != own->op)
            return false;
    }
    if (h->op == XOP_COMBINE)
        mb_xchg_told(x, h->status);
    if (h->op != XOP_COMBINE)
        set_head(x, h);
    return true;
}

enum mb_status mb_xchg_wait(struct mb_xchg *x, bool (*ready)(void *))
{
    struct mb_wait_for w = {op_name(x->mine.op), NULL, x->mine.step, x->mine.layer};
    double t = mb_now();
    enum mb_status st = mb_wait_until(x->c, &w, ready, x);

    x->counts.seconds_wait += mb_now() - t;
    return st;
}

/* ---------------------------------------------------------------- who talks to whom */
/* Member i of node a talks to member (i + a) mod n_b of node b. */
int32_t mb_xchg_agent(const struct mb_xchg *x, int32_t node)
{
    int32_t i = x->me - x->node_first[x->my_node], n = x->node_first[node + 1] - x->node_first[node];

    return x->node_first[node] + (i + x->my_node) % n;
}

static int32_t list_sources(const struct mb_xchg *x, int32_t *from)
{
    int32_t own = x->node_first[x->my_node], nn = x->node_first[x->my_node + 1] - own, n = 0;

    for (int32_t s = 0; s < x->n; s++) {
        int32_t a = x->node_of[s];
        if (a != x->my_node && own + (s - x->node_first[a] + a) % nn == x->me)
            from[n++] = s;
    }
    return n;
}

/* The other nodes' agents, next node first, so that not all begin with the same one. */
static int32_t list_agents(const struct mb_xchg *x, int32_t *to)
{
    for (int32_t d = 1; d < x->n_nodes; d++)
        to[d - 1] = mb_xchg_agent(x, (x->my_node + d) % x->n_nodes);
    return x->n_nodes - 1;
}

static bool init_nets(struct mb_xchg *x)
{
    int32_t *from = malloc((size_t)x->n * sizeof *from), *to = malloc((size_t)x->n * sizeof *to);
    bool ok = from != NULL && to != NULL;

    if (ok) {
        int32_t n_from = list_sources(x, from), n_to = list_agents(x, to);
        ok = mb_net_init(x, &x->disp, from, n_from, to, n_to) && mb_net_init(x, &x->comb, to, n_to, from, n_from);
    }
    free(from);
    free(to);
    return ok;
}

/* Flat: every member a node. Hier: the machine's nodes (members are in topology order, so a node's are consecutive). */
static void partition(struct mb_xchg *x, enum mb_alltoall algorithm)
{
    const int32_t *node = x->machine;

    x->algorithm = algorithm;
    x->n_nodes = 0;
    for (int32_t i = 0; i < x->n; i++) {
        if (i == 0 || algorithm == MB_A2A_FLAT || node[i] != node[i - 1])
            x->node_first[x->n_nodes++] = i;
        x->node_of[i] = x->n_nodes - 1;
    }
    x->node_first[x->n_nodes] = x->n;
    x->my_node = x->node_of[x->me];
    for (int32_t i = 0; i < x->n; i++) {
        bool near = node[i] == node[x->me];
        x->link[i] = i == x->me ? MB_LINK_SELF : !near ? MB_LINK_INTER : algorithm == MB_A2A_HIER ? MB_LINK_SHM : MB_LINK_INTRA;
    }
}

/* ---------------------------------------------------------------- create, destroy */
static int32_t machines(const struct mb_comm *c, const struct mb_xchg_options *o)
{
    int32_t n = 1;

    for (int32_t i = 1; i < c->size; i++)
        n += o->node[i] != o->node[i - 1];
    return n;
}

/* All ranks must have been told the same. */
static enum mb_status same_options(struct mb_comm *c, const struct mb_xchg_options *o)
{
    int64_t v[] = {o->hidden, o->k, o->experts, o->x_type, o->y_type, (int64_t)o->eager_bytes, (int64_t)o->shm_bytes,
                   o->algorithm, machines(c, o), o->max_rows, o->tagged};
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

static enum mb_status check_options(struct mb_comm *c, const struct mb_xchg_options *o)
{
    int64_t row = o->hidden * 4 * (o->k > 0 ? o->k : 1) + 64;

    if (o->hidden <= 0 || o->k < 0 || o->k > o->experts || o->k > XCHG_MAX_K || o->experts > UINT16_MAX + 1 ||
        o->max_rows < 0 || (o->algorithm != MB_A2A_FLAT && o->algorithm != MB_A2A_HIER))
        return mb_error(MB_BUG, "exchange of %d ranks, hidden %lld, %d of %d experts, %lld rows, algorithm %d: "
                        "outside the limits", c->size, (long long)o->hidden, o->k, o->experts,
                        (long long)o->max_rows, (int)o->algorithm);
    /* A message is counted in units of 4 bytes by an int, rows and values by an int32. */
    if (o->max_rows > (int64_t)INT_MAX * 2 / row)
        return mb_error(MB_LAYOUT, "%lld rows a step of %lld bytes each do not fit one message; lower --max-num-seqs",
                        (long long)o->max_rows, (long long)row);
    return MB_OK;
}

static bool alloc_tables(struct mb_xchg *x)
{
    struct mb_mem *mem = x->o.mem;
    size_t n = (size_t)x->n, e = (size_t)x->o.experts;
    void **table[] = {(void **)&x->machine, (void **)&x->link, (void **)&x->node_first, (void **)&x->node_of,
                      (void **)&x->heads, (void **)&x->slot, (void **)&x->own_expert, (void **)&x->begin,
                      (void **)&x->fill, (void **)&x->send_off, (void **)&x->mark, (void **)&x->block_at,
                      (void **)&x->pub_order, (void **)&x->lone_base, (void **)&x->inner_base, (void **)&x->lone_n,
                      (void **)&x->inner_n, (void **)&x->lone_got, (void **)&x->inner_got, (void **)&x->out_lone,
                      (void **)&x->out_inner, (void **)&x->first};
    size_t items[] = {n, n, n + 1, n, n, e, e, e + 1, e + 1, n + 1, n, n + 1, n + 1, 2 * n + 2, 2 * n + 2, 2 * n + 2,
                      2 * n + 2, 2 * n + 2, 2 * n + 2, n + 1, n + 1, n + 1};
    size_t size[] = {4, sizeof(enum mb_link), 4, 4, sizeof(struct mb_xchg_head), 4, 4, 8, 8, 8, 4, 8, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        *table[i] = mb_zalloc(mem, MB_MEM_EXCHANGE, items[i], size[i]);
        if (*table[i] == NULL)
            return false;
    }
    return true;
}

static void init_sizes(struct mb_xchg *x)
{
    const struct mb_xchg_options *o = &x->o;
    uint64_t most;

    x->meta_bytes = (2 * (int64_t)(o->k + o->tagged) + 3) / 4 * 4 + 4 * (int64_t)o->k;
    x->x_bytes = o->hidden * mb_dtype_size(o->x_type);
    x->y_bytes = o->hidden * mb_dtype_size(o->y_type);
    x->row_bytes = mb_plan_dispatch_row_bytes(o->k, o->hidden, o->x_type, o->tagged);
    /* The most that can lie behind a header; a buffer for more would never be filled. */
    most = (uint64_t)o->max_rows * (uint64_t)(o->hidden * 4 * (o->k > 0 ? o->k : 1));
    if (most < (uint64_t)(o->max_rows * x->row_bytes))
        most = (uint64_t)(o->max_rows * x->row_bytes);
    most = most < EAGER_MAX ? most : EAGER_MAX;
    x->eager = o->eager_bytes < most ? o->eager_bytes : most;
    memcpy(x->machine, o->node, (size_t)x->n * sizeof *x->machine);
    x->o.node = NULL;
    x->me = x->c->rank;
}

/* Partition, shared segment, message tables. hier that cannot have its segments everywhere becomes flat everywhere. */
static enum mb_status init_parts(struct mb_xchg *x)
{
    enum mb_status st;
    char why[MB_SHM_WHY] = "";

    init_sizes(x);
    partition(x, x->o.algorithm);
    if (x->algorithm == MB_A2A_HIER) {
        st = mb_node_init(x, why);
        if (st == MB_NO_SPACE || st == MB_IO) {
            if (x->me == 0)
                mb_warn("--alltoall hier goes flat: no shared segment of %llu KiB a node (--shm-size): %s",
                        (unsigned long long)(x->o.shm_bytes >> 10), why);
            mb_node_fini(x);
            partition(x, MB_A2A_FLAT);
        } else if (st != MB_OK) {
            return st;
        }
    }
    if (x->algorithm == MB_A2A_FLAT)
        MB_TRY(mb_node_init(x, why));
    st = init_nets(x) ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the messages of the exchange");
    return mb_comm_agree(x->c, st, "exchange");
}

enum mb_status mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o, struct mb_xchg **out)
{
    struct mb_xchg *x = calloc(1, sizeof *x);
    enum mb_status st = MB_OK;

    if (x == NULL) {
        st = mb_error(MB_NO_MEMORY, "no memory for the exchange");
    } else {
        x->c = c;
        x->o = *o;
        x->n = c->size;
        st = check_options(c, o);
        if (st == MB_OK && !alloc_tables(x))
            st = mb_error(MB_NO_MEMORY, "no memory for the tables of the exchange");
    }
    st = mb_comm_agree(c, st, "exchange");
    if (st == MB_OK)
        st = same_options(c, o);
    if (st == MB_OK)
        st = init_parts(x);
    if (st != MB_OK) {
        mb_xchg_destroy(x);
        return st;
    }
    if (o->room != NULL)
        mb_xchg_reserve(x, o->room);
    x->o.room = NULL;
    *out = x;
    return MB_OK;
}

static void free_growing(struct mb_xchg *x)
{
    struct vec *vecs[] = {&x->own_meta, &x->out_tag, &x->by_tag, &x->served, &x->send_rows, &x->held_taken, &x->refs,
                          &x->taken.from, &x->taken.agent, &x->taken.meta, &x->taken.ypos, &x->order, &x->host_idx, &x->emit.idx,
                          &x->emit.off, &x->emit.src, &x->emit.pos, &x->emit.w};
    struct devbuf *devs[] = {&x->recv, &x->x, &x->idx, &x->cy, &x->ci, &x->lone, &x->inner, &x->gathered,
                             &x->no_y};

    for (size_t i = 0; i < sizeof vecs / sizeof vecs[0]; i++)
        mb_free(vecs[i]->p);
    for (size_t i = 0; i < sizeof devs / sizeof devs[0]; i++)
        x->o.ops->buf_free(devs[i]->buf);
    x->o.ops->host_free(x->o.dev, x->own_rows.p);
    x->o.ops->host_free(x->o.dev, x->out_host.p);
}

static void free_tables(struct mb_xchg *x)
{
    void *tables[] = {x->machine, x->link, x->node_first, x->node_of, x->heads, x->slot, x->own_expert, x->begin, x->fill,
                      x->send_off, x->mark, x->block_at, x->pub_order, x->lone_base, x->inner_base, x->lone_n, x->inner_n,
                      x->lone_got, x->inner_got, x->out_lone, x->out_inner, x->first};

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        mb_free(tables[i]);
}

void mb_xchg_destroy(struct mb_xchg *x)
{
    if (x == NULL)
        return;
    mb_net_fini(x, &x->disp);
    mb_net_fini(x, &x->comb);
    mb_node_fini(x);
    free_growing(x);
    free_tables(x);
    free(x);
}

void mb_xchg_fail(struct mb_xchg *x, enum mb_status st)
{
    x->fail = st;
}

enum mb_status mb_xchg_usable(const struct mb_xchg *x, const char *what)
{
    if (x->broken == MB_BUG)
        return mb_error(MB_BUG, "%s after an exchange that failed", what);
    return x->broken;
}

int32_t mb_xchg_index(const struct mb_xchg *x)
{
    return x->me;
}

int32_t mb_xchg_size(const struct mb_xchg *x)
{
    return x->n;
}

enum mb_alltoall mb_xchg_algorithm(const struct mb_xchg *x)
{
    return x->algorithm;
}

const int32_t *mb_xchg_served_by(const struct mb_xchg *x)
{
    return x->served.p;
}

void mb_xchg_counts(const struct mb_xchg *x, struct mb_xchg_counts *out)
{
    *out = x->counts;
}
