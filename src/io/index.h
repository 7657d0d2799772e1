/* Rank 0's one pass over the input: where every line lies, how many rows it has in the results, which ids repeat, and a
 * hash of everything. 16 bytes a line stay in memory (category index), 32 while it is made. Lines are counted as they stand
 * in the unsplit file, empty ones too: line numbers are 0-based here and 1-based in ids. Local; rank 0 only. */
#ifndef MB_IO_INDEX_H
#define MB_IO_INDEX_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/publish.h"
#include "io/parse.h"

struct mb_index_options {
    const char *path;      /* "-": stdin. What is no regular file (a pipe) is copied to spool_dir
                            * first, and so is a file packed by gzip or zstd (by its first bytes), unpacked */
    const char *spool_dir; /* must exist, on a file system all ranks see; the copy is to be called "input" there */
    bool kept;             /* if nothing comes out of the pipe, the copy that an earlier start made is the input */
    const struct mb_parse_options *parse; /* as the leasing ranks have it; format is set by the index */
    int32_t shard, shards; /* part shard (from 0) of shards; 0 or 1: all. Contiguous ranges of lines, as even as can be */
    struct mb_mem *mem;
};

/* What the other ranks need to know; flat, to be broadcast as it is. */
struct mb_input_info {
    char path[PATH_MAX]; /* of the input or its copy */
    uint64_t bytes;
    struct mb_hash128 hash; /* XXH3-128 of all bytes */
    uint64_t total_lines;   /* of the unsplit input */
    uint64_t first, lines;  /* this shard: lines [first, first + lines) */
    uint64_t rows;          /* of the results of this shard */
    uint64_t requests;      /* lines of this shard that have rows */
    int64_t bad;            /* lines of this shard that are error rows whatever their text encodes to */
    enum mb_input_format format;
    bool spooled;           /* path is a copy of ours */
    bool nothing;           /* a pipe of which nothing came, and no earlier copy */
};

/* Flags of a line. */
#define MB_LINE_DUPLICATE 1 /* an earlier line has this id */
#define MB_LINE_TOO_LONG 2  /* longer than MB_LINE_MAX */
#define MB_LINE_BAD 4       /* one of the two, or its form is wrong: an error row */

struct mb_line {
    uint64_t offset;
    uint32_t len;   /* bytes without the newline; 0 if too long */
    uint32_t flags;
    int32_t n;      /* rows; 0: an empty line */
    uint32_t hash;  /* mb_line_hash of its bytes; 0 if empty or too long */
};
/* 32 bits of XXH3: whether a line that is read later is still the one that was indexed. */
uint32_t mb_line_hash(const void *text, size_t n);

struct mb_index;
/* Errors, logged: MB_INPUT (can't be opened, no JSON array, the first 20 lines or all are no JSON), MB_IO, MB_NO_SPACE (the copy), MB_NO_MEMORY. A bad line is no
 * error here. */
enum mb_status mb_index_create(const struct mb_index_options *o, struct mb_index **out);
void mb_index_destroy(struct mb_index *x); /* NULL ok; a copy that nobody took is removed */
/* The copy of a pipe, not yet under its name (info->path); the caller's from now on. NULL: there is none. Other ranks can read
 * it once it is published. */
struct mb_publish *mb_index_take_copy(struct mb_index *x);

const struct mb_input_info *mb_index_info(const struct mb_index *x);
/* line: first <= line < first + lines. O(1). */
void mb_index_line(const struct mb_index *x, uint64_t line, struct mb_line *out);
/* The first row of a line in the results of this shard; line = first + lines gives the number of rows. O(64). */
uint64_t mb_index_row(const struct mb_index *x, uint64_t line);
/* The line and choice of a row. O(log lines). */
void mb_index_find(const struct mb_index *x, uint64_t row, uint64_t *line, int32_t *choice);
#endif
