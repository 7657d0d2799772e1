/* What a rank needs beside its buffers: messages on their way along the line, and memory while it loads. */
#include "model/reader.h"
#include "plan/budget.h"

int64_t mb_budget_posts(const struct mb_budget_view *v)
{
    const struct mb_layout *l = &v->p->layout;

    if (l->tp * l->sp * l->pp == 1 || !v->attends)
        return 0;
    return MB_SUM(
        v->leads && v->m->linear_layers > 0 ? mb_sat_mul(4 * (int64_t)v->p->max_num_seqs, (int64_t)l->tp * l->sp * l->pp - 1) : 0,
        mb_sat_mul(v->R, v->leads ? 24 * ((int64_t)l->tp * l->sp * l->pp - 1) : 0),
        v->last ? 0 : mb_sat_mul(v->own, 4 * (int64_t)v->m->hidden),
        v->last ? 0 : mb_sat_mul(v->R, mb_budget_choice(v->m)),
        v->sampler && v->o->save_logits ? mb_sat_mul(v->R, (1 + v->o->mtp) * 4 * (int64_t)v->m->vocab) : 0);
}

/* Rows of the results are kept all the time. While tables are made: their values on the host. While weights
 * are read: the reader's window, a chunk in the form of the file, and one in f32. Afterwards: pinned memory.
 */
int64_t mb_budget_staging(const struct mb_budget_view *v, const struct mb_rooms *r)
{
    struct mb_load_sizes n;

    mb_load_sizes_of(v->m, &n);
    int64_t load = MB_SUM(n.window, n.pack, n.f32, n.scales), window = MB_SUM(n.window, n.scales);
    for (int32_t i = 0; i < v->o->n_adapters; i++) {
        mb_load_sizes_of_adapter(v->o->adapters[i], &n);
        load = mb_most(load, MB_SUM(n.window, n.pack, n.f32));
    }
    /* experts on demand are read through a window of their own */
    int64_t piece = mb_budget_piece(v->m, v->o->path);
    int64_t demand = v->p->zero > 0 ? MB_SUM(window, piece) : 0;

    int64_t tables = mb_most(mb_sat_add(r->bytes[MB_SB_COS], r->bytes[MB_SB_SIN]), r->bytes[MB_SB_QUERY]);
    int64_t pinned = mb_rooms_sum(r, MB_ROOM_PINNED, MB_MEM_STAGING);

    return MB_SUM(mb_rooms_sum(r, MB_ROOM_HOST, MB_MEM_STAGING),
                  mb_most(mb_most(tables, load), mb_sat_add(pinned, demand)));
}
