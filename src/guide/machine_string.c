/* Strings: each node's automaton and lengths. */
#include "guide/level.h"

/* How far a text of `count` characters may be from its end, and must. */
static int64_t most_left(const struct mb_node_text *t, int64_t count)
{
    return t->max < 0 ? INT64_MAX : t->max - count;
}

/* Counting goes as far as any length matters. */
static void set_cap(const struct mb_acceptor *m, const struct mb_view *v)
{
    int64_t cap = 0;

    for (uint32_t i = 0; i < v->h->n_units; i++) {
        const struct mb_node_text *t = &mb_unit_node(m, &v->unit[i])->text;
        if (v->unit[i].own != MB_V_OPEN)
            continue;
        cap = t->min > cap ? t->min : cap;
        cap = t->max + 1 > cap ? t->max + 1 : cap;
    }
    v->h->cap = cap < UINT32_MAX / 2 ? (uint32_t)cap : UINT32_MAX / 2;
}

bool mb_string_begin(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node *n = mb_unit_node(m, &v.unit[i]);
        v.unit[i].own = !(n->types & MB_T_TEXT) ? MB_V_FALSE : n->text.any ? MB_V_TRUE : MB_V_OPEN;
    }
    set_cap(m, &v);
    return mb_level_settle(m, c, v.at);
}

/* Whether the character begun may become one that the node lets through. */
static bool may_become(const struct mb_level *h, const struct mb_unit *u, const struct mb_node_text *t)
{
    struct mb_range r[MB_CHAR_RANGES];
    int64_t most = most_left(t, (int64_t)h->count + 1), least = t->min - (int64_t)h->count - 1;

    if (t->dfa == NULL)
        return most >= 0;
    for (int i = 0, n = mb_char_ranges(h, r); i < n; i++)
        if (mb_dfa_reaches(t->dfa, (int32_t)u->local, r[i].lo, r[i].hi, least, most))
            return true;
    return false;
}

/* One character more: count has it already. */
static bool goes_on(const struct mb_level *h, struct mb_unit *u, const struct mb_node_text *t, uint32_t cp)
{
    int64_t most = most_left(t, h->count);

    if (t->dfa == NULL)
        return most >= 0;
    int32_t s = mb_dfa_step(t->dfa, (int32_t)u->local, cp);
    u->local = s >= 0 ? (uint32_t)s : 0;
    return s >= 0 && t->dfa->near[s] <= most && t->dfa->far[s] >= t->min - (int64_t)h->count;
}

static bool may_end(const struct mb_level *h, const struct mb_unit *u, const struct mb_node_text *t)
{
    return h->count >= t->min && (t->max < 0 || h->count <= t->max) &&
           (t->dfa == NULL || t->dfa->accepts[u->local]);
}

bool mb_string_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_view v = mb_view_top(c);
    uint32_t cp = 0;
    enum mb_char got = mb_char_in(v.h, byte, true, &cp);
    bool changed = false;

    if (got == MB_C_BAD)
        return false;
    if (got == MB_C_WHOLE)
        mb_count_up(v.h);
    for (uint32_t i = 0; i < v.h->n_units; i++) {
        struct mb_unit *u = &v.unit[i];
        const struct mb_node_text *t = &mb_unit_node(m, u)->text;
        if (u->own != MB_V_OPEN)
            continue;
        bool ok = got == MB_C_PART    ? may_become(v.h, u, t)
                  : got == MB_C_WHOLE ? goes_on(v.h, u, t, cp)
                                      : may_end(v.h, u, t);
        if (!ok || got == MB_C_QUOTE) {
            changed = true;
            u->own = ok ? MB_V_TRUE : MB_V_FALSE;
            u->local = 0;
        }
    }
    if (got == MB_C_QUOTE)
        return mb_level_finish(m, c);
    return !changed || mb_level_settle(m, c, v.at);
}
