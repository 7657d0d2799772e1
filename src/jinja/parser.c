/* What the parser stands on: the token at hand, nodes, lists of nodes, interned names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "jinja/parse.h"

enum mb_status mb_jp_bad(const struct mb_jparser *p, const char *why)
{
    const struct mb_jtoken *k = mb_jp_peek(p);
    snprintf(p->t->err, p->t->cap, "%s: line %d: %s (at %s%.*s)", p->t->what, k->line, why,
             k->kind == MB_JT_NAME || k->kind == MB_JT_STR ? "" : "an operator or the end of the tag",
             (int)(k->str.n < 40 ? k->str.n : 40), k->str.s == NULL ? "" : k->str.s);
    return MB_MODEL;
}

const struct mb_jtoken *mb_jp_peek(const struct mb_jparser *p)
{
    return &p->t->token[p->at];
}

const struct mb_jtoken *mb_jp_next(struct mb_jparser *p)
{
    const struct mb_jtoken *k = &p->t->token[p->at];
    if (k->kind != MB_JT_END)
        p->at++;
    return k;
}

bool mb_jp_is_op(const struct mb_jparser *p, int op)
{
    return mb_jp_peek(p)->kind == MB_JT_OP && mb_jp_peek(p)->op == op;
}

bool mb_jp_skip_op(struct mb_jparser *p, int op)
{
    bool yes = mb_jp_is_op(p, op);
    p->at += yes;
    return yes;
}

bool mb_jp_is_name(const struct mb_jparser *p, const char *name)
{
    return mb_jp_peek(p)->kind == MB_JT_NAME && mb_jis(mb_jp_peek(p)->str, name);
}

bool mb_jp_skip_name(struct mb_jparser *p, const char *name)
{
    bool yes = mb_jp_is_name(p, name);
    p->at += yes;
    return yes;
}

enum mb_status mb_jp_expect(struct mb_jparser *p, int op)
{
    if (mb_jp_skip_op(p, op))
        return MB_OK;
    char why[32] = "expected '?'";
    why[10] = (char)op;
    return mb_jp_bad(p, why);
}

enum mb_status mb_jp_node(struct mb_jparser *p, enum mb_jnode_kind kind, struct mb_jnode **out)
{
    struct mb_jnode *n = mb_jalloc(&p->t->arena, sizeof *n);
    if (n == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", p->t->what);
    n->kind = kind;
    n->line = mb_jp_peek(p)->line;
    n->name = -1;
    *out = n;
    return MB_OK;
}

/* Doubles an arena array. */
static enum mb_status widen(struct mb_jparser *p, void *array, size_t *cap, size_t n, size_t size)
{
    void **v = array;
    if (n < *cap)
        return MB_OK;
    size_t more = *cap == 0 ? 4 : *cap * 2;
    void *q = mb_jalloc(&p->t->arena, more * size);
    if (q == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", p->t->what);
    if (n > 0)
        memcpy(q, *v, n * size);
    *v = q;
    *cap = more;
    return MB_OK;
}

enum mb_status mb_jp_push(struct mb_jparser *p, struct mb_jlistn *l, struct mb_jnode *n)
{
    MB_TRY(widen(p, &l->v, &l->cap, l->n, sizeof *l->v));
    l->v[l->n++] = n;
    return MB_OK;
}

enum mb_status mb_jp_push_kw(struct mb_jparser *p, struct mb_jnode *n, struct mb_jstr name,
                             struct mb_jnode *value)
{
    MB_TRY(widen(p, &n->kw, &n->kw_cap, n->nkw, sizeof *n->kw));
    n->kw[n->nkw++] = (struct mb_jkw){name, value};
    return MB_OK;
}

enum mb_status mb_jp_intern(struct mb_jparser *p, struct mb_jstr s, int32_t *out)
{
    struct mb_jtemplate *t = p->t;
    for (size_t i = 0; i < t->names; i++) {
        if (t->name[i].n == s.n && memcmp(t->name[i].s, s.s, s.n) == 0) {
            *out = (int32_t)i;
            return MB_OK;
        }
    }
    if (t->names == MB_JNAMES_MAX)
        return mb_jp_bad(p, "more than 4096 different names");
    MB_TRY(widen(p, &t->name, &t->name_cap, t->names, sizeof *t->name));
    t->name[t->names] = s;
    *out = (int32_t)t->names++;
    return MB_OK;
}
