#include "guide/regex.h"

#include <stdio.h>
#include <string.h>
#include "base/mem.h"

#define MAX_DEPTH 100   /* groups in groups */
#define MAX_WORK 400000 /* pieces of the expression, each as often as it is repeated */
#define NO_LIMIT INT32_MAX

enum kind { NOTHING, READ, CAT, ALT, REPEAT, BEGIN, END };
/* Children are a list from the last to the first. */
struct tree {
    enum kind kind;
    int32_t last, before, min, max, set;
};
struct parser {
    const char *s;
    size_t n, at;
    struct mb_nfa *nfa;
    struct tree *tree;
    int32_t n_tree, cap_tree, depth, work;
    char *err;
    size_t cap;
};

static enum mb_status bad(struct parser *p, const char *what)
{
    snprintf(p->err, p->cap, "%s at byte %zu of the expression", what, p->at);
    return MB_REQUEST;
}

static bool more(const struct parser *p)
{
    return p->at < p->n;
}

static bool takes(struct parser *p, char c)
{
    if (!more(p) || p->s[p->at] != c)
        return false;
    p->at++;
    return true;
}

static enum mb_status tree_new(struct parser *p, struct tree t, int32_t *out)
{
    MB_TRY(mb_guide_room((void **)&p->tree, &p->cap_tree, p->n_tree + 1, sizeof t));
    p->tree[p->n_tree] = t;
    *out = p->n_tree++;
    return MB_OK;
}

/* ---------------------------------------------------------------- sets */

static bool same_set(const struct mb_set *a, const struct mb_set *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->r, b->r, sizeof *a->r * (size_t)a->n) == 0);
}

/* Takes over *s. */
static enum mb_status set_new(struct mb_nfa *a, struct mb_set *s, int32_t *out)
{
    mb_set_settle(s);
    for (int32_t i = 0; i < a->n_sets; i++) {
        if (same_set(&a->set[i], s)) {
            mb_set_fini(s);
            *out = i;
            return MB_OK;
        }
    }
    enum mb_status st = mb_guide_room((void **)&a->set, &a->cap_sets, a->n_sets + 1, sizeof *s);
    if (st != MB_OK) {
        mb_set_fini(s);
        return st;
    }
    a->set[a->n_sets] = *s;
    *out = a->n_sets++;
    return MB_OK;
}

static enum mb_status read_node(struct parser *p, struct mb_set *s, int32_t *out)
{
    struct tree t = {.kind = READ, .last = -1, .before = -1};

    MB_TRY(set_new(p->nfa, s, &t.set));
    return tree_new(p, t, out);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* digits hexadecimal digits */
static enum mb_status hex(struct parser *p, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++) {
        int d = more(p) ? hex_digit(p->s[p->at]) : -1;
        if (d < 0)
            return bad(p, "an incomplete hexadecimal escape");
        *out = *out << 4 | (uint32_t)d;
        p->at++;
    }
    return MB_OK;
}

/* Behind \u: four digits, a pair of such, or digits in braces. */
static enum mb_status unicode(struct parser *p, uint32_t *out)
{
    if (takes(p, '{')) {
        *out = 0;
        for (int d; more(p) && (d = hex_digit(p->s[p->at])) >= 0 && *out <= MB_LAST_CHAR; p->at++)
            *out = *out << 4 | (uint32_t)d;
        return *out <= MB_LAST_CHAR && takes(p, '}') ? MB_OK : bad(p, "a bad \\u{...}");
    }
    MB_TRY(hex(p, 4, out));
    if (*out >= 0xd800 && *out < 0xdc00 && p->at + 6 <= p->n && memcmp(p->s + p->at, "\\u", 2) == 0) {
        uint32_t low;
        size_t back = p->at;
        p->at += 2;
        MB_TRY(hex(p, 4, &low));
        if (low >= 0xdc00 && low < 0xe000)
            *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
        else
            p->at = back;
    }
    return MB_OK;
}

/* Behind a backslash: the code point that it stands for. */
static enum mb_status escaped(struct parser *p, uint32_t *out)
{
    static const char names[] = "nrtfv", values[] = "\n\r\t\f\v";
    if (!more(p))
        return bad(p, "a backslash with nothing behind it");
    char c = p->s[p->at];
    const char *at = memchr(names, c, 5);
    if (at != NULL) {
        p->at++;
        *out = (unsigned char)values[at - names];
    } else if (c == 'x') {
        p->at++;
        return hex(p, 2, out);
    } else if (c == 'u') {
        p->at++;
        return unicode(p, out);
    } else if (c == 'c' && p->at + 1 < p->n &&
               ((p->s[p->at + 1] | 0x20) >= 'a' && (p->s[p->at + 1] | 0x20) <= 'z')) {
        *out = (uint32_t)p->s[p->at + 1] & 31;
        p->at += 2;
    } else if (c == '0' && !(p->at + 1 < p->n && p->s[p->at + 1] >= '0' && p->s[p->at + 1] <= '9')) {
        p->at++;
        *out = 0;
    } else if (c >= '0' && c <= '9') {
        return bad(p, "a back reference is not supported:");
    } else if (c == 'p' || c == 'P') {
        return bad(p, "\\p is not supported:");
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        return bad(p, c == 'b' || c == 'B' ? "a word boundary is not supported:"
                                           : "an escape is not supported:");
    } else {
        p->at += (size_t)mb_chars_next(p->s + p->at, p->n - p->at, out);
    }
    return MB_OK;
}

/* One member of a class: a named class, which is added to s (*single false), or a code point. */
static enum mb_status member(struct parser *p, struct mb_set *s, bool *single, uint32_t *cp)
{
    enum mb_status st = MB_OK;

    *single = true;
    if (p->s[p->at] != '\\') {
        p->at += (size_t)mb_chars_next(p->s + p->at, p->n - p->at, cp);
        return MB_OK;
    }
    p->at++;
    if (more(p) && p->s[p->at] == 'b') {
        p->at++;
        *cp = 8;
        return MB_OK;
    }
    if (more(p) && p->s[p->at] == '-') {
        p->at++;
        *cp = '-';
        return MB_OK;
    }
    if (more(p) && mb_set_class(s, p->s[p->at], &st)) {
        p->at++;
        *single = false;
        return st;
    }
    return escaped(p, cp);
}

static enum mb_status members(struct parser *p, struct mb_set *s)
{
    bool single, also;
    uint32_t lo, hi;

    while (more(p) && p->s[p->at] != ']') {
        if (p->s[p->at] == '[' && p->at + 1 < p->n && p->s[p->at + 1] == ':')
            return bad(p, "a POSIX class is not supported:");
        MB_TRY(member(p, s, &single, &lo));
        hi = lo;
        if (single && p->at + 1 < p->n && p->s[p->at] == '-' && p->s[p->at + 1] != ']') {
            p->at++;
            MB_TRY(member(p, s, &also, &hi));
            if (!also)
                return bad(p, "a range that ends with a class");
            if (hi < lo)
                return bad(p, "a range from a higher to a lower character");
        }
        if (single)
            MB_TRY(mb_set_add(s, lo, hi));
    }
    return takes(p, ']') ? MB_OK : bad(p, "a class without its ]");
}

static enum mb_status class_atom(struct parser *p, int32_t *out)
{
    struct mb_set s = {0};
    bool negated = takes(p, '^');
    enum mb_status st = members(p, &s);

    if (st == MB_OK && negated)
        st = mb_set_negate(&s);
    if (st == MB_OK)
        return read_node(p, &s, out);
    mb_set_fini(&s);
    return st;
}

static enum mb_status escape_atom(struct parser *p, int32_t *out)
{
    struct mb_set s = {0};
    enum mb_status st = MB_OK;
    uint32_t cp;

    if (more(p) && mb_set_class(&s, p->s[p->at], &st))
        p->at++;
    else if ((st = escaped(p, &cp)) == MB_OK)
        st = mb_set_add(&s, cp, cp);
    if (st == MB_OK)
        return read_node(p, &s, out);
    mb_set_fini(&s);
    return st;
}

/* ---------------------------------------------------------------- the tree */

static enum mb_status alternatives(struct parser *p, int32_t *out);

/* Behind "(": what kind of group it is. */
static enum mb_status group_head(struct parser *p)
{
    if (!takes(p, '?') || takes(p, ':'))
        return MB_OK;
    bool python = takes(p, 'P');
    if (p->at + 1 < p->n && p->s[p->at] == '<' && p->s[p->at + 1] != '=' && p->s[p->at + 1] != '!') {
        while (more(p) && p->s[p->at] != '>')
            p->at++;
        return takes(p, '>') ? MB_OK : bad(p, "a group's name without its >");
    }
    if (python || !more(p))
        return bad(p, "a group of this kind is not supported:");
    char c = p->s[p->at];
    return bad(p, c == '=' || c == '!' || c == '<' ? "look-around is not supported:"
                                                   : "flags are not supported:");
}

static enum mb_status group(struct parser *p, int32_t *out)
{
    MB_TRY(group_head(p));
    if (++p->depth > MAX_DEPTH)
        return bad(p, "groups nested too deeply");
    MB_TRY(alternatives(p, out));
    p->depth--;
    return takes(p, ')') ? MB_OK : bad(p, "a group without its )");
}

static enum mb_status any_atom(struct parser *p, int32_t *out)
{
    static const struct mb_range ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
    struct mb_set s = {0};
    enum mb_status st = MB_OK;

    for (int i = 0; i < 3 && st == MB_OK; i++)
        st = mb_set_add(&s, ends[i].lo, ends[i].hi);
    if (st == MB_OK)
        st = mb_set_negate(&s);
    if (st == MB_OK)
        return read_node(p, &s, out);
    mb_set_fini(&s);
    return st;
}

static enum mb_status literal_atom(struct parser *p, int32_t *out)
{
    struct mb_set s = {0};
    uint32_t cp;

    p->at += (size_t)mb_chars_next(p->s + p->at, p->n - p->at, &cp);
    MB_TRY(mb_set_add(&s, cp, cp));
    return read_node(p, &s, out);
}

static enum mb_status atom(struct parser *p, int32_t *out)
{
    char c = p->s[p->at];

    switch (c) {
    case '(':
        p->at++;
        return group(p, out);
    case '[':
        p->at++;
        return class_atom(p, out);
    case '.':
        p->at++;
        return any_atom(p, out);
    case '\\':
        p->at++;
        return escape_atom(p, out);
    case '^':
    case '$':
        p->at++;
        return tree_new(p, (struct tree){.kind = c == '^' ? BEGIN : END, .last = -1, .before = -1}, out);
    case '*':
    case '+':
    case '?':
        return bad(p, "nothing to repeat");
    default:
        return literal_atom(p, out);
    }
}

/* Digits at p->at; false: none, or too many. */
static bool number(struct parser *p, int32_t *out)
{
    size_t from = p->at;

    for (*out = 0; more(p) && p->s[p->at] >= '0' && p->s[p->at] <= '9'; p->at++)
        *out = *out > MB_REGEX_MAX_COUNT ? *out : *out * 10 + (p->s[p->at] - '0');
    return p->at > from;
}

/* {m} {m,} {m,n}; what is none is a literal brace: *is false. */
static enum mb_status braces(struct parser *p, bool *is, int32_t *min, int32_t *max)
{
    size_t from = p->at++;

    *is = number(p, min);
    *max = *min;
    if (*is && takes(p, ',') && !number(p, max))
        *max = NO_LIMIT;
    *is = *is && takes(p, '}');
    if (!*is) {
        p->at = from;
        return MB_OK;
    }
    if (*min > MB_REGEX_MAX_COUNT || (*max != NO_LIMIT && *max > MB_REGEX_MAX_COUNT))
        return bad(p, "a count above 10000");
    return *max < *min ? bad(p, "a count that ends below its beginning") : MB_OK;
}

static enum mb_status quantified(struct parser *p, int32_t *node)
{
    bool is = more(p);
    int32_t min = 0, max = NO_LIMIT;

    if (is && p->s[p->at] == '{')
        MB_TRY(braces(p, &is, &min, &max));
    else if (takes(p, '+'))
        min = 1;
    else if (takes(p, '?'))
        max = 1;
    else
        is = takes(p, '*');
    if (!is)
        return MB_OK;
    if (!takes(p, '?') && more(p) && p->s[p->at] == '+')
        return bad(p, "a possessive quantifier is not supported:");
    if (more(p) && (p->s[p->at] == '*' || p->s[p->at] == '?' || p->s[p->at] == '+'))
        return bad(p, "a quantifier of a quantifier");
    return tree_new(p, (struct tree){.kind = REPEAT, .last = *node, .before = -1, .min = min, .max = max},
                    node);
}

static enum mb_status sequence(struct parser *p, int32_t *out)
{
    int32_t one;

    MB_TRY(tree_new(p, (struct tree){.kind = CAT, .last = -1, .before = -1}, out));
    while (more(p) && p->s[p->at] != '|' && p->s[p->at] != ')') {
        MB_TRY(atom(p, &one));
        MB_TRY(quantified(p, &one));
        p->tree[one].before = p->tree[*out].last;
        p->tree[*out].last = one;
    }
    return MB_OK;
}

static enum mb_status alternatives(struct parser *p, int32_t *out)
{
    int32_t one;

    MB_TRY(tree_new(p, (struct tree){.kind = ALT, .last = -1, .before = -1}, out));
    do {
        MB_TRY(sequence(p, &one));
        p->tree[one].before = p->tree[*out].last;
        p->tree[*out].last = one;
    } while (takes(p, '|'));
    return MB_OK;
}

/* ---------------------------------------------------------------- the graph */

static enum mb_status node_new(struct parser *p, struct mb_nfa_node v, int32_t *out)
{
    if (p->nfa->n >= MB_REGEX_MAX_NODES) {
        snprintf(p->err, p->cap, "the expression needs more than %d nodes", MB_REGEX_MAX_NODES);
        return MB_REQUEST;
    }
    MB_TRY(mb_guide_room((void **)&p->nfa->node, &p->nfa->cap, p->nfa->n + 1, sizeof v));
    p->nfa->node[p->nfa->n] = v;
    *out = p->nfa->n++;
    return MB_OK;
}

static enum mb_status graph(struct parser *p, int32_t tree, int32_t then, int32_t *out);

static enum mb_status repeat(struct parser *p, const struct tree *t, int32_t then, int32_t *out)
{
    int32_t split, at = then, body;

    if (t->max == NO_LIMIT) {
        MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_SPLIT, -1, then, -1}, &split));
        MB_TRY(graph(p, t->last, split, &body));
        p->nfa->node[split].a = body;
        at = split;
    }
    for (int32_t i = t->min; t->max != NO_LIMIT && i < t->max; i++) {
        MB_TRY(graph(p, t->last, at, &body));
        MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_SPLIT, body, then, -1}, &at));
    }
    for (int32_t i = 0; i < t->min; i++)
        MB_TRY(graph(p, t->last, at, &at));
    *out = at;
    return MB_OK;
}

/* The nodes that read what the tree says and go on to `then`. */
static enum mb_status graph(struct parser *p, int32_t tree, int32_t then, int32_t *out)
{
    const struct tree t = p->tree[tree];
    int32_t one;

    if (++p->work > MAX_WORK) {
        snprintf(p->err, p->cap, "the expression repeats too much");
        return MB_REQUEST;
    }
    switch (t.kind) {
    case READ:
        return node_new(p, (struct mb_nfa_node){MB_NFA_READ, then, -1, t.set}, out);
    case BEGIN:
        return node_new(p, (struct mb_nfa_node){MB_NFA_BEGIN, then, -1, -1}, out);
    case END:
        return node_new(p, (struct mb_nfa_node){MB_NFA_END, then, -1, -1}, out);
    case REPEAT:
        return repeat(p, &t, then, out);
    case CAT:
        *out = then;
        for (int32_t i = t.last; i >= 0; i = p->tree[i].before)
            MB_TRY(graph(p, i, *out, out));
        return MB_OK;
    case ALT:
        MB_TRY(graph(p, t.last, then, out));
        for (int32_t i = p->tree[t.last].before; i >= 0; i = p->tree[i].before) {
            MB_TRY(graph(p, i, then, &one));
            MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_SPLIT, one, *out, -1}, out));
        }
        return MB_OK;
    case NOTHING:
        break;
    }
    *out = then;
    return MB_OK;
}

/* Under search any text may come first. */
static enum mb_status whole_graph(struct parser *p, int32_t tree)
{
    struct mb_nfa *a = p->nfa;
    struct mb_set any = {0};
    int32_t match, set, loop, read;

    MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_MATCH, -1, -1, -1}, &match));
    MB_TRY(graph(p, tree, match, &a->start));
    if (!a->search)
        return MB_OK;
    MB_TRY(mb_set_add(&any, 0, MB_LAST_CHAR));
    MB_TRY(set_new(a, &any, &set));
    MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_SPLIT, a->start, -1, -1}, &loop));
    MB_TRY(node_new(p, (struct mb_nfa_node){MB_NFA_READ, loop, -1, set}, &read));
    a->node[loop].b = read;
    a->start = loop;
    return MB_OK;
}

enum mb_status mb_nfa_of_regex(const char *s, size_t n, bool search, struct mb_nfa *out, char *err,
                               size_t cap)
{
    struct mb_nfa a = {.search = search};
    struct parser p = {.s = s, .n = n, .nfa = &a, .err = err, .cap = cap};
    int32_t tree;
    enum mb_status st = alternatives(&p, &tree);

    if (st == MB_OK && more(&p))
        st = bad(&p, "a ) without its (");
    if (st == MB_OK)
        st = whole_graph(&p, tree);
    mb_free(p.tree);
    if (st == MB_OK)
        *out = a;
    else
        mb_nfa_fini(&a);
    return st;
}

void mb_nfa_fini(struct mb_nfa *a)
{
    for (int32_t i = 0; i < a->n_sets; i++)
        mb_set_fini(&a->set[i]);
    mb_free(a->set);
    mb_free(a->node);
    *a = (struct mb_nfa){0};
}
