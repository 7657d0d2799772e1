/* Cuts an input into its lines: JSON lines and text files at newlines, a JSON array at the commas between its elements. Keeps
 * at most one line (up to MB_LINE_MAX bytes) in memory. Local. */
#ifndef MB_IO_SPLIT_H
#define MB_IO_SPLIT_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "io/parse.h"

struct mb_cut {
    const uint8_t *text; /* valid until the next call; NULL for a line that is too long */
    uint64_t offset, len; /* in the file, without the newline or comma */
};

struct mb_splitter {
    enum mb_input_format format;
    uint8_t *buf; /* bytes [base, base + len) of the file; those before `start` are done with */
    size_t len, cap, start, scanned;
    uint64_t base;
    uint64_t skipped; /* bytes of a line that is too long and has been thrown away */
    bool eof;
    /* JSON array: */
    enum { MB_SPLIT_BEFORE, MB_SPLIT_FIRST, MB_SPLIT_NEXT, MB_SPLIT_AFTER } where;
    bool string, escape;
    uint64_t depth;
    struct mb_mem *mem;
};

/* What kind of input a name and its first bytes make: *.txt; *.json that begins with '[' is an array; all else JSON lines.
 * *skip: bytes of a byte order mark at the front. */
enum mb_input_format mb_format_of(const char *path, const uint8_t *head, size_t n, size_t *skip);

void mb_splitter_init(struct mb_splitter *s, enum mb_input_format format, uint64_t base, struct mb_mem *mem);
void mb_splitter_fini(struct mb_splitter *s);
/* Appends the next bytes of the file; n = 0: its end. Errors: MB_NO_MEMORY. */
enum mb_status mb_splitter_put(struct mb_splitter *s, const void *data, size_t n);
/* The next whole line, or *got false: more bytes are needed, or all have been given. Errors: MB_INPUT (logged without a
 * path: *why says it) for a JSON array that is none. */
enum mb_status mb_splitter_next(struct mb_splitter *s, struct mb_cut *out, bool *got, const char **why);
#endif
