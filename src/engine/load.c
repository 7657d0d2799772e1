/* Rows of tensors from files or peers into device memory. */
#include "engine/load.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/reader.h"

const struct mb_tensor *mb_load_find(const struct mb_loader *L, enum mb_role role, int32_t layer, int32_t expert)
{
    return mb_model_tensor(L->o->model, role, layer, expert);
}

/* ---------------------------------------------------------------- rows of one tensor, from the file or from a peer */

enum mb_status mb_load_room(struct mb_loader *L, uint64_t bytes)
{
    if (bytes <= L->pack_bytes)
        return MB_OK;
    uint8_t *p = mb_alloc(L->o->mem, MB_MEM_STAGING, bytes, 1);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu bytes of weights in transit", (unsigned long long)bytes);
    mb_free(L->pack);
    L->pack = p;
    L->pack_bytes = bytes;
    return MB_OK;
}

/* Tight rows in the storage type; FP8 becomes f32, because its scales lie elsewhere. */
static void pack_rows(const struct mb_host_matrix *m, uint8_t *dst)
{
    int64_t es = mb_storage_size(m->storage);
    const uint8_t *base = m->base;

    if (m->storage == MB_STORE_F8E4M3) {
        mb_host_to_f32(m, (float *)dst);
        return;
    }
    for (int64_t i = 0; i < m->n; i++) {
        const uint8_t *row = base + i * m->stride_n * es;
        if (m->stride_k == 1) {
            memcpy(dst + i * m->k * es, row, (size_t)(m->k * es));
            continue;
        }
        for (int64_t j = 0; j < m->k; j++)
            memcpy(dst + (i * m->k + j) * es, row + j * m->stride_k * es, (size_t)es);
    }
}

static enum mb_status read_local(struct mb_loader *L, const struct mb_tensor *t, int64_t n0, int64_t n,
                                 struct mb_host_matrix *out)
{
    return mb_reader_rows(L->reader, t, n0, n, out);
}

/* The root reads and packs; everybody gets the same rows. A root that fails says so before the rows would follow. */
static enum mb_status read_shared(struct mb_loader *L, const struct mb_tensor *t, int64_t n0, int64_t n, int root,
                                  struct mb_host_matrix *out)
{
    enum mb_storage form = t->storage == MB_STORE_F8E4M3 ? MB_STORE_F32 : (enum mb_storage)t->storage;
    uint64_t bytes = (uint64_t)(n * t->k * mb_storage_size(form));
    int32_t st = MB_OK;
    bool mine = mb_comm_rank(L->o->comm) == root;
    struct mb_host_matrix m;

    if (mine && st == MB_OK)
        st = (int32_t)mb_reader_rows(L->reader, t, n0, n, &m);
    if (mine && st == MB_OK)
        pack_rows(&m, L->pack);
    int32_t root_st = st;
    MB_TRY(mb_comm_bcast(L->o->comm, &root_st, sizeof root_st, root, "weight status"));
    if (root_st != MB_OK)
        return mine ? (enum mb_status)root_st : MB_PEER;
    MB_TRY(mb_comm_bcast(L->o->comm, L->pack, bytes, root, "weights"));
    if (!mine)
        L->w->bytes_received += (int64_t)bytes;
    *out = (struct mb_host_matrix){.base = L->pack, .storage = form, .n = n, .k = t->k, .stride_n = t->k, .stride_k = 1};
    return MB_OK;
}


/* Hands a tensor to take() in chunks of rows. */
enum mb_status mb_load_each(struct mb_loader *L, const struct mb_tensor *t, bool shared, mb_take_fn take, void *arg)
{
    bool alone = mb_comm_size(L->o->comm) == 1;
    int64_t step = MB_LOAD_CHUNK / (t->k * 4);
    int root = L->turn;
    struct mb_host_matrix m;

    if (shared)
        L->turn = (L->turn + 1) % mb_comm_size(L->o->comm);
    if (step < 1)
        step = 1;
    for (int64_t n0 = 0; n0 < t->n; n0 += step) {
        int64_t n = t->n - n0 < step ? t->n - n0 : step;
        if (shared && !alone)
            MB_TRY(read_shared(L, t, n0, n, root, &m));
        else
            MB_TRY(read_local(L, t, n0, n, &m));
        if (L->failed == MB_OK)
            mb_load_keep(L, take(L, arg, n0, &m));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- what the rows become */

struct vec_dst {
    struct mb_vec *v;
    int64_t row0, col0;
    float *tmp;
};

static enum mb_status take_vec(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    struct vec_dst *d = arg;
    struct mb_view dst = mb_view_cols(mb_view_rows(d->v->view, d->row0 + n0, m->n), d->col0, m->k);

    if (dst.dtype == MB_BF16) {
        if (m->stride_k == 1 && m->stride_n == m->k)
            return L->o->ops->copy_in(L->s, dst, m->base);
        pack_rows(m, (uint8_t *)d->tmp);
    } else {
        mb_host_to_f32(m, d->tmp);
    }
    return L->o->ops->copy_in(L->s, dst, d->tmp);
}

enum mb_status mb_load_vec_create(struct mb_loader *L, int64_t rows, int64_t cols, enum mb_dtype t, struct mb_vec *v)
{
    uint64_t bytes = (uint64_t)(rows * cols * mb_dtype_size(t));
    enum mb_status st = L->failed != MB_OK ? L->failed : L->o->ops->buf_alloc(L->o->dev, MB_MEM_WEIGHTS, bytes, &v->buf);
    if (st != MB_OK)
        return mb_load_keep(L, st);
    v->view = mb_view_of(v->buf, 0, rows, cols, t);
    L->w->dense_bytes += rows * cols * mb_dtype_size(t);
    return MB_OK;
}

enum mb_status mb_load_vec_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_vec *v, int64_t row0,
                              int64_t col0)
{
    struct vec_dst d = {v, row0, col0, NULL};
    int64_t rows = MB_LOAD_CHUNK / (t->k * 4);
    if (rows < 1)
        rows = 1;
    if (rows > t->n)
        rows = t->n;
    d.tmp = mb_alloc(L->o->mem, MB_MEM_STAGING, (size_t)(rows * t->k), sizeof(float));
    if (d.tmp == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for %lld rows of a tensor in transit", (long long)rows));
    enum mb_status st = mb_load_each(L, t, shared, take_vec, &d);
    mb_free(d.tmp);
    return st;
}

/* A whole f32 tensor as it is; absent tensors leave the vector empty. */
enum mb_status mb_load_vec(struct mb_loader *L, enum mb_role role, int32_t layer, struct mb_vec *v)
{
    const struct mb_tensor *t = mb_load_find(L, role, layer, -1);
    if (t == NULL)
        return MB_OK;
    MB_TRY(mb_load_vec_create(L, t->n, t->k, MB_F32, v));
    return mb_load_vec_put(L, t, true, v, 0, 0);
}

struct mat_dst {
    struct mb_weight *w;
    int64_t n0;
};

static enum mb_status take_mat(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m)
{
    struct mat_dst *d = arg;
    return L->o->ops->weight_put(d->w, d->n0 + n0, 0, m);
}

enum mb_status mb_load_mat_create(struct mb_loader *L, int64_t n, int64_t k, int64_t unit, enum mb_mem_cat cat,
                                 struct mb_weight **out)
{
    struct mb_weight_desc d = {.n = n, .k = k, .dtype = L->o->path, .leaves = 1, .cat = cat};
    d.leaf[1] = k;
    if (unit > 0)
        d.leaves = mb_k_leaves(k, unit, d.leaf);
    enum mb_status st = L->failed != MB_OK ? L->failed : L->o->ops->weight_create(L->o->dev, &d, out);
    if (st != MB_OK)
        return mb_load_keep(L, st);
    int64_t bytes = (int64_t)L->o->ops->weight_bytes(*out);
    if (cat == MB_MEM_EXPERTS)
        L->w->expert_bytes += bytes;
    else
        L->w->dense_bytes += bytes;
    return MB_OK;
}

/* One tensor into rows n0.. of a weight that exists. */
enum mb_status mb_load_mat_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_weight *w, int64_t n0)
{
    struct mat_dst d = {w, n0};
    return mb_load_each(L, t, shared, take_mat, &d);
}

/* A shared weight made of up to three tensors stacked by outputs, with their biases. unit > 0: row-parallel leaves. */
enum mb_status mb_load_mat_stack(struct mb_loader *L, int32_t layer, const enum mb_role *roles, const enum mb_role *bias,
                                int32_t n_roles, int64_t unit, struct mb_weight **w, struct mb_vec *b)
{
    int64_t n = 0, k = 0, n0 = 0;
    bool has_bias = false;

    for (int32_t i = 0; i < n_roles; i++) {
        const struct mb_tensor *t = mb_load_find(L, roles[i], layer, -1);
        if (t == NULL)
            return mb_error(MB_BUG, "layer %d has no tensor of role %d", layer, roles[i]);
        n += t->n;
        k = t->k;
        has_bias |= bias != NULL && mb_load_find(L, bias[i], layer, -1) != NULL;
    }
    MB_TRY(mb_load_mat_create(L, n, k, unit, MB_MEM_WEIGHTS, w));
    if (has_bias)
        MB_TRY(mb_load_vec_create(L, 1, n, MB_F32, b));
    for (int32_t i = 0; i < n_roles; i++) {
        const struct mb_tensor *t = mb_load_find(L, roles[i], layer, -1);
        const struct mb_tensor *tb = has_bias ? mb_load_find(L, bias[i], layer, -1) : NULL;
        MB_TRY(mb_load_mat_put(L, t, true, *w, n0));
        if (tb != NULL)
            MB_TRY(mb_load_vec_put(L, tb, true, b, 0, n0));
        n0 += t->n;
    }
    return MB_OK;
}
