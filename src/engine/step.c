/* One step: what a rank says in its exchanges, and what it concludes from what others say. */
#include "engine/step.h"

void mb_step_begin(struct mb_step *s)
{
    s->number++;
    s->pass.step = s->number;
    s->peers.known = s->empty = false;
    s->exchange = 0;
    s->flags = 0;
    mb_batch_clear(s->pass.batch);
}

void mb_step_divide(struct mb_step *s)
{
    const struct mb_groups *g = &s->c->t.g;
    const struct mb_batch_share share = {g->sp_rank, g->sp_size, g->tp_rank, g->tp_size, s->c->o.segment};

    mb_batch_divide(s->pass.batch, &share);
}

/* Rows of this step of the members that share what is planned for one: the parts of a sequence group. */
static int64_t shared_rows(const struct mb_step *s)
{
    const struct mb_batch_order *o = &s->pass.batch->order;
    int64_t n = 0, tp = s->c->t.g.tp_size;

    for (int32_t p = 0; p < s->c->t.g.sp_size && s->c->t.g.sp_size > 1 && s->pass.batch->rows > 0; p++)
        n += (o->at[p + 1] - o->at[p] + tp - 1) / tp;
    return n;
}

struct mb_xchg_head mb_step_head(const struct mb_step *s, int32_t layer)
{
    bool lane = s->c->t.l.lane_scope; /* all stages meet in ticks */

    return (struct mb_xchg_head){.step = lane ? s->number + s->c->t.g.pp_rank : s->number,
                                 .layer = lane ? s->exchange : layer,
                                 .status = s->status,
                                 .flags = s->flags,
                                 .revision =
                                     s->c->o.plan->placement != NULL ? s->c->o.plan->placement->revision : 0,
                                 .share = shared_rows(s)};
}

/* Whether a member of the exchange group speaks for an attention group in this step: under lane scope later
 * stages repeat what their leaders said in earlier steps. */
static bool speaks(const struct mb_layout *l, int32_t member)
{
    int32_t size = mb_layout_stage_size(l);
    return member % size < mb_layout_attn(l) && (!l->lane_scope || member < size);
}

bool mb_step_heard(struct mb_step *s, const struct mb_xchg_head *mine, const struct mb_xchg_head *heads,
                   int32_t members)
{
    bool idle = true, stop = false, empty = true;

    s->told |= mine->status != MB_OK;
    for (int32_t i = 0; i < members; i++) {
        if (speaks(&s->c->t.l, i)) {
            idle &= (heads[i].flags & MB_FLAG_IDLE) != 0;
            stop |= (heads[i].flags & MB_FLAG_STOP) != 0;
        }
        empty &= heads[i].rows == 0;
        if (heads[i].status > s->peers.status)
            s->peers.status = heads[i].status;
    }
    if (!s->peers.known) {
        s->peers.known = true;
        s->peers.idle = idle;
        s->peers.stop = stop;
        s->empty = empty;
    }
    return mb_step_over(s);
}
