/* The keywords of JSON Schema: what each asserts. */
#include <limits.h>
#include <string.h>
#include "base/json.h"
#include "guide/compile.h"

typedef enum mb_status (*reader)(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v);

/* ---------------------------------------------------------------- all types */

static enum mb_status one_type(struct mb_compiler *c, const json_t *v, uint32_t *types)
{
    static const struct {
        const char *name;
        uint32_t bits;
    } known[] = {{"null", MB_T_NULL},     {"boolean", MB_T_TRUE | MB_T_FALSE},
                 {"integer", MB_T_WHOLE}, {"number", MB_T_WHOLE | MB_T_PARTS},
                 {"string", MB_T_TEXT},   {"array", MB_T_ARRAY},
                 {"object", MB_T_OBJECT}, {"any", MB_T_ALL}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (json_is_string(v) && strcmp(json_string_value(v), known[i].name) == 0) {
            *types |= known[i].bits;
            return MB_OK;
        }
    }
    return mb_compile_bad(c, "type: expected the name of a type");
}

static enum mb_status read_type(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    uint32_t types = 0;
    size_t i;
    json_t *one;

    (void)name;
    if (!json_is_array(v))
        MB_TRY(one_type(c, v, &types));
    json_array_foreach((json_t *)v, i, one) MB_TRY(one_type(c, one, &types));
    if (json_is_true(json_object_get(p->json, "nullable")))
        types |= MB_T_NULL;
    p->node.types &= types;
    return MB_OK;
}

static enum mb_status read_nullable(struct mb_compiler *c, struct mb_part *p, const char *name,
                                    const json_t *v)
{
    (void)p, (void)name;
    return json_is_boolean(v) ? MB_OK : mb_compile_bad(c, "nullable: expected true or false");
}

/* Where nullable stands beside an enum, null is one of its values. */
static enum mb_status read_enum(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    const json_t *list[MB_SCHEMA_MAX_NODES / 4];
    size_t n = json_array_size(v);

    (void)name;
    if (!json_is_array(v) || n == 0)
        return mb_compile_bad(c, "enum: expected a list of values");
    if (n + 1 > sizeof list / sizeof *list)
        return mb_compile_bad(c, "enum: more than %zu values", sizeof list / sizeof *list - 1);
    for (size_t i = 0; i < n; i++)
        list[i] = json_array_get(v, i);
    json_t *null = json_null();
    if (json_is_true(json_object_get(p->json, "nullable")))
        list[n++] = null;
    return mb_compile_values(c, p, list, n);
}

static enum mb_status read_const(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    (void)name;
    return mb_compile_values(c, p, &v, 1);
}

static enum mb_status read_all(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    return mb_compile_list(c, v, name, &p->node.joins.all);
}

static enum mb_status read_any(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    return mb_compile_list(c, v, name, &p->node.joins.any);
}

static enum mb_status read_one(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    return mb_compile_list(c, v, name, &p->node.joins.one);
}

static enum mb_status read_not(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    return mb_compile_part(c, v, name, NULL, &p->node.joins.no);
}

static enum mb_status read_if(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    const json_t *then = json_object_get(p->json, "then"), *other = json_object_get(p->json, "else");
    struct mb_node_joins *j = &p->node.joins;

    if (then == NULL && other == NULL)
        return MB_OK;
    MB_TRY(mb_compile_part(c, v, name, NULL, &j->if_));
    j->then = j->other = MB_NODE_ANY;
    if (then != NULL)
        MB_TRY(mb_compile_part(c, then, "then", NULL, &j->then));
    return other == NULL ? MB_OK : mb_compile_part(c, other, "else", NULL, &j->other);
}

/* ---------------------------------------------------------------- numbers */

static enum mb_status a_number(struct mb_compiler *c, const char *name, const json_t *v)
{
    return json_is_number(v) ? MB_OK
                             : mb_compile_bad(c, "%s: expected a number, found %s", name, mb_json_type(v));
}

static void at_least(struct mb_part *p, const json_t *v, bool above)
{
    bool exact;
    mb_decimal x = mb_decimal_of(v, MB_DECIMAL_UP, &exact);

    x += above && exact;
    p->node.number.lo = x > p->node.number.lo ? x : p->node.number.lo;
    p->node.number.any = false;
}

static void at_most(struct mb_part *p, const json_t *v, bool below)
{
    bool exact;
    mb_decimal x = mb_decimal_of(v, MB_DECIMAL_DOWN, &exact);

    x -= below && exact;
    p->node.number.hi = x < p->node.number.hi ? x : p->node.number.hi;
    p->node.number.any = false;
}

/* Draft 4 says with a boolean beside a bound that it is exclusive. */
static enum mb_status read_minimum(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    MB_TRY(a_number(c, name, v));
    at_least(p, v, json_is_true(json_object_get(p->json, "exclusiveMinimum")));
    return MB_OK;
}

static enum mb_status read_maximum(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    MB_TRY(a_number(c, name, v));
    at_most(p, v, json_is_true(json_object_get(p->json, "exclusiveMaximum")));
    return MB_OK;
}

static enum mb_status read_above(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    if (json_is_boolean(v))
        return MB_OK;
    MB_TRY(a_number(c, name, v));
    at_least(p, v, true);
    return MB_OK;
}

static enum mb_status read_below(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    if (json_is_boolean(v))
        return MB_OK;
    MB_TRY(a_number(c, name, v));
    at_most(p, v, true);
    return MB_OK;
}

static enum mb_status read_multiple(struct mb_compiler *c, struct mb_part *p, const char *name,
                                    const json_t *v)
{
    struct mb_node_number *n = &p->node.number;
    bool exact;

    MB_TRY(a_number(c, name, v));
    n->step = mb_decimal_of(v, MB_DECIMAL_DOWN, &exact);
    if (n->step <= 0 || !exact || n->step >= MB_DECIMAL_MOST)
        return mb_compile_bad(
            c, "multipleOf: expected a number above 0 with at most %d digits on each side of its point",
            MB_DECIMAL_DIGITS);
    n->whole_step = mb_decimal_lcm(n->step, MB_DECIMAL_ONE);
    if (n->whole_step == 0)
        n->whole_step = MB_DECIMAL_MOST;
    n->any = false;
    return MB_OK;
}

/* ---------------------------------------------------------------- counts */

static enum mb_status a_count(struct mb_compiler *c, const char *name, const json_t *v, int64_t *out)
{
    double x = json_is_number(v) ? json_number_value(v) : -1;

    if (!(x >= 0) || x != (double)(int64_t)(x < 1e15 ? x : 1e15))
        return x >= 1e15 ? (*out = (int64_t)1e15, MB_OK)
                         : mb_compile_bad(c, "%s: expected an integer of at least 0", name);
    *out = (int64_t)x;
    return MB_OK;
}

#define COUNT(fn, field)                                                                                     \
    static enum mb_status fn(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)    \
    {                                                                                                        \
        MB_TRY(a_count(c, name, v, &p->node.field));                                                         \
        return MB_OK;                                                                                        \
    }
COUNT(count_min_length, text.min)
COUNT(count_max_length, text.max)
COUNT(count_min_items, array.min)
COUNT(count_max_items, array.max)
COUNT(count_min_contains, array.min_contains)
COUNT(count_max_contains, array.max_contains)
COUNT(count_min_properties, object.min)
COUNT(count_max_properties, object.max)

static enum mb_status read_length(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    p->node.text.any = false;
    return name[1] == 'i' ? count_min_length(c, p, name, v) : count_max_length(c, p, name, v);
}

static enum mb_status read_items_count(struct mb_compiler *c, struct mb_part *p, const char *name,
                                       const json_t *v)
{
    p->node.array.any = false;
    return name[1] == 'i' ? count_min_items(c, p, name, v) : count_max_items(c, p, name, v);
}

static enum mb_status read_contains_count(struct mb_compiler *c, struct mb_part *p, const char *name,
                                          const json_t *v)
{
    return name[1] == 'i' ? count_min_contains(c, p, name, v) : count_max_contains(c, p, name, v);
}

static enum mb_status read_properties_count(struct mb_compiler *c, struct mb_part *p, const char *name,
                                            const json_t *v)
{
    p->node.object.any = false;
    return name[1] == 'i' ? count_min_properties(c, p, name, v) : count_max_properties(c, p, name, v);
}

/* ---------------------------------------------------------------- strings */

static enum mb_status add_regex(struct mb_compiler *c, struct mb_part *p, const char *name, const char *regex,
                                size_t n, bool search)
{
    struct mb_dfa *d;
    char why[200] = "";
    enum mb_status st = mb_dfa_of_regex(regex, n, search, &d, why, sizeof why);

    if (st == MB_REQUEST)
        return mb_compile_bad(c, "%s: %s", name, why);
    MB_TRY(st);
    return mb_compile_text(c, &p->node, d);
}

static enum mb_status read_pattern(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    if (!json_is_string(v))
        return mb_compile_bad(c, "pattern: expected a string, found %s", mb_json_type(v));
    return add_regex(c, p, name, json_string_value(v), json_string_length(v), true);
}

static enum mb_status read_format(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    bool checked;
    const char *longest = NULL;

    if (!json_is_string(v))
        return mb_compile_bad(c, "format: expected a string, found %s", mb_json_type(v));
    const char *regex = mb_format_regex(json_string_value(v), &checked, &longest);
    if (regex == NULL)
        return checked ? mb_compile_bad(c, "format \"%.40s\" is not supported", json_string_value(v)) : MB_OK;
    if (longest != NULL)
        MB_TRY(add_regex(c, p, name, longest, strlen(longest), false));
    return add_regex(c, p, name, regex, strlen(regex), false);
}

/* ---------------------------------------------------------------- arrays */

static enum mb_status read_prefix(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    p->node.array.any = false;
    return mb_compile_list(c, v, name, &p->node.array.prefix);
}

/* A list means what prefixItems means now, and additionalItems what items means then. */
static enum mb_status read_items(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    const json_t *rest = json_object_get(p->json, "additionalItems");

    p->node.array.any = false;
    if (!json_is_array(v))
        return mb_compile_part(c, v, name, NULL, &p->node.array.items);
    if (json_array_size(v) > 0)
        MB_TRY(mb_compile_list(c, v, name, &p->node.array.prefix));
    return rest == NULL ? MB_OK : mb_compile_part(c, rest, "additionalItems", NULL, &p->node.array.items);
}

static enum mb_status read_contains(struct mb_compiler *c, struct mb_part *p, const char *name,
                                    const json_t *v)
{
    p->node.array.any = false;
    return mb_compile_part(c, v, name, NULL, &p->node.array.contains);
}

/* ---------------------------------------------------------------- objects, and what is no keyword of these
 */

static enum mb_status read_rest(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    p->node.object.any = false;
    return mb_compile_part(c, v, name, NULL, &p->node.object.rest);
}

static enum mb_status read_nothing(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    (void)c, (void)p, (void)name, (void)v;
    return MB_OK;
}

/* Changes nothing if it is false. */
static enum mb_status read_unique(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    (void)p;
    return json_is_false(v) ? MB_OK : mb_compile_bad(c, "keyword \"%s\" is not supported", name);
}

/* Changes nothing if it lets everything through. */
static enum mb_status read_unevaluated(struct mb_compiler *c, struct mb_part *p, const char *name,
                                       const json_t *v)
{
    (void)p;
    return json_is_true(v) || (json_is_object(v) && json_object_size(v) == 0)
               ? MB_OK
               : mb_compile_bad(c, "keyword \"%s\" is not supported", name);
}

/* Since 2019 they are notes; before they could be checked. */
static enum mb_status read_content(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    (void)p, (void)v;
    return c->legacy ? mb_compile_bad(c, "keyword \"%s\" is not supported", name) : MB_OK;
}

static enum mb_status read_id(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    (void)v;
    return p->json == c->root ? MB_OK : mb_compile_bad(c, "%s inside of a schema is not supported", name);
}

static enum mb_status refuse(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    (void)p, (void)v;
    return mb_compile_bad(c, "keyword \"%s\" is not supported", name);
}

static const struct {
    const char *name;
    reader read;
} keywords[] = {
    {"type", read_type},
    {"nullable", read_nullable},
    {"enum", read_enum},
    {"const", read_const},
    {"allOf", read_all},
    {"anyOf", read_any},
    {"oneOf", read_one},
    {"not", read_not},
    {"if", read_if},
    {"then", read_nothing}, /* with if */
    {"else", read_nothing},
    {"minimum", read_minimum},
    {"maximum", read_maximum},
    {"exclusiveMinimum", read_above},
    {"exclusiveMaximum", read_below},
    {"multipleOf", read_multiple},
    {"minLength", read_length},
    {"maxLength", read_length},
    {"pattern", read_pattern},
    {"format", read_format},
    {"prefixItems", read_prefix},
    {"items", read_items},
    {"additionalItems", read_nothing}, /* with items */
    {"contains", read_contains},
    {"minContains", read_contains_count},
    {"maxContains", read_contains_count},
    {"minItems", read_items_count},
    {"maxItems", read_items_count},
    {"uniqueItems", read_unique},
    {"properties", mb_compile_properties},
    {"patternProperties", mb_compile_patterns},
    {"additionalProperties", read_rest},
    {"required", mb_compile_required},
    {"minProperties", read_properties_count},
    {"maxProperties", read_properties_count},
    {"propertyNames", mb_compile_names},
    {"dependentRequired", mb_compile_dependent},
    {"dependentSchemas", mb_compile_dependent},
    {"dependencies", mb_compile_dependent},
    {"unevaluatedProperties", read_unevaluated},
    {"unevaluatedItems", read_unevaluated},
    {"$ref", read_nothing}, /* read first */
    {"$id", read_id},
    {"id", read_id},
    {"contentEncoding", read_content},
    {"contentMediaType", read_content},
    {"$dynamicRef", refuse},
    {"$recursiveRef", refuse},
    {"$vocabulary", refuse},
    {"extends", refuse},
    {"disallow", refuse},
    {"divisibleBy", refuse},
};

/* They say nothing of a value. */
static const char *const notes[] = {
    "$schema",       "$comment",     "$defs",   "definitions", "title",          "description",
    "default",       "examples",     "example", "deprecated",  "readOnly",       "writeOnly",
    "contentSchema", "externalDocs", "xml",     "$anchor",     "$dynamicAnchor", "$recursiveAnchor",
};

enum mb_status mb_compile_key(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(name, keywords[i].name) == 0)
            return keywords[i].read(c, p, name, v);
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        if (strcmp(name, notes[i]) == 0)
            return MB_OK;
    if (strncmp(name, "x-", 2) == 0)
        return MB_OK;
    return mb_compile_bad(c, "unknown keyword \"%.60s\"", name);
}
