#include "engine/engine.h"

#include <sched.h>
#include <string.h>
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/work.h"

static enum mb_status kv_create(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_kv_desc d = {.pages = (int32_t)e->o.plan->kv_pages, .heads = m->kv_heads, .d = m->head_dim, .dv = m->v_dim,
                           .dtype = e->o.kv_dtype};
    if (m->mla) {
        d.heads = 1;
        d.d = m->kv_lora + m->rope_mla;
        d.dv = m->kv_lora;
        d.v_in_k = true;
    }
    e->kv = mb_zalloc(e->o.mem, MB_MEM_OTHER, (size_t)e->all_layers, sizeof(void *));
    if (e->kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d page pools", e->all_layers);
    for (int32_t l = 0; l < e->all_layers; l++)
        MB_TRY(e->o.ops->kv_create(e->o.dev, &d, &e->kv[l]));
    return MB_OK;
}

static enum mb_status xchg_create(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    struct mb_xchg_options x = {.ops = e->o.ops,
                                .dev = e->o.dev,
                                .stream = e->stream,
                                .mem = e->o.mem,
                                .topo = e->o.topo,
                                .algorithm = e->o.plan->alltoall,
                                .hidden = m->hidden,
                                .k = m->router.k > 0 ? m->router.k : 1,
                                .experts = m->router.experts > 0 ? m->router.experts : 1,
                                .x_type = e->o.path,
                                .y_type = e->o.path,
                                .max_rows = e->o.plan->max_batch_rows,
                                .shm_bytes = e->o.shm_bytes,
                                .eager_bytes = e->o.eager_bytes,
                                .tagged = e->expert_lora};
    return mb_xchg_create(e->o.comm, &x, &e->xchg);
}

static enum mb_status local_parts(struct mb_engine *e)
{
    MB_TRY(kv_create(e));
    MB_TRY(mb_sched_create(e));
    return mb_work_create(e);
}

enum mb_status mb_engine_create(const struct mb_engine_options *o, struct mb_engine **out)
{
    struct mb_engine *e = mb_zalloc(o->mem, MB_MEM_OTHER, 1, sizeof *e);
    enum mb_status st = e == NULL ? mb_error(MB_NO_MEMORY, "no memory for an engine") : MB_OK;

    if (st == MB_OK) {
        e->o = *o;
        e->mtp = o->model->mtp_layers > 0 && o->save_logits == MB_LOGITS_ALL;
        e->expert_lora = mb_lora_on_experts(o);
        e->all_layers = o->model->layers + (e->mtp ? o->model->mtp_layers : 0);
        st = o->ops->stream_create(o->dev, &e->stream);
    }
    if (st == MB_OK)
        st = local_parts(e);
    st = mb_comm_agree(o->comm, st, "memory for pages and steps");
    if (st == MB_OK)
        st = mb_weights_load(o, e->stream, e->mtp, &e->w);
    if (st == MB_OK)
        st = mb_lora_load(e);
    if (st == MB_OK)
        st = xchg_create(e);
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
    mb_xchg_destroy(e->xchg);
    mb_lora_destroy(e);
    mb_sched_destroy(e);
    mb_work_destroy(e);
    for (int32_t l = 0; l < e->all_layers && e->kv != NULL; l++)
        e->o.ops->kv_free(e->kv[l]);
    mb_free(e->kv);
    mb_weights_fini(e->o.ops, &e->w);
    e->o.ops->stream_destroy(e->stream);
    mb_free(e);
}

/* ---------------------------------------------------------------- what members tell each other */

static bool self_idle(const struct mb_engine *e)
{
    return e->source_ended && e->n_running == 0 && e->n_waiting == 0 && e->held == NULL;
}

void mb_engine_mine(const struct mb_engine *e, int32_t layer, struct mb_xchg_head *out)
{
    *out = (struct mb_xchg_head){.step = e->step, .layer = layer, .status = e->status};
    if (self_idle(e))
        out->flags |= MB_FLAG_IDLE;
    if (e->o.stop != NULL && *e->o.stop)
        out->flags |= MB_FLAG_STOP;
}

/* Every member sees the same heads, so every member draws the same conclusions: from the first exchange of a step whether
 * anybody has rows, is asked to stop, or is idle; from every exchange whether somebody failed. */
void mb_engine_heads(struct mb_engine *e, const struct mb_xchg_head *heads)
{
    bool idle = true, stop = false, empty = true;

    for (int32_t i = 0; i < mb_xchg_size(e->xchg); i++) {
        idle &= (heads[i].flags & MB_FLAG_IDLE) != 0;
        stop |= (heads[i].flags & MB_FLAG_STOP) != 0;
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

/* A model without MoE layers has no exchange to carry the heads. */
static enum mb_status step_exchange(struct mb_engine *e)
{
    struct mb_xchg_head mine;
    const struct mb_xchg_head *heads;

    mb_engine_mine(e, -1, &mine);
    mine.rows = e->batch.rows;
    MB_TRY(mb_xchg_step(e->xchg, &mine, &heads));
    e->told |= mine.status != MB_OK;
    mb_engine_heads(e, heads);
    return MB_OK;
}

/* ---------------------------------------------------------------- one step */

static enum mb_status compute(struct mb_engine *e, struct mb_sink *sink)
{
    bool dense = e->o.model->moe_layers == 0;

    if (dense)
        MB_TRY(step_exchange(e));
    if (e->peers_status != MB_OK || (dense && e->empty))
        return e->status;
    MB_TRY(mb_layers_run(e));
    if (e->peers_status != MB_OK || e->empty)
        return MB_OK;
    if (e->batch.rows > 0)
        e->status = mb_save_routing(e, sink);
    if (e->batch.rows > 0 && e->status == MB_OK)
        e->status = mb_save_hidden(e, sink);
    if (e->batch.rows > 0 && e->status == MB_OK)
        e->status = mb_head_run(e, sink);
    return e->mtp ? mb_mtp_run(e, sink) : e->status;
}

static enum mb_status one_step(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    e->step++;
    e->step_known = false;
    e->empty = false;
    if (e->status == MB_OK)
        e->status = mb_sched_fill(e, src, sink);
    mb_sched_batch(e);
    if (e->status != MB_OK)
        e->batch.rows = e->batch.n_out = e->batch.seqs = 0;
    mb_fault(e->step == 1 ? "prefill" : "decode");
    enum mb_status st = compute(e, sink);
    if (st == MB_OK && !e->empty)
        st = mb_sched_retire(e, sink);
    if (st == MB_OK)
        st = sink->ops->step_end(sink);
    if (st == MB_OK && e->o.tick != NULL)
        st = e->o.tick(e->o.tick_arg);
    e->counters.steps++;
    e->counters.idle_steps += e->batch.rows == 0;
    e->counters.empty_steps += e->empty;
    return st;
}

/* A failure of this rank has to reach the others: it goes with the next exchange, in a step without rows. */
static enum mb_status tell_peers(struct mb_engine *e)
{
    if (mb_xchg_size(e->xchg) == 1 || e->told || e->peers_status != MB_OK)
        return MB_OK;
    e->step++;
    e->step_known = false;
    e->batch.rows = e->batch.n_out = e->batch.seqs = 0;
    if (e->o.model->moe_layers == 0)
        return step_exchange(e);
    return mb_layers_run(e);
}

enum mb_status mb_engine_run(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    for (;;) {
        enum mb_status st = one_step(e, src, sink);
        if (st != MB_OK) {
            e->status = st;
            enum mb_status tell = tell_peers(e); /* st is the cause */
            e->apart = mb_xchg_size(e->xchg) > 1 && !e->told && e->peers_status == MB_OK && st != MB_PEER && tell != MB_PEER;
            return st;
        }
        if (e->peers_status != MB_OK)
            return MB_PEER;
        if (e->peers_idle)
            return MB_OK;
        if (e->peers_stop)
            return MB_STOP;
        if (e->empty)
            sched_yield();
    }
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
    out->seconds_wait = x.seconds_wait;
    mb_ctl_counts(e->o.comm, &out->control_bytes, &out->control_messages);
}

const int64_t *mb_engine_usage(const struct mb_engine *e)
{
    return e->o.model->moe_layers > 0 ? e->work.usage : NULL;
}

int64_t mb_engine_expert_bytes(const struct mb_engine *e)
{
    return e->w.expert_bytes;
}

void mb_engine_load(const struct mb_engine *e, int32_t *running, int64_t *kv_pages_used)
{
    *running = e->n_running;
    *kv_pages_used = e->o.plan->kv_pages - e->n_free_page;
}
