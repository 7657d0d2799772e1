#include "ops_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run(const struct mb_ops *ops, const char *isa, int threads, enum mb_dtype path,
                void (*fn)(struct ops_ctx *))
{
    struct ops_ctx c = {.ops = ops, .path = path, .seed = 12345};
    struct mb_device_options o = {.threads = threads, .isa = isa, .mem = &c.mem, .path = path};
    if (ops->open(&o, &c.dev) != MB_OK)
        return; /* this machine does not have it */
    struct mb_device_info info;
    ops->info(c.dev, &info);
    printf("   on %s: %s, %s\n", info.name, info.isa, path == MB_BF16 ? "bf16" : "f32");
    assert_int_equal(ops->stream_create(c.dev, &c.s), MB_OK);
    fn(&c);
    ops_reset(&c);
    ops->stream_destroy(c.s);
    ops->close(c.dev);
    assert_int_equal(mb_mem_total(&c.mem), 0);
}

void ops_each(void (*fn)(struct ops_ctx *))
{
    static const char *const isas[] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
    int n;
    const struct mb_ops *const *all = mb_ops_all(&n);
    uint32_t old = mb_fp_enter();
    for (int i = 0; i < n; i++)
        for (int k = 0; k < (strcmp(all[i]->name, "cpu") == 0 ? 5 : 1); k++)
            for (int path = 0; path < 2; path++)
                run(all[i], strcmp(all[i]->name, "cpu") == 0 ? isas[k] : "auto", path ? 3 : 1,
                    path ? MB_BF16 : MB_F32, fn);
    mb_fp_restore(old);
}

void ops_reset(struct ops_ctx *c)
{
    while (c->bufs > 0)
        c->ops->buf_free(c->buf[--c->bufs]);
}

uint32_t ops_rnd(struct ops_ctx *c)
{
    c->seed = c->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(c->seed >> 32);
}

float ops_rnd_float(struct ops_ctx *c)
{
    float f = ldexpf((float)(int32_t)ops_rnd(c), -30);
    return ops_rnd(c) % 37 == 0 ? 0 : ops_rnd(c) % 3 == 0 ? 3 * f : f;
}

void ops_fill(struct ops_ctx *c, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = ops_rnd_float(c);
}

struct mb_view ops_up(struct ops_ctx *c, const void *data, int64_t rows, int64_t cols, enum mb_dtype t)
{
    int64_t stride = cols + (int64_t)(ops_rnd(c) % 4), size = mb_dtype_size(t);
    uint64_t off = (uint64_t)(ops_rnd(c) % 3) * (uint64_t)size * 5;
    assert_true(c->bufs < 64);
    assert_int_equal(c->ops->buf_alloc(c->dev, MB_MEM_ACTIVATIONS,
                                       off + (uint64_t)(rows * stride * size) + 64, &c->buf[c->bufs]),
                     MB_OK);
    struct mb_view v = {c->buf[c->bufs++], off, rows, cols, stride, t};
    size_t n = (size_t)(rows * cols * size);
    unsigned char *junk = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        junk[i] = 0x3f;
    assert_int_equal(c->ops->copy_in(c->s, v, data != NULL ? data : junk), MB_OK);
    free(junk);
    return v;
}

void ops_down(struct ops_ctx *c, void *dst, struct mb_view v)
{
    assert_int_equal(c->ops->copy_out(c->s, dst, v), MB_OK);
}

void ops_equal(struct ops_ctx *c, struct mb_view v, const float *want)
{
    int64_t n = v.rows * v.cols;
    void *got = malloc((size_t)(n * mb_dtype_size(v.dtype)) + 1);
    ops_down(c, got, v);
    for (int64_t i = 0; i < n; i++) {
        float w = v.dtype == MB_BF16 ? mb_bf16_float(mb_bf16_of(want[i])) : want[i];
        float g = v.dtype == MB_BF16 ? mb_bf16_float(((uint16_t *)got)[i]) : ((float *)got)[i];
        if (!(g == w || (isnan(g) && isnan(w))))
            fail_msg("element %lld of [%lld, %lld]: got %a, want %a", (long long)i, (long long)v.rows,
                     (long long)v.cols, (double)g, (double)w);
    }
    free(got);
}

void ops_equal_i32(struct ops_ctx *c, struct mb_view v, const int32_t *want)
{
    int64_t n = v.rows * v.cols;
    int32_t *got = malloc((size_t)n * sizeof *got + 1);
    ops_down(c, got, v);
    for (int64_t i = 0; i < n; i++)
        if (got[i] != want[i])
            fail_msg("element %lld of [%lld, %lld]: got %d, want %d", (long long)i, (long long)v.rows,
                     (long long)v.cols, got[i], want[i]);
    free(got);
}

float naive_r32(const float *x, const float *w, int64_t n, int kind)
{
    float p[32];
    for (int j = 0; j < 32; j++) {
        p[j] = 0;
        for (int64_t i = j; i < n; i += 32)
            p[j] = kind == 0 ? p[j] + x[i] : fmaf(x[i], w[i], p[j]);
    }
    for (int step = 16; step >= 1; step /= 2)
        for (int j = 0; j < step; j++)
            p[j] += p[j + step];
    return p[0];
}

bool naive_tree(const float *v, const int32_t *pos, int n, int64_t lo, int64_t size, float *out)
{
    if (size == 1) {
        for (int i = 0; i < n; i++)
            if (pos[i] == lo) {
                *out = v[i];
                return true;
            }
        return false;
    }
    float a = 0, b = 0;
    bool left = naive_tree(v, pos, n, lo, size / 2, &a),
         right = naive_tree(v, pos, n, lo + size / 2, size / 2, &b);
    *out = left && right ? a + b : left ? a : b;
    return left || right;
}

/* The tree over leaves [lo, lo + n); false: absent. */
static bool naive_leaves(const float *l, const float *m, int lo, int n, float *out_m, float *out_l)
{
    if (n == 1) {
        *out_m = m[lo];
        *out_l = l[lo];
        return l[lo] > 0;
    }
    float m1 = 0, m2 = 0, l1 = 0, l2 = 0;
    bool a = naive_leaves(l, m, lo, n / 2, &m1, &l1), b = naive_leaves(l, m, lo + n / 2, n / 2, &m2, &l2);
    if (a && b) {
        float both = fmaxf(m1, m2);
        *out_l = fmaf(l1, mb_expf(m1 - both), l2 * mb_expf(m2 - both));
        *out_m = both;
    } else {
        *out_m = a ? m1 : m2;
        *out_l = a ? l1 : l2;
    }
    return a || b;
}

void naive_stats(const float *z, int V, float out[2])
{
    float l[16], m[16], *e = calloc((size_t)V + 1, 4);
    int width = (V + 15) / 16;
    for (int k = 0; k < 16; k++) {
        int begin = k * width, end = begin + width < V ? begin + width : V;
        m[k] = -INFINITY;
        l[k] = 0;
        for (int i = begin; i < end; i++)
            m[k] = fmaxf(m[k], z[i]);
        if (m[k] == -INFINITY)
            continue;
        for (int i = begin; i < end; i++)
            e[i - begin] = mb_expf(z[i] - m[k]);
        l[k] = naive_r32(e, e, end - begin, 0);
    }
    naive_leaves(l, m, 0, 16, &out[0], &out[1]);
    free(e);
}
