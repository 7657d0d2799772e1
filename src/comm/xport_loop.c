/* The transport inside one process: a message waits at its receiver until both sides are there, and is then
 * copied. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "comm/xport.h"

/* One side of a message that waits for the other one. */
struct waiting {
    struct waiting *next;
    struct endpoint *by;
    int32_t slot, from, lane, channel;
    bool send;
    struct mb_span span;
};
struct mb_loop {
    int32_t n;
    struct waiting **at; /* [n] of each receiver, in order of posting */
};
struct endpoint {
    struct mb_loop *loop;
    int32_t me, lane, n;
    int32_t *ended;       /* [slots] the n that have ended */
    struct waiting *room; /* [slots] */
};

enum mb_status mb_loop_create(int32_t n, struct mb_loop **out)
{
    struct mb_loop *l = calloc(1, sizeof *l);

    if (l != NULL)
        l->at = calloc((size_t)n, sizeof(struct waiting *));
    if (l == NULL || l->at == NULL) {
        free(l);
        return mb_error(MB_NO_MEMORY, "no memory for messages of %d members", n);
    }
    l->n = n;
    *out = l;
    return MB_OK;
}

void mb_loop_destroy(struct mb_loop *l)
{
    if (l == NULL)
        return;
    free(l->at);
    free(l);
}

static void end(struct endpoint *e, int32_t slot)
{
    e->ended[e->n++] = slot;
}

/* The first waiting other side of the same message, taken out; NULL: none. */
static struct waiting *other_side(struct mb_loop *l, int32_t to, const struct waiting *mine)
{
    for (struct waiting **at = &l->at[to]; *at != NULL; at = &(*at)->next) {
        struct waiting *w = *at;
        if (w->send == mine->send || w->from != mine->from || w->lane != mine->lane ||
            w->channel != mine->channel)
            continue;
        *at = w->next;
        return w;
    }
    return NULL;
}

/* A message longer than its receiver's memory is cut. */
static void deliver(const struct waiting *a, const struct waiting *b)
{
    const struct mb_span *from = a->send ? &a->span : &b->span, *to = a->send ? &b->span : &a->span;

    if (from->n > to->n)
        mb_error(MB_BUG, "a message of %llu bytes for %llu bytes of memory", (unsigned long long)from->n,
                 (unsigned long long)to->n);
    memcpy(to->p, from->p, from->n < to->n ? from->n : to->n);
    end(a->by, a->slot);
    end(b->by, b->slot);
}

static void post(struct mb_xport *t, int32_t to, struct waiting mine)
{
    struct endpoint *e = t->state;
    struct waiting *w = other_side(e->loop, to, &mine), **last;

    t->left++;
    if (w != NULL) {
        deliver(&mine, w);
        return;
    }
    w = &e->room[mine.slot];
    *w = mine;
    for (last = &e->loop->at[to]; *last != NULL; last = &(*last)->next)
        continue;
    *last = w;
}

static void post_recv(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span to)
{
    struct endpoint *e = t->state;

    post(t, e->me, (struct waiting){NULL, e, slot, peer, e->lane, channel, false, to});
}

static void post_send(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span from)
{
    struct endpoint *e = t->state;

    post(t, peer, (struct waiting){NULL, e, slot, e->me, e->lane, channel, true, from});
}

static int32_t test(struct mb_xport *t)
{
    struct endpoint *e = t->state;
    int32_t n = e->n;

    memcpy(t->done, e->ended, (size_t)n * sizeof *t->done);
    e->n = 0;
    t->left -= n;
    return n;
}

static bool cancel(struct mb_xport *t)
{
    struct endpoint *e = t->state;

    for (int32_t i = 0; i < e->loop->n; i++) {
        for (struct waiting **at = &e->loop->at[i]; *at != NULL;) {
            struct waiting *w = *at;
            if (w->by == e)
                *at = w->next;
            else
                at = &w->next;
        }
    }
    t->left = 0;
    return true;
}

static void destroy(struct mb_xport *t)
{
    struct endpoint *e = t->state;

    if (e != NULL) {
        free(e->ended);
        free(e->room);
    }
    free(e);
}

static const struct mb_xport_kind loop = {"loop", false, post_recv, post_send, test, cancel, destroy};

enum mb_status mb_xport_loop(struct mb_loop *l, int32_t me, int32_t lane, int32_t slots, struct mb_xport *out)
{
    struct endpoint *e = calloc(1, sizeof *e);

    *out = (struct mb_xport){.kind = &loop, .state = e, .slots = slots};
    out->done = mb_alloc(NULL, MB_MEM_EXCHANGE, (size_t)slots + 1, sizeof *out->done);
    if (e != NULL)
        *e = (struct endpoint){l,
                               me,
                               lane,
                               0,
                               calloc((size_t)slots + 1, sizeof *e->ended),
                               calloc((size_t)slots + 1, sizeof *e->room)};
    if (e == NULL || out->done == NULL || e->ended == NULL || e->room == NULL) {
        mb_xport_fini(out);
        return MB_NO_MEMORY;
    }
    return MB_OK;
}

void mb_xport_fini(struct mb_xport *t)
{
    if (t->kind == NULL)
        return;
    t->kind->destroy(t);
    mb_free(t->done);
    *t = (struct mb_xport){0};
}
