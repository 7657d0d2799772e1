#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/assemble.h"
#include "io/counts.h"
#include "io/job_info.h"
#include "io/life.h"
#include "io/orders.h"
#include "io/pending.h"
#include "io/results.h"
#include "io/tools.h"
#include "text/tokenizer.h"

/* What the newest run knew about itself when it started, and what all runs counted. */
static enum mb_status load_extras(const struct mb_rundir *d, int32_t run, struct mb_extras *x)
{
    char *dir = mb_run_path(d->dir, run), *path = dir == NULL ? NULL : mb_path_join(dir, MB_RUNDIR_EXTRAS);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_extras_load(x, path);
    char *all = mb_rundir_incarnations(d->dir);
    if (st == MB_OK)
        st = mb_extras_text(x, "/provenance/incarnations", all);
    if (st == MB_OK)
        st = mb_counts_add_runs(x, d->dir, 0);
    if (st == MB_OK)
        st = mb_order_events(d->dir, x);
    free(all);
    free(path);
    free(dir);
    return st;
}

static const char *text_in(const struct mb_extras *x, const char *path)
{
    for (int32_t i = 0; i < x->n; i++) {
        if (x->v[i].type == MB_H5_TEXT && strcmp(x->v[i].path, path) == 0)
            return (const char *)x->v[i].data;
    }
    return NULL;
}

/* The tokenizer of the job's model: its directory as the job named it, from where the job was started. */
static enum mb_status load_tokenizer(const struct mb_job_info *j, const struct mb_extras *x, struct mb_openai_options *o,
                                     struct mb_tokenizer **tok)
{
    const char *model = text_in(x, "/provenance/model");
    if (model == NULL)
        return mb_error(MB_INPUT, "the run did not record its model directory, which --openai-output needs for its tokenizer");
    char *path = model[0] == '/' || j->cwd[0] == 0 ? strdup(model) : mb_path_join(j->cwd, model);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_tokenizer_load(path, tok);
    free(path);
    *o = (struct mb_openai_options){.tok = *tok, .model = model, .created = (int64_t)mb_utc()};
    return st;
}

/* Complete results are never replaced: their journals may be gone. */
static enum mb_status look(const char *path, bool *complete)
{
    json_t *identity = NULL;
    *complete = false;
    if (!mb_path_exists(path))
        return MB_OK;
    enum mb_status st = mb_results_probe(path, complete, &identity);
    json_decref(identity);
    return st;
}

/* Before the results take their name, under the lock: what was complete meanwhile stays, and what a new start or the end of the
 * job removed is not brought back. */
struct moment {
    const struct mb_rundir *d;
    int32_t run;
    bool complete; /* out: somebody else has published complete results */
};

static enum mb_status may_publish(void *arg)
{
    struct moment *m = arg;
    char *run = mb_run_path(m->d->dir, m->run);
    enum mb_status st = run == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : look(m->d->results, &m->complete);
    if (st == MB_OK && m->complete)
        st = mb_error(MB_STOP, "%s has become complete meanwhile, and stays as it is", m->d->results);
    else if (st == MB_OK && !mb_path_exists(run))
        st = mb_error(MB_STOP, "%s is gone: another job has taken over these results", run);
    free(run);
    return st;
}

static enum mb_status assemble(const struct mb_rundir *d, const struct mb_job_info *j, bool partial, const char *openai,
                               const volatile sig_atomic_t *stop, struct mb_assembled *got)
{
    struct mb_pending_input *input = NULL;
    struct mb_extras extras = {0};
    struct mb_tokenizer *tok = NULL;
    struct mb_openai_options oo;
    struct moment m = {.d = d, .run = j->run};
    enum mb_status st = load_extras(d, j->run, &extras);
    if (st == MB_OK && openai != NULL)
        st = load_tokenizer(j, &extras, &oo, &tok);
    if (st == MB_OK && partial)
        st = mb_pending_open(j->input, j->identity.input, &input);
    struct mb_assemble_options o = {.dir = d, .identity = &j->identity, .shape = &j->shape, .input_lines = j->input_lines,
                                    .first_line = j->first_line, .lines = j->lines, .requests = j->requests,
                                    .partial = partial, .pending = mb_pending_rows(input), .extras = &extras,
                                    .openai = openai == NULL ? NULL : &oo, .openai_path = openai, .may = may_publish, .may_arg = &m, .stop = stop};
    if (st == MB_OK)
        st = mb_assemble(&o, got);
    mb_tokenizer_destroy(tok);
    mb_pending_close(input);
    mb_extras_fini(&extras);
    return st;
}

/* --openai-output of complete results: the tokenizer is where they say that the model was. */
static enum mb_status late_lines(const char *path, const char *openai)
{
    struct mb_results *r = NULL;
    struct mb_tokenizer *tok = NULL;
    char *model = NULL;
    MB_TRY(mb_results_open(path, &r));
    enum mb_status st = mb_results_provenance(r, "model", &model);
    mb_results_close(r);
    if (st == MB_OK && model == NULL)
        st = mb_error(MB_INPUT, "%s does not say which model it is of, whose tokenizer --openai-output needs", path);
    if (st == MB_OK)
        st = mb_tokenizer_load(model, &tok);
    struct mb_openai_options o = {.tok = tok, .model = model, .created = (int64_t)mb_utc()};
    if (st == MB_OK)
        st = mb_openai_late(path, openai, &o);
    mb_tokenizer_destroy(tok);
    free(model);
    return st;
}

static enum mb_status check_alive(const struct mb_rundir *d, bool partial)
{
    struct mb_life life;
    char who[384];
    mb_life_look(d->dir, &life);
    if (partial || !life.known || !life.alive)
        return MB_OK;
    mb_life_text(&life, who);
    return mb_error(MB_INPUT, "%s: its job is running (%s) and makes its results itself; --partial shows what is done so far",
                    d->results, who);
}

static enum mb_status finish(struct mb_rundir *d, int32_t run, const struct mb_assembled *got, bool keep)
{
    struct mb_run_status s = {.state = "complete", .exit_code = 0, .rows = got->rows, .committed = got->rows,
                              .acknowledged = got->rows, .errors = got->errors, .prompt_tokens = got->prompt_tokens,
                              .output_tokens = got->output_tokens};
    d->number = run;
    mb_rundir_status(d, &s);
    return mb_rundir_finish(d, keep);
}

static enum mb_status from_journals(struct mb_rundir *d, bool partial, bool keep, const char *openai,
                                    const volatile sig_atomic_t *stop)
{
    struct mb_job_info j = {0};
    struct mb_assembled got = {0};
    MB_TRY(check_alive(d, partial));
    enum mb_status st = mb_job_info_read(d->dir, &j);
    if (st == MB_INPUT)
        mb_error(st, "%s: no run has left journals here", d->results);
    if (st == MB_OK)
        st = assemble(d, &j, partial, openai, stop, &got);
    if (st == MB_OK)
        mb_info("%s: %lld rows, %lld of them error rows, %lld pending", d->results, (long long)got.rows, (long long)got.errors,
                (long long)got.pending);
    if (st == MB_OK && got.pending == 0)
        st = finish(d, j.run, &got, keep);
    mb_job_info_fini(&j);
    return st;
}

enum mb_status mb_results_assemble(const char *path, bool partial, bool keep, const char *openai, const volatile sig_atomic_t *stop)
{
    struct mb_rundir *d = NULL;
    bool complete = false, after = false;
    openai = openai != NULL && *openai == 0 ? NULL : openai;
    MB_TRY(look(path, &complete));
    if (openai != NULL && mb_path_exists(openai))
        return mb_error(MB_INPUT, "%s exists: give another --openai-output, or move it away", openai);
    if (complete && openai != NULL)
        return late_lines(path, openai);
    if (complete) {
        mb_info("%s is complete: nothing to do", path);
        return MB_OK;
    }
    if (openai != NULL)
        MB_TRY(mb_publish_probe(openai));
    MB_TRY(mb_rundir_look(path, &d));
    enum mb_status st = from_journals(d, partial, keep, openai, stop);
    mb_rundir_destroy(d);
    if (st == MB_OK || look(path, &after) != MB_OK || !after || openai != NULL)
        return st;
    mb_info("%s is complete: another process has made it meanwhile", path);
    return MB_OK;
}
