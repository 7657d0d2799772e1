/* Benchmarks' arithmetic: medians, who lags, tournaments of nodes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>
#include "app/bench_nodes.h"
#include "app/bench_out.h"

static void test_median(void **state)
{
    (void)state;
    const double v[] = {5, 1, 4, 2, 100};
    assert_true(mb_bench_median(v, 5) == 4 && mb_bench_median(v, 4) == 3 && mb_bench_median(v, 1) == 5);
    assert_true(mb_bench_least(v, 5) == 1 && mb_bench_most(v, 5) == 100);
    assert_true(v[0] == 5 && v[4] == 100); /* the samples stay as they were taken */
}

static void test_slow(void **state)
{
    (void)state;
    const double v[] = {100, 99,  0, 94,
                        96,  101, 50}; /* the third was not measured; the median of the rest is 97.5 */
    const bool want[] = {false, false, false, false, false, false, true};
    bool slow[7];

    memset(slow, 1, sizeof slow);
    assert_true(mb_bench_slow(v, 7, 0.05, slow) == 97.5);
    assert_memory_equal(slow, want, sizeof want); /* 94 is 96.4 % of it */
    (void)mb_bench_slow(v, 7, 0.03, slow);
    assert_true(slow[3] && slow[6] && !slow[4]);
    const double none[] = {0, 0};
    assert_true(mb_bench_slow(none, 2, 0.05, slow) == 0 && !slow[0] && !slow[1]);
}

/* Every pair meets exactly once, and both know of it. */
static void test_tournament(void **state)
{
    enum { MOST = 33 };
    (void)state;
    for (int32_t n = 1; n <= MOST; n++) {
        int met[MOST][MOST] = {{0}};
        int32_t rounds = n - 1 + n % 2;
        for (int32_t r = 0; r < rounds; r++)
            for (int32_t i = 0; i < n; i++) {
                int32_t j = mb_bench_partner(n, r, i);
                assert_true(j >= -1 && j < n && j != i);
                if (j < 0)
                    continue;
                assert_int_equal(mb_bench_partner(n, r, j), i);
                met[i][j]++;
            }
        for (int32_t i = 0; i < n; i++)
            for (int32_t j = 0; j < n; j++)
                assert_int_equal(met[i][j], i != j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_median), cmocka_unit_test(test_slow),
                                       cmocka_unit_test(test_tournament)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
