/* Copies between host and device memory and between views. */
#include <string.h>
#include "device/cpu.h"

static enum mb_status want_any(const char *op, const char *what, struct mb_view v)
{
    return mb_want(op, what, v, -1, -1, v.dtype);
}

/* rows of `bytes` bytes, with strides in bytes; one memcpy where both sides are packed */
static void copy_rows(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t rows,
                      int64_t bytes)
{
    if (rows <= 0 || bytes <= 0)
        return;
    if (dst_stride == bytes && src_stride == bytes) {
        bytes *= rows;
        rows = 1;
    }
    for (int64_t i = 0; i < rows; i++)
        memmove((char *)dst + i * dst_stride, (const char *)src + i * src_stride, (size_t)bytes);
}

static int64_t row_bytes(struct mb_view v)
{
    return v.cols * mb_dtype_size(v.dtype);
}
static int64_t stride_bytes(struct mb_view v)
{
    return v.stride * mb_dtype_size(v.dtype);
}

enum mb_status mb_cpu_copy_in(struct mb_stream *s, struct mb_view dst, const void *src)
{
    (void)s;
    MB_TRY(want_any("copy_in", "dst", dst));
    if (dst.rows > 0 && dst.cols > 0)
        copy_rows(mb_row(dst, 0), stride_bytes(dst), src, row_bytes(dst), dst.rows, row_bytes(dst));
    return MB_OK;
}

enum mb_status mb_cpu_copy_out(struct mb_stream *s, void *dst, struct mb_view src)
{
    (void)s;
    MB_TRY(want_any("copy_out", "src", src));
    if (src.rows > 0 && src.cols > 0)
        copy_rows(dst, row_bytes(src), mb_row(src, 0), stride_bytes(src), src.rows, row_bytes(src));
    return MB_OK;
}

void mb_store_row(struct mb_view v, int64_t r, int64_t c, const float *src, int64_t n)
{
    if (v.dtype == MB_F32) {
        memcpy(mb_row_f32(v, r) + c, src, (size_t)n * sizeof *src);
        return;
    }
    uint16_t *dst = mb_row_bf16(v, r) + c;
    for (int64_t i = 0; i < n; i++)
        dst[i] = mb_bf16_of(src[i]);
}

struct copy {
    struct mb_view dst, src;
};

static void convert_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct copy *c = arg;
    for (int64_t r = begin; r < end; r++) {
        if (c->dst.dtype == MB_BF16) {
            mb_store_row(c->dst, r, 0, mb_row_f32(c->src, r), c->src.cols);
            continue;
        }
        float *dst = mb_row_f32(c->dst, r);
        const uint16_t *src = mb_row_bf16(c->src, r);
        for (int64_t i = 0; i < c->src.cols; i++)
            dst[i] = mb_bf16_float(src[i]);
    }
}

enum mb_status mb_cpu_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src)
{
    MB_TRY(want_any("copy", "src", src));
    if (dst.dtype == src.dtype) {
        MB_TRY(mb_want("copy", "dst", dst, src.rows, src.cols, src.dtype));
        if (src.rows > 0 && src.cols > 0)
            copy_rows(mb_row(dst, 0), stride_bytes(dst), mb_row(src, 0), stride_bytes(src), src.rows,
                      row_bytes(src));
        return MB_OK;
    }
    MB_TRY(mb_want_float("copy", "src", src, -1, -1));
    MB_TRY(mb_want_float("copy", "dst", dst, src.rows, src.cols));
    struct copy c = {dst, src};
    if (src.cols > 0)
        mb_cpu_run(s->dev, src.rows, 1 + 16384 / src.cols, convert_rows, &c);
    return MB_OK;
}

enum mb_status mb_cpu_zero(struct mb_stream *s, struct mb_view dst)
{
    (void)s;
    MB_TRY(want_any("zero", "dst", dst));
    for (int64_t r = 0; r < dst.rows && dst.cols > 0; r++)
        memset(mb_row(dst, r), 0, (size_t)row_bytes(dst));
    return MB_OK;
}
