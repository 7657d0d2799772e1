/* job/source.h over leased lines: asks rank 0 for blocks ahead of need, reads them with pread, parses and encodes. Holds one
 * block and what was asked ahead, whatever the size of the input (category requests). */
#ifndef MB_IO_SOURCE_H
#define MB_IO_SOURCE_H
#include "comm/comm.h"
#include "io/index.h"
#include "io/lease.h"
#include "io/parse.h"
#include "job/source.h"

struct mb_input_source_options {
    struct mb_comm *comm;
    const struct mb_input_info *info;     /* as broadcast by rank 0; borrowed until create returns */
    const struct mb_parse_options *parse; /* copied; format is taken from info */
    struct mb_lease *lease;               /* rank 0's; NULL on the others. Served by each next() */
    const char *run_dir;                  /* of the current run: where resume finds forced tokens; NULL: a fresh start */
    struct mb_mem *mem;
};

/* Opens the input and asks for the first block. Local (one control message). Errors: MB_INPUT if this rank does not see the
 * file that rank 0 sees. */
enum mb_status mb_input_source_create(const struct mb_input_source_options *o, struct mb_source **out);
/* Requests given out are not its own any more. NULL ok. */
void mb_input_source_destroy(struct mb_source *s);
/* Lines leased and not given out yet. */
int64_t mb_input_source_queued(const struct mb_source *s);
#endif
