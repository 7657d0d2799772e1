/* CPUID, and the choice of kernels. */
#include "device/cpu_isa.h"

#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
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

enum mb_status mb_isa_choose(const char *name, enum mb_isa *out)
{
    enum mb_isa have = mb_isa_detect(), isa;
    if (name == NULL || strcmp(name, "auto") == 0) {
        for (isa = have; isa > MB_ISA_PORTABLE && !mb_tile_self_test(isa); isa--)
            mb_warn("%s adds in another order on this machine than the results need and is not used", names[isa]);
        *out = isa;
        return MB_OK;
    }
    for (isa = MB_ISA_PORTABLE; isa < MB_ISA_COUNT && strcmp(name, names[isa]) != 0; isa++)
        ;
    if (isa == MB_ISA_COUNT)
        return mb_error(MB_USAGE, "--isa %s is not one of auto, portable, avx2, avx512, amx", name);
    if (isa > have)
        return mb_error(MB_DEVICE, "this machine has no %s, its widest is %s; use --isa auto", name, names[have]);
    if (!mb_tile_self_test(isa))
        return mb_error(MB_DEVICE, "%s adds in another order on this machine than the results need; use --isa auto", name);
    *out = isa;
    return MB_OK;
}
