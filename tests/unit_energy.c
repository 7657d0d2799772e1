/* Energy counters of a machine that is made of files. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/energy.h"
#include "tmpdir.h"

static void put(const char *root, const char *zone, const char *name, const char *value)
{
    char path[512];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", root, zone);
    (void)mkdir(path, 0755); /* may be there */
    snprintf(path, sizeof path, "%s/%s/%s", root, zone, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(value, f) >= 0 && fclose(f) == 0);
}

static void test_energy(void **state)
{
    (void)state;
    char *root = tmpdir_make();
    struct mb_energy a, b, none;

    mb_energy_read(root, &none);
    assert_true(none.n == 0 && strstr(none.why, "no package") != NULL);
    put(root, "intel-rapl:0", "energy_uj", "1500000\n");
    put(root, "intel-rapl:0", "max_energy_range_uj", "262143328850\n");
    put(root, "intel-rapl:1", "energy_uj", "9000000\n");
    put(root, "intel-rapl:1", "max_energy_range_uj", "10000000\n");
    put(root, "intel-rapl:0:0", "energy_uj", "77\n"); /* a part of the first */
    put(root, "intel-rapl", "energy_uj", "1\n");
    mb_energy_read(root, &a);
    assert_int_equal(a.n, 2);
    put(root, "intel-rapl:0", "energy_uj", "3500000\n");
    put(root, "intel-rapl:1", "energy_uj", "500000\n"); /* began again */
    mb_energy_read(root, &b);
    double j = mb_energy_between(&a, &b);
    assert_true(j > 3.499999 && j < 3.500001);
    assert_true(mb_energy_between(&none, &b) < 0 && mb_energy_between(&a, &none) < 0);
    put(root, "intel-rapl:1", "energy_uj", "nothing\n");
    mb_energy_read(root, &b);
    assert_true(b.n == 0 && strstr(b.why, "intel-rapl:1") != NULL && mb_energy_between(&a, &b) < 0);
    mb_energy_read("/nonono", &b);
    assert_true(b.n == 0 && strstr(b.why, "No such file") != NULL);
    tmpdir_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_energy)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
