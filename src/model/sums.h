/* Hashes of the contents of a model's weight files, gathered from what is read anyway: XXH3-64 of every block
 * of 1 MiB (a file's last one may be shorter), and XXH3-128 over a file's blocks in order (8 bytes each,
 * little-endian). So the hash of a file does not depend on which rank read which part of it. 8 bytes per MiB
 * of weights. Local; one thread. */
#ifndef MB_MODEL_SUMS_H
#define MB_MODEL_SUMS_H
#include "base/hash.h"
#include "model/model.h"

#define MB_SUM_BLOCK ((uint64_t)1 << 20)
#define MB_SUM_UNKNOWN INT64_MIN /* of a block that nobody has read */

struct mb_sums;
/* Over the files of m, which must outlive it. MB_NO_MEMORY. */
enum mb_status mb_sums_create(const struct mb_model *m, struct mb_sums **out);
void mb_sums_destroy(struct mb_sums *s); /* NULL ok */

/* Bytes [off, off + n) of a file were read; off is a multiple of MB_SUM_BLOCK. Whole blocks among them are
 * hashed. MB_MODEL (logged) if one has another hash than before: the file has changed. */
enum mb_status mb_sums_note(struct mb_sums *s, int32_t file, uint64_t off, uint64_t n, const void *data);

/* All blocks of all files, one behind the other: their hashes, to be completed by what other ranks read. The
 * array is s's. */
int64_t *mb_sums_blocks(struct mb_sums *s, int64_t *n);
/* Reads a block and notes it. MB_IO, MB_MODEL. */
enum mb_status mb_sums_read(struct mb_sums *s, int64_t block);
/* The file that a block belongs to. */
int32_t mb_sums_file_of(const struct mb_sums *s, int64_t block);
/* Hash of a file whose blocks are all known. */
struct mb_hash128 mb_sums_file(const struct mb_sums *s, int32_t file);

/* The same hash of any file, read from its beginning to its end. */
enum mb_status mb_sums_path(const char *path, uint64_t *bytes, struct mb_hash128 *out);
#endif
