/* Dispatch: rows to their experts. */
#include "base/log.h"
#include "comm/xchg_impl.h"

static int64_t rows_for(const struct mb_xchg *x, int32_t node)
{
    return x->send_off[node + 1] - x->send_off[node];
}

/* Packed metas, then packed rows, of those that go to a node; the rows lie in x->gathered in the order of send_rows. */
static void pack_rows(struct mb_xchg *x, int32_t node, uint8_t *to)
{
    const int32_t *rows = (int32_t *)x->send_rows.p + x->send_off[node];
    int64_t n = rows_for(x, node);

    for (int64_t i = 0; i < n; i++)
        memcpy(to + i * x->meta_bytes, mb_held_meta(x, 0, rows[i]), (size_t)x->meta_bytes);
    if (n > 0)
        mb_xchg_must(x, x->o.ops->copy_out(x->o.stream, to + n * x->meta_bytes,
                                           mb_view_of(x->gathered.buf, (uint64_t)(x->send_off[node] * x->x_bytes), n,
                                                      x->o.hidden, x->o.x_type)));
}

static void gather_send_rows(struct mb_xchg *x, struct mb_view in)
{
    int64_t n = x->send_off[x->n_nodes];

    if (n == 0)
        return;
    struct mb_buf *buf = mb_xchg_dev(x, &x->gathered, (uint64_t)(n * x->x_bytes), 0);
    mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, n, x->o.hidden, x->o.x_type), in,
                                     mb_rows_upload(x, x->send_rows.p, n)));
}

static void send_rows(struct mb_xchg *x)
{
    struct net *net = &x->disp;
    uint64_t at = 0;

    for (int32_t i = 0; i < net->n_out; i++) {
        net->out[i].at = at;
        at += mb_up64(MB_XCHG_HEADER + (uint64_t)(rows_for(x, x->node_of[net->out[i].to]) * x->row_bytes) + 4);
    }
    uint8_t *stage = mb_xchg_host(x, &net->stage, at);
    for (int32_t i = 0; i < net->n_out; i++) {
        int32_t node = x->node_of[net->out[i].to];
        uint8_t *to = stage + net->out[i].at;
        struct xhead h = x->mine;
        h.rows = rows_for(x, node);
        h.bytes = (uint64_t)(h.rows * x->row_bytes);
        memcpy(to, &h, sizeof h);
        pack_rows(x, node, to + MB_XCHG_HEADER);
        /* Rows of an odd number of bytes are padded at the end. */
        memset(to + MB_XCHG_HEADER + h.rows * (x->meta_bytes + x->x_bytes), 0,
               (size_t)(h.rows * (x->row_bytes - x->meta_bytes - x->x_bytes)) + 4);
        mb_net_send(x, net, i, x->counts.dispatch_bytes, x->counts.dispatch_messages);
    }
}

/* ---------------------------------------------------------------- inside the node */
/* Whether a member of the node other than this one has an expert of the row. */
static bool wanted_nearby(const struct mb_xchg *x, int32_t home, const uint8_t *meta)
{
    const uint16_t *id = mb_meta_id(x, meta);

    for (int32_t i = 0; i < x->o.k; i++) {
        int32_t owner = mb_serve_pick(x->serve, id[i], home);
        if (owner != x->me && x->node_of[owner] == x->my_node)
            return true;
    }
    return false;
}

/* The block that is being published. */
struct block {
    struct xhead head;
    int64_t rows;
    const uint8_t *meta, *data;
    bool all; /* every row is wanted */
};

static struct block block_at_place(const struct mb_xchg *x, int32_t place)
{
    struct block b = {.head = x->mine, .rows = rows_for(x, x->my_node), .meta = x->own_rows.p, .all = true};

    if (place > 0) {
        const struct inmsg *m = &x->disp.in[x->pub_order[place - 1] - 1];
        b = (struct block){.head = m->head, .rows = m->head.rows, .meta = m->rows};
    }
    b.data = b.meta != NULL ? b.meta + b.rows * x->meta_bytes : NULL;
    return b;
}

/* Copies rows of the block, from x->pub_row on, behind a header at `to`, as many as fit. Returns the bytes written, 0 if not
 * even the header fits. */
static uint64_t put_piece(struct mb_xchg *x, const struct block *b, uint8_t *to, uint64_t room)
{
    int64_t each = x->meta_bytes + x->x_bytes, fit, n = 0, look = x->pub_row;

    if (room < MB_XCHG_HEADER)
        return 0;
    fit = (int64_t)((room - MB_XCHG_HEADER) / 64 * 64) / each;
    fit = fit < b->rows - look ? fit : b->rows - look;
    int32_t *pick = mb_xchg_room(x, &x->order, (uint64_t)fit, sizeof *pick);
    for (; look < b->rows && n < fit; look++)
        if (b->all || wanted_nearby(x, b->head.from, b->meta + look * x->meta_bytes))
            pick[n++] = (int32_t)look;
    /* Rows behind the last one that fitted may all be unwanted: then the block ends here. */
    while (look < b->rows && !b->all && !wanted_nearby(x, b->head.from, b->meta + look * x->meta_bytes))
        look++;
    x->pub_row = look;
    if (n == 0 && x->pub_head)
        return 0;
    struct xhead h = b->head;
    h.here = n;
    memcpy(to, &h, sizeof h);
    to += MB_XCHG_HEADER;
    for (int64_t i = 0; i < n; i++) {
        memcpy(to + i * x->meta_bytes, b->meta + pick[i] * x->meta_bytes, (size_t)x->meta_bytes);
        memcpy(to + n * x->meta_bytes + i * x->x_bytes, b->data + pick[i] * x->x_bytes, (size_t)x->x_bytes);
    }
    x->pub_head = true;
    x->counts.dispatch_bytes[MB_LINK_SHM] += MB_XCHG_HEADER + n * each;
    x->counts.dispatch_messages[MB_LINK_SHM]++;
    return MB_XCHG_HEADER + mb_up64((uint64_t)(n * each));
}

/* Fills the own slot with what has arrived so far, block after block. */
static void publish(struct mb_xchg *x)
{
    uint64_t used = 0;
    int32_t pieces = 0;

    while (x->pub_place <= x->n_pub) {
        struct block b = block_at_place(x, x->pub_place);
        uint64_t n = put_piece(x, &b, mb_node_slot(x, x->node.me) + used, mb_node_room(x) - used);
        used += n;
        pieces += n > 0;
        if (x->pub_row < b.rows || !x->pub_head)
            break; /* the slot is full */
        x->pub_place++;
        x->pub_row = 0;
        x->pub_head = false;
    }
    bool last = x->n_pub == x->disp.n_in && x->pub_place > x->n_pub;
    if (pieces > 0 || last)
        mb_node_publish(x, pieces, used, last);
}

static uint64_t read_piece(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data)
{
    uint64_t bytes = (uint64_t)(h->here * (x->meta_bytes + x->x_bytes));

    if (mb_xchg_check(x, h))
        mb_rows_take(x, h->from, q, data, data + h->here * x->meta_bytes, h->here, -1);
    return bytes;
}

/* ---------------------------------------------------------------- what arrives */
static bool block_ok(struct mb_xchg *x, const struct inmsg *m)
{
    if (m->head.rows < 0 || m->head.rows > x->o.max_rows || m->head.bytes != (uint64_t)(m->head.rows * x->row_bytes))
        return false;
    for (int64_t r = 0; r < m->head.rows; r++) {
        const uint16_t *id = mb_meta_id(x, m->rows + r * x->meta_bytes);
        for (int32_t i = 0; i < x->o.k; i++)
            if (id[i] >= x->o.experts)
                return false;
    }
    return true;
}

static bool take_blocks(struct mb_xchg *x)
{
    for (int32_t j = 0; j < x->disp.n_in; j++) {
        struct inmsg *m = &x->disp.in[j];
        if (!m->ready || m->taken)
            continue;
        if (!block_ok(x, m)) {
            x->failed = mb_error(MB_BUG, "rank %d sent a dispatch of %lld rows in %llu bytes that makes no sense",
                                 mb_xchg_rank(x, m->from), (long long)m->head.rows, (unsigned long long)m->head.bytes);
            return false;
        }
        m->taken = true;
        x->block_at[1 + j] = x->n_held;
        x->n_held += m->head.rows;
        mb_xchg_room(x, &x->held_taken, (uint64_t)x->n_held, sizeof(int32_t));
        mb_rows_take(x, m->from, x->node.me, m->rows, m->rows + m->head.rows * x->meta_bytes, m->head.rows,
                     x->block_at[1 + j]);
        x->pub_order[x->n_pub++] = 1 + j;
    }
    return true;
}

static bool ready(void *arg)
{
    struct mb_xchg *x = arg;

    if (!mb_net_poll(x, &x->disp) || !take_blocks(x))
        return true;
    if (x->node.n > 1) {
        /* Publishing comes first: a member that finds another one elsewhere leaves, and has then said where it is itself. */
        if (!x->node.published && mb_node_free(x))
            publish(x);
        if (!mb_node_read(x, read_piece))
            return true;
    }
    return x->disp.left == 0 && x->n_pub == x->disp.n_in && mb_node_done(x);
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status exchange_rows(struct mb_xchg *x, struct mb_view in)
{
    x->n_pub = x->pub_place = 0;
    x->pub_row = 0;
    x->pub_head = false;
    gather_send_rows(x, in);
    if (x->node.n > 1)
        pack_rows(x, x->my_node,
                  mb_xchg_host(x, &x->own_rows, (uint64_t)(rows_for(x, x->my_node) * (x->meta_bytes + x->x_bytes))));
    send_rows(x);
    mb_rows_take_own(x, in);
    MB_TRY(mb_xchg_wait(x, ready));
    x->broken = x->failed;
    return x->failed;
}

void mb_xchg_tags(struct mb_xchg *x, const uint16_t *tags)
{
    x->tags = tags;
}

enum mb_status mb_xchg_dispatch(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine, struct mb_view in,
                                const int32_t *experts, const float *weights, struct mb_dispatched *out)
{
    MB_TRY(mb_xchg_usable(x, "dispatch"));
    if (in.rows < 0 || in.rows > x->o.max_rows)
        return mb_error(MB_BUG, "dispatch of %lld rows; the exchange was made for %lld", (long long)in.rows,
                        (long long)x->o.max_rows);
    MB_TRY(mb_rows_owners(x, v));
    MB_TRY(mb_rows_route(x, in.rows, experts, weights));
    mb_xchg_begin(x, XOP_DISPATCH, mine, in.rows);
    mb_net_post(x, &x->disp);
    MB_TRY(exchange_rows(x, in));
    mb_rows_sort(x, in);
    x->dispatched = true;
    x->fail = MB_OK;
    *out = (struct mb_dispatched){
        .x = mb_view_of(x->x.buf, 0, x->rows, x->o.hidden, x->o.x_type), .rows = x->rows, .n_experts = x->n_own,
        .expert = x->own_expert, .begin = x->begin, .tag = x->o.tagged ? x->out_tag.p : NULL, .heads = x->heads};
    return MB_OK;
}

enum mb_status mb_xchg_step(struct mb_xchg *x, const struct mb_xchg_head *mine, const struct mb_xchg_head **heads)
{
    MB_TRY(mb_xchg_usable(x, "step"));
    x->m = 0;
    memset(x->send_off, 0, ((size_t)x->n_nodes + 1) * sizeof *x->send_off);
    mb_xchg_begin(x, XOP_STEP, mine, mine->rows);
    mb_net_post(x, &x->disp);
    MB_TRY(exchange_rows(x, MB_NO_VIEW));
    *heads = x->heads;
    return MB_OK;
}
