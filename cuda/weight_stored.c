/* Weights kept as a file stores them: codes and their tables as they are, in panels. */
#include "cuda/weight.h"

#include <inttypes.h>
#include <string.h>

enum mb_status mb_cuda_stored_lists(struct mb_weight *w)
{
    struct mb_group_lists *l = &w->list;
    uint64_t words;

    l->lists = w->desc.form.g_idx + 1;
    l->words = mb_form_line(4 * w->desc.k) / 4;
    words = (uint64_t)l->lists * (uint64_t)l->words;
    l->g_idx = mb_zalloc(w->dev->mem, MB_MEM_OTHER, (size_t)words, sizeof *l->g_idx);
    l->list_of = mb_zalloc(w->dev->mem, MB_MEM_OTHER, (size_t)w->desc.n, 1);
    if (l->g_idx == NULL || l->list_of == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for lists of groups");
    w->k.g_idx = (const int32_t *)(const void *)(w->k.data + (uint64_t)w->panels * (uint64_t)w->k.panel_bytes);
    w->k.list_of = (const uint8_t *)(w->k.g_idx + words);
    w->k.list_words = l->words;
    return MB_OK;
}

/* ---------------------------------------------------------------- put */
/* A chunk of rows in staging: codes, scales, zero points, second scales, one after the other. */
struct chunk {
    int64_t codes, stride; /* bytes of a row */
    int32_t first;         /* its first column */
    int64_t g0, groups;    /* of the weight's */
    int64_t scales, zeros, whole, bytes;
};

static int64_t up(int64_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static struct chunk chunk_of(const struct mb_weight *w, int64_t k0, const struct mb_host_matrix *m, int64_t rows)
{
    const struct mb_form *f = &w->desc.form;
    struct chunk c = {.groups = w->groups};

    c.first = m->storage == MB_STORE_CODES && f->bits == 4 ? (int32_t)(m->scale_k0 % 2) : 0;
    c.stride = f->bits == 4 ? (c.first + m->k + 1) / 2 : m->k;
    if (!f->g_idx) {
        c.g0 = (f->k0 + k0) / f->group - f->k0 / f->group;
        c.groups = (f->k0 + k0 + m->k - 1) / f->group - f->k0 / f->group - c.g0 + 1;
    }
    c.scales = up(rows * c.stride);
    c.zeros = c.scales + up(rows * c.groups * mb_form_scale_size(f));
    c.whole = c.zeros + (f->zeros ? up(rows * c.groups) : 0);
    c.bytes = c.whole + (f->whole ? up(rows * 4) : 0);
    return c;
}

/* Row i of m to row r of the chunk at p. */
static void write_codes(const struct mb_weight *w, const struct mb_host_matrix *m, const struct chunk *c, int64_t i, int64_t r,
                        unsigned char *p)
{
    const struct mb_form *f = &w->desc.form;
    const struct mb_host_codes *h = &m->codes;
    int64_t size = mb_form_scale_size(f), row = m->scale_n0 + i;

    if (m->storage != MB_STORE_CODES) { /* FP8 with a scale for each group, f32 */
        const uint8_t *at = (const uint8_t *)m->base + i * m->stride_n;
        const float *scale = m->scale + row / m->block_n * m->scale_stride + mb_form_group0(f) + c->g0;
        for (int64_t k = 0; k < m->k; k++)
            p[r * c->stride + k] = at[k * m->stride_k];
        memcpy(p + c->scales + r * c->groups * size, scale, (size_t)(c->groups * size));
        return;
    }
    int64_t held = h->form.k0 / (f->g_idx ? 1 : f->group), g = mb_form_group0(f) - (f->g_idx ? 0 : held) + c->g0;
    int64_t cell = row * h->groups + g;
    memcpy(p + r * c->stride, h->code + row * h->code_stride + (f->bits == 4 ? m->scale_k0 / 2 : m->scale_k0), (size_t)c->stride);
    memcpy(p + c->scales + r * c->groups * size, (const char *)h->scale + cell * size, (size_t)(c->groups * size));
    if (f->zeros)
        memcpy(p + c->zeros + r * c->groups, h->zero + cell, (size_t)c->groups);
    if (f->whole)
        memcpy(p + c->whole + r * 4, &h->whole[row], 4);
}

static enum mb_status put_rows(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m, int64_t row, int64_t n)
{
    const struct mb_form *f = &w->desc.form;
    struct chunk c = chunk_of(w, k0, m, n);
    cudaStream_t s = w->dev->setup->s;
    void *host, *device;

    MB_TRY(mb_cuda_stage_begin(w->dev, (uint64_t)c.bytes, &host, &device));
    for (int64_t i = 0; i < n; i++)
        write_codes(w, m, &c, row + i, i, host);
    MB_TRY(mb_cuda_stage_send(w->dev, (uint64_t)c.bytes));
    uint8_t *p = device;
    int32_t g0 = (int32_t)c.g0, groups = (int32_t)c.groups;
    MB_TRY(mb_cuda_call("weight_put", mb_k_pack_codes(s, w->there, f->bits, n0 + row, n, k0, m->k, p, c.stride, c.first)));
    MB_TRY(mb_cuda_call("weight_put", mb_k_pack_table(s, w->there, w->k.scale_at, (int32_t)mb_form_scale_size(f), n0 + row, n, g0,
                                                      groups, p + c.scales, 0)));
    if (f->zeros)
        MB_TRY(mb_cuda_call("weight_put",
                            mb_k_pack_table(s, w->there, w->k.zero_at, 1, n0 + row, n, g0, groups, p + c.zeros, 0)));
    if (f->whole)
        MB_TRY(mb_cuda_call("weight_put", mb_k_pack_table(s, w->there, w->k.whole_at, 4, n0 + row, n, 0, 1, p + c.whole, 0)));
    return mb_cuda_stage_end(w->dev);
}

/* The host's lists of groups to the device. */
static enum mb_status send_lists(struct mb_weight *w)
{
    cudaStream_t s = w->dev->setup->s;
    size_t words = (size_t)w->list.lists * (size_t)w->list.words * sizeof(int32_t);
    union {
        const void *from;
        void *to;
    } g_idx = {w->k.g_idx}, list_of = {w->k.list_of};

    MB_TRY(mb_cuda_call("weight_put", cudaMemcpyAsync(g_idx.to, w->list.g_idx, words, cudaMemcpyHostToDevice, s)));
    return mb_cuda_call("weight_put",
                        cudaMemcpyAsync(list_of.to, w->list.list_of, (size_t)w->desc.n, cudaMemcpyHostToDevice, s));
}

enum mb_status mb_cuda_stored_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    int32_t at;

    if (!mb_host_fits(&w->desc.form, k0, m))
        return mb_error(MB_BUG, "weight_put: storage %d is not the form that the weight keeps", (int)m->storage);
    if (m->n == 0 || m->k == 0)
        return MB_OK;
    if (w->list.g_idx != NULL) {
        MB_TRY(mb_host_list(&w->desc, &w->list, n0, m, &at));
        MB_TRY(send_lists(w));
    }
    int64_t each = MB_CUDA_STAGE / chunk_of(w, k0, m, 1).bytes;
    each = each < 1 ? 1 : each;
    for (int64_t i = 0; i < m->n; i += each)
        MB_TRY(put_rows(w, n0, k0, m, i, m->n - i < each ? m->n - i : each));
    return mb_cuda_wait(w->dev->setup);
}

/* ---------------------------------------------------------------- get */
enum mb_status mb_cuda_stored_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst)
{
    const struct mb_form *f = &w->desc.form;
    struct mb_blob b = mb_form_blob(f, n, w->desc.k);
    struct mb_stream *s = w->dev->setup;
    int32_t groups = (int32_t)w->groups;
    void *scratch;

    MB_TRY(mb_cuda_scratch(s, (uint64_t)b.bytes, &scratch));
    uint8_t *p = scratch;
    MB_TRY(mb_cuda_call("weight_get", mb_k_unpack_codes(s->s, w->there, n0, n, w->desc.k, p + b.code,
                                                        mb_form_row_bytes(f, w->desc.k))));
    MB_TRY(mb_cuda_call("weight_get", mb_k_pack_table(s->s, w->there, w->k.scale_at, (int32_t)mb_form_scale_size(f), n0, n, 0,
                                                      groups, p + b.scale, 1)));
    if (f->zeros)
        MB_TRY(mb_cuda_call("weight_get", mb_k_pack_table(s->s, w->there, w->k.zero_at, 1, n0, n, 0, groups, p + b.zero, 1)));
    if (f->whole)
        MB_TRY(mb_cuda_call("weight_get", mb_k_pack_table(s->s, w->there, w->k.whole_at, 4, n0, n, 0, 1, p + b.whole, 1)));
    if (w->list.g_idx != NULL)
        MB_TRY(mb_cuda_call("weight_get", cudaMemcpyAsync(p + b.g_idx, w->list.g_idx + w->list.list_of[n0] * w->list.words,
                                                          (size_t)(4 * w->desc.k), cudaMemcpyHostToDevice, s->s)));
    MB_TRY(mb_cuda_call("weight_get", cudaMemcpyAsync(dst, scratch, (size_t)b.bytes, cudaMemcpyDeviceToHost, s->s)));
    return mb_cuda_wait(s);
}
