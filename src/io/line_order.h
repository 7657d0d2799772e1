/* In which order rank 0 hands out the lines of the input: as they stand, those with the same beginnings of
 * prompts together, or the longest first. Results stay in the order of the input. Local. */
#ifndef MB_IO_LINE_ORDER_H
#define MB_IO_LINE_ORDER_H
#include "io/index.h"

enum mb_line_order { MB_LINES_INPUT, MB_LINES_PREFIX, MB_LINES_LENGTH };

#define MB_LINES_NEW                                                                                         \
    (UINT64_C(1) << 63) /* a line whose prompt begins otherwise than that of the line before */

/* *out: the lines of the index in that order, [lines], mb_alloc'd (category index), MB_LINES_NEW added where
 * that is known; NULL under MB_LINES_INPUT. Errors: MB_NO_MEMORY; MB_IO where the input can't be read again.
 */
enum mb_status mb_line_order_make(const struct mb_index *x, enum mb_line_order order, struct mb_mem *mem,
                             uint64_t **out);

/* Of a line: what its prompt, context, messages or text begins with, so that keys of the same first 64, 256
 * and 1,024 bytes lie together. Lines that have none of these are taken whole. */
uint64_t mb_line_order_key(const char *line, size_t n);
/* Whether two lines of the index have the same prompt, context, messages or text, as far as their first 8 KiB say; false
 * where the input can't be read (fd: of it). */
bool mb_line_order_same(const struct mb_index *x, int fd, uint64_t a, uint64_t b);
/* Whether the first 256 bytes are the same, as far as a key says. */
static inline bool mb_line_order_alike(uint64_t a, uint64_t b)
{
    return a >> 22 == b >> 22;
}
#endif
