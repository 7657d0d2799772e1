#include "ranks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "comm/group.h"
#include "comm/xchg.h"
#include "comm/xport.h"

#define MOST 16     /* ranks */
#define PATIENCE 60 /* seconds that a rank may wait */
#define TAG_SOME 0  /* of swap_some; posts have 1 .. 8 */

struct letter {
    struct letter *next;
    int from, to, tag;
    uint64_t n;
    uint8_t data[];
};
struct group {
    int n, world[MOST];
    int arrived, generation, users;
    const void *said[MOST];
    struct letter *letters;
    struct mb_loop *loop; /* of its exchange */
    uint8_t *segment;
};
struct mb_comm {
    struct group *g;
    int me;
    struct mb_comm *made; /* split off from it */
};

/* Ranks take turns, one after the other. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called[MOST];
static bool here[MOST]; /* not yet at its end */
static int whose, all;
static _Thread_local int self;

void ranks_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
    abort();
}

static void call_next(void)
{
    for (int i = 1; i <= all; i++) {
        int next = (self + i) % all;
        if (!here[next])
            continue;
        whose = next;
        pthread_cond_signal(&called[next]);
        return;
    }
}

static void give_way(double *since)
{
    if (*since == 0)
        *since = mb_now();
    else if (mb_now() - *since > PATIENCE)
        ranks_fail("the other ranks come", __FILE__, __LINE__);
    call_next();
    while (whose != self)
        pthread_cond_wait(&called[self], &turn);
}

/* ---------------------------------------------------------------- together */

static void meet(struct group *g)
{
    int generation = g->generation;
    double since = 0;

    if (++g->arrived == g->n) {
        g->arrived = 0;
        g->generation++;
        return;
    }
    while (g->generation == generation)
        give_way(&since);
}

/* All say something; it is there until they meet again. */
static const void *const *say(struct mb_comm *c, const void *mine)
{
    c->g->said[c->me] = mine;
    meet(c->g);
    return c->g->said;
}

enum mb_status __wrap_mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what);
enum mb_status __wrap_mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what);
enum mb_status __wrap_mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out,
                                        const char *what);
enum mb_status __wrap_mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what);
enum mb_status __wrap_mb_comm_split(struct mb_comm *c, const char *name, int color, int key, struct mb_comm **out);
void __wrap_mb_comm_destroy(struct mb_comm *c);
void __wrap_mb_comm_destroy_parts(struct mb_comm *c);
int __wrap_mb_comm_rank(const struct mb_comm *c);
int __wrap_mb_comm_size(const struct mb_comm *c);
int __wrap_mb_comm_world_rank(const struct mb_comm *c, int rank);
void __wrap_mb_comm_alive(struct mb_comm *c);
void __wrap_mb_comm_begin(struct mb_comm *c);
void __wrap_mb_comm_end(struct mb_comm *c, enum mb_status st);
void __wrap_mb_comm_moved(const struct mb_comm *c, int64_t *bytes, int64_t *messages);
void __wrap_mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages);
enum mb_status __wrap_mb_comm_meet(struct mb_comm *c, enum mb_status (*idle)(void *arg), void *arg);
enum mb_status __wrap_mb_comm_swap(struct mb_comm *c, const struct mb_piece *send,
                                   const struct mb_piece *recv, const struct mb_where *at);
enum mb_status __wrap_mb_comm_swap_some(struct mb_comm *c, const struct mb_piece *send,
                                        const struct mb_piece *recv, const struct mb_where *at);
enum mb_status __wrap_mb_comm_post(struct mb_comm *c, int to, int tag, const void *data, uint64_t n);
enum mb_status __wrap_mb_comm_take(struct mb_comm *c, int from, int tag, struct mb_bytes *out,
                                   const struct mb_where *at);
struct mb_wait_for;
enum mb_status __wrap_mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg),
                                    void *arg);
enum mb_status __wrap_mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o,
                                     struct mb_xchg **out);

enum mb_status __wrap_mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what)
{
    const void *const *said = say(c, &mine);
    enum mb_status worst = MB_OK;

    (void)what;
    for (int r = 0; r < c->g->n; r++) {
        enum mb_status st = *(const enum mb_status *)said[r];
        worst = st > worst ? st : worst;
    }
    meet(c->g);
    return worst;
}

enum mb_status __wrap_mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what)
{
    int64_t most[8];
    const void *const *said = say(c, v);

    (void)what;
    MUST(n <= 8);
    memcpy(most, v, sizeof *v * (size_t)n);
    for (int r = 0; r < c->g->n; r++) {
        for (int32_t i = 0; i < n; i++) {
            int64_t x = ((const int64_t *)said[r])[i];
            most[i] = x > most[i] ? x : most[i];
        }
    }
    meet(c->g);
    memcpy(v, most, sizeof *v * (size_t)n);
    return MB_OK;
}

enum mb_status __wrap_mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out,
                                        const char *what)
{
    const void *const *said = say(c, in);

    (void)what;
    for (int r = 0; r < c->g->n; r++)
        memcpy((uint8_t *)out + (uint64_t)r * n, said[r], n);
    meet(c->g);
    return MB_OK;
}

enum mb_status __wrap_mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what)
{
    const void *const *said = say(c, data);

    (void)what;
    if (c->me != root && n > 0)
        memcpy(data, said[root], n);
    meet(c->g);
    return MB_OK;
}

enum mb_status __wrap_mb_comm_meet(struct mb_comm *c, enum mb_status (*idle)(void *arg), void *arg)
{
    meet(c->g);
    return idle != NULL ? idle(arg) : MB_OK;
}

enum mb_status __wrap_mb_comm_swap(struct mb_comm *c, const struct mb_piece *send,
                                   const struct mb_piece *recv, const struct mb_where *at)
{
    const void *const *said = say(c, send);

    (void)at;
    for (int r = 0; r < c->g->n; r++) {
        const struct mb_piece *theirs = said[r];
        if (r == c->me)
            continue;
        MUST(theirs[c->me].n == recv[r].n); /* both sides know the sizes */
        if (recv[r].n > 0)
            memcpy(recv[r].p, theirs[c->me].p, recv[r].n);
    }
    meet(c->g);
    return MB_OK;
}

/* ---------------------------------------------------------------- groups */

struct wish {
    int color, key, me;
    struct group *made; /* by the first of its color */
};

static struct group *new_group(const struct mb_comm *c, const void *const *said, int color)
{
    struct group *g = calloc(1, sizeof *g);

    MUST(g != NULL);
    for (int left = 1; left > 0;) { /* in the order of keys, then of ranks */
        const struct wish *next = NULL;
        left = 0;
        for (int r = 0; r < c->g->n; r++) {
            const struct wish *w = said[r];
            bool in = false;
            for (int i = 0; i < g->n; i++)
                in |= g->world[i] == c->g->world[r];
            if (w->color != color || in)
                continue;
            left++;
            next = next == NULL || w->key < next->key ? w : next;
        }
        if (next != NULL)
            g->world[g->n++] = c->g->world[next->me];
    }
    g->users = g->n;
    return g;
}

enum mb_status __wrap_mb_comm_split(struct mb_comm *c, const char *name, int color, int key, struct mb_comm **out)
{
    struct wish mine = {color, key, c->me, NULL};
    const void *const *said = say(c, &mine);

    (void)name;
    *out = NULL;
    for (int r = 0; r < c->g->n && color >= 0; r++) {
        const struct wish *w = said[r];
        if (w->color != color)
            continue;
        if (r == c->me)
            mine.made = new_group(c, said, color);
        break;
    }
    meet(c->g);
    for (int r = 0; r < c->g->n && color >= 0; r++) {
        const struct wish *w = said[r];
        if (w->color != color)
            continue;
        struct mb_comm *n = calloc(1, sizeof *n);
        MUST(n != NULL);
        n->g = w->made;
        while (n->g->world[n->me] != c->g->world[c->me])
            n->me++;
        n->made = c->made;
        c->made = n;
        *out = n;
        break;
    }
    meet(c->g);
    return MB_OK;
}

static void leave(struct mb_comm *c)
{
    if (--c->g->users == 0) {
        MUST(c->g->letters == NULL); /* every message was taken */
        mb_loop_destroy(c->g->loop);
        free(c->g->segment);
        free(c->g);
    }
    free(c);
}

void __wrap_mb_comm_destroy_parts(struct mb_comm *c)
{
    while (c->made != NULL) {
        struct mb_comm *next = c->made->made;
        leave(c->made);
        c->made = next;
    }
}

void __wrap_mb_comm_destroy(struct mb_comm *c)
{
    if (c != NULL)
        leave(c);
}

int __wrap_mb_comm_rank(const struct mb_comm *c)
{
    return c->me;
}

int __wrap_mb_comm_size(const struct mb_comm *c)
{
    return c->g->n;
}

int __wrap_mb_comm_world_rank(const struct mb_comm *c, int rank)
{
    return c->g->world[rank];
}

void __wrap_mb_comm_alive(struct mb_comm *c)
{
    (void)c;
}

void __wrap_mb_comm_begin(struct mb_comm *c)
{
    (void)c;
}

void __wrap_mb_comm_end(struct mb_comm *c, enum mb_status st)
{
    (void)c;
    fprintf(stderr, "a rank ends the job with status %d\n", (int)st);
    abort();
}

void __wrap_mb_comm_moved(const struct mb_comm *c, int64_t *bytes, int64_t *messages)
{
    (void)c, (void)bytes, (void)messages;
}

void __wrap_mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages)
{
    (void)c;
    *bytes = *messages = 0;
}

/* ---------------------------------------------------------------- letters */

enum mb_status __wrap_mb_comm_post(struct mb_comm *c, int to, int tag, const void *data, uint64_t n)
{
    struct letter *l = malloc(sizeof *l + n), **at = &c->g->letters;

    MUST(l != NULL);
    *l = (struct letter){NULL, c->me, to, tag, n};
    if (n > 0)
        memcpy(l->data, data, n);
    while (*at != NULL)
        at = &(*at)->next;
    *at = l;
    return MB_OK;
}

static struct letter *take(struct mb_comm *c, int from, int tag)
{
    double since = 0;

    for (;; give_way(&since)) {
        for (struct letter **at = &c->g->letters; *at != NULL; at = &(*at)->next) {
            struct letter *l = *at;
            if (l->from != from || l->to != c->me || l->tag != tag)
                continue;
            *at = l->next;
            return l;
        }
    }
}

enum mb_status __wrap_mb_comm_take(struct mb_comm *c, int from, int tag, struct mb_bytes *out,
                                   const struct mb_where *at)
{
    struct letter *l = take(c, from, tag);

    (void)at;
    out->len = 0;
    MUST(mb_bytes_put(out, l->data, l->n) == MB_OK);
    free(l);
    return MB_OK;
}

enum mb_status __wrap_mb_comm_swap_some(struct mb_comm *c, const struct mb_piece *send,
                                        const struct mb_piece *recv, const struct mb_where *at)
{
    (void)at;
    for (int r = 0; r < c->g->n; r++) {
        if (r != c->me && send[r].n > 0)
            MUST(__wrap_mb_comm_post(c, r, TAG_SOME, send[r].p, send[r].n) == MB_OK);
    }
    for (int r = 0; r < c->g->n; r++) {
        if (r == c->me || recv[r].n == 0)
            continue;
        struct letter *l = take(c, r, TAG_SOME);
        MUST(l->n == recv[r].n);
        memcpy(recv[r].p, l->data, l->n);
        free(l);
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- exchanges */

enum mb_status __wrap_mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg),
                                    void *arg)
{
    double since = 0;

    (void)c, (void)w;
    while (!ready(arg))
        give_way(&since);
    return MB_OK;
}

/* All members are on one machine. */
enum mb_status __wrap_mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o, struct mb_xchg **out)
{
    struct mb_xchg_room room;
    struct mb_xchg_quota quota[MOST];

    mb_xchg_room_of(o->shape, &room);
    const void *const *said = say(c, &room.quota);
    for (int r = 0; r < c->g->n; r++)
        quota[r] = *(const struct mb_xchg_quota *)said[r];
    if (c->g->loop == NULL) {
        MUST(mb_loop_create(c->g->n, &c->g->loop) == MB_OK);
        c->g->segment = calloc(1, o->shm_bytes);
        MUST(c->g->segment != NULL);
    }
    meet(c->g);
    struct mb_xchg_alone a = {c->g->loop, c->g->n, c->me, o->algorithm == MB_A2A_HIER ? c->g->segment : NULL,
                              quota};
    return mb_xchg_create_alone(o, &a, out);
}

/* ---------------------------------------------------------------- */

struct rank {
    struct mb_comm *world;
    void (*body)(struct mb_comm *world, void *arg);
    void *arg;
};

static void *run(void *arg)
{
    struct rank *r = arg;

    self = r->world->me;
    pthread_mutex_lock(&turn);
    while (whose != self)
        pthread_cond_wait(&called[self], &turn);
    r->body(r->world, r->arg);
    leave(r->world);
    here[self] = false;
    call_next();
    pthread_mutex_unlock(&turn);
    return NULL;
}

void ranks_run(int n, void (*body)(struct mb_comm *world, void *arg), void *arg)
{
    struct group *g = calloc(1, sizeof *g);
    struct rank ranks[MOST];
    pthread_t thread[MOST];

    MUST(g != NULL && n <= MOST);
    g->n = g->users = all = n;
    whose = 0;
    for (int r = 0; r < n; r++) {
        g->world[r] = r;
        here[r] = pthread_cond_init(&called[r], NULL) == 0;
        ranks[r] = (struct rank){calloc(1, sizeof(struct mb_comm)), body, arg};
        MUST(here[r] && ranks[r].world != NULL);
        *ranks[r].world = (struct mb_comm){.g = g, .me = r};
    }
    for (int r = 0; r < n; r++)
        MUST(pthread_create(&thread[r], NULL, run, &ranks[r]) == 0);
    for (int r = 0; r < n; r++)
        pthread_join(thread[r], NULL);
    for (int r = 0; r < n; r++)
        pthread_cond_destroy(&called[r]);
}
