/* Loading adapters: the rank's part of every pair. */
#include "engine/lora.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/load.h"
#include "engine/context.h"

static const enum mb_role site_role[MB_LORA_SITES] = {
    [MB_LORA_Q] = MB_T_Q, [MB_LORA_K] = MB_T_K, [MB_LORA_V] = MB_T_V, [MB_LORA_O] = MB_T_O, [MB_LORA_Q_A] = MB_T_Q_A,
    [MB_LORA_Q_B] = MB_T_Q_BPROJ, [MB_LORA_KV_A] = MB_T_KV_A, [MB_LORA_GATE] = MB_T_GATE, [MB_LORA_UP] = MB_T_UP,
    [MB_LORA_DOWN] = MB_T_DOWN, [MB_LORA_SH_GATE] = MB_T_SH_GATE, [MB_LORA_SH_UP] = MB_T_SH_UP, [MB_LORA_SH_DOWN] = MB_T_SH_DOWN,
};

/* The rank's part of both factors: A's inputs and B's outputs are cut like the weight's. */
static enum mb_status load_pair(struct mb_loader *L, const struct mb_lora *src, bool shared, struct mb_lora_pair *p)
{
    if (src == NULL)
        return MB_OK;
    bool slice = mb_role_of_expert((enum mb_role)src->a.role);
    struct mb_part_matrix w =
        mb_part_matrix(L->o->model, (enum mb_role)src->a.role, src->b.n, src->a.k, slice ? L->t->g.etp_rank : L->t->g.tp_rank,
                       slice ? L->t->g.etp_size : L->t->g.tp_size);
    const struct mb_part a = {0, src->a.n, w.k0, w.k1}, b = {w.n0, w.n1, 0, src->b.k};

    p->unit = w.unit;
    p->inputs = src->a.k;
    MB_TRY(mb_load_vec_create(L, src->a.n, w.k1 - w.k0, MB_F32, &p->a));
    MB_TRY(mb_load_vec_put(L, &src->a, shared, a, &p->a, 0, 0));
    MB_TRY(mb_load_mat_create(L, w.n1 - w.n0, src->b.k, MB_MEM_WEIGHTS, &p->b));
    return mb_load_mat_put(L, &src->b, shared, b, p->b, 0);
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

/* Per own head: B_k^T [r, nope] and A^T [kv_lora, r] for the queries; A [r, kv_lora] and B_v [v, r] for the outputs. */
static enum mb_status split_kv_b(struct mb_loader *L, const struct kv_b_dst *d, int64_t r, struct mb_lora_layer *y)
{
    const struct mb_model *m = L->o->model;
    int64_t per = m->nope + m->v_dim, nope = m->nope, kl = m->kv_lora;
    float *t = malloc(sizeof(float) * (size_t)(r * nope + 1));
    enum mb_status st = t == NULL ? mb_error(MB_NO_MEMORY, "no memory for an adapter") : MB_OK;

    for (int32_t h = 0; st == MB_OK && h < L->t->h.heads; h++) {
        const float *bk = d->b + (L->t->h.head0 + h) * per * r, *bv = bk + nope * r;
        struct mb_host_matrix at = host_f32(d->a, kl, r, 1, kl), v = host_f32(bv, m->v_dim, r, r, 1);
        for (int64_t j = 0; j < r; j++) {
            for (int64_t i = 0; i < nope; i++)
                t[j * nope + i] = bk[i * r + j];
        }
        mb_load_vec_create(L, r, nope, MB_F32, &y->uk[h].a);
        mb_load_vec_create(L, r, kl, MB_F32, &y->uv[h].a);
        y->uk[h].inputs = nope;
        y->uv[h].inputs = kl;
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
    y->uk = calloc((size_t)L->t->h.heads, sizeof *y->uk);
    y->uv = calloc((size_t)L->t->h.heads, sizeof *y->uv);
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
static enum mb_status load_adapter(struct mb_context *c, const struct mb_adapter *a, struct mb_lora_set *set)
{
    struct mb_loader L = {.o = &c->o, .t = &c->t, .c = c->t.g.peers, .s = c->stream, .w = &c->w};
    struct mb_load_sizes n;

    mb_load_sizes_of_adapter(a, &n);
    set->scale = a->scale;
    set->rank = a->rank;
    set->layer = calloc((size_t)c->all_layers, sizeof *set->layer);
    enum mb_status st = set->layer == NULL ? mb_error(MB_NO_MEMORY, "no memory for an adapter") : MB_OK;
    if (st == MB_OK)
        st = mb_reader_create(&a->files, c->o.mem, &L.reader);
    if (st == MB_OK)
        st = mb_load_reserve(&L, &n, n.pack);
    for (int32_t l = 0; st == MB_OK && l < c->o.model->layers; l++) {
        if (c->w.layer[l].moe)
            st = load_own_experts(&L, a, &c->w.layer[l], l, &set->layer[l]);
    }
    st = mb_comm_agree(c->o.comm, st, "loading an adapter's experts");
    for (int32_t l = c->t.first_layer; st == MB_OK && L.c != NULL && l < c->t.last_layer; l++)
        st = load_shared_sites(&L, a, l, &set->layer[l]);
    mb_reader_destroy(L.reader);
    mb_free(L.pack);
    mb_free(L.f32);
    return mb_comm_agree(c->o.comm, st == MB_OK ? L.failed : st, "loading an adapter");
}

enum mb_status mb_lora_load(struct mb_context *c)
{
    if (c->o.n_adapters == 0)
        return MB_OK;
    c->lora = calloc((size_t)c->o.n_adapters, sizeof *c->lora);
    MB_TRY(mb_comm_agree(c->o.comm, c->lora == NULL ? mb_error(MB_NO_MEMORY, "no memory for adapters") : MB_OK, "adapters"));
    for (int32_t i = 0; i < c->o.n_adapters; i++)
        MB_TRY(load_adapter(c, c->o.adapters[i], &c->lora[i]));
    return MB_OK;
}

static void free_pair(const struct mb_ops *ops, struct mb_lora_pair *p)
{
    ops->buf_free(p->a.buf);
    ops->weight_free(p->b);
}

static void free_layer(struct mb_context *c, struct mb_lora_layer *y, int32_t owned)
{
    const struct mb_ops *ops = c->o.ops;
    for (int s = 0; s < MB_LORA_SITES; s++)
        free_pair(ops, &y->site[s]);
    for (int32_t i = 0; i < owned && y->expert != NULL; i++) {
        free_pair(ops, &y->expert[i].gate);
        free_pair(ops, &y->expert[i].up);
        free_pair(ops, &y->expert[i].down);
    }
    for (int32_t h = 0; h < c->t.h.heads && y->uk != NULL && y->uv != NULL; h++) {
        free_pair(ops, &y->uk[h]);
        free_pair(ops, &y->uv[h]);
    }
    free(y->expert);
    free(y->uk);
    free(y->uv);
}

void mb_lora_destroy(struct mb_context *c)
{
    for (int32_t i = 0; i < c->o.n_adapters && c->lora != NULL; i++) {
        for (int32_t l = 0; l < c->o.model->layers && c->lora[i].layer != NULL; l++)
            free_layer(c, &c->lora[i].layer[l], c->w.layer != NULL ? c->w.layer[l].n_owned : 0);
        free(c->lora[i].layer);
    }
    free(c->lora);
}
