/* Weights whose rows lie head by head in the files and kind by kind here: queries with the gates of their
 * heads, and gated DeltaNet's projections (doc/models, Qwen3-Next). */
#include <stdlib.h>
#include "base/log.h"
#include "engine/load.h"

/* Rows of one tensor, gathered until they are loaded. */
struct rows {
    struct mb_rows_to *r;
    int32_t n;
};

static enum mb_status rows_for(struct mb_loader *L, int64_t n, struct rows *out)
{
    *out = (struct rows){calloc((size_t)n + 1, sizeof *out->r), 0};
    if (out->r == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for a list of %lld heads", (long long)n));
    return MB_OK;
}

static void add(struct rows *s, int64_t from, int64_t n, int64_t to)
{
    if (s->r != NULL)
        s->r[s->n++] = (struct mb_rows_to){from, n, to};
}

static enum mb_status load_rows(struct mb_loader *L, enum mb_role role, int32_t layer, struct rows *s,
                                struct mb_weight *w)
{
    const struct mb_tensor *t = mb_load_find(L, role, layer, -1);
    enum mb_status st = t == NULL ? mb_error(MB_BUG, "layer %d has no tensor of role %d", layer, (int)role)
                                  : mb_load_mat_rows(L, t, s->r, s->n, w);
    free(s->r);
    return st;
}

/* The form of a weight of these tensors. */
static struct mb_form form_of(const struct mb_loader *L, int32_t layer, const enum mb_role *role, int n)
{
    const struct mb_tensor *t[3];

    for (int i = 0; i < n; i++) {
        t[i] = mb_load_find(L, role[i], layer, -1);
        if (t[i] == NULL)
            return (struct mb_form){0};
    }
    return mb_model_form_of(L->o->model, t, n);
}

enum mb_status mb_load_gated(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    const struct mb_model *m = L->o->model;
    const struct mb_part_heads *h = &L->t->h;
    const enum mb_role role[3] = {MB_T_QG, MB_T_K, MB_T_V};
    int64_t d = m->head_dim, q = h->heads * d, k = h->kv_heads * d, k0 = h->kv0 * d, dv = m->v_dim;
    int64_t v = h->kv_heads * dv, v0 = h->kv0 * dv;
    struct rows s;

    MB_TRY(mb_load_mat_create_as(L, 2 * q + k + v, m->hidden, form_of(L, layer, role, 3), MB_MEM_WEIGHTS,
                                 &y->qkv));
    MB_TRY(rows_for(L, 2 * (int64_t)h->heads, &s));
    for (int64_t i = 0; i < h->heads; i++) {
        add(&s, (h->head0 + i) * 2 * d, d, i * d);
        add(&s, (h->head0 + i) * 2 * d + d, d, q + k + v + i * d);
    }
    MB_TRY(load_rows(L, MB_T_QG, layer, &s, y->qkv));
    MB_TRY(mb_load_mat_put(L, mb_load_find(L, MB_T_K, layer, -1), true,
                           (struct mb_part){k0, k0 + k, 0, m->hidden}, y->qkv, q));
    return mb_load_mat_put(L, mb_load_find(L, MB_T_V, layer, -1), true,
                           (struct mb_part){v0, v0 + v, 0, m->hidden}, y->qkv, q + k);
}

/* ---------------------------------------------------------------- gated DeltaNet */
/* Own heads, and where they are: q and k from keys on, v and z from values on. */
struct own {
    int64_t keys, values, k0, v0; /* widths, and places among all */
    int64_t all_keys, all_values;
    int32_t per; /* value heads of a key head */
};

static struct own own_of(const struct mb_loader *L)
{
    const struct mb_delta_shape *d = &L->o->model->delta;
    const struct mb_part_heads *h = &L->t->d;

    return (struct own){(int64_t)h->kv_heads * d->dk,  (int64_t)h->heads * d->dv,
                        (int64_t)h->kv0 * d->dk,       (int64_t)h->head0 * d->dv,
                        (int64_t)d->key_heads * d->dk, (int64_t)d->value_heads * d->dv,
                        d->value_heads / d->key_heads};
}

/* Files that have q, k, v and z of a key head together, and b and a. */
static enum mb_status load_grouped(struct mb_loader *L, int32_t layer, struct mb_delta *y)
{
    const struct mb_delta_shape *d = &L->o->model->delta;
    const struct mb_part_heads *h = &L->t->d;
    struct own o = own_of(L);
    int64_t group = 2 * d->dk + 2 * (int64_t)o.per * d->dv;
    struct rows s, r;

    MB_TRY(rows_for(L, 2 * ((int64_t)h->kv_heads + h->heads), &s));
    for (int64_t i = 0; i < h->kv_heads; i++) {
        add(&s, (h->kv0 + i) * group, d->dk, i * d->dk);
        add(&s, (h->kv0 + i) * group + d->dk, d->dk, o.keys + i * d->dk);
    }
    for (int64_t i = 0; i < h->heads; i++) {
        int64_t head = h->head0 + i, v = head / o.per * group + 2 * d->dk + head % o.per * d->dv;
        add(&s, v, d->dv, 2 * o.keys + i * d->dv);
        add(&s, v + o.per * d->dv, d->dv, 2 * o.keys + o.values + i * d->dv);
    }
    MB_TRY(load_rows(L, MB_T_L_QKVZ, layer, &s, y->qkvz));
    MB_TRY(rows_for(L, 2 * (int64_t)h->heads, &r));
    for (int64_t i = 0; i < h->heads; i++) {
        int64_t head = h->head0 + i, b = head / o.per * 2 * o.per + head % o.per;
        add(&r, b, 1, i);
        add(&r, b + o.per, 1, h->heads + i);
    }
    return load_rows(L, MB_T_L_BA, layer, &r, y->ba);
}

/* Files that have them one by one. */
static enum mb_status load_split(struct mb_loader *L, int32_t layer, struct mb_delta *y)
{
    const struct mb_part_heads *h = &L->t->d;
    struct own o = own_of(L);
    int64_t H = L->o->model->hidden, n = h->heads;
    const struct mb_part heads = {h->head0, h->head0 + n, 0, H};
    struct rows s;

    MB_TRY(rows_for(L, 3, &s));
    add(&s, o.k0, o.keys, 0);
    add(&s, o.all_keys + o.k0, o.keys, o.keys);
    add(&s, 2 * o.all_keys + o.v0, o.values, 2 * o.keys);
    MB_TRY(load_rows(L, MB_T_L_QKV, layer, &s, y->qkvz));
    MB_TRY(mb_load_mat_put(L, mb_load_find(L, MB_T_L_Z, layer, -1), true,
                           (struct mb_part){o.v0, o.v0 + o.values, 0, H}, y->qkvz, 2 * o.keys + o.values));
    MB_TRY(mb_load_mat_put(L, mb_load_find(L, MB_T_L_B, layer, -1), true, heads, y->ba, 0));
    return mb_load_mat_put(L, mb_load_find(L, MB_T_L_A, layer, -1), true, heads, y->ba, n);
}

static enum mb_status load_vectors(struct mb_loader *L, int32_t layer, struct mb_delta *y)
{
    const struct mb_delta_shape *d = &L->o->model->delta;
    const struct mb_part_heads *h = &L->t->d;
    const struct mb_tensor *conv = mb_load_find(L, MB_T_L_CONV, layer, -1);
    struct own o = own_of(L);
    const int64_t from[3] = {o.k0, o.all_keys + o.k0, 2 * o.all_keys + o.v0},
                  n[3] = {o.keys, o.keys, o.values};
    int64_t col = 0;

    if (conv == NULL)
        return mb_error(MB_BUG, "layer %d has no convolution", layer);
    MB_TRY(mb_load_vec_create(L, d->taps, 2 * o.keys + o.values, MB_F32, &y->conv));
    for (int i = 0; i < 3; i++) {
        MB_TRY(mb_load_vec_put(L, conv, true, (struct mb_part){0, d->taps, from[i], from[i] + n[i]}, &y->conv,
                               0, col));
        col += n[i];
    }
    MB_TRY(mb_load_vec_cols(L, MB_T_L_A_LOG, layer, h->head0, h->head0 + h->heads, &y->a_log));
    MB_TRY(mb_load_vec_cols(L, MB_T_L_DT, layer, h->head0, h->head0 + h->heads, &y->dt));
    return mb_load_vec(L, MB_T_L_NORM, layer, &y->norm);
}

enum mb_status mb_load_delta_layer(struct mb_loader *L, int32_t layer, struct mb_layer *y)
{
    bool grouped = mb_load_find(L, MB_T_L_QKVZ, layer, -1) != NULL;
    const enum mb_role wide[2] = {grouped ? MB_T_L_QKVZ : MB_T_L_QKV, MB_T_L_Z},
                       thin[2] = {grouped ? MB_T_L_BA : MB_T_L_B, MB_T_L_A};
    int64_t H = L->o->model->hidden, n = L->t->d.heads;
    struct own o = own_of(L);

    MB_TRY(mb_load_mat_create_as(L, 2 * (o.keys + o.values), H, form_of(L, layer, wide, grouped ? 1 : 2),
                                 MB_MEM_WEIGHTS, &y->delta.qkvz));
    MB_TRY(mb_load_mat_create_as(L, 2 * n, H, form_of(L, layer, thin, grouped ? 1 : 2), MB_MEM_WEIGHTS,
                                 &y->delta.ba));
    MB_TRY(grouped ? load_grouped(L, layer, &y->delta) : load_split(L, layer, &y->delta));
    return load_vectors(L, layer, &y->delta);
}
