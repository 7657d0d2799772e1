/* A run of own rows, read and unpacked: what one round of assembly works on. Of io/asm_*.c only. Local. */
#ifndef MB_IO_ASM_BATCH_H
#define MB_IO_ASM_BATCH_H
#include "io/asm.h"

struct mb_batch {
    struct mb_record *r; /* [n]; error and pending rows have no tokens */
    int64_t first, n;    /* own rows [first, first + n) */
    int64_t cap;
    uint64_t prompt, output; /* tokens of these rows */
    uint64_t done_prompt, done_output, done_rows; /* tokens and bulk rows of own rows before first */
    uint64_t bulk;           /* bulk rows of these rows */
};
/* The next rows, up to a->round_bytes of them (all choices of one line at least); n 0 at the end. */
enum mb_status mb_batch_next(struct mb_asm *a, struct mb_batch *b);
void mb_batch_fini(struct mb_batch *b);
#endif
