/* Jinja's evaluator: expressions and statements of a compiled template. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"
#include "jinja/strings.h"

#define STEPS_MAX 50000000
#define ARENA_MAX ((size_t)256 << 20)
#define OUTPUT_MAX ((size_t)64 << 20)

/* ------------------------------------------------------------------ scopes */

bool mb_jscope_push(struct mb_jctx *c, struct mb_jscope *parent)
{
    struct mb_jscope *s = mb_jalloc(&c->arena, sizeof *s);
    if (s == NULL)
        return mb_jno_memory(c);
    s->parent = parent;
    c->scope = s;
    return true;
}

bool mb_jbind(struct mb_jctx *c, struct mb_jscope *s, int32_t name, struct mb_jval v)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->v[i].name == name) {
            s->v[i].value = v;
            return true;
        }
    }
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 4 : s->cap * 2;
        struct mb_jbinding *p = mb_jalloc(&c->arena, cap * sizeof *p);
        if (p == NULL)
            return mb_jno_memory(c);
        if (s->n > 0)
            memcpy(p, s->v, s->n * sizeof *p);
        s->v = p;
        s->cap = cap;
    }
    s->v[s->n].name = name;
    s->v[s->n++].value = v;
    return true;
}

static struct mb_jval look_up(struct mb_jctx *c, int32_t name, struct mb_jstr text)
{
    for (const struct mb_jscope *s = c->scope; s != NULL; s = s->parent) {
        for (size_t i = 0; i < s->n; i++) {
            if (s->v[i].name == name)
                return s->v[i].value;
        }
    }
    int global = mb_jglobal_number(text);
    if (global >= 0)
        return (struct mb_jval){.kind = MB_J_GLOBAL, .u.i = global};
    return mb_jundefined(text);
}

/* ------------------------------------------------------------------ operators */

static bool add(struct mb_jctx *c, struct mb_jval a, struct mb_jval b, struct mb_jval *out)
{
    if (a.kind == MB_J_STR && b.kind == MB_J_STR) {
        char *s = mb_jalloc(&c->arena, a.u.str.n + b.u.str.n);
        if (s == NULL)
            return mb_jno_memory(c);
        if (a.u.str.n > 0)
            memcpy(s, a.u.str.s, a.u.str.n);
        if (b.u.str.n > 0)
            memcpy(s + a.u.str.n, b.u.str.s, b.u.str.n);
        *out = mb_jstring(s, a.u.str.n + b.u.str.n);
        return mb_jstep(c, out->u.str.n / 64);
    }
    if (a.kind == b.kind && (a.kind == MB_J_LIST || a.kind == MB_J_TUPLE)) {
        if (!mb_jlist_new(c, a.kind, a.u.list->n + b.u.list->n, out))
            return false;
        for (size_t i = 0; i < a.u.list->n + b.u.list->n; i++) {
            size_t n = a.u.list->n;
            if (!mb_jlist_put(c, out->u.list, i < n ? a.u.list->v[i] : b.u.list->v[i - n]))
                return false;
        }
        return true;
    }
    if (a.kind == MB_J_STR)
        return mb_jfail(c, "can only concatenate str (not \"%s\") to str", mb_jtype(b));
    return mb_jfail(c, "unsupported operand type(s) for +: '%s' and '%s'", mb_jtype(a), mb_jtype(b));
}

static bool repeat(struct mb_jctx *c, struct mb_jval a, int64_t times, struct mb_jval *out)
{
    struct mb_jval part = a;
    if (a.kind == MB_J_STR) {
        size_t n = times > 0 ? a.u.str.n : 0;
        uint64_t all;
        if (!mb_mul_ok(n, (uint64_t)times, &all) || all > ARENA_MAX)
            return mb_jno_memory(c);
        char *s = mb_jalloc(&c->arena, (size_t)all);
        if (s == NULL)
            return mb_jno_memory(c);
        for (size_t i = 0; i < all; i += n)
            memcpy(s + i, a.u.str.s, n);
        *out = mb_jstring(s, (size_t)all);
        return mb_jstep(c, (size_t)all / 64);
    }
    if (!mb_jlist_new(c, a.kind, 0, out))
        return false;
    for (int64_t k = 0; k < times && part.u.list->n > 0; k++) {
        for (size_t i = 0; i < part.u.list->n; i++) {
            if (!mb_jlist_put(c, out->u.list, part.u.list->v[i]))
                return false;
        }
    }
    return true;
}

static bool whole_power(struct mb_jctx *c, int64_t base, int64_t exp, struct mb_jval *out)
{
    int64_t x = 1;
    for (int64_t i = 0; i < exp; i++) {
        if (__builtin_mul_overflow(x, base, &x) || !mb_jstep(c, 1))
            return mb_jfail(c, "an integer beyond 64 bits");
        if (x == 0 || x == 1)
            break;
        if (x == -1 && base == -1) {
            x = exp % 2 == 0 ? 1 : -1;
            break;
        }
    }
    *out = mb_jint(x);
    return true;
}

static bool whole(struct mb_jctx *c, int op, int64_t x, int64_t y, struct mb_jval *out)
{
    int64_t r = 0;
    bool over = false;
    if (op == '+')
        over = __builtin_add_overflow(x, y, &r);
    else if (op == '-')
        over = __builtin_sub_overflow(x, y, &r);
    else if (op == '*')
        over = __builtin_mul_overflow(x, y, &r);
    else if (y == 0)
        return mb_jfail(c, "division by zero");
    else if (x == INT64_MIN && y == -1)
        over = op != '%';
    else if (op == '%')
        r = x % y + ((x % y != 0 && (x % y < 0) != (y < 0)) ? y : 0);
    else
        r = x / y - (x % y != 0 && (x % y < 0) != (y < 0));
    if (over)
        return mb_jfail(c, "an integer beyond 64 bits");
    *out = mb_jint(r);
    return true;
}

static bool real(struct mb_jctx *c, int op, double x, double y, struct mb_jval *out)
{
    double r;
    if ((op == '/' || op == '%' || op == ('/' << 8 | '/')) && y == 0)
        return mb_jfail(c, "division by zero");
    if (op == '+')
        r = x + y;
    else if (op == '-')
        r = x - y;
    else if (op == '*')
        r = x * y;
    else if (op == '/')
        r = x / y;
    else if (op == '%')
        r = x - floor(x / y) * y;
    else if (op == ('/' << 8 | '/'))
        r = floor(x / y);
    else
        r = pow(x, y);
    *out = (struct mb_jval){.kind = MB_J_FLOAT, .u.f = r};
    return true;
}

bool mb_jbinary(struct mb_jctx *c, int op, struct mb_jval a, struct mb_jval b, struct mb_jval *out)
{
    bool sequence = a.kind == MB_J_STR || a.kind == MB_J_LIST || a.kind == MB_J_TUPLE;
    if (a.kind == MB_J_UNDEFINED || b.kind == MB_J_UNDEFINED) {
        struct mb_jstr name = a.kind == MB_J_UNDEFINED ? a.u.str : b.u.str;
        return mb_jfail(c, "'%.*s' is undefined", (int)name.n, name.s);
    }
    if (mb_jnumber(a) && mb_jnumber(b)) {
        bool reals = a.kind == MB_J_FLOAT || b.kind == MB_J_FLOAT || op == '/';
        if (op == ('*' << 8 | '*') && !reals && mb_jwhole(b) >= 0)
            return whole_power(c, mb_jwhole(a), mb_jwhole(b), out);
        if (reals || op == ('*' << 8 | '*'))
            return real(c, op, mb_jreal(a), mb_jreal(b), out);
        return whole(c, op, mb_jwhole(a), mb_jwhole(b), out);
    }
    if (op == '+')
        return add(c, a, b, out);
    if (op == '*' && sequence && (b.kind == MB_J_INT || b.kind == MB_J_BOOL))
        return repeat(c, a, mb_jwhole(b), out);
    if (op == '*' && a.kind == MB_J_INT &&
        (b.kind == MB_J_STR || b.kind == MB_J_LIST || b.kind == MB_J_TUPLE))
        return repeat(c, b, a.u.i, out);
    if (op == '%' && a.kind == MB_J_STR)
        return mb_jpercent(c, a.u.str, b, out);
    return mb_jfail(c, "unsupported operand type(s) for %c: '%s' and '%s'", op & 0xff, mb_jtype(a),
                    mb_jtype(b));
}

bool mb_jcontains(struct mb_jctx *c, struct mb_jval item, struct mb_jval in, bool *out)
{
    struct mb_jlist l;
    if (in.kind == MB_J_STR) {
        if (item.kind != MB_J_STR)
            return mb_jfail(c, "'in <string>' requires string as left operand, not %s", mb_jtype(item));
        *out = item.u.str.n == 0 ||
               (in.u.str.n > 0 && memmem(in.u.str.s, in.u.str.n, item.u.str.s, item.u.str.n) != NULL);
        return mb_jstep(c, in.u.str.n / 64);
    }
    if (in.kind == MB_J_DICT) {
        *out = mb_jdict_get(c, in.u.dict, item) != NULL;
        return c->st == MB_OK;
    }
    if (!mb_jiterate(c, in, &l))
        return false;
    *out = false;
    for (size_t i = 0; i < l.n && !*out; i++)
        *out = mb_jequal(c, item, l.v[i], 1);
    return c->st == MB_OK;
}

static bool compare_one(struct mb_jctx *c, char op, struct mb_jval a, struct mb_jval b, bool *out)
{
    int order = 0;
    if (op == '=' || op == '!') {
        *out = mb_jequal(c, a, b, 0) == (op == '=');
        return c->st == MB_OK;
    }
    if (op == 'i' || op == 'n') {
        if (!mb_jcontains(c, a, b, out))
            return false;
        *out = *out == (op == 'i');
        return true;
    }
    if (a.kind == MB_J_UNDEFINED || b.kind == MB_J_UNDEFINED)
        return mb_jbinary(c, '+', a, b, &a);
    if (!mb_jorder(c, a, b, &order))
        return false;
    bool nan = mb_jnumber(a) && mb_jnumber(b) && (isnan(mb_jreal(a)) || isnan(mb_jreal(b)));
    *out = !nan && (op == '<' ? order < 0 : op == 'l' ? order <= 0 : op == '>' ? order > 0 : order >= 0);
    return true;
}

/* What an operation cost that looked at all of its operands once and made a result. */
static bool charge(struct mb_jctx *c, struct mb_jval v, const struct mb_jcall *a, struct mb_jval result)
{
    size_t all = mb_jweight(v) + mb_jweight(result);
    for (size_t i = 0; a != NULL && i < a->n; i++)
        all += mb_jweight(a->v[i]);
    for (size_t i = 0; a != NULL && i < a->nkw; i++)
        all += mb_jweight(a->kw[i].value);
    return mb_jstep(c, all);
}

static bool compare(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval left, right;
    bool yes = true;
    if (!mb_jeval(c, n->kids.v[0], &left))
        return false;
    for (size_t i = 0; i < n->str.n && yes; i++) {
        if (!mb_jeval(c, n->kids.v[i + 1], &right) || !charge(c, left, NULL, right) ||
            !compare_one(c, n->str.s[i], left, right, &yes))
            return false;
        left = right;
    }
    *out = mb_jbool(yes);
    return true;
}

/* ------------------------------------------------------------------ expressions */

static bool list_of(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    if (!mb_jlist_new(c, n->kind == MB_JN_TUPLE ? MB_J_TUPLE : MB_J_LIST, n->kids.n, out))
        return false;
    for (size_t i = 0; i < n->kids.n; i++) {
        struct mb_jval v;
        if (!mb_jeval(c, n->kids.v[i], &v) || !mb_jlist_put(c, out->u.list, v))
            return false;
    }
    return true;
}

static bool dict_of(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    if (!mb_jdict_new(c, MB_J_DICT, out))
        return false;
    for (size_t i = 0; i + 1 < n->kids.n; i += 2) {
        struct mb_jval k, v;
        if (!mb_jeval(c, n->kids.v[i], &k) || !mb_jeval(c, n->kids.v[i + 1], &v) ||
            !mb_jdict_put(c, out->u.dict, k, v))
            return false;
    }
    return true;
}

static bool arguments(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jcall *out)
{
    *out = (struct mb_jcall){.n = n->kids.n, .nkw = n->nkw};
    out->v = mb_jalloc(&c->arena, n->kids.n * sizeof *out->v);
    out->kw = mb_jalloc(&c->arena, n->nkw * sizeof *out->kw);
    if (out->v == NULL || out->kw == NULL)
        return mb_jno_memory(c);
    for (size_t i = 0; i < n->kids.n; i++) {
        if (!mb_jeval(c, n->kids.v[i], &out->v[i]))
            return false;
    }
    for (size_t i = 0; i < n->nkw; i++) {
        out->kw[i].key = mb_jstring(n->kw[i].name.s, n->kw[i].name.n);
        if (!mb_jeval(c, n->kw[i].value, &out->kw[i].value))
            return false;
    }
    return true;
}

static bool concat(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_bytes text = {0};
    bool ok = true;
    for (size_t i = 0; i < n->kids.n && ok; i++) {
        struct mb_jval v;
        ok = mb_jeval(c, n->kids.v[i], &v) && mb_jprint(c, v, &text);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool slice_of(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval v, part[3];
    if (!mb_jeval(c, n->a, &v))
        return false;
    for (int i = 0; i < 3; i++) {
        part[i] = (struct mb_jval){.kind = MB_J_NONE};
        if (n->kids.v[i] != NULL && !mb_jeval(c, n->kids.v[i], &part[i]))
            return false;
    }
    return mb_jslice(c, v, part, out);
}

static bool unary(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval v;
    if (!mb_jeval(c, n->a, &v))
        return false;
    if (!mb_jnumber(v))
        return mb_jfail(c, "bad operand type for unary %c: '%s'", n->op, mb_jtype(v));
    if (v.kind == MB_J_FLOAT) {
        *out = v;
        out->u.f = n->op == '-' ? -v.u.f : v.u.f;
        return true;
    }
    return whole(c, n->op, 0, mb_jwhole(v), out);
}

/* "and", "or": the operand that decides. */
static bool logic(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    for (size_t i = 0; i < n->kids.n; i++) {
        if (!mb_jeval(c, n->kids.v[i], out))
            return false;
        if (mb_jtruth(*out) == (n->kind == MB_JN_OR))
            return true;
    }
    return true;
}

static bool filter_or_test(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval v;
    struct mb_jcall a;
    bool yes;
    if (!mb_jeval(c, n->a, &v) || !arguments(c, n, &a))
        return false;
    if (n->op < 0)
        return mb_jfail(c, "No %s named '%.*s' found.", n->kind == MB_JN_FILTER ? "filter" : "test",
                        (int)(n->str.n < 60 ? n->str.n : 60), n->str.s);
    if (!mb_jstep(c, mb_jweight(v))) /* before: a generator is empty afterwards */
        return false;
    if (n->kind == MB_JN_FILTER)
        return mb_jfilter(c, n->op, v, &a, out) && charge(c, v, &a, *out);
    if (!mb_jtest(c, n->op, v, &a, &yes))
        return false;
    *out = mb_jbool(yes);
    return charge(c, v, &a, *out);
}

static bool conditional(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval v;
    if (!mb_jeval(c, n->a, &v))
        return false;
    if (mb_jtruth(v))
        return mb_jeval(c, n->b, out);
    if (n->c != NULL)
        return mb_jeval(c, n->c, out);
    *out = mb_jundefined((struct mb_jstr){"the value of an if without else", 31});
    return true;
}

static bool eval(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jval a, b;
    struct mb_jcall args;
    switch (n->kind) {
    case MB_JN_CONST:
        *out = n->value;
        return true;
    case MB_JN_NAME:
        *out = look_up(c, n->name, n->str);
        return true;
    case MB_JN_LIST:
    case MB_JN_TUPLE:
        return list_of(c, n, out);
    case MB_JN_DICT:
        return dict_of(c, n, out);
    case MB_JN_ATTR:
        return mb_jeval(c, n->a, &a) && mb_jattr(c, a, n->str, out);
    case MB_JN_ITEM:
        return mb_jeval(c, n->a, &a) && mb_jeval(c, n->b, &b) && mb_jitem(c, a, b, out);
    case MB_JN_SLICE:
        return slice_of(c, n, out);
    case MB_JN_CALL:
        return mb_jeval(c, n->a, &a) && arguments(c, n, &args) && charge(c, a, &args, mb_jbool(false)) &&
               mb_jcall_value(c, a, &args, out) && charge(c, mb_jbool(false), NULL, *out);
    case MB_JN_FILTER:
    case MB_JN_TEST:
        return filter_or_test(c, n, out);
    case MB_JN_BINARY:
        return mb_jeval(c, n->a, &a) && mb_jeval(c, n->b, &b) && mb_jbinary(c, n->op, a, b, out) &&
               charge(c, a, NULL, b) && charge(c, *out, NULL, *out);
    case MB_JN_UNARY:
        return unary(c, n, out);
    case MB_JN_AND:
    case MB_JN_OR:
        return logic(c, n, out);
    case MB_JN_NOT:
        if (!mb_jeval(c, n->a, &a))
            return false;
        *out = mb_jbool(!mb_jtruth(a));
        return true;
    case MB_JN_COMPARE:
        return compare(c, n, out);
    case MB_JN_COND:
        return conditional(c, n, out);
    case MB_JN_CONCAT:
        return concat(c, n, out);
    default:
        return mb_jfail(c, "a statement where a value is needed");
    }
}

bool mb_jeval(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    if (!mb_jstep(c, 1))
        return false;
    c->line = n->line;
    if (++c->depth > MB_JDEPTH * 8)
        return mb_jfail(c, "calls and expressions nested too deep");
    bool ok = eval(c, n, out);
    c->depth--;
    return ok;
}

/* ------------------------------------------------------------------ entry */

enum mb_status mb_jinja_render(const struct mb_jtemplate *t, const json_t *vars, int64_t now, char *err,
                               size_t cap, struct mb_bytes *out)
{
    struct mb_bytes text = {0};
    char none[1];
    struct mb_jctx c = {.t = t,
                        .arena = {.limit = ARENA_MAX},
                        .out = &text,
                        .out_limit = OUTPUT_MAX,
                        .steps = STEPS_MAX,
                        .now = now,
                        .line = 1,
                        .err = err != NULL ? err : none,
                        .cap = err != NULL ? cap : 0};
    bool ok = mb_jscope_push(&c, NULL);
    for (size_t i = 0; i < t->names && ok; i++) {
        struct mb_jval v;
        const json_t *j = json_object_getn(vars, t->name[i].s, t->name[i].n);
        if (j != NULL)
            ok = mb_jfrom_json(&c, j, 0, &v) && mb_jbind(&c, c.scope, (int32_t)i, v);
    }
    ok = ok && mb_jrun(&c, &t->body);
    if (ok)
        c.st = mb_bytes_put(out, text.data, text.len);
    mb_jdrop(&c, &text);
    mb_jarena_fini(&c.arena);
    return c.st;
}
