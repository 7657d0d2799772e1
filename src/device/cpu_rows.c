/* Operations that work row by row without sums: embed, add, scale, clamp, rope, act, gate, gather. */
#include <string.h>
#include "device/cpu_vec.h"

/* Every entry of an I32 [M, 1] view lies in [0, limit). */
static enum mb_status want_index(const char *op, const char *what, struct mb_view v, int64_t limit)
{
    for (int64_t i = 0; i < v.rows; i++) {
        int32_t x = mb_at_i32(v, i);
        if (x < 0 || x >= limit)
            return mb_error(MB_BUG, "%s: %s[%lld] is %d, wanted 0 .. %lld", op, what, (long long)i, x,
                            (long long)limit - 1);
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- embed, gather */
struct embed {
    struct mb_view x, table, ids;
    float scale;
    const struct mb_vec *vec;
};

static void embed_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct embed *e = arg;
    for (int64_t i = begin; i < end; i++) {
        int32_t id = mb_at_i32(e->ids, i);
        if (e->table.dtype == MB_BF16)
            e->vec->mul_bf16(mb_row_f32(e->x, i), mb_row_bf16(e->table, id), e->scale, e->x.cols);
        else if (e->scale == 1.0f)
            memcpy(mb_row(e->x, i), mb_row(e->table, id), (size_t)e->x.cols * sizeof(float));
        else
            e->vec->mul(mb_row_f32(e->x, i), mb_row_f32(e->table, id), e->scale, e->x.cols);
    }
}

enum mb_status mb_cpu_embed(struct mb_stream *s, struct mb_view x, struct mb_view table, struct mb_view ids,
                            float scale)
{
    MB_TRY(mb_want("embed", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want_float("embed", "table", table, -1, x.cols));
    MB_TRY(mb_want("embed", "ids", ids, x.rows, 1, MB_I32));
    MB_TRY(want_index("embed", "ids", ids, table.rows));
    struct embed e = {x, table, ids, scale, mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), embed_rows, &e);
    return MB_OK;
}

struct gather {
    struct mb_view out, src, idx;
};

static void gather_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct gather *g = arg;
    size_t bytes = (size_t)(g->out.cols * mb_dtype_size(g->out.dtype));
    for (int64_t i = begin; i < end; i++)
        memcpy(mb_row(g->out, i), mb_row(g->src, mb_at_i32(g->idx, i)), bytes);
}

enum mb_status mb_cpu_gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx)
{
    MB_TRY(mb_want("gather", "out", out, -1, -1, out.dtype));
    MB_TRY(mb_want("gather", "src", src, -1, out.cols, out.dtype));
    MB_TRY(mb_want("gather", "idx", idx, out.rows, 1, MB_I32));
    MB_TRY(want_index("gather", "idx", idx, src.rows));
    struct gather g = {out, src, idx};
    if (out.cols > 0)
        mb_cpu_run(s->dev, out.rows, mb_grain(out.cols, 1), gather_rows, &g);
    return MB_OK;
}

/* ---------------------------------------------------------------- add, scale, clamp, gate */
struct rows {
    struct mb_view out, a, b;
    float c;
    const struct mb_vec *vec;
};

static void add_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        r->vec->add(mb_row_f32(r->out, i), mb_row_f32(r->a, i), mb_row_f32(r->b, i), r->out.cols);
}

enum mb_status mb_cpu_add(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b)
{
    MB_TRY(mb_want("add", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_want("add", "a", a, out.rows, out.cols, MB_F32));
    MB_TRY(mb_want("add", "b", b, b.rows == 1 ? 1 : out.rows, out.cols, MB_F32));
    if (b.rows == 1)
        b.stride = 0; /* the same row every time */
    struct rows r = {out, a, b, 0, mb_vec_of(s->dev)};
    if (out.cols > 0)
        mb_cpu_run(s->dev, out.rows, mb_grain(out.cols, 1), add_rows, &r);
    return MB_OK;
}

static void scale_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        r->vec->mul(mb_row_f32(r->out, i), mb_row_f32(r->out, i), r->c, r->out.cols);
}

enum mb_status mb_cpu_scale(struct mb_stream *s, struct mb_view x, float c)
{
    MB_TRY(mb_want("scale", "x", x, -1, -1, MB_F32));
    struct rows r = {.out = x, .c = c, .vec = mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), scale_rows, &r);
    return MB_OK;
}

static void scale_each(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        r->vec->mul(mb_row_f32(r->out, i), mb_row_f32(r->out, i), *mb_row_f32(r->a, mb_at_i32(r->b, i)), r->out.cols);
}

enum mb_status mb_cpu_scale_rows(struct mb_stream *s, struct mb_view x, struct mb_view c, struct mb_view at)
{
    MB_TRY(mb_want("scale_rows", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want("scale_rows", "c", c, -1, 1, MB_F32));
    MB_TRY(mb_want("scale_rows", "at", at, x.rows, 1, MB_I32));
    MB_TRY(want_index("scale_rows", "at", at, c.rows));
    struct rows r = {.out = x, .a = c, .b = at, .vec = mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), scale_each, &r);
    return MB_OK;
}

static void clamp_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        r->vec->clamp(mb_row_f32(r->out, i), r->c, r->out.cols);
}

enum mb_status mb_cpu_clamp(struct mb_stream *s, struct mb_view x, float c)
{
    MB_TRY(mb_want("clamp", "x", x, -1, -1, MB_F32));
    struct rows r = {.out = x, .c = c, .vec = mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 1), clamp_rows, &r);
    return MB_OK;
}

static void gate_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rows *r = arg;
    for (int64_t i = begin; i < end; i++)
        r->vec->mul(mb_row_f32(r->out, i), mb_row_f32(r->out, i), mb_sigmoidf(*mb_row_f32(r->a, i)),
                    r->out.cols);
}

enum mb_status mb_cpu_gate(struct mb_stream *s, struct mb_view y, struct mb_view gate)
{
    MB_TRY(mb_want("gate", "y", y, -1, -1, MB_F32));
    MB_TRY(mb_want("gate", "gate", gate, y.rows, 1, MB_F32));
    struct rows r = {.out = y, .a = gate, .vec = mb_vec_of(s->dev)};
    if (y.cols > 0)
        mb_cpu_run(s->dev, y.rows, mb_grain(y.cols, 1), gate_rows, &r);
    return MB_OK;
}

/* ---------------------------------------------------------------- act */
struct act {
    struct mb_view out, gu;
    enum mb_act_kind kind;
    float limit;
    const struct mb_vec *vec;
};

static void act_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct act *a = arg;
    int64_t width = a->out.cols;
    for (int64_t i = begin; i < end; i++) {
        const float *g = mb_row_f32(a->gu, i), *u = g + width;
        if (a->out.dtype == MB_F32) {
            a->vec->act[a->kind](mb_row_f32(a->out, i), g, u, a->limit, width);
            continue;
        }
        for (int64_t c = 0; c < width; c += MB_CHUNK) {
            float buf[MB_CHUNK];
            int64_t n = width - c < MB_CHUNK ? width - c : MB_CHUNK;
            a->vec->act[a->kind](buf, g + c, u + c, a->limit, n);
            a->vec->round(mb_row_bf16(a->out, i) + c, buf, n);
        }
    }
}

enum mb_status mb_cpu_act(struct mb_stream *s, struct mb_view out, struct mb_view gu, enum mb_act_kind kind,
                          float limit)
{
    MB_TRY(mb_want_float("act", "out", out, -1, -1));
    MB_TRY(mb_want("act", "gu", gu, out.rows, 2 * out.cols, MB_F32));
    if ((unsigned)kind > MB_ACT_SWIGLU_CLAMPED)
        return mb_error(MB_BUG, "act: kind %d does not exist", (int)kind);
    struct act a = {out, gu, kind, limit, mb_vec_of(s->dev)};
    if (out.cols > 0)
        mb_cpu_run(s->dev, out.rows, mb_grain(out.cols, 4), act_rows, &a);
    return MB_OK;
}

/* ---------------------------------------------------------------- rope */
struct rope {
    struct mb_view out, x, cos, sin, pos;
    int32_t heads, first, rot;
    enum mb_rope_style style;
    const struct mb_vec *vec;
};

/* Rotates pairs [c, c + n) of the rot columns that begin at column col of row i. */
static void rope_pairs(const struct rope *p, int64_t i, int64_t col, int64_t c, int64_t n)
{
    int64_t at = mb_at_i32(p->pos, i), half = p->rot / 2;
    const float *cs = mb_row_f32(p->cos, at) + c, *sn = mb_row_f32(p->sin, at) + c;
    const float *x = mb_row_f32(p->x, i) + col;
    float buf[2 * MB_CHUNK], *a = buf, *b = buf + n;
    bool halves = p->style == MB_ROPE_HALF, direct = p->out.dtype == MB_F32;
    int64_t ca = halves ? c : 2 * c, cb = halves ? half + c : 2 * c + n; /* columns of the results */
    if (direct) {
        a = mb_row_f32(p->out, i) + col + ca;
        b = mb_row_f32(p->out, i) + col + cb;
    }
    if (halves)
        p->vec->rope_half(a, b, x + c, x + half + c, cs, sn, n);
    else
        p->vec->rope_interleaved(a, x + 2 * c, cs, sn, n);
    if (direct)
        return;
    p->vec->round(mb_row_bf16(p->out, i) + col + ca, a, n);
    p->vec->round(mb_row_bf16(p->out, i) + col + cb, b, n);
}

static void rope_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct rope *p = arg;
    int64_t d = p->x.cols / p->heads, behind = p->first + p->rot;
    for (int64_t i = begin; i < end; i++)
        for (int64_t h = 0; h < p->heads; h++) {
            bool copy = mb_row(p->out, i) != mb_row(p->x, i);
            if (copy && p->first > 0)
                mb_store_row(p->out, i, h * d, mb_row_f32(p->x, i) + h * d, p->first);
            if (copy && behind < d)
                mb_store_row(p->out, i, h * d + behind, mb_row_f32(p->x, i) + h * d + behind, d - behind);
            for (int64_t c = 0; c < p->rot / 2; c += MB_CHUNK)
                rope_pairs(p, i, h * d + p->first, c, p->rot / 2 - c < MB_CHUNK ? p->rot / 2 - c : MB_CHUNK);
        }
}

enum mb_status mb_cpu_rope(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view cos,
                           struct mb_view sin, struct mb_view pos, int32_t heads, int32_t first,
                           int32_t rot, enum mb_rope_style style)
{
    MB_TRY(mb_want("rope", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want_float("rope", "out", out, x.rows, x.cols));
    if (heads < 1 || x.cols % heads != 0 || rot < 0 || rot % 2 != 0 || first < 0 || rot > x.cols / heads ||
        first > x.cols / heads - rot)
        return mb_error(MB_BUG, "rope: %lld columns in %d heads, %d of each rotated from %d on",
                        (long long)x.cols, heads, rot, first);
    MB_TRY(mb_want("rope", "cos", cos, -1, rot / 2, MB_F32));
    MB_TRY(mb_want("rope", "sin", sin, cos.rows, rot / 2, MB_F32));
    MB_TRY(mb_want("rope", "pos", pos, x.rows, 1, MB_I32));
    MB_TRY(want_index("rope", "pos", pos, cos.rows));
    struct rope p = {out, x, cos, sin, pos, heads, first, rot, style, mb_vec_of(s->dev)};
    if (x.cols > 0)
        mb_cpu_run(s->dev, x.rows, mb_grain(x.cols, 2), rope_rows, &p);
    return MB_OK;
}
