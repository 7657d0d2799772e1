#include "guide/states.h"

#include <string.h>
#include "base/hash.h"
#include "base/log.h"

#define SLOTS (2 * MB_STATES_MAX)
#define UNKNOWN (-2)

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for the masks of a grammar");
}

enum mb_status mb_guide_states_create(struct mb_mem *mem, struct mb_acceptor *m, int64_t most,
                                struct mb_guide_states **out)
{
    struct mb_guide_states *t = mb_zalloc(mem, MB_MEM_REQUESTS, 1, sizeof *t);

    if (t == NULL)
        return no_memory();
    t->mem = mem;
    t->m = m;
    t->most = most;
    *out = t;
    return MB_OK;
}

void mb_guide_states_forget(struct mb_guide_states *t)
{
    for (int32_t i = 0; i < t->n; i++)
        mb_free(t->mask[i].bits);
    mb_free(t->at);
    mb_free(t->word);
    mb_free(t->next);
    mb_free(t->mask);
    mb_free(t->slot);
    t->at = NULL;
    t->word = NULL;
    t->next = NULL;
    t->mask = NULL;
    t->slot = NULL;
    t->n = t->cap = t->cap_words = 0;
    t->bytes = 0;
    t->full = false;
}

void mb_guide_states_destroy(struct mb_guide_states *t)
{
    if (t == NULL)
        return;
    mb_guide_states_forget(t);
    for (int32_t i = 0; t->way != NULL && i <= MB_TREE_DEPTH; i++)
        mb_config_fini(&t->way[i]);
    mb_free(t->way);
    mb_config_fini(&t->tmp);
    mb_config_fini(&t->outline);
    mb_free(t);
}

static void *grown(struct mb_guide_states *t, void *p, int64_t n, size_t size)
{
    return mb_grow(t->mem, MB_MEM_REQUESTS, p, (size_t)n, size);
}

/* Room for one configuration more; *ok false: the table is full. */
static enum mb_status room(struct mb_guide_states *t, int32_t words, bool *ok)
{
    int64_t used = t->n > 0 ? t->at[t->n] : 0;

    *ok = t->n < MB_STATES_MAX && t->bytes + 4 * words + 1024 <= t->most && !t->full;
    if (!*ok)
        return MB_OK;
    if (t->slot == NULL) {
        t->slot = mb_alloc(t->mem, MB_MEM_REQUESTS, SLOTS, sizeof *t->slot);
        if (t->slot == NULL)
            return no_memory();
        memset(t->slot, 0xff, sizeof *t->slot * SLOTS);
    }
    if (t->n == t->cap) {
        int32_t more = t->cap == 0 ? 64 : 2 * t->cap;
        int64_t *at = grown(t, t->at, more + 1, sizeof *at);
        t->at = at != NULL ? at : t->at;
        int32_t *next = grown(t, t->next, (int64_t)more * 256, sizeof *next);
        t->next = next != NULL ? next : t->next;
        struct mb_guide_states_mask *mask = grown(t, t->mask, more, sizeof *mask);
        t->mask = mask != NULL ? mask : t->mask;
        if (at == NULL || next == NULL || mask == NULL)
            return no_memory();
        t->cap = more;
        t->at[0] = 0;
    }
    if (used + words > t->cap_words) {
        int32_t more = (int32_t)(2 * (used + words));
        uint32_t *word = grown(t, t->word, more, sizeof *word);
        if (word == NULL)
            return no_memory();
        t->word = word;
        t->cap_words = more;
    }
    return MB_OK;
}

/* The number of a configuration; -1: there is no room for a new one. */
static enum mb_status number_of(struct mb_guide_states *t, const struct mb_config *c, int32_t *out)
{
    uint32_t h = (uint32_t)mb_hash64(c->w, 4 * (size_t)c->n) & (SLOTS - 1);
    bool ok;

    for (; t->slot != NULL && t->slot[h] >= 0; h = (h + 1) & (SLOTS - 1)) {
        int32_t i = t->slot[h];
        if (t->at[i + 1] - t->at[i] == c->n && memcmp(t->word + t->at[i], c->w, 4 * (size_t)c->n) == 0) {
            *out = i;
            return MB_OK;
        }
    }
    *out = -1;
    MB_TRY(room(t, c->n, &ok));
    if (!ok) {
        t->full = true;
        return MB_OK;
    }
    int32_t i = t->n++;
    memcpy(t->word + t->at[i], c->w, 4 * (size_t)c->n);
    t->at[i + 1] = t->at[i] + c->n;
    t->mask[i] = (struct mb_guide_states_mask){0};
    for (int k = 0; k < 256; k++)
        t->next[(int64_t)i * 256 + k] = UNKNOWN;
    t->slot[h] = i;
    t->bytes += 4 * c->n + 1024;
    *out = i;
    return MB_OK;
}

static struct mb_config known(const struct mb_guide_states *t, int32_t i)
{
    return (struct mb_config){t->word + t->at[i], (int32_t)(t->at[i + 1] - t->at[i]), 0};
}

static enum mb_status copy(const struct mb_config *from, struct mb_config *to)
{
    return mb_config_copy(from, to) ? MB_OK : no_memory();
}

/* Where a walk is, by depth: a number, or -1 and its own configuration in way. -3: refused. */
enum { OWN = -1, REFUSED = -3 };

static enum mb_status step(struct mb_guide_states *t, int32_t *stack, int32_t depth, uint8_t byte)
{
    int32_t from = stack[depth - 1], *out = &stack[depth];

    if (from >= 0 && t->next[(int64_t)from * 256 + byte] != UNKNOWN) {
        int32_t to = t->next[(int64_t)from * 256 + byte];
        *out = to >= 0 ? to : REFUSED;
        return MB_OK;
    }
    struct mb_config was = from >= 0 ? known(t, from) : t->way[depth - 1];
    MB_TRY(copy(&was, &t->tmp));
    t->m->walking = true;
    bool ok = mb_acceptor_step(t->m, &t->tmp, byte);
    t->m->walking = false;
    if (t->m->failed)
        return no_memory();
    *out = REFUSED;
    if (from < 0) {
        *out = ok ? OWN : REFUSED;
        return ok ? copy(&t->tmp, &t->way[depth]) : MB_OK;
    }
    if (ok) {
        MB_TRY(number_of(t, &t->tmp, out));
        if (*out < 0)
            return copy(&t->tmp, &t->way[depth]);
    }
    t->next[(int64_t)from * 256 + byte] = ok ? *out : -1;
    return MB_OK;
}

/* Goes through the tree: sets the bits of tokens whose bytes are let through. */
static enum mb_status walk(struct mb_guide_states *t, const struct mb_tree *tree, int32_t start,
                           struct mb_guide_states_mask *mask)
{
    int32_t stack[MB_TREE_DEPTH + 1];

    stack[0] = start;
    for (int32_t k = 0; k < tree->nodes;) {
        int32_t d = tree->depth[k];
        MB_TRY(step(t, stack, d, tree->byte[k]));
        if (stack[d] == REFUSED) {
            k = tree->end[k];
            continue;
        }
        for (int32_t i = tree->token_at[k]; i < tree->token_at[k + 1]; i++) {
            mask->bits[tree->token[i] / 32] |= 1u << tree->token[i] % 32;
            mask->tokens++;
        }
        k++;
    }
    return MB_OK;
}

enum mb_status mb_guide_states_mask(struct mb_guide_states *t, const struct mb_tree *tree, const struct mb_config *c,
                              int32_t words, bool *made, struct mb_guide_states_mask **out)
{
    int32_t i;

    *made = false;
    if (t->way == NULL)
        t->way = mb_zalloc(t->mem, MB_MEM_REQUESTS, MB_TREE_DEPTH + 1, sizeof *t->way);
    if (t->way == NULL)
        return no_memory();
    if (!mb_config_outline(t->m, c, tree->deepest, &t->outline))
        return no_memory();
    c = &t->outline;
    if (t->full)
        mb_guide_states_forget(t);
    MB_TRY(number_of(t, c, &i));
    if (i < 0) {
        mb_guide_states_forget(t);
        MB_TRY(number_of(t, c, &i));
    }
    if (i < 0) /* one configuration always has room: the least that most can be is more */
        return mb_error(MB_BUG, "a grammar's table is too small for %d words", c->n);
    if (t->mask[i].bits == NULL) {
        struct mb_guide_states_mask mask = {
            .bits = mb_zalloc(t->mem, MB_MEM_REQUESTS, (size_t)words, sizeof(uint32_t))};
        if (mask.bits == NULL)
            return no_memory();
        enum mb_status st = walk(t, tree, i, &mask);
        if (st != MB_OK) {
            mb_free(mask.bits);
            return st;
        }
        mask.ends = mb_acceptor_ends(t->m, c);
        t->mask[i] = mask;
        t->bytes += 4 * (int64_t)words;
        *made = true;
    }
    *out = &t->mask[i];
    return MB_OK;
}
