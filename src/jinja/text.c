/* Text forms of values: Python's str and repr, and json.dumps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "jinja/own.h"
#include "base/utf8.h"

bool mb_jput(struct mb_jctx *c, struct mb_bytes *out, const char *s, size_t n)
{
    if (out->len + n > c->out_limit)
        return mb_jfail(c, "gives more text than a template may (%zu MiB)", c->out_limit >> 20);
    if (c->arena.total > c->arena.limit || n > c->arena.limit - c->arena.total)
        return mb_jno_memory(c);
    if (mb_bytes_put(out, s, n) != MB_OK) {
        c->st = MB_NO_MEMORY;
        return false;
    }
    c->arena.total += n;
    return mb_jstep(c, n / 64);
}

void mb_jdrop(struct mb_jctx *c, struct mb_bytes *text)
{
    c->arena.total -= text->len;
    mb_bytes_fini(text);
}

static bool put(struct mb_jctx *c, struct mb_bytes *out, const char *s, size_t n)
{
    return mb_jput(c, out, s, n);
}

static bool puts_(struct mb_jctx *c, struct mb_bytes *out, const char *s)
{
    return put(c, out, s, strlen(s));
}

/* The shortest digits that read back as f; an exponent below 1e-4 and from 1e16 on. */
void mb_jfloat_text(double f, char buf[40])
{
    int digits = 1;
    if (isnan(f) || isinf(f)) {
        snprintf(buf, 40, "%s", isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    for (; digits < 17; digits++) {
        snprintf(buf, 40, "%.*e", digits - 1, f);
        if (strtod(buf, NULL) == f)
            break;
    }
    snprintf(buf, 40, "%.*e", digits - 1, f);
    int exp = atoi(strchr(buf, 'e') + 1);
    if (exp >= -4 && exp < 16) {
        int decimals = digits - 1 - exp;
        snprintf(buf, 40, "%.*f", decimals > 1 ? decimals : 1, f);
    }
}

static bool put_number(struct mb_jctx *c, struct mb_jval v, struct mb_bytes *out)
{
    char buf[40];
    if (v.kind == MB_J_INT)
        snprintf(buf, sizeof buf, "%lld", (long long)v.u.i);
    else
        mb_jfloat_text(v.u.f, buf);
    return puts_(c, out, buf);
}

bool mb_jprint(struct mb_jctx *c, struct mb_jval v, struct mb_bytes *out)
{
    if (v.kind == MB_J_STR)
        return put(c, out, v.u.str.s, v.u.str.n);
    if (v.kind == MB_J_UNDEFINED)
        return true;
    return mb_jrepr(c, v, 0, out);
}

static bool printable(uint32_t cp)
{
    if (cp == ' ')
        return true;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF && k != UTF8PROC_CATEGORY_CN &&
           k != UTF8PROC_CATEGORY_CO && k != UTF8PROC_CATEGORY_CS && k != UTF8PROC_CATEGORY_ZL &&
           k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS;
}

static bool repr_string(struct mb_jctx *c, struct mb_jstr s, struct mb_bytes *out)
{
    bool single = s.n > 0 && memchr(s.s, '\'', s.n) != NULL, twice = s.n > 0 && memchr(s.s, '"', s.n) != NULL;
    const char *quote = single && !twice ? "\"" : "'";
    char buf[16];
    if (!puts_(c, out, quote))
        return false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t k = (size_t)mb_utf8_next(s.s + i, &cp);
        const char *esc = cp == '\n'   ? "\\n"
                          : cp == '\r' ? "\\r"
                          : cp == '\t' ? "\\t"
                          : cp == '\\' ? "\\\\"
                                       : NULL;
        if (cp == (uint32_t)*quote)
            esc = "\\'";
        if (esc == NULL && !printable(cp)) {
            snprintf(buf, sizeof buf, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
            esc = buf;
        }
        if (!(esc != NULL ? puts_(c, out, esc) : put(c, out, s.s + i, k)))
            return false;
        i += k;
    }
    return puts_(c, out, quote);
}

static bool repr_items(struct mb_jctx *c, struct mb_jval v, int depth, struct mb_bytes *out)
{
    bool tuple = v.kind == MB_J_TUPLE;
    if (!puts_(c, out, tuple ? "(" : "["))
        return false;
    for (size_t i = 0; i < v.u.list->n; i++) {
        if ((i > 0 && !puts_(c, out, ", ")) || !mb_jrepr(c, v.u.list->v[i], depth + 1, out))
            return false;
    }
    return puts_(c, out, !tuple ? "]" : v.u.list->n == 1 ? ",)" : ")");
}

static bool repr_dict(struct mb_jctx *c, struct mb_jval v, int depth, struct mb_bytes *out)
{
    if (!puts_(c, out, "{"))
        return false;
    for (size_t i = 0; i < v.u.dict->n; i++) {
        const struct mb_jpair *p = &v.u.dict->p[i];
        if ((i > 0 && !puts_(c, out, ", ")) || !mb_jrepr(c, p->key, depth + 1, out) || !puts_(c, out, ": ") ||
            !mb_jrepr(c, p->value, depth + 1, out))
            return false;
    }
    return puts_(c, out, "}");
}

bool mb_jrepr(struct mb_jctx *c, struct mb_jval v, int depth, struct mb_bytes *out)
{
    if (depth > MB_JDEPTH)
        return mb_jfail(c, "prints a value nested deeper than %d levels", MB_JDEPTH);
    switch (v.kind) {
    case MB_J_UNDEFINED:
        return puts_(c, out, "Undefined");
    case MB_J_NONE:
        return puts_(c, out, "None");
    case MB_J_BOOL:
        return puts_(c, out, v.u.b ? "True" : "False");
    case MB_J_INT:
    case MB_J_FLOAT:
        return put_number(c, v, out);
    case MB_J_STR:
        return repr_string(c, v.u.str, out);
    case MB_J_LIST:
    case MB_J_TUPLE:
        return repr_items(c, v, depth, out);
    case MB_J_DICT:
        return repr_dict(c, v, depth, out);
    default:
        return mb_jfail(c, "prints a %s, which has no stable text", mb_jtype(v));
    }
}

/* ------------------------------------------------------------------ JSON */

static bool json_string_text(struct mb_jctx *c, struct mb_jstr s, bool ascii, struct mb_bytes *out)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char buf[16];
    if (!puts_(c, out, "\""))
        return false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t k = (size_t)mb_utf8_next(s.s + i, &cp);
        const char *name = names;
        while (*name != 0 && (uint32_t)*name != cp)
            name += 2;
        buf[0] = 0;
        if (cp != 0 && *name != 0)
            snprintf(buf, sizeof buf, "\\%c", name[1]);
        else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000))
            snprintf(buf, sizeof buf, "\\u%04x", cp);
        else if (ascii && cp >= 0x10000)
            snprintf(buf, sizeof buf, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
        if (!(buf[0] != 0 ? puts_(c, out, buf) : put(c, out, s.s + i, k)))
            return false;
        i += k;
    }
    return puts_(c, out, "\"");
}

static bool line(struct mb_jctx *c, const struct mb_jdump *how, int depth, struct mb_bytes *out)
{
    if (how->indent < 0)
        return true;
    if (!puts_(c, out, "\n"))
        return false;
    for (int64_t i = 0; i < how->indent * depth; i++) {
        if (!puts_(c, out, " "))
            return false;
    }
    return true;
}

static bool json_list(struct mb_jctx *c, const struct mb_jlist *l, const struct mb_jdump *how, int depth,
                      struct mb_bytes *out)
{
    if (l->n == 0)
        return puts_(c, out, "[]");
    if (!puts_(c, out, "["))
        return false;
    for (size_t i = 0; i < l->n; i++) {
        if ((i > 0 && !put(c, out, how->item_sep.s, how->item_sep.n)) || !line(c, how, depth + 1, out) ||
            !mb_jtojson(c, l->v[i], how, depth + 1, out))
            return false;
    }
    return line(c, how, depth, out) && puts_(c, out, "]");
}

/* Keys that are no strings become some. */
static bool json_key(struct mb_jctx *c, struct mb_jval key, const struct mb_jdump *how, struct mb_bytes *out)
{
    if (key.kind == MB_J_STR)
        return json_string_text(c, key.u.str, how->ascii, out);
    if (!mb_jnumber(key) && key.kind != MB_J_NONE)
        return mb_jfail(c, "tojson: keys must be str, int, float, bool or None, not %s", mb_jtype(key));
    return puts_(c, out, "\"") && mb_jtojson(c, key, how, 0, out) && puts_(c, out, "\"");
}

static int by_key(const void *a, const void *b)
{
    const struct mb_jpair *x = a, *y = b;
    struct mb_jstr s = x->key.u.str, t = y->key.u.str;
    size_t n = s.n < t.n ? s.n : t.n;
    int k = n > 0 ? memcmp(s.s, t.s, n) : 0;
    return k != 0 ? k : (s.n > t.n) - (s.n < t.n);
}

static bool sorted(struct mb_jctx *c, const struct mb_jdict *d, struct mb_jpair **out)
{
    *out = mb_jalloc(&c->arena, d->n * sizeof **out);
    if (*out == NULL)
        return mb_jno_memory(c);
    for (size_t i = 0; i < d->n; i++) {
        if (d->p[i].key.kind != MB_J_STR)
            return mb_jfail(c, "tojson: sort_keys needs keys that are strings");
        (*out)[i] = d->p[i];
    }
    if (d->n > 0)
        qsort(*out, d->n, sizeof **out, by_key);
    return mb_jstep(c, d->n);
}

static bool json_dict(struct mb_jctx *c, const struct mb_jdict *d, const struct mb_jdump *how, int depth,
                      struct mb_bytes *out)
{
    struct mb_jpair *p = d->p;
    if (d->n == 0)
        return puts_(c, out, "{}");
    if ((how->sort && !sorted(c, d, &p)) || !puts_(c, out, "{"))
        return false;
    for (size_t i = 0; i < d->n; i++) {
        if ((i > 0 && !put(c, out, how->item_sep.s, how->item_sep.n)) || !line(c, how, depth + 1, out) ||
            !json_key(c, p[i].key, how, out) || !put(c, out, how->key_sep.s, how->key_sep.n) ||
            !mb_jtojson(c, p[i].value, how, depth + 1, out))
            return false;
    }
    return line(c, how, depth, out) && puts_(c, out, "}");
}

static bool real_text(struct mb_jctx *c, double f, struct mb_bytes *out)
{
    char buf[40];
    if (isnan(f))
        return puts_(c, out, "NaN");
    if (isinf(f))
        return puts_(c, out, f > 0 ? "Infinity" : "-Infinity");
    mb_jfloat_text(f, buf);
    return puts_(c, out, buf);
}

bool mb_jtojson(struct mb_jctx *c, struct mb_jval v, const struct mb_jdump *how, int depth,
                struct mb_bytes *out)
{
    if (depth > MB_JDEPTH)
        return mb_jfail(c, "tojson of a value nested deeper than %d levels", MB_JDEPTH);
    switch (v.kind) {
    case MB_J_NONE:
        return puts_(c, out, "null");
    case MB_J_BOOL:
        return puts_(c, out, v.u.b ? "true" : "false");
    case MB_J_INT:
        return put_number(c, v, out);
    case MB_J_FLOAT:
        return real_text(c, v.u.f, out);
    case MB_J_STR:
        return json_string_text(c, v.u.str, how->ascii, out);
    case MB_J_LIST:
    case MB_J_TUPLE:
        return json_list(c, v.u.list, how, depth, out);
    case MB_J_DICT:
        return json_dict(c, v.u.dict, how, depth, out);
    default:
        return mb_jfail(c, "Object of type %s is not JSON serializable", mb_jtype(v));
    }
}
