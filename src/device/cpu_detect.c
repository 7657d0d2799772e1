/* What this machine can run, by CPUID and the kernel's word. */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "device/cpu_isa.h"

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

/* clang 14 does not know the name */
static bool has_f16c(void)
{
    enum { F16C = 1 << 29 };
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & F16C);
}

static bool has_avx512_bf16(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
}

enum mb_isa mb_isa_detect(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return MB_ISA_PORTABLE;
    if (!__builtin_cpu_supports("avx512f"))
        return MB_ISA_AVX2;
    return has_amx_bf16() ? MB_ISA_AMX : has_avx512_bf16() ? MB_ISA_BF16 : MB_ISA_AVX512;
}

bool mb_isa_has(enum mb_isa isa)
{
    return isa <= mb_isa_detect() && (isa != MB_ISA_BF16 || has_avx512_bf16());
}
