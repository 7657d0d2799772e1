/* The asking side of io/orders.h, and what becomes of the events. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/orders.h"
#include "io/life.h"
#include "io/rundir.h"

enum { ANSWER_BYTES = 1 << 17, EVENT_BYTES = 8 << 20 };

/* ---------------------------------------------------------------- asking */
struct question {
    char *ask, *answer; /* paths */
};

static enum mb_status paths(const char *dir, struct question *q)
{
    char name[2][64];
    uint64_t r[2];
    char *ctl = mb_path_join(dir, "ctl");

    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) /* only on kernels without it */
        r[0] = (uint64_t)getpid(), r[1] = (uint64_t)time(NULL);
    snprintf(name[0], sizeof name[0], "ask-%016llx%016llx", (unsigned long long)r[0],
             (unsigned long long)r[1]);
    snprintf(name[1], sizeof name[1], "answer-%016llx%016llx", (unsigned long long)r[0],
             (unsigned long long)r[1]);
    q->ask = ctl == NULL ? NULL : mb_path_join(ctl, name[0]);
    q->answer = ctl == NULL ? NULL : mb_path_join(ctl, name[1]);
    free(ctl);
    return q->ask == NULL || q->answer == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : MB_OK;
}

static enum mb_status put(const struct question *q, const char *verb, int32_t run)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    json_t *v = json_pack("{s:s, s:i, s:s, s:i}", "command", verb, "run", (int)run, "host", host, "pid",
                          (int)getpid());
    char *text = v != NULL ? json_dumps(v, JSON_COMPACT) : NULL;
    enum mb_status st = text == NULL ? mb_error(MB_NO_MEMORY, "no memory for a command")
                                     : mb_publish_bytes(q->ask, text, strlen(text), MB_PUBLISH_NEW);
    free(text);
    json_decref(v);
    return st;
}

static enum mb_status show(FILE *out, const char *path)
{
    json_t *v = NULL;
    const char *text;

    MB_TRY(mb_json_load(path, ANSWER_BYTES, MB_IO, &v));
    enum mb_status st = MB_OK;
    if (!json_is_true(json_object_get(v, "ok"))) {
        text = json_string_value(json_object_get(v, "error"));
        st = mb_error(MB_INPUT, "the job says no: %s", text != NULL ? text : "without a reason");
    } else if (json_object_get(v, "status") != NULL) {
        if (json_dumpf(json_object_get(v, "status"), out, JSON_INDENT(1)) != 0 || fputc('\n', out) == EOF)
            st = mb_error(MB_IO, "writing the output failed");
    } else {
        text = json_string_value(json_object_get(v, "done"));
        fprintf(out, "%s\n", text != NULL ? text : "done");
    }
    json_decref(v);
    return st;
}

static enum mb_status ask(FILE *out, const char *dir, const char *verb, const struct mb_life *life,
                          double patience)
{
    struct question q = {NULL, NULL};
    struct timespec bit = {0, 50000000};
    char who[384];
    enum mb_status st = paths(dir, &q);

    if (st == MB_OK)
        st = put(&q, verb, life->run);
    for (double end = mb_now() + patience; st == MB_OK && !mb_path_exists(q.answer) && mb_now() < end;)
        nanosleep(&bit, NULL);
    if (st == MB_OK && !mb_path_exists(q.answer)) {
        mb_life_text(life, who);
        st = mb_error(
            MB_IO, "no answer in %.0f s from the job (%s); where it cannot be reached any more, end it there",
            patience, who);
    } else if (st == MB_OK)
        st = show(out, q.answer);
    if (q.ask != NULL)
        (void)mb_remove_file(q.ask); /* taken already, as a rule */
    if (q.answer != NULL)
        (void)mb_remove_file(q.answer);
    free(q.ask);
    free(q.answer);
    return st;
}

enum mb_status mb_order_ask(FILE *out, const char *results, const char *verb, double patience)
{
    struct mb_rundir *d = NULL;
    struct mb_life life;
    bool known = false;

    for (int v = 0; v < MB_ORDERS; v++)
        known |= strcmp(verb, mb_order_names[v]) == 0;
    if (!known)
        return mb_error(MB_USAGE, "%s: the commands for a job are status, drain and stop", verb);
    MB_TRY(mb_rundir_look(results, &d));
    mb_life_look(d->dir, &life);
    enum mb_status st =
        life.known && life.alive
            ? ask(out, d->dir, verb, &life, patience)
            : mb_error(MB_INPUT, "%s: no job runs here; moebatch status says how far it came", results);
    mb_rundir_destroy(d);
    return st;
}

/* ---------------------------------------------------------------- events */
/* Cuts text into lines, at most MB_ORDER_EVENTS of the last ones. */
static uint64_t lines_of(char *text, const char **line)
{
    uint64_t n = 0, first;
    char *save = NULL;

    for (char *at = strtok_r(text, "\n", &save); at != NULL; at = strtok_r(NULL, "\n", &save))
        line[n++ % MB_ORDER_EVENTS] = at;
    if (n <= MB_ORDER_EVENTS)
        return n;
    first = n % MB_ORDER_EVENTS; /* the oldest of a full ring */
    const char **copy = malloc(sizeof *copy * MB_ORDER_EVENTS);
    if (copy == NULL)
        return MB_ORDER_EVENTS; /* in another order, then */
    for (uint64_t i = 0; i < MB_ORDER_EVENTS; i++)
        copy[i] = line[(first + i) % MB_ORDER_EVENTS];
    memcpy(line, copy, sizeof *copy * MB_ORDER_EVENTS);
    free(copy);
    return MB_ORDER_EVENTS;
}

enum mb_status mb_order_events(const char *dir, struct mb_extras *x)
{
    struct mb_bytes text = {0};
    char *path = mb_path_join(dir, "events");
    const char **line = calloc(MB_ORDER_EVENTS, sizeof *line);
    enum mb_status st = path == NULL || line == NULL ? mb_error(MB_NO_MEMORY, "no memory for events") : MB_OK;

    if (st == MB_OK && mb_path_exists(path)) {
        st = mb_file_read(path, EVENT_BYTES, MB_IO, &text);
        if (st == MB_OK)
            st = mb_bytes_put(&text, "", 1);
        uint64_t n = st == MB_OK ? lines_of((char *)text.data, line) : 0;
        if (st == MB_OK && n > 0)
            st = mb_extras_texts(x, "/health/events", n, line);
        else if (st == MB_IO)
            st = MB_OK; /* logged; results do not wait for it */
    }
    mb_bytes_fini(&text);
    free(line);
    free(path);
    return st;
}
