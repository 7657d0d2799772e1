/* enum and const: values as nodes that let only them through. */
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "guide/compile.h"

static enum mb_status value_node(struct mb_compiler *c, const json_t *v, int32_t *out);

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

/* The automaton of these strings. */
static enum mb_status words(struct mb_compiler *c, const json_t *const *v, size_t n, struct mb_dfa **out)
{
    struct mb_dfa_word *w = mb_alloc(NULL, MB_MEM_REQUESTS, n + 1, sizeof *w);
    char why[200] = "";
    int32_t k = 0;

    if (w == NULL)
        return no_memory();
    for (size_t i = 0; i < n; i++)
        if (json_is_string(v[i]))
            w[k++] = (struct mb_dfa_word){json_string_value(v[i]), json_string_length(v[i])};
    enum mb_status st = mb_dfa_of_words(w, k, out, why, sizeof why);
    mb_free(w);
    return st == MB_REQUEST ? mb_compile_bad(c, "enum: %s", why) : st;
}

static enum mb_status array_node(struct mb_compiler *c, const json_t *v, struct mb_node *n)
{
    struct mb_span s;
    size_t i;
    json_t *one;
    int32_t node;

    MB_TRY(mb_compile_span(c, (int64_t)json_array_size(v), &s));
    json_array_foreach((json_t *)v, i, one)
    {
        MB_TRY(value_node(c, one, &node));
        c->s->link[s.at + (int32_t)i] = node;
    }
    n->types = MB_T_ARRAY;
    n->array.any = false;
    n->array.prefix = s;
    n->array.min = n->array.max = s.n;
    return MB_OK;
}

static enum mb_status object_node(struct mb_compiler *c, const json_t *v, struct mb_node *n)
{
    struct mb_span props, all;
    const char *key;
    size_t len;
    json_t *one;
    int32_t i = 0, id, node;

    MB_TRY(mb_compile_span(c, 2 * (int64_t)json_object_size(v), &props));
    MB_TRY(mb_compile_span(c, (int64_t)json_object_size(v), &all));
    json_object_keylen_foreach((json_t *)v, key, len, one)
    {
        MB_TRY(mb_compile_name(c, key, len, &id));
        MB_TRY(value_node(c, one, &node));
        c->s->link[props.at + 2 * i] = id;
        c->s->link[props.at + 2 * i + 1] = node;
        c->s->link[all.at + i++] = id;
    }
    n->types = MB_T_OBJECT;
    n->object.any = false;
    n->object.props = props;
    n->object.required = all;
    n->object.rest = MB_NODE_NONE;
    return MB_OK;
}

static enum mb_status number_node(struct mb_compiler *c, const json_t *v, struct mb_node *n)
{
    bool exact;

    n->types = MB_T_WHOLE | MB_T_PARTS;
    n->number.any = false;
    n->number.lo = n->number.hi = mb_decimal_of(v, MB_DECIMAL_DOWN, &exact);
    if (!exact || n->number.lo >= MB_DECIMAL_MOST || n->number.lo <= -MB_DECIMAL_MOST)
        return mb_compile_bad(c, "a number of enum or const with more than %d digits on a side of its point",
                              MB_DECIMAL_DIGITS);
    return MB_OK;
}

static enum mb_status value_node(struct mb_compiler *c, const json_t *v, int32_t *out)
{
    struct mb_node n = mb_node_all();
    struct mb_dfa *d;

    if (++c->depth > 64)
        return mb_compile_bad(c, "a value of enum or const is nested too deeply");
    switch (json_typeof(v)) {
    case JSON_NULL:
        n.types = MB_T_NULL;
        break;
    case JSON_TRUE:
        n.types = MB_T_TRUE;
        break;
    case JSON_FALSE:
        n.types = MB_T_FALSE;
        break;
    case JSON_STRING:
        n.types = MB_T_TEXT;
        MB_TRY(words(c, &v, 1, &d));
        MB_TRY(mb_compile_text(c, &n, d));
        break;
    case JSON_ARRAY:
        MB_TRY(array_node(c, v, &n));
        break;
    case JSON_OBJECT:
        MB_TRY(object_node(c, v, &n));
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        MB_TRY(number_node(c, v, &n));
        break;
    }
    c->depth--;
    return mb_compile_node(c, &n, out);
}

/* The strings together, or -1 where there are none. */
static enum mb_status strings_node(struct mb_compiler *c, const json_t *const *v, size_t n, size_t strings,
                                   int32_t *out)
{
    struct mb_node s = mb_node_all();
    struct mb_dfa *d;

    *out = -1;
    if (strings == 0)
        return MB_OK;
    s.types = MB_T_TEXT;
    MB_TRY(words(c, v, n, &d));
    MB_TRY(mb_compile_text(c, &s, d));
    return mb_compile_node(c, &s, out);
}

enum mb_status mb_compile_values(struct mb_compiler *c, struct mb_part *p, const json_t *const *v, size_t n)
{
    struct mb_node either = mb_node_all();
    size_t strings = 0;
    int32_t node, k = 0;
    struct mb_dfa *d;

    for (size_t i = 0; i < n; i++)
        strings += json_is_string(v[i]);
    if (strings == n) { /* no node of its own */
        p->node.types &= MB_T_TEXT;
        MB_TRY(words(c, v, n, &d));
        return mb_compile_text(c, &p->node, d);
    }
    MB_TRY(mb_compile_span(c, (int64_t)(n - strings + (strings > 0)), &either.joins.any));
    MB_TRY(strings_node(c, v, n, strings, &node));
    if (node >= 0)
        c->s->link[either.joins.any.at + k++] = node;
    for (size_t i = 0; i < n; i++) {
        if (json_is_string(v[i]))
            continue;
        MB_TRY(value_node(c, v[i], &node));
        c->s->link[either.joins.any.at + k++] = node;
    }
    MB_TRY(mb_compile_node(c, &either, &node));
    return mb_compile_also(c, p, node);
}
