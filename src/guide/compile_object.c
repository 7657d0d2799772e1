/* Keywords of objects. */
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "guide/compile.h"

static enum mb_status an_object(struct mb_compiler *c, const char *name, const json_t *v)
{
    return json_is_object(v) ? MB_OK
                             : mb_compile_bad(c, "%s: expected an object, found %s", name, mb_json_type(v));
}

/* (name, node) of each member of v. */
static enum mb_status members(struct mb_compiler *c, const char *name, const json_t *v, struct mb_span *out)
{
    const char *key;
    size_t len;
    json_t *one;
    int32_t i = 0, id, node;

    MB_TRY(mb_compile_span(c, 2 * (int64_t)json_object_size(v), out));
    json_object_keylen_foreach((json_t *)v, key, len, one)
    {
        MB_TRY(mb_compile_name(c, key, len, &id));
        MB_TRY(mb_compile_part(c, one, name, key, &node));
        c->s->link[out->at + i++] = id;
        c->s->link[out->at + i++] = node;
    }
    return MB_OK;
}

enum mb_status mb_compile_properties(struct mb_compiler *c, struct mb_part *p, const char *name,
                                     const json_t *v)
{
    MB_TRY(an_object(c, name, v));
    p->node.object.any = false;
    return members(c, name, v, &p->node.object.props);
}

enum mb_status mb_compile_patterns(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    const char *key;
    size_t len;
    json_t *one;
    int32_t i = 0, node;
    char why[200] = "";
    struct mb_span *out = &p->node.object.patterns;

    MB_TRY(an_object(c, name, v));
    p->node.object.any = false;
    MB_TRY(mb_compile_span(c, 2 * (int64_t)json_object_size(v), out));
    json_object_keylen_foreach((json_t *)v, key, len, one)
    {
        struct mb_dfa *d;
        enum mb_status st = mb_dfa_of_regex(key, len, true, &d, why, sizeof why);
        if (st == MB_REQUEST)
            return mb_compile_bad(c, "patternProperties: %s", why);
        MB_TRY(st);
        MB_TRY(mb_compile_keep(c, d));
        c->s->link[out->at + i++] = c->s->n_dfas - 1;
        MB_TRY(mb_compile_part(c, one, name, key, &node));
        c->s->link[out->at + i++] = node;
    }
    return MB_OK;
}

/* The names in a list. */
static enum mb_status names(struct mb_compiler *c, const char *name, const json_t *v, struct mb_span *out)
{
    size_t i;
    json_t *one;
    int32_t n = 0;

    if (!json_is_array(v))
        return mb_compile_bad(c, "%s: expected a list of names, found %s", name, mb_json_type(v));
    MB_TRY(mb_compile_span(c, (int64_t)json_array_size(v), out));
    json_array_foreach((json_t *)v, i, one)
    {
        int32_t id, have = 0;
        if (!json_is_string(one))
            return mb_compile_bad(c, "%s: expected names, found %s", name, mb_json_type(one));
        MB_TRY(mb_compile_name(c, json_string_value(one), json_string_length(one), &id));
        while (have < n && c->s->link[out->at + have] != id)
            have++;
        c->s->link[out->at + have] = id;
        n += have == n;
    }
    out->n = n;
    return MB_OK;
}

enum mb_status mb_compile_required(struct mb_compiler *c, struct mb_part *p, const char *name,
                                   const json_t *v)
{
    if (json_is_boolean(v))
        return mb_compile_bad(c, "required: a boolean (draft 3) is not supported");
    p->node.object.any = false;
    return names(c, name, v, &p->node.object.required);
}

/* Members with a list say what names they need, others are schemas. */
enum mb_status mb_compile_dependent(struct mb_compiler *c, struct mb_part *p, const char *name,
                                    const json_t *v)
{
    const char *key;
    size_t len;
    json_t *one;
    int32_t id, i = 0, j = 0, lists = 0, node;
    struct mb_span needs, when, list;

    MB_TRY(an_object(c, name, v));
    if (p->node.object.needs.n > 0 && strcmp(name, "dependentSchemas") != 0)
        return mb_compile_bad(c, "%s beside another such keyword", name);
    if (p->node.joins.when.n > 0 && strcmp(name, "dependentRequired") != 0)
        return mb_compile_bad(c, "%s beside another such keyword", name);
    json_object_keylen_foreach((json_t *)v, key, len, one) lists += json_is_array(one);
    MB_TRY(mb_compile_span(c, 3 * (int64_t)lists, &needs));
    MB_TRY(mb_compile_span(c, 2 * ((int64_t)json_object_size(v) - lists), &when));
    json_object_keylen_foreach((json_t *)v, key, len, one)
    {
        MB_TRY(mb_compile_name(c, key, len, &id));
        if (json_is_array(one)) {
            MB_TRY(names(c, name, one, &list));
            c->s->link[needs.at + i++] = id;
            c->s->link[needs.at + i++] = list.at;
            c->s->link[needs.at + i++] = list.n;
        } else {
            MB_TRY(mb_compile_part(c, one, name, key, &node));
            c->s->link[when.at + j++] = id;
            c->s->link[when.at + j++] = node;
        }
    }
    if (needs.n > 0) {
        p->node.object.any = false;
        p->node.object.needs = needs;
    }
    if (when.n > 0)
        p->node.joins.when = when;
    return MB_OK;
}

/* Names are matched by one automaton, so only what says something of a string alone can be asked of them. */
enum mb_status mb_compile_names(struct mb_compiler *c, struct mb_part *p, const char *name, const json_t *v)
{
    int32_t id;
    char regex[64], why[200] = "";
    struct mb_dfa *d;

    MB_TRY(mb_compile_part(c, v, name, NULL, &id));
    const struct mb_node n = c->s->node[id];
    const struct mb_node_joins *j = &n.joins;
    if (id == MB_NODE_ANY)
        return MB_OK;
    if (j->all.n + j->any.n + j->one.n + j->when.n > 0 || j->no >= 0 || j->if_ >= 0 || n.text.min > 1000 ||
        n.text.max > 1000)
        return mb_compile_bad(
            c, "propertyNames: only pattern, format, enum, const and lengths up to 1000 are supported");
    p->node.object.any = false;
    if (!(n.types & MB_T_TEXT)) { /* no name is valid: the object is empty */
        p->node.object.max = 0;
        return MB_OK;
    }
    p->node.object.names = n.text.dfa;
    if (n.text.min == 0 && n.text.max < 0)
        return MB_OK;
    snprintf(regex, sizeof regex, n.text.max >= 0 ? "[^]{%lld,%lld}" : "[^]{%lld,}", (long long)n.text.min,
             (long long)n.text.max);
    MB_TRY(mb_dfa_of_regex(regex, strlen(regex), false, &d, why, sizeof why));
    struct mb_node both = n;
    MB_TRY(mb_compile_text(c, &both, d));
    p->node.object.names = both.text.dfa;
    return MB_OK;
}
