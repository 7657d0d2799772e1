/* The end of a job: journals closed, results assembled, status and result block written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/job.h"
#include "app/signals.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "io/results.h"

#define STATUS_SECONDS 1.0

/* All ranks assemble for the same time; what is in no other part of a rank's time is the rest. */
static void rest_of(double spent[MB_SPENT_COUNT], double whole, double assembly)
{
    double sum = 0;

    spent[MB_SPENT_ASSEMBLY] = assembly;
    for (int w = 0; w < MB_SPENT_COUNT; w++)
        sum += w != MB_TIME_REST ? spent[w] : 0;
    spent[MB_TIME_REST] = whole > sum ? whole - sum : 0;
}

static void result_block(struct mb_job_state *j, enum mb_status st)
{
    json_t *owner = NULL;
    char *again = NULL;

    if (j->app.rank != 0)
        return;
    j->end.output = j->app.conf->output;
    j->end.status = st;
    mb_job_progress(j, &j->end.progress);
    double now = mb_now();
    for (int32_t r = 0; r < j->end.ranks; r++)
        rest_of(j->spent[r], now - j->t_start, j->end.assembly_seconds);
    if (st != MB_OK && mb_rundir_owner(j->dir->dir, &owner) == MB_OK)
        again = mb_rundir_resume_command(owner);
    j->end.resume = again;
    mb_report_result(&j->report, now, &j->end);
    json_decref(owner);
    free(again);
}

/* 75 where --resume may help. The same failure of two runs, of which neither added anything, will come a third time. All ranks
 * come to the same. */
static int code_of(const struct mb_job_state *j, enum mb_status st)
{
    int code = j->begun ? mb_status_exit_begun(st) : mb_status_exit(st);

    if (code != 75 || st == MB_STOP || j->wrote || (int32_t)st != j->start.last_failure)
        return code;
    if (j->app.rank == 0 || j->alone)
        mb_error(st, "the run before ended in the same way (%s), and neither added anything: a resume will not help until the cause is "
                 "gone", mb_status_name(st));
    return mb_status_exit(st) != 75 ? mb_status_exit(st) : 71;
}

/* Whether some rank has finished a row, as far as this one can know: its own count, those that rank 0 was told of, and for the
 * others what rank 0 last wrote into status.json. */
static bool wrote_by_hearsay(const struct mb_job_state *j)
{
    struct mb_tick_msg mine = {0};
    struct mb_run_last last = {.failure = ""};

    if (j->app.engine != NULL)
        mb_job_own_tick(j, &mine);
    for (int r = 0; r < j->app.size && j->app.rank == 0 && j->ticks != NULL; r++)
        mine.written += j->ticks[r].written;
    if (j->app.rank != 0)
        mb_rundir_last(j->dir->dir, &last);
    return j->wrote || mine.written > 0 || last.committed > j->start.rows_done;
}

int mb_job_end_code(void *job, enum mb_status st)
{
    struct mb_job_state *j = job;

    if (!j->alone) { /* end_alone has not come here before */
        j->alone = true;
        j->wrote = wrote_by_hearsay(j);
        j->end_code = code_of(j, st);
    }
    j->failure = st;
    const char *state = j->end_code == 75 ? "stopped" : "failed";
    if (j->app.rank != 0)
        mb_rundir_failed(j->dir, state, j->end_code, mb_status_name(st));
    else if (j->ticks != NULL)
        mb_job_write_status(j, state, j->end_code);
    return j->end_code;
}

/* The job did not finish: everything is on disk, somebody can go on. */
static enum mb_status stopped(struct mb_job_state *j, enum mb_status st, int *exit_code)
{
    *exit_code = code_of(j, st);
    j->failure = st;
    if (j->app.rank == 0 && j->ticks != NULL) {
        mb_job_write_status(j, *exit_code == 75 ? "stopped" : "failed", *exit_code); /* st is the cause that counts */
        if (mb_signals_name() != NULL)
            mb_info("stopped by %s", mb_signals_name());
        result_block(j, st);
    }
    return st;
}

/* Before a round of assembly: a stop goes round, and rank 0 says how far it is. */
static void show_assembly(void *arg, const char *what, double part)
{
    struct mb_job_state *j = arg;
    double now = mb_now();

    mb_job_idle(j);
    if (j->app.rank != 0)
        return;
    mb_report_assembly(&j->report, now, what, part);
    if (now - j->last_tick < STATUS_SECONDS)
        return;
    j->last_tick = now;
    mb_job_write_status(j, "assembling", -1);
}

static enum mb_status assemble(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct mb_openai_options openai = {.tok = j->app.tok, .model = c->model_name != NULL ? c->model_name : c->model, .created = (int64_t)mb_utc()};
    struct mb_assemble_options o = {.dir = j->dir,
                                    .comm = j->app.comm,
                                    .mem = &j->app.mem,
                                    .identity = &j->identity,
                                    .shape = &j->shape,
                                    .input_lines = j->start.input.total_lines,
                                    .first_line = j->start.input.first,
                                    .lines = j->start.input.lines,
                                    .requests = j->start.requests,
                                    .extras = &j->extras,
                                    .openai = c->openai_output[0] != 0 ? &openai : NULL,
                                    .openai_path = c->openai_output,
                                    .openai_replace = c->overwrite,
                                    .stop = mb_signals_stop(),
                                    .show = show_assembly,
                                    .show_arg = j};
    mb_fault("assembly");
    MB_TRY(mb_comm_bcast(j->app.comm, &openai.created, sizeof openai.created, 0, "time")); /* all lines say the same */
    if (j->app.rank == 0)
        mb_job_write_status(j, "assembling", -1);
    return mb_assemble(&o, &j->assembled);
}

/* The reason of the first row of the results, malloc'd, or NULL. */
static char *first_reason(const char *path)
{
    struct mb_results *r = NULL;
    struct mb_record rec = {0};
    char *out = NULL;

    if (mb_results_open(path, &r) == MB_OK && mb_results_row(r, 0, &rec) == MB_OK && rec.error.len > 0)
        out = strndup(rec.error.data, rec.error.len);
    mb_record_fini(&rec);
    mb_results_close(r);
    return out;
}

static enum mb_status complete(struct mb_job_state *j, int *exit_code)
{
    bool all = j->assembled.errors > 0 && j->assembled.errors == j->assembled.rows;
    enum mb_status st = MB_OK;

    *exit_code = all || (j->app.conf->strict && j->assembled.errors > 0) ? 3 : 0;
    if (j->app.rank == 0) {
        char *why = all ? first_reason(j->app.conf->output) : NULL;
        j->end.all_bad = why;
        mb_job_write_status(j, "complete", *exit_code);
        st = mb_rundir_finish(j->dir, j->app.conf->keep);
        result_block(j, MB_OK);
        j->end.all_bad = NULL;
        free(why);
    }
    return st;
}

/* The exchange failed on this rank: the others may be waiting in it, so that agreeing with them would wait for the deadline.
 * What they have written is in their journals; on_lost brings this rank's to disk. */
static _Noreturn void end_alone(struct mb_job_state *j, enum mb_status st)
{
    mb_error(st, "rank %d can't go on with the others: the job ends here; what was computed is in the journals", j->app.rank);
    mb_job_own_counts(j);
    j->alone = true;
    j->wrote = wrote_by_hearsay(j);
    (void)stopped(j, st, &j->end_code);
    fflush(NULL);
    mb_comm_end(j->app.comm, st);
}

/* A signal to one rank ends all at the end of a step, perhaps before rank 0 was told of it: it says what it was. */
static void share_signal(const struct mb_job_state *j)
{
    int64_t sig = mb_signals_number();

    if (mb_comm_max_i64(j->app.comm, &sig, 1, "what the run was stopped by") == MB_OK && sig > 0 && mb_signals_number() == 0)
        mb_signals_ask((int)sig);
}

enum mb_status mb_job_finish(struct mb_job_state *j, enum mb_status st, int *exit_code)
{
    mb_job_keep_counts(j, false);
    if (j->app.engine != NULL && !mb_engine_agreed(j->app.engine))
        end_alone(j, st);
    enum mb_status sync = mb_journal_settle(j->journal);
    if (st == MB_OK && j->drained)
        st = MB_STOP;

    st = mb_comm_agree(j->app.comm, st != MB_OK ? st : sync, "running");
    if (st != MB_OK) /* on all, then */
        share_signal(j);
    enum mb_status last = mb_job_last_counts(j);
    if (st == MB_OK)
        st = last;
    if (st == MB_OK)
        st = mb_job_gather(j);
    if (st != MB_OK)
        return stopped(j, st, exit_code);
    mb_app_end_device(&j->app); /* its memory may serve the assembly */
    double t0 = mb_now();
    st = mb_comm_agree(j->app.comm, assemble(j), "assembling the results");
    j->end.assembly_seconds = mb_now() - t0;
    if (st != MB_OK)
        return stopped(j, st, exit_code);
    return mb_comm_agree(j->app.comm, complete(j, exit_code), "finishing");
}
