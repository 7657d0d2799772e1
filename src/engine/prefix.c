/* The radix tree over the ids in pages. */
#include "engine/prefix.h"

#include "base/log.h"

#define FIRST_NODES 256
#define NODES_A_PAGE 2 /* splits included; whoever finds no room goes on outside of the tree */

enum mb_status mb_prefix_create(struct mb_mem *mem, struct mb_pages *pages, struct mb_prefix *t)
{
    int64_t most = NODES_A_PAGE * pages->parts * pages->n + FIRST_NODES;

    *t = (struct mb_prefix){.mem = mem, .pages = pages, .unused = -1};
    t->most = most < INT32_MAX / 4 ? (int32_t)most : INT32_MAX / 4;
    t->n_buckets = FIRST_NODES;
    t->bucket = mb_alloc(mem, MB_MEM_REQUESTS, (size_t)t->n_buckets, sizeof *t->bucket);
    if (t->bucket == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a tree of prefixes; see --enable-prefix-caching");
    for (int32_t i = 0; i < t->n_buckets; i++)
        t->bucket[i] = -1;
    return MB_OK;
}

void mb_prefix_destroy(struct mb_prefix *t)
{
    mb_free(t->node);
    mb_free(t->heap);
    mb_free(t->bucket);
    *t = (struct mb_prefix){0};
}

/* ---------------------------------------------------------------- those that may leave: a heap, oldest first
 */

static void heap_put(struct mb_prefix *t, int32_t at, int32_t node)
{
    t->heap[at] = node;
    t->node[node].heap = at;
}

static void heap_up(struct mb_prefix *t, int32_t at, int32_t node)
{
    while (at > 0 && t->node[t->heap[(at - 1) / 2]].used > t->node[node].used) {
        heap_put(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(t, at, node);
}

static void heap_down(struct mb_prefix *t, int32_t at, int32_t node)
{
    for (;;) {
        int32_t child = 2 * at + 1;
        if (child + 1 < t->n_heap && t->node[t->heap[child + 1]].used < t->node[t->heap[child]].used)
            child++;
        if (child >= t->n_heap || t->node[t->heap[child]].used >= t->node[node].used)
            break;
        heap_put(t, at, t->heap[child]);
        at = child;
    }
    heap_put(t, at, node);
}

static void heap_remove(struct mb_prefix *t, int32_t node)
{
    int32_t at = t->node[node].heap, last = t->heap[--t->n_heap];

    t->node[node].heap = -1;
    if (last == node)
        return;
    heap_down(t, at, last);
    heap_up(t, t->node[last].heap, last);
}

/* Whether a node may leave has changed. */
static void settle(struct mb_prefix *t, int32_t i)
{
    struct mb_prefix_node *n = &t->node[i];
    bool may = n->children == 0 && n->users == 0;

    if (may && n->heap < 0)
        heap_up(t, t->n_heap++, i);
    else if (!may && n->heap >= 0)
        heap_remove(t, i);
}

/* ---------------------------------------------------------------- edges by parent and first id */

static const int32_t *ids_of(const struct mb_prefix *t, const struct mb_prefix_node *n)
{
    return mb_page_ids(t->pages, n->part, n->page);
}

static int32_t first_id(const struct mb_prefix *t, int32_t i)
{
    const struct mb_prefix_node *n = &t->node[i];
    return ids_of(t, n)[n->begin % MB_KV_BLOCK];
}

static int32_t *chain(const struct mb_prefix *t, int32_t parent, int32_t id)
{
    uint64_t h = ((uint64_t)(uint32_t)parent << 32 | (uint32_t)id) * 0x9e3779b97f4a7c15u;
    return &t->bucket[(h >> 32) & (uint64_t)(t->n_buckets - 1)];
}

static int32_t *chain_of(const struct mb_prefix *t, int32_t i)
{
    return chain(t, t->node[i].parent, first_id(t, i));
}

static void chain_in(struct mb_prefix *t, int32_t i)
{
    int32_t *head = chain_of(t, i);

    t->node[i].next = *head;
    *head = i;
}

static void chain_out(struct mb_prefix *t, int32_t i)
{
    int32_t *p = chain_of(t, i);

    while (*p != i)
        p = &t->node[*p].next;
    *p = t->node[i].next;
}

static int32_t child_at(const struct mb_prefix *t, int32_t parent, int32_t id)
{
    int32_t i = *chain(t, parent, id);

    while (i >= 0 && (t->node[i].parent != parent || first_id(t, i) != id))
        i = t->node[i].next;
    return i;
}

/* ---------------------------------------------------------------- nodes */

/* Twice the buckets. Without memory for them chains grow longer, that is all. */
static void more_buckets(struct mb_prefix *t)
{
    int32_t n = 2 * t->n_buckets, *p = mb_alloc(t->mem, MB_MEM_REQUESTS, (size_t)n, sizeof *p),
            *old = t->bucket;
    int32_t before = t->n_buckets;

    if (p == NULL)
        return;
    for (int32_t i = 0; i < n; i++)
        p[i] = -1;
    t->bucket = p;
    t->n_buckets = n;
    for (int32_t b = 0; b < before; b++) {
        for (int32_t i = old[b], next; i >= 0; i = next) {
            next = t->node[i].next;
            chain_in(t, i);
        }
    }
    mb_free(old);
}

static bool grow(struct mb_prefix *t)
{
    int32_t cap = t->cap == 0 ? FIRST_NODES : t->cap < t->most / 2 ? 2 * t->cap : t->most;
    void *node, *heap;

    if (t->cap >= t->most)
        return false;
    if ((node = mb_grow(t->mem, MB_MEM_REQUESTS, t->node, (size_t)cap, sizeof *t->node)) != NULL)
        t->node = node;
    if ((heap = mb_grow(t->mem, MB_MEM_REQUESTS, t->heap, (size_t)cap, sizeof *t->heap)) != NULL)
        t->heap = heap;
    if (node == NULL || heap == NULL)
        return false;
    t->cap = cap;
    return true;
}

/* A node that nothing is known of; -1: there is no room. */
static int32_t new_node(struct mb_prefix *t)
{
    int32_t i = t->unused;

    if (i >= 0) {
        t->unused = t->node[i].next;
        return i;
    }
    if (t->n == t->cap && !grow(t))
        return -1;
    if (t->n >= t->n_buckets)
        more_buckets(t);
    return t->n++;
}

/* The node that has the id before `pos`; splits leave sequences behind it. */
static int32_t find(const struct mb_prefix *t, struct mb_prefix_place at)
{
    int32_t i = at.node;

    while (i >= 0 && at.pos <= t->node[i].begin)
        i = t->node[i].parent;
    return i;
}

bool mb_prefix_step(const struct mb_prefix *t, struct mb_prefix_place at, const int32_t *ids, int64_t limit,
                    struct mb_prefix_place *next)
{
    int32_t i = find(t, at);

    if (at.node == MB_PREFIX_NONE || at.pos >= limit)
        return false;
    if (i < 0 || at.pos == t->node[i].end)
        i = child_at(t, i, ids[at.pos]);
    if (i < 0)
        return false;
    const struct mb_prefix_node *n = &t->node[i];
    const int32_t *have = ids_of(t, n);
    int64_t pos = at.pos, end = n->end < limit ? n->end : limit;
    while (pos < end && have[pos % MB_KV_BLOCK] == ids[pos])
        pos++;
    *next = (struct mb_prefix_place){i, pos};
    return pos > at.pos;
}

struct mb_prefix_place mb_prefix_back(const struct mb_prefix *t, struct mb_prefix_place at, int64_t pos)
{
    if (at.node == MB_PREFIX_NONE)
        return at;
    at.pos = pos;
    at.node = find(t, at);
    return at;
}

void mb_prefix_move(struct mb_prefix *t, struct mb_prefix_place *at, struct mb_prefix_place to)
{
    struct mb_prefix_place from = *at;

    *at = to;
    if (to.node >= 0) {
        t->node[to.node].users++;
        settle(t, to.node);
    }
    if (from.node < 0)
        return;
    t->node[from.node].users--;
    t->node[from.node].used = ++t->clock;
    settle(t, from.node);
}

/* The part of node i before `pos` becomes a node of its own in front of it, in the same page. */
static int32_t split(struct mb_prefix *t, int32_t i, int64_t pos)
{
    int32_t f = new_node(t);

    if (f < 0)
        return -1;
    struct mb_prefix_node *n = &t->node[i];
    chain_out(t, i);
    t->node[f] = (struct mb_prefix_node){.parent = n->parent,
                                         .begin = n->begin,
                                         .end = (int32_t)pos,
                                         .part = n->part,
                                         .page = n->page,
                                         .children = 1,
                                         .heap = -1};
    mb_pages_join(t->pages, n->part, n->page);
    n->parent = f;
    n->begin = (int32_t)pos;
    chain_in(t, f);
    chain_in(t, i);
    return f;
}

void mb_prefix_add(struct mb_prefix *t, struct mb_prefix_place *at, int64_t end, int32_t part, int32_t page)
{
    const struct mb_prefix_place none = {MB_PREFIX_NONE, 0};
    int32_t i = find(t, *at);
    struct mb_prefix_node *n = i >= 0 ? &t->node[i] : NULL;

    if (n != NULL && n->end == at->pos && n->children == 0 && n->part == part && n->page == page &&
        at->pos % MB_KV_BLOCK != 0) {
        n->end = (int32_t)end;
        mb_prefix_move(t, at, (struct mb_prefix_place){i, end});
        return;
    }
    if (n != NULL && at->pos < n->end)
        i = split(t, i, at->pos);
    int32_t c = n != NULL && i < 0 ? -1 : new_node(t);
    if (c < 0) {
        mb_prefix_move(t, at, none);
        return;
    }
    t->node[c] = (struct mb_prefix_node){
        .parent = i, .begin = (int32_t)at->pos, .end = (int32_t)end, .part = part, .page = page, .heap = -1};
    if (i >= 0) {
        t->node[i].children++;
        settle(t, i);
    }
    mb_pages_join(t->pages, part, page);
    chain_in(t, c);
    mb_prefix_move(t, at, (struct mb_prefix_place){c, end});
}

bool mb_prefix_evict(struct mb_prefix *t)
{
    if (t->n_heap == 0)
        return false;
    int32_t i = t->heap[0];
    struct mb_prefix_node *n = &t->node[i];
    heap_remove(t, i);
    chain_out(t, i);
    if (n->parent >= 0) {
        struct mb_prefix_node *p = &t->node[n->parent];
        p->children--;
        p->used = p->used > n->used ? p->used : n->used;
        settle(t, n->parent);
    }
    mb_pages_leave(t->pages, n->part, n->page);
    n->next = t->unused;
    t->unused = i;
    return true;
}
