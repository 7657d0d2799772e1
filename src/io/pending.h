/* What a partial file says of requests that are not done: their ids and kinds, from the input if it is still the one the
 * job read. Of io/assemble_tool.c only. Local. */
#ifndef MB_IO_PENDING_H
#define MB_IO_PENDING_H
#include "base/hash.h"
#include "io/rows.h"

struct mb_pending_input;
/* Reads the input once. *out is NULL (and a warning says so) if it is gone or changed: pending rows then have line numbers
 * as ids. Errors: MB_NO_MEMORY. */
enum mb_status mb_pending_open(const char *path, struct mb_hash128 hash, struct mb_pending_input **out);
void mb_pending_close(struct mb_pending_input *p); /* NULL ok */
const struct mb_pending *mb_pending_rows(struct mb_pending_input *p);
#endif
