/* Norms and R32 products: the operations built on R32 sums along a row. */
#include "device/cpu_vec.h"

/* ---------------------------------------------------------------- norm */
struct norm {
    struct mb_view out, raw, x, w, b;
    enum mb_norm_kind kind;
    float eps;
    int32_t groups, leaves;
    const struct mb_vec *vec;
};

/* Σ x^2 of each of `leaves` equal leaves of n values */
static void square_leaves(const struct mb_vec *vec, float *out, const float *x, int64_t n, int64_t leaves)
{
    int64_t width = n / leaves;
    for (int64_t i = 0; i < leaves; i++)
        out[i] = vec->r32_dot(x + i * width, x + i * width, width);
}

/* the tree over leaves 0 .. n - 1 */
static float sum_leaves(const float *v, int32_t n)
{
    int32_t pos[MB_MAX_NORM_LEAVES];
    for (int32_t i = 0; i < n; i++)
        pos[i] = i;
    return mb_tree_sum(v, pos, n);
}

static float square_sum(const struct norm *p, const float *x, int64_t n)
{
    float v[MB_MAX_NORM_LEAVES];
    square_leaves(p->vec, v, x, n, p->leaves);
    return sum_leaves(v, p->leaves);
}

/* Group g of row i: n values normed by their own statistics. */
static void norm_vector(const struct norm *p, int64_t i, int64_t g, int64_t n)
{
    const float *x = mb_row_f32(p->x, i) + g * n, *w = mb_row_f32(p->w, 0);
    const float *b = mb_has_view(p->b) ? mb_row_f32(p->b, 0) : NULL;
    bool layer = p->kind == MB_NORM_LAYER;
    float mean = layer ? p->vec->r32_sum(x, n) / (float)n : 0;
    float sum = layer ? p->vec->r32_dev(x, mean, n) : square_sum(p, x, n);
    float r = mb_rsqrtf(sum / (float)n + p->eps);
    for (int64_t c = 0; c < n; c += MB_CHUNK) {
        float buf[MB_CHUNK], *y = mb_has_view(p->raw) ? mb_row_f32(p->raw, i) + g * n + c : buf;
        int64_t m = n - c < MB_CHUNK ? n - c : MB_CHUNK;
        if (layer)
            p->vec->norm_layer(y, x + c, mean, r, w + c, b != NULL ? b + c : NULL, m);
        else
            p->vec->norm_rms(y, x + c, r, w + c, m);
        if (!mb_has_view(p->out))
            continue;
        if (p->out.dtype == MB_BF16)
            p->vec->round(mb_row_bf16(p->out, i) + g * n + c, y, m);
        else
            mb_store_row(p->out, i, g * n + c, y, m);
    }
}

static void norm_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct norm *p = arg;
    for (int64_t i = begin; i < end; i++)
        for (int64_t g = 0; g < p->groups; g++)
            norm_vector(p, i, g, p->x.cols / p->groups);
}

enum mb_status mb_cpu_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x,
                           struct mb_view w, struct mb_view b, enum mb_norm_kind kind, float eps,
                           int32_t groups, int32_t leaves)
{
    MB_TRY(mb_check_norm(out, raw, x, w, b, kind, groups, leaves));
    struct norm p = {out, raw, x, w, b, kind, eps, groups, leaves, mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 2), norm_rows, &p);
    return MB_OK;
}

/* ---------------------------------------------------------------- square, norm_sums */
struct shared {
    struct mb_view x, sums, w;
    float n, eps;
    const struct mb_vec *vec;
};

static void square_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct shared *p = arg;
    for (int64_t i = begin; i < end; i++)
        square_leaves(p->vec, mb_row_f32(p->sums, i), mb_row_f32(p->x, i), p->x.cols, p->sums.cols);
}

enum mb_status mb_cpu_square(struct mb_stream *s, struct mb_view out, struct mb_view x)
{
    MB_TRY(mb_check_square(out, x));
    struct shared p = {.x = x, .sums = out, .vec = mb_vec_of(s->dev)};
    mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), square_rows, &p);
    return MB_OK;
}

static void norm_sums_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct shared *p = arg;
    for (int64_t i = begin; i < end; i++) {
        float *x = mb_row_f32(p->x, i);
        float sum = sum_leaves(mb_row_f32(p->sums, i), (int32_t)p->sums.cols);
        p->vec->norm_rms(x, x, mb_rsqrtf(sum / p->n + p->eps), mb_row_f32(p->w, 0), p->x.cols);
    }
}

enum mb_status mb_cpu_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w,
                                int64_t n, float eps)
{
    MB_TRY(mb_check_norm_sums(x, sums, w, n));
    struct shared p = {x, sums, w, (float)n, eps, mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), norm_sums_rows, &p);
    return MB_OK;
}

/* ---------------------------------------------------------------- gemm_r32 */
#define TILE 16 /* rows of w that stay in the cache while the rows of x pass */

struct gemm {
    struct mb_view out, x, w, bias;
    const struct mb_vec *vec;
};

/* Item t: row t % M of x with tile t / M of w. */
static void gemm_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct gemm *p = arg;
    int64_t M = p->out.rows, N = p->out.cols;
    for (int64_t t = begin; t < end; t++) {
        int64_t i = t % M, j = t / M * TILE, n = N - j < TILE ? N - j : TILE;
        float *out = mb_row_f32(p->out, i) + j;
        p->vec->r32_dots(out, mb_row_f32(p->x, i), mb_row_f32(p->w, j), p->w.stride, n, p->x.cols);
        if (mb_has_view(p->bias))
            p->vec->add(out, out, mb_row_f32(p->bias, 0) + j, n);
    }
}

enum mb_status mb_cpu_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                               struct mb_view bias)
{
    MB_TRY(mb_check_gemm_r32(out, x, w, bias));
    struct gemm p = {out, x, w, bias, mb_vec_of(s->dev)};
    int64_t tiles = (out.cols + TILE - 1) / TILE;
    if (out.rows > 0)
        mb_cpu_run(s->dev, tiles * out.rows, mb_grain(x.cols * TILE, 1), gemm_items, &p);
    return MB_OK;
}
