/* What pages hold, found by the ids in them: a radix tree. A node stands for positions [begin, end) of one
 * page, behind its parent's; its ids are those of the page. Sequences whose ids begin alike share the nodes,
 * and so the pages, of what they have in common; ids are compared, never only their hashes. Roots are kinds
 * of rows that have nothing in common (another adapter, other rotations). A node without children at which no
 * sequence stands may leave, the one unused for longest first, and gives its page back. Local. */
#ifndef MB_ENGINE_PREFIX_H
#define MB_ENGINE_PREFIX_H
#include "engine/pages.h"

#define MB_PREFIX_NONE INT32_MIN /* outside of the tree */

/* Behind `pos` ids: in the node that has the last of them, or in one behind it that a split has made. */
struct mb_prefix_place {
    int32_t node; /* < 0: a root, or MB_PREFIX_NONE */
    int64_t pos;
};

struct mb_prefix_node {
    int32_t parent; /* < 0: a root */
    int32_t begin, end;
    int32_t part, page;
    int32_t children, users; /* users: sequences that stand at it */
    int32_t next;            /* in its chain, or of the unused ones */
    int32_t heap;            /* where it waits to leave; -1: it may not */
    int64_t used;
};

struct mb_prefix {
    struct mb_mem *mem;
    struct mb_pages *pages; /* NULL: there is no tree */
    struct mb_prefix_node *node;
    int32_t n, cap, most, unused; /* nodes made, room, most of them; unused: a list */
    int32_t *bucket, n_buckets;   /* chains by parent and first id */
    int32_t *heap, n_heap;        /* [cap] */
    int64_t clock;
};

/* pages: with ids; borrowed. Errors: MB_NO_MEMORY. */
enum mb_status mb_prefix_create(struct mb_mem *mem, struct mb_pages *pages, struct mb_prefix *t);
void mb_prefix_destroy(struct mb_prefix *t);

/* A root: kind >= 0. */
static inline struct mb_prefix_place mb_prefix_root(int32_t kind)
{
    return (struct mb_prefix_place){-1 - kind, 0};
}
/* One edge on: the longest run of ids[at.pos .. limit) in one node behind a place. false: nothing is there.
 */
bool mb_prefix_step(const struct mb_prefix *t, struct mb_prefix_place at, const int32_t *ids, int64_t limit,
                    struct mb_prefix_place *next);
/* The place behind `pos` <= at.pos ids of the same text. */
struct mb_prefix_place mb_prefix_back(const struct mb_prefix *t, struct mb_prefix_place at, int64_t pos);
/* A sequence that stands at *at goes to another place; from or to MB_PREFIX_NONE it joins or leaves. */
void mb_prefix_move(struct mb_prefix *t, struct mb_prefix_place *at, struct mb_prefix_place to);
/* Rows [at->pos, end) of a page, whose ids nothing in the tree has behind *at, join it; the sequence goes
 * there. Without room for another node it leaves the tree. */
void mb_prefix_add(struct mb_prefix *t, struct mb_prefix_place *at, int64_t end, int32_t part, int32_t page);
/* The node unused for longest leaves. false: none may. */
bool mb_prefix_evict(struct mb_prefix *t);
#endif
