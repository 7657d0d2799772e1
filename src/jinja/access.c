/* Attributes, items, slices and calls of values, and the global functions. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "jinja/own.h"
#include "base/utf8.h"

static bool undefined_error(struct mb_jctx *c, struct mb_jstr name)
{
    return mb_jfail(c, "'%.*s' is undefined", (int)(name.n < 200 ? name.n : 200), name.s);
}

static bool new_method(struct mb_jctx *c, struct mb_jval self, struct mb_jstr name, struct mb_jval *out)
{
    struct mb_jmethod *m = mb_jalloc(&c->arena, sizeof *m);
    if (m == NULL)
        return mb_jno_memory(c);
    *m = (struct mb_jmethod){self, name};
    *out = (struct mb_jval){.kind = MB_J_METHOD, .u.method = m};
    return true;
}

/* A key of a dict or namespace, or nothing. */
static bool member(struct mb_jctx *c, struct mb_jval v, struct mb_jstr name, struct mb_jval *out)
{
    const struct mb_jval *found = NULL;
    if (v.kind == MB_J_DICT || v.kind == MB_J_NAMESPACE)
        found = mb_jdict_get(c, v.u.dict, mb_jstring(name.s, name.n));
    if (found != NULL)
        *out = *found;
    return found != NULL;
}

/* v.name: a method first, then a member. */
bool mb_jattr(struct mb_jctx *c, struct mb_jval v, struct mb_jstr name, struct mb_jval *out)
{
    if (v.kind == MB_J_UNDEFINED)
        return undefined_error(c, v.u.str);
    if (v.kind == MB_J_LOOP)
        return mb_jloop_attr(c, v.u.loop, name, out);
    if (mb_jhas_method(v, name))
        return new_method(c, v, name, out);
    if (v.kind == MB_J_CYCLER && v.u.items->v[0].kind == MB_J_INT && mb_jis(name, "current")) {
        *out = v.u.items->v[1 + v.u.items->v[0].u.i];
        return true;
    }
    if (v.kind == MB_J_TUPLE && v.u.list->group && (mb_jis(name, "grouper") || mb_jis(name, "list"))) {
        *out = v.u.list->v[name.s[0] == 'l'];
        return true;
    }
    if (v.kind == MB_J_MACRO && mb_jis(name, "name")) {
        *out = mb_jstring(v.u.macro->node->str.s, v.u.macro->node->str.n);
        return true;
    }
    if (!member(c, v, name, out))
        *out = mb_jundefined(name);
    return c->st == MB_OK;
}

static bool sequence_item(struct mb_jctx *c, struct mb_jval v, int64_t i, struct mb_jval *out)
{
    int64_t n;
    *out = mb_jundefined((struct mb_jstr){"an index beyond the end", 23});
    if (!mb_jlength(c, v, &n))
        return false;
    i += i < 0 ? n : 0;
    if (i < 0 || i >= n)
        return true;
    if (v.kind != MB_J_STR) {
        *out = v.u.list->v[i];
        return true;
    }
    const char *s = v.u.str.s;
    uint32_t cp;
    if ((size_t)n == v.u.str.n)
        s += i;
    else
        for (; i > 0; i--)
            s += mb_utf8_next(s, &cp);
    *out = mb_jstring(s, (size_t)mb_utf8_next(s, &cp));
    return true;
}

/* v[key]: a member first, then, for a string, a method. */
bool mb_jitem(struct mb_jctx *c, struct mb_jval v, struct mb_jval key, struct mb_jval *out)
{
    if (v.kind == MB_J_UNDEFINED)
        return undefined_error(c, v.u.str);
    bool sequence = v.kind == MB_J_STR || v.kind == MB_J_LIST || v.kind == MB_J_TUPLE;
    if (sequence && (key.kind == MB_J_INT || key.kind == MB_J_BOOL))
        return sequence_item(c, v, mb_jwhole(key), out);
    if (v.kind == MB_J_DICT) {
        const struct mb_jval *found = mb_jdict_get(c, v.u.dict, key);
        if (found != NULL) {
            *out = *found;
            return true;
        }
    }
    if (key.kind == MB_J_STR && c->st == MB_OK)
        return mb_jattr(c, v, key.u.str, out);
    *out = mb_jundefined((struct mb_jstr){"a key that is not there", 23});
    return c->st == MB_OK;
}

/* Python's slice.indices: start, stop and step for a length. */
static bool bounds(struct mb_jctx *c, const struct mb_jval part[3], int64_t n, int64_t *start, int64_t *stop,
                   int64_t *step)
{
    for (int i = 0; i < 3; i++) {
        if (part[i].kind != MB_J_NONE && part[i].kind != MB_J_INT && part[i].kind != MB_J_BOOL)
            return mb_jfail(c, "slice indices must be integers or None");
    }
    *step = part[2].kind == MB_J_NONE ? 1 : mb_jwhole(part[2]);
    if (*step == 0)
        return mb_jfail(c, "slice step cannot be zero");
    if (*step < -n - 1 || *step > n + 1)
        *step = *step < 0 ? -n - 1 : n + 1;
    int64_t lo = *step < 0 ? -1 : 0, hi = *step < 0 ? n - 1 : n, x[2];
    for (int i = 0; i < 2; i++) {
        bool low_end = (i == 0) == (*step > 0);
        if (part[i].kind == MB_J_NONE) {
            x[i] = low_end ? lo : hi;
            continue;
        }
        x[i] = mb_jwhole(part[i]);
        if (x[i] < 0)
            x[i] = x[i] < -n ? lo : x[i] + n < lo ? lo : x[i] + n;
        else
            x[i] = x[i] > hi ? hi : x[i];
    }
    *start = x[0];
    *stop = x[1];
    return true;
}

bool mb_jslice(struct mb_jctx *c, struct mb_jval v, const struct mb_jval part[3], struct mb_jval *out)
{
    struct mb_jlist l;
    int64_t start = 0, stop = 0, step = 1;
    if (v.kind == MB_J_UNDEFINED)
        return undefined_error(c, v.u.str);
    if (v.kind != MB_J_STR && v.kind != MB_J_LIST && v.kind != MB_J_TUPLE) {
        *out = mb_jundefined((struct mb_jstr){"a slice of a value without order", 32});
        return true;
    }
    if (!mb_jiterate(c, v, &l) || !bounds(c, part, (int64_t)l.n, &start, &stop, &step))
        return false;
    if (v.kind == MB_J_STR && step == 1) { /* the characters lie side by side */
        bool some = start < stop;
        const char *from = some ? l.v[start].u.str.s : "";
        const char *to = some ? l.v[stop - 1].u.str.s + l.v[stop - 1].u.str.n : from;
        *out = mb_jstring(from, (size_t)(to - from));
        return true;
    }
    struct mb_jval picked;
    if (!mb_jlist_new(c, v.kind == MB_J_TUPLE ? MB_J_TUPLE : MB_J_LIST, 0, &picked))
        return false;
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        if (!mb_jlist_put(c, picked.u.list, l.v[i]))
            return false;
    }
    *out = picked;
    if (v.kind != MB_J_STR)
        return true;
    struct mb_bytes text = {0};
    bool ok = true;
    for (size_t i = 0; i < picked.u.list->n && ok; i++)
        ok = mb_jprint(c, picked.u.list->v[i], &text);
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

const struct mb_jval *mb_jarg(const struct mb_jcall *a, size_t at, const char *name)
{
    if (at < a->n)
        return &a->v[at];
    for (size_t i = 0; i < a->nkw && name != NULL; i++) {
        if (mb_jis(a->kw[i].key.u.str, name))
            return &a->kw[i].value;
    }
    return NULL;
}

/* ------------------------------------------------------------------ the loop variable */

static bool loop_number(struct mb_jloop *l, struct mb_jstr name, struct mb_jval *out)
{
    int64_t at = (int64_t)l->at, n = (int64_t)l->n;
    const struct {
        const char *name;
        int64_t value;
    } all[] = {{"index", at + 1},
               {"index0", at},
               {"revindex", n - at},
               {"revindex0", n - at - 1},
               {"length", n},
               {"depth", (int64_t)l->depth0 + 1},
               {"depth0", (int64_t)l->depth0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (mb_jis(name, all[i].name)) {
            *out = mb_jint(all[i].value);
            return true;
        }
    }
    return false;
}

bool mb_jloop_attr(struct mb_jctx *c, struct mb_jloop *l, struct mb_jstr name, struct mb_jval *out)
{
    struct mb_jval self = {.kind = MB_J_LOOP, .u.loop = l};
    if (loop_number(l, name, out))
        return true;
    if (mb_jis(name, "first") || mb_jis(name, "last")) {
        *out = mb_jbool(name.s[0] == 'f' ? l->at == 0 : l->at + 1 == l->n);
        return true;
    }
    *out = mb_jundefined(name);
    if (mb_jis(name, "previtem") && l->at > 0)
        *out = l->items[l->at - 1];
    if (mb_jis(name, "nextitem") && l->at + 1 < l->n)
        *out = l->items[l->at + 1];
    if (mb_jis(name, "cycle") || mb_jis(name, "changed"))
        return new_method(c, self, name, out);
    return true;
}

/* ------------------------------------------------------------------ globals */

static const char *const globals[] = {"range",        "dict",   "namespace", "raise_exception",
                                      "strftime_now", "cycler", "joiner"};

int mb_jglobal_number(struct mb_jstr name)
{
    for (int i = 0; i < (int)(sizeof globals / sizeof *globals); i++) {
        if (mb_jis(name, globals[i]))
            return i;
    }
    return -1;
}

#define RANGE_MAX 100000 /* the sandbox's limit */
static bool range(struct mb_jctx *c, const struct mb_jcall *a, struct mb_jval *out)
{
    int64_t x[3] = {0, 0, 1};
    if (a->n < 1 || a->n > 3)
        return mb_jfail(c, "range takes 1 to 3 arguments");
    for (size_t i = 0; i < a->n; i++) {
        if (a->v[i].kind != MB_J_INT && a->v[i].kind != MB_J_BOOL)
            return mb_jfail(c, "'%s' object cannot be interpreted as an integer", mb_jtype(a->v[i]));
        x[a->n == 1 ? 1 : i] = mb_jwhole(a->v[i]);
    }
    if (x[2] == 0)
        return mb_jfail(c, "range() arg 3 must not be zero");
    if (!mb_jlist_new(c, MB_J_LIST, 0, out))
        return false;
    for (int64_t i = x[0]; x[2] > 0 ? i < x[1] : i > x[1];) {
        if (out->u.list->n == RANGE_MAX)
            return mb_jfail(c, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                            RANGE_MAX);
        if (!mb_jlist_put(c, out->u.list, mb_jint(i)))
            return false;
        if (__builtin_add_overflow(i, x[2], &i))
            break;
    }
    return true;
}

/* dict(a=1), dict(mapping), dict(pairs), and namespace likewise. */
static bool new_dict(struct mb_jctx *c, enum mb_jkind kind, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l, pair;
    if (!mb_jdict_new(c, kind, out))
        return false;
    if (a->n > 1)
        return mb_jfail(c, "dict expected at most 1 argument, got %zu", a->n);
    if (a->n == 1 && a->v[0].kind == MB_J_DICT) {
        for (size_t i = 0; i < a->v[0].u.dict->n; i++) {
            if (!mb_jdict_put(c, out->u.dict, a->v[0].u.dict->p[i].key, a->v[0].u.dict->p[i].value))
                return false;
        }
    } else if (a->n == 1) {
        if (!mb_jiterate(c, a->v[0], &l))
            return false;
        for (size_t i = 0; i < l.n; i++) {
            if (!mb_jiterate(c, l.v[i], &pair))
                return false;
            if (pair.n != 2)
                return mb_jfail(c, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                                pair.n);
            if (!mb_jdict_put(c, out->u.dict, pair.v[0], pair.v[1]))
                return false;
        }
    }
    for (size_t i = 0; i < a->nkw; i++) {
        if (!mb_jdict_put(c, out->u.dict, a->kw[i].key, a->kw[i].value))
            return false;
    }
    return true;
}

static bool strftime_now(struct mb_jctx *c, const struct mb_jcall *a, struct mb_jval *out)
{
    char format[256], text[1024];
    time_t now = (time_t)c->now;
    struct tm tm;
    if (a->n != 1 || a->v[0].kind != MB_J_STR || a->v[0].u.str.n >= sizeof format)
        return mb_jfail(c, "strftime_now takes a format of less than 256 bytes");
    if (a->v[0].u.str.n > 0)
        memcpy(format, a->v[0].u.str.s, a->v[0].u.str.n);
    format[a->v[0].u.str.n] = 0;
    if (gmtime_r(&now, &tm) == NULL)
        return mb_jfail(c, "strftime_now: a time out of range");
    return mb_jcopy(c, text, strftime(text, sizeof text, format, &tm), out);
}

static bool raise_exception(struct mb_jctx *c, const struct mb_jcall *a)
{
    struct mb_bytes text = {0};
    const struct mb_jval *v = mb_jarg(a, 0, "message");
    if (v != NULL && mb_jprint(c, *v, &text))
        mb_jfail(c, "%.*s", (int)(text.len < 400 ? text.len : 400), (const char *)text.data);
    mb_jdrop(c, &text);
    return mb_jfail(c, "raise_exception");
}

static bool new_cycler(struct mb_jctx *c, const struct mb_jcall *a, bool joiner, struct mb_jval *out)
{
    const struct mb_jval *sep = mb_jarg(a, 0, "sep");
    if (!mb_jlist_new(c, MB_J_LIST, 0, out))
        return false;
    struct mb_jlist *l = out->u.list;
    bool ok = mb_jlist_put(c, l, joiner ? mb_jbool(false) : mb_jint(0));
    if (joiner)
        ok = ok && mb_jlist_put(c, l, sep != NULL ? *sep : mb_jstring(", ", 2));
    for (size_t i = 0; i < a->n && ok && !joiner; i++)
        ok = mb_jlist_put(c, l, a->v[i]);
    if (ok && l->n < 2)
        return mb_jfail(c, "at least one item has to be provided");
    *out = (struct mb_jval){.kind = MB_J_CYCLER, .u.items = l};
    return ok;
}

bool mb_jcall_global(struct mb_jctx *c, int64_t number, const struct mb_jcall *a, struct mb_jval *out)
{
    switch (number) {
    case 0:
        return range(c, a, out);
    case 1:
        return new_dict(c, MB_J_DICT, a, out);
    case 2:
        return new_dict(c, MB_J_NAMESPACE, a, out);
    case 3:
        return raise_exception(c, a);
    case 4:
        return strftime_now(c, a, out);
    default:
        return new_cycler(c, a, number == 6, out);
    }
}

/* A joiner called: nothing the first time, then its separator. */
static bool call_joiner(struct mb_jctx *c, struct mb_jlist *l, struct mb_jval *out)
{
    if (l->v[0].kind != MB_J_BOOL)
        return mb_jfail(c, "'Cycler' object is not callable");
    *out = l->v[0].u.b ? l->v[1] : mb_jstring("", 0);
    l->v[0] = mb_jbool(true);
    return true;
}

bool mb_jcall_value(struct mb_jctx *c, struct mb_jval f, const struct mb_jcall *a, struct mb_jval *out)
{
    switch (f.kind) {
    case MB_J_UNDEFINED:
        return undefined_error(c, f.u.str);
    case MB_J_GLOBAL:
        return mb_jcall_global(c, f.u.i, a, out);
    case MB_J_METHOD:
        return mb_jcall_method(c, f.u.method, a, out);
    case MB_J_MACRO:
        return mb_jcall_macro(c, f.u.macro, a, out);
    case MB_J_LOOP:
        return a->n == 1 ? mb_jloop_again(c, f.u.loop, a->v[0], out)
                         : mb_jfail(c, "loop() takes one argument");
    case MB_J_CYCLER:
        return call_joiner(c, f.u.items, out);
    default:
        return mb_jfail(c, "'%s' object is not callable", mb_jtype(f));
    }
}
