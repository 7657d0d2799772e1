/* The names, types, shapes and places of all tensors of a directory, from its safetensors headers. Format: 8 bytes
 * little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the data without holes. Every rule of
 * the format is checked; no weight is read. Local. */
#ifndef MB_MODEL_SAFETENSORS_H
#define MB_MODEL_SAFETENSORS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

#define MB_ST_MAX_HEADER 100000000u /* bytes, the limit of the format's own library */
#define MB_ST_MAX_RANK 8
#define MB_ST_MAX_NAME 1024
#define MB_ST_MAX_TENSORS (1 << 22)
#define MB_ST_MAX_FILES 65535

struct mb_st_entry {
    uint64_t name;   /* offset in names: read it by mb_st_name */
    uint64_t offset; /* first byte, from the start of the file */
    uint64_t bytes;
    int64_t shape[MB_ST_MAX_RANK];
    uint32_t file;
    uint8_t dtype; /* row of the dtype table: mb_st_dtype_name */
    uint8_t rank;
    bool used; /* set by whoever has a use for it */
};

struct mb_shards {
    char *dir;
    int32_t n_files;
    char **files; /* names inside dir */
    uint64_t *file_bytes;
    struct mb_st_entry *entries;
    int64_t n_entries, cap;
    struct mb_bytes names;
    uint32_t *slots; /* hash table over the names: entry + 1, 0 empty */
    uint64_t n_slots;
};

/* Opens NAME.safetensors of dir or, if there is NAME.safetensors.index.json, the files it lists. weight_map and headers must
 * agree. Errors: MB_MODEL. On failure *out is empty. Caller: mb_shards_fini (also on an empty one). */
enum mb_status mb_shards_open(const char *dir, const char *name, struct mb_shards *out);
void mb_shards_fini(struct mb_shards *s);
/* NULL: no such tensor. O(1). */
struct mb_st_entry *mb_shards_find(const struct mb_shards *s, const char *name);
const char *mb_st_name(const struct mb_shards *s, const struct mb_st_entry *e);
const char *mb_st_dtype_name(uint8_t dtype);
/* enum mb_storage of a dtype, or -1 for the types no weight may have. */
int mb_st_storage(uint8_t dtype);
/* "[3, 4]" */
void mb_st_shape_text(const int64_t *shape, int rank, char *out, size_t cap);

/* Reads one file's header into s as file number `file` (its size into s->file_bytes[file]). */
enum mb_status mb_st_read_header(struct mb_shards *s, uint32_t file);
/* The raw header: length word and JSON text, appended to out; *size = size of the file. */
enum mb_status mb_st_raw_header(const char *path, struct mb_bytes *out, uint64_t *size);
/* Only the list of files (s->files). For identity. */
enum mb_status mb_shards_list(const char *dir, const char *name, struct mb_shards *out);
#endif
