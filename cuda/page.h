/* Device code over KV pages (cuda/kv.h). */
#ifndef CUDA_PAGE_H
#define CUDA_PAGE_H
#include "cuda/row.h"

#include "cuda/kv.h"

MB_DEVICE unsigned char *mb_page_keys(const struct mb_pages &kv, int32_t page, int32_t head)
{
    return kv.data + page * kv.page_bytes + head * kv.head_bytes;
}
MB_DEVICE unsigned char *mb_page_values(const struct mb_pages &kv, int32_t page, int32_t head)
{
    return mb_page_keys(kv, page, head) + kv.value_at;
}
/* Scales behind 64 rows of codes. */
MB_DEVICE float *mb_page_scales(unsigned char *rows, int32_t stride)
{
    return reinterpret_cast<float *>(rows + static_cast<int64_t>(MB_KV_BLOCK) * stride);
}
/* The page of block b of a sequence; what is outside is told, and becomes page 0. */
MB_DEVICE int32_t mb_page_of(const struct mb_pages &kv, const struct mb_mat &table, int32_t seq, int32_t b,
                             const struct mb_flag &f)
{
    return mb_index(mb_row_i32(table, seq)[b], kv.pages, f);
}
/* A row's sequence and position, checked likewise. */
MB_DEVICE int32_t mb_seq_of(const struct mb_mat &seq, const struct mb_mat &table, int64_t row,
                            const struct mb_flag &f)
{
    return mb_index(mb_row_i32(seq, row)[0], table.rows, f);
}
MB_DEVICE int32_t mb_pos_of(const struct mb_mat &pos, const struct mb_mat &table, int64_t row,
                            const struct mb_flag &f)
{
    return mb_index(mb_row_i32(pos, row)[0], table.cols * MB_KV_BLOCK, f);
}
#endif
