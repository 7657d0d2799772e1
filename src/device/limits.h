/* What the CPU under a device can do at most, measured on the spot with the device's own threads: what the
 * speed of operations is held against. Local. */
#ifndef MB_DEVICE_LIMITS_H
#define MB_DEVICE_LIMITS_H
#include "device/ops.h"

enum mb_limit {
    MB_LIMIT_READ,      /* bytes/s read from memory, in order, all threads together */
    MB_LIMIT_F32,       /* FLOP/s of f32 FMA in registers, widest vectors; an FMA is two */
    MB_LIMIT_BF16,      /* FLOP/s of vdpbf16ps (AVX512_BF16) */
    MB_LIMIT_BF16_TILE, /* FLOP/s of tdpbf16ps (AMX) */
    MB_LIMIT_INT8,      /* OP/s of vpdpbusd (AVX512_VNNI) */
    MB_LIMIT_INT8_TILE, /* OP/s of tdpbssd (AMX) */
    MB_LIMIT_COUNT
};

#define MB_LIMIT_REPEATS 64 /* samples of each limit at most */
struct mb_limits {
    int repeats;
    double rate[MB_LIMIT_COUNT]
               [MB_LIMIT_REPEATS]; /* per second, as measured one after the other; 0: the CPU has it not */
};

/* Short name and what it says: "f32 FMA". */
const char *mb_limit_name(enum mb_limit l);
/* read_bytes: memory that is read (more than the caches hold, or it is their speed that is measured). Takes
 * about repeats * 20 ms and the time to read. Errors: MB_NO_MEMORY, MB_LAYOUT (a device that is not the CPU).
 */
enum mb_status mb_limits_measure(struct mb_device *dev, struct mb_mem *mem, uint64_t read_bytes, int repeats,
                                 struct mb_limits *out);
/* The best sample; 0: the CPU has it not. */
double mb_limit_best(const struct mb_limits *l, enum mb_limit which);
/* The best rate at which GEMM inputs of a type (MB_F32, MB_BF16) can be multiplied with sums in f32: for bf16
 * the fastest of what widens, vdpbf16ps and tiles. *which: that limit. 0: none was measured. */
double mb_limit_peak(const struct mb_limits *l, enum mb_dtype type, enum mb_limit *which);
#endif
