/* Memory of a step, predicted from shapes: activations, exchange, staging. The engine's buffers
 * (engine/work.c, results.c, load.c) and the exchange's (comm/xchg) are written down here once more. */
#include "model/reader.h"
#include "plan/budget.h"

#define TOP 20        /* most log-probabilities a row can ask for */
#define ROWS_GROWN 64 /* first size of the buffers of expert rows, doubled as needed */
#define ADJUST 64     /* adjustments of sampled ids that there is room for */

static int64_t mla_row(const struct mb_model *m, int64_t heads, int64_t es)
{
    int64_t latent = (int64_t)m->kv_lora + m->rope_mla;
    return MB_SUM(m->q_lora * (4 + es), mb_sat_mul(mb_sat_mul(heads, latent + m->kv_lora), es), latent * 4);
}

/* One row of the rank's part: what its heads and its share of the FFN make of it. */
static int64_t part_row(const struct mb_budget_view *v)
{
    const struct mb_model *m = v->m;
    struct mb_part_heads h = mb_part_heads(m, v->tensor.r, v->tensor.of);
    int64_t q = mb_sat_mul(h.heads, m->head_dim), o = mb_sat_mul(h.heads, m->v_dim), es = v->es,
            H = m->hidden;
    int64_t qkv = m->mla ? q : mb_sat_add(q, mb_sat_mul(h.kv_heads, (int64_t)m->head_dim + m->v_dim));
    int64_t f = mb_most(mb_part_width(m->ffn, v->tensor.r, v->tensor.of),
                        mb_part_width(m->shared_ffn, v->tensor.r, v->tensor.of));
    bool tp = v->p->layout.tp > 1, sp = v->p->layout.sp > 1;

    return MB_SUM(tp ? H * es : 0, mb_sat_mul(4, qkv), mb_sat_mul(es, mb_sat_add(q, o)),
                  mb_sat_mul(f, 8 + es), m->mla ? mla_row(m, h.heads, es) : 0, sp ? 28 : 20,
                  m->mla && v->o->n_adapters > 0 ? mb_sat_mul(h.heads, 4 * mb_most(m->kv_lora, m->v_dim))
                                                 : 0);
}

/* One row whose residual stream is kept here; an MTP module has one of its own, and its two inputs. */
static int64_t own_row(const struct mb_budget_view *v)
{
    return MB_SUM(v->m->hidden * (16 + v->es), v->o->mtp && v->last ? v->m->hidden * (4 + 2 * v->es) : 0,
                  (int64_t)v->m->router.experts * 4, (int64_t)v->m->router.k * 8, 8,
                  v->m->weight_inside ? v->m->hidden * v->es : 0);
}

static int64_t head_bytes(const struct mb_budget_view *v)
{
    const struct mb_model *m = v->m;
    const struct mb_layout *l = &v->p->layout;
    int64_t H = m->hidden, cols = mb_columns(m->vocab, v->tensor);

    if (!v->attends || !v->last)
        return 0;
    int64_t shared =
        MB_SUM(H * (4 + v->es), 4, l->tp > 1 ? H * v->es : 0, l->tp * l->sp > 1 ? mb_sat_mul(cols, 4) : 0);
    int64_t drawn = MB_SUM((int64_t)m->vocab * 4, 28, 8 * TOP, (int64_t)sizeof(struct mb_sample_row));
    return MB_SUM(mb_sat_mul(v->logit_rows, shared), v->sampler ? mb_sat_mul(v->logit_rows, drawn) : 0,
                  v->sampler ? ADJUST * (int64_t)sizeof(struct mb_sample_adjust) : 0);
}

static int64_t rope_bytes(const struct mb_budget_view *v)
{
    int64_t tables = v->m->rope_switch > 0 ? 2 : 1;
    return MB_SUM(mb_sat_mul(mb_sat_mul(v->p->max_len + 1, v->m->rope_dim / 2), 8 * tables),
                  v->m->q_growth != 0 ? mb_sat_mul(4, v->p->max_len + 1) : 0);
}

/* Routing of a step on the host, of every layer of the model. */
static int64_t routing_bytes(const struct mb_budget_view *v)
{
    int64_t R = v->p->max_batch_rows, each = mb_sat_mul(R, v->m->router.k),
            n = mb_sat_mul((int64_t)v->m->moe_layers + v->o->mtp, each) + 1;
    return MB_SUM(mb_sat_mul(n, v->o->save_routing ? 12 : 8), v->o->save_routing ? 0 : 4,
                  v->p->layout.lane_scope ? mb_sat_mul(4, each + 1) : 4, 4 * R,
                  v->m->weight_inside ? mb_sat_mul(4, R + 1) : 4);
}

int64_t mb_budget_activations(const struct mb_budget_view *v, int64_t *expert_row_bytes, int64_t *expert_rows)
{
    const struct mb_model *m = v->m;
    int64_t f = mb_part_width(m->expert_ffn, v->slice.r, v->slice.of), rows = ROWS_GROWN;
    bool unrounded = (mb_budget_tagged(v->o) || v->p->layout.etp > 1) && v->o->path != MB_F32;

    while (rows < v->pairs)
        rows = mb_sat_mul(rows, 2);
    *expert_rows = v->pairs > 0 ? rows : 0;
    *expert_row_bytes =
        MB_SUM(mb_sat_mul(f, 8 + v->es), (int64_t)m->hidden * v->es, unrounded ? 4 * (int64_t)m->hidden : 0);
    return MB_SUM(mb_sat_mul(part_row(v), v->R), mb_sat_mul(own_row(v), v->own), head_bytes(v), rope_bytes(v),
                  routing_bytes(v),
                  v->attends ? mb_sat_mul(4 * (int64_t)v->p->max_num_seqs, v->p->max_pages_per_seq) : 0,
                  mb_sat_mul(*expert_row_bytes, *expert_rows), mb_budget_adapter_rows(v));
}

int64_t mb_budget_posts(const struct mb_budget_view *v)
{
    const struct mb_layout *l = &v->p->layout;

    if (l->tp * l->sp * l->pp == 1 || !v->attends)
        return 0;
    return MB_SUM(
        mb_sat_mul(v->R, v->leads ? 24 * ((int64_t)l->tp * l->sp * l->pp - 1) : 0),
        v->last ? 0 : mb_sat_mul(v->own, 4 * (int64_t)v->m->hidden),
        v->sampler && v->o->save_logits ? mb_sat_mul(v->R, (1 + v->o->mtp) * 4 * (int64_t)v->m->vocab) : 0);
}

/* Rows of a step for the results. */
static int64_t found_bytes(const struct mb_budget_view *v)
{
    const struct mb_layout *l = &v->p->layout;
    int64_t R = v->p->max_batch_rows, H = v->m->hidden;
    int64_t routes = v->o->save_routing ? mb_sat_mul(mb_sat_mul(v->m->moe_layers, R), v->m->router.k) : 0;
    int64_t planes = v->o->save_hidden ? mb_sat_mul(mb_sat_mul(v->m->layers + 1, R), H) : 0;
    bool alone = l->tp * l->sp * l->pp == 1;

    return MB_SUM(mb_sat_mul(R, 4 * (5 + 2 * TOP)), mb_sat_mul(4, planes + 1),
                  v->leads && !alone ? mb_sat_mul(4, MB_SUM(mb_sat_mul(3, routes), planes, 4)) : 0);
}

static int64_t kept_host(const struct mb_budget_view *v)
{
    int64_t per = mb_sat_mul(v->m->moe_layers, v->m->router.k), L = v->logit_rows;
    int64_t row = mb_most(mb_most(v->o->save_logits ? mb_sat_mul(L, v->m->vocab) : 0,
                                  mb_sat_mul(v->m->hidden, v->o->save_hidden ? v->m->layers + 1 : 1)),
                          per);

    return MB_SUM(mb_sat_mul(4, row + 1), mb_sat_mul(2, 2 * per + 1), mb_sat_mul(L, 8 * TOP + 12),
                  mb_sat_mul(L, (int64_t)sizeof(struct mb_sample_row)), found_bytes(v));
}

/* While weights are read: the reader's window, a chunk in the form of the file, and one in f32. Afterwards:
 * the rooms. The rotation tables are made before, and given back. Rows of the results are kept. */
int64_t mb_budget_staging(const struct mb_budget_view *v, int64_t kept)
{
    struct mb_load_sizes n;

    mb_load_sizes_of(v->m, &n);
    int64_t load = MB_SUM(n.window, n.pack, n.f32, n.scales), window = MB_SUM(n.window, n.scales);
    for (int32_t i = 0; i < v->o->n_adapters; i++) {
        mb_load_sizes_of_adapter(v->o->adapters[i], &n);
        load = mb_most(load, MB_SUM(n.window, n.pack, n.f32));
    }
    /* experts on demand are read through a window of their own, and come and go in pieces */
    int64_t I = v->m->expert_ffn, H = v->m->hidden,
            piece = mb_least(MB_LOAD_CHUNK, mb_sat_mul(v->es * mb_most(H, I), mb_most(H, 2 * I)));
    int64_t demand = v->p->zero > 0 ? MB_SUM(window, mb_sat_mul(3, piece)) : 0;

    return MB_SUM(kept_host(v), mb_most(mb_most(rope_bytes(v), load), mb_sat_add(kept, demand)));
}
