#include "engine/weights.h"

#include <stdlib.h>
#include <string.h>
#include "base/fault.h"
#include "base/log.h"
#include "engine/load.h"

/* ---------------------------------------------------------------- parts of a layer */

static enum mb_status load_ffn(struct mb_loader *L, int32_t layer, enum mb_role gate, enum mb_role up, enum mb_role down,
                               struct mb_ffn *f)
{
    const struct mb_tensor *t = mb_load_find(L, gate, layer, -1);
    if (t == NULL)
        return MB_OK;
    bool dense = gate == MB_T_GATE;
    enum mb_role w[2] = {gate, up}, b[2] = {MB_T_GATE_B, MB_T_UP_B}, db[1] = {MB_T_DOWN_B};
    f->width = t->n;
    MB_TRY(mb_load_mat_stack(L, layer, w, dense ? b : NULL, 2, 0, &f->gate_up, &f->gate_up_b));
    return mb_load_mat_stack(L, layer, &down, dense ? db : NULL, 1, mb_k_unit(f->width), &f->down, &f->down_b);
}

/* One routed expert of this rank. */
static enum mb_status load_expert(struct mb_loader *L, int32_t layer, int32_t e, struct mb_ffn *f)
{
    const struct mb_tensor *g = mb_load_find(L, MB_T_E_GATE, layer, e), *u = mb_load_find(L, MB_T_E_UP, layer, e);
    const struct mb_tensor *d = mb_load_find(L, MB_T_E_DOWN, layer, e);
    const struct mb_tensor *gb = mb_load_find(L, MB_T_E_GATE_B, layer, e), *ub = mb_load_find(L, MB_T_E_UP_B, layer, e);
    const struct mb_tensor *db = mb_load_find(L, MB_T_E_DOWN_B, layer, e);

    if (g == NULL || u == NULL || d == NULL)
        return mb_error(MB_BUG, "layer %d: expert %d has no tensors", layer, e);
    f->width = g->n;
    MB_TRY(mb_load_mat_create(L, 2 * g->n, g->k, 0, MB_MEM_EXPERTS, &f->gate_up));
    MB_TRY(mb_load_mat_put(L, g, false, f->gate_up, 0));
    MB_TRY(mb_load_mat_put(L, u, false, f->gate_up, g->n));
    MB_TRY(mb_load_mat_create(L, d->n, d->k, mb_k_unit(d->k), MB_MEM_EXPERTS, &f->down));
    MB_TRY(mb_load_mat_put(L, d, false, f->down, 0));
    if (gb != NULL && ub != NULL) {
        MB_TRY(mb_load_vec_create(L, 1, 2 * g->n, MB_F32, &f->gate_up_b));
        MB_TRY(mb_load_vec_put(L, gb, false, &f->gate_up_b, 0, 0));
        MB_TRY(mb_load_vec_put(L, ub, false, &f->gate_up_b, 0, g->n));
    }
    if (db != NULL) {
        MB_TRY(mb_load_vec_create(L, 1, d->n, MB_F32, &f->down_b));
        MB_TRY(mb_load_vec_put(L, db, false, &f->down_b, 0, 0));
    }
    return MB_OK;
}

static enum mb_status load_experts(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_placement *p = L->o->plan->placement;
    int32_t self = L->o->topo->index_of[mb_comm_rank(L->o->comm)];

    y->owned = malloc(sizeof(int32_t) * (size_t)p->experts);
    if (y->owned == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of experts");
    y->n_owned = mb_placement_owned(p, y->moe_index, self, y->owned);
    y->expert = calloc((size_t)y->n_owned + 1, sizeof *y->expert);
    if (y->expert == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of experts");
    for (int32_t i = 0; i < y->n_owned; i++)
        MB_TRY(load_expert(L, layer, y->owned[i], &y->expert[i]));
    return MB_OK;
}

struct mla_dst {
    struct mb_layer *y;
    const struct mb_model *m;
};

/* kv_b rows of a head: first nope rows (W_UK, kept transposed: q_lat = W_UK^T q_nope), then v rows (W_UV). A chunk may hold
 * parts of several heads. */
static enum mb_status take_kv_b(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    struct mla_dst *d = arg;
    int64_t nope = d->m->nope, per = nope + d->m->v_dim;

    for (int64_t i = 0; i < m->n;) {
        int64_t row = n0 + i, h = row / per, in = row % per;
        bool uk = in < nope;
        int64_t end = uk ? nope : per, cnt = end - in < m->n - i ? end - in : m->n - i;
        struct mb_host_matrix part = *m;
        part.base = (const uint8_t *)m->base + i * m->stride_n * mb_storage_size(m->storage);
        part.scale_n0 = m->scale_n0 + i;
        part.n = cnt;
        if (uk) {
            struct mb_host_matrix tr = part;
            if (part.storage == MB_STORE_F8E4M3)
                return mb_error(MB_BUG, "kv_b arrives dequantised only");
            tr.n = part.k;
            tr.k = cnt;
            tr.stride_n = part.stride_k;
            tr.stride_k = part.stride_n;
            MB_TRY(L->o->ops->weight_put(d->y->w_uk[h], 0, in, &tr));
        } else {
            MB_TRY(L->o->ops->weight_put(d->y->w_uv[h], in - nope, 0, &part));
        }
        i += cnt;
    }
    return MB_OK;
}

/* A reader's FP8 rows as packed f32, so that they can be transposed. */
static enum mb_status take_kv_b_any(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    if (m->storage != MB_STORE_F8E4M3)
        return take_kv_b(L, arg, n0, m);
    MB_TRY(mb_load_room(L, (uint64_t)(m->n * m->k) * sizeof(float)));
    mb_host_to_f32(m, (float *)L->pack);
    struct mb_host_matrix f = {.base = L->pack, .storage = MB_STORE_F32, .n = m->n, .k = m->k, .stride_n = m->k, .stride_k = 1};
    return take_kv_b(L, arg, n0, &f);
}

static enum mb_status load_mla(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    enum mb_role q = MB_T_Q, qa = MB_T_Q_A, qb = MB_T_Q_BPROJ, kva = MB_T_KV_A;
    struct mla_dst d = {y, m};

    if (m->q_lora > 0) {
        MB_TRY(mb_load_mat_stack(L, layer, &qa, NULL, 1, 0, &y->q_a, NULL));
        MB_TRY(mb_load_vec(L, MB_T_Q_A_NORM, layer, &y->q_a_norm));
        MB_TRY(mb_load_mat_stack(L, layer, &qb, NULL, 1, 0, &y->q, NULL));
    } else {
        MB_TRY(mb_load_mat_stack(L, layer, &q, NULL, 1, 0, &y->q, NULL));
    }
    MB_TRY(mb_load_mat_stack(L, layer, &kva, NULL, 1, 0, &y->kv_a, NULL));
    MB_TRY(mb_load_vec(L, MB_T_KV_A_NORM, layer, &y->kv_a_norm));
    y->w_uk = calloc((size_t)m->heads, sizeof(void *));
    y->w_uv = calloc((size_t)m->heads, sizeof(void *));
    if (y->w_uk == NULL || y->w_uv == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for a list of heads"));
    for (int32_t h = 0; h < m->heads && L->failed == MB_OK; h++) {
        MB_TRY(mb_load_mat_create(L, m->kv_lora, m->nope, 0, MB_MEM_WEIGHTS, &y->w_uk[h]));
        MB_TRY(mb_load_mat_create(L, m->v_dim, m->kv_lora, 0, MB_MEM_WEIGHTS, &y->w_uv[h]));
    }
    return mb_load_each(L, mb_load_find(L, MB_T_KV_B, layer, -1), true, take_kv_b_any, &d);
}

static enum mb_status load_attention(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    static const enum mb_role qkv[3] = {MB_T_Q, MB_T_K, MB_T_V}, qkv_b[3] = {MB_T_Q_B, MB_T_K_B, MB_T_V_B};
    static const enum mb_role o[1] = {MB_T_O}, o_b[1] = {MB_T_O_B};

    if (m->mla) {
        MB_TRY(load_mla(L, layer, y));
    } else {
        MB_TRY(mb_load_mat_stack(L, layer, qkv, qkv_b, 3, 0, &y->qkv, &y->qkv_b));
        MB_TRY(mb_load_vec(L, MB_T_Q_NORM, layer, &y->q_norm));
        MB_TRY(mb_load_vec(L, MB_T_K_NORM, layer, &y->k_norm));
        MB_TRY(mb_load_vec(L, MB_T_SINKS, layer, &y->sinks));
    }
    return mb_load_mat_stack(L, layer, o, o_b, 1, m->v_dim, &y->o, &y->o_b);
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

static enum mb_status load_ends(struct mb_loader *L)
{
    const struct mb_model *m = L->o->model;
    const struct mb_tensor *e = mb_load_find(L, MB_T_EMBED, -1, -1), *h = mb_load_find(L, MB_T_HEAD, -1, -1);

    MB_TRY(mb_load_vec_create(L, e->n, e->k, e->storage == MB_STORE_BF16 ? MB_BF16 : MB_F32, &L->w->embed));
    MB_TRY(mb_load_vec_put(L, e, true, &L->w->embed, 0, 0));
    MB_TRY(mb_load_vec(L, MB_T_FINAL_NORM, -1, &L->w->final_norm));
    MB_TRY(mb_load_vec(L, MB_T_FINAL_NORM_B, -1, &L->w->final_norm_b));
    MB_TRY(mb_load_vec(L, MB_T_HEAD_B, -1, &L->w->head_b));
    MB_TRY(mb_load_mat_create(L, m->vocab, m->hidden, 0, MB_MEM_WEIGHTS, &L->w->head));
    return mb_load_mat_put(L, h != NULL ? h : e, true, L->w->head, 0);
}

/* Room for the largest chunk of any tensor, before anybody waits for anybody. */
static enum mb_status pack_room(struct mb_loader *L)
{
    int64_t k = MB_LOAD_CHUNK / 4;
    for (int64_t i = 0; i < L->o->model->n_tensors; i++) {
        if (L->o->model->tensors[i].k > k)
            k = L->o->model->tensors[i].k;
    }
    return mb_load_room(L, (uint64_t)k * 4);
}

static enum mb_status load_mtp(struct mb_loader *L)
{
    int32_t l = L->o->model->layers;
    enum mb_role proj = MB_T_MTP_PROJ;

    if (L->w->layers == l)
        return MB_OK;
    MB_TRY(mb_load_vec(L, MB_T_MTP_ENORM, l, &L->w->mtp_enorm));
    MB_TRY(mb_load_vec(L, MB_T_MTP_HNORM, l, &L->w->mtp_hnorm));
    MB_TRY(mb_load_vec(L, MB_T_MTP_NORM, l, &L->w->mtp_norm));
    return mb_load_mat_stack(L, l, &proj, NULL, 1, 0, &L->w->mtp_proj, NULL);
}

static enum mb_status load_shared(struct mb_loader *L)
{
    MB_TRY(load_ends(L));
    MB_TRY(load_mtp(L));
    for (int32_t l = 0; l < L->w->layers; l++) {
        MB_TRY(load_layer(L, l, &L->w->layer[l]));
        mb_fault("loading");
    }
    return L->failed;
}

static enum mb_status load_owned(struct mb_loader *L)
{
    for (int32_t l = 0; l < L->w->layers; l++) {
        if (L->w->layer[l].moe)
            MB_TRY(load_experts(L, l, &L->w->layer[l]));
    }
    return L->failed;
}

enum mb_status mb_weights_load(const struct mb_engine_options *o, struct mb_stream *s, bool mtp, struct mb_weights *w)
{
    struct mb_loader L = {.o = o, .s = s, .w = w};
    int32_t moe = 0;

    w->layers = o->model->layers + (mtp ? o->model->mtp_layers : 0);
    w->heads = o->model->heads;
    w->layer = calloc((size_t)w->layers, sizeof *w->layer);
    enum mb_status st = w->layer == NULL ? mb_error(MB_NO_MEMORY, "no memory for %d layers", w->layers) : MB_OK;
    for (int32_t l = 0; st == MB_OK && l < w->layers; l++) {
        w->layer[l].moe = o->model->is_moe[l];
        w->layer[l].moe_index = w->layer[l].moe ? moe++ : -1;
    }
    if (st == MB_OK)
        st = mb_reader_create(o->model, o->mem, &L.reader);
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
    return st;
}

/* ---------------------------------------------------------------- the end */

static void free_vec(const struct mb_ops *ops, struct mb_vec *v)
{
    ops->buf_free(v->buf);
    *v = (struct mb_vec){0};
}

static void free_ffn(const struct mb_ops *ops, struct mb_ffn *f)
{
    ops->weight_free(f->gate_up);
    ops->weight_free(f->down);
    free_vec(ops, &f->gate_up_b);
    free_vec(ops, &f->down_b);
}

static void free_layer(const struct mb_ops *ops, struct mb_layer *y, int32_t heads)
{
    struct mb_vec *v[] = {&y->attn_norm, &y->attn_norm_b, &y->ffn_norm, &y->ffn_norm_b, &y->attn_post, &y->ffn_post,
                          &y->qkv_b, &y->q_norm, &y->k_norm, &y->sinks, &y->o_b, &y->q_a_norm, &y->kv_a_norm,
                          &y->shared_gate, &y->router, &y->router_b, &y->router_bias};
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        free_vec(ops, v[i]);
    ops->weight_free(y->qkv);
    ops->weight_free(y->o);
    ops->weight_free(y->q_a);
    ops->weight_free(y->q);
    ops->weight_free(y->kv_a);
    for (int32_t h = 0; h < heads && y->w_uk != NULL && y->w_uv != NULL; h++) {
        ops->weight_free(y->w_uk[h]);
        ops->weight_free(y->w_uv[h]);
    }
    free(y->w_uk);
    free(y->w_uv);
    free_ffn(ops, &y->dense);
    free_ffn(ops, &y->shared);
    for (int32_t i = 0; i < y->n_owned && y->expert != NULL; i++)
        free_ffn(ops, &y->expert[i]);
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
