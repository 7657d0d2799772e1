/* Enough of MPI for src/comm, with the ranks of a job as threads of one process: linked in front of the
 * library, so that the tests that otherwise need mpirun run as unit tests, under a debugger or a sanitizer.
 * RANKS of them call test_main, which is the main of the test's other file, with CASES as argument. Messages
 * are copied when they are sent; receives of one rank match in the order in which they were posted; a
 * collective operation ends when all have come. */
#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#undef main

#define MOST 64

int test_main(int argc, char **argv);

struct comm {
    struct comm *next;
    int n, me, world[MOST];
    uint64_t context, made,
        ops; /* the same on all members; communicators made and collectives begun by this one */
};
struct letter {
    struct letter *next;
    uint64_t context;
    int from, to, tag;
    size_t n;
    uint8_t data[];
};
enum what { BARRIER, BCAST, REDUCE, GATHER, ALLTOALL, SPLIT };
/* A collective operation under way: what each has brought. */
struct meeting {
    struct meeting *next;
    uint64_t context, number;
    int came, left;
    void *in[MOST];
};
struct request {
    struct request *next; /* receives that are posted, in order */
    bool done, recv;
    struct comm *c;
    int peer, tag;
    void *out;
    size_t n;
    struct meeting *m; /* a collective one: */
    enum what what;
    MPI_Op op;
    int root;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static struct letter *letters;
static struct request *posted;
static struct meeting *meetings;
static _Thread_local int self;
static _Thread_local struct comm *own; /* communicators of this rank */

static void *zeroed(size_t n)
{
    void *p = calloc(1, n + 1);

    if (p == NULL)
        abort();
    return p;
}

static void copy(void *to, const void *from, size_t n)
{
    if (n > 0)
        memcpy(to, from, n);
}

/* ---------------------------------------------------------------- communicators */
static struct comm *comm_of(MPI_Comm c)
{
    if (c != MPI_COMM_WORLD)
        return (struct comm *)(void *)c;
    struct comm *w = own;
    while (w != NULL && w->context != 0)
        w = w->next;
    if (w == NULL) {
        w = zeroed(sizeof *w);
        *w = (struct comm){.next = own, .n = RANKS, .me = self};
        for (int i = 0; i < RANKS; i++)
            w->world[i] = i;
        own = w;
    }
    return w;
}

/* A number that all members find alike. */
static uint64_t context_of(const struct comm *c, uint64_t part)
{
    uint64_t z = (c->context * 1000003 + c->made) * 1000003 + part + 1;

    z = (z ^ z >> 31) * 0x9e3779b97f4a7c15u;
    return z ^ z >> 29;
}

int MPI_Comm_rank(MPI_Comm c, int *rank)
{
    *rank = comm_of(c)->me;
    return MPI_SUCCESS;
}
int MPI_Comm_size(MPI_Comm c, int *size)
{
    *size = comm_of(c)->n;
    return MPI_SUCCESS;
}
int MPI_Comm_dup(MPI_Comm c, MPI_Comm *out)
{
    struct comm *from = comm_of(c), *d = zeroed(sizeof *d);

    *d = *from;
    from->made++;
    d->context = context_of(from, 0);
    d->made = d->ops = 0;
    d->next = NULL;
    *out = (MPI_Comm)(void *)d;
    return MPI_SUCCESS;
}
int MPI_Comm_free(MPI_Comm *c)
{
    free(*c);
    *c = MPI_COMM_NULL;
    return MPI_SUCCESS;
}
int MPI_Comm_set_errhandler(MPI_Comm c, MPI_Errhandler e)
{
    (void)c;
    (void)e;
    return MPI_SUCCESS;
}

/* ---------------------------------------------------------------- collective operations; with the lock held
 */
/* Comes to the next operation of a communicator with n bytes. */
static struct meeting *come(struct comm *c, const void *in, size_t n)
{
    struct meeting *m = meetings;
    uint64_t number = ++c->ops;

    while (m != NULL && (m->context != c->context || m->number != number))
        m = m->next;
    if (m == NULL) {
        m = zeroed(sizeof *m);
        *m = (struct meeting){.next = meetings, .context = c->context, .number = number};
        meetings = m;
    }
    m->in[c->me] = zeroed(n);
    copy(m->in[c->me], in, n);
    m->came++;
    pthread_cond_broadcast(&came);
    return m;
}

static void leave(struct meeting *m, int n)
{
    struct meeting **at = &meetings;

    if (++m->left < n)
        return;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    for (int i = 0; i < n; i++)
        free(m->in[i]);
    free(m);
}

static void reduce(const struct request *r)
{
    int64_t *out = r->out;

    for (size_t i = 0; i < r->n / 8; i++) {
        int64_t v = ((int64_t *)r->m->in[0])[i];
        for (int q = 1; q < r->c->n; q++) {
            int64_t w = ((int64_t *)r->m->in[q])[i];
            v = r->op == MPI_SUM ? v + w : w > v ? w : v;
        }
        out[i] = v;
    }
}

static void finish(struct request *r)
{
    uint8_t *out = r->out;

    if (r->what == REDUCE)
        reduce(r);
    else if (r->what == BCAST && r->c->me != r->root)
        copy(out, r->m->in[r->root], r->n);
    for (int q = 0; r->what == GATHER && q < r->c->n; q++)
        copy(out + (size_t)q * r->n, r->m->in[q], r->n);
    for (int q = 0; r->what == ALLTOALL && q < r->c->n; q++)
        copy(out + (size_t)q * r->n, (uint8_t *)r->m->in[q] + (size_t)r->c->me * r->n, r->n);
    leave(r->m, r->c->n);
}

static MPI_Request request(const struct request *r)
{
    struct request *q = zeroed(sizeof *q);

    *q = *r;
    return (MPI_Request)(void *)q;
}

static int begin(MPI_Comm c, enum what what, const void *in, size_t brought, void *out, size_t n, MPI_Op op,
                 int root, MPI_Request *rq)
{
    struct comm *k = comm_of(c);

    pthread_mutex_lock(&lock);
    struct meeting *m = come(k, in, brought);
    pthread_mutex_unlock(&lock);
    *rq =
        request(&(struct request){.c = k, .out = out, .n = n, .m = m, .what = what, .op = op, .root = root});
    return MPI_SUCCESS;
}

static size_t bytes_of(MPI_Datatype t, int n)
{
    return (size_t)n * (t == MPI_BYTE ? 1 : 8);
}

int MPI_Ibarrier(MPI_Comm c, MPI_Request *rq)
{
    return begin(c, BARRIER, NULL, 0, NULL, 0, MPI_SUM, 0, rq);
}
int MPI_Ibcast(void *data, int n, MPI_Datatype t, int root, MPI_Comm c, MPI_Request *rq)
{
    size_t bytes = bytes_of(t, n);

    return begin(c, BCAST, data, comm_of(c)->me == root ? bytes : 0, data, bytes, MPI_SUM, root, rq);
}
int MPI_Iallgather(const void *in, int n, MPI_Datatype t, void *out, int m, MPI_Datatype u, MPI_Comm c,
                   MPI_Request *rq)
{
    (void)m;
    (void)u;
    return begin(c, GATHER, in, bytes_of(t, n), out, bytes_of(t, n), MPI_SUM, 0, rq);
}
int MPI_Iallreduce(const void *in, void *out, int n, MPI_Datatype t, MPI_Op op, MPI_Comm c, MPI_Request *rq)
{
    return begin(c, REDUCE, in == MPI_IN_PLACE ? out : in, bytes_of(t, n), out, bytes_of(t, n), op, 0, rq);
}
int MPI_Ialltoall(const void *in, int n, MPI_Datatype t, void *out, int m, MPI_Datatype u, MPI_Comm c,
                  MPI_Request *rq)
{
    (void)m;
    (void)u;
    return begin(c, ALLTOALL, in, bytes_of(t, n) * (size_t)comm_of(c)->n, out, bytes_of(t, n), MPI_SUM, 0,
                 rq);
}

/* Members by key, then by rank before. */
static struct comm *part_of(const struct comm *c, const struct meeting *m, int color)
{
    struct comm *p = zeroed(sizeof *p);
    int key[MOST];

    for (int q = 0; q < c->n; q++) {
        const int *said = m->in[q];
        if (said[0] != color)
            continue;
        int at = p->n++;
        for (; at > 0 && key[at - 1] > said[1]; at--) {
            key[at] = key[at - 1];
            p->world[at] = p->world[at - 1];
        }
        key[at] = said[1];
        p->world[at] = c->world[q];
    }
    for (int i = 0; i < p->n; i++)
        p->me = p->world[i] == self ? i : p->me;
    p->context = context_of(c, (uint64_t)color + 1);
    return p;
}

int MPI_Comm_split(MPI_Comm c, int color, int key, MPI_Comm *out)
{
    struct comm *k = comm_of(c);
    int said[2] = {color, key};

    pthread_mutex_lock(&lock);
    struct meeting *m = come(k, said, sizeof said);
    while (m->came < k->n)
        pthread_cond_wait(&came, &lock);
    k->made++;
    *out = color == MPI_UNDEFINED ? MPI_COMM_NULL : (MPI_Comm)(void *)part_of(k, m, color);
    leave(m, k->n);
    pthread_mutex_unlock(&lock);
    return MPI_SUCCESS;
}

/* ---------------------------------------------------------------- messages */
static bool fits(const struct letter *l, const struct comm *c, int peer, int tag)
{
    return l->context == c->context && l->to == c->me && (peer == MPI_ANY_SOURCE || l->from == peer) &&
           (tag == MPI_ANY_TAG || l->tag == tag);
}

static struct letter **find(const struct comm *c, int peer, int tag)
{
    struct letter **at = &letters;

    while (*at != NULL && !fits(*at, c, peer, tag))
        at = &(*at)->next;
    return at;
}

static void receive(struct request *r)
{
    struct letter **at = find(r->c, r->peer, r->tag), *l = *at;

    if (l == NULL)
        return;
    if (l->n > r->n)
        abort();
    copy(r->out, l->data, l->n);
    *at = l->next;
    free(l);
    r->done = true;
}

static void progress(void)
{
    for (struct request **at = &posted; *at != NULL;) {
        receive(*at);
        if ((*at)->done)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    }
}

int MPI_Isend(const void *data, int n, MPI_Datatype t, int to, int tag, MPI_Comm c, MPI_Request *rq)
{
    struct comm *k = comm_of(c);
    struct letter *l = zeroed(sizeof *l + bytes_of(t, n)), **at = &letters;

    *l = (struct letter){.context = k->context, .from = k->me, .to = to, .tag = tag, .n = bytes_of(t, n)};
    copy(l->data, data, l->n);
    pthread_mutex_lock(&lock);
    while (*at != NULL)
        at = &(*at)->next;
    *at = l;
    progress();
    pthread_mutex_unlock(&lock);
    *rq = request(&(struct request){.done = true});
    return MPI_SUCCESS;
}
int MPI_Irecv(void *out, int n, MPI_Datatype t, int from, int tag, MPI_Comm c, MPI_Request *rq)
{
    struct request r = {
        .recv = true, .c = comm_of(c), .peer = from, .tag = tag, .out = out, .n = bytes_of(t, n)};
    struct request **at = &posted;

    *rq = request(&r);
    pthread_mutex_lock(&lock);
    while (*at != NULL)
        at = &(*at)->next;
    *at = (struct request *)(void *)*rq;
    progress();
    pthread_mutex_unlock(&lock);
    return MPI_SUCCESS;
}

static bool probe(struct comm *c, int from, int tag, struct letter **out, MPI_Status *s)
{
    struct letter **at = find(c, from, tag), *l = *at;

    if (l == NULL)
        return false;
    s->MPI_SOURCE = l->from;
    s->MPI_TAG = l->tag;
    s->_ucount = l->n;
    if (out != NULL) {
        *at = l->next;
        *out = l;
    }
    return true;
}
int MPI_Iprobe(int from, int tag, MPI_Comm c, int *here, MPI_Status *s)
{
    pthread_mutex_lock(&lock);
    *here = probe(comm_of(c), from, tag, NULL, s);
    pthread_mutex_unlock(&lock);
    return MPI_SUCCESS;
}
int MPI_Improbe(int from, int tag, MPI_Comm c, int *here, MPI_Message *m, MPI_Status *s)
{
    struct letter *l = NULL;

    pthread_mutex_lock(&lock);
    *here = probe(comm_of(c), from, tag, &l, s);
    pthread_mutex_unlock(&lock);
    *m = (MPI_Message)(void *)l;
    return MPI_SUCCESS;
}
int MPI_Imrecv(void *out, int n, MPI_Datatype t, MPI_Message *m, MPI_Request *rq)
{
    struct letter *l = (struct letter *)(void *)*m;

    (void)n;
    (void)t;
    copy(out, l->data, l->n);
    free(l);
    *rq = request(&(struct request){.done = true});
    return MPI_SUCCESS;
}
int MPI_Get_count(const MPI_Status *s, MPI_Datatype t, int *n)
{
    (void)t;
    *n = (int)s->_ucount;
    return MPI_SUCCESS;
}

/* ---------------------------------------------------------------- requests */
static bool ended(MPI_Request *rq)
{
    struct request *r = (struct request *)(void *)*rq;

    if (*rq == MPI_REQUEST_NULL)
        return true;
    pthread_mutex_lock(&lock);
    bool done = r->done || (r->m != NULL && r->m->came == r->c->n);
    if (done && r->m != NULL)
        finish(r);
    pthread_mutex_unlock(&lock);
    if (done) {
        free(r);
        *rq = MPI_REQUEST_NULL;
    }
    return done;
}
int MPI_Test(MPI_Request *rq, int *done, MPI_Status *s)
{
    (void)s;
    *done = ended(rq);
    return MPI_SUCCESS;
}
int MPI_Testall(int n, MPI_Request rq[], int *done, MPI_Status s[])
{
    (void)s;
    *done = 1;
    for (int i = 0; i < n; i++)
        *done &= ended(&rq[i]);
    return MPI_SUCCESS;
}
int MPI_Testsome(int n, MPI_Request rq[], int *count, int which[], MPI_Status s[])
{
    (void)s;
    *count = 0;
    for (int i = 0; i < n; i++)
        if (rq[i] != MPI_REQUEST_NULL && ended(&rq[i]))
            which[(*count)++] = i;
    return MPI_SUCCESS;
}
int MPI_Cancel(MPI_Request *rq)
{
    struct request *r = (struct request *)(void *)*rq, **at = &posted;

    pthread_mutex_lock(&lock);
    while (*at != NULL && *at != r)
        at = &(*at)->next;
    if (*at != NULL)
        *at = r->next;
    r->done = true;
    pthread_mutex_unlock(&lock);
    return MPI_SUCCESS;
}

/* ---------------------------------------------------------------- the rest */
extern void __gcov_dump(void) __attribute__((weak));

int MPI_Abort(MPI_Comm c, int code)
{
    (void)c;
    if (__gcov_dump != NULL)
        __gcov_dump();
    _exit(code);
}
int MPI_Init_thread(int *argc, char ***argv, int want, int *got)
{
    (void)argc;
    (void)argv;
    *got = want;
    return MPI_SUCCESS;
}
int MPI_Finalize(void)
{
    return MPI_SUCCESS;
}
int MPI_Error_string(int code, char *text, int *n)
{
    *n = sprintf(text, "error %d", code);
    return MPI_SUCCESS;
}
int MPI_Get_library_version(char *text, int *n)
{
    *n = sprintf(text, "Open MPI? no: ranks as threads\nof one process");
    return MPI_SUCCESS;
}

static void *rank(void *arg)
{
    char *argv[] = {"test", CASES, NULL};

    self = (int)(intptr_t)arg;
    int rc = test_main(2, argv);
    while (own != NULL) {
        struct comm *c = own;
        own = c->next;
        free(c);
    }
    return (void *)(intptr_t)rc;
}

int main(void)
{
    pthread_t t[RANKS];
    intptr_t failed = 0;

    for (int i = 0; i < RANKS; i++)
        if (pthread_create(&t[i], NULL, rank, (void *)(intptr_t)i) != 0)
            abort();
    for (int i = 0; i < RANKS; i++) {
        void *rc;
        pthread_join(t[i], &rc);
        failed |= (intptr_t)rc;
    }
    if (letters != NULL || posted != NULL || meetings != NULL) {
        fprintf(stderr, "a message, a receive or an operation is left\n");
        return 1;
    }
    return (int)failed;
}
