/* GEMM weights: made, filled, read back. Rows go through pinned memory as they are, and kernels put them into panels. */
#include "cuda/weight.h"

#include <inttypes.h>
#include <string.h>

enum { HEAD = 512 }; /* bytes of device memory in front of the panels */
_Static_assert(sizeof(struct mb_k_weight) <= HEAD, "a weight's descriptor");

/* ---------------------------------------------------------------- create */
/* Sizes, as the CPU has them: what the plan reckons with. */
static enum mb_status measure(struct mb_weight *w)
{
    const struct mb_weight_desc *d = &w->desc;
    struct mb_k_weight *k = &w->k;
    bool stored = d->form.code != MB_CODE_NONE;
    uint64_t panel, all;

    if (d->n > INT32_MAX || d->k > INT32_MAX)
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, d->n, d->k);
    k->n = (int32_t)d->n;
    k->k = (int32_t)d->k;
    k->leaves = d->leaves;
    for (int32_t l = 0; l <= d->leaves; l++)
        k->leaf[l] = (int32_t)d->leaf[l];
    for (int32_t l = 0; l < d->leaves; l++)
        k->block[l + 1] = k->block[l] + (k->leaf[l + 1] - k->leaf[l] - 1) / MB_BLOCK + 1;
    k->blocks = k->block[d->leaves];
    k->bits = stored ? d->form.bits : d->dtype == MB_F32 ? 32 : 16;
    k->block_bytes = MB_BLOCK * MB_PANEL * k->bits / 8;
    k->dtype = (int32_t)d->dtype;
    k->form = d->form;
    w->panels = (d->n - 1) / MB_PANEL + 1;
    w->groups = stored ? mb_form_groups(&d->form, d->k) : 0;
    k->group0 = stored && !d->form.g_idx ? (int32_t)mb_form_group0(&d->form) : 0;
    if (stored && (w->groups > INT32_MAX / MB_PANEL || d->form.k0 + d->k > INT32_MAX))
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " groups", w->groups);
    panel = (uint64_t)(stored ? mb_form_panel_bytes(&d->form, k->blocks, w->groups) : (int64_t)k->blocks * k->block_bytes);
    k->panel_bytes = (int64_t)panel;
    k->scale_at = (int64_t)k->blocks * k->block_bytes;
    k->zero_at = stored ? k->scale_at + mb_form_line(w->groups * MB_PANEL * mb_form_scale_size(&d->form)) : 0;
    k->whole_at = stored ? k->zero_at + (d->form.zeros ? mb_form_line(w->groups * MB_PANEL) : 0) : 0;
    if (!mb_mul_ok((uint64_t)w->panels, panel, &all) || all > INT64_MAX / 4)
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, d->n, d->k);
    w->bytes = all + (uint64_t)(stored ? mb_form_extra_bytes(&d->form, d->n, d->k) : 0);
    return MB_OK;
}

static enum mb_status fill(struct mb_weight *w)
{
    struct mb_device *dev = w->dev;
    void *p = NULL;

    MB_TRY(measure(w));
    MB_TRY(mb_cuda_alloc(dev, w->desc.cat, w->bytes + HEAD, &p));
    mb_mem_note(dev->mem, w->desc.cat, -HEAD);
    mb_mem_note(dev->mem, MB_MEM_OTHER, HEAD);
    w->memory = p;
    w->there = p;
    w->k.data = w->memory + HEAD;
    if (w->desc.form.g_idx)
        MB_TRY(mb_cuda_stored_lists(w));
    MB_TRY(mb_cuda_call("a new weight", cudaMemsetAsync(p, 0, (size_t)w->bytes + HEAD, dev->setup->s)));
    MB_TRY(mb_cuda_call("a new weight", cudaMemcpyAsync(p, &w->k, sizeof w->k, cudaMemcpyHostToDevice, dev->setup->s)));
    return mb_cuda_wait(dev->setup);
}

enum mb_status mb_cuda_weight_create(struct mb_device *dev, const struct mb_weight_desc *d, struct mb_weight **out)
{
    MB_TRY(mb_weight_check(d));
    if (d->form.code == MB_CODE_S8)
        MB_TRY(mb_cuda_s8_check(d));
    struct mb_weight *w = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *w);
    if (w == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a weight");
    w->dev = dev;
    w->desc = *d;
    enum mb_status st = fill(w);
    if (st != MB_OK) {
        mb_cuda_weight_free(w);
        return st;
    }
    *out = w;
    return MB_OK;
}

uint64_t mb_cuda_weight_bytes(const struct mb_weight *w)
{
    return w->bytes;
}

void mb_cuda_weight_free(struct mb_weight *w)
{
    if (w == NULL)
        return;
    if (w->memory != NULL) {
        mb_cuda_free(w->dev, w->desc.cat, w->bytes, w->memory);
        mb_mem_note(w->dev->mem, MB_MEM_OTHER, -HEAD);
    }
    mb_free(w->list.g_idx);
    mb_free(w->list.list_of);
    mb_free(w);
}

/* ---------------------------------------------------------------- put */
/* How rows of a matrix travel: as they lie in it, or where they don't lie in rows (or are codes) as f32. */
struct way {
    bool as_is;
    int64_t row_bytes;
    int64_t first_scale, scales; /* of FP8: of a row */
};

static struct way way_of(const struct mb_host_matrix *m)
{
    struct way y = {.as_is = m->storage != MB_STORE_CODES && m->stride_k == 1};

    y.row_bytes = m->k * (y.as_is ? mb_storage_size(m->storage) : 4);
    if (y.as_is && mb_storage_fp8(m->storage)) {
        y.first_scale = m->scale_k0 / m->block_k;
        y.scales = (m->scale_k0 + m->k - 1) / m->block_k - y.first_scale + 1;
    }
    return y;
}

static void write_rows(const struct mb_host_matrix *m, const struct way *y, int64_t row, int64_t n, unsigned char *rows, float *scales)
{
    for (int64_t i = 0; i < n; i++) {
        unsigned char *to = rows + i * y->row_bytes;
        if (!y->as_is) {
            mb_host_row(m, row + i, 0, m->k, (float *)(void *)to);
            continue;
        }
        memcpy(to, (const char *)m->base + (row + i) * m->stride_n * mb_storage_size(m->storage), (size_t)y->row_bytes);
        if (y->scales > 0)
            memcpy(scales + i * y->scales, m->scale + (row + i + m->scale_n0) / m->block_n * m->scale_stride + y->first_scale,
                   (size_t)y->scales * sizeof *scales);
    }
}

/* Rows [row, row + n) of m. */
static enum mb_status put_rows(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m, const struct way *y,
                               int64_t row, int64_t n)
{
    struct mb_device *dev = w->dev;
    uint64_t scales_at = ((uint64_t)(n * y->row_bytes) + 15) / 16 * 16, bytes = scales_at + (uint64_t)(n * y->scales) * sizeof(float);
    void *host, *device;

    MB_TRY(mb_cuda_stage_begin(dev, bytes, &host, &device));
    write_rows(m, y, row, n, host, (float *)(void *)((unsigned char *)host + scales_at));
    MB_TRY(mb_cuda_stage_send(dev, bytes));
    struct mb_k_rows from = {.p = device,
                             .stride = m->k,
                             .storage = (int32_t)(y->as_is ? m->storage : MB_STORE_F32),
                             .scale = (const float *)(const void *)((unsigned char *)device + scales_at),
                             .scale_stride = y->scales,
                             .block_k = y->scales > 0 ? (int32_t)m->block_k : 1,
                             .first_k = y->scales > 0 ? (int32_t)(m->scale_k0 % m->block_k) : 0};
    MB_TRY(mb_cuda_call("weight_put", mb_k_pack(dev->setup->s, w->there, n0 + row, n, k0, m->k, from)));
    return mb_cuda_stage_end(dev);
}

static enum mb_status put_numbers(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    struct way y = way_of(m);
    int64_t each = MB_CUDA_STAGE / (y.row_bytes + y.scales * 4);
    enum mb_status st = MB_OK;
    uint32_t mode = mb_fp_enter(); /* codes and FP8 become numbers here where they do not on the device */

    each = each < 1 ? 1 : each;
    for (int64_t i = 0; i < m->n && st == MB_OK; i += each)
        st = put_rows(w, n0, k0, m, &y, i, m->n - i < each ? m->n - i : each);
    mb_fp_restore(mode);
    return st;
}

enum mb_status mb_cuda_weight_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    MB_TRY(mb_host_inside(&w->desc, n0, k0, m));
    MB_TRY(mb_cuda_call("choosing the GPU", cudaSetDevice(w->dev->gpu)));
    if (w->desc.form.code == MB_CODE_S8)
        return mb_cuda_s8_put(w, n0, k0, m);
    if (mb_form_stored(&w->desc.form))
        return mb_cuda_stored_put(w, n0, k0, m);
    MB_TRY(mb_host_check(m));
    if (m->n == 0 || m->k == 0)
        return MB_OK;
    MB_TRY(put_numbers(w, n0, k0, m));
    return mb_cuda_wait(w->dev->setup);
}

/* ---------------------------------------------------------------- get */
enum mb_status mb_cuda_weight_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst)
{
    struct mb_stream *s = w->dev->setup;
    uint64_t row = (uint64_t)(w->desc.k * mb_dtype_size(w->desc.dtype));
    void *rows;

    if (n0 < 0 || n < 0 || n0 > w->desc.n - n)
        return mb_error(MB_BUG, "weight_get: rows %" PRId64 " + %" PRId64 " of a weight of %" PRId64, n0, n, w->desc.n);
    if (n > 0 && w->desc.form.code != MB_CODE_NONE)
        return mb_cuda_stored_get(w, n0, n, dst);
    int64_t each = (int64_t)(MB_CUDA_STAGE / row) > 0 ? (int64_t)(MB_CUDA_STAGE / row) : 1;
    for (int64_t i = 0; i < n; i += each) {
        int64_t m = n - i < each ? n - i : each;
        MB_TRY(mb_cuda_scratch(s, (uint64_t)m * row, &rows));
        MB_TRY(mb_cuda_call("weight_get", mb_k_unpack(s->s, w->there, n0 + i, m, w->desc.k, rows)));
        MB_TRY(mb_cuda_call("weight_get", cudaMemcpyAsync((char *)dst + (uint64_t)i * row, rows, (size_t)((uint64_t)m * row),
                                                          cudaMemcpyDeviceToHost, s->s)));
    }
    return mb_cuda_wait(s);
}
