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

enum mb_status mb_load_reserve(struct mb_loader *L, const struct mb_load_sizes *n, int64_t pack)
{
    L->elements = n->elements;
    L->f32_bytes = n->f32;
    L->f32 = mb_alloc(L->o->mem, MB_MEM_STAGING, (size_t)n->f32, 1);
    if (L->f32 == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %lld bytes of weights in transit", (long long)n->f32);
    MB_TRY(mb_reader_reserve(L->reader, n));
    return mb_load_room(L, (uint64_t)pack);
}

/* Tight rows in the storage type; FP8 and codes become f32, because their scales lie elsewhere. */
static void pack_rows(const struct mb_host_matrix *m, uint8_t *dst)
{
    int64_t es = mb_storage_size(m->storage);
    const uint8_t *base = m->base;

    if (mb_storage_fp8(m->storage) || m->storage == MB_STORE_CODES) {
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
    struct mb_form form = mb_model_form(L->o->model, t, 0);
    bool stored = mb_form_stored(&form);
    enum mb_storage type = mb_storage_fp8((enum mb_storage)t->storage) ? MB_STORE_F32 : (enum mb_storage)t->storage;
    uint64_t bytes = stored ? (uint64_t)mb_form_blob(&form, n, t->k).bytes : (uint64_t)(n * t->k * mb_storage_size(type));
    int32_t st = MB_OK;
    bool mine = mb_comm_rank(L->c) == root;
    struct mb_host_matrix m;

    if (mine && st == MB_OK)
        st = (int32_t)mb_reader_rows(L->reader, t, n0, n, &m);
    if (mine && st == MB_OK && stored)
        mb_host_blob(&m, &form, L->pack);
    else if (mine && st == MB_OK)
        pack_rows(&m, L->pack);
    int32_t root_st = st;
    MB_TRY(mb_comm_bcast(L->c, &root_st, sizeof root_st, root, "weight status"));
    if (root_st != MB_OK)
        return mine ? (enum mb_status)root_st : MB_PEER;
    MB_TRY(mb_comm_bcast(L->c, L->pack, bytes, root, "weights"));
    if (!mine)
        L->w->bytes_received += (int64_t)bytes;
    *out = stored ? mb_host_stored(&form, n, t->k, L->pack)
                  : (struct mb_host_matrix){.base = L->pack, .storage = type, .n = n, .k = t->k, .stride_n = t->k, .stride_k = 1};
    return MB_OK;
}


static int64_t chunk_rows(const struct mb_loader *L, const struct mb_tensor *t)
{
    int64_t n = (L->elements > 0 ? L->elements : MB_LOAD_CHUNK / 4) / t->k;
    return n > 0 ? n : 1;
}

enum mb_status mb_load_each(struct mb_loader *L, const struct mb_tensor *t, bool shared, mb_take_fn take, void *arg)
{
    return mb_load_rows(L, t, shared, 0, t->n, take, arg);
}

enum mb_status mb_load_rows(struct mb_loader *L, const struct mb_tensor *t, bool shared, int64_t from, int64_t to, mb_take_fn take,
                            void *arg)
{
    bool alone = !shared || mb_comm_size(L->c) == 1;
    int64_t step = chunk_rows(L, t);
    int root = L->turn;
    struct mb_host_matrix m;

    if (shared)
        L->turn = (L->turn + 1) % mb_comm_size(L->c);
    if (shared) {
        from = 0;
        to = t->n;
    }
    for (int64_t n0 = from; n0 < to; n0 += step) {
        int64_t n = to - n0 < step ? to - n0 : step;
        if (L->c != NULL)
            mb_comm_alive(L->o->comm); /* the others may have less to read */
        if (!alone)
            MB_TRY(read_shared(L, t, n0, n, root, &m));
        else
            MB_TRY(read_local(L, t, n0, n, &m));
        if (L->failed == MB_OK)
            mb_load_keep(L, take(L, arg, n0, &m));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- what the rows become */

/* The part of chunk m (rows n0.. of its tensor) that lies in p: *row gets its first row, counted from p's. False: none. */
static bool cut(const struct mb_host_matrix *m, int64_t n0, const struct mb_part *p, struct mb_host_matrix *out, int64_t *row)
{
    int64_t a = n0 > p->n0 ? n0 : p->n0, b = n0 + m->n < p->n1 ? n0 + m->n : p->n1;

    if (a >= b || p->k0 >= p->k1)
        return false;
    *out = mb_host_part(m, a - n0, b - a, p->k0, p->k1 - p->k0);
    *row = a - p->n0;
    return true;
}

struct vec_dst {
    struct mb_part part;
    struct mb_vec *v;
    int64_t row0, col0;
    float *tmp;
    bool plus_one; /* norms that are stored less 1: fl32(1 + w) */
};

static enum mb_status take_vec(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *whole)
{
    struct vec_dst *d = arg;
    struct mb_host_matrix m;
    int64_t row;

    if (!cut(whole, n0, &d->part, &m, &row))
        return MB_OK;
    struct mb_view dst = mb_view_cols(mb_view_rows(d->v->view, d->row0 + row, m.n), d->col0, m.k);
    if (dst.dtype == MB_BF16) {
        if (m.stride_k == 1 && m.stride_n == m.k)
            return L->o->ops->copy_in(L->s, dst, m.base);
        pack_rows(&m, (uint8_t *)d->tmp);
    } else {
        mb_host_to_f32(&m, d->tmp);
        for (int64_t i = 0; d->plus_one && i < m.n * m.k; i++)
            d->tmp[i] = 1.0f + d->tmp[i];
    }
    return L->o->ops->copy_in(L->s, dst, d->tmp);
}

enum mb_status mb_load_vec_create(struct mb_loader *L, int64_t rows, int64_t cols, enum mb_dtype t, struct mb_vec *v)
{
    uint64_t bytes = (uint64_t)(rows * cols * mb_dtype_size(t));
    if (bytes == 0)
        return MB_OK;
    enum mb_status st = L->failed != MB_OK ? L->failed : L->o->ops->buf_alloc(L->o->dev, MB_MEM_WEIGHTS, bytes, &v->buf);
    if (st != MB_OK)
        return mb_load_keep(L, st);
    v->view = mb_view_of(v->buf, 0, rows, cols, t);
    L->w->dense_bytes += rows * cols * mb_dtype_size(t);
    return MB_OK;
}

enum mb_status mb_load_vec_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_part part, struct mb_vec *v,
                               int64_t row0, int64_t col0)
{
    struct vec_dst d = {part, v, row0, col0, NULL, mb_model_plus_one(L->o->model, (enum mb_role)t->role)};
    int64_t rows = chunk_rows(L, t);
    bool as_it_is = v->view.dtype == MB_BF16 && t->stride_k == 1 && t->stride_n == t->k; /* goes without */
    if (rows > t->n)
        rows = t->n;
    if (!as_it_is)
        d.tmp = rows * t->k * 4 <= L->f32_bytes ? L->f32
                                                : mb_alloc(L->o->mem, MB_MEM_STAGING, (size_t)(rows * t->k), sizeof(float));
    if (!as_it_is && d.tmp == NULL)
        mb_load_keep(L, mb_error(MB_NO_MEMORY, "no memory for %lld rows of a tensor in transit", (long long)rows));
    enum mb_status st = mb_load_each(L, t, shared, take_vec, &d);
    if (d.tmp != L->f32)
        mb_free(d.tmp);
    return st;
}

enum mb_status mb_load_vec_cols(struct mb_loader *L, enum mb_role role, int32_t layer, int64_t k0, int64_t k1, struct mb_vec *v)
{
    const struct mb_tensor *t = mb_load_find(L, role, layer, -1);
    if (t == NULL)
        return MB_OK;
    MB_TRY(mb_load_vec_create(L, t->n, k1 - k0, MB_F32, v));
    return mb_load_vec_put(L, t, true, (struct mb_part){0, t->n, k0, k1}, v, 0, 0);
}

/* A whole f32 tensor as it is; absent tensors leave the vector empty. */
enum mb_status mb_load_vec(struct mb_loader *L, enum mb_role role, int32_t layer, struct mb_vec *v)
{
    const struct mb_tensor *t = mb_load_find(L, role, layer, -1);
    return t == NULL ? MB_OK : mb_load_vec_cols(L, role, layer, 0, t->k, v);
}

struct mat_dst {
    struct mb_part part;
    struct mb_weight *w;
    int64_t n0;
};

static enum mb_status take_mat(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *whole)
{
    struct mat_dst *d = arg;
    struct mb_host_matrix m;
    int64_t row;

    return cut(whole, n0, &d->part, &m, &row) ? L->o->ops->weight_put(d->w, d->n0 + row, 0, &m) : MB_OK;
}

static enum mb_status create(struct mb_loader *L, const struct mb_weight_desc *d, struct mb_weight **out)
{
    enum mb_status st = L->failed != MB_OK ? L->failed : L->o->ops->weight_create(L->o->dev, d, out);
    if (st != MB_OK)
        return mb_load_keep(L, st);
    int64_t bytes = (int64_t)L->o->ops->weight_bytes(*out);
    if (d->cat == MB_MEM_EXPERTS)
        L->w->expert_bytes += bytes;
    else
        L->w->dense_bytes += bytes;
    return MB_OK;
}

enum mb_status mb_load_mat_create(struct mb_loader *L, int64_t n, int64_t k, enum mb_mem_cat cat, struct mb_weight **out)
{
    return mb_load_mat_create_as(L, n, k, (struct mb_form){0}, cat, out);
}

enum mb_status mb_load_mat_create_as(struct mb_loader *L, int64_t n, int64_t k, struct mb_form form, enum mb_mem_cat cat,
                                     struct mb_weight **out)
{
    struct mb_weight_desc d = {.n = n, .k = k, .dtype = L->o->path, .leaves = 1, .cat = cat, .form = form};
    if (form.code == MB_CODE_NONE)
        d.dtype = mb_model_narrow(L->o->model, L->o->path);
    d.leaf[1] = k;
    return create(L, &d, out);
}

enum mb_status mb_load_mat_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_part part, struct mb_weight *w,
                               int64_t n0)
{
    struct mat_dst d = {part, w, n0};
    return mb_load_rows(L, t, shared, part.n0, part.n1, take_mat, &d);
}

struct rows_dst {
    const struct mb_rows_to *r;
    int32_t n;
    struct mb_weight *w;
};

static enum mb_status take_rows(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *whole)
{
    struct rows_dst *d = arg;
    struct mb_host_matrix m;
    int64_t row;

    for (int32_t i = 0; i < d->n; i++) {
        const struct mb_part part = {d->r[i].from, d->r[i].from + d->r[i].n, 0, whole->k};
        if (cut(whole, n0, &part, &m, &row))
            MB_TRY(L->o->ops->weight_put(d->w, d->r[i].to + row, 0, &m));
    }
    return MB_OK;
}

enum mb_status mb_load_mat_rows(struct mb_loader *L, const struct mb_tensor *t, const struct mb_rows_to *r, int32_t n,
                                struct mb_weight *w)
{
    struct rows_dst d = {r, n, w};
    return mb_load_each(L, t, true, take_rows, &d);
}

static int64_t stack_rows(const struct mb_stack *p, const struct mb_tensor *t, int64_t *from)
{
    *from = p->to < 0 ? 0 : p->from;
    return (p->to < 0 ? t->n : p->to) - *from;
}

enum mb_status mb_load_mat_stack(struct mb_loader *L, int32_t layer, const struct mb_stack *part, int32_t count, bool has_bias,
                                 struct mb_weight **w, struct mb_vec *b)
{
    const struct mb_tensor *all[3] = {NULL};
    int64_t n = 0, k = 0, n0 = 0, from;
    bool bias = false;

    if (count > 3)
        return mb_error(MB_BUG, "%d tensors make one weight", count);

    for (int32_t i = 0; i < count; i++) {
        const struct mb_tensor *t = mb_load_find(L, part[i].role, layer, -1);
        if (t == NULL)
            return mb_error(MB_BUG, "layer %d has no tensor of role %d", layer, part[i].role);
        n += stack_rows(&part[i], t, &from);
        all[i] = t;
        k = t->k;
        bias |= has_bias && mb_load_find(L, part[i].bias, layer, -1) != NULL;
    }
    MB_TRY(mb_load_mat_create_as(L, n, k, mb_model_form_of(L->o->model, all, count), MB_MEM_WEIGHTS, w));
    if (bias)
        MB_TRY(mb_load_vec_create(L, 1, n, MB_F32, b));
    for (int32_t i = 0; i < count; i++) {
        const struct mb_tensor *t = mb_load_find(L, part[i].role, layer, -1);
        const struct mb_tensor *tb = bias ? mb_load_find(L, part[i].bias, layer, -1) : NULL;
        int64_t rows = stack_rows(&part[i], t, &from);
        MB_TRY(mb_load_mat_put(L, t, true, (struct mb_part){from, from + rows, 0, k}, *w, n0));
        if (tb != NULL)
            MB_TRY(mb_load_vec_put(L, tb, true, (struct mb_part){0, 1, from, from + rows}, b, 0, n0));
        n0 += rows;
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- row-parallel weights */

struct rowpar_dst {
    struct mb_rowpar *w;
    struct mb_part part[MB_MAX_NODES];
};

static enum mb_status take_rowpar(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *whole)
{
    struct rowpar_dst *d = arg;
    struct mb_host_matrix m;
    int64_t row;

    for (int32_t i = 0; i < d->w->n; i++) {
        if (cut(whole, n0, &d->part[i], &m, &row))
            MB_TRY(L->o->ops->weight_put(d->w->w[i], row, 0, &m));
    }
    return MB_OK;
}

enum mb_status mb_load_rowpar_create(struct mb_loader *L, const struct mb_tensor *t, int64_t unit, int32_t r, int32_t s,
                                     enum mb_mem_cat cat, struct mb_rowpar *out)
{
    int32_t first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];
    int64_t leaf[MB_MAX_LEAVES + 1];

    out->leaves = mb_k_leaves(t->k, unit, leaf);
    out->k0 = leaf[mb_share(out->leaves, r, s)];
    out->k1 = leaf[mb_share(out->leaves, r + 1, s)];
    int32_t n = mb_part_nodes(out->leaves, r, s, first, count);
    if (n > MB_MAX_NODES)
        return mb_error(MB_BUG, "a share of %d leaves in %d nodes", out->leaves, n);
    for (int32_t i = 0; i < n; i++) {
        int64_t a = leaf[first[i]], b = leaf[first[i] + count[i]];
        struct mb_weight_desc d = {.n = t->n, .k = b - a, .dtype = L->o->path, .leaves = count[i], .cat = cat,
                                   .form = mb_model_form(L->o->model, t, a)};
        if (d.form.code == MB_CODE_S8)
            d.form.groups = count[i];
        for (int32_t j = 0; j <= count[i]; j++)
            d.leaf[j] = leaf[first[i] + j] - a;
        out->pos[i] = first[i];
        out->x_col[i] = a - out->k0;
        out->n = i + 1;
        MB_TRY(create(L, &d, &out->w[i]));
    }
    return MB_OK;
}

enum mb_status mb_load_rowpar_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_rowpar *w)
{
    struct rowpar_dst dst = {.w = w};

    for (int32_t i = 0; i < w->n; i++)
        dst.part[i] = (struct mb_part){0, t->n, w->k0 + w->x_col[i], i + 1 < w->n ? w->k0 + w->x_col[i + 1] : w->k1};
    return mb_load_each(L, t, shared, take_rowpar, &dst);
}

enum mb_status mb_load_rowpar(struct mb_loader *L, const struct mb_tensor *t, bool shared, int64_t unit, int32_t r, int32_t s,
                              enum mb_mem_cat cat, struct mb_rowpar *out)
{
    MB_TRY(mb_load_rowpar_create(L, t, unit, r, s, cat, out));
    return mb_load_rowpar_put(L, t, shared, out);
}
