#include "guide/dfa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

struct mb_dfa *mb_dfa_new(int32_t ranges, int32_t classes)
{
    struct mb_dfa *d = mb_zalloc(NULL, MB_MEM_REQUESTS, 1, sizeof *d);

    if (d == NULL)
        return NULL;
    d->ranges = ranges;
    d->classes = classes;
    d->from = mb_zalloc(NULL, MB_MEM_REQUESTS, (size_t)ranges, sizeof *d->from);
    d->class_of = mb_zalloc(NULL, MB_MEM_REQUESTS, (size_t)ranges, sizeof *d->class_of);
    if (d->from == NULL || d->class_of == NULL) {
        mb_dfa_destroy(d);
        return NULL;
    }
    return d;
}

void mb_dfa_destroy(struct mb_dfa *d)
{
    if (d == NULL)
        return;
    mb_free(d->from);
    mb_free(d->class_of);
    mb_free(d->next);
    mb_free(d->accepts);
    mb_free(d->near);
    mb_free(d->far);
    mb_free(d);
}

enum mb_status mb_dfa_add_state(struct mb_dfa *d, int32_t *cap, char *err, size_t err_cap)
{
    if (d->states >= MB_DFA_MAX_STATES || (int64_t)(d->states + 1) * d->classes > MB_DFA_MAX_CELLS) {
        snprintf(err, err_cap, "the expression needs more than %d states", d->states);
        return MB_REQUEST;
    }
    if (d->states == *cap) {
        int32_t more = *cap == 0 ? 16 : 2 * *cap;
        int32_t *next =
            mb_grow(NULL, MB_MEM_REQUESTS, d->next, (size_t)more * (size_t)d->classes, sizeof *next);
        if (next == NULL)
            return no_memory();
        d->next = next;
        uint8_t *accepts = mb_grow(NULL, MB_MEM_REQUESTS, d->accepts, (size_t)more, 1);
        if (accepts == NULL)
            return no_memory();
        d->accepts = accepts;
        *cap = more;
    }
    for (int32_t c = 0; c < d->classes; c++)
        d->next[(int64_t)d->states * d->classes + c] = -1;
    d->accepts[d->states++] = 0;
    return MB_OK;
}

bool mb_dfa_reaches(const struct mb_dfa *d, int32_t state, uint32_t lo, uint32_t hi, int64_t least,
                    int64_t most)
{
    int32_t i = 0, end = d->ranges;

    while (end - i > 1) {
        int32_t mid = (i + end) / 2;
        if (d->from[mid] <= lo)
            i = mid;
        else
            end = mid;
    }
    for (; i < d->ranges && d->from[i] <= hi; i++) {
        int32_t t = d->next[(int64_t)state * d->classes + d->class_of[i]];
        if (t >= 0 && d->near[t] <= most && d->far[t] >= least)
            return true;
    }
    return false;
}

/* ---------------------------------------------------------------- what can be reached */

/* Edges the other way round: of state t they are from[at[t] .. at[t + 1]). */
struct back {
    int32_t *at, *from;
};

static enum mb_status back_make(const struct mb_dfa *d, struct back *b)
{
    int64_t cells = (int64_t)d->states * d->classes;

    b->at = mb_zalloc(NULL, MB_MEM_REQUESTS, (size_t)d->states + 2, sizeof *b->at);
    b->from = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)cells + 1, sizeof *b->from);
    if (b->at == NULL || b->from == NULL)
        return no_memory();
    for (int64_t i = 0; i < cells; i++)
        if (d->next[i] >= 0)
            b->at[d->next[i] + 2]++;
    for (int32_t t = 0; t < d->states; t++)
        b->at[t + 2] += b->at[t + 1];
    for (int64_t i = 0; i < cells; i++)
        if (d->next[i] >= 0)
            b->from[b->at[d->next[i] + 1]++] = (int32_t)(i / d->classes);
    return MB_OK;
}

/* Breadth first from the accepting states. */
static void set_near(struct mb_dfa *d, const struct back *b, int32_t *queue)
{
    int32_t n = 0;

    for (int32_t s = 0; s < d->states; s++) {
        d->near[s] = d->accepts[s] ? 0 : MB_DFA_ENDLESS;
        if (d->accepts[s])
            queue[n++] = s;
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t t = queue[i];
        for (int32_t j = b->at[t]; j < b->at[t + 1]; j++) {
            int32_t s = b->from[j];
            if (d->near[s] == MB_DFA_ENDLESS) {
                d->near[s] = d->near[t] + 1;
                queue[n++] = s;
            }
        }
    }
}

static void cut(struct mb_dfa *d)
{
    for (int64_t i = 0; i < (int64_t)d->states * d->classes; i++)
        if (d->next[i] >= 0 && d->near[d->next[i]] == MB_DFA_ENDLESS)
            d->next[i] = -1;
}

/* From states without a way on backwards; states that a circle can be reached from are never done: endless.
 */
static void set_far(struct mb_dfa *d, const struct back *b, int32_t *queue, int32_t *left)
{
    int32_t n = 0;

    for (int32_t s = 0; s < d->states; s++) {
        left[s] = 0;
        for (int32_t c = 0; c < d->classes; c++)
            left[s] += d->next[(int64_t)s * d->classes + c] >= 0;
        d->far[s] = left[s] == 0 ? 0 : MB_DFA_ENDLESS;
        if (left[s] == 0 && d->near[s] != MB_DFA_ENDLESS)
            queue[n++] = s;
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t t = queue[i];
        for (int32_t j = b->at[t]; j < b->at[t + 1]; j++) {
            int32_t s = b->from[j];
            if (--left[s] == 0)
                queue[n++] = s;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t s = queue[i], far = 0;
        for (int32_t c = 0; c < d->classes; c++) {
            int32_t t = d->next[(int64_t)s * d->classes + c];
            far = t >= 0 && d->far[t] + 1 > far ? d->far[t] + 1 : far;
        }
        d->far[s] = far;
    }
}

void mb_dfa_ascii(struct mb_dfa *d)
{
    for (int32_t i = 0; i < d->ranges; i++) {
        uint32_t end = i + 1 < d->ranges ? d->from[i + 1] : 128;
        for (uint32_t c = d->from[i]; c < end && c < 128; c++)
            d->ascii[c] = d->class_of[i];
    }
}

enum mb_status mb_dfa_settle(struct mb_dfa *d)
{
    struct back b = {0};
    int32_t *queue = mb_alloc(NULL, MB_MEM_REQUESTS, 2 * (size_t)d->states + 1, sizeof *queue);

    d->near = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)d->states + 1, sizeof *d->near);
    d->far = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)d->states + 1, sizeof *d->far);
    enum mb_status st = queue == NULL || d->near == NULL || d->far == NULL ? no_memory() : back_make(d, &b);
    if (st == MB_OK) {
        set_near(d, &b, queue);
        cut(d);
        mb_free(b.at);
        mb_free(b.from);
        b = (struct back){0};
        st = back_make(d, &b);
    }
    if (st == MB_OK) {
        set_far(d, &b, queue, queue + d->states);
        mb_dfa_ascii(d);
        if (d->states > 0 && d->near[0] == MB_DFA_ENDLESS)
            d->states = 0;
    }
    mb_free(b.at);
    mb_free(b.from);
    mb_free(queue);
    return st;
}

/* ---------------------------------------------------------------- both */

/* Pairs of states seen, by open addressing. */
struct pairs {
    int32_t *a, *b;      /* [cap] of state i of the product */
    int32_t *slot, mask; /* -1: free */
    int32_t cap;
};

static enum mb_status pairs_make(struct pairs *p)
{
    p->mask = (1 << 17) - 1;
    p->slot = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)p->mask + 1, sizeof *p->slot);
    p->a = mb_alloc(NULL, MB_MEM_REQUESTS, MB_DFA_MAX_STATES, sizeof *p->a);
    p->b = mb_alloc(NULL, MB_MEM_REQUESTS, MB_DFA_MAX_STATES, sizeof *p->b);
    if (p->slot == NULL || p->a == NULL || p->b == NULL)
        return no_memory();
    memset(p->slot, 0xff, sizeof *p->slot * ((size_t)p->mask + 1));
    return MB_OK;
}

static void pairs_fini(struct pairs *p)
{
    mb_free(p->slot);
    mb_free(p->a);
    mb_free(p->b);
}

/* The product's state for (a, b), made if it is new. */
static enum mb_status pair_state(struct pairs *p, struct mb_dfa *d, int32_t *cap, const struct mb_dfa *x,
                                 const struct mb_dfa *y, int32_t a, int32_t b, int32_t *out, char *err,
                                 size_t n)
{
    uint32_t h = ((uint32_t)a * 2654435761u) ^ ((uint32_t)b * 40503u * 65537u);

    for (h = (h ^ h >> 15) & (uint32_t)p->mask; p->slot[h] >= 0; h = (h + 1) & (uint32_t)p->mask) {
        *out = p->slot[h];
        if (p->a[*out] == a && p->b[*out] == b)
            return MB_OK;
    }
    MB_TRY(mb_dfa_add_state(d, cap, err, n));
    *out = d->states - 1;
    d->accepts[*out] = x->accepts[a] && y->accepts[b];
    p->a[*out] = a;
    p->b[*out] = b;
    p->slot[h] = *out;
    return MB_OK;
}

/* Ranges where either begins a new one, each a class of its own unless the pair of classes was there. */
static struct mb_dfa *both_new(const struct mb_dfa *a, const struct mb_dfa *b, int32_t **pair_a,
                               int32_t **pair_b)
{
    struct mb_dfa *d = mb_dfa_new(a->ranges + b->ranges, 0);
    int32_t n = 0;

    *pair_a = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)(a->ranges + b->ranges), sizeof **pair_a);
    *pair_b = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)(a->ranges + b->ranges), sizeof **pair_b);
    if (d == NULL || *pair_a == NULL || *pair_b == NULL) {
        mb_dfa_destroy(d);
        return NULL;
    }
    for (int32_t i = 0, j = 0; i < a->ranges || j < b->ranges;) {
        uint32_t at = i < a->ranges && (j >= b->ranges || a->from[i] <= b->from[j]) ? a->from[i] : b->from[j];
        i += i < a->ranges && a->from[i] == at;
        j += j < b->ranges && b->from[j] == at;
        int32_t ca = a->class_of[i - 1], cb = b->class_of[j - 1], c = 0;
        while (c < d->classes && ((*pair_a)[c] != ca || (*pair_b)[c] != cb))
            c++;
        (*pair_a)[c] = ca;
        (*pair_b)[c] = cb;
        d->classes += c == d->classes;
        d->from[n] = at;
        d->class_of[n++] = c;
    }
    d->ranges = n;
    return d;
}

static enum mb_status both_states(const struct mb_dfa *a, const struct mb_dfa *b, struct mb_dfa *d,
                                  const int32_t *pair_a, const int32_t *pair_b, struct pairs *p, char *err,
                                  size_t n)
{
    int32_t cap = 0, first;

    MB_TRY(pair_state(p, d, &cap, a, b, 0, 0, &first, err, n));
    for (int32_t s = 0; s < d->states; s++) {
        for (int32_t c = 0; c < d->classes; c++) {
            int32_t to, x = a->next[(int64_t)p->a[s] * a->classes + pair_a[c]];
            int32_t y = b->next[(int64_t)p->b[s] * b->classes + pair_b[c]];
            if (x < 0 || y < 0)
                continue;
            MB_TRY(pair_state(p, d, &cap, a, b, x, y, &to, err, n));
            d->next[(int64_t)s * d->classes + c] = to;
        }
    }
    return mb_dfa_settle(d);
}

enum mb_status mb_dfa_both(const struct mb_dfa *a, const struct mb_dfa *b, struct mb_dfa **out, char *err,
                           size_t cap)
{
    struct pairs p = {0};
    int32_t *pair_a = NULL, *pair_b = NULL;
    struct mb_dfa *d = both_new(a, b, &pair_a, &pair_b);
    enum mb_status st = d == NULL ? no_memory() : pairs_make(&p);

    if (st == MB_OK && a->states > 0 && b->states > 0)
        st = both_states(a, b, d, pair_a, pair_b, &p, err, cap);
    else if (st == MB_OK)
        d->classes = 0;
    pairs_fini(&p);
    mb_free(pair_a);
    mb_free(pair_b);
    if (st == MB_OK)
        *out = d;
    else
        mb_dfa_destroy(d);
    return st;
}
