/* Python's two ways of formatting text: "..." % values and "...".format(values). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jinja/own.h"
#include "jinja/filters.h"
#include "jinja/strings.h"
#include "base/utf8.h"

#define WIDTH_MAX 10000

struct spec {
    char fill[4];
    size_t fill_len;
    char align; /* '<', '>', '^', '=', 0: by type */
    char sign;  /* '+', ' ', 0 */
    bool alt, zero, comma;
    int64_t width, precision; /* precision -1: none */
    char type;                /* 0: none */
};

/* ------------------------------------------------------------------ one value */

static int64_t characters(struct mb_jstr s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((uint8_t)s.s[i] & 0xc0) != 0x80;
    return n;
}

static bool fill_up(struct mb_jctx *c, const struct spec *f, int64_t n, struct mb_bytes *out)
{
    for (int64_t i = 0; i < n; i++)
        if (!mb_jput(c, out, f->fill, f->fill_len))
            return false;
    return true;
}

/* head: a sign or prefix that "=" keeps in front of the filling. */
static bool put_padded(struct mb_jctx *c, const struct spec *f, struct mb_jstr head, struct mb_jstr body,
                       char align, struct mb_bytes *out)
{
    int64_t pad = f->width - characters(head) - characters(body);
    pad = pad > 0 ? pad : 0;
    int64_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0, middle = align == '=' ? pad : 0;
    return fill_up(c, f, left, out) && mb_jput(c, out, head.s, head.n) && fill_up(c, f, middle, out) &&
           mb_jput(c, out, body.s, body.n) && fill_up(c, f, pad - left - middle, out);
}

static bool put_text(struct mb_jctx *c, const struct spec *f, struct mb_jstr s, char align,
                     struct mb_bytes *out)
{
    size_t end = 0;
    for (int64_t k = 0; f->precision >= 0 && end < s.n && k < f->precision; k++) {
        uint32_t cp;
        end += (size_t)mb_utf8_next(s.s + end, &cp);
    }
    if (f->precision >= 0)
        s.n = end;
    return put_padded(c, f, (struct mb_jstr){"", 0}, s, f->align ? f->align : align, out);
}

/* Thousands separated by commas in the digits before a point or an exponent. */
static void separate(char *digits, size_t cap)
{
    char buf[512];
    size_t whole = strspn(digits, "0123456789"), n = 0;
    if (strlen(digits) + whole / 3 + 1 > sizeof buf || strlen(digits) + whole / 3 + 1 > cap)
        return;
    for (size_t i = 0; i < whole; i++) {
        if (i > 0 && (whole - i) % 3 == 0)
            buf[n++] = ',';
        buf[n++] = digits[i];
    }
    snprintf(buf + n, sizeof buf - n, "%s", digits + whole);
    snprintf(digits, cap, "%s", buf);
}

static void whole_digits(uint64_t x, char type, char *buf)
{
    int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10, n = 0;
    char back[72];
    do
        back[n++] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[x % (uint64_t)base];
    while ((x /= (uint64_t)base) > 0);
    for (int i = 0; i < n; i++)
        buf[i] = back[n - 1 - i];
    buf[n] = 0;
}

static bool put_number(struct mb_jctx *c, const struct spec *f, struct mb_jval v, struct mb_bytes *out)
{
    char digits[640], head[8] = "", type = f->type, form[16];
    bool real = v.kind == MB_J_FLOAT || (type != 0 && strchr("eEfFgG%", type) != NULL), minus;
    if (real) {
        double x = mb_jreal(v) * (type == '%' ? 100 : 1);
        minus = signbit(x) && !isnan(x);
        int64_t p = f->precision >= 0 ? f->precision : 6;
        if (p > 300)
            return mb_jfail(c, "a precision of more than 300 digits");
        snprintf(form, sizeof form, "%%.*%c", type == '%' || type == 0 ? (type == 0 ? 'g' : 'f') : type);
        if (type == 0 && f->precision < 0)
            mb_jfloat_text(fabs(x), digits);
        else
            snprintf(digits, sizeof digits, form, (int)p, fabs(x));
        if (type == '%')
            snprintf(digits + strlen(digits), 2, "%%");
    } else {
        int64_t x = mb_jwhole(v);
        minus = x < 0;
        whole_digits(minus ? 0 - (uint64_t)x : (uint64_t)x, type, digits);
        if (f->alt && (type == 'x' || type == 'X' || type == 'o' || type == 'b'))
            snprintf(head, sizeof head, "0%c", type);
    }
    if (f->comma)
        separate(digits, sizeof digits);
    char sign[12];
    snprintf(sign, sizeof sign, "%s%s", minus ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "", head);
    return put_padded(c, f, (struct mb_jstr){sign, strlen(sign)}, (struct mb_jstr){digits, strlen(digits)},
                      f->align  ? f->align
                      : f->zero ? '='
                                : '>',
                      out);
}

/* ------------------------------------------------------------------ % */

static bool percent_width(struct mb_jctx *c, struct mb_jstr s, size_t *at, int64_t *out)
{
    *out = 0;
    for (; *at < s.n && s.s[*at] >= '0' && s.s[*at] <= '9'; (*at)++) {
        *out = *out * 10 + (s.s[*at] - '0');
        if (*out > WIDTH_MAX)
            return mb_jfail(c, "a width of more than %d characters", WIDTH_MAX);
    }
    return true;
}

static bool percent_spec(struct mb_jctx *c, struct mb_jstr s, size_t *at, struct spec *f)
{
    *f = (struct spec){.fill = " ", .fill_len = 1, .precision = -1};
    for (; *at < s.n && strchr("-+ #0", s.s[*at]) != NULL && s.s[*at] != 0; (*at)++) {
        char k = s.s[*at];
        f->align = k == '-' ? '<' : f->align;
        f->sign = k == '+' || (k == ' ' && f->sign == 0) ? k : f->sign;
        f->alt |= k == '#';
        f->zero |= k == '0';
    }
    if (!percent_width(c, s, at, &f->width))
        return false;
    if (*at < s.n && s.s[*at] == '.') {
        (*at)++;
        if (!percent_width(c, s, at, &f->precision))
            return false;
    }
    while (*at < s.n && strchr("hlL", s.s[*at]) != NULL && s.s[*at] != 0)
        (*at)++;
    if (*at >= s.n)
        return mb_jfail(c, "incomplete format");
    f->type = s.s[(*at)++];
    return true;
}

static bool percent_one(struct mb_jctx *c, struct spec *f, struct mb_jval v, struct mb_bytes *out)
{
    struct mb_bytes text = {0};
    bool ok = true, number = strchr("diouxXeEfFgG", f->type) != NULL && f->type != 0;
    if (number && !mb_jnumber(v))
        return mb_jfail(c, "%%%c format: a real number is required, not %s", f->type, mb_jtype(v));
    if (number && strchr("diouxX", f->type) != NULL && v.kind == MB_J_FLOAT) {
        if (!(fabs(v.u.f) < 9e18) || strchr("oxX", f->type) != NULL)
            return mb_jfail(c, "%%%c format: an integer is required, not float", f->type);
        v = mb_jint((int64_t)v.u.f);
    }
    if (number) {
        f->type = strchr("diu", f->type) != NULL ? 'd' : f->type;
        if (f->zero && f->align == 0)
            f->fill[0] = '0';
        f->zero = f->zero && f->align == 0;
        return put_number(c, f, v, out);
    }
    if (f->type == 'r' || f->type == 'a')
        ok = mb_jrepr(c, v, 0, &text);
    else if (f->type == 's')
        ok = mb_jprint(c, v, &text);
    else
        ok = mb_jfail(c, "unsupported format character '%c'", f->type);
    ok = ok && put_text(c, f, (struct mb_jstr){text.data != NULL ? (const char *)text.data : "", text.len},
                        '>', out);
    mb_jdrop(c, &text);
    return ok;
}

/* The value of one place: by name from a dict, or the next one. */
static bool percent_value(struct mb_jctx *c, struct mb_jstr s, size_t *at, struct mb_jval values,
                          size_t *used, struct mb_jval *out, bool *named)
{
    const char *end = *at < s.n && s.s[*at] == '(' ? memchr(s.s + *at, ')', s.n - *at) : NULL;
    *named = end != NULL;
    if (end == NULL)
        return true;
    struct mb_jval key = mb_jstring(s.s + *at + 1, (size_t)(end - s.s) - *at - 1);
    if (values.kind != MB_J_DICT)
        return mb_jfail(c, "format requires a mapping");
    const struct mb_jval *found = mb_jdict_get(c, values.u.dict, key);
    if (found == NULL)
        return mb_jfail(c, "'%.*s' is not there to be formatted", (int)(key.u.str.n < 60 ? key.u.str.n : 60),
                        key.u.str.s);
    *out = *found;
    *used = 1;
    *at = (size_t)(end - s.s) + 1;
    return true;
}

bool mb_jpercent(struct mb_jctx *c, struct mb_jstr s, struct mb_jval values, struct mb_jval *out)
{
    struct mb_bytes text = {0};
    bool ok = true, tuple = values.kind == MB_J_TUPLE, named;
    size_t used = 0, have = tuple ? values.u.list->n : 1;
    for (size_t i = 0; i < s.n && ok;) {
        const char *hit = memchr(s.s + i, '%', s.n - i);
        size_t upto = hit != NULL ? (size_t)(hit - s.s) : s.n;
        struct mb_jval v = {0};
        struct spec f;
        ok = mb_jput(c, &text, s.s + i, upto - i);
        i = upto + 1;
        if (hit == NULL || !ok)
            break;
        ok = percent_value(c, s, &i, values, &used, &v, &named) && percent_spec(c, s, &i, &f);
        if (ok && f.type == '%') {
            ok = mb_jput(c, &text, "%", 1);
            continue;
        }
        if (ok && !named && used >= have)
            ok = mb_jfail(c, "not enough arguments for format string");
        if (ok && !named)
            v = tuple ? values.u.list->v[used] : values;
        used += !named;
        ok = ok && percent_one(c, &f, v, &text);
    }
    if (ok && used < have && values.kind != MB_J_DICT && !(values.kind == MB_J_LIST && used > 0))
        ok = mb_jfail(c, "not all arguments converted during string formatting");
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

/* ------------------------------------------------------------------ str.format */

/* A format specification: [[fill]align][sign][#][0][width][,][.precision][type] */
static bool brace_spec(struct mb_jctx *c, struct mb_jstr s, struct spec *f)
{
    size_t at = 0, first = 0;
    uint32_t cp;
    *f = (struct spec){.fill = " ", .fill_len = 1, .precision = -1};
    if (s.n > 0)
        first = (size_t)mb_utf8_next(s.s, &cp);
    if (first > 0 && first < s.n && strchr("<>^=", s.s[first]) != NULL) {
        memcpy(f->fill, s.s, first);
        f->fill_len = first;
        f->align = s.s[first];
        at = first + 1;
    } else if (s.n > 0 && s.s[0] != 0 && strchr("<>^=", s.s[0]) != NULL) {
        f->align = s.s[at++];
    }
    if (at < s.n && (s.s[at] == '+' || s.s[at] == '-' || s.s[at] == ' '))
        f->sign = s.s[at++];
    if (at < s.n && s.s[at] == '#') {
        f->alt = true;
        at++;
    }
    if (at < s.n && s.s[at] == '0') {
        f->zero = true;
        f->fill[0] = f->align == 0 ? '0' : f->fill[0];
        at++;
    }
    if (!percent_width(c, s, &at, &f->width))
        return false;
    if (at < s.n && s.s[at] == ',') {
        f->comma = true;
        at++;
    }
    if (at < s.n && s.s[at] == '.') {
        at++;
        if (!percent_width(c, s, &at, &f->precision))
            return false;
    }
    if (at < s.n)
        f->type = s.s[at++];
    return at == s.n ? true : mb_jfail(c, "Invalid format specifier");
}

static bool brace_one(struct mb_jctx *c, struct mb_jval v, char conversion, struct mb_jstr spec,
                      struct mb_bytes *out)
{
    struct mb_bytes text = {0};
    struct spec f;
    bool number = mb_jnumber(v) && conversion == 0, ok = brace_spec(c, spec, &f);
    if (ok && number && (v.kind != MB_J_BOOL || f.type != 0)) {
        if (f.type == 's' || (v.kind == MB_J_FLOAT && f.type != 0 && strchr("eEfFgG%", f.type) == NULL) ||
            (f.type != 0 && strchr("bdoxXeEfFgG%", f.type) == NULL))
            return mb_jfail(c, "Unknown format code '%c' for object of type '%s'", f.type, mb_jtype(v));
        return put_number(c, &f, v, out);
    }
    if (ok && f.type != 0 && f.type != 's')
        return mb_jfail(c, "Unknown format code '%c' for object of type '%s'", f.type, mb_jtype(v));
    if (ok && spec.n > 0 && conversion == 0 && v.kind != MB_J_STR && v.kind != MB_J_BOOL)
        return mb_jfail(c, "unsupported format string passed to %s.__format__", mb_jtype(v));
    ok = ok && (conversion == 'r' ? mb_jrepr(c, v, 0, &text) : mb_jprint(c, v, &text)) &&
         put_text(c, &f, (struct mb_jstr){text.data != NULL ? (const char *)text.data : "", text.len}, '<',
                  out);
    mb_jdrop(c, &text);
    return ok;
}

/* The value a field names: a number or a word, then .attribute and [item]. */
static bool field_value(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, size_t *next,
                        struct mb_jval *out)
{
    size_t k = 0, number = 0;
    while (k < s.n && s.s[k] != '.' && s.s[k] != '[')
        k++;
    bool digits = k > 0 && k < 9;
    for (size_t i = 0; i < k && digits; i++) {
        digits = s.s[i] >= '0' && s.s[i] <= '9';
        number = number * 10 + (size_t)(s.s[i] - '0');
    }
    const struct mb_jval *v = NULL;
    if (k == 0)
        number = (*next)++;
    if ((k == 0 || digits) && number < a->n)
        v = &a->v[number];
    for (size_t i = 0; i < a->nkw && k > 0 && !digits; i++) {
        struct mb_jstr key = a->kw[i].key.u.str;
        v = key.n == k && memcmp(key.s, s.s, k) == 0 ? &a->kw[i].value : v;
    }
    if (v == NULL)
        return mb_jfail(c, "there is nothing to format for '{%.*s}'", (int)(s.n < 60 ? s.n : 60), s.s);
    *out = *v;
    for (bool ok = true; ok && k < s.n;) {
        size_t end = k + 1;
        if (s.s[k] == '.') {
            while (end < s.n && s.s[end] != '.' && s.s[end] != '[')
                end++;
            ok = mb_jattr(c, *out, (struct mb_jstr){s.s + k + 1, end - k - 1}, out);
        } else {
            while (end < s.n && s.s[end] != ']')
                end++;
            if (end == s.n)
                return mb_jfail(c, "expected '}' before end of string");
            int64_t at = 0;
            bool whole = end - k - 1 > 0 && end - k - 1 < 10;
            for (size_t i = k + 1; i < end && whole; i++) {
                whole = s.s[i] >= '0' && s.s[i] <= '9';
                at = at * 10 + (s.s[i] - '0');
            }
            ok = mb_jitem(c, *out, whole ? mb_jint(at) : mb_jstring(s.s + k + 1, end - k - 1), out);
            end++;
        }
        k = end;
        if (!ok)
            return false;
    }
    return true;
}

/* What is between the braces: name[!conversion][:spec]. */
static bool field(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, size_t *next,
                  struct mb_bytes *out)
{
    const char *colon = s.n > 0 ? memchr(s.s, ':', s.n) : NULL;
    struct mb_jstr name = {s.s, colon != NULL ? (size_t)(colon - s.s) : s.n};
    struct mb_jstr spec = {colon != NULL ? colon + 1 : "", colon != NULL ? s.n - name.n - 1 : 0};
    char conversion = 0;
    struct mb_jval v;
    if (name.n >= 2 && name.s[name.n - 2] == '!') {
        conversion = name.s[name.n - 1];
        name.n -= 2;
    }
    if (conversion != 0 && conversion != 's' && conversion != 'r')
        return mb_jfail(c, "Unknown conversion specifier '%c'", conversion);
    return field_value(c, name, a, next, &v) && brace_one(c, v, conversion, spec, out);
}

bool mb_jformat(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, struct mb_jval *out)
{
    struct mb_bytes text = {0};
    size_t next = 0, i = 0;
    bool ok = true;
    while (i < s.n && ok) {
        size_t from = i;
        while (i < s.n && s.s[i] != '{' && s.s[i] != '}')
            i++;
        ok = mb_jput(c, &text, s.s + from, i - from);
        if (i == s.n || !ok)
            break;
        char brace = s.s[i];
        if (i + 1 < s.n && s.s[i + 1] == brace) {
            ok = mb_jput(c, &text, &brace, 1);
            i += 2;
            continue;
        }
        const char *end = brace == '{' ? memchr(s.s + i, '}', s.n - i) : NULL;
        if (end == NULL) {
            ok = mb_jfail(c, "Single '%c' encountered in format string", brace);
            break;
        }
        ok = field(c, (struct mb_jstr){s.s + i + 1, (size_t)(end - s.s) - i - 1}, a, &next, &text);
        i = (size_t)(end - s.s) + 1;
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}
