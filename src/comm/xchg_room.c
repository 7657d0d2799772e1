/* The buffers of an exchange, by plan's table: allocated and freed in one loop; none grows. */
#include "base/log.h"
#include "comm/rooms.h"
#include "comm/xchg_impl.h"

static struct mb_room_home home(const struct mb_xchg *x)
{
    return (struct mb_room_home){x->o.ops, x->o.dev, x->o.mem};
}

struct mb_buf *mb_xchg_dev(struct mb_xchg *x, enum mb_xbuf id, int64_t bytes)
{
    if (bytes > x->buf.room.bytes[id])
        mb_xchg_must(x, mb_error(MB_BUG, "the exchange needs %lld bytes for %s; %lld were planned",
                                 (long long)bytes, mb_room_rows[id].name, (long long)x->buf.room.bytes[id]));
    return x->buf.dev[id];
}

/* A part of the tables: n items, aligned. NULL once they are full. */
static void *carve(struct mb_xchg *x, int64_t n, uint64_t size)
{
    uint64_t at = x->buf.used;

    x->buf.used = at + ((uint64_t)n * size + 7) / 8 * 8;
    return x->buf.used <= (uint64_t)x->buf.room.bytes[MB_XB_TABLES]
               ? (uint8_t *)x->buf.host[MB_XB_TABLES] + at
               : NULL;
}

static void owner_tables(struct mb_xchg *x, int64_t n, int64_t ids)
{
    struct mb_owners *o = &x->rt.owners;

    o->of = x->buf.host[MB_XB_OWNER];
    o->known = carve(x, n, 1);
    o->mine = carve(x, ids, 2);
    o->at = carve(x, ids, 2);
    o->slot = carve(x, ids, 4);
    o->own = carve(x, ids, 4);
    x->rt.take.begin = carve(x, ids + 1, 8);
    x->rt.take.begin_own = carve(x, ids + 1, 8);
    x->rt.take.fill = carve(x, ids, 8);
    x->rt.take.home = carve(x, n + 1, 8);
}

static void own_tables(struct mb_xchg *x, int64_t n, int64_t ids)
{
    struct mb_own_rows *o = &x->rt.own;

    o->first = x->buf.host[MB_XB_ROUND];
    o->meta = x->buf.host[MB_XB_META];
    o->served = x->buf.host[MB_XB_SERVED];
    o->send = x->buf.host[MB_XB_SEND];
    o->send_at = carve(x, n + 1, 8);
    o->mark = carve(x, n, 4);
    o->domain = carve(x, 1 + mb_cut_near(&x->rt.cut) + x->rt.cut.domains, 4);
    o->weight = carve(x, ids, 4);
    o->turn = carve(x, x->o.chosen ? ids : 0, 4);
    o->copy = carve(x, x->o.chosen ? ids : 0, 1);
    o->chosen = carve(x, ids / 64 + 1, 8);
    o->may = carve(x, n, sizeof *o->may);
    o->pairs = carve(x, n, 8);
    o->rows = carve(x, n, 8);
    o->terms = carve(x, n, 8);
}

static void held_tables(struct mb_xchg *x, int64_t n)
{
    struct mb_helds *h = &x->rt.held;
    int64_t sources = x->buf.room.sources, regions = 1 + mb_cut_near(&x->rt.cut) + x->rt.cut.domains;

    h->block = carve(x, 1 + sources, sizeof *h->block);
    h->source = carve(x, sources, 4);
    h->region = carve(x, n, 4);
    h->region_own = carve(x, n, 4);
    x->rt.owners.region = h->region;
    x->rt.owners.region_own = h->region_own;
    h->lone_n = carve(x, regions, 8);
    h->inner_n = carve(x, regions, 8);
    h->lone_base = carve(x, regions, 8);
    h->inner_base = carve(x, regions, 8);
    x->pub.lone_got = carve(x, regions, 8);
    x->pub.inner_got = carve(x, regions, 8);
    x->pub.order = carve(x, sources + 1, 4);
    x->rt.emit.out_lone = carve(x, n + 1, 8);
    x->rt.emit.out_inner = carve(x, n + 1, 8);
    h->term = x->buf.host[MB_XB_TERM];
    h->value = x->buf.host[MB_XB_VALUE];
    h->wanted = x->buf.host[MB_XB_WANTED];
    h->room = x->buf.room.held;
}

static int64_t items(const struct mb_xchg *x, enum mb_xbuf id, int64_t size)
{
    return x->buf.room.bytes[id] / size;
}

static void take_tables(struct mb_xchg *x)
{
    struct mb_takes *t = &x->rt.take;

    t->row = x->buf.host[MB_XB_TAKEN];
    t->rows_room = items(x, MB_XB_TAKEN, (int64_t)sizeof *t->row) - 1;
    t->run = x->buf.host[MB_XB_RUN];
    t->hit = x->buf.host[MB_XB_HIT];
    t->hits_room = items(x, MB_XB_HIT, (int64_t)sizeof *t->hit);
    t->copied = x->buf.host[MB_XB_COPIED];
    t->copied_room = items(x, MB_XB_COPIED, x->rt.meta_bytes > 0 ? x->rt.meta_bytes : 1);
    t->order = x->buf.host[MB_XB_ORDER];
    t->by_tag = x->buf.host[MB_XB_BY_TAG];
    t->tag = x->buf.host[MB_XB_TAG];
}

static void emit_tables(struct mb_xchg *x)
{
    struct mb_emit *e = &x->rt.emit;

    e->idx = x->buf.host[MB_XB_LONE];
    e->lone_room = items(x, MB_XB_LONE, 4);
    e->off = x->buf.host[MB_XB_OFF];
    e->inner_room = items(x, MB_XB_OFF, 4) - 1;
    e->src = x->buf.host[MB_XB_SRC];
    e->pos = x->buf.host[MB_XB_POS];
    e->w = x->buf.host[MB_XB_W];
    e->items_room = items(x, MB_XB_SRC, 4);
    x->rt.scratch = x->buf.host[MB_XB_UPLOAD];
    x->rt.scratch_room = items(x, MB_XB_UPLOAD, 4);
}

static void net_tables(struct mb_xchg *x, struct net *net, enum mb_xbuf first, enum mb_xbuf body,
                       enum mb_xbuf stage, int64_t room)
{
    uint64_t each = mb_up64(MB_XCHG_HEADER + x->size.eager);

    net->in = carve(x, net->n_in, sizeof *net->in);
    net->out = carve(x, net->n_out, sizeof *net->out);
    net->stage = x->buf.host[stage];
    net->room = (uint64_t)room;
    for (int32_t i = 0; i < net->n_in && net->in != NULL; i++) {
        net->in[i].first = (uint8_t *)x->buf.host[first] + (uint64_t)i * each;
        net->in[i].body = room > 0 ? (uint8_t *)x->buf.host[body] + (uint64_t)i * (uint64_t)room : NULL;
    }
}

/* Counts of integers that the device takes as int32. */
static bool countable(const struct mb_xchg_room *r)
{
    return r->bytes[MB_XB_SRC] / 4 <= INT32_MAX &&
           r->bytes[MB_XB_HIT] / (int64_t)sizeof(struct mb_hit) <= INT32_MAX &&
           r->bytes[MB_XB_TERM] / (int64_t)sizeof(struct mb_term) <= INT32_MAX &&
           r->bytes[MB_XB_UPLOAD] / 4 <= INT32_MAX;
}

enum mb_status mb_xchg_rooms(struct mb_xchg *x, const struct mb_xchg_shape *s)
{
    const struct mb_xchg_room *r = &x->buf.room;
    int64_t n = x->rt.cut.n, ids = x->o.experts;

    mb_xchg_room_of(s, &x->buf.room);
    if (!countable(r))
        return mb_error(
            MB_LAYOUT,
            "%lld rows a step and member, %d experts each, are more than an exchange can number; lower "
            "--max-batch-rows",
            (long long)x->o.max_rows, x->o.k);
    if (r->sources < x->disp.n_in)
        return mb_error(MB_BUG, "%lld sources planned, there are %d", (long long)r->sources, x->disp.n_in);
    struct mb_room_home h = home(x);
    for (int id = 0; id < MB_XB_COUNT; id++)
        MB_TRY(mb_room_alloc(&h, id, r->bytes[id], &x->buf.host[id], &x->buf.dev[id]));
    x->link = carve(x, n, sizeof *x->link);
    x->heads = carve(x, n, sizeof *x->heads);
    owner_tables(x, n, ids);
    own_tables(x, n, ids);
    held_tables(x, n);
    take_tables(x);
    emit_tables(x);
    net_tables(x, &x->disp, MB_XB_FIRST, MB_XB_BODY, MB_XB_STAGE, r->body);
    net_tables(x, &x->comb, MB_XB_BACK_FIRST, MB_XB_BACK_BODY, MB_XB_BACK_STAGE, r->back_body);
    if (x->buf.used > (uint64_t)r->bytes[MB_XB_TABLES])
        return mb_error(MB_BUG, "tables of the exchange need %llu bytes, %lld were planned",
                        (unsigned long long)x->buf.used, (long long)r->bytes[MB_XB_TABLES]);
    return MB_OK;
}

void mb_xchg_rooms_fini(struct mb_xchg *x)
{
    struct mb_room_home h = home(x);

    for (int id = 0; id < MB_XB_COUNT; id++)
        mb_room_free(&h, id, x->buf.host[id], x->buf.dev[id]);
}
