#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>
#include "base/fault.h"
#include "base/log.h"
#include "engine/load.h"

/* ---------------------------------------------------------------- parts of a layer */

/* The share of tensor rank t of n of a gated FFN with these tensors; dense ones may have biases. */
static enum mb_status load_ffn(struct mb_loader *L, int32_t layer, enum mb_role gate, enum mb_role up, enum mb_role down,
                               struct mb_ffn *f)
{
    const struct mb_tensor *t = mb_load_find(L, gate, layer, -1), *td = mb_load_find(L, down, layer, -1);
    const struct mb_tensor *tb = gate == MB_T_GATE ? mb_load_find(L, MB_T_DOWN_B, layer, -1) : NULL;
    if (t == NULL || td == NULL)
        return MB_OK;
    MB_TRY(mb_load_rowpar(L, td, true, mb_k_unit(td->k), L->t->g.tp_rank, L->t->g.tp_size, MB_MEM_WEIGHTS, &f->down));
    const struct mb_stack part[2] = {{gate, MB_T_GATE_B, f->down.k0, f->down.k1}, {up, MB_T_UP_B, f->down.k0, f->down.k1}};
    f->whole = t->n;
    f->width = f->down.k1 - f->down.k0;
    if (tb != NULL) {
        MB_TRY(mb_load_vec_create(L, 1, tb->k, MB_F32, &f->down_b));
        MB_TRY(mb_load_vec_put(L, tb, true, mb_part_whole(tb), &f->down_b, 0, 0));
    }
    return mb_load_mat_stack(L, layer, part, 2, gate == MB_T_GATE, &f->gate_up, &f->gate_up_b);
}

/* Tensors of an expert; biases may be absent. */
struct expert_tensors {
    const struct mb_tensor *g, *u, *d, *gb, *ub, *db;
};

static enum mb_status find_expert(const struct mb_loader *L, int32_t layer, int32_t e, struct expert_tensors *t)
{
    *t = (struct expert_tensors){
        mb_load_find(L, MB_T_E_GATE, layer, e),   mb_load_find(L, MB_T_E_UP, layer, e),   mb_load_find(L, MB_T_E_DOWN, layer, e),
        mb_load_find(L, MB_T_E_GATE_B, layer, e), mb_load_find(L, MB_T_E_UP_B, layer, e), mb_load_find(L, MB_T_E_DOWN_B, layer, e)};
    return t->g != NULL && t->u != NULL && t->d != NULL ? MB_OK
                                                        : mb_error(MB_BUG, "layer %d: expert %d has no tensors", layer, e);
}

enum mb_status mb_load_expert_create(struct mb_loader *L, int32_t layer, int32_t e, struct mb_ffn *f)
{
    struct expert_tensors t;

    MB_TRY(find_expert(L, layer, e, &t));
    MB_TRY(mb_load_rowpar_create(L, t.d, mb_k_unit(t.d->k), L->t->g.etp_rank, L->t->g.etp_size, MB_MEM_EXPERTS, &f->down));
    f->whole = t.g->n;
    f->width = f->down.k1 - f->down.k0;
    MB_TRY(mb_load_mat_create_as(L, 2 * f->width, t.g->k, mb_model_form_of(L->o->model, (const struct mb_tensor *[]){t.g, t.u}, 2),
                                 MB_MEM_EXPERTS, &f->gate_up));
    if (t.gb != NULL && t.ub != NULL)
        MB_TRY(mb_load_vec_create(L, 1, 2 * f->width, MB_F32, &f->gate_up_b));
    return t.db != NULL ? mb_load_vec_create(L, 1, t.db->k, MB_F32, &f->down_b) : MB_OK;
}

enum mb_status mb_load_expert_fill(struct mb_loader *L, int32_t layer, int32_t e, struct mb_ffn *f)
{
    struct expert_tensors t;

    MB_TRY(find_expert(L, layer, e, &t));
    const struct mb_part rows = {f->down.k0, f->down.k1, 0, t.g->k}, bias = {0, 1, f->down.k0, f->down.k1};
    MB_TRY(mb_load_mat_put(L, t.g, false, rows, f->gate_up, 0));
    MB_TRY(mb_load_mat_put(L, t.u, false, rows, f->gate_up, f->width));
    MB_TRY(mb_load_rowpar_put(L, t.d, false, &f->down));
    if (f->gate_up_b.buf != NULL) {
        MB_TRY(mb_load_vec_put(L, t.gb, false, bias, &f->gate_up_b, 0, 0));
        MB_TRY(mb_load_vec_put(L, t.ub, false, bias, &f->gate_up_b, 0, f->width));
    }
    return f->down_b.buf != NULL ? mb_load_vec_put(L, t.db, false, mb_part_whole(t.db), &f->down_b, 0, 0) : MB_OK;
}

static enum mb_status load_experts(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_placement *p = L->o->plan->placement;

    y->owned = malloc(sizeof(int32_t) * (size_t)p->experts);
    if (y->owned == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of experts");
    y->n_owned = L->t->serves ? mb_placement_owned(p, y->moe_index, L->t->g.ep_rank, y->owned) : 0;
    y->expert = calloc((size_t)y->n_owned + 1, sizeof *y->expert);
    if (y->expert == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of experts");
    for (int32_t i = 0; i < y->n_owned && L->o->plan->cache == NULL; i++) { /* else they come when they are needed */
        MB_TRY(mb_load_expert_create(L, layer, y->owned[i], &y->expert[i]));
        MB_TRY(mb_load_expert_fill(L, layer, y->owned[i], &y->expert[i]));
    }
    return MB_OK;
}

struct mla_dst {
    struct mb_layer *y;
    const struct mb_model *m;
    int32_t head0, heads; /* of this rank */
};

/* kv_b rows of a head: first nope rows (W_UK, kept transposed: q_lat = W_UK^T q_nope), then v rows (W_UV). A chunk may hold
 * parts of several heads. */
static enum mb_status take_kv_b(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    struct mla_dst *d = arg;
    int64_t nope = d->m->nope, per = nope + d->m->v_dim;

    for (int64_t i = 0; i < m->n;) {
        int64_t row = n0 + i, h = row / per - d->head0, in = row % per;
        bool uk = in < nope;
        int64_t end = uk ? nope : per, cnt = end - in < m->n - i ? end - in : m->n - i;
        struct mb_host_matrix part = *m;
        part.base = (const uint8_t *)m->base + i * m->stride_n * mb_storage_size(m->storage);
        part.scale_n0 = m->scale_n0 + i;
        part.n = cnt;
        i += cnt;
        if (h < 0 || h >= d->heads)
            continue;
        if (uk) {
            struct mb_host_matrix tr = part;
            if (mb_storage_fp8(part.storage))
                return mb_error(MB_BUG, "kv_b arrives dequantised only");
            tr.n = part.k;
            tr.k = cnt;
            tr.stride_n = part.stride_k;
            tr.stride_k = part.stride_n;
            MB_TRY(L->o->ops->weight_put(d->y->mla.w_uk[h], 0, in, &tr));
        } else {
            MB_TRY(L->o->ops->weight_put(d->y->mla.w_uv[h], in - nope, 0, &part));
        }
    }
    return MB_OK;
}

/* A reader's FP8 rows or codes as packed f32, so that they can be transposed. */
static enum mb_status take_kv_b_any(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    if (!mb_storage_fp8(m->storage) && m->storage != MB_STORE_CODES)
        return take_kv_b(L, arg, n0, m);
    MB_TRY(mb_load_room(L, (uint64_t)(m->n * m->k) * sizeof(float)));
    mb_host_to_f32(m, (float *)L->pack);
    struct mb_host_matrix f = {.base = L->pack, .storage = MB_STORE_F32, .n = m->n, .k = m->k, .stride_n = m->k, .stride_k = 1};
    return take_kv_b(L, arg, n0, &f);
}

static enum mb_status load_mla(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    const struct mb_part_heads *h = &L->t->h;
    int64_t q0 = (int64_t)h->head0 * m->head_dim, q1 = q0 + (int64_t)h->heads * m->head_dim;
    const struct mb_stack qa = {MB_T_Q_A, 0, 0, -1}, kva = {MB_T_KV_A, 0, 0, -1};
    const struct mb_stack q = {m->q_lora > 0 ? MB_T_Q_BPROJ : MB_T_Q, 0, q0, q1};
    struct mla_dst d = {y, m, h->head0, h->heads};

    if (m->q_lora > 0) {
        MB_TRY(mb_load_mat_stack(L, layer, &qa, 1, false, &y->mla.q_a, NULL));
        MB_TRY(mb_load_vec(L, MB_T_Q_A_NORM, layer, &y->mla.q_a_norm));
    }
    MB_TRY(mb_load_mat_stack(L, layer, &q, 1, false, &y->mla.q, NULL));
    MB_TRY(mb_load_mat_stack(L, layer, &kva, 1, false, &y->mla.kv_a, NULL));
    MB_TRY(mb_load_vec(L, MB_T_KV_A_NORM, layer, &y->mla.kv_a_norm));
    y->mla.w_uk = calloc((size_t)h->heads, sizeof(void *));
    y->mla.w_uv = calloc((size_t)h->heads, sizeof(void *));
    if (y->mla.w_uk == NULL || y->mla.w_uv == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for a list of heads"));
    for (int32_t i = 0; i < h->heads && L->failed == MB_OK; i++) {
        MB_TRY(mb_load_mat_create(L, m->kv_lora, m->nope, MB_MEM_WEIGHTS, &y->mla.w_uk[i]));
        MB_TRY(mb_load_mat_create(L, m->v_dim, m->kv_lora, MB_MEM_WEIGHTS, &y->mla.w_uv[i]));
    }
    return mb_load_each(L, mb_load_find(L, MB_T_KV_B, layer, -1), true, take_kv_b_any, &d);
}

/* The whole of it on every rank of a tensor-parallel group. */
static enum mb_status load_index(struct mb_loader *L, int32_t layer, struct mb_index_weights *w)
{
    const struct mb_stack q = {MB_T_IX_Q, 0, 0, -1}, k = {MB_T_IX_K, 0, 0, -1}, by = {MB_T_IX_W, 0, 0, -1};

    if (L->o->model->indexer.topk == 0 || L->o->model->indexer.shares[layer])
        return MB_OK;
    MB_TRY(mb_load_mat_stack(L, layer, &q, 1, false, &w->q, NULL));
    MB_TRY(mb_load_mat_stack(L, layer, &k, 1, false, &w->k, NULL));
    MB_TRY(mb_load_mat_stack(L, layer, &by, 1, false, &w->w, NULL));
    MB_TRY(mb_load_vec(L, MB_T_IX_K_NORM, layer, &w->k_norm));
    return mb_load_vec(L, MB_T_IX_K_NORM_B, layer, &w->k_norm_b);
}

/* A weight of ones for norms that have none. */
static enum mb_status ones(struct mb_loader *L, int64_t n, struct mb_vec *v)
{
    MB_TRY(mb_load_vec_create(L, 1, n, MB_F32, v));
    float *one = malloc((size_t)n * sizeof *one);
    if (one == NULL)
        return mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for a vector of %lld", (long long)n));
    for (int64_t i = 0; i < n; i++)
        one[i] = 1;
    if (L->failed == MB_OK)
        mb_load_keep(L, L->o->ops->copy_in(L->s, v->view, one));
    free(one);
    return MB_OK;
}

static enum mb_status load_qk_norm(struct mb_loader *L, int32_t layer, const int64_t q[2], const int64_t k[2], struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    bool whole = m->qk_norm == MB_QKNORM_WHOLE;

    if (m->qk_norm == MB_QKNORM_BARE_AFTER) {
        MB_TRY(ones(L, m->head_dim, &y->q_norm));
        return ones(L, m->head_dim, &y->k_norm);
    }
    MB_TRY(mb_load_vec_cols(L, MB_T_Q_NORM, layer, whole ? q[0] : 0, whole ? q[1] : m->head_dim, &y->q_norm));
    return mb_load_vec_cols(L, MB_T_K_NORM, layer, whole ? k[0] : 0, whole ? k[1] : m->head_dim, &y->k_norm);
}

static enum mb_status load_gqa(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    const struct mb_part_heads *h = &L->t->h;
    int64_t q0 = (int64_t)h->head0 * m->head_dim, q1 = q0 + (int64_t)h->heads * m->head_dim;
    int64_t k0 = (int64_t)h->kv0 * m->head_dim, k1 = k0 + (int64_t)h->kv_heads * m->head_dim;
    int64_t v0 = (int64_t)h->kv0 * m->v_dim, v1 = v0 + (int64_t)h->kv_heads * m->v_dim;
    const struct mb_stack qkv[3] = {{MB_T_Q, MB_T_Q_B, q0, q1}, {MB_T_K, MB_T_K_B, k0, k1}, {MB_T_V, MB_T_V_B, v0, v1}};

    MB_TRY(m->q_gate ? mb_load_gated(L, layer, y) : mb_load_mat_stack(L, layer, qkv, 3, true, &y->qkv, &y->qkv_b));
    MB_TRY(load_qk_norm(L, layer, (const int64_t[]){q0, q1}, (const int64_t[]){k0, k1}, y));
    return mb_load_vec_cols(L, MB_T_SINKS, layer, h->head0, h->head0 + h->heads, &y->sinks);
}

static enum mb_status load_attention(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    bool linear = mb_is_linear(m, layer);
    const struct mb_tensor *o = mb_load_find(L, linear ? MB_T_L_OUT : MB_T_O, layer, -1);

    if (o == NULL)
        return mb_error(MB_BUG, "layer %d has no output projection", layer);
    if (linear)
        MB_TRY(mb_load_delta_layer(L, layer, y));
    else
        MB_TRY(m->mla ? load_mla(L, layer, y) : load_gqa(L, layer, y));
    MB_TRY(load_index(L, layer, &y->index));
    MB_TRY(mb_load_rowpar(L, o, true, linear ? m->delta.dv : m->v_dim, linear ? L->t->g.att_rank : L->t->g.tp_rank,
                          linear ? L->t->g.att_size : L->t->g.tp_size, MB_MEM_WEIGHTS, &y->o));
    return mb_load_vec(L, MB_T_O_B, layer, &y->o_b);
}

static enum mb_status load_layer(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    MB_TRY(mb_load_vec(L, MB_T_ATTN_NORM, layer, &y->attn_norm));
    MB_TRY(mb_load_vec(L, MB_T_ATTN_NORM_B, layer, &y->attn_norm_b));
    MB_TRY(mb_load_vec(L, MB_T_FFN_NORM, layer, &y->ffn_norm));
    MB_TRY(mb_load_vec(L, MB_T_FFN_NORM_B, layer, &y->ffn_norm_b));
    MB_TRY(mb_load_vec(L, MB_T_ATTN_POST, layer, &y->attn_post));
    MB_TRY(mb_load_vec(L, MB_T_FFN_POST, layer, &y->ffn_post));
    MB_TRY(load_attention(L, layer, y));
    if (!y->moe)
        return load_ffn(L, layer, MB_T_GATE, MB_T_UP, MB_T_DOWN, &y->dense);
    MB_TRY(mb_load_vec(L, MB_T_ROUTER, layer, &y->router));
    MB_TRY(mb_load_vec(L, MB_T_ROUTER_B, layer, &y->router_b));
    MB_TRY(mb_load_vec(L, MB_T_ROUTER_BIAS, layer, &y->router_bias));
    MB_TRY(mb_load_vec(L, MB_T_SH_SCALAR, layer, &y->shared_gate));
    return load_ffn(L, layer, MB_T_SH_GATE, MB_T_SH_UP, MB_T_SH_DOWN, &y->shared);
}

/* Embedding and head: whole vocabulary leaves for each tensor rank. */
static enum mb_status load_ends(struct mb_loader *L)
{
    const struct mb_model *m = L->o->model;
    const struct mb_tensor *e = mb_load_find(L, MB_T_EMBED, -1, -1), *h = mb_load_find(L, MB_T_HEAD, -1, -1);
    struct mb_weights *w = L->w;

    mb_part_vocab(m->vocab, L->t->g.tp_rank, L->t->g.tp_size, &w->v0, &w->v1);
    const struct mb_part rows = {w->v0, w->v1, 0, e->k};
    if (L->t->first_stage || (L->t->last_stage && w->layers > m->layers)) { /* the MTP module embeds, too */
        MB_TRY(mb_load_vec_create(L, w->v1 - w->v0, e->k, e->storage == MB_STORE_BF16 ? MB_BF16 : MB_F32, &w->embed));
        MB_TRY(mb_load_vec_put(L, e, true, rows, &w->embed, 0, 0));
    }
    if (!L->t->last_stage)
        return MB_OK;
    MB_TRY(mb_load_vec(L, MB_T_FINAL_NORM, -1, &w->final_norm));
    MB_TRY(mb_load_vec(L, MB_T_FINAL_NORM_B, -1, &w->final_norm_b));
    MB_TRY(mb_load_vec_cols(L, MB_T_HEAD_B, -1, w->v0, w->v1, &w->head_b));
    if (w->v1 > w->v0)
        MB_TRY(mb_load_mat_create_as(L, w->v1 - w->v0, m->hidden, mb_model_form(m, h != NULL ? h : e, 0), MB_MEM_WEIGHTS, &w->head));
    return mb_load_mat_put(L, h != NULL ? h : e, true, rows, w->head, 0);
}

/* Room for the largest chunk of any tensor, before anybody waits for anybody. */
static enum mb_status pack_room(struct mb_loader *L)
{
    const struct mb_model *m = L->o->model;
    struct mb_load_sizes n;

    mb_load_sizes_of(m, &n);
    int64_t size = n.pack / n.elements, bytes = n.pack;
    for (int64_t i = 0; i < m->n_tensors; i++)
        bytes = m->tensors[i].k * size > bytes ? m->tensors[i].k * size : bytes;
    return mb_load_reserve(L, &n, bytes);
}

static enum mb_status load_mtp(struct mb_loader *L)
{
    int32_t l = L->o->model->layers;
    const struct mb_stack proj = {MB_T_MTP_PROJ, 0, 0, -1};

    if (L->w->layers == l || !L->t->last_stage)
        return MB_OK;
    MB_TRY(mb_load_vec(L, MB_T_MTP_ENORM, l, &L->w->mtp_enorm));
    MB_TRY(mb_load_vec(L, MB_T_MTP_HNORM, l, &L->w->mtp_hnorm));
    MB_TRY(mb_load_vec(L, MB_T_MTP_NORM, l, &L->w->mtp_norm));
    return mb_load_mat_stack(L, l, &proj, 1, false, &L->w->mtp_proj, NULL);
}

/* Whether layer l (or the MTP module's) is this stage's. */
static bool in_stage(const struct mb_loader *L, int32_t l)
{
    return l < L->o->model->layers ? l >= L->t->first_layer && l < L->t->last_layer : L->t->last_stage;
}

static enum mb_status load_shared(struct mb_loader *L)
{
    if (L->c == NULL)
        return MB_OK;
    MB_TRY(load_ends(L));
    MB_TRY(load_mtp(L));
    for (int32_t l = 0; l < L->w->layers; l++) {
        if (in_stage(L, l))
            MB_TRY(load_layer(L, l, &L->w->layer[l]));
        mb_fault("loading");
    }
    return L->failed;
}

/* Experts: of this stage, or of every stage where all ranks of a lane share them. */
static enum mb_status load_owned(struct mb_loader *L)
{
    for (int32_t l = 0; l < L->w->layers; l++) {
        if (L->w->layer[l].moe && (L->t->l.lane_scope || in_stage(L, l)))
            MB_TRY(load_experts(L, l, &L->w->layer[l]));
    }
    return L->failed;
}

/* Numbers of the layers among the MoE layers, and of their exchanges in a step. */
static void number_layers(const struct mb_loader *L, struct mb_weights *w)
{
    int32_t moe = 0, exchange = 0, stage = 0;
    const int32_t *first = L->o->plan->first_layer;

    for (int32_t l = 0; l < w->layers; l++) {
        while (stage + 1 < L->t->g.pp_size && l >= first[stage + 1]) {
            stage++;
            exchange = 0;
        }
        w->layer[l].moe = L->o->model->is_moe[l];
        w->layer[l].moe_index = w->layer[l].moe ? moe++ : -1;
        w->layer[l].exchange = w->layer[l].moe ? exchange++ : -1;
    }
}

enum mb_status mb_weights_load(const struct mb_engine_options *o, const struct mb_team *t, struct mb_stream *s, bool mtp,
                               struct mb_weights *w)
{
    struct mb_loader L = {.o = o, .t = t, .c = t->g.peers, .s = s, .w = w};

    w->layers = o->model->layers + (mtp ? o->model->mtp_layers : 0);
    w->heads = t->h.heads;
    w->layer = calloc((size_t)w->layers, sizeof *w->layer);
    enum mb_status st = w->layer == NULL ? mb_error(MB_NO_MEMORY, "no memory for %d layers", w->layers) : MB_OK;
    if (st == MB_OK)
        number_layers(&L, w);
    if (st == MB_OK)
        st = mb_reader_create(o->model, o->mem, &L.reader);
    if (st == MB_OK)
        mb_reader_sums(L.reader, o->sums);
    if (st == MB_OK)
        st = pack_room(&L);
    if (st == MB_OK)
        st = load_owned(&L);
    /* own experts may have failed on one rank alone: agree before the broadcasts in which all must take part */
    st = mb_comm_agree(o->comm, st, "loading experts");
    if (st == MB_OK)
        st = mb_comm_agree(o->comm, load_shared(&L), "loading weights");
    w->bytes_read = L.reader != NULL ? (int64_t)mb_reader_bytes(L.reader) : 0;
    mb_reader_destroy(L.reader);
    mb_free(L.pack);
    mb_free(L.f32);
    return st;
}

/* ---------------------------------------------------------------- the end */

static void free_vec(const struct mb_ops *ops, struct mb_vec *v)
{
    ops->buf_free(v->buf);
    *v = (struct mb_vec){0};
}

static void free_rowpar(const struct mb_ops *ops, struct mb_rowpar *w)
{
    for (int32_t i = 0; i < w->n; i++)
        ops->weight_free(w->w[i]);
}

void mb_ffn_free(const struct mb_ops *ops, struct mb_ffn *f)
{
    ops->weight_free(f->gate_up);
    free_rowpar(ops, &f->down);
    free_vec(ops, &f->gate_up_b);
    free_vec(ops, &f->down_b);
}

static void free_layer(const struct mb_ops *ops, struct mb_layer *y, int32_t heads)
{
    struct mb_vec *v[] = {&y->attn_norm, &y->attn_norm_b, &y->ffn_norm, &y->ffn_norm_b, &y->attn_post, &y->ffn_post,
                          &y->qkv_b, &y->q_norm, &y->k_norm, &y->sinks, &y->o_b, &y->mla.q_a_norm, &y->mla.kv_a_norm,
                          &y->shared_gate, &y->router, &y->router_b, &y->router_bias,
                          &y->index.k_norm, &y->index.k_norm_b, &y->delta.conv, &y->delta.a_log, &y->delta.dt, &y->delta.norm};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        free_vec(ops, v[i]);
    ops->weight_free(y->qkv);
    free_rowpar(ops, &y->o);
    ops->weight_free(y->delta.qkvz);
    ops->weight_free(y->delta.ba);
    ops->weight_free(y->mla.q_a);
    ops->weight_free(y->mla.q);
    ops->weight_free(y->mla.kv_a);
    ops->weight_free(y->index.q);
    ops->weight_free(y->index.k);
    ops->weight_free(y->index.w);
    for (int32_t h = 0; h < heads && y->mla.w_uk != NULL && y->mla.w_uv != NULL; h++) {
        ops->weight_free(y->mla.w_uk[h]);
        ops->weight_free(y->mla.w_uv[h]);
    }
    free(y->mla.w_uk);
    free(y->mla.w_uv);
    mb_ffn_free(ops, &y->dense);
    mb_ffn_free(ops, &y->shared);
    for (int32_t i = 0; i < y->n_owned && y->expert != NULL; i++)
        mb_ffn_free(ops, &y->expert[i]);
    free(y->expert);
    free(y->owned);
}

void mb_weights_fini(const struct mb_ops *ops, struct mb_weights *w)
{
    for (int32_t l = 0; l < w->layers && w->layer != NULL; l++)
        free_layer(ops, &w->layer[l], w->heads);
    free(w->layer);
    free_vec(ops, &w->embed);
    free_vec(ops, &w->final_norm);
    free_vec(ops, &w->final_norm_b);
    free_vec(ops, &w->head_b);
    free_vec(ops, &w->mtp_enorm);
    free_vec(ops, &w->mtp_hnorm);
    free_vec(ops, &w->mtp_norm);
    ops->weight_free(w->mtp_proj);
    ops->weight_free(w->head);
    *w = (struct mb_weights){0};
}
