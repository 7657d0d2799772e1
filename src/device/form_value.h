/* What a stored code means (device/form.h): types and the values of elements. Read by compilers for devices, too. Pure, Local. */
#ifndef MB_DEVICE_FORM_VALUE_H
#define MB_DEVICE_FORM_VALUE_H
#include <stdbool.h>
#include "base/mb_math_inl.h"

enum mb_storage {
    MB_STORE_F32,
    MB_STORE_F16,
    MB_STORE_BF16,
    MB_STORE_F8E4M3,
    MB_STORE_F8E5M2,
    MB_STORE_CODES /* of host matrices only: struct mb_host_codes */
};
#define MB_STORE_LAST MB_STORE_F8E5M2 /* of files */
#define MB_SCALE_E8M0 (MB_STORE_CODES + 1)
MB_INLINE bool mb_storage_fp8(enum mb_storage s)
{
    return s == MB_STORE_F8E4M3 || s == MB_STORE_F8E5M2;
}
MB_INLINE int64_t mb_storage_size(enum mb_storage s)
{
    return s == MB_STORE_F32 ? 4 : mb_storage_fp8(s) ? 1 : 2;
}

enum mb_code { MB_CODE_NONE, MB_CODE_FP4, MB_CODE_INT, MB_CODE_E4M3, MB_CODE_E5M2, MB_CODE_S8 };
enum mb_whole { MB_WHOLE_NONE, MB_WHOLE_TIMES, MB_WHOLE_OVER };

/* Without padding, so that two are equal if their bytes are. code NONE: a weight in its own type, all else 0.
 */
struct mb_form {
    uint8_t code;  /* enum mb_code */
    uint8_t bits;  /* 4 or 8 */
    uint8_t scale; /* enum mb_storage of scales, or MB_SCALE_E8M0 */
    uint8_t zeros; /* 1: a byte beside every scale */
    uint8_t whole; /* enum mb_whole: rows have a second scale, in f32 */
    uint8_t g_idx; /* columns name their groups; in a weight made of several matrices: how many, each its own
                      way */
    int16_t zero_add;
    int32_t group, groups; /* columns of a group; groups of the whole matrix */
    int64_t k0;            /* column of the whole matrix of the weight's first one */
};
MB_INLINE int64_t mb_form_scale_size(const struct mb_form *f)
{
    return f->scale == MB_SCALE_E8M0 ? 1 : mb_storage_size((enum mb_storage)f->scale);
}
/* 0, 0.5, 1, 1.5, 2, 3, 4, 6, and these negative */
MB_INLINE float mb_fp4_float(uint8_t code)
{
    uint32_t e = code >> 1 & 3, m = code & 1, sign = (uint32_t)(code & 8) << 28;
    return mb_float_of(sign | (e > 0 ? (e + 126) << 23 | m << 22 : m * 0x3f000000u));
}
/* m * 2^(e - 127) without a product, whose operands might be subnormal: what is below 2^-126 is zero. m: 0,
 * or of an exponent near 0. */
MB_INLINE float mb_mx_float(float m, int e)
{
    uint32_t bits = mb_bits_of(m), exponent = (bits >> 23 & 255) + (uint32_t)e;

    if (m == 0)
        return m;
    if (exponent <= 127) /* a sum of 127 or less is below the smallest normal */
        return 0;
    exponent -= 127;
    return mb_float_of(exponent >= 255 ? (bits & 0x80000000u) | 0x7f800000u
                                       : (bits & 0x807fffffu) | exponent << 23);
}
/* Element `at` of an array of scales; of E8M0 the exponent itself. whole: the row's second scale. */
MB_INLINE float mb_form_scale(const struct mb_form *f, const void *scale, int64_t at, float whole)
{
    const uint8_t *p = (const uint8_t *)scale + at * mb_form_scale_size(f);
    uint16_t h;
    float s;

    switch (f->scale) {
    case MB_SCALE_E8M0:
        return (float)*p;
    case MB_STORE_F32:
        memcpy(&s, p, sizeof s);
        break;
    case MB_STORE_F16:
    case MB_STORE_BF16:
        memcpy(&h, p, sizeof h);
        s = f->scale == MB_STORE_F16 ? mb_f16_float_inl(h) : mb_bf16_float(h);
        break;
    case MB_STORE_F8E4M3:
        s = mb_fp8_float_inl(*p);
        break;
    default:
        s = mb_f8e5m2_float_inl(*p);
    }
    s = f->whole == MB_WHOLE_TIMES ? s * whole : f->whole == MB_WHOLE_OVER ? s / whole : s;
    return fabsf(s) < 0x1p-126f ? 0 : s;
}
/* q: the code as a number, less its zero point; s: of mb_form_scale. */
MB_INLINE float mb_form_value(const struct mb_form *f, float q, float s)
{
    return f->scale == MB_SCALE_E8M0 ? mb_mx_float(q, (int)s) : q * s;
}
MB_INLINE float mb_form_number(const struct mb_form *f, uint8_t code, uint8_t zero)
{
    switch (f->code) {
    case MB_CODE_FP4:
        return mb_fp4_float(code);
    case MB_CODE_INT:
        return (float)((int)code - (int)zero - f->zero_add);
    case MB_CODE_E4M3:
        return mb_fp8_float_inl(code);
    default:
        return mb_f8e5m2_float_inl(code);
    }
}
#endif
