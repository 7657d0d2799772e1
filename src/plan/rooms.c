/* Buffers of an exchange. Each line says how large the buffer of the same name in comm/xchg_impl.h gets. */
#include "plan/rooms.h"

#include "plan/budget.h"

#define REF_BYTES 12     /* where a value of a held row comes from */
#define MEMBER_BYTES 224 /* integers kept for each member */
#define ID_BYTES 24      /* and for each id */
#define PEER_BYTES 200   /* and for each peer of each direction */

static int64_t up64(int64_t n)
{
    return n > INT64_MAX - 63 ? n : (n + 63) / 64 * 64;
}

static int64_t ints(int64_t n)
{
    return mb_sat_mul(n, 4);
}

/* Counts that several buffers go by. */
struct counts {
    int64_t m, k, P;    /* own rows, choices of each, pairs here */
    int64_t sent;       /* copies of own rows for other members' nodes */
    int64_t held;       /* rows that this member is the agent of */
    int64_t replied;    /* pairs of other members' rows among them */
    int64_t items;      /* terms of the largest list of values */
    int64_t row, value; /* bytes of a row with its integers; of what comes back for a pair, at most */
    int64_t peers;      /* members of other nodes that send to this one */
    int64_t from_peer;  /* rows of one of them */
};

static struct counts counts_of(const struct mb_xchg_shape *s, int64_t row)
{
    struct counts c = {.m = s->own, .k = s->k, .P = s->pairs, .row = row};
    int64_t far = s->nodes - 1, all = mb_sat_mul(s->own, s->k);

    c.value = mb_most(s->hidden * s->y_size, 2 * s->hidden);
    c.peers = far; /* one of each node */
    c.sent = mb_sat_mul(s->own, mb_least(s->k, far + (s->near > 1)));
    c.from_peer =
        far > 0 && s->pairs > 0 ? mb_least(s->each, 2 * mb_sat_mul(s->each, s->k) / s->holders + 1) : 0;
    int64_t arrive = mb_least(mb_sat_mul(c.peers, c.from_peer), s->others);
    c.held = mb_least(mb_sat_add(s->own, arrive), s->rows);
    c.replied = mb_least(s->pairs, mb_sat_mul(arrive, s->k));
    c.items = mb_most(all, mb_most(c.replied, s->near > 1 ? s->pairs : 0));
    return c;
}

static void lists(const struct mb_xchg_shape *s, const struct counts *c, struct mb_xchg_room *r)
{
    int64_t meta = ints(s->k) + (2 * (s->k + s->tagged) + 3) / 4 * 4, taken = mb_least(s->rows, c->P),
            made = mb_most(c->replied, s->near > 1 ? c->P : 0);
    int64_t all = mb_sat_mul(c->m, c->k),
            longest = mb_most(MB_SUM(c->m, 1, mb_sat_mul(3, all)), mb_sat_mul(4, made) + 1);

    r->own_meta = up64(mb_sat_mul(c->m, meta));
    r->served = up64(ints(all));
    r->send_rows = up64(ints(c->sent));
    r->held_taken = up64(ints(c->held));
    r->refs = up64(mb_sat_mul(mb_sat_mul(c->held, c->k), REF_BYTES));
    r->out_tag = up64(mb_sat_mul(c->P, 2));
    r->by_tag = s->tagged ? up64(ints(taken)) : 0;
    r->from = r->agent = up64(ints(taken));
    r->meta = up64(mb_sat_mul(taken, meta));
    r->ypos = up64(mb_sat_mul(ints(taken), c->k));
    r->order = up64(ints(mb_most(c->m, taken)));
    r->host_idx = up64(ints(mb_most(c->P, longest)));
    r->emit_idx = made > 0 ? up64(ints(made + 1)) : 0;
    r->emit_off = up64(ints(mb_most(c->m, made / 2) + 2));
    r->emit_item = up64(ints(c->items + 1));
    r->idx = up64(ints(mb_most(mb_most(c->P, c->sent), longest)));
}

static void device(const struct mb_xchg_shape *s, const struct counts *c, struct mb_xchg_room *r)
{
    int64_t x = s->hidden * s->x_size, y = s->hidden * s->y_size, f = 4 * s->hidden;
    int64_t made = mb_most(c->replied, s->near > 1 ? c->P : 0),
            back = mb_sat_add(mb_sat_mul(c->m, c->k), s->near > 1 ? c->replied : 0);

    r->x = up64(mb_sat_mul(c->P, x));
    if (s->members == 1)
        return;
    r->recv = up64(mb_sat_mul(mb_least(s->rows, c->P), x));
    r->gathered = up64(mb_sat_mul(c->sent, x));
    r->cy = up64(mb_sat_mul(mb_sat_add(c->P, back), y));
    r->ci = up64(mb_sat_mul(back / 2, f));
    r->lone = up64(mb_sat_mul(made, y));
    r->inner = up64(mb_sat_mul(made / 2, f));
}

/* A second message where one of the planned size would not go with its header. */
static int64_t body_of(const struct mb_xchg_shape *s, int64_t bytes)
{
    return bytes > s->eager ? up64(bytes + 4) : 0;
}

static void pinned(const struct mb_xchg_shape *s, const struct counts *c, struct mb_xchg_room *r)
{
    int64_t far = s->nodes - 1, meta = ints(s->k) + (2 * (s->k + s->tagged) + 3) / 4 * 4;
    int64_t away = mb_sat_mul(c->m, mb_least(c->k, far)),
            pairs = mb_least(mb_sat_mul(c->m, c->k), 2 * mb_sat_mul(c->m, c->k) / mb_most(s->holders, 1) + 1);

    r->firsts = mb_sat_mul(2 * far, up64(MB_XCHG_HEADER + s->eager));
    if (s->near > 1) {
        r->own_rows = up64(mb_sat_mul(c->m, meta + s->hidden * s->x_size));
        r->out_host = up64(mb_sat_mul(c->P, c->value));
    }
    if (far == 0)
        return;
    r->stage = up64(MB_SUM(mb_sat_mul(away, c->row), mb_sat_mul(far, 2 * MB_XCHG_HEADER)));
    r->back_stage = up64(MB_SUM(mb_sat_mul(c->replied, c->value), mb_sat_mul(far, 2 * MB_XCHG_HEADER)));
    r->bodies = r->back_bodies = far;
    r->body = body_of(s, mb_sat_mul(c->from_peer, c->row));
    r->back_body = body_of(s, mb_sat_mul(c->m > 0 ? pairs : 0, c->value));
}

void mb_xchg_room_of(const struct mb_xchg_shape *s, struct mb_xchg_room *r)
{
    int64_t row = MB_SUM((2 * (s->k + s->tagged) + 3) / 4 * 4, 4 * s->k, (s->hidden * s->x_size + 3) / 4 * 4);
    struct counts c = counts_of(s, row);

    *r = (struct mb_xchg_room){.shm = s->near > 1 ? s->shm / s->near : 0};
    r->tables = MB_SUM(mb_sat_mul(s->members, MEMBER_BYTES), mb_sat_mul(s->ids, ID_BYTES),
                       mb_sat_mul(2 * (s->nodes - 1), PEER_BYTES));
    if (s->pairs + s->own > 0) {
        lists(s, &c, r);
        device(s, &c, r);
    }
    pinned(s, &c, r);
}

int64_t mb_xchg_room_bytes(const struct mb_xchg_room *r)
{
    return MB_SUM(r->own_meta, r->out_tag, r->by_tag, r->served, r->send_rows, r->held_taken, r->refs,
                  r->from, r->agent, r->meta, r->ypos, r->order, r->host_idx, r->emit_idx, r->emit_off,
                  mb_sat_mul(3, r->emit_item), r->recv, r->x, r->idx, r->cy, r->ci, r->lone, r->inner,
                  r->gathered, r->tables, r->shm);
}

int64_t mb_xchg_room_pinned(const struct mb_xchg_room *r)
{
    return MB_SUM(r->own_rows, r->out_host, r->stage, r->back_stage, mb_sat_mul(r->bodies, r->body),
                  mb_sat_mul(r->back_bodies, r->back_body), r->firsts);
}
