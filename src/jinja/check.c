/* What is asked of a template's tree before it is used. */
#include <stdio.h>
#include "jinja/own.h"

/* ------------------------------------------------------------------ unknown filters and tests */

static enum mb_status check(struct mb_jtemplate *t, const struct mb_jnode *n, bool soft);

static enum mb_status check_all(struct mb_jtemplate *t, const struct mb_jlistn *l, bool soft)
{
    for (size_t i = 0; i < l->n; i++)
        MB_TRY(check(t, l->v[i], soft));
    return MB_OK;
}

/* Statements with a frame of their own end the shelter of a condition around them, as Jinja's compiler has
 * it. */
static bool own_frame(enum mb_jnode_kind k)
{
    return k == MB_JN_FOR || k == MB_JN_SETBLOCK || k == MB_JN_MACRO || k == MB_JN_CALLBLOCK ||
           k == MB_JN_FILTERBLOCK || k == MB_JN_WITH || k == MB_JN_SCOPE;
}

/* soft: a condition guards this place. */
static enum mb_status check(struct mb_jtemplate *t, const struct mb_jnode *n, bool soft)
{
    if (n == NULL)
        return MB_OK;
    bool unknown = (n->kind == MB_JN_FILTER || n->kind == MB_JN_TEST) && n->op < 0;
    if (unknown && !soft) {
        snprintf(t->err, t->cap, "%s: line %d: no %s named '%.*s'", t->what, n->line,
                 n->kind == MB_JN_FILTER ? "filter" : "test", (int)(n->str.n < 60 ? n->str.n : 60), n->str.s);
        return MB_MODEL;
    }
    soft = soft || n->kind == MB_JN_IF || n->kind == MB_JN_COND;
    MB_TRY(check(t, n->a, soft));
    MB_TRY(check(t, n->b, soft));
    MB_TRY(check(t, n->c, soft));
    MB_TRY(check_all(t, &n->kids, soft));
    for (size_t i = 0; i < n->nkw; i++)
        MB_TRY(check(t, n->kw[i].value, soft));
    soft = soft && !own_frame(n->kind);
    MB_TRY(check_all(t, &n->body, soft));
    return check_all(t, &n->other, soft);
}

enum mb_status mb_jinja_check(struct mb_jtemplate *t)
{
    return check_all(t, &t->body, false);
}

/* ------------------------------------------------------------------ content */

/* Names that hold the content of a message: "content", and those that are set to something made of it. */
struct walk {
    bool *holds; /* [names] */
    bool found, none, again;
};

static bool is_content(const struct walk *w, const struct mb_jnode *n)
{
    if (n == NULL)
        return false;
    switch (n->kind) {
    case MB_JN_NAME:
        return n->name >= 0 && (w->holds[n->name] || mb_jis(n->str, "content"));
    case MB_JN_ATTR:
        return mb_jis(n->str, "content");
    case MB_JN_ITEM:
        return n->b != NULL && n->b->kind == MB_JN_CONST && n->b->value.kind == MB_J_STR &&
               mb_jis(n->b->value.u.str, "content");
    case MB_JN_FILTER:
    case MB_JN_SLICE:
    case MB_JN_CALL:
        return is_content(w, n->a);
    case MB_JN_COND:
        return is_content(w, n->b) || is_content(w, n->c);
    default:
        return false;
    }
}

static bool is_none(const struct mb_jnode *n)
{
    return n->kind == MB_JN_CONST && n->value.kind == MB_J_NONE;
}

/* "x is none" and "x == none" of a content. */
static bool asks_none(const struct walk *w, const struct mb_jnode *n)
{
    if (n->kind == MB_JN_TEST)
        return mb_jis(n->str, "none") && is_content(w, n->a);
    return n->kind == MB_JN_COMPARE && n->kids.n == 2 &&
           ((is_content(w, n->kids.v[0]) && is_none(n->kids.v[1])) ||
            (is_none(n->kids.v[0]) && is_content(w, n->kids.v[1])));
}

static void walk(struct walk *w, const struct mb_jnode *n);

static void walk_all(struct walk *w, const struct mb_jlistn *l)
{
    for (size_t i = 0; i < l->n; i++)
        walk(w, l->v[i]);
}

static void walk(struct walk *w, const struct mb_jnode *n)
{
    if (n == NULL)
        return;
    if (n->kind == MB_JN_FOR)
        w->found = w->found || is_content(w, n->a);
    w->none = w->none || asks_none(w, n);
    if (n->kind == MB_JN_SET && n->b->kind == MB_JN_NAME && !w->holds[n->b->name] && is_content(w, n->a))
        w->holds[n->b->name] = w->again = true;
    walk(w, n->a);
    walk(w, n->b);
    walk(w, n->c);
    walk_all(w, &n->kids);
    walk_all(w, &n->body);
    walk_all(w, &n->other);
}

void mb_jinja_look(struct mb_jtemplate *t)
{
    bool holds[MB_JNAMES_MAX] = {false};
    struct walk w = {.holds = holds, .again = true};
    for (int rounds = 0; rounds < 8 && w.again; rounds++) {
        w.again = false;
        walk_all(&w, &t->body);
    }
    t->wants.walks_content = w.found;
    t->wants.asks_none = w.none;
}

struct mb_jinja_wants mb_jinja_wants(const struct mb_jtemplate *t)
{
    return t->wants;
}
