/* The exchange of one stage: rows to their experts (dispatch) and the experts' outputs back (combine), by the tree rule.
 *
 * Members of the group are the ranks of its communicator, in topology order. An algorithm is a partition of the group into "nodes": flat
 * takes every rank as a node of its own; hier takes the machine's nodes. One code serves both:
 * What travels between ranks of one machine goes through memory that both have mapped: under hier through slots that all read
 * (xchg_node.c), under flat through a ring for each pair (xport.h, shm).
 *   dispatch  a row crosses to a node once, with its whole expert list and weights; sender i of node a talks to member
 *             (i + a) mod n_b of node b; inside the node rows are fanned out through shared memory, in rounds of bounded size.
 *   combine   the way back: inside the node the terms of a row are added as far as the tree rule allows (at the member
 *             that received it, or at its home); per row and node the maximal tree nodes travel: a term that stands alone as
 *             the rounded y_e, an inner node as f32. The home completes the tree.
 * Rows beyond what is planned for go through in rounds of a dispatch and a combine each: plan/rooms.h says how many, the
 * heads of the first round say how many each member needs, and all take the most. No buffer grows.
 *
 * Per round and direction a rank sends exactly one message to one member of each remote node: header (64 bytes: operation,
 * step, layer, status, flags, rows, bytes, rounds) with the rows behind it; rows beyond `eager` bytes follow in a second message.
 * Everything is counted by link class. */
#ifndef MB_COMM_XCHG_H
#define MB_COMM_XCHG_H
#include "base/link.h"
#include "comm/comm.h"
#include "device/ops.h"
#include "plan/plan.h"
#include "plan/rooms.h"
#include "plan/serve.h"

struct mb_xchg_options {
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_stream *stream;
    struct mb_mem *mem;
    const int32_t *node;           /* [size] machine node of each member, ascending; borrowed until create returns */
    struct mb_loop *loop;          /* set by mb_xchg_create_alone */
    enum mb_alltoall algorithm;    /* MB_A2A_FLAT or MB_A2A_HIER. Both use a segment of at most shm_bytes that the ranks of
                                      a machine share. Where one cannot have it (asked of all, so all agree), with one
                                      warning, hier falls back to flat, and flat to messages inside machines too */
    int64_t hidden;
    int32_t k, experts;            /* experts: ids of an exchange (mb_serve_ids) */
    enum mb_dtype x_type, y_type;  /* what the expert GEMM reads; what it returns */
    int64_t max_rows;              /* rows a member dispatches at most in one step */
    uint64_t shm_bytes, eager_bytes;
    const struct mb_xchg_shape *shape; /* what was planned; NULL: room for all rows of all at one member. Borrowed until create
                                          returns */
    bool chosen;                   /* placements have quotas: every row carries which copy of its experts serves it (a byte each) */
    bool tagged;                   /* every row carries a 16-bit tag (two more bytes behind its expert ids) */
};

/* What each member said in the header of an operation. */
struct mb_xchg_head {
    int64_t step;
    int32_t layer, op;
    enum mb_status status; /* its worst so far */
    uint32_t flags;        /* engine's bits (idle, exhausted, stop ...) */
    uint32_t revision;     /* of the placement that it goes by */
    uint32_t epoch;        /* of the group: how often its members have changed */
    int64_t rows;
    int64_t share;         /* of the own one: rows in this step of all members that share a part of what is planned (a
                              sequence group's parts); 0: own rows are all */
};

struct mb_xchg;

/* The group is c: its ranks are the members. Collective over c. */
enum mb_status mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o, struct mb_xchg **out);
/* A member of a group in one process, whose members meet in a loop: for tests with many of them. No MPI, nothing collective;
 * operations must be begun, tested and ended member by member. */
struct mb_xchg_alone {
    struct mb_loop *loop; /* xport.h */
    int32_t members, me;
    uint8_t *segment;                  /* zeroed memory that the machine's members share, shm_bytes; flat: NULL for none */
    const struct mb_xchg_quota *quota; /* [members] of mb_xchg_room_of each one's shape; borrowed until create returns */
};
enum mb_status mb_xchg_create_alone(const struct mb_xchg_options *o, const struct mb_xchg_alone *a, struct mb_xchg **out);
void mb_xchg_destroy(struct mb_xchg *x); /* Local; NULL ok */
int32_t mb_xchg_index(const struct mb_xchg *x); /* own member number */
int32_t mb_xchg_size(const struct mb_xchg *x);
enum mb_alltoall mb_xchg_algorithm(const struct mb_xchg *x); /* after any fallback */

/* Rows that this rank's experts must compute, sorted by owned expert (ascending id), inside an expert by (home index, row):
 * x [rows, hidden] of x_type in a buffer of the exchange, valid until the combine of the same round ends. */
struct mb_dispatched {
    struct mb_view x;
    int64_t first, rows;     /* first: the number of the first among all rows that this rank must compute; their outputs lie so */
    int32_t n_experts;       /* ids served here in this exchange */
    const int32_t *expert;   /* [n_experts] these ids, ascending */
    const int64_t *begin;    /* [n_experts + 1] boundaries in rows */
    const uint16_t *tag;     /* [rows], if tagged: inside an expert rows are then sorted by tag first */
    const struct mb_xchg_head *heads; /* [size] */
    int32_t round, rounds;            /* of this exchange; from `rounds` on there are no more */
};

/* The rows of a member in an exchange. x is read until the last round's combine has begun; the rest is on the host, and copied. */
struct mb_xchg_rows {
    struct mb_view x;       /* [M, hidden] of x_type, M <= max_rows */
    const int32_t *experts; /* [M*k] ids in top-k order, distinct in a row */
    const float *weights;   /* [M*k] */
    const uint16_t *tags;   /* [M]; read only if tagged */
};

/* Collective over the group; every member must call it for every MoE layer of every step, with rows or without.
 * v: who serves which id in this exchange, the same on all members.
 * in: the own rows; the struct itself is copied.
 * mine: this member's header fields (step, layer, status, flags; rows is filled). A mismatch of step, layer or operation
 * between members is MB_BUG, naming rank and both values; MB_PEER where the other one left with a status that is not MB_OK.
 * After either the exchange is of no more use. A status of a peer in the heads is no error of the exchange: all members see
 * the same heads, and may leave together without the combine. A member that fails between dispatch and combine says so with
 * mb_xchg_fail and still calls combine, for the others are waiting in it.
 *
 * What fails inside an exchange under way is its status: of the device, MB_LOST where a peer or the network is gone, MB_DEADLINE.
 * Nothing more is sent, so that no member goes on with what is not right; the exchange is of no more use, others may be waiting in
 * it, and the caller ends the job. */
enum mb_status mb_xchg_dispatch(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                const struct mb_xchg_rows *in, struct mb_dispatched *out);
/* The dispatch of the next round, after a combine and while out->round + 1 < out->rounds: the rows of the first one are used
 * again, and in->x must still be there. Collective over the group. */
enum mb_status mb_xchg_again(struct mb_xchg *x, const struct mb_xchg_head *mine, struct mb_dispatched *out);
/* y [rows, hidden] of y_type: row i is the rounded output of the expert for dispatched row i. out f32 [M, hidden]: routed
 * sum of each of this member's rows; those of this round are written. Collective over the group. If a member failed since the
 * dispatch (mb_xchg_fail), it gets its own status, every other one MB_PEER, and the sums mean nothing. Nobody leaves on this: all enter the next dispatch,
 * without rows and with their status in the head, whose heads all see; behind it they leave together. */
enum mb_status mb_xchg_combine(struct mb_xchg *x, struct mb_view y, struct mb_view out);

/* The same in parts: begin posts what is sent, test does what can be done now and says whether begin's operation may be ended
 * (call it again and again), end returns what the whole would. Between begin and end nothing else of x is called. Local. */
enum mb_status mb_xchg_dispatch_begin(struct mb_xchg *x, const struct mb_serve *v, const struct mb_xchg_head *mine,
                                      const struct mb_xchg_rows *in);
enum mb_status mb_xchg_again_begin(struct mb_xchg *x, const struct mb_xchg_head *mine);
enum mb_status mb_xchg_dispatch_end(struct mb_xchg *x, struct mb_dispatched *out);
enum mb_status mb_xchg_combine_begin(struct mb_xchg *x, struct mb_view y, struct mb_view out);
enum mb_status mb_xchg_combine_end(struct mb_xchg *x);
bool mb_xchg_test(struct mb_xchg *x);
void mb_xchg_await(struct mb_xchg *x); /* waits until test says yes; what fails is end's status */
/* Moves what is under way as far as it goes without the device: to be called about every millisecond while the device is busy
 * (device/ops.h, meanwhile). arg: the exchange, between begin and end. */
void mb_xchg_poll(void *arg);
/* Behind dispatch_begin, before any test: the own rows with experts here are dispatched at once, as the first ones; out->x and
 * what belongs to it is valid like that of dispatch_end, which then gives the others. No heads, and rounds is not known yet. */
void mb_xchg_own(struct mb_xchg *x, struct mb_dispatched *out);
/* Where outputs can be put so that combine need not copy them: rows as many as will be computed, [rows, hidden] of y_type; what
 * was put there stays while more is asked for. MB_NO_VIEW for a group of one. Valid until the next dispatch begins. Outputs of
 * own rows may be put there as late as before combine_end. */
struct mb_view mb_xchg_outputs(struct mb_xchg *x, int64_t rows);

/* This member failed since its last dispatch: the combine tells the others; its y may then be MB_NO_VIEW. Local. */
void mb_xchg_fail(struct mb_xchg *x, enum mb_status st);

/* Whether an operation ended in the middle, after which the exchange is of no more use. Local. */
bool mb_xchg_broken(const struct mb_xchg *x);

/* A header-only exchange for models without MoE layers: heads[size], with the rows that each member put into mine. Collective
 * over the group. */
enum mb_status mb_xchg_step(struct mb_xchg *x, const struct mb_xchg_head *mine, const struct mb_xchg_head **heads);

/* For each dispatched (row, choice) of this member the member that served it, [M*k] (physical routing). Valid as heads. */
const int32_t *mb_xchg_served_by(const struct mb_xchg *x);
/* Counts since creation, of what this member sent. */
struct mb_xchg_counts {
    int64_t dispatch_bytes[MB_LINK_COUNT], dispatch_messages[MB_LINK_COUNT];
    int64_t combine_bytes[MB_LINK_COUNT], combine_messages[MB_LINK_COUNT];
    int64_t served_rows; /* (row, expert) pairs this member's experts computed */
    double seconds_wait;
};
void mb_xchg_counts(const struct mb_xchg *x, struct mb_xchg_counts *out);
#endif
