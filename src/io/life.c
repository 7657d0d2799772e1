#include "io/life.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/rundir.h"

/* ---------------------------------------------------------------- who a process is */
struct self {
    char host[256], boot[64], space[64]; /* machine, its start, and the space its process numbers are in */
    int64_t pid, start;
};

/* The start of a process in ticks since the machine's; -1: there is no such process. */
static int64_t start_of(int64_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *at = strrchr(text, ')'), state = 0; /* the name before it may have any character */
    long long start = -1;
    if (at == NULL || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lld", &state,
                             &start) != 2)
        return -1;
    return state == 'Z' || state == 'X' ? -1 : start;
}

static void who_am_i(struct self *s)
{
    memset(s, 0, sizeof *s);
    gethostname(s->host, sizeof s->host - 1);
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f != NULL) {
        if (fgets(s->boot, sizeof s->boot, f) != NULL)
            s->boot[strcspn(s->boot, "\n")] = 0;
        fclose(f);
    }
    ssize_t n = readlink("/proc/self/ns/pid", s->space, sizeof s->space - 1);
    s->space[n > 0 ? n : 0] = 0;
    s->pid = getpid();
    s->start = start_of(s->pid);
}

static const char *env(const char *name)
{
    const char *v = getenv(name);
    return v == NULL ? "" : v;
}

int mb_life_sign(json_t *o)
{
    struct self s;
    who_am_i(&s);
    return json_object_set_new(o, "host", json_string(s.host)) | json_object_set_new(o, "pid", json_integer(s.pid)) |
           json_object_set_new(o, "pid_start", json_integer(s.start)) | json_object_set_new(o, "boot", json_string(s.boot)) |
           json_object_set_new(o, "pid_space", json_string(s.space)) |
           json_object_set_new(o, "slurm_job", json_string(env("SLURM_JOB_ID"))) |
           json_object_set_new(o, "slurm_restart", json_string(env("SLURM_RESTART_COUNT")));
}

/* ---------------------------------------------------------------- whether it lives */
static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "" : s;
}

/* What status.json says ended, if it is this run's. */
static bool said_end(const char *path, int32_t run)
{
    json_t *v = json_load_file(path, 0, NULL);
    const char *state = text_of(v, "state");
    bool ended = json_integer_value(json_object_get(v, "run")) == run &&
                 (strcmp(state, "stopped") == 0 || strcmp(state, "complete") == 0 || strcmp(state, "failed") == 0);
    json_decref(v);
    return ended;
}

/* Seconds since the younger of two files was touched; a clock that is behind counts as now. */
static int64_t age_of(const char *a, const char *b)
{
    struct stat x, y;
    time_t last = 0;
    if (stat(a, &x) == 0)
        last = x.st_mtime;
    if (stat(b, &y) == 0 && y.st_mtime > last)
        last = y.st_mtime;
    int64_t age = (int64_t)(time(NULL) - last);
    return age < 0 ? 0 : age;
}

/* Slurm starts a job again only when nothing of its last start is left. */
static bool started_again(const json_t *o)
{
    return *env("SLURM_JOB_ID") != 0 && strcmp(text_of(o, "slurm_job"), env("SLURM_JOB_ID")) == 0 &&
           strcmp(text_of(o, "slurm_restart"), env("SLURM_RESTART_COUNT")) != 0;
}

static void judge(const json_t *o, struct mb_life *l)
{
    struct self me;
    int64_t start = json_integer_value(json_object_get(o, "pid_start"));
    who_am_i(&me);
    bool here = strcmp(l->host, me.host) == 0 && me.boot[0] != 0 && strcmp(text_of(o, "boot"), me.boot) == 0 &&
                strcmp(text_of(o, "pid_space"), me.space) == 0;
    if (!here) {
        l->alive = l->age < MB_LIFE_FRESH;
        return;
    }
    l->certain = true;
    l->alive = l->pid > 0 && l->pid != me.pid && start_of(l->pid) == start && start >= 0;
}

void mb_life_look(const char *dir, struct mb_life *l)
{
    json_t *o = NULL;
    char *status = mb_path_join(dir, "status.json"), *owner = mb_path_join(dir, "owner.json");
    memset(l, 0, sizeof *l);
    if (status != NULL && owner != NULL && mb_rundir_owner(dir, &o) == MB_OK) {
        l->known = true;
        l->run = (int32_t)json_integer_value(json_object_get(o, "run"));
        l->pid = json_integer_value(json_object_get(o, "pid"));
        snprintf(l->host, sizeof l->host, "%s", text_of(o, "host"));
        l->age = age_of(status, owner);
        if (!said_end(status, l->run) && !started_again(o))
            judge(o, l);
    }
    json_decref(o);
    free(status);
    free(owner);
}

void mb_life_text(const struct mb_life *l, char out[384])
{
    snprintf(out, 384, "pid %lld on %s, last sign %lld s ago", (long long)l->pid, l->host, (long long)l->age);
}

/* ---------------------------------------------------------------- the beat */
struct mb_beat {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool leaving;
    char *path;
};

static void *beat(void *arg)
{
    struct mb_beat *b = arg;
    pthread_mutex_lock(&b->lock);
    while (!b->leaving) {
        struct timespec t;
        (void)utimensat(AT_FDCWD, b->path, NULL, 0); /* a beat that fails is one that nobody hears */
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += MB_LIFE_BEAT;
        for (int e = 0; !b->leaving && e == 0;)
            e = pthread_cond_timedwait(&b->wake, &b->lock, &t);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

enum mb_status mb_beat_start(const char *path, struct mb_beat **out)
{
    struct mb_beat *b = calloc(1, sizeof *b);
    pthread_condattr_t attr;
    sigset_t all, old;
    if (b == NULL || (b->path = strdup(path)) == NULL) {
        free(b);
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, &attr);
    pthread_condattr_destroy(&attr);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&b->thread, NULL, beat, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e == 0) {
        *out = b;
        return MB_OK;
    }
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
    return mb_error(MB_NO_MEMORY, "cannot start the thread that touches %s: %s", path, strerror(e));
}

void mb_beat_stop(struct mb_beat *b)
{
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    b->leaving = true;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
    pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
}
