/* UTF-8: validity and repair against Python, Unicode forms against utf8proc's own path, linear time on
 * hostile marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <utf8proc.h>
#include "base/clock.h"
#include "base/hash.h"
#include "text/norm.h"
#include "text/tokenizer.h"
#include "base/utf8.h"

/* Every sequence of 1 to 4 of these bytes, in the order of itertools.product; the digest is that of
 * bytes.decode("utf-8", "replace").encode() + b"\xff" of all of them, by Python 3.11 (xxhash.xxh3_128). */
static const uint8_t edge[] = {0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
                               0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff};

static void test_repair_all(void **state)
{
    (void)state;
    struct mb_hasher *h = mb_hasher_create();
    struct mb_bytes out = {0};
    long valid = 0, all = 0;
    char hex[33];
    for (int k = 1; k <= 4; k++) {
        long n = 1;
        for (int i = 0; i < k; i++)
            n *= (long)sizeof edge;
        for (long x = 0; x < n; x++) {
            char s[4];
            long y = x;
            for (int i = k - 1; i >= 0; i--, y /= (long)sizeof edge)
                s[i] = (char)edge[y % (long)sizeof edge];
            out.len = 0;
            assert_int_equal(mb_utf8_repair(s, (size_t)k, false, &out), MB_OK);
            bool same = out.len == (size_t)k && memcmp(out.data, s, out.len) == 0;
            assert_int_equal(mb_utf8_valid(s, (size_t)k), same);
            assert_true(mb_utf8_valid((char *)out.data, out.len));
            valid += same;
            all++;
            mb_hasher_put(h, out.data, out.len);
            mb_hasher_put(h, "\xff", 1);
        }
    }
    mb_hash128_hex(mb_hasher_128(h), hex);
    mb_hasher_destroy(h);
    mb_bytes_fini(&out);
    assert_int_equal(all, 406900);
    assert_int_equal(valid, 2580);
    assert_string_equal(hex, "d0b25099731722f47d97af0a7f15d0ae");
}

static void test_repair_nul(void **state)
{
    (void)state;
    struct mb_bytes out = {0};
    assert_int_equal(mb_utf8_repair("a\0b\xff", 4, true, &out), MB_OK);
    assert_int_equal(out.len, 8);
    assert_memory_equal(out.data, "a" MB_FFFD "b" MB_FFFD, 8);
    out.len = 0;
    assert_int_equal(mb_utf8_repair("a\0b", 3, false, &out), MB_OK);
    assert_int_equal(out.len, 3);
    out.len = 0;
    assert_int_equal(mb_utf8_repair(NULL, 0, true, &out), MB_OK);
    assert_int_equal(out.len, 0);
    mb_bytes_fini(&out);
    assert_true(mb_utf8_valid("", 0));
}

/* Every code point survives encoding and stepping; back finds its start. */
static void test_step(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        char s[8] = "x";
        uint32_t got = 0;
        bool cut;
        if (cp >= 0xd800 && cp < 0xe000)
            continue;
        int k = mb_utf8_put(cp, s + 1);
        assert_int_equal(mb_utf8_step((uint8_t *)s + 1, (size_t)k, &got, &cut), k);
        assert_int_equal(got, cp);
        assert_int_equal(mb_utf8_back(s, 1 + (size_t)k), 1);
        for (int i = 1; i < k; i++) { /* a cut character is a start, not an error */
            assert_int_equal(mb_utf8_step((uint8_t *)s + 1, (size_t)i, &got, &cut), -i);
            assert_true(cut);
        }
    }
}

static void check_form(const struct mb_bytes *s, bool compat, bool compose)
{
    struct mb_bytes out = {0};
    uint8_t *want = NULL;
    int opt =
        UTF8PROC_STABLE | (compat ? UTF8PROC_COMPAT : 0) | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    utf8proc_ssize_t n = utf8proc_map(s->data, (utf8proc_ssize_t)s->len, &want, (utf8proc_option_t)opt);
    assert_true(n >= 0);
    assert_int_equal(mb_unicode_form((char *)s->data, s->len, compat, compose, &out), MB_OK);
    assert_int_equal(out.len, n);
    assert_memory_equal(out.data, want, out.len);
    free(want);
    mb_bytes_fini(&out);
}

static void test_forms(void **state)
{
    (void)state;
    static const uint32_t some[] = {'a',     'e',     ' ',    0xe9,   0x301,   0x323,  0x327,  0x345,
                                    0x1100,  0x1161,  0x11a8, 0xac00, 0xfb01,  0x1e9b, 0x212b, 0x2126,
                                    0x3099,  0x304b,  0x5d0,  0x5b0,  0x591,   0xf71,  0xf72,  0xf73,
                                    0x1d15e, 0x2f800, 0x0,    0x200d, 0x1f600, 0x9bc};
    uint32_t seed = 1;
    struct mb_bytes s = {0};
    for (int round = 0; round < 20000; round++) {
        s.len = 0;
        seed = seed * 1664525u + 1013904223u;
        int n = 1 + (int)(seed >> 28);
        for (int i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            assert_int_equal(mb_utf8_append(&s, some[(seed >> 16) % (sizeof some / sizeof *some)]), MB_OK);
        }
        for (int f = 0; f < 4; f++)
            check_form(&s, f & 1, f & 2);
    }
    mb_bytes_fini(&s);
}

/* Two marks of different class in turns, never sorted: quadratic in utf8proc, must be quick here. */
static void test_forms_hostile(void **state)
{
    (void)state;
    struct mb_bytes s = {0}, out = {0};
    for (int i = 0; i < 500000; i++)
        assert_int_equal(mb_bytes_put(&s, i % 2 ? "\xcc\xa3" : "\xcc\x81", 2), MB_OK);
    double t = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(mb_unicode_form((char *)s.data, s.len, false, true, &out), MB_OK);
    t = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID) - t;
    assert_int_equal(out.len, s.len);
    assert_memory_equal(out.data, "\xcc\xa3\xcc\xa3", 4);
    assert_memory_equal(out.data + out.len - 4, "\xcc\x81\xcc\x81", 4);
    assert_true(t < 10);
    mb_bytes_fini(&s);
    mb_bytes_fini(&out);
}

static void test_classes(void **state)
{
    (void)state;
    static const uint32_t spaces[] = {9,      10,     13,     32,     0x85,   0xa0,   0x1680,
                                      0x2000, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    int n = 0;
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        assert_true(mb_is_space(spaces[i]));
    for (uint32_t cp = 0; cp < 0x110000; cp++)
        n += mb_is_space(cp);
    assert_int_equal(n, 25); /* White_Space of Unicode has 25 members */
    assert_true(mb_is_word('_') && mb_is_word('7') && mb_is_word(0x4e2d) && mb_is_word(0x301) &&
                mb_is_word(0x200d));
    assert_false(mb_is_word('-') || mb_is_word(' ') || mb_is_word(0xb2));
    assert_true(mb_is_number('0') && mb_is_number(0xbd) && mb_is_number(0x2163) && !mb_is_number('a'));
    assert_true(mb_is_punct('!') && mb_is_punct('$') && mb_is_punct(0x3002) && !mb_is_punct('a') &&
                !mb_is_punct(0x20ac));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repair_all),    cmocka_unit_test(test_repair_nul),
        cmocka_unit_test(test_step),          cmocka_unit_test(test_forms),
        cmocka_unit_test(test_forms_hostile), cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
