/* How large the buffers of a step are: the engine's rows of the table in rooms.c. Shares of heads, of the FFN
 * and of rows are this rank's. A buffer in which shares travel is as large as its largest use. */
#include "plan/budget.h"

#define TOP 20 /* most log-probabilities a row can ask for */

static int64_t mul(int64_t a, int64_t b)
{
    return mb_sat_mul(a, b);
}

static void grow(int64_t *b, int64_t bytes)
{
    *b = mb_most(*b, bytes);
}

/* ---------------------------------------------------------------- rows of the part, and own ones */

/* Of a layer at a time; the choice stays for the layers that share it. */
static void indexer(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_indexer *x = &v->m->indexer;
    int64_t q = mul(x->heads, x->width);

    if (x->topk == 0)
        return;
    b[MB_SB_INDEX_Q] = mul(v->R, mul(q, 4));
    b[MB_SB_INDEX_QR] = mul(v->R, mul(q, v->es));
    b[MB_SB_INDEX_K] = mul(v->R, (int64_t)x->width * 4);
    b[MB_SB_INDEX_W] = mul(v->R, (int64_t)x->heads * 4);
    b[MB_SB_CHOSEN] = mul(v->R, mb_budget_choice(v->m));
}

static void attention(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    struct mb_part_heads h = mb_part_heads(m, v->tensor.r, v->tensor.of);
    int64_t R = v->R, es = v->es, q = mul(h.heads, m->head_dim), latent = (int64_t)m->kv_lora + m->rope_mla;
    int64_t qkv = m->mla ? q : mb_sat_add(q, mul(h.kv_heads, (int64_t)m->head_dim + m->v_dim));

    b[MB_SB_QKV] = mul(R, mul(m->q_gate ? mb_sat_add(qkv, q) : qkv, 4));
    b[MB_SB_ATTN_F] = m->q_gate ? mul(R, mul(mul(h.heads, m->v_dim), 4)) : 0;
    b[MB_SB_Q] = mul(R, mul(q, v->ys));
    b[MB_SB_ATTN] = mul(R, mul(mul(h.heads, m->v_dim), es));
    if (!m->mla)
        return;
    b[MB_SB_QA] = mul(R, (int64_t)m->q_lora * 4);
    b[MB_SB_QA_H] = mul(R, m->q_lora * es);
    b[MB_SB_QLAT] = mul(R, mul(mul(h.heads, latent), v->ys));
    b[MB_SB_OLAT] = mul(R, mul(mul(h.heads, m->kv_lora), v->ys));
    b[MB_SB_KVA] = mul(R, latent * 4);
    if (v->o->n_adapters > 0)
        b[MB_SB_HEAD_F] = mul(R, mul(h.heads, 4 * mb_most(m->kv_lora, m->v_dim)));
    indexer(v, b);
}

/* Gated DeltaNet: rows on their way, and what is kept of each sequence that runs. */
static void delta(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    const struct mb_delta_shape *d = &m->delta;
    struct mb_part_heads h = mb_part_delta(m, v->linear.r, v->linear.of);
    int64_t V = mul(h.heads, d->dv), C = mb_sat_add(mul(2 * (int64_t)h.kv_heads, d->dk), V), slots = 0;

    if (m->linear_layers == 0 || !v->attends)
        return;
    for (int32_t l = v->p->first_layer[v->r->at.stage]; l < v->p->first_layer[v->r->at.stage + 1]; l++)
        slots += mb_is_linear(m, l) ? v->p->max_num_seqs : 0;
    grow(&b[MB_SB_QKV], mul(v->R, mul(MB_SUM(C, V, 2 * (int64_t)h.heads), 4)));
    grow(&b[MB_SB_ATTN], mul(v->R, mul(V, v->es)));
    b[MB_SB_DELTA] = mul(v->R, mul(C, 4));
    b[MB_SB_CONV_STATE] = mul(slots, mul(C, 4 * ((int64_t)d->taps - 1)));
    b[MB_SB_DELTA_STATE] = mul(slots, mul(h.heads, 4 * mb_delta_tile(d->dk, d->dv)));
}

static void part_rows(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t f = mb_most(mb_part_width(m->ffn, v->tensor.r, v->tensor.of),
                        mb_part_width(m->shared_ffn, v->tensor.r, v->tensor.of));

    int64_t ints = m->linear_layers > 0 ? 32 : v->p->layout.sp > 1 ? 28 : 20; /* see mb_work_upload */

    ints += m->linear_layers > 0 && v->p->layout.sp > 1 ? 12 : 0;
    b[MB_SB_H_PART] = v->p->layout.tp > 1 || v->linear.of > 1 ? mul(v->R, m->hidden * v->es) : 0;
    b[MB_SB_GU] = mul(v->R, mul(f, 8));
    b[MB_SB_ACT] = mul(v->R, mul(f, v->es));
    b[MB_SB_INTS] = mul(v->R, ints);
    b[MB_SB_PAGE_TABLE] = v->attends ? mul(4 * (int64_t)v->p->max_num_seqs, v->p->max_pages_per_seq) : 0;
}

static void own_rows(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t f = mul(v->own, (int64_t)m->hidden * 4), h = mul(v->own, m->hidden * v->es);
    bool mtp = v->o->mtp && v->attends && v->last;

    b[MB_SB_X] = b[MB_SB_RAW] = b[MB_SB_T] = b[MB_SB_ROUTED] = f;
    b[MB_SB_H] = h;
    b[MB_SB_Z] = mul(v->own, (int64_t)m->router.experts * 4);
    b[MB_SB_EXPERTS] = b[MB_SB_WEIGHTS] = mul(v->own, (int64_t)m->router.k * 4);
    b[MB_SB_BAD] = b[MB_SB_SGATE] = mul(v->own, 4);
    b[MB_SB_INSIDE] = m->weight_inside ? h : 0;
    b[MB_SB_MTP_IN] = mtp ? mul(2, h) : 0;
    b[MB_SB_MTP_X] = mtp ? f : 0;
    b[MB_SB_MTP_IDS] = mtp ? mul(8, v->p->max_batch_rows) : 0;
    b[MB_SB_MTP_TAG] = mtp ? mul(2, v->p->max_batch_rows) : 0;
}

/* Rows of the experts here, at a time. */
static void expert_rows(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t f = mb_part_width(m->expert_ffn, v->slice.r, v->slice.of), ids = m->router.experts;
    bool unrounded = (mb_budget_tagged(v->o) || v->p->layout.etp > 1) && mb_model_narrow(m, v->o->path) != MB_F32;

    b[MB_SB_E_GU] = mul(v->pairs, mul(f, 8));
    b[MB_SB_E_ACT] = mul(v->pairs, mul(f, v->es));
    b[MB_SB_E_Y] = mul(v->pairs, m->hidden * v->ys);
    b[MB_SB_E_YF] = unrounded ? mul(v->pairs, (int64_t)m->hidden * 4) : 0;
    ids = mul(ids, (int64_t)v->p->layout.etp * (v->p->layout.lane_scope ? v->p->layout.pp : 1));
    b[MB_SB_GROUPS] = mul(mb_most(m->heads, ids) + 1, (int64_t)sizeof(struct mb_gemm_group));
}

/* Input and term in f32, A x in f32 for each leaf of K and once in the type of the path. */
static void adapter_rows(const struct mb_budget_view *v, int64_t *b)
{
    int64_t R = v->p->max_batch_rows, rank = 4 * mb_budget_adapter_rank(v->o);

    if (v->o->n_adapters == 0)
        return;
    b[MB_SB_LORA_X] = b[MB_SB_LORA_Y] = mul(R, mul(mb_budget_adapter_width(v), 4));
    b[MB_SB_LORA_Z] = mul(R, rank * MB_MAX_LEAVES);
    b[MB_SB_LORA_H] = mul(R, rank);
}

/* ---------------------------------------------------------------- logits */

/* Of all columns where the rank samples, of its own columns where a group divides them. */
static void head(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    const struct mb_layout *l = &v->p->layout;
    int64_t P = v->attends && v->last ? v->logit_rows : 0, S = v->sampler ? P : 0,
            h = mul(P, m->hidden * v->es);

    b[MB_SB_HX] = mul(P, (int64_t)m->hidden * 4);
    b[MB_SB_HN] = h;
    b[MB_SB_HN2] = l->tp > 1 ? h : 0;
    b[MB_SB_ROW_AT] = mul(P, 4);
    b[MB_SB_LOGITS_PART] = l->tp * l->sp > 1 ? mul(P, mul(mb_columns(m->vocab, v->tensor), 4)) : 0;
    b[MB_SB_LOGITS] = mul(S, (int64_t)m->vocab * 4);
    b[MB_SB_STATS] = mul(S, 8);
    b[MB_SB_BEST] = b[MB_SB_LBAD] = b[MB_SB_DRAWN] = b[MB_SB_TARGET] = b[MB_SB_LP] = mul(S, 4);
    b[MB_SB_TOP_IDS] = b[MB_SB_TOP_LP] = mul(S, 4 * TOP);
    b[MB_SB_SAMPLING] = mul(S, (int64_t)sizeof(struct mb_sample_row));
    b[MB_SB_ADJUST] = S > 0 ? mul(m->vocab, (int64_t)sizeof(struct mb_sample_adjust)) : 0;
    b[MB_SB_MASKS] = S > 0 ? mul(v->p->max_batch_rows, ((int64_t)m->vocab + 31) / 32 * 4) : 0;
}

static void tables(const struct mb_budget_view *v, int64_t *b)
{
    int64_t rows = v->p->max_len + 1;

    b[MB_SB_COS] = b[MB_SB_SIN] = mul(mul(rows, v->m->rope_dim / 2), v->m->rope_switch > 0 ? 8 : 4);
    b[MB_SB_QUERY] = v->m->q_growth != 0 ? mul(rows, 4) : 0;
}

/* ---------------------------------------------------------------- on the host */

/* Routing of a step, of every layer of the model. */
static void routing(const struct mb_budget_view *v, int64_t *b)
{
    int64_t R = v->p->max_batch_rows, each = mul(R, (int64_t)v->m->router.k * 4);

    b[MB_SB_H_EXPERTS] = b[MB_SB_H_WEIGHTS] = mul((int64_t)v->m->moe_layers + v->o->mtp, each);
    b[MB_SB_H_SERVED] = v->o->save_routing ? b[MB_SB_H_EXPERTS] : 0;
    b[MB_SB_H_IDS] = v->p->layout.lane_scope ? each : 0;
    b[MB_SB_H_ONES] = v->m->weight_inside ? mul(4, R) : 0;
    b[MB_SB_H_BAD] = mul(4, R);
}

/* Rows of a step for the results: the own ones, and on a leader with others those of all. */
static void found(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_layout *l = &v->p->layout;
    int64_t R = v->p->max_batch_rows, H = v->m->hidden, L = v->logit_rows,
            per = mul(v->m->moe_layers, v->m->router.k);
    int64_t planes = v->o->save_hidden ? mul(mul((int64_t)v->m->layers + 1, R), mul(H, 4)) : 0;
    bool gathers = v->leads && l->tp * l->sp * l->pp > 1;

    b[MB_SB_FOUND_IDS] = mul(R, 4 * (5 + TOP));
    b[MB_SB_FOUND_LP] = mul(R, 4 * (1 + TOP));
    b[MB_SB_H_HIDDEN] = planes;
    b[MB_SB_ALL_HIDDEN] = gathers ? planes : 0;
    b[MB_SB_ALL_EXPERTS] = b[MB_SB_ALL_SERVED] = b[MB_SB_ALL_WEIGHTS] =
        gathers && v->o->save_routing ? mul(mul(per, R), 4) : 0;
    int64_t most = mul(per, v->o->save_routing ? mb_least(R, MB_SAVE_ROWS) : 1);
    b[MB_SB_H_ROWS] = mul(4, mb_most(mb_most(v->o->save_logits ? mul(L, v->m->vocab) : 0,
                                             mul(H, v->o->save_hidden ? (int64_t)v->m->layers + 1 : 1)),
                                     most));
    b[MB_SB_H_SMALL] = mul(4, most);
    b[MB_SB_H_INTS] = b[MB_SB_H_FLOATS] = mul(L, 4 * TOP);
    b[MB_SB_H_WHERE] = mul(L, 12);
    b[MB_SB_H_SAMPLING] = mul(L, (int64_t)sizeof(struct mb_sample_row));
}

/* ---------------------------------------------------------------- what travels */

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
    const int64_t k[] = {mul(m->heads, m->v_dim), m->ffn, m->shared_ffn};
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

/* A sum of rows of so many bytes that a group divides: node values of this member for all rows, of all
 * members for the own ones, and their places. */
struct sum {
    int64_t here, all, rows, own, row;
};

static void divided_sum(const struct sum *s, int64_t *b)
{
    int64_t list = mul(4, MB_SUM(mul(s->own, 1 + 3 * s->all), 1));

    grow(&b[MB_SB_PARTS], mul(mul(s->here, s->rows), s->row));
    grow(&b[MB_SB_INNER], mul(mul(s->all, s->own), s->row));
    grow(&b[MB_SB_IDX], list);
    grow(&b[MB_SB_SEND], mb_most(mul(mul(s->here, s->rows), s->row), list));
    grow(&b[MB_SB_RECV], mul(mul(s->all, s->own), s->row));
}

static void tensor(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t H = m->hidden, row = mul(H, 4);
    struct sum s = {.rows = v->R, .own = v->own, .row = row};

    tensor_nodes(v, &s.here, &s.all);
    divided_sum(&s, b);
    grow(&b[MB_SB_IDX], mul(4, v->R + 1));
    grow(&b[MB_SB_GATHERED], v->r->at.stage == 0 || (v->o->mtp && v->last) ? mul(v->R, row) : 0);
    grow(&b[MB_SB_SEND], mb_sat_add(mul(v->R, row), 4));
    grow(&b[MB_SB_RECV], mb_most(mb_sat_add(mul(v->own, row), 4), mul(v->R, H * v->es)));
    grow(&b[MB_SB_LISTS], mul(8, v->R + 1));
    if (m->qk_norm == MB_QKNORM_WHOLE) {
        int64_t heads = mul(4 * v->R, (int64_t)m->heads + m->kv_heads);
        grow(&b[MB_SB_SQUARE], heads);
        grow(&b[MB_SB_SEND], heads);
        grow(&b[MB_SB_INNER], heads);
        grow(&b[MB_SB_RECV], mul(2, heads));
        grow(&b[MB_SB_LISTS], heads);
    }
}

/* Linear attention divides its heads over the whole attention group: rows of all members, in the order of positions, and back. */
static void linear(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    const struct mb_delta_shape *d = &m->delta;
    int64_t begin[MB_MAX_LEAVES + 1], h = mul(v->R, m->hidden * v->es),
            V = mul(mb_part_delta(m, v->linear.r, v->linear.of).heads, d->dv);
    struct sum s = {.rows = v->R, .own = v->own, .row = mul(m->hidden, 4)};

    s.here = nodes_of(mb_k_leaves(mul(d->value_heads, d->dv), d->dv, begin), v->linear, &s.all);
    divided_sum(&s, b);
    grow(&b[MB_SB_SEND], mul(v->own, m->hidden * v->es));
    grow(&b[MB_SB_RECV], h);
    if (v->p->layout.sp > 1)
        b[MB_SB_TURNED] = mb_most(h, mul(v->R, mul(V, v->es)));
}

/* Logits of a group meet on the rank that samples. */
static void meeting_logits(const struct mb_budget_view *v, int64_t *b)
{
    if (!v->last)
        return;
    grow(&b[MB_SB_SLICE], mb_sat_add(mul(mul(v->logit_rows, mb_columns(v->m->vocab, v->tensor)), 4), 4));
    grow(&b[MB_SB_RECV], mb_sat_add(v->sampler ? mul(v->logit_rows, 4 * (int64_t)v->m->vocab) : 0, 4));
    grow(&b[MB_SB_SEND], mul(v->logit_rows, v->m->hidden * v->es));
    grow(&b[MB_SB_RECV], mul(v->logit_rows, v->m->hidden * v->es));
}

/* Every row may look at as many segments as its sequence can have; a part makes the states of its own, and
 * completes those of its own rows from all. Rows are taken in blocks of bounded size. */
static void segments(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t seg = v->o->segment > 0 ? v->o->segment : MB_KV_SEGMENT, all = (v->p->max_len + seg - 1) / seg;
    int64_t mine = mb_most(1, mb_layout_part_most(v->p->layout.sp, all)),
            heads = mb_part_heads(m, v->tensor.r, v->tensor.of).heads;
    int64_t q = mul(mul(v->R, mul(heads, m->mla ? (int64_t)m->kv_lora + m->rope_mla : m->head_dim)), v->ys);
    int64_t state = mul(mul(heads, (int64_t)(m->mla ? m->kv_lora : m->v_dim) + 2), 4);
    int64_t cells = mb_least(mul(v->R, all), mb_most(all, mb_state_cells(0, state))),
            rows = mb_least(v->R, cells), items = mb_least(cells, mul(v->R, mine));

    grow(&b[MB_SB_Q_ALL], q);
    grow(&b[MB_SB_STATE], mul(items, state));
    grow(&b[MB_SB_NODES], mul(mb_sat_add(items, cells), state));
    grow(&b[MB_SB_IDX], mul(4, MB_SUM(2 * rows, mul(10, items), mul(5, cells), 18)));
    grow(&b[MB_SB_LISTS], mul(4, MB_SUM(2 * rows, mul(6, cells), mul(4, all), 12)));
    grow(&b[MB_SB_SEND], mb_most(mul(items, state), q));
    grow(&b[MB_SB_RECV], mb_most(mul(cells, state), q));
}

/* The choice of keys over a sequence group: lists of a block of rows at a time (engine/index_parts.c). */
static void choices(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_indexer *x = &v->m->indexer;
    int64_t k = x->topk, q = mul(v->R, mul(mul(x->heads, x->width), v->es)), w = mul(v->R, 4 * (int64_t)x->heads);
    int64_t seg = v->o->segment > 0 ? v->o->segment : MB_KV_SEGMENT,
            mine = mb_layout_part_most(v->p->layout.sp, (v->p->max_len + seg - 1) / seg),
            row = mb_choose_row_bytes(v->m, v->p), B = mb_least(v->R, mb_state_cells(0, row));
    int64_t segments = MB_SUM(B, 1, mul(B, mine)), lists = MB_SUM(B, 1, mul(B, row / 4));

    b[MB_SB_INDEX_Q_ALL] = q;
    b[MB_SB_INDEX_W_ALL] = w;
    b[MB_SB_CHOOSE] = mul(B, 4 * (1 + 2 * k));
    b[MB_SB_H_CHOSEN] = mul(v->R, mb_budget_choice(v->m));
    grow(&b[MB_SB_IDX], mul(4, mb_most(segments, lists)));
    grow(&b[MB_SB_LISTS], mb_most(mul(4, mb_most(segments, lists)), b[MB_SB_CHOOSE]));
    grow(&b[MB_SB_SEND], mb_most(mul(B, 8 * k), mb_most(q, w)));
    grow(&b[MB_SB_RECV], mb_most(mul(B, row), mb_most(q, w)));
}

static void slices(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_model *m = v->m;
    int64_t begin[MB_MAX_LEAVES + 1];
    struct sum s = {.rows = v->pairs, .own = v->pairs, .row = mul(m->hidden, 4)};

    s.here = nodes_of(mb_k_leaves(m->expert_ffn, mb_k_unit(m->expert_ffn), begin), v->slice, &s.all);
    divided_sum(&s, b);
    grow(&b[MB_SB_GATHERED], mul(v->pairs, m->hidden * v->es));
    grow(&b[MB_SB_SEND], mul(v->pairs, m->hidden * v->es));
    grow(&b[MB_SB_RECV], mul(v->pairs, m->hidden * v->es));
    grow(&b[MB_SB_LISTS],
         mul(8 * (int64_t)v->slice.of, mul(v->r->owned, v->p->layout.lane_scope ? v->p->layout.pp : 1) + 1));
}

/* A x of adapters' terms travels as the sums of the weights do, with as many columns as the adapters' rank;
 * lists of terms and tags of rows are with it. */
static void adapters(const struct mb_budget_view *v, int64_t *b)
{
    int64_t row = 4 * mb_budget_adapter_rank(v->o), begin[MB_MAX_LEAVES + 1];

    if (v->o->n_adapters == 0)
        return;
    grow(&b[MB_SB_TERMS], mul(mb_most(v->R, v->pairs), MB_LORA_TERM_BYTES));
    if (v->p->layout.tp > 1 && v->attends) {
        struct sum s = {.rows = v->R, .own = v->own, .row = row};
        tensor_nodes(v, &s.here, &s.all);
        divided_sum(&s, b);
        grow(&b[MB_SB_LOW], mul(v->own, row));
    }
    if (v->p->layout.etp > 1 && v->pairs > 0 && mb_budget_tagged(v->o)) {
        struct sum s = {.rows = v->pairs, .own = v->pairs, .row = row};
        s.here =
            nodes_of(mb_k_leaves(v->m->expert_ffn, mb_k_unit(v->m->expert_ffn), begin), v->slice, &s.all);
        divided_sum(&s, b);
        grow(&b[MB_SB_TAGS], mul(2, v->pairs));
        grow(&b[MB_SB_LOW], mul(v->pairs, row));
    }
}

/* Experts on demand come and go in pieces. */
static void expert_pieces(const struct mb_budget_view *v, int64_t *b)
{
    if (v->p->zero > 0 && v->r->owned > 0 && mb_layout_group(&v->p->layout) > 1)
        b[MB_SB_PIECE_OUT] = b[MB_SB_PIECE_IN] = mb_budget_piece(v->m, v->o->path);
}

static void travelling(const struct mb_budget_view *v, int64_t *b)
{
    const struct mb_layout *l = &v->p->layout;

    if (l->tp > 1 && v->attends)
        tensor(v, b);
    if (l->tp * l->sp > 1 && v->attends)
        meeting_logits(v, b);
    if (l->tp * l->sp > 1 && v->attends && v->m->linear_layers > 0)
        linear(v, b);
    if (l->sp > 1 && v->attends)
        segments(v, b);
    if (l->sp > 1 && v->attends && v->m->indexer.topk > 0)
        choices(v, b);
    if (l->etp > 1 && v->pairs > 0)
        slices(v, b);
    adapters(v, b);
    expert_pieces(v, b);
    if (l->pp > 1 && v->attends)
        grow(&b[MB_SB_SEND], v->last ? 0 : mb_most(mul(v->own, 4 * (int64_t)v->m->hidden), mul(v->R, mb_budget_choice(v->m))));
}

void mb_budget_step_rooms(const struct mb_budget_view *v, int64_t *b)
{
    attention(v, b);
    delta(v, b);
    part_rows(v, b);
    own_rows(v, b);
    expert_rows(v, b);
    adapter_rows(v, b);
    head(v, b);
    tables(v, b);
    routing(v, b);
    found(v, b);
    travelling(v, b);
    for (int i = MB_XB_COUNT; i < MB_ROOM_COUNT; i++)
        b[i] = b[i] > INT64_MAX - 63 ? b[i] : (b[i] + 63) / 64 * 64;
}
