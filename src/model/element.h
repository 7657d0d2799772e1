/* One stored element as f32, exactly. Local. */
#ifndef MB_MODEL_ELEMENT_H
#define MB_MODEL_ELEMENT_H
#include <stdint.h>
#include "device/ops.h"

/* Element `at` of an array of this storage; base is aligned for it. */
float mb_element_f32(enum mb_storage storage, const void *base, int64_t at);
#endif
