#include "comm/wait.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/impl.h"

/* Longest time that one step between two looks counts for: far above a time slice, far below any suspension. */
#define STEP_MAX 0.05
/* Looks without giving up the CPU, then seconds of yielding, then sleeps that grow from SLEEP_MIN to SLEEP_MAX. */
#define SPINS 32
#define YIELD_SECONDS 200e-6
#define SLEEP_MIN 10e-6
#define SLEEP_MAX 100e-6

/* One wait under way. */
struct waiting {
    struct mb_comm *c;
    const struct mb_wait_for *w;
    double counted, last, sleep;
    int64_t looks;
    bool asked, warned;
};

void mb_wait_begin(struct mb_comm *c)
{
    c->op++;
}

/* Presence. When a wait takes long, each waiter asks all others how far they are; whoever is waiting too answers. So the
 * ranks that have not begun this operation are known to everybody, whatever the operation's own messages look like. */
static void ask_all(struct mb_comm *c)
{
    for (int r = 0; r < c->size; r++)
        if (r != c->rank)
            mb_ctl_present(c, r, true);
}

void mb_wait_heard(struct mb_comm *c, int from, uint64_t op, bool ask)
{
    if (op > c->present[from])
        c->present[from] = op;
    if (ask)
        mb_ctl_present(c, from, false);
}

static bool arrived(const struct mb_comm *c, int r)
{
    return r == c->rank || c->present[r] >= c->op;
}

/* The line is printed once: by the lowest rank that has arrived. */
static bool first_arrived(const struct mb_comm *c)
{
    int r = 0;

    while (!arrived(c, r))
        r++;
    return r == c->rank;
}

/* "3, 5-7"; cut with "..." where it does not fit. */
static void missing_ranks(const struct mb_comm *c, char *text, size_t cap)
{
    size_t n = 0;

    text[0] = '\0';
    for (int r = 0; r < c->size; r++) {
        if (arrived(c, r))
            continue;
        int end = r;
        while (end + 1 < c->size && !arrived(c, end + 1) && c->world[end + 1] == c->world[end] + 1)
            end++;
        if (n + 32 > cap) {
            snprintf(text + n, cap - n, " ...");
            return;
        }
        n += (size_t)snprintf(text + n, cap - n, "%s%d", n > 0 ? ", " : "", c->world[r]);
        if (end > r)
            n += (size_t)snprintf(text + n, cap - n, "-%d", c->world[end]);
        r = end;
    }
}

static void describe(const struct waiting *v, char *text, size_t cap)
{
    char who[240], place[160];
    const struct mb_wait_for *w = v->w;
    int n = snprintf(place, sizeof place, "%s", w->op);

    if (w->what != NULL)
        n += snprintf(place + n, sizeof place - (size_t)n, " (%.60s)", w->what);
    if (w->step >= 0)
        n += snprintf(place + n, sizeof place - (size_t)n, ", step %lld", (long long)w->step);
    if (w->layer >= 0)
        snprintf(place + n, sizeof place - (size_t)n, ", layer %d", w->layer);
    missing_ranks(v->c, who, sizeof who);
    if (who[0] != '\0')
        snprintf(text, cap, "waited %.1f s in %s for ranks that have not arrived: %s", v->counted, place, who);
    else
        snprintf(text, cap, "waited %.1f s in %s: all ranks have arrived, data is still under way", v->counted, place);
}

static void half_time(struct waiting *v)
{
    char text[480];
    double deadline = v->c->deadline;
    double grace = deadline < 10 ? 0.05 * deadline : 0.5; /* time for the answers */

    if (!v->asked && v->counted >= 0.5 * deadline) {
        v->asked = true;
        ask_all(v->c);
    }
    if (!v->warned && v->counted >= 0.5 * deadline + grace) {
        v->warned = true;
        describe(v, text, sizeof text);
        if (first_arrived(v->c))
            mb_warn("%s; the deadline is %.0f s", text, deadline);
    }
}

static void time_up(struct waiting *v)
{
    char text[480];

    describe(v, text, sizeof text);
    if (first_arrived(v->c))
        mb_error(MB_DEADLINE, "%s; the deadline of %.0f s is over, the job ends with exit 75 and can be resumed", text,
                 v->c->deadline);
    mb_comm_end(v->c, MB_DEADLINE);
}

static void pause_a_little(struct waiting *v)
{
    if (v->looks < SPINS)
        return;
    if (v->counted < YIELD_SECONDS) {
        sched_yield();
        return;
    }
    struct timespec t = {0, (long)(1e9 * v->sleep)};
    nanosleep(&t, NULL);
    v->sleep = v->sleep * 1.5 < SLEEP_MAX ? v->sleep * 1.5 : SLEEP_MAX;
}

static void count(struct waiting *v)
{
    double now = mb_now(), step = now - v->last;

    v->last = now;
    v->counted += step < STEP_MAX ? step : STEP_MAX;
    if (v->counted >= 0.5 * v->c->deadline)
        half_time(v);
    if (v->counted >= v->c->deadline)
        time_up(v);
}

enum mb_status mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg), void *arg)
{
    struct waiting v = {.c = c, .w = w, .sleep = SLEEP_MIN};

    while (!ready(arg)) {
        if (v.looks == 0)
            v.last = mb_now();
        /* A message left in MPI for want of memory stays there until somebody polls for it. */
        if (v.looks++ >= SPINS)
            mb_ctl_progress(c);
        pause_a_little(&v);
        count(&v);
    }
    return MB_OK;
}

struct requests {
    struct mb_comm *c;
    MPI_Request *rq;
    int n;
};

static bool all_done(void *arg)
{
    struct requests *r = arg;
    int done = 0;

    mb_mpi_check(r->c, MPI_Testall(r->n, r->rq, &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    return done != 0;
}

enum mb_status mb_wait_all(struct mb_comm *c, const struct mb_wait_for *w, MPI_Request *rq, int n)
{
    struct requests r = {c, rq, n};

    return mb_wait_until(c, w, all_done, &r);
}
