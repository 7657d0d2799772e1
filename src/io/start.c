#include "io/start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/life.h"
#include "io/results.h"
#include "io/scan.h"

/* What was found, and what its messages need. */
struct look {
    struct mb_found f;
    struct mb_life life;
    const char *clash[2]; /* what would replace what */
    json_t *identity;     /* of the results */
};

/* ---------------------------------------------------------------- looking */
/* Whether any journal holds more than its head. */
static enum mb_status has_records(const char *dir, bool *out)
{
    struct mb_jscan_file *files = NULL;
    int32_t n = 0;
    enum mb_status st = mb_jscan_list(dir, &files, &n);
    *out = false;
    for (int32_t i = 0; i < n && st == MB_OK && !*out; i++) {
        struct mb_jscan *s = NULL;
        struct mb_jscan_item item;
        st = mb_jscan_open(dir, files[i], NULL, UINT64_MAX, MB_JSCAN_UNCHECKED, &s);
        if (st == MB_OK)
            st = mb_jscan_next(s, &item);
        if (st == MB_OK)
            *out = item.kind != MB_JSCAN_END || mb_jscan_corrupt(s);
        mb_jscan_close(s);
    }
    free(files);
    return st;
}

static void look_clash(const struct mb_start_options *o, struct look *l)
{
    const char *out[2] = {o->results, o->openai};
    for (int k = 0; k < 2 && !l->f.clash; k++) {
        for (int32_t i = 0; i < o->n_reads && out[k] != NULL && !l->f.clash; i++) {
            l->f.clash = mb_same_file(out[k], o->reads[i]);
            l->clash[0] = out[k];
            l->clash[1] = o->reads[i];
        }
    }
    if (l->f.clash || o->openai == NULL || !mb_same_file(o->results, o->openai))
        return;
    l->f.clash = true;
    l->clash[0] = o->openai;
    l->clash[1] = o->results;
}

static void look_results(const struct mb_start_options *o, struct look *l)
{
    struct stat sb;
    bool complete = false;
    if (stat(o->results, &sb) != 0)
        return;
    l->f.results = S_ISREG(sb.st_mode) ? MB_RESULTS_FOREIGN : MB_RESULTS_ODD;
    if (o->overwrite || l->f.results == MB_RESULTS_ODD)
        return; /* whatever it is, it is to go */
    if (mb_results_probe(o->results, &complete, &l->identity) == MB_OK)
        l->f.results = complete ? MB_RESULTS_COMPLETE : MB_RESULTS_PARTIAL;
}

static enum mb_status look(const struct mb_start_options *o, const struct mb_rundir *d, struct look *l)
{
    *l = (struct look){.f = {.resume = o->resume, .overwrite = o->overwrite, .takeover = o->takeover, .openai = o->openai != NULL}};
    look_clash(o, l);
    if (l->f.clash)
        return MB_OK;
    look_results(o, l);
    mb_life_look(d->dir, &l->life);
    l->f.alive = l->life.known && l->life.alive;
    l->f.openai_there = o->openai != NULL && mb_path_exists(o->openai);
    return o->overwrite || (l->f.alive && !o->takeover) ? MB_OK : has_records(d->dir, &l->f.records);
}

/* ---------------------------------------------------------------- identities */
static enum mb_status match_json(const json_t *v, const char *where, const struct mb_identity *now)
{
    struct mb_identity then = {0};
    MB_TRY(mb_identity_parse(v, where, &then));
    enum mb_status st = mb_identity_match(&then, now, false, where);
    mb_identity_fini(&then);
    return st;
}

/* Every run and the results must be of this identity. */
static enum mb_status match_all(const struct mb_rundir *d, const json_t *results, const struct mb_identity *now)
{
    if (results != NULL)
        MB_TRY(match_json(results, d->results, now));
    for (int32_t n = mb_rundir_next(d->dir, 0); n > 0; n = mb_rundir_next(d->dir, n)) {
        json_t *v = NULL;
        char where[64];
        MB_TRY(mb_rundir_owner_of(d->dir, n, &v));
        snprintf(where, sizeof where, "run-%04d", n);
        enum mb_status st = v == NULL ? MB_OK : match_json(json_object_get(v, "identity"), where, now);
        json_decref(v);
        MB_TRY(st);
    }
    return MB_OK;
}

enum mb_status mb_start_identify(const struct mb_rundir *d, const struct mb_identity *now)
{
    MB_TRY(match_all(d, NULL, now)); /* partial results are made from the runs, complete ones are being replaced */
    return mb_rundir_sign_identity(d, now);
}

/* The fact of it; any other failure than a difference is passed on. */
static enum mb_status look_identity(const struct mb_rundir *d, const struct mb_identity *now, struct look *l)
{
    bool needed = l->f.resume && !(l->f.input_missing && l->f.results == MB_RESULTS_COMPLETE);
    enum mb_status st = needed ? match_all(d, l->identity, now) : MB_OK;
    if (st != MB_OK && st != MB_INPUT)
        return st;
    l->f.identity = st == MB_OK ? MB_SAME_YES : MB_SAME_NO;
    return MB_OK;
}

/* ---------------------------------------------------------------- refusing */
static enum mb_status refuse(const struct mb_start_options *o, const struct look *l, enum mb_refusal why)
{
    char who[384];
    switch (why) {
    case MB_REFUSAL_CONTRADICTION:
        return mb_error(MB_USAGE, "--resume and --overwrite contradict each other: give one");
    case MB_REFUSAL_CLASH:
        return mb_error(MB_INPUT, "%s would replace %s, which is the same file or place: give another name", l->clash[0], l->clash[1]);
    case MB_REFUSAL_ODD:
        return mb_error(MB_INPUT, "%s is no regular file: give another -o", o->results);
    case MB_REFUSAL_FOREIGN:
        return mb_error(MB_INPUT, "%s exists and is no moebatch result: give another -o, or --overwrite to replace it", o->results);
    case MB_REFUSAL_ALIVE:
        mb_life_text(&l->life, who);
        return mb_error(MB_INPUT, "%s: a job is running here (%s)%s: wait until it ends, or stop it with a signal; --takeover goes on "
                        "in its place, and it stops", o->results, who,
                        l->life.certain ? "" : ", as far as can be seen from this machine");
    case MB_REFUSAL_OPENAI:
        return mb_error(MB_INPUT, "%s exists: give another --openai-output, or move it away%s", o->openai,
                        o->resume ? "" : "; --overwrite replaces it, and the results");
    case MB_REFUSAL_IDENTITY:
        return MB_INPUT; /* what differs was said */
    default:
        return mb_error(MB_INPUT, "%s has %s results: --resume goes on with them, --overwrite starts afresh, or give another -o",
                        o->results, l->f.results == MB_RESULTS_COMPLETE ? "complete" : "unfinished");
    }
}

enum mb_status mb_start_check(const struct mb_start_options *o)
{
    struct mb_rundir *d = NULL;
    struct look l = {0};
    MB_TRY(mb_rundir_look(o->results, &d));
    enum mb_status st = look(o, d, &l);
    struct mb_decision found = mb_decide(&l.f);
    if (st == MB_OK && found.start == MB_START_REFUSED)
        st = refuse(o, &l, found.refusal);
    if (st == MB_OK && o->openai != NULL && found.start != MB_START_COMPLETE)
        st = mb_publish_probe(o->openai);
    json_decref(l.identity);
    mb_rundir_destroy(d);
    return st;
}

/* ---------------------------------------------------------------- the step */
/* run-NNNN with the next number that nobody has. */
static enum mb_status make_run(struct mb_rundir *d)
{
    int32_t last = 0;
    for (int32_t n = mb_rundir_next(d->dir, 0); n > 0; n = mb_rundir_next(d->dir, n))
        last = n;
    for (int32_t n = last + 1; n < last + 1000; n++) {
        free(d->run);
        d->run = mb_run_path(d->dir, n);
        d->number = n;
        if (d->run == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a path");
        if (mkdir(d->run, 0777) == 0)
            return mb_dir_sync(d->dir);
        if (errno != EEXIST)
            return mb_file_error(errno, d->run, "mkdir");
    }
    return mb_error(MB_IO, "%s: no run number is free", d->dir);
}

/* The new run is there and signed before anything goes: whoever comes next finds an owner. */
static enum mb_status act(const struct mb_start_options *o, const struct mb_decision *go, const struct mb_owner *owner,
                          struct mb_publish **spool, struct mb_rundir *d)
{
    MB_TRY(make_run(d));
    MB_TRY(mb_rundir_sign(d, owner));
    mb_rundir_sweep(d->dir);
    if (go->remove_results)
        MB_TRY(mb_remove_file(o->results));
    if (go->remove_openai)
        MB_TRY(mb_remove_file(o->openai));
    if (go->remove_runs)
        MB_TRY(mb_rundir_remove_runs(d->dir, d->number));
    if (*spool == NULL)
        return MB_OK;
    struct mb_publish *copy = *spool;
    *spool = NULL;
    return mb_publish_commit(copy, NULL, NULL);
}

/* Under the lock. */
static enum mb_status decide_and_act(const struct mb_start_options *o, const struct mb_owner *owner, struct mb_publish **spool,
                                     enum mb_start *what, struct mb_rundir *d)
{
    struct look l = {0};
    enum mb_status st = look(o, d, &l);
    l.f.input_missing = owner->input_missing;
    if (st == MB_OK && mb_decide(&l.f).start != MB_START_REFUSED)
        st = look_identity(d, owner->identity, &l);
    struct mb_decision go = mb_decide(&l.f);
    if (st == MB_OK && go.start == MB_START_REFUSED)
        st = refuse(o, &l, go.refusal);
    else if (st == MB_OK && (go.start == MB_START_FRESH || go.start == MB_START_RESUME))
        st = act(o, &go, owner, spool, d);
    json_decref(l.identity);
    *what = go.start;
    return st;
}

/* Whether journals of complete results stay: as now, or as the job that made them was told. */
static bool keeps(const struct mb_start_options *o, const struct mb_rundir *d)
{
    json_t *owner = NULL, *arg;
    size_t i;
    bool keep = o->keep;
    if (mb_rundir_owner(d->dir, &owner) != MB_OK)
        return keep;
    json_array_foreach(json_object_get(owner, "command"), i, arg)
        keep = keep || (json_is_string(arg) && strcmp(json_string_value(arg), "--keep") == 0);
    json_decref(owner);
    return keep;
}

enum mb_status mb_start(const struct mb_start_options *o, const struct mb_owner *owner, struct mb_publish *spool,
                        enum mb_start *what, struct mb_rundir **out)
{
    struct mb_rundir *d = NULL;
    struct mb_lock lock = {0};
    enum mb_start found = MB_START_REFUSED;
    enum mb_status st = mb_rundir_look(o->results, &d);
    if (st == MB_OK)
        st = mb_mkdirs(d->dir);
    if (st == MB_OK)
        st = mb_rundir_lock(d, &lock);
    if (st == MB_OK)
        st = decide_and_act(o, owner, &spool, &found, d);
    bool made = st == MB_OK && (found == MB_START_FRESH || found == MB_START_RESUME);
    mb_publish_drop(spool);
    mb_lock_release(&lock, !made);
    if (st == MB_OK && !made && mb_rundir_finish(d, keeps(o, d)) != MB_OK) /* what a job that was killed at its very end left */
        mb_warn("%s: journals of complete results could not be removed", d->dir);
    if (!made && d != NULL)
        mb_remove_empty(d->dir);
    if (st == MB_OK)
        *what = found;
    if (made)
        *out = d;
    else
        mb_rundir_destroy(d);
    return st;
}
