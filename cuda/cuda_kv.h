/* The page pool of the CUDA backend, and its operations (contracts: device/ops.h). */
#ifndef CUDA_CUDA_KV_H
#define CUDA_CUDA_KV_H
#include "cuda/cuda.h"
#include "cuda/kv.h"

struct mb_kv {
    struct mb_device *dev;
    struct mb_kv_desc desc;
    struct mb_pages pages;
    uint64_t bytes; /* of all pages */
};

/* kv.c */
enum mb_status mb_cuda_kv_create(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out);
uint64_t mb_cuda_kv_page_bytes(const struct mb_kv_desc *d);
void mb_cuda_kv_free(struct mb_kv *kv);
enum mb_status mb_cuda_kv_append(struct mb_stream *s, struct mb_kv *kv, struct mb_view k, struct mb_view v,
                                 struct mb_view slot);
enum mb_status mb_cuda_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to,
                               int32_t n);
/* attn.c */
enum mb_status mb_cuda_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a);
enum mb_status mb_cuda_attention_parts(struct mb_stream *s, struct mb_view state,
                                       const struct mb_attn_args *a, struct mb_view item_off,
                                       struct mb_view item_seg);
enum mb_status mb_cuda_attention_join(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                      const struct mb_join_args *a);
/* choose.c */
enum mb_status mb_cuda_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a);
enum mb_status mb_cuda_choose_parts(struct mb_stream *s, struct mb_view out, struct mb_view score,
                                    const struct mb_choose_args *a, struct mb_view item_off,
                                    struct mb_view item_seg);
enum mb_status mb_cuda_choose_join(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a);
/* delta.c */
enum mb_status mb_cuda_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                            struct mb_view state, struct mb_view slot, struct mb_view pos);
enum mb_status mb_cuda_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a);
#endif
