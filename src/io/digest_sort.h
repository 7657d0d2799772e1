/* Row hashes in the order of the digest, (id, choice, hash), in memory that does not grow with their number:
 * runs of 32 MiB are sorted in memory; where there are several, they go into an unnamed file under $TMPDIR
 * (/tmp) and are merged. Local. */
#ifndef MB_IO_DIGEST_SORT_H
#define MB_IO_DIGEST_SORT_H
#include <stdbool.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/status.h"

struct mb_digest_row {
    struct mb_hash128 hash;
    const char *id; /* no NUL at the end; may be NULL if id_len is 0 */
    uint32_t id_len, choice;
};
struct mb_digest_sort;

/* run_bytes: of a run; 0: 32 MiB. */
enum mb_status mb_digest_sort_create(uint64_t run_bytes, struct mb_digest_sort **out);
void mb_digest_sort_destroy(struct mb_digest_sort *s); /* NULL ok */
/* Copies what the row points to. Errors: MB_NO_MEMORY, MB_IO, MB_NO_SPACE (of the unnamed file). */
enum mb_status mb_digest_sort_put(struct mb_digest_sort *s, const struct mb_digest_row *row);
/* Rows in order, after the last put; *row is valid until the next call; *end: there are no more. */
enum mb_status mb_digest_sort_next(struct mb_digest_sort *s, struct mb_digest_row *row, bool *end);
#endif
