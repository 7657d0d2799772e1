/* The transport in a machine: each member has a ring for each other one, in memory that both have mapped. A
 * message is a frame: 16 bytes and what it says. A frame longer than the ring goes through it in parts, while
 * both sides look. Peers elsewhere go through another transport. */
#include <stdatomic.h>
#include <string.h>
#include "base/log.h"
#include "comm/xport.h"
#include "plan/rooms.h"

#define LANES 2
#define CHUNK ((uint64_t)64 << 10) /* copied before the other side is told */
#define ALIGN 16
#define NONE (-1)

/* Bytes that were ever written and read: each has one writer. */
struct ring_ctl {
    _Atomic uint64_t written;
    uint8_t pad0[56];
    _Atomic uint64_t read;
    uint8_t pad1[56];
};
_Static_assert(sizeof(struct ring_ctl) == MB_RING_CTL, "plan counts these bytes");

struct frame {
    int32_t channel;
    uint32_t pad;
    uint64_t n;
};
_Static_assert(sizeof(struct frame) == ALIGN, "frames begin aligned, so none is cut by the end of a ring");

/* A message that was posted. */
struct op {
    int32_t next, channel;
    struct mb_span span;
};
/* One direction of a pair. */
struct side {
    struct ring_ctl *ctl;
    uint8_t *data;
    uint64_t moved;      /* own count */
    uint64_t at;         /* bytes of the frame under way that were moved, its head included */
    struct frame f;      /* being received; n with at == 0: none */
    int32_t first, last; /* slots in order of posting */
    int32_t slot;        /* being received into */
};
struct over_shm {
    struct mb_xport far;
    struct mb_xport_near near;
    uint64_t ring;
    struct side *out, *in; /* [near.n] */
    struct op *op;         /* [slots] */
    int32_t *ended, n;     /* [slots] the n that have ended */
};

static uint64_t up(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Number of a peer in the machine, or NONE. */
static int32_t near_of(const struct over_shm *s, int32_t peer)
{
    int32_t q = peer - s->near.first;

    return q >= 0 && q < s->near.n ? q : NONE;
}

static void add(struct over_shm *s, struct side *side, int32_t slot, int32_t channel, struct mb_span span)
{
    s->op[slot] = (struct op){NONE, channel, span};
    if (side->first == NONE)
        side->first = slot;
    else
        s->op[side->last].next = slot;
    side->last = slot;
}

static void take_out(struct over_shm *s, struct side *side, int32_t slot)
{
    int32_t before = NONE, i = side->first;

    for (; i != slot; i = s->op[i].next)
        before = i;
    if (before == NONE)
        side->first = s->op[slot].next;
    else
        s->op[before].next = s->op[slot].next;
    if (side->last == slot)
        side->last = before;
    s->ended[s->n++] = slot;
}

/* ---------------------------------------------------------------- sending */
static void put(struct over_shm *s, struct side *o, const void *from, uint64_t n)
{
    uint64_t at = o->moved % s->ring, first = n < s->ring - at ? n : s->ring - at;

    memcpy(o->data + at, from, (size_t)first);
    memcpy(o->data, (const uint8_t *)from + first, (size_t)(n - first));
    o->moved += up(n);
}

/* Writes what there is room for. */
static void push(struct over_shm *s, struct side *o)
{
    while (o->first != NONE) {
        const struct op *op = &s->op[o->first];
        uint64_t read = atomic_load_explicit(&o->ctl->read, memory_order_acquire),
                 room = s->ring - (o->moved - read), left, n;
        if (room < ALIGN)
            return;
        if (o->at == 0) {
            struct frame f = {op->channel, 0, op->span.n};
            put(s, o, &f, sizeof f);
            room -= sizeof f;
            o->at = sizeof f;
        }
        left = op->span.n - (o->at - sizeof(struct frame));
        n = left < room ? left : room;
        n = n < CHUNK ? n : CHUNK;
        if (n > 0)
            put(s, o, op->span.p + (o->at - sizeof(struct frame)), n);
        o->at += n;
        atomic_store_explicit(&o->ctl->written, o->moved, memory_order_release);
        if (n == left) {
            o->at = 0;
            take_out(s, o, o->first);
        }
    }
}

/* ---------------------------------------------------------------- receiving */
static void get(struct over_shm *s, struct side *i, void *to, uint64_t n)
{
    uint64_t at = i->moved % s->ring, first = n < s->ring - at ? n : s->ring - at;

    memcpy(to, i->data + at, (size_t)first);
    memcpy((uint8_t *)to + first, i->data, (size_t)(n - first));
    i->moved += up(n);
}

/* The first posted receive of a channel, or NONE. */
static int32_t posted(const struct over_shm *s, const struct side *i, int32_t channel)
{
    int32_t slot = i->first;

    while (slot != NONE && s->op[slot].channel != channel)
        slot = s->op[slot].next;
    return slot;
}

/* The frame that begins here, once somebody wants it. */
static bool begin_frame(struct mb_xport *t, struct over_shm *s, struct side *i)
{
    memcpy(&i->f, i->data + i->moved % s->ring, sizeof i->f);
    i->slot = posted(s, i, i->f.channel);
    if (i->slot == NONE)
        return false;
    if (i->f.n > s->op[i->slot].span.n) {
        t->failed = mb_error(MB_BUG, "a message of %llu bytes for %llu bytes of memory",
                             (unsigned long long)i->f.n, (unsigned long long)s->op[i->slot].span.n);
        return false;
    }
    i->at = sizeof i->f;
    i->moved += sizeof i->f;
    return true;
}

/* Reads what is there. */
static void pull(struct mb_xport *t, struct over_shm *s, struct side *i)
{
    while (i->first != NONE && t->failed == MB_OK) {
        uint64_t have = atomic_load_explicit(&i->ctl->written, memory_order_acquire) - i->moved, left, n;
        if (have == 0 || (i->at == 0 && !begin_frame(t, s, i)))
            return;
        have = atomic_load_explicit(&i->ctl->written, memory_order_acquire) - i->moved;
        left = i->f.n - (i->at - sizeof i->f);
        n = left < have ? left : have;
        n = n < CHUNK ? n : CHUNK;
        if (n > 0)
            get(s, i, s->op[i->slot].span.p + (i->at - sizeof i->f), n);
        i->at += n;
        atomic_store_explicit(&i->ctl->read, i->moved, memory_order_release);
        if (n == left) {
            i->at = 0;
            take_out(s, i, i->slot);
        }
    }
}

/* ---------------------------------------------------------------- the transport */
static void post_recv(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span to)
{
    struct over_shm *s = t->state;
    int32_t q = near_of(s, peer);

    t->left++;
    if (q == NONE)
        s->far.kind->post_recv(&s->far, slot, peer, channel, to);
    else
        add(s, &s->in[q], slot, channel, to);
}

static void post_send(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span from)
{
    struct over_shm *s = t->state;
    int32_t q = near_of(s, peer);

    t->left++;
    if (q == NONE) {
        s->far.kind->post_send(&s->far, slot, peer, channel, from);
        return;
    }
    add(s, &s->out[q], slot, channel, from);
    push(s, &s->out[q]);
}

static int32_t test(struct mb_xport *t)
{
    struct over_shm *s = t->state;
    int32_t n;

    for (int32_t q = 0; q < s->near.n; q++) {
        if (s->out[q].first != NONE)
            push(s, &s->out[q]);
        if (s->in[q].first != NONE)
            pull(t, s, &s->in[q]);
    }
    n = s->n;
    memcpy(t->done, s->ended, (size_t)n * sizeof *t->done);
    s->n = 0;
    if (s->far.left > 0) {
        int32_t m = s->far.kind->test(&s->far);
        memcpy(t->done + n, s->far.done, (size_t)m * sizeof *t->done);
        n += m;
        t->failed = t->failed != MB_OK ? t->failed : s->far.failed;
    }
    t->left -= n;
    return n;
}

static bool cancel(struct mb_xport *t)
{
    struct over_shm *s = t->state;

    for (int32_t q = 0; q < s->near.n; q++)
        s->in[q].first = s->out[q].first = NONE;
    t->left = 0;
    return s->far.kind->cancel(&s->far);
}

static void destroy(struct mb_xport *t)
{
    struct over_shm *s = t->state;

    mb_xport_fini(&s->far);
    mb_free(s->out);
    mb_free(s->op);
    mb_free(s->ended);
    mb_free(s);
}

/* Rings lie by lane, sender, receiver. */
static struct side side_of(const struct mb_xport_near *w, int32_t from, int32_t to)
{
    uint64_t pairs = (uint64_t)w->n * (uint64_t)(w->n - 1), at = (uint64_t)w->lane * pairs +
                                                                 (uint64_t)from * (uint64_t)(w->n - 1) +
                                                                 (uint64_t)(to < from ? to : to - 1);
    uint8_t *p = w->base + 64 + at * (w->ring + sizeof(struct ring_ctl));

    return (struct side){
        .ctl = (struct ring_ctl *)p, .data = p + sizeof(struct ring_ctl), .first = NONE, .last = NONE};
}

static const struct mb_xport_kind shm = {"shm", false, post_recv, post_send, test, cancel, destroy};

static enum mb_status create(const struct mb_xport_near *w, struct mb_mem *mem, int32_t slots,
                             struct mb_xport *out)
{
    struct over_shm *s = mb_zalloc(mem, MB_MEM_EXCHANGE, 1, sizeof *s);

    *out = (struct mb_xport){.kind = &shm, .state = s, .slots = slots};
    if (s == NULL)
        return MB_NO_MEMORY;
    s->near = *w;
    s->ring = w->ring;
    s->out = mb_zalloc(mem, MB_MEM_EXCHANGE, 2 * (size_t)w->n, sizeof *s->out);
    s->op = mb_zalloc(mem, MB_MEM_EXCHANGE, (size_t)slots + 1, sizeof *s->op);
    s->ended = mb_zalloc(mem, MB_MEM_EXCHANGE, (size_t)slots + 1, sizeof *s->ended);
    out->done = mb_zalloc(mem, MB_MEM_EXCHANGE, (size_t)slots + 1, sizeof *out->done);
    if (s->out == NULL || s->op == NULL || s->ended == NULL || out->done == NULL)
        return MB_NO_MEMORY;
    s->in = s->out + w->n;
    for (int32_t q = 0; q < w->n; q++) {
        s->in[q].first = s->out[q].first = NONE;
        if (q == w->me)
            continue;
        s->out[q] = side_of(w, w->me, q);
        s->in[q] = side_of(w, q, w->me);
    }
    return MB_OK;
}

enum mb_status mb_xport_shm(const struct mb_xport_near *w, struct mb_mem *mem, struct mb_xport *far,
                            struct mb_xport *out)
{
    struct mb_xport made;
    enum mb_status st = create(w, mem, far->slots, &made);

    if (st != MB_OK) {
        if (made.state != NULL)
            mb_xport_fini(&made);
        return st;
    }
    ((struct over_shm *)made.state)->far = *far;
    *far = (struct mb_xport){0};
    *out = made;
    return MB_OK;
}
