/* Work that some ranks do alone while the others wait. It runs in a thread, so that the main thread, the only
 * one that calls MPI, can tell the others all the while that this rank is alive. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/impl.h"

#define ALIVE_SECONDS 10.0 /* at most between two signs of life */
#define LOOK_MIN 50000     /* nanoseconds between two looks at the work, growing */
#define LOOK_MAX 5000000
#define IDLE_SECONDS 0.1

struct alone {
    enum mb_status (*work)(void *arg);
    void *arg;
    enum mb_status st;
    atomic_bool done;
};

void mb_comm_on_idle(struct mb_comm *c, void (*fn)(void *arg), void *arg)
{
    c->idle = fn;
    c->idle_arg = arg;
}

void mb_comm_idle(struct mb_comm *c)
{
    if (c->idle != NULL)
        c->idle(c->idle_arg);
}

void mb_comm_alive(struct mb_comm *c)
{
    double now = mb_now(), every = 0.25 * c->deadline < ALIVE_SECONDS ? 0.25 * c->deadline : ALIVE_SECONDS;

    if (now - c->last_alive < every)
        return;
    c->last_alive = now;
    for (int r = 0; r < c->size; r++)
        if (r != c->rank)
            mb_ctl_present(c, r, MB_PRESENT_ALIVE);
    mb_ctl_progress(c);
}

static void *work_thread(void *arg)
{
    struct alone *a = arg;

    a->st = a->work(a->arg);
    atomic_store(&a->done, true);
    return NULL;
}

/* Until the work is done; one line when it has taken half a deadline, and at each doubling. */
static void watch(struct mb_comm *c, struct alone *a, const char *what)
{
    double begin = mb_now(), say = 0.5 * c->deadline, last_idle = begin;
    struct timespec t = {0, LOOK_MIN};

    while (!atomic_load(&a->done)) {
        nanosleep(&t, NULL);
        t.tv_nsec = t.tv_nsec * 3 / 2 < LOOK_MAX ? t.tv_nsec * 3 / 2 : LOOK_MAX;
        mb_ctl_progress(c);
        mb_comm_alive(c);
        double now = mb_now();
        if (now - begin >= say) {
            mb_warn_alone("%s has taken %.0f s; the other ranks wait", what, now - begin);
            say *= 2;
        }
        if (now - last_idle > IDLE_SECONDS) {
            last_idle = now;
            mb_comm_idle(c);
        }
    }
}

static enum mb_status work_alone(struct mb_comm *c, struct alone *a, const char *what)
{
    pthread_t thread;
    sigset_t all, old;

    if (c->size == 1)
        return a->work(a->arg);
    c->last_alive = mb_now();
    sigfillset(&all); /* signals are for the main thread */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&thread, NULL, work_thread, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return a->work(a->arg); /* without the thread nobody hears that this rank is alive */
    watch(c, a, what);
    pthread_join(thread, NULL);
    return a->st;
}

enum mb_status mb_comm_alone(struct mb_comm *c, bool me, enum mb_status (*work)(void *arg), void *arg,
                             const char *what)
{
    struct alone a = {.work = work, .arg = arg, .st = MB_OK};

    return mb_comm_agree(c, me ? work_alone(c, &a, what) : MB_OK, what);
}
