/* CPUID, and the self-test of every kernel set before it may compute. */
#include "device/cpu_isa.h"

#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/rng.h"
#include "device/cpu_tile.h"

static const char *const names[MB_ISA_COUNT] = {"portable", "avx2", "avx512", "amx"};

const char *mb_isa_name(enum mb_isa isa)
{
    return (unsigned)isa < MB_ISA_COUNT ? names[isa] : "unknown";
}

/* Linux gives tile registers only to a process that asks (arch_prctl 0x1023, feature 18 = XTILEDATA). */
static bool amx_permitted(void)
{
    enum { REQUEST_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_XCOMP_PERM, XTILEDATA) == 0;
}

static bool has_amx_bf16(void)
{
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, OSXSAVE = 1 << 27, XCR0_TILES = 3 << 17 };
    unsigned a, b, c, d, lo, hi;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE))
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16) || !(d & AMX_TILE))
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & XCR0_TILES) == XCR0_TILES && amx_permitted();
}

enum mb_isa mb_isa_detect(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return MB_ISA_PORTABLE;
    if (!__builtin_cpu_supports("avx512f"))
        return MB_ISA_AVX2;
    return has_amx_bf16() ? MB_ISA_AMX : MB_ISA_AVX512;
}

/* ---------------------------------------------------------------- self-test */
enum { BLOCKS = 3, ROUNDS = 64, MAX_ROWS = 16, MAX_PANELS = 2 };
struct sample {
    float x[BLOCKS * MB_BLOCK * MAX_ROWS];
    float w[MAX_PANELS * BLOCKS * MB_BLOCK * MB_PANEL];
    float c[MAX_PANELS * MAX_ROWS * MB_PANEL], ref[MAX_PANELS * MAX_ROWS * MB_PANEL];
    uint16_t xh[MAX_ROWS * BLOCKS * MB_BLOCK];
    uint16_t wh[MAX_PANELS * BLOCKS * MB_BLOCK * MB_PANEL];
};

/* Values of very different sizes, now and then so small that products are flushed, all exact in bf16. */
static float value(struct mb_sample_rng *rng)
{
    uint32_t u = mb_sample_next(rng);
    uint32_t exponent = 127 - 12 + (u >> 16) % 24 - ((u >> 24) % 32 == 0 ? 70 : 0);
    return mb_float_of((u & 0x80000000u) | exponent << 23 | (u & 0x7f) << 16);
}
