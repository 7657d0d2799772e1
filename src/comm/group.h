/* What the ranks of a small group (tensor-parallel, sequence-parallel, a pipeline) say to each other inside a
 * step: pieces whose sizes both sides know, and messages of any size that wait for their receiver. All
 * through the one waiting function. */
#ifndef MB_COMM_GROUP_H
#define MB_COMM_GROUP_H
#include "comm/comm.h"

/* Where in the job a wait is, for messages. */
struct mb_where {
    const char *what;
    int64_t step;
    int32_t layer; /* negative: none */
};
struct mb_piece {
    void *p;
    uint64_t n; /* bytes; 0: nothing is sent */
};
/* Sends send[r] to each rank r of c and gets recv[r] from it; both sides know the sizes. The own pieces are
 * left alone. The buffers are free when it returns. Any size: what is too long for one message goes in several.
 * Collective over c. */
enum mb_status mb_comm_swap(struct mb_comm *c, const struct mb_piece *send, const struct mb_piece *recv,
                            const struct mb_where *at);
/* The same between some ranks of c, as often as they like, inside an operation that all of c have begun with mb_comm_begin:
 * so all count alike, and who has not come is known. Collective over the ranks that have pieces for each other. */
enum mb_status mb_comm_swap_some(struct mb_comm *c, const struct mb_piece *send, const struct mb_piece *recv,
                                 const struct mb_where *at);
void mb_comm_begin(struct mb_comm *c); /* Every rank of c calls it. Local */
/* Copies data and sends it in the background; messages between two ranks with one tag arrive in order. tag: 1
 * .. 8. Local. */
enum mb_status mb_comm_post(struct mb_comm *c, int to, int tag, const void *data, uint64_t n);
/* Waits for the next message from a rank and replaces out by it. Local, but for the sender. */
enum mb_status mb_comm_take(struct mb_comm *c, int from, int tag, struct mb_bytes *out,
                            const struct mb_where *at);
/* Adds the bytes and messages that swap and post have sent. Local. */
void mb_comm_moved(const struct mb_comm *c, int64_t *bytes, int64_t *messages);
/* A barrier whose waiters stay useful: calls idle(arg) again and again while others are still at work, for as
 * long as that takes (their own waits have deadlines). An error of idle is kept and returned at the end.
 * Collective over c. */
enum mb_status mb_comm_meet(struct mb_comm *c, enum mb_status (*idle)(void *arg), void *arg);
#endif
