/* The AVX512_VNNI kernel's source with its instructions in plain C, and once with one that saturates: what is not tested so are the
 * instructions themselves. */
#include <immintrin.h>
#include <string.h>
#include "device/cpu_s8.h"

struct lanes {
    int32_t v[16];
};

static struct lanes set(int32_t v)
{
    struct lanes r;
    for (int i = 0; i < 16; i++)
        r.v[i] = v;
    return r;
}
static struct lanes load(const void *p)
{
    struct lanes r;
    memcpy(&r, p, sizeof r);
    return r;
}
static void keep(void *p, struct lanes a)
{
    memcpy(p, &a, sizeof a);
}
static struct lanes plus(struct lanes a, struct lanes b, int sign)
{
    for (int i = 0; i < 16; i++)
        a.v[i] = (int32_t)((uint32_t)a.v[i] + (uint32_t)sign * (uint32_t)b.v[i]);
    return a;
}
/* unsigned bytes of a times signed ones of b; wrong: sums beyond 16 bits are cut, as VPMADDUBSW does */
static struct lanes products(struct lanes sum, struct lanes a, struct lanes b, bool wrong)
{
    for (int i = 0; i < 16; i++) {
        uint8_t u[4];
        int8_t s[4];
        int32_t pair[2] = {0, 0};
        memcpy(u, &a.v[i], 4);
        memcpy(s, &b.v[i], 4);
        for (int k = 0; k < 4; k++)
            pair[k / 2] += u[k] * s[k];
        for (int p = 0; p < 2 && wrong; p++)
            pair[p] = pair[p] > 32767 ? 32767 : pair[p] < -32768 ? -32768 : pair[p];
        sum.v[i] = (int32_t)((uint32_t)sum.v[i] + (uint32_t)(pair[0] + pair[1]));
    }
    return sum;
}

#define KERNEL static inline
#define TARGET
#define __m512i struct lanes
#define _mm512_setzero_si512() set(0)
#define _mm512_set1_epi8(c) set((int32_t)(0x01010101u * (uint8_t)(c)))
#define _mm512_set1_epi32(c) set(c)
#define _mm512_loadu_si512(p) load(p)
#define _mm512_storeu_si512(p, a) keep(p, a)
#define _mm512_add_epi32(a, b) plus(a, b, 1)
#define _mm512_sub_epi32(a, b) plus(a, b, -1)
#define _mm512_dpbusd_epi32(sum, a, b) products(sum, a, b, false)
#define mb_s8_codes_avx2 mb_s8_codes
#define mb_s8_largest_avx2 mb_s8_largest
#define mb_s8_vnni wide_vnni
#define tile right_tile
#define some_rows right_rows
extern const struct mb_s8_kernels wide_vnni, wide_vnni_wrong;
#include "device/cpu_s8_vnni.c"
#undef mb_s8_vnni
#undef tile
#undef some_rows
#undef UNROLL
#undef CASE
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32(sum, a, b) products(sum, a, b, true)
#define mb_s8_vnni wide_vnni_wrong
#define tile wrong_tile
#define some_rows wrong_rows
#define ROWS WRONG_ROWS
#include "device/cpu_s8_vnni.c"
