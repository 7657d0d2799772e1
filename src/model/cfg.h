/* Typed look-ups in a config.json. A key is a list of aliases "a|b.c": b.c is member c of object b. The first alias that is
 * there (and not null) counts; another one that is there too must say the same. Errors: MB_MODEL, naming file, key, expected
 * and found. Local. */
#ifndef MB_MODEL_CFG_H
#define MB_MODEL_CFG_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"

struct mb_cfg {
    const json_t *root;
    const char *path; /* for messages */
    const char *at;   /* where root lies in the file, for messages: "" or "rope_scaling." */
};

/* The value of a key, NULL if no alias is there. *name (may be NULL) gets the alias that was found (cap bytes with NUL). */
enum mb_status mb_cfg_get(const struct mb_cfg *c, const char *keys, const json_t **out, char *name, size_t cap);

/* Absent or null: *out keeps its value (the default). found may be NULL. */
enum mb_status mb_cfg_int(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out, bool *found);
enum mb_status mb_cfg_real(const struct mb_cfg *c, const char *keys, double lo, double hi, double *out, bool *found);
enum mb_status mb_cfg_bool(const struct mb_cfg *c, const char *keys, bool *out);
enum mb_status mb_cfg_str(const struct mb_cfg *c, const char *keys, const char **out, bool *found);
/* The same where a key may also be a list of n integers, one of each layer: all must be equal. */
enum mb_status mb_cfg_int_each(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int32_t n, int64_t *out, bool *found);
/* Absent or null is an error. */
enum mb_status mb_cfg_need_int(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out);
enum mb_status mb_cfg_need_int_each(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int32_t n, int64_t *out);
enum mb_status mb_cfg_need_real(const struct mb_cfg *c, const char *keys, double lo, double hi, double *out);
/* A list of integers in [lo, hi]; absent: *n = 0. More than cap is an error. */
enum mb_status mb_cfg_ints(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out, size_t cap, size_t *n);
/* Compact text of a JSON value for messages. Returns out. */
const char *mb_cfg_text(const json_t *v, char *out, size_t cap);
#endif
