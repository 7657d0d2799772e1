/* Which backends exist. */
#include <string.h>
#include "device/cpu.h"

static const struct mb_ops *const all[] = {&mb_cpu_ops};

const struct mb_ops *const *mb_ops_all(int *n)
{
    *n = (int)(sizeof all / sizeof all[0]);
    return all;
}

const struct mb_ops *mb_ops_find(const char *name)
{
    int n;
    const struct mb_ops *const *ops = mb_ops_all(&n);
    if (strcmp(name, "auto") == 0)
        return ops[0];
    for (int i = 0; i < n; i++)
        if (strcmp(ops[i]->name, name) == 0)
            return ops[i];
    return NULL;
}

const struct mb_ops *mb_device_ops(const struct mb_device *dev)
{
    /* Every backend's struct mb_device begins with its table. */
    const struct mb_ops *ops;
    memcpy(&ops, dev, sizeof ops);
    return ops;
}
