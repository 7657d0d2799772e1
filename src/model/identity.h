/* The identity of a directory of safetensors: what two runs must have in common. Local. */
#ifndef MB_MODEL_IDENTITY_H
#define MB_MODEL_IDENTITY_H
#include "base/hash.h"
#include "base/status.h"

/* Over the bytes of config and (if it exists) extra, then name, size and header of each file of `name`[.index]. extra may be
 * NULL. Errors: MB_MODEL. */
enum mb_status mb_identity_of(const char *dir, const char *config, const char *extra, const char *name, struct mb_hash128 *out);
#endif
