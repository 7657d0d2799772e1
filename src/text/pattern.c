#include "text/pattern.h"

#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/log.h"
#include "text/unicode_class.h"

#define SETS_MAX 16 /* classes in classes */

/* Rewriting: position in the expression, and how deep in a character class. */
struct rewrite {
    const char *s;
    size_t n, at;
    bool in_class, member; /* member: of a set, though written as one of its own */
    const char *what;
    struct mb_bytes out;
};

static enum mb_status put(struct rewrite *r, const char *s)
{
    return mb_bytes_put(&r->out, s, strlen(s));
}

static enum mb_status refuse(const struct rewrite *r, const char *construct)
{
    return mb_error(MB_MODEL, "%s: the regular expression uses %s, which is not supported: %.200s", r->what,
                    construct, r->s);
}

#define IN_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* Oniguruma has these in \w that stands alone, by a table for Latin-1, and not in one that is a member of a class. */
#define IN_LONE_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"

static enum mb_status put_word(struct rewrite *r)
{
    MB_TRY(put(r, IN_WORD));
    MB_TRY(put(r, mb_class_added("Alphabetic", 10)));
    MB_TRY(put(r, mb_class_added("M", 1)));
    return put(r, mb_class_added("Nd", 2));
}

/* The name of \p{Name} or \p{^Name} at s: its length, 0 where it is written otherwise. */
static size_t property(const char *s, const char *end, const char **name, bool *negated)
{
    *negated = s[1] == 'P';
    s += 2;
    if (s >= end || *s++ != '{')
        return 0;
    if (s < end && *s == '^') {
        *negated = !*negated;
        s++;
    }
    const char *close = memchr(s, '}', (size_t)(end - s));
    *name = s;
    return close == NULL ? 0 : (size_t)(close - s);
}

/* Whether the escape at s stands for fewer characters than PCRE2 thinks, which a class can't be told by more members. */
static bool shrinks(const char *s, const char *end)
{
    const char *name;
    bool negated;
    if (end - s < 2 || s[0] != '\\')
        return false;
    if (s[1] == 'D' || s[1] == 'W')
        return true;
    if ((s[1] | 0x20) != 'p')
        return false;
    size_t n = property(s, end, &name, &negated);
    return n > 0 && (negated ? mb_class_added(name, n) : mb_class_gone(name, n))[0] != 0;
}

/* Members of a class: those that PCRE2 knows, and those that it has not got. */
static enum mb_status put_class(struct rewrite *r, const char *name, size_t n, bool negated)
{
    MB_TRY(put(r, negated ? "\\P{" : "\\p{"));
    MB_TRY(put(r, mb_class_is_script(name, n) ? "sc:" : ""));
    MB_TRY(mb_bytes_put(&r->out, name, n));
    MB_TRY(put(r, "}"));
    return put(r, negated ? mb_class_gone(name, n) : mb_class_added(name, n));
}

/* \p{...}, behind whose two bytes r->at is. */
static enum mb_status put_property(struct rewrite *r)
{
    const char *s = r->s + r->at - 2, *end = r->s + r->n, *name;
    bool negated;
    size_t n = property(s, end, &name, &negated);
    if (n == 0)
        return mb_bytes_put(&r->out, s, 2);
    r->at = (size_t)(name + n + 1 - r->s);
    if (r->in_class)
        return put_class(r, name, n, negated);
    const char *less = negated ? mb_class_added(name, n) : mb_class_gone(name, n);
    if (*less != 0) { /* (?:(?![those])[the rest]) */
        MB_TRY(put(r, "(?:(?!["));
        MB_TRY(put(r, less));
        MB_TRY(put(r, "])"));
    }
    MB_TRY(put(r, "["));
    MB_TRY(put_class(r, name, n, negated));
    return put(r, *less != 0 ? "])" : "]");
}

/* \w as a class of its own, or one of what it lacks. */
static enum mb_status word(struct rewrite *r, bool negated)
{
    MB_TRY(put(r, negated ? "[^" : "["));
    MB_TRY(put_word(r));
    MB_TRY(put(r, r->member ? "" : IN_LONE_WORD));
    return put(r, "]");
}

static enum mb_status digit(struct rewrite *r, bool negated)
{
    bool in = r->in_class;
    MB_TRY(put(r, in ? "" : negated ? "[^" : "["));
    MB_TRY(put(r, "\\p{Nd}"));
    MB_TRY(put(r, mb_class_added("Nd", 2)));
    return put(r, in ? "" : "]");
}

/* before and after: words behind and in front of a place. */
static enum mb_status word_edge(struct rewrite *r, bool before, bool after)
{
    MB_TRY(put(r, before ? "(?<=" : "(?<!"));
    MB_TRY(word(r, false));
    MB_TRY(put(r, after ? ")(?=" : ")(?!"));
    MB_TRY(word(r, false));
    return put(r, ")");
}

static enum mb_status boundary(struct rewrite *r, bool is)
{
    MB_TRY(put(r, "(?:"));
    MB_TRY(word_edge(r, true, !is));
    MB_TRY(put(r, "|"));
    MB_TRY(word_edge(r, false, is));
    return put(r, ")");
}

/* Escapes whose sets differ (\b follows \w): Oniguruma's \s is White_Space (PCRE2 adds U+180E), \w has marks
 * and all connectors, \h is a hexadecimal digit. */
static enum mb_status escape(struct rewrite *r)
{
    char c = r->at + 1 < r->n ? r->s[r->at + 1] : 0;
    r->at += 2;
    switch (c) {
    case 0:
        return refuse(r, "a backslash at its end");
    case 'p':
    case 'P':
        return put_property(r);
    case 's':
        return put(r, "\\p{White_Space}");
    case 'S':
        return put(r, "\\P{White_Space}");
    case 'd':
        return digit(r, false);
    case 'D':
        return digit(r, true);
    case 'w':
        return r->in_class ? put_word(r) : word(r, false);
    case 'W':
        return word(r, true);
    case 'h':
        return put(r, r->in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
    case 'b':
        if (r->in_class)
            return put(r, "\\x{8}");
        return boundary(r, true);
    case 'B':
        return boundary(r, false);
    default:
        /* These have the same meaning in both libraries; other letters do not, or do not exist in one of
         * them. */
        if (strchr("nrtfvaexAzZu", c) == NULL && ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
            return refuse(r, (char[]){'\\', c, 0});
        if (c == 'u') { /* \uHHHH */
            if (r->n - r->at < 4)
                return refuse(r, "an incomplete \\u");
            MB_TRY(put(r, "\\x{"));
            MB_TRY(mb_bytes_put(&r->out, r->s + r->at, 4));
            r->at += 4;
            return put(r, "}");
        }
        if (c == 'v') /* a vertical tab; in PCRE2 a class */
            return put(r, "\\x{b}");
        if (c >= '1' && c <= '9')
            return refuse(r, "a back reference");
        return mb_bytes_put(&r->out, r->s + r->at - 2, 2);
    }
}

/* "(?": lookaround, plain and atomic groups are alike; of the options i and x are, m is Ruby's dot-all. */
static enum mb_status group(struct rewrite *r)
{
    const char *s = r->s + r->at, *end = r->s + r->n;
    MB_TRY(put(r, "(?"));
    s += 2;
    r->at += 2;
    if (s < end && strchr(":=!>#", *s) != NULL)
        return MB_OK;
    if (s + 1 < end && *s == '<' && (s[1] == '=' || s[1] == '!'))
        return MB_OK;
    for (; s < end && *s != ':' && *s != ')'; s++, r->at++) {
        if (strchr("imx-", *s) == NULL)
            return refuse(r, "a group (?... of this kind");
        MB_TRY(put(r, *s == 'm' ? "s" : (char[]){*s, 0}));
    }
    return MB_OK;
}

/* [:name:] by the Unicode properties that Oniguruma means (its doc/RE); the rest is refused. */
static enum mb_status posix_class(struct rewrite *r)
{
    static const char *const sets[][4] = { /* and the classes whose new members it has */
        {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}", "Alphabetic", "Nd"},
        {"[:alpha:]", "\\p{Alphabetic}", "Alphabetic"},
        {"[:ascii:]", "\\x{0}-\\x{7f}"},
        {"[:blank:]", "\\p{Zs}\\t"},
        {"[:digit:]", "\\p{Nd}", "Nd"},
        {"[:lower:]", "\\p{Lowercase}", "Lowercase"},
        {"[:punct:]", "\\p{P}\\p{S}", "P", "S"},
        {"[:space:]", "\\p{White_Space}"},
        {"[:upper:]", "\\p{Uppercase}", "Uppercase"},
        {"[:xdigit:]", "0-9A-Fa-f"},
        {"[:word:]", ""},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        size_t len = strlen(sets[i][0]);
        if (r->n - r->at >= len && memcmp(r->s + r->at, sets[i][0], len) == 0) {
            r->at += len;
            if (sets[i][1][0] == 0)
                return put_word(r);
            MB_TRY(put(r, sets[i][1]));
            for (int k = 2; k < 4 && sets[i][k] != NULL; k++)
                MB_TRY(put(r, mb_class_added(sets[i][k], strlen(sets[i][k]))));
            return MB_OK;
        }
    }
    return refuse(r, "a POSIX bracket of this kind");
}

static bool at_text(const struct rewrite *r, const char *what)
{
    size_t n = strlen(what);
    return r->n - r->at >= n && memcmp(r->s + r->at, what, n) == 0;
}

static enum mb_status set(struct rewrite *r, int depth);

/* One member of a set that is no set itself. */
static enum mb_status plain_member(struct rewrite *r)
{
    char c = r->s[r->at];
    r->in_class = true;
    if (c == 0)
        return refuse(r, "U+0000");
    if (c == '\\')
        return escape(r);
    if (c == '[')
        return posix_class(r);
    r->at++;
    if (c == '^' || c == ']')
        MB_TRY(put(r, "\\"));
    return mb_bytes_put(&r->out, &c, 1);
}

/* A set in a set, or the complement of a property. */
static enum mb_status inner_set(struct rewrite *r, int depth)
{
    r->in_class = false;
    if (r->s[r->at] == '[')
        return set(r, depth + 1);
    r->member = true;
    enum mb_status st = escape(r);
    r->member = false;
    return st;
}

/* What && joins: members and sets, up to the next && or ]. first: a ] in front is a member. */
static enum mb_status operand(struct rewrite *r, int depth, bool first, struct mb_bytes *plain)
{
    bool any = false;
    MB_TRY(put(r, "(?=(?:"));
    for (; r->at < r->n && !(r->s[r->at] == ']' && !first) && !at_text(r, "&&"); first = false) {
        bool inner = (r->s[r->at] == '[' && !at_text(r, "[:")) || shrinks(r->s + r->at, r->s + r->n);
        if (inner && any)
            MB_TRY(put(r, "|"));
        any = any || inner;
        struct mb_bytes out = r->out;
        if (!inner)
            r->out = *plain;
        enum mb_status st = inner ? inner_set(r, depth) : plain_member(r);
        if (!inner) {
            *plain = r->out;
            r->out = out;
        }
        MB_TRY(st);
    }
    if (plain->len > 0) {
        MB_TRY(put(r, any ? "|[" : "["));
        MB_TRY(mb_bytes_put(&r->out, plain->data, plain->len));
        MB_TRY(put(r, "]"));
    } else if (!any) {
        MB_TRY(put(r, "(?!)"));
    }
    return put(r, "))");
}

/* A class of classes and intersections, as Ruby has them, by looks ahead: (?:(?=A)(?=B)any character). */
static enum mb_status set(struct rewrite *r, int depth)
{
    bool negated = r->at + 1 < r->n && r->s[r->at + 1] == '^', first = true;
    if (depth > SETS_MAX)
        return refuse(r, "too many character classes in each other");
    r->at += negated ? 2 : 1;
    MB_TRY(put(r, negated ? "(?:(?!" : "(?:"));
    for (;; first = false) {
        struct mb_bytes plain = {0};
        enum mb_status st = operand(r, depth, first, &plain);
        mb_bytes_fini(&plain);
        MB_TRY(st);
        if (!at_text(r, "&&"))
            break;
        r->at += 2;
    }
    if (r->at >= r->n)
        return refuse(r, "a character class that does not end");
    r->at++;
    r->in_class = false;
    return put(r, negated ? ")(?s:.))" : "(?s:.))");
}

/* Whether the class at r->at is more than PCRE2 can write: a class or an intersection in it, or a complement that has become smaller. */
static bool is_set(const struct rewrite *r)
{
    const char *s = r->s + r->at + 1, *end = r->s + r->n;
    s += s < end && *s == '^';
    s += s < end && *s == ']';
    for (; s < end && *s != ']'; s++) {
        if ((s[0] == '&' && s + 1 < end && s[1] == '&') || shrinks(s, end))
            return true;
        if (s[0] == '[' && s + 1 < end && s[1] == ':') {
            const char *close = memmem(s, (size_t)(end - s), ":]", 2);
            s = close == NULL ? s : close + 1;
        } else if (s[0] == '[') {
            return true;
        } else if (s[0] == '\\') {
            s++;
        }
    }
    return false;
}

static enum mb_status in_class(struct rewrite *r)
{
    char c = r->s[r->at];
    if (c == '[')
        return posix_class(r);
    r->in_class = c != ']';
    r->at++;
    return mb_bytes_put(&r->out, &c, 1);
}

static enum mb_status open_class(struct rewrite *r)
{
    if (is_set(r))
        return set(r, 0);
    r->in_class = true;
    r->at++;
    MB_TRY(put(r, "["));
    if (r->at < r->n && r->s[r->at] == '^') {
        r->at++;
        MB_TRY(put(r, "^"));
    }
    if (r->at < r->n && r->s[r->at] == ']') { /* a literal one in both */
        r->at++;
        return put(r, "\\]");
    }
    return MB_OK;
}

static enum mb_status rewrite_all(struct rewrite *r)
{
    while (r->at < r->n) {
        char c = r->s[r->at];
        if (c == 0)
            return refuse(r, "U+0000");
        if (c == '\\')
            MB_TRY(escape(r));
        else if (r->in_class)
            MB_TRY(in_class(r));
        else if (c == '[')
            MB_TRY(open_class(r));
        else if (c == '(' && r->at + 1 < r->n && r->s[r->at + 1] == '?')
            MB_TRY(group(r));
        else if (c == '(' && r->at + 1 < r->n && r->s[r->at + 1] == '*')
            return refuse(r, "a control verb (*");
        else
            MB_TRY(mb_bytes_put(&r->out, r->s + r->at++, 1));
    }
    return MB_OK;
}

/* Ruby syntax: ^ and $ are about lines, a line ends with U+000A only. */
static enum mb_status compile(struct mb_pattern *p, const struct rewrite *r)
{
    int err = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context_8 *ctx = pcre2_compile_context_create_8(NULL);
    if (ctx == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a regular expression", r->what);
    pcre2_set_newline_8(ctx, PCRE2_NEWLINE_LF);
    pcre2_set_bsr_8(ctx, PCRE2_BSR_UNICODE);
    p->re =
        pcre2_compile_8(r->out.data, r->out.len,
                        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &err, &at, ctx);
    pcre2_compile_context_free_8(ctx);
    if (p->re != NULL)
        return MB_OK;
    char why[160] = "";
    pcre2_get_error_message_8(err, (PCRE2_UCHAR8 *)why, sizeof why);
    return mb_error(MB_MODEL, "%s: the regular expression does not compile: %s: %.200s", r->what, why, r->s);
}

enum mb_status mb_pattern_init(struct mb_pattern *p, const char *s, size_t n, bool regex, const char *what)
{
    *p = (struct mb_pattern){0};
    if (n == 0 || n > 65536)
        return mb_error(MB_MODEL, "%s: a pattern of %zu bytes (1 to 65536 are possible)", what, n);
    if (!regex) {
        p->lit = malloc(n);
        if (p->lit == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for a pattern", what);
        memcpy(p->lit, s, n);
        p->nlit = n;
        return MB_OK;
    }
    struct rewrite r = {.s = s, .n = n, .what = what};
    enum mb_status st = rewrite_all(&r);
    if (st == MB_OK)
        st = compile(p, &r);
    mb_bytes_fini(&r.out);
    return st;
}

void mb_pattern_fini(struct mb_pattern *p)
{
    pcre2_code_free_8(p->re);
    free(p->lit);
    *p = (struct mb_pattern){0};
}
