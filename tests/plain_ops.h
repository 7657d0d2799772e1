/* The few device operations an exchange needs, in plain C, for its tests: an implementation of its own, so that the tests
 * of the exchange don't depend on a backend. Operations run at once. */
#ifndef MB_TESTS_PLAIN_OPS_H
#define MB_TESTS_PLAIN_OPS_H
#include <stdlib.h>
#include <string.h>
#include "base/mb_math.h"
#include "device/ops.h"

struct mb_buf {
    uint64_t bytes;
    uint8_t *p;
};

static uint8_t *plain_row(struct mb_view v, int64_t r)
{
    uint64_t off = v.off + (uint64_t)(r * v.stride * mb_dtype_size(v.dtype));

    if (r < 0 || r >= v.rows || off + (uint64_t)(v.cols * mb_dtype_size(v.dtype)) > v.buf->bytes)
        abort(); /* outside the view or its buffer */
    return v.buf->p + off;
}

static enum mb_status plain_buf_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, struct mb_buf **out)
{
    struct mb_buf *b = malloc(sizeof *b);

    (void)dev;
    (void)cat;
    b->bytes = bytes;
    b->p = calloc(1, bytes + 1);
    *out = b;
    return MB_OK;
}

static void plain_buf_free(struct mb_buf *b)
{
    if (b != NULL)
        free(b->p);
    free(b);
}

static enum mb_status plain_sync(struct mb_stream *s)
{
    (void)s;
    return MB_OK;
}

static enum mb_status plain_host_alloc(struct mb_device *dev, uint64_t bytes, void **out)
{
    (void)dev;
    *out = malloc(bytes + 1);
    return *out != NULL ? MB_OK : MB_NO_MEMORY;
}

static void plain_host_free(struct mb_device *dev, void *p)
{
    (void)dev;
    free(p);
}

static enum mb_status plain_copy_in(struct mb_stream *s, struct mb_view dst, const void *src)
{
    size_t n = (size_t)(dst.cols * mb_dtype_size(dst.dtype));

    (void)s;
    for (int64_t r = 0; r < dst.rows; r++)
        memcpy(plain_row(dst, r), (const uint8_t *)src + (size_t)r * n, n);
    return MB_OK;
}

static enum mb_status plain_copy_out(struct mb_stream *s, void *dst, struct mb_view src)
{
    size_t n = (size_t)(src.cols * mb_dtype_size(src.dtype));

    (void)s;
    for (int64_t r = 0; r < src.rows; r++)
        memcpy((uint8_t *)dst + (size_t)r * n, plain_row(src, r), n);
    return MB_OK;
}

static enum mb_status plain_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src)
{
    (void)s;
    if (dst.rows != src.rows || dst.cols != src.cols || dst.dtype != src.dtype)
        abort();
    for (int64_t r = 0; r < src.rows; r++)
        memcpy(plain_row(dst, r), plain_row(src, r), (size_t)(src.cols * mb_dtype_size(src.dtype)));
    return MB_OK;
}

static int32_t plain_i32(struct mb_view v, int64_t r)
{
    int32_t i;

    memcpy(&i, plain_row(v, r), 4);
    return i;
}

static enum mb_status plain_gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx)
{
    (void)s;
    if (idx.rows != out.rows || out.cols != src.cols || out.dtype != src.dtype)
        abort();
    for (int64_t r = 0; r < out.rows; r++)
        memcpy(plain_row(out, r), plain_row(src, plain_i32(idx, r)), (size_t)(src.cols * mb_dtype_size(src.dtype)));
    return MB_OK;
}

/* Value of item j in column c. */
static float plain_item(const struct mb_fold_args *a, int64_t j, int64_t c)
{
    int32_t src = plain_i32(a->src, j);
    float w, y;
    uint16_t h;

    if (src < 0) {
        memcpy(&y, plain_row(a->inner, -1 - src) + 4 * c, 4);
        return y;
    }
    memcpy(&w, plain_row(a->weight, j), 4);
    if (a->y.dtype == MB_F32) {
        memcpy(&y, plain_row(a->y, src) + 4 * c, 4);
    } else {
        memcpy(&h, plain_row(a->y, src) + 2 * c, 2);
        y = mb_bf16_float(h);
    }
    return w * y;
}

static enum mb_status plain_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    float v[128];
    int32_t pos[128];

    (void)s;
    for (int64_t r = 0; r < out.rows; r++) {
        int32_t begin = plain_i32(a->item_off, r), n = plain_i32(a->item_off, r + 1) - begin;
        for (int64_t c = 0; c < out.cols; c++) {
            for (int32_t j = 0; j < n; j++) {
                v[j] = plain_item(a, begin + j, c);
                pos[j] = plain_i32(a->pos, begin + j);
                if (j > 0 && pos[j] <= pos[j - 1])
                    abort();
            }
            float sum = n > 0 ? mb_tree_sum(v, pos, n) : 0;
            memcpy(plain_row(out, r) + 4 * c, &sum, 4);
        }
    }
    return MB_OK;
}

static const struct mb_ops plain_ops = {
    .name = "plain", .help = "plain C for tests", .buf_alloc = plain_buf_alloc, .buf_free = plain_buf_free,
    .sync = plain_sync, .host_alloc = plain_host_alloc, .host_free = plain_host_free, .copy_in = plain_copy_in,
    .copy_out = plain_copy_out, .copy = plain_copy, .gather = plain_gather, .fold = plain_fold};
#endif
