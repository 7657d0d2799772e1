/* Operations of the CUDA backend on the emulator of its runtime against the CPU's portable C, bit by bit, on random shapes: empty, one
 * row, odd sizes, 256 experts; and rows of a GEMM in batches of 1, 7, 64 and 300. UNIT_CUDA_OPS_N: shapes of each operation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mb_math.h"
#include "device/ops.h"

enum { SIDES = 2, MOST_VIEWS = 12 };

/* The same on both sides. */
struct side {
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_stream *s;
    struct mb_mem mem;
    struct mb_view v[MOST_VIEWS];
};
struct pair {
    struct side side[SIDES];
    enum mb_dtype path;
    uint64_t seed;
    int views;
};

/* ---------------------------------------------------------------- random things */
static uint32_t draw(struct pair *p)
{
    p->seed = p->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(p->seed >> 32);
}
static int64_t below(struct pair *p, int64_t n)
{
    return (int64_t)(draw(p) % (uint32_t)n);
}
/* Mostly small; now and then nothing, or one. */
static int64_t size(struct pair *p, int64_t most)
{
    uint32_t how = draw(p) % 8;

    return how == 0 ? 0 : how == 1 ? 1 : 1 + below(p, how < 6 && most > 40 ? 40 : most);
}
static float value(struct pair *p)
{
    uint32_t u = draw(p), e = 127 - 6 + draw(p) % 8;

    return u % 41 == 0 ? 0.0f : mb_float_of((u & 0x80000000u) | e << 23 | (u & 0x7fffffu));
}

/* ---------------------------------------------------------------- views */
static int up(struct pair *p, const void *data, int64_t rows, int64_t cols, enum mb_dtype t)
{
    int64_t stride = cols + below(p, 4), bytes = mb_dtype_size(t), off = below(p, 3) * bytes * 4;
    int at = p->views++;

    assert_true(at < MOST_VIEWS);
    for (int i = 0; i < SIDES; i++) {
        struct side *s = &p->side[i];
        struct mb_buf *b;
        assert_int_equal(s->ops->buf_alloc(s->dev, MB_MEM_ACTIVATIONS, (uint64_t)(off + rows * stride * bytes), &b), MB_OK);
        s->v[at] = (struct mb_view){b, (uint64_t)off, rows, cols, stride, t};
        if (data != NULL)
            assert_int_equal(s->ops->copy_in(s->s, s->v[at], data), MB_OK);
    }
    return at;
}

static int numbers(struct pair *p, int64_t rows, int64_t cols, enum mb_dtype t)
{
    size_t n = (size_t)(rows * cols);
    float *f = malloc(n * 4 + 4);
    uint16_t *h = malloc(n * 2 + 2);

    for (size_t i = 0; i < n; i++) {
        f[i] = value(p);
        h[i] = mb_bf16_of(f[i]);
    }
    int at = up(p, t == MB_BF16 ? (const void *)h : f, rows, cols, t);
    free(f);
    free(h);
    return at;
}

static int indices(struct pair *p, int64_t rows, int64_t limit)
{
    int32_t *x = malloc((size_t)rows * 4 + 4);

    for (int64_t i = 0; i < rows; i++)
        x[i] = (int32_t)below(p, limit);
    int at = up(p, x, rows, 1, MB_I32);
    free(x);
    return at;
}

/* Both sides have the same bits in view `at` (a NaN is a NaN). */
static void same(struct pair *p, int at, const char *op)
{
    struct mb_view v = p->side[0].v[at];
    size_t n = (size_t)(v.rows * v.cols), bytes = n * (size_t)mb_dtype_size(v.dtype);
    unsigned char *x[SIDES];

    for (int i = 0; i < SIDES; i++) {
        x[i] = malloc(bytes + 4);
        assert_int_equal(p->side[i].ops->copy_out(p->side[i].s, x[i], p->side[i].v[at]), MB_OK);
    }
    if (memcmp(x[0], x[1], bytes) != 0)
        for (size_t i = 0; i < n; i++) {
            float a = v.dtype == MB_BF16 ? mb_bf16_float(((uint16_t *)(void *)x[0])[i]) : ((float *)(void *)x[0])[i],
                  b = v.dtype == MB_BF16 ? mb_bf16_float(((uint16_t *)(void *)x[1])[i]) : ((float *)(void *)x[1])[i];
            bool whole = v.dtype == MB_I32 && ((int32_t *)(void *)x[0])[i] != ((int32_t *)(void *)x[1])[i];
            if (whole || (v.dtype != MB_I32 && mb_bits_of(a) != mb_bits_of(b) && !(isnan(a) && isnan(b))))
                fail_msg("%s: element %zu of [%lld, %lld]: CPU %a, CUDA %a", op, i, (long long)v.rows, (long long)v.cols, (double)a,
                         (double)b);
        }
    free(x[0]);
    free(x[1]);
}

static void reset(struct pair *p)
{
    for (int i = 0; i < SIDES; i++)
        for (int j = 0; j < p->views; j++)
            p->side[i].ops->buf_free(p->side[i].v[j].buf);
    p->views = 0;
}

/* On both sides: op(stream, ...) with v[] the side's views. */
#define BOTH(op, ...)                                                                                        \
    for (int i_ = 0; i_ < SIDES; i_++) {                                                                     \
        struct side *s = &p->side[i_];                                                                       \
        struct mb_view *v = s->v;                                                                            \
        (void)v;                                                                                             \
        assert_int_equal(s->ops->op(s->s, __VA_ARGS__), MB_OK);                                              \
    }

/* ---------------------------------------------------------------- operations */
static void elements(struct pair *p)
{
    int64_t M = size(p, 300), H = 1 + size(p, 600);
    int x = numbers(p, M, H, MB_F32), y = numbers(p, M, H, MB_F32), out = up(p, NULL, M, H, p->path),
        row = numbers(p, 1, H, MB_F32), gate = numbers(p, M, 1, MB_F32), at = indices(p, M, 5), c = numbers(p, 5, 1, MB_F32);

    BOTH(add, v[x], v[x], v[y])
    BOTH(add, v[x], v[x], v[row])
    BOTH(scale, v[x], 0.37f)
    BOTH(clamp, v[x], 0.21f)
    BOTH(scale_rows, v[x], v[c], v[at])
    BOTH(gate, v[x], v[gate])
    same(p, x, "add, scale, clamp, scale_rows, gate");
    BOTH(gate_by, v[out], v[x], v[y])
    same(p, out, "gate_by");
    BOTH(copy, v[out], v[x])
    same(p, out, "copy");
    int gu = numbers(p, M, 2 * H, MB_F32);
    for (int kind = 0; kind <= MB_ACT_SWIGLU_CLAMPED; kind++) {
        BOTH(act, v[out], v[gu], (enum mb_act_kind)kind, 0.5f)
        same(p, out, "act");
    }
    BOTH(zero, v[out])
    same(p, out, "zero");
}

static void lookups(struct pair *p)
{
    int64_t M = size(p, 300), V = 1 + size(p, 200), H = 1 + size(p, 200);
    int32_t heads = 1 + (int32_t)below(p, 4), d = 2 * (1 + (int32_t)below(p, 40)), rot = 2 * (int32_t)below(p, d / 2 + 1);
    int32_t first = rot < d ? (int32_t)below(p, d - rot + 1) : 0;
    int ids = indices(p, M, V), table = numbers(p, V, H, p->path), x = up(p, NULL, M, H, MB_F32), out = up(p, NULL, M, H, p->path);

    float by = draw(p) % 2 ? 1.0f : 3.3f;
    BOTH(embed, v[x], v[table], v[ids], by)
    same(p, x, "embed");
    BOTH(gather, v[out], v[table], v[ids])
    same(p, out, "gather");
    reset(p);
    int q = numbers(p, M, heads * d, MB_F32), to = up(p, NULL, M, heads * d, p->path), pos = indices(p, M, 9),
        cs = numbers(p, 9, rot / 2, MB_F32), sn = numbers(p, 9, rot / 2, MB_F32);
    for (int style = 0; style < 2; style++) {
        BOTH(rope, v[to], v[q], v[cs], v[sn], v[pos], heads, first, rot, (enum mb_rope_style)style)
        same(p, to, "rope");
    }
}

static void norms(struct pair *p)
{
    int64_t M = size(p, 40), groups = 1 + below(p, 4), leaves = 1 + below(p, 9), H = groups * leaves * (1 + size(p, 150));
    int x = numbers(p, M, H, MB_F32), w = numbers(p, 1, H / groups, MB_F32), b = numbers(p, 1, H / groups, MB_F32),
        whole = numbers(p, 1, H, MB_F32), out = up(p, NULL, M, H, p->path), raw = up(p, NULL, M, H, MB_F32),
        sums = up(p, NULL, M, leaves, MB_F32);

    BOTH(norm, v[out], v[raw], v[x], v[w], MB_NO_VIEW, MB_NORM_RMS, 1e-6f, (int32_t)groups, 1)
    same(p, out, "norm rms");
    same(p, raw, "norm rms, raw");
    BOTH(norm, v[out], v[x], v[x], v[w], v[b], MB_NORM_LAYER, 1e-5f, (int32_t)groups, 1)
    same(p, out, "norm layer");
    BOTH(norm, v[out], MB_NO_VIEW, v[x], v[whole], MB_NO_VIEW, MB_NORM_RMS, 1e-6f, 1, (int32_t)leaves)
    same(p, out, "norm in leaves");
    BOTH(square, v[sums], v[x])
    same(p, sums, "square");
    BOTH(norm_sums, v[x], v[sums], v[whole], H * 2, 1e-6f)
    same(p, x, "norm_sums");
}

static void products(struct pair *p)
{
    int64_t M = size(p, 60), N = 1 + size(p, 260), K = 1 + size(p, 300);
    int x = numbers(p, M, K, MB_F32), w = numbers(p, N, K, MB_F32), bias = numbers(p, 1, N, MB_F32), out = up(p, NULL, M, N, MB_F32);

    BOTH(gemm_r32, v[out], v[x], v[w], MB_NO_VIEW)
    same(p, out, "gemm_r32");
    BOTH(gemm_r32, v[out], v[x], v[w], v[bias])
    same(p, out, "gemm_r32 with bias");
}

static void routes(struct pair *p)
{
    static const int32_t experts[] = {1, 3, 8, 16, 60, 64, 128, 256};
    int32_t E = experts[draw(p) % 8], groups = E % 8 == 0 ? 4 : 1, k = 1 + (int32_t)below(p, E < 8 ? E : 8);
    struct mb_router r = {.kind = (enum mb_router_kind)below(p, MB_ROUTER_LAST + 1),
                          .renorm = (enum mb_renorm_kind)below(p, MB_RENORM_LAST + 1),
                          .experts = E,
                          .k = k,
                          .groups = groups,
                          .topk_groups = groups,
                          .scale = draw(p) % 2 ? 1.0f : 2.5f,
                          .p = (float)(1 + below(p, 3)),
                          .eps = 0.1f,
                          .least = 0.3f};
    if (groups > 1 && k <= E / groups * 2)
        r.topk_groups = 2 + (int32_t)below(p, 3);
    int64_t M = size(p, 40);
    int z = numbers(p, M, E, MB_F32), bias = numbers(p, 1, E, MB_F32), ids = up(p, NULL, M, k, MB_I32), w = up(p, NULL, M, k, MB_F32),
        bad = up(p, NULL, M, 1, MB_I32);

    BOTH(route, v[ids], v[w], v[bad], v[z], v[bias], &r)
    same(p, ids, "route: experts");
    same(p, w, "route: weights");
    same(p, bad, "route: bad");
}

static void folds(struct pair *p)
{
    int64_t M = size(p, 30), H = 1 + size(p, 400), most = 8;
    int32_t *off = calloc((size_t)M + 1, 4), *src = calloc((size_t)(M * most) + 1, 4), *pos = calloc((size_t)(M * most) + 1, 4), n = 0;

    for (int64_t i = 0; i < M; i++) {
        int32_t at = -1;
        for (int64_t j = below(p, most + 1); j > 0; j--) {
            at += 1 + (int32_t)below(p, 30);
            pos[n] = at;
            src[n++] = draw(p) % 3 ? (int32_t)below(p, 7) : -1 - (int32_t)below(p, 5);
        }
        off[i + 1] = n;
    }
    int o = up(p, off, M + 1, 1, MB_I32), s_ = up(p, src, n, 1, MB_I32), q = up(p, pos, n, 1, MB_I32), w = numbers(p, n, 1, MB_F32),
        y = numbers(p, 7, H, p->path), inner = numbers(p, 5, H, MB_F32), out = up(p, NULL, M, H, MB_F32);
    for (int i = 0; i < SIDES; i++) {
        struct mb_view *v = p->side[i].v;
        struct mb_fold_args a = {v[o], v[s_], v[q], v[w], v[y], v[inner]};
        assert_int_equal(p->side[i].ops->fold(p->side[i].s, v[out], &a), MB_OK);
    }
    same(p, out, "fold");
    free(off);
    free(src);
    free(pos);
}

/* ---------------------------------------------------------------- tokens */
static void one_row(struct pair *p, struct mb_sample_row *r, int64_t V, int32_t adjusts)
{
    *r = (struct mb_sample_row){.temperature = draw(p) % 4 == 0 ? 0 : draw(p) % 3 == 0 ? 1.0f : 0.7f,
                                .top_k = draw(p) % 2 ? 0 : (int32_t)below(p, 2 * V),
                                .top_p = draw(p) % 2 ? 1.0f : (float)(1 + below(p, 99)) / 100,
                                .min_p = draw(p) % 3 ? 0 : 0.05f,
                                .repetition = draw(p) % 2 ? 1.0f : 1.3f,
                                .frequency = draw(p) % 2 ? 0 : 0.2f,
                                .presence = draw(p) % 2 ? 0 : 0.1f,
                                .key = (uint64_t)draw(p) << 32 | draw(p),
                                .position = below(p, 5000),
                                .mask = (int32_t)below(p, 3)};
    if (draw(p) % 2 && adjusts > 0)
        r->adj_end = adjusts;
    r->only = r->adj_end > 0 && draw(p) % 4 == 0;
}

static void tokens(struct pair *p)
{
    int64_t M = size(p, 6), V = 1 + below(p, draw(p) % 4 ? 300 : 3000), words = (V + 31) / 32, n = V < 20 ? V : 20;
    struct mb_sample_adjust adjust[4];
    struct mb_sample_row *row = calloc((size_t)M + 1, sizeof *row);
    int32_t *mask = malloc((size_t)words * 8 + 4), adjusts = 0;

    for (int32_t id = 0; id < 4 && id < V; id++)
        adjust[adjusts++] = (struct mb_sample_adjust){id, (int32_t)below(p, 2), (int32_t)below(p, 3), draw(p) % 5 ? value(p) : -INFINITY};
    for (int64_t i = 0; i < M; i++)
        one_row(p, &row[i], V, adjusts);
    for (int64_t i = 0; i < 2 * words; i++)
        mask[i] = (int32_t)(draw(p) | draw(p) | 1);
    int z = numbers(p, M, V, MB_F32), stats = up(p, NULL, M, 2, MB_F32), best = up(p, NULL, M, 1, MB_I32),
        bad = up(p, NULL, M, 1, MB_I32), ids = indices(p, M, V), lp = up(p, NULL, M, 1, MB_F32), top = up(p, NULL, M, n, MB_I32),
        tlp = up(p, NULL, M, n, MB_F32), rows = up(p, row, M, sizeof *row, MB_U8), adj = up(p, adjust, adjusts, sizeof *adjust, MB_U8),
        masks = up(p, mask, 2, words, MB_I32), out = up(p, NULL, M, 1, MB_I32);

    BOTH(logit_stats, v[stats], v[best], v[bad], v[z])
    same(p, stats, "logit_stats");
    same(p, best, "logit_stats: best");
    same(p, bad, "logit_stats: bad");
    BOTH(logprob, v[lp], v[z], v[stats], v[ids])
    same(p, lp, "logprob");
    BOTH(top, v[top], v[tlp], v[z], v[stats])
    same(p, top, "top");
    same(p, tlp, "top: log-probabilities");
    BOTH(sample, v[out], v[z], v[stats], v[rows], v[adj], v[masks])
    same(p, out, "sample");
    free(row);
    free(mask);
}

/* ---------------------------------------------------------------- GEMM */
/* What weight_get gives is the same on both sides, and weight_put takes it. */
static void give_and_take(struct pair *p, int64_t n, int64_t k, const struct mb_weight_desc *d, struct mb_weight *w[SIDES])
{
    bool blob = d->form.code != MB_CODE_NONE;
    size_t bytes = blob ? (size_t)mb_form_blob(&d->form, n, k).bytes : (size_t)(n * k * mb_dtype_size(d->dtype));
    unsigned char *got[SIDES];
    struct mb_host_matrix m;

    for (int i = 0; i < SIDES; i++) {
        got[i] = malloc(bytes);
        assert_int_equal(p->side[i].ops->weight_get(w[i], 0, n, got[i]), MB_OK);
    }
    assert_memory_equal(got[0], got[1], bytes);
    m = blob ? mb_host_stored(&d->form, n, k, got[0])
             : (struct mb_host_matrix){.base = got[0],
                                       .storage = d->dtype == MB_F32 ? MB_STORE_F32 : MB_STORE_BF16,
                                       .n = n,
                                       .k = k,
                                       .stride_n = k,
                                       .stride_k = 1};
    for (int i = 0; i < SIDES; i++)
        assert_int_equal(p->side[i].ops->weight_put(w[i], 0, 0, &m), MB_OK);
    free(got[0]);
    free(got[1]);
}

static void weight(struct pair *p, int64_t n, int64_t k, bool s8, struct mb_weight *w[SIDES])
{
    float *f = malloc((size_t)(n * k) * 4);
    struct mb_weight_desc d = {.n = n, .k = k, .dtype = p->path, .cat = MB_MEM_EXPERTS};
    struct mb_host_matrix m = {.base = f, .storage = MB_STORE_F32, .n = n, .k = k, .stride_n = k, .stride_k = 1};

    for (int64_t i = 0; i < n * k; i++)
        f[i] = value(p);
    d.leaves = mb_k_leaves_of(k, 1 + below(p, 40), 1 + (int32_t)below(p, 16), d.leaf);
    if (s8)
        d.form = mb_form_s8(d.leaves);
    for (int i = 0; i < SIDES; i++) {
        assert_int_equal(p->side[i].ops->weight_create(p->side[i].dev, &d, &w[i]), MB_OK);
        assert_int_equal(p->side[i].ops->weight_put(w[i], 0, 0, &m), MB_OK);
    }
    assert_int_equal(p->side[0].ops->weight_bytes(w[0]), p->side[1].ops->weight_bytes(w[1]));
    free(f);
    give_and_take(p, n, k, &d, w);
}

enum { GROUPS = 5 };
static void gemm_case(struct pair *p, bool s8)
{
    int64_t K = 1 + size(p, 200), N = 1 + size(p, 90), rows = 0;
    int32_t n = 1 + (int32_t)below(p, GROUPS);
    struct mb_weight *w[GROUPS][SIDES];
    struct mb_gemm_group g[GROUPS];
    int bias = numbers(p, 1, N, MB_F32);

    for (int32_t i = 0; i < n; i++) {
        weight(p, N, K, s8, w[i]);
        g[i] = (struct mb_gemm_group){.row0 = rows, .rows = size(p, i == 0 ? 80 : 40), .x_col = 1, .out_col = 2};
        rows += g[i].rows;
    }
    int x = numbers(p, rows, K + 3, s8 ? MB_F32 : p->path), out = up(p, NULL, rows, N + 3, draw(p) % 2 ? MB_F32 : p->path);
    for (int i = 0; i < SIDES; i++) {
        struct side *s = &p->side[i];
        for (int32_t j = 0; j < n; j++) {
            g[j].w = w[j][i];
            g[j].bias = j % 2 ? s->v[bias] : MB_NO_VIEW;
        }
        assert_int_equal(s->ops->gemm(s->s, s->v[out], s->v[x], g, n), MB_OK);
    }
    same(p, out, "gemm");
    for (int32_t j = 0; j < n; j++)
        for (int i = 0; i < SIDES; i++)
            p->side[i].ops->weight_free(w[j][i]);
}

static void gemms(struct pair *p)
{
    gemm_case(p, false);
}
static void gemms_s8(struct pair *p)
{
    gemm_case(p, true);
}

/* Row 0 of a batch has the same bits in batches of every size. */
static void batches(struct pair *p)
{
    static const int64_t size_of[] = {1, 7, 64, 300};
    int64_t K = 1 + below(p, 90), N = 20;
    struct mb_weight *w[SIDES];
    struct side *s = &p->side[1];
    float first[20], row[20];

    weight(p, N, K, false, w);
    int x = numbers(p, 300, K, p->path), out = up(p, NULL, 300, N, MB_F32);
    for (int i = 0; i < 4; i++) {
        struct mb_gemm_group g = {.w = w[1], .rows = size_of[i]};
        assert_int_equal(s->ops->gemm(s->s, s->v[out], s->v[x], &g, 1), MB_OK);
        assert_int_equal(s->ops->copy_out(s->s, i == 0 ? first : row, mb_view_rows(s->v[out], 0, 1)), MB_OK);
        if (i > 0)
            assert_memory_equal(first, row, sizeof first);
    }
    for (int i = 0; i < SIDES; i++)
        p->side[i].ops->weight_free(w[i]);
}

/* ---------------------------------------------------------------- running */
static void start(struct side *s, const char *backend, enum mb_dtype path)
{
    struct mb_device_options o = {.threads = 1, .isa = "portable", .mem = &s->mem, .path = path};

    s->ops = mb_ops_find(backend);
    assert_non_null(s->ops);
    assert_int_equal(s->ops->open(&o, &s->dev), MB_OK);
    assert_int_equal(s->ops->stream_create(s->dev, &s->s), MB_OK);
}

static void on_both(void (*fn)(struct pair *), int shapes)
{
    static const char *const order[] = {"forward", "reverse", "shuffled"};
    const char *n = getenv("UNIT_CUDA_OPS_N");

    for (int path = 0; path < 2; path++) {
        struct pair p = {.path = path == 0 ? MB_F32 : MB_BF16, .seed = 7};
        setenv("MB_EMU_ORDER", order[(path + shapes) % 3], 1);
        start(&p.side[0], "cpu", p.path);
        start(&p.side[1], "cuda", p.path);
        for (int i = 0; i < (n != NULL ? atoi(n) : shapes); i++) {
            fn(&p);
            reset(&p);
        }
        for (int i = 0; i < SIDES; i++) {
            p.side[i].ops->stream_destroy(p.side[i].s);
            p.side[i].ops->close(p.side[i].dev);
            assert_int_equal(mb_mem_total(&p.side[i].mem), 0);
        }
    }
}

/* No member of the table is missing. */
static void test_complete(void **state)
{
    const struct mb_ops *ops = mb_ops_find("cuda");
    void *member;

    (void)state;
    for (size_t at = 0; at < sizeof *ops; at += sizeof member) {
        memcpy(&member, (const char *)ops + at, sizeof member);
        if (member == NULL)
            fail_msg("member %zu of the table is missing", at / sizeof member);
    }
}

#define TEST(fn, shapes)                                                                                     \
    static void test_##fn(void **state)                                                                      \
    {                                                                                                        \
        (void)state;                                                                                         \
        on_both(fn, shapes);                                                                                 \
    }
TEST(elements, 8)
TEST(lookups, 12)
TEST(norms, 12)
TEST(products, 10)
TEST(routes, 60)
TEST(folds, 12)
TEST(tokens, 16)
TEST(gemms, 16)
TEST(gemms_s8, 8)
TEST(batches, 1)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_complete), cmocka_unit_test(test_elements), cmocka_unit_test(test_lookups), cmocka_unit_test(test_norms),
        cmocka_unit_test(test_products), cmocka_unit_test(test_routes),  cmocka_unit_test(test_folds),
        cmocka_unit_test(test_tokens),   cmocka_unit_test(test_gemms),   cmocka_unit_test(test_gemms_s8),
        cmocka_unit_test(test_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
