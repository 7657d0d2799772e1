/* The KV pages of an attention group, as its scheduler knows them: who holds each, whose rows it has, and
 * which are free. A page is one of a part (sequence parallelism: the ranks that keep its segment); it belongs
 * to the sequences that hold it and to the places of the prefix tree (prefix.h) that stand for its rows, and
 * is free again when nobody is left. Rows of a page are only ever added, by one sequence: its writer. Local.
 */
#ifndef MB_ENGINE_PAGES_H
#define MB_ENGINE_PAGES_H
#include "base/mem.h"
#include "base/numerics.h"

struct mb_page {
    int32_t seqs;      /* sequences that hold it */
    int32_t nodes;     /* nodes of the prefix tree whose rows it has */
    int32_t filled;    /* rows in steps so far */
    uint64_t writer;   /* number of the sequence that adds rows; 0: none */
    int64_t batch;     /* the last batch (mb_pages.batch) that adds rows, */
    int32_t from, row; /* offset of the first of these, and its row in that batch */
};

struct mb_pages {
    int32_t parts;
    int64_t n;            /* pages of each part */
    struct mb_page *page; /* [parts][n] */
    int32_t *ids;         /* [parts][n][MB_KV_BLOCK] of the rows; NULL: not kept */
    int32_t *stack;       /* [parts][n] free ones */
    int32_t *n_free;      /* [parts] */
    int32_t *n_held;      /* [parts] held by sequences */
    int64_t batch;        /* batches made so far */
};

/* ids: whether the ids of rows are kept. Errors: MB_NO_MEMORY. */
enum mb_status mb_pages_create(struct mb_mem *mem, int32_t parts, int64_t n, bool ids, struct mb_pages *p);
void mb_pages_destroy(struct mb_pages *p); /* half-made ok */

static inline struct mb_page *mb_page_at(const struct mb_pages *p, int32_t part, int32_t page)
{
    return &p->page[part * p->n + page];
}
static inline int32_t *mb_page_ids(const struct mb_pages *p, int32_t part, int32_t page)
{
    return p->ids + (part * p->n + page) * MB_KV_BLOCK;
}
/* A free page, which one sequence then holds and writes; -1: none. */
int32_t mb_pages_take(struct mb_pages *p, int32_t part, uint64_t writer);
/* One more sequence holds the page; one fewer does (writer: its number, which then writes no more). */
void mb_pages_hold(struct mb_pages *p, int32_t part, int32_t page);
void mb_pages_drop(struct mb_pages *p, int32_t part, int32_t page, uint64_t writer);
/* One node of the tree more, or fewer, has rows of it. */
void mb_pages_join(struct mb_pages *p, int32_t part, int32_t page);
void mb_pages_leave(struct mb_pages *p, int32_t part, int32_t page);
/* Pages that sequences hold, each counted once. */
int64_t mb_pages_held(const struct mb_pages *p);
#endif
