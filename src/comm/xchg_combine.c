/* Combine: the experts' outputs back to their rows, added on the way as far as the tree rule allows. */
#include "base/log.h"
#include "comm/xchg_impl.h"

enum { LONE, INNER };

static int64_t value_bytes(const struct mb_xchg *x, int32_t kind)
{
    return kind == LONE ? x->y_bytes : x->o.hidden * 4;
}

/* n values that arrived from a region are put where the folds look for them. */
static void store(struct mb_xchg *x, int32_t region, int32_t kind, int64_t at, const uint8_t *data, int64_t n)
{
    struct mb_view v;

    if (n == 0)
        return;
    if (kind == LONE)
        v = mb_view_rows(x->y_all, x->lone_base[region] + at, n);
    else
        v = mb_view_of(x->ci.buf, (uint64_t)((x->inner_base[region] + at) * x->o.hidden * 4), n, x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, v, data));
}

/* Values [i0, i1) of one kind, from the device to packed host memory. */
static void fetch(struct mb_xchg *x, int32_t kind, int64_t i0, int64_t i1, uint8_t *to)
{
    if (i1 == i0)
        return;
    struct mb_view v = kind == LONE ? mb_view_of(x->lone.buf, 0, i1, x->o.hidden, x->o.y_type)
                                    : mb_view_of(x->inner.buf, 0, i1, x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->copy_out(x->o.stream, to, mb_view_rows(v, i0, i1 - i0)));
}

/* ---------------------------------------------------------------- inside the node */
static int64_t *outgoing(struct mb_xchg *x, int32_t kind)
{
    return kind == LONE ? x->out_lone : x->out_inner;
}

/* Writes the next values for one member behind a header, as many as fit. Returns the bytes; 0: none left or no room. */
static uint64_t put_values(struct mb_xchg *x, uint8_t *to, uint64_t room)
{
    int64_t *off = outgoing(x, x->pub_kind), each = value_bytes(x, x->pub_kind);
    int64_t begin = off[x->pub_dest] + x->pub_at, left = off[x->pub_dest + 1] - begin;
    int64_t fit = room < MB_XCHG_HEADER ? 0 : (int64_t)((room - MB_XCHG_HEADER) / 64 * 64) / each;
    int64_t n = fit < left ? fit : left;
    uint64_t at = (uint64_t)(begin * each);

    if (n == 0)
        return 0;
    if (x->pub_kind == INNER)
        at += (uint64_t)(x->out_lone[x->node.n] * x->y_bytes);
    struct xhead h = x->mine;
    h.flags = (uint32_t)x->pub_kind;
    h.total = x->pub_dest;
    h.here = n;
    memcpy(to, &h, sizeof h);
    memcpy(to + MB_XCHG_HEADER, x->out_host.p + at, (size_t)(n * each));
    x->pub_at += n;
    x->counts.combine_bytes[MB_LINK_SHM] += MB_XCHG_HEADER + n * each;
    x->counts.combine_messages[MB_LINK_SHM]++;
    return MB_XCHG_HEADER + mb_up64((uint64_t)(n * each));
}

static void publish(struct mb_xchg *x)
{
    uint64_t used = 0;
    int32_t pieces = 0;

    while (x->pub_dest < x->node.n) {
        uint64_t n = put_values(x, mb_node_slot(x, x->node.me) + used, mb_node_room(x) - used);
        used += n;
        pieces += n > 0;
        int64_t *off = outgoing(x, x->pub_kind);
        if (x->pub_at < off[x->pub_dest + 1] - off[x->pub_dest])
            break; /* the slot is full */
        x->pub_at = 0;
        x->pub_dest += x->pub_kind == INNER;
        x->pub_kind = x->pub_kind == LONE ? INNER : LONE;
    }
    mb_node_publish(x, pieces, used, x->pub_dest == x->node.n);
}

static uint64_t read_piece(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data)
{
    int32_t kind = (int32_t)h->flags, region = 1 + q;
    int64_t *got = kind == LONE ? &x->lone_got[region] : &x->inner_got[region];
    int64_t want = kind == LONE ? x->lone_n[region] : x->inner_n[region];

    if (h->total == x->node.me) {
        if (*got + h->here > want) {
            if (x->failed == MB_OK)
                x->failed = mb_error(MB_BUG, "rank %d returns more values than its experts made (%lld of kind %d)",
                                     mb_xchg_rank(x, h->from), (long long)want, kind);
        } else {
            store(x, region, kind, *got, data, h->here);
            *got += h->here;
        }
    }
    return (uint64_t)(h->here * value_bytes(x, kind));
}

static bool node_ready(void *arg)
{
    struct mb_xchg *x = arg;

    if (!x->node.published && mb_node_free(x))
        publish(x);
    if (!mb_node_read(x, read_piece))
        return true;
    return mb_node_done(x);
}

/* What the other members of the node are owed, and owe. */
static enum mb_status exchange_in_node(struct mb_xchg *x)
{
    mb_values_local(x);
    mb_values_make(x, MB_NO_VIEW);
    uint64_t lone = (uint64_t)(x->emit.lone * x->y_bytes), inner = (uint64_t)(x->emit.inner * x->o.hidden * 4);
    uint8_t *to = mb_xchg_host(x, &x->out_host, lone + inner);
    fetch(x, LONE, 0, x->emit.lone, to);
    fetch(x, INNER, 0, x->emit.inner, to + lone);
    x->pub_dest = 0;
    x->pub_kind = LONE;
    x->pub_at = 0;
    MB_TRY(mb_xchg_wait(x, node_ready));
    for (int32_t r = 1; r <= x->node.n; r++)
        if (x->failed == MB_OK && (x->lone_got[r] != x->lone_n[r] || x->inner_got[r] != x->inner_n[r]))
            x->failed = mb_error(MB_BUG, "rank %d returned fewer values than its experts made",
                                 mb_xchg_rank(x, x->node_first[x->my_node] + r - 1));
    return x->failed;
}

/* ---------------------------------------------------------------- between nodes */
static void send_values(struct mb_xchg *x)
{
    struct net *net = &x->comb;
    uint64_t at = 0;

    for (int32_t j = 0; j < net->n_out; j++) {
        int64_t lone = x->out_lone[j + 1] - x->out_lone[j], inner = x->out_inner[j + 1] - x->out_inner[j];
        net->out[j].at = at;
        at += mb_up64(MB_XCHG_HEADER + (uint64_t)(lone * x->y_bytes + inner * x->o.hidden * 4) + 4);
    }
    uint8_t *stage = mb_xchg_host(x, &net->stage, at);
    for (int32_t j = 0; j < net->n_out; j++) {
        int64_t lone = x->out_lone[j + 1] - x->out_lone[j], inner = x->out_inner[j + 1] - x->out_inner[j];
        uint8_t *to = stage + net->out[j].at;
        struct xhead h = x->mine;
        h.rows = lone + inner;
        h.bytes = (uint64_t)(lone * x->y_bytes + inner * x->o.hidden * 4);
        memcpy(to, &h, sizeof h);
        to += MB_XCHG_HEADER;
        fetch(x, LONE, x->out_lone[j], x->out_lone[j + 1], to);
        fetch(x, INNER, x->out_inner[j], x->out_inner[j + 1], to + lone * x->y_bytes);
        memset(to + h.bytes, 0, 4);
        mb_net_send(x, net, j, x->counts.combine_bytes, x->counts.combine_messages);
    }
}

static bool take_reply(struct mb_xchg *x, struct inmsg *m)
{
    int32_t region = 1 + x->node.n + x->node_of[m->from];
    int64_t lone = x->lone_n[region], inner = x->inner_n[region];

    if (m->head.rows != lone + inner || m->head.bytes != (uint64_t)(lone * x->y_bytes + inner * x->o.hidden * 4)) {
        x->failed = mb_error(MB_BUG, "rank %d returned %lld values in %llu bytes; %lld lone and %lld inner ones are due",
                             mb_xchg_rank(x, m->from), (long long)m->head.rows, (unsigned long long)m->head.bytes,
                             (long long)lone, (long long)inner);
        return false;
    }
    store(x, region, LONE, 0, m->rows, lone);
    store(x, region, INNER, 0, m->rows + lone * x->y_bytes, inner);
    m->taken = true;
    return true;
}

static bool replies_ready(void *arg)
{
    struct mb_xchg *x = arg;
    bool all = true;

    if (!mb_net_poll(x, &x->comb))
        return true;
    for (int32_t i = 0; i < x->comb.n_in; i++) {
        struct inmsg *m = &x->comb.in[i];
        if (m->ready && !m->taken && !take_reply(x, m))
            return true;
        all &= m->taken;
    }
    return all && x->comb.left == 0;
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status check_views(const struct mb_xchg *x, struct mb_view y, struct mb_view out)
{
    if (!x->dispatched || y.rows != x->rows || out.rows != x->m ||
        (y.rows > 0 && (y.cols != x->o.hidden || y.dtype != x->o.y_type)) ||
        (out.rows > 0 && (out.cols != x->o.hidden || out.dtype != MB_F32)))
        return mb_error(MB_BUG, "combine of %lld outputs into %lld rows does not belong to the last dispatch (%lld, %lld)",
                        (long long)y.rows, (long long)out.rows, (long long)x->rows, (long long)x->m);
    return MB_OK;
}

static enum mb_status combine(struct mb_xchg *x, struct mb_view out)
{
    mb_values_refs(x);
    if (x->node.n > 1)
        MB_TRY(exchange_in_node(x));
    if (x->n_nodes > 1) {
        x->mine.status = (uint32_t)x->told; /* of the whole node: the replies carry it to the homes */
        mb_values_reply(x);
        mb_values_make(x, MB_NO_VIEW);
        send_values(x);
        MB_TRY(mb_xchg_wait(x, replies_ready));
        MB_TRY(x->failed);
    }
    mb_values_final(x);
    mb_values_make(x, out);
    return MB_OK;
}

/* A member that failed has no outputs: zeros take their places, and nobody uses the sums. */
static struct mb_view no_outputs(struct mb_xchg *x)
{
    struct mb_buf *buf = mb_xchg_dev(x, &x->no_y, (uint64_t)(x->rows * x->y_bytes), 0);

    return mb_view_of(buf, 0, x->rows, x->o.hidden, x->o.y_type);
}

/* Everyone has completed the operation and knows that somebody failed before it. */
static enum mb_status somebody_failed(struct mb_xchg *x)
{
    if (x->told == MB_OK)
        return MB_OK;
    if (x->me == 0 && x->fail == MB_OK)
        mb_error(MB_PEER, "a rank failed with \"%s\" in step %lld, layer %d; its own message says why",
                 mb_status_name(x->told), (long long)x->mine.step, x->mine.layer);
    x->broken = MB_PEER;
    return x->fail != MB_OK ? x->fail : MB_PEER;
}

enum mb_status mb_xchg_combine(struct mb_xchg *x, struct mb_view y, struct mb_view out)
{
    struct mb_xchg_head again = {.step = x->mine.step, .layer = x->mine.layer, .status = x->fail, .flags = x->mine.flags};

    MB_TRY(mb_xchg_usable(x, "combine"));
    if (x->fail != MB_OK)
        y = no_outputs(x);
    MB_TRY(check_views(x, y, out));
    x->dispatched = false;
    x->told = x->fail;
    x->y = y;
    x->counts.combine_bytes[MB_LINK_SELF] += x->rows * x->y_bytes;
    x->counts.combine_messages[MB_LINK_SELF] += x->rows > 0;
    mb_xchg_begin(x, XOP_COMBINE, &again, x->m);
    mb_net_post(x, &x->comb);
    enum mb_status st = combine(x, out);
    if (st == MB_OK)
        return somebody_failed(x);
    x->broken = st;
    return st;
}
