/* Copies between host and device memory and between views. */
#include <string.h>
#include "cuda/cuda.h"

enum { SMALL = 64 << 10 }; /* bytes that go by way of the stream's own pinned memory, without a wait */

static enum mb_status want_any(const char *op, const char *what, struct mb_view v)
{
    return mb_want(op, what, v, -1, -1, v.dtype);
}
static size_t row_bytes(struct mb_view v)
{
    return (size_t)(v.cols * mb_dtype_size(v.dtype));
}
static size_t stride_bytes(struct mb_view v)
{
    return v.rows > 1 ? (size_t)(v.stride * mb_dtype_size(v.dtype)) : row_bytes(v);
}
static unsigned char *first(struct mb_view v)
{
    return v.buf->data + v.off;
}

/* Rows with strides in bytes; in one piece where both sides are packed, which the copy engine likes best. */
static cudaError_t copy_rows(cudaStream_t s, void *dst, size_t dst_stride, const void *src, size_t src_stride, size_t bytes,
                             size_t rows, enum cudaMemcpyKind kind)
{
    if (dst_stride == bytes && src_stride == bytes)
        return cudaMemcpyAsync(dst, src, bytes * rows, kind, s);
    return cudaMemcpy2DAsync(dst, dst_stride, src, src_stride, bytes, rows, kind, s);
}

enum mb_status mb_cuda_copy_in(struct mb_stream *s, struct mb_view dst, const void *src)
{
    MB_TRY(want_any("copy_in", "dst", dst));
    size_t bytes = row_bytes(dst), all = bytes * (size_t)dst.rows;
    void *host, *device;
    if (all == 0)
        return MB_OK;
    if (all <= SMALL) {
        MB_TRY(mb_cuda_args(s, all, &host, &device)); /* the device's side of it is not used */
        memcpy(host, src, all);
        src = host;
    }
    MB_TRY(mb_cuda_call("copy_in", copy_rows(s->s, first(dst), stride_bytes(dst), src, bytes, bytes, (size_t)dst.rows,
                                             cudaMemcpyHostToDevice)));
    return all <= SMALL ? MB_OK : mb_cuda_wait(s);
}

enum mb_status mb_cuda_copy_out(struct mb_stream *s, void *dst, struct mb_view src)
{
    MB_TRY(want_any("copy_out", "src", src));
    size_t bytes = row_bytes(src);
    if (bytes > 0 && src.rows > 0)
        MB_TRY(mb_cuda_call("copy_out", copy_rows(s->s, dst, bytes, first(src), stride_bytes(src), bytes, (size_t)src.rows,
                                                  cudaMemcpyDeviceToHost)));
    return mb_cuda_wait(s);
}

enum mb_status mb_cuda_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src)
{
    MB_TRY(want_any("copy", "src", src));
    if (dst.dtype != src.dtype) {
        MB_TRY(mb_want_float("copy", "src", src, -1, -1));
        MB_TRY(mb_want_float("copy", "dst", dst, src.rows, src.cols));
        return mb_cuda_call("copy", mb_k_convert(s->s, mb_cuda_mat(dst), mb_cuda_mat(src)));
    }
    MB_TRY(mb_want("copy", "dst", dst, src.rows, src.cols, src.dtype));
    if (src.rows == 0 || src.cols == 0)
        return MB_OK;
    return mb_cuda_call("copy", copy_rows(s->s, first(dst), stride_bytes(dst), first(src), stride_bytes(src), row_bytes(src),
                                          (size_t)src.rows, cudaMemcpyDeviceToDevice));
}

enum mb_status mb_cuda_zero(struct mb_stream *s, struct mb_view dst)
{
    MB_TRY(want_any("zero", "dst", dst));
    if (dst.rows == 0 || dst.cols == 0)
        return MB_OK;
    return mb_cuda_call("zero", cudaMemset2DAsync(first(dst), stride_bytes(dst), 0, row_bytes(dst), (size_t)dst.rows, s->s));
}
