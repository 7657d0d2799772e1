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
#include "io/results.h"
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
/* The run of number > above that comes first; 0: none. */
static int32_t next_run(const char *dir, int32_t above)
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

static int32_t last_run(const char *dir)
{
    int32_t last = 0;
    for (int32_t n = next_run(dir, 0); n > 0; n = next_run(dir, n))
        last = n;
    return last;
}

enum mb_status mb_rundir_newest(const struct mb_rundir *d)
{
    int32_t newer = next_run(d->dir, d->number);
    if (newer > 0)
        return mb_error(MB_STOP, "%s/run-%04d exists: a later start has taken over these results, this one (run-%04d) stops",
                        d->dir, newer, d->number);
    if (!mb_path_exists(d->run))
        return mb_error(MB_STOP, "%s is gone: another job has taken over these results, this one stops", d->run);
    return MB_OK;
}

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

static json_t *owner_json(const struct mb_rundir *d, const struct mb_owner *o)
{
    char host[256] = "", cwd[4096] = "", when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    gethostname(host, sizeof host - 1);
    if (getcwd(cwd, sizeof cwd) == NULL)
        cwd[0] = 0;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    const char *job = getenv("SLURM_JOB_ID");
    const struct mb_input_info *in = o->input;
    return json_pack("{s:i, s:s, s:I, s:i, s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "run",
                     (int)d->number, "host", host, "pid", (json_int_t)getpid(), "ranks", o->ranks, "started", when, "cwd",
                     cwd, "slurm_job", job == NULL ? "" : job, "command", arguments(o), "input", in->path, "input_lines",
                     (json_int_t)in->total_lines, "first_line", (json_int_t)in->first, "lines", (json_int_t)in->lines,
                     "requests", (json_int_t)in->requests, "rows", (json_int_t)in->rows, "identity",
                     mb_identity_json(o->identity), "shape", mb_shape_json(o->shape));
}

static enum mb_status write_in(const char *dir, const char *name, const json_t *v, bool sync)
{
    char *path = mb_path_join(dir, name), *text = v == NULL ? NULL : json_dumps(v, JSON_INDENT(1));
    enum mb_status st = path == NULL || text == NULL ? mb_error(MB_NO_MEMORY, "no memory for %s/%s", dir, name)
                                                     : mb_file_replace(path, text, strlen(text), sync);
    free(path);
    free(text);
    return st;
}

static enum mb_status write_owner(const struct mb_rundir *d, const struct mb_owner *o)
{
    json_t *v = owner_json(d, o);
    enum mb_status st = write_in(d->run, "owner.json", v, true);
    if (st == MB_OK)
        st = write_in(d->dir, "owner.json", v, true);
    json_decref(v);
    return st;
}

/* owner.json of one run; *out NULL if it has none (killed right after its mkdir). */
static enum mb_status read_owner(const char *dir, int32_t run, json_t **out)
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
    for (int32_t n = next_run(dir, 0); n > 0; n = next_run(dir, n)) {
        json_t *v = NULL;
        enum mb_status st = read_owner(dir, n, &v);
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
    for (int32_t n = next_run(dir, 0); n > 0; n = next_run(dir, n)) {
        json_t *v = NULL;
        if (read_owner(dir, n, &v) == MB_OK && v != NULL)
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

char *mb_rundir_resume_command(const json_t *owner)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *arg;
    bool has = false;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL)
        return NULL;
    json_int_t ranks = json_integer_value(json_object_get(owner, "ranks"));
    if (ranks > 1) /* the launcher is not in the command line of a rank */
        fprintf(f, "%s -n %lld ", getenv("SLURM_STEP_ID") != NULL ? "srun" : "mpirun", (long long)ranks);
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

/* ---------------------------------------------------------------- the rules */
/* What lies at the place of the results. */
struct found {
    bool file, complete; /* RESULTS.h5 is there; and holds every row */
    bool runs;           /* journals with records */
    json_t *identity;    /* of the file */
};

static enum mb_status look(const struct mb_rundir *d, bool overwrite, struct found *f)
{
    *f = (struct found){0};
    f->file = mb_path_exists(d->results);
    if (overwrite)
        return MB_OK;
    if (f->file && mb_results_probe(d->results, &f->complete, &f->identity) != MB_OK)
        return mb_error(MB_INPUT, "%s exists and is no moebatch result: give another -o, or --overwrite to replace it",
                        d->results);
    return has_records(d->dir, &f->runs);
}

static enum mb_status rules(const struct mb_rundir *d, bool resume, bool overwrite, struct found *f)
{
    if (resume && overwrite)
        return mb_error(MB_USAGE, "--resume and --overwrite contradict each other: give one");
    MB_TRY(look(d, overwrite, f));
    if (resume || overwrite || (!f->file && !f->runs))
        return MB_OK;
    return mb_error(MB_INPUT, "%s has %s results: --resume goes on with them, --overwrite starts afresh, or give another -o",
                    d->results, f->complete ? "complete" : "unfinished");
}

enum mb_status mb_rundir_check(const char *results, bool resume, bool overwrite)
{
    struct mb_rundir *d = NULL;
    struct found f = {0};
    MB_TRY(paths(results, 0, &d));
    enum mb_status st = rules(d, resume, overwrite, &f);
    json_decref(f.identity);
    mb_rundir_destroy(d);
    return st;
}

static enum mb_status match_json(const json_t *v, const char *where, const struct mb_identity *now)
{
    struct mb_identity then = {0};
    MB_TRY(mb_identity_parse(v, where, &then));
    enum mb_status st = mb_identity_match(&then, now, false, where);
    mb_identity_fini(&then);
    return st;
}

/* Every run and the results must be of this identity. */
static enum mb_status match_all(const struct mb_rundir *d, const struct found *f, const struct mb_identity *now)
{
    if (f->identity != NULL)
        MB_TRY(match_json(f->identity, d->results, now));
    for (int32_t n = next_run(d->dir, 0); n > 0; n = next_run(d->dir, n)) {
        json_t *v = NULL;
        char where[64];
        MB_TRY(read_owner(d->dir, n, &v));
        snprintf(where, sizeof where, "run-%04d", n);
        enum mb_status st = v == NULL ? MB_OK : match_json(json_object_get(v, "identity"), where, now);
        json_decref(v);
        MB_TRY(st);
    }
    return MB_OK;
}

static enum mb_status remove_runs(const char *dir)
{
    enum mb_status st = MB_OK;
    for (int32_t n = next_run(dir, 0); n > 0 && st == MB_OK; n = next_run(dir, n)) {
        char *path = mb_run_path(dir, n);
        st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_remove_tree(path);
        free(path);
    }
    return st;
}

/* run-NNNN with the next number that nobody has. */
static enum mb_status make_run(struct mb_rundir *d, int32_t after)
{
    for (int32_t n = after + 1; n < after + 1000; n++) {
        free(d->run);
        d->run = mb_run_path(d->dir, n);
        d->number = n;
        if (d->run == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a path");
        if (mkdir(d->run, 0777) == 0)
            return mb_dir_sync(d->dir);
        if (errno != EEXIST)
            return mb_error(mb_status_of_errno(errno), "%s: mkdir: %s", d->run,
                            strerror(errno));
    }
    return mb_error(MB_IO, "%s: no run number is free", d->dir);
}

static enum mb_status start(struct mb_rundir *d, bool overwrite, const struct found *f, const struct mb_owner *owner,
                            enum mb_rundir_state *state)
{
    MB_TRY(mb_mkdirs(d->dir));
    int32_t after = last_run(d->dir);
    if (overwrite || !f->runs) { /* without records an earlier start has left nothing */
        MB_TRY(remove_runs(d->dir));
        if (overwrite && f->file && unlink(d->results) != 0 && errno != ENOENT)
            return mb_error(MB_IO, "%s: cannot remove: %s", d->results, strerror(errno));
    }
    MB_TRY(make_run(d, after));
    *state = f->runs && !overwrite ? MB_RUNDIR_RESUMES : MB_RUNDIR_FRESH;
    return write_owner(d, owner);
}

/* A job that was killed between the rename of its results and the removal of its journals left these behind. */
static void tidy(const struct mb_rundir *d)
{
    json_t *owner = NULL;
    size_t i;
    json_t *arg;
    bool keep = false;
    if (mb_rundir_owner(d->dir, &owner) != MB_OK)
        return;
    json_array_foreach(json_object_get(owner, "command"), i, arg)
        keep = keep || (json_is_string(arg) && strcmp(json_string_value(arg), "--keep") == 0);
    json_decref(owner);
    if (mb_rundir_finish(d, keep) != MB_OK)
        mb_warn("%s: journals of complete results could not be removed", d->dir);
}

enum mb_status mb_rundir_create(const char *results, bool resume, bool overwrite, const struct mb_owner *owner,
                                enum mb_rundir_state *state, struct mb_rundir **out)
{
    struct mb_rundir *d = NULL;
    struct found f = {0};
    MB_TRY(paths(results, 0, &d));
    enum mb_status st = rules(d, resume, overwrite, &f);
    if (st == MB_OK && resume)
        st = match_all(d, &f, owner->identity);
    bool complete = st == MB_OK && !overwrite && f.file && f.complete;
    if (st == MB_OK && !complete)
        st = start(d, overwrite, &f, owner, state);
    json_decref(f.identity);
    if (complete)
        tidy(d);
    if (st != MB_OK || complete) {
        mb_rundir_destroy(d);
        d = NULL;
    }
    if (st != MB_OK)
        return st;
    if (complete)
        *state = MB_RUNDIR_COMPLETE;
    *out = d;
    return MB_OK;
}

/* ---------------------------------------------------------------- status and end */
enum mb_status mb_rundir_status(const struct mb_rundir *d, const struct mb_run_status *s)
{
    char when[32] = "";
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    json_t *v = json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s, s:I, s:I, s:s}", "state", s->state,
                          "exit_code", s->exit_code, "run", (int)d->number, "total", (json_int_t)s->rows, "committed",
                          (json_int_t)s->committed, "acknowledged", (json_int_t)s->acknowledged, "errors",
                          (json_int_t)s->errors, "prompt_tokens", (json_int_t)s->prompt_tokens, "output_tokens",
                          (json_int_t)s->output_tokens, "seconds", s->seconds, "tokens_per_second", s->tokens_per_second,
                          "eta_seconds", s->eta, "failure", s->failure == NULL ? "ok" : s->failure, "from_rows",
                          (json_int_t)s->from_rows, "from_tokens", (json_int_t)s->from_tokens, "updated", when);
    enum mb_status st = write_in(d->dir, "status.json", v, false);
    json_decref(v);
    return st;
}

enum mb_status mb_rundir_finish(const struct mb_rundir *d, bool keep)
{
    if (keep)
        return MB_OK;
    MB_TRY(remove_runs(d->dir));
    static const char *const gone[] = {"owner.json", "ctl"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++) {
        char *path = mb_path_join(d->dir, gone[i]);
        enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_remove_tree(path);
        free(path);
        MB_TRY(st);
    }
    return MB_OK;
}
