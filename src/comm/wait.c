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
#define IDLE_SECONDS 0.1

/* One wait under way. */
struct waiting {
    struct mb_comm *c;
    const struct mb_wait_for *w;
    double counted, last, sleep;
    double last_idle;
    int64_t looks;
    uint64_t alive; /* of the communicator, when it was last looked at */
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
    for (int r = 0; r < c->size; r++) {
        if (r == c->rank)
            continue;
        c->present[r] = 0; /* what counts is who answers now: a rank may stop in the middle of an operation */
        mb_ctl_present(c, r, MB_PRESENT_ASK);
    }
}

void mb_wait_heard(struct mb_comm *c, int from, uint64_t op, int kind)
{
    if (kind == MB_PRESENT_ALIVE) {
        c->alive++;
        return;
    }
    if (op > c->present[from])
        c->present[from] = op;
    if (kind == MB_PRESENT_ASK)
        mb_ctl_present(c, from, MB_PRESENT_ANSWER);
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

static const char *host_of(const struct mb_comm *c, int r)
{
    return c->host[c->world[r]];
}

/* Whether r is one to name. Ranks that are behind but wait themselves have answered: where others are silent, it is these that
 * all are waiting for. */
static bool missing(const struct mb_comm *c, int r)
{
    bool silent = false;

    for (int i = 0; i < c->size; i++)
        silent |= i != c->rank && c->present[i] == 0;
    return silent ? r != c->rank && c->present[r] == 0 : !arrived(c, r);
}

/* "3 (node1), 5-7 (node2)": neighbours of one host together; cut with "..." where it does not fit. */
static void missing_ranks(const struct mb_comm *c, char *text, size_t cap)
{
    size_t n = 0;

    text[0] = '\0';
    for (int r = 0; r < c->size; r++) {
        if (!missing(c, r))
            continue;
        int end = r;
        while (end + 1 < c->size && missing(c, end + 1) && c->world[end + 1] == c->world[end] + 1 &&
               strcmp(host_of(c, end + 1), host_of(c, r)) == 0)
            end++;
        if (n + 32 + MB_HOST_NAME > cap) {
            snprintf(text + n, cap - n, " ...");
            return;
        }
        n += (size_t)snprintf(text + n, cap - n, "%s%d", n > 0 ? ", " : "", c->world[r]);
        if (end > r)
            n += (size_t)snprintf(text + n, cap - n, "-%d", c->world[end]);
        n += (size_t)snprintf(text + n, cap - n, " (%s)", host_of(c, r));
        r = end;
    }
}

static void describe(const struct waiting *v, char *text, size_t cap)
{
    char who[400], place[160];
    const struct mb_wait_for *w = v->w;
    int n = snprintf(place, sizeof place, "%s", w->op);

    if (v->c->sub)
        n += snprintf(place + n, sizeof place - (size_t)n, " of %.30s", v->c->name);

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
    char text[640];
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
            mb_warn_alone("%s; the deadline is %.0f s", text, deadline);
    }
}

static enum mb_status time_up(struct waiting *v)
{
    char text[640];

    describe(v, text, sizeof text);
    if (first_arrived(v->c))
        mb_error(MB_DEADLINE, "%s; the deadline of %.0f s is over, the job ends with exit 75 and can be resumed", text,
                 v->c->deadline);
    if (!v->w->latch)
        mb_comm_end(v->c, MB_DEADLINE);
    return MB_DEADLINE;
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

static enum mb_status count(struct waiting *v)
{
    double now = mb_now(), step = now - v->last;

    v->last = now;
    v->counted += step < STEP_MAX ? step : STEP_MAX;
    if (v->alive != v->c->alive) { /* somebody is at work alone: time begins anew */
        v->alive = v->c->alive;
        v->counted = YIELD_SECONDS;
        v->asked = v->warned = false;
    }
    if (now - v->last_idle > IDLE_SECONDS) {
        v->last_idle = now;
        mb_comm_idle(v->c);
    }
    if (v->counted >= 0.5 * v->c->deadline)
        half_time(v);
    if (v->counted >= v->c->deadline)
        return time_up(v);
    return MB_OK;
}

enum mb_status mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg), void *arg)
{
    struct waiting v = {.c = c, .w = w, .sleep = SLEEP_MIN, .alive = c->alive};

    while (!ready(arg)) {
        if (v.looks == 0)
            v.last = v.last_idle = mb_now();
        /* A message left in MPI for want of memory stays there until somebody polls for it. */
        if (v.looks++ >= SPINS)
            mb_ctl_progress(c);
        pause_a_little(&v);
        MB_TRY(count(&v));
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
