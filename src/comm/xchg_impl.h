/* What the files of the exchange share. Not for other rooms.
 *
 * route.h has the integers, wire.h what travels, xport.h how; here they meet the device: sums are made by
 * mb_sum_*.
 *
 * An exchange under way cannot be left: the others wait for it. What fails in the middle (the device, a peer
 * that is gone) is latched: nothing more is sent, the operation may be ended at once, and its end returns the
 * status. The exchange is then of no more use, and who made it ends the job. */
#ifndef MB_COMM_XCHG_IMPL_H
#define MB_COMM_XCHG_IMPL_H
#include <string.h>
#include "comm/impl.h"
#include "comm/route.h"
#include "comm/wire.h"
#include "comm/xchg.h"

/* The table's buffers. */
struct xbufs {
    struct mb_xchg_room room;
    void *host[MB_XB_COUNT]; /* of lists and pinned memory */
    struct mb_buf *dev[MB_XB_COUNT];
    uint64_t used; /* of TABLES */
};

/* Sizes of rows. */
struct xsizes {
    uint64_t eager;    /* bytes behind a header in the first message, at most */
    int64_t x, row, y; /* bytes of a row's data, of it all as it travels, of an output */
};

/* What is published in the node: block after block, or values for member after member. */
struct xpub {
    int32_t *order;   /* remote blocks in the order of arrival */
    int32_t n, place; /* of them; being published: 0 the own block, else order[place - 1] */
    int64_t row;      /* rows of it that were looked at */
    bool head;        /* its header is out */
    int32_t dest, kind;
    int64_t at;
    int64_t *lone_got, *inner_got; /* [regions] arrived from members of the node */
};

/* Rings between members of the machine, where each is a node. */
struct xnear {
    struct mb_shm shm;
    int64_t ring; /* bytes of one; 0: none */
    int32_t first, n;
    bool lent; /* the segment is the caller's */
};

struct xstatus {
    enum mb_status broken; /* MB_PEER or MB_BUG: after an operation that did not end well */
    enum mb_status fail;   /* of this member, since the last dispatch */
    enum mb_status told;   /* the worst of these among the members, as far as known here */
    enum mb_status failed; /* of the operation under way */
    bool stuck;            /* it cannot go on */
};

enum xphase { XP_IDLE, XP_ROWS, XP_NODE, XP_REPLIES, XP_DONE };

struct mb_xchg {
    struct mb_comm *c; /* NULL: members of one process */
    struct mb_xchg_options o;
    struct mb_route rt;
    struct xbufs buf;
    struct xsizes size;
    struct xstatus st;
    enum mb_alltoall algorithm;
    int32_t *machine;           /* [n] node of the machine of each member */
    enum mb_link *link;         /* [n] */
    struct xhead mine;          /* of the operation under way */
    struct mb_xchg_head *heads; /* [n] */
    int32_t rounds;             /* of the exchange under way: the most that anybody needs */
    enum xphase phase;
    bool dispatched; /* a combine is due */
    struct net disp, comb;
    struct xnode node;
    struct xnear near;
    struct xpub pub;
    struct mb_view in;       /* all own rows of the exchange; borrowed */
    struct mb_view y, y_all; /* own outputs; behind them the lone terms that arrive */
    struct mb_view out;
    struct mb_xchg_counts counts;
};

/* xchg_room.c */
/* Buffers, tables and the parts of route over them. MB_NO_MEMORY, logged. */
enum mb_status mb_xchg_rooms(struct mb_xchg *x, const struct mb_xchg_shape *s);
void mb_xchg_rooms_fini(struct mb_xchg *x);
/* Host memory of a buffer. */
static inline uint8_t *mb_xchg_host(struct mb_xchg *x, enum mb_xbuf id)
{
    return x->buf.host[id];
}
/* A device buffer in which so many bytes are needed. */
struct mb_buf *mb_xchg_dev(struct mb_xchg *x, enum mb_xbuf id, int64_t bytes);

/* xchg.c */
/* Latches a failure of the operation under way, the first one. */
void mb_xchg_must(struct mb_xchg *x, enum mb_status st);
void mb_xchg_begin(struct mb_xchg *x, enum xop op, const struct mb_xchg_head *mine, int64_t rows);
/* Compares a header with the own operation and keeps it for the heads. False: x->st.failed is set, and the
 * operation cannot go on. */
bool mb_xchg_check(struct mb_xchg *x, const struct xhead *h);
void mb_xchg_told(struct mb_xchg *x, uint32_t status);
enum mb_status mb_xchg_usable(const struct mb_xchg *x, const char *what);

/* xchg_dispatch.c */
bool mb_xchg_rows_test(struct mb_xchg *x);
void mb_xchg_rows_poll(struct mb_xchg *x);

/* xchg_net.c */
enum mb_status mb_net_init(struct mb_xchg *x, struct net *net, int32_t lane);
void mb_net_fini(struct net *net);
void mb_net_post(struct mb_xchg *x, struct net *net);
/* Sends message i of net, header and rows packed at out[i].at of stage. */
void mb_net_send(struct mb_xchg *x, struct net *net, int32_t i, int64_t *bytes, int64_t *messages);
/* Tests everything under way; false: x->st.failed is set and the operation cannot go on. */
bool mb_net_poll(struct mb_xchg *x, struct net *net);

/* xchg_node.c */
/* MB_NO_SPACE or MB_IO, not logged, with the reason in why: the node cannot have its segment. Collective over
 * x->c. */
enum mb_status mb_node_init(struct mb_xchg *x, char why[MB_SHM_WHY]);
enum mb_status mb_node_tables(struct mb_xchg *x); /* what of it is local */
void mb_node_lend(struct mb_xchg *x, uint8_t *segment);
void mb_node_fini(struct mb_xchg *x);
void mb_node_begin(struct mb_xchg *x);
uint8_t *mb_node_slot(const struct mb_xchg *x, int32_t q); /* behind the round header */
uint64_t mb_node_room(const struct mb_xchg *x);
bool mb_node_free(const struct mb_xchg *x); /* the own slot has been read by all */
void mb_node_publish(struct mb_xchg *x, int32_t pieces, uint64_t bytes, bool last);
/* Reads the next round of every member that has one: calls piece(x, q, head, payload) and expects the
 * payload's size. False: the operation cannot go on. */
typedef uint64_t (*mb_piece_fn)(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data);
bool mb_node_read(struct mb_xchg *x, mb_piece_fn piece);
bool mb_node_done(const struct mb_xchg *x);

/* xchg_near.c */
/* A machine that cannot have its segment: none has, and one warning. Collective over x->c. */
enum mb_status mb_near_init(struct mb_xchg *x);
void mb_near_lend(struct mb_xchg *x, uint8_t *segment);
void mb_near_fini(struct mb_xchg *x);
/* Puts the rings in front of a port. MB_NO_MEMORY, not logged; port is then as it was. */
enum mb_status mb_near_port(struct mb_xchg *x, int32_t lane, struct mb_xport *port);

/* xchg_sum.c: values on the device */
/* Device index list [n, 1] of n integers. */
struct mb_view mb_sum_upload(struct mb_xchg *x, const int32_t *idx, int64_t n);
/* Room for what arrives behind the own outputs, once route has the bases. */
void mb_sum_begin(struct mb_xchg *x);
/* Makes what route emitted: lone terms into OUT, sums into out (MB_NO_VIEW: into SUMS). */
void mb_sum_make(struct mb_xchg *x, struct mb_view out);
enum { LONE, INNER };
int64_t mb_sum_bytes(const struct mb_xchg *x, int32_t kind); /* of a value */
/* n values that arrived from a region, from number `at` of its kind on. */
void mb_sum_store(struct mb_xchg *x, int32_t region, int32_t kind, int64_t at, const uint8_t *data,
                  int64_t n);
/* Values [i0, i1) of one kind that were made, to packed host memory. */
void mb_sum_fetch(struct mb_xchg *x, int32_t kind, int64_t i0, int64_t i1, uint8_t *to);

/* World rank of a member, for messages. */
static inline int mb_xchg_rank(const struct mb_xchg *x, int32_t member)
{
    return x->c != NULL ? mb_comm_world_rank(x->c, member) : member;
}
#endif
