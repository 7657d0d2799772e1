/* Gated DeltaNet and gated attention: convolution and delta rule with a state of each sequence, and output
 * gates. Elements are independent chains, so threads take runs of rows, heads and columns as they come. */
#include <math.h>
#include <string.h>
#include "base/numerics.h"
#include "device/cpu_vec.h"

/* ---------------------------------------------------------------- gate_by */
struct by {
    struct mb_view out, g, x;
    const struct mb_vec *vec;
};

static void by_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct by *b = arg;
    for (int64_t i = begin; i < end; i++) {
        const float *g = mb_row_f32(b->g, i), *x = mb_row_f32(b->x, i);
        for (int64_t c = 0; c < b->out.cols; c += MB_CHUNK) {
            float buf[MB_CHUNK];
            int64_t n = b->out.cols - c < MB_CHUNK ? b->out.cols - c : MB_CHUNK;
            b->vec->gate(buf, g + c, x + c, n);
            mb_store_row(b->out, i, c, buf, n);
        }
    }
}

enum mb_status mb_cpu_gate_by(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x)
{
    MB_TRY(mb_want_float("gate_by", "out", out, -1, -1));
    MB_TRY(mb_want("gate_by", "g", g, out.rows, out.cols, MB_F32));
    MB_TRY(mb_want("gate_by", "x", x, out.rows, out.cols, MB_F32));
    struct by b = {out, g, x, mb_vec_of(s->dev)};
    if (out.cols > 0)
        mb_cpu_run(s->dev, out.rows, mb_grain(out.cols, 4), by_rows, &b);
    return MB_OK;
}

/* ---------------------------------------------------------------- runs */
/* Rows [at[r], at[r + 1]) follow one another in one sequence. */
struct runs {
    int32_t *at;
    int64_t n;
    struct mb_view slot, pos;
};

static enum mb_status find_runs(const char *op, struct mb_view slot, struct mb_view pos, int64_t rows,
                                int64_t slots, int32_t *at, struct runs *out)
{
    *out = (struct runs){at, 0, slot, pos};
    for (int64_t i = 0; i < rows; i++) {
        int32_t x = mb_at_i32(slot, i);
        if (x < 0 || x >= slots)
            return mb_error(MB_BUG, "%s: slot[%lld] is %d, wanted 0 .. %lld", op, (long long)i, x,
                            (long long)slots - 1);
        if (i == 0 || x != mb_at_i32(slot, i - 1) || mb_at_i32(pos, i) == 0)
            at[out->n++] = (int32_t)i;
    }
    at[out->n] = (int32_t)rows;
    return MB_OK;
}

static bool begins(const struct runs *r, int64_t run)
{
    return mb_at_i32(r->pos, r->at[run]) == 0;
}

/* ---------------------------------------------------------------- conv */
struct conv {
    struct mb_view out, x, w, state;
    struct runs runs;
    int64_t chunks;
    const struct mb_vec *vec;
};

/* The input `back` rows before row t of the run, n channels from c on. */
static const float *input(const struct conv *v, int64_t run, int64_t t, int64_t back, int64_t c)
{
    int64_t at = v->runs.at[run], kept = v->w.rows - 1;
    if (t >= back)
        return mb_row_f32(v->x, at + t - back) + c;
    return mb_row_f32(v->state, mb_at_i32(v->runs.slot, at)) + (kept + t - back) * v->x.cols + c;
}

static void conv_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct conv *v = arg;
    int64_t C = v->x.cols, taps = v->w.rows;
    for (int64_t item = begin; item < end; item++) {
        int64_t run = item / v->chunks, c = item % v->chunks * MB_CHUNK,
                n = C - c < MB_CHUNK ? C - c : MB_CHUNK;
        int64_t at = v->runs.at[run], rows = v->runs.at[run + 1] - at;
        float *kept = mb_row_f32(v->state, mb_at_i32(v->runs.slot, at)) + c;
        const float *in[MB_MAX_TAPS];
        for (int64_t j = 0; begins(&v->runs, run) && j < taps - 1; j++)
            memset(kept + j * C, 0, (size_t)n * sizeof *kept);
        for (int64_t t = 0; t < rows; t++) {
            for (int64_t j = 0; j < taps; j++)
                in[j] = input(v, run, t, taps - 1 - j, c);
            v->vec->conv(mb_row_f32(v->out, at + t) + c, in, mb_row_f32(v->w, 0) + c, v->w.stride,
                         (int32_t)taps, n);
        }
        for (int64_t j = 0; j < taps - 1; j++) /* upwards: what is moved lies behind what is written */
            memmove(kept + j * C, input(v, run, rows - 1, taps - 2 - j, c), (size_t)n * sizeof *kept);
    }
}

enum mb_status mb_cpu_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                           struct mb_view state, struct mb_view slot, struct mb_view pos)
{
    MB_TRY(mb_check_conv(out, x, w, state, slot, pos));
    int32_t *at = mb_cpu_scratch(s, ((uint64_t)out.rows + 1) * sizeof *at);
    if (at == NULL)
        return MB_NO_MEMORY;
    struct conv v = {out, x, w, state, {0}, (out.cols + MB_CHUNK - 1) / MB_CHUNK, mb_vec_of(s->dev)};
    MB_TRY(find_runs("conv", slot, pos, out.rows, state.rows, at, &v.runs));
    if (out.rows > 0)
        mb_cpu_run(s->dev, v.runs.n * v.chunks, mb_grain(MB_CHUNK * out.rows / v.runs.n, 8), conv_items, &v);
    return MB_OK;
}

/* ---------------------------------------------------------------- delta */
struct delta {
    const struct mb_delta_args *a;
    struct mb_view out;
    struct runs runs;
    float *rate; /* [M][value_heads][2] decay, beta */
    float scale; /* of queries */
    const struct mb_vec *vec;
};

static int64_t panels(const struct mb_delta_args *a)
{
    return (a->dv + MB_DELTA_COLS - 1) / MB_DELTA_COLS;
}

/* q and k at length 1, q scaled; decay and beta of each value head. */
static void prepare_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct delta *p = arg;
    const struct mb_delta_args *a = p->a;
    const float *a_log = mb_row_f32(a->a_log, 0), *dt = mb_row_f32(a->dt, 0);
    for (int64_t i = begin; i < end; i++) {
        for (int32_t j = 0; j < 2 * a->key_heads; j++) {
            float *x = mb_row_f32(a->x, i) + (int64_t)j * a->dk;
            p->vec->mul(x, x, mb_rsqrtf(p->vec->r32_dot(x, x, a->dk) + MB_DELTA_EPS), a->dk);
            if (j < a->key_heads)
                p->vec->mul(x, x, p->scale, a->dk);
        }
        const float *ra = mb_row_f32(a->a, i), *rb = mb_row_f32(a->b, i);
        float *rate = p->rate + 2 * i * a->value_heads;
        for (int32_t h = 0; h < a->value_heads; h++) {
            rate[2 * h] = mb_expf(-mb_expf(a_log[h]) * mb_softplus(ra[h] + dt[h]));
            rate[2 * h + 1] = mb_sigmoidf(rb[h]);
        }
    }
}

/* Item: panel of a head of a run. Outputs take the place of v. */
static void rule_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct delta *p = arg;
    const struct mb_delta_args *a = p->a;
    int64_t per_head = panels(a), per_run = per_head * a->value_heads, K = (int64_t)a->key_heads * a->dk;
    for (int64_t item = begin; item < end; item++) {
        int64_t run = item / per_run, h = item % per_run / per_head, panel = item % per_head;
        int64_t at = p->runs.at[run], col = panel * MB_DELTA_COLS, size = a->dk * MB_DELTA_COLS;
        float *x = mb_row_f32(a->x, at), *q = x + (a->first + h) / a->per * a->dk;
        float *tile = mb_row_f32(a->state, mb_at_i32(p->runs.slot, at)) + (h * per_head + panel) * size;
        struct mb_delta_panel d = {.s = tile,
                                   .q = q,
                                   .k = q + K,
                                   .v = x + 2 * K + h * a->dv + col,
                                   .rate = p->rate + 2 * (at * a->value_heads + h),
                                   .stride = a->x.stride,
                                   .rate_stride = 2 * (int64_t)a->value_heads,
                                   .rows = p->runs.at[run + 1] - at,
                                   .dk = a->dk};
        d.cols = (int32_t)(a->dv - col < MB_DELTA_COLS ? a->dv - col : MB_DELTA_COLS);
        if (begins(&p->runs, run))
            memset(tile, 0, (size_t)size * sizeof *tile);
        p->vec->delta(&d);
    }
}

/* The norm of each head's output, times silu(z). */
static void finish_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct delta *p = arg;
    const struct mb_delta_args *a = p->a;
    const float *w = mb_row_f32(a->norm, 0);
    for (int64_t i = begin; i < end; i++) {
        for (int64_t h = 0; h < a->value_heads; h++) {
            float *o = mb_row_f32(a->x, i) + 2 * (int64_t)a->key_heads * a->dk + h * a->dv;
            float r = mb_rsqrtf(p->vec->r32_dot(o, o, a->dv) / (float)a->dv + a->eps);
            p->vec->norm_rms(o, o, r, w, a->dv);
            p->vec->act[MB_ACT_SILU](o, mb_row_f32(a->z, i) + h * a->dv, o, 0, a->dv);
            mb_store_row(p->out, i, h * a->dv, o, a->dv);
        }
    }
}

enum mb_status mb_cpu_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a)
{
    MB_TRY(mb_check_delta(out, a));
    uint64_t M = (uint64_t)out.rows, rates = 2 * M * (uint64_t)a->value_heads;
    float *rate = mb_cpu_scratch(s, rates * sizeof *rate + (M + 1) * sizeof(int32_t));
    if (rate == NULL)
        return MB_NO_MEMORY;
    struct delta p = {.a = a, .out = out, .rate = rate, .vec = mb_vec_of(s->dev)};
    p.scale = (float)(1 / sqrt((double)a->dk));
    MB_TRY(find_runs("delta", a->slot, a->pos, out.rows, a->state.rows, (int32_t *)(void *)(rate + rates),
                     &p.runs));
    if (out.rows == 0)
        return MB_OK;
    int64_t items = p.runs.n * a->value_heads * panels(a), run = out.rows / p.runs.n;
    mb_cpu_run(s->dev, out.rows, mb_grain(2 * (int64_t)a->key_heads * a->dk, 4), prepare_rows, &p);
    mb_cpu_run(s->dev, items, mb_grain((int64_t)a->dk * MB_DELTA_COLS * run, 7), rule_items, &p);
    mb_cpu_run(s->dev, out.rows, mb_grain((int64_t)a->value_heads * a->dv, 8), finish_rows, &p);
    return MB_OK;
}
