#include "engine/engine.h"

#include <sched.h>
#include <string.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/count.h"
#include "engine/work.h"
#include "engine/zero.h"

/* Pages of the own layers, for every pool of heads. The MTP module's layer comes last. */
static enum mb_status kv_create(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;

    e->kv = mb_zalloc(e->o.mem, MB_MEM_OTHER, (size_t)e->all_layers * (size_t)e->t.n_pools, sizeof(void *));
    if (e->kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d page pools", e->all_layers);
    for (int32_t l = e->t.first_layer; e->t.attends && l < e->all_layers; l++) {
        for (int32_t i = 0; (l < e->t.last_layer || (l >= m->layers && e->t.last_stage)) && i < e->t.n_pools; i++) {
            struct mb_kv_desc d = {.pages = (int32_t)e->o.plan->kv_pages, .heads = e->t.pool[i].kv_heads, .d = m->head_dim,
                                   .dv = m->v_dim, .dtype = e->o.kv_dtype};
            if (m->mla) {
                d.d = m->kv_lora + m->rope_mla;
                d.dv = m->kv_lora;
                d.v_in_k = true;
            }
            MB_TRY(e->o.ops->kv_create(e->o.dev, &d, &e->kv[l * e->t.n_pools + i]));
        }
    }
    return MB_OK;
}

static enum mb_status local_parts(struct mb_engine *e)
{
    MB_TRY(kv_create(e));
    MB_TRY(mb_batch_create(e, &e->batch));
    MB_TRY(mb_mtp_create(e));
    MB_TRY(mb_sched_create(e));
    MB_TRY(mb_work_create(e));
    MB_TRY(mb_found_create(e));
    return mb_transit_create(e);
}

enum mb_status mb_engine_create(const struct mb_engine_options *o, struct mb_engine **out)
{
    struct mb_engine *e = mb_zalloc(o->mem, MB_MEM_OTHER, 1, sizeof *e);
    enum mb_status st = e == NULL ? mb_error(MB_NO_MEMORY, "no memory for an engine") : MB_OK;

    if (st == MB_OK) {
        e->o = *o;
        e->end_step = -1;
        e->mtp = o->model->mtp_layers > 0 && o->save_logits == MB_LOGITS_ALL;
        e->expert_lora = mb_lora_on_experts(o);
        e->all_layers = o->model->layers + (e->mtp ? o->model->mtp_layers : 0);
        st = o->ops->stream_create(o->dev, &e->stream);
    }
    st = mb_comm_agree(o->comm, st, "an engine");
    if (st == MB_OK)
        st = mb_team_create(o, &e->t);
    if (st == MB_OK)
        st = mb_comm_agree(o->comm, local_parts(e), "memory for pages and steps");
    if (st == MB_OK)
        st = mb_weights_load(o, &e->t, e->stream, e->mtp, &e->w);
    if (st == MB_OK)
        st = mb_comm_agree(o->comm, mb_experts_create(e), "lists of experts");
    if (st == MB_OK)
        st = mb_lora_load(e);
    if (st == MB_OK)
        st = mb_transit_rooms(e);
    if (st == MB_OK)
        st = mb_zero_create(e);
    if (st != MB_OK) {
        mb_engine_destroy(e);
        return st;
    }
    e->counters.weight_bytes_read = e->w.bytes_read;
    e->counters.weight_bytes_received = e->w.bytes_received;
    *out = e;
    return MB_OK;
}

void mb_engine_destroy(struct mb_engine *e)
{
    if (e == NULL)
        return;
    mb_zero_destroy(e);
    mb_xchg_destroy(e->xchg);
    mb_lora_destroy(e);
    mb_sched_destroy(e);
    mb_batch_destroy(&e->batch);
    mb_mtp_destroy(e);
    mb_found_destroy(e);
    mb_work_destroy(e);
    mb_transit_destroy(e);
    for (int32_t i = 0; i < e->all_layers * e->t.n_pools && e->kv != NULL; i++)
        e->o.ops->kv_free(e->kv[i]);
    mb_free(e->kv);
    mb_experts_destroy(e);
    mb_weights_fini(e->o.ops, &e->w);
    e->o.ops->stream_destroy(e->stream);
    mb_team_fini(&e->t, !e->apart);
    mb_free(e);
}

void mb_engine_must(const struct mb_engine *e, enum mb_status st)
{
    if (st != MB_OK && !e->t.joined)
        mb_comm_end(e->o.comm, st);
}

/* ---------------------------------------------------------------- what members tell each other */

static bool self_idle(const struct mb_engine *e)
{
    bool rows = false;

    for (int32_t i = 0; i < e->n_flights; i++)
        rows |= e->flight[(e->first_flight + i) % e->depth].rows > 0;
    return e->source_ended && e->n_running == 0 && e->n_waiting == 0 && e->held == NULL && !rows;
}

/* Of a leader, for its whole group. */
static uint32_t own_flags(const struct mb_engine *e)
{
    uint32_t flags = self_idle(e) && e->batch.rows == 0 ? MB_FLAG_IDLE : 0;

    if (e->o.stop != NULL && *e->o.stop)
        flags |= MB_FLAG_STOP;
    return flags;
}

/* The number of a step in the exchange: under lane scope all stages meet in ticks. */
static int64_t tick(const struct mb_engine *e)
{
    return e->t.l.lane_scope ? e->step + e->t.at.stage : e->step;
}

/* Rows of this step of the members that share what is planned for one: the parts of a sequence group. */
static int64_t shared_rows(const struct mb_engine *e)
{
    int64_t n = 0, tp = e->t.l.tp;

    for (int32_t p = 0; p < e->t.l.sp && e->t.l.sp > 1; p++)
        n += (e->batch.g_at[p + 1] - e->batch.g_at[p] + tp - 1) / tp;
    return n;
}

void mb_engine_mine(const struct mb_engine *e, int32_t layer, struct mb_xchg_head *out)
{
    *out = (struct mb_xchg_head){.step = tick(e), .layer = e->t.l.lane_scope ? e->exchange : layer, .status = e->status,
                                 .flags = e->flags, .share = shared_rows(e)};
}

/* Whether a member of the exchange group speaks for an attention group in this step: under lane scope later stages repeat what their
 * leaders said in earlier steps. */
static bool speaks(const struct mb_engine *e, int32_t member)
{
    int32_t size = mb_layout_stage_size(&e->t.l);
    return member % size < mb_layout_attn(&e->t.l) && (!e->t.l.lane_scope || member < size);
}

/* Every member sees the same heads, so every member draws the same conclusions: from the first exchange of a step whether
 * anybody has rows, is asked to stop, or is idle; from every exchange whether somebody failed. */
void mb_engine_heads(struct mb_engine *e, const struct mb_xchg_head *heads)
{
    bool idle = true, stop = false, empty = true;

    for (int32_t i = 0; i < mb_xchg_size(e->xchg); i++) {
        if (speaks(e, i)) {
            idle &= (heads[i].flags & MB_FLAG_IDLE) != 0;
            stop |= (heads[i].flags & MB_FLAG_STOP) != 0;
        }
        empty &= heads[i].rows == 0;
        if (heads[i].status > e->peers_status)
            e->peers_status = heads[i].status;
    }
    if (e->step_known)
        return;
    e->step_known = true;
    e->peers_idle = idle;
    e->peers_stop = stop;
    e->empty = empty;
}

/* A group without MoE layers has no exchange to carry the heads. */
static enum mb_status step_exchange(struct mb_engine *e)
{
    struct mb_xchg_head mine;
    const struct mb_xchg_head *heads;

    mb_engine_mine(e, -1, &mine);
    mine.rows = e->batch.rows;
    enum mb_time before = mb_time_into(e, MB_TIME_EXCHANGE);
    enum mb_status st = mb_xchg_step(e->xchg, &mine, &heads);
    (void)mb_time_into(e, before);
    MB_TRY(st);
    e->told |= mine.status != MB_OK;
    mb_engine_heads(e, heads);
    return MB_OK;
}

/* ---------------------------------------------------------------- one step */

/* The head and the MTP module: its exchange comes before those in which the stage has no rows. An own failure that the others have
 * not seen goes with it. */
static enum mb_status head_and_mtp(struct mb_engine *e, struct mb_sink *sink)
{
    if (e->peers_status != MB_OK || e->empty || e->told)
        return e->status;
    if (e->status == MB_OK && e->batch.rows > 0)
        e->status = mb_head_run(e, sink);
    return mb_mtp_run(e, sink);
}

static enum mb_status serve_only(struct mb_engine *e)
{
    enum mb_time before = mb_time_into(e, MB_TIME_EXPERTS);
    enum mb_status st = mb_moe_serve(e);

    (void)mb_time_into(e, before);
    return st;
}

/* Layers and, where the rank has none or fewer than others, its experts for the exchanges that are left. */
static enum mb_status layers(struct mb_engine *e, bool active, struct mb_sink *sink)
{
    if (active)
        (void)mb_layers_run(e); /* e->status has it, and the exchanges that are left carry it */
    if (active && mb_mtp_here(e))
        (void)head_and_mtp(e, sink);
    mb_engine_must(e, e->status);
    while (e->exchange < e->t.n_exchanges && !mb_step_over(e))
        MB_TRY(serve_only(e));
    return e->status;
}

static enum mb_status compute(struct mb_engine *e, bool active, struct mb_sink *sink)
{
    bool dense = e->t.n_exchanges == 0;

    if (dense)
        MB_TRY(step_exchange(e));
    if (e->peers_status != MB_OK || (dense && e->empty))
        return e->status;
    MB_TRY(layers(e, active, sink));
    if (e->peers_status != MB_OK || e->batch.rows == 0)
        return MB_OK;
    return e->t.last_stage && !e->mtp ? mb_head_run(e, sink) : MB_OK;
}

static void no_rows(struct mb_engine *e)
{
    e->batch.rows = e->batch.seqs = e->batch.n_out = e->batch.n_part = e->batch.n_own = e->batch.own0 = e->batch.n_runs = 0;
    e->flags = 0;
}

/* The next step of a leader: requests in, a batch, its header down the line. Where nothing can run before results are back, those come
 * first; under lane scope the stages behind need this one's exchanges, so it goes on without rows. */
static enum mb_status lead(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    for (;;) {
        if (e->status == MB_OK)
            e->status = mb_sched_fill(e, src, sink);
        if (e->status == MB_OK)
            e->status = mb_sched_batch(e);
        if (e->status != MB_OK || e->batch.rows > 0 || e->n_flights == 0 || e->t.l.lane_scope)
            break;
        e->status = mb_results_take(e, sink);
    }
    if (e->status != MB_OK)
        no_rows(e);
    e->flags = own_flags(e);
    struct mb_flight *f = &e->flight[(e->first_flight + e->n_flights) % e->depth];
    if (e->batch.rows == 0)
        f->rows = f->seqs = f->n_out = 0;
    f->step = e->step;
    f->tick = mb_count_tick(e, e->batch.rows > 0);
    e->n_flights++;
    return e->t.line != NULL ? mb_batch_post(e) : MB_OK;
}

/* After the layers: results of this rank on their way, those of old steps in. The leader of a group of one uses its own at once. */
static enum mb_status conclude(struct mb_engine *e, struct mb_sink *sink)
{
    if (e->t.line != NULL)
        MB_TRY(mb_results_post(e));
    if (!e->t.leads)
        return MB_OK;
    if (e->t.line != NULL) {
        while (e->n_flights == e->depth)
            MB_TRY(mb_results_take(e, sink));
    } else {
        struct mb_flight *f = &e->flight[e->first_flight];
        if (e->status == MB_OK && e->batch.rows > 0)
            e->status = mb_results_use(e, f, sink);
        e->n_flights = 0;
        if (e->status == MB_OK && !e->empty)
            e->status = mb_sched_retire(e, f, sink);
    }
    return e->status;
}

/* active: the step has a header (under lane scope a stage joins the exchanges of ticks that are not its steps). */
static enum mb_status one_step(struct mb_engine *e, bool active, struct mb_source *src, struct mb_sink *sink)
{
    enum mb_status st = MB_OK;

    e->step++;
    e->step_known = e->empty = false;
    e->exchange = 0;
    no_rows(e);
    if (active && e->t.leads)
        st = lead(e, src, sink);
    else if (active && e->t.attends)
        st = mb_batch_take(e);
    MB_TRY(st);
    mb_found_reset(e, e->batch.rows);
    mb_fault(e->step == 1 ? "prefill" : "decode");
    st = compute(e, active && e->t.attends, sink);
    if (st == MB_OK && active && e->t.attends && e->peers_status == MB_OK)
        st = conclude(e, sink);
    if (st == MB_OK && e->t.leads)
        st = sink->ops->step_end(sink);
    if (st == MB_OK && e->o.tick != NULL)
        st = e->o.tick(e->o.tick_arg);
    e->counters.steps++;
    e->counters.idle_steps += e->batch.rows == 0;
    e->counters.empty_steps += e->empty;
    return st;
}

/* All have agreed in this step that it is the last one: nobody enters another exchange, and what fails now is told when all agree
 * how the run ended. */
static bool last_step(const struct mb_engine *e)
{
    return e->step_known && (e->peers_idle || e->peers_stop);
}

/* A failure of this rank has to reach the others: it goes with the next exchange, in a step without rows. Whoever learnt of it in
 * the combine of the last exchange of a step meets it there in the same way. */
static enum mb_status tell_peers(struct mb_engine *e)
{
    if (mb_xchg_size(e->xchg) == 1 || e->told || e->peers_status != MB_OK || last_step(e))
        return MB_OK;
    e->step++;
    e->step_known = false;
    e->exchange = 0;
    no_rows(e);
    e->flags = own_flags(e);
    return e->t.n_exchanges == 0 ? step_exchange(e) : mb_moe_serve(e);
}

static enum mb_status failed(struct mb_engine *e, enum mb_status st)
{
    mb_engine_must(e, st);
    e->status = st;
    enum mb_status tell = tell_peers(e); /* st is the cause */
    e->apart = mb_xchg_size(e->xchg) > 1 && !e->told && e->peers_status == MB_OK && st != MB_PEER && tell != MB_PEER &&
               !last_step(e);
    return st;
}

/* What is under way when all have agreed to end still comes back. */
static enum mb_status drain(struct mb_engine *e, struct mb_sink *sink)
{
    while (e->t.leads && e->t.line != NULL && e->n_flights > 0)
        MB_TRY(mb_results_take(e, sink));
    return e->t.leads ? sink->ops->step_end(sink) : MB_OK;
}

static enum mb_status idle_tick(void *arg)
{
    struct mb_engine *e = arg;
    return e->o.tick != NULL ? e->o.tick(e->o.tick_arg) : MB_OK;
}

/* Steps until the group has agreed to end, and under lane scope until every stage has had the last one. */
static enum mb_status run_steps(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    int32_t behind = e->t.l.lane_scope ? e->t.at.stage : 0, stages = e->t.l.lane_scope ? e->t.l.pp : 1;

    e->step = -behind;
    for (;;) {
        int64_t next = e->step + 1;
        MB_TRY(one_step(e, next >= 1 && (e->end_step < 0 || next <= e->end_step), src, sink));
        if (e->peers_status != MB_OK) {
            mb_engine_must(e, MB_PEER);
            return MB_PEER;
        }
        if (e->end_step < 0 && (e->peers_idle || e->peers_stop))
            e->end_step = e->step + behind; /* the step of the first stage */
        if (e->end_step >= 0 && e->step + behind >= e->end_step + stages - 1)
            return drain(e, sink);
        if (e->empty)
            sched_yield();
    }
}

enum mb_status mb_engine_run(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    double t0 = mb_now();
    e->time_in = MB_TIME_REST;
    e->time_since = t0;
    enum mb_status st = run_steps(e, src, sink);
    (void)mb_time_into(e, MB_TIME_WAIT);
    double t1 = e->time_since;

    e->counters.seconds_run += t1 - t0;
    if (st != MB_OK)
        return e->peers_status != MB_OK ? st : failed(e, st);
    bool stopped = e->peers_stop && !e->peers_idle;
    if (e->t.l.dp > 1) /* the other lanes may be at work, and ask this rank for requests */
        MB_TRY(mb_comm_meet(e->o.comm, idle_tick, e));
    (void)mb_time_into(e, MB_TIME_REST);
    e->counters.seconds_tail += e->time_since - t1;
    e->counters.seconds_run += e->time_since - t1;
    return stopped ? MB_STOP : MB_OK;
}

bool mb_engine_agreed(const struct mb_engine *e)
{
    return !e->apart;
}

void mb_engine_counters(const struct mb_engine *e, struct mb_counters *out)
{
    struct mb_xchg_counts x;

    *out = e->counters;
    mb_xchg_counts(e->xchg, &x);
    memcpy(out->dispatch_bytes, x.dispatch_bytes, sizeof x.dispatch_bytes);
    memcpy(out->dispatch_messages, x.dispatch_messages, sizeof x.dispatch_messages);
    memcpy(out->combine_bytes, x.combine_bytes, sizeof x.combine_bytes);
    memcpy(out->combine_messages, x.combine_messages, sizeof x.combine_messages);
    double waited = x.seconds_wait < out->seconds[MB_TIME_EXCHANGE] ? x.seconds_wait : out->seconds[MB_TIME_EXCHANGE];
    out->seconds[MB_TIME_EXCHANGE] -= waited;
    out->seconds[MB_TIME_WAIT] += waited;
    const struct mb_comm *group[] = {e->t.tp, e->t.sp, e->t.att, e->t.line, e->t.etp};
    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++) {
        if (group[i] != NULL)
            mb_comm_moved(group[i], &out->group_bytes, &out->group_messages);
    }
    mb_ctl_counts(e->o.comm, &out->control_bytes, &out->control_messages);
}

const int64_t *mb_engine_usage(const struct mb_engine *e)
{
    return e->o.model->moe_layers > 0 ? e->work.usage : NULL;
}

const int64_t *mb_engine_layer_rows(const struct mb_engine *e)
{
    return e->o.model->moe_layers > 0 ? e->work.layer_rows : NULL;
}

const int64_t *mb_engine_zero(const struct mb_engine *e)
{
    return mb_zero_counts(e);
}

int64_t mb_engine_expert_bytes(const struct mb_engine *e)
{
    return e->w.expert_bytes;
}

void mb_engine_load(const struct mb_engine *e, int32_t *running, int64_t *kv_pages_used)
{
    *running = e->n_running;
    *kv_pages_used = 0;
    for (int32_t p = 0; e->n_free_page != NULL && p < e->t.l.sp; p++)
        *kv_pages_used += e->o.plan->kv_pages - e->n_free_page[p];
}
