/* The tree of prefixes and the pages below it, against a plain list of what was put in: drawn texts come, share,
 * grow, fork inside pages, leave, and are forgotten in the order of their use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "draw.h"
#include "engine/prefix.h"

#define PAGES 64
#define READERS 6
#define MOST 400

static struct mb_mem mem;

/* Somebody with a text whose first pos ids are in pages. */
struct reader {
    struct mb_prefix_place at;
    int32_t ids[MOST], page[MOST / MB_KV_BLOCK + 1], n_pages, kind;
    int64_t n;
    uint64_t number;
};

struct world {
    struct mb_pages pages;
    struct mb_prefix tree;
    struct reader reader[READERS];
    uint64_t readers;
    int64_t shared, copied;
};

static void drop_all(struct world *w, struct reader *r)
{
    for (int32_t k = 0; k < r->n_pages; k++)
        mb_pages_drop(&w->pages, 0, r->page[k], r->number);
    r->n_pages = 0;
    mb_prefix_move(&w->tree, &r->at, (struct mb_prefix_place){MB_PREFIX_NONE, 0});
}

/* A free page, for which the oldest of what nobody uses goes. */
static int32_t take(struct world *w, uint64_t number)
{
    for (;;) {
        int32_t page = mb_pages_take(&w->pages, 0, number);
        if (page >= 0 || !mb_prefix_evict(&w->tree))
            return page;
    }
}

/* Texts of few ids, so that they often begin alike, of one of two kinds. */
static void draw_text(struct reader *r)
{
    int32_t same = draw(4) == 0 ? MOST : draw(MOST);

    r->kind = draw(2);
    r->n = 1 + draw(MOST - 1);
    for (int32_t i = 0; i < r->n; i++)
        r->ids[i] = i < same ? i % 3 : draw(2);
}

/* Goes as far as the tree has the text; what it has is the text. */
static void share(struct world *w, struct reader *r)
{
    struct mb_prefix_place next;

    while (mb_prefix_step(&w->tree, r->at, r->ids, r->n, &next)) {
        const struct mb_prefix_node *n = &w->tree.node[next.node];
        int32_t k = (int32_t)(r->at.pos / MB_KV_BLOCK);
        for (int64_t i = k * MB_KV_BLOCK; i < next.pos; i++) /* the page has all its rows, not only the node's */
            assert_int_equal(mb_page_ids(&w->pages, n->part, n->page)[i % MB_KV_BLOCK], r->ids[i]);
        if (k == r->n_pages || r->page[k] != n->page) {
            mb_pages_hold(&w->pages, 0, n->page);
            if (k < r->n_pages)
                mb_pages_drop(&w->pages, 0, r->page[k], r->number);
            r->n_pages = k + 1;
            r->page[k] = n->page;
        }
        w->shared += next.pos - r->at.pos;
        mb_prefix_move(&w->tree, &r->at, next);
    }
}

/* The reader's next rows are its own: up to the end of a page. */
static bool write(struct world *w, struct reader *r)
{
    int32_t k = (int32_t)(r->at.pos / MB_KV_BLOCK), offset = (int32_t)(r->at.pos % MB_KV_BLOCK), old = -1;
    int64_t end = r->at.pos + 1 + draw(MB_KV_BLOCK - offset);
    struct mb_page *m = k < r->n_pages ? mb_page_at(&w->pages, 0, r->page[k]) : NULL;

    end = end < r->n ? end : r->n;
    if (m != NULL && (m->writer != r->number || m->filled != offset)) {
        old = r->page[k];
        m = NULL;
        w->copied++;
    }
    if (m == NULL) {
        int32_t page = take(w, r->number);
        if (page < 0)
            return false;
        if (old >= 0) {
            memcpy(mb_page_ids(&w->pages, 0, page), mb_page_ids(&w->pages, 0, old), sizeof(int32_t) * (size_t)offset);
            mb_pages_drop(&w->pages, 0, old, r->number);
        }
        r->page[k] = page;
        r->n_pages = k + 1;
        m = mb_page_at(&w->pages, 0, page);
    }
    memcpy(mb_page_ids(&w->pages, 0, r->page[k]) + offset, r->ids + r->at.pos, sizeof(int32_t) * (size_t)(end - r->at.pos));
    m->filled = offset + (int32_t)(end - r->at.pos);
    mb_prefix_add(&w->tree, &r->at, end, 0, r->page[k]);
    return true;
}

/* Free, held and kept pages are all there are; nodes say the same of themselves as their children do. */
static void check(const struct world *w)
{
    int32_t seqs[PAGES] = {0}, nodes[PAGES] = {0}, children[4096] = {0}, users[4096] = {0}, waiting = 0, free_pages = 0;
    bool unused[4096] = {false};

    assert_in_range(w->tree.n, 0, 4096);
    for (int i = 0; i < READERS; i++) {
        for (int32_t k = 0; k < w->reader[i].n_pages; k++)
            seqs[w->reader[i].page[k]]++;
        if (w->reader[i].at.node >= 0)
            users[w->reader[i].at.node]++;
    }
    for (int32_t i = w->tree.unused; i >= 0; i = w->tree.node[i].next)
        unused[i] = true;
    for (int32_t i = 0; i < w->tree.n; i++) {
        const struct mb_prefix_node *n = &w->tree.node[i];
        if (unused[i])
            continue;
        nodes[n->page]++;
        assert_true(n->begin < n->end && n->begin / MB_KV_BLOCK == (n->end - 1) / MB_KV_BLOCK);
        if (n->parent >= 0) {
            assert_false(unused[n->parent]);
            assert_int_equal(w->tree.node[n->parent].end, n->begin);
            children[n->parent]++;
        }
    }
    for (int32_t i = 0; i < w->tree.n; i++) {
        const struct mb_prefix_node *n = &w->tree.node[i];
        if (unused[i])
            continue;
        assert_true(n->children == children[i] && n->users == users[i]);
        assert_true((n->heap >= 0) == (children[i] == 0 && users[i] == 0));
        assert_true(n->heap < 0 || w->tree.heap[n->heap] == i);
        assert_true(n->heap <= 0 || w->tree.node[w->tree.heap[(n->heap - 1) / 2]].used <= n->used);
        waiting += n->heap >= 0;
    }
    assert_int_equal(waiting, w->tree.n_heap);
    for (int32_t i = 0; i < PAGES; i++) {
        const struct mb_page *m = mb_page_at(&w->pages, 0, i);
        assert_true(m->seqs == seqs[i] && m->nodes == nodes[i]);
        free_pages += seqs[i] == 0 && nodes[i] == 0;
    }
    assert_int_equal(free_pages, w->pages.n_free[0]);
}

static void come(struct world *w, struct reader *r)
{
    draw_text(r);
    r->number = ++w->readers;
    r->at = (struct mb_prefix_place){MB_PREFIX_NONE, 0};
    mb_prefix_move(&w->tree, &r->at, mb_prefix_root(r->kind));
    share(w, r);
}

static void end(struct world *w)
{
    for (int i = 0; i < READERS; i++)
        drop_all(w, &w->reader[i]);
    assert_int_equal(mb_pages_held(&w->pages), 0);
    while (mb_prefix_evict(&w->tree))
        ;
    check(w);
    assert_int_equal(w->pages.n_free[0], PAGES);
    mb_prefix_destroy(&w->tree);
    mb_pages_destroy(&w->pages);
    assert_int_equal(mb_mem_total(&mem), 0);
}

static void drawn_texts(void **state)
{
    const char *rounds = getenv("MB_PREFIX_ROUNDS");
    struct world *w = calloc(1, sizeof *w);

    (void)state;
    state_of_draw = 77;
    assert_non_null(w);
    assert_int_equal(mb_pages_create(&mem, 1, PAGES, true, &w->pages), MB_OK);
    assert_int_equal(mb_prefix_create(&mem, &w->pages, &w->tree), MB_OK);
    for (int i = 0; i < READERS; i++)
        come(w, &w->reader[i]);
    for (int64_t i = 0, n = rounds != NULL ? atoll(rounds) : 20000; i < n; i++) {
        struct reader *r = &w->reader[draw(READERS)];
        bool inside = r->at.node != MB_PREFIX_NONE;
        if (inside && draw(3) > 0)
            share(w, r);
        else if (!inside || r->at.pos == r->n || draw(12) == 0 || !write(w, r)) {
            drop_all(w, r);
            come(w, r);
        }
        if (i % 64 == 0)
            check(w);
    }
    assert_true(w->shared > 1000 && w->copied > 100 && w->readers > 100);
    end(w);
    free(w);
}

/* What was used last stays longest; what somebody stands at stays. */
static void the_oldest_leaves(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    (void)state;
    assert_non_null(w);
    assert_int_equal(mb_pages_create(&mem, 1, PAGES, true, &w->pages), MB_OK);
    assert_int_equal(mb_prefix_create(&mem, &w->pages, &w->tree), MB_OK);
    state_of_draw = 1;
    for (int i = 0; i < READERS; i++) {
        struct reader *r = &w->reader[i];
        *r = (struct reader){.at = {MB_PREFIX_NONE, 0}, .n = 40, .number = (uint64_t)i + 1};
        for (int k = 0; k < 40; k++)
            r->ids[k] = 100 * i + k;
        mb_prefix_move(&w->tree, &r->at, mb_prefix_root(0));
        while (r->at.pos < r->n)
            assert_true(write(w, r));
    }
    static const int leave[] = {3, 0, 5, 1};
    for (int i = 0; i < 4; i++)
        drop_all(w, &w->reader[leave[i]]);
    struct mb_prefix_place next;
    assert_int_equal(w->pages.n_free[0], PAGES - READERS);
    for (int i = 0; i < 4; i++) {
        const struct reader *r = &w->reader[leave[i]];
        assert_true(mb_prefix_step(&w->tree, mb_prefix_root(0), r->ids, r->n, &next));
        assert_int_equal(next.pos, 40);
        assert_false(mb_prefix_step(&w->tree, mb_prefix_root(1), r->ids, r->n, &next)); /* of another kind: nothing */
        assert_true(mb_prefix_evict(&w->tree));
        assert_false(mb_prefix_step(&w->tree, mb_prefix_root(0), r->ids, r->n, &next));
        assert_int_equal(w->pages.n_free[0], PAGES - READERS + i + 1);
    }
    assert_false(mb_prefix_evict(&w->tree));
    end(w);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(drawn_texts), cmocka_unit_test(the_oldest_leaves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
