/* Dispatch: rows to their experts. */
#include "base/log.h"
#include "comm/xchg_impl.h"

static int64_t piece_bytes(const struct mb_xchg *x)
{
    return x->rt.meta_bytes + x->size.x;
}

/* Packed metas, then packed rows, of those that go to a node; the rows lie in GATHERED in the order of the
 * lists. */
static void pack_rows(struct mb_xchg *x, int32_t node, uint8_t *to)
{
    const struct mb_own_rows *o = &x->rt.own;
    int64_t meta = x->rt.meta_bytes, n = mb_route_rows_for(&x->rt, node);
    const int32_t *rows = o->send + o->send_at[node];

    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * meta, o->meta + rows[i] * meta, (size_t)meta);
    if (n > 0)
        mb_xchg_must(x, x->o.ops->copy_out(x->o.stream, to + n * meta,
                                           mb_view_of(x->buf.dev[MB_XB_GATHERED],
                                                      (uint64_t)(o->send_at[node] * x->size.x), n,
                                                      x->o.hidden, x->o.x_type)));
}

static void gather_send_rows(struct mb_xchg *x)
{
    int64_t n = x->rt.own.send_at[x->rt.cut.domains];

    if (n == 0)
        return;
    struct mb_buf *buf = mb_xchg_dev(x, MB_XB_GATHERED, n * x->size.x);
    mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, n, x->o.hidden, x->o.x_type), x->in,
                                     mb_sum_upload(x, x->rt.own.send, n)));
}

static void send_rows(struct mb_xchg *x)
{
    struct net *net = &x->disp;
    uint64_t at = 0;

    for (int32_t i = 0; i < net->n_out; i++) {
        int32_t node = x->rt.cut.of[net->out[i].to];
        uint8_t *to = net->stage + at;
        struct xhead h = x->mine;
        h.rows = mb_route_rows_for(&x->rt, node);
        h.bytes = (uint64_t)(h.rows * x->size.row);
        net->out[i].at = at;
        at += mb_up64(MB_XCHG_HEADER + h.bytes);
        memcpy(to, &h, sizeof h);
        pack_rows(x, node, to + MB_XCHG_HEADER);
        /* Rows of an odd number of bytes are padded at the end. */
        memset(to + MB_XCHG_HEADER + h.rows * piece_bytes(x), 0,
               (size_t)(h.rows * (x->size.row - piece_bytes(x))));
        mb_net_send(x, net, i, x->counts.dispatch_bytes, x->counts.dispatch_messages);
    }
}

/* ---------------------------------------------------------------- inside the node */
/* The block that is being published. */
struct block {
    struct xhead head;
    int64_t rows;
    const uint8_t *meta, *data;
    int32_t source; /* its number; -1: the own block, of which every row is wanted */
};

static struct block block_at_place(struct mb_xchg *x, int32_t place)
{
    struct block b = {.head = x->mine,
                      .rows = mb_route_rows_for(&x->rt, x->rt.cut.mine),
                      .meta = mb_xchg_host(x, MB_XB_OWN_ROWS),
                      .source = -1};

    if (place > 0) {
        int32_t j = x->pub.order[place - 1];
        const struct inmsg *m = &x->disp.in[j];
        b = (struct block){.head = m->head, .rows = m->head.rows, .meta = m->rows, .source = j};
    }
    b.data = b.meta != NULL ? b.meta + b.rows * x->rt.meta_bytes : NULL;
    return b;
}

/* The next rows of the block that are wanted nearby, n at most, into pick; moves pub.row. */
static int64_t pick_rows(struct mb_xchg *x, const struct block *b, int64_t most, int32_t *pick)
{
    int64_t n = 0, look = x->pub.row;

    for (; look < b->rows; look++) {
        if (b->source >= 0 && !mb_route_wanted(&x->rt, b->source, look))
            continue;
        if (n == most)
            break; /* rows behind the last one that fitted may all be unwanted: then the block ends here */
        pick[n++] = (int32_t)look;
    }
    x->pub.row = look;
    return n;
}

/* Copies rows of the block, from pub.row on, behind a header at `to`, as many as fit. Returns the bytes
 * written, 0 if not even the header fits. */
static uint64_t put_piece(struct mb_xchg *x, const struct block *b, uint8_t *to, uint64_t room)
{
    int64_t meta = x->rt.meta_bytes, left = b->rows - x->pub.row, fit;
    int32_t *pick = x->rt.scratch;

    if (room < MB_XCHG_HEADER)
        return 0;
    fit = (int64_t)((room - MB_XCHG_HEADER) / 64 * 64) / piece_bytes(x);
    fit = fit < left ? fit : left;
    fit = fit < x->rt.scratch_room ? fit : x->rt.scratch_room;
    int64_t n = pick_rows(x, b, fit, pick);
    if (n == 0 && x->pub.head)
        return 0;
    struct xhead h = b->head;
    h.here = (int32_t)n;
    memcpy(to, &h, sizeof h);
    to += MB_XCHG_HEADER;
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * meta, b->meta + pick[i] * meta, (size_t)meta);
        memcpy(to + n * meta + i * x->size.x, b->data + pick[i] * x->size.x, (size_t)x->size.x);
    }
    x->pub.head = true;
    x->counts.dispatch_bytes[MB_LINK_SHM] += MB_XCHG_HEADER + n * piece_bytes(x);
    x->counts.dispatch_messages[MB_LINK_SHM]++;
    return MB_XCHG_HEADER + mb_up64((uint64_t)(n * piece_bytes(x)));
}

/* Fills the own slot with what has arrived so far, block after block. */
static void publish(struct mb_xchg *x)
{
    struct xpub *p = &x->pub;
    uint64_t used = 0;
    int32_t pieces = 0;

    while (p->place <= p->n) {
        struct block b = block_at_place(x, p->place);
        uint64_t n = put_piece(x, &b, mb_node_slot(x, x->node.me) + used, mb_node_room(x) - used);
        used += n;
        pieces += n > 0;
        if (p->row < b.rows || !p->head)
            break; /* the slot is full */
        p->place++;
        p->row = 0;
        p->head = false;
    }
    bool last = p->n == x->disp.n_in && p->place > p->n;
    if (pieces > 0 || last)
        mb_node_publish(x, pieces, used, last);
}

/* Copies the n rows that were taken last to the device, of a block or piece whose rows are at data:
 * neighbours in one copy. */
static void copy_taken(struct mb_xchg *x, int64_t n, const uint8_t *data)
{
    int64_t have = x->rt.take.n - n;
    const int32_t *at = x->rt.take.order + have;
    struct mb_buf *buf = mb_xchg_dev(x, MB_XB_RECV, x->rt.take.n * x->size.x);

    for (int64_t i = 0, end; i < n; i = end) {
        end = at[n - 1] - at[i] == n - 1 - i ? n : i + 1;
        for (; end < n && at[end] == at[end - 1] + 1; end++)
            continue;
        struct mb_view to =
            mb_view_of(buf, (uint64_t)((have + i) * x->size.x), end - i, x->o.hidden, x->o.x_type);
        mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, to, data + at[i] * x->size.x));
    }
}

static uint64_t read_piece(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data)
{
    int64_t n = mb_xchg_check(x, h) ? mb_route_take(&x->rt, h->from, q, data, h->here) : 0;

    if (n > 0)
        copy_taken(x, n, data + h->here * x->rt.meta_bytes);
    if (n < 0 && x->st.failed == MB_OK)
        x->st.failed =
            mb_error(MB_BUG, "rank %d published rows of rank %d with ids that are none",
                     mb_xchg_rank(x, x->rt.cut.first[x->rt.cut.mine] + q), mb_xchg_rank(x, h->from));
    return (uint64_t)(h->here * piece_bytes(x));
}

/* ---------------------------------------------------------------- what arrives */
static bool take_blocks(struct mb_xchg *x)
{
    for (int32_t j = 0; j < x->disp.n_in; j++) {
        struct inmsg *m = &x->disp.in[j];
        int64_t rows = m->head.rows;
        if (!m->ready || m->taken)
            continue;
        int64_t n = rows >= 0 && rows <= x->o.max_rows && m->head.bytes == (uint64_t)(rows * x->size.row)
                        ? mb_route_hold(&x->rt, j, m->from, rows, m->rows)
                        : -1;
        if (n < 0) {
            x->st.failed =
                mb_error(MB_BUG, "rank %d sent a dispatch of %lld rows in %llu bytes that makes no sense",
                         mb_xchg_rank(x, m->from), (long long)rows, (unsigned long long)m->head.bytes);
            return false;
        }
        m->taken = true;
        if (n > 0)
            copy_taken(x, n, m->rows + rows * x->rt.meta_bytes);
        x->pub.order[x->pub.n++] = j;
    }
    return true;
}

/* Whether all is here, or the operation cannot go on. */
static bool rows_ready(struct mb_xchg *x)
{
    if (x->st.stuck || !mb_net_poll(x, &x->disp) || !take_blocks(x))
        return true;
    if (x->node.n > 1) {
        /* Publishing comes first: a member that finds another one elsewhere leaves, and has then said where
         * it is itself. */
        if (!x->node.published && mb_node_free(x))
            publish(x);
        if (!mb_node_read(x, read_piece))
            return true;
    }
    return x->disp.port.left == 0 && x->pub.n == x->disp.n_in && mb_node_done(x);
}

/* What touches no device: messages, and the own slot. */
void mb_xchg_rows_poll(struct mb_xchg *x)
{
    x->st.stuck |= !mb_net_poll(x, &x->disp);
    if (!x->st.stuck && x->node.n > 1 && !x->node.published && mb_node_free(x))
        publish(x);
}

bool mb_xchg_rows_test(struct mb_xchg *x)
{
    if (x->phase == XP_ROWS && rows_ready(x))
        x->phase = XP_DONE;
    return x->phase == XP_DONE;
}

/* ---------------------------------------------------------------- the operation */
static void take_own(struct mb_xchg *x)
{
    const struct mb_own_rows *o = &x->rt.own;
    int64_t n = x->rt.take.n;

    x->counts.dispatch_bytes[MB_LINK_SELF] += n * x->size.x;
    x->counts.dispatch_messages[MB_LINK_SELF] += n > 0;
    if (n == 0 || x->rt.cut.n == 1)
        return; /* alone, every row is taken, so `in` itself is in the order of RECV */
    struct mb_buf *buf = mb_xchg_dev(x, MB_XB_RECV, n * x->size.x);
    mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, n, x->o.hidden, x->o.x_type),
                                     mb_view_rows(x->in, o->r0, o->r1 - o->r0),
                                     mb_sum_upload(x, x->rt.take.order, n)));
}

static void begin_rows(struct mb_xchg *x)
{
    x->pub.n = x->pub.place = 0;
    x->pub.row = 0;
    x->pub.head = false;
    mb_net_post(x, &x->disp);
    gather_send_rows(x);
    if (x->node.n > 1)
        pack_rows(x, x->rt.cut.mine, mb_xchg_host(x, MB_XB_OWN_ROWS));
    send_rows(x);
    take_own(x);
    x->phase = XP_ROWS;
}

static enum mb_status end_rows(struct mb_xchg *x)
{
    x->phase = XP_IDLE;
    if (x->st.failed == MB_OK && x->rt.full)
        x->st.failed = mb_error(MB_BUG, "rank %d was sent more rows of a round than were planned for",
                                mb_xchg_rank(x, x->rt.cut.me));
    x->st.broken = x->st.failed;
    return x->st.failed;
}

static void begin_round(struct mb_xchg *x, const struct mb_xchg_head *mine, int32_t round)
{
    mb_route_round(&x->rt, round);
    mb_xchg_begin(x, XOP_DISPATCH, mine, x->rt.own.m);
    begin_rows(x);
}

enum mb_status mb_xchg_dispatch_begin(struct mb_xchg *x, const struct mb_serve *v,
                                      const struct mb_xchg_head *mine, const struct mb_xchg_rows *in)
{
    MB_TRY(mb_xchg_usable(x, "dispatch"));
    if (in->x.rows < 0 || in->x.rows > x->o.max_rows)
        return mb_error(MB_BUG, "dispatch of %lld rows; the exchange was made for %lld",
                        (long long)in->x.rows, (long long)x->o.max_rows);
    MB_TRY(mb_route_rows(&x->rt, v, mine->step, in->x.rows, mine->share, in->experts, in->weights,
                         x->o.tagged ? in->tags : NULL));
    x->in = in->x;
    x->rounds = 1;
    begin_round(x, mine, 0);
    return MB_OK;
}

enum mb_status mb_xchg_again_begin(struct mb_xchg *x, const struct mb_xchg_head *mine)
{
    MB_TRY(mb_xchg_usable(x, "dispatch"));
    if (x->dispatched || x->rt.own.round + 1 >= x->rounds)
        return mb_error(MB_BUG, "a round of an exchange that has none left");
    begin_round(x, mine, x->rt.own.round + 1);
    return MB_OK;
}

/* Rows of the dispatch from number `first` on, which lie in the order of idx among the taken ones. */
static void gather_rows(struct mb_xchg *x, int64_t first, int64_t rows, const int32_t *idx)
{
    const struct mb_own_rows *o = &x->rt.own;

    x->counts.served_rows += rows;
    if (rows == 0)
        return;
    struct mb_buf *buf = mb_xchg_dev(x, MB_XB_X, (first + rows) * x->size.x);
    struct mb_view src = x->rt.cut.n == 1
                             ? mb_view_rows(x->in, o->r0, o->r1 - o->r0)
                             : mb_view_of(x->buf.dev[MB_XB_RECV], 0, x->rt.take.n, x->o.hidden, x->o.x_type);
    struct mb_view to = mb_view_of(buf, (uint64_t)(first * x->size.x), rows, x->o.hidden, x->o.x_type);
    mb_xchg_must(x, x->o.ops->gather(x->o.stream, to, src, mb_sum_upload(x, idx, rows)));
}

static struct mb_dispatched dispatched(const struct mb_xchg *x, int64_t first, int64_t rows)
{
    const struct mb_takes *t = &x->rt.take;

    return (struct mb_dispatched){
        .x = mb_view_of(x->buf.dev[MB_XB_X], (uint64_t)(first * x->size.x), rows, x->o.hidden, x->o.x_type),
        .first = first,
        .rows = rows,
        .n_experts = x->rt.owners.n,
        .expert = x->rt.owners.own,
        .begin = t->begin,
        .tag = x->o.tagged ? t->tag + first : NULL,
        .heads = x->heads,
        .round = x->rt.own.round,
        .rounds = x->rounds};
}

void mb_xchg_own(struct mb_xchg *x, struct mb_dispatched *out)
{
    int32_t *idx = x->buf.host[MB_XB_UPLOAD];
    int64_t rows = x->rt.cut.n > 1 ? mb_route_sort_own(&x->rt, idx) : 0;

    gather_rows(x, 0, rows, idx);
    *out = dispatched(x, 0, rows);
    out->begin = x->rt.take.begin_own;
    out->heads = NULL; /* none is here yet */
}

enum mb_status mb_xchg_dispatch_end(struct mb_xchg *x, struct mb_dispatched *out)
{
    int32_t *idx = x->buf.host[MB_XB_UPLOAD];

    MB_TRY(end_rows(x));
    int64_t first = x->rt.take.first, rows = mb_route_sort(&x->rt, idx);
    gather_rows(x, first, rows, idx);
    x->st.broken = x->st.failed;
    MB_TRY(x->st.failed);
    x->dispatched = true;
    x->st.fail = MB_OK;
    *out = dispatched(x, first, rows);
    return MB_OK;
}

enum mb_status mb_xchg_dispatch(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                const struct mb_xchg_rows *in, struct mb_dispatched *out)
{
    MB_TRY(mb_xchg_dispatch_begin(x, v, mine, in));
    mb_xchg_await(x);
    return mb_xchg_dispatch_end(x, out);
}

enum mb_status mb_xchg_again(struct mb_xchg *x, const struct mb_xchg_head *mine, struct mb_dispatched *out)
{
    MB_TRY(mb_xchg_again_begin(x, mine));
    mb_xchg_await(x);
    return mb_xchg_dispatch_end(x, out);
}

enum mb_status mb_xchg_step(struct mb_xchg *x, const struct mb_xchg_head *mine,
                            const struct mb_xchg_head **heads)
{
    MB_TRY(mb_xchg_usable(x, "step"));
    mb_route_none(&x->rt);
    x->in = MB_NO_VIEW;
    x->rounds = 1;
    mb_xchg_begin(x, XOP_STEP, mine, mine->rows);
    begin_rows(x);
    mb_xchg_await(x);
    MB_TRY(end_rows(x));
    *heads = x->heads;
    return MB_OK;
}
