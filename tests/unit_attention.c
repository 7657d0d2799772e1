/* Paged attention on every ISA against a naive version written from the numeric contract, with ==. */
#include "attn_help.h"

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
    a.chunked = s->chunked;
    a.segment = s->segment;
    a.q = rig_floats(g, q, b->n, qw, qw + 5, s->q);
    a.pos = rig_ints(g, b->pos, b->n, 1);
    a.seq = rig_ints(g, b->seq, b->n, 1);
    a.page_table = rig_ints(g, p->table, SEQS, p->pages);
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
    {.heads = 6, .kv_heads = 2, .d = 24, .dv = 24, .segment = 128, .window = 100, .chunked = true},
    {.heads = 2, .kv_heads = 1, .d = 8, .dv = 8, .segment = 64, .window = 24, .chunked = true},
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
        for (int32_t threads = 1; threads <= RIG_FEW(i > 0 ? 3 : 1); threads++) {
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
        struct batch many = {0}; /* so many that rows share what is read, whatever the device */
        rows_of(&many, 0, 0, 84);
        rows_of(&many, 0, 0, 84);
        check(&g, &s, &p, &many);
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
    struct mb_attn_args a = {q, kv, pos, seq, page, 1, 1, 0, 0, false, 64, MB_NO_VIEW, MB_NO_VIEW};
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_OK);
    a.page_table = wrong; /* page 2 of 2 */
    assert_int_equal(rig_done(&g, g.ops->attention(g.s, out, &a)), MB_BUG);
    a.page_table = page;
    a.seq = wrong;
    assert_int_equal(rig_done(&g, g.ops->attention(g.s, out, &a)), MB_BUG);
    a.seq = seq;
    a.segment = 65;
    assert_int_equal(rig_done(&g, g.ops->attention(g.s, out, &a)), MB_BUG);
    assert_int_equal(rig_done(&g, g.ops->kv_append(g.s, kv, q, q, slots)), MB_BUG);
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
