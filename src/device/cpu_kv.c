/* KV pages: creation and append. */
#include "device/cpu_kv.h"

#include <inttypes.h>
#include <string.h>
#include "device/cpu_s8.h"

static int64_t scale_bytes(const struct mb_kv_desc *d)
{
    return d->dtype == MB_U8 ? MB_KV_BLOCK * (int64_t)sizeof(float) : 0;
}
static int64_t key_codes(const struct mb_kv_desc *d)
{
    return MB_KV_PANELS * mb_ceil_div(d->d, MB_BLOCK) * MB_BLOCK * MB_PANEL;
}
static int64_t value_codes(const struct mb_kv_desc *d)
{
    return mb_ceil_div(d->dv, MB_PANEL) * MB_PANEL * MB_KV_BLOCK;
}
static int64_t key_bytes(const struct mb_kv_desc *d)
{
    return key_codes(d) * mb_dtype_size(d->dtype) + scale_bytes(d);
}
static int64_t value_bytes(const struct mb_kv_desc *d)
{
    return d->v_in_k ? 0 : value_codes(d) * mb_dtype_size(d->dtype) + scale_bytes(d);
}

uint64_t mb_cpu_kv_page_bytes(const struct mb_kv_desc *d)
{
    return (uint64_t)d->heads * (uint64_t)(key_bytes(d) + value_bytes(d));
}

enum mb_status mb_cpu_kv_create(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out)
{
    if (d->pages < 0 || d->heads < 1 || d->d < 1 || d->dv < 1 ||
        (d->dtype != MB_F32 && d->dtype != MB_BF16 && d->dtype != MB_U8) || (d->v_in_k && d->dv > d->d))
        return mb_error(MB_BUG, "kv_create: %d pages, %d heads of %d and %d are no page pool", d->pages,
                        d->heads, d->d, d->dv);
    struct mb_kv *kv = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *kv);
    if (kv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a page pool");
    *kv = (struct mb_kv){.dev = dev, .desc = *d, .k_bytes = key_bytes(d), .v_bytes = value_bytes(d)};
    kv->type = d->dtype == MB_U8 ? MB_BF16 : d->dtype;
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

/* ---------------------------------------------------------------- pages of bytes */
/* Pairs of (k, k + 1) of 16 positions: a scale for each position. */
static inline __attribute__((always_inline)) void widen_pairs(const int8_t *code, const float *scale,
                                                              uint16_t *out, int64_t pairs)
{
    for (int64_t p = 0; p < pairs; p++, code += 2 * MB_PANEL, out += 2 * MB_PANEL)
        for (int i = 0; i < 2 * MB_PANEL; i++)
            out[i] = mb_bf16_of((float)code[i] * scale[i / 2]);
}

/* Pairs of positions (p, p + 1) of 16 columns: a scale for each position. */
static inline __attribute__((always_inline)) void widen_columns(const int8_t *code, const float *scale,
                                                                uint16_t *out)
{
    for (int p = 0; p < MB_KV_BLOCK; p += 2, code += 2 * MB_PANEL, out += 2 * MB_PANEL)
        for (int i = 0; i < 2 * MB_PANEL; i++)
            out[i] = mb_bf16_of((float)code[i] * scale[p + i % 2]);
}

static __attribute__((target("avx2"))) void pairs_avx2(const int8_t *code, const float *scale, uint16_t *out,
                                                       int64_t n)
{
    widen_pairs(code, scale, out, n);
}
static __attribute__((target("avx2"))) void columns_avx2(const int8_t *code, const float *scale,
                                                         uint16_t *out)
{
    widen_columns(code, scale, out);
}

void mb_kv_widen_keys(const struct mb_kv *kv, const unsigned char *page, uint16_t *out)
{
    const float *scale = (const float *)(const void *)(page + key_codes(&kv->desc));
    int64_t panel = kv->k_blocks * MB_BLOCK * MB_PANEL;

    for (int64_t p = 0; p < MB_KV_PANELS; p++) {
        const int8_t *code = (const int8_t *)page + p * panel;
        if (kv->dev->isa >= MB_ISA_AVX2)
            pairs_avx2(code, scale + p * MB_PANEL, out + p * panel, kv->k_blocks * MB_BLOCK / 2);
        else
            widen_pairs(code, scale + p * MB_PANEL, out + p * panel, kv->k_blocks * MB_BLOCK / 2);
    }
}

void mb_kv_widen_values(const struct mb_kv *kv, const unsigned char *page, uint16_t *out)
{
    const float *scale = (const float *)(const void *)(page + value_codes(&kv->desc));

    for (int64_t p = 0; p < kv->v_panels; p++) {
        const int8_t *code = (const int8_t *)page + p * MB_PANEL * MB_KV_BLOCK;
        if (kv->dev->isa >= MB_ISA_AVX2)
            columns_avx2(code, scale, out + p * MB_PANEL * MB_KV_BLOCK);
        else
            widen_columns(code, scale, out + p * MB_PANEL * MB_KV_BLOCK);
    }
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

/* n numbers of position `offset` as codes, whose place and step in the page's codes the caller knows by `at`.
 */
static void put_bytes(const struct mb_s8_kernels *q, const float *x, int64_t n, unsigned char *codes,
                      float *scale, int64_t (*at)(const struct mb_kv *kv, int64_t i, int64_t offset),
                      const struct mb_kv *kv, int64_t offset)
{
    int16_t code[256];

    *scale = mb_s8_scale(q->largest(x, n));
    for (int64_t i = 0; i < n; i += 256) {
        int64_t part = n - i < 256 ? n - i : 256;
        q->codes(x + i, part, *scale, code);
        for (int64_t e = 0; e < part; e++)
            codes[at(kv, i + e, offset)] = (unsigned char)code[e];
    }
}

static int64_t key_at(const struct mb_kv *kv, int64_t i, int64_t offset)
{
    return mb_packed_at(MB_BF16, kv->k_blocks, i, offset);
}
static int64_t value_at(const struct mb_kv *kv, int64_t i, int64_t offset)
{
    (void)kv;
    return mb_packed_at(MB_BF16, MB_KV_BLOCK / MB_BLOCK, offset, i);
}

static float *scales_of(unsigned char *page, int64_t codes)
{
    return (float *)(void *)(page + codes);
}

static void append_bytes(const struct mb_kv *kv, const float *k, const float *v, int64_t page, int64_t head,
                         int64_t offset)
{
    const struct mb_kv_desc *d = &kv->desc;
    unsigned char *keys = mb_kv_keys(kv, page, head), *values = mb_kv_values(kv, page, head);

    put_bytes(kv->dev->s8, k, d->d, keys, scales_of(keys, key_codes(d)) + offset, key_at, kv, offset);
    if (!d->v_in_k)
        put_bytes(kv->dev->s8, v, d->dv, values, scales_of(values, value_codes(d)) + offset, value_at, kv,
                  offset);
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
            if (mb_kv_bytes(a->kv)) {
                append_bytes(a->kv, k, d->v_in_k ? NULL : mb_row_f32(a->v, r) + h * d->dv, page, h, offset);
                continue;
            }
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
    MB_TRY(mb_want("kv_append", "k", k, -1, (int64_t)d->heads * d->d, MB_F32));
    if (d->v_in_k && mb_has_view(v))
        return mb_error(MB_BUG, "kv_append: the values of this pool lie in its keys, v must be absent");
    if (!d->v_in_k)
        MB_TRY(mb_want("kv_append", "v", v, k.rows, (int64_t)d->heads * d->dv, MB_F32));
    MB_TRY(mb_want("kv_append", "slot", slot, k.rows, 1, MB_I32));
    for (int64_t r = 0; r < k.rows; r++)
        if (mb_at_i32(slot, r) < 0 || mb_at_i32(slot, r) / MB_KV_BLOCK >= d->pages)
            return mb_error(MB_BUG, "kv_append: slot %d of row %" PRId64 " lies outside %d pages",
                            mb_at_i32(slot, r), r, d->pages);
    struct append a = {kv, k, v, slot};
    mb_cpu_run(s->dev, k.rows, 1 + 4096 / (k.cols + 1), append_rows, &a);
    return MB_OK;
}

/* ---------------------------------------------------------------- copy */

enum mb_status mb_cpu_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to,
                              int32_t n)
{
    uint64_t bytes = mb_cpu_kv_page_bytes(&kv->desc);

    (void)s;
    for (int32_t i = 0; i < n; i++) {
        if (from[i] < 0 || from[i] >= kv->desc.pages || to[i] < 0 || to[i] >= kv->desc.pages ||
            from[i] == to[i])
            return mb_error(MB_BUG, "kv_copy: page %d to page %d of %d", from[i], to[i], kv->desc.pages);
        memcpy(mb_kv_keys(kv, to[i], 0), mb_kv_keys(kv, from[i], 0), bytes);
    }
    return MB_OK;
}
