/* Paged attention on every ISA against a naive version written from the numeric contract, with ==. */
#include "device_help.h"

#include <math.h>

struct shape {
    int32_t heads, kv_heads, d, dv, window, segment;
    bool v_in_k, sinks;
    float softcap;
    enum mb_dtype q, page, out;
};

/* ---------------------------------------------------------------- the contract, naively */
/* keys and values of one sequence as stored: [position][kv head][width] */
struct sequence {
    int32_t length;
    float *k, *v;
};
struct state {
    float m, l, *o;
    bool present;
};

static float dot(const float *x, const float *w, int64_t n)
{
    float c = 0;
    for (int64_t b = 0; b < n; b += 32) {
        float e = 0, o = 0;
        for (int64_t k = b; k < b + 32; k += 2) {
            e = fmaf(k < n ? x[k] : 0, k < n ? w[k] : 0, e);
            o = fmaf(k + 1 < n ? x[k + 1] : 0, k + 1 < n ? w[k + 1] : 0, o);
        }
        float s = e + o;
        c = c + s;
    }
    return c;
}

static float r32(const float *p, int n)
{
    float t[32] = {0};
    for (int i = 0; i < n; i++)
        t[i % 32] = t[i % 32] + p[i];
    for (int h = 16; h > 0; h /= 2)
        for (int j = 0; j < h; j++)
            t[j] = t[j] + t[j + h];
    return t[0];
}

/* a = a (+) b */
static void join(struct state *a, const struct state *b, int32_t dv)
{
    if (!b->present)
        return;
    if (!a->present) {
        memcpy(a->o, b->o, (size_t)dv * sizeof *a->o);
        a->m = b->m;
        a->l = b->l;
        a->present = true;
        return;
    }
    float m = a->m > b->m ? a->m : b->m, e1 = mb_expf(a->m - m), e2 = mb_expf(b->m - m);
    float l2 = b->l * e2;
    a->l = fmaf(a->l, e1, l2);
    for (int32_t c = 0; c < dv; c++) {
        float o2 = b->o[c] * e2;
        a->o[c] = fmaf(a->o[c], e1, o2);
    }
    a->m = m;
}

/* one block of 64 keys at base, of which lo..hi (positions) are visible */
static void fold_block(struct state *st, const struct shape *s, const struct sequence *q, const float *query,
                       int32_t head, int64_t base, int64_t lo, int64_t hi, float scale)
{
    float sc[64], p[64] = {0}, pr[64] = {0}, x[64], max = -INFINITY;
    int64_t kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    int32_t kh = head / (s->heads / s->kv_heads);
    for (int64_t i = lo; i <= hi; i++) {
        float v = dot(query, q->k + i * kw + kh * s->d, s->d) * scale;
        sc[i - base] = s->softcap != 0 ? mb_softcap(v, s->softcap) : v;
        max = sc[i - base] > max ? sc[i - base] : max;
    }
    float m = st->present && st->m > max ? st->m : max;
    for (int64_t i = lo - base; i <= hi - base; i++) {
        p[i] = mb_expf(sc[i] - m);
        pr[i] = s->page == MB_BF16 ? mb_bf16_float(mb_bf16_of(p[i])) : p[i];
    }
    float alpha = st->present ? mb_expf(st->m - m) : 0, sum = r32(p, 64);
    st->l = st->present ? fmaf(st->l, alpha, sum) : sum;
    for (int32_t c = 0; c < s->dv; c++) {
        for (int64_t i = 0; i < 64; i++) {
            bool seen = base + i >= lo && base + i <= hi;
            x[i] = !seen       ? 0
                   : s->v_in_k ? q->k[(base + i) * kw + kh * s->d + c]
                               : q->v[(base + i) * vw + kh * s->dv + c];
        }
        float pv = dot(pr, x, 64);
        st->o[c] = st->present ? fmaf(st->o[c], alpha, pv) : pv;
    }
    st->m = m;
    st->present = true;
}

/* node [first, first + size) of segments */
static struct state node(const struct shape *s, const struct sequence *q, const float *query, int32_t head,
                         int64_t lo, int64_t hi, float scale, int64_t first, int64_t size)
{
    struct state st = {.o = calloc((size_t)s->dv, sizeof(float))};
    int64_t begin = first * s->segment, end = (first + size) * s->segment - 1;
    if (begin > hi || end < lo)
        return st;
    if (size > 1) {
        struct state right = node(s, q, query, head, lo, hi, scale, first + size / 2, size / 2);
        free(st.o);
        st = node(s, q, query, head, lo, hi, scale, first, size / 2);
        join(&st, &right, s->dv);
        free(right.o);
        return st;
    }
    for (int64_t b = begin; b <= end; b += 64) {
        int64_t from = b > lo ? b : lo, to = b + 63 < hi ? b + 63 : hi;
        if (from <= to)
            fold_block(&st, s, q, query, head, b, from, to, scale);
    }
    return st;
}

static void naive(float *out, const struct shape *s, const struct sequence *q, const float *query,
                  int32_t head, int32_t pos, float scale, const float *sinks)
{
    int64_t lo = s->window > 0 && pos >= s->window ? pos - s->window + 1 : 0, size = 1;
    while (size * s->segment <= pos)
        size *= 2;
    struct state st = node(s, q, query, head, lo, pos, scale, 0, size);
    if (s->sinks) {
        struct state sink = {sinks[head], 1, calloc((size_t)s->dv, sizeof(float)), true};
        join(&st, &sink, s->dv);
        free(sink.o);
    }
    for (int32_t c = 0; c < s->dv; c++) {
        float v = st.o[c] / st.l;
        out[c] = s->out == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
    }
    free(st.o);
}

/* ---------------------------------------------------------------- a pool with sequences in shuffled pages */
enum { SEQS = 3, MAX_PAGES = 12 };
struct pool {
    struct mb_kv *kv;
    struct sequence seq[SEQS];
    int32_t table[SEQS * MAX_PAGES];
};

static float as_stored(enum mb_dtype t, float v)
{
    return t == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
}

static void append(struct rig *g, const struct shape *s, struct pool *p, int32_t seq, int32_t from,
                   int32_t to)
{
    int64_t n = to - from, kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    float *k = malloc((size_t)(n * kw) * sizeof *k), *v = malloc((size_t)(n * vw) * sizeof *v);
    int32_t *slot = malloc((size_t)n * sizeof *slot);
    for (int64_t i = 0; i < n * kw; i++) {
        k[i] = rig_value(g, false);
        p->seq[seq].k[from * kw + i] = as_stored(s->page, k[i]);
    }
    for (int64_t i = 0; i < n * vw; i++) {
        v[i] = rig_value(g, false);
        p->seq[seq].v[from * vw + i] = as_stored(s->page, v[i]);
    }
    for (int64_t i = 0; i < n; i++)
        slot[i] = p->table[seq * MAX_PAGES + (from + i) / 64] * 64 + (from + (int32_t)i) % 64;
    struct mb_view kv = rig_floats(g, k, n, kw, kw, MB_F32), vv = rig_floats(g, v, n, vw, vw + 3, MB_F32);
    struct mb_view sv = rig_ints(g, slot, n, 1);
    assert_int_equal(g->ops->kv_append(g->s, p->kv, kv, s->v_in_k ? MB_NO_VIEW : vv, sv), MB_OK);
    rig_free(g, kv);
    rig_free(g, vv);
    rig_free(g, sv);
    free(k);
    free(v);
    free(slot);
}

/* Pages are first filled with NaN, as a request that went wrong may have left them. */
static void poison(struct rig *g, const struct shape *s, struct mb_kv *kv, int32_t pages)
{
    int64_t n = 64 * pages, kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    float *nan = malloc((size_t)(n * (kw > vw ? kw : vw)) * sizeof *nan);
    int32_t *slot = malloc((size_t)n * sizeof *slot);
    for (int64_t i = 0; i < n * (kw > vw ? kw : vw); i++)
        nan[i] = NAN;
    for (int32_t i = 0; i < n; i++)
        slot[i] = i;
    struct mb_view k = rig_floats(g, nan, n, kw, kw, MB_F32), v = rig_floats(g, nan, n, vw, vw, MB_F32);
    struct mb_view sv = rig_ints(g, slot, n, 1);
    assert_int_equal(g->ops->kv_append(g->s, kv, k, s->v_in_k ? MB_NO_VIEW : v, sv), MB_OK);
    rig_free(g, k);
    rig_free(g, v);
    rig_free(g, sv);
    free(nan);
    free(slot);
}

static void pool_make(struct rig *g, const struct shape *s, struct pool *p, const int32_t length[SEQS])
{
    struct mb_kv_desc d = {SEQS * MAX_PAGES, s->kv_heads, s->d, s->dv, s->v_in_k, s->page};
    assert_int_equal(g->ops->kv_create(g->dev, &d, &p->kv), MB_OK);
    int64_t width = (int64_t)s->kv_heads * (s->d + (s->v_in_k ? 0 : s->dv)) * mb_dtype_size(s->page);
    assert_true(g->ops->kv_page_bytes(&d) >= (uint64_t)(64 * width));
    poison(g, s, p->kv, d.pages);
    for (int32_t i = 0; i < SEQS * MAX_PAGES; i++)
        p->table[i] = (i * 7 + 5) % (SEQS * MAX_PAGES);
    for (int32_t i = 0; i < SEQS; i++) {
        p->seq[i].length = length[i];
        p->seq[i].k = calloc((size_t)(length[i] * s->kv_heads * s->d), sizeof(float));
        p->seq[i].v = calloc((size_t)(length[i] * s->kv_heads * s->dv), sizeof(float));
        append(g, s, p, i, 0, length[i] / 2);
        append(g, s, p, i, length[i] / 2, length[i]);
    }
}

static void pool_free(struct rig *g, struct pool *p)
{
    g->ops->kv_free(p->kv);
    for (int32_t i = 0; i < SEQS; i++) {
        free(p->seq[i].k);
        free(p->seq[i].v);
    }
}

/* ---------------------------------------------------------------- one call */
struct batch {
    int32_t n;
    int32_t pos[200], seq[200];
};

static void rows_of(struct batch *b, int32_t seq, int32_t from, int32_t to)
{
    for (int32_t p = from; p <= to; p++) {
        b->pos[b->n] = p;
        b->seq[b->n++] = seq;
    }
}

static void check(struct rig *g, const struct shape *s, const struct pool *p, const struct batch *b)
{
    int64_t qw = (int64_t)s->heads * s->d, ow = (int64_t)s->heads * s->dv;
    float *q = malloc((size_t)(b->n * qw) * sizeof *q), *sinks = malloc((size_t)s->heads * sizeof *sinks),
          *want;
    for (int64_t i = 0; i < b->n * qw; i++)
        q[i] = rig_value(g, s->q == MB_BF16) * 0.25f;
    for (int32_t i = 0; i < s->heads; i++)
        sinks[i] = rig_value(g, false);
    struct mb_attn_args a = {.kv = p->kv, .heads = s->heads, .scale = 0.17f, .softcap = s->softcap};
    a.window = s->window;
    a.segment = s->segment;
    a.q = rig_floats(g, q, b->n, qw, qw + 5, s->q);
    a.pos = rig_ints(g, b->pos, b->n, 1);
    a.seq = rig_ints(g, b->seq, b->n, 1);
    a.page_table = rig_ints(g, p->table, SEQS, MAX_PAGES);
    a.sinks = s->sinks ? rig_floats(g, sinks, 1, s->heads, s->heads, MB_F32) : MB_NO_VIEW;
    struct mb_view out = rig_floats(g, NULL, b->n, ow, ow + 1, s->out);
    assert_int_equal(g->ops->attention(g->s, out, &a), MB_OK);
    float *got = rig_read(g, out);
    want = malloc((size_t)s->dv * sizeof *want);
    uint32_t old = mb_fp_enter();
    for (int32_t i = 0; i < b->n; i++)
        for (int32_t h = 0; h < s->heads; h++) {
            naive(want, s, &p->seq[b->seq[i]], q + i * qw + h * s->d, h, b->pos[i], a.scale, sinks);
            for (int32_t c = 0; c < s->dv; c++)
                if (got[i * ow + h * s->dv + c] != want[c])
                    fail_msg("row %d (position %d), head %d, column %d: %a, not %a", i, b->pos[i], h, c,
                             got[i * ow + h * s->dv + c], want[c]);
        }
    mb_fp_restore(old);
    struct mb_view views[] = {a.q, a.pos, a.seq, a.page_table, a.sinks, out};
    for (int i = 0; i < 6; i++)
        rig_free(g, views[i]);
    free(q);
    free(got);
    free(want);
    free(sinks);
}

/* decode rows of several sequences, then a prefill chunk; a sequence at its very beginning */
static void shape_on(struct rig *g, const struct shape *s, int32_t longest)
{
    int32_t length[SEQS] = {longest, 70, 5};
    struct pool p;
    struct batch b = {0};
    pool_make(g, s, &p, length);
    rows_of(&b, 1, 69, 69);
    rows_of(&b, 0, longest - 2, longest - 1);
    rows_of(&b, 2, 0, 4);
    rows_of(&b, 1, 50, 68);
    rows_of(&b, 0, longest / 2, longest / 2);
    check(g, s, &p, &b);
    b.n = 0;
    check(g, s, &p, &b);
    pool_free(g, &p);
}

static const struct shape shapes[] = {
    {.heads = 4, .kv_heads = 4, .d = 32, .dv = 32, .segment = 512},
    {.heads = 8, .kv_heads = 2, .d = 40, .dv = 24, .segment = 64, .sinks = true},
    {.heads = 6, .kv_heads = 2, .d = 64, .dv = 64, .segment = 128, .window = 100},
    {.heads = 3, .kv_heads = 1, .d = 48, .dv = 32, .segment = 64, .v_in_k = true},
    {.heads = 60, .kv_heads = 1, .d = 40, .dv = 20, .segment = 192, .v_in_k = true},
    {.heads = 2, .kv_heads = 1, .d = 8, .dv = 8, .segment = 64, .window = 1, .softcap = 3},
    {.heads = 5,
     .kv_heads = 5,
     .d = 33,
     .dv = 17,
     .segment = 64,
     .window = 7,
     .sinks = true,
     .softcap = 1.5f},
};

static void shapes_on(struct rig *g)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int t = 0; t < 4; t++) {
            struct shape s = shapes[i];
            s.page = t & 1 ? MB_BF16 : MB_F32;
            s.q = s.out = t & 2 ? MB_BF16 : MB_F32;
            shape_on(g, &s, i % 2 ? 420 : 170);
        }
}

static void test_shapes(void **state)
{
    (void)state;
    int ran = 0;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int32_t threads = 1; threads <= (i > 0 ? 3 : 1); threads++) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_F32))
                break;
            shapes_on(&g);
            rig_close(&g);
            ran++;
        }
    assert_true(ran >= 1);
}

/* The same rows in other batches: alone, in a chunk, in another order. */
static void test_batches(void **state)
{
    (void)state;
    struct shape s = {
        .heads = 4, .kv_heads = 2, .d = 64, .dv = 32, .segment = 64, .page = MB_BF16, .q = MB_BF16};
    int32_t length[SEQS] = {300, 140, 64};
    struct rig g;
    struct pool p;
    assert_true(rig_open(&g, "auto", 2, MB_BF16));
    pool_make(&g, &s, &p, length);
    struct batch b = {0};
    rows_of(&b, 0, 130, 290);
    check(&g, &s, &p, &b);
    b.n = 0;
    for (int32_t i = 60; i >= 0; i -= 3)
        rows_of(&b, i % 2 ? 2 : 1, i, i);
    rows_of(&b, 1, 139, 139);
    check(&g, &s, &p, &b);
    pool_free(&g, &p);
    rig_close(&g);
}

/* An infinity in a later value of the own sequence may not touch earlier rows of the same chunk. */
static void test_infinite_neighbour(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        struct shape s = {
            .heads = 2, .kv_heads = 2, .d = 32, .dv = 32, .segment = 64, .page = t ? MB_BF16 : MB_F32};
        int32_t length[SEQS] = {90, 1, 1};
        struct rig g;
        struct pool p;
        assert_true(rig_open(&g, "auto", 1, MB_F32));
        pool_make(&g, &s, &p, length);
        float k[64] = {0}, v[64];
        for (int i = 0; i < 64; i++)
            v[i] = INFINITY;
        int32_t slot = p.table[1] * 64 + 20; /* position 84 */
        struct mb_view kv = rig_floats(&g, k, 1, 64, 64, MB_F32), vv = rig_floats(&g, v, 1, 64, 64, MB_F32);
        struct mb_view sv = rig_ints(&g, &slot, 1, 1);
        assert_int_equal(g.ops->kv_append(g.s, p.kv, kv, vv, sv), MB_OK);
        memcpy(p.seq[0].k + 84 * 64, k, sizeof k);
        memcpy(p.seq[0].v + 84 * 64, v, sizeof v);
        struct batch b = {0};
        rows_of(&b, 0, 70, 84);
        check(&g, &s, &p, &b);
        rig_free(&g, kv);
        rig_free(&g, vv);
        rig_free(&g, sv);
        pool_free(&g, &p);
        rig_close(&g);
    }
}

static void test_mistakes(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    struct mb_kv_desc d = {2, 1, 8, 8, false, MB_F32}, bad = d;
    struct mb_kv *kv, *none;
    assert_int_equal(g.ops->kv_create(g.dev, &d, &kv), MB_OK);
    bad.dv = 9;
    bad.v_in_k = true;
    assert_int_equal(g.ops->kv_create(g.dev, &bad, &none), MB_BUG);
    int32_t two = 2, zero = 0, slot = 128;
    struct mb_view q = rig_floats(&g, NULL, 1, 8, 8, MB_F32), out = rig_floats(&g, NULL, 1, 8, 8, MB_F32);
    struct mb_view pos = rig_ints(&g, &zero, 1, 1), seq = rig_ints(&g, &zero, 1, 1),
                   page = rig_ints(&g, &zero, 1, 1);
    struct mb_view wrong = rig_ints(&g, &two, 1, 1), slots = rig_ints(&g, &slot, 1, 1);
    struct mb_attn_args a = {q, kv, pos, seq, page, 1, 1, 0, 0, 64, MB_NO_VIEW};
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_OK);
    a.page_table = wrong; /* page 2 of 2 */
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_BUG);
    a.page_table = page;
    a.seq = wrong;
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_BUG);
    a.seq = seq;
    a.segment = 65;
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_BUG);
    assert_int_equal(g.ops->kv_append(g.s, kv, q, q, slots), MB_BUG);
    struct mb_view views[] = {q, out, pos, seq, page, wrong, slots};
    for (int i = 0; i < 7; i++)
        rig_free(&g, views[i]);
    g.ops->kv_free(kv);
    g.ops->kv_free(NULL);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_infinite_neighbour),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
