/* Jinja's statements: text, {{ }} and the {% %} tags become nodes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "jinja/parse.h"

static enum mb_status body(struct mb_jparser *p, const char *const *ends, struct mb_jlistn *out);

static enum mb_status end_tag(struct mb_jparser *p)
{
    if (mb_jp_peek(p)->kind != MB_JT_BLOCK_END)
        return mb_jp_bad(p, "expected %}");
    mb_jp_next(p);
    return MB_OK;
}

/* The tag that ended a body: its name has been peeked at; swallows it. */
static enum mb_status end_name(struct mb_jparser *p, const char *name)
{
    if (!mb_jp_skip_name(p, name))
        return mb_jp_bad(p, "an unexpected end tag");
    return end_tag(p);
}

static enum mb_status if_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_IF, out));
    MB_TRY(mb_jp_tuple(p, false, &(*out)->a));
    MB_TRY(end_tag(p));
    struct mb_jnode *n = *out;
    for (;;) {
        MB_TRY(body(p, ends, &n->body));
        if (!mb_jp_skip_name(p, "elif"))
            break;
        struct mb_jnode *next;
        MB_TRY(mb_jp_node(p, MB_JN_IF, &next));
        MB_TRY(mb_jp_tuple(p, false, &next->a));
        MB_TRY(end_tag(p));
        MB_TRY(mb_jp_push(p, &(*out)->kids, next)); /* kids: the elifs, tried in order */
        n = next;
    }
    if (mb_jp_skip_name(p, "else")) {
        MB_TRY(end_tag(p));
        MB_TRY(body(p, last, &(*out)->other));
    }
    return end_name(p, "endif");
}

/* The target of an assignment: a name, names, or an attribute of a namespace. */
static enum mb_status target(struct mb_jparser *p, bool attribute, struct mb_jnode **out)
{
    struct mb_jnode *tuple = NULL, *n;
    bool paren = mb_jp_skip_op(p, '(');
    for (;;) {
        if (mb_jp_peek(p)->kind != MB_JT_NAME)
            return mb_jp_bad(p, "expected a name to assign to");
        MB_TRY(mb_jp_node(p, MB_JN_NAME, &n));
        n->str = mb_jp_next(p)->str;
        MB_TRY(mb_jp_intern(p, n->str, &n->name));
        if (attribute && mb_jp_skip_op(p, '.')) {
            if (mb_jp_peek(p)->kind != MB_JT_NAME)
                return mb_jp_bad(p, "expected a name behind the dot");
            n->kind = MB_JN_ATTR;
            n->value = (struct mb_jval){.kind = MB_J_STR, .u.str = n->str};
            n->str = mb_jp_next(p)->str;
        }
        if (tuple == NULL && !mb_jp_is_op(p, ','))
            break;
        if (tuple == NULL)
            MB_TRY(mb_jp_node(p, MB_JN_TUPLE, &tuple));
        MB_TRY(mb_jp_push(p, &tuple->kids, n));
        if (!mb_jp_skip_op(p, ',') || mb_jp_is_name(p, "in"))
            break;
    }
    *out = tuple != NULL ? tuple : n;
    return paren ? mb_jp_expect(p, ')') : MB_OK;
}

static enum mb_status for_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_FOR, out));
    MB_TRY(target(p, false, &(*out)->b));
    if (!mb_jp_skip_name(p, "in"))
        return mb_jp_bad(p, "expected \"in\"");
    MB_TRY(mb_jp_tuple(p, false, &(*out)->a));
    if (mb_jp_skip_name(p, "if"))
        MB_TRY(mb_jp_expr(p, &(*out)->c));
    (*out)->op = mb_jp_skip_name(p, "recursive");
    MB_TRY(mb_jp_intern(p, (struct mb_jstr){"loop", 4}, &(*out)->name));
    MB_TRY(end_tag(p));
    p->loops++;
    MB_TRY(body(p, ends, &(*out)->body));
    p->loops--;
    if (mb_jp_skip_name(p, "else")) {
        MB_TRY(end_tag(p));
        MB_TRY(body(p, last, &(*out)->other));
    }
    return end_name(p, "endfor");
}

static enum mb_status set_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endset", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_SET, out));
    MB_TRY(target(p, true, &(*out)->b));
    if (mb_jp_skip_op(p, '=')) {
        MB_TRY(mb_jp_tuple(p, true, &(*out)->a));
        return end_tag(p);
    }
    (*out)->kind = MB_JN_SETBLOCK;
    while (mb_jp_skip_op(p, '|'))
        MB_TRY(mb_jp_filter(p, &(*out)->a));
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    return end_name(p, "endset");
}

/* (a, b=1): the names are kids, the defaults kw values of the last ones. */
static enum mb_status parameters(struct mb_jparser *p, struct mb_jnode *n)
{
    MB_TRY(mb_jp_expect(p, '('));
    while (!mb_jp_skip_op(p, ')')) {
        struct mb_jnode *name, *v;
        if (n->kids.n > 0)
            MB_TRY(mb_jp_expect(p, ','));
        if (mb_jp_peek(p)->kind != MB_JT_NAME)
            return mb_jp_bad(p, "expected the name of a parameter");
        MB_TRY(mb_jp_node(p, MB_JN_NAME, &name));
        name->str = mb_jp_next(p)->str;
        MB_TRY(mb_jp_intern(p, name->str, &name->name));
        MB_TRY(mb_jp_push(p, &n->kids, name));
        if (mb_jp_skip_op(p, '=')) {
            MB_TRY(mb_jp_expr(p, &v));
            MB_TRY(mb_jp_push_kw(p, n, name->str, v));
        } else if (n->nkw > 0) {
            return mb_jp_bad(p, "a parameter without a default behind one with a default");
        }
    }
    return MB_OK;
}

/* What a macro finds as its caller, varargs and kwargs are ordinary names. */
static enum mb_status macro_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endmacro", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_MACRO, out));
    if (mb_jp_peek(p)->kind != MB_JT_NAME)
        return mb_jp_bad(p, "expected the name of the macro");
    (*out)->str = mb_jp_next(p)->str;
    MB_TRY(mb_jp_intern(p, (*out)->str, &(*out)->name));
    MB_TRY(parameters(p, *out));
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    mb_jp_skip_name(p, "endmacro");
    if (mb_jp_peek(p)->kind == MB_JT_NAME)
        mb_jp_next(p);
    return end_tag(p);
}

static enum mb_status call_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endcall", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_CALLBLOCK, out));
    if (mb_jp_is_op(p, '('))
        MB_TRY(parameters(p, *out));
    MB_TRY(mb_jp_expr(p, &(*out)->a));
    if ((*out)->a->kind != MB_JN_CALL)
        return mb_jp_bad(p, "{% call %} without a call");
    MB_TRY(mb_jp_intern(p, (struct mb_jstr){"caller", 6}, &(*out)->name));
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    return end_name(p, "endcall");
}

static enum mb_status filter_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endfilter", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_FILTERBLOCK, out));
    do
        MB_TRY(mb_jp_filter(p, &(*out)->a));
    while (mb_jp_skip_op(p, '|'));
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    return end_name(p, "endfilter");
}

static enum mb_status with_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endwith", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_WITH, out));
    while (mb_jp_peek(p)->kind != MB_JT_BLOCK_END) {
        struct mb_jnode *name, *v;
        if ((*out)->kids.n > 0)
            MB_TRY(mb_jp_expect(p, ','));
        if (mb_jp_peek(p)->kind != MB_JT_NAME)
            return mb_jp_bad(p, "expected a name");
        MB_TRY(mb_jp_node(p, MB_JN_NAME, &name));
        name->str = mb_jp_next(p)->str;
        MB_TRY(mb_jp_intern(p, name->str, &name->name));
        MB_TRY(mb_jp_expect(p, '='));
        MB_TRY(mb_jp_expr(p, &v));
        MB_TRY(mb_jp_push(p, &(*out)->kids, name));
        MB_TRY(mb_jp_push(p, &(*out)->kids, v));
    }
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    return end_name(p, "endwith");
}

/* HF's mark around what the assistant says; it has no effect on the text. */
static enum mb_status generation_tag(struct mb_jparser *p, struct mb_jnode **out)
{
    static const char *const ends[] = {"endgeneration", NULL};
    MB_TRY(mb_jp_node(p, MB_JN_SCOPE, out));
    MB_TRY(end_tag(p));
    MB_TRY(body(p, ends, &(*out)->body));
    return end_name(p, "endgeneration");
}

static enum mb_status loop_control(struct mb_jparser *p, enum mb_jnode_kind kind, struct mb_jnode **out)
{
    if (p->loops == 0)
        return mb_jp_bad(p, "break or continue outside a loop");
    MB_TRY(mb_jp_node(p, kind, out));
    return end_tag(p);
}

static enum mb_status block(struct mb_jparser *p, struct mb_jnode **out)
{
    if (mb_jp_skip_name(p, "if"))
        return if_tag(p, out);
    if (mb_jp_skip_name(p, "for"))
        return for_tag(p, out);
    if (mb_jp_skip_name(p, "set"))
        return set_tag(p, out);
    if (mb_jp_skip_name(p, "macro"))
        return macro_tag(p, out);
    if (mb_jp_skip_name(p, "call"))
        return call_tag(p, out);
    if (mb_jp_skip_name(p, "filter"))
        return filter_tag(p, out);
    if (mb_jp_skip_name(p, "with"))
        return with_tag(p, out);
    if (mb_jp_skip_name(p, "generation"))
        return generation_tag(p, out);
    if (mb_jp_skip_name(p, "break"))
        return loop_control(p, MB_JN_BREAK, out);
    if (mb_jp_skip_name(p, "continue"))
        return loop_control(p, MB_JN_CONTINUE, out);
    return mb_jp_bad(p, "a tag that is not supported or not expected here");
}

static enum mb_status statement(struct mb_jparser *p, struct mb_jnode **out)
{
    const struct mb_jtoken *k = mb_jp_peek(p);
    if (k->kind == MB_JT_TEXT) {
        MB_TRY(mb_jp_node(p, MB_JN_TEXT, out));
        (*out)->str = mb_jp_next(p)->str;
        return MB_OK;
    }
    if (k->kind == MB_JT_VAR_BEGIN) {
        MB_TRY(mb_jp_node(p, MB_JN_OUTPUT, out));
        mb_jp_next(p);
        MB_TRY(mb_jp_tuple(p, true, &(*out)->a));
        if (mb_jp_peek(p)->kind != MB_JT_VAR_END)
            return mb_jp_bad(p, "expected }}");
        mb_jp_next(p);
        return MB_OK;
    }
    mb_jp_next(p); /* {% */
    return block(p, out);
}

/* Statements up to a tag named in ends, which is left at hand (behind its {%). ends NULL: to the end of the
 * template. */
static enum mb_status body(struct mb_jparser *p, const char *const *ends, struct mb_jlistn *out)
{
    if (++p->depth > MB_JDEPTH)
        return mb_jp_bad(p, "tags nested too deep");
    for (;;) {
        const struct mb_jtoken *k = mb_jp_peek(p);
        struct mb_jnode *n;
        if (k->kind == MB_JT_END) {
            p->depth--;
            return ends == NULL ? MB_OK : mb_jp_bad(p, "a tag that is not closed");
        }
        for (size_t i = 0; k->kind == MB_JT_BLOCK_BEGIN && ends != NULL && ends[i] != NULL; i++) {
            if (k[1].kind == MB_JT_NAME && mb_jis(k[1].str, ends[i])) {
                mb_jp_next(p);
                p->depth--;
                return MB_OK;
            }
        }
        MB_TRY(statement(p, &n));
        MB_TRY(mb_jp_push(p, out, n));
    }
}

enum mb_status mb_jinja_parse(struct mb_jtemplate *t)
{
    struct mb_jparser p = {.t = t};
    return body(&p, NULL, &t->body);
}

enum mb_status mb_jinja_compile(const char *source, size_t n, const char *what, char *err, size_t cap,
                                struct mb_jtemplate **out)
{
    struct mb_jtemplate *t = calloc(1, sizeof *t);
    if (t == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", what);
    t->arena.limit = (size_t)1 << 30;
    size_t len = strlen(what);
    char *name = mb_jalloc(&t->arena, len + 1);
    enum mb_status st = MB_OK;
    if (name == NULL)
        st = mb_error(MB_NO_MEMORY, "%s: no memory for a template", what);
    else
        t->what = memcpy(name, what, len);
    t->err = err;
    t->cap = cap;
    if (st == MB_OK && (n > MB_JSOURCE_MAX || memchr(source, 0, n) != NULL)) {
        snprintf(err, cap, "%s: a template of %zu bytes (at most %u are possible, without U+0000)", what, n,
                 MB_JSOURCE_MAX);
        st = MB_MODEL;
    }
    if (st == MB_OK)
        st = mb_jinja_lex(t, source, n);
    if (st == MB_OK)
        st = mb_jinja_parse(t);
    if (st == MB_OK)
        st = mb_jinja_check(t);
    if (st == MB_OK)
        mb_jinja_look(t);
    t->err = NULL;
    t->cap = 0;
    if (st == MB_OK)
        *out = t;
    else
        mb_jinja_destroy(t);
    return st;
}

void mb_jinja_destroy(struct mb_jtemplate *t)
{
    if (t == NULL)
        return;
    free(t->token);
    mb_jarena_fini(&t->arena);
    free(t);
}
