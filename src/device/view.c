#include "device/view.h"

#include <inttypes.h>
#include <string.h>
#include "base/log.h"

static bool fits(struct mb_view v, uint64_t bytes)
{
    if (v.rows < 0 || v.cols < 0 || (unsigned)v.dtype >= MB_DTYPE_COUNT)
        return false;
    if (v.rows == 0 || v.cols == 0)
        return true;
    uint64_t size = (uint64_t)mb_dtype_size(v.dtype), last, need;
    if (v.buf == NULL || v.off % size != 0 || v.stride < 0 || (v.rows > 1 && v.stride < v.cols))
        return false;
    return mb_mul_ok((uint64_t)(v.rows - 1), (uint64_t)v.stride, &last) &&
           mb_add_ok(last, (uint64_t)v.cols, &need) && mb_mul_ok(need, size, &need) &&
           mb_add_ok(need, v.off, &need) && need <= bytes;
}

static uint64_t bytes_of(const struct mb_buf *b)
{
    struct mb_buf_head head = {NULL, 0};

    if (b != NULL)
        memcpy(&head, b, sizeof head);
    return head.bytes;
}

enum mb_status mb_want(const char *op, const char *what, struct mb_view v, int64_t rows, int64_t cols,
                       enum mb_dtype t)
{
    static const char *const name[MB_DTYPE_COUNT] = {"f32", "bf16", "i32", "u8"};
    uint64_t bytes = bytes_of(v.buf);

    if ((rows < 0 || v.rows == rows) && (cols < 0 || v.cols == cols) && v.dtype == t && fits(v, bytes))
        return MB_OK;
    return mb_error(MB_BUG,
                    "%s: %s is [%" PRId64 ", %" PRId64 "] %s stride %" PRId64 " at %" PRIu64 " of %" PRIu64
                    " bytes, wanted [%" PRId64 ", %" PRId64 "] %s inside its buffer",
                    op, what, v.rows, v.cols, (unsigned)v.dtype < MB_DTYPE_COUNT ? name[v.dtype] : "?",
                    v.stride, v.off, bytes, rows, cols, name[t]);
}

enum mb_status mb_want_float(const char *op, const char *what, struct mb_view v, int64_t rows, int64_t cols)
{
    return mb_want(op, what, v, rows, cols, v.dtype == MB_BF16 ? MB_BF16 : MB_F32);
}
