/* Packed GEMM weights (layout: device/cpu_tile.h). */
#ifndef MB_DEVICE_CPU_WEIGHT_H
#define MB_DEVICE_CPU_WEIGHT_H
#include "device/cpu_tile.h"

struct mb_weight {
    struct mb_device *dev;
    struct mb_weight_desc desc;
    int64_t block[MB_MAX_LEAVES + 1]; /* block[l]: first block of leaf l; block[leaves]: blocks of a panel */
    int64_t panels;
    int64_t panel_bytes;
    unsigned char *data; /* panels * panel_bytes */
};

/* Place of k in a panel, counted in k with each leaf padded to whole blocks. */
static inline int64_t mb_weight_place(const struct mb_weight *w, int32_t leaf, int64_t k)
{
    return w->block[leaf] * MB_BLOCK + k - w->desc.leaf[leaf];
}
#endif
