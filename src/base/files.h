/* Which files something was made from: a list of (name, size, hash), compared item by item. Local. */
#ifndef MB_BASE_FILES_H
#define MB_BASE_FILES_H
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"

struct mb_file_sum {
    char *name;
    uint64_t bytes;
    struct mb_hash128 hash; /* of the contents; how depends on the kind of file */
    bool known;             /* whether the hash is there */
};
/* Zero-initialise. The list owns its names. */
struct mb_files {
    struct mb_file_sum *v;
    int32_t n, cap;
};
void mb_files_fini(struct mb_files *f);
/* Copies the name. hash: NULL if it is not known yet. MB_NO_MEMORY (logged). */
enum mb_status mb_files_put(struct mb_files *f, const char *name, uint64_t bytes,
                            const struct mb_hash128 *hash);
/* The item of this name, or NULL. */
struct mb_file_sum *mb_files_find(const struct mb_files *f, const char *name);

/* [{"name", "bytes", "hash"}, ...]; new reference, NULL without memory. parse: MB_CORRUPT (logged) if obj is
 * no such array; NULL is an empty one. */
json_t *mb_files_json(const struct mb_files *f);
enum mb_status mb_files_parse(const json_t *obj, const char *what, struct mb_files *out);

/* Number of differences, each logged by name; hashes count where both are known. where: whose list a is. */
int32_t mb_files_differ(const struct mb_files *a, const struct mb_files *b, const char *where);

/* A hash of 32 hexadecimal digits; false if it is none. */
bool mb_hash128_parse(const char *hex, struct mb_hash128 *out);
#endif
