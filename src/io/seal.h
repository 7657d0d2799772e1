/* What a results file says of its own contents, so that it can be told whether it is whole: "xxh3" of every
 * dataset (its path, type, shape, attributes and values), "contents" of the file (over those and its own
 * attributes), and the digests "digest" and "digest_tokens" (io/digest.h), as attributes. Serial; rank 0.
 * Local. */
#ifndef MB_IO_SEAL_H
#define MB_IO_SEAL_H
#include <stdbool.h>
#include "base/hash.h"
#include "base/status.h"

/* Reads a finished file back and writes all of them into it, once. Memory: that of mb_digest_file and a few
 * MiB. */
enum mb_status mb_seal_write(const char *path);
/* Computes all of them anew and compares: MB_INPUT where anything differs, cannot be read, or was never
 * written (each is logged with its name). *digest, *tokens: as computed; only on MB_OK. */
enum mb_status mb_seal_check(const char *path, struct mb_hash128 *digest, struct mb_hash128 *tokens);

/* A stored digest ("digest", "digest_tokens") as 32 digits; "": the file has none. MB_INPUT if it can't be
 * read. */
enum mb_status mb_seal_stored(const char *path, const char *name, char out[33]);
#endif
