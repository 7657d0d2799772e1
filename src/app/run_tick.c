/* Between steps: leases served, counters sent, progress shown, status.json kept, limits watched. */
#include <string.h>
#include "app/job.h"
#include "app/signals.h"
#include "base/clock.h"
#include "base/log.h"
#include "io/prom.h"

#define TICK_SECONDS 1.0
#define NEWEST_SECONDS 5.0
#define COUNTS_SECONDS 10.0

void mb_job_own_tick(const struct mb_job_state *j, struct mb_tick_msg *out)
{
    struct mb_sink_counts s;
    struct mb_counters c;
    int64_t bytes, pages;

    memset(out, 0, sizeof *out);
    mb_journal_counts(j->journal, &out->written, &out->acknowledged, &bytes);
    mb_sink_count(j->sink, &s);
    mb_engine_counters(j->app.engine, &c);
    mb_engine_load(j->app.engine, &out->running, &pages);
    out->errors = s.error_rows;
    out->prompt_tokens = s.prompt_tokens;
    out->output_tokens = s.output_tokens;
    out->rows = c.rows;
    out->cached = c.reuse.cached;
    out->again = c.reuse.again;
    out->preempted = c.reuse.preempted;
    out->guessed = c.reuse.drafts.made;
    out->guessed_right = c.reuse.drafts.right;
    out->expert_rows = c.expert_rows;
}

void mb_job_progress(const struct mb_job_state *j, struct mb_progress *out)
{
    *out = (struct mb_progress){.done = j->start.rows_done, .total = (int64_t)j->start.input.rows};
    for (int r = 0; r < j->app.size; r++) {
        const struct mb_tick_msg *t = &j->ticks[r];
        out->done += t->written;
        out->errors += t->errors;
        out->tokens += t->rows;
        out->tokens_done += t->prompt_tokens + t->output_tokens;
        out->running += t->running;
        j->scratch[r] = t->expert_rows;
    }
    out->imbalance = mb_report_imbalance(j->scratch, j->app.size, &out->worst_rank);
}

void mb_job_write_status(struct mb_job_state *j, const char *state, int exit_code)
{
    struct mb_progress p;
    double now = mb_now();

    mb_job_progress(j, &p);
    struct mb_run_status s = {.state = state, .exit_code = exit_code, .rows = p.total, .committed = p.done,
                              .acknowledged = j->start.rows_done, .errors = p.errors, .seconds = now - j->t_start,
                              .tokens_per_second = j->report.rate, .eta = mb_report_eta(&j->report, now, &p),
                              .failure = mb_status_name(j->failure), .from_rows = j->start.rows_done,
                              .from_tokens = j->start.forced_tokens};
    for (int r = 0; r < j->app.size; r++) {
        s.acknowledged += j->ticks[r].acknowledged;
        s.prompt_tokens += j->ticks[r].prompt_tokens;
        s.output_tokens += j->ticks[r].output_tokens;
        s.computed_tokens += j->ticks[r].rows;
        s.cached_tokens += j->ticks[r].cached;
        s.recomputed_tokens += j->ticks[r].again;
        s.preempted += j->ticks[r].preempted;
        s.guessed_tokens += j->ticks[r].guessed;
        s.right_tokens += j->ticks[r].guessed_right;
    }
    mb_rundir_status(j->dir, &s);
    struct mb_prom prom = {.job = j->dir->results, .s = &s, .running = p.running, .ranks = j->app.size,
                           .expert_rows = j->scratch, .imbalance = p.imbalance, .mem = &j->app.mem, .updated = mb_utc()};
    mb_prom_write(j->dir->dir, &prom);
}

static enum mb_status collect(struct mb_job_state *j)
{
    struct mb_bytes msg = {0};
    bool got = true;
    int from;
    enum mb_status st = MB_OK;

    while (st == MB_OK && got) {
        st = mb_ctl_poll(j->app.comm, MB_CTL_TICK, &from, &msg, &got);
        if (st == MB_OK && got && msg.len == sizeof(struct mb_tick_msg) && from >= 0 && from < j->app.size)
            memcpy(&j->ticks[from], msg.data, sizeof(struct mb_tick_msg));
    }
    mb_bytes_fini(&msg);
    return st;
}

/* Rank 0's clock decides for all. */
static void watch_time(const struct mb_job_state *j, double now)
{
    double hours = j->app.conf->max_hours;

    if (j->app.rank != 0 || hours <= 0 || now - j->t_start <= hours * 3600 || *mb_signals_stop())
        return;
    mb_info("--max-hours %g have passed: stopping in good order", hours);
    mb_signals_ask(0);
}

static enum mb_status tick_first(struct mb_job_state *j, double now)
{
    struct mb_progress p;

    MB_TRY(collect(j));
    mb_job_own_tick(j, &j->ticks[0]);
    mb_job_progress(j, &p);
    mb_report_sample(&j->report, now, p.tokens);
    mb_report_progress(&j->report, now, &p);
    if (now - j->last_newest > NEWEST_SECONDS) {
        j->last_newest = now;
        MB_TRY(mb_rundir_newest(j->dir));
    }
    mb_job_write_status(j, "running", -1);
    return MB_OK;
}

/* What `moebatch ctl` asked for. */
static void obey(struct mb_job_state *j)
{
    unsigned wanted = mb_orders_wanted(j->orders); /* none but on rank 0 */

    if ((wanted & 1u << MB_ORDER_STOP) != 0 && !*mb_signals_stop()) {
        mb_info("asked to stop by moebatch ctl");
        mb_signals_ask(0);
    }
    if ((wanted & 1u << MB_ORDER_DRAIN) == 0 || j->drained)
        return;
    uint64_t left = mb_lease_close(j->lease);
    j->drained = left > 0;
    mb_info("asked to drain by moebatch ctl: what is under way is finished, %llu requests are left for a resume", (unsigned long long)left);
}

/* A stop that was asked for on one rank is one for all: it goes to rank 0, and from there to everybody. */
static enum mb_status spread_stop(struct mb_job_state *j)
{
    struct mb_bytes msg = {0};
    enum mb_status st = MB_OK;
    bool got = false;
    int from;

    if (j->stop_told)
        return MB_OK;
    MB_TRY(mb_ctl_poll(j->app.comm, MB_CTL_COMMAND, &from, &msg, &got));
    if (got && msg.len == sizeof(int32_t)) {
        int32_t sig;
        memcpy(&sig, msg.data, sizeof sig);
        mb_signals_ask(sig);
    }
    mb_bytes_fini(&msg);
    if (!*mb_signals_stop())
        return MB_OK;
    j->stop_told = true;
    int32_t sig = mb_signals_number();
    if (j->app.rank != 0)
        return got ? MB_OK : mb_ctl_send(j->app.comm, 0, MB_CTL_COMMAND, &sig, sizeof sig);
    for (int r = 1; r < j->app.size && st == MB_OK; r++)
        st = mb_ctl_send(j->app.comm, r, MB_CTL_COMMAND, &sig, sizeof sig);
    return st;
}

void mb_job_idle(void *arg)
{
    obey(arg);
    (void)spread_stop(arg); /* tried again */
}

enum mb_status mb_job_tick(void *arg)
{
    struct mb_job_state *j = arg;
    double now = mb_now();

    if (j->lease != NULL)
        MB_TRY(mb_lease_serve(j->lease));
    watch_time(j, now);
    obey(j);
    MB_TRY(spread_stop(j));
    if (now - j->last_tick < TICK_SECONDS)
        return MB_OK;
    j->last_tick = now;
    if (now - j->last_kept >= COUNTS_SECONDS) {
        j->last_kept = now;
        mb_job_keep_counts(j, true);
    }
    if (j->app.rank == 0)
        return tick_first(j, now);
    struct mb_tick_msg msg;
    mb_job_own_tick(j, &msg);
    return mb_ctl_send(j->app.comm, 0, MB_CTL_TICK, &msg, sizeof msg);
}
