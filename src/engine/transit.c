/* Memory in transit: the exchange of the group, and what the shares of smaller groups travel in. */
#include <string.h>
#include "base/log.h"
#include "engine/step.h"

static uint64_t grown(uint64_t have, uint64_t need)
{
    uint64_t more = have + have / 2;
    return (need > more ? need : more) + 64;
}

void *mb_transit_host(struct mb_pass *p, struct mb_grown *g, uint64_t bytes)
{
    if (g->p != NULL && bytes <= g->bytes)
        return g->p;
    uint64_t want = grown(g->bytes, bytes);
    void *got = NULL;
    if (p->c->o.ops->host_alloc(p->c->o.dev, want, &got) != MB_OK)
        return NULL;
    p->c->o.ops->host_free(p->c->o.dev, g->p);
    g->p = got;
    g->bytes = want;
    return got;
}

struct mb_buf *mb_transit_dev(struct mb_pass *p, struct mb_grown *g, uint64_t bytes)
{
    if (g->buf != NULL && bytes <= g->bytes)
        return g->buf;
    uint64_t want = grown(g->bytes, bytes);
    struct mb_buf *b = NULL;
    if (p->c->o.ops->buf_alloc(p->c->o.dev, MB_MEM_EXCHANGE, want, &b) != MB_OK)
        return NULL;
    if (g->buf != NULL && p->c->o.ops->sync(p->c->stream) != MB_OK) /* nothing under way reads what is freed */
        return NULL;
    p->c->o.ops->buf_free(g->buf);
    g->buf = b;
    g->bytes = want;
    return b;
}

enum mb_status mb_transit_create(const struct mb_context *c, struct mb_transit *t)
{
    const struct mb_groups *g = &c->t.g;
    int32_t n = g->tp_size * g->sp_size;

    n = g->etp_size > n ? g->etp_size : n;
    t->out = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    t->in = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    if (t->out == NULL || t->in == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a group of %d ranks", n);
    return MB_OK;
}

static enum mb_status reserve(struct mb_pass *p, const struct mb_transit_room *r)
{
    struct mb_transit *t = p->transit;
    struct {
        struct mb_grown *g;
        int64_t bytes;
    } host[] = {{&t->send, r->send}, {&t->recv, r->recv},   {&t->ints, r->ints},
                {&t->z, r->z},       {&t->terms, r->terms}, {&t->tags, r->tags}},
      dev[] = {{&t->parts, r->parts},       {&t->inner, r->inner},   {&t->idx, r->idx},
               {&t->gathered, r->gathered}, {&t->square, r->square}, {&t->state, r->state},
               {&t->nodes, r->nodes},       {&t->q_all, r->q_all},   {&t->low, r->low}};

    for (size_t i = 0; i < sizeof host / sizeof *host; i++) {
        if (host[i].bytes > 0 && mb_transit_host(p, host[i].g, (uint64_t)host[i].bytes) == NULL)
            return MB_NO_MEMORY;
    }
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++) {
        if (dev[i].bytes > 0 && mb_transit_dev(p, dev[i].g, (uint64_t)dev[i].bytes) == NULL)
            return MB_NO_MEMORY;
    }
    return MB_OK;
}

void mb_transit_destroy(const struct mb_context *c, struct mb_transit *t)
{
    struct mb_grown *host[] = {&t->send, &t->recv, &t->ints, &t->z, &t->terms, &t->tags},
                    *dev[] = {&t->parts, &t->inner, &t->idx,   &t->gathered, &t->square,
                              &t->state, &t->nodes, &t->q_all, &t->low};
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        c->o.ops->host_free(c->o.dev, host[i]->p);
    for (size_t i = 0; i < sizeof dev / sizeof dev[0]; i++)
        c->o.ops->buf_free(dev[i]->buf);
    mb_free(t->out);
    mb_free(t->in);
    mb_bytes_fini(&t->msg);
    mb_bytes_fini(&t->result);
    *t = (struct mb_transit){0};
}

/* ---------------------------------------------------------------- planned sizes */

/* What the plan said of buffers in transit, for this rank. */
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

static enum mb_status xchg_create(const struct mb_context *c, const struct mb_rooms *rooms, struct mb_xchg **out)
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
                                .y_type = c->o.path,
                                .max_rows = c->o.plan->max_batch_rows,
                                .shm_bytes = c->o.shm_bytes,
                                .eager_bytes = c->o.eager_bytes,
                                .tagged = c->expert_lora,
                                .shape = &rooms->shape};
    return mb_xchg_create(c->t.g.xchg, &x, out);
}

enum mb_status mb_transit_rooms(struct mb_step *s)
{
    struct mb_rooms rooms;
    enum mb_status st = rooms_of(s->c, &rooms);

    if (st == MB_OK)
        st = reserve(&s->pass, &rooms.transit);
    st = mb_comm_agree(s->c->o.comm, st, "buffers of groups");
    return st == MB_OK ? mb_comm_agree(s->c->o.comm, xchg_create(s->c, &rooms, &s->xchg), "the exchange") : st;
}
