/* Takes the place of src/device/registry.c in programs of the tests: the CUDA backend, on the emulator of its
 * runtime, beside the CPU. Linked as an object, it defines all that registry.o would, so the archive's is not
 * pulled in. */
#include <string.h>
#include "device/cpu.h"

extern const struct mb_ops mb_cuda_ops; /* cuda/device.c */

static const struct mb_ops *const all[] = {&mb_cpu_ops, &mb_cuda_ops};

const struct mb_ops *const *mb_ops_all(int *n)
{
    *n = 2;
    return all;
}

const struct mb_ops *mb_ops_find(const char *name)
{
    for (int i = 0; i < 2; i++)
        if (strcmp(name, "auto") == 0 || strcmp(name, all[i]->name) == 0)
            return all[i];
    return NULL;
}

const struct mb_ops *mb_device_ops(const struct mb_device *dev)
{
    const struct mb_ops *ops;
    memcpy(&ops, dev, sizeof ops);
    return ops;
}
