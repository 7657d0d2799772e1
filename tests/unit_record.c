/* Packing, equality and digest fields of records. The expected row hashes were computed with Python's xxhash from the
 * rules of the digest, field by field. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "base/mb_math.h"
#include "records.h"

static void assert_hash(const struct mb_record *r, const char *want)
{
    struct mb_hasher *h = mb_hasher_create();
    char hex[33];
    mb_record_hash(r, h);
    mb_hash128_hex(mb_hasher_128(h), hex);
    assert_string_equal(hex, want);
    mb_hasher_destroy(h);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t line = 0; line < 60; line++) {
        for (int32_t c = 0; c < rec_choices(line); c++) {
            struct mb_record a, b;
            struct mb_bytes bytes = {0};
            rec_make(line, c, &a);
            a.bulk[MB_BULK_LOGITS] = (struct mb_extent){4096 * line, a.n_rows};
            assert_int_equal(mb_record_pack(&a, &bytes), MB_OK);
            assert_int_equal(mb_record_unpack(bytes.data, bytes.len, &b), MB_OK);
            assert_true(mb_record_equal(&a, &b));
            assert_int_equal(b.bulk[MB_BULK_LOGITS].offset, 4096 * line);
            assert_true(b.timing.total == a.timing.total && b.timing.tpot == a.timing.tpot);
            mb_record_fini(&a);
            mb_record_fini(&b);
            mb_bytes_fini(&bytes);
        }
    }
}

/* Cut anywhere, or longer than it says: refused. One flipped bit: refused, or another record, never a crash. */
static void test_malformed(void **state)
{
    (void)state;
    struct mb_record a, b;
    struct mb_bytes bytes = {0};
    rec_make(15, 0, &a);
    assert_int_equal(mb_record_pack(&a, &bytes), MB_OK);
    for (size_t n = 0; n < bytes.len; n++) {
        uint8_t *cut = malloc(n + 1); /* of its own, so that a sanitizer sees a read beyond */
        memcpy(cut, bytes.data, n);
        assert_int_equal(mb_record_unpack(cut, n, &b), MB_CORRUPT);
        free(cut);
    }
    for (size_t i = 0; i < bytes.len * 8; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        if (mb_record_unpack(bytes.data, bytes.len, &b) == MB_OK)
            mb_record_fini(&b);
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    assert_int_equal(mb_bytes_put(&bytes, "x", 1), MB_OK);
    assert_int_equal(mb_record_unpack(bytes.data, bytes.len, &b), MB_CORRUPT);
    mb_record_fini(&a);
    mb_bytes_fini(&bytes);
}

/* Gives a record the likeliest tokens of its prompt's. */
static void add_tops(struct mb_record *r, int32_t n)
{
    size_t all = (size_t)r->n_prompt * (size_t)n;
    r->prompt_top = (struct mb_tops){n, malloc(all * 4), malloc(all * 4)};
    assert_true(all > 0 && r->prompt_top.ids != NULL && r->prompt_top.logprobs != NULL);
    for (size_t i = 0; i < all; i++) {
        r->prompt_top.ids[i] = (int32_t)i;
        r->prompt_top.logprobs[i] = (float)i;
    }
}

static void test_prompt_tops(void **state)
{
    struct mb_record a, b;
    struct mb_record_head head;
    struct mb_bytes bytes = {0};
    (void)state;
    rec_make(15, 0, &a);
    add_tops(&a, 3);
    a.prompt_asked = true;
    assert_int_equal(mb_record_pack(&a, &bytes), MB_OK);
    assert_true(mb_record_peek(bytes.data, bytes.len, &head));
    assert_int_equal(head.prompt_top_n, 3);
    assert_int_equal(mb_record_unpack(bytes.data, bytes.len, &b), MB_OK);
    assert_true(mb_record_equal(&a, &b) && b.prompt_asked && !b.echo);
    b.prompt_top.logprobs[2] = -1;
    assert_false(mb_record_equal(&a, &b));
    mb_record_fini(&b);
    for (size_t n = 0; n < bytes.len; n++) {
        uint8_t *cut = malloc(n + 1);
        memcpy(cut, bytes.data, n);
        assert_int_equal(mb_record_unpack(cut, n, &b), MB_CORRUPT);
        free(cut);
    }
    for (size_t i = 0; i < bytes.len * 8; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
        if (mb_record_unpack(bytes.data, bytes.len, &b) == MB_OK)
            mb_record_fini(&b);
        bytes.data[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    free(a.prompt_top.ids);
    a.prompt_top.ids = NULL;
    assert_int_equal(mb_record_pack(&a, &bytes), MB_BUG);
    mb_record_fini(&a);
    mb_bytes_fini(&bytes);
}

/* Each change of one member must be seen by equal and by the content hash; timing and offsets must not. */
static void test_equal(void **state)
{
    (void)state;
    enum { CASES = 17 };
    for (int i = 0; i < CASES; i++) {
        struct mb_record a, b;
        struct mb_bytes pa = {0}, pb = {0};
        rec_make(15, 0, &a);
        rec_make(15, 0, &b);
        bool same = i >= CASES - 3;
        switch (i) {
        case 0: b.line++; break;
        case 1: b.id.data[0] ^= 1; break;
        case 2: b.kind = MB_KIND_ROLLING; break;
        case 3: b.status = MB_ROW_DEGRADED; break;
        case 4: b.finish = MB_FINISH_EOS; break;
        case 5: b.prompt_ids[b.n_prompt - 1] ^= 1; break;
        case 6: b.output_ids[0] ^= 1; break;
        case 7: b.output_logprobs[0] = mb_float_of(mb_bits_of(b.output_logprobs[0]) ^ 1); break;
        case 8: b.top_ids[0] ^= 1; break;
        case 9: b.top_logprobs[1] = 0.5f; break;
        case 10: b.logprob_sum += 1e-12; break;
        case 11: b.is_greedy ^= 1; break;
        case 12: b.text.data[0] ^= 1; break;
        case 13: b.bulk[MB_BULK_EXPERTS].rows = 3; break;
        case 14: b.timing.total = 99; break;
        case 15: b.bulk[MB_BULK_EXPERTS].offset = 99; break;
        default: /* NaN is NaN, whatever its payload */
            a.output_logprobs[0] = mb_float_of(0x7fc00001u);
            b.output_logprobs[0] = mb_float_of(0xffc00000u);
            break;
        }
        assert_int_equal(mb_record_equal(&a, &b), same);
        assert_int_equal(mb_record_pack(&a, &pa), MB_OK);
        assert_int_equal(mb_record_pack(&b, &pb), MB_OK);
        assert_int_equal(mb_record_content(pa.data, pa.len) == mb_record_content(pb.data, pb.len), same);
        mb_record_fini(&a);
        mb_record_fini(&b);
        mb_bytes_fini(&pa);
        mb_bytes_fini(&pb);
    }
}

static void test_hash(void **state)
{
    (void)state;
    int32_t prompt[2] = {5, 6}, out[3] = {7, 8, 2}, top[6] = {7, 9, 8, 1, 2, 0};
    float lp[3] = {-0.5f, -1.25f, -0.0f}, tlp[6] = {-0.5f, -1, -1.25f, -2, -0.0f, mb_float_of(0xffc00001u)};
    struct mb_record r = {
        .id = {(char *)"caf\xc3\xa9", 5}, .kind = MB_KIND_GENERATE, .finish = MB_FINISH_EOS, .choice = 1, .n = 2,
        .n_prompt = 2, .prompt_ids = prompt, .n_output = 3, .output_ids = out, .output_logprobs = lp, .top_n = 2,
        .top_ids = top, .top_logprobs = tlp, .logprob_sum = -1.75, .text = {(char *)"hi", 2},
        .adapter = {(char *)"de", 2}, /* no part of it: an adapter that gives the same is the same */
    };
    assert_hash(&r, "52ee812f37dd6bc6b6aec0122c7bb7fe");
    int32_t tops[4] = {-1, -1, 3, 9};
    float tops_lp[4] = {NAN, NAN, -0.125f, mb_float_of(0xffc00001u)};
    r.prompt_top = (struct mb_tops){2, tops, tops_lp}; /* the first token's are no part of it */
    assert_hash(&r, "35e4d588cd7cb5f4c1a24f1fc00745d3");
    tops[0] = 7;
    assert_hash(&r, "35e4d588cd7cb5f4c1a24f1fc00745d3");
    r.prompt_top.n = 0;
    assert_hash(&r, "52ee812f37dd6bc6b6aec0122c7bb7fe");
    r.status = MB_ROW_ERROR;
    assert_hash(&r, "a28708edec6cc99e78197ecf33f2ea52");
}

static void test_incomplete(void **state)
{
    (void)state;
    struct mb_record r = {.n = 1, .n_output = 2};
    struct mb_bytes b = {0};
    assert_int_equal(mb_record_pack(&r, &b), MB_BUG);
    assert_int_equal(b.len, 0);
    mb_bytes_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_malformed), cmocka_unit_test(test_equal), cmocka_unit_test(test_prompt_tops),
        cmocka_unit_test(test_hash),       cmocka_unit_test(test_incomplete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
