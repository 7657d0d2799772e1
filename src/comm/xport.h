/* A transport: moves spans of bytes between members of a group. The caller numbers its operations (slots);
 * each is posted, and reported once when it has ended. Messages of one channel between two members arrive in
 * the order in which they were sent. Nothing here blocks. What fails is latched in `failed`, logged; the
 * transport is then of no more use.
 *
 *     mpi    nonblocking messages of MPI, host memory
 *     shm    rings in memory that the members of a machine have mapped; peers elsewhere by another transport
 *     loop   all members in one process, for tests with many of them, host memory
 *
 * Over shm a message waits in its ring until a receive for its channel is posted, and what the same sender
 * sent after it waits too.
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
    enum mb_status failed;
};

struct mb_comm;
/* Over a communicator. Spans have at most MB_XPORT_SPAN_MAX bytes. A peer that is gone: the communicator is
 * lost (comm.h). Errors: MB_NO_MEMORY. Local. */
enum mb_status mb_xport_mpi(struct mb_comm *c, struct mb_mem *mem, int32_t slots, struct mb_xport *out);

/* Over the rings of a machine, whose memory and sizes are plan/rooms.h's; far: for peers elsewhere, taken over
 * on success. Errors: MB_NO_MEMORY, not logged. Local. */
struct mb_xport_near {
    int32_t first, n, me; /* members of the machine: first .. first + n - 1; own number among them */
    int32_t lane;         /* 0 or 1: of two transports over the same memory */
    uint8_t *base;        /* mb_xchg_rings bytes, zeroed behind the first 64; borrowed */
    uint64_t ring;        /* bytes of one */
};
enum mb_status mb_xport_shm(const struct mb_xport_near *w, struct mb_mem *mem, struct mb_xport *far,
                            struct mb_xport *out);

/* Members of one process: n of them meet in a loop. */
struct mb_loop;
enum mb_status mb_loop_create(int32_t n, struct mb_loop **out);
void mb_loop_destroy(struct mb_loop *l); /* NULL ok; after the transports over it */
enum mb_status mb_xport_loop(struct mb_loop *l, int32_t me, int32_t lane, int32_t slots,
                             struct mb_xport *out);
void mb_xport_fini(struct mb_xport *t); /* an empty one is ok */
#endif
