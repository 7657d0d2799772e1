/* Automata from regular expressions (subset construction) and from lists of words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "guide/dfa.h"
#include "guide/regex.h"

#define MAX_RANGES 8192
#define MAX_WORK 60000000

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

struct maker {
    const struct mb_nfa *a;
    struct mb_dfa *d;
    int32_t cap_states;
    uint8_t *member; /* [sets][classes] */
    /* the nodes of each state, ascending: node[at[s] .. at[s + 1]) */
    int32_t *node, *at, cap_nodes, cap_at;
    int32_t *slot, mask;
    int32_t *list, *stack, *seen, stamp; /* [nodes] of the graph */
    int64_t work;
    char *err;
    size_t cap;
};

static enum mb_status too_much(struct maker *m, const char *what)
{
    snprintf(m->err, m->cap, "the expression needs too many %s", what);
    return MB_REQUEST;
}

/* ---------------------------------------------------------------- classes */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Where a set begins or ends; ascending, the first is 0. */
static enum mb_status cuts(struct maker *m, uint32_t **out, int32_t *n)
{
    int64_t most = 1;

    for (int32_t i = 0; i < m->a->n_sets; i++)
        most += 2 * (int64_t)m->a->set[i].n;
    uint32_t *v = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)most, sizeof *v);
    if (v == NULL)
        return no_memory();
    int64_t k = 0;
    v[k++] = 0;
    for (int32_t i = 0; i < m->a->n_sets; i++) {
        for (int32_t j = 0; j < m->a->set[i].n; j++) {
            v[k++] = m->a->set[i].r[j].lo;
            if (m->a->set[i].r[j].hi < MB_LAST_CHAR)
                v[k++] = m->a->set[i].r[j].hi + 1;
        }
    }
    qsort(v, (size_t)k, sizeof *v, by_value);
    *n = 0;
    for (int64_t i = 0; i < k; i++)
        if (i == 0 || v[i] != v[i - 1])
            v[(*n)++] = v[i];
    *out = v;
    if (*n <= MAX_RANGES && (int64_t)*n * m->a->n_sets <= MAX_WORK / 4)
        return MB_OK;
    mb_free(v);
    *out = NULL;
    return too_much(m, "kinds of characters");
}

/* Ranges that are in the same sets are one class. rows: [n][sets] whether range i is in a set */
static enum mb_status classify(struct maker *m, const uint32_t *from, int32_t n)
{
    size_t sets = (size_t)m->a->n_sets + 1;
    uint8_t *rows = mb_zalloc(NULL, MB_MEM_REQUESTS, (size_t)n * sets, 1);
    uint64_t *hash = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)n, sizeof *hash);

    m->d = mb_dfa_new(n, 0);
    if (m->d == NULL || rows == NULL || hash == NULL) {
        mb_free(rows);
        mb_free(hash);
        return no_memory();
    }
    for (int32_t i = 0; i < n; i++) {
        uint8_t *row = rows + (size_t)i * sets;
        for (int32_t s = 0; s < m->a->n_sets; s++)
            row[s] = mb_set_has(&m->a->set[s], from[i]);
        uint64_t h = mb_hash64(row, sets);
        int32_t c = 0;
        while (c < m->d->classes && (hash[c] != h || memcmp(rows + (size_t)c * sets, row, sets) != 0))
            c++;
        if (c == m->d->classes) { /* its row becomes that of the class: no more classes than ranges */
            memmove(rows + (size_t)c * sets, row, sets);
            hash[c] = h;
            m->d->classes++;
        }
        m->d->from[i] = from[i];
        m->d->class_of[i] = c;
    }
    mb_free(hash);
    m->member = rows;
    return MB_OK;
}

/* ---------------------------------------------------------------- sets of nodes */

/* What can be reached without reading from the n nodes in m->list: those that read, the end marks and the
 * match, ascending; returns how many. begin, end: what marks may be passed. */
static int32_t closure(struct maker *m, int32_t n, bool begin, bool end)
{
    int32_t top = 0, k = 0;

    m->stamp++;
    for (int32_t i = 0; i < n; i++) {
        if (m->seen[m->list[i]] != m->stamp)
            m->stack[top++] = m->list[i];
        m->seen[m->list[i]] = m->stamp;
    }
    while (top > 0) {
        int32_t i = m->stack[--top];
        const struct mb_nfa_node *v = &m->a->node[i];
        m->work++;
        if (v->kind == MB_NFA_READ || v->kind == MB_NFA_MATCH || (v->kind == MB_NFA_END && !end))
            m->list[k++] = i;
        if (v->kind == MB_NFA_READ || v->kind == MB_NFA_MATCH || (v->kind == MB_NFA_END && !end) ||
            (v->kind == MB_NFA_BEGIN && !begin))
            continue;
        if (m->seen[v->a] != m->stamp)
            m->stack[top++] = v->a;
        m->seen[v->a] = m->stamp;
        if (v->kind != MB_NFA_SPLIT)
            continue;
        if (m->seen[v->b] != m->stamp)
            m->stack[top++] = v->b;
        m->seen[v->b] = m->stamp;
    }
    return k;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool has_match(const struct maker *m, const int32_t *v, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (m->a->node[v[i]].kind == MB_NFA_MATCH)
            return true;
    return false;
}

/* Whether the text may end in this state. */
static bool accepts(struct maker *m, const int32_t *v, int32_t n, bool begin)
{
    memcpy(m->list, v, sizeof *v * (size_t)n);
    return has_match(m, m->list, closure(m, n, begin, true));
}

/* The state whose nodes are the n in m->list; made if it is new. */
static enum mb_status state_of(struct maker *m, int32_t n, bool begin, int32_t *out)
{
    struct mb_dfa *d = m->d;

    if (m->a->search && has_match(m, m->list, n)) { /* whatever follows */
        m->list[0] = 0;
        n = 1;
    }
    qsort(m->list, (size_t)n, sizeof *m->list, by_number);
    uint32_t h = (uint32_t)mb_hash64(m->list, sizeof *m->list * (size_t)n) & (uint32_t)m->mask;
    for (; m->slot[h] >= 0; h = (h + 1) & (uint32_t)m->mask) {
        int32_t s = m->slot[h];
        if (!begin && m->at[s + 1] - m->at[s] == n &&
            memcmp(m->node + m->at[s], m->list, sizeof *m->list * (size_t)n) == 0 && s != 0) {
            *out = s;
            return MB_OK;
        }
    }
    MB_TRY(mb_dfa_add_state(d, &m->cap_states, m->err, m->cap));
    int32_t s = d->states - 1;
    MB_TRY(mb_guide_room((void **)&m->at, &m->cap_at, s + 2, sizeof *m->at));
    MB_TRY(mb_guide_room((void **)&m->node, &m->cap_nodes, (int64_t)m->at[s] + n, sizeof *m->node));
    memcpy(m->node + m->at[s], m->list, sizeof *m->list * (size_t)n);
    m->at[s + 1] = m->at[s] + n;
    d->accepts[s] = accepts(m, m->node + m->at[s], n, begin);
    m->slot[h] = s;
    *out = s;
    return MB_OK;
}

/* Where state s goes with a code point of class c. */
static enum mb_status follow(struct maker *m, int32_t s, int32_t c)
{
    int32_t n = 0, to, sets = m->a->n_sets + 1;
    bool matched = false;

    for (int32_t i = m->at[s]; i < m->at[s + 1]; i++) {
        const struct mb_nfa_node *v = &m->a->node[m->node[i]];
        m->work++;
        matched |= v->kind == MB_NFA_MATCH && m->a->search;
        if (v->kind == MB_NFA_READ && m->member[(size_t)c * (size_t)sets + (size_t)v->set])
            m->list[n++] = v->a;
    }
    if (m->work > MAX_WORK)
        return too_much(m, "steps");
    if (matched)
        m->list[n++] = 0; /* node 0 is the match */
    n = closure(m, n, false, false);
    if (n == 0)
        return MB_OK;
    MB_TRY(state_of(m, n, false, &to));
    m->d->next[(int64_t)s * m->d->classes + c] = to;
    return MB_OK;
}

static enum mb_status tables(struct maker *m)
{
    size_t nodes = (size_t)m->a->n;

    m->mask = (1 << 17) - 1;
    m->slot = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)m->mask + 1, sizeof *m->slot);
    /* a node may be in the list once for each edge to it before it is closed */
    m->list = mb_alloc(NULL, MB_MEM_REQUESTS, nodes + 2, sizeof *m->list);
    m->stack = mb_alloc(NULL, MB_MEM_REQUESTS, nodes + 2, sizeof *m->stack);
    m->seen = mb_zalloc(NULL, MB_MEM_REQUESTS, nodes + 1, sizeof *m->seen);
    if (m->slot == NULL || m->list == NULL || m->stack == NULL || m->seen == NULL)
        return no_memory();
    memset(m->slot, 0xff, sizeof *m->slot * ((size_t)m->mask + 1));
    MB_TRY(mb_guide_room((void **)&m->at, &m->cap_at, 2, sizeof *m->at));
    m->at[0] = 0;
    return MB_OK;
}

static enum mb_status determine(struct maker *m)
{
    uint32_t *from = NULL;
    int32_t n = 0, first;

    MB_TRY(cuts(m, &from, &n));
    enum mb_status st = classify(m, from, n);
    mb_free(from);
    MB_TRY(st);
    MB_TRY(tables(m));
    m->list[0] = m->a->start;
    n = closure(m, 1, true, false);
    MB_TRY(state_of(m, n, true, &first));
    for (int32_t s = 0; s < m->d->states; s++)
        for (int32_t c = 0; c < m->d->classes; c++)
            MB_TRY(follow(m, s, c));
    return mb_dfa_settle(m->d);
}

enum mb_status mb_dfa_of_regex(const char *s, size_t n, bool search, struct mb_dfa **out, char *err,
                               size_t cap)
{
    struct mb_nfa a;

    MB_TRY(mb_nfa_of_regex(s, n, search, &a, err, cap));
    struct maker m = {.a = &a, .err = err, .cap = cap};
    enum mb_status st = determine(&m);
    if (st == MB_OK)
        *out = m.d;
    else
        mb_dfa_destroy(m.d);
    mb_free(m.member);
    mb_free(m.node);
    mb_free(m.at);
    mb_free(m.slot);
    mb_free(m.list);
    mb_free(m.stack);
    mb_free(m.seen);
    mb_nfa_fini(&a);
    return st;
}

/* ---------------------------------------------------------------- words */

static int by_text(const void *a, const void *b)
{
    const struct mb_dfa_word *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int d = n > 0 ? memcmp(x->s, y->s, n) : 0;
    return d != 0 ? d : (x->n > y->n) - (x->n < y->n);
}

/* Each code point that occurs is a range and a class; class 0 is of the others. */
static void word_ranges(struct mb_dfa *d, const struct mb_set *all)
{
    uint32_t from = 0;
    int32_t n = 0, c = 1;

    for (int32_t i = 0; i < all->n; i++) {
        for (uint32_t cp = all->r[i].lo; cp <= all->r[i].hi; cp++) {
            if (cp > from)
                d->from[n++] = from; /* class 0 */
            d->from[n] = cp;
            d->class_of[n++] = c++;
            from = cp + 1;
        }
    }
    if (from <= MB_LAST_CHAR)
        d->from[n++] = from;
    d->ranges = n;
}

static enum mb_status word_classes(const struct mb_dfa_word *v, int32_t n, struct mb_dfa **out, char *err,
                                   size_t cap)
{
    struct mb_set all = {0};
    uint32_t cp;
    enum mb_status st = MB_OK;

    for (int32_t i = 0; i < n && st == MB_OK; i++) {
        for (size_t at = 0; at < v[i].n && st == MB_OK;) {
            at += (size_t)mb_chars_next(v[i].s + at, v[i].n - at, &cp);
            if (!(all.n > 0 && all.r[all.n - 1].lo == cp))
                st = mb_set_add(&all, cp, cp);
            if (all.n > 65536)
                mb_set_settle(&all);
        }
    }
    mb_set_settle(&all);
    int64_t chars = 0;
    for (int32_t i = 0; i < all.n; i++)
        chars += all.r[i].hi - all.r[i].lo + 1;
    struct mb_dfa *d =
        st == MB_OK && chars <= 20000 ? mb_dfa_new(2 * (int32_t)chars + 1, (int32_t)chars + 1) : NULL;
    if (st == MB_OK && chars > 20000) {
        snprintf(err, cap, "too many different characters");
        st = MB_REQUEST;
    } else if (st == MB_OK && d == NULL) {
        st = no_memory();
    }
    if (st == MB_OK)
        word_ranges(d, &all);
    mb_set_fini(&all);
    *out = d;
    return st;
}

static enum mb_status add_word(struct mb_dfa *d, int32_t *states, struct mb_dfa_word w, char *err, size_t cap)
{
    int32_t s = 0;
    uint32_t cp;

    for (size_t at = 0; at < w.n;) {
        at += (size_t)mb_chars_next(w.s + at, w.n - at, &cp);
        int64_t cell = (int64_t)s * d->classes + mb_dfa_class(d, cp);
        if (d->next[cell] < 0) {
            MB_TRY(mb_dfa_add_state(d, states, err, cap));
            d->next[cell] = d->states - 1;
        }
        s = d->next[cell];
    }
    d->accepts[s] = 1;
    return MB_OK;
}

enum mb_status mb_dfa_of_words(struct mb_dfa_word *v, int32_t n, struct mb_dfa **out, char *err, size_t cap)
{
    struct mb_dfa *d;
    int32_t states = 0;

    if (n > 1)
        qsort(v, (size_t)n, sizeof *v, by_text);
    MB_TRY(word_classes(v, n, &d, err, cap));
    mb_dfa_ascii(d); /* mb_dfa_class looks there */
    enum mb_status st = mb_dfa_add_state(d, &states, err, cap);
    for (int32_t i = 0; i < n && st == MB_OK; i++)
        st = add_word(d, &states, v[i], err, cap);
    if (st == MB_OK)
        st = mb_dfa_settle(d);
    if (st == MB_OK)
        *out = d;
    else
        mb_dfa_destroy(d);
    return st;
}
