/* Combine: the experts' outputs back to their rows, added on the way as far as the tree rule allows. */
#include "base/log.h"
#include "comm/xchg_impl.h"

/* ---------------------------------------------------------------- inside the node */
static int64_t *outgoing(struct mb_xchg *x, int32_t kind)
{
    return kind == LONE ? x->rt.emit.out_lone : x->rt.emit.out_inner;
}

/* Writes the next values for one member behind a header, as many as fit. Returns the bytes; 0: none left or
 * no room. */
static uint64_t put_values(struct mb_xchg *x, uint8_t *to, uint64_t room)
{
    struct xpub *p = &x->pub;
    int64_t *off = outgoing(x, p->kind), each = mb_sum_bytes(x, p->kind);
    int64_t begin = off[p->dest] + p->at, left = off[p->dest + 1] - begin;
    int64_t fit = room < MB_XCHG_HEADER ? 0 : (int64_t)((room - MB_XCHG_HEADER) / 64 * 64) / each;
    int64_t n = fit < left ? fit : left;
    uint64_t at = (uint64_t)(begin * each);

    if (n == 0)
        return 0;
    if (p->kind == INNER)
        at += (uint64_t)(x->rt.emit.out_lone[x->node.n] * x->size.y);
    struct xhead h = x->mine;
    h.flags = (uint32_t)p->kind;
    h.total = p->dest;
    h.here = (int32_t)n;
    memcpy(to, &h, sizeof h);
    memcpy(to + MB_XCHG_HEADER, mb_xchg_host(x, MB_XB_OUT_HOST) + at, (size_t)(n * each));
    p->at += n;
    x->counts.combine_bytes[MB_LINK_SHM] += MB_XCHG_HEADER + n * each;
    x->counts.combine_messages[MB_LINK_SHM]++;
    return MB_XCHG_HEADER + mb_up64((uint64_t)(n * each));
}

static void publish(struct mb_xchg *x)
{
    struct xpub *p = &x->pub;
    uint64_t used = 0;
    int32_t pieces = 0;

    while (p->dest < x->node.n) {
        uint64_t n = put_values(x, mb_node_slot(x, x->node.me) + used, mb_node_room(x) - used);
        used += n;
        pieces += n > 0;
        int64_t *off = outgoing(x, p->kind);
        if (p->at < off[p->dest + 1] - off[p->dest])
            break; /* the slot is full */
        p->at = 0;
        p->dest += p->kind == INNER;
        p->kind = p->kind == LONE ? INNER : LONE;
    }
    mb_node_publish(x, pieces, used, p->dest == x->node.n);
}

static uint64_t read_piece(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data)
{
    const struct mb_helds *held = &x->rt.held;
    int32_t kind = (int32_t)h->flags, region = 1 + q;
    int64_t *got = kind == LONE ? &x->pub.lone_got[region] : &x->pub.inner_got[region];
    int64_t want = kind == LONE ? held->lone_n[region] : held->inner_n[region];

    if (h->total == x->node.me) {
        if (*got + h->here > want) {
            if (x->st.failed == MB_OK)
                x->st.failed =
                    mb_error(MB_BUG, "rank %d returns more values than its experts made (%lld of kind %d)",
                             mb_xchg_rank(x, h->from), (long long)want, kind);
        } else {
            mb_sum_store(x, region, kind, *got, data, h->here);
            *got += h->here;
        }
    }
    return (uint64_t)(h->here * mb_sum_bytes(x, kind));
}

static bool node_ready(struct mb_xchg *x)
{
    if (!x->node.published && mb_node_free(x))
        publish(x);
    if (!mb_node_read(x, read_piece))
        return true;
    return mb_node_done(x);
}

/* What the other members of the node are owed, and owe. */
static void begin_node(struct mb_xchg *x)
{
    const struct mb_emit *e = &x->rt.emit;
    uint8_t *to = mb_xchg_host(x, MB_XB_OUT_HOST);

    mb_route_local(&x->rt);
    mb_sum_make(x, MB_NO_VIEW);
    mb_sum_fetch(x, LONE, 0, e->lone, to);
    mb_sum_fetch(x, INNER, 0, e->inner, to + e->lone * x->size.y);
    x->pub.dest = 0;
    x->pub.kind = LONE;
    x->pub.at = 0;
    memset(x->pub.lone_got, 0, (size_t)x->rt.held.regions * sizeof *x->pub.lone_got);
    memset(x->pub.inner_got, 0, (size_t)x->rt.held.regions * sizeof *x->pub.inner_got);
}

static void check_node(struct mb_xchg *x)
{
    const struct mb_helds *h = &x->rt.held;

    for (int32_t r = 1; r <= x->node.n; r++)
        if (x->st.failed == MB_OK &&
            (x->pub.lone_got[r] != h->lone_n[r] || x->pub.inner_got[r] != h->inner_n[r]))
            x->st.failed = mb_error(MB_BUG, "rank %d returned fewer values than its experts made",
                                    mb_xchg_rank(x, x->rt.cut.first[x->rt.cut.mine] + r - 1));
}

/* ---------------------------------------------------------------- between nodes */
static void send_values(struct mb_xchg *x)
{
    struct net *net = &x->comb;
    const int64_t *l = x->rt.emit.out_lone, *i = x->rt.emit.out_inner;
    uint64_t at = 0;

    for (int32_t j = 0; j < net->n_out; j++) {
        int64_t lone = l[j + 1] - l[j], inner = i[j + 1] - i[j];
        uint8_t *to = net->stage + at;
        struct xhead h = x->mine;
        h.rows = lone + inner;
        h.bytes = (uint64_t)(lone * x->size.y + inner * x->o.hidden * 4);
        net->out[j].at = at;
        at += mb_up64(MB_XCHG_HEADER + h.bytes);
        memcpy(to, &h, sizeof h);
        to += MB_XCHG_HEADER;
        mb_sum_fetch(x, LONE, l[j], l[j + 1], to);
        mb_sum_fetch(x, INNER, i[j], i[j + 1], to + lone * x->size.y);
        mb_net_send(x, net, j, x->counts.combine_bytes, x->counts.combine_messages);
    }
}

static bool take_reply(struct mb_xchg *x, struct inmsg *m)
{
    int32_t region = x->rt.held.region_own[m->from];
    int64_t lone = x->rt.held.lone_n[region], inner = x->rt.held.inner_n[region];

    if (m->head.rows != lone + inner ||
        m->head.bytes != (uint64_t)(lone * x->size.y + inner * x->o.hidden * 4)) {
        x->st.failed = mb_error(
            MB_BUG, "rank %d returned %lld values in %llu bytes; %lld lone and %lld inner ones are due",
            mb_xchg_rank(x, m->from), (long long)m->head.rows, (unsigned long long)m->head.bytes,
            (long long)lone, (long long)inner);
        return false;
    }
    mb_sum_store(x, region, LONE, 0, m->rows, lone);
    mb_sum_store(x, region, INNER, 0, m->rows + lone * x->size.y, inner);
    m->taken = true;
    return true;
}

static bool replies_ready(struct mb_xchg *x)
{
    bool all = true;

    if (x->st.stuck || !mb_net_poll(x, &x->comb))
        return true;
    for (int32_t i = 0; i < x->comb.n_in; i++) {
        struct inmsg *m = &x->comb.in[i];
        if (m->ready && !m->taken && !take_reply(x, m))
            return true;
        all &= m->taken;
    }
    return all && x->comb.port.left == 0;
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status check_views(const struct mb_xchg *x, struct mb_view y, struct mb_view out)
{
    int64_t rows = x->rt.take.hits, m = x->rt.own.m;

    if (!x->dispatched || y.rows != rows || out.rows != m ||
        (y.rows > 0 && (y.cols != x->o.hidden || y.dtype != x->o.y_type)) ||
        (out.rows > 0 && (out.cols != x->o.hidden || out.dtype != MB_F32)))
        return mb_error(
            MB_BUG,
            "combine of %lld outputs into %lld rows does not belong to the last dispatch (%lld, %lld)",
            (long long)y.rows, (long long)out.rows, (long long)rows, (long long)m);
    return MB_OK;
}

struct mb_view mb_xchg_outputs(struct mb_xchg *x, int64_t rows)
{
    if (x->rt.cut.n == 1)
        return MB_NO_VIEW;
    return mb_view_of(mb_xchg_dev(x, MB_XB_Y, rows * x->size.y), 0, rows, x->o.hidden, x->o.y_type);
}

/* A member that failed has no outputs: what lies there takes their places, and nobody uses the sums. */
static struct mb_view no_outputs(struct mb_xchg *x)
{
    int64_t rows = x->rt.take.hits;

    return mb_view_of(mb_xchg_dev(x, MB_XB_X, rows * x->size.y), 0, rows, x->o.hidden, x->o.y_type);
}

static void begin_replies(struct mb_xchg *x)
{
    x->phase = XP_REPLIES;
    x->mine.status = (uint8_t)x->st.told; /* of the whole node: the replies carry it to the homes */
    mb_route_reply(&x->rt, x->comb.n_out);
    mb_sum_make(x, MB_NO_VIEW);
    send_values(x);
}

/* From one phase to the next, as far as it goes. */
static bool combine_test(struct mb_xchg *x)
{
    if (x->phase == XP_NODE) {
        if (x->node.n > 1) {
            if (!node_ready(x))
                return false;
            check_node(x);
        }
        x->phase = XP_DONE;
        if (x->st.failed == MB_OK && x->rt.cut.domains > 1)
            begin_replies(x);
    }
    if (x->phase == XP_REPLIES && replies_ready(x))
        x->phase = XP_DONE;
    return x->phase == XP_DONE;
}

void mb_xchg_poll(void *arg)
{
    struct mb_xchg *x = arg;

    if (x->phase == XP_ROWS)
        mb_xchg_rows_poll(x);
    else if (x->phase == XP_REPLIES)
        x->st.stuck |= !mb_net_poll(x, &x->comb);
    else if (x->phase == XP_NODE && x->node.n > 1 && !x->node.published && mb_node_free(x))
        publish(x);
}

bool mb_xchg_test(struct mb_xchg *x)
{
    if (x->st.stuck)
        x->phase = XP_DONE;
    return x->phase == XP_ROWS ? mb_xchg_rows_test(x) : combine_test(x);
}

/* Everyone has completed the operation and knows that somebody failed before it. */
static enum mb_status somebody_failed(struct mb_xchg *x)
{
    if (x->st.told == MB_OK)
        return MB_OK;
    if (x->rt.cut.me == 0 && x->st.fail == MB_OK)
        mb_error(MB_PEER, "a rank failed with \"%s\" in step %lld, layer %d; its own message says why",
                 mb_status_name(x->st.told), (long long)x->mine.step, x->mine.layer);
    return x->st.fail != MB_OK ? x->st.fail : MB_PEER;
}

enum mb_status mb_xchg_combine_begin(struct mb_xchg *x, struct mb_view y, struct mb_view out)
{
    struct mb_xchg_head again = {.step = x->mine.step,
                                 .layer = x->mine.layer,
                                 .status = x->st.fail,
                                 .flags = x->mine.flags,
                                 .revision = x->mine.revision,
                                 .epoch = x->mine.epoch};

    MB_TRY(mb_xchg_usable(x, "combine"));
    if (x->st.fail != MB_OK)
        y = no_outputs(x);
    MB_TRY(check_views(x, y, out));
    x->dispatched = false;
    x->st.told = x->st.fail;
    x->y = y;
    x->out = out;
    x->counts.combine_bytes[MB_LINK_SELF] += x->rt.take.hits * x->size.y;
    x->counts.combine_messages[MB_LINK_SELF] += x->rt.take.hits > 0;
    mb_xchg_begin(x, XOP_COMBINE, &again, x->rt.own.m);
    mb_net_post(x, &x->comb);
    mb_route_bases(&x->rt);
    mb_sum_begin(x);
    x->phase = XP_NODE;
    if (x->node.n > 1)
        begin_node(x);
    else if (x->rt.cut.domains > 1)
        begin_replies(x);
    return MB_OK;
}

enum mb_status mb_xchg_combine_end(struct mb_xchg *x)
{
    const struct mb_own_rows *o = &x->rt.own;

    x->phase = XP_IDLE;
    if (x->st.failed != MB_OK) {
        x->st.broken = x->st.failed;
        return x->st.failed;
    }
    mb_route_final(&x->rt);
    mb_sum_make(x, mb_view_rows(x->out, o->r0, o->r1 - o->r0));
    x->st.broken = x->st.failed;
    return x->st.failed != MB_OK ? x->st.failed : somebody_failed(x);
}

enum mb_status mb_xchg_combine(struct mb_xchg *x, struct mb_view y, struct mb_view out)
{
    MB_TRY(mb_xchg_combine_begin(x, y, out));
    mb_xchg_await(x);
    return mb_xchg_combine_end(x);
}
