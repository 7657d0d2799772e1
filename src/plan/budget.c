/* Resident memory of a rank, predicted from shapes: weights, experts, KV pages, and the sums of its buffers
 * (rooms.h); mpi_budget holds the prediction against the account of a real run. */
#include "plan/budget.h"
#include "model/reader.h"

#define PANEL 16 /* outputs are packed in panels of 16 */
#define LOGIT_ROWS 256
#define LOGIT_BYTES ((int64_t)64 << 20) /* of logits at a time */
#define BLOCK 32                        /* and inputs in blocks of 32, from the start of each leaf */

int64_t mb_sat_mul(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t mb_sat_add(int64_t a, int64_t b)
{
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

int64_t mb_sat_sum(const int64_t *v, int n)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum = mb_sat_add(sum, v[i]);
    return sum;
}

static int64_t round_up(int64_t v, int64_t to)
{
    return v > INT64_MAX - to ? INT64_MAX : (v + to - 1) / to * to;
}

int64_t mb_budget_weight(int64_t n, int64_t k, int64_t unit, struct mb_part_of s, enum mb_dtype t)
{
    int64_t begin[MB_MAX_LEAVES + 1] = {0, k}, padded = 0;
    int32_t leaves = unit > 0 && k > 0 ? mb_k_leaves(k, unit, begin) : 1;
    int32_t to = unit > 0 ? (int32_t)mb_share(leaves, s.r + 1, s.of) : leaves;

    for (int32_t i = unit > 0 ? (int32_t)mb_share(leaves, s.r, s.of) : 0; i < to; i++)
        padded = mb_sat_add(padded, round_up(begin[i + 1] - begin[i], BLOCK));
    return mb_sat_mul(mb_sat_mul(round_up(n, PANEL), padded), mb_dtype_size(t));
}

/* The same of a weight kept as stored: each tree node of the share is one of its own, with the groups it touches. */
static int64_t stored_bytes(int64_t n, int64_t k, int64_t unit, struct mb_part_of s, const struct mb_form *f)
{
    int64_t begin[MB_MAX_LEAVES + 1] = {0, k}, sum = 0;
    int32_t leaves = unit > 0 && k > 0 ? mb_k_leaves(k, unit, begin) : 1, first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];
    int32_t nodes = unit > 0 ? mb_part_nodes(leaves, s.r, s.of, first, count) : (first[0] = 0, count[0] = 1);

    for (int32_t i = 0; i < nodes; i++) {
        struct mb_form g = *f;
        int64_t blocks = 0, a = begin[first[i]], b = begin[first[i] + count[i]];
        for (int32_t l = first[i]; l < first[i] + count[i]; l++)
            blocks += (begin[l + 1] - begin[l] + BLOCK - 1) / BLOCK;
        g.k0 += a;
        if (g.code == MB_CODE_S8)
            g.groups = count[i];
        int64_t panel = mb_form_panel_bytes(&g, blocks, mb_form_groups(&g, b - a));
        sum = MB_SUM(sum, mb_sat_mul(round_up(n, PANEL) / PANEL, panel), mb_form_extra_bytes(&g, n, b - a));
    }
    return sum;
}

static int64_t kept_bytes(int64_t n, int64_t k, int64_t unit, struct mb_part_of s, enum mb_dtype t, struct mb_form f)
{
    return n < 1 || k < 1 || f.code == MB_CODE_NONE ? mb_budget_weight(n, k, unit, s, t) : stored_bytes(n, k, unit, s, &f);
}

/* The form of up to three matrices of a layer that make one weight. */
static struct mb_form form_of(const struct mb_model *m, int32_t layer, int n, const enum mb_role *role)
{
    const struct mb_tensor *t[3];

    for (int i = 0; i < n; i++)
        if ((t[i] = mb_model_tensor(m, role[i], layer, -1)) == NULL)
            return (struct mb_form){0};
    return mb_model_form_of(m, t, n);
}
#define FORM(m, layer, ...)                                                                                       \
    form_of(m, layer, (int)(sizeof((enum mb_role[]){__VA_ARGS__}) / sizeof(enum mb_role)), (enum mb_role[]){__VA_ARGS__})

/* gate and up (one weight of 2I outputs) and down. */
static int64_t ffn_bytes(const struct mb_model *m, int64_t inner, struct mb_part_of s, enum mb_dtype t,
                         struct mb_form gate_up, struct mb_form down)
{
    return mb_sat_add(kept_bytes(2 * mb_part_width(inner, s.r, s.of), m->hidden, 0, MB_WHOLE, t, gate_up),
                      kept_bytes(m->hidden, inner, mb_k_unit(inner), s, t, down));
}

static int64_t f32_bytes(int64_t n)
{
    return mb_sat_mul(n, 4);
}

int64_t mb_budget_expert(const struct mb_model *m, enum mb_dtype path, struct mb_part_of slice)
{
    struct mb_form gate_up = m->expert_form[0];

    gate_up.g_idx = (uint8_t)(2 * gate_up.g_idx);
    return ffn_bytes(m, m->expert_ffn, slice, path, gate_up, m->expert_form[1]);
}

static int64_t piece_of(int64_t n, int64_t k, enum mb_dtype t, const struct mb_form *f)
{
    bool wide = f->code == MB_CODE_NONE;
    int64_t row = wide ? mb_sat_mul(k, mb_dtype_size(t)) : mb_form_blob(f, 1, k).bytes,
            rows = mb_least(n, mb_most(1, MB_LOAD_CHUNK / mb_most(1, row)));

    return wide ? mb_sat_mul(rows, row) : mb_form_blob(f, rows, k).bytes;
}

int64_t mb_budget_piece(const struct mb_model *m, enum mb_dtype path)
{
    int64_t H = m->hidden, I = m->expert_ffn;

    return mb_most(4 * mb_most(H, 2 * I), mb_most(piece_of(2 * I, H, path, &m->expert_form[0]),
                                                  piece_of(H, I, path, &m->expert_form[1])));
}

/* Keys of a page are packed like a weight with d inputs and a column per position, values like one with dv
 * outputs. */
int64_t mb_budget_kv_page(const struct mb_model *m, const struct mb_plan_options *o,
                          const struct mb_budget_stage *g, struct mb_part_of s)
{
    int64_t keys = round_up(m->mla ? (int64_t)m->kv_lora + m->rope_mla : m->head_dim, BLOCK);
    int64_t width = m->mla ? keys
                           : mb_sat_mul(mb_part_heads(m, s.r, s.of).kv_heads,
                                        mb_sat_add(keys, round_up(m->v_dim, PANEL)));
    int64_t layers = (int64_t)g->last - g->first + (g->is_last && o->mtp ? m->mtp_layers : 0), indexers = 0;

    for (int32_t l = g->first; l < g->last; l++)
        layers -= mb_is_linear(m, l);
    int64_t scales = o->kv_dtype != MB_U8 ? 0 : m->mla ? 4 : 8 * (int64_t)mb_part_heads(m, s.r, s.of).kv_heads; /* of a position */

    for (int32_t l = g->first; m->indexer.topk > 0 && l < g->last; l++)
        indexers += !m->indexer.shares[l];
    scales = mb_sat_add(mb_sat_mul(scales, layers), o->kv_dtype == MB_U8 ? 4 * indexers : 0);
    width = mb_sat_add(mb_sat_mul(width, layers), mb_sat_mul(indexers, round_up(m->indexer.width, BLOCK)));
    return mb_sat_mul(MB_KV_BLOCK, mb_sat_add(mb_sat_mul(width, mb_dtype_size(o->kv_dtype)), scales));
}

static int64_t mla_bytes(const struct mb_model *m, int32_t layer, struct mb_part_of s, enum mb_dtype t)
{
    int64_t heads = mb_part_heads(m, s.r, s.of).heads, latent = (int64_t)m->kv_lora + m->rope_mla;
    int64_t q_in = m->q_lora > 0 ? m->q_lora : m->hidden;
    /* absorbed: W_UK^T and W_UV, one small weight per head each */
    enum mb_dtype wide = mb_model_narrow(m, t);
    int64_t head = mb_sat_add(mb_budget_weight(m->kv_lora, m->nope, 0, MB_WHOLE, wide),
                              mb_budget_weight(m->v_dim, m->kv_lora, 0, MB_WHOLE, wide));

    return MB_SUM(m->q_lora > 0 ? kept_bytes(m->q_lora, m->hidden, 0, MB_WHOLE, t, FORM(m, layer, MB_T_Q_A)) : 0,
                  kept_bytes(mb_sat_mul(heads, m->head_dim), q_in, 0, MB_WHOLE, t,
                             m->q_lora > 0 ? FORM(m, layer, MB_T_Q_BPROJ) : FORM(m, layer, MB_T_Q)),
                  kept_bytes(latent, m->hidden, 0, MB_WHOLE, t, FORM(m, layer, MB_T_KV_A)), mb_sat_mul(head, heads),
                  f32_bytes((int64_t)m->q_lora + m->kv_lora));
}

static int64_t indexer_bytes(const struct mb_model *m, int32_t layer, enum mb_dtype t)
{
    const struct mb_indexer *x = &m->indexer;

    if (x->topk == 0 || x->shares[layer])
        return 0;
    return MB_SUM(kept_bytes(mb_sat_mul(x->heads, x->width), m->q_lora, 0, MB_WHOLE, t, FORM(m, layer, MB_T_IX_Q)),
                  kept_bytes(x->width, m->hidden, 0, MB_WHOLE, t, FORM(m, layer, MB_T_IX_K)),
                  kept_bytes(x->heads, m->hidden, 0, MB_WHOLE, t, FORM(m, layer, MB_T_IX_W)), 2 * f32_bytes(x->width));
}

static int64_t delta_bytes(const struct mb_model *m, int32_t layer, struct mb_part_of s, enum mb_dtype t)
{
    const struct mb_delta_shape *d = &m->delta;
    struct mb_part_heads h = mb_part_delta(m, s.r, s.of);
    int64_t V = mb_sat_mul(h.heads, d->dv), C = mb_sat_add(mb_sat_mul(2 * (int64_t)h.kv_heads, d->dk), V);
    bool grouped = mb_model_tensor(m, MB_T_L_QKVZ, layer, -1) != NULL;

    return MB_SUM(kept_bytes(mb_sat_add(C, V), m->hidden, 0, MB_WHOLE, t,
                             grouped ? FORM(m, layer, MB_T_L_QKVZ) : FORM(m, layer, MB_T_L_QKV, MB_T_L_Z)),
                  kept_bytes(2 * (int64_t)h.heads, m->hidden, 0, MB_WHOLE, t,
                             grouped ? FORM(m, layer, MB_T_L_BA) : FORM(m, layer, MB_T_L_B, MB_T_L_A)),
                  kept_bytes(m->hidden, mb_sat_mul(d->value_heads, d->dv), d->dv, s, t, FORM(m, layer, MB_T_L_OUT)),
                  f32_bytes(MB_SUM(mb_sat_mul(C, d->taps), 2 * (int64_t)h.heads, d->dv)));
}

static int64_t attention_bytes(const struct mb_model *m, int32_t layer, struct mb_part_of s, enum mb_dtype t)
{
    struct mb_part_heads h = mb_part_heads(m, s.r, s.of);
    int64_t q = mb_sat_mul(h.heads, m->head_dim), o = mb_sat_mul(m->heads, m->v_dim);
    int64_t qkv = mb_sat_add(q, mb_sat_mul(h.kv_heads, (int64_t)m->head_dim + m->v_dim));
    int64_t norms = m->qk_norm == MB_QKNORM_WHOLE   ? mb_sat_add(q, mb_sat_mul(h.kv_heads, m->head_dim))
                    : mb_qknorm_by_head(m->qk_norm) ? 2 * (int64_t)m->head_dim
                                                    : 0;

    return MB_SUM(kept_bytes(m->hidden, o, m->v_dim, s, t, FORM(m, layer, MB_T_O)), m->o_bias ? f32_bytes(m->hidden) : 0,
                  m->mla ? mla_bytes(m, layer, s, t)
                         : kept_bytes(m->q_gate ? mb_sat_add(qkv, q) : qkv, m->hidden, 0, MB_WHOLE, t,
                                      m->q_gate ? FORM(m, layer, MB_T_QG, MB_T_K, MB_T_V) : FORM(m, layer, MB_T_Q, MB_T_K, MB_T_V)),
                  m->qkv_bias ? f32_bytes(qkv) : 0, f32_bytes(norms), m->sinks ? f32_bytes(h.heads) : 0, indexer_bytes(m, layer, t));
}

/* The router with its biases; a model known only by its shapes has none. */
static int64_t router_bytes(const struct mb_model *m, int32_t layer)
{
    bool bias = mb_model_tensor(m, MB_T_ROUTER_B, layer, -1) != NULL;
    bool choice = mb_model_tensor(m, MB_T_ROUTER_BIAS, layer, -1) != NULL;
    return f32_bytes(mb_sat_mul(m->router.experts, (int64_t)m->hidden + bias + choice));
}

static int64_t layer_bytes(const struct mb_model *m, int32_t layer, struct mb_part_of s, struct mb_part_of linear, enum mb_dtype t)
{
    int64_t norms = f32_bytes((2 + 2 * (int64_t)m->post_norms) * m->hidden * (m->norm_bias ? 2 : 1));
    int64_t sum = mb_sat_add(mb_is_linear(m, layer) ? delta_bytes(m, layer, linear, t) : attention_bytes(m, layer, s, t), norms);

    if (!m->is_moe[layer])
        return MB_SUM(sum, ffn_bytes(m, m->ffn, s, t, FORM(m, layer, MB_T_GATE, MB_T_UP), FORM(m, layer, MB_T_DOWN)),
                      m->mlp_bias ? f32_bytes(2 * mb_part_width(m->ffn, s.r, s.of) + m->hidden) : 0);
    return MB_SUM(sum, router_bytes(m, layer),
                  m->shared_ffn > 0 ? ffn_bytes(m, m->shared_ffn, s, t, FORM(m, layer, MB_T_SH_GATE, MB_T_SH_UP),
                                                FORM(m, layer, MB_T_SH_DOWN))
                                    : 0,
                  m->shared_gate ? f32_bytes(m->hidden) : 0);
}

/* Embedding and head. The table stays as stored; a tied LM head is a second, packed copy. */
static int64_t ends_bytes(const struct mb_model *m, const struct mb_budget_stage *g, struct mb_part_of s,
                          bool mtp, enum mb_dtype t)
{
    /* the embedding is the first tensor of the sorted table; a model known only by its shapes has none */
    int64_t esize = m->n_tensors > 0 && m->tensors[0].storage == MB_STORE_BF16 ? 2 : 4,
            cols = mb_columns(m->vocab, s);
    int64_t sum = g->is_first || (mtp && g->is_last) ? mb_sat_mul(mb_sat_mul(cols, m->hidden), esize) : 0;

    if (!g->is_last)
        return sum;
    struct mb_form head = mb_model_tensor(m, MB_T_HEAD, -1, -1) != NULL ? FORM(m, -1, MB_T_HEAD) : FORM(m, -1, MB_T_EMBED);
    return MB_SUM(sum, kept_bytes(cols, m->hidden, 0, MB_WHOLE, t, head), m->head_bias ? f32_bytes(cols) : 0,
                  f32_bytes((m->norm_bias ? 2 : 1) * (int64_t)m->hidden));
}

int64_t mb_budget_dense(const struct mb_model *m, const struct mb_plan_options *o, const struct mb_budget_stage *g,
                        struct mb_part_of s, struct mb_part_of linear)
{
    bool mtp = o->mtp && m->mtp_layers > 0;
    int64_t sum = ends_bytes(m, g, s, mtp, o->path);

    for (int32_t l = g->first; l < g->last; l++)
        sum = mb_sat_add(sum, layer_bytes(m, l, s, linear, o->path));
    if (mtp && g->is_last)
        sum = MB_SUM(sum, layer_bytes(m, m->layers, s, linear, o->path), f32_bytes(3 * (int64_t)m->hidden),
                     kept_bytes(m->hidden, 2 * (int64_t)m->hidden, 0, MB_WHOLE, o->path, FORM(m, m->layers, MB_T_MTP_PROJ)));
    return sum;
}

/* Rows of a step whose logits are held at a time. */
static int64_t logit_rows(const struct mb_model *m, const struct mb_plan *p)
{
    int64_t n = mb_least(p->max_batch_rows, LOGIT_ROWS);
    while (n > 1 && mb_sat_mul(n, 4 * (int64_t)m->vocab) > LOGIT_BYTES)
        n /= 2;
    return n;
}

/* Rows of a member whose group has a full step. */
static int64_t member_rows(const struct mb_plan *p)
{
    return (p->max_batch_rows + p->layout.tp - 1) / p->layout.tp;
}

/* (row, expert) pairs a rank computes at a time: the rows of all batches that meet in an exchange, divided
 * among the copies (a sequence group's rows may all be those of one part, and so go to one copy). Balanced
 * routing gives an expert rows * k / experts of them; twice that is planned for, and one row of each member
 * that sends, never more than there can be. each: what one member may send of them (a sequence group counts
 * as one). */
static int64_t expert_pairs(const struct mb_model *m, const struct mb_plan *p, int32_t owned, int64_t *each)
{
    const struct mb_layout *l = &p->layout;
    int64_t batches = (int64_t)l->adp * (l->lane_scope ? l->pp : 1), k = m->router.k,
            rows = mb_sat_mul(batches, p->max_batch_rows);

    *each = 0;
    if (m->router.experts == 0 || owned == 0)
        return 0;
    int64_t even = mb_sat_mul(mb_sat_mul(2 * rows, k), owned) /
                       ((int64_t)m->router.experts * (l->sp == 1 ? l->edp : 1)) +
                   1;
    int64_t most = mb_sat_mul(rows, mb_least(k, owned)),
            pairs = mb_sat_add(even, mb_sat_mul(batches * l->tp * l->sp, k));
    if (pairs >= most) {
        *each = mb_sat_mul(member_rows(p), k);
        return most;
    }
    *each = mb_sat_add(even / (batches * l->tp), k);
    return pairs;
}

static struct mb_budget_view view_of(const struct mb_model *m, const struct mb_plan *p,
                                     const struct mb_plan_options *o, const struct mb_budget_rank *r)
{
    const struct mb_layout *l = &p->layout;
    bool attends = r->at.a >= 0;
    struct mb_budget_view v = {.m = m,
                               .p = p,
                               .o = o,
                               .r = r,
                               .attends = attends,
                               .es = mb_dtype_size(o->path),
                               .ys = mb_dtype_size(mb_model_narrow(m, o->path)),
                               .tensor = attends ? (struct mb_part_of){r->at.t, l->tp}
                                                 : (struct mb_part_of){0, l->tp},
                               .linear = mb_linear_share(l, attends ? r->at.q : 0, attends ? r->at.t : 0),
                               .slice = {r->at.e >= 0 ? r->at.x : 0, l->etp},
                               .R = attends ? p->max_batch_rows : 0};

    v.last = r->at.stage == l->pp - 1;
    v.sampler = attends && v.last && r->at.q == 0 && r->at.t == 0;
    v.leads = mb_place_leads(&r->at);
    v.own = (v.R + l->tp - 1) / l->tp;
    v.pairs = expert_pairs(m, p, r->at.e >= 0 ? r->owned : 0, &v.pairs_each);
    v.logit_rows = logit_rows(m, p);
    return v;
}

static int64_t limited(uint64_t bytes)
{
    return bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
}

/* Whether rows will say which copies serve them; without a placement yet, whether a maker's has quotas. */
static bool chosen(const struct mb_plan *p, const struct mb_plan_options *o)
{
    return p->placement != NULL ? p->placement->quota != NULL
                                : o->usage != NULL && o->redundant > 0 && o->zero == 0;
}

/* The exchange of the rank's group: members are consecutive, and so are those of a node. */
static struct mb_xchg_shape shape_of(const struct mb_budget_view *v)
{
    const struct mb_plan *p = v->p;
    const struct mb_layout *l = &p->layout;
    int32_t group = mb_layout_group(l), first = v->r->at.index - v->r->at.member;
    int32_t a = v->r->node0 > first ? v->r->node0 : first,
            b = v->r->node1 < first + group ? v->r->node1 : first + group;
    bool hier = p->alltoall == MB_A2A_HIER, moe = v->m->router.experts > 0;
    int64_t shm = limited(v->o->shm_bytes);
    struct mb_xchg_shape s = {.members = group,
                              .ids = mb_most(v->m->router.experts, 1) * (l->lane_scope ? l->pp : 1),
                              .nodes = hier ? p->node_of[first + group - 1] - p->node_of[first] + 1 : group,
                              .near = hier ? b - a : 1,
                              .widest = hier ? mb_least(v->r->widest, group) : 1,
                              .k = moe ? v->m->router.k : 1,
                              .hidden = v->m->hidden,
                              .x_size = v->es,
                              .y_size = v->ys,
                              .tagged = mb_budget_tagged(v->o),
                              .chosen = chosen(p, v->o),
                              .own = moe ? v->own : 0,
                              .each = moe ? member_rows(p) : 0,
                              .pairs = v->pairs,
                              .pairs_each = v->pairs_each,
                              .together = b - a};

    s.holders = hier ? s.nodes : mb_layout_expert(l) * (l->lane_scope ? l->pp : 1);
    s.rows = moe ? mb_sat_mul((int64_t)l->adp * (l->lane_scope ? l->pp : 1), p->max_batch_rows) : 0;
    s.others = s.rows - (l->sp == 1 ? s.own : 0); /* all rows of a sequence group may be one part's */
    int64_t row = mb_plan_dispatch_row_bytes((int32_t)s.k, s.hidden, v->o->path, s.tagged, s.chosen),
            most = mb_xchg_message(p->max_batch_rows, s.k, s.hidden, row);
    s.eager = mb_least(limited(v->o->eager_bytes), most);
    s.shm = hier ? shm : mb_xchg_rings(s.together, mb_xchg_ring(shm, s.together, s.ids > 1 ? most : 0));
    return s;
}

static void fill_rooms(const struct mb_budget_view *v, struct mb_rooms *out)
{
    struct mb_xchg_room x;

    *out = (struct mb_rooms){.shape = shape_of(v)};
    mb_xchg_room_of(&out->shape, &x);
    out->shm = x.shm;
    for (int i = 0; i < MB_XB_COUNT; i++)
        out->bytes[i] = x.bytes[i];
    mb_budget_step_rooms(v, out->bytes);
}

void mb_budget_rooms(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                     const struct mb_budget_rank *r, struct mb_rooms *out)
{
    struct mb_budget_view v = view_of(m, p, o, r);

    fill_rooms(&v, out);
}

int32_t mb_budget_kept(const struct mb_plan *p, int64_t layers, int64_t experts, int64_t held)
{
    int64_t even = (held + p->layout.ep - 1) / p->layout.ep, asked = (even * p->zero + 99) / 100;

    return (int32_t)mb_least(mb_most(asked, layers * p->min_experts + 1), layers * experts);
}

int32_t mb_budget_served(int64_t owned, int64_t kept, int64_t experts)
{
    return (int32_t)mb_least(mb_most(owned, kept), experts);
}

struct mb_budget mb_budget_fixed(const struct mb_model *m, const struct mb_plan *p,
                                 const struct mb_plan_options *o, const struct mb_budget_rank *r)
{
    struct mb_budget_view v = view_of(m, p, o, r);
    struct mb_budget_stage g = {p->first_layer[r->at.stage], p->first_layer[r->at.stage + 1],
                                r->at.stage == 0, v.last};
    struct mb_budget b = {0};
    struct mb_rooms rooms;
    int64_t biases =
        m->expert_bias ? f32_bytes(2 * mb_part_width(m->expert_ffn, v.slice.r, v.slice.of) + m->hidden) : 0;

    fill_rooms(&v, &rooms);
    b.weights = MB_SUM(r->dense, r->adapters, mb_sat_mul(r->experts, biases));
    b.experts = mb_sat_mul(r->experts, mb_budget_expert(m, o->path, v.slice));
    b.activations = MB_SUM(mb_rooms_sum(&rooms, MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS),
                           mb_rooms_sum(&rooms, MB_ROOM_HOST, MB_MEM_ACTIVATIONS));
    int64_t posts = mb_budget_posts(&v);
    b.late = mb_sat_mul(p->layout.pp - 1, posts);
    b.exchange = MB_SUM(mb_rooms_sum(&rooms, MB_ROOM_DEVICE, MB_MEM_EXCHANGE),
                        mb_rooms_sum(&rooms, MB_ROOM_HOST, MB_MEM_EXCHANGE), rooms.shm, posts, b.late);
    b.staging = mb_budget_staging(&v, &rooms);
    b.state = mb_rooms_sum(&rooms, MB_ROOM_DEVICE, MB_MEM_KV);
    b.kv_page_bytes = v.attends ? mb_budget_kv_page(m, o, &g, v.tensor) : 0;
    return b;
}
