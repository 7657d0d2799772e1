/* KV pages: creation and append. */
#include "device/cpu_kv.h"

#include <inttypes.h>
#include <string.h>

static int64_t key_bytes(const struct mb_kv_desc *d)
{
    return MB_KV_PANELS * mb_ceil_div(d->d, MB_BLOCK) * MB_BLOCK * MB_PANEL * mb_dtype_size(d->dtype);
}
static int64_t value_bytes(const struct mb_kv_desc *d)
{
    return d->v_in_k ? 0 : mb_ceil_div(d->dv, MB_PANEL) * MB_PANEL * MB_KV_BLOCK * mb_dtype_size(d->dtype);
}

uint64_t mb_cpu_kv_page_bytes(const struct mb_kv_desc *d)
{
    return (uint64_t)d->heads * (uint64_t)(key_bytes(d) + value_bytes(d));
}

enum mb_status mb_cpu_kv_create(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out)
{
    if (d->pages < 0 || d->heads < 1 || d->d < 1 || d->dv < 1 ||
        (d->dtype != MB_F32 && d->dtype != MB_BF16) || (d->v_in_k && d->dv > d->d))
        return mb_error(MB_BUG, "kv_create: %d pages, %d heads of %d and %d are no page pool", d->pages,
                        d->heads, d->d, d->dv);
    struct mb_kv *kv = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *kv);
    if (kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a page pool");
    *kv = (struct mb_kv){.dev = dev, .desc = *d, .k_bytes = key_bytes(d), .v_bytes = value_bytes(d)};
    kv->k_blocks = mb_ceil_div(d->d, MB_BLOCK);
    kv->v_panels = mb_ceil_div(d->dv, MB_PANEL);
    kv->data = mb_zalloc(dev->mem, MB_MEM_KV, (size_t)d->pages, mb_cpu_kv_page_bytes(d));
    if (kv->data == NULL) {
        mb_free(kv);
        return mb_error(MB_NO_MEMORY,
                        "no memory for %d KV pages of %" PRIu64 " bytes; lower --gpu-memory-utilization",
                        d->pages, mb_cpu_kv_page_bytes(d));
    }
    *out = kv;
    return MB_OK;
}

void mb_cpu_kv_free(struct mb_kv *kv)
{
    if (kv == NULL)
        return;
    mb_free(kv->data);
    mb_free(kv);
}

/* ---------------------------------------------------------------- append */
struct append {
    struct mb_kv *kv;
    struct mb_view k, v, slot;
};

static void put(enum mb_dtype t, void *packed, int64_t at, float value)
{
    if (t == MB_F32)
        ((float *)packed)[at] = value;
    else
        ((uint16_t *)packed)[at] = mb_bf16_of(value);
}

static void append_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct append *a = arg;
    const struct mb_kv_desc *d = &a->kv->desc;
    for (int64_t r = begin; r < end; r++) {
        int64_t page = mb_at_i32(a->slot, r) / MB_KV_BLOCK, offset = mb_at_i32(a->slot, r) % MB_KV_BLOCK;
        for (int64_t h = 0; h < d->heads; h++) {
            const float *k = mb_row_f32(a->k, r) + h * d->d;
            for (int64_t i = 0; i < d->d; i++)
                put(d->dtype, mb_kv_keys(a->kv, page, h), mb_packed_at(d->dtype, a->kv->k_blocks, i, offset),
                    k[i]);
            if (d->v_in_k)
                continue;
            const float *v = mb_row_f32(a->v, r) + h * d->dv;
            for (int64_t i = 0; i < d->dv; i++)
                put(d->dtype, mb_kv_values(a->kv, page, h),
                    mb_packed_at(d->dtype, MB_KV_BLOCK / MB_BLOCK, offset, i), v[i]);
        }
    }
}

enum mb_status mb_cpu_kv_append(struct mb_stream *s, struct mb_kv *kv, struct mb_view k, struct mb_view v,
                                struct mb_view slot)
{
    const struct mb_kv_desc *d = &kv->desc;
    MB_TRY(mb_cpu_want("kv_append", "k", k, -1, (int64_t)d->heads * d->d, MB_F32));
    if (d->v_in_k && mb_has_view(v))
        return mb_error(MB_BUG, "kv_append: the values of this pool lie in its keys, v must be absent");
    if (!d->v_in_k)
        MB_TRY(mb_cpu_want("kv_append", "v", v, k.rows, (int64_t)d->heads * d->dv, MB_F32));
    MB_TRY(mb_cpu_want("kv_append", "slot", slot, k.rows, 1, MB_I32));
    for (int64_t r = 0; r < k.rows; r++)
        if (mb_at_i32(slot, r) < 0 || mb_at_i32(slot, r) / MB_KV_BLOCK >= d->pages)
            return mb_error(MB_BUG, "kv_append: slot %d of row %" PRId64 " lies outside %d pages",
                            mb_at_i32(slot, r), r, d->pages);
    struct append a = {kv, k, v, slot};
    mb_cpu_run(s->dev, k.rows, 1 + 4096 / (k.cols + 1), append_rows, &a);
    return MB_OK;
}

/* ---------------------------------------------------------------- copy */

enum mb_status mb_cpu_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to, int32_t n)
{
    uint64_t bytes = mb_cpu_kv_page_bytes(&kv->desc);

    (void)s;
    for (int32_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] >= kv->desc.pages || to[i] < 0 || to[i] >= kv->desc.pages || from[i] == to[i])
            return mb_error(MB_BUG, "kv_copy: page %d to page %d of %d", from[i], to[i], kv->desc.pages);
        memcpy(mb_kv_keys(kv, to[i], 0), mb_kv_keys(kv, from[i], 0), bytes);
    }
    return MB_OK;
}
