/* Jinja's filters: "value | name(arguments)". */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"
#include "jinja/filters.h"
#include "jinja/strings.h"
#include "base/utf8.h"

/* str(v) as a string of the arena. */
bool mb_jtext(struct mb_jctx *c, struct mb_jval v, struct mb_jstr *out)
{
    struct mb_bytes text = {0};
    struct mb_jval s = v;
    bool ok = true;
    if (v.kind != MB_J_STR)
        ok = mb_jprint(c, v, &text) && mb_jcopy(c, text.data, text.len, &s);
    mb_jdrop(c, &text);
    if (ok)
        *out = s.u.str;
    return ok;
}

static bool f_abs(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    (void)a;
    if (!mb_jnumber(v))
        return mb_jfail(c, "bad operand type for abs(): '%s'", mb_jtype(v));
    if (v.kind == MB_J_FLOAT)
        *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = fabs(v.u.f)};
    else
        *out = mb_jint(mb_jwhole(v) == INT64_MIN ? INT64_MAX : llabs(mb_jwhole(v)));
    return true;
}

static bool f_attr(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    if (a->n != 1 || a->v[0].kind != MB_J_STR)
        return mb_jfail(c, "attr takes a name");
    if (mb_jhas_method(v, a->v[0].u.str) || v.kind == MB_J_NAMESPACE || v.kind == MB_J_LOOP)
        return mb_jattr(c, v, a->v[0].u.str, out);
    *out = mb_jundefined(a->v[0].u.str);
    return true;
}

static bool f_capitalize(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    (void)a;
    return mb_jtext(c, v, &s) && mb_jrecase(c, s, MB_JTITLE, MB_JLOWER, false, out);
}

static bool f_lower(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    (void)a;
    return mb_jtext(c, v, &s) && mb_jrecase(c, s, MB_JLOWER, MB_JLOWER, false, out);
}

static bool f_upper(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    (void)a;
    return mb_jtext(c, v, &s) && mb_jrecase(c, s, MB_JUPPER, MB_JUPPER, false, out);
}

/* Words begin behind white space, - ( { [ and <. */
static bool f_title(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    struct mb_bytes text = {0};
    (void)a;
    bool ok = mb_jtext(c, v, &s);
    for (size_t i = 0; ok && i < s.n;) {
        size_t from = i;
        uint32_t cp;
        struct mb_jval word;
        bool breaks = false;
        for (; i < s.n; i += (size_t)mb_utf8_next(s.s + i, &cp)) {
            mb_utf8_next(s.s + i, &cp);
            bool is_break = mb_is_space(cp) || (cp < 0x80 && strchr("-({[<", (int)cp) != NULL && cp != 0);
            if (i > from && is_break != breaks)
                break;
            breaks = is_break;
        }
        ok = mb_jrecase(c, (struct mb_jstr){s.s + from, i - from}, MB_JUPPER, MB_JLOWER, false, &word) &&
             mb_jprint(c, word, &text);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool f_trim(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *set = mb_jarg(a, 0, "chars");
    struct mb_jstr s;
    if (!mb_jtext(c, v, &s))
        return false;
    if (set == NULL || set->kind != MB_J_STR)
        s = mb_jstrip(s, true, true);
    else if (!mb_jstrip_of(c, s, set->u.str, true, true, &s))
        return false;
    *out = mb_jstring(s.s, s.n);
    return true;
}

static bool f_default(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *other = mb_jarg(a, 0, "default_value"), *boolean = mb_jarg(a, 1, "boolean");
    (void)c;
    bool use = v.kind == MB_J_UNDEFINED || (boolean != NULL && mb_jtruth(*boolean) && !mb_jtruth(v));
    *out = !use ? v : other != NULL ? *other : mb_jstring("", 0);
    return true;
}

static bool f_escape(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct mb_jstr s;
    struct mb_bytes text = {0};
    (void)a;
    bool ok = mb_jtext(c, v, &s);
    for (size_t i = 0; ok && i < s.n; i++) {
        const char *p = s.s[i] != 0 ? strchr("&<>'\"", s.s[i]) : NULL;
        const char *name = p != NULL ? names[strlen("&<>'\"") - strlen(p)] : NULL;
        ok = mb_jprint(c, name != NULL ? mb_jstring(name, strlen(name)) : mb_jstring(s.s + i, 1), &text);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool f_string(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    (void)a;
    if (!mb_jtext(c, v, &s))
        return false;
    *out = mb_jstring(s.s, s.n);
    return true;
}

/* A number at the start of a text, as int() and float() of Python take it; false: none. */
static bool read_number(struct mb_jstr s, bool real, int base, struct mb_jval *out)
{
    char buf[64], *end;
    s = mb_jstrip(s, true, true);
    if (s.n == 0 || s.n >= sizeof buf)
        return false;
    memcpy(buf, s.s, s.n);
    buf[s.n] = 0;
    if (strlen(buf) != s.n || (real && strpbrk(buf, "xXpP(") != NULL))
        return false;
    if (real)
        *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = strtod(buf, &end)};
    else
        *out = mb_jint(strtoll(buf, &end, base));
    return *end == 0;
}

static bool f_int(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *other = mb_jarg(a, 0, "default"), *base = mb_jarg(a, 1, "base");
    struct mb_jval x;
    int b = base != NULL && base->kind == MB_J_INT && base->u.i >= 2 && base->u.i <= 36 ? (int)base->u.i : 10;
    *out = other != NULL ? *other : mb_jint(0);
    if (v.kind == MB_J_INT || v.kind == MB_J_BOOL)
        *out = mb_jint(mb_jwhole(v));
    else if (v.kind == MB_J_FLOAT && fabs(v.u.f) < 9e18)
        *out = mb_jint((int64_t)v.u.f);
    else if (v.kind == MB_J_STR && read_number(v.u.str, false, b, &x))
        *out = x;
    else if (v.kind == MB_J_STR && read_number(v.u.str, true, 10, &x) && fabs(x.u.f) < 9e18)
        *out = mb_jint((int64_t)x.u.f);
    return mb_jstep(c, 1);
}

static bool f_float(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *other = mb_jarg(a, 0, "default");
    struct mb_jval x;
    *out = other != NULL ? *other : (struct mb_jval){.kind = MB_J_FLOAT};
    if (mb_jnumber(v))
        *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = mb_jreal(v)};
    else if (v.kind == MB_J_STR && read_number(v.u.str, true, 10, &x))
        *out = x;
    return mb_jstep(c, 1);
}

static bool f_round(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *digits = mb_jarg(a, 0, "precision"), *how = mb_jarg(a, 1, "method");
    int64_t p = digits != NULL && digits->kind == MB_J_INT ? digits->u.i : 0;
    char buf[400];
    if (!mb_jnumber(v) || p < 0 || p > 15)
        return mb_jfail(c, "round takes a number and a precision of 0 to 15");
    double x = mb_jreal(v), scale = pow(10, (double)p);
    if (how != NULL && how->kind == MB_J_STR && mb_jis(how->u.str, "ceil"))
        x = ceil(x * scale) / scale;
    else if (how != NULL && how->kind == MB_J_STR && mb_jis(how->u.str, "floor"))
        x = floor(x * scale) / scale;
    else {
        if (v.kind != MB_J_FLOAT) { /* an int stays one */
            *out = mb_jint(mb_jwhole(v));
            return true;
        }
        snprintf(buf, sizeof buf, "%.*f", (int)p, x); /* correctly rounded, ties to even: as Python rounds */
        x = strtod(buf, NULL);
    }
    *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = x};
    return true;
}

static bool f_replace(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *old = mb_jarg(a, 0, "old"), *new = mb_jarg(a, 1, "new"),
                         *max = mb_jarg(a, 2, "count");
    struct mb_jstr s, from, to;
    if (old == NULL || new == NULL)
        return mb_jfail(c, "replace takes two texts");
    return mb_jtext(c, v, &s) && mb_jtext(c, *old, &from) && mb_jtext(c, *new, &to) &&
           mb_jreplace(c, s, from, to, max != NULL && max->kind == MB_J_INT ? max->u.i : -1, out);
}

/* s and a newline, split into lines as Python's splitlines does it. */
static bool lines_of(struct mb_jctx *c, struct mb_jstr s, struct mb_jval *out)
{
    struct mb_bytes text = {0};
    struct mb_jval whole;
    struct mb_jcall none = {0};
    bool ok =
        mb_jput(c, &text, s.s, s.n) && mb_jput(c, &text, "\n", 1) && mb_jcopy(c, text.data, text.len, &whole);
    mb_jdrop(c, &text);
    return ok && mb_jstr_method(c, whole.u.str, (struct mb_jstr){"splitlines", 10}, &none, out);
}

/* All lines but the first (and the first if asked) are indented; empty ones only if asked. */
static bool f_indent(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *width = mb_jarg(a, 0, "width"), *first = mb_jarg(a, 1, "first"),
                         *blank = mb_jarg(a, 2, "blank");
    int64_t n = width != NULL && width->kind == MB_J_INT ? width->u.i : 4;
    bool on_first = first != NULL && mb_jtruth(*first), on_blank = blank != NULL && mb_jtruth(*blank);
    struct mb_jstr s, fill = {" ", 1};
    struct mb_bytes text = {0};
    struct mb_jval lines;
    if (width != NULL && width->kind == MB_J_STR) {
        fill = width->u.str;
        n = 1;
    }
    if (n < 0 || n > 1000)
        return mb_jfail(c, "indent by %lld", (long long)n);
    bool ok = mb_jtext(c, v, &s) && lines_of(c, s, &lines);
    for (size_t i = 0; ok && i < lines.u.list->n; i++) {
        struct mb_jstr line = lines.u.list->v[i].u.str;
        bool here = i == 0 ? on_first : on_blank || line.n > 0;
        ok = i == 0 || mb_jput(c, &text, "\n", 1);
        for (int64_t k = 0; k < n && here && ok; k++)
            ok = mb_jput(c, &text, fill.s, fill.n);
        ok = ok && mb_jput(c, &text, line.s, line.n);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool f_wordcount(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    int64_t n = 0;
    bool in_word = false;
    (void)a;
    if (!mb_jtext(c, v, &s))
        return false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        bool word = mb_is_word(cp);
        n += word && !in_word;
        in_word = word;
    }
    *out = mb_jint(n);
    return true;
}

static bool f_tojson(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *ascii = mb_jarg(a, 0, "ensure_ascii"), *indent = mb_jarg(a, 1, "indent"),
                         *seps = mb_jarg(a, 2, "separators"), *sort = mb_jarg(a, 3, "sort_keys");
    struct mb_jdump how = {.indent = -1, .item_sep = {", ", 2}, .key_sep = {": ", 2}};
    struct mb_bytes text = {0};
    if (indent != NULL && indent->kind == MB_J_INT) {
        how.indent = indent->u.i < 0 ? 0 : indent->u.i > 64 ? 64 : indent->u.i;
        how.item_sep.n = 1;
    }
    if (seps != NULL && (seps->kind == MB_J_TUPLE || seps->kind == MB_J_LIST) && seps->u.list->n == 2 &&
        seps->u.list->v[0].kind == MB_J_STR && seps->u.list->v[1].kind == MB_J_STR) {
        how.item_sep = seps->u.list->v[0].u.str;
        how.key_sep = seps->u.list->v[1].u.str;
    }
    how.ascii = ascii != NULL && mb_jtruth(*ascii);
    how.sort = sort != NULL && mb_jtruth(*sort);
    bool ok = mb_jtojson(c, v, &how, 0, &text) && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

/* "..." | format(values) is "..." % values. */
static bool f_format(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_jstr s;
    struct mb_jlist args = {.v = a->v, .n = a->n, .cap = a->n};
    struct mb_jval values = {.kind = MB_J_TUPLE, .u.list = &args};
    if (a->n > 0 && a->nkw > 0)
        return mb_jfail(c, "can't handle positional and keyword arguments at the same time");
    if (a->nkw > 0 && !mb_jdict_new(c, MB_J_DICT, &values))
        return false;
    for (size_t i = 0; i < a->nkw; i++)
        if (!mb_jdict_put(c, values.u.dict, a->kw[i].key, a->kw[i].value))
            return false;
    return mb_jtext(c, v, &s) && mb_jpercent(c, s, values, out);
}

static bool f_center(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    const struct mb_jval *width = mb_jarg(a, 0, "width");
    struct mb_jval args[1] = {width != NULL ? *width : mb_jint(80)};
    struct mb_jcall call = {.v = args, .n = 1};
    struct mb_jstr s;
    return mb_jtext(c, v, &s) && mb_jstr_method(c, s, (struct mb_jstr){"center", 6}, &call, out);
}

/* JSON text as a value. */
static bool f_from_json(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    json_t *j = NULL;
    char why[200] = "";
    (void)a;
    if (v.kind != MB_J_STR)
        return mb_jfail(c, "from_json takes a text, not %s", mb_jtype(v));
    enum mb_status st = mb_json_parse(v.u.str.s, v.u.str.n, "", MB_REQUEST, why, sizeof why, &j);
    if (st != MB_OK)
        return mb_jfail(c, "from_json: %s", why);
    bool ok = mb_jfrom_json(c, j, 0, out) && mb_jown(c, out, 0);
    json_decref(j);
    return ok;
}

static bool f_same(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval *out)
{
    (void)a;
    *out = v;
    return mb_jstep(c, 1);
}

static const struct {
    const char *name;
    mb_jfilter_fn *run;
} filters[] = {
    {"abs", f_abs},
    {"attr", f_attr},
    {"batch", mb_jf_batch},
    {"capitalize", f_capitalize},
    {"center", f_center},
    {"count", mb_jf_length},
    {"d", f_default},
    {"default", f_default},
    {"dictsort", mb_jf_dictsort},
    {"e", f_escape},
    {"escape", f_escape},
    {"first", mb_jf_first},
    {"float", f_float},
    {"forceescape", f_escape},
    {"format", f_format},
    {"from_json", f_from_json},
    {"groupby", mb_jf_groupby},
    {"indent", f_indent},
    {"int", f_int},
    {"items", mb_jf_items},
    {"join", mb_jf_join},
    {"last", mb_jf_last},
    {"length", mb_jf_length},
    {"list", mb_jf_list},
    {"lower", f_lower},
    {"map", mb_jf_map},
    {"max", mb_jf_max},
    {"min", mb_jf_min},
    {"reject", mb_jf_reject},
    {"rejectattr", mb_jf_rejectattr},
    {"replace", f_replace},
    {"reverse", mb_jf_reverse},
    {"round", f_round},
    {"safe", f_same},
    {"select", mb_jf_select},
    {"selectattr", mb_jf_selectattr},
    {"sort", mb_jf_sort},
    {"string", f_string},
    {"sum", mb_jf_sum},
    {"title", f_title},
    {"tojson", f_tojson},
    {"trim", f_trim},
    {"unique", mb_jf_unique},
    {"upper", f_upper},
    {"wordcount", f_wordcount},
};

int mb_jfilter_number(struct mb_jstr name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        if (mb_jis(name, filters[i].name))
            return (int)i;
    }
    return -1;
}

bool mb_jfilter(struct mb_jctx *c, int number, struct mb_jval v, const struct mb_jcall *a,
                struct mb_jval *out)
{
    return filters[number].run(c, v, a, out);
}
