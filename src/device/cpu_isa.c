/* The choice of kernels. */
#include "device/cpu_isa.h"

#include <string.h>
#include "device/cpu_tile.h"

static const char *const names[MB_ISA_COUNT] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};

const char *mb_isa_name(enum mb_isa isa)
{
    return (unsigned)isa < MB_ISA_COUNT ? names[isa] : "unknown";
}

/* For "auto". */
static bool good(enum mb_isa isa)
{
    if (isa == MB_ISA_PORTABLE)
        return true;
    if (!mb_isa_has(isa))
        return false;
    if (!mb_tile_self_test(isa)) {
        mb_warn("%s adds in another order on this machine than the results need and is not used", names[isa]);
        return false;
    }
    return isa != MB_ISA_BF16 || mb_tile_faster(isa, MB_ISA_AVX512);
}

enum mb_status mb_isa_choose(const char *name, enum mb_isa *out)
{
    enum mb_isa have = mb_isa_detect(), isa;
    if (name == NULL || strcmp(name, "auto") == 0) {
        for (isa = have; !good(isa); isa--)
            ;
        *out = isa;
        return MB_OK;
    }
    for (isa = MB_ISA_PORTABLE; isa < MB_ISA_COUNT && strcmp(name, names[isa]) != 0; isa++)
        ;
    if (isa == MB_ISA_COUNT)
        return mb_error(MB_USAGE, "--isa %s is not one of auto, portable, avx2, avx512, avx512bf16, amx",
                        name);
    if (isa > have || !mb_isa_has(isa))
        return mb_error(MB_LAYOUT, "this machine has no %s, its widest is %s; use --isa auto", name,
                        names[have]);
    if (!mb_tile_self_test(isa))
        return mb_error(MB_LAYOUT,
                        "%s adds in another order on this machine than the results need; use --isa auto",
                        name);
    *out = isa;
    return MB_OK;
}
