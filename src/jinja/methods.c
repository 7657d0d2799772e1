/* Methods of dicts, lists, loops and cyclers. Those that would change a value do not exist here (the sandbox
 * is immutable). */
#include <string.h>
#include "jinja/own.h"
#include "jinja/filters.h"
#include "jinja/strings.h"

static bool one_of(struct mb_jstr name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (mb_jis(name, names[i]))
            return true;
    }
    return false;
}

bool mb_jhas_method(struct mb_jval v, struct mb_jstr name)
{
    static const char *const dict[] = {"items", "keys", "values", "get", "copy"};
    static const char *const list[] = {"index", "count", "copy"};
    static const char *const cycler[] = {"next", "reset"};
    switch (v.kind) {
    case MB_J_STR:
        return mb_jis_string_method(name);
    case MB_J_DICT:
        return one_of(name, dict, 5);
    case MB_J_LIST:
        return one_of(name, list, 3);
    case MB_J_TUPLE:
        return one_of(name, list, 2);
    case MB_J_CYCLER:
        return v.u.items->v[0].kind == MB_J_INT && one_of(name, cycler, 2);
    default:
        return false;
    }
}

bool mb_jdict_items(struct mb_jctx *c, const struct mb_jdict *d, enum mb_jkind kind, struct mb_jval *out)
{
    if (!mb_jlist_new(c, kind, d->n, out))
        return false;
    for (size_t i = 0; i < d->n; i++) {
        struct mb_jval pair;
        if (!mb_jlist_new(c, MB_J_TUPLE, 2, &pair) || !mb_jlist_put(c, pair.u.list, d->p[i].key) ||
            !mb_jlist_put(c, pair.u.list, d->p[i].value) || !mb_jlist_put(c, out->u.list, pair))
            return false;
    }
    return true;
}

static bool dict_method(struct mb_jctx *c, const struct mb_jdict *d, struct mb_jstr name,
                        const struct mb_jcall *a, struct mb_jval *out)
{
    if (mb_jis(name, "items"))
        return mb_jdict_items(c, d, MB_J_LIST, out);
    if (mb_jis(name, "get")) {
        const struct mb_jval *other = mb_jarg(a, 1, "default");
        if (a->n < 1)
            return mb_jfail(c, "get expected at least 1 argument");
        const struct mb_jval *found = mb_jdict_get(c, d, a->v[0]);
        *out = found != NULL ? *found : other != NULL ? *other : (struct mb_jval){.kind = MB_J_NONE};
        return c->st == MB_OK;
    }
    if (mb_jis(name, "copy")) {
        if (!mb_jdict_new(c, MB_J_DICT, out))
            return false;
        *out->u.dict =
            *d; /* values never change, so the pairs may be shared; cap 0 would be copied on growth */
        out->u.dict->cap = d->n;
        return true;
    }
    if (!mb_jlist_new(c, MB_J_LIST, d->n, out))
        return false;
    for (size_t i = 0; i < d->n; i++) {
        if (!mb_jlist_put(c, out->u.list, name.s[0] == 'k' ? d->p[i].key : d->p[i].value))
            return false;
    }
    return true;
}

static bool list_method(struct mb_jctx *c, struct mb_jval self, struct mb_jstr name, const struct mb_jcall *a,
                        struct mb_jval *out)
{
    const struct mb_jlist *l = self.u.list;
    int64_t count = 0;
    if (mb_jis(name, "copy")) {
        *out = self;
        return true;
    }
    if (a->n != 1)
        return mb_jfail(c, "%.*s takes one argument here", (int)name.n, name.s);
    for (size_t i = 0; i < l->n; i++) {
        if (!mb_jequal(c, l->v[i], a->v[0], 1))
            continue;
        if (name.s[0] == 'i') {
            *out = mb_jint((int64_t)i);
            return true;
        }
        count++;
    }
    if (name.s[0] == 'i')
        return mb_jfail(c, "the value is not in the list");
    *out = mb_jint(count);
    return c->st == MB_OK;
}

static bool loop_method(struct mb_jctx *c, struct mb_jloop *l, struct mb_jstr name, const struct mb_jcall *a,
                        struct mb_jval *out)
{
    if (mb_jis(name, "cycle")) {
        if (a->n == 0)
            return mb_jfail(c, "no items for cycling given");
        *out = a->v[l->at % a->n];
        return true;
    }
    struct mb_jval now;
    if (!mb_jlist_new(c, MB_J_TUPLE, a->n, &now))
        return false;
    for (size_t i = 0; i < a->n; i++) {
        if (!mb_jlist_put(c, now.u.list, a->v[i]))
            return false;
    }
    *out = mb_jbool(!l->has_changed || !mb_jequal(c, l->changed, now, 1));
    l->changed = now;
    l->has_changed = true;
    return c->st == MB_OK;
}

static bool cycler_method(struct mb_jlist *l, struct mb_jstr name, struct mb_jval *out)
{
    int64_t at = l->v[0].u.i;
    *out = l->v[1 + at];
    if (mb_jis(name, "next"))
        l->v[0].u.i = (at + 1) % (int64_t)(l->n - 1);
    if (mb_jis(name, "reset")) {
        l->v[0].u.i = 0;
        *out = (struct mb_jval){.kind = MB_J_NONE};
    }
    return true;
}

bool mb_jcall_method(struct mb_jctx *c, const struct mb_jmethod *m, const struct mb_jcall *a,
                     struct mb_jval *out)
{
    switch (m->self.kind) {
    case MB_J_STR:
        return mb_jstr_method(c, m->self.u.str, m->name, a, out);
    case MB_J_DICT:
        return dict_method(c, m->self.u.dict, m->name, a, out);
    case MB_J_LIST:
    case MB_J_TUPLE:
        return list_method(c, m->self, m->name, a, out);
    case MB_J_LOOP:
        return loop_method(c, m->self.u.loop, m->name, a, out);
    default:
        return cycler_method(m->self.u.items, m->name, out);
    }
}
