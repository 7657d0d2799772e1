#include "text/pattern.h"

#include <stdlib.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/log.h"
#include "text/utf8.h"

/* All searches in a text together may take this many steps plus some for each of its bytes: linear patterns stay far below,
 * exploding ones give up. */
#define STEPS_BASE 20000000u
#define STEPS_PER_BYTE 64u
#define FEW 256u /* that each place has for nothing */
#define HEAP_KIB (256u * 1024)

/* Rewriting: position in the expression, and how deep in a character class. */
struct rewrite {
    const char *s;
    size_t n, at;
    bool in_class;
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
#define WORD "[" IN_WORD "]"

/* Escapes whose sets differ (\b follows \w): Oniguruma's \s is White_Space (PCRE2 adds U+180E), \w has marks
 * and all connectors, \h is a hexadecimal digit. */
static enum mb_status escape(struct rewrite *r)
{
    char c = r->at + 1 < r->n ? r->s[r->at + 1] : 0;
    r->at += 2;
    switch (c) {
    case 0:
        return refuse(r, "a backslash at its end");
    case 's':
        return put(r, "\\p{White_Space}");
    case 'S':
        return put(r, "\\P{White_Space}");
    case 'w':
        return put(r, r->in_class ? IN_WORD : WORD);
    case 'W':
        return r->in_class ? refuse(r, "\\W in a character class") : put(r, "[^" IN_WORD "]");
    case 'h':
        return put(r, r->in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]");
    case 'b':
        if (r->in_class)
            return put(r, "\\x{8}");
        return put(r, "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))");
    case 'B':
        return put(r, "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))");
    default:
        /* These have the same meaning in both libraries; other letters do not, or do not exist in one of
         * them. */
        if (strchr("pPdDnrtfvaexAzZu", c) == NULL && ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
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
    static const char *const sets[][2] = {
        {"[:alnum:]", "\\p{Alphabetic}\\p{Nd}"},
        {"[:alpha:]", "\\p{Alphabetic}"},
        {"[:ascii:]", "\\x{0}-\\x{7f}"},
        {"[:blank:]", "\\p{Zs}\\t"},
        {"[:digit:]", "\\p{Nd}"},
        {"[:lower:]", "\\p{Lowercase}"},
        {"[:punct:]", "\\p{P}\\p{S}"},
        {"[:space:]", "\\p{White_Space}"},
        {"[:upper:]", "\\p{Uppercase}"},
        {"[:xdigit:]", "0-9A-Fa-f"},
        {"[:word:]", IN_WORD},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        size_t len = strlen(sets[i][0]);
        if (r->n - r->at >= len && memcmp(r->s + r->at, sets[i][0], len) == 0) {
            r->at += len;
            return put(r, sets[i][1]);
        }
    }
    return refuse(r, "a POSIX bracket of this kind");
}

static enum mb_status in_class(struct rewrite *r)
{
    char c = r->s[r->at];
    bool two = r->at + 1 < r->n;
    if (c == '[' && two && r->s[r->at + 1] == ':')
        return posix_class(r);
    if (c == '[')
        return refuse(r, "a character class in a character class");
    if (c == '&' && two && r->s[r->at + 1] == '&')
        return refuse(r, "an intersection of character classes (&&)");
    r->in_class = c != ']';
    r->at++;
    return mb_bytes_put(&r->out, &c, 1);
}

static enum mb_status open_class(struct rewrite *r)
{
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

static enum mb_status prepare(struct mb_work *w, uint32_t steps)
{
    if (w->match == NULL)
        w->match = pcre2_match_data_create_8(1, NULL);
    if (w->limits == NULL)
        w->limits = pcre2_match_context_create_8(NULL);
    if (w->match == NULL || w->limits == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a search");
    pcre2_set_match_limit_8(w->limits, steps);
    pcre2_set_depth_limit_8(w->limits, steps < 10000000 ? steps : 10000000);
    pcre2_set_heap_limit_8(w->limits, HEAP_KIB);
    return MB_OK;
}

/* PCRE2 counts steps of one place only and tells nobody how many it took. So every place is first tried with few steps; where
 * they do not suffice, each with eight times as many, which the text's account pays for. A text of n bytes costs at most
 * FEW * n + STEPS_BASE + STEPS_PER_BYTE * n steps and what was tried in vain, a seventh. */
static int match_paid(struct mb_search *f, struct mb_work *w, size_t at, uint32_t options)
{
    size_t n = f->n > w->cur.text.len ? f->n : w->cur.text.len;
    uint64_t most = STEPS_BASE + (uint64_t)n * STEPS_PER_BYTE;
    for (uint64_t steps = FEW;; steps *= 8) {
        if (steps > FEW) {
            w->spent += steps;
            if (w->spent > most || steps > UINT32_MAX / 2)
                return PCRE2_ERROR_MATCHLIMIT;
        }
        if (prepare(w, (uint32_t)steps) != MB_OK)
            return PCRE2_ERROR_NOMEMORY;
        int rc = pcre2_match_8(f->p->re, (PCRE2_SPTR8)f->s, f->n, at, PCRE2_NO_UTF_CHECK | options, w->match, w->limits);
        if (rc != PCRE2_ERROR_MATCHLIMIT && rc != PCRE2_ERROR_DEPTHLIMIT)
            return rc;
        if (steps == FEW && options == 0) /* nobody knows at which place it was: one place at a time */
            return rc;
    }
}

static int match_from(struct mb_search *f, struct mb_work *w)
{
    int rc = match_paid(f, w, f->at, 0);
    for (size_t at = f->at; rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT;) {
        uint32_t cp;
        rc = match_paid(f, w, at, PCRE2_ANCHORED);
        if (rc != PCRE2_ERROR_NOMATCH || at >= f->n)
            break;
        at += (size_t)mb_utf8_next(f->s + at, &cp);
        rc = PCRE2_ERROR_MATCHLIMIT;
    }
    return rc;
}

static bool find_literal(struct mb_search *f, size_t *from, size_t *to)
{
    const char *hit = f->at < f->n ? memmem(f->s + f->at, f->n - f->at, f->p->lit, f->p->nlit) : NULL;
    if (hit == NULL)
        return false;
    *from = (size_t)(hit - f->s);
    *to = f->at = *from + f->p->nlit;
    return true;
}

enum mb_status mb_search_next(struct mb_search *f, struct mb_work *w, bool *found, size_t *from, size_t *to)
{
    if (f->p->re == NULL) {
        *found = find_literal(f, from, to);
        return MB_OK;
    }
    *found = false;
    while (f->at <= f->n) {
        int rc = match_from(f, w);
        if (rc == PCRE2_ERROR_NOMATCH)
            return MB_OK;
        if (rc == PCRE2_ERROR_NOMEMORY)
            return mb_error(MB_NO_MEMORY, "no memory for a search");
        if (rc < 0)
            return MB_REQUEST;
        const PCRE2_SIZE *ov = pcre2_get_ovector_pointer_8(w->match);
        if (ov[0] < f->at || ov[1] < ov[0] || ov[1] > f->n)
            return MB_REQUEST; /* \K and lookbehind tricks could give such ranges */
        uint32_t cp;
        if (ov[1] == ov[0] && ov[0] == f->last) {
            f->at += f->at < f->n ? (size_t)mb_utf8_next(f->s + f->at, &cp) : 1;
            continue;
        }
        *found = true;
        *from = ov[0];
        *to = f->at = f->last = ov[1];
        return MB_OK;
    }
    return MB_OK;
}
