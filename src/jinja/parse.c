/* Jinja's parser: tokens become a tree. Precedence, low to high: if-else, or, and, not, comparisons, + -, ~,
 * * / // %, unary and **, postfix, filters and tests. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/grow.h"
#include "jinja/parse.h"

/* ------------------------------------------------------------------ primary expressions */

static enum mb_status dict(struct mb_jparser *p, struct mb_jnode **out)
{
    MB_TRY(mb_jp_node(p, MB_JN_DICT, out));
    mb_jp_next(p);
    while (!mb_jp_skip_op(p, '}')) {
        struct mb_jnode *k, *v;
        if ((*out)->kids.n > 0) {
            MB_TRY(mb_jp_expect(p, ','));
            if (mb_jp_skip_op(p, '}'))
                break;
        }
        MB_TRY(mb_jp_expr(p, &k));
        MB_TRY(mb_jp_expect(p, ':'));
        MB_TRY(mb_jp_expr(p, &v));
        MB_TRY(mb_jp_push(p, &(*out)->kids, k));
        MB_TRY(mb_jp_push(p, &(*out)->kids, v));
    }
    return MB_OK;
}

static enum mb_status list(struct mb_jparser *p, struct mb_jnode **out)
{
    MB_TRY(mb_jp_node(p, MB_JN_LIST, out));
    mb_jp_next(p);
    while (!mb_jp_skip_op(p, ']')) {
        struct mb_jnode *v;
        if ((*out)->kids.n > 0) {
            MB_TRY(mb_jp_expect(p, ','));
            if (mb_jp_skip_op(p, ']'))
                break;
        }
        MB_TRY(mb_jp_expr(p, &v));
        MB_TRY(mb_jp_push(p, &(*out)->kids, v));
    }
    return MB_OK;
}

static enum mb_status paren(struct mb_jparser *p, struct mb_jnode **out)
{
    mb_jp_next(p);
    if (mb_jp_skip_op(p, ')'))
        return mb_jp_node(p, MB_JN_TUPLE, out);
    MB_TRY(mb_jp_tuple(p, true, out));
    return mb_jp_expect(p, ')');
}

static enum mb_status constant(struct mb_jparser *p, struct mb_jval v, struct mb_jnode **out)
{
    MB_TRY(mb_jp_node(p, MB_JN_CONST, out));
    (*out)->value = v;
    mb_jp_next(p);
    return MB_OK;
}

static enum mb_status name(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jstr s = mb_jp_peek(p)->str;
    if (mb_jis(s, "true") || mb_jis(s, "True") || mb_jis(s, "false") || mb_jis(s, "False"))
        return constant(p, (struct mb_jval){.kind = MB_J_BOOL, .u.b = (s.s[0] | 32) == 't'}, out);
    if (mb_jis(s, "none") || mb_jis(s, "None"))
        return constant(p, (struct mb_jval){.kind = MB_J_NONE}, out);
    MB_TRY(mb_jp_node(p, MB_JN_NAME, out));
    (*out)->str = s;
    MB_TRY(mb_jp_intern(p, s, &(*out)->name));
    mb_jp_next(p);
    return MB_OK;
}

/* Neighbouring strings are one. */
static enum mb_status string(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jstr s = mb_jp_peek(p)->str;
    MB_TRY(constant(p, (struct mb_jval){.kind = MB_J_STR, .u.str = s}, out));
    while (mb_jp_peek(p)->kind == MB_JT_STR) {
        struct mb_jstr more = mb_jp_next(p)->str;
        char *to = mb_jalloc(&p->t->arena, s.n + more.n);
        if (to == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for a template", p->t->what);
        memcpy(to, s.s, s.n);
        memcpy(to + s.n, more.s, more.n);
        s = (struct mb_jstr){to, s.n + more.n};
    }
    (*out)->value.u.str = s;
    return MB_OK;
}

static enum mb_status primary(struct mb_jparser *p, struct mb_jnode **out)
{
    const struct mb_jtoken *k = mb_jp_peek(p);
    switch (k->kind) {
    case MB_JT_NAME:
        return name(p, out);
    case MB_JT_STR:
        return string(p, out);
    case MB_JT_INT:
        return constant(p, (struct mb_jval){.kind = MB_J_INT, .u.i = k->i}, out);
    case MB_JT_FLOAT:
        return constant(p, (struct mb_jval){.kind = MB_J_FLOAT, .u.f = k->f}, out);
    default:
        break;
    }
    if (mb_jp_is_op(p, '('))
        return paren(p, out);
    if (mb_jp_is_op(p, '['))
        return list(p, out);
    if (mb_jp_is_op(p, '{'))
        return dict(p, out);
    return mb_jp_bad(p, "expected an expression");
}

/* ------------------------------------------------------------------ postfix, filters, tests */

enum mb_status mb_jp_args(struct mb_jparser *p, struct mb_jnode *n)
{
    bool first = true;
    MB_TRY(mb_jp_expect(p, '('));
    while (!mb_jp_skip_op(p, ')')) {
        struct mb_jnode *v;
        if (!first) {
            MB_TRY(mb_jp_expect(p, ','));
            if (mb_jp_skip_op(p, ')'))
                break;
        }
        first = false;
        if (mb_jp_is_op(p, '*') || mb_jp_is_op(p, '*' << 8 | '*'))
            return mb_jp_bad(p, "* and ** in a call are not supported");
        const struct mb_jtoken *k = mb_jp_peek(p);
        if (k->kind == MB_JT_NAME && k[1].kind == MB_JT_OP && k[1].op == '=') {
            p->at += 2;
            MB_TRY(mb_jp_expr(p, &v));
            MB_TRY(mb_jp_push_kw(p, n, k->str, v));
            continue;
        }
        if (n->nkw > 0)
            return mb_jp_bad(p, "a positional argument behind a keyword argument");
        MB_TRY(mb_jp_expr(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    return MB_OK;
}

static enum mb_status slice(struct mb_jparser *p, struct mb_jnode *first, struct mb_jnode *n)
{
    n->kind = MB_JN_SLICE;
    MB_TRY(mb_jp_push(p, &n->kids, first));
    for (int i = 0; i < 2; i++) {
        struct mb_jnode *v = NULL;
        if (mb_jp_skip_op(p, ':') && !mb_jp_is_op(p, ']') && !mb_jp_is_op(p, ':'))
            MB_TRY(mb_jp_expr(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    return MB_OK;
}

static enum mb_status subscript(struct mb_jparser *p, struct mb_jnode **node)
{
    struct mb_jnode *n, *v = NULL;
    MB_TRY(mb_jp_node(p, MB_JN_ITEM, &n));
    n->a = *node;
    mb_jp_next(p);
    if (!mb_jp_is_op(p, ':'))
        MB_TRY(mb_jp_expr(p, &v));
    if (mb_jp_is_op(p, ':'))
        MB_TRY(slice(p, v, n));
    else
        n->b = v;
    *node = n;
    return mb_jp_expect(p, ']');
}

static enum mb_status attribute(struct mb_jparser *p, struct mb_jnode **node)
{
    struct mb_jnode *n;
    mb_jp_next(p);
    const struct mb_jtoken *k = mb_jp_peek(p);
    MB_TRY(mb_jp_node(p, k->kind == MB_JT_INT ? MB_JN_ITEM : MB_JN_ATTR, &n));
    n->a = *node;
    *node = n;
    if (k->kind == MB_JT_INT)
        return constant(p, (struct mb_jval){.kind = MB_J_INT, .u.i = k->i}, &n->b);
    if (k->kind != MB_JT_NAME)
        return mb_jp_bad(p, "expected a name behind the dot");
    n->str = k->str;
    mb_jp_next(p);
    return MB_OK;
}

static enum mb_status call(struct mb_jparser *p, struct mb_jnode **node)
{
    struct mb_jnode *n;
    MB_TRY(mb_jp_node(p, MB_JN_CALL, &n));
    n->a = *node;
    *node = n;
    return mb_jp_args(p, n);
}

static enum mb_status postfix(struct mb_jparser *p, struct mb_jnode **node)
{
    int links = 0;
    for (;;) {
        if (++links > 1000)
            return mb_jp_bad(p, "an expression that is too long");
        if (mb_jp_is_op(p, '.'))
            MB_TRY(attribute(p, node));
        else if (mb_jp_is_op(p, '['))
            MB_TRY(subscript(p, node));
        else if (mb_jp_is_op(p, '('))
            MB_TRY(call(p, node));
        else
            return MB_OK;
    }
}

enum mb_status mb_jp_filter(struct mb_jparser *p, struct mb_jnode **node)
{
    struct mb_jnode *n;
    const struct mb_jtoken *k = mb_jp_peek(p);
    MB_TRY(mb_jp_node(p, MB_JN_FILTER, &n));
    n->a = *node;
    *node = n;
    if (k->kind != MB_JT_NAME)
        return mb_jp_bad(p, "expected the name of a filter");
    n->str = k->str;
    n->op = mb_jfilter_number(k->str);
    mb_jp_next(p);
    return mb_jp_is_op(p, '(') ? mb_jp_args(p, n) : MB_OK;
}

/* An argument without parentheses: "is divisibleby 3". */
static bool bare_argument(const struct mb_jparser *p)
{
    const struct mb_jtoken *k = mb_jp_peek(p);
    if (k->kind == MB_JT_NAME)
        return !mb_jis(k->str, "else") && !mb_jis(k->str, "or") && !mb_jis(k->str, "and") &&
               !mb_jis(k->str, "if") && !mb_jis(k->str, "is") && !mb_jis(k->str, "in") &&
               !mb_jis(k->str, "not");
    return k->kind == MB_JT_STR || k->kind == MB_JT_INT || k->kind == MB_JT_FLOAT || mb_jp_is_op(p, '[') ||
           mb_jp_is_op(p, '{');
}

static enum mb_status test(struct mb_jparser *p, struct mb_jnode **node)
{
    struct mb_jnode *n, *v;
    mb_jp_next(p);
    bool negated = mb_jp_skip_name(p, "not");
    const struct mb_jtoken *k = mb_jp_peek(p);
    MB_TRY(mb_jp_node(p, MB_JN_TEST, &n));
    n->a = *node;
    if (k->kind != MB_JT_NAME)
        return mb_jp_bad(p, "expected the name of a test");
    n->str = k->str;
    n->op = mb_jtest_number(k->str);
    mb_jp_next(p);
    if (mb_jp_is_op(p, '(')) {
        MB_TRY(mb_jp_args(p, n));
    } else if (bare_argument(p)) {
        MB_TRY(primary(p, &v));
        MB_TRY(postfix(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    *node = n;
    if (!negated)
        return MB_OK;
    MB_TRY(mb_jp_node(p, MB_JN_NOT, node));
    (*node)->a = n;
    return MB_OK;
}

static enum mb_status filters(struct mb_jparser *p, struct mb_jnode **node)
{
    for (int links = 0;; links++) {
        if (links > 1000)
            return mb_jp_bad(p, "an expression that is too long");
        if (mb_jp_skip_op(p, '|'))
            MB_TRY(mb_jp_filter(p, node));
        else if (mb_jp_is_name(p, "is"))
            MB_TRY(test(p, node));
        else if (mb_jp_is_op(p, '('))
            MB_TRY(call(p, node));
        else
            return MB_OK;
    }
}

/* ------------------------------------------------------------------ operators */

static enum mb_status unary(struct mb_jparser *p, bool with_filter, struct mb_jnode **out)
{
    if (mb_jp_is_op(p, '-') || mb_jp_is_op(p, '+')) {
        if (++p->depth > MB_JDEPTH)
            return mb_jp_bad(p, "expressions nested too deep");
        MB_TRY(mb_jp_node(p, MB_JN_UNARY, out));
        (*out)->op = mb_jp_next(p)->op;
        MB_TRY(unary(p, false, &(*out)->a));
        p->depth--;
    } else {
        MB_TRY(primary(p, out));
    }
    MB_TRY(postfix(p, out));
    return with_filter ? filters(p, out) : MB_OK;
}

static enum mb_status binary(struct mb_jparser *p, int op, struct mb_jnode **left, struct mb_jnode *right)
{
    struct mb_jnode *n;
    MB_TRY(mb_jp_node(p, MB_JN_BINARY, &n));
    n->op = op;
    n->a = *left;
    n->b = right;
    *left = n;
    return MB_OK;
}

typedef enum mb_status operand_fn(struct mb_jparser *p, struct mb_jnode **out);

/* a op b op c ..., left-associative. Long chains become deep trees, so their length is limited. */
static enum mb_status chain(struct mb_jparser *p, operand_fn *operand, const int *ops, struct mb_jnode **out)
{
    MB_TRY(operand(p, out));
    for (int links = 0;; links++) {
        struct mb_jnode *right;
        const int *op = ops;
        while (*op != 0 && !mb_jp_is_op(p, *op))
            op++;
        if (*op == 0)
            return MB_OK;
        if (links > MB_JDEPTH / 2)
            return mb_jp_bad(p, "an expression that is too long");
        mb_jp_next(p);
        MB_TRY(operand(p, &right));
        MB_TRY(binary(p, *op, out, right));
    }
}

static enum mb_status signed_operand(struct mb_jparser *p, struct mb_jnode **out)
{
    return unary(p, true, out);
}

static enum mb_status power(struct mb_jparser *p, struct mb_jnode **out)
{
    static const int ops[] = {'*' << 8 | '*', 0};
    return chain(p, signed_operand, ops, out);
}

static enum mb_status product(struct mb_jparser *p, struct mb_jnode **out)
{
    static const int ops[] = {'*', '/', '/' << 8 | '/', '%', 0};
    return chain(p, power, ops, out);
}

static enum mb_status concat(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jnode *n, *v;
    MB_TRY(product(p, out));
    if (!mb_jp_is_op(p, '~'))
        return MB_OK;
    MB_TRY(mb_jp_node(p, MB_JN_CONCAT, &n));
    MB_TRY(mb_jp_push(p, &n->kids, *out));
    while (mb_jp_skip_op(p, '~')) {
        MB_TRY(product(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    *out = n;
    return MB_OK;
}

static enum mb_status sum(struct mb_jparser *p, struct mb_jnode **out)
{
    static const int ops[] = {'+', '-', 0};
    return chain(p, concat, ops, out);
}

/* The comparison at hand as one character, 0: none. i: in, n: not in. */
static char comparison(struct mb_jparser *p)
{
    const struct mb_jtoken *k = mb_jp_peek(p);
    if (k->kind == MB_JT_OP) {
        static const struct {
            int op;
            char c;
        } ops[] = {
            {'=' << 8 | '=', '='}, {'!' << 8 | '=', '!'}, {'<', '<'}, {'<' << 8 | '=', 'l'}, {'>', '>'},
            {'>' << 8 | '=', 'g'}};
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
            if (mb_jp_skip_op(p, ops[i].op))
                return ops[i].c;
        }
        return 0;
    }
    if (mb_jp_skip_name(p, "in"))
        return 'i';
    if (mb_jp_is_name(p, "not") && k[1].kind == MB_JT_NAME && mb_jis(k[1].str, "in")) {
        p->at += 2;
        return 'n';
    }
    return 0;
}

#define COMPARE_MAX 32
static enum mb_status compare(struct mb_jparser *p, struct mb_jnode **out)
{
    char ops[COMPARE_MAX], op;
    size_t n = 0;
    struct mb_jnode *node = NULL, *v;
    MB_TRY(sum(p, out));
    while ((op = comparison(p)) != 0) {
        if (node == NULL) {
            MB_TRY(mb_jp_node(p, MB_JN_COMPARE, &node));
            MB_TRY(mb_jp_push(p, &node->kids, *out));
        }
        if (n == COMPARE_MAX)
            return mb_jp_bad(p, "too many comparisons in a row");
        ops[n++] = op;
        MB_TRY(sum(p, &v));
        MB_TRY(mb_jp_push(p, &node->kids, v));
    }
    if (node == NULL)
        return MB_OK;
    char *keep = mb_jalloc(&p->t->arena, n);
    if (keep == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", p->t->what);
    memcpy(keep, ops, n);
    node->str = (struct mb_jstr){keep, n};
    *out = node;
    return MB_OK;
}

static enum mb_status negation(struct mb_jparser *p, struct mb_jnode **out)
{
    if (!mb_jp_skip_name(p, "not"))
        return compare(p, out);
    if (++p->depth > MB_JDEPTH)
        return mb_jp_bad(p, "expressions nested too deep");
    MB_TRY(mb_jp_node(p, MB_JN_NOT, out));
    MB_TRY(negation(p, &(*out)->a));
    p->depth--;
    return MB_OK;
}

/* "and" (or "or") over all operands: kids, evaluated left to right. */
static enum mb_status conjunction(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jnode *n, *v;
    MB_TRY(negation(p, out));
    if (!mb_jp_is_name(p, "and"))
        return MB_OK;
    MB_TRY(mb_jp_node(p, MB_JN_AND, &n));
    MB_TRY(mb_jp_push(p, &n->kids, *out));
    while (mb_jp_skip_name(p, "and")) {
        MB_TRY(negation(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    *out = n;
    return MB_OK;
}

static enum mb_status disjunction(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jnode *n, *v;
    MB_TRY(conjunction(p, out));
    if (!mb_jp_is_name(p, "or"))
        return MB_OK;
    MB_TRY(mb_jp_node(p, MB_JN_OR, &n));
    MB_TRY(mb_jp_push(p, &n->kids, *out));
    while (mb_jp_skip_name(p, "or")) {
        MB_TRY(conjunction(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    *out = n;
    return MB_OK;
}

enum mb_status mb_jp_expr_plain(struct mb_jparser *p, struct mb_jnode **out)
{
    if (++p->depth > MB_JDEPTH)
        return mb_jp_bad(p, "expressions nested too deep");
    MB_TRY(disjunction(p, out));
    p->depth--;
    return MB_OK;
}

enum mb_status mb_jp_expr(struct mb_jparser *p, struct mb_jnode **out)
{
    struct mb_jnode *n;
    if (++p->depth > MB_JDEPTH)
        return mb_jp_bad(p, "expressions nested too deep");
    MB_TRY(disjunction(p, out));
    for (int links = 0; mb_jp_is_name(p, "if"); links++) {
        if (links > MB_JDEPTH / 2)
            return mb_jp_bad(p, "an expression that is too long");
        MB_TRY(mb_jp_node(p, MB_JN_COND, &n));
        mb_jp_next(p);
        n->b = *out;
        MB_TRY(disjunction(p, &n->a));
        if (mb_jp_skip_name(p, "else"))
            MB_TRY(mb_jp_expr(p, &n->c));
        *out = n;
    }
    p->depth--;
    return MB_OK;
}

enum mb_status mb_jp_tuple(struct mb_jparser *p, bool with_condition, struct mb_jnode **out)
{
    struct mb_jnode *n, *v;
    MB_TRY(with_condition ? mb_jp_expr(p, out) : mb_jp_expr_plain(p, out));
    if (!mb_jp_is_op(p, ','))
        return MB_OK;
    MB_TRY(mb_jp_node(p, MB_JN_TUPLE, &n));
    MB_TRY(mb_jp_push(p, &n->kids, *out));
    *out = n;
    while (mb_jp_skip_op(p, ',')) {
        const struct mb_jtoken *k = mb_jp_peek(p);
        if (k->kind == MB_JT_VAR_END || k->kind == MB_JT_BLOCK_END || mb_jp_is_op(p, ')') ||
            mb_jp_is_op(p, '='))
            break;
        MB_TRY(with_condition ? mb_jp_expr(p, &v) : mb_jp_expr_plain(p, &v));
        MB_TRY(mb_jp_push(p, &n->kids, v));
    }
    return MB_OK;
}
