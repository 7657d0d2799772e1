/* --workload: how much work a job is, as a specification or counted from a file of requests. Local. */
#ifndef MB_APP_WORKLOAD_H
#define MB_APP_WORKLOAD_H
#include "base/status.h"
#include "plan/cost.h"

/* "" (100000 requests of 1024+256 tokens), "[REQUESTS x] PROMPT+OUTPUT", or a file: JSON lines as run takes
 * them, of which token ids are counted and MB_WORKLOAD_BYTES bytes of text taken as a token; a line's
 * max_tokens is what it generates (else MB_WORKLOAD_OUTPUT), a line that is scored generates nothing; lines
 * that are no JSON objects are left out. Lengths are means, rounded up. Errors: MB_USAGE (a specification
 * that is none), MB_INPUT, MB_IO, logged. */
#define MB_WORKLOAD_BYTES 4
#define MB_WORKLOAD_OUTPUT 256
enum mb_status mb_workload_read(const char *what, struct mb_workload *out);
/* The specification alone; requests: how many where it does not say. Errors: MB_USAGE. */
enum mb_status mb_workload_parse(const char *what, int64_t requests, struct mb_workload *out);
#endif
