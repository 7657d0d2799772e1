/* A JSON Schema as nodes of plain data. A node has what it asserts of a value of each type, and the nodes
 * that it joins with (allOf, anyOf, ...), which look at the same value. Keywords that are not supported are
 * refused by name. Immutable once made. Local. */
#ifndef MB_GUIDE_SCHEMA_H
#define MB_GUIDE_SCHEMA_H
#include "guide/decimal.h"
#include "guide/dfa.h"

#define MB_SCHEMA_MAX_NODES 20000
#define MB_SCHEMA_MAX_UNITS 512     /* nodes that may look at one value */
#define MB_SCHEMA_MAX_CELLS 2000000 /* of all automata */
#define MB_NODE_ANY 0               /* true */
#define MB_NODE_NONE 1              /* false */

enum {
    MB_T_NULL = 1,
    MB_T_TRUE = 2,
    MB_T_FALSE = 4,
    MB_T_WHOLE = 8,  /* numbers without a fraction */
    MB_T_PARTS = 16, /* those with one */
    MB_T_TEXT = 32,
    MB_T_ARRAY = 64,
    MB_T_OBJECT = 128,
    MB_T_ALL = 255
};

/* A list in mb_schema.link. */
struct mb_span {
    int32_t at, n;
};
struct mb_node_number {
    bool any; /* nothing is asserted */
    mb_decimal lo, hi, step,
        whole_step; /* step: 0 or what it must be a multiple of; whole_step: of this if it is whole */
};
struct mb_node_text {
    bool any;
    const struct mb_dfa *dfa; /* NULL: none */
    int64_t min, max;         /* code points; max -1: none */
};
struct mb_node_array {
    bool any;
    struct mb_span prefix; /* nodes */
    int32_t items;         /* node of those behind */
    int64_t min, max;      /* max -1: none */
    int32_t contains;      /* node, -1: none */
    int64_t min_contains, max_contains;
};
struct mb_node_object {
    bool any;
    struct mb_span props;    /* (name, node), names ascending */
    struct mb_span patterns; /* (index of an automaton, node) */
    int32_t rest;            /* node of other properties */
    struct mb_span required; /* names, ascending */
    int64_t min, max;
    const struct mb_dfa *names; /* of all names; NULL: any */
    struct mb_span needs; /* (name, at, n): where it is there, so must be the names link[at .. at + n) */
};
/* Nodes that look at the same value. */
struct mb_node_joins {
    struct mb_span all, any, one, when; /* when: (name, node), for values that have this property */
    int32_t no, if_, then, other;       /* -1: none */
};
struct mb_node {
    uint32_t types; /* that it lets through; 0: nothing is valid */
    struct mb_node_number number;
    struct mb_node_text text;
    struct mb_node_array array;
    struct mb_node_object object;
    struct mb_node_joins joins;
};
struct mb_name {
    char *s; /* UTF-8 */
    size_t n;
};
struct mb_schema {
    struct mb_node *node;
    int32_t n_nodes, cap_nodes;
    int32_t *link;
    int32_t n_links, cap_links;
    struct mb_name *name; /* of properties, ascending by their bytes */
    int32_t n_names, cap_names;
    struct mb_dfa **dfa; /* owned */
    int32_t n_dfas, cap_dfas;
    int64_t cells; /* of all automata */
    int32_t root;
};
/* schema: an object, true or false. Errors: MB_REQUEST with place and reason in err[0..cap), not logged;
 * MB_NO_MEMORY. */
enum mb_status mb_schema_create(const json_t *schema, struct mb_schema **out, char *err, size_t cap);
void mb_schema_destroy(struct mb_schema *s); /* NULL ok */
#endif
