/* Views against their buffers, for backends. Local, pure. */
#ifndef MB_DEVICE_VIEW_H
#define MB_DEVICE_VIEW_H
#include "device/ops.h"

/* MB_BUG, logged with op and what (the operand's name), unless v is rows x cols of t inside its buffer of `bytes` (0 where it
 * has none), aligned to its type. rows or cols < 0: any. A view without rows or columns needs no memory. */
enum mb_status mb_view_want(const char *op, const char *what, struct mb_view v, uint64_t bytes, int64_t rows,
                            int64_t cols, enum mb_dtype t);
#endif
