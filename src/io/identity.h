/* What a run is about: everything that must be the same for two runs to continue each other. Written into every journal,
 * into each run's directory and into the results, as JSON. Local. */
#ifndef MB_IO_IDENTITY_H
#define MB_IO_IDENTITY_H
#include <stdbool.h>
#include <stdint.h>
#include "base/files.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/status.h"

/* Strings are malloc'd and belong to it; NULL counts as "". */
struct mb_identity {
    struct mb_hash128 input; /* of the input file's bytes */
    struct mb_hash128 model; /* of the model's description: its config and the headers of its files */
    struct mb_files files;   /* of model, tokenizer, chat template and adapters; hashes of weights come when they are read */
    uint64_t seed;
    char *adapters; /* names and hashes, in order */
    char *sampling; /* defaults that a line may leave to the job: max_tokens, add_bos, truncate ... */
    char *path;     /* numeric path: dtype, KV type, leaves, k ... */
    char *saved;    /* what is stored beside the rows: routing, logits, hidden */
    char *shard;    /* "" or I/N */
};
void mb_identity_fini(struct mb_identity *id);

/* New reference; NULL without memory. */
json_t *mb_identity_json(const struct mb_identity *id);
/* what: the file, for messages. Errors: MB_CORRUPT (logged) for missing or malformed members, MB_NO_MEMORY. */
enum mb_status mb_identity_parse(const json_t *obj, const char *what, struct mb_identity *out);

/* MB_OK if b may continue a; else MB_INPUT, logged with every difference by name, what there was and what is asked for.
 * but_shard: shards of one job are one (merge). where: whose identity a is. */
enum mb_status mb_identity_match(const struct mb_identity *a, const struct mb_identity *b, bool but_shard,
                                 const char *where);
#endif
