/* The loop of the engine: step after step until all have agreed to end. */
#include <sched.h>
#include "base/clock.h"
#include "base/fault.h"
#include "engine/engine_impl.h"

void mb_engine_must(const struct mb_context *c, enum mb_status st)
{
    if (st != MB_OK && !c->t.joined)
        mb_comm_end(c->o.comm, st);
}

/* Of a leader, for its whole group. */
static uint32_t own_flags(const struct mb_engine *e)
{
    uint32_t flags = mb_sched_idle(&e->sched) && e->batch.rows == 0 ? MB_FLAG_IDLE : 0;

    if (e->c.o.stop != NULL && *e->c.o.stop)
        flags |= MB_FLAG_STOP;
    return flags;
}

/* A group without MoE layers has no exchange to carry the heads. */
static enum mb_status step_exchange(struct mb_step *s)
{
    struct mb_xchg_head mine = mb_step_head(s, -1);
    const struct mb_xchg_head *heads;

    mine.rows = s->pass.batch->rows;
    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_EXCHANGE);
    enum mb_status st = mb_xchg_step(s->xchg, &mine, &heads);
    (void)mb_time_into(s->pass.tally, before);
    MB_TRY(st);
    (void)mb_step_heard(s, &mine, heads, mb_xchg_size(s->xchg));
    return MB_OK;
}

/* ---------------------------------------------------------------- one step */

/* The head and the MTP module: its exchange comes before those in which the stage has no rows. An own failure
 * that the others have not seen goes with it. */
static enum mb_status head_and_mtp(struct mb_step *s, struct mb_sink *sink)
{
    if (s->peers.status != MB_OK || s->empty || s->told)
        return s->status;
    if (s->status == MB_OK && s->pass.batch->rows > 0)
        s->status = mb_head_run(&s->pass, sink);
    return s->pass.batch->module ? mb_mtp_run(s, sink) : s->status;
}

static enum mb_status serve_only(struct mb_step *s)
{
    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_EXPERTS);
    enum mb_status st = mb_moe_serve(s);

    (void)mb_time_into(s->pass.tally, before);
    return st;
}

/* Layers and, where the rank has none or fewer than others, its experts for the exchanges that are left. */
static enum mb_status layers(struct mb_step *s, bool active, struct mb_sink *sink)
{
    if (active)
        (void)mb_layers_run(s); /* s->status has it, and the exchanges that are left carry it */
    if (active && mb_mtp_here(s->c))
        (void)head_and_mtp(s, sink);
    mb_engine_must(s->c, s->status);
    while (s->exchange < s->c->t.n_exchanges && !mb_step_over(s))
        MB_TRY(serve_only(s));
    return s->status;
}

static enum mb_status compute(struct mb_step *s, bool active, struct mb_sink *sink)
{
    bool dense = s->c->t.n_exchanges == 0;

    if (dense)
        MB_TRY(step_exchange(s));
    if (s->peers.status != MB_OK || (dense && s->empty))
        return s->status;
    MB_TRY(layers(s, active, sink));
    if (s->peers.status != MB_OK || s->pass.batch->rows == 0)
        return MB_OK;
    return s->c->t.last_stage && !s->c->mtp ? mb_head_run(&s->pass, sink) : MB_OK;
}

/* What was found of a flight's rows: tokens and scores into the sequences, then planes of what is kept to the sink. */
static enum mb_status use(struct mb_engine *e, const struct mb_flight *f, struct mb_sink *sink)
{
    MB_TRY(mb_sched_use(&e->sched, f, &e->found, sink));
    return mb_save_flight(&e->step.pass, f, sink);
}

/* The results of the oldest flight, which is waited for. */
static enum mb_status take_results(struct mb_engine *e, struct mb_sink *sink)
{
    const struct mb_flight *f = mb_sched_oldest(&e->sched);

    MB_TRY(mb_results_take(&e->step.pass, f, sink));
    MB_TRY(use(e, f, sink));
    MB_TRY(mb_sched_retire(&e->sched, f, sink));
    mb_sched_land(&e->sched);
    return MB_OK;
}

/* Requests in, and a batch. Where nothing can run before results are back, those come first; under lane scope
 * the stages behind need this one's exchanges, so it goes on without rows. */
static enum mb_status next_batch(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    for (;;) {
        MB_TRY(mb_sched_fill(&e->sched, src, sink));
        MB_TRY(mb_sched_batch(&e->sched, &e->batch));
        mb_step_divide(&e->step);
        if (e->batch.rows > 0 || e->sched.n_flights == 0 || e->c.t.l.lane_scope)
            return MB_OK;
        MB_TRY(take_results(e, sink));
    }
}

/* The next step of a leader: its batch, and its header down the line. */
static enum mb_status lead(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_step *s = &e->step;

    if (s->status == MB_OK)
        s->status = next_batch(e, src, sink);
    if (s->status != MB_OK)
        mb_batch_clear(&e->batch);
    s->flags = own_flags(e);
    const struct mb_flight *f = mb_sched_launch(&e->sched, s->number, e->batch.rows > 0);
    s->pass.flight = e->c.t.alone ? f : NULL;
    return e->c.t.g.line != NULL ? mb_header_post(s) : MB_OK;
}

/* After the layers: results of this rank on their way, those of old steps in. The leader of a group of one
 * uses its own at once. */
static enum mb_status conclude(struct mb_engine *e, struct mb_sink *sink)
{
    struct mb_step *s = &e->step;

    if (e->c.t.g.line != NULL)
        MB_TRY(mb_results_post(&s->pass));
    if (!e->c.t.leads)
        return MB_OK;
    if (e->c.t.g.line != NULL) {
        while (e->sched.n_flights == e->sched.o.depth)
            MB_TRY(take_results(e, sink));
        return s->status;
    }
    const struct mb_flight *f = mb_sched_oldest(&e->sched);
    if (s->status == MB_OK && e->batch.rows > 0)
        s->status = use(e, f, sink);
    if (s->status == MB_OK && !s->empty)
        s->status = mb_sched_retire(&e->sched, f, sink);
    mb_sched_land(&e->sched);
    return s->status;
}

/* active: the step has a header (under lane scope a stage joins the exchanges of ticks that are not its
 * steps). */
static enum mb_status one_step(struct mb_engine *e, bool active, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_step *s = &e->step;
    struct mb_counters *n = &e->tally.counters;
    enum mb_status st = MB_OK;

    double began = mb_now();

    mb_step_begin(s);
    if (active && e->c.t.leads)
        st = lead(e, src, sink);
    else if (active && e->c.t.attends)
        st = mb_header_take(s);
    MB_TRY(st);
    mb_found_reset(&e->found, e->batch.rows);
    mb_fault(s->number == 1 ? "prefill" : "decode");
    st = compute(s, active && e->c.t.attends, sink);
    if (st == MB_OK && active && e->c.t.attends && s->peers.status == MB_OK)
        st = conclude(e, sink);
    if (st == MB_OK && e->c.t.leads)
        st = sink->ops->step_end(sink);
    if (e->c.t.leads)
        mb_sched_timed(&e->sched, e->batch.rows, mb_now() - began);
    if (e->c.t.leads && mb_sched_idle(&e->sched) && e->batch.rows == 0 && !s->empty)
        n->seconds_done += mb_now() - began;
    if (st == MB_OK && e->c.o.tick != NULL)
        st = e->c.o.tick(e->c.o.tick_arg);
    n->steps++;
    n->idle_steps += e->batch.rows == 0;
    n->empty_steps += s->empty;
    return st;
}

/* ---------------------------------------------------------------- the end */

/* All have agreed in this step that it is the last one: nobody enters another exchange, and what fails now is
 * told when all agree how the run ended. */
static bool last_step(const struct mb_step *s)
{
    return s->peers.known && (s->peers.idle || s->peers.stop);
}

/* A failure of this rank has to reach the others: it goes with the next exchange, in a step without rows.
 * Whoever learnt of it in the combine of the last exchange of a step meets it there in the same way. */
static enum mb_status tell_peers(struct mb_engine *e)
{
    struct mb_step *s = &e->step;

    if (mb_xchg_size(s->xchg) == 1 || s->told || s->peers.status != MB_OK || last_step(s))
        return MB_OK;
    mb_step_begin(s);
    s->flags = own_flags(e);
    return e->c.t.n_exchanges == 0 ? step_exchange(s) : mb_moe_serve(s);
}

static enum mb_status failed(struct mb_engine *e, enum mb_status st)
{
    struct mb_step *s = &e->step;

    mb_engine_must(&e->c, st);
    s->status = st;
    enum mb_status tell = tell_peers(e); /* st is the cause */
    e->apart = mb_xchg_size(s->xchg) > 1 && !s->told && s->peers.status == MB_OK && st != MB_PEER &&
               tell != MB_PEER && !last_step(s);
    return st;
}

/* What is under way when all have agreed to end still comes back. */
static enum mb_status drain(struct mb_engine *e, struct mb_sink *sink)
{
    while (e->c.t.leads && e->c.t.g.line != NULL && e->sched.n_flights > 0)
        MB_TRY(take_results(e, sink));
    return e->c.t.leads ? sink->ops->step_end(sink) : MB_OK;
}

static enum mb_status idle_tick(void *arg)
{
    const struct mb_engine_options *o = arg;
    return o->tick != NULL ? o->tick(o->tick_arg) : MB_OK;
}

/* Steps until the group has agreed to end, and under lane scope until every stage has had the last one. */
static enum mb_status run_steps(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_step *s = &e->step;
    bool lane = e->c.t.l.lane_scope;
    int32_t behind = lane ? e->c.t.g.pp_rank : 0, stages = lane ? e->c.t.g.pp_size : 1;

    s->number = -behind;
    for (;;) {
        int64_t next = s->number + 1;
        MB_TRY(one_step(e, next >= 1 && (e->end_step < 0 || next <= e->end_step), src, sink));
        if (s->peers.status != MB_OK) {
            mb_engine_must(&e->c, MB_PEER);
            return MB_PEER;
        }
        if (e->end_step < 0 && (s->peers.idle || s->peers.stop))
            e->end_step = s->number + behind; /* the step of the first stage */
        if (e->end_step >= 0 && s->number + behind >= e->end_step + stages - 1)
            return drain(e, sink);
        if (s->empty)
            sched_yield();
    }
}

enum mb_status mb_engine_run(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_tally *n = &e->tally;
    double t0 = mb_now();

    e->end_step = -1;
    e->sched.source_ended = false;
    n->time_in = MB_TIME_REST;
    n->time_since = t0;
    enum mb_status st = run_steps(e, src, sink);
    (void)mb_time_into(n, MB_TIME_WAIT);
    double t1 = n->time_since;

    n->counters.seconds_run += t1 - t0;
    if (st != MB_OK)
        return e->step.peers.status != MB_OK ? st : failed(e, st);
    bool stopped = e->step.peers.stop && !e->step.peers.idle;
    if (e->c.t.g.dp_size > 1) /* the other replicas may be at work, and ask this rank for requests */
        MB_TRY(mb_comm_meet(e->c.o.comm, idle_tick, &e->c.o));
    (void)mb_time_into(n, MB_TIME_REST);
    n->counters.seconds_tail += n->time_since - t1;
    n->counters.seconds_run += n->time_since - t1;
    return stopped ? MB_STOP : MB_OK;
}
