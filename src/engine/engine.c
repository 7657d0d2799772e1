#include "engine/engine.h"

#include <string.h>
#include "base/log.h"
#include "engine/engine_impl.h"

/* Pages of the own layers, for every pool of heads. The MTP module's layer comes last. */
static enum mb_status kv_create(struct mb_context *c)
{
    const struct mb_model *m = c->o.model;

    c->kv = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)c->all_layers * (size_t)c->t.n_pools, sizeof(void *));
    if (c->kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d page pools", c->all_layers);
    for (int32_t l = c->t.first_layer; c->t.attends && l < c->all_layers; l++) {
        if (mb_is_linear(m, l))
            continue;
        for (int32_t i = 0; (l < c->t.last_layer || (l >= m->layers && c->t.last_stage)) && i < c->t.n_pools;
             i++) {
            struct mb_kv_desc d = {.pages = (int32_t)c->o.plan->kv_pages,
                                   .heads = c->t.pool[i].kv_heads,
                                   .d = m->head_dim,
                                   .dv = m->v_dim,
                                   .dtype = c->o.kv_dtype};
            if (m->mla) {
                d.d = m->kv_lora + m->rope_mla;
                d.dv = m->kv_lora;
                d.v_in_k = true;
            }
            MB_TRY(c->o.ops->kv_create(c->o.dev, &d, &c->kv[l * c->t.n_pools + i]));
        }
    }
    return MB_OK;
}

/* Pages of index keys, beside those of their layers. */
static enum mb_status index_kv_create(struct mb_context *c)
{
    const struct mb_model *m = c->o.model;
    struct mb_kv_desc d = {.pages = (int32_t)c->o.plan->kv_pages, .heads = 1, .d = m->indexer.width, .dv = 1, .v_in_k = true,
                           .dtype = c->o.kv_dtype};

    if (m->indexer.topk == 0)
        return MB_OK;
    c->index_kv = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)c->all_layers, sizeof(void *));
    if (c->index_kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d page pools", c->all_layers);
    for (int32_t l = 0; l < c->all_layers; l++) {
        if (c->kv[l * c->t.n_pools] != NULL && !m->indexer.shares[l])
            MB_TRY(c->o.ops->kv_create(c->o.dev, &d, &c->index_kv[l]));
    }
    return MB_OK;
}

/* What the plan says of this rank's buffers. */
static enum mb_status rooms_of(const struct mb_context *c, struct mb_rooms *out)
{
    const struct mb_plan_options o = {.segment = c->o.segment,
                                      .path = c->o.path,
                                      .kv_dtype = c->o.kv_dtype,
                                      .mtp = c->mtp,
                                      .shm_bytes = c->o.shm_bytes,
                                      .eager_bytes = c->o.eager_bytes,
                                      .save_logits = c->o.save_logits != MB_LOGITS_NONE,
                                      .save_routing = c->o.save_routing,
                                      .save_hidden = c->o.save_hidden,
                                      .adapters = c->o.adapters,
                                      .n_adapters = c->o.n_adapters};
    return mb_plan_rooms(c->o.plan, c->o.model, c->o.topo, &o, c->t.at.index, out);
}

static enum mb_status xchg_create(const struct mb_context *c, struct mb_xchg **out)
{
    const struct mb_model *m = c->o.model;
    int32_t first = mb_team_index_of(&c->t, 0), base;
    struct mb_xchg_options x = {.ops = c->o.ops,
                                .dev = c->o.dev,
                                .stream = c->stream,
                                .mem = c->o.mem,
                                .node = c->o.plan->node_of + first,
                                .algorithm = c->o.plan->alltoall,
                                .hidden = m->hidden,
                                .k = m->router.k > 0 ? m->router.k : 1,
                                .experts = mb_serve_ids(c->o.plan, c->t.g.pp_rank, &base),
                                .x_type = c->o.path,
                                .y_type = mb_narrow(c),
                                .max_rows = c->o.plan->max_batch_rows,
                                .shm_bytes = c->o.shm_bytes,
                                .eager_bytes = c->o.eager_bytes,
                                .chosen = c->o.plan->placement->quota != NULL,
                                .tagged = c->expert_lora,
                                .shape = &c->rooms.shape};
    return mb_xchg_create(c->t.g.xchg, &x, out);
}

/* Only a leader schedules. */
static enum mb_status sched_create(struct mb_engine *e)
{
    const struct mb_engine_options *o = &e->c.o;
    const struct mb_sched_options s = {.mem = o->mem,
                                       .seed = o->seed,
                                       .max_seqs = o->plan->max_num_seqs,
                                       .max_rows = o->plan->max_batch_rows,
                                       .max_pages = o->plan->max_pages_per_seq,
                                       .kv_pages = o->plan->kv_pages,
                                       .parts = e->c.t.g.sp_size,
                                       .segment = o->segment,
                                       .depth = e->c.t.g.pp_size,
                                       .eos = o->model->eos,
                                       .n_eos = o->model->n_eos,
                                       .vocab = o->model->vocab,
                                       .rope_switch = o->model->rope_switch,
                                       .rope_rows = e->c.tables.rows,
                                       .adapter_names = o->adapter_names,
                                       .n_adapters = o->n_adapters,
                                       .save_logits = o->save_logits,
                                       .guides = o->guides,
                                       .mtp = mb_mtp_saved(&e->c),
                                       .drafts = o->drafts,
                                       .states = o->model->linear_layers > 0,
                                       .share = o->prefix_caching && !mb_mtp_saved(&e->c) && !o->save_routing &&
                                                !o->save_hidden && o->save_logits == MB_LOGITS_NONE &&
                                                o->model->linear_layers == 0};
    return e->c.t.leads ? mb_sched_create(&s, &e->tally.counters, &e->sched) : MB_OK;
}

static enum mb_status local_parts(struct mb_engine *e)
{
    struct mb_context *c = &e->c;
    const struct mb_plan *p = c->o.plan;
    const struct mb_batch_limits limits = {c->o.mem, p->max_batch_rows, p->max_num_seqs,
                                           p->max_pages_per_seq, c->o.model->vocab};

    MB_TRY(rooms_of(c, &c->rooms));
    MB_TRY(kv_create(c));
    MB_TRY(index_kv_create(c));
    MB_TRY(mb_batch_create(&limits, c->t.g.sp_size, &e->batch));
    MB_TRY(mb_work_create(c, &e->work, &e->found));
    MB_TRY(mb_tables_create(c));
    MB_TRY(mb_states_create(c));
    MB_TRY(mb_tally_create(c->o.mem, c->o.model->moe_layers, c->o.model->router.experts, &e->tally));
    return sched_create(e);
}

static enum mb_status begin(struct mb_engine *e, const struct mb_engine_options *o)
{
    struct mb_context *c = &e->c;

    c->o = *o;
    if (o->save_logits != MB_LOGITS_NONE)
        c->o.drafts.how = MB_DRAFT_OFF;
    c->mtp = o->model->mtp_layers > 0 && (o->save_logits == MB_LOGITS_ALL || c->o.drafts.how == MB_DRAFT_MTP);
    c->expert_lora = mb_lora_on_experts(o);
    c->all_layers = o->model->layers + (c->mtp ? o->model->mtp_layers : 0);
    e->end_step = -1;
    e->step = (struct mb_step){
        .c = c,
        .pass = {.c = c, .tally = &e->tally, .batch = &e->batch, .work = &e->work, .found = &e->found}};
    return o->ops->stream_create(o->dev, &c->stream);
}

/* What has weights, and what depends on them. Collective over world. */
static enum mb_status load(struct mb_engine *e)
{
    struct mb_context *c = &e->c;
    struct mb_comm *world = c->o.comm;

    MB_TRY(mb_weights_load(&c->o, &c->t, c->stream, c->mtp, &c->w));
    MB_TRY(mb_comm_agree(world, mb_experts_create(c), "lists of experts"));
    MB_TRY(mb_lora_load(c));
    MB_TRY(mb_comm_agree(world, mb_work_travel(c, &e->work), "buffers of groups"));
    MB_TRY(mb_comm_agree(world, xchg_create(c, &e->step.xchg), "the exchange"));
    const struct mb_zero_pieces pieces = {e->work.host[MB_SB_PIECE_OUT - MB_XB_COUNT],
                                          e->work.host[MB_SB_PIECE_IN - MB_XB_COUNT]};
    return mb_zero_create(c, e->step.xchg, &pieces, &e->tally, &e->step.zero);
}

enum mb_status mb_engine_create(const struct mb_engine_options *o, struct mb_engine **out)
{
    struct mb_engine *e = mb_zalloc(o->mem, MB_MEM_OTHER, 1, sizeof *e);
    enum mb_status st = e == NULL ? mb_error(MB_NO_MEMORY, "no memory for an engine") : begin(e, o);

    st = mb_comm_agree(o->comm, st, "an engine");
    if (st == MB_OK)
        st = mb_team_create(o, &e->c.t);
    if (st == MB_OK)
        st = mb_comm_agree(o->comm, local_parts(e), "memory for pages and steps");
    if (st == MB_OK)
        st = load(e);
    if (st != MB_OK) {
        mb_engine_destroy(e);
        return st;
    }
    e->tally.counters.weight_bytes_read = e->c.w.bytes_read;
    e->tally.counters.weight_bytes_received = e->c.w.bytes_received;
    *out = e;
    return MB_OK;
}

void mb_engine_destroy(struct mb_engine *e)
{
    if (e == NULL)
        return;
    struct mb_context *c = &e->c;
    mb_zero_destroy(e->step.zero);
    mb_xchg_destroy(e->step.xchg);
    mb_lora_destroy(c);
    mb_sched_destroy(&e->sched);
    mb_batch_destroy(&e->batch);
    mb_work_destroy(c, &e->work);
    mb_tally_destroy(&e->tally);
    mb_tables_destroy(c);
    mb_states_destroy(c);
    for (int32_t i = 0; i < c->all_layers * c->t.n_pools && c->kv != NULL; i++)
        c->o.ops->kv_free(c->kv[i]);
    mb_free(c->kv);
    for (int32_t i = 0; i < c->all_layers && c->index_kv != NULL; i++)
        c->o.ops->kv_free(c->index_kv[i]);
    mb_free(c->index_kv);
    mb_experts_destroy(c);
    mb_weights_fini(c->o.ops, &c->w);
    c->o.ops->stream_destroy(c->stream);
    mb_team_fini(&c->t, !e->apart);
    mb_free(e);
}

bool mb_engine_agreed(const struct mb_engine *e)
{
    return !e->apart;
}

void mb_engine_counters(const struct mb_engine *e, struct mb_counters *out)
{
    struct mb_xchg_counts x;

    *out = e->tally.counters;
    mb_xchg_counts(e->step.xchg, &x);
    memcpy(out->dispatch_bytes, x.dispatch_bytes, sizeof x.dispatch_bytes);
    memcpy(out->dispatch_messages, x.dispatch_messages, sizeof x.dispatch_messages);
    memcpy(out->combine_bytes, x.combine_bytes, sizeof x.combine_bytes);
    memcpy(out->combine_messages, x.combine_messages, sizeof x.combine_messages);
    double waited =
        x.seconds_wait < out->seconds[MB_TIME_EXCHANGE] ? x.seconds_wait : out->seconds[MB_TIME_EXCHANGE];
    out->seconds[MB_TIME_EXCHANGE] -= waited;
    out->seconds[MB_TIME_WAIT] += waited;
    const struct mb_comm *group[] = {e->c.t.g.tp, e->c.t.g.sp, e->c.t.g.att, e->c.t.g.line, e->c.t.g.etp};
    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++) {
        if (group[i] != NULL)
            mb_comm_moved(group[i], &out->group_bytes, &out->group_messages);
    }
    mb_ctl_counts(e->c.o.comm, &out->control_bytes, &out->control_messages);
}

const int64_t *mb_engine_usage(const struct mb_engine *e)
{
    return e->c.o.model->moe_layers > 0 ? e->tally.usage : NULL;
}

const int64_t *mb_engine_layer_rows(const struct mb_engine *e)
{
    return e->c.o.model->moe_layers > 0 ? e->tally.layer_rows : NULL;
}

const int64_t *mb_engine_zero(const struct mb_engine *e)
{
    return mb_zero_counts(e->step.zero);
}

int64_t mb_engine_expert_bytes(const struct mb_engine *e)
{
    return e->c.w.expert_bytes;
}

void mb_engine_load(const struct mb_engine *e, int32_t *running, int64_t *kv_pages_used)
{
    *running = e->sched.n_running;
    *kv_pages_used = mb_sched_pages_used(&e->sched);
}
