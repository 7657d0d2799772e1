/* Which backends this program was built with: configure chooses the file with the lists (backends.c here, or that of cuda/). */
#ifndef MB_DEVICE_REGISTRY_H
#define MB_DEVICE_REGISTRY_H
#include "device/ops.h"

extern const int mb_backend_count;
/* The best first: `auto` takes the first that has a device. */
extern const struct mb_ops *const mb_backends[];
/* How many devices of each this machine has; NULL: always one. */
extern int32_t (*const mb_backend_devices[])(void);
extern const struct mb_ops mb_cpu_ops; /* device/cpu.c */
#endif
