/* Weights of the int8 path, and the portable kernels: the definition of the others. */
#include "device/cpu_s8.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"

#define INFINITE 0x7f800000u
#define NORMAL 0x00800000u

/* ---------------------------------------------------------------- codes */
float mb_s8_scale(uint32_t largest)
{
    if (largest >= INFINITE)
        return NAN;
    float s = mb_float_of(largest) / 127.0f;
    return mb_bits_of(s) < NORMAL ? 0 : s;
}

uint32_t mb_s8_largest(const float *x, int64_t n)
{
    uint32_t most = 0;

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = mb_bits_of(x[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

void mb_s8_codes(const float *x, int64_t n, float scale, int16_t *out)
{
    bool none = scale == 0 || isnan(scale);

    for (int64_t i = 0; i < n; i++)
        out[i] = none ? 0 : (int16_t)rintf(x[i] / scale);
}

/* ---------------------------------------------------------------- portable products */
static void portable(const struct mb_s8_tile *t)
{
    const int16_t *x = t->x;

    for (int32_t r = 0; r < t->rows; r++) {
        for (int32_t c = 0; c < MB_PANEL; c++) {
            int32_t sum = t->add ? t->c[r * MB_PANEL + c] : 0;
            for (int64_t q = 0; q < t->quads; q++)
                for (int k = 0; k < MB_QUAD; k++)
                    sum += x[(q * t->rows + r) * MB_QUAD + k] * t->w[(q * MB_PANEL + c) * MB_QUAD + k];
            t->c[r * MB_PANEL + c] = sum;
        }
    }
}

const struct mb_s8_kernels mb_s8_portable = {4, 2, portable, mb_s8_codes, mb_s8_largest};

/* ---------------------------------------------------------------- the choice */
enum { TEST_QUADS = 19, TEST_ROWS = 32 };
struct sample {
    int16_t x[TEST_QUADS * TEST_ROWS * MB_QUAD];
    uint8_t bytes[TEST_QUADS * TEST_ROWS * MB_QUAD];
    int8_t w[TEST_QUADS * MB_PANEL * MB_QUAD] __attribute__((aligned(64)));
    int32_t a[TEST_ROWS * MB_PANEL] __attribute__((aligned(64))),
        b[TEST_ROWS * MB_PANEL] __attribute__((aligned(64)));
    float f[1001];
    int16_t codes[2][1001];
};

static int32_t code_of(uint32_t u)
{
    return u % 16 == 0 ? 127 : u % 16 == 1 ? -127 : (int32_t)(u >> 8) % 255 - 127;
}

static void draw(struct sample *s, uint64_t key)
{
    uint32_t ctr[4] = {0}, u[4];

    for (uint32_t i = 0; i < sizeof s->x / sizeof s->x[0]; i++) {
        ctr[0] = i;
        mb_philox4x32(ctr, key, u);
        s->x[i] = (int16_t)code_of(u[0] & 0x7fffffff);
        s->bytes[i] = (uint8_t)(s->x[i] + 128);
        if (i < sizeof s->w)
            s->w[i] = (int8_t)code_of(u[1] & 0x7fffffff);
        if (i < 1001)
            s->f[i] = mb_float_of((u[2] & 0x80000000u) | (100 + u[2] % 50) << 23 | (u[3] & 0x7fffff));
    }
}

static bool same_tile(const struct mb_s8_kernels *k, struct sample *s, int32_t rows)
{
    for (int32_t part = 0; part < 2; part++) { /* the second adds */
        int64_t at = part * (TEST_QUADS / 2) * rows * MB_QUAD,
                n = part == 0 ? TEST_QUADS / 2 : TEST_QUADS - TEST_QUADS / 2;
        struct mb_s8_tile t = {.x = s->x + at,
                               .w = s->w + part * (TEST_QUADS / 2) * MB_PANEL * MB_QUAD,
                               .c = s->a,
                               .quads = n,
                               .rows = rows,
                               .add = part != 0};
        portable(&t);
        t.x = k->size == 2 ? (const void *)(s->x + at) : (const void *)(s->bytes + at);
        t.c = s->b;
        k->fn(&t);
    }
    return memcmp(s->a, s->b, (size_t)(rows * MB_PANEL) * sizeof *s->a) == 0;
}

static bool same_codes(const struct mb_s8_kernels *k, struct sample *s, int64_t n)
{
    uint32_t most = mb_s8_largest(s->f, n);
    float scale = mb_s8_scale(most);

    if (k->largest(s->f, n) != most)
        return false;
    mb_s8_codes(s->f, n, scale, s->codes[0]);
    k->codes(s->f, n, scale, s->codes[1]);
    return memcmp(s->codes[0], s->codes[1], (size_t)n * sizeof s->codes[0][0]) == 0;
}

bool mb_s8_self_test(const struct mb_s8_kernels *k)
{
    struct sample *s = mb_zalloc(NULL, MB_MEM_OTHER, 1, sizeof *s);
    bool ok = s != NULL && k->rows <= TEST_ROWS;
    uint32_t mode = mb_fp_enter();

    for (int32_t rows = 1; ok && rows <= k->rows; rows++) {
        draw(s, (uint64_t)rows);
        ok = same_tile(k, s, rows);
    }
    for (int64_t n = 0; ok && n <= 40; n++)
        ok = same_codes(k, s, n);
    ok = ok && same_codes(k, s, 1001);
    mb_fp_restore(mode);
    mb_free(s);
    return ok;
}

const struct mb_s8_kernels *mb_s8_kernels(enum mb_isa isa)
{
    if (isa >= MB_ISA_AVX512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"))
        return &mb_s8_vnni;
    return isa >= MB_ISA_AVX2 ? &mb_s8_avx2 : &mb_s8_portable;
}

const struct mb_s8_kernels *mb_s8_choose(enum mb_isa isa)
{
    const struct mb_s8_kernels *k = mb_s8_kernels(isa);

    if (k == &mb_s8_portable || mb_s8_self_test(k))
        return k;
    mb_warn(
        "the kernels for signed bytes compute other sums on this machine than they should and are not used");
    return &mb_s8_portable;
}

/* ---------------------------------------------------------------- create */
enum mb_status mb_s8_create(struct mb_weight *w, uint64_t *bytes)
{
    int64_t blocks = w->block[w->desc.leaves];
    uint64_t code;

    for (int32_t l = 0; l < w->desc.leaves; l++)
        if (w->desc.leaf[l + 1] - w->desc.leaf[l] > MB_S8_MOST_K)
            return mb_error(MB_LAYOUT,
                            "a sum of %" PRId64
                            " products of signed bytes does not fit into 32 bits; use --dtype bf16",
                            w->desc.leaf[l + 1] - w->desc.leaf[l]);
    if (w->desc.form.groups != w->desc.leaves)
        return mb_error(MB_BUG, "weight_create: %d scales for %d leaves", w->desc.form.groups,
                        w->desc.leaves);
    if (!mb_mul_ok((uint64_t)blocks, MB_S8_BLOCK, &code) || code > INT64_MAX / 4)
        return mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, w->desc.n,
                        w->desc.k);
    w->groups = w->desc.leaves;
    w->code_block = MB_S8_BLOCK;
    w->scale_at = blocks * MB_S8_BLOCK;
    w->panel_bytes = mb_form_panel_bytes(&w->desc.form, blocks, w->groups);
    return mb_mul_ok((uint64_t)w->panels, (uint64_t)w->panel_bytes, bytes)
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory for a weight of %" PRId64 " x %" PRId64, w->desc.n,
                          w->desc.k);
}

/* ---------------------------------------------------------------- put */
struct put {
    struct mb_weight *w;
    int64_t n0;
    const struct mb_host_matrix *m;
};
enum { PIECE = 256 };

static int8_t *code_at(const struct mb_weight *w, unsigned char *panel, int32_t leaf, int64_t k, int64_t lane)
{
    int64_t place = mb_weight_place(w, leaf, k);
    return (int8_t *)panel + (place / MB_QUAD * MB_PANEL + lane) * MB_QUAD + place % MB_QUAD;
}

static void put_leaf(const struct put *p, int64_t i, int32_t leaf, unsigned char *panel, int64_t lane)
{
    const struct mb_weight *w = p->w;
    const struct mb_s8_kernels *q = w->dev->s8;
    int64_t from = w->desc.leaf[leaf], to = w->desc.leaf[leaf + 1];
    float v[PIECE], scale;
    int16_t code[PIECE];
    uint32_t most = 0;

    for (int64_t k = from; k < to; k += PIECE) {
        int64_t n = to - k < PIECE ? to - k : PIECE;
        mb_host_row(p->m, i, k, n, v);
        uint32_t m = q->largest(v, n);
        most = m > most ? m : most;
    }
    scale = mb_s8_scale(most);
    memcpy(panel + w->scale_at + (leaf * MB_PANEL + lane) * 4, &scale, sizeof scale);
    for (int64_t k = from; k < to; k += PIECE) {
        int64_t n = to - k < PIECE ? to - k : PIECE;
        mb_host_row(p->m, i, k, n, v);
        q->codes(v, n, scale, code);
        for (int64_t e = 0; e < n; e++)
            *code_at(w, panel, leaf, k + e, lane) = (int8_t)code[e];
    }
}

/* Codes as mb_s8_get gives them. */
static void put_codes(const struct put *p, int64_t i, unsigned char *panel, int64_t lane)
{
    const struct mb_weight *w = p->w;
    const struct mb_host_codes *c = &p->m->codes;
    int64_t row = p->m->scale_n0 + i;

    for (int32_t l = 0; l < w->desc.leaves; l++) {
        memcpy(panel + w->scale_at + (l * MB_PANEL + lane) * 4,
               (const char *)c->scale + (row * c->groups + l) * 4, 4);
        for (int64_t k = w->desc.leaf[l]; k < w->desc.leaf[l + 1]; k++)
            *code_at(w, panel, l, k, lane) = (int8_t)c->code[row * c->code_stride + k];
    }
}

/* Items: panels that the rows touch. */
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
            if (p->m->storage == MB_STORE_CODES && p->m->codes.form.code == MB_CODE_S8) {
                put_codes(p, i, panel, lane);
                continue;
            }
            for (int32_t l = 0; l < p->w->desc.leaves; l++)
                put_leaf(p, i, l, panel, lane);
        }
    }
}

enum mb_status mb_s8_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    bool codes = m->storage == MB_STORE_CODES && m->codes.form.code == MB_CODE_S8;
    struct put p = {w, n0, m};

    if (k0 != 0 || m->k != w->desc.k || (codes && (m->codes.groups != w->groups || m->scale_k0 != 0)))
        return mb_error(MB_BUG,
                        "weight_put: signed bytes are made of whole rows, with the leaves of the weight");
    if (mb_storage_fp8(m->storage) && (m->scale == NULL || m->block_n < 1 || m->block_k < 1))
        return mb_error(MB_BUG, "weight_put: storage %d without the scales it needs", (int)m->storage);
    if (m->n > 0)
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

    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = g->n0 + i, lane = row % MB_PANEL;
        unsigned char *panel = w->data + row / MB_PANEL * w->panel_bytes;
        for (int32_t l = 0; l < w->desc.leaves; l++) {
            memcpy(g->dst + g->at.scale + (i * w->groups + l) * 4,
                   panel + w->scale_at + (l * MB_PANEL + lane) * 4, 4);
            for (int64_t k = w->desc.leaf[l]; k < w->desc.leaf[l + 1]; k++)
                g->dst[g->at.code + i * w->desc.k + k] = (unsigned char)*code_at(w, panel, l, k, lane);
        }
    }
}

void mb_s8_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst)
{
    struct get g = {w, n0, mb_form_blob(&w->desc.form, n, w->desc.k), dst};

    mb_cpu_run(w->dev, n, 16, get_rows, &g);
}
