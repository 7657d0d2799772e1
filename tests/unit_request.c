#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "job/request.h"

static struct mb_request *make(const char *id)
{
    struct mb_request *r = calloc(1, sizeof *r);
    assert_non_null(r);
    mb_sampling_init(&r->sampling);
    r->id.data = strdup(id);
    r->id.len = strlen(id);
    r->n = 1;
    return r;
}

static void test_defaults(void **state)
{
    struct mb_sampling s;
    (void)state;
    memset(&s, 0xff, sizeof s);
    mb_sampling_init(&s);
    assert_true(s.temperature == 1.0f && s.top_p == 1.0f && s.repetition == 1.0f);
    assert_true(s.min_p == 0.0f && s.frequency == 0.0f && s.presence == 0.0f);
    assert_int_equal(s.top_k, 0);
    assert_int_equal(s.max_tokens, -1);
    assert_int_equal(s.min_tokens, 0);
    assert_false(s.has_seed || s.ignore_eos);
    assert_null(s.bias);
}

/* Known answers by Python's xxhash: xxh3_64 of struct.pack("<4Q", tag, seed, choice, hash of the id). */
static void test_key(void **state)
{
    struct mb_request *r = make("req-7");
    (void)state;
    assert_true(mb_request_key(r, 42, 0) == UINT64_C(0x7f1a0cb657532d60));
    assert_true(mb_request_key(r, 42, 3) == UINT64_C(0xb0cc1c0976d57291));
    r->line = 1000; /* where the request lies has no say */
    assert_true(mb_request_key(r, 42, 3) == UINT64_C(0xb0cc1c0976d57291));
    r->sampling.has_seed = true;
    r->sampling.seed = UINT64_C(0xfedcba9876543210);
    assert_true(mb_request_key(r, 42, 0) == UINT64_C(0x25d2ca6159fcc6b8));
    assert_true(mb_request_key(r, 43, 1) == UINT64_C(0xd74f092dc2705657));
    mb_request_destroy(r);
}

static void test_destroy(void **state)
{
    struct mb_mem mem = {0};
    struct mb_request *r = make("a");
    (void)state;
    mb_request_destroy(NULL);
    mb_request_destroy(calloc(1, sizeof *r));
    r->n = 2;
    r->prompt = mb_zalloc(&mem, MB_MEM_REQUESTS, 3, sizeof *r->prompt);
    r->resume = mb_zalloc(&mem, MB_MEM_REQUESTS, 2, sizeof *r->resume);
    r->resume[1].forced = mb_zalloc(&mem, MB_MEM_REQUESTS, 5, sizeof(int32_t));
    r->stop[0].data = strdup("stop");
    r->n_stop = 1;
    r->adapter = strdup("x");
    r->error = strdup("y");
    r->sampling.bias = calloc(2, sizeof *r->sampling.bias);
    assert_true(mb_mem_total(&mem) > 0);
    mb_request_destroy(r);
    assert_int_equal(mb_mem_total(&mem), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
