#include "guide/vocab.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for the tree of a vocabulary");
}

struct word {
    const uint8_t *s;
    int64_t n;
    int32_t id;
};

static int by_bytes(const void *a, const void *b)
{
    const struct word *x = a, *y = b;
    int d = memcmp(x->s, y->s, (size_t)(x->n < y->n ? x->n : y->n));
    if (d != 0)
        return d;
    return x->n != y->n ? (x->n > y->n) - (x->n < y->n) : (x->id > y->id) - (x->id < y->id);
}

static int64_t common(const struct word *a, const struct word *b)
{
    int64_t n = 0;

    while (n < a->n && n < b->n && a->s[n] == b->s[n])
        n++;
    return n;
}

static enum mb_status room(struct mb_mem *mem, struct mb_tree *t, int64_t nodes, int32_t tokens)
{
    if (nodes > INT32_MAX - 1)
        return no_memory();
    size_t n = (size_t)nodes + 1;
    t->byte = mb_alloc(mem, MB_MEM_REQUESTS, n, 1);
    t->depth = mb_alloc(mem, MB_MEM_REQUESTS, n, sizeof *t->depth);
    t->end = mb_alloc(mem, MB_MEM_REQUESTS, n, sizeof *t->end);
    t->token_at = mb_alloc(mem, MB_MEM_REQUESTS, n, sizeof *t->token_at);
    t->token = mb_alloc(mem, MB_MEM_REQUESTS, (size_t)tokens + 1, sizeof *t->token);
    return t->byte && t->depth && t->end && t->token_at && t->token ? MB_OK : no_memory();
}

/* w: sorted. The tokens of a node are those up to the first of the next node; equal ones follow each other.
 */
static void fill(struct mb_tree *t, const struct word *w, int32_t n)
{
    int32_t open[MB_TREE_DEPTH + 1], k = 0;

    for (int32_t i = 0; i < n; i++) {
        int64_t same = i > 0 ? common(&w[i - 1], &w[i]) : 0, before = i > 0 ? w[i - 1].n : 0;
        for (int64_t d = before; d > same; d--)
            t->end[open[d]] = k;
        for (int64_t d = same; d < w[i].n; d++, k++) {
            t->byte[k] = w[i].s[d];
            t->depth[k] = (uint16_t)(d + 1);
            t->token_at[k] = i;
            open[d + 1] = k;
        }
    }
    for (int64_t d = n > 0 ? w[n - 1].n : 0; d > 0; d--)
        t->end[open[d]] = k;
    t->token_at[k] = n;
    t->nodes = k;
}

enum mb_status mb_tree_create(struct mb_mem *mem, const uint8_t *text, const int64_t *at, int32_t n,
                              struct mb_tree *out)
{
    struct word *w = mb_alloc(mem, MB_MEM_REQUESTS, (size_t)n + 1, sizeof *w);
    struct mb_tree t = {0};
    int64_t nodes = 0;

    if (w == NULL)
        return no_memory();
    for (int32_t i = 0; i < n; i++)
        if (at[i + 1] > at[i] && at[i + 1] - at[i] <= MB_TREE_DEPTH)
            w[t.tokens++] = (struct word){text + at[i], at[i + 1] - at[i], i};
    if (t.tokens > 1)
        qsort(w, (size_t)t.tokens, sizeof *w, by_bytes);
    for (int32_t i = 0; i < t.tokens; i++) {
        nodes += w[i].n - (i > 0 ? common(&w[i - 1], &w[i]) : 0);
        t.deepest = w[i].n > t.deepest ? (int32_t)w[i].n : t.deepest;
    }
    enum mb_status st = room(mem, &t, nodes, t.tokens);
    if (st == MB_OK) {
        for (int32_t i = 0; i < t.tokens; i++)
            t.token[i] = w[i].id;
        fill(&t, w, t.tokens);
        *out = t;
    } else {
        mb_tree_fini(&t);
    }
    mb_free(w);
    return st;
}

void mb_tree_fini(struct mb_tree *t)
{
    mb_free(t->byte);
    mb_free(t->depth);
    mb_free(t->end);
    mb_free(t->token_at);
    mb_free(t->token);
    *t = (struct mb_tree){0};
}
