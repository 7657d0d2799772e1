/* The start of a job at the place of its results: what it reads and must not replace, its input, the decision, the step. Rank 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include "app/job.h"
#include "app/launcher.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/openai.h"
#include "io/results.h"
#include "io/start.h"

bool mb_job_done(const struct mb_job_state *j)
{
    return j->start.what == MB_START_COMPLETE || j->start.what == MB_START_LINES;
}

/* An upper estimate: four bytes of input make a token at most in practice, and every request generates what it may. */
static enum mb_status check_room(struct mb_job_state *j, const struct mb_input_info *in, const char *dir)
{
    const struct mb_conf *c = j->app.conf;
    double rows = (double)in->bytes / 4 + (double)in->rows * (double)c->max_tokens, bytes = 0;
    struct statvfs fs;
    char a[MB_TEXT_CAP], b[MB_TEXT_CAP];

    for (int k = 0; k < MB_BULK_COUNT; k++) {
        bool last = k == MB_BULK_LOGITS && j->shape.logits_last;
        bytes += (double)mb_shape_row_bytes(&j->shape, (enum mb_bulk_kind)k) * (last ? (double)in->rows : rows);
    }
    j->save_bytes = bytes < 9e18 ? (int64_t)bytes : INT64_MAX;
    if (j->save_bytes > c->save_limit)
        return mb_error(MB_INPUT, "about %s of routing, logits and hidden states would be stored, more than --save-limit %s; raise it "
                        "or store less", mb_text_bytes(j->save_bytes, a), mb_text_bytes(c->save_limit, b));
    /* twice: the journal's bulk files and the results made from them */
    if (j->save_bytes > 0 && statvfs(dir, &fs) == 0 && 2 * bytes > (double)fs.f_bavail * (double)fs.f_frsize)
        return mb_error(MB_NO_SPACE, "about %s of routing, logits and hidden states would be stored, and %s has less than twice that "
                        "free", mb_text_bytes(j->save_bytes, a), dir);
    return MB_OK;
}

enum mb_status mb_job_index(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    char *spool = NULL;
    struct mb_index_options o = {.path = c->input, .kept = c->resume, .parse = &j->parse, .shard = c->shard_index,
                                 .shards = c->shard_count, .mem = &j->app.mem};

    if (asprintf(&spool, "%s.d", c->output) < 0)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    o.spool_dir = spool;
    enum mb_status st = mb_mkdirs(spool);
    if (st == MB_OK)
        st = mb_index_create(&o, &j->index);
    if (st != MB_OK)
        mb_remove_empty(spool); /* a job that was refused leaves nothing */
    free(spool);
    return st;
}

/* ---------------------------------------------------------------- what must stay */
static const char *const beside[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tiktoken.model",
                                     "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                                     "model.safetensors.index.json"};
#define N_BESIDE ((int32_t)(sizeof beside / sizeof *beside))

struct reads {
    char **path; /* malloc'd, each too */
    int32_t n;
};

static void reads_fini(struct reads *r)
{
    for (int32_t i = 0; i < r->n; i++)
        free(r->path[i]);
    free(r->path);
}

/* Takes path. */
static bool add(struct reads *r, char *path)
{
    if (path == NULL)
        return false;
    r->path[r->n++] = path;
    return true;
}

/* The input, the deck, and the files of the model (those with weights once it is open). */
static enum mb_status reads_of(const struct mb_job_state *j, struct reads *r)
{
    const struct mb_conf *c = j->app.conf;
    const struct mb_model *m = j->app.model;
    int32_t files = m == NULL ? 0 : m->n_files;
    r->path = calloc((size_t)files + (size_t)N_BESIDE + 2, sizeof *r->path);
    bool ok = r->path != NULL && (strcmp(c->input, "-") == 0 || add(r, strdup(c->input))) &&
              (c->config == NULL || c->config[0] == 0 || add(r, strdup(c->config)));
    for (int32_t i = 0; i < files && ok; i++)
        ok = add(r, mb_path_join(m->dir, m->files[i]));
    for (int32_t i = 0; i < N_BESIDE && ok; i++)
        ok = add(r, mb_path_join(c->model, beside[i]));
    return ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the names of the files that are read");
}

static struct mb_start_options options(const struct mb_conf *c, const struct reads *r)
{
    return (struct mb_start_options){.results = c->output, .openai = c->openai_output[0] != 0 ? c->openai_output : NULL,
                                     .resume = c->resume, .overwrite = c->overwrite, .takeover = c->takeover, .keep = c->keep,
                                     .reads = (const char *const *)r->path, .n_reads = r->n};
}

enum mb_status mb_job_check_start(struct mb_job_state *j)
{
    struct reads r = {0};
    enum mb_status st = reads_of(j, &r);
    struct mb_start_options o = options(j->app.conf, &r);
    if (st == MB_OK)
        st = mb_start_check(&o);
    reads_fini(&r);
    return st;
}

/* ---------------------------------------------------------------- complete results */
/* The exit code that the job had, or would have had with --strict: 3 for a row that is an error with it, for nothing else than
 * errors without it. */
static enum mb_status count_errors(struct mb_job_state *j)
{
    struct mb_results *r = NULL;
    bool strict = j->app.conf->strict, error = false, good = false;
    MB_TRY(mb_results_open(j->app.conf->output, &r));
    enum mb_status st = MB_OK;
    uint64_t n = mb_results_info(r)->rows;
    for (uint64_t i = 0; i < n && st == MB_OK && !(strict ? error : good); i++) {
        struct mb_record rec;
        st = mb_results_row(r, i, &rec);
        if (st != MB_OK)
            break;
        error = error || rec.status == MB_ROW_ERROR;
        good = good || rec.status != MB_ROW_ERROR;
        mb_record_fini(&rec);
    }
    mb_results_close(r);
    j->start.done_code = error && (strict || !good) ? 3 : 0;
    return st;
}

static enum mb_status late_lines(const struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct mb_openai_options o = {.tok = j->app.tok, .model = c->model_name != NULL ? c->model_name : c->model, .created = (int64_t)mb_utc()};
    MB_TRY(mb_openai_late(c->output, c->openai_output, &o));
    mb_info("%s: the lines of %s", c->openai_output, c->output);
    return MB_OK;
}

static enum mb_status when_done(struct mb_job_state *j)
{
    const char *lines = j->app.conf->openai_output;
    MB_TRY(count_errors(j));
    if (j->start.what == MB_START_LINES)
        return late_lines(j);
    if (lines[0] != 0)
        mb_info("%s exists and stays as it is", lines);
    return MB_OK;
}

/* ---------------------------------------------------------------- the step */
/* A beat needs a file: what is known so far. */
static enum mb_status begin_to_live(struct mb_job_state *j)
{
    struct mb_run_status s = {.state = "running", .exit_code = -1, .rows = (int64_t)j->start.input.rows, .eta = -1};
    mb_rundir_status(j->dir, &s);
    char *path = mb_path_join(j->dir->dir, "status.json");
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_beat_start(path, &j->beat);
    if (st == MB_OK)
        st = mb_orders_start(j->dir->dir, j->dir->number, &j->orders);
    free(path);
    return st;
}

static enum mb_status start(struct mb_job_state *j, const struct mb_start_options *o)
{
    const struct mb_input_info *in = mb_index_info(j->index);
    struct mb_owner owner = {.ranks = j->app.size, .argc = j->argc, .argv = j->argv, .input = in,
                             .identity = &j->identity, .shape = &j->shape, .input_missing = in->nothing};
    enum mb_start what = MB_START_REFUSED;
    MB_TRY(mb_launcher_words(j->argv[0], j->app.size, &owner.launcher));
    enum mb_status st = mb_start(o, &owner, mb_index_take_copy(j->index), &what, &j->dir);
    free(owner.launcher);
    MB_TRY(st);
    j->start.input = *in;
    j->start.requests = in->requests;
    j->start.what = (int32_t)what;
    j->start.run = j->dir != NULL ? j->dir->number : 0;
    return mb_job_done(j) ? when_done(j) : begin_to_live(j);
}

enum mb_status mb_job_start(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct reads r = {0};
    char *dir = NULL;
    enum mb_status st = reads_of(j, &r);
    struct mb_start_options o = options(c, &r);
    if (st == MB_OK && asprintf(&dir, "%s.d", c->output) < 0) {
        dir = NULL;
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    if (st == MB_OK)
        st = check_room(j, mb_index_info(j->index), dir);
    if (st == MB_OK)
        st = start(j, &o);
    if (st != MB_OK && j->dir == NULL && dir != NULL) {
        mb_publish_drop(mb_index_take_copy(j->index)); /* a job that was refused leaves nothing */
        mb_remove_empty(dir);
    }
    free(dir);
    reads_fini(&r);
    return st;
}
