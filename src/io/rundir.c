#include "io/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/life.h"
#include "io/scan.h"

#define OWNER_MAX ((uint64_t)16 << 20)

void mb_rundir_destroy(struct mb_rundir *d)
{
    if (d == NULL)
        return;
    free(d->results);
    free(d->dir);
    free(d->run);
    free(d);
}

static enum mb_status paths(const char *results, int32_t number, struct mb_rundir **out)
{
    struct mb_rundir *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->number = number;
        d->results = strdup(results);
        if (asprintf(&d->dir, "%s.d", results) < 0)
            d->dir = NULL;
        if (d->dir != NULL && number > 0)
            d->run = mb_run_path(d->dir, number);
    }
    if (d == NULL || d->results == NULL || d->dir == NULL || (number > 0 && d->run == NULL)) {
        mb_rundir_destroy(d);
        return mb_error(MB_NO_MEMORY, "no memory for the paths of %s", results);
    }
    *out = d;
    return MB_OK;
}

enum mb_status mb_rundir_attach(const char *results, int32_t number, struct mb_rundir **out)
{
    return paths(results, number, out);
}

enum mb_status mb_rundir_look(const char *results, struct mb_rundir **out)
{
    return paths(results, 0, out);
}

/* ---------------------------------------------------------------- which runs there are */
int32_t mb_rundir_next(const char *dir, int32_t above)
{
    int32_t best = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        char *end = NULL;
        if (strncmp(e->d_name, "run-", 4) != 0)
            continue;
        long v = strtol(e->d_name + 4, &end, 10);
        if (*end == 0 && v > above && v <= 9999999 && (best == 0 || v < best))
            best = (int32_t)v;
    }
    if (d != NULL)
        closedir(d);
    return best;
}

enum mb_status mb_rundir_newest(const struct mb_rundir *d)
{
    int32_t newer = mb_rundir_next(d->dir, d->number);
    if (newer > 0)
        return mb_error(MB_STOP, "%s/run-%04d exists: a later start has taken over these results, this one (run-%04d) stops",
                        d->dir, newer, d->number);
    if (!mb_path_exists(d->run))
        return mb_error(MB_STOP, "%s is gone: another job has taken over these results, this one stops", d->run);
    return MB_OK;
}

/* ---------------------------------------------------------------- owner.json */
static json_t *arguments(const struct mb_owner *o)
{
    json_t *a = json_array();
    for (int i = 0; i < o->argc; i++) { /* arguments need not be UTF-8; JSON must be */
        json_t *s = json_string(o->argv[i]);
        json_array_append_new(a, s != NULL ? s : json_string("?"));
    }
    return a;
}

/* NULL, which leaves the key out, where there is none or it is not UTF-8. */
static json_t *launcher_json(char *const *words)
{
    json_t *a = words == NULL ? NULL : json_array();
    for (size_t i = 0; a != NULL && words[i] != NULL; i++) {
        if (json_array_append_new(a, json_string(words[i])) != 0) {
            json_decref(a);
            return NULL;
        }
    }
    return a;
}

static json_t *owner_json(const struct mb_rundir *d, const struct mb_owner *o)
{
    char cwd[4096] = "", when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (getcwd(cwd, sizeof cwd) == NULL)
        cwd[0] = 0;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    const struct mb_input_info *in = o->input;
    json_t *v = json_pack("{s:i, s:i, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o*}", "run", (int)d->number, "ranks",
                          o->ranks, "started", when, "cwd", cwd, "command", arguments(o), "input", in->path, "input_lines",
                          (json_int_t)in->total_lines, "first_line", (json_int_t)in->first, "lines", (json_int_t)in->lines,
                          "requests", (json_int_t)in->requests, "rows", (json_int_t)in->rows, "identity",
                          mb_identity_json(o->identity), "shape", mb_shape_json(o->shape), "launcher",
                          launcher_json(o->launcher));
    if (v != NULL && mb_life_sign(v) == 0)
        return v;
    json_decref(v);
    return NULL;
}

static enum mb_status write_in(const char *dir, const char *name, const json_t *v, unsigned flags)
{
    char *path = mb_path_join(dir, name), *text = v == NULL ? NULL : json_dumps(v, JSON_INDENT(1));
    enum mb_status st = path == NULL || text == NULL ? mb_error(MB_NO_MEMORY, "no memory for %s/%s", dir, name)
                                                     : mb_publish_bytes(path, text, strlen(text), flags);
    free(path);
    free(text);
    return st;
}

enum mb_status mb_rundir_sign(const struct mb_rundir *d, const struct mb_owner *o)
{
    json_t *v = owner_json(d, o);
    enum mb_status st = write_in(d->run, "owner.json", v, 0);
    if (st == MB_OK)
        st = write_in(d->dir, "owner.json", v, 0);
    json_decref(v);
    return st;
}

enum mb_status mb_rundir_sign_identity(const struct mb_rundir *d, const struct mb_identity *now)
{
    json_t *v = NULL;
    MB_TRY(mb_rundir_owner_of(d->dir, d->number, &v));
    if (v == NULL)
        return mb_error(MB_STOP, "%s/owner.json is gone: another job has taken over these results, this one stops", d->run);
    enum mb_status st = MB_OK;
    if (json_object_set_new(v, "identity", mb_identity_json(now)) != 0)
        st = mb_error(MB_NO_MEMORY, "no memory for the identity of a run");
    if (st == MB_OK)
        st = write_in(d->run, "owner.json", v, 0);
    if (st == MB_OK)
        st = write_in(d->dir, "owner.json", v, 0);
    json_decref(v);
    return st;
}

/* owner.json of one run; *out NULL if it has none (killed right after its mkdir). */
enum mb_status mb_rundir_owner_of(const char *dir, int32_t run, json_t **out)
{
    char *path = NULL;
    *out = NULL;
    if (asprintf(&path, "%s/run-%04d/owner.json", dir, run) < 0)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    if (mb_path_exists(path))
        st = mb_json_load(path, OWNER_MAX, MB_CORRUPT, out);
    free(path);
    return st;
}

enum mb_status mb_rundir_owner(const char *dir, json_t **out)
{
    json_t *found = NULL;
    for (int32_t n = mb_rundir_next(dir, 0); n > 0; n = mb_rundir_next(dir, n)) {
        json_t *v = NULL;
        enum mb_status st = mb_rundir_owner_of(dir, n, &v);
        if (st != MB_OK || v == NULL)
            continue;
        json_decref(found);
        found = v;
    }
    if (found == NULL)
        return MB_INPUT;
    *out = found;
    return MB_OK;
}

char *mb_rundir_incarnations(const char *dir)
{
    json_t *all = json_array();
    for (int32_t n = mb_rundir_next(dir, 0); n > 0; n = mb_rundir_next(dir, n)) {
        json_t *v = NULL;
        if (mb_rundir_owner_of(dir, n, &v) == MB_OK && v != NULL)
            json_array_append_new(all, v);
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

static bool plain_word(const char *s)
{
    return *s != 0 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") == strlen(s);
}

static void put_word(FILE *f, const char *s)
{
    if (plain_word(s)) {
        fputs(s, f);
        return;
    }
    fputc('\'', f);
    for (; *s != 0; s++) {
        if (*s == '\'')
            fputs("'\\''", f);
        else
            fputc(*s, f);
    }
    fputc('\'', f);
}

/* The launcher is not in the command line of a rank. */
static void put_launcher(FILE *f, const json_t *owner)
{
    const json_t *words = json_object_get(owner, "launcher");
    json_int_t ranks = json_integer_value(json_object_get(owner, "ranks"));
    json_t *word;
    size_t i;

    json_array_foreach(words, i, word)
    {
        if (json_is_string(word)) {
            put_word(f, json_string_value(word));
            fputc(' ', f);
        }
    }
    if (json_array_size(words) == 0 && ranks > 1)
        fprintf(f, "%s -n %lld ", getenv("SLURM_STEP_ID") != NULL ? "srun" : "mpirun", (long long)ranks);
}

char *mb_rundir_resume_command(const json_t *owner)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *arg;
    bool has = false;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL)
        return NULL;
    put_launcher(f, owner);
    json_array_foreach(json_object_get(owner, "command"), i, arg)
    {
        const char *s = json_string_value(arg);
        if (s == NULL || strcmp(s, "--overwrite") == 0)
            continue;
        has = has || strcmp(s, "--resume") == 0;
        if (i > 0)
            fputc(' ', f);
        put_word(f, s);
    }
    if (!has)
        fputs(" --resume", f);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* ---------------------------------------------------------------- status and end */
void mb_rundir_status(struct mb_rundir *d, const struct mb_run_status *s)
{
    char when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    json_t *v = json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s, s:I, s:I, s:s}", "state", s->state,
                          "exit_code", s->exit_code, "run", (int)d->number, "total", (json_int_t)s->rows, "committed",
                          (json_int_t)s->committed, "acknowledged", (json_int_t)s->acknowledged, "errors",
                          (json_int_t)s->errors, "prompt_tokens", (json_int_t)s->prompt_tokens, "output_tokens",
                          (json_int_t)s->output_tokens, "computed_tokens", (json_int_t)s->computed_tokens, "cached_tokens",
                          (json_int_t)s->cached_tokens, "recomputed_tokens", (json_int_t)s->recomputed_tokens, "preempted",
                          (json_int_t)s->preempted, "guessed_tokens", (json_int_t)s->guessed_tokens, "right_tokens",
                          (json_int_t)s->right_tokens, "seconds", s->seconds, "tokens_per_second", s->tokens_per_second,
                          "eta_seconds", s->eta, "failure", s->failure == NULL ? "ok" : s->failure, "from_rows",
                          (json_int_t)s->from_rows, "from_tokens", (json_int_t)s->from_tokens, "updated", when);
    unsigned flags = MB_PUBLISH_ADVISORY | (d->status_failed ? MB_PUBLISH_SILENT : 0);
    d->status_failed = write_in(d->dir, "status.json", v, flags) != MB_OK;
    json_decref(v);
}

void mb_rundir_failed(const struct mb_rundir *d, const char *state, int exit_code, const char *failure)
{
    char *path = mb_path_join(d->dir, "status.json");
    json_t *v = NULL;

    if (path != NULL && mb_path_exists(path) && mb_json_load(path, 1 << 20, MB_INPUT, &v) == MB_OK && json_is_object(v)) {
        json_object_set_new(v, "state", json_string(state));
        json_object_set_new(v, "exit_code", json_integer(exit_code));
        json_object_set_new(v, "failure", json_string(failure));
        (void)write_in(d->dir, "status.json", v, MB_PUBLISH_ADVISORY); /* it warned */
    }
    json_decref(v);
    free(path);
}

enum mb_status mb_rundir_remove_runs(const char *dir, int32_t below)
{
    enum mb_status st = MB_OK;
    for (int32_t n = mb_rundir_next(dir, 0); n > 0 && n < below && st == MB_OK; n = mb_rundir_next(dir, n)) {
        char *path = mb_run_path(dir, n);
        st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_remove_tree(path);
        free(path);
    }
    return st;
}

/* Everything in dir whose name begins so: what killed processes left. */
static void remove_like(const char *dir, const char *begin)
{
    DIR *d = opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        if (strncmp(e->d_name, begin, strlen(begin)) != 0)
            continue;
        char *path = mb_path_join(dir, e->d_name);
        if (path != NULL)
            (void)mb_remove_file(path); /* it said so; nothing depends on it */
        free(path);
    }
    if (d != NULL)
        closedir(d);
}

void mb_rundir_sweep(const char *dir)
{
    static const char *const ours[] = {"owner.json", "status.json", "metrics.prom", "input"};
    remove_like(dir, MB_RUNDIR_ASSEMBLING);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        char *path = mb_path_join(dir, ours[i]);
        if (path != NULL)
            mb_publish_sweep(path);
        free(path);
    }
}

enum mb_status mb_rundir_lock(const struct mb_rundir *d, struct mb_lock *out)
{
    char *path = mb_path_join(d->dir, "lock");
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_lock_take(path, out);
    free(path);
    return st;
}

static enum mb_status remove_all(const struct mb_rundir *d)
{
    static const char *const gone[] = {"input", "ctl", "events", "metrics.prom", "owner.json"};
    MB_TRY(mb_rundir_remove_runs(d->dir, INT32_MAX));
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        char *path = mb_path_join(d->dir, gone[i]);
        enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_remove_tree(path);
        free(path);
        MB_TRY(st);
    }
    return MB_OK;
}

enum mb_status mb_rundir_finish(const struct mb_rundir *d, bool keep)
{
    struct mb_lock lock = {0};
    if (!mb_path_exists(d->dir))
        return MB_OK;
    MB_TRY(mb_rundir_lock(d, &lock));
    mb_rundir_sweep(d->dir);
    enum mb_status st = keep ? MB_OK : remove_all(d);
    mb_lock_release(&lock, true);
    return st;
}
