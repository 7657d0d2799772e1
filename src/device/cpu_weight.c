/* Packing of GEMM weights. */
#include "device/cpu_weight.h"

#include <inttypes.h>
#include <string.h>

enum mb_status mb_cpu_weight_create(struct mb_device *dev, const struct mb_weight_desc *d,
                                    struct mb_weight **out)
{
    MB_TRY(mb_weight_check(d));
    struct mb_weight *w = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *w);
    if (w == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a weight");
    w->dev = dev;
    w->desc = *d;
    for (int32_t l = 0; l < d->leaves; l++)
        w->block[l + 1] = w->block[l] + (d->leaf[l + 1] - d->leaf[l] - 1) / MB_BLOCK + 1;
    w->panels = (d->n - 1) / MB_PANEL + 1;
    uint64_t bytes = 0;
    if (mb_weight_stored(w)) {
        enum mb_status st = mb_weight_s8(w) ? mb_s8_create(w, &bytes) : mb_stored_create(w, &bytes);
        if (st == MB_OK)
            w->data = mb_zalloc(dev->mem, d->cat, 1, (size_t)bytes);
        if (st != MB_OK) {
            mb_cpu_weight_free(w);
            return st;
        }
        if (d->form.g_idx && w->data != NULL) {
            w->g_idx = (int32_t *)(void *)(w->data + w->panels * w->panel_bytes);
            w->list_of = (uint8_t *)(w->g_idx + w->lists * w->list_words);
        }
    } else if (mb_mul_ok((uint64_t)w->block[d->leaves], MB_BLOCK * MB_PANEL * (uint64_t)mb_dtype_size(d->dtype),
                  &bytes)) {
        w->panel_bytes = (int64_t)bytes;
        w->data = mb_zalloc(dev->mem, d->cat, (size_t)w->panels, (size_t)bytes);
    }
    if (w->data == NULL) {
        mb_cpu_weight_free(w);
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64 "; use more ranks",
                        d->n, d->k);
    }
    *out = w;
    return MB_OK;
}

uint64_t mb_cpu_weight_bytes(const struct mb_weight *w)
{
    return (uint64_t)(w->panels * w->panel_bytes + mb_form_extra_bytes(&w->desc.form, w->desc.n, w->desc.k));
}

void mb_cpu_weight_free(struct mb_weight *w)
{
    if (w == NULL)
        return;
    mb_free(w->run);
    mb_free(w->data);
    mb_free(w);
}

/* ---------------------------------------------------------------- put */
struct put {
    struct mb_weight *w;
    int64_t n0, k0;
    const struct mb_host_matrix *m;
    float fp8[256];
};

/* n elements of row i of the matrix from column j on, as f32; FP8 by a table, as whole models are read so */
static void read_row(const struct put *p, int64_t i, int64_t j, int64_t n, float *out)
{
    const struct mb_host_matrix *m = p->m;

    if (!mb_storage_fp8(m->storage)) {
        mb_host_row(m, i, j, n, out);
        return;
    }
    const uint8_t *at = (const uint8_t *)m->base + i * m->stride_n + j * m->stride_k;
    const float *scale = m->scale + (i + m->scale_n0) / m->block_n * m->scale_stride;
    for (int64_t e = 0; e < n; e++)
        out[e] = p->fp8[at[e * m->stride_k]] * scale[(j + e + m->scale_k0) / m->block_k];
}

/* n values of row `row` of the weight to places place.. of its panel */
static void write_row(struct mb_weight *w, int64_t row, int64_t place, int64_t n, const float *v)
{
    unsigned char *panel = w->data + row / MB_PANEL * w->panel_bytes;
    int64_t lane = row % MB_PANEL;
    if (w->desc.dtype == MB_F32) {
        float *to = (float *)(void *)panel + place * MB_PANEL + lane;
        for (int64_t e = 0; e < n; e++)
            to[e * MB_PANEL] = v[e];
        return;
    }
    uint16_t *to = (uint16_t *)(void *)panel + lane * 2;
    for (int64_t e = 0; e < n; e++)
        to[(place + e) / 2 * (2 * MB_PANEL) + (place + e) % 2] = mb_bf16_of(v[e]);
}

/* The common case, stored as it is kept: whole panels of contiguous rows, in words of 32 bits (one f32, or
 * two bf16 of an even place). A panel is then the transpose of 16 rows of words. src: row 0's first word;
 * step: words from row to row. */
static void move_words(uint32_t *to, const unsigned char *src, int64_t step, int64_t words)
{
    for (int64_t j = 0; j < words; j++)
        for (int64_t lane = 0; lane < MB_PANEL; lane++)
            memcpy(&to[j * MB_PANEL + lane], src + (lane * step + j) * 4, 4);
}

/* Moves n elements of the 16 rows from `first` on if they can be moved as words; false: they can't. */
static bool move_panel(const struct put *p, int64_t first, int64_t last, int64_t k, int64_t n, int64_t place)
{
    const struct mb_host_matrix *m = p->m;
    bool f32 = m->storage == MB_STORE_F32 && p->w->desc.dtype == MB_F32,
         bf16 = m->storage == MB_STORE_BF16 && p->w->desc.dtype == MB_BF16 && place % 2 == 0 && n % 2 == 0 &&
                m->stride_n % 2 == 0;
    int64_t pair = bf16 ? 2 : 1, es = mb_storage_size(m->storage);

    if ((!f32 && !bf16) || m->stride_k != 1 || last - first != MB_PANEL || m->scale != NULL)
        return false;
    uint32_t *to =
        (uint32_t *)(void *)(p->w->data + first / MB_PANEL * p->w->panel_bytes) + place / pair * MB_PANEL;
    const unsigned char *src =
        (const unsigned char *)m->base + ((first - p->n0) * m->stride_n + k - p->k0) * es;
    move_words(to, src, m->stride_n / pair, n / pair);
    return true;
}

/* Items: panels that the part touches. Pieces of 256 k for its 16 rows stay in the cache while they are
 * written. */
static void put_panels(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    enum { PIECE = 256 };
    const struct put *p = arg;
    struct mb_weight *w = p->w;
    float v[PIECE];
    int64_t k_end = p->k0 + p->m->k;
    for (int64_t panel = p->n0 / MB_PANEL + begin; panel < p->n0 / MB_PANEL + end; panel++) {
        int64_t first = panel * MB_PANEL > p->n0 ? panel * MB_PANEL : p->n0;
        int64_t last = (panel + 1) * MB_PANEL < p->n0 + p->m->n ? (panel + 1) * MB_PANEL : p->n0 + p->m->n;
        int32_t leaf = 0;
        for (int64_t k = p->k0, n; k < k_end; k += n) {
            while (w->desc.leaf[leaf + 1] <= k)
                leaf++;
            n = w->desc.leaf[leaf + 1] < k_end ? w->desc.leaf[leaf + 1] - k : k_end - k;
            n = n < PIECE ? n : PIECE;
            int64_t place = mb_weight_place(w, leaf, k);
            if (move_panel(p, first, last, k, n, place))
                continue;
            for (int64_t row = first; row < last; row++) {
                read_row(p, row - p->n0, k - p->k0, n, v);
                write_row(w, row, place, n, v);
            }
        }
    }
}

enum mb_status mb_cpu_weight_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    MB_TRY(mb_host_inside(&w->desc, n0, k0, m));
    if (mb_weight_s8(w))
        return mb_s8_put(w, n0, k0, m);
    if (mb_weight_stored(w))
        return mb_stored_put(w, n0, k0, m);
    bool fp8 = mb_storage_fp8(m->storage);
    MB_TRY(mb_host_check(m));
    if (m->n == 0 || m->k == 0)
        return MB_OK;
    struct put p = {.w = w, .n0 = n0, .k0 = k0, .m = m};
    for (int i = 0; fp8 && i < 256; i++)
        p.fp8[i] = m->storage == MB_STORE_F8E4M3 ? mb_fp8_float((uint8_t)i) : mb_f8e5m2_float((uint8_t)i);
    mb_cpu_run(w->dev, (n0 + m->n - 1) / MB_PANEL - n0 / MB_PANEL + 1, 4, put_panels, &p);
    return MB_OK;
}

/* ---------------------------------------------------------------- get */
struct get {
    const struct mb_weight *w;
    int64_t n0;
    char *dst;
};

/* Items: rows. */
static void get_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct get *g = arg;
    const struct mb_weight *w = g->w;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = g->n0 + i, lane = row % MB_PANEL;
        const unsigned char *panel = w->data + row / MB_PANEL * w->panel_bytes;
        const float *f = (const float *)(const void *)panel;
        const uint16_t *h = (const uint16_t *)(const void *)panel;
        char *to = g->dst + i * w->desc.k * mb_dtype_size(w->desc.dtype);
        for (int32_t leaf = 0; leaf < w->desc.leaves; leaf++) {
            int64_t place = mb_weight_place(w, leaf, w->desc.leaf[leaf]);
            for (int64_t k = w->desc.leaf[leaf]; k < w->desc.leaf[leaf + 1]; k++, place++) {
                if (w->desc.dtype == MB_F32)
                    memcpy(to + k * 4, &f[place * MB_PANEL + lane], 4);
                else
                    memcpy(to + k * 2, &h[place / 2 * (2 * MB_PANEL) + lane * 2 + place % 2], 2);
            }
        }
    }
}

enum mb_status mb_cpu_weight_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst)
{
    if (n0 < 0 || n < 0 || n0 > w->desc.n - n)
        return mb_error(MB_BUG, "weight_get: rows %" PRId64 " + %" PRId64 " of a weight of %" PRId64, n0, n,
                        w->desc.n);
    struct get g = {w, n0, dst};
    if (n > 0 && mb_weight_s8(w))
        mb_s8_get(w, n0, n, dst);
    else if (n > 0 && mb_weight_stored(w))
        mb_stored_get(w, n0, n, dst);
    else if (n > 0)
        mb_cpu_run(w->dev, n, 16, get_rows, &g);
    return MB_OK;
}
