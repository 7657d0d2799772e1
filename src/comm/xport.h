/* A transport: moves spans of bytes between members of a group. The caller numbers its operations (slots);
 * each is posted, and reported once when it has ended. Messages of one channel between two members arrive in
 * the order in which they were sent. Nothing here blocks.
 *
 *     mpi    nonblocking messages of MPI, host memory
 *     loop   all members in one process, for tests with many of them, host memory
 *
 * What members of one machine share goes through memory both have mapped (xchg_node.c), not through messages.
 */
#ifndef MB_COMM_XPORT_H
#define MB_COMM_XPORT_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

/* n bytes of host memory at p, or, where a transport says that it can, of a device buffer from byte at on. */
struct mb_span {
    uint8_t *p;
    struct mb_buf *buf;
    uint64_t at, n;
};
#define MB_XPORT_SPAN_MAX ((uint64_t)INT32_MAX)

struct mb_xport;
struct mb_xport_kind {
    const char *name;
    bool device; /* spans may be in device memory */
    void (*post_recv)(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span to);
    void (*post_send)(struct mb_xport *t, int32_t slot, int32_t peer, int32_t channel, struct mb_span from);
    int32_t (*test)(struct mb_xport *t); /* slots that have ended since the last call, into t->done */
    bool (*cancel)(
        struct mb_xport *t); /* takes back what is posted; whether nothing can touch the spans any more */
    void (*destroy)(struct mb_xport *t);
};
struct mb_xport {
    const struct mb_xport_kind *kind;
    void *state;
    int32_t slots, left; /* left: under way */
    int32_t *done;       /* [slots] */
};

struct mb_comm;
/* Over a communicator. Spans have at most MB_XPORT_SPAN_MAX bytes. A peer that is gone: the communicator is
 * lost (comm.h). Errors: MB_NO_MEMORY. Local. */
enum mb_status mb_xport_mpi(struct mb_comm *c, struct mb_mem *mem, int32_t slots, struct mb_xport *out);

/* Members of one process: n of them meet in a loop. */
struct mb_loop;
enum mb_status mb_loop_create(int32_t n, struct mb_loop **out);
void mb_loop_destroy(struct mb_loop *l); /* NULL ok; after the transports over it */
enum mb_status mb_xport_loop(struct mb_loop *l, int32_t me, int32_t lane, int32_t slots,
                             struct mb_xport *out);
void mb_xport_fini(struct mb_xport *t); /* an empty one is ok */
#endif
