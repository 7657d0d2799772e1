/* What the files of the machine share: how a configuration is laid out. */
#ifndef MB_GUIDE_LEVEL_H
#define MB_GUIDE_LEVEL_H
#include <string.h>
#include "guide/machine.h"

enum mb_level_kind { MB_L_ROOT, MB_L_TEXT, MB_L_STRING, MB_L_NUMBER, MB_L_LITERAL, MB_L_ARRAY, MB_L_OBJECT };
enum mb_verdict { MB_V_FALSE, MB_V_OPEN, MB_V_TRUE };

/* Places in an array or object. */
enum mb_phase {
    MB_P_OPENED, /* behind [ or { */
    MB_P_KEY,    /* in a name */
    MB_P_NAMED,  /* behind a name */
    MB_P_COLON,  /* behind : */
    MB_P_SPACE,  /* behind ": " or ", " of an array */
    MB_P_INSIDE, /* a value is open */
    MB_P_VALUE,  /* behind a value */
    MB_P_COMMA,  /* behind , */
    MB_P_COMMA_SPACE,
};

/* The head of a level; lists follow, then its size in words. */
struct mb_level {
    uint32_t kind, phase, depth;
    uint32_t count, cap; /* characters, items or properties so far; counted up to cap */
    uint32_t mode, val,
        high; /* of the reader of characters (chars_in.c); of a literal: which, and bytes so far */
    uint32_t flags, digits, places, number[4]; /* machine_number.c */
    uint32_t name_lo, name_hi, name_at; /* names that the one being written may become; their bytes so far */
    uint32_t name_chars; /* characters of the name so far, while they may become one of others */
    uint32_t n_units, n_roots, n_seen, n_others, n_text, n_key, n_child;
};
#define MB_LEVEL_WORDS ((int32_t)(sizeof(struct mb_level) / 4))

/* A node that looks at the value. */
struct mb_unit {
    uint32_t node, own; /* own: what its assertions say */
    uint32_t local;     /* state of its automaton; items that contain what is asked for */
};
/* A node that something outside asked for, and what was told last. */
struct mb_root {
    uint32_t node, told;
};
#define MB_CHILD_CONTAINS 0x80000000u /* in child: an item that need not, but may, be valid */

/* A level where it lies. Lists: seen: names, ascending; others: names that the schema does not know, each its
 * length, with MB_OTHER_OPEN while the name being written may become it, and its characters; text: characters
 * of the name being written; key: states of the automata of names, unit by unit; child: for each unit the
 * number of nodes that it asks the value under way for, then those. */
struct mb_view {
    int32_t at;
    struct mb_level *h;
    struct mb_unit *unit;
    struct mb_root *root;
    uint32_t *seen, *others, *text, *key, *child;
};
#define MB_OTHER_OPEN 0x80000000u
static inline struct mb_view mb_view_at(const struct mb_config *c, int32_t at)
{
    struct mb_view v = {.at = at, .h = (struct mb_level *)(void *)(c->w + at)};
    v.unit = (struct mb_unit *)(void *)(c->w + at + MB_LEVEL_WORDS);
    v.root = (struct mb_root *)(void *)(v.unit + v.h->n_units);
    v.seen = (uint32_t *)(void *)(v.root + v.h->n_roots);
    v.others = v.seen + v.h->n_seen;
    v.text = v.others + v.h->n_others;
    v.key = v.text + v.h->n_text;
    v.child = v.key + v.h->n_key;
    return v;
}
static inline struct mb_view mb_view_top(const struct mb_config *c)
{
    return mb_view_at(c, c->n - (int32_t)c->w[c->n - 1]);
}
static inline struct mb_view mb_view_below(const struct mb_config *c, int32_t at)
{
    return mb_view_at(c, at - (int32_t)c->w[at - 1]);
}
static inline const struct mb_node *mb_unit_node(const struct mb_acceptor *m, const struct mb_unit *u)
{
    return &m->s->node[u->node];
}
static inline void mb_count_up(struct mb_level *h)
{
    h->count += h->count < h->cap;
}

/* machine.c. false: refused (or out of room). */
bool mb_config_room(struct mb_acceptor *m, struct mb_config *c, int32_t more);
/* The lists of the top level, replaced. */
bool mb_level_seen(struct mb_acceptor *m, struct mb_config *c, uint32_t name);
/* A character of the name being written. */
bool mb_level_text(struct mb_acceptor *m, struct mb_config *c, uint32_t cp);
/* The name being written is complete; known: the schema knows it, else it joins the others. */
bool mb_level_named(struct mb_acceptor *m, struct mb_config *c, bool known);
bool mb_level_key(struct mb_acceptor *m, struct mb_config *c, int32_t n);
bool mb_level_child(struct mb_acceptor *m, struct mb_config *c, const uint32_t *v, int32_t n);
/* After own verdicts of the level at `at` changed: tells those below. */
bool mb_level_settle(struct mb_acceptor *m, struct mb_config *c, int32_t at);
/* The top value is complete, and its units have said true or false: tells who asked, and leaves. */
bool mb_level_finish(struct mb_acceptor *m, struct mb_config *c);
/* A value begins with this byte, for those that the top level's child list names. */
bool mb_value_start(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);

/* chars_in.c: characters of a JSON string, of a text of UTF-8 */
enum mb_char { MB_C_BAD, MB_C_PART, MB_C_WHOLE, MB_C_QUOTE };
/* One byte more; *cp: the character if it is whole. */
enum mb_char mb_char_in(struct mb_level *h, uint8_t byte, bool json, uint32_t *cp);
/* What the character begun may become; returns how many ranges. */
#define MB_CHAR_RANGES 6
int mb_char_ranges(const struct mb_level *h, struct mb_range out[MB_CHAR_RANGES]);

/* The kinds of values: a byte more (machine_*.c). */
bool mb_string_begin(struct mb_acceptor *m, struct mb_config *c);
bool mb_string_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);
bool mb_number_begin(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);
/* *over: the byte belongs to what is behind the number, which was left. */
bool mb_number_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte, bool *over);
bool mb_number_end(struct mb_acceptor *m, struct mb_config *c);
bool mb_array_begin(struct mb_acceptor *m, struct mb_config *c);
bool mb_array_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);
bool mb_object_begin(struct mb_acceptor *m, struct mb_config *c);
bool mb_object_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);
#endif
