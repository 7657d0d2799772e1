/* Objects: names in any order, each that the schema knows once. */
#include "guide/level.h"

/* The name being written, as far as it is: behind whole characters, or in one that may become what the ranges
 * say. */
struct writing {
    bool taken; /* the name so far is there already: it has to go on */
    int ranges; /* 0: behind a whole character */
    struct mb_range range[MB_CHAR_RANGES];
};

static bool has(const uint32_t *list, uint32_t n, int32_t name)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == (uint32_t)name)
            return true;
    return false;
}

static bool in_span(const struct mb_acceptor *m, struct mb_span s, int32_t name)
{
    for (int32_t i = 0; i < s.n; i++)
        if (m->s->link[s.at + i] == name)
            return true;
    return false;
}

/* The node of a property by its name, or -1; props are ascending. */
static int32_t property(const struct mb_acceptor *m, const struct mb_node_object *o, int32_t name)
{
    int32_t lo = 0, hi = o->props.n / 2;

    while (lo < hi) {
        int32_t mid = (lo + hi) / 2;
        if (m->s->link[o->props.at + 2 * mid] < name)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < o->props.n / 2 && m->s->link[o->props.at + 2 * lo] == name
               ? m->s->link[o->props.at + 2 * lo + 1]
               : -1;
}

static bool matches(const struct mb_dfa *d, const struct mb_name *name)
{
    int32_t s = d->states > 0 ? 0 : -1;
    uint32_t cp;

    for (size_t at = 0; at < name->n && s >= 0;) {
        at += (size_t)mb_chars_next(name->s + at, name->n - at, &cp);
        s = mb_dfa_step(d, s, cp);
    }
    return s >= 0 && d->accepts[s];
}

/* Whether an object may have this property at all. */
static bool lets_name(const struct mb_acceptor *m, const struct mb_node_object *o, int32_t name)
{
    int32_t node = property(m, o, name);
    bool known = node >= 0;

    if (o->names != NULL && !matches(o->names, &m->s->name[name]))
        return false;
    if (known && m->s->node[node].types == 0)
        return false;
    for (int32_t i = 0; i < o->patterns.n; i += 2) {
        if (!matches(m->s->dfa[m->s->link[o->patterns.at + i]], &m->s->name[name]))
            continue;
        known = true;
        if (m->s->node[m->s->link[o->patterns.at + i + 1]].types == 0)
            return false;
    }
    return known || m->s->node[o->rest].types != 0;
}

/* Required names that are not there. */
static int64_t missing(const struct mb_acceptor *m, const struct mb_view *v, const struct mb_node_object *o)
{
    int64_t n = 0;

    for (int32_t i = 0; i < o->required.n; i++)
        n += !has(v->seen, v->h->n_seen, m->s->link[o->required.at + i]);
    return n;
}

static int32_t key_words(const struct mb_node_object *o)
{
    return o->patterns.n / 2 + (o->names != NULL);
}

bool mb_object_begin(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);
    int64_t cap = 0;

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node *n = mb_unit_node(m, &v.unit[i]);
        const struct mb_node_object *o = &n->object;
        v.unit[i].own = !(n->types & MB_T_OBJECT) ? MB_V_FALSE : o->any ? MB_V_TRUE : MB_V_OPEN;
        for (int32_t j = 0; j < o->required.n && v.unit[i].own == MB_V_OPEN; j++)
            if (!lets_name(m, o, m->s->link[o->required.at + j]))
                v.unit[i].own = MB_V_FALSE;
        cap = o->min > cap ? o->min : cap;
        cap = o->max + 1 > cap ? o->max + 1 : cap;
    }
    v.h->cap = cap < UINT32_MAX / 2 ? (uint32_t)cap : UINT32_MAX / 2;
    return mb_level_settle(m, c, v.at);
}

/* ---------------------------------------------------------------- names */

/* Whether the name is one of the others. */
static bool is_other(const struct mb_view *v)
{
    for (uint32_t i = 0, n; i < v->h->n_others; i += 1 + n) {
        n = v->others[i] & ~MB_OTHER_OPEN;
        if (v->others[i] & MB_OTHER_OPEN && n == v->h->name_chars)
            return true;
    }
    return false;
}

static bool in_ranges(const struct writing *w, uint32_t cp)
{
    for (int i = 0; i < w->ranges; i++)
        if (cp >= w->range[i].lo && cp <= w->range[i].hi)
            return true;
    return false;
}

static bool name_goes_on(const struct mb_acceptor *m, const struct mb_level *h, int32_t name,
                         const struct writing *w)
{
    const struct mb_name *s = &m->s->name[name];
    uint32_t cp;

    if (w->ranges == 0 && !w->taken)
        return true;
    if (s->n <= h->name_at)
        return false;
    if (w->ranges == 0)
        return true;
    mb_chars_next(s->s + h->name_at, s->n - h->name_at, &cp);
    return in_ranges(w, cp);
}

static bool dfa_goes_on(const struct mb_dfa *d, uint32_t state, const struct writing *w)
{
    if (state == UINT32_MAX)
        return false;
    for (int i = 0; i < w->ranges; i++)
        if (mb_dfa_reaches(d, (int32_t)state, w->range[i].lo, w->range[i].hi, 0, INT64_MAX))
            return true;
    return w->ranges == 0 && (!w->taken || d->far[state] > 0);
}

/* Whether the name may become one that the object can still have; key: the states of its automata. */
static bool name_possible(const struct mb_acceptor *m, const struct mb_view *v,
                          const struct mb_node_object *o, const uint32_t *key, const struct writing *w)
{
    int64_t left = o->max < 0 ? INT64_MAX : o->max - (int64_t)v->h->count;
    bool needed = left <= missing(m, v, o); /* nothing but what is required fits */

    if (left <= 0 || (o->names != NULL && !dfa_goes_on(o->names, key[o->patterns.n / 2], w)))
        return false;
    if (!needed && m->s->node[o->rest].types != 0)
        return true;
    for (int32_t i = 0; i < o->patterns.n && !needed; i += 2)
        if (m->s->node[m->s->link[o->patterns.at + i + 1]].types != 0 &&
            dfa_goes_on(m->s->dfa[m->s->link[o->patterns.at + i]], key[i / 2], w))
            return true;
    for (int32_t i = (int32_t)v->h->name_lo; i < (int32_t)v->h->name_hi; i++)
        if (!has(v->seen, v->h->n_seen, i) && (!needed || in_span(m, o->required, i)) &&
            name_goes_on(m, v->h, i, w) && lets_name(m, o, i))
            return true;
    return false;
}

static bool check_names(struct mb_acceptor *m, struct mb_config *c, const struct writing *w)
{
    struct mb_view v = mb_view_top(c);
    const uint32_t *key = v.key;
    bool changed = false;

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node_object *o = &mb_unit_node(m, &v.unit[i])->object;
        if (v.unit[i].own == MB_V_OPEN && !name_possible(m, &v, o, key, w)) {
            v.unit[i].own = MB_V_FALSE;
            changed = true;
        }
        key += key_words(o);
    }
    return !changed || mb_level_settle(m, c, v.at);
}

/* A name will follow: all automata of names at their start. */
static bool names_begin(struct mb_acceptor *m, struct mb_config *c)
{
    const struct writing none = {0};
    struct mb_view v = mb_view_top(c);
    int32_t n = 0;

    for (uint32_t i = 0; i < v.h->n_units; i++)
        n += key_words(&mb_unit_node(m, &v.unit[i])->object);
    if (!mb_level_key(m, c, n))
        return false;
    v = mb_view_top(c);
    v.h->name_lo = v.h->name_at = 0;
    v.h->name_hi = (uint32_t)m->s->n_names;
    n = 0;
    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node_object *o = &mb_unit_node(m, &v.unit[i])->object;
        for (int32_t j = 0; j < o->patterns.n; j += 2)
            v.key[n++] = m->s->dfa[m->s->link[o->patterns.at + j]]->states > 0 ? 0 : UINT32_MAX;
        if (o->names != NULL)
            v.key[n++] = o->names->states > 0 ? 0 : UINT32_MAX;
    }
    return check_names(m, c, &none);
}

/* The names that go on with this character. */
static void narrow_names(const struct mb_acceptor *m, struct mb_level *h, uint32_t cp)
{
    uint32_t lo = h->name_hi, hi = h->name_lo, found;
    int bytes = 0;

    for (uint32_t i = h->name_lo; i < h->name_hi; i++) {
        const struct mb_name *s = &m->s->name[i];
        if (s->n <= h->name_at)
            continue;
        int n = mb_chars_next(s->s + h->name_at, s->n - h->name_at, &found);
        if (found != cp)
            continue;
        bytes = n;
        lo = i < lo ? i : lo;
        hi = i + 1;
    }
    h->name_at = lo < hi ? h->name_at + (uint32_t)bytes : 0;
    h->name_lo = lo < hi ? lo : 0;
    h->name_hi = lo < hi ? hi : 0;
}

static void step_automaton(const struct mb_dfa *d, uint32_t *state, uint32_t cp)
{
    int32_t s = *state != UINT32_MAX ? mb_dfa_step(d, (int32_t)*state, cp) : -1;
    *state = s >= 0 ? (uint32_t)s : UINT32_MAX;
}

/* Which of the others go on with this character. */
static void narrow_others(const struct mb_view *v, uint32_t cp)
{
    uint32_t *o = v->others, at = v->h->name_chars;
    bool open = false;

    for (uint32_t i = 0, n; i < v->h->n_others; i += 1 + n) {
        n = o[i] & ~MB_OTHER_OPEN;
        if (o[i] & MB_OTHER_OPEN && (at >= n || o[i + 1 + at] != cp))
            o[i] = n;
        open |= (o[i] & MB_OTHER_OPEN) != 0;
    }
    v->h->name_chars = open ? at + 1 : 0;
}

static void names_char(const struct mb_acceptor *m, const struct mb_view *v, uint32_t cp)
{
    uint32_t *key = v->key;

    narrow_names(m, v->h, cp);
    narrow_others(v, cp);
    for (uint32_t i = 0; i < v->h->n_units; i++) {
        const struct mb_node_object *o = &mb_unit_node(m, &v->unit[i])->object;
        for (int32_t j = 0; j < o->patterns.n; j += 2)
            step_automaton(m->s->dfa[m->s->link[o->patterns.at + j]], key++, cp);
        if (o->names != NULL)
            step_automaton(o->names, key++, cp);
    }
}

/* The nodes that object o asks the value of the name written for, behind out[0 .. n): false: it may not have
 * it. */
static bool asks(const struct mb_acceptor *m, const struct mb_view *v, const struct mb_node_object *o,
                 const uint32_t *key, int32_t name, uint32_t *out, int32_t *n)
{
    int32_t node = name >= 0 ? property(m, o, name) : -1, begin = *n;
    bool known = node >= 0;
    int64_t left = o->max < 0 ? INT64_MAX : o->max - (int64_t)v->h->count;

    if (o->names != NULL &&
        (key[o->patterns.n / 2] == UINT32_MAX || !o->names->accepts[key[o->patterns.n / 2]]))
        return false;
    if (left <= 0 || (left <= missing(m, v, o) && (name < 0 || !in_span(m, o->required, name))))
        return false;
    if (known)
        out[(*n)++] = (uint32_t)node;
    for (int32_t i = 0; i < o->patterns.n; i += 2) {
        uint32_t s = key[i / 2];
        if (s == UINT32_MAX || !m->s->dfa[m->s->link[o->patterns.at + i]]->accepts[s])
            continue;
        known = true;
        if (*n - begin >= 4 * MB_SCHEMA_MAX_UNITS)
            return false;
        out[(*n)++] = (uint32_t)m->s->link[o->patterns.at + i + 1];
    }
    if (!known)
        out[(*n)++] = (uint32_t)o->rest;
    int32_t kept = begin;
    for (int32_t i = begin; i < *n; i++) {
        if (m->s->node[out[i]].types == 0)
            return false;
        if (out[i] != MB_NODE_ANY)
            out[kept++] = out[i];
    }
    *n = kept;
    return true;
}

static bool name_end(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);
    const uint32_t *key = v.key;
    int32_t n = 0, most = (int32_t)(sizeof m->list / sizeof *m->list) - 5 * MB_SCHEMA_MAX_UNITS;
    int32_t name = v.h->name_lo < v.h->name_hi && m->s->name[v.h->name_lo].n == v.h->name_at
                       ? (int32_t)v.h->name_lo
                       : -1;

    if ((name >= 0 && has(v.seen, v.h->n_seen, name)) || (m->walking && is_other(&v)))
        return false;
    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node_object *o = &mb_unit_node(m, &v.unit[i])->object;
        int32_t head = n++;
        if (n > most)
            return false;
        if (v.unit[i].own == MB_V_OPEN && !asks(m, &v, o, key, name, m->list, &n)) {
            v.unit[i].own = MB_V_FALSE;
            n = head + 1;
        }
        m->list[head] = (uint32_t)(n - head - 1);
        key += key_words(o);
    }
    mb_count_up(v.h);
    v.h->phase = MB_P_NAMED;
    v.h->name_lo = v.h->name_hi = v.h->name_at = 0;
    if (!mb_level_key(m, c, 0) || !mb_level_named(m, c, name >= 0) || !mb_level_child(m, c, m->list, n) ||
        (name >= 0 && !mb_level_seen(m, c, (uint32_t)name)))
        return false;
    return mb_level_settle(m, c, mb_view_top(c).at);
}

static bool in_name(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_view v = mb_view_top(c);
    struct writing w = {0};
    uint32_t cp = 0;

    switch (mb_char_in(v.h, byte, true, &cp)) {
    case MB_C_QUOTE:
        return name_end(m, c);
    case MB_C_WHOLE:
        names_char(m, &v, cp);
        w.taken = m->walking && is_other(&v);
        if (!m->walking && !mb_level_text(m, c, cp))
            return false;
        break;
    case MB_C_PART:
        w.ranges = mb_char_ranges(v.h, w.range);
        break;
    default:
        return false;
    }
    return check_names(m, c, &w);
}

/* ---------------------------------------------------------------- the rest */

/* Whether an object of the names seen is complete. */
static bool complete(const struct mb_acceptor *m, const struct mb_view *v, const struct mb_node_object *o)
{
    if (v->h->count < o->min || (o->max >= 0 && v->h->count > o->max) || missing(m, v, o) > 0)
        return false;
    for (int32_t i = 0; i < o->needs.n; i += 3) {
        const int32_t *need = m->s->link + o->needs.at + i;
        for (int32_t j = 0; j < need[2] && has(v->seen, v->h->n_seen, need[0]); j++)
            if (!has(v->seen, v->h->n_seen, m->s->link[need[1] + j]))
                return false;
    }
    return true;
}

static bool close_object(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        struct mb_unit *u = &v.unit[i];
        if (u->own == MB_V_OPEN)
            u->own = complete(m, &v, &mb_unit_node(m, u)->object) ? MB_V_TRUE : MB_V_FALSE;
    }
    return mb_level_finish(m, c);
}

static bool to_phase(struct mb_level *h, enum mb_phase phase)
{
    h->phase = phase;
    return true;
}

bool mb_object_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_level *h = mb_view_top(c).h;

    switch (h->phase) {
    case MB_P_OPENED:
        if (byte == '}')
            return close_object(m, c);
        return byte == '"' && to_phase(h, MB_P_KEY) && names_begin(m, c);
    case MB_P_KEY:
        return in_name(m, c, byte);
    case MB_P_NAMED:
        return byte == ':' && to_phase(h, MB_P_COLON);
    case MB_P_COLON:
        if (byte == ' ')
            return to_phase(h, MB_P_SPACE);
        /* fall through */
    case MB_P_SPACE:
        return mb_value_start(m, c, byte);
    case MB_P_VALUE:
        if (byte == '}')
            return close_object(m, c);
        return byte == ',' && to_phase(h, MB_P_COMMA) && names_begin(m, c);
    case MB_P_COMMA:
        if (byte == ' ')
            return to_phase(h, MB_P_COMMA_SPACE);
        /* fall through */
    case MB_P_COMMA_SPACE:
        return byte == '"' && to_phase(h, MB_P_KEY);
    default:
        return false;
    }
}
