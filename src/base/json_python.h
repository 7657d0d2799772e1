/* Inside of base: see json.h. Local. */
#ifndef MB_BASE_JSON_PYTHON_H
#define MB_BASE_JSON_PYTHON_H
#include <stdbool.h>
#include "base/mem.h"
#include "base/status.h"

/* Text of n bytes with the numbers that jansson refuses rewritten, appended to out; *changed false: there
 * were none and out is as before. Linear. Errors: MB_NO_MEMORY. */
enum mb_status mb_json_from_python(const char *s, size_t n, struct mb_bytes *out, bool *changed);
#endif
