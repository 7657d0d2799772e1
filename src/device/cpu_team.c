#include "device/cpu_team.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/log.h"

/* Who waits looks this often before it sleeps: about 30 microseconds, longer than the gaps between the
 * operations of a layer and short against what another process could do with the core. */
#define SPINS 1500
#define LINE 64 /* bytes that two threads should not share */

/* Orders for one thread: a number that goes up by one with each, odd numbers ask it to leave. Alone in its
 * cache line. */
struct seat {
    _Alignas(LINE) _Atomic uint32_t order;
    _Atomic uint32_t sleeps;
    struct mb_cpu_team *team;
    int32_t index;
    pthread_t id;
};

struct mb_cpu_team {
    int32_t threads, started;
    mb_cpu_team_fn fn;
    void *arg;
    _Alignas(LINE) _Atomic uint32_t busy; /* threads that have not returned yet */
    _Atomic uint32_t caller_sleeps;
    struct seat *seat; /* [threads]; 0: the caller's, unused */
};

static void relax(void)
{
#if defined __x86_64__ || defined __i386__
    __builtin_ia32_pause();
#endif
}

static void futex_wait(_Atomic uint32_t *at, uint32_t value)
{
    (void)syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0); /* any return: look again */
}

static void futex_wake(_Atomic uint32_t *at)
{
    (void)syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Until *at is no longer `value`. `sleeps` tells the one who changes it that a wake-up is needed: both sides
 * write their own word before they read the other's, in one order for all, so that not both can miss it. */
static uint32_t wait_change(_Atomic uint32_t *at, uint32_t value, _Atomic uint32_t *sleeps)
{
    uint32_t now;

    for (int i = 0; i < SPINS; i++) {
        now = atomic_load_explicit(at, memory_order_acquire);
        if (now != value)
            return now;
        relax();
    }
    atomic_store(sleeps, 1);
    while ((now = atomic_load(at)) == value)
        futex_wait(at, value);
    atomic_store(sleeps, 0);
    return now;
}

static void give(struct seat *s, uint32_t step)
{
    atomic_fetch_add(&s->order, step);
    if (atomic_load(&s->sleeps) != 0)
        futex_wake(&s->order);
}

static void finish(struct mb_cpu_team *t)
{
    atomic_fetch_sub(&t->busy, 1);
    if (atomic_load(&t->caller_sleeps) != 0)
        futex_wake(&t->busy);
}

static void *serve(void *arg)
{
    struct seat *s = arg;
    uint32_t seen = 0;

    for (;;) {
        seen = wait_change(&s->order, seen, &s->sleeps);
        if (seen % 2 != 0)
            return NULL;
        s->team->fn(s->team->arg, s->index);
        finish(s->team);
    }
}

/* Signals are for the thread that runs MPI. */
static int start(struct seat *s)
{
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&s->id, NULL, serve, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return e;
}

enum mb_status mb_cpu_team_create(int32_t threads, struct mb_cpu_team **out)
{
    struct mb_cpu_team *t = aligned_alloc(LINE, sizeof *t);

    if (t == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a team of threads");
    memset(t, 0, sizeof *t);
    t->threads = threads;
    t->started = 1;
    t->seat = aligned_alloc(LINE, (size_t)threads * sizeof *t->seat);
    if (t->seat == NULL) {
        free(t);
        return mb_error(MB_NO_MEMORY, "no memory for a team of %d threads", threads);
    }
    memset(t->seat, 0, (size_t)threads * sizeof *t->seat);
    for (int32_t i = 1; i < threads; i++) {
        t->seat[i].team = t;
        t->seat[i].index = i;
        int e = start(&t->seat[i]);
        if (e != 0) {
            mb_cpu_team_destroy(t);
            return mb_error(MB_NO_MEMORY,
                            "thread %d of %d can't be started: %s; lower --threads, or raise ulimit -u",
                            i + 1, threads, strerror(e));
        }
        t->started++;
    }
    *out = t;
    return MB_OK;
}

void mb_cpu_team_destroy(struct mb_cpu_team *t)
{
    if (t == NULL)
        return;
    for (int32_t i = 1; i < t->started; i++)
        give(&t->seat[i], 1);
    for (int32_t i = 1; i < t->started; i++)
        pthread_join(t->seat[i].id, NULL);
    free(t->seat);
    free(t);
}

void mb_cpu_team_run(struct mb_cpu_team *t, int32_t n, mb_cpu_team_fn fn, void *arg)
{
    uint32_t busy = (uint32_t)n - 1;

    t->fn = fn;
    t->arg = arg;
    atomic_store(&t->busy, busy);
    for (int32_t i = 1; i < n; i++)
        give(&t->seat[i], 2);
    fn(arg, 0);
    while ((busy = atomic_load_explicit(&t->busy, memory_order_acquire)) != 0)
        (void)wait_change(&t->busy, busy, &t->caller_sleeps);
}
