/* Growth of small arrays. Local. */
#ifndef MB_BASE_GROW_H
#define MB_BASE_GROW_H
#include <stdint.h>
#include <stdlib.h>
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"

/* Makes room for `need` elements of `size` bytes in the malloc'd array *p of *cap elements (at least
 * doubling). */
static inline enum mb_status mb_grow_to(void *p, size_t *cap, size_t need, size_t size)
{
    void **array = p;
    if (need <= *cap)
        return MB_OK;
    size_t want = *cap * 2 > need ? *cap * 2 : need;
    want = want < 16 ? 16 : want;
    uint64_t bytes;
    void *q = NULL;
    if (mb_mul_ok(want, size, &bytes) && bytes < PTRDIFF_MAX)
        q = realloc(*array, (size_t)bytes);
    if (q == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu elements of %zu bytes", want, size);
    *array = q;
    *cap = want;
    return MB_OK;
}
#endif
