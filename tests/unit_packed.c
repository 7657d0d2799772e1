/* Decoding of packed weights against values worked out by hand: what no reference model holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "base/log.h"
#include "model/packed.h"
#include "model/reader.h"

/* Values of n rows. The table's entry says where parts lie; here they are where `in` points. */
static enum mb_status decode(struct mb_packed p, const struct mb_packed_parts *in, int64_t i0, int64_t n, float *out)
{
    static float blob[4096];
    struct mb_form f;

    p.zero.bytes = in->zero != NULL;
    p.g_idx.bytes = in->g_idx != NULL;
    p.tensor_scale.bytes = in->tensor_scale != NULL;
    enum mb_status st = mb_packed_rows(&p, in, i0, n, blob, "t");
    if (st != MB_OK)
        return st;
    mb_packed_form(&p, &f);
    struct mb_host_matrix m = mb_host_stored(&f, n, p.k, blob);
    mb_host_to_f32(&m, out);
    return MB_OK;
}

static void test_mxfp4(void **state)
{
    struct mb_packed p = {.packing = MB_PACK_MXFP4,
                          .bits = 4,
                          .n = 2,
                          .k = 32,
                          .groups = 1,
                          .group = 32,
                          .row_step = 2,
                          .row0 = 1};
    uint8_t code[64], scale[4] = {127, 0, 127, 255}; /* stored rows 0 to 3: logical rows are 1 and 3 */
    struct mb_packed_parts in = {.code = code + 16, .scale = scale + 1};
    float out[64];
    uint64_t off, bytes;

    (void)state;
    memset(code, 0, sizeof code);
    mb_packed_codes(&p, 0, 2, &off, &bytes);
    assert_int_equal(off, 16);
    assert_int_equal(bytes, 48);
    mb_packed_scales(&p, 0, 2, &off, &bytes);
    assert_int_equal(off, 1);
    assert_int_equal(bytes, 3);
    code[16] = 0x7f; /* low nibble 15: -6, high nibble 7: 6 */
    code[17] = 0x21; /* 0.5, 1 */
    /* an exponent of 0 stands for 2^-127: 6 * 2^-127 is normal, 1 * 2^-127 is below 2^-126 and zero */
    assert_int_equal(decode(p, &in, 0, 1, out), MB_OK);
    assert_true(out[0] == -6 * 0x1p-127f && out[1] == 6 * 0x1p-127f && out[2] == 0 && out[3] == 0);
    mb_log_set_quiet(true);
    assert_int_equal(decode(p, &in, 0, 2, out), MB_MODEL); /* 255 is NaN */
    mb_log_set_quiet(false);
    scale[1] = 130;
    scale[3] = 254;
    code[48] = 0x03; /* 1.5 */
    assert_int_equal(decode(p, &in, 0, 2, out), MB_OK);
    assert_true(out[0] == -48 && out[1] == 48 && out[2] == 4 && out[3] == 8);
    assert_true(out[32] == 1.5f * 0x1p127f);
    code[48] = 0x07;
    assert_int_equal(decode(p, &in, 0, 2, out), MB_OK);
    assert_true(isinf(out[32]));
}

/* Zero points of GPTQ are stored minus 1 and reach 16; columns name their group. */
static void test_gptq(void **state)
{
    struct mb_packed p = {.packing = MB_PACK_GPTQ,
                          .bits = 4,
                          .zero_add = 1,
                          .scale_storage = MB_STORE_F32,
                          .n = 8,
                          .k = 8,
                          .groups = 2,
                          .group = 4,
                          .row_step = 1};
    uint32_t code[8], zero[2] = {0x0000000f, 0x00000007};
    float scale[16], out[64];
    int32_t g_idx[8] = {1, 0, 1, 0, 1, 0, 1, 0};
    struct mb_packed_parts in = {.code = code, .scale = scale, .zero = zero, .g_idx = g_idx};

    (void)state;
    for (int i = 0; i < 8; i++)
        code[i] = 0x76543210;
    for (int i = 0; i < 16; i++)
        scale[i] = i < 8 ? 0.5f : 2;
    assert_int_equal(decode(p, &in, 0, 1, out), MB_OK);
    for (int j = 0; j < 8; j++)
        assert_true(out[j] == (j % 2 ? ((float)j - 16) * 0.5f : ((float)j - 8) * 2));
    mb_log_set_quiet(true);
    g_idx[5] = 2;
    assert_int_equal(decode(p, &in, 0, 1, out), MB_MODEL);
    g_idx[5] = -1;
    assert_int_equal(decode(p, &in, 0, 1, out), MB_MODEL);
    mb_log_set_quiet(false);
}

/* Eight bits, version 2, row 5 of 6: three codes a word are not used. */
static void test_gptq8(void **state)
{
    struct mb_packed p = {.packing = MB_PACK_GPTQ,
                          .bits = 8,
                          .scale_storage = MB_STORE_F32,
                          .n = 6,
                          .k = 5,
                          .groups = 1,
                          .group = 5,
                          .row_step = 1};
    uint32_t code[12] = {0}, zero[2] = {0, 128u << 8};
    float scale[6] = {0, 0, 0, 0, 0, 0.25f}, out[5];
    struct mb_packed_parts in = {.code = code, .scale = scale, .zero = zero};

    (void)state;
    code[5] = 4u << 24 | 3u << 16 | 2u << 8 | 255u;
    code[11] = 128;
    assert_int_equal(decode(p, &in, 5, 1, out), MB_OK);
    assert_true(out[0] == 127 * 0.25f && out[1] == -126 * 0.25f && out[2] == -125 * 0.25f &&
                out[3] == -124 * 0.25f && out[4] == 0);
}

static void test_int8(void **state)
{
    struct mb_packed p = {.packing = MB_PACK_I8,
                          .bits = 8,
                          .scale_storage = MB_STORE_BF16,
                          .n = 2,
                          .k = 3,
                          .groups = 1,
                          .group = 3,
                          .row_step = 1};
    int8_t code[6] = {-128, 127, 0, 1, -1, 2};
    uint16_t scale[2] = {0x3f00, 0x4000}; /* 0.5, 2 */
    struct mb_packed_parts in = {.code = code, .scale = scale};
    static const float want[6] = {-64, 63.5f, 0, 2, -2, 4};
    float out[6];

    (void)state;
    assert_int_equal(decode(p, &in, 0, 2, out), MB_OK);
    assert_memory_equal(out, want, sizeof want);
}

/* A table that came over the network, or of a hostile file: sizes that do not fit each other. */
static void test_fits(void **state)
{
    const uint64_t file = 1000;
    const struct mb_packed good = {.packing = MB_PACK_INTS,
                                   .bits = 4,
                                   .scale_storage = MB_STORE_F32,
                                   .n = 8,
                                   .k = 16,
                                   .groups = 2,
                                   .group = 8,
                                   .row_step = 1,
                                   .code = {0, 64, 0},
                                   .scale = {64, 64, 0}};
    struct mb_packed p;

    (void)state;
    assert_true(mb_packed_fits(&good, &file, 1));
#define BAD(change)                                                                                          \
    do {                                                                                                     \
        p = good;                                                                                            \
        change;                                                                                              \
        assert_false(mb_packed_fits(&p, &file, 1));                                                          \
    } while (0)
    BAD(p.packing = MB_PACKINGS);
    BAD(p.bits = 0);
    BAD(p.bits = 3);
    BAD(p.n = 0);
    BAD(p.k = -1);
    BAD(p.groups = 0);
    BAD(p.group = 7);
    BAD(p.row_step = 3);
    BAD(p.row0 = 1);
    BAD(p.n = 9);
    BAD(p.k = 17);
    BAD(p.code.file = 1);
    BAD(p.code.bytes = 63);
    BAD(p.scale.offset = 937);
    BAD(p.scale.offset = UINT64_MAX);
    BAD(p.scale.bytes = 63);
    BAD(p.zero = ((struct mb_packed_bytes){0, 7, 0}));
    BAD(p.g_idx = ((struct mb_packed_bytes){0, 63, 0}));
    BAD(p.packing = MB_PACK_AWQ);
    BAD(p.scale_storage = 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mxfp4), cmocka_unit_test(test_gptq),
                                       cmocka_unit_test(test_gptq8), cmocka_unit_test(test_int8),
                                       cmocka_unit_test(test_fits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
