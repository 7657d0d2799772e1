/* An AMX unit that adds in another order than the contract is noticed before it computes anything. */
#define WRONG_ORDER
#include "wide_amx.c"
#include "device_help.h"
#include "device/cpu_tile.h"

static void test_wrong_order(void **state)
{
    (void)state;
    assert_false(mb_tile_self_test(MB_ISA_AMX));
    assert_true(mb_tile_self_test(MB_ISA_AVX512));
    struct rig g;
    struct mb_device_info info;
    assert_false(rig_open(&g, "amx", 1, MB_BF16)); /* asked for by name: refused */
    assert_true(rig_open(&g, "auto", 1, MB_BF16)); /* else the next best, with a warning */
    g.ops->info(g.dev, &info);
    assert_string_equal(info.isa, "avx512bf16, 1 thread");
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wrong_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
