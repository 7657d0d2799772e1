/* Which backends exist. */
#include "device/registry.h"

#include <string.h>

const struct mb_ops *const *mb_ops_all(int *n)
{
    *n = mb_backend_count;
    return mb_backends;
}

const struct mb_ops *mb_ops_find(const char *name)
{
    bool any = strcmp(name, "auto") == 0;

    for (int i = 0; i < mb_backend_count; i++)
        if (any ? mb_backend_probes[i].devices == NULL || mb_backend_probes[i].devices() > 0 : strcmp(mb_backends[i]->name, name) == 0)
            return mb_backends[i];
    return NULL;
}

int64_t mb_ops_memory(const struct mb_ops *ops, int32_t *devices)
{
    for (int i = 0; i < mb_backend_count; i++)
        if (mb_backends[i] == ops && mb_backend_probes[i].memory != NULL) {
            *devices = mb_backend_probes[i].devices();
            return mb_backend_probes[i].memory();
        }
    *devices = 0;
    return 0;
}

const struct mb_ops *mb_device_ops(const struct mb_device *dev)
{
    /* Every backend's struct mb_device begins with its table. */
    const struct mb_ops *ops;
    memcpy(&ops, dev, sizeof ops);
    return ops;
}
