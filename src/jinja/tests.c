/* Jinja's tests: "value is name". */
#include <string.h>
#include "jinja/own.h"
#include "jinja/strings.h"

enum test {
    T_BOOLEAN,
    T_CALLABLE,
    T_DEFINED,
    T_DIVISIBLEBY,
    T_EQ,
    T_ESCAPED,
    T_EVEN,
    T_FALSE,
    T_FILTER,
    T_FLOAT,
    T_GE,
    T_GT,
    T_IN,
    T_INTEGER,
    T_ITERABLE,
    T_LE,
    T_LOWER,
    T_LT,
    T_MAPPING,
    T_NE,
    T_NONE,
    T_NUMBER,
    T_ODD,
    T_SAMEAS,
    T_SEQUENCE,
    T_STRING,
    T_TEST,
    T_TRUE,
    T_UNDEFINED,
    T_UPPER,
};
static const struct {
    const char *name;
    enum test test;
} tests[] = {
    {"!=", T_NE},
    {"<", T_LT},
    {"<=", T_LE},
    {"==", T_EQ},
    {">", T_GT},
    {">=", T_GE},
    {"boolean", T_BOOLEAN},
    {"callable", T_CALLABLE},
    {"defined", T_DEFINED},
    {"divisibleby", T_DIVISIBLEBY},
    {"eq", T_EQ},
    {"equalto", T_EQ},
    {"escaped", T_ESCAPED},
    {"even", T_EVEN},
    {"false", T_FALSE},
    {"filter", T_FILTER},
    {"float", T_FLOAT},
    {"ge", T_GE},
    {"greaterthan", T_GT},
    {"gt", T_GT},
    {"in", T_IN},
    {"integer", T_INTEGER},
    {"iterable", T_ITERABLE},
    {"le", T_LE},
    {"lessthan", T_LT},
    {"lower", T_LOWER},
    {"lt", T_LT},
    {"mapping", T_MAPPING},
    {"ne", T_NE},
    {"none", T_NONE},
    {"number", T_NUMBER},
    {"odd", T_ODD},
    {"sameas", T_SAMEAS},
    {"sequence", T_SEQUENCE},
    {"string", T_STRING},
    {"test", T_TEST},
    {"true", T_TRUE},
    {"undefined", T_UNDEFINED},
    {"upper", T_UPPER},
};

int mb_jtest_number(struct mb_jstr name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (mb_jis(name, tests[i].name))
            return (int)i;
    }
    return -1;
}

static bool iterable(struct mb_jval v)
{
    return v.kind == MB_J_STR || v.kind == MB_J_LIST || v.kind == MB_J_TUPLE || v.kind == MB_J_DICT ||
           v.kind == MB_J_GENERATOR || v.kind == MB_J_UNDEFINED || v.kind == MB_J_LOOP;
}

static bool same(struct mb_jval a, struct mb_jval b)
{
    if (a.kind != b.kind)
        return false;
    if (a.kind == MB_J_NONE || a.kind == MB_J_BOOL)
        return a.kind == MB_J_NONE || a.u.b == b.u.b;
    if (a.kind == MB_J_INT)
        return a.u.i == b.u.i;
    return a.kind == MB_J_STR ? a.u.str.s == b.u.str.s && a.u.str.n == b.u.str.n : a.u.list == b.u.list;
}

/* Tests of the value alone; *known false: another kind of test. */
static bool alone(enum test t, struct mb_jval v, bool *known)
{
    *known = true;
    switch (t) {
    case T_BOOLEAN:
        return v.kind == MB_J_BOOL;
    case T_CALLABLE:
        return v.kind == MB_J_MACRO || v.kind == MB_J_GLOBAL || v.kind == MB_J_METHOD ||
               v.kind == MB_J_LOOP || v.kind == MB_J_UNDEFINED ||
               (v.kind == MB_J_CYCLER && v.u.items->v[0].kind == MB_J_BOOL);
    case T_ESCAPED: /* nothing is markup here */
        return false;
    case T_DEFINED:
        return v.kind != MB_J_UNDEFINED;
    case T_UNDEFINED:
        return v.kind == MB_J_UNDEFINED;
    case T_FALSE:
    case T_TRUE:
        return v.kind == MB_J_BOOL && v.u.b == (t == T_TRUE);
    case T_FLOAT:
        return v.kind == MB_J_FLOAT;
    case T_INTEGER:
        return v.kind == MB_J_INT;
    case T_ITERABLE:
        return iterable(v);
    case T_MAPPING:
        return v.kind == MB_J_DICT;
    case T_NONE:
        return v.kind == MB_J_NONE;
    case T_NUMBER:
        return mb_jnumber(v);
    case T_SEQUENCE: /* what has a length and items */
        return v.kind == MB_J_STR || v.kind == MB_J_LIST || v.kind == MB_J_TUPLE || v.kind == MB_J_DICT ||
               v.kind == MB_J_UNDEFINED;
    case T_STRING:
        return v.kind == MB_J_STR;
    case T_FILTER:
        return v.kind == MB_J_STR && mb_jfilter_number(v.u.str) >= 0;
    case T_TEST:
        return v.kind == MB_J_STR && mb_jtest_number(v.u.str) >= 0;
    default:
        *known = false;
        return false;
    }
}

static bool by_order(struct mb_jctx *c, enum test t, struct mb_jval a, struct mb_jval b, bool *out)
{
    int k;
    if (!mb_jorder(c, a, b, &k))
        return false;
    *out = t == T_LT ? k < 0 : t == T_LE ? k <= 0 : t == T_GT ? k > 0 : k >= 0;
    return true;
}

static bool remainder_is(struct mb_jctx *c, struct mb_jval v, struct mb_jval by, int64_t want, bool *out)
{
    struct mb_jval r;
    if (!mb_jnumber(v) || !mb_jnumber(by))
        return mb_jfail(c, "unsupported operand type(s) for %%: '%s' and '%s'", mb_jtype(v), mb_jtype(by));
    if (!mb_jbinary(c, '%', v, by, &r))
        return false;
    *out = mb_jreal(r) == (double)want;
    return true;
}

bool mb_jtest(struct mb_jctx *c, int number, struct mb_jval v, const struct mb_jcall *a, bool *out)
{
    enum test t = tests[number].test;
    bool known;
    struct mb_bytes text = {0};
    *out = alone(t, v, &known);
    if (known)
        return true;
    if (t == T_EVEN || t == T_ODD)
        return remainder_is(c, v, mb_jint(2), t == T_ODD, out);
    if (t == T_LOWER || t == T_UPPER) {
        bool ok = mb_jprint(c, v, &text);
        *out = ok && mb_jall_case((struct mb_jstr){(char *)text.data, text.len}, t == T_UPPER);
        mb_jdrop(c, &text);
        return ok;
    }
    if (a->n != 1)
        return mb_jfail(c, "the test \"%s\" takes one argument", tests[number].name);
    switch (t) {
    case T_DIVISIBLEBY:
        return remainder_is(c, v, a->v[0], 0, out);
    case T_EQ:
    case T_NE:
        *out = mb_jequal(c, v, a->v[0], 0) == (t == T_EQ);
        return c->st == MB_OK;
    case T_IN:
        return mb_jcontains(c, v, a->v[0], out);
    case T_SAMEAS:
        *out = same(v, a->v[0]);
        return true;
    default:
        return by_order(c, t, v, a->v[0], out);
    }
}
