/* Values of a rendering: arena, lists, dicts, equality and order as in Python. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"
#include "jinja/filters.h"
#include "base/utf8.h"

/* ------------------------------------------------------------------ arena */

#define BLOCK ((size_t)64 * 1024)
struct mb_jblock {
    struct mb_jblock *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void *mb_jalloc(struct mb_jarena *a, size_t n)
{
    if (n > a->limit || a->total > a->limit - n)
        return NULL;
    n = (n + 15) & ~(size_t)15;
    if (a->head == NULL || a->head->size - a->head->used < n) {
        size_t size = n > BLOCK ? n : BLOCK;
        struct mb_jblock *b = malloc(sizeof *b + size);
        if (b == NULL)
            return NULL;
        *b = (struct mb_jblock){a->head, 0, size};
        a->head = b;
        a->total += size;
    }
    char *p = a->head->data + a->head->used;
    a->head->used += n;
    return memset(p, 0, n);
}

void mb_jarena_fini(struct mb_jarena *a)
{
    while (a->head != NULL) {
        struct mb_jblock *next = a->head->next;
        free(a->head);
        a->head = next;
    }
}

/* ------------------------------------------------------------------ errors and limits */

bool mb_jfail(struct mb_jctx *c, const char *fmt, ...)
{
    if (c->st != MB_OK)
        return false;
    va_list ap;
    c->st = MB_REQUEST;
    int k = snprintf(c->err, c->cap, "chat template, line %d: ", c->line);
    if (k < 0 || (size_t)k >= c->cap)
        return false;
    va_start(ap, fmt);
    vsnprintf(c->err + k, c->cap - (size_t)k, fmt, ap);
    va_end(ap);
    return false;
}

bool mb_jno_memory(struct mb_jctx *c)
{
    return mb_jfail(c, "needs more memory than a template may use (%zu MiB)", c->arena.limit >> 20);
}

bool mb_jstep(struct mb_jctx *c, size_t n)
{
    c->steps -= n > INT32_MAX ? INT32_MAX : (int64_t)n;
    return c->steps >= 0 ? true : mb_jfail(c, "takes more steps than a template may");
}

/* ------------------------------------------------------------------ making values */

struct mb_jval mb_jstring(const char *s, size_t n)
{
    return (struct mb_jval){.kind = MB_J_STR, .u.str = {s, n}};
}

struct mb_jval mb_jint(int64_t i)
{
    return (struct mb_jval){.kind = MB_J_INT, .u.i = i};
}

struct mb_jval mb_jbool(bool b)
{
    return (struct mb_jval){.kind = MB_J_BOOL, .u.b = b};
}

struct mb_jval mb_jundefined(struct mb_jstr name)
{
    return (struct mb_jval){.kind = MB_J_UNDEFINED, .u.str = name};
}

bool mb_jcopy(struct mb_jctx *c, const void *s, size_t n, struct mb_jval *out)
{
    char *to = mb_jalloc(&c->arena, n);
    if (to == NULL)
        return mb_jno_memory(c);
    if (n > 0)
        memcpy(to, s, n);
    *out = mb_jstring(to, n);
    return mb_jstep(c, n / 64);
}

bool mb_jlist_new(struct mb_jctx *c, enum mb_jkind kind, size_t cap, struct mb_jval *out)
{
    struct mb_jlist *l = mb_jalloc(&c->arena, sizeof *l);
    if (l == NULL)
        return mb_jno_memory(c);
    if (cap > 0 &&
        (cap > SIZE_MAX / sizeof *l->v || (l->v = mb_jalloc(&c->arena, cap * sizeof *l->v)) == NULL))
        return mb_jno_memory(c);
    l->cap = cap;
    *out = (struct mb_jval){.kind = kind, .u.list = l};
    return true;
}

bool mb_jlist_put(struct mb_jctx *c, struct mb_jlist *l, struct mb_jval v)
{
    if (l->n == l->cap) {
        size_t cap = l->cap == 0 ? 8 : l->cap * 2;
        struct mb_jval *p = mb_jalloc(&c->arena, cap * sizeof *p);
        if (p == NULL)
            return mb_jno_memory(c);
        if (l->n > 0)
            memcpy(p, l->v, l->n * sizeof *p);
        l->v = p;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return mb_jstep(c, 1);
}

bool mb_jdict_new(struct mb_jctx *c, enum mb_jkind kind, struct mb_jval *out)
{
    struct mb_jdict *d = mb_jalloc(&c->arena, sizeof *d);
    if (d == NULL)
        return mb_jno_memory(c);
    *out = (struct mb_jval){.kind = kind, .u.dict = d};
    return true;
}

const struct mb_jval *mb_jdict_get(struct mb_jctx *c, const struct mb_jdict *d, struct mb_jval key)
{
    if (!mb_jstep(c, d->n / 4))
        return NULL;
    for (size_t i = 0; i < d->n; i++) {
        if (mb_jequal(c, d->p[i].key, key, 0))
            return &d->p[i].value;
    }
    return NULL;
}

bool mb_jdict_put(struct mb_jctx *c, struct mb_jdict *d, struct mb_jval key, struct mb_jval value)
{
    struct mb_jval *old = (struct mb_jval *)mb_jdict_get(c, d, key);
    if (c->st != MB_OK)
        return false;
    if (old != NULL) {
        *old = value;
        return true;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap == 0 ? 8 : d->cap * 2;
        struct mb_jpair *p = mb_jalloc(&c->arena, cap * sizeof *p);
        if (p == NULL)
            return mb_jno_memory(c);
        if (d->n > 0)
            memcpy(p, d->p, d->n * sizeof *p);
        d->p = p;
        d->cap = cap;
    }
    d->p[d->n++] = (struct mb_jpair){key, value};
    return true;
}

static bool from_object(struct mb_jctx *c, const json_t *j, int depth, struct mb_jval *out)
{
    const char *key;
    size_t len;
    json_t *v;
    if (!mb_jdict_new(c, MB_J_DICT, out))
        return false;
    struct mb_jdict *d = out->u.dict;
    d->cap = json_object_size(j);
    d->p = mb_jalloc(&c->arena, d->cap * sizeof *d->p);
    if (d->p == NULL)
        return mb_jno_memory(c);
    json_object_keylen_foreach((json_t *)j, key, len, v)
    {
        struct mb_jval x;
        if (!mb_jfrom_json(c, v, depth + 1, &x))
            return false;
        d->p[d->n++] = (struct mb_jpair){mb_jstring(key, len), x}; /* JSON objects have no key twice */
    }
    return true;
}

bool mb_jfrom_json(struct mb_jctx *c, const json_t *j, int depth, struct mb_jval *out)
{
    if (depth > MB_JDEPTH)
        return mb_jfail(c, "the conversation is nested deeper than %d levels", MB_JDEPTH);
    if (!mb_jstep(c, 1))
        return false;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return from_object(c, j, depth, out);
    case JSON_ARRAY:
        if (!mb_jlist_new(c, MB_J_LIST, json_array_size(j), out))
            return false;
        for (size_t i = 0; i < json_array_size(j); i++) {
            struct mb_jval x;
            if (!mb_jfrom_json(c, json_array_get(j, i), depth + 1, &x) || !mb_jlist_put(c, out->u.list, x))
                return false;
        }
        return true;
    case JSON_STRING:
        *out = mb_jstring(json_string_value(j), json_string_length(j));
        return true;
    case JSON_INTEGER:
        *out = mb_jint(json_integer_value(j));
        return true;
    case JSON_REAL:
        *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = json_real_value(j)};
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = mb_jbool(json_is_true(j));
        return true;
    default:
        *out = (struct mb_jval){.kind = MB_J_NONE};
        return true;
    }
}

bool mb_jown(struct mb_jctx *c, struct mb_jval *v, int depth)
{
    if (depth > MB_JDEPTH)
        return mb_jfail(c, "a value nested deeper than %d levels", MB_JDEPTH);
    if (v->kind == MB_J_STR)
        return mb_jcopy(c, v->u.str.s, v->u.str.n, v);
    for (size_t i = 0; v->kind == MB_J_LIST && i < v->u.list->n; i++)
        if (!mb_jown(c, &v->u.list->v[i], depth + 1))
            return false;
    for (size_t i = 0; v->kind == MB_J_DICT && i < v->u.dict->n; i++)
        if (!mb_jown(c, &v->u.dict->p[i].key, depth + 1) || !mb_jown(c, &v->u.dict->p[i].value, depth + 1))
            return false;
    return true;
}

/* ------------------------------------------------------------------ questions */

size_t mb_jweight(struct mb_jval v)
{
    switch (v.kind) {
    case MB_J_STR:
    case MB_J_UNDEFINED:
        return v.u.str.n / 4;
    case MB_J_LIST:
    case MB_J_TUPLE:
    case MB_J_GENERATOR:
        return v.u.list->n / 8;
    case MB_J_DICT:
    case MB_J_NAMESPACE:
        return v.u.dict->n / 8;
    case MB_J_METHOD:
        return mb_jweight(v.u.method->self);
    default:
        return 0;
    }
}

const char *mb_jtype(struct mb_jval v)
{
    static const char *const names[] = {
        "Undefined", "NoneType",  "bool",        "int",   "float",    "str",    "list",   "tuple",
        "dict",      "Namespace", "LoopContext", "Macro", "function", "method", "Cycler", "generator"};
    return names[v.kind];
}

bool mb_jtruth(struct mb_jval v)
{
    switch (v.kind) {
    case MB_J_UNDEFINED:
    case MB_J_NONE:
        return false;
    case MB_J_BOOL:
        return v.u.b;
    case MB_J_INT:
        return v.u.i != 0;
    case MB_J_FLOAT:
        return v.u.f != 0;
    case MB_J_STR:
        return v.u.str.n > 0;
    case MB_J_LIST:
    case MB_J_TUPLE:
        return v.u.list->n > 0;
    case MB_J_DICT:
        return v.u.dict->n > 0;
    default:
        return true;
    }
}

static bool equal_lists(struct mb_jctx *c, const struct mb_jlist *a, const struct mb_jlist *b, int depth)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!mb_jequal(c, a->v[i], b->v[i], depth + 1))
            return false;
    }
    return true;
}

static bool equal_dicts(struct mb_jctx *c, const struct mb_jdict *a, const struct mb_jdict *b, int depth)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct mb_jval *v = mb_jdict_get(c, b, a->p[i].key);
        if (v == NULL || !mb_jequal(c, a->p[i].value, *v, depth + 1))
            return false;
    }
    return true;
}

static bool equal_numbers(struct mb_jval a, struct mb_jval b)
{
    if (a.kind != MB_J_FLOAT && b.kind != MB_J_FLOAT)
        return mb_jwhole(a) == mb_jwhole(b);
    return mb_jreal(a) == mb_jreal(b);
}

bool mb_jequal(struct mb_jctx *c, struct mb_jval a, struct mb_jval b, int depth)
{
    if (depth > MB_JDEPTH) {
        mb_jfail(c, "a comparison of values nested deeper than %d levels", MB_JDEPTH);
        return false;
    }
    if (depth > 0 && !mb_jstep(c, 1))
        return false;
    if (mb_jnumber(a) && mb_jnumber(b))
        return equal_numbers(a, b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case MB_J_UNDEFINED:
    case MB_J_NONE:
        return true;
    case MB_J_STR:
        return a.u.str.n == b.u.str.n && (a.u.str.n == 0 || (mb_jstep(c, a.u.str.n / 64) &&
                                                             memcmp(a.u.str.s, b.u.str.s, a.u.str.n) == 0));
    case MB_J_LIST:
    case MB_J_TUPLE:
        return equal_lists(c, a.u.list, b.u.list, depth);
    case MB_J_DICT:
        return equal_dicts(c, a.u.dict, b.u.dict, depth);
    default:
        return a.u.list == b.u.list; /* identity, whatever the pointer is */
    }
}

static int order_bytes(struct mb_jstr a, struct mb_jstr b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int k = n > 0 ? memcmp(a.s, b.s, n) : 0; /* the order of UTF-8 bytes is that of code points */
    return k != 0 ? (k > 0) - (k < 0) : (a.n > b.n) - (a.n < b.n);
}

bool mb_jorder(struct mb_jctx *c, struct mb_jval a, struct mb_jval b, int *out)
{
    if (!mb_jstep(c, 1))
        return false;
    if (mb_jnumber(a) && mb_jnumber(b)) {
        if (a.kind != MB_J_FLOAT && b.kind != MB_J_FLOAT)
            *out = (mb_jwhole(a) > mb_jwhole(b)) - (mb_jwhole(a) < mb_jwhole(b));
        else
            *out = (mb_jreal(a) > mb_jreal(b)) - (mb_jreal(a) < mb_jreal(b));
        return true;
    }
    if (a.kind == MB_J_STR && b.kind == MB_J_STR) {
        *out = order_bytes(a.u.str, b.u.str);
        return mb_jstep(c, (a.u.str.n < b.u.str.n ? a.u.str.n : b.u.str.n) / 64);
    }
    bool lists = a.kind == b.kind && (a.kind == MB_J_LIST || a.kind == MB_J_TUPLE);
    if (!lists)
        return mb_jfail(c, "'<' not supported between instances of '%s' and '%s'", mb_jtype(a), mb_jtype(b));
    for (size_t i = 0; i < a.u.list->n && i < b.u.list->n; i++) {
        if (mb_jequal(c, a.u.list->v[i], b.u.list->v[i], 1))
            continue;
        if (++c->depth > MB_JDEPTH)
            return mb_jfail(c, "a comparison of values nested too deep");
        bool ok = mb_jorder(c, a.u.list->v[i], b.u.list->v[i], out);
        c->depth--;
        return ok;
    }
    *out = (a.u.list->n > b.u.list->n) - (a.u.list->n < b.u.list->n);
    return c->st == MB_OK;
}

static int64_t characters(struct mb_jstr s)
{
    int64_t k = 0;
    for (size_t i = 0; i < s.n; i++)
        k += ((uint8_t)s.s[i] & 0xc0) != 0x80;
    return k;
}

bool mb_jlength(struct mb_jctx *c, struct mb_jval v, int64_t *out)
{
    switch (v.kind) {
    case MB_J_UNDEFINED:
        *out = 0;
        return true;
    case MB_J_STR:
        *out = characters(v.u.str);
        return mb_jstep(c, v.u.str.n / 64);
    case MB_J_LIST:
    case MB_J_TUPLE:
        *out = (int64_t)v.u.list->n;
        return true;
    case MB_J_DICT:
        *out = (int64_t)v.u.dict->n;
        return true;
    case MB_J_LOOP:
        *out = (int64_t)v.u.loop->n;
        return true;
    default:
        return mb_jfail(c, "object of type '%s' has no len()", mb_jtype(v));
    }
}

bool mb_jiterate(struct mb_jctx *c, struct mb_jval v, struct mb_jlist *out)
{
    *out = (struct mb_jlist){0};
    switch (v.kind) {
    case MB_J_UNDEFINED:
        return true;
    case MB_J_LIST:
    case MB_J_TUPLE:
        *out = *v.u.list;
        return mb_jstep(c, out->n / 16);
    case MB_J_GENERATOR:
        *out = *v.u.list;
        *v.u.list = (struct mb_jlist){0};
        return mb_jstep(c, out->n / 16);
    case MB_J_DICT:
        for (size_t i = 0; i < v.u.dict->n; i++) {
            if (!mb_jlist_put(c, out, v.u.dict->p[i].key))
                return false;
        }
        return true;
    case MB_J_STR:
        for (size_t i = 0; i < v.u.str.n;) {
            uint32_t cp;
            size_t k = (size_t)mb_utf8_next(v.u.str.s + i, &cp);
            if (!mb_jlist_put(c, out, mb_jstring(v.u.str.s + i, k)))
                return false;
            i += k;
        }
        return true;
    default:
        return mb_jfail(c, "'%s' object is not iterable", mb_jtype(v));
    }
}
