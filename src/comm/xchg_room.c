/* The buffers of an exchange in their planned sizes. */
#include "comm/xchg_impl.h"

void mb_xchg_reserve(struct mb_xchg *x, const struct mb_xchg_room *r)
{
    struct {
        struct vec *v;
        int64_t bytes;
    } list[] = {{&x->own_meta, r->own_meta},  {&x->out_tag, r->out_tag},     {&x->by_tag, r->by_tag},
                {&x->served, r->served},      {&x->send_rows, r->send_rows}, {&x->held_taken, r->held_taken},
                {&x->refs, r->refs},          {&x->taken.from, r->from},     {&x->taken.agent, r->agent},
                {&x->taken.meta, r->meta},    {&x->taken.ypos, r->ypos},     {&x->order, r->order},
                {&x->host_idx, r->host_idx},  {&x->emit.idx, r->emit_idx},   {&x->emit.off, r->emit_off},
                {&x->emit.src, r->emit_item}, {&x->emit.pos, r->emit_item},  {&x->emit.w, r->emit_item}};
    struct {
        struct devbuf *d;
        int64_t bytes;
    } dev[] = {{&x->recv, r->recv}, {&x->x, r->x},       {&x->idx, r->idx},     {&x->cy, r->cy},
               {&x->ci, r->ci},     {&x->lone, r->lone}, {&x->inner, r->inner}, {&x->gathered, r->gathered}};
    struct {
        struct hostbuf *h;
        int64_t bytes;
    } host[] = {{&x->own_rows, r->own_rows},
                {&x->out_host, r->out_host},
                {&x->disp.stage, r->stage},
                {&x->comb.stage, r->back_stage}};

    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].bytes > 0)
            mb_xchg_room(x, list[i].v, (uint64_t)list[i].bytes, 1);
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i].bytes > 0)
            mb_xchg_dev(x, dev[i].d, (uint64_t)dev[i].bytes, 0);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        if (host[i].bytes > 0)
            mb_xchg_host(x, host[i].h, (uint64_t)host[i].bytes);
    for (int32_t i = 0; i < x->disp.n_in && r->body > 0; i++)
        mb_xchg_host(x, &x->disp.in[i].body, (uint64_t)r->body);
    for (int32_t i = 0; i < x->comb.n_in && r->back_body > 0; i++)
        mb_xchg_host(x, &x->comb.in[i].body, (uint64_t)r->back_body);
}
