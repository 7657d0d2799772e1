/* KV pages: creation, append, copy. */
#include "cuda/cuda.h"

#include <inttypes.h>
#include "cuda/cuda_kv.h"

/* ---------------------------------------------------------------- sizes */
static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}
/* 64 rows, and their scales. */
static int64_t rows_bytes(const struct mb_kv_desc *d, int64_t stride)
{
    return MB_KV_BLOCK *
           (stride * mb_dtype_size(d->dtype) + (d->dtype == MB_U8 ? (int64_t)sizeof(float) : 0));
}

static struct mb_pages pages_of(const struct mb_kv_desc *d)
{
    struct mb_pages p = {
        .pages = d->pages, .heads = d->heads, .d = d->d, .dv = d->dv, .v_in_k = d->v_in_k, .dtype = d->dtype};

    p.k_stride = (int32_t)up(d->d, 32);
    p.v_stride = (int32_t)up(d->dv, 16);
    p.value_at = rows_bytes(d, p.k_stride);
    p.head_bytes = p.value_at + (d->v_in_k ? 0 : rows_bytes(d, p.v_stride));
    p.page_bytes = p.head_bytes * d->heads;
    return p;
}

uint64_t mb_cuda_kv_page_bytes(const struct mb_kv_desc *d)
{
    return (uint64_t)pages_of(d).page_bytes;
}

/* ---------------------------------------------------------------- creation */
static bool is_pool(const struct mb_kv_desc *d)
{
    return d->pages >= 0 && d->heads >= 1 && d->d >= 1 && d->dv >= 1 && !(d->v_in_k && d->dv > d->d) &&
           (d->dtype == MB_F32 || d->dtype == MB_BF16 || d->dtype == MB_U8);
}

enum mb_status mb_cuda_kv_create(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out)
{
    void *data = NULL;

    if (!is_pool(d))
        return mb_error(MB_BUG, "kv_create: %d pages, %d heads of %d and %d are no page pool", d->pages,
                        d->heads, d->d, d->dv);
    struct mb_kv *kv = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *kv);
    if (kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a page pool");
    *kv = (struct mb_kv){dev, *d, pages_of(d), 0};
    kv->bytes = (uint64_t)d->pages * (uint64_t)kv->pages.page_bytes;
    enum mb_status st = mb_cuda_alloc(dev, MB_MEM_KV, kv->bytes, &data);
    if (st == MB_OK && kv->bytes > 0)
        st = mb_cuda_call("new KV pages", cudaMemsetAsync(data, 0, (size_t)kv->bytes, dev->setup->s));
    if (st == MB_OK)
        st = mb_cuda_wait(dev->setup);
    if (st != MB_OK) {
        mb_cuda_free(dev, MB_MEM_KV, kv->bytes, data);
        mb_free(kv);
        return st;
    }
    kv->pages.data = data;
    *out = kv;
    return MB_OK;
}

void mb_cuda_kv_free(struct mb_kv *kv)
{
    if (kv == NULL)
        return;
    mb_cuda_free(kv->dev, MB_MEM_KV, kv->bytes, kv->pages.data);
    mb_free(kv);
}

/* ---------------------------------------------------------------- append, copy */
enum mb_status mb_cuda_kv_append(struct mb_stream *s, struct mb_kv *kv, struct mb_view k, struct mb_view v,
                                 struct mb_view slot)
{
    const struct mb_kv_desc *d = &kv->desc;

    MB_TRY(mb_want("kv_append", "k", k, -1, (int64_t)d->heads * d->d, MB_F32));
    if (d->v_in_k && mb_has_view(v))
        return mb_error(MB_BUG, "kv_append: the values of this pool lie in its keys, v must be absent");
    if (!d->v_in_k)
        MB_TRY(mb_want("kv_append", "v", v, k.rows, (int64_t)d->heads * d->dv, MB_F32));
    MB_TRY(mb_want("kv_append", "slot", slot, k.rows, 1, MB_I32));
    return mb_cuda_call("kv_append", mb_k_kv_append(s->s, &kv->pages, mb_cuda_mat(k), mb_cuda_mat(v),
                                                    mb_cuda_mat(slot), mb_cuda_flag(s, MB_CUDA_KV_APPEND)));
}

enum mb_status mb_cuda_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to,
                               int32_t n)
{
    size_t bytes = (size_t)kv->pages.page_bytes;

    for (int32_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] >= kv->desc.pages || to[i] < 0 || to[i] >= kv->desc.pages ||
            from[i] == to[i])
            return mb_error(MB_BUG, "kv_copy: page %d to page %d of %d", from[i], to[i], kv->desc.pages);
        MB_TRY(mb_cuda_call("kv_copy", cudaMemcpyAsync(kv->pages.data + (size_t)to[i] * bytes,
                                                       kv->pages.data + (size_t)from[i] * bytes, bytes,
                                                       cudaMemcpyDeviceToDevice, s->s)));
    }
    return MB_OK;
}
