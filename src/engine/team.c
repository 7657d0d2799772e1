/* Groups and shares of one rank. */
#include "engine/team.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

int32_t mb_team_index_of(const struct mb_team *t, int32_t member)
{
    return t->at.index - t->at.member + member;
}

/* One pool if every KV head has the same number of own query heads, else one per KV head. MLA has one KV head
 * for all. */
static enum mb_status make_pools(struct mb_team *t, const struct mb_model *m)
{
    int32_t group = m->heads / m->kv_heads, end = t->h.head0 + t->h.heads;
    bool even = m->mla || t->h.kv_heads == 1 || (t->h.head0 % group == 0 && end % group == 0);

    t->n_pools = even ? 1 : t->h.kv_heads;
    t->pool = calloc((size_t)t->n_pools, sizeof *t->pool);
    if (t->pool == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the pools of KV heads");
    t->pool[0] = (struct mb_pool){0, t->h.heads, 0, m->mla ? 1 : t->h.kv_heads};
    for (int32_t i = 0; !even && i < t->n_pools; i++) {
        int32_t a = (t->h.kv0 + i) * group, b = a + group;
        a = a > t->h.head0 ? a : t->h.head0;
        b = b < end ? b : end;
        t->pool[i] = (struct mb_pool){a - t->h.head0, b - a, i, 1};
    }
    return MB_OK;
}

static enum mb_status make_serve(struct mb_team *t, const struct mb_engine_options *o)
{
    t->n_exchanges = mb_serve_exchanges(o->plan, o->model, t->at.stage);
    (void)mb_serve_ids(o->plan, t->at.stage, &t->id_base);
    t->serve = calloc((size_t)t->n_exchanges, sizeof(void *));
    if (t->serve == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the tables of the exchanges");
    for (int32_t j = 0; j < t->n_exchanges; j++)
        MB_TRY(mb_serve_create(o->plan, o->model, t->at.lane, t->at.stage, j, &t->serve[j]));
    for (int32_t j = 0; j < t->n_exchanges; j++)
        MB_TRY(mb_serve_settle(t->serve[j], t->at.member));
    return MB_OK;
}

/* Group g of `size` ranks, or nothing where groups have one rank. color < 0: not in one. */
static enum mb_status split(struct mb_team *t, const char *name, int32_t size, int32_t color, int32_t key, struct mb_comm **out)
{
    return size > 1 ? mb_comm_split(t->world, name, color, key, out) : MB_OK;
}

/* All groups come from one world: their colors are places of the grids. */
static enum mb_status make_groups(struct mb_team *t)
{
    const struct mb_layout *l = &t->l;
    const struct mb_place *p = &t->at;
    bool in = p->a >= 0;
    int32_t stage = p->lane * l->pp + p->stage, att = stage * l->adp + p->a, per = l->tp * l->sp,
            at = p->q * l->tp + p->t;

    MB_TRY(split(t, "a pipeline", per * l->pp, in ? p->lane * l->adp + p->a : -1, p->stage * per + at, &t->g.line));
    MB_TRY(split(t, "an attention group", per, in ? att : -1, at, &t->g.att));
    MB_TRY(split(t, "a tensor group", l->tp, in ? att * l->sp + p->q : -1, p->t, &t->g.tp));
    MB_TRY(split(t, "a sequence group", l->sp, in ? att * l->tp + p->t : -1, p->q, &t->g.sp));
    MB_TRY(split(t, "the slices of an expert", l->etp, p->e >= 0 ? (p->group * l->edp + p->c) * l->ep + p->e : -1, p->x, &t->g.etp));
    t->g.peers = t->world;
    if (l->pp > 1 || l->attn > 0)
        MB_TRY(mb_comm_split(t->world, "the ranks of a stage that attend", in ? p->stage : -1, p->index, &t->g.peers));
    t->g.xchg = t->world;
    int64_t other = mb_comm_rank(t->world) != p->member || mb_comm_size(t->world) != mb_layout_group(l);
    MB_TRY(mb_comm_max_i64(t->world, &other, 1, "groups"));
    if (other == 0)
        return MB_OK;
    return mb_comm_split(t->world, "an exchange", p->group, p->member, &t->g.xchg);
}

enum mb_status mb_team_create(const struct mb_engine_options *o, struct mb_team *t)
{
    const struct mb_layout *l = &o->plan->layout;

    *t = (struct mb_team){.l = *l, .world = o->comm};
    mb_layout_place(l, o->topo->index_of[mb_comm_rank(o->comm)], &t->at);
    t->g = (struct mb_groups){.dp_rank = t->at.lane, .dp_size = l->dp, .pp_rank = t->at.stage, .pp_size = l->pp,
                              .tp_rank = t->at.t, .tp_size = l->tp, .sp_rank = t->at.q, .sp_size = l->sp,
                              .att_rank = t->at.q * l->tp + t->at.t, .att_size = l->tp * l->sp, .ep_rank = t->at.e, .ep_size = l->ep, .etp_rank = t->at.x, .etp_size = l->etp};
    t->attends = t->at.a >= 0;
    t->serves = t->at.e >= 0;
    t->leads = mb_place_leads(&t->at);
    t->alone = l->tp * l->sp * l->pp == 1;
    t->joined = t->alone && l->etp == 1 && l->dp == 1;
    t->first_stage = t->g.pp_rank == 0;
    t->last_stage = t->g.pp_rank == l->pp - 1;
    t->first_layer = o->plan->first_layer[t->at.stage];
    t->last_layer = o->plan->first_layer[t->at.stage + 1];
    t->h = mb_part_heads(o->model, t->attends ? t->at.t : 0, l->tp);
    t->d = mb_part_delta(o->model, t->attends ? t->g.att_rank : 0, t->g.att_size);
    enum mb_status st = make_pools(t, o->model);
    if (st == MB_OK)
        st = make_serve(t, o);
    MB_TRY(mb_comm_agree(o->comm, st, "tables of the layout"));
    return make_groups(t);
}

void mb_team_fini(struct mb_team *t, bool together)
{
    if (together && t->world != NULL) /* an engine may end before it has a team */
        mb_comm_destroy_parts(t->world);
    for (int32_t j = 0; j < t->n_exchanges && t->serve != NULL; j++)
        mb_serve_destroy(t->serve[j]);
    free(t->serve);
    free(t->pool);
    *t = (struct mb_team){0};
}
