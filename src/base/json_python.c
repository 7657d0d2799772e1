/* JSON as Python's json module writes and reads it, put into the JSON that jansson takes: integers beyond 64
 * bits and numbers beyond the range of doubles become doubles, NaN and the infinities get a form (json.h says
 * which). Strings are not touched. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json_python.h"

#define DIGITS_MAX 4300 /* Python's own limit (sys.get_int_max_str_digits) */

struct scan {
    const char *s;
    size_t n, at, done; /* bytes before `done` are in out, or need no change */
    struct mb_bytes *out;
};

/* Everything up to `from` as it was, then text; goes on at `to`. */
static enum mb_status replace(struct scan *x, size_t from, size_t to, const char *text)
{
    MB_TRY(mb_bytes_put(x->out, x->s + x->done, from - x->done));
    MB_TRY(mb_bytes_put(x->out, text, strlen(text)));
    x->done = x->at = to;
    return MB_OK;
}

static void skip_string(struct scan *x)
{
    for (x->at++; x->at < x->n && x->s[x->at] != '"'; x->at++)
        x->at += x->s[x->at] == '\\';
    x->at++;
}

/* jansson has no infinite number. */
static enum mb_status put_real(struct scan *x, size_t from, size_t to, double v)
{
    char buf[40];
    double most = 1.7976931348623157e308;
    snprintf(buf, sizeof buf, "%.17g", v > most ? most : v < -most ? -most : v);
    if (strpbrk(buf, ".e") == NULL)
        snprintf(buf + strlen(buf), 3, ".0");
    return replace(x, from, to, buf);
}

static enum mb_status number(struct scan *x)
{
    char buf[DIGITS_MAX + 2];
    size_t from = x->at, k = 0;
    bool whole = true;
    for (; x->at < x->n && strchr("0123456789+-.eE", x->s[x->at]) != NULL && x->s[x->at] != 0; x->at++, k++)
        whole = whole && strchr(".eE", x->s[x->at]) == NULL;
    if (k > DIGITS_MAX || k < 2)
        return MB_OK;
    memcpy(buf, x->s + from, k);
    buf[k] = 0;
    errno = 0;
    if (whole)
        (void)strtoll(buf, NULL, 10);
    bool beyond = whole && errno == ERANGE;
    char *end;
    double v = strtod(buf, &end);
    return *end == 0 && (beyond || isinf(v)) ? put_real(x, from, x->at, v) : MB_OK;
}

static bool word(const struct scan *x, const char *w)
{
    size_t k = strlen(w);
    return x->n - x->at >= k && memcmp(x->s + x->at, w, k) == 0;
}

static enum mb_status step(struct scan *x)
{
    char c = x->s[x->at];
    if (c == '"') {
        skip_string(x);
        return MB_OK;
    }
    if (word(x, "NaN"))
        return replace(x, x->at, x->at + 3, "\"NaN\"");
    if (word(x, "Infinity"))
        return put_real(x, x->at, x->at + 8, INFINITY);
    if (word(x, "-Infinity"))
        return put_real(x, x->at, x->at + 9, -INFINITY);
    if (c == '-' || (c >= '0' && c <= '9'))
        return number(x);
    x->at++;
    return MB_OK;
}

enum mb_status mb_json_from_python(const char *s, size_t n, struct mb_bytes *out, bool *changed)
{
    struct scan x = {.s = s, .n = n, .out = out};
    while (x.at < n)
        MB_TRY(step(&x));
    *changed = x.done > 0;
    return *changed ? mb_bytes_put(out, s + x.done, n - x.done) : MB_OK;
}
