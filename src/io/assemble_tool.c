#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/assemble.h"
#include "io/job_info.h"
#include "io/pending.h"
#include "io/results.h"
#include "io/tools.h"
#include "text/tokenizer.h"

/* What the newest run knew about itself when it started. */
static enum mb_status load_extras(const struct mb_rundir *d, int32_t run, struct mb_extras *x)
{
    char *dir = mb_run_path(d->dir, run), *path = dir == NULL ? NULL : mb_path_join(dir, MB_RUNDIR_EXTRAS);
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_extras_load(x, path);
    char *all = mb_rundir_incarnations(d->dir);
    if (st == MB_OK)
        st = mb_extras_text(x, "/provenance/incarnations", all);
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

static enum mb_status assemble(const struct mb_rundir *d, const struct mb_job_info *j, bool partial, const char *openai,
                               struct mb_assembled *got)
{
    struct mb_pending_input *input = NULL;
    struct mb_extras extras = {0};
    struct mb_tokenizer *tok = NULL;
    struct mb_openai_options oo;
    enum mb_status st = load_extras(d, j->run, &extras);
    if (st == MB_OK && openai != NULL)
        st = load_tokenizer(j, &extras, &oo, &tok);
    if (st == MB_OK && partial)
        st = mb_pending_open(j->input, j->identity.input, &input);
    struct mb_assemble_options o = {.dir = d, .identity = &j->identity, .shape = &j->shape, .input_lines = j->input_lines,
                                    .first_line = j->first_line, .lines = j->lines, .requests = j->requests,
                                    .partial = partial, .pending = mb_pending_rows(input), .extras = &extras,
                                    .openai = openai == NULL ? NULL : &oo, .openai_path = openai};
    if (st == MB_OK)
        st = mb_assemble(&o, got);
    mb_tokenizer_destroy(tok);
    mb_pending_close(input);
    mb_extras_fini(&extras);
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

enum mb_status mb_results_assemble(const char *path, bool partial, bool keep, const char *openai)
{
    struct mb_rundir *d = NULL;
    struct mb_job_info j = {0};
    struct mb_assembled got = {0};
    bool complete = false;
    openai = openai != NULL && *openai == 0 ? NULL : openai;
    MB_TRY(look(path, &complete));
    if (complete && openai != NULL)
        return mb_error(MB_INPUT, "%s is complete: --openai-output is written when results are made from journals, so give it to "
                                  "moebatch run", path);
    if (complete) {
        mb_info("%s is complete: nothing to do", path);
        return MB_OK;
    }
    MB_TRY(mb_rundir_look(path, &d));
    enum mb_status st = mb_job_info_read(d->dir, &j);
    if (st == MB_INPUT)
        mb_error(st, "%s: no run has left journals here", path);
    if (st == MB_OK)
        st = assemble(d, &j, partial, openai, &got);
    if (st == MB_OK)
        mb_info("%s: %lld rows, %lld of them error rows, %lld pending", path, (long long)got.rows, (long long)got.errors,
                (long long)got.pending);
    if (st == MB_OK && got.pending == 0) {
        struct mb_run_status s = {.state = "complete", .exit_code = 0, .rows = got.rows, .committed = got.rows,
                                  .acknowledged = got.rows, .errors = got.errors, .prompt_tokens = got.prompt_tokens,
                                  .output_tokens = got.output_tokens};
        d->number = j.run;
        st = mb_rundir_status(d, &s);
        if (st == MB_OK)
            st = mb_rundir_finish(d, keep);
    }
    mb_job_info_fini(&j);
    mb_rundir_destroy(d);
    return st;
}
