/* Memory in transit: the exchange of the group, and what the shares of smaller groups travel in. */
#include <string.h>
#include "base/log.h"
#include "engine/work.h"

static uint64_t grown(uint64_t have, uint64_t need)
{
    uint64_t more = have + have / 2;
    return (need > more ? need : more) + 64;
}

void *mb_transit_host(struct mb_engine *e, struct mb_grown *g, uint64_t bytes)
{
    if (g->p != NULL && bytes <= g->bytes)
        return g->p;
    uint64_t want = grown(g->bytes, bytes);
    void *p = NULL;
    if (e->o.ops->host_alloc(e->o.dev, want, &p) != MB_OK)
        return NULL;
    e->o.ops->host_free(e->o.dev, g->p);
    g->p = p;
    g->bytes = want;
    return p;
}

struct mb_buf *mb_transit_dev(struct mb_engine *e, struct mb_grown *g, uint64_t bytes)
{
    if (g->buf != NULL && bytes <= g->bytes)
        return g->buf;
    uint64_t want = grown(g->bytes, bytes);
    struct mb_buf *b = NULL;
    if (e->o.ops->buf_alloc(e->o.dev, MB_MEM_EXCHANGE, want, &b) != MB_OK)
        return NULL;
    if (g->buf != NULL && e->o.ops->sync(e->stream) != MB_OK) /* nothing under way reads what is freed */
        return NULL;
    e->o.ops->buf_free(g->buf);
    g->buf = b;
    g->bytes = want;
    return b;
}

enum mb_status mb_transit_create(struct mb_engine *e)
{
    const struct mb_layout *l = &e->t.l;
    int32_t n = l->tp * l->sp;

    n = l->etp > n ? l->etp : n;
    e->transit.out = mb_zalloc(e->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    e->transit.in = mb_zalloc(e->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    if (e->transit.out == NULL || e->transit.in == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a group of %d ranks", n);
    return MB_OK;
}

static enum mb_status reserve(struct mb_engine *e, const struct mb_transit_room *r)
{
    struct mb_transit *t = &e->transit;
    struct {
        struct mb_grown *g;
        int64_t bytes;
    } host[] = {{&t->send, r->send}, {&t->recv, r->recv},   {&t->ints, r->ints},
                {&t->z, r->z},       {&t->terms, r->terms}, {&t->tags, r->tags}},
      dev[] = {{&t->parts, r->parts},       {&t->inner, r->inner},   {&t->idx, r->idx},
               {&t->gathered, r->gathered}, {&t->square, r->square}, {&t->state, r->state},
               {&t->nodes, r->nodes},       {&t->q_all, r->q_all},   {&t->low, r->low}};

    for (size_t i = 0; i < sizeof host / sizeof *host; i++) {
        if (host[i].bytes > 0 && mb_transit_host(e, host[i].g, (uint64_t)host[i].bytes) == NULL)
            return MB_NO_MEMORY;
    }
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++) {
        if (dev[i].bytes > 0 && mb_transit_dev(e, dev[i].g, (uint64_t)dev[i].bytes) == NULL)
            return MB_NO_MEMORY;
    }
    return MB_OK;
}

void mb_transit_destroy(struct mb_engine *e)
{
    struct mb_transit *t = &e->transit;
    struct mb_grown *host[] = {&t->send, &t->recv, &t->ints, &t->z, &t->terms, &t->tags},
                    *dev[] = {&t->parts, &t->inner, &t->idx,   &t->gathered, &t->square,
                              &t->state, &t->nodes, &t->q_all, &t->low};
    for (size_t i = 0; i < sizeof host / sizeof host[0]; i++)
        e->o.ops->host_free(e->o.dev, host[i]->p);
    for (size_t i = 0; i < sizeof dev / sizeof dev[0]; i++)
        e->o.ops->buf_free(dev[i]->buf);
    mb_free(t->out);
    mb_free(t->in);
    mb_bytes_fini(&t->msg);
    mb_bytes_fini(&t->result);
    *t = (struct mb_transit){0};
}

/* ---------------------------------------------------------------- planned sizes */

/* What the plan said of buffers in transit, for this rank. */
static enum mb_status rooms_of(const struct mb_engine *e, struct mb_rooms *out)
{
    const struct mb_plan_options o = {.segment = e->o.segment,
                                      .path = e->o.path,
                                      .kv_dtype = e->o.kv_dtype,
                                      .mtp = e->mtp,
                                      .shm_bytes = e->o.shm_bytes,
                                      .eager_bytes = e->o.eager_bytes,
                                      .save_logits = e->o.save_logits != MB_LOGITS_NONE,
                                      .save_routing = e->o.save_routing,
                                      .save_hidden = e->o.save_hidden,
                                      .adapters = e->o.adapters,
                                      .n_adapters = e->o.n_adapters};
    return mb_plan_rooms(e->o.plan, e->o.model, e->o.topo, &o, e->t.at.index, out);
}

static enum mb_status xchg_create(struct mb_engine *e, const struct mb_rooms *rooms)
{
    const struct mb_model *m = e->o.model;
    int32_t first = mb_team_index_of(&e->t, 0), base;
    struct mb_xchg_options x = {.ops = e->o.ops,
                                .dev = e->o.dev,
                                .stream = e->stream,
                                .mem = e->o.mem,
                                .node = e->o.plan->node_of + first,
                                .algorithm = e->o.plan->alltoall,
                                .hidden = m->hidden,
                                .k = m->router.k > 0 ? m->router.k : 1,
                                .experts = mb_serve_ids(e->o.plan, e->t.at.stage, &base),
                                .x_type = e->o.path,
                                .y_type = e->o.path,
                                .max_rows = e->o.plan->max_batch_rows,
                                .shm_bytes = e->o.shm_bytes,
                                .eager_bytes = e->o.eager_bytes,
                                .tagged = e->expert_lora,
                                .shape = &rooms->shape};
    return mb_xchg_create(e->t.xg, &x, &e->xchg);
}

enum mb_status mb_transit_rooms(struct mb_engine *e)
{
    struct mb_rooms rooms;
    enum mb_status st = rooms_of(e, &rooms);

    if (st == MB_OK)
        st = reserve(e, &rooms.transit);
    st = mb_comm_agree(e->o.comm, st, "buffers of groups");
    return st == MB_OK ? mb_comm_agree(e->o.comm, xchg_create(e, &rooms), "the exchange") : st;
}
