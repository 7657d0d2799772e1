/* What is guessed, held against a naive search, and how many guesses pay, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "draw.h"
#include "engine/draft.h"
#include "engine/ngram.h"

#define LONG 300

/* The longest run of the last ids that ends somewhere before the end, at most MB_NGRAM_MOST; the last such
 * place. -1: none. */
static int64_t naive(const int32_t *ids, int64_t n)
{
    for (int64_t k = MB_NGRAM_MOST; k >= MB_NGRAM_LEAST; k--) {
        for (int64_t end = n - 1; end >= k; end--) {
            if (n >= k && memcmp(ids + end - k, ids + n - k, sizeof *ids * (size_t)k) == 0)
                return end;
        }
    }
    return -1;
}

static void texts_repeat_themselves(void **state)
{
    int32_t ids[LONG + MB_DRAFTS_MOST];
    int64_t found = 0;

    (void)state;
    state_of_draw = 3;
    for (int round = 0; round < 20000; round++) {
        int64_t n = 1 + draw(LONG);
        int32_t letters = 1 + draw(40), most = 1 + draw(MB_DRAFTS_MOST);
        for (int64_t i = 0; i < n; i++)
            ids[i] = draw(letters);
        for (int32_t i = 0; i < MB_DRAFTS_MOST; i++)
            ids[n + i] = -7;
        int64_t at = naive(ids, n);
        assert_int_equal(mb_ngram_guess(ids, n, most), at < 0 ? 0 : most);
        for (int32_t i = 0; i < most && at >= 0; i++)
            assert_int_equal(ids[n + i], ids[at + i]); /* also where that is a guess itself */
        for (int32_t i = at < 0 ? 0 : most; i < MB_DRAFTS_MOST; i++)
            assert_int_equal(ids[n + i], -7);
        found += at >= 0;
    }
    assert_in_range(found, 5000, 19000);
}

/* Steps of so much, and so much more with each row. */
static struct mb_draft_sums steps(double fixed, double row)
{
    struct mb_draft_sums s = {0};

    for (int i = 0; i < 500; i++)
        mb_draft_time(&s, 8 + i % 30, fixed + row * (8 + i % 30));
    return s;
}

static void costs_are_learned(void **state)
{
    struct mb_draft_sums s = steps(10, 0.1), dear = steps(0.01, 1), none = {0};

    (void)state;
    /* beside 8 rows that draw, a row costs 0.1 of 10.8, in which 8 tokens come */
    assert_true(mb_draft_price(&s, 8, 8) > 0.074 && mb_draft_price(&s, 8, 8) < 0.0742);
    assert_true(mb_draft_price(&dear, 8, 8) > 0.99);
    assert_true(mb_draft_price(&none, 8, 8) == 0.5);
    assert_int_equal(mb_draft_count(0.5, mb_draft_price(&s, 8, 8), 16), 3); /* 1/2, 1/4, 1/8 */
    assert_int_equal(mb_draft_count(0.98, mb_draft_price(&dear, 8, 8), 16), 0);
    assert_int_equal(mb_draft_count(1, 0.9, 4), 4);
    for (int i = 0; i < 64; i++)
        mb_draft_judge(&s, i % 10 > 0);
    assert_true(mb_draft_hits(&s) > 0.88 && mb_draft_hits(&s) < 0.92);
    assert_true(mb_draft_module_pays(&s, 0.1, 8, 8)); /* 1.9 tokens at 1.1 x 11.6 for one at 10.8 */
    for (int i = 0; i < 300; i++)
        mb_draft_judge(&s, false);
    assert_true(mb_draft_hits(&s) < 0.02);
    assert_false(mb_draft_module_pays(&s, 0.1, 8, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_repeat_themselves),
        cmocka_unit_test(costs_are_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
