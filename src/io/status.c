#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/job_info.h"
#include "io/life.h"
#include "io/results.h"
#include "io/resume.h"
#include "io/rundir.h"
#include "io/tools.h"

struct found {
    bool complete;
    const char *state;     /* of status.json */
    uint64_t done, of;     /* requests */
    int64_t rows, errors;  /* rows done */
    struct mb_resume_counts counts;
    struct mb_job_info job;
    struct mb_life life;
};

static void print(FILE *out, const char *path, const struct found *f, bool json)
{
    if (json) {
        json_t *v = json_pack("{s:b, s:I, s:I, s:I, s:I, s:s, s:b, s:s, s:I, s:I, s:s}", "complete", f->complete, "committed", (json_int_t)f->done,
                              "total", (json_int_t)f->of, "rows", (json_int_t)f->rows, "begun_tokens",
                              (json_int_t)f->counts.tokens, "state", f->state, "alive", f->life.alive, "host", f->life.host, "pid",
                              (json_int_t)f->life.pid, "age_seconds", (json_int_t)f->life.age, "resume",
                              f->job.command == NULL ? "" : f->job.command);
        json_dumpf(v, out, JSON_COMPACT);
        fputc('\n', out);
        json_decref(v);
        return;
    }
    if (f->complete) {
        fprintf(out, "%s is complete: %lld rows\n", path, (long long)f->rows);
        return;
    }
    fprintf(out, "%s is not complete: %llu/%llu requests are done", path, (unsigned long long)f->done,
            (unsigned long long)f->of);
    if (f->counts.lines_begun > 0)
        fprintf(out, ", %lld begun with %lld tokens", (long long)f->counts.lines_begun, (long long)f->counts.tokens);
    char who[384];
    mb_life_text(&f->life, who);
    fprintf(out, "; its last run (run-%04d) %s%s%s%s%s\n", f->job.run, strcmp(f->state, "died") == 0 ? "" : "is ", f->state,
            f->life.alive || strcmp(f->state, "died") == 0 ? " (" : "", f->life.alive || strcmp(f->state, "died") == 0 ? who : "",
            f->life.alive || strcmp(f->state, "died") == 0 ? ")" : "");
    if (f->counts.damaged > 0)
        fprintf(out, "%d journals are damaged; what was lost is computed again\n", f->counts.damaged);
    if (f->life.alive) {
        fprintf(out, "it goes on by itself; to stop it in good order: kill -USR1 %lld (on %s)\n", (long long)f->life.pid,
                f->life.host);
        return;
    }
    fprintf(out, "to go on: %s\n", f->job.command);
    if (f->job.cwd[0] != 0)
        fprintf(out, "in      : %s\n", f->job.cwd);
}

/* The state that status.json tells; the job may have been killed since. */
static const char *state_of(const char *dir)
{
    static const char *const known[] = {"running", "assembling", "stopped", "complete", "failed"};
    char *path = mb_path_join(dir, "status.json");
    const char *found = "unknown";
    json_t *v = NULL;
    if (path != NULL && mb_path_exists(path) && mb_json_load(path, 1 << 20, MB_INPUT, &v) == MB_OK) {
        const char *s = json_string_value(json_object_get(v, "state"));
        for (size_t i = 0; i < sizeof known / sizeof *known && s != NULL; i++)
            found = strcmp(s, known[i]) == 0 ? known[i] : found;
    }
    json_decref(v);
    free(path);
    return found;
}

static enum mb_status count_journals(const char *dir, struct found *f)
{
    struct mb_resume *r = NULL;
    MB_TRY(mb_resume_fold(dir, NULL, NULL, f->job.input_lines, NULL, &r));
    mb_resume_count(r, &f->counts);
    mb_resume_destroy(r);
    f->done = (uint64_t)f->counts.lines_done;
    f->rows = f->counts.rows_done;
    f->of = f->job.requests;
    mb_life_look(dir, &f->life);
    f->state = state_of(dir);
    if (!f->life.alive && (strcmp(f->state, "running") == 0 || strcmp(f->state, "assembling") == 0))
        f->state = "died"; /* it could not say so */
    return MB_OK;
}

static enum mb_status rows_of(const char *path, struct found *f)
{
    struct mb_results *r = NULL;
    MB_TRY(mb_results_open(path, &r));
    f->complete = mb_results_info(r)->complete;
    f->rows = (int64_t)mb_results_info(r)->rows;
    f->state = "complete";
    enum mb_status st = mb_results_requests(r, &f->of);
    f->done = f->of;
    mb_results_close(r);
    return st;
}

enum mb_status mb_results_status(FILE *out, const char *path, bool json, int *exit_code)
{
    struct mb_rundir *d = NULL;
    struct found f = {.state = "unknown"};
    MB_TRY(mb_rundir_look(path, &d));
    enum mb_status st = MB_OK;
    if (mb_path_exists(path))
        st = rows_of(path, &f);
    if (st == MB_OK && !f.complete) {
        st = mb_job_info_read(d->dir, &f.job);
        if (st == MB_INPUT)
            mb_error(st, "%s: there are no results and no run that could be resumed", path);
        if (st == MB_OK)
            st = count_journals(d->dir, &f);
    }
    if (st == MB_OK) {
        print(out, path, &f, json);
        *exit_code = f.complete ? 0 : mb_status_exit(MB_STOP);
    }
    mb_job_info_fini(&f.job);
    mb_rundir_destroy(d);
    return st;
}
