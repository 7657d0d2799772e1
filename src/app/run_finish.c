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

/* Everybody's last counts to rank 0. */
static enum mb_status last_ticks(struct mb_job_state *j)
{
    struct mb_tick_msg mine, *all = calloc((size_t)j->app.size, sizeof *all);

    MB_TRY(mb_comm_agree(j->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counts") : MB_OK, "last counts"));
    mb_job_own_tick(j, &mine);
    enum mb_status st = mb_comm_allgather(j->app.comm, &mine, sizeof mine, all, "last counts");
    if (st == MB_OK && j->app.rank == 0)
        memcpy(j->ticks, all, sizeof *all * (size_t)j->app.size);
    free(all);
    return st;
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
    if (st != MB_OK && mb_rundir_owner(j->dir->dir, &owner) == MB_OK)
        again = mb_rundir_resume_command(owner);
    j->end.resume = again;
    mb_report_result(&j->report, mb_now(), &j->end);
    json_decref(owner);
    free(again);
}

/* The job did not finish: everything is on disk, somebody can go on. */
static enum mb_status stopped(struct mb_job_state *j, enum mb_status st)
{
    int code = mb_status_exit(st);

    if (j->app.rank == 0 && j->ticks != NULL) {
        (void)mb_job_write_status(j, code == 75 ? "stopped" : "failed", code); /* st is the cause that counts */
        if (mb_signals_name() != NULL)
            mb_info("stopped by %s", mb_signals_name());
        result_block(j, st);
    }
    return st;
}

static enum mb_status assemble(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct mb_openai_options openai = {.tok = j->app.tok, .model = c->model, .created = (int64_t)mb_utc()};
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
                                    .openai_path = c->openai_output};
    mb_fault("assembly");
    MB_TRY(mb_comm_bcast(j->app.comm, &openai.created, sizeof openai.created, 0, "time")); /* all lines say the same */
    if (j->app.rank == 0)
        MB_TRY(mb_job_write_status(j, "assembling", -1));
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
        st = mb_job_write_status(j, "complete", *exit_code);
        if (st == MB_OK)
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
    (void)stopped(j, st);
    fflush(NULL);
    mb_comm_end(j->app.comm, st);
}

enum mb_status mb_job_finish(struct mb_job_state *j, enum mb_status st, int *exit_code)
{
    if (j->app.engine != NULL && !mb_engine_agreed(j->app.engine))
        end_alone(j, st);
    enum mb_status sync = mb_journal_sync_now(j->journal);

    st = mb_comm_agree(j->app.comm, st != MB_OK ? st : sync, "running");
    if (j->app.engine == NULL)
        return stopped(j, st);
    enum mb_status last = last_ticks(j);
    if (st == MB_OK)
        st = last;
    if (st == MB_OK)
        st = mb_job_gather(j);
    if (st != MB_OK)
        return stopped(j, st);
    mb_app_end_device(&j->app); /* its memory may serve the assembly */
    st = mb_comm_agree(j->app.comm, assemble(j), "assembling the results");
    if (st != MB_OK)
        return stopped(j, st);
    return mb_comm_agree(j->app.comm, complete(j, exit_code), "finishing");
}
