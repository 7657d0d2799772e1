/* Gated DeltaNet's operations on every ISA: the delta rule and the convolution against the contract's order
 * written out plainly (with ==) and against f64 (near), whatever the steps in which rows come, the sequences
 * beside them and the heads that are here. */
#include <math.h>
#include "base/numerics.h"
#include "device_help.h"

enum { SEQS = 3, MOST = 80 };

static const struct shape {
    int kh, vh, dk, dv, taps;
} shapes[] = {{1, 1, 1, 1, 2},   {2, 4, 8, 10, 4},   {2, 6, 10, 8, 4},
              {1, 2, 33, 17, 3}, {3, 3, 64, 16, 16}, {1, 2, 128, 40, 4}};

struct net {
    struct shape s;
    int rows, C, V;                       /* positions of a sequence; channels; columns of values */
    float *in[SEQS], *z[SEQS], *ba[SEQS]; /* [rows][C], [rows][V], [rows][2 vh] */
    float *w, *a_log, *dt, *norm;
    float *conv[SEQS], *out[SEQS]; /* what is expected */
};

static float *values(struct rig *g, int64_t n, float scale)
{
    float *p = malloc((size_t)(n + 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = scale * rig_value(g, false);
    return p;
}

/* ---------------------------------------------------------------- the plain forms */
static void plain_conv(const struct net *n, int q)
{
    for (int t = 0; t < n->rows; t++)
        for (int c = 0; c < n->C; c++) {
            float y = 0;
            for (int j = 0; j < n->s.taps; j++) {
                int at = t - (n->s.taps - 1) + j;
                y = fmaf(n->w[j * n->C + c], at < 0 ? 0 : n->in[q][at * n->C + c], y);
            }
            n->conv[q][t * n->C + c] = mb_silu(y);
        }
}

static void unit(float *out, const float *x, int n, float scale)
{
    float r = mb_rsqrtf(mb_r32_sq(x, n) + 1e-6f);
    for (int i = 0; i < n; i++)
        out[i] = x[i] * r * scale;
}

/* One value head, column by column. */
static void plain_head(const struct net *n, int q, int h, float eps)
{
    int dk = n->s.dk, dv = n->s.dv, K = n->s.kh * dk, kh = h / (n->s.vh / n->s.kh);
    float state[128][64] = {{0}}, col[128], qn[128], kn[128], o[64];
    for (int t = 0; t < n->rows; t++) {
        const float *x = n->conv[q] + t * n->C, *v = x + 2 * K + h * dv, *ba = n->ba[q] + t * 2 * n->s.vh;
        unit(qn, x + kh * dk, dk, (float)(1 / sqrt((double)dk)));
        unit(kn, x + K + kh * dk, dk, 1);
        float decay = mb_expf(-mb_expf(n->a_log[h]) * mb_softplus(ba[n->s.vh + h] + n->dt[h]));
        float beta = mb_sigmoidf(ba[h]);
        for (int c = 0; c < dv; c++) {
            for (int i = 0; i < dk; i++)
                col[i] = decay * state[i][c];
            float e = beta * (v[c] - mb_dot(col, kn, dk));
            for (int i = 0; i < dk; i++)
                state[i][c] = col[i] = fmaf(kn[i], e, col[i]);
            o[c] = mb_dot(col, qn, dk);
        }
        float r = mb_rsqrtf(mb_r32_sq(o, dv) / (float)dv + eps);
        for (int c = 0; c < dv; c++)
            n->out[q][t * n->V + h * dv + c] =
                mb_silu(n->z[q][t * n->V + h * dv + c]) * (o[c] * r * n->norm[c]);
    }
}

/* The published formulas in f64, from the input of the convolution on; the largest difference. */
static double far_head(const struct net *n, int q, int h, double eps)
{
    int dk = n->s.dk, dv = n->s.dv, K = n->s.kh * dk, kh = h / (n->s.vh / n->s.kh);
    double state[128][64] = {{0}}, x[4096], worst = 0;
    for (int t = 0; t < n->rows; t++) {
        double nq = 0, nk = 0, mean = 0, o[64] = {0};
        for (int c = 0; c < n->C; c++) {
            x[c] = 0;
            for (int j = 0; j < n->s.taps && j <= t; j++)
                x[c] += (double)n->w[(n->s.taps - 1 - j) * n->C + c] * n->in[q][(t - j) * n->C + c];
            x[c] = x[c] / (1 + exp(-x[c]));
        }
        const double *qv = x + kh * dk, *kv = x + K + kh * dk, *v = x + 2 * K + h * dv;
        for (int i = 0; i < dk; i++) {
            nq += qv[i] * qv[i];
            nk += kv[i] * kv[i];
        }
        const float *ba = n->ba[q] + t * 2 * n->s.vh;
        double decay = exp(-exp((double)n->a_log[h]) * log1p(exp((double)ba[n->s.vh + h] + n->dt[h])));
        double beta = 1 / (1 + exp(-(double)ba[h]));
        for (int c = 0; c < dv; c++) {
            double got = 0;
            for (int i = 0; i < dk; i++)
                got += (state[i][c] *= decay) * kv[i] / sqrt(nk + 1e-6);
            for (int i = 0; i < dk; i++) {
                state[i][c] += kv[i] / sqrt(nk + 1e-6) * beta * (v[c] - got);
                o[c] += state[i][c] * qv[i] / sqrt(nq + 1e-6) / sqrt(dk);
            }
            mean += o[c] * o[c] / dv;
        }
        for (int c = 0; c < dv; c++) {
            double zc = n->z[q][t * n->V + h * dv + c],
                   want = o[c] / sqrt(mean + eps) * n->norm[c] * zc / (1 + exp(-zc));
            worst = fmax(worst, fabs(want - n->out[q][t * n->V + h * dv + c]));
        }
    }
    return worst;
}

static struct net net_of(struct rig *g, struct shape s)
{
    struct net n = {.s = s,
                    .rows = 1 + (int)(rig_random(g) % MOST),
                    .C = 2 * s.kh * s.dk + s.vh * s.dv,
                    .V = s.vh * s.dv};
    n.w = values(g, (int64_t)s.taps * n.C, 1);
    n.a_log = values(g, s.vh, 1);
    n.dt = values(g, s.vh, 1);
    n.norm = values(g, s.dv, 1);
    for (int i = 0; i < s.vh; i++)
        n.a_log[i] = -fabsf(n.a_log[i]) - 1; /* slow decay, as trained */
    for (int q = 0; q < SEQS; q++) {
        n.in[q] = values(g, (int64_t)n.rows * n.C, 2);
        n.z[q] = values(g, (int64_t)n.rows * n.V, 1);
        n.ba[q] = values(g, (int64_t)n.rows * 2 * s.vh, 2);
        n.conv[q] = calloc((size_t)(n.rows * n.C), sizeof(float));
        n.out[q] = calloc((size_t)(n.rows * n.V), sizeof(float));
        uint32_t mode = mb_fp_enter();
        plain_conv(&n, q);
        for (int h = 0; h < s.vh; h++)
            plain_head(&n, q, h, 1e-6f);
        mb_fp_restore(mode);
    }
    return n;
}

static void net_free(struct net *n)
{
    free(n->w);
    free(n->a_log);
    free(n->dt);
    free(n->norm);
    for (int q = 0; q < SEQS; q++) {
        free(n->in[q]);
        free(n->z[q]);
        free(n->ba[q]);
        free(n->conv[q]);
        free(n->out[q]);
    }
}

/* ---------------------------------------------------------------- the operations, step by step */
/* Value heads [h0, h1) here, with the key heads that they need. */
struct part {
    int h0, h1, k0, k1;
};
static struct part part_of(const struct shape *s, int h0, int h1)
{
    int per = s->vh / s->kh;
    return (struct part){h0, h1, h0 / per, (h1 - 1) / per + 1};
}

/* Columns of q, k and v of a part, from rows of all channels. */
static void pick(const struct net *n, const struct part *p, const float *from, float *to)
{
    int dk = n->s.dk, K = n->s.kh * dk, w = (p->k1 - p->k0) * dk, v = (p->h1 - p->h0) * n->s.dv;
    memcpy(to, from + p->k0 * dk, (size_t)w * 4);
    memcpy(to + w, from + K + p->k0 * dk, (size_t)w * 4);
    memcpy(to + 2 * w, from + 2 * K + p->h0 * n->s.dv, (size_t)v * 4);
}

struct held {
    struct mb_view w, a_log, dt, norm, conv, state;
    int cols, heads;
};
static struct held hold(struct rig *g, const struct net *n, const struct part *p)
{
    struct held h = {.heads = p->h1 - p->h0};
    h.cols = 2 * (p->k1 - p->k0) * n->s.dk + h.heads * n->s.dv;
    float *w = malloc((size_t)(n->s.taps * h.cols) * 4);
    for (int j = 0; j < n->s.taps; j++)
        pick(n, p, n->w + j * n->C, w + j * h.cols);
    h.w = rig_floats(g, w, n->s.taps, h.cols, h.cols, MB_F32);
    h.a_log = rig_floats(g, n->a_log + p->h0, 1, h.heads, h.heads, MB_F32);
    h.dt = rig_floats(g, n->dt + p->h0, 1, h.heads, h.heads, MB_F32);
    h.norm = rig_floats(g, n->norm, 1, n->s.dv, n->s.dv, MB_F32);
    /* states are left over from others: whatever they hold must not matter */
    int64_t c = (int64_t)(n->s.taps - 1) * h.cols, s = h.heads * mb_delta_tile(n->s.dk, n->s.dv);
    float *rest = values(g, (SEQS + 1) * (c > s ? c : s), 3);
    h.conv = rig_floats(g, rest, SEQS + 1, c, c, MB_F32);
    h.state = rig_floats(g, rest, SEQS + 1, s, s, MB_F32);
    free(rest);
    free(w);
    return h;
}

/* One step: `rows` rows of sequences, each [from, from + count) of its own. */
struct step {
    int rows, from[SEQS], count[SEQS];
    const int32_t *slot;
};

static void run_step(struct rig *g, const struct net *n, const struct part *p, const struct held *h,
                     const struct step *t, enum mb_dtype type)
{
    int M = t->rows, V = h->heads * n->s.dv, per = n->s.vh / n->s.kh, r = 0;
    float *in = calloc((size_t)(M * h->cols + 1), 4), *z = calloc((size_t)(M * V + 1), 4),
          *ba = calloc((size_t)(M * 2 * h->heads + 1), 4);
    int32_t slot[SEQS * MOST], pos[SEQS * MOST];
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < t->count[q]; i++, r++) {
            int at = t->from[q] + i;
            pick(n, p, n->in[q] + at * n->C, in + r * h->cols);
            memcpy(z + r * V, n->z[q] + at * n->V + p->h0 * n->s.dv, (size_t)V * 4);
            memcpy(ba + r * 2 * h->heads, n->ba[q] + at * 2 * n->s.vh + p->h0, (size_t)h->heads * 4);
            memcpy(ba + (r * 2 + 1) * h->heads, n->ba[q] + at * 2 * n->s.vh + n->s.vh + p->h0,
                   (size_t)h->heads * 4);
            slot[r] = t->slot[q];
            pos[r] = at;
        }
    struct mb_view vin = rig_floats(g, in, M, h->cols, h->cols + 3, MB_F32),
                   vz = rig_floats(g, z, M, V, V, MB_F32);
    struct mb_view vba = rig_floats(g, ba, M, 2 * h->heads, 2 * h->heads, MB_F32),
                   x = rig_floats(g, NULL, M, h->cols, h->cols + 1, MB_F32);
    struct mb_view vs = rig_ints(g, slot, M, 1), vp = rig_ints(g, pos, M, 1),
                   out = rig_floats(g, NULL, M, V, V + 2, type);
    const struct mb_delta_args a = {.x = x,
                                    .z = vz,
                                    .b = mb_view_cols(vba, 0, h->heads),
                                    .a = mb_view_cols(vba, h->heads, h->heads),
                                    .a_log = h->a_log,
                                    .dt = h->dt,
                                    .norm = h->norm,
                                    .state = h->state,
                                    .slot = vs,
                                    .pos = vp,
                                    .key_heads = p->k1 - p->k0,
                                    .value_heads = h->heads,
                                    .dk = n->s.dk,
                                    .dv = n->s.dv,
                                    .per = per,
                                    .first = p->h0 - p->k0 * per,
                                    .eps = 1e-6f};
    assert_int_equal(g->ops->conv(g->s, x, vin, h->w, h->conv, vs, vp), MB_OK);
    float *got = rig_read(g, x), *want = malloc((size_t)h->cols * 4);
    r = 0;
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < t->count[q]; i++, r++) {
            pick(n, p, n->conv[q] + (t->from[q] + i) * n->C, want);
            for (int c = 0; c < h->cols; c++)
                assert_true(got[r * h->cols + c] == want[c]);
        }
    free(got);
    assert_int_equal(g->ops->delta(g->s, out, &a), MB_OK);
    got = rig_read(g, out);
    r = 0;
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < t->count[q]; i++, r++)
            for (int c = 0; c < V; c++) {
                float y = n->out[q][(t->from[q] + i) * n->V + p->h0 * n->s.dv + c];
                assert_true(got[r * V + c] == (type == MB_BF16 ? mb_bf16_float(mb_bf16_of(y)) : y));
            }
    free(got);
    free(want);
    free(in);
    free(z);
    free(ba);
    struct mb_view all[] = {vin, vz, vba, x, vs, vp, out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rig_free(g, all[i]);
}

/* All sequences in steps of random sizes; some begin again in another place, as one does that had to give
 * way. */
static void run_part(struct rig *g, const struct net *n, struct part p, enum mb_dtype type)
{
    struct held h = hold(g, n, &p);
    int32_t slot[SEQS] = {2, 0, 1}, free_slot = SEQS;
    int at[SEQS] = {0}, again = 2;
    for (;;) {
        struct step t = {.slot = slot};
        for (int q = 0; q < SEQS; q++) {
            int left = n->rows - at[q];
            if (at[q] > 1 && again > 0 && rig_random(g) % 4 == 0) {
                int32_t before = slot[q];
                slot[q] = free_slot;
                free_slot = before;
                at[q] = 0;
                again--;
                left = n->rows;
            }
            t.from[q] = at[q];
            t.count[q] = left > 0 ? (int)(rig_random(g) % (uint32_t)(left < 9            ? left + 1
                                                                     : rig_random(g) % 2 ? 3
                                                                                         : left + 1))
                                  : 0;
            at[q] += t.count[q];
            t.rows += t.count[q];
        }
        run_step(g, n, &p, &h, &t, type);
        if (at[0] == n->rows && at[1] == n->rows && at[2] == n->rows)
            break;
    }
    struct mb_view all[] = {h.w, h.a_log, h.dt, h.norm, h.conv, h.state};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rig_free(g, all[i]);
}

static void test_rule(void **state)
{
    (void)state;
    struct rig g;
    for (int isa = FIRST_ISA; isa < ISAS; isa++)
        for (int32_t threads = 1; threads <= RIG_FEW(3); threads += 2) {
            if (!rig_open(&g, isa_names[isa], threads, MB_F32))
                continue;
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
                struct net n = net_of(&g, shapes[i]);
                run_part(&g, &n, part_of(&n.s, 0, n.s.vh), MB_F32);
                run_part(&g, &n, part_of(&n.s, 0, n.s.vh), MB_BF16);
                for (int h = 1; h < n.s.vh; h++) { /* heads of two ranks */
                    run_part(&g, &n, part_of(&n.s, 0, h), MB_F32);
                    run_part(&g, &n, part_of(&n.s, h, n.s.vh), MB_F32);
                }
                net_free(&n);
            }
            rig_close(&g);
        }
}

/* The order written out above is what the formulas mean. */
static void test_near(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "portable", 1, MB_F32));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct net n = net_of(&g, shapes[i]);
        for (int q = 0; q < SEQS; q++)
            for (int h = 0; h < n.s.vh; h++) {
                double worst = far_head(&n, q, h, 1e-6);
                if (worst > 2e-3)
                    fail_msg("shape %zu, head %d: %g", i, h, worst);
            }
        net_free(&n);
    }
    rig_close(&g);
}

static void test_gate(void **state)
{
    (void)state;
    struct rig g;
    for (int isa = FIRST_ISA; isa < ISAS; isa++) {
        if (!rig_open(&g, isa_names[isa], 2, MB_F32))
            continue;
        for (int cols = 1; cols < 1200; cols = 3 * cols + 5)
            for (int half = 0; half < 2; half++) {
                enum mb_dtype type = half ? MB_BF16 : MB_F32;
                float *a = values(&g, 5 * cols, 1), *b = values(&g, 5 * cols, 4);
                struct mb_view va = rig_floats(&g, a, 5, cols, cols + 2, MB_F32),
                               vb = rig_floats(&g, b, 5, cols, cols, MB_F32);
                struct mb_view out = rig_floats(&g, NULL, 5, cols, cols + 1, type);
                assert_int_equal(g.ops->gate_by(g.s, out, vb, va), MB_OK);
                float *got = rig_read(&g, out);
                for (int i = 0; i < 5 * cols; i++) {
                    float want = mb_sigmoidf(b[i]) * a[i];
                    assert_true(got[i] == (half ? mb_bf16_float(mb_bf16_of(want)) : want));
                }
                free(got);
                free(a);
                free(b);
                rig_free(&g, va);
                rig_free(&g, vb);
                rig_free(&g, out);
            }
        rig_close(&g);
    }
}

static void test_softplus(void **state)
{
    (void)state;
    for (double x = -90; x < 90; x += 0.013) {
        double want = x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)), got = mb_softplus((float)x), y = (float)x;
        want = y > 0 ? y + log1p(exp(-y)) : log1p(exp(y));
        if (want > 1e-37 && fabs(got - want) > 4e-7 * want)
            fail_msg("softplus(%g) is %g, expected %g", x, got, want);
    }
    assert_true(mb_softplus(1000) == 1000 && mb_softplus(-1000) == 0 && mb_softplus(INFINITY) == INFINITY);
}

/* Wrong calls are bugs of the caller, and are said. */
static void test_refused(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "portable", 1, MB_F32));
    struct mb_view x = rig_floats(&g, NULL, 2, 4, 4, MB_F32), w = rig_floats(&g, NULL, 3, 4, 4, MB_F32);
    struct mb_view s = rig_floats(&g, NULL, 2, 8, 8, MB_F32), short_s = rig_floats(&g, NULL, 2, 4, 4, MB_F32);
    struct mb_view out = rig_floats(&g, NULL, 2, 4, 4, MB_F32);
    struct mb_view good = rig_ints(&g, (int32_t[]){0, 1}, 2, 1), bad = rig_ints(&g, (int32_t[]){0, 2}, 2, 1);
    assert_int_equal(g.ops->conv(g.s, out, x, w, s, good, good), MB_OK);
    assert_int_equal(rig_done(&g, g.ops->conv(g.s, out, x, w, s, bad, good)), MB_BUG);
    assert_int_equal(rig_done(&g, g.ops->conv(g.s, out, x, w, short_s, good, good)), MB_BUG);
    assert_int_equal(g.ops->delta(g.s, out,
                                  &(struct mb_delta_args){
                                      .x = x, .key_heads = 1, .value_heads = 2, .dk = 1, .dv = 1, .per = 1}),
                     MB_BUG); /* value head 1 has no key head */
    struct mb_view all[] = {x, w, s, short_s, out, good, bad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rig_free(&g, all[i]);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rule), cmocka_unit_test(test_near),
                                       cmocka_unit_test(test_gate), cmocka_unit_test(test_softplus),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
