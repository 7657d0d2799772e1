/* Finds the tensors of a packed weight. Reads no file. Local. */
#ifndef MB_MODEL_PACKED_BIND_H
#define MB_MODEL_PACKED_BIND_H
#include "model/load.h"
#include "model/packed.h"

struct mb_packed_want {
    struct mb_shards *s;
    const struct mb_quant *q;
    const char *name; /* of the tensor that an unquantised file has: MODULE.weight, or MODULE where experts
                         are stacked */
    int module;       /* length of MODULE */
    int32_t n, k;
    bool stacked; /* experts lie in one tensor */
    int32_t expert, experts;
    int32_t row0, row_step; /* even or odd rows: 0 or 1, and 2; else 0, 1 */
};
/* *found false: no packed tensors of that name; out is set where they are. Marks what it uses. Errors:
 * MB_MODEL, logged: parts are missing or don't fit the shape. */
enum mb_status mb_packed_bind(const struct mb_packed_want *w, struct mb_packed *out, bool *found);
#endif
