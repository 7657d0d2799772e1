/* What an exchange must send and count, by formulas written anew (design 7), without looking at its code. */
#ifndef MB_TESTS_XCHG_EXPECT_H
#define MB_TESTS_XCHG_EXPECT_H
#include "xchg_case.h"

struct expect {
    int64_t db[MB_LINK_COUNT], dm[MB_LINK_COUNT], cb[MB_LINK_COUNT], cm[MB_LINK_COUNT], served;
};

/* The nodes of the exchange: node of each member, and of the machine. */
struct world {
    int32_t real[MAX_N], node[MAX_N], first[MAX_N + 1], count[MAX_N + 1], nodes, me, size;
    bool shm; /* what goes between ranks of a machine goes through shared memory */
};

/* Who holds what in one layer, as a table of yes and no beside the tables that the exchange gets. */
struct holders {
    uint8_t *holds; /* [experts][size] */
    const int32_t *node;
    struct mb_serve v;
};

void xchg_world(const struct kase *q, int32_t me, struct world *w);
/* The member that serves an expert for rows of a home: itself, else one of its node, else any, in turn by
 * home. */
int32_t xchg_owner(const struct holders *ho, int32_t home, int32_t expert);
/* The link between two members; the member of node b that sender s talks to; the one of this node for s's
 * rows, which is s if it lives here; bytes of a dispatched row. */
enum mb_link xchg_link(const struct world *w, int32_t a, int32_t b);
int32_t xchg_agent(const struct world *w, int32_t s, int32_t b);
int32_t xchg_agent_here(const struct world *w, int32_t s);
int64_t xchg_row_bytes(const struct kase *q);
/* What this member sends as the home of rows and as an agent; what goes through shared memory, and stays.
 * Added to e. */
void xchg_expect_network(const struct kase *q, const struct world *w, const struct holders *ho,
                         const struct input *all, struct expect *e);
void xchg_expect_node(const struct kase *q, const struct world *w, const struct holders *ho,
                      const struct input *all, struct expect *e);
/* The exchange has counted just that; one_round: also what went through shared memory. */
void xchg_check_counts(const struct kase *q, const struct mb_xchg *x, const struct expect *e, bool one_round);
#endif
