/* ZeRO-inference in one exchange: whether rows go to the owner of an expert or the expert comes to the rows,
 * and from where it comes. Every member has the same input, so every member has the same plan, and no
 * message is needed about it. Pure, Local.
 *
 * A member keeps as many experts as its cache has room for. An expert is resident there or not; an owner of
 * an expert serves it in any case, and must then fetch it if it isn't resident. A copy elsewhere is
 * worthwhile where the rows would move more bytes than the expert does; where the expert is resident from an
 * earlier step, the copy costs nothing. A copy serves as replicas do (mb_serve_pick), so on a node of
 * several members it serves them all. Bits do not depend on who serves (doc/numerics, tree rule). */
#ifndef MB_PLAN_FETCH_H
#define MB_PLAN_FETCH_H
#include "plan/serve.h"

/* Members say two things: of each id their rows and whether the expert is resident, and to each member how
 * many of their rows go there at all, be it for one expert or several (to a member of another node of a
 * hierarchical exchange: how many go to its node). A row is sent there once, so an expert's part in it is
 * their quotient.
 *
 * What a member says of an id: its rows, and whether the expert is resident. */
static inline uint32_t mb_fetch_say(int64_t rows, bool resident)
{
    return (uint32_t)rows << 1 | resident;
}

struct mb_fetch_in {
    const struct mb_serve *owners;
    const uint32_t *said;  /* [members][ids] */
    const uint32_t *going; /* [members][members] no more than the rows said of what goes there */
    bool by_node;          /* the exchange is hierarchical */
    const int32_t *slots;  /* [members] experts that a cache holds; 0: the member serves nothing */
    const int32_t *room; /* [members] of these, what this exchange may fill with copies and the owner's own */
    int64_t row_bytes;   /* a row to its expert and the value back */
    int64_t expert_bytes; /* an expert's weights in transit */
    bool copies;          /* false: only owners serve */
};

/* An expert that a member must get: from another member, or from the file. */
struct mb_fetch_item {
    int32_t id, to;
    int32_t from;  /* -1: the file, when its turn comes */
    int32_t round; /* of transfers between members: a member sends one at most and gets one at most in each */
};

struct mb_fetch {
    int32_t ids, members;
    struct mb_serve *serve;     /* who serves in this exchange: owners and copies */
    struct mb_fetch_item *item; /* [n] by id, then member */
    int32_t n, rounds;
    int32_t *rows; /* [members][ids] rows that a member serves */
    uint8_t
        *keep; /* [members][ids] must not be evicted before rows are dispatched: to be served or sent on */
    struct mb_fetch_work *work; /* inside */
};
/* Room for exchanges of these tables' size. Errors: MB_NO_MEMORY. */
enum mb_status mb_fetch_create(const struct mb_serve *owners, struct mb_fetch **out);
void mb_fetch_destroy(struct mb_fetch *f); /* NULL ok */
/* Replaces what f holds by the plan of one exchange. owners: of the size that f was made for. The work grows
 * with members * ids, and with the square of the members only by what an integer for each two of them costs.
 */
void mb_fetch_plan(struct mb_fetch *f, const struct mb_fetch_in *in);
#endif
