#include "engine/lora.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/load.h"
#include "engine/work.h"

static const enum mb_role site_role[MB_LORA_SITES] = {
    [MB_LORA_Q] = MB_T_Q, [MB_LORA_K] = MB_T_K, [MB_LORA_V] = MB_T_V, [MB_LORA_O] = MB_T_O, [MB_LORA_Q_A] = MB_T_Q_A,
    [MB_LORA_Q_B] = MB_T_Q_BPROJ, [MB_LORA_KV_A] = MB_T_KV_A, [MB_LORA_GATE] = MB_T_GATE, [MB_LORA_UP] = MB_T_UP,
    [MB_LORA_DOWN] = MB_T_DOWN, [MB_LORA_SH_GATE] = MB_T_SH_GATE, [MB_LORA_SH_UP] = MB_T_SH_UP, [MB_LORA_SH_DOWN] = MB_T_SH_DOWN,
};

/* ---------------------------------------------------------------- loading */

static enum mb_status load_pair(struct mb_loader *L, const struct mb_lora *src, bool shared, struct mb_lora_pair *p)
{
    if (src == NULL)
        return MB_OK;
    MB_TRY(mb_load_vec_create(L, src->a.n, src->a.k, MB_F32, &p->a));
    MB_TRY(mb_load_vec_put(L, &src->a, shared, mb_part_whole(&src->a), &p->a, 0, 0));
    MB_TRY(mb_load_mat_create(L, src->b.n, src->b.k, MB_MEM_WEIGHTS, &p->b));
    return mb_load_mat_put(L, &src->b, shared, mb_part_whole(&src->b), p->b, 0);
}

struct kv_b_dst { /* stored forms, on the host */
    float *b; /* [heads * (nope + v), r] */
    float *a; /* [r, kv_lora] */
};

static enum mb_status take_f32(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    (void)L;
    mb_host_to_f32(m, (float *)arg + n0 * m->k);
    return MB_OK;
}

static struct mb_host_matrix host_f32(const float *p, int64_t n, int64_t k, int64_t sn, int64_t sk)
{
    return (struct mb_host_matrix){.base = p, .storage = MB_STORE_F32, .n = n, .k = k, .stride_n = sn, .stride_k = sk};
}

/* Per head: B_k^T [r, nope] and A^T [kv_lora, r] for the queries; A [r, kv_lora] and B_v [v, r] for the outputs. */
static enum mb_status split_kv_b(struct mb_loader *L, const struct kv_b_dst *d, int64_t r, struct mb_lora_layer *y)
{
    const struct mb_model *m = L->o->model;
    int64_t per = m->nope + m->v_dim, nope = m->nope, kl = m->kv_lora;
    float *t = malloc(sizeof(float) * (size_t)(r * nope + 1));
    enum mb_status st = t == NULL ? mb_error(MB_NO_MEMORY, "no memory for an adapter") : MB_OK;

    for (int32_t h = 0; st == MB_OK && h < m->heads; h++) {
        const float *bk = d->b + h * per * r, *bv = bk + nope * r;
        struct mb_host_matrix at = host_f32(d->a, kl, r, 1, kl), v = host_f32(bv, m->v_dim, r, r, 1);
        for (int64_t j = 0; j < r; j++) {
            for (int64_t i = 0; i < nope; i++)
                t[j * nope + i] = bk[i * r + j];
        }
        mb_load_vec_create(L, r, nope, MB_F32, &y->uk[h].a);
        mb_load_vec_create(L, r, kl, MB_F32, &y->uv[h].a);
        mb_load_mat_create(L, kl, r, MB_MEM_WEIGHTS, &y->uk[h].b);
        mb_load_mat_create(L, m->v_dim, r, MB_MEM_WEIGHTS, &y->uv[h].b);
        st = L->failed;
        if (st == MB_OK)
            st = L->o->ops->copy_in(L->s, y->uk[h].a.view, t);
        if (st == MB_OK)
            st = L->o->ops->copy_in(L->s, y->uv[h].a.view, d->a);
        if (st == MB_OK)
            st = L->o->ops->weight_put(y->uk[h].b, 0, 0, &at);
        if (st == MB_OK)
            st = L->o->ops->weight_put(y->uv[h].b, 0, 0, &v);
    }
    free(t);
    return st;
}

static enum mb_status load_kv_b(struct mb_loader *L, const struct mb_lora *src, struct mb_lora_layer *y)
{
    struct kv_b_dst d = {0};

    if (src == NULL)
        return MB_OK;
    d.a = malloc(sizeof(float) * (size_t)(src->a.n * src->a.k + 1));
    d.b = malloc(sizeof(float) * (size_t)(src->b.n * src->b.k + 1));
    y->uk = calloc((size_t)L->o->model->heads, sizeof *y->uk);
    y->uv = calloc((size_t)L->o->model->heads, sizeof *y->uv);
    if (d.a == NULL || d.b == NULL || y->uk == NULL || y->uv == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for an adapter"));
    enum mb_status st = mb_load_each(L, &src->a, true, take_f32, d.a);
    if (st == MB_OK)
        st = mb_load_each(L, &src->b, true, take_f32, d.b);
    if (st == MB_OK && L->failed == MB_OK)
        mb_load_keep(L, split_kv_b(L, &d, src->a.n, y));
    free(d.a);
    free(d.b);
    return st;
}

static enum mb_status load_own_experts(struct mb_loader *L, const struct mb_adapter *a, const struct mb_layer *base, int32_t l,
                                       struct mb_lora_layer *y)
{
    y->expert = calloc((size_t)base->n_owned + 1, sizeof *y->expert);
    if (y->expert == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for an adapter");
    for (int32_t i = 0; i < base->n_owned; i++) {
        MB_TRY(load_pair(L, mb_adapter_find(a, MB_T_E_GATE, l, base->owned[i]), false, &y->expert[i].gate));
        MB_TRY(load_pair(L, mb_adapter_find(a, MB_T_E_UP, l, base->owned[i]), false, &y->expert[i].up));
        MB_TRY(load_pair(L, mb_adapter_find(a, MB_T_E_DOWN, l, base->owned[i]), false, &y->expert[i].down));
    }
    return MB_OK;
}

static enum mb_status load_shared_sites(struct mb_loader *L, const struct mb_adapter *a, int32_t l, struct mb_lora_layer *y)
{
    for (int s = 0; s < MB_LORA_SITES; s++)
        MB_TRY(load_pair(L, mb_adapter_find(a, site_role[s], l, -1), true, &y->site[s]));
    return load_kv_b(L, mb_adapter_find(a, MB_T_KV_B, l, -1), y);
}

/* Experts first and agreed upon, because only their owners read them; then what all ranks read together. */
static enum mb_status load_adapter(struct mb_engine *e, const struct mb_adapter *a, struct mb_lora_set *set)
{
    struct mb_loader L = {.o = &e->o, .t = &e->t, .c = e->t.peers, .s = e->stream, .w = &e->w};
    int64_t k = MB_LOAD_CHUNK / 4;

    set->scale = a->scale;
    set->rank = a->rank;
    set->layer = calloc((size_t)e->all_layers, sizeof *set->layer);
    enum mb_status st = set->layer == NULL ? mb_error(MB_NO_MEMORY, "no memory for an adapter") : MB_OK;
    for (int64_t i = 0; i < a->n_loras; i++) {
        k = a->loras[i].a.k > k ? a->loras[i].a.k : k;
        k = a->loras[i].b.k > k ? a->loras[i].b.k : k;
    }
    if (st == MB_OK)
        st = mb_reader_create(&a->files, e->o.mem, &L.reader);
    if (st == MB_OK)
        st = mb_load_room(&L, (uint64_t)k * 4);
    for (int32_t l = 0; st == MB_OK && l < e->o.model->layers; l++) {
        if (e->w.layer[l].moe)
            st = load_own_experts(&L, a, &e->w.layer[l], l, &set->layer[l]);
    }
    st = mb_comm_agree(e->o.comm, st, "loading an adapter's experts");
    for (int32_t l = e->t.first_layer; st == MB_OK && L.c != NULL && l < e->t.last_layer; l++)
        st = load_shared_sites(&L, a, l, &set->layer[l]);
    mb_reader_destroy(L.reader);
    mb_free(L.pack);
    return mb_comm_agree(e->o.comm, st == MB_OK ? L.failed : st, "loading an adapter");
}

/* Scratch for the terms of max_rows rows. */
static enum mb_status scratch(struct mb_engine *e)
{
    const struct mb_model *m = e->o.model;
    int64_t wide = m->hidden, R = e->work.max_rows, r = 0;
    const int64_t w[] = {(int64_t)m->heads * m->head_dim, (int64_t)m->heads * m->v_dim, m->ffn, m->expert_ffn, m->shared_ffn,
                         m->q_lora, m->kv_lora + m->rope_mla};
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++)
        wide = w[i] > wide ? w[i] : wide;
    for (int32_t i = 0; i < e->o.n_adapters; i++)
        r = e->lora[i].rank > r ? e->lora[i].rank : r;
    MB_TRY(e->o.ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * wide * 4), &e->lora_x));
    MB_TRY(e->o.ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * wide * 4), &e->lora_y));
    MB_TRY(e->o.ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * r * 4 * MB_MAX_LEAVES), &e->lora_z));
    return e->o.ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(R * r * 4), &e->lora_h);
}

enum mb_status mb_lora_load(struct mb_engine *e)
{
    if (e->o.n_adapters == 0)
        return MB_OK;
    e->lora = calloc((size_t)e->o.n_adapters, sizeof *e->lora);
    MB_TRY(mb_comm_agree(e->o.comm, e->lora == NULL ? mb_error(MB_NO_MEMORY, "no memory for adapters") : MB_OK, "adapters"));
    for (int32_t i = 0; i < e->o.n_adapters; i++)
        MB_TRY(load_adapter(e, e->o.adapters[i], &e->lora[i]));
    return mb_comm_agree(e->o.comm, scratch(e), "memory for adapters");
}

static void free_pair(const struct mb_ops *ops, struct mb_lora_pair *p)
{
    ops->buf_free(p->a.buf);
    ops->weight_free(p->b);
}

static void free_layer(struct mb_engine *e, struct mb_lora_layer *y, int32_t owned)
{
    const struct mb_ops *ops = e->o.ops;
    for (int s = 0; s < MB_LORA_SITES; s++)
        free_pair(ops, &y->site[s]);
    for (int32_t i = 0; i < owned && y->expert != NULL; i++) {
        free_pair(ops, &y->expert[i].gate);
        free_pair(ops, &y->expert[i].up);
        free_pair(ops, &y->expert[i].down);
    }
    for (int32_t h = 0; h < e->o.model->heads && y->uk != NULL && y->uv != NULL; h++) {
        free_pair(ops, &y->uk[h]);
        free_pair(ops, &y->uv[h]);
    }
    free(y->expert);
    free(y->uk);
    free(y->uv);
}

void mb_lora_destroy(struct mb_engine *e)
{
    for (int32_t i = 0; i < e->o.n_adapters && e->lora != NULL; i++) {
        for (int32_t l = 0; l < e->o.model->layers && e->lora[i].layer != NULL; l++)
            free_layer(e, &e->lora[i].layer[l], e->w.layer != NULL ? e->w.layer[l].n_owned : 0);
        free(e->lora[i].layer);
    }
    free(e->lora);
    e->o.ops->buf_free(e->lora_x);
    e->o.ops->buf_free(e->lora_y);
    e->o.ops->buf_free(e->lora_z);
    e->o.ops->buf_free(e->lora_h);
}

/* ---------------------------------------------------------------- adding terms */

/* z = A x by R32 per leaf, leaves summed by the tree (positions 0 .. S-1: neighbours first). */
static enum mb_status low_rank(struct mb_engine *e, const struct mb_lora_pair *p, struct mb_view x, int64_t unit, struct mb_view *z)
{
    const struct mb_ops *ops = e->o.ops;
    int64_t leaf[MB_MAX_LEAVES + 1] = {0, x.cols}, r = p->a.view.rows;
    int32_t S = unit > 0 ? mb_k_leaves(x.cols, unit, leaf) : 1;
    struct mb_view part[MB_MAX_LEAVES];

    for (int32_t i = 0; i < S; i++) {
        part[i] = mb_view_of(e->lora_z, (uint64_t)(i * x.rows * r * 4), x.rows, r, MB_F32);
        MB_TRY(ops->gemm_r32(e->stream, part[i], mb_view_cols(x, leaf[i], leaf[i + 1] - leaf[i]),
                             mb_view_cols(p->a.view, leaf[i], leaf[i + 1] - leaf[i]), MB_NO_VIEW));
    }
    for (int32_t w = 1; w < S; w *= 2) {
        for (int32_t i = 0; i + w < S; i += 2 * w)
            MB_TRY(ops->add(e->stream, part[i], part[i], part[i + w]));
    }
    *z = part[0];
    return MB_OK;
}

static enum mb_status add_some(struct mb_engine *e, const struct mb_lora_pair *p, float scale, struct mb_view out, struct mb_view x,
                               int64_t unit)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view xf = x, z, zt, y = mb_view_of(e->lora_y, 0, x.rows, out.cols, MB_F32);
    struct mb_gemm_group g = {.w = p->b, .rows = x.rows};

    if (x.dtype != MB_F32) {
        xf = mb_view_of(e->lora_x, 0, x.rows, x.cols, MB_F32);
        MB_TRY(ops->copy(e->stream, xf, x));
    }
    MB_TRY(low_rank(e, p, xf, unit, &z));
    zt = z;
    if (e->o.path != MB_F32) {
        zt = mb_view_of(e->lora_h, 0, z.rows, z.cols, e->o.path);
        MB_TRY(ops->copy(e->stream, zt, z));
    }
    MB_TRY(ops->gemm(e->stream, y, zt, &g, 1));
    MB_TRY(ops->scale(e->stream, y, scale));
    return ops->add(e->stream, out, out, y);
}

enum mb_status mb_lora_add(struct mb_engine *e, const struct mb_lora_pair *p, const struct mb_lora_run *run, struct mb_view out,
                           struct mb_view x, int64_t unit)
{
    if (p->a.buf == NULL)
        return MB_OK;
    for (int64_t r = 0; r < run->rows; r += e->work.max_rows) {
        int64_t n = run->rows - r < e->work.max_rows ? run->rows - r : e->work.max_rows;
        MB_TRY(add_some(e, p, e->lora[run->adapter].scale, mb_view_rows(out, run->row0 + r, n), mb_view_rows(x, run->row0 + r, n), unit));
    }
    return MB_OK;
}

enum mb_status mb_lora_site(struct mb_engine *e, int32_t l, enum mb_lora_site site, struct mb_view out, struct mb_view x, int64_t unit)
{
    for (int32_t i = 0; i < e->batch.n_runs; i++) {
        const struct mb_lora_run *run = &e->batch.run[i];
        MB_TRY(mb_lora_add(e, &e->lora[run->adapter].layer[l].site[site], run, out, x, unit));
    }
    return MB_OK;
}

bool mb_lora_touches_kv_b(const struct mb_engine *e, int32_t l)
{
    for (int32_t i = 0; i < e->batch.n_runs; i++) {
        if (e->lora[e->batch.run[i].adapter].layer[l].uk != NULL)
            return true;
    }
    return false;
}

enum mb_status mb_lora_heads(struct mb_engine *e, int32_t l, bool up, struct mb_view out, int64_t out_step, struct mb_view x,
                             int64_t x_step)
{
    const struct mb_model *m = e->o.model;

    for (int32_t i = 0; i < e->batch.n_runs; i++) {
        const struct mb_lora_run *run = &e->batch.run[i];
        const struct mb_lora_layer *y = &e->lora[run->adapter].layer[l];
        for (int32_t h = 0; h < m->heads && y->uk != NULL; h++) {
            const struct mb_lora_pair *p = up ? &y->uv[h] : &y->uk[h];
            MB_TRY(mb_lora_add(e, p, run, mb_view_cols(out, h * out_step, up ? m->v_dim : m->kv_lora),
                               mb_view_cols(x, h * x_step, up ? m->kv_lora : m->nope), 0));
        }
    }
    return MB_OK;
}

bool mb_lora_on_experts(const struct mb_engine_options *o)
{
    for (int32_t i = 0; i < o->n_adapters; i++) {
        if (mb_adapter_on_experts(o->adapters[i]))
            return true;
    }
    return false;
}
