/* Jinja's statements at work: output, conditions, loops, assignments, macros. */
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"

static bool run_one(struct mb_jctx *c, const struct mb_jnode *n);

bool mb_jrun(struct mb_jctx *c, const struct mb_jlistn *body)
{
    if (++c->depth > MB_JDEPTH * 8)
        return mb_jfail(c, "calls and tags nested too deep");
    for (size_t i = 0; i < body->n && c->flow == 0; i++) {
        if (!run_one(c, body->v[i]))
            return false;
    }
    c->depth--;
    return true;
}

bool mb_jcapture(struct mb_jctx *c, const struct mb_jlistn *body, struct mb_jval *out)
{
    struct mb_bytes text = {0}, *before = c->out;
    c->out = &text;
    bool ok = mb_jrun(c, body);
    c->out = before;
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

/* ------------------------------------------------------------------ assignments */

static bool assign(struct mb_jctx *c, const struct mb_jnode *target, struct mb_jval v)
{
    struct mb_jlist l;
    if (target->kind == MB_JN_NAME)
        return mb_jbind(c, c->scope, target->name, v);
    if (target->kind == MB_JN_ATTR) {
        struct mb_jnode name = {
            .kind = MB_JN_NAME, .line = target->line, .name = target->name, .str = target->value.u.str};
        struct mb_jval ns;
        if (!mb_jeval(c, &name, &ns))
            return false;
        if (ns.kind != MB_J_NAMESPACE)
            return mb_jfail(c, "cannot assign attribute on non-namespace object");
        return mb_jdict_put(c, ns.u.dict, mb_jstring(target->str.s, target->str.n), v);
    }
    if (!mb_jiterate(c, v, &l))
        return false;
    if (l.n != target->kids.n)
        return mb_jfail(c, "%zu values to unpack into %zu names", l.n, target->kids.n);
    for (size_t i = 0; i < l.n; i++) {
        if (!assign(c, target->kids.v[i], l.v[i]))
            return false;
    }
    return true;
}

/* The filters of a block are a chain whose innermost operand is the block's text. */
static bool filter_chain(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval text,
                         struct mb_jval *out)
{
    struct mb_jval v = text;
    if (n == NULL) {
        *out = text;
        return true;
    }
    if (n->a != NULL && !filter_chain(c, n->a, text, &v))
        return false;
    struct mb_jnode call = *n, value = {.kind = MB_JN_CONST, .line = n->line, .value = v};
    call.a = &value;
    return mb_jeval(c, &call, out);
}

static bool run_set_block(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval v;
    struct mb_jscope *outer = c->scope;
    if (!mb_jscope_push(c, outer) || !mb_jcapture(c, &n->body, &v))
        return false;
    c->scope = outer;
    return filter_chain(c, n->a, v, &v) && assign(c, n->b, v);
}

static bool run_filter_block(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval v;
    struct mb_jscope *outer = c->scope;
    if (!mb_jscope_push(c, outer) || !mb_jcapture(c, &n->body, &v))
        return false;
    c->scope = outer;
    return filter_chain(c, n->a, v, &v) && mb_jprint(c, v, c->out);
}

static bool run_with(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jscope *outer = c->scope, *inner;
    if (!mb_jscope_push(c, outer))
        return false;
    inner = c->scope;
    for (size_t i = 0; i + 1 < n->kids.n; i += 2) {
        struct mb_jval v;
        c->scope = outer; /* the values are those outside */
        if (!mb_jeval(c, n->kids.v[i + 1], &v) || !mb_jbind(c, inner, n->kids.v[i]->name, v))
            return false;
    }
    c->scope = inner;
    bool ok = mb_jrun(c, &n->body);
    c->scope = outer;
    return ok;
}

/* ------------------------------------------------------------------ loops */

/* The items whose condition holds: it sees the target, but not the loop. */
static bool select_items(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jlist *l)
{
    struct mb_jlist kept = {0};
    struct mb_jscope *outer = c->scope;
    for (size_t i = 0; i < l->n; i++) {
        struct mb_jval yes;
        if (!mb_jscope_push(c, outer) || !assign(c, n->b, l->v[i]) || !mb_jeval(c, n->c, &yes))
            return false;
        if (mb_jtruth(yes) && !mb_jlist_put(c, &kept, l->v[i]))
            return false;
    }
    c->scope = outer;
    *l = kept;
    return true;
}

static bool loop_over(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval items,
                      struct mb_jscope *outer)
{
    struct mb_jlist l;
    struct mb_jloop *loop = mb_jalloc(&c->arena, sizeof *loop);
    struct mb_jscope *before = c->scope;
    if (loop == NULL)
        return mb_jno_memory(c);
    c->scope = outer;
    if (!mb_jiterate(c, items, &l) || (n->c != NULL && !select_items(c, n, &l)))
        return false;
    *loop = (struct mb_jloop){.items = l.v, .n = l.n, .depth0 = c->loop_depth, .node = n, .scope = outer};
    bool ok = true,
         whole = false; /* as in Jinja, "else" is for loops without an iteration that came to its end */
    for (; loop->at < loop->n && ok && c->flow != MB_JN_BREAK; loop->at++) {
        c->flow = 0;
        ok = mb_jscope_push(c, outer) && assign(c, n->b, l.v[loop->at]) &&
             mb_jbind(c, c->scope, n->name, (struct mb_jval){.kind = MB_J_LOOP, .u.loop = loop}) &&
             mb_jrun(c, &n->body);
        whole = whole || c->flow == 0;
    }
    c->flow = 0;
    c->scope = outer;
    if (ok && !whole)
        ok = mb_jscope_push(c, outer) && mb_jrun(c, &n->other);
    c->scope = before;
    return ok;
}

static bool run_for(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval items;
    size_t depth = c->loop_depth;
    if (!mb_jeval(c, n->a, &items))
        return false;
    c->loop_depth = 0; /* depth counts recursion, not nesting */
    bool ok = loop_over(c, n, items, c->scope);
    c->loop_depth = depth;
    return ok;
}

bool mb_jloop_again(struct mb_jctx *c, const struct mb_jloop *l, struct mb_jval items, struct mb_jval *out)
{
    struct mb_bytes text = {0}, *before = c->out;
    size_t depth = c->loop_depth;
    if (!l->node->op)
        return mb_jfail(c, "The loop must have the 'recursive' marker to be called recursively.");
    if (++c->depth > MB_JDEPTH * 8)
        return mb_jfail(c, "calls and tags nested too deep");
    c->out = &text;
    c->loop_depth = l->depth0 + 1;
    bool ok = loop_over(c, l->node, items, l->scope);
    c->loop_depth = depth;
    c->out = before;
    c->depth--;
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

/* ------------------------------------------------------------------ macros */

static bool bind_extra(struct mb_jctx *c, const char *name, struct mb_jval v)
{
    for (size_t i = 0; i < c->t->names; i++) {
        if (mb_jis(c->t->name[i], name))
            return mb_jbind(c, c->scope, (int32_t)i, v);
    }
    return true; /* the template never mentions it */
}

static const struct mb_jval *keyword(const struct mb_jcall *a, struct mb_jstr name)
{
    for (size_t i = 0; i < a->nkw; i++) {
        struct mb_jstr k = a->kw[i].key.u.str;
        if (k.n == name.n && memcmp(k.s, name.s, k.n) == 0)
            return &a->kw[i].value;
    }
    return NULL;
}

static bool bind_parameter(struct mb_jctx *c, const struct mb_jnode *n, const struct mb_jcall *a, size_t i)
{
    const struct mb_jnode *p = n->kids.v[i];
    const struct mb_jval *given = i < a->n ? &a->v[i] : keyword(a, p->str);
    size_t required = n->kids.n - n->nkw;
    struct mb_jval v = mb_jundefined(p->str);
    if (given != NULL)
        v = *given;
    else if (i >= required && !mb_jeval(c, n->kw[i - required].value, &v))
        return false;
    return mb_jbind(c, c->scope, p->name, v);
}

/* What a macro is given beyond its parameters. */
static bool bind_rest(struct mb_jctx *c, const struct mb_jnode *n, const struct mb_jcall *a)
{
    struct mb_jval varargs, kwargs;
    if (!mb_jlist_new(c, MB_J_TUPLE, 0, &varargs) || !mb_jdict_new(c, MB_J_DICT, &kwargs))
        return false;
    for (size_t i = n->kids.n; i < a->n; i++) {
        if (!mb_jlist_put(c, varargs.u.list, a->v[i]))
            return false;
    }
    for (size_t i = 0; i < a->nkw; i++) {
        bool known = mb_jis(a->kw[i].key.u.str, "caller");
        for (size_t k = 0; k < n->kids.n; k++) {
            struct mb_jstr s = a->kw[i].key.u.str, p = n->kids.v[k]->str;
            known = known || (s.n == p.n && memcmp(s.s, p.s, s.n) == 0);
        }
        if (!known && !mb_jdict_put(c, kwargs.u.dict, a->kw[i].key, a->kw[i].value))
            return false;
    }
    const struct mb_jval *caller = keyword(a, (struct mb_jstr){"caller", 6});
    if (caller != NULL && !bind_extra(c, "caller", *caller))
        return false;
    return bind_extra(c, "varargs", varargs) && bind_extra(c, "kwargs", kwargs);
}

bool mb_jcall_macro(struct mb_jctx *c, const struct mb_jmacro *m, const struct mb_jcall *a,
                    struct mb_jval *out)
{
    struct mb_jscope *before = c->scope;
    size_t depth = c->loop_depth;
    int line = c->line;
    if (!mb_jscope_push(c, m->scope))
        return false;
    bool ok = bind_rest(c, m->node, a);
    for (size_t i = 0; i < m->node->kids.n && ok; i++)
        ok = bind_parameter(c, m->node, a, i);
    c->loop_depth = 0;
    ok = ok && mb_jcapture(c, &m->node->body, out);
    c->loop_depth = depth;
    c->scope = before;
    if (ok)
        c->line = line;
    return ok;
}

static bool new_macro(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out)
{
    struct mb_jmacro *m = mb_jalloc(&c->arena, sizeof *m);
    if (m == NULL)
        return mb_jno_memory(c);
    *m = (struct mb_jmacro){n, c->scope};
    *out = (struct mb_jval){.kind = MB_J_MACRO, .u.macro = m};
    return true;
}

static bool run_call_block(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval caller, out;
    struct mb_jnode call = *n->a, value = {.kind = MB_JN_CONST, .line = n->line};
    if (!new_macro(c, n, &caller))
        return false;
    value.value = caller;
    struct mb_jkw *kw = mb_jalloc(&c->arena, (call.nkw + 1) * sizeof *kw);
    if (kw == NULL)
        return mb_jno_memory(c);
    if (call.nkw > 0)
        memcpy(kw, call.kw, call.nkw * sizeof *kw);
    kw[call.nkw] = (struct mb_jkw){{"caller", 6}, &value};
    call.kw = kw;
    call.nkw++;
    return mb_jeval(c, &call, &out) && mb_jprint(c, out, c->out);
}

/* ------------------------------------------------------------------ all statements */

static bool run_if(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval v;
    if (!mb_jeval(c, n->a, &v))
        return false;
    if (mb_jtruth(v))
        return mb_jrun(c, &n->body);
    for (size_t i = 0; i < n->kids.n; i++) {
        if (!mb_jeval(c, n->kids.v[i]->a, &v))
            return false;
        if (mb_jtruth(v))
            return mb_jrun(c, &n->kids.v[i]->body);
    }
    return mb_jrun(c, &n->other);
}

static bool run_one(struct mb_jctx *c, const struct mb_jnode *n)
{
    struct mb_jval v;
    c->line = n->line;
    if (!mb_jstep(c, 1))
        return false;
    switch (n->kind) {
    case MB_JN_TEXT:
        return mb_jprint(c, mb_jstring(n->str.s, n->str.n), c->out);
    case MB_JN_OUTPUT:
        return mb_jeval(c, n->a, &v) && mb_jprint(c, v, c->out);
    case MB_JN_IF:
        return run_if(c, n);
    case MB_JN_FOR:
        return run_for(c, n);
    case MB_JN_SET:
        return mb_jeval(c, n->a, &v) && assign(c, n->b, v);
    case MB_JN_SETBLOCK:
        return run_set_block(c, n);
    case MB_JN_MACRO:
        return new_macro(c, n, &v) && mb_jbind(c, c->scope, n->name, v);
    case MB_JN_CALLBLOCK:
        return run_call_block(c, n);
    case MB_JN_FILTERBLOCK:
        return run_filter_block(c, n);
    case MB_JN_WITH:
        return run_with(c, n);
    case MB_JN_SCOPE:
        return mb_jrun(c, &n->body);
    case MB_JN_BREAK:
    case MB_JN_CONTINUE:
        c->flow = (int)n->kind;
        return true;
    default:
        return mb_jfail(c, "a value where a statement is needed");
    }
}
