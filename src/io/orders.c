#include "io/orders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/publish.h"

enum { ASK_BYTES = 4096, STATUS_BYTES = 65536, LOOK_MS = 500, NAME = 80 };

const char *const mb_order_names[MB_ORDERS] = {"status", "drain", "stop"};

struct mb_orders {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool leaving;
    char *dir, *ctl, *events, *status; /* RESULTS.h5.d, its ctl/, events and status.json */
    int32_t run;
    _Atomic unsigned wanted;
};

/* ---------------------------------------------------------------- reading an ask */
/* A small file of the job's user (or root's), read through no link. -1: not one. */
static ssize_t read_small(const char *path, char *buf, size_t cap, uid_t *uid)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = -1;

    if (fd < 0)
        return -1;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && (s.st_uid == geteuid() || s.st_uid == 0)) {
        *uid = s.st_uid;
        n = pread(fd, buf, cap, 0);
    }
    close(fd);
    return n == (ssize_t)cap ? -1 : n;
}

static int verb_of(const char *name)
{
    for (int v = 0; name != NULL && v < MB_ORDERS; v++) {
        if (strcmp(name, mb_order_names[v]) == 0)
            return v;
    }
    return -1;
}

/* What is answered, malloc'd by jansson's rules of ownership: a new reference, NULL without memory. */
static json_t *answer_to(struct mb_orders *c, const json_t *ask, const char **did)
{
    int verb = verb_of(json_string_value(json_object_get(ask, "command")));
    json_int_t run = json_integer_value(json_object_get(ask, "run"));

    *did = "refused";
    if (run != c->run)
        return json_pack("{s:b, s:s, s:I, s:i}", "ok", 0, "error", "that run is over", "asked", run, "run",
                         (int)c->run);
    if (verb < 0)
        return json_pack("{s:b, s:s}", "ok", 0, "error", "no such command");
    if (verb == MB_ORDER_STATUS) {
        char text[STATUS_BYTES];
        uid_t uid;
        ssize_t n = read_small(c->status, text, sizeof text, &uid);
        json_t *s = n > 0 ? json_loadb(text, (size_t)n, 0, NULL) : NULL;
        *did = "answered";
        return s != NULL ? json_pack("{s:b, s:o}", "ok", 1, "status", s)
                         : json_pack("{s:b, s:s}", "ok", 0, "error", "status.json cannot be read");
    }
    atomic_fetch_or(&c->wanted, 1u << verb);
    *did = "accepted";
    return json_pack("{s:b, s:s}", "ok", 1, "done",
                     verb == MB_ORDER_STOP ? "it stops at the end of its step"
                                           : "it begins no more requests");
}

/* ---------------------------------------------------------------- what is left behind */
static void now_text(char out[32])
{
    time_t now = time(NULL);
    struct tm tm;
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
}

/* A line of events: advisory, like status.json. Commands are told apart by their user as the system knows
 * him. */
static void note(const struct mb_orders *c, const json_t *ask, uid_t uid, const char *did)
{
    char when[32];
    now_text(when);
    json_t *v = json_pack("{s:s, s:i, s:s, s:O?, s:I, s:O?, s:O?}", "time", when, "run", (int)c->run, "event",
                          did, "command", json_object_get(ask, "command"), "uid", (json_int_t)uid, "host",
                          json_object_get(ask, "host"), "pid", json_object_get(ask, "pid"));
    char *line = v != NULL ? json_dumps(v, JSON_COMPACT) : NULL;
    FILE *f = line != NULL ? fopen(c->events, "ae") : NULL;
    if (f != NULL) {
        fprintf(f, "%s\n", line);
        fclose(f);
    }
    free(line);
    json_decref(v);
}

static void reply(const struct mb_orders *c, const char *number, json_t *answer)
{
    char name[NAME];
    char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL, *path = NULL;

    snprintf(name, sizeof name, "answer-%s", number);
    if (text != NULL && (path = mb_path_join(c->ctl, name)) != NULL)
        (void)mb_publish_bytes(path, text, strlen(text),
                               MB_PUBLISH_ADVISORY |
                                   MB_PUBLISH_SILENT); /* who asked will say that none came */
    free(path);
    free(text);
    json_decref(answer);
}

static void take(struct mb_orders *c, const char *name)
{
    char *path = mb_path_join(c->ctl, name), text[ASK_BYTES];
    uid_t uid = 0;

    if (path == NULL)
        return;
    ssize_t n = read_small(path, text, sizeof text, &uid);
    if (n > 0 && mb_remove_file(path) == MB_OK) { /* what cannot be removed would be done again and again */
        const char *did = "refused";
        json_t *ask = json_loadb(text, (size_t)n, 0, NULL);
        if (json_is_object(ask)) {
            json_t *answer = answer_to(c, ask, &did);
            note(c, ask, uid, did);
            reply(c, name + strlen("ask-"), answer);
        }
        json_decref(ask);
    }
    free(path);
}

static bool is_ask(const char *name)
{
    size_t n = strlen(name);
    return strncmp(name, "ask-", 4) == 0 && n > 4 && n < NAME - 8 &&
           strspn(name + 4, "0123456789abcdef") == n - 4;
}

static void look(struct mb_orders *c)
{
    DIR *d = opendir(c->ctl);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        if (is_ask(e->d_name))
            take(c, e->d_name);
    }
    if (d != NULL)
        closedir(d);
}

/* ---------------------------------------------------------------- the thread */
static void *serve(void *arg)
{
    struct mb_orders *c = arg;
    pthread_mutex_lock(&c->lock);
    while (!c->leaving) {
        struct timespec t;
        pthread_mutex_unlock(&c->lock);
        look(c);
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += LOOK_MS * 1000000L;
        t.tv_sec += t.tv_nsec / 1000000000L;
        t.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&c->lock);
        for (int e = 0; !c->leaving && e == 0;)
            e = pthread_cond_timedwait(&c->wake, &c->lock, &t);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static void forget(struct mb_orders *c)
{
    free(c->dir);
    free(c->ctl);
    free(c->events);
    free(c->status);
    free(c);
}

static enum mb_status start_thread(struct mb_orders *c)
{
    pthread_condattr_t attr;
    sigset_t all, old;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&c->thread, NULL, serve, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e == 0)
        return MB_OK;
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    return mb_error(MB_NO_MEMORY, "cannot start the thread that looks into %s: %s", c->ctl, strerror(e));
}

enum mb_status mb_orders_start(const char *dir, int32_t run, struct mb_orders **out)
{
    struct mb_orders *c = calloc(1, sizeof *c);

    if (c == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to take commands");
    c->dir = strdup(dir);
    c->ctl = mb_path_join(dir, "ctl");
    c->events = mb_path_join(dir, "events");
    c->status = mb_path_join(dir, "status.json");
    c->run = run;
    enum mb_status st = c->dir == NULL || c->ctl == NULL || c->events == NULL || c->status == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to take commands")
                            : mb_remove_tree(c->ctl);
    if (st == MB_OK && mkdir(c->ctl, 0700) != 0)
        st = mb_file_error(errno, c->ctl, "mkdir");
    if (st == MB_OK)
        st = start_thread(c);
    if (st != MB_OK)
        forget(c);
    else
        *out = c;
    return st;
}

void mb_orders_stop(struct mb_orders *c)
{
    if (c == NULL)
        return;
    pthread_mutex_lock(&c->lock);
    c->leaving = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    forget(c);
}

unsigned mb_orders_wanted(struct mb_orders *c)
{
    return c == NULL ? 0 : atomic_exchange(&c->wanted, 0);
}
