/* JSON Schema -> nodes: parts, references, and what is found out of all at the end. */
#include "guide/compile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#define MAX_DEPTH 128 /* parts in parts */

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a grammar of a request");
}

enum mb_status mb_compile_bad(struct mb_compiler *c, const char *fmt, ...)
{
    va_list ap;
    int n = snprintf(c->err, c->cap, "%.120s: ", c->path[0] != 0 ? c->path : "the schema");

    va_start(ap, fmt);
    if (n >= 0 && (size_t)n < c->cap)
        vsnprintf(c->err + n, c->cap - (size_t)n, fmt, ap);
    va_end(ap);
    return MB_REQUEST;
}

struct mb_node mb_node_all(void)
{
    return (struct mb_node){.types = MB_T_ALL,
                            .number = {.any = true, .lo = -MB_DECIMAL_MOST, .hi = MB_DECIMAL_MOST},
                            .text = {.any = true, .max = -1},
                            .array = {.any = true,
                                      .items = MB_NODE_ANY,
                                      .max = -1,
                                      .contains = -1,
                                      .min_contains = 1,
                                      .max_contains = -1},
                            .object = {.any = true, .rest = MB_NODE_ANY, .max = -1},
                            .joins = {.no = -1, .if_ = -1, .then = -1, .other = -1}};
}

enum mb_status mb_compile_node(struct mb_compiler *c, const struct mb_node *v, int32_t *out)
{
    struct mb_schema *s = c->s;

    if (s->n_nodes >= MB_SCHEMA_MAX_NODES)
        return mb_compile_bad(c, "more than %d parts", MB_SCHEMA_MAX_NODES);
    MB_TRY(mb_guide_room((void **)&s->node, &s->cap_nodes, s->n_nodes + 1, sizeof *v));
    s->node[s->n_nodes] = *v;
    *out = s->n_nodes++;
    return MB_OK;
}

enum mb_status mb_compile_span(struct mb_compiler *c, int64_t n, struct mb_span *out)
{
    struct mb_schema *s = c->s;

    MB_TRY(mb_guide_room((void **)&s->link, &s->cap_links, s->n_links + n, sizeof *s->link));
    *out = (struct mb_span){s->n_links, (int32_t)n};
    for (int64_t i = 0; i < n; i++)
        s->link[s->n_links++] = MB_NODE_ANY;
    return MB_OK;
}

enum mb_status mb_compile_keep(struct mb_compiler *c, struct mb_dfa *d)
{
    struct mb_schema *s = c->s;
    enum mb_status st = mb_guide_room((void **)&s->dfa, &s->cap_dfas, s->n_dfas + 1, sizeof(void *));

    if (st != MB_OK) {
        mb_dfa_destroy(d);
        return st;
    }
    s->dfa[s->n_dfas++] = d;
    s->cells += (int64_t)d->states * d->classes;
    return s->cells <= MB_SCHEMA_MAX_CELLS
               ? MB_OK
               : mb_compile_bad(c, "the patterns and strings need too many states together");
}

enum mb_status mb_compile_text(struct mb_compiler *c, struct mb_node *v, struct mb_dfa *d)
{
    struct mb_dfa *both;
    char why[200] = "";

    MB_TRY(mb_compile_keep(c, d));
    if (v->text.dfa != NULL) {
        enum mb_status st = mb_dfa_both(v->text.dfa, d, &both, why, sizeof why);
        if (st == MB_REQUEST)
            return mb_compile_bad(c, "%s", why);
        MB_TRY(st);
        MB_TRY(mb_compile_keep(c, both));
        d = both;
    }
    v->text.dfa = d;
    v->text.any = false;
    return MB_OK;
}

/* Names are few; they are sorted, and their numbers changed, when all are known. */
enum mb_status mb_compile_name(struct mb_compiler *c, const char *text, size_t n, int32_t *out)
{
    struct mb_schema *s = c->s;

    for (*out = 0; *out < s->n_names; (*out)++)
        if (s->name[*out].n == n && memcmp(s->name[*out].s, text, n) == 0)
            return MB_OK;
    if (s->n_names >= MB_SCHEMA_MAX_NODES)
        return mb_compile_bad(c, "more than %d names of properties", MB_SCHEMA_MAX_NODES);
    MB_TRY(mb_guide_room((void **)&s->name, &s->cap_names, s->n_names + 1, sizeof *s->name));
    char *copy = mb_alloc(NULL, MB_MEM_REQUESTS, n + 1, 1);
    if (copy == NULL)
        return no_memory();
    memcpy(copy, text, n);
    s->name[s->n_names++] = (struct mb_name){copy, n};
    return MB_OK;
}

enum mb_status mb_compile_also(struct mb_compiler *c, struct mb_part *p, int32_t node)
{
    if (p->n_all == (int32_t)(sizeof p->all / sizeof *p->all))
        return mb_compile_bad(c, "too many keywords that name alternatives");
    p->all[p->n_all++] = node;
    return MB_OK;
}

enum mb_status mb_compile_list(struct mb_compiler *c, const json_t *v, const char *key, struct mb_span *out)
{
    char number[24];
    size_t i;
    json_t *one;

    if (!json_is_array(v) || json_array_size(v) == 0)
        return mb_compile_bad(c, "%s: expected a list of schemas", key);
    MB_TRY(mb_compile_span(c, (int64_t)json_array_size(v), out));
    json_array_foreach((json_t *)v, i, one)
    {
        snprintf(number, sizeof number, "%zu", i);
        int32_t node;
        MB_TRY(mb_compile_part(c, one, key, number, &node));
        c->s->link[out->at + (int32_t)i] = node;
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- parts */

static struct mb_made *made_slot(struct mb_compiler *c, const json_t *v)
{
    uint64_t h = ((uint64_t)(uintptr_t)v >> 4) * 0x9e3779b97f4a7c15u;

    for (h >>= 48;; h = (h + 1) & (MB_MADE_SLOTS - 1))
        if (c->made[h].part == NULL || c->made[h].part == v)
            return &c->made[h];
}

/* A step of a JSON pointer, decoded from the text of a reference; returns what is behind it, or NULL. */
static const char *pointer_step(const char *s, char *out, size_t cap)
{
    size_t n = 0;

    for (; *s != 0 && *s != '/'; s++) {
        char ch = *s;
        unsigned x;
        if (ch == '%' && s[1] != 0 && s[2] != 0 && sscanf((char[]){s[1], s[2], 0}, "%2x", &x) == 1) {
            ch = (char)x;
            s += 2;
        }
        if (ch == '~' && (s[1] == '0' || s[1] == '1'))
            ch = *++s == '0' ? '~' : '/';
        if (n + 1 >= cap)
            return NULL;
        out[n++] = ch;
    }
    out[n] = 0;
    return s;
}

static enum mb_status resolve(struct mb_compiler *c, const char *ref, const json_t **out)
{
    const json_t *id = json_object_get(c->root, "$id"), *at = c->root;
    const char *s = ref, *own = json_string_value(id);
    char step[512];
    bool first = true;

    if (own != NULL && strncmp(s, own, strlen(own)) == 0 && (s[strlen(own)] == 0 || s[strlen(own)] == '#'))
        s += strlen(own);
    if (*s == '#')
        s++;
    else if (s == ref)
        return mb_compile_bad(
            c, "$ref \"%.80s\": only references into the schema itself (#/...) are supported", ref);
    while (*s == '/' && at != NULL) {
        if (!first && json_is_string(json_object_get(at, "$id")))
            return mb_compile_bad(c, "$id inside of a schema is not supported");
        s = pointer_step(s + 1, step, sizeof step);
        if (s == NULL)
            break;
        at = json_is_array(at)
                 ? json_array_get(at,
                                  strspn(step, "0123456789") == strlen(step) ? (size_t)atol(step) : SIZE_MAX)
                 : json_object_get(at, step);
        first = false;
    }
    if (s == NULL || *s != 0 || at == NULL)
        return mb_compile_bad(c, "$ref \"%.80s\" leads nowhere", ref);
    *out = at;
    return MB_OK;
}

/* Its own path is the pointer's. */
static enum mb_status reference(struct mb_compiler *c, const json_t *v, int32_t *out)
{
    const json_t *part = NULL;
    char before[sizeof c->path];

    if (!json_is_string(v))
        return mb_compile_bad(c, "$ref: expected a string");
    MB_TRY(resolve(c, json_string_value(v), &part));
    memcpy(before, c->path, sizeof before);
    snprintf(c->path, sizeof c->path, "%.500s", json_string_value(v));
    enum mb_status st = mb_compile_part(c, part, NULL, NULL, out);
    memcpy(c->path, before, sizeof before);
    return st;
}

/* allOf's list and what else is joined by "and". */
static enum mb_status join_all(struct mb_compiler *c, struct mb_part *p)
{
    struct mb_span old = p->node.joins.all, all;

    if (p->n_all == 0)
        return MB_OK;
    MB_TRY(mb_compile_span(c, old.n + p->n_all, &all));
    for (int32_t i = 0; i < old.n; i++)
        c->s->link[all.at + i] = c->s->link[old.at + i];
    for (int32_t i = 0; i < p->n_all; i++)
        c->s->link[all.at + old.n + i] = p->all[i];
    p->node.joins.all = all;
    return MB_OK;
}

/* What cannot be met takes its type away. */
static void narrow(struct mb_node *v)
{
    const struct mb_node_text *t = &v->text;

    if ((t->max >= 0 && t->min > t->max) ||
        (t->dfa != NULL &&
         (t->dfa->states == 0 || (t->max >= 0 && t->dfa->near[0] > t->max) || t->dfa->far[0] < t->min)))
        v->types &= ~(uint32_t)MB_T_TEXT;
    if (v->number.lo > v->number.hi)
        v->types &= ~(uint32_t)(MB_T_WHOLE | MB_T_PARTS);
    if (v->array.max >= 0 && v->array.min > v->array.max)
        v->types &= ~(uint32_t)MB_T_ARRAY;
    if (v->object.max >= 0 && (v->object.min > v->object.max || v->object.required.n > v->object.max))
        v->types &= ~(uint32_t)MB_T_OBJECT;
}

static enum mb_status read_keys(struct mb_compiler *c, struct mb_part *p)
{
    const json_t *ref = json_object_get(p->json, "$ref");
    const char *name;
    json_t *v;
    int32_t node;

    if (ref != NULL) {
        MB_TRY(reference(c, ref, &node));
        MB_TRY(mb_compile_also(c, p, node));
    }
    if (ref == NULL || !c->legacy) {
        json_object_foreach((json_t *)p->json, name, v) MB_TRY(mb_compile_key(c, p, name, v));
    }
    return join_all(c, p);
}

static enum mb_status read_part(struct mb_compiler *c, const json_t *v, int32_t *out)
{
    struct mb_part p = {.json = v, .node = mb_node_all()};

    if (json_is_boolean(v)) {
        *out = json_is_true(v) ? MB_NODE_ANY : MB_NODE_NONE;
        return MB_OK;
    }
    if (!json_is_object(v))
        return mb_compile_bad(c, "expected a schema (an object, true or false), found %s", mb_json_type(v));
    struct mb_made *m = made_slot(c, v);
    if (m->part != NULL) {
        *out = m->node;
        return MB_OK;
    }
    if (c->n_made++ >= MB_SCHEMA_MAX_NODES)
        return mb_compile_bad(c, "more than %d parts", MB_SCHEMA_MAX_NODES);
    MB_TRY(mb_compile_node(c, &p.node, out));
    *m = (struct mb_made){v, *out};
    MB_TRY(read_keys(c, &p));
    narrow(&p.node);
    c->s->node[*out] = p.node;
    return MB_OK;
}

enum mb_status mb_compile_part(struct mb_compiler *c, const json_t *v, const char *key, const char *key2,
                               int32_t *out)
{
    size_t n = strlen(c->path);

    if (++c->depth > MAX_DEPTH)
        return mb_compile_bad(c, "more than %d parts in each other", MAX_DEPTH);
    if (key != NULL)
        snprintf(c->path + n, sizeof c->path - n, key2 != NULL ? "/%.60s/%.60s" : "/%.60s", key, key2);
    enum mb_status st = read_part(c, v, out);
    c->path[n] = 0;
    c->depth--;
    return st;
}

/* ---------------------------------------------------------------- when all are known */

/* The nodes that look at the same value as node i, one after another: which in 0 ..; -1: no more. */
static int32_t joined(const struct mb_schema *s, int32_t i, int32_t which)
{
    const struct mb_node_joins *j = &s->node[i].joins;
    const struct mb_span lists[] = {j->all, j->any, j->one};
    const int32_t single[] = {j->no, j->if_, j->then, j->other};

    for (int32_t k = 0; k < 3; k++) {
        if (which < lists[k].n)
            return s->link[lists[k].at + which];
        which -= lists[k].n;
    }
    if (which < j->when.n / 2)
        return s->link[j->when.at + 2 * which + 1];
    for (which -= j->when.n / 2; which < 4; which++)
        if (single[which] >= 0)
            return single[which];
    return -1;
}

/* Marks all nodes that look at a value with `root`; 0 where they are too many or one is behind itself. Depth
 * first: on[] has the nodes on the way. */
static int32_t count_units(const struct mb_schema *s, int32_t root, int32_t *stamp, int32_t *way, int32_t *at,
                           uint8_t *on)
{
    int32_t depth = 1, n = 1;
    bool bad = false;

    way[0] = root;
    at[0] = 0;
    stamp[root] = root + 1;
    on[root] = 1;
    while (depth > 0) {
        int32_t i = way[depth - 1], next = joined(s, i, at[depth - 1]);
        /* a single one that is missing is passed over: count places, not nodes */
        const struct mb_node_joins *j = &s->node[i].joins;
        int32_t places = j->all.n + j->any.n + j->one.n + j->when.n / 2 + 4;
        if (at[depth - 1] >= places || next < 0) {
            on[i] = 0;
            depth--;
            continue;
        }
        at[depth - 1]++;
        bad |= on[next] != 0;
        if (bad || stamp[next] == root + 1)
            continue;
        stamp[next] = root + 1;
        on[next] = 1;
        bad |= ++n > MB_SCHEMA_MAX_UNITS;
        way[depth] = next;
        at[depth++] = 0;
    }
    return bad ? 0 : n;
}

static enum mb_status check_joins(struct mb_compiler *c)
{
    const struct mb_schema *s = c->s;
    size_t n = (size_t)s->n_nodes + 1;
    int32_t *v = mb_zalloc(NULL, MB_MEM_REQUESTS, 3 * n, sizeof *v);
    uint8_t *on = mb_zalloc(NULL, MB_MEM_REQUESTS, n, 1);
    enum mb_status st = v == NULL || on == NULL ? no_memory() : MB_OK;

    for (int32_t i = 0; st == MB_OK && i < s->n_nodes; i++)
        if (count_units(s, i, v, v + n, v + 2 * n, on) == 0)
            st = mb_compile_bad(
                c, "a $ref that leads back to itself, or more than %d alternatives for one value",
                MB_SCHEMA_MAX_UNITS);
    mb_free(v);
    mb_free(on);
    return st;
}

struct name_at {
    struct mb_name name;
    int32_t old;
};

static int by_bytes(const void *a, const void *b)
{
    const struct mb_name *x = &((const struct name_at *)a)->name, *y = &((const struct name_at *)b)->name;
    int d = memcmp(x->s, y->s, x->n < y->n ? x->n : y->n);
    return d != 0 ? d : (x->n > y->n) - (x->n < y->n);
}

static int by_first(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* New numbers for the first of every `step` links, and their order. */
static void renumber(struct mb_schema *s, struct mb_span span, int32_t step, const int32_t *now)
{
    for (int32_t i = 0; i < span.n; i += step)
        s->link[span.at + i] = now[s->link[span.at + i]];
    if (span.n > 0)
        qsort(s->link + span.at, (size_t)(span.n / step), sizeof(int32_t) * (size_t)step, by_first);
}

static enum mb_status sort_names(struct mb_schema *s)
{
    size_t n = (size_t)s->n_names;
    struct name_at *v = mb_alloc(NULL, MB_MEM_REQUESTS, n + 1, sizeof *v);
    int32_t *now = mb_alloc(NULL, MB_MEM_REQUESTS, n + 1, sizeof *now);

    if (v == NULL || now == NULL) {
        mb_free(v);
        mb_free(now);
        return no_memory();
    }
    for (int32_t i = 0; i < s->n_names; i++)
        v[i] = (struct name_at){s->name[i], i};
    if (n > 1)
        qsort(v, n, sizeof *v, by_bytes);
    for (int32_t i = 0; i < s->n_names; i++) {
        s->name[i] = v[i].name;
        now[v[i].old] = i;
    }
    for (int32_t i = 0; i < s->n_nodes; i++) {
        const struct mb_node_object *o = &s->node[i].object;
        renumber(s, o->props, 2, now);
        renumber(s, o->required, 1, now);
        renumber(s, s->node[i].joins.when, 2, now);
        for (int32_t j = 0; j < o->needs.n; j += 3)
            renumber(s, (struct mb_span){s->link[o->needs.at + j + 1], s->link[o->needs.at + j + 2]}, 1, now);
        renumber(s, o->needs, 3, now);
    }
    mb_free(v);
    mb_free(now);
    return MB_OK;
}

static enum mb_status compile(struct mb_compiler *c)
{
    struct mb_node any = mb_node_all(), none = mb_node_all();
    const char *dialect = json_string_value(json_object_get(c->root, "$schema"));
    int32_t id;

    none.types = 0;
    MB_TRY(mb_compile_node(c, &any, &id));
    MB_TRY(mb_compile_node(c, &none, &id));
    if (dialect != NULL &&
        (strstr(dialect, "//json-schema.org/") == NULL || strstr(dialect, "draft-03") != NULL))
        return mb_compile_bad(c, "$schema \"%.80s\" is not supported", dialect);
    c->legacy = dialect != NULL && strstr(dialect, "draft-0") != NULL;
    MB_TRY(mb_compile_part(c, c->root, NULL, NULL, &c->s->root));
    c->path[0] = 0;
    MB_TRY(check_joins(c));
    return sort_names(c->s);
}

enum mb_status mb_schema_create(const json_t *schema, struct mb_schema **out, char *err, size_t cap)
{
    struct mb_compiler c = {.root = schema, .err = err, .cap = cap};

    c.s = mb_zalloc(NULL, MB_MEM_REQUESTS, 1, sizeof *c.s);
    c.made = mb_zalloc(NULL, MB_MEM_REQUESTS, MB_MADE_SLOTS, sizeof *c.made);
    enum mb_status st = c.s == NULL || c.made == NULL ? no_memory() : compile(&c);
    mb_free(c.made);
    if (st == MB_OK)
        *out = c.s;
    else
        mb_schema_destroy(c.s);
    return st;
}

void mb_schema_destroy(struct mb_schema *s)
{
    if (s == NULL)
        return;
    for (int32_t i = 0; i < s->n_names; i++)
        mb_free(s->name[i].s);
    for (int32_t i = 0; i < s->n_dfas; i++)
        mb_dfa_destroy(s->dfa[i]);
    mb_free(s->name);
    mb_free(s->dfa);
    mb_free(s->node);
    mb_free(s->link);
    mb_free(s);
}
