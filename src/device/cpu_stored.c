/* Weights kept as a file stores them: made, filled, read back. */
#include <inttypes.h>
#include <string.h>
#include "device/cpu_weight.h"

/* ---------------------------------------------------------------- create */

/* Groups of halves are known at once, or (g_idx) when they are put. */
static void find_groups(struct mb_weight *w, int32_t list)
{
    for (int32_t l = 0; l < w->desc.leaves; l++) {
        int64_t end = w->desc.leaf[l + 1];
        for (int64_t b = w->block[l]; b < w->block[l + 1]; b++) {
            struct mb_run *r = &w->run[list * w->block[w->desc.leaves] + b];
            int64_t k = w->desc.leaf[l] + (b - w->block[l]) * MB_BLOCK;
            *r =
                (struct mb_run){.k = (int32_t)k, .valid = (int32_t)(end - k < MB_BLOCK ? end - k : MB_BLOCK)};
            for (int h = 0; h < 2; h++) {
                int64_t first = k + 16 * h < end ? k + 16 * h : end - 1,
                        last = first + 15 < end ? first + 15 : end - 1;
                int64_t g = mb_stored_group(w, list, first);
                bool one = true;
                for (int64_t j = first; j <= last; j++)
                    one &= mb_stored_group(w, list, j) == g;
                r->group[h] = one ? (int32_t)g : -1;
            }
        }
    }
}

enum mb_status mb_stored_create(struct mb_weight *w, uint64_t *bytes)
{
    const struct mb_form *f = &w->desc.form;
    int64_t blocks = w->block[w->desc.leaves];
    uint64_t cells, code;

    w->groups = mb_form_groups(f, w->desc.k);
    w->code_block = MB_BLOCK * MB_PANEL / 8 * f->bits;
    if (!mb_mul_ok((uint64_t)w->groups, MB_PANEL * 8, &cells) || cells > INT64_MAX / 4 ||
        !mb_mul_ok((uint64_t)blocks, (uint64_t)w->code_block, &code) || code > INT64_MAX / 4)
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, w->desc.n,
                        w->desc.k);
    w->scale_at = blocks * w->code_block;
    w->zero_at = w->scale_at + mb_form_line(w->groups * MB_PANEL * mb_form_scale_size(f));
    w->whole_at = w->zero_at + (f->zeros ? mb_form_line(w->groups * MB_PANEL) : 0);
    w->panel_bytes = mb_form_panel_bytes(f, blocks, w->groups);
    w->lists = f->g_idx ? f->g_idx + 1 : 1;
    w->list_words = mb_form_line(4 * w->desc.k) / 4;
    w->run = mb_alloc(w->dev->mem, MB_MEM_OTHER, (size_t)(w->lists * blocks), sizeof *w->run);
    if (w->run == NULL || !mb_mul_ok((uint64_t)w->panels, (uint64_t)w->panel_bytes, bytes))
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, w->desc.n,
                        w->desc.k);
    *bytes += (uint64_t)mb_form_extra_bytes(f, w->desc.n, w->desc.k);
    for (int32_t i = 0; i < w->lists; i++)
        find_groups(w, i);
    return MB_OK;
}

/* ---------------------------------------------------------------- put */
struct put {
    struct mb_weight *w;
    int64_t n0, k0, first, last; /* groups first .. last of the weight */
    const struct mb_host_matrix *m;
};

static void set_code(struct mb_weight *w, unsigned char *block, int64_t k, int64_t column, uint8_t code)
{
    int shift;
    int64_t at = mb_code_byte(&w->desc.form, k, column, &shift);
    if (w->desc.form.bits == 8)
        block[at] = code;
    else
        block[at] = (unsigned char)((block[at] & (0xf0 >> shift)) | code << shift);
}

static bool is_odd(const struct mb_form *f, uint8_t code)
{
    return f->code == MB_CODE_E4M3   ? (code & 0x7f) == 0x7f
           : f->code == MB_CODE_E5M2 ? (code & 0x7c) == 0x7c
                                     : false;
}

/* A whole block of a column. */
static void put_block(const struct mb_weight *w, unsigned char *block, int64_t lane,
                      const uint8_t code[MB_BLOCK])
{
    unsigned char *to = block + mb_code_slot(lane) * 16;

    if (w->desc.form.bits == 4)
        for (int k = 0; k < 16; k++)
            to[k] = (unsigned char)(code[k] | code[k + 16] << 4);
    else if (w->desc.form.code == MB_CODE_INT)
        for (int64_t k = 0; k < MB_BLOCK; k++)
            block[k * MB_PANEL + lane] = code[k];
    else
        for (int half = 0; half < 2; half++)
            memcpy(to + 256 * half, code + 16 * half, 16);
}

/* n codes of row i of m from column j on. */
static void read_codes(const struct mb_host_matrix *m, int64_t i, int64_t j, int64_t n, uint8_t *code)
{
    const uint8_t *fp8 = (const uint8_t *)m->base + i * m->stride_n;

    for (int64_t e = 0; e < n; e++)
        code[e] = m->storage == MB_STORE_CODES ? mb_host_code(&m->codes, m->scale_n0 + i, m->scale_k0 + j + e)
                                               : fp8[(j + e) * m->stride_k];
}

/* Codes of row i of m: block by block, or one by one where a part of a block is put. */
static void put_codes(const struct put *p, int64_t i, unsigned char *panel, int64_t lane)
{
    struct mb_weight *w = p->w;
    const struct mb_host_matrix *m = p->m;
    int32_t leaf = 0;
    bool odd = false;

    for (int64_t j = 0, n; j < m->k; j += n) {
        uint8_t code[MB_BLOCK] = {0};
        int64_t k = p->k0 + j;
        while (w->desc.leaf[leaf + 1] <= k)
            leaf++;
        int64_t place = mb_weight_place(w, leaf, k), in = place % MB_BLOCK, end = w->desc.leaf[leaf + 1];
        bool ends = end - k <= MB_BLOCK - in; /* the block is the leaf's last */
        n = ends ? end - k : MB_BLOCK - in;
        bool whole = in == 0 && n <= m->k - j;
        n = n < m->k - j ? n : m->k - j;
        read_codes(m, i, j, n, code);
        unsigned char *block = panel + place / MB_BLOCK * w->code_block;
        for (int64_t e = 0; e < n; e++) {
            odd |= is_odd(&w->desc.form, code[e]);
            if (!whole)
                set_code(w, block, in + e, lane, code[e]);
        }
        if (whole)
            put_block(w, block, lane, code);
    }
    if (odd)
        atomic_store(&w->odd, true);
}

/* Scales and zero points of row i of m. */
static void put_scales(const struct put *p, int64_t i, unsigned char *panel, int64_t lane)
{
    struct mb_weight *w = p->w;
    const struct mb_host_matrix *m = p->m;
    const struct mb_form *f = &w->desc.form;
    const struct mb_host_codes *c = &m->codes;
    int64_t size = mb_form_scale_size(f), row = m->scale_n0 + i;
    bool codes = m->storage == MB_STORE_CODES;
    const float *fp8 = codes ? NULL : m->scale + row / m->block_n * m->scale_stride;
    int64_t held = codes ? c->form.k0 / (f->g_idx ? 1 : f->group) : 0; /* first group of the host's */
    int64_t off = mb_form_group0(f) - (f->g_idx ? 0 : held); /* the weight's first, counted from it */

    for (int64_t g = p->first; g <= p->last; g++) {
        unsigned char *to = panel + w->scale_at + (g * MB_PANEL + lane) * size;
        if (codes)
            memcpy(to, (const char *)c->scale + (row * c->groups + off + g) * size, (size_t)size);
        else
            memcpy(to, &fp8[off + g], sizeof(float));
        if (f->zeros)
            panel[w->zero_at + g * MB_PANEL + lane] = c->zero[row * c->groups + off + g];
    }
    if (f->whole)
        memcpy(panel + w->whole_at + 4 * lane, &c->whole[row], sizeof(float));
}

/* Items: panels that the part touches. */
static void put_panels(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct put *p = arg;

    (void)thread;
    for (int64_t q = p->n0 / MB_PANEL + begin; q < p->n0 / MB_PANEL + end; q++) {
        unsigned char *panel = p->w->data + q * p->w->panel_bytes;
        for (int64_t lane = 0; lane < MB_PANEL; lane++) {
            int64_t i = q * MB_PANEL + lane - p->n0;
            if (i < 0 || i >= p->m->n)
                continue;
            put_codes(p, i, panel, lane);
            put_scales(p, i, panel, lane);
        }
    }
}

enum mb_status mb_stored_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    if (!mb_host_fits(&w->desc.form, k0, m))
        return mb_error(MB_BUG, "weight_put: storage %d is not the form that the weight keeps",
                        (int)m->storage);
    if (m->n == 0 || m->k == 0)
        return MB_OK;
    if (w->g_idx != NULL) {
        struct mb_group_lists l = {w->g_idx, w->list_words, w->list_of, w->lists};
        int32_t at;
        MB_TRY(mb_host_list(&w->desc, &l, n0, m, &at));
        find_groups(w, at);
    }
    struct put p = {.w = w, .n0 = n0, .k0 = k0, .m = m, .last = w->groups - 1};
    if (w->g_idx == NULL) {
        p.first = mb_stored_group(w, 0, k0);
        p.last = mb_stored_group(w, 0, k0 + m->k - 1);
    }
    mb_cpu_run(w->dev, (n0 + m->n - 1) / MB_PANEL - n0 / MB_PANEL + 1, 4, put_panels, &p);
    return MB_OK;
}

/* ---------------------------------------------------------------- get */
struct get {
    const struct mb_weight *w;
    int64_t n0;
    struct mb_blob at;
    unsigned char *dst;
};

/* Items: rows. */
static void get_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct get *g = arg;
    const struct mb_weight *w = g->w;
    const struct mb_form *f = &w->desc.form;
    int64_t size = mb_form_scale_size(f), stride = mb_form_row_bytes(f, w->desc.k);

    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = g->n0 + i, lane = row % MB_PANEL;
        const unsigned char *panel = w->data + row / MB_PANEL * w->panel_bytes;
        unsigned char *code = g->dst + g->at.code + i * stride;
        memset(code, 0, (size_t)stride);
        for (int32_t l = 0; l < w->desc.leaves; l++)
            for (int64_t k = w->desc.leaf[l]; k < w->desc.leaf[l + 1]; k++) {
                int64_t place = mb_weight_place(w, l, k);
                int shift;
                int64_t at =
                    place / MB_BLOCK * w->code_block + mb_code_byte(f, place % MB_BLOCK, lane, &shift);
                if (f->bits == 8)
                    code[k] = panel[at];
                else
                    code[k / 2] |= (unsigned char)((panel[at] >> shift & 15) << (4 * (k % 2)));
            }
        for (int64_t j = 0; j < w->groups; j++) {
            memcpy(g->dst + g->at.scale + (i * w->groups + j) * size,
                   panel + w->scale_at + (j * MB_PANEL + lane) * size, (size_t)size);
            if (f->zeros)
                g->dst[g->at.zero + i * w->groups + j] = panel[w->zero_at + j * MB_PANEL + lane];
        }
        if (f->whole)
            memcpy(g->dst + g->at.whole + 4 * i, panel + w->whole_at + 4 * lane, 4);
    }
}

void mb_stored_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst)
{
    struct get g = {w, n0, mb_form_blob(&w->desc.form, n, w->desc.k), dst};

    if (w->g_idx != NULL)
        memcpy(g.dst + g.at.g_idx, w->g_idx + w->list_of[n0] * w->list_words, (size_t)(4 * w->desc.k));
    mb_cpu_run(w->dev, n, 16, get_rows, &g);
}
