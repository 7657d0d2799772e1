/* What mb_json_parse reads beyond JSON: the numbers that Python's json module writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <string.h>
#include "base/json.h"

static json_t *parse(const char *text)
{
    json_t *v = NULL;
    char err[200];
    return mb_json_parse(text, strlen(text), "x", MB_REQUEST, err, sizeof err, &v) == MB_OK ? v : NULL;
}

static void real(const char *text, double want)
{
    json_t *v = parse(text);
    assert_true(json_is_real(v));
    assert_true(json_real_value(v) == want);
    json_decref(v);
}

static void test_numbers(void **state)
{
    (void)state;
    real("1000000000000000019884624838656", 1e30);
    real("9223372036854775808", 9223372036854775808.0);
    real("-9223372036854775809", -9223372036854775808.0);
    real("12345678901234567890", 12345678901234567168.0);
    real("1e400", DBL_MAX);
    real("-1e400", -DBL_MAX);
    real("1e-400", 0);
    real("Infinity", DBL_MAX);
    real("-Infinity", -DBL_MAX);
    json_t *v = parse("9223372036854775807");
    assert_true(json_is_integer(v) && json_integer_value(v) == INT64_MAX);
    json_decref(v);
    v = parse("-9223372036854775808");
    assert_true(json_is_integer(v) && json_integer_value(v) == INT64_MIN);
    json_decref(v);
}

/* Strings keep what looks like numbers, and what is around a number is as it was. */
static void test_places(void **state)
{
    (void)state;
    json_t *v = parse("{\"NaN 99999999999999999999 \\\"1e999\": "
                      "[\"Infinity\\\\\",1e999,NaN,99999999999999999999,{\"a\":-Infinity}],"
                      "\"z\":1}");
    json_t *list = json_object_get(v, "NaN 99999999999999999999 \"1e999");
    assert_int_equal(json_array_size(list), 5);
    assert_string_equal(json_string_value(json_array_get(list, 0)), "Infinity\\");
    assert_string_equal(json_string_value(json_array_get(list, 2)), "NaN");
    assert_true(json_real_value(json_array_get(list, 3)) == 1e20);
    assert_true(json_real_value(json_object_get(json_array_get(list, 4), "a")) == -DBL_MAX);
    assert_int_equal(json_integer_value(json_object_get(v, "z")), 1);
    json_decref(v);
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "NaN1",    "Infinit", "1e9991.5.5", "--1",     "{\"a\":1e999",
        "\"1e999", "nan",     "+1",         "1e999 x", "{99999999999999999999:1}",
        "\"\\",    "-",       "01"};
    char digits[5001];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(parse(bad[i]));
    memset(digits, '7', 5000); /* Python refuses more than 4300 digits */
    digits[5000] = 0;
    assert_null(parse(digits));
    digits[4000] = 0;
    real(digits, DBL_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
