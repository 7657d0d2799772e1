/* Compressed inputs: what a file is by its first bytes, and its contents written out. Local. */
#ifndef MB_IO_UNPACK_H
#define MB_IO_UNPACK_H
#include <stdbool.h>
#include "base/status.h"

enum mb_packed { MB_PACKED_NOT, MB_PACKED_GZIP, MB_PACKED_ZSTD };

/* Looks at the beginning of an open file, whose place stays where it was. A file that can't be read is not packed: who reads it
 * says why. */
enum mb_packed mb_packed_of(int fd);

/* Writes everything that `from` holds, from its place on, to the file `to`: members and frames one after the other, as the tools
 * write them. name, path: for messages. Memory does not grow with the file. Errors, logged: MB_INPUT (damaged or cut short),
 * MB_IO, MB_NO_SPACE, MB_NO_MEMORY. */
enum mb_status mb_unpack(enum mb_packed how, int from, const char *name, int to, const char *path);
#endif
