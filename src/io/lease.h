/* Rank 0 hands out the input: blocks of lines as (offset, length), in order (line_order.h), to the ranks that read requests. A rank asks
 * (MB_CTL_LEASE_ASK, empty) and gets one block (MB_CTL_LEASE) per question; blocks shrink towards the end, so that a fast
 * rank takes over what a slow one has not begun. A first block of min(capacity, even share) lines is kept for every rank:
 * on a small input nobody starves because others asked earlier. Lines that are done (resume) are never handed out; what
 * earlier runs know of unfinished ones travels with the block.
 *
 * A block: struct mb_lease_head, its lines, its resume entries; at most MB_LEASE_BYTES. */
#ifndef MB_IO_LEASE_H
#define MB_IO_LEASE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "comm/comm.h"
#include "io/index.h"
#include "io/line_order.h"
#include "io/resume.h"

#define MB_LEASE_BYTES (512u << 10)

struct mb_lease_head {
    uint32_t n_lines, n_entries;
    uint32_t end; /* 1: nothing is left behind this block */
    uint32_t unused;
};
struct mb_lease_line {
    uint64_t line, offset;
    uint32_t len, hash;
    uint16_t flags, n; /* of struct mb_line */
    uint32_t unused;
};

struct mb_lease_options {
    struct mb_comm *comm;           /* NULL: mb_lease_serve is not used */
    const struct mb_index *index;   /* borrowed, like resume */
    const struct mb_resume *resume; /* NULL: a fresh start */
    int32_t ranks;                  /* of world */
    int32_t leasers;                /* ranks that have a source; each must ask, sooner or later */
    int32_t capacity;               /* lines a rank can work on at once (--max-num-seqs); 0: 1 */
    double patience;                /* seconds we wait for a rank that does not ask, before others get its lines; 0: 10 */
    struct mb_mem *mem;
    enum mb_line_order order; /* of the lines */
};

struct mb_lease;
/* Rank 0; Local. */
enum mb_status mb_lease_create(const struct mb_lease_options *o, struct mb_lease **out);
void mb_lease_destroy(struct mb_lease *l); /* NULL ok */

/* Answers every question that can be answered now. To be called often (each tick and each next() of rank 0); never waits.
 * Local. */
enum mb_status mb_lease_serve(struct mb_lease *l);

/* The next block for a rank that asked, appended to an empty msg; *got false: not now, the rest is kept for others. now:
 * mb_now(). The heart of serve, without messages. */
enum mb_status mb_lease_block(struct mb_lease *l, int rank, double now, struct mb_bytes *msg, bool *got);

/* Hands out no more: lines that are left are for a later run. How many there are. Local. */
uint64_t mb_lease_close(struct mb_lease *l);

/* Whether all is handed out and every leaser knows it (or has not asked for longer than patience). */
bool mb_lease_over(const struct mb_lease *l, double now);

/* Lines that are not handed out yet, and lines to do in all. */
uint64_t mb_lease_left(const struct mb_lease *l);
uint64_t mb_lease_total(const struct mb_lease *l);
#endif
