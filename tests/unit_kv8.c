/* Pages of signed bytes: attention over them has the bits of attention over bf16 pages into which bf16(fl32(code * scale)) was put,
 * codes and scales worked out here. */
#include "device_help.h"

#include <math.h>

enum { POSITIONS = 200, PAGES = (POSITIONS + MB_KV_BLOCK - 1) / MB_KV_BLOCK };

struct shape {
    int32_t heads, kv_heads, d, dv;
    bool v_in_k;
};

/* The value that a page of bytes gives back. */
static void through_bytes(float *x, int64_t n)
{
    float most = 0;

    for (int64_t i = 0; i < n; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    volatile float s = most / 127;
    for (int64_t i = 0; i < n; i++) {
        volatile float q = x[i] / s, v = (float)nearbyint((double)q) * s;
        x[i] = s == 0 ? 0 : mb_bf16_float(mb_bf16_of(v));
    }
}

static float *draw(struct rig *g, int64_t rows, int64_t n)
{
    float *v = malloc((size_t)(rows * n) * sizeof *v);

    for (int64_t i = 0; i < rows * n; i++)
        v[i] = i / n % 9 == 4 ? 0 : rig_value(g, false) * (i / n % 5 == 1 ? 1e-3f : 1);
    return v;
}

static struct mb_kv *pages(struct rig *g, const struct shape *s, enum mb_dtype t)
{
    struct mb_kv_desc d = {.pages = PAGES + 1, .heads = s->kv_heads, .d = s->d, .dv = s->dv, .v_in_k = s->v_in_k, .dtype = t};
    struct mb_kv *kv;

    assert_int_equal(g->ops->kv_create(g->dev, &d, &kv), MB_OK);
    return kv;
}

static void append(struct rig *g, struct mb_kv *kv, const struct shape *s, const float *k, const float *v, struct mb_view slot)
{
    struct mb_view kv_k = rig_floats(g, k, POSITIONS, s->kv_heads * s->d, s->kv_heads * s->d, MB_F32), kv_v = MB_NO_VIEW;

    if (!s->v_in_k)
        kv_v = rig_floats(g, v, POSITIONS, s->kv_heads * s->dv, s->kv_heads * s->dv, MB_F32);
    assert_int_equal(g->ops->kv_append(g->s, kv, kv_k, kv_v, slot), MB_OK);
    rig_free(g, kv_k);
    if (!s->v_in_k)
        rig_free(g, kv_v);
}

static float *attend(struct rig *g, const struct shape *s, const struct mb_kv *kv, struct mb_view q, struct mb_view pos, struct mb_view seq,
                     struct mb_view table)
{
    struct mb_view out = rig_floats(g, NULL, q.rows, s->heads * s->dv, s->heads * s->dv, MB_F32);
    struct mb_attn_args a = {.q = q, .kv = kv, .pos = pos, .seq = seq, .page_table = table, .heads = s->heads, .scale = 0.11f,
                             .segment = 128};

    assert_int_equal(g->ops->attention(g->s, out, &a), MB_OK);
    float *v = rig_read(g, out);
    rig_free(g, out);
    return v;
}

static void one(struct rig *g, const struct shape *s)
{
    static const int32_t rows[] = {0, 3, 63, 64, 65, 66, 130, 199};
    enum { M = sizeof rows / sizeof rows[0] };
    int32_t slots[POSITIONS], order[PAGES], zero[M] = {0};
    float *k = draw(g, POSITIONS, s->kv_heads * s->d), *v = draw(g, POSITIONS, s->kv_heads * s->dv), *q = draw(g, M, s->heads * s->d);
    struct mb_kv *bytes = pages(g, s, MB_U8), *half = pages(g, s, MB_BF16);

    for (int32_t i = 0; i < PAGES; i++)
        order[i] = PAGES - i; /* page 0 stays empty */
    for (int32_t i = 0; i < POSITIONS; i++)
        slots[i] = order[i / MB_KV_BLOCK] * MB_KV_BLOCK + i % MB_KV_BLOCK;
    struct mb_view slot = rig_ints(g, slots, POSITIONS, 1), pos = rig_ints(g, rows, M, 1), seq = rig_ints(g, zero, M, 1),
                   table = rig_ints(g, order, 1, PAGES), qv = rig_floats(g, q, M, s->heads * s->d, s->heads * s->d, MB_BF16);
    append(g, bytes, s, k, v, slot);
    uint32_t mode = mb_fp_enter();
    for (int64_t i = 0; i < (int64_t)POSITIONS * s->kv_heads; i++) {
        through_bytes(k + i * s->d, s->d);
        through_bytes(v + i * s->dv, s->dv);
    }
    mb_fp_restore(mode);
    append(g, half, s, k, v, slot);
    float *a = attend(g, s, bytes, qv, pos, seq, table), *b = attend(g, s, half, qv, pos, seq, table);
    for (int64_t i = 0; i < (int64_t)M * s->heads * s->dv; i++) {
        assert_true(a[i] == b[i]);
        assert_false(isnan(a[i]));
    }
    free(a);
    free(b);
    g->ops->kv_free(bytes);
    g->ops->kv_free(half);
    rig_free(g, slot);
    rig_free(g, pos);
    rig_free(g, seq);
    rig_free(g, table);
    rig_free(g, qv);
    free(k);
    free(v);
    free(q);
}

static void test_attention(void **state)
{
    static const struct shape shapes[] = {{4, 2, 64, 64, false}, {3, 3, 18, 18, false}, {8, 1, 33, 20, true}, {5, 1, 96, 96, true}, {16, 2, 128, 64, false}};

    (void)state;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int32_t threads = 1; threads <= 3; threads += 2) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_BF16))
                continue;
            for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++)
                one(&g, &shapes[j]);
            rig_close(&g);
        }
}

/* A byte for an element, and four for each position, head, and key or value. */
static void test_bytes(void **state)
{
    struct mb_kv_desc d = {.pages = 1, .heads = 3, .d = 64, .dv = 32, .dtype = MB_U8};

    (void)state;
    assert_int_equal(mb_ops_find("cpu")->kv_page_bytes(&d), 3 * MB_KV_BLOCK * (64 + 32 + 8));
    d.v_in_k = true;
    assert_int_equal(mb_ops_find("cpu")->kv_page_bytes(&d), 3 * MB_KV_BLOCK * (64 + 4));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
