/* Jinja's filters over sequences. What Jinja makes lazily is a generator here too: true whatever it holds,
 * and empty once it has been walked through. */
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"
#include "jinja/filters.h"
#include "jinja/strings.h"
#include "base/utf8.h"

static bool generator(struct mb_jctx *c, struct mb_jval *out)
{
    return mb_jlist_new(c, MB_J_GENERATOR, 0, out);
}

bool mb_jf_length(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    int64_t n;
    (void)a;
    if (!mb_jlength(c, v, &n))
        return false;
    *out = mb_jint(n);
    return true;
}

bool mb_jf_list(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l;
    (void)a;
    if (!mb_jiterate(c, v, &l) || !mb_jlist_new(c, MB_J_LIST, l.n, out))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        if (!mb_jlist_put(c, out->u.list, l.v[i]))
            return false;
    }
    return true;
}

bool mb_jf_first(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l, *from = v.kind == MB_J_GENERATOR ? v.u.list : NULL;
    (void)a;
    if (!mb_jiterate(c, v, &l))
        return false;
    *out = l.n > 0 ? l.v[0] : mb_jundefined((struct mb_jstr){"No first item, sequence was empty.", 34});
    if (from != NULL && l.n > 0) /* the rest can still be had */
        *from = (struct mb_jlist){.v = l.v + 1, .n = l.n - 1, .cap = l.n - 1};
    return true;
}

bool mb_jf_last(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l;
    (void)a;
    if (v.kind == MB_J_GENERATOR)
        return mb_jfail(c, "'generator' object is not reversible");
    if (!mb_jiterate(c, v, &l))
        return false;
    *out = l.n > 0 ? l.v[l.n - 1] : mb_jundefined((struct mb_jstr){"No last item, sequence was empty.", 33});
    return true;
}

bool mb_jf_reverse(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l;
    (void)a;
    if (!mb_jiterate(c, v, &l) || !generator(c, out))
        return false;
    for (size_t i = l.n; i > 0; i--) {
        if (!mb_jlist_put(c, out->u.list, l.v[i - 1]))
            return false;
    }
    return v.kind != MB_J_STR || mb_jjoin(c, (struct mb_jstr){"", 0}, out->u.list, true, out);
}

bool mb_jf_items(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    (void)a;
    if (v.kind == MB_J_UNDEFINED)
        return generator(c, out);
    if (v.kind != MB_J_DICT)
        return mb_jfail(c, "Can only get item pairs from a mapping.");
    return mb_jdict_items(c, v.u.dict, MB_J_GENERATOR, out);
}

/* An attribute path "a.b.0" of an item, as map, sort and the like take it: items first, then attributes. */
static bool path_of(struct mb_jctx *c, struct mb_jval v, struct mb_jval path, struct mb_jval *out)
{
    if (path.kind != MB_J_STR)
        return mb_jitem(c, v, path, out);
    struct mb_jstr s = path.u.str;
    for (;;) {
        const char *dot = s.n > 0 ? memchr(s.s, '.', s.n) : NULL;
        size_t k = dot == NULL ? s.n : (size_t)(dot - s.s);
        bool number = k > 0 && k < 10;
        int64_t at = 0;
        for (size_t i = 0; i < k; i++) {
            number = number && s.s[i] >= '0' && s.s[i] <= '9';
            at = number ? at * 10 + (s.s[i] - '0') : 0;
        }
        if (!mb_jitem(c, v, number ? mb_jint(at) : mb_jstring(s.s, k), &v))
            return false;
        if (dot == NULL)
            break;
        s.n -= k + 1;
        s.s = dot + 1;
    }
    *out = v;
    return true;
}

bool mb_jf_join(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *sep = mb_jarg(a, 0, "d"), *attribute = mb_jarg(a, 1, "attribute");
    struct mb_jstr by = {"", 0};
    struct mb_jlist l, picked = {0};
    if (!mb_jiterate(c, v, &l) || (sep != NULL && !mb_jtext(c, *sep, &by)))
        return false;
    for (size_t i = 0; i < l.n && attribute != NULL; i++) {
        struct mb_jval x;
        if (!path_of(c, l.v[i], *attribute, &x) || !mb_jlist_put(c, &picked, x))
            return false;
    }
    return mb_jjoin(c, by, attribute != NULL ? &picked : &l, false, out);
}

/* The arguments behind the first k. */
static struct mb_jcall rest(const struct mb_jcall *a, size_t k)
{
    struct mb_jcall r = *a;
    r.v += k < a->n ? k : a->n;
    r.n -= k < a->n ? k : a->n;
    return r;
}

bool mb_jf_map(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *attribute = a->n == 0 ? mb_jarg(a, 0, "attribute") : NULL;
    const struct mb_jval *other = a->n == 0 ? mb_jarg(a, 1, "default") : NULL;
    struct mb_jcall args = rest(a, 1);
    struct mb_jlist l;
    int filter =
        attribute == NULL && a->n > 0 && a->v[0].kind == MB_J_STR ? mb_jfilter_number(a->v[0].u.str) : -1;
    if (attribute == NULL && filter < 0)
        return mb_jfail(c, "map takes the name of a filter, or attribute=");
    if (!mb_jtruth(v)) /* nothing to walk through, None and 0 too */
        return generator(c, out);
    if (!mb_jiterate(c, v, &l) || !generator(c, out))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        struct mb_jval x;
        if (!(attribute != NULL ? path_of(c, l.v[i], *attribute, &x)
                                : mb_jfilter(c, filter, l.v[i], &args, &x)))
            return false;
        if (x.kind == MB_J_UNDEFINED && other != NULL)
            x = *other;
        if (!mb_jlist_put(c, out->u.list, x))
            return false;
    }
    return true;
}

/* select and reject, by a test or by truth, of the items or of an attribute of theirs. */
static bool choose(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, bool attr, bool want,
                   struct mb_jval *out)
{
    struct mb_jlist l;
    struct mb_jcall args = rest(a, attr ? 2 : 1);
    const struct mb_jval *name = mb_jarg(a, attr ? 1 : 0, NULL);
    int test = name != NULL && name->kind == MB_J_STR ? mb_jtest_number(name->u.str) : -1;
    if ((name != NULL && test < 0) || (attr && a->n == 0))
        return mb_jfail(c, "select and its kin take %s",
                        attr ? "an attribute and the name of a test" : "a test's name");
    if (!mb_jtruth(v))
        return generator(c, out);
    if (!mb_jiterate(c, v, &l) || !generator(c, out))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        struct mb_jval x = l.v[i];
        bool yes;
        if (attr && !path_of(c, l.v[i], a->v[0], &x))
            return false;
        yes = mb_jtruth(x);
        if (name != NULL && !mb_jtest(c, test, x, &args, &yes))
            return false;
        if (yes == want && !mb_jlist_put(c, out->u.list, l.v[i]))
            return false;
    }
    return true;
}

bool mb_jf_select(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return choose(c, v, a, false, true, out);
}

bool mb_jf_reject(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return choose(c, v, a, false, false, out);
}

bool mb_jf_selectattr(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return choose(c, v, a, true, true, out);
}

bool mb_jf_rejectattr(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return choose(c, v, a, true, false, out);
}

bool mb_jf_sum(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *attribute = mb_jarg(a, 0, "attribute"), *start = mb_jarg(a, 1, "start");
    struct mb_jlist l;
    struct mb_jval sum = start != NULL ? *start : mb_jint(0);
    if (!mb_jiterate(c, v, &l))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        struct mb_jval x = l.v[i];
        if (attribute != NULL && attribute->kind != MB_J_NONE && !path_of(c, l.v[i], *attribute, &x))
            return false;
        if (!mb_jbinary(c, '+', sum, x, &sum))
            return false;
    }
    *out = sum;
    return true;
}

bool mb_jf_batch(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *size = mb_jarg(a, 0, "linecount"), *fill = mb_jarg(a, 1, "fill_with");
    struct mb_jlist l;
    struct mb_jval part = {0};
    if (size == NULL || size->kind != MB_J_INT || size->u.i < 1 || size->u.i > 1 << 20)
        return mb_jfail(c, "batch takes a size");
    if (!mb_jiterate(c, v, &l) || !generator(c, out))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        if (i % (size_t)size->u.i == 0 &&
            (!mb_jlist_new(c, MB_J_LIST, 0, &part) || !mb_jlist_put(c, out->u.list, part)))
            return false;
        if (!mb_jlist_put(c, part.u.list, l.v[i]))
            return false;
    }
    while (l.n > 0 && fill != NULL && part.u.list->n < (size_t)size->u.i) {
        if (!mb_jlist_put(c, part.u.list, *fill))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ order */

struct keyed {
    struct mb_jval real; /* groupby: the key with its own case */
    struct mb_jval key, value;
    size_t at;
};
struct order {
    struct mb_jctx *c;
    bool reverse;
};

/* Stable, also in reverse. */
static int compare_keyed(const void *a, const void *b, void *arg)
{
    const struct keyed *x = a, *y = b;
    struct order *o = arg;
    int k = 0;
    if (o->c->st == MB_OK && mb_jorder(o->c, x->key, y->key, &k) && k != 0)
        return o->reverse ? -k : k;
    return (x->at > y->at) - (x->at < y->at);
}

static bool folded(struct mb_jctx *c, struct mb_jval v, bool sensitive, struct mb_jval *out)
{
    *out = v;
    return sensitive || v.kind != MB_J_STR || mb_jrecase(c, v.u.str, MB_JLOWER, MB_JLOWER, false, out);
}

/* attribute: a path, "a,b" for several, or NULL. */
static bool keys_of(struct mb_jctx *c, const struct mb_jlist *l, const struct mb_jval *attribute,
                    bool sensitive, struct keyed **out)
{
    *out = mb_jalloc(&c->arena, l->n * sizeof **out);
    if (*out == NULL)
        return mb_jno_memory(c);
    for (size_t i = 0; i < l->n; i++) {
        struct keyed *k = &(*out)[i];
        k->value = k->key = l->v[i];
        k->at = i;
        if (attribute != NULL && attribute->kind == MB_J_STR &&
            memchr(attribute->u.str.s, ',', attribute->u.str.n))
            return mb_jfail(c, "several attributes to sort by are not supported");
        if (attribute != NULL && attribute->kind != MB_J_NONE && !path_of(c, l->v[i], *attribute, &k->key))
            return false;
        if (!folded(c, k->key, sensitive, &k->key))
            return false;
    }
    return true;
}

static bool sorted(struct mb_jctx *c, struct keyed *k, size_t n, bool reverse, struct mb_jval *out)
{
    struct order o = {c, reverse};
    if (n > 1)
        qsort_r(k, n, sizeof *k, compare_keyed, &o);
    if (c->st != MB_OK || !mb_jlist_new(c, MB_J_LIST, n, out))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!mb_jlist_put(c, out->u.list, k[i].value))
            return false;
    }
    return true;
}

static bool flag(const struct mb_jcall *a, size_t at, const char *name)
{
    const struct mb_jval *v = mb_jarg(a, at, name);
    return v != NULL && mb_jtruth(*v);
}

bool mb_jf_sort(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l;
    struct keyed *k;
    return mb_jiterate(c, v, &l) &&
           keys_of(c, &l, mb_jarg(a, 2, "attribute"), flag(a, 1, "case_sensitive"), &k) &&
           sorted(c, k, l.n, flag(a, 0, "reverse"), out);
}

bool mb_jf_dictsort(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *by = mb_jarg(a, 1, "by");
    struct mb_jval items, column = mb_jint(by != NULL && by->kind == MB_J_STR && mb_jis(by->u.str, "value"));
    struct keyed *k;
    if (v.kind != MB_J_DICT)
        return mb_jfail(c, "dictsort of a %s", mb_jtype(v));
    return mb_jdict_items(c, v.u.dict, MB_J_LIST, &items) &&
           keys_of(c, items.u.list, &column, flag(a, 0, "case_sensitive"), &k) &&
           sorted(c, k, items.u.list->n, flag(a, 2, "reverse"), out);
}

static bool extreme(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, int want,
                    struct mb_jval *out)
{
    struct mb_jlist l;
    struct keyed *k;
    size_t best = 0;
    if (!mb_jiterate(c, v, &l) ||
        !keys_of(c, &l, mb_jarg(a, 1, "attribute"), flag(a, 0, "case_sensitive"), &k))
        return false;
    for (size_t i = 1; i < l.n; i++) {
        int order;
        if (!mb_jorder(c, k[i].key, k[best].key, &order))
            return false;
        best = order == want ? i : best;
    }
    *out = l.n > 0 ? k[best].value
                   : mb_jundefined((struct mb_jstr){"No aggregated item, sequence was empty.", 39});
    return true;
}

bool mb_jf_min(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return extreme(c, v, a, -1, out);
}

bool mb_jf_max(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    return extreme(c, v, a, 1, out);
}

bool mb_jf_unique(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jlist l, seen = {0};
    struct keyed *k;
    if (!mb_jiterate(c, v, &l) || !generator(c, out) ||
        !keys_of(c, &l, mb_jarg(a, 1, "attribute"), flag(a, 0, "case_sensitive"), &k))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        bool found = false;
        for (size_t j = 0; j < seen.n && !found; j++)
            found = mb_jequal(c, seen.v[j], k[i].key, 1);
        if (c->st != MB_OK)
            return false;
        if (!found && (!mb_jlist_put(c, &seen, k[i].key) || !mb_jlist_put(c, out->u.list, l.v[i])))
            return false;
    }
    return true;
}

/* Groups of equal keys in the order of the keys, each with its items as they came. */
bool mb_jf_groupby(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *attribute = mb_jarg(a, 0, "attribute"), *other = mb_jarg(a, 1, "default");
    bool sensitive = flag(a, 2, "case_sensitive");
    struct order o = {c, false};
    struct mb_jlist l;
    struct keyed *k;
    if (attribute == NULL)
        return mb_jfail(c, "groupby takes an attribute");
    if (!mb_jiterate(c, v, &l) || !keys_of(c, &l, attribute, true, &k) || !mb_jlist_new(c, MB_J_LIST, 0, out))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        if (k[i].key.kind == MB_J_UNDEFINED && other != NULL)
            k[i].key = *other;
        k[i].real = k[i].key;
        if (!folded(c, k[i].key, sensitive, &k[i].key))
            return false;
    }
    if (l.n > 1)
        qsort_r(k, l.n, sizeof *k, compare_keyed, &o);
    struct mb_jval items = {0};
    for (size_t i = 0; i < l.n && c->st == MB_OK; i++) {
        struct mb_jval pair;
        bool same = i > 0 && mb_jequal(c, k[i - 1].key, k[i].key, 1);
        if (!same && (!mb_jlist_new(c, MB_J_LIST, 0, &items) || !mb_jlist_new(c, MB_J_TUPLE, 2, &pair) ||
                      !mb_jlist_put(c, pair.u.list, k[i].real) || !mb_jlist_put(c, pair.u.list, items) ||
                      !mb_jlist_put(c, out->u.list, pair)))
            return false;
        if (!same)
            pair.u.list->group = true;
        if (!mb_jlist_put(c, items.u.list, k[i].value))
            return false;
    }
    return c->st == MB_OK;
}
