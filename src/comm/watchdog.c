#include "comm/watchdog.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"

/* The thread looks this often; a look that comes later than STEP_MAX (the process was suspended) counts as STEP_MAX. */
#define STEP_SECONDS 0.1
#define STEP_MAX 0.3

struct mb_watchdog {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool quit, active, warned;
    char what[80];
    double deadline, counted;
    atomic_flag lost;
    void (*on_lost)(void *);
    void *on_lost_arg;
};

/* With the lock held: adds a step, warns at half, and says whether time is up. */
static bool count(struct mb_watchdog *d, double step)
{
    d->counted += step < STEP_MAX ? step : STEP_MAX;
    if (!d->warned && d->counted >= 0.5 * d->deadline) {
        d->warned = true;
        mb_warn_alone("%s has taken %.0f s, half of the deadline", d->what, d->counted);
    }
    return d->counted >= d->deadline;
}

static void sleep_step(struct mb_watchdog *d)
{
    struct timespec t;

    if (!d->active) {
        pthread_cond_wait(&d->wake, &d->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += (long)(1e9 * STEP_SECONDS);
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    pthread_cond_timedwait(&d->wake, &d->lock, &t);
}

static void *watch(void *arg)
{
    struct mb_watchdog *d = arg;
    double last = mb_now();
    bool up = false;

    pthread_mutex_lock(&d->lock);
    while (!d->quit && !up) {
        bool was = d->active;
        sleep_step(d);
        double now = mb_now();
        if (was && d->active)
            up = count(d, now - last);
        last = now;
    }
    pthread_mutex_unlock(&d->lock);
    if (!up)
        return NULL;
    mb_error(MB_DEADLINE, "%s did not return within %.0f s: a rank or the network hangs; the job ends with exit 75, resume "
             "it with --resume", d->what, d->deadline);
    mb_log_say_held();
    mb_watchdog_run_lost(d);
    _exit(mb_status_exit(MB_DEADLINE));
}

static enum mb_status start(struct mb_watchdog *d)
{
    sigset_t all, old;

    /* Signals are for the main thread: the handlers of stop requests run there. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&d->thread, NULL, watch, d);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? MB_OK : mb_error(MB_NO_MEMORY, "the watchdog thread cannot be started; raise the limit of processes");
}

enum mb_status mb_watchdog_create(double deadline, struct mb_watchdog **out)
{
    pthread_condattr_t attr;
    struct mb_watchdog *d = calloc(1, sizeof *d);

    if (d == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the watchdog");
    d->deadline = deadline;
    atomic_flag_clear(&d->lost);
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &attr);
    pthread_condattr_destroy(&attr);
    enum mb_status st = start(d);
    if (st != MB_OK) {
        free(d);
        return st;
    }
    *out = d;
    return MB_OK;
}

void mb_watchdog_destroy(struct mb_watchdog *d)
{
    if (d == NULL)
        return;
    pthread_mutex_lock(&d->lock);
    d->quit = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    pthread_cond_destroy(&d->wake);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void mb_watchdog_on_lost(struct mb_watchdog *d, void (*fn)(void *), void *arg)
{
    pthread_mutex_lock(&d->lock);
    d->on_lost = fn;
    d->on_lost_arg = arg;
    pthread_mutex_unlock(&d->lock);
}

void mb_watchdog_run_lost(struct mb_watchdog *d)
{
    pthread_mutex_lock(&d->lock);
    void (*fn)(void *) = d->on_lost;
    void *arg = d->on_lost_arg;
    pthread_mutex_unlock(&d->lock);
    if (!atomic_flag_test_and_set(&d->lost) && fn != NULL)
        fn(arg);
}

void mb_watchdog_begin(struct mb_watchdog *d, const char *what)
{
    pthread_mutex_lock(&d->lock);
    snprintf(d->what, sizeof d->what, "%s", what);
    d->counted = 0;
    d->warned = false;
    d->active = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

void mb_watchdog_end(struct mb_watchdog *d)
{
    pthread_mutex_lock(&d->lock);
    d->active = false;
    pthread_mutex_unlock(&d->lock);
}
