/* Memory in which the shares of a group travel (engine/share.c, segments.c, head.c, experts.c): rows gathered
 * over tensor ranks, tree nodes of shared sums, states of KV segments, slices of experts. Each buffer is as
 * large as its largest use. */
#include "plan/budget.h"

/* Maximal nodes of a share of so many leaves, and of all shares together. */
static int64_t nodes_of(int32_t leaves, struct mb_part_of s, int64_t *all)
{
    int32_t first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];
    int64_t here = 0;

    *all = 0;
    for (int32_t r = 0; r < s.of; r++) {
        int32_t n = mb_part_nodes(leaves, r, s.of, first, count);
        *all += n;
        here = r == s.r ? n : here;
    }
    return here;
}

/* The most nodes that any sum divided over the tensor group has, here and in all. */
static void tensor_nodes(const struct mb_budget_view *v, int64_t *here, int64_t *all)
{
    const struct mb_model *m = v->m;
    const int64_t k[] = {mb_sat_mul(m->heads, m->v_dim), m->ffn, m->shared_ffn};
    const int64_t unit[] = {m->v_dim, mb_k_unit(m->ffn), mb_k_unit(m->shared_ffn)};
    int64_t begin[MB_MAX_LEAVES + 1], n;

    *here = *all = 0;
    for (int i = 0; i < 3; i++) {
        if (k[i] == 0)
            continue;
        *here = mb_most(*here, nodes_of(mb_k_leaves(k[i], unit[i], begin), v->tensor, &n));
        *all = mb_most(*all, n);
    }
}

static void grow(int64_t *b, int64_t bytes)
{
    *b = mb_most(*b, bytes);
}

static void tensor(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    const struct mb_model *m = v->m;
    int64_t H = m->hidden, here, all, row = mb_sat_mul(H, 4);

    tensor_nodes(v, &here, &all);
    grow(&t->parts, mb_sat_mul(mb_sat_mul(here, v->R), row));
    grow(&t->inner, mb_sat_mul(mb_sat_mul(all, v->own), row));
    grow(&t->idx, mb_sat_mul(4, MB_SUM(mb_sat_mul(v->own, 1 + 3 * all), v->R, 2)));
    grow(&t->gathered, v->r->at.stage == 0 || (v->o->mtp && v->last) ? mb_sat_mul(v->R, row) : 0);
    grow(&t->send, mb_sat_mul(mb_sat_mul(mb_most(here, 1), v->R), row));
    grow(&t->recv, mb_most(mb_sat_mul(mb_sat_mul(all, v->own), row), mb_sat_mul(v->R, H * v->es)));
    grow(&t->ints, mb_sat_mul(8, v->R + 1));
    if (m->qk_norm == MB_QKNORM_WHOLE) {
        int64_t heads = mb_sat_mul(4 * v->R, (int64_t)m->heads + m->kv_heads);
        grow(&t->square, heads);
        grow(&t->recv, mb_sat_mul(2, heads));
        grow(&t->ints, heads);
    }
}

/* Logits of a group meet on the rank that samples. */
static void head(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    if (!v->last)
        return;
    grow(&t->z, mb_sat_mul(mb_sat_mul(v->logit_rows, mb_columns(v->m->vocab, v->tensor)), 4));
    grow(&t->recv, v->sampler ? mb_sat_mul(v->logit_rows, 4 * (int64_t)v->m->vocab) : 0);
}

/* Every row may look at as many segments as its sequence can have; a part makes the states of its own, and
 * completes those of its own rows from all. Rows are taken in blocks of bounded size. */
static void segments(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    const struct mb_model *m = v->m;
    int64_t seg = v->o->segment > 0 ? v->o->segment : MB_KV_SEGMENT, all = (v->p->max_len + seg - 1) / seg;
    int64_t mine = mb_most(1, mb_layout_part_most(v->p->layout.sp, all)),
            heads = mb_part_heads(m, v->tensor.r, v->tensor.of).heads;
    int64_t q = mb_sat_mul(heads, m->mla ? (int64_t)m->kv_lora + m->rope_mla : m->head_dim);
    int64_t state = mb_sat_mul(mb_sat_mul(heads, (int64_t)(m->mla ? m->kv_lora : m->v_dim) + 2), 4);
    int64_t cells = mb_least(mb_sat_mul(v->R, all), mb_most(all, mb_state_cells(0, state))),
            rows = mb_least(v->R, cells), items = mb_least(cells, mb_sat_mul(v->R, mine));

    grow(&t->q_all, mb_sat_mul(v->R, mb_sat_mul(q, v->es)));
    grow(&t->state, mb_sat_mul(items, state));
    grow(&t->nodes, mb_sat_mul(mb_sat_add(items, cells), state));
    grow(&t->idx, mb_sat_mul(4, MB_SUM(2 * rows, mb_sat_mul(10, items), mb_sat_mul(5, cells), 18)));
    grow(&t->ints, mb_sat_mul(4, MB_SUM(2 * rows, mb_sat_mul(6, cells), mb_sat_mul(4, all), 12)));
    grow(&t->send, mb_most(mb_sat_mul(items, state), mb_sat_mul(v->R, mb_sat_mul(q, v->es))));
    grow(&t->recv, mb_most(mb_sat_mul(cells, state), mb_sat_mul(v->R, mb_sat_mul(q, v->es))));
}

static void slices(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    const struct mb_model *m = v->m;
    int64_t begin[MB_MAX_LEAVES + 1], all, row = mb_sat_mul(m->hidden, 4), es = v->es;
    int64_t here = nodes_of(mb_k_leaves(m->expert_ffn, mb_k_unit(m->expert_ffn), begin), v->slice, &all),
            P = v->pairs;

    grow(&t->parts, mb_sat_mul(mb_sat_mul(here, P), row));
    grow(&t->inner, mb_sat_mul(mb_sat_mul(all, P), row));
    grow(&t->idx, mb_sat_mul(4, mb_sat_mul(P, 1 + 3 * all)));
    grow(&t->gathered, mb_sat_mul(P, (int64_t)m->hidden * es));
    grow(&t->send, mb_sat_mul(mb_sat_mul(here, P), row));
    grow(&t->recv, mb_sat_mul(mb_sat_mul(all, P), row));
    grow(&t->ints, mb_sat_mul(8 * (int64_t)v->slice.of,
                              mb_sat_mul(v->r->owned, v->p->layout.lane_scope ? v->p->layout.pp : 1) + 1));
}

/* A x of adapters' terms travels as the sums of the weights do, with as many columns as the adapters' rank;
 * lists of terms and tags of rows are with it. */
static void adapters(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    int64_t row = 4 * mb_budget_adapter_rank(v->o), here, all, rows = mb_most(v->R, v->pairs);
    int64_t begin[MB_MAX_LEAVES + 1];

    if (v->o->n_adapters == 0)
        return;
    grow(&t->terms, mb_sat_mul(rows, 32));
    if (v->p->layout.tp > 1 && v->attends) {
        tensor_nodes(v, &here, &all);
        grow(&t->low, mb_sat_mul(v->own, row));
        grow(&t->parts, mb_sat_mul(mb_sat_mul(here, v->R), row));
        grow(&t->inner, mb_sat_mul(mb_sat_mul(all, v->own), row));
        grow(&t->send, mb_sat_mul(mb_sat_mul(here, v->R), row));
        grow(&t->recv, mb_sat_mul(mb_sat_mul(all, v->own), row));
    }
    if (v->p->layout.etp > 1 && v->pairs > 0 && mb_budget_tagged(v->o)) {
        here = nodes_of(mb_k_leaves(v->m->expert_ffn, mb_k_unit(v->m->expert_ffn), begin), v->slice, &all);
        grow(&t->tags, mb_sat_mul(2, v->pairs));
        grow(&t->low, mb_sat_mul(v->pairs, row));
        grow(&t->parts, mb_sat_mul(mb_sat_mul(here, v->pairs), row));
        grow(&t->inner, mb_sat_mul(mb_sat_mul(all, v->pairs), row));
        grow(&t->send, mb_sat_mul(mb_sat_mul(here, v->pairs), row));
        grow(&t->recv, mb_sat_mul(mb_sat_mul(all, v->pairs), row));
    }
}

void mb_budget_transit(const struct mb_budget_view *v, struct mb_transit_room *t)
{
    const struct mb_layout *l = &v->p->layout;

    *t = (struct mb_transit_room){0};
    if (l->tp > 1 && v->attends)
        tensor(v, t);
    if (l->tp * l->sp > 1 && v->attends)
        head(v, t);
    if (l->sp > 1 && v->attends)
        segments(v, t);
    if (l->etp > 1 && v->pairs > 0)
        slices(v, t);
    adapters(v, t);
    if (l->pp > 1 && v->attends)
        grow(&t->send, v->last ? 0 : mb_sat_mul(v->own, 4 * (int64_t)v->m->hidden));
}

/* A buffer has 64 bytes of slack. */
static int64_t slack(int64_t bytes)
{
    return bytes > 0 ? mb_sat_add(bytes, 64) : 0;
}

int64_t mb_transit_room_bytes(const struct mb_transit_room *t)
{
    return MB_SUM(slack(t->parts), slack(t->inner), slack(t->idx), slack(t->gathered), slack(t->square),
                  slack(t->q_all), slack(t->state), slack(t->nodes), slack(t->low));
}

int64_t mb_transit_room_pinned(const struct mb_transit_room *t)
{
    return MB_SUM(slack(t->send), slack(t->recv), slack(t->ints), slack(t->z), slack(t->terms),
                  slack(t->tags));
}
