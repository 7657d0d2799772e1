/* Which backends this program was built with: configure chooses the file with the lists (backends.c here, or that of cuda/). */
#ifndef MB_DEVICE_REGISTRY_H
#define MB_DEVICE_REGISTRY_H
#include "device/ops.h"

extern const int mb_backend_count;
/* The best first: `auto` takes the first that has a device. */
extern const struct mb_ops *const mb_backends[];
/* What this machine has for each: how many devices, and bytes of each that can be used. NULL: always one, with the machine's own
 * memory. */
struct mb_backend_probe {
    int32_t (*devices)(void);
    int64_t (*memory)(void);
};
extern const struct mb_backend_probe mb_backend_probes[];
extern const struct mb_ops mb_cpu_ops; /* device/cpu.c */
#endif
