/* What travels in an exchange: headers, messages between nodes, pieces in a node's shared memory. Not for
 * other rooms. */
#ifndef MB_COMM_WIRE_H
#define MB_COMM_WIRE_H
#include "comm/shm.h"
#include "comm/xport.h"
#include "plan/plan.h"

#define XCHG_VERSION 3
enum xop { XOP_DISPATCH = 1, XOP_COMBINE, XOP_STEP };

/* The header on the wire and in shared memory. */
struct xhead {
    uint16_t version, round;
    uint8_t op, status;
    uint16_t from; /* index of the member whose words these are */
    int64_t step;
    int32_t layer;
    uint32_t flags;
    uint32_t revision, epoch; /* of the placement; of the group */
    int64_t rows;             /* of a dispatch: rows in this message; of a combine: values */
    uint64_t bytes;           /* behind this header, or in the second message */
    int64_t total;            /* rows the member dispatches to all (mb_xchg_head.rows) */
    int32_t here;             /* in shared memory: rows or values of this piece */
    int32_t rounds;           /* that the member's rows need */
};
_Static_assert(sizeof(struct xhead) == MB_XCHG_HEADER, "the header has 64 bytes");

/* Messages of one direction between nodes. */
struct inmsg {
    int32_t from; /* member */
    bool ready, taken;
    struct xhead head;
    uint8_t *first;      /* header and up to `eager` bytes */
    uint8_t *body;       /* room for a second message */
    const uint8_t *rows; /* once ready */
};
struct outmsg {
    int32_t to;
    uint64_t at; /* of the header in stage; the rows follow it */
};
struct net {
    int32_t n_in, n_out;
    struct inmsg *in;
    struct outmsg *out;
    uint64_t room; /* bytes of a body */
    uint8_t *stage;
    struct mb_xport port; /* slots: n_in first messages | n_in bodies | n_out first | n_out bodies */
};

/* The node's shared segment: per member two counters and a slot. A member fills its slot, raises `filled`;
 * each other member reads it and raises `reads`; when all have read, the slot may be filled again. Counters
 * only ever grow. */
struct node_ctl {
    _Atomic uint64_t filled;
    uint8_t pad0[56];
    _Atomic uint64_t reads;
    uint8_t pad1[56];
};
struct round_head {
    int32_t op, layer;
    int64_t step;
    int32_t pieces, last;
    uint64_t bytes; /* of the pieces */
    uint32_t status, pad0;
    uint64_t pad1[3];
};
_Static_assert(sizeof(struct round_head) == 64, "pieces begin aligned");
struct xnode {
    int32_t n, me; /* members of the node; own number among them */
    struct mb_shm shm;
    bool lent;          /* the segment is the caller's */
    uint64_t slot;      /* bytes of one slot */
    uint64_t filled;    /* own rounds so far */
    uint64_t *consumed; /* [n] rounds read of each member */
    uint8_t *finished;  /* [n] its last round of this operation was read */
    bool published;     /* own last round of this operation is out */
};

static inline uint64_t mb_up64(uint64_t n)
{
    return (n + 63) / 64 * 64;
}
#endif
