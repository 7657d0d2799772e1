#include "io/resume_map.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

static uint64_t place(uint64_t line, uint64_t n_slots)
{
    line ^= line >> 32;
    line *= 0x9e3779b97f4a7c15ull;
    return (line >> 20) & (n_slots - 1);
}

static void line_destroy(struct mb_line_state *s)
{
    if (s == NULL)
        return;
    for (int32_t i = 0; i < s->n_choices; i++)
        free(s->choices[i].ids);
    free(s->choices);
    free(s);
}

void mb_resume_map_fini(struct mb_resume_map *m)
{
    for (uint64_t i = 0; i < m->n_slots; i++)
        line_destroy(m->slots[i]);
    free(m->slots);
    *m = (struct mb_resume_map){0};
}

/* The slot that holds the line, or the free one where it belongs. */
static uint64_t find(const struct mb_resume_map *m, uint64_t line)
{
    uint64_t i = place(line, m->n_slots);
    while (m->slots[i] != NULL && m->slots[i]->line != line)
        i = (i + 1) & (m->n_slots - 1);
    return i;
}

static enum mb_status grow(struct mb_resume_map *m)
{
    struct mb_resume_map big = {NULL, m->n_slots ? 2 * m->n_slots : 256, m->n};
    big.slots = calloc((size_t)big.n_slots, sizeof *big.slots);
    if (big.slots == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu unfinished lines", (unsigned long long)m->n);
    for (uint64_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i] != NULL)
            big.slots[find(&big, m->slots[i]->line)] = m->slots[i];
    }
    free(m->slots);
    *m = big;
    return MB_OK;
}

enum mb_status mb_resume_map_get(struct mb_resume_map *m, uint64_t line, struct mb_line_state **out)
{
    if (2 * (m->n + 1) > m->n_slots)
        MB_TRY(grow(m));
    uint64_t i = find(m, line);
    if (m->slots[i] == NULL) {
        struct mb_line_state *s = calloc(1, sizeof *s);
        if (s == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for an unfinished line");
        s->line = line;
        m->slots[i] = s;
        m->n++;
    }
    *out = m->slots[i];
    return MB_OK;
}

void mb_resume_map_drop(struct mb_resume_map *m, uint64_t line)
{
    if (m->n_slots == 0)
        return;
    uint64_t hole = find(m, line), mask = m->n_slots - 1;
    if (m->slots[hole] == NULL)
        return;
    line_destroy(m->slots[hole]);
    m->slots[hole] = NULL;
    m->n--;
    /* move up what was pushed past the hole */
    for (uint64_t i = (hole + 1) & mask; m->slots[i] != NULL; i = (i + 1) & mask) {
        uint64_t want = place(m->slots[i]->line, m->n_slots);
        if (((i - want) & mask) < ((i - hole) & mask))
            continue;
        m->slots[hole] = m->slots[i];
        m->slots[i] = NULL;
        hole = i;
    }
}

enum mb_status mb_resume_map_list(const struct mb_resume_map *m, struct mb_line_state ***out, int64_t *n,
                                  int64_t *choices)
{
    struct mb_line_state **v = malloc((size_t)(m->n + 1) * sizeof *v);
    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of %llu unfinished lines", (unsigned long long)m->n);
    *n = *choices = 0;
    for (uint64_t i = 0; i < m->n_slots; i++) {
        if (m->slots[i] == NULL)
            continue;
        v[(*n)++] = m->slots[i];
        *choices += m->slots[i]->n_choices;
    }
    *out = v;
    return MB_OK;
}

/* ---------------------------------------------------------------- one line */
static enum mb_status choice_of(struct mb_line_state *s, int32_t c, struct mb_choice_tokens **out)
{
    if (c >= s->n_choices) {
        struct mb_choice_tokens *p = realloc(s->choices, (size_t)(c + 1) * sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the choices of an unfinished line");
        memset(p + s->n_choices, 0, (size_t)(c + 1 - s->n_choices) * sizeof *p);
        s->choices = p;
        s->n_choices = c + 1;
    }
    *out = &s->choices[c];
    return MB_OK;
}

enum mb_status mb_line_done(struct mb_line_state *s, int32_t c, int32_t n, bool *again)
{
    struct mb_choice_tokens *t = NULL;
    if (s->n != 0 && s->n != n)
        return mb_error(MB_CORRUPT, "line %llu has %d choices in one record and %d in another",
                        (unsigned long long)s->line + 1, s->n, n);
    MB_TRY(choice_of(s, c, &t));
    *again = t->done;
    if (t->done)
        return MB_OK;
    s->n = n;
    s->n_done++;
    t->done = true;
    free(t->ids);
    t->ids = NULL;
    t->n = t->cap = 0;
    return MB_OK;
}

enum mb_status mb_line_token(struct mb_line_state *s, int32_t c, uint32_t index, int32_t id)
{
    struct mb_choice_tokens *t = NULL;
    MB_TRY(choice_of(s, c, &t));
    if (t->done || index > (uint32_t)t->n)
        return MB_OK;
    if (index < (uint32_t)t->n) {
        if (t->ids[index] == id)
            return MB_OK;
        return mb_error(MB_CORRUPT, "line %llu, choice %d, token %u: %d in one journal, %d in another; one of the machines or "
                                    "builds that took part computes wrongly", (unsigned long long)s->line + 1, c, index,
                        t->ids[index], id);
    }
    if (t->n == t->cap) {
        if (t->cap > INT32_MAX / 2)
            return mb_error(MB_CORRUPT, "line %llu has more tokens than a sequence can have",
                            (unsigned long long)s->line + 1);
        int32_t cap = t->cap ? 2 * t->cap : 16;
        int32_t *p = realloc(t->ids, (size_t)cap * sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the tokens of an unfinished line");
        t->ids = p;
        t->cap = cap;
    }
    t->ids[t->n++] = id;
    return MB_OK;
}
