/* Views against their buffers, for backends. Local, pure. */
#ifndef MB_DEVICE_VIEW_H
#define MB_DEVICE_VIEW_H
#include <stddef.h>
#include "device/ops.h"

/* Every backend's struct mb_buf begins with this, as its struct mb_device begins with its table. */
struct mb_buf_head {
    struct mb_device *dev;
    uint64_t bytes;
};
#define MB_BUF_HEAD_OK                                                                                       \
    (offsetof(struct mb_buf, dev) == offsetof(struct mb_buf_head, dev) &&                                    \
     offsetof(struct mb_buf, bytes) == offsetof(struct mb_buf_head, bytes))

static inline bool mb_has_view(struct mb_view v)
{
    return v.buf != NULL;
}
/* MB_BUG, logged with op and what (the operand's name), unless v is rows x cols of t inside its buffer,
 * aligned to its type. rows or cols < 0: any. A view without rows or columns needs no memory. */
enum mb_status mb_want(const char *op, const char *what, struct mb_view v, int64_t rows, int64_t cols,
                       enum mb_dtype t);
/* The same for a GEMM-input type: MB_F32 or MB_BF16. */
enum mb_status mb_want_float(const char *op, const char *what, struct mb_view v, int64_t rows, int64_t cols);
#endif
