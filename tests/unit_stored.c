/* Weights kept as a file stores them: a GEMM on them has the bits of one on the values that the formula
 * gives, on every kernel this machine has; what is read back is what was put. Values are computed here,
 * element by element in double precision, from codes and scales that are drawn. */
#include "device_help.h"

#include <math.h>
#include <stdio.h>
#include "device/cpu_weight.h"

enum { MOST_LEAVES = 4 };
struct kase {
    struct mb_form f;
    int64_t n, k, leaf[MOST_LEAVES + 1];
    int32_t leaves;
    bool wild; /* scales of any size, NaN codes */
    const char *what;
};

/* Codes and scales of the whole matrix [n][K], K = all groups; the weight has columns k0 .. k0 + k. */
struct drawn {
    int64_t K, groups;
    uint8_t *blob;
    struct mb_host_matrix m;
};

static int64_t whole_k(const struct kase *c)
{
    return c->f.g_idx ? c->k : (int64_t)c->f.group * c->f.groups;
}

static void draw_scale(struct rig *g, const struct kase *c, uint8_t *to)
{
    uint32_t u = rig_random(g);
    float v = mb_float_of((u & 0x807fffffu) | (127 - 9 + rig_random(g) % 6) << 23);
    if (c->wild && u % 7 == 0) {
        static const float odd[] = {0, INFINITY, 0x1p-126f, 0x1p-130f, 0x1p120f, -0x1p-100f};
        v = odd[u / 7 % 6];
    }
    uint16_t half =
        c->f.scale == MB_STORE_BF16 ? mb_bf16_of(v) : (uint16_t)((u & 0x83ff) | (6 + u % 9) << 10);
    if (c->f.scale == MB_SCALE_E8M0)
        *to = (uint8_t)(c->wild ? rig_random(g) % 255 : 110 + rig_random(g) % 30);
    else if (c->f.scale == MB_STORE_F8E4M3)
        *to = (uint8_t)(c->wild ? rig_random(g) : rig_random(g) % 0x7f);
    else if (c->f.scale == MB_STORE_F32)
        memcpy(to, &v, 4);
    else
        memcpy(to, &half, 2);
}

static void draw(struct rig *g, const struct kase *c, struct drawn *d)
{
    struct mb_form f = c->f;
    f.k0 = 0;
    d->K = whole_k(c);
    d->groups = mb_form_groups(&f, d->K);
    struct mb_blob b = mb_form_blob(&f, c->n, d->K);
    d->blob = malloc((size_t)b.bytes + 1);
    for (int64_t i = b.zero; i < b.bytes; i++)
        d->blob[i] = (uint8_t)rig_random(g);
    for (int64_t i = b.code; i < b.bytes && f.bits == 8 && f.code != MB_CODE_INT && !c->wild; i++)
        d->blob[i] =
            (d->blob[i] & (f.code == MB_CODE_E4M3 ? 0x7f : 0x7c)) >= (f.code == MB_CODE_E4M3 ? 0x7f : 0x7c)
                ? 0x31
            : rig_random(g) % 6 ? d->blob[i]
                                : d->blob[i] & 0x87; /* and subnormal ones */
    for (int64_t i = b.zero; i < b.code && f.bits == 4; i++)
        d->blob[i] &= 15;
    for (int64_t i = 0; i < c->n * d->groups; i++)
        draw_scale(g, c, d->blob + b.scale + i * mb_form_scale_size(&f));
    for (int64_t i = 0; i < c->n && f.whole; i++) {
        float w = 0.37f + (float)(i % 5);
        memcpy(d->blob + b.whole + 4 * i, &w, 4);
    }
    for (int64_t j = 0; j < d->K && f.g_idx; j++) {
        int32_t at = (int32_t)(rig_random(g) % (uint32_t)f.groups);
        memcpy(d->blob + b.g_idx + 4 * j, &at, 4);
    }
    d->m = mb_host_stored(&f, c->n, d->K, d->blob);
    d->m.codes.form.g_idx = f.g_idx != 0;
}

static double scale_of(const struct mb_form *f, const uint8_t *p)
{
    uint16_t h;
    float s;
    memcpy(&h, p, f->scale == MB_STORE_F16 || f->scale == MB_STORE_BF16 ? 2 : 1);
    memcpy(&s, p, f->scale == MB_STORE_F32 ? 4 : 1);
    return f->scale == MB_SCALE_E8M0   ? ldexp(1, *p - 127)
           : f->scale == MB_STORE_F32  ? (double)s
           : f->scale == MB_STORE_BF16 ? (double)mb_bf16_float(h)
           : f->scale == MB_STORE_F8E4M3
               ? (double)mb_fp8_float(*p)
               : ((h & 0x8000) ? -1 : 1) * ldexp(1024 + (h & 1023), (h >> 10 & 31) - 25);
}

/* fl32 of the formula; products of floats are exact in double, and what is below the smallest normal is zero
 */
static float value_of(const struct kase *c, const struct drawn *d, int64_t i, int64_t j)
{
    const struct mb_form *f = &c->f;
    const struct mb_host_codes *h = &d->m.codes;
    int64_t g = f->g_idx ? h->g_idx[j] : j / f->group, cell = i * d->groups + g;
    uint8_t code = f->bits == 8 ? h->code[i * h->code_stride + j]
                                : h->code[i * h->code_stride + j / 2] >> (4 * (j & 1)) & 15;
    double s = scale_of(f, (const uint8_t *)h->scale + cell * mb_form_scale_size(f)), q;

    if (f->whole) {
        float w;
        memcpy(&w, &h->whole[i], 4);
        s = (float)(f->whole == MB_WHOLE_OVER ? s / (double)w : s * (double)w);
    }
    s = f->scale != MB_SCALE_E8M0 && fabs(s) < 0x1p-126 ? 0 : s;
    static const double fp4[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
    if (f->code == MB_CODE_FP4)
        q = code & 8 ? -fp4[code & 7] : fp4[code & 7];
    else if (f->code == MB_CODE_INT)
        q = (double)code - f->zero_add - (f->zeros ? h->zero[cell] : 0);
    else
        q = (double)(f->code == MB_CODE_E4M3 ? mb_fp8_float(code) : mb_f8e5m2_float(code));
    float v = (float)(q * s);
    return fabsf(v) < 0x1p-126f ? 0 : v;
}

static struct mb_weight *make(struct rig *g, const struct kase *c, struct mb_form f, enum mb_dtype t)
{
    struct mb_weight_desc d = {
        .n = c->n, .k = c->k, .dtype = t, .leaves = c->leaves, .cat = MB_MEM_EXPERTS, .form = f};
    struct mb_weight *w;
    memcpy(d.leaf, c->leaf, sizeof c->leaf);
    assert_int_equal(g->ops->weight_create(g->dev, &d, &w), MB_OK);
    return w;
}

/* Both in rows: the stored one by codes in two parts of rows, the other by values. */
static void put_both(struct rig *g, const struct kase *c, const struct drawn *d, const float *v,
                     struct mb_weight *stored, struct mb_weight *plain)
{
    int64_t cut = c->n / 3;
    struct mb_host_matrix a = mb_host_part(&d->m, 0, cut, c->f.k0, c->k),
                          b = mb_host_part(&d->m, cut, c->n - cut, c->f.k0, c->k);
    assert_int_equal(g->ops->weight_put(stored, 0, 0, &a), MB_OK);
    assert_int_equal(g->ops->weight_put(stored, cut, 0, &b), MB_OK);
    struct mb_host_matrix m = {
        .base = v, .storage = MB_STORE_F32, .n = c->n, .k = c->k, .stride_n = c->k, .stride_k = 1};
    assert_int_equal(g->ops->weight_put(plain, 0, 0, &m), MB_OK);
}

static bool same_bits(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void compare_gemms(struct rig *g, const struct kase *c, const struct mb_weight *stored,
                          const struct mb_weight *plain, int64_t rows, enum mb_dtype t)
{
    float *x = malloc((size_t)(rows * c->k) * sizeof *x);
    for (int64_t i = 0; i < rows * c->k; i++)
        x[i] = rig_value(g, true);
    struct mb_view xv = rig_floats(g, x, rows, c->k, c->k, t),
                   a = rig_floats(g, NULL, rows, c->n, c->n, MB_F32),
                   b = rig_floats(g, NULL, rows, c->n, c->n, MB_F32);
    struct mb_gemm_group ga = {stored, 0, rows, 0, 0, MB_NO_VIEW}, gb = {plain, 0, rows, 0, 0, MB_NO_VIEW};
    assert_int_equal(g->ops->gemm(g->s, a, xv, &ga, 1), MB_OK);
    assert_int_equal(g->ops->gemm(g->s, b, xv, &gb, 1), MB_OK);
    float *fa = rig_read(g, a), *fb = rig_read(g, b);
    for (int64_t i = 0; i < rows * c->n; i++)
        if (!same_bits(fa[i], fb[i]))
            fail_msg("%s, %lld x %lld, %lld rows: output %lld is %a, not %a", c->what, (long long)c->n,
                     (long long)c->k, (long long)rows, (long long)i, (double)fa[i], (double)fb[i]);
    free(fa);
    free(fb);
    free(x);
    rig_free(g, xv);
    rig_free(g, a);
    rig_free(g, b);
}

/* Every value itself, as the kernels see it: signs of zeros, too, where no formula leaves them open. */
static void compare_values(const struct kase *c, const struct mb_weight *w, const float *v)
{
    int64_t blocks = w->block[c->leaves];
    uint16_t *h = aligned_alloc(64, (size_t)(blocks * MB_BLOCK * MB_PANEL * 4));
    const float *f = (const float *)(const void *)h;
    uint32_t old = mb_fp_enter();

    for (int64_t p = 0; p < w->panels; p++) {
        mb_widen(w, p, 0, blocks, h);
        for (int32_t l = 0; l < c->leaves; l++)
            for (int64_t k = c->leaf[l]; k < c->leaf[l + 1]; k++)
                for (int64_t i = 0; i < MB_PANEL && p * MB_PANEL + i < c->n; i++) {
                    int64_t at = mb_weight_place(w, l, k);
                    float want = v[(p * MB_PANEL + i) * c->k + k];
                    float got = w->desc.dtype == MB_F32
                                    ? f[at * MB_PANEL + i]
                                    : mb_bf16_float(h[(at / 2 * MB_PANEL + i) * 2 + at % 2]);
                    want = w->desc.dtype == MB_F32 ? want : mb_bf16_float(mb_bf16_of(want));
                    if (!same_bits(got, want))
                        fail_msg("%s: value (%lld, %lld) is %a, not %a", c->what,
                                 (long long)(p * MB_PANEL + i), (long long)k, (double)got, (double)want);
                }
    }
    mb_fp_restore(old);
    free(h);
}

/* Rows as a blob into another weight: the same codes. */
static void move(struct rig *g, const struct kase *c, const struct mb_weight *w, enum mb_dtype t)
{
    struct mb_form f = w->desc.form;
    f.g_idx = f.g_idx != 0;
    int64_t bytes = mb_form_blob(&f, c->n, c->k).bytes;
    uint8_t *a = malloc((size_t)bytes), *b = malloc((size_t)bytes);
    struct mb_weight *to = make(g, c, w->desc.form, t);

    assert_int_equal(g->ops->weight_get(w, 0, c->n, a), MB_OK);
    struct mb_host_matrix m = mb_host_stored(&f, c->n, c->k, a);
    assert_int_equal(g->ops->weight_put(to, 0, 0, &m), MB_OK);
    assert_int_equal(g->ops->weight_get(to, 0, c->n, b), MB_OK);
    assert_memory_equal(a, b, bytes);
    g->ops->weight_free(to);
    free(a);
    free(b);
}

static void one(struct rig *g, const struct kase *c, enum mb_dtype t)
{
    struct drawn d;
    draw(g, c, &d);
    float *v = malloc((size_t)(c->n * c->k) * sizeof *v);
    for (int64_t i = 0; i < c->n * c->k; i++)
        v[i] = value_of(c, &d, i / c->k, c->f.k0 + i % c->k);
    struct mb_weight *stored = make(g, c, c->f, t), *plain = make(g, c, (struct mb_form){0}, t);
    put_both(g, c, &d, v, stored, plain);
    compare_values(c, stored, v);
    for (int64_t rows = 1; rows <= 105 && !c->wild; rows += rows < 4 ? 1 : 33)
        compare_gemms(g, c, stored, plain, rows, t);
    move(g, c, stored, t);
    struct mb_host_matrix m = mb_host_part(&d.m, 0, c->n, c->f.k0, c->k); /* codes into a plain weight */
    assert_int_equal(g->ops->weight_put(plain, 0, 0, &m), MB_OK);
    if (!c->wild)
        compare_gemms(g, c, stored, plain, 2, t);
    g->ops->weight_free(stored);
    g->ops->weight_free(plain);
    free(d.blob);
    free(v);
}

/* ---------------------------------------------------------------- cases */
#define INT4(s, z, add, g, n, at)                                                                            \
    {                                                                                                        \
        .code = MB_CODE_INT, .bits = 4, .scale = s, .zeros = z, .zero_add = add, .group = g, .groups = n,    \
        .k0 = at                                                                                             \
    }
#define INT8(s, z, add, g, n, at)                                                                            \
    {                                                                                                        \
        .code = MB_CODE_INT, .bits = 8, .scale = s, .zeros = z, .zero_add = add, .group = g, .groups = n,    \
        .k0 = at                                                                                             \
    }
static const struct kase cases[] = {
    {{.code = MB_CODE_FP4, .bits = 4, .scale = MB_SCALE_E8M0, .group = 32, .groups = 8, .k0 = 0},
     40,
     256,
     {0, 64, 128, 192, 256},
     4,
     false,
     "mxfp4"},
    {{.code = MB_CODE_FP4, .bits = 4, .scale = MB_SCALE_E8M0, .group = 32, .groups = 5, .k0 = 20},
     17,
     100,
     {0, 50, 100},
     2,
     true,
     "mxfp4, cut groups, all exponents"},
    {{.code = MB_CODE_FP4,
      .bits = 4,
      .scale = MB_STORE_F8E4M3,
      .whole = MB_WHOLE_TIMES,
      .group = 16,
      .groups = 10,
      .k0 = 32},
     33,
     112,
     {0, 112},
     1,
     false,
     "nvfp4"},
    {{.code = MB_CODE_FP4,
      .bits = 4,
      .scale = MB_STORE_F8E4M3,
      .whole = MB_WHOLE_OVER,
      .group = 16,
      .groups = 10},
     48,
     160,
     {0, 80, 160},
     2,
     true,
     "nvfp4 that divides"},
    {INT4(MB_STORE_BF16, 0, 8, 128, 6, 192),
     24,
     192,
     {0, 192},
     1,
     false,
     "int4, a leaf of 192 in groups of 128"},
    {INT4(MB_STORE_BF16, 1, 0, 128, 6, 0),
     24,
     768,
     {0, 192, 384, 576, 768},
     4,
     false,
     "int4 with zero points"},
    {INT4(MB_STORE_F16, 1, 1, 32, 9, 64), 40, 200, {0, 96, 200}, 2, false, "gptq, zero points minus 1"},
    {INT4(MB_STORE_F32, 1, 0, 32, 3, 0), 19, 90, {0, 45, 90}, 2, true, "awq, leaves of 45"},
    {INT4(MB_STORE_F32, 0, 8, 7, 12, 3), 16, 80, {0, 80}, 1, false, "int4, groups of 7"},
    {{.code = MB_CODE_INT,
      .bits = 4,
      .scale = MB_STORE_F16,
      .zeros = 1,
      .g_idx = 1,
      .zero_add = 1,
      .group = 32,
      .groups = 4},
     35,
     120,
     {0, 60, 120},
     2,
     false,
     "gptq, act-order"},
    {{.code = MB_CODE_INT,
      .bits = 8,
      .scale = MB_STORE_BF16,
      .g_idx = 1,
      .zero_add = 128,
      .group = 32,
      .groups = 4},
     20,
     96,
     {0, 96},
     1,
     false,
     "int8, act-order"},
    {INT8(MB_STORE_BF16, 0, 128, 90, 1, 0), 30, 90, {0, 90}, 1, false, "int8 by row"},
    {INT8(MB_STORE_F16, 1, 1, 32, 5, 32), 18, 100, {0, 50, 100}, 2, false, "int8 with zero points"},
    {INT8(MB_STORE_F32, 0, 128, 64, 2, 0), 33, 128, {0, 128}, 1, true, "int8, odd scales"},
    {{.code = MB_CODE_E4M3, .bits = 8, .scale = MB_STORE_F32, .group = 128, .groups = 3, .k0 = 64},
     37,
     256,
     {0, 128, 256},
     2,
     false,
     "fp8 in blocks"},
    {{.code = MB_CODE_E4M3, .bits = 8, .scale = MB_STORE_F32, .group = 90, .groups = 1},
     16,
     90,
     {0, 90},
     1,
     true,
     "fp8 by row, odd scales and NaN"},
    {{.code = MB_CODE_E5M2, .bits = 8, .scale = MB_STORE_F32, .group = 64, .groups = 2},
     50,
     128,
     {0, 128},
     1,
     false,
     "fp8 e5m2"},
    {{.code = MB_CODE_E5M2, .bits = 8, .scale = MB_STORE_F32, .group = 40, .groups = 3},
     16,
     120,
     {0, 60, 120},
     2,
     true,
     "fp8 e5m2, infinities"},
};

static void test_forms(void **state)
{
    (void)state;
    int ran = 0;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int t = 0; t < 2; t++) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], 1 + t, t ? MB_BF16 : MB_F32))
                break;
            for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
                one(&g, &cases[c], t ? MB_BF16 : MB_F32);
            rig_close(&g);
            ran++;
        }
    assert_true(ran >= 2);
}

/* Two matrices whose columns name their groups each their own way, one below the other; then others take
 * their place, a piece at a time, as an expert's do in a slot. */
static void test_lists(void **state)
{
    (void)state;
    enum { N = 20, K = 64 };
    struct rig g;
    struct kase c = {{.code = MB_CODE_INT,
                      .bits = 4,
                      .scale = MB_STORE_F32,
                      .g_idx = 2,
                      .zero_add = 8,
                      .group = 16,
                      .groups = 4},
                     2 * N,
                     K,
                     {0, K},
                     1,
                     false,
                     "two lists"};
    assert_true(rig_open(&g, "auto", 2, MB_BF16));
    struct mb_weight *w = make(&g, &c, c.f, MB_BF16);
    struct kase half = c;
    half.n = N;
    half.f.g_idx = 1;
    for (int round = 0; round < 3; round++) {
        float *v = malloc(sizeof(float) * 2 * N * K);
        for (int part = 0; part < 2; part++) {
            struct drawn d;
            draw(&g, &half, &d);
            for (int64_t i = 0; i < N * K; i++)
                v[part * N * K + i] = value_of(&half, &d, i / K, i % K);
            for (int64_t n0 = 0; n0 < N; n0 += 8) {
                struct mb_host_matrix m = mb_host_part(&d.m, n0, N - n0 < 8 ? N - n0 : 8, 0, K);
                assert_int_equal(g.ops->weight_put(w, part * N + n0, 0, &m), MB_OK);
            }
            free(d.blob);
        }
        compare_values(&c, w, v);
        free(v);
    }
    g.ops->weight_free(w);
    rig_close(&g);
}

/* Codes of another form, or at another column of the whole matrix. */
static void test_mistakes(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "auto", 1, MB_BF16));
    const struct kase *c = &cases[4];
    struct drawn d;
    draw(&g, c, &d);
    struct mb_weight *w = make(&g, c, c->f, MB_BF16);
    struct mb_host_matrix m = mb_host_part(&d.m, 0, c->n, 0, c->k);
    mb_log_set_quiet(true);
    assert_int_equal(g.ops->weight_put(w, 0, 0, &m), MB_BUG);
    m = mb_host_part(&d.m, 0, c->n, c->f.k0, c->k);
    m.codes.form.group = 64;
    assert_int_equal(g.ops->weight_put(w, 0, 0, &m), MB_BUG);
    struct mb_form f = c->f;
    f.bits = 8;
    f.code = MB_CODE_FP4;
    struct mb_weight_desc wd = {
        .n = 4, .k = 32, .dtype = MB_BF16, .leaves = 1, .leaf = {0, 32}, .cat = MB_MEM_EXPERTS, .form = f};
    struct mb_weight *none;
    assert_int_equal(g.ops->weight_create(g.dev, &wd, &none), MB_BUG);
    mb_log_set_quiet(false);
    g.ops->weight_free(w);
    free(d.blob);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_lists),
                                       cmocka_unit_test(test_mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
