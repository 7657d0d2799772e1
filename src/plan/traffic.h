/* What the rows of an exchange carry, row by row: the formulas of mb_plan_traffic (plan.h) and of the
 * simulator (simulate.h) in one place. Pure, Local. */
#ifndef MB_PLAN_TRAFFIC_H
#define MB_PLAN_TRAFFIC_H
#include "plan/plan.h"

#define MB_TRAFFIC_K 128

/* The other side of a member's messages: a domain (alltoall.h). */
struct mb_traffic_peer {
    int64_t rows;        /* rows that go there */
    int64_t value_bytes; /* values that come back */
};
/* Adds one row: ids [n], ascending and distinct, and the domain that serves each; own: the row's own domain.
 * touched: gets the domains whose counts were zero, from number *n_touched on. */
void mb_traffic_row(const struct mb_exchange_shape *s, const int32_t *ids, const int32_t *domain, int32_t n,
                    int32_t own, struct mb_traffic_peer *peer, int32_t *touched, int32_t *n_touched);
/* Bytes of what lies behind one header become a message, or two. */
static inline void mb_traffic_message(struct mb_traffic *t, enum mb_link link, int64_t bytes, uint64_t eager)
{
    t->bytes[link] += MB_XCHG_HEADER + bytes;
    t->messages[link] += (uint64_t)bytes > eager ? 2 : 1;
}
#endif
