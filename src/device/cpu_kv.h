/* The KV page pool of one layer. A page holds 64 positions. Per page and head, the keys are a packed weight
 * of 64 columns (one per position) over d inputs and the values a packed weight of dv columns over 64 inputs
 * (device/cpu_tile.h), so that attention is two small GEMMs per page. Under v_in_k there are keys only. */
#ifndef MB_DEVICE_CPU_KV_H
#define MB_DEVICE_CPU_KV_H
#include "device/cpu_tile.h"

#define MB_KV_PANELS (MB_KV_BLOCK / MB_PANEL)

struct mb_kv {
    struct mb_device *dev;
    struct mb_kv_desc desc;
    enum mb_dtype type;       /* in which attention computes: MB_BF16 for pages of bytes */
    int64_t k_blocks;         /* blocks of 32 in d */
    int64_t v_panels;         /* panels of 16 in dv */
    int64_t k_bytes, v_bytes; /* of one head of one page; v_bytes is 0 under v_in_k */
    unsigned char *data;      /* [page][head][k_bytes + v_bytes] */
};

/* Pages of bytes: the codes in the order of bf16 values, then f32 scales of the 64 positions. */
static inline bool mb_kv_bytes(const struct mb_kv *kv)
{
    return kv->desc.dtype == MB_U8;
}
/* A head's keys, or values, of a page of bytes as packed bf16. */
void mb_kv_widen_keys(const struct mb_kv *kv, const unsigned char *page, uint16_t *out);
void mb_kv_widen_values(const struct mb_kv *kv, const unsigned char *page, uint16_t *out);

static inline unsigned char *mb_kv_keys(const struct mb_kv *kv, int64_t page, int64_t head)
{
    return kv->data + (page * kv->desc.heads + head) * (kv->k_bytes + kv->v_bytes);
}
static inline unsigned char *mb_kv_values(const struct mb_kv *kv, int64_t page, int64_t head)
{
    return mb_kv_keys(kv, page, head) + kv->k_bytes;
}
/* Element index of (input k, column) in a packed weight of `blocks` blocks. */
static inline int64_t mb_packed_at(enum mb_dtype t, int64_t blocks, int64_t k, int64_t column)
{
    int64_t panel = column / MB_PANEL * blocks * MB_BLOCK * MB_PANEL, lane = column % MB_PANEL;
    return panel + (t == MB_F32 ? k * MB_PANEL + lane : (k / 2 * MB_PANEL + lane) * 2 + k % 2);
}
#endif
