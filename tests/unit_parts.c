/* What a rank keeps of a weight (plan/parts.h), for every role, model and group size, against the rule of
 * leaves written down once more: shares are disjoint and complete, and what belongs together is cut alike. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include "plan/parts.h"

static struct mb_model *open_model(const char *name)
{
    const char *s = getenv("top_srcdir");
    struct mb_model *m = NULL;
    char dir[512];

    snprintf(dir, sizeof dir, "%s/tests/data/models/%s", s != NULL ? s : ".", name);
    assert_int_equal(mb_model_open(dir, 0, &m), MB_OK);
    return m;
}

/* doc/numerics, Leaves: units, leaves of K inputs, and the first input of leaf i. */
static int64_t leaves(int64_t K, int64_t unit)
{
    int64_t U = (K + unit - 1) / unit, S = K <= 512 ? 8 : K < 2048 ? 4 : K < 8192 ? 8 : 16;
    return U < S ? U : S;
}

static int64_t begin(int64_t K, int64_t unit, int64_t i)
{
    int64_t U = (K + unit - 1) / unit, at = i * U / leaves(K, unit) * unit;
    return at < K ? at : K;
}

/* The shares of `of` ranks of a sum over K inputs, as the cuts of p: rows if `rows`, else columns. */
static void check_share(struct mb_part_matrix p, bool rows, int64_t K, int64_t unit, int32_t r, int32_t of)
{
    int64_t S = leaves(K, unit), a = begin(K, unit, S * r / of), b = begin(K, unit, S * (r + 1) / of);

    assert_int_equal(rows ? p.n0 : p.k0, a);
    assert_int_equal(rows ? p.n1 : p.k1, b);
    assert_true(b > a);
}

static void check_whole(struct mb_part_matrix p, bool rows, int64_t n)
{
    assert_int_equal(rows ? p.n0 : p.k0, 0);
    assert_int_equal(rows ? p.n1 : p.k1, n);
}

static void check_ffn(const struct mb_model *m, enum mb_role gate, enum mb_role down, int64_t inner,
                      int32_t of)
{
    int64_t unit = inner > 512 ? 64 : 1;

    if (inner == 0 || of > leaves(inner, unit))
        return;
    for (int32_t r = 0; r < of; r++) {
        struct mb_part_matrix g = mb_part_matrix(m, gate, inner, m->hidden, r, of),
                              d = mb_part_matrix(m, down, m->hidden, inner, r, of);
        check_share(g, true, inner, unit, r, of);
        check_whole(g, false, m->hidden);
        assert_int_equal(g.unit, 0);
        check_share(d, false, inner, unit, r, of);
        check_whole(d, true, m->hidden);
        assert_int_equal(d.unit, unit);
    }
}

static void check_attention(const struct mb_model *m, int32_t of)
{
    int64_t inner = (int64_t)m->heads * m->v_dim, group = m->heads / m->kv_heads;

    if (of > leaves(inner, m->v_dim))
        return;
    for (int32_t r = 0; r < of; r++) {
        struct mb_part_matrix o = mb_part_matrix(m, MB_T_O, m->hidden, inner, r, of);
        check_share(o, false, inner, m->v_dim, r, of);
        check_whole(o, true, m->hidden);
        assert_int_equal(o.unit, m->v_dim);
        int64_t h0 = o.k0 / m->v_dim, h1 = o.k1 / m->v_dim; /* the heads are those of the outputs */
        for (int i = 0; i < 2; i++) {
            struct mb_part_matrix q =
                mb_part_matrix(m, i == 0 ? MB_T_Q : MB_T_Q_BPROJ, m->heads * m->head_dim, m->hidden, r, of);
            assert_int_equal(q.n0, h0 * m->head_dim);
            assert_int_equal(q.n1, h1 * m->head_dim);
            check_whole(q, false, m->hidden);
        }
        if (m->mla) {
            int64_t each = m->nope + m->v_dim;
            struct mb_part_matrix b = mb_part_matrix(m, MB_T_KV_B, m->heads * each, m->kv_lora, r, of),
                                  a = mb_part_matrix(m, MB_T_KV_A, m->kv_lora + m->rope_mla, m->hidden, r,
                                                     of);
            assert_int_equal(b.n0, h0 * each);
            assert_int_equal(b.n1, h1 * each);
            check_whole(a, true, m->kv_lora + m->rope_mla);
            check_whole(a, false, m->hidden);
            continue;
        }
        struct mb_part_matrix k = mb_part_matrix(m, MB_T_K, m->kv_heads * m->head_dim, m->hidden, r, of),
                              v = mb_part_matrix(m, MB_T_V, m->kv_heads * m->v_dim, m->hidden, r, of);
        for (int64_t g = 0; g < m->kv_heads; g++) { /* a KV head is here if one of its query heads is */
            bool need = h0 < (g + 1) * group && h1 > g * group;
            assert_int_equal(need, k.n0 <= g * m->head_dim && k.n1 >= (g + 1) * m->head_dim);
            assert_int_equal(need, v.n0 <= g * m->v_dim && v.n1 >= (g + 1) * m->v_dim);
        }
    }
}

static void test_parts(void **state)
{
    (void)state;
    static const char *const names[] = {"mixtral_a",    "qwen3moe_b",   "qwen2moe_a",
                                        "deepseekv3_a", "deepseekv2_b", "dbrx_a",
                                        "olmoe_b",      "gptoss_a",     "llama_a"};
    int checked = 0;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct mb_model *m = open_model(names[i]);
        for (int32_t of = 1; of <= MB_MAX_LEAVES; of++, checked++) {
            check_attention(m, of);
            check_ffn(m, MB_T_GATE, MB_T_DOWN, m->ffn, of);
            check_ffn(m, MB_T_UP, MB_T_DOWN, m->ffn, of);
            check_ffn(m, MB_T_SH_GATE, MB_T_SH_DOWN, m->shared_ffn, of);
            check_ffn(m, MB_T_SH_UP, MB_T_SH_DOWN, m->shared_ffn, of);
            check_ffn(m, MB_T_E_GATE, MB_T_E_DOWN, m->expert_ffn, of);
            check_ffn(m, MB_T_E_UP, MB_T_E_DOWN, m->expert_ffn, of);
        }
        mb_model_destroy(m);
    }
    assert_int_equal(checked, 9 * MB_MAX_LEAVES);
}

/* Widths of published models, whose leaves are wider than one unit. */
static void test_widths(void **state)
{
    (void)state;
    static const int64_t widths[] = {1408, 2048, 2816, 10752, 14336, 18432, 32768, 513};
    struct mb_model *m = open_model("mixtral_a");

    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        for (int32_t of = 1; of <= MB_MAX_LEAVES; of++)
            check_ffn(m, MB_T_E_GATE, MB_T_E_DOWN, widths[i], of);
    }
    mb_model_destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts), cmocka_unit_test(test_widths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
