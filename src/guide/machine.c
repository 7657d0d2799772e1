/* Values in values, and who is told of them. */
#include "guide/machine.h"

#include "base/log.h"
#include "base/mem.h"
#include "guide/level.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

enum mb_status mb_acceptor_create(const struct mb_schema *s, const struct mb_dfa *dfa,
                                  struct mb_acceptor **out)
{
    struct mb_acceptor *m = mb_zalloc(NULL, MB_MEM_REQUESTS, 1, sizeof *m);
    size_t nodes = s != NULL ? (size_t)s->n_nodes : 1;

    if (m == NULL)
        return no_memory();
    m->s = s;
    m->dfa = dfa;
    m->val = mb_zalloc(NULL, MB_MEM_REQUESTS, nodes, 1);
    m->stamp = mb_zalloc(NULL, MB_MEM_REQUESTS, nodes, sizeof *m->stamp);
    if (m->val == NULL || m->stamp == NULL) {
        mb_acceptor_destroy(m);
        return no_memory();
    }
    *out = m;
    return MB_OK;
}

void mb_acceptor_destroy(struct mb_acceptor *m)
{
    if (m == NULL)
        return;
    mb_free(m->val);
    mb_free(m->stamp);
    mb_free(m);
}

void mb_config_fini(struct mb_config *c)
{
    mb_free(c->w);
    *c = (struct mb_config){0};
}

bool mb_config_copy(const struct mb_config *from, struct mb_config *to)
{
    if (mb_guide_room((void **)&to->w, &to->cap, from->n, 4) != MB_OK)
        return false;
    memcpy(to->w, from->w, 4 * (size_t)from->n);
    to->n = from->n;
    return true;
}

bool mb_config_room(struct mb_acceptor *m, struct mb_config *c, int32_t more)
{
    if (c->n + more > MB_CONFIG_MAX)
        return false;
    if (mb_guide_room((void **)&c->w, &c->cap, c->n + more, 4) == MB_OK)
        return true;
    m->failed = true;
    return false;
}

/* ---------------------------------------------------------------- lists of the top level */

/* n words at the place `at` become `now` words, whose values are not set; the size at the end follows. */
static bool resize(struct mb_acceptor *m, struct mb_config *c, int32_t at, int32_t n, int32_t now)
{
    int32_t behind = c->n - at - n;

    if (now > n && !mb_config_room(m, c, now - n))
        return false;
    memmove(c->w + at + now, c->w + at + n, 4 * (size_t)behind);
    c->n += now - n;
    c->w[c->n - 1] += (uint32_t)(now - n);
    return true;
}

bool mb_level_seen(struct mb_acceptor *m, struct mb_config *c, uint32_t name)
{
    struct mb_view v = mb_view_top(c);
    uint32_t i = 0;

    while (i < v.h->n_seen && v.seen[i] < name)
        i++;
    if (!resize(m, c, (int32_t)(v.seen - c->w) + (int32_t)i, 0, 1))
        return false;
    v = mb_view_top(c);
    v.seen[i] = name;
    v.h->n_seen++;
    return true;
}

bool mb_level_text(struct mb_acceptor *m, struct mb_config *c, uint32_t cp)
{
    struct mb_view v = mb_view_top(c);
    int32_t at = (int32_t)(v.text - c->w) + (int32_t)v.h->n_text;

    if (!resize(m, c, at, 0, 1))
        return false;
    c->w[at] = cp;
    mb_view_top(c).h->n_text++;
    return true;
}

/* The text lies behind the others: its length before it makes it one of them. */
bool mb_level_named(struct mb_acceptor *m, struct mb_config *c, bool known)
{
    struct mb_view v = mb_view_top(c);
    int32_t at = (int32_t)(v.text - c->w), n = (int32_t)v.h->n_text;

    for (uint32_t i = 0; i < v.h->n_others; i += 1 + (v.others[i] & ~MB_OTHER_OPEN))
        v.others[i] |= MB_OTHER_OPEN;
    v.h->name_chars = 0;
    if (!resize(m, c, at, known || m->walking ? n : 0, known || m->walking ? 0 : 1))
        return false;
    v = mb_view_top(c);
    v.h->n_text = 0;
    if (known || m->walking)
        return true;
    c->w[at] = (uint32_t)n | MB_OTHER_OPEN;
    v.h->n_others += 1 + (uint32_t)n;
    return true;
}

bool mb_level_key(struct mb_acceptor *m, struct mb_config *c, int32_t n)
{
    struct mb_view v = mb_view_top(c);

    if (!resize(m, c, (int32_t)(v.key - c->w), (int32_t)v.h->n_key, n))
        return false;
    mb_view_top(c).h->n_key = (uint32_t)n;
    return true;
}

bool mb_level_child(struct mb_acceptor *m, struct mb_config *c, const uint32_t *list, int32_t n)
{
    struct mb_view v = mb_view_top(c);

    if (!resize(m, c, (int32_t)(v.child - c->w), (int32_t)v.h->n_child, n))
        return false;
    v = mb_view_top(c);
    v.h->n_child = (uint32_t)n;
    if (n > 0)
        memcpy(v.child, list, 4 * (size_t)n);
    return true;
}

/* ---------------------------------------------------------------- verdicts */

static uint8_t least(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

static uint8_t of_one(const struct mb_acceptor *m, struct mb_span one)
{
    int32_t valid = 0, open = 0;

    for (int32_t i = 0; i < one.n; i++) {
        uint8_t v = m->val[m->s->link[one.at + i]];
        valid += v == MB_V_TRUE;
        open += v == MB_V_OPEN;
    }
    if (valid > 1 || valid + open == 0)
        return MB_V_FALSE;
    return open > 0 ? MB_V_OPEN : MB_V_TRUE;
}

static bool has_seen(const struct mb_view *v, uint32_t name)
{
    for (uint32_t i = 0; i < v->h->n_seen; i++)
        if (v->seen[i] == name)
            return true;
    return false;
}

/* Schemas for objects with a certain property. */
static uint8_t of_when(const struct mb_acceptor *m, const struct mb_view *v, struct mb_span when,
                       bool closing)
{
    uint8_t all = MB_V_TRUE;

    if (v->h->kind != MB_L_OBJECT)
        return all;
    for (int32_t i = 0; i < when.n; i += 2) {
        uint8_t one = m->val[m->s->link[when.at + i + 1]];
        if (!has_seen(v, (uint32_t)m->s->link[when.at + i]))
            one = closing || one == MB_V_TRUE ? MB_V_TRUE : MB_V_OPEN;
        all = least(all, one);
    }
    return all;
}

static uint8_t of_joins(const struct mb_acceptor *m, const struct mb_view *v, const struct mb_node_joins *j,
                        bool closing)
{
    uint8_t all = MB_V_TRUE, any = MB_V_FALSE;

    for (int32_t i = 0; i < j->all.n; i++)
        all = least(all, m->val[m->s->link[j->all.at + i]]);
    for (int32_t i = 0; i < j->any.n; i++)
        any = m->val[m->s->link[j->any.at + i]] > any ? m->val[m->s->link[j->any.at + i]] : any;
    if (j->any.n > 0)
        all = least(all, any);
    if (j->one.n > 0)
        all = least(all, of_one(m, j->one));
    if (j->no >= 0)
        all = least(all, (uint8_t)(MB_V_TRUE - m->val[j->no]));
    if (j->if_ >= 0) {
        uint8_t c = m->val[j->if_], yes = least(c, m->val[j->then]),
                no = least((uint8_t)(MB_V_TRUE - c), m->val[j->other]);
        all = least(all, yes > no ? yes : no);
    }
    return j->when.n > 0 ? least(all, of_when(m, v, j->when, closing)) : all;
}

/* Verdicts of all units: those that a unit joins with come before it. */
static void judge(struct mb_acceptor *m, const struct mb_view *v, bool closing)
{
    for (uint32_t i = 0; i < v->h->n_units; i++) {
        const struct mb_unit *u = &v->unit[i];
        uint8_t all = (uint8_t)u->own;
        if (all != MB_V_FALSE)
            all = least(all, of_joins(m, v, &m->s->node[u->node].joins, closing));
        m->val[u->node] = all;
    }
}

/* Whether enough of the items that may still come can be what `contains` asks for; the one under way is not.
 */
static bool can_contain(const struct mb_level *h, const struct mb_unit *u, const struct mb_node_array *a)
{
    return a->max < 0 || (int64_t)u->local + a->max - (int64_t)h->count - 1 >= a->min_contains;
}

/* What the verdicts in m->val mean for the units of p, which asked; at the end of the value they count. true:
 * something changed. */
static bool tell(struct mb_acceptor *m, struct mb_view *p, bool end)
{
    const uint32_t *e = p->child;
    bool changed = false;

    for (uint32_t i = 0; i < p->h->n_units && p->h->n_child > 0; i++) {
        struct mb_unit *u = &p->unit[i];
        const struct mb_node_array *a = &mb_unit_node(m, u)->array;
        uint32_t n = *e++;
        for (; n > 0; n--, e++) {
            uint8_t v = m->val[*e & ~MB_CHILD_CONTAINS];
            bool contains = *e & MB_CHILD_CONTAINS, wrong = v == MB_V_FALSE;
            if (contains && end && v == MB_V_TRUE) {
                int64_t most = a->max_contains >= a->min_contains ? a->max_contains + 1 : a->min_contains;
                u->local += u->local < most;
                wrong = a->max_contains >= 0 && u->local > a->max_contains;
            } else if (contains) {
                wrong = wrong && !can_contain(p->h, u, a);
            }
            changed |= wrong && u->own != MB_V_FALSE;
            u->own = wrong ? MB_V_FALSE : u->own;
        }
    }
    return changed;
}

bool mb_level_settle(struct mb_acceptor *m, struct mb_config *c, int32_t at)
{
    for (;;) {
        struct mb_view v = mb_view_at(c, at), p;
        bool worse = false;
        if (v.h->kind == MB_L_ROOT)
            return v.unit[0].own != MB_V_FALSE;
        judge(m, &v, false);
        for (uint32_t i = 0; i < v.h->n_roots; i++) {
            worse |= m->val[v.root[i].node] == MB_V_FALSE && v.root[i].told != MB_V_FALSE;
            v.root[i].told = m->val[v.root[i].node];
        }
        if (!worse)
            return true;
        p = mb_view_below(c, at);
        if (!tell(m, &p, false))
            return true;
        at = p.at;
    }
}

bool mb_level_finish(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c), p = mb_view_below(c, v.at);

    judge(m, &v, true);
    bool changed = tell(m, &p, true);
    c->n = v.at;
    if (!mb_level_child(m, c, NULL, 0))
        return false;
    p = mb_view_top(c);
    p.h->phase = MB_P_VALUE;
    if (p.h->kind == MB_L_ARRAY)
        mb_count_up(p.h);
    return !changed || mb_level_settle(m, c, p.at);
}

/* ---------------------------------------------------------------- a value begins */

/* The node and those it joins with, these first. */
static bool add_unit(struct mb_acceptor *m, struct mb_config *c, int32_t node, uint32_t *n)
{
    const struct mb_node_joins *j = &m->s->node[node].joins;
    const struct mb_span lists[] = {j->all, j->any, j->one};
    const int32_t single[] = {j->no, j->if_, j->then, j->other};

    if (m->stamp[node] == m->mark)
        return true;
    m->stamp[node] = m->mark;
    for (int k = 0; k < 3; k++)
        for (int32_t i = 0; i < lists[k].n; i++)
            if (!add_unit(m, c, m->s->link[lists[k].at + i], n))
                return false;
    for (int32_t i = 0; i < j->when.n; i += 2)
        if (!add_unit(m, c, m->s->link[j->when.at + i + 1], n))
            return false;
    for (int k = 0; k < 4; k++)
        if (single[k] >= 0 && !add_unit(m, c, single[k], n))
            return false;
    if (*n >= MB_SCHEMA_MAX_UNITS || !mb_config_room(m, c, 3))
        return false;
    const struct mb_unit u = {(uint32_t)node, MB_V_OPEN, 0};
    memcpy(c->w + c->n, &u, sizeof u);
    c->n += 3;
    ++*n;
    return true;
}

/* The nodes that the child list of p names, each once; returns how many. */
static uint32_t asked_for(struct mb_acceptor *m, const struct mb_view *p, uint32_t *out)
{
    uint32_t n = 0;
    const uint32_t *e = p->child;

    m->mark++;
    for (uint32_t i = 0; i < p->h->n_units && p->h->n_child > 0; i++) {
        uint32_t k = *e++;
        for (; k > 0; k--, e++) {
            uint32_t node = *e & ~MB_CHILD_CONTAINS;
            if (m->stamp[node] != m->mark)
                out[n++] = node;
            m->stamp[node] = m->mark;
        }
    }
    return n;
}

/* A level on top, with its units open. */
static bool push(struct mb_acceptor *m, struct mb_config *c, enum mb_level_kind kind)
{
    struct mb_view p = mb_view_top(c);
    uint32_t depth = p.h->depth + 1, n = 0, roots = asked_for(m, &p, m->list);
    int32_t at = c->n;

    if (depth > MB_CONFIG_DEPTH || !mb_config_room(m, c, MB_LEVEL_WORDS))
        return false;
    p = mb_view_at(c, p.at);
    p.h->phase = MB_P_INSIDE;
    memset(c->w + at, 0, 4 * (size_t)MB_LEVEL_WORDS);
    c->n += MB_LEVEL_WORDS;
    m->mark++;
    for (uint32_t i = 0; i < roots; i++)
        if (!add_unit(m, c, (int32_t)m->list[i], &n))
            return false;
    if (!mb_config_room(m, c, 2 * (int32_t)roots + 1))
        return false;
    for (uint32_t i = 0; i < roots; i++) {
        c->w[c->n++] = m->list[i];
        c->w[c->n++] = MB_V_OPEN;
    }
    struct mb_level *h = (struct mb_level *)(void *)(c->w + at);
    h->kind = kind;
    h->depth = depth;
    h->n_units = n;
    h->n_roots = roots;
    c->w[c->n] = (uint32_t)(c->n + 1 - at);
    c->n++;
    return true;
}

static bool literal_begin(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_view v = mb_view_top(c);
    uint32_t bit = byte == 'n' ? MB_T_NULL : byte == 't' ? MB_T_TRUE : MB_T_FALSE;

    v.h->mode = byte;
    v.h->val = 1;
    for (uint32_t i = 0; i < v.h->n_units; i++)
        v.unit[i].own = mb_unit_node(m, &v.unit[i])->types & bit ? MB_V_TRUE : MB_V_FALSE;
    return mb_level_settle(m, c, v.at);
}

static bool literal_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_level *h = mb_view_top(c).h;
    const char *word = h->mode == 'n' ? "null" : h->mode == 't' ? "true" : "false";

    if ((uint8_t)word[h->val] != byte)
        return false;
    h->val++;
    return word[h->val] != 0 || mb_level_finish(m, c);
}

bool mb_value_start(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    switch (byte) {
    case '"':
        return push(m, c, MB_L_STRING) && mb_string_begin(m, c);
    case '[':
        return push(m, c, MB_L_ARRAY) && mb_array_begin(m, c);
    case '{':
        return push(m, c, MB_L_OBJECT) && mb_object_begin(m, c);
    case 'n':
    case 't':
    case 'f':
        return push(m, c, MB_L_LITERAL) && literal_begin(m, c, byte);
    default:
        if (byte != '-' && (byte < '0' || byte > '9'))
            return false;
        return push(m, c, MB_L_NUMBER) && mb_number_begin(m, c, byte);
    }
}

/* ---------------------------------------------------------------- the whole */

bool mb_acceptor_start(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_level h = {.kind = m->dfa != NULL ? MB_L_TEXT : MB_L_ROOT, .n_units = m->dfa == NULL};
    const struct mb_unit u = {MB_NODE_ANY, MB_V_OPEN, 0};

    c->n = 0;
    m->failed = false;
    if (!mb_config_room(m, c, MB_LEVEL_WORDS + 6))
        return false;
    memcpy(c->w, &h, sizeof h);
    c->n = MB_LEVEL_WORDS;
    if (m->dfa == NULL) {
        memcpy(c->w + c->n, &u, sizeof u);
        c->n += 3;
    }
    c->w[c->n] = (uint32_t)c->n + 1;
    c->n++;
    if (m->dfa != NULL)
        return m->dfa->states > 0;
    const uint32_t child[] = {m->s->root != MB_NODE_ANY, (uint32_t)m->s->root};
    return mb_level_child(m, c, child, 1 + (int32_t)child[0]);
}

/* A text that an automaton matches. */
static bool text_step(const struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_level *h = mb_view_top(c).h;
    struct mb_range r[MB_CHAR_RANGES];
    uint32_t cp;
    int32_t next;

    switch (mb_char_in(h, byte, false, &cp)) {
    case MB_C_WHOLE:
        next = mb_dfa_step(m->dfa, (int32_t)h->digits, cp);
        h->digits = (uint32_t)next;
        return next >= 0;
    case MB_C_PART:
        for (int i = 0, n = mb_char_ranges(h, r); i < n; i++)
            if (mb_dfa_reaches(m->dfa, (int32_t)h->digits, r[i].lo, r[i].hi, 0, INT64_MAX))
                return true;
        return false;
    default:
        return false;
    }
}

bool mb_acceptor_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    bool over = false;
    struct mb_level *h = mb_view_top(c).h;

    if (h->kind == MB_L_TEXT)
        return text_step(m, c, byte);
    if (h->kind == MB_L_NUMBER) {
        if (!mb_number_step(m, c, byte, &over))
            return false;
        if (!over)
            return true;
        h = mb_view_top(c).h;
    }
    switch (h->kind) {
    case MB_L_ROOT:
        return h->phase == MB_P_OPENED && mb_value_start(m, c, byte);
    case MB_L_STRING:
        return mb_string_step(m, c, byte);
    case MB_L_LITERAL:
        return literal_step(m, c, byte);
    case MB_L_ARRAY:
        return mb_array_step(m, c, byte);
    case MB_L_OBJECT:
        return mb_object_step(m, c, byte);
    default:
        return false;
    }
}

bool mb_acceptor_ends(struct mb_acceptor *m, const struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);
    struct mb_config copy = {0};

    if (v.h->kind == MB_L_TEXT)
        return v.h->mode == 0 && m->dfa->accepts[v.h->digits];
    if (v.h->kind == MB_L_ROOT)
        return v.h->phase == MB_P_VALUE;
    if (v.h->kind != MB_L_NUMBER || mb_view_below(c, v.at).h->kind != MB_L_ROOT)
        return false;
    bool ends = mb_config_copy(c, &copy) && mb_number_end(m, &copy);
    mb_config_fini(&copy);
    return ends;
}
