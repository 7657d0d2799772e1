/* Inside Jinja: values, tokens, the tree, and what its files share. Nothing outside src/jinja includes this
 * file. Local. */
#ifndef MB_JINJA_OWN_H
#define MB_JINJA_OWN_H
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "jinja/jinja.h"

/* ------------------------------------------------------------------ arena */

struct mb_jblock;
struct mb_jarena {
    struct mb_jblock *head;
    size_t total, limit; /* bytes */
};
/* 16-byte aligned, zeroed; NULL beyond the limit or without memory. n may be 0. */
void *mb_jalloc(struct mb_jarena *a, size_t n);
void mb_jarena_fini(struct mb_jarena *a);

/* ------------------------------------------------------------------ values */

enum mb_jkind {
    MB_J_UNDEFINED, /* str: the name that was looked up */
    MB_J_NONE,
    MB_J_BOOL,
    MB_J_INT,
    MB_J_FLOAT,
    MB_J_STR,
    MB_J_LIST,
    MB_J_TUPLE,
    MB_J_DICT,
    MB_J_NAMESPACE,
    MB_J_LOOP,
    MB_J_MACRO,
    MB_J_GLOBAL,    /* a built-in function, by number */
    MB_J_METHOD,    /* a method of a value, by name */
    MB_J_CYCLER,    /* a cycler or joiner */
    MB_J_GENERATOR, /* what map, select ... give: true whatever it holds, empty once it has been walked
                       through */
};
struct mb_jstr {
    const char *s; /* valid UTF-8 */
    size_t n;
};
struct mb_jval {
    enum mb_jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct mb_jstr str;
        struct mb_jlist *list; /* lists, tuples and generators */
        struct mb_jdict *dict; /* dicts and namespaces */
        struct mb_jloop *loop;
        struct mb_jmacro *macro;
        struct mb_jmethod *method;
        struct mb_jlist *items; /* cycler: [0] is the position */
    } u;
};
struct mb_jlist {
    struct mb_jval *v;
    size_t n, cap;
    bool group; /* what groupby gives: [0] is .grouper, [1] .list */
};
struct mb_jpair {
    struct mb_jval key, value;
};
struct mb_jdict {
    struct mb_jpair *p;
    size_t n, cap;
};
struct mb_jloop {
    struct mb_jval *items;
    size_t n, at, depth0;
    struct mb_jval changed;
    bool has_changed;
    const struct mb_jnode *node; /* for recursion */
    struct mb_jscope *scope;
};
struct mb_jscope {
    struct mb_jscope *parent;
    struct mb_jbinding {
        int32_t name;
        struct mb_jval value;
    } * v;
    size_t n, cap;
};
struct mb_jmacro {
    const struct mb_jnode *node;
    struct mb_jscope *scope;
};
struct mb_jmethod {
    struct mb_jval self;
    struct mb_jstr name;
};

/* ------------------------------------------------------------------ tokens and the tree */

enum mb_jtoken_kind {
    MB_JT_END,
    MB_JT_TEXT,
    MB_JT_VAR_BEGIN,
    MB_JT_VAR_END,
    MB_JT_BLOCK_BEGIN,
    MB_JT_BLOCK_END,
    MB_JT_NAME,
    MB_JT_STR,
    MB_JT_INT,
    MB_JT_FLOAT,
    MB_JT_OP, /* op: its characters, e.g. '=' << 8 | '=' */
};
struct mb_jtoken {
    enum mb_jtoken_kind kind;
    int line, op;
    struct mb_jstr str;
    int64_t i;
    double f;
};

enum mb_jnode_kind {
    MB_JN_CONST,
    MB_JN_NAME,
    MB_JN_LIST,
    MB_JN_TUPLE,
    MB_JN_DICT,   /* kids: key, value, key, value */
    MB_JN_ATTR,   /* a.name */
    MB_JN_ITEM,   /* a[b] */
    MB_JN_SLICE,  /* a[kids 0:1:2], each may be NULL */
    MB_JN_CALL,   /* a(kids, kw) */
    MB_JN_FILTER, /* a | number(kids, kw); a NULL in a filter block */
    MB_JN_TEST,   /* a is number(kids) */
    MB_JN_BINARY, /* op */
    MB_JN_UNARY,  /* op */
    MB_JN_AND,
    MB_JN_OR,
    MB_JN_NOT,
    MB_JN_COMPARE, /* kids: operands; ops: str, one character each */
    MB_JN_COND,    /* b if a else c */
    MB_JN_CONCAT,
    /* statements */
    MB_JN_TEXT,
    MB_JN_OUTPUT,
    MB_JN_IF,        /* a, body, other */
    MB_JN_FOR,       /* target b in a if c: body, other */
    MB_JN_SET,       /* target b = a */
    MB_JN_SETBLOCK,  /* target b = body through the filter a */
    MB_JN_MACRO,     /* name, kids: parameter names; kw values: defaults of the last ones */
    MB_JN_CALLBLOCK, /* a: the call; body with parameters kids */
    MB_JN_FILTERBLOCK,
    MB_JN_WITH,  /* kids: target, value, target, value */
    MB_JN_SCOPE, /* body as it is */
    MB_JN_BREAK,
    MB_JN_CONTINUE,
};
struct mb_jlistn {
    struct mb_jnode **v;
    size_t n, cap;
};
struct mb_jkw {
    struct mb_jstr name;
    struct mb_jnode *value;
};
struct mb_jnode {
    enum mb_jnode_kind kind;
    int line, op; /* operator; number of a filter or test; 1 for a recursive loop */
    int32_t name; /* interned */
    struct mb_jstr str;
    struct mb_jval value;
    struct mb_jnode *a, *b, *c;
    struct mb_jlistn kids, body, other;
    struct mb_jkw *kw;
    size_t nkw, kw_cap;
};
struct mb_jtemplate {
    struct mb_jarena arena;
    const char *what; /* for messages; owned by the arena */
    struct mb_jtoken *token;
    size_t tokens, token_cap;
    struct mb_jstr *name; /* interned names */
    size_t names, name_cap;
    struct mb_jlistn body;
    struct mb_jinja_wants wants;
    char *err; /* [cap] while it is compiled: where what is wrong with it goes */
    size_t cap;
};
#define MB_JNAMES_MAX 4096 /* different names of a template */
#define MB_JDEPTH 160      /* nesting of expressions and statements, and of calls */

enum mb_status mb_jinja_lex(struct mb_jtemplate *t, const char *source, size_t n);
enum mb_status mb_jinja_parse(struct mb_jtemplate *t);
/* Unknown filters and tests outside of conditions. */
enum mb_status mb_jinja_check(struct mb_jtemplate *t);
/* Fills wants. */
void mb_jinja_look(struct mb_jtemplate *t);
/* Number of a filter or test, or -1. */
int mb_jfilter_number(struct mb_jstr name);
int mb_jtest_number(struct mb_jstr name);

/* ------------------------------------------------------------------ a rendering */

struct mb_jctx {
    const struct mb_jtemplate *t;
    struct mb_jarena arena;
    struct mb_jscope *scope;
    struct mb_bytes *out; /* where output goes: the result, or a macro's text */
    size_t out_limit;
    int64_t steps; /* left */
    int depth, line;
    size_t loop_depth;
    int flow;    /* 0, or MB_JN_BREAK or MB_JN_CONTINUE on its way to the loop */
    int64_t now; /* strftime_now: seconds since 1970, UTC */
    enum mb_status st;
    char *err; /* [cap] the first error's text */
    size_t cap;
};
/* Records an error and returns false, so that "return mb_jfail(...)" ends every function. */
bool mb_jfail(struct mb_jctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool mb_jno_memory(struct mb_jctx *c);
/* Takes n steps; false when none are left. */
bool mb_jstep(struct mb_jctx *c, size_t n);

struct mb_jcall { /* arguments of a call, filter or test */
    struct mb_jval *v;
    size_t n;
    struct mb_jpair *kw; /* keys are strings */
    size_t nkw;
};

/* One account of bytes: texts outside the arena count in it while they live. put: false when it is full. */
bool mb_jput(struct mb_jctx *c, struct mb_bytes *out, const char *s, size_t n);
void mb_jdrop(struct mb_jctx *c, struct mb_bytes *text); /* frees a text that mb_jput filled */
/* Steps for looking at all of a value once, charged by mb_jeval for the operands and the result of every
 * operation, filter, test, call and comparison: these need not count what is linear in them. */
size_t mb_jweight(struct mb_jval v);

/* values (value.c) */
struct mb_jval mb_jstring(const char *s, size_t n); /* not copied */
struct mb_jval mb_jint(int64_t i);
struct mb_jval mb_jbool(bool b);
struct mb_jval mb_jundefined(struct mb_jstr name);
bool mb_jcopy(struct mb_jctx *c, const void *s, size_t n, struct mb_jval *out); /* a string, copied */
bool mb_jlist_new(struct mb_jctx *c, enum mb_jkind kind, size_t cap, struct mb_jval *out);
bool mb_jlist_put(struct mb_jctx *c, struct mb_jlist *l, struct mb_jval v);
bool mb_jdict_new(struct mb_jctx *c, enum mb_jkind kind, struct mb_jval *out);
bool mb_jdict_put(struct mb_jctx *c, struct mb_jdict *d, struct mb_jval key, struct mb_jval value);
const struct mb_jval *mb_jdict_get(struct mb_jctx *c, const struct mb_jdict *d, struct mb_jval key);
bool mb_jfrom_json(struct mb_jctx *c, const json_t *j, int depth, struct mb_jval *out);
bool mb_jtruth(struct mb_jval v);
bool mb_jequal(struct mb_jctx *c, struct mb_jval a, struct mb_jval b, int depth);
/* -1, 0, 1 in *out; an error where Python has no order. */
bool mb_jorder(struct mb_jctx *c, struct mb_jval a, struct mb_jval b, int *out);
bool mb_jlength(struct mb_jctx *c, struct mb_jval v, int64_t *out);
/* The elements of what can be iterated: lists, tuples, dict keys, characters of a string; nothing for
 * undefined. */
bool mb_jiterate(struct mb_jctx *c, struct mb_jval v, struct mb_jlist *out);
const char *mb_jtype(struct mb_jval v); /* Python's name of the type */
static inline bool mb_jis(struct mb_jstr s, const char *name)
{
    size_t n = 0;
    while (name[n] != 0 && n < s.n && name[n] == s.s[n])
        n++;
    return n == s.n && name[n] == 0;
}
static inline bool mb_jnumber(struct mb_jval v)
{
    return v.kind == MB_J_INT || v.kind == MB_J_FLOAT || v.kind == MB_J_BOOL;
}
static inline double mb_jreal(struct mb_jval v)
{
    return v.kind == MB_J_FLOAT ? v.u.f : v.kind == MB_J_BOOL ? (double)v.u.b : (double)v.u.i;
}
static inline int64_t mb_jwhole(struct mb_jval v)
{
    return v.kind == MB_J_BOOL ? (int64_t)v.u.b : v.u.i;
}

/* text forms (text.c) */
bool mb_jprint(struct mb_jctx *c, struct mb_jval v, struct mb_bytes *out); /* str(v) */
bool mb_jrepr(struct mb_jctx *c, struct mb_jval v, int depth, struct mb_bytes *out);
struct mb_jdump {
    int64_t indent; /* -1: none */
    struct mb_jstr item_sep, key_sep;
    bool ascii, sort;
};
bool mb_jtojson(struct mb_jctx *c, struct mb_jval v, const struct mb_jdump *how, int depth,
                struct mb_bytes *out);
void mb_jfloat_text(double f, char buf[40]); /* as Python's repr */

/* lookups and calls */
bool mb_jattr(struct mb_jctx *c, struct mb_jval v, struct mb_jstr name, struct mb_jval *out);
bool mb_jitem(struct mb_jctx *c, struct mb_jval v, struct mb_jval key, struct mb_jval *out);
bool mb_jslice(struct mb_jctx *c, struct mb_jval v, const struct mb_jval part[3], struct mb_jval *out);
bool mb_jcall_value(struct mb_jctx *c, struct mb_jval f, const struct mb_jcall *a, struct mb_jval *out);
bool mb_jcall_macro(struct mb_jctx *c, const struct mb_jmacro *m, const struct mb_jcall *a,
                    struct mb_jval *out);
bool mb_jcall_method(struct mb_jctx *c, const struct mb_jmethod *m, const struct mb_jcall *a,
                     struct mb_jval *out);
bool mb_jhas_method(struct mb_jval v, struct mb_jstr name);
bool mb_jstr_method(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, const struct mb_jcall *a,
                    struct mb_jval *out);
bool mb_jcall_global(struct mb_jctx *c, int64_t number, const struct mb_jcall *a, struct mb_jval *out);
int mb_jglobal_number(struct mb_jstr name); /* or -1 */
bool mb_jloop_attr(struct mb_jctx *c, struct mb_jloop *l, struct mb_jstr name, struct mb_jval *out);
bool mb_jfilter(struct mb_jctx *c, int number, struct mb_jval v, const struct mb_jcall *a,
                struct mb_jval *out);
bool mb_jtest(struct mb_jctx *c, int number, struct mb_jval v, const struct mb_jcall *a, bool *out);
/* An argument by position or keyword, or NULL. */
const struct mb_jval *mb_jarg(const struct mb_jcall *a, size_t at, const char *name);

/* expressions and statements */
bool mb_jeval(struct mb_jctx *c, const struct mb_jnode *n, struct mb_jval *out);
bool mb_jcontains(struct mb_jctx *c, struct mb_jval item, struct mb_jval in, bool *out);
bool mb_jbinary(struct mb_jctx *c, int op, struct mb_jval a, struct mb_jval b, struct mb_jval *out);
bool mb_jrun(struct mb_jctx *c, const struct mb_jlistn *body);
bool mb_jloop_again(struct mb_jctx *c, const struct mb_jloop *l, struct mb_jval items, struct mb_jval *out);
/* Runs body with output going to a new string. */
bool mb_jcapture(struct mb_jctx *c, const struct mb_jlistn *body, struct mb_jval *out);
bool mb_jscope_push(struct mb_jctx *c, struct mb_jscope *parent);
bool mb_jbind(struct mb_jctx *c, struct mb_jscope *s, int32_t name, struct mb_jval v);
#endif
