/* Jinja's lexer with trim_blocks and lstrip_blocks: a template becomes tokens, its text already cut at the
 * tags. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/grow.h"
#include "jinja/own.h"
#include "base/utf8.h"

struct lexer {
    struct mb_jtemplate *t;
    const char *s;
    size_t n, at;
    int line;
    bool line_start; /* the last tag swallowed the line's end */
};

static enum mb_status bad(const struct lexer *x, const char *why)
{
    snprintf(x->t->err, x->t->cap, "%s: line %d: %s", x->t->what, x->line, why);
    return MB_MODEL;
}

static enum mb_status put(struct lexer *x, struct mb_jtoken tok)
{
    struct mb_jtemplate *t = x->t;
    MB_TRY(mb_grow_to(&t->token, &t->token_cap, t->tokens + 1, sizeof *t->token));
    tok.line = x->line;
    t->token[t->tokens++] = tok;
    return MB_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void skip_space(struct lexer *x)
{
    for (; x->at < x->n && is_space(x->s[x->at]); x->at++)
        x->line += x->s[x->at] == '\n';
}

/* The text before a tag at `end`: "-" strips all white space; a block or comment alone at the start of its
 * line loses its indentation unless "+" keeps it. */
static enum mb_status text_before(struct lexer *x, size_t end, char sign, bool variable)
{
    size_t from = x->at, to = end;
    if (sign == '-') {
        while (to > from && is_space(x->s[to - 1]))
            to--;
    } else if (sign != '+' && !variable) {
        size_t bol = to;
        while (bol > from && is_space(x->s[bol - 1]) && x->s[bol - 1] != '\n')
            bol--;
        if (bol > from ? x->s[bol - 1] == '\n' : x->line_start)
            to = bol;
    }
    if (to > from)
        MB_TRY(put(x, (struct mb_jtoken){.kind = MB_JT_TEXT, .str = {x->s + from, to - from}}));
    for (; from < end; from++)
        x->line += x->s[from] == '\n';
    x->at = end;
    return MB_OK;
}

/* At the closing delimiter (2 characters, with an optional sign before it): swallows it and what it trims. */
static void close_tag(struct lexer *x, char sign, bool variable)
{
    x->at += 2;
    x->line_start = false;
    if (sign == '-') {
        size_t before = x->at;
        skip_space(x);
        x->line_start = x->at > before && x->s[x->at - 1] == '\n';
    } else if (sign != '+' && !variable && x->at < x->n && x->s[x->at] == '\n') {
        x->at++;
        x->line++;
        x->line_start = true;
    }
}

/* ------------------------------------------------------------------ tokens inside a tag */

static enum mb_status put_number(struct lexer *x)
{
    size_t from = x->at, i = from;
    char buf[64];
    size_t k = 0;
    bool real = false;
    while (i < x->n && k < sizeof buf - 1) {
        char c = x->s[i], next = i + 1 < x->n ? x->s[i + 1] : 0;
        bool digit_next = next >= '0' && next <= '9';
        bool exp_next = digit_next || ((next == '-' || next == '+') && i + 2 < x->n && x->s[i + 2] >= '0' &&
                                       x->s[i + 2] <= '9');
        if (c >= '0' && c <= '9')
            buf[k++] = c;
        else if (c == '.' && !real && digit_next)
            real = true, buf[k++] = c;
        else if ((c == 'e' || c == 'E') && exp_next)
            real = true, buf[k++] = c, buf[k++] = next, i++;
        else if (c != '_' || !digit_next)
            break;
        i++;
    }
    buf[k] = 0;
    x->at = i;
    errno = 0;
    if (real)
        return put(x, (struct mb_jtoken){.kind = MB_JT_FLOAT, .f = strtod(buf, NULL)});
    long long v = strtoll(buf, NULL, 10);
    if (errno != 0 || k >= sizeof buf - 1)
        return bad(x, "a number beyond 64 bits");
    return put(x, (struct mb_jtoken){.kind = MB_JT_INT, .i = v});
}

static int hex_of(const char *s, int digits, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < digits; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0)
            return 0;
        *out = *out << 4 | (uint32_t)d;
    }
    return 1;
}

/* One escape at s[0] (behind the backslash), as in a Python string; returns the bytes used, 0 if it is none.
 */
static size_t escape(const char *s, size_t n, char *to, size_t *len)
{
    static const char plain[] = "n\nr\rt\tb\bf\fv\va\a\\\\''\"\"";
    uint32_t cp = 0;
    for (const char *p = plain; *p != 0; p += 2) {
        if (*p == *s) {
            to[(*len)++] = p[1];
            return 1;
        }
    }
    if (*s == '\n')
        return 1;
    int digits = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 0;
    size_t used = 1 + (size_t)digits;
    if (digits > 0 && (n < used || !hex_of(s + 1, digits, &cp)))
        return 0;
    if (digits == 0) {
        for (used = 0; used < 3 && used < n && s[used] >= '0' && s[used] <= '7'; used++)
            cp = cp * 8 + (uint32_t)(s[used] - '0');
    }
    if (used == 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return 0;
    *len += (size_t)mb_utf8_put(cp, to + *len);
    return used;
}

static enum mb_status put_string(struct lexer *x)
{
    char quote = x->s[x->at];
    size_t i = x->at + 1, len = 0;
    while (i < x->n && x->s[i] != quote)
        i += x->s[i] == '\\' ? 2 : 1;
    if (i >= x->n)
        return bad(x, "a string that is not closed");
    char *to = mb_jalloc(&x->t->arena, i - x->at + 4); /* an escape is never shorter than what it means */
    if (to == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", x->t->what);
    for (size_t j = x->at + 1; j < i;) {
        size_t used = x->s[j] == '\\' ? escape(x->s + j + 1, i - j - 1, to, &len) : 0;
        x->line += x->s[j] == '\n';
        if (used == 0)
            to[len++] = x->s[j++];
        else
            j += used + 1;
    }
    x->at = i + 1;
    return put(x, (struct mb_jtoken){.kind = MB_JT_STR, .str = {to, len}});
}

static bool name_char(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || (uint8_t)c >= 0x80;
}

static enum mb_status put_op(struct lexer *x, int *open)
{
    static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
    const char *s = x->s + x->at;
    for (size_t i = 0; i < sizeof two / sizeof *two && x->at + 1 < x->n; i++) {
        if (memcmp(s, two[i], 2) == 0) {
            x->at += 2;
            return put(x, (struct mb_jtoken){.kind = MB_JT_OP, .op = s[0] << 8 | s[1]});
        }
    }
    if (*s == 0 || strchr("+-/*%~[](){}<>=.:|,", *s) == NULL)
        return bad(x, "an unexpected character in a tag");
    *open += strchr("[({", *s) != NULL ? 1 : strchr("])}", *s) != NULL ? -1 : 0;
    x->at++;
    return put(x, (struct mb_jtoken){.kind = MB_JT_OP, .op = *s});
}

/* From behind "{{" or "{%" to its end; closing delimiters inside brackets are operators. */
static enum mb_status inside(struct lexer *x, bool variable)
{
    const char *end = variable ? "}}" : "%}";
    int open = 0;
    for (;;) {
        skip_space(x);
        if (x->at >= x->n)
            return bad(x, variable ? "a {{ that is not closed" : "a {% that is not closed");
        const char *s = x->s + x->at;
        size_t left = x->n - x->at;
        bool sign = left >= 3 && (*s == '-' || (*s == '+' && !variable)) && memcmp(s + 1, end, 2) == 0;
        if (open <= 0 && (sign || (left >= 2 && memcmp(s, end, 2) == 0))) {
            MB_TRY(put(x, (struct mb_jtoken){.kind = variable ? MB_JT_VAR_END : MB_JT_BLOCK_END}));
            x->at += sign;
            close_tag(x, sign ? *s : 0, variable);
            return MB_OK;
        }
        if (*s >= '0' && *s <= '9') {
            MB_TRY(put_number(x));
        } else if (*s == '"' || *s == '\'') {
            MB_TRY(put_string(x));
        } else if (name_char(*s)) {
            size_t k = 0;
            while (k < left && name_char(s[k]))
                k++;
            MB_TRY(put(x, (struct mb_jtoken){.kind = MB_JT_NAME, .str = {s, k}}));
            x->at += k;
        } else {
            MB_TRY(put_op(x, &open));
        }
    }
}

/* ------------------------------------------------------------------ tags */

static enum mb_status comment(struct lexer *x)
{
    const char *end = memmem(x->s + x->at, x->n - x->at, "#}", 2);
    if (end == NULL)
        return bad(x, "a {# that is not closed");
    char sign = end > x->s + x->at ? end[-1] : 0;
    for (; x->s + x->at < end; x->at++)
        x->line += x->s[x->at] == '\n';
    close_tag(x, sign == '-' || sign == '+' ? sign : 0, false);
    return MB_OK;
}

/* Whether "{% word %}" (signs and spaces allowed) lies at s[at]; its end, its signs. */
static bool lone_tag(const struct lexer *x, size_t at, const char *word, size_t *end, char sign[2])
{
    const char *s = x->s;
    size_t k = strlen(word);
    if (x->n - at < 4 || s[at] != '{' || s[at + 1] != '%')
        return false;
    at += 2;
    sign[0] = s[at] == '-' || s[at] == '+' ? s[at++] : 0;
    while (at < x->n && is_space(s[at]))
        at++;
    if (x->n - at < k + 2 || memcmp(s + at, word, k) != 0)
        return false;
    at += k;
    while (at < x->n && is_space(s[at]))
        at++;
    sign[1] = at < x->n && (s[at] == '-' || s[at] == '+') ? s[at++] : 0;
    if (x->n - at < 2 || s[at] != '%' || s[at + 1] != '}')
        return false;
    *end = at;
    return true;
}

/* {% raw %}: everything up to {% endraw %} is text. x->at is at the tag, end at its closing delimiter. */
static enum mb_status raw(struct lexer *x, size_t end, char after)
{
    char sign[2];
    x->at = end;
    close_tag(x, after == '-' ? '-' : '+', false);
    for (size_t i = x->at; i < x->n; i++) {
        size_t close;
        if (!lone_tag(x, i, "endraw", &close, sign))
            continue;
        MB_TRY(text_before(x, i, sign[0], false));
        x->at = close;
        close_tag(x, sign[1], false);
        return MB_OK;
    }
    return bad(x, "a {% raw %} without {% endraw %}");
}

static enum mb_status tag(struct lexer *x, size_t at)
{
    char kind = x->s[at + 1], sign = at + 2 < x->n ? x->s[at + 2] : 0, signs[2];
    size_t end;
    bool signed_ = sign == '-' || sign == '+';
    MB_TRY(text_before(x, at, signed_ ? sign : 0, kind == '{'));
    if (kind == '%' && lone_tag(x, at, "raw", &end, signs))
        return raw(x, end, signs[1]);
    x->at += signed_ ? 3 : 2;
    if (kind == '#') {
        x->at -= signed_; /* "{#-#}" closes itself */
        return comment(x);
    }
    MB_TRY(put(x, (struct mb_jtoken){.kind = kind == '{' ? MB_JT_VAR_BEGIN : MB_JT_BLOCK_BEGIN}));
    return inside(x, kind == '{');
}

/* The source with line ends as U+000A and without the last one, as Jinja reads it. */
static enum mb_status clean(struct mb_jtemplate *t, const char *s, size_t n, const char **out, size_t *len)
{
    char *to = mb_jalloc(&t->arena, n + 1);
    size_t k = 0;
    if (to == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a template", t->what);
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '\r')
            to[k++] = s[i];
        else if (i + 1 == n || s[i + 1] != '\n')
            to[k++] = '\n';
    }
    if (k > 0 && to[k - 1] == '\n')
        k--;
    *out = to;
    *len = k;
    return MB_OK;
}

enum mb_status mb_jinja_lex(struct mb_jtemplate *t, const char *source, size_t n)
{
    struct lexer x = {.t = t, .line = 1, .line_start = true};
    MB_TRY(clean(t, source, n, &x.s, &x.n));
    while (x.at < x.n) {
        const char *p = x.s + x.at, *end = x.s + x.n;
        while ((p = memchr(p, '{', (size_t)(end - p))) != NULL && p + 1 < end && strchr("{%#", p[1]) == NULL)
            p++;
        if (p == NULL || p + 1 >= end || p[1] == 0) {
            MB_TRY(text_before(&x, x.n, '+', true));
            break;
        }
        MB_TRY(tag(&x, (size_t)(p - x.s)));
    }
    return put(&x, (struct mb_jtoken){.kind = MB_JT_END});
}
