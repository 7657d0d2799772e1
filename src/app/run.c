/* moebatch run and score. */
#include "app/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/job.h"
#include "app/nodes.h"
#include "app/signals.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "config.h"

static enum mb_status copy_args(struct mb_job_state *j, int argc, char **argv)
{
    j->argv = calloc((size_t)argc + 1, sizeof(char *));
    if (j->argv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the command line");
    for (; j->argc < argc; j->argc++) {
        j->argv[j->argc] = strdup(argv[j->argc]);
        if (j->argv[j->argc] == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the command line");
    }
    return MB_OK;
}

static void header(struct mb_job_state *j)
{
    struct mb_device_info info;

    if (j->app.rank != 0)
        return;
    j->app.ops->info(j->app.dev, &info);
    char device[192], weights[160];
    mb_model_kept(j->app.model, j->app.path, weights, sizeof weights);
    snprintf(device, sizeof device, "%s: %s", info.name, info.isa);
    struct mb_report_head h = {.version = PACKAGE_VERSION, .conf = j->app.conf, .model = j->app.model, .topo = j->app.topo,
                               .plan = j->app.plan, .path_name = j->app.path_name, .weights = weights, .defaults = j->defaults, .device = device, .chosen = j->app.auto_reason,
                               .requests = (int64_t)j->start.input.rows, .save_bytes = j->save_bytes, .run = j->start.run};
    mb_report_init(&j->report, j->t_start, j->start.rows_done);
    mb_report_header(&j->report, &h);
    char advice[MB_ADVICE_TEXT];
    if (mb_nodes_advice(j->app.topo, mb_launcher(), advice))
        mb_warn("%s", advice);
    if (j->start.what == MB_START_RESUME)
        mb_print("resumed             : %lld of %llu rows are done, %lld lines were under way with %lld tokens",
                 (long long)j->start.rows_done, (unsigned long long)j->start.input.rows, (long long)j->start.lines_begun,
                 (long long)j->start.forced_tokens);
}

/* A machine that is cut off: Open MPI's mpirun waits for its daemon there until the connection breaks, 8 minutes by default. */
static void tell_of_mpirun(const struct mb_job_state *j)
{
    if (j->app.rank == 0 && j->app.topo != NULL && j->app.topo->nodes > 1 && mb_launcher() == MB_LAUNCHER_MPIRUN &&
        getenv("OMPI_MCA_oob_tcp_keepalive_time") == NULL)
        mb_info("where a machine is cut off, mpirun may stay for minutes: end it by hand, and start it with --mca oob_tcp_keepalive_time "
                "30 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3");
}

static void sync_journal(void *arg)
{
    struct mb_job_state *j = arg;
    if (j->journal != NULL)
        (void)mb_journal_sync_now(j->journal); /* it logged what went wrong; the process ends after this */
    if (j->failure != MB_OK)
        return; /* the status file says it already */
    j->failure = MB_PEER;
    tell_of_mpirun(j);
    if (j->app.rank == 0 && j->ticks != NULL)
        (void)mb_job_write_status(j, "stopped", mb_status_exit(MB_STOP));
}

/* Before the first row: the weights, too, are those of earlier runs. */
static enum mb_status identify(struct mb_job_state *j)
{
    MB_TRY(mb_app_hash(&j->app, &j->identity.files));
    enum mb_status st = j->app.rank == 0 ? mb_start_identify(j->dir, &j->identity) : MB_OK;
    return mb_comm_agree(j->app.comm, st, "comparing the weights with those of earlier runs");
}

static void free_counters(struct mb_job_state *j)
{
    free(j->ticks);
    free(j->scratch);
    free(j->spent);
    j->ticks = NULL;
    j->scratch = NULL;
    j->spent = NULL;
}

/* Rank 0's, of all ranks: all of them or, where a report finds none, none. */
static enum mb_status make_counters(struct mb_job_state *j)
{
    if (j->app.rank != 0)
        return MB_OK;
    j->ticks = calloc((size_t)j->app.size, sizeof *j->ticks);
    j->scratch = calloc((size_t)j->app.size, sizeof *j->scratch);
    j->spent = calloc((size_t)j->app.size, sizeof *j->spent);
    if (j->ticks != NULL && j->scratch != NULL && j->spent != NULL)
        return MB_OK;
    free_counters(j);
    return mb_error(MB_NO_MEMORY, "no memory for counters of %d ranks", j->app.size);
}

static enum mb_status make_engine(struct mb_job_state *j)
{
    j->t_engine = mb_now();
    int64_t most;
    mb_mem_resident(&j->resident, &most);
    enum mb_status st = make_counters(j);
    MB_TRY(mb_comm_agree(j->app.comm, st, "counters"));
    MB_TRY(mb_app_sums(&j->app));
    st = mb_app_engine(&j->app, mb_job_tick, j);
    if (st == MB_OK)
        st = identify(j);
    j->load_seconds = mb_now() - j->t_engine;
    return st;
}

static enum mb_status check_start(void *arg)
{
    return mb_job_check_start(arg);
}

static enum mb_status save_provenance(void *arg)
{
    return mb_job_save_provenance(arg);
}

static enum mb_status job(struct mb_job_state *j, int *exit_code)
{
    struct mb_comm *comm = j->app.comm;
    enum mb_status st = MB_OK;

    MB_TRY(mb_comm_alone(comm, j->app.rank == 0, check_start, j, "looking at earlier results"));
    MB_TRY(mb_app_plan(&j->app));
    MB_TRY(mb_app_device(&j->app));
    MB_TRY(mb_job_open(j));
    if (mb_job_done(j)) {
        if (j->app.rank == 0)
            mb_info("%s is complete: nothing to do", j->app.conf->output);
        *exit_code = j->start.done_code;
        return MB_OK;
    }
    mb_comm_on_lost(comm, sync_journal, j);
    mb_comm_on_end(comm, mb_job_end_code, j);
    mb_comm_on_idle(comm, mb_job_idle, j);
    header(j);
    MB_TRY(mb_comm_alone(comm, j->app.rank == 0, save_provenance, j, "saving the provenance"));
    st = make_engine(j);
    if (st == MB_OK) {
        j->begun = true;
        j->t_run = mb_now();
        st = mb_engine_run(j->app.engine, j->source, j->sink);
    }
    return mb_job_finish(j, st, exit_code);
}

static void job_fini(struct mb_job_state *j)
{
    mb_input_source_destroy(j->source);
    mb_lease_destroy(j->lease);
    mb_sink_destroy(j->sink);
    mb_journal_destroy(j->journal);
    mb_resume_destroy(j->resume);
    mb_index_destroy(j->index);
    mb_orders_stop(j->orders);
    mb_beat_stop(j->beat);
    mb_rundir_destroy(j->dir);
    mb_chat_destroy(j->chat);
    json_decref(j->stops);
    mb_identity_fini(&j->identity);
    mb_shape_fini(&j->shape);
    mb_extras_fini(&j->extras);
    free_counters(j);
    for (int i = 0; i < j->argc; i++)
        free(j->argv[i]);
    free(j->argv);
}

enum mb_status mb_run(const struct mb_conf *conf, int *argc, char ***argv, int *exit_code)
{
    struct mb_job_state *j = calloc(1, sizeof *j);
    if (j == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a job");
    j->t_start = mb_now();
    enum mb_status st = copy_args(j, *argc, *argv);
    if (st == MB_OK)
        st = mb_app_start(&j->app, conf, argc, argv);
    if (st == MB_OK)
        st = mb_comm_agree(j->app.comm, job(j, exit_code), "the end of the job");
    if (st != MB_OK && *exit_code < 0 && j->begun)
        *exit_code = mb_status_exit_begun(st);
    mb_app_end_device(&j->app);
    if (j->app.comm != NULL) {
        mb_comm_on_lost(j->app.comm, NULL, NULL); /* what it would write goes now */
        mb_comm_on_idle(j->app.comm, NULL, NULL);
        mb_comm_on_end(j->app.comm, NULL, NULL);
    }
    job_fini(j);
    mb_app_end(&j->app);
    free(j);
    return st;
}
