/* A running job: everything around the engine. For the files of app/run*.c only. */
#ifndef MB_APP_JOB_H
#define MB_APP_JOB_H
#include "app/report.h"
#include "app/setup.h"
#include "io/assemble.h"
#include "io/extras.h"
#include "io/index.h"
#include "io/journal.h"
#include "io/lease.h"
#include "io/parse.h"
#include "io/resume.h"
#include "io/life.h"
#include "io/orders.h"
#include "io/rundir.h"
#include "io/start.h"
#include "io/sink.h"
#include "io/source.h"
#include "text/chat.h"

/* What a rank tells rank 0 about itself, once a second and at the end. Flat. */
struct mb_tick_msg {
    int64_t written, acknowledged, errors;
    int64_t prompt_tokens, output_tokens; /* of finished rows */
    int64_t rows, expert_rows;            /* computed */
    int64_t cached, again, preempted;     /* struct mb_reuse_counts */
    int64_t guessed, guessed_right;       /* struct mb_draft_counts */
    int32_t running, pad;
};

/* Broadcast by rank 0 once the results directory is settled. */
struct mb_job_start {
    struct mb_input_info input;
    int32_t run;     /* number of this incarnation */
    int32_t what;    /* enum mb_start */
    int32_t done_code; /* exit code of results that are complete already */
    uint64_t requests; /* lines that have rows */
    int64_t chat_time; /* what templates take for now: --now, else the start of the first run, so that a resume renders the same */
    int64_t rows_done, lines_begun, forced_tokens;
    int32_t last_failure; /* enum mb_status: of the last run, if it started where this one does; MB_OK: none */
    int32_t pad;
};

struct mb_job_state {
    struct mb_app app;
    int argc;
    char **argv; /* a copy: the effective command line, for provenance and the resume command */
    struct mb_parse_options parse;
    char defaults[400];       /* of requests, for people: values and where they come from */
    json_t *stops;            /* what parse.stop points into */
    struct mb_chat *chat;     /* NULL: the model has no template */
    struct mb_identity identity;
    struct mb_job_start start;
    struct mb_index *index;   /* rank 0 */
    struct mb_resume *resume; /* rank 0 */
    struct mb_lease *lease;   /* rank 0 */
    struct mb_rundir *dir;
    struct mb_beat *beat; /* rank 0: says that the job lives */
    struct mb_orders *orders; /* rank 0: takes commands */
    bool drained;             /* rank 0: lines were left for a later run */
    struct mb_journal *journal;
    struct mb_sink *sink;
    struct mb_source *source;
    struct mb_shape shape;    /* what is saved beside the rows */
    int64_t save_bytes;
    /* progress */
    struct mb_report report;
    double t_start, t_engine, t_run, load_seconds;
    int64_t resident; /* memory of the process before the engine */
    double last_tick, last_status, last_newest, last_kept;
    bool stop_told; /* a stop was asked for, and the others know or will from rank 0 */
    struct mb_tick_msg *ticks; /* rank 0: [size] */
    int64_t *scratch;          /* rank 0: [size] */
    struct mb_extras extras;   /* rank 0 */
    struct mb_assembled assembled;
    struct mb_report_end end;
    double (*spent)[MB_SPENT_COUNT]; /* rank 0: [size] */
    enum mb_status failure;          /* how the job ended */
    bool begun;                      /* on all ranks: the engine stands and works; what the world does from here on --resume may mend */
    bool alone;                      /* this rank ends the job by itself, with end_code */
    int end_code;
    bool wrote;                      /* some rank has finished a row; known at the end */
};

/* run_setup.c: input, identity, directory, resume. Collective over world. */
enum mb_status mb_job_open(struct mb_job_state *j);
/* run_defaults.c: what requests that do not say get, into parse and defaults. Local. Errors: MB_USAGE, MB_MODEL. */
enum mb_status mb_job_defaults(struct mb_job_state *j);
/* run_start.c: the index of the input. Rank 0; Local. */
enum mb_status mb_job_index(struct mb_job_state *j);
/* Whether the job may start at all, before anything is read. Rank 0; Local. */
enum mb_status mb_job_check_start(struct mb_job_state *j);
/* Decides and acts (io/start.h); sets start and dir. Rank 0; Local. */
enum mb_status mb_job_start(struct mb_job_state *j);
/* run_chat.c: loads the template and gives it to the parser. Local. first_start: of the oldest run, seconds since 1970. */
enum mb_status mb_job_chat(struct mb_job_state *j);
int64_t mb_job_first_start(const struct mb_rundir *d);
/* Whether the results were complete before the job began. */
bool mb_job_done(const struct mb_job_state *j);
/* run_tick.c: between steps */
enum mb_status mb_job_tick(void *arg);
/* While this rank waits: a stop that was asked for here or elsewhere is passed on. */
void mb_job_idle(void *arg);
void mb_job_own_tick(const struct mb_job_state *j, struct mb_tick_msg *out);
void mb_job_progress(const struct mb_job_state *j, struct mb_progress *out);
void mb_job_write_status(struct mb_job_state *j, const char *state, int exit_code);
/* run_extras.c: counters of all ranks to rank 0, provenance and metrics from them. Collective over world. */
/* What `moebatch assemble` will say of a run that was killed. Rank 0; Local. */
enum mb_status mb_job_save_provenance(const struct mb_job_state *j);
enum mb_status mb_job_gather(struct mb_job_state *j);
/* Own counters into the run's directory, for a run that goes on. quiet: no word where that fails. Local. */
void mb_job_keep_counts(const struct mb_job_state *j, bool quiet);
/* The same of this rank alone, where the others can't be asked. Local. */
void mb_job_own_counts(struct mb_job_state *j);
/* The counts of all ranks at the end, however it came: for the result block and status.json. engine may be NULL. Collective. */
enum mb_status mb_job_last_counts(struct mb_job_state *j);
/* run_finish.c: the end: journals closed, results assembled, status written. Collective over world. */
enum mb_status mb_job_finish(struct mb_job_state *j, enum mb_status st, int *exit_code);
/* For mb_comm_on_end: the exit code of a job (struct mb_job_state) that this rank ends alone because of st; writes the failure into
 * status.json, so that the next run knows of it. Local. */
int mb_job_end_code(void *job, enum mb_status st);
#endif
