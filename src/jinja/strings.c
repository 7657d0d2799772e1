/* The methods of strings, as Python's str has them; lengths and positions count characters. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include "jinja/own.h"
#include "jinja/strings.h"
#include "base/utf8.h"

bool mb_jis_space(uint32_t cp)
{
    return mb_is_space(cp) || (cp >= 0x1c && cp <= 0x1f);
}

static bool is_letter(uint32_t cp)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_cased(uint32_t cp)
{
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LT;
}

/* A set of characters: ASCII by bits, the others ascending. */
struct set {
    uint64_t ascii[2];
    uint32_t *v;
    size_t n;
};

static int by_point(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static bool set_of(struct mb_jctx *c, struct mb_jstr s, struct set *out)
{
    *out = (struct set){{0, 0}, mb_jalloc(&c->arena, s.n / 2 * sizeof *out->v), 0};
    if (out->v == NULL)
        return mb_jno_memory(c);
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        if (cp < 128)
            out->ascii[cp >> 6] |= (uint64_t)1 << (cp & 63);
        else
            out->v[out->n++] = cp;
    }
    if (out->n > 1)
        qsort(out->v, out->n, sizeof *out->v, by_point);
    return mb_jstep(c, out->n);
}

static bool in_set(uint32_t cp, const struct set *set)
{
    if (cp < 128)
        return set->ascii[cp >> 6] >> (cp & 63) & 1;
    return set->n > 0 && bsearch(&cp, set->v, set->n, sizeof cp, by_point) != NULL;
}

static struct mb_jstr strip_set(struct mb_jstr s, const struct set *set, bool left, bool right)
{
    uint32_t cp;
    while (left && s.n > 0) {
        size_t k = (size_t)mb_utf8_next(s.s, &cp);
        if (!(set != NULL ? in_set(cp, set) : mb_jis_space(cp)))
            break;
        s.s += k;
        s.n -= k;
    }
    while (right && s.n > 0) {
        size_t back = mb_utf8_back(s.s, s.n);
        mb_utf8_next(s.s + back, &cp);
        if (!(set != NULL ? in_set(cp, set) : mb_jis_space(cp)))
            break;
        s.n = back;
    }
    return s;
}

struct mb_jstr mb_jstrip(struct mb_jstr s, bool left, bool right)
{
    return strip_set(s, NULL, left, right);
}

size_t mb_jinja_strip(const char *s, size_t n, const char **begin)
{
    struct mb_jstr rest = mb_jstrip((struct mb_jstr){s, n}, begin != NULL, true);
    if (begin != NULL)
        *begin = rest.s;
    return rest.n;
}

bool mb_jstrip_of(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr chars, bool left, bool right,
                  struct mb_jstr *out)
{
    struct set set;
    if (!set_of(c, chars, &set))
        return false;
    *out = strip_set(s, &set, left, right);
    return true;
}

/* ------------------------------------------------------------------ case */

static bool put_case(struct mb_jctx *c, struct mb_bytes *out, uint32_t cp, enum mb_jcase how, bool word_end)
{
    utf8proc_int32_t x = (utf8proc_int32_t)cp;
    char to[4];
    if (how == MB_JLOWER && cp == 0x130)
        return mb_jput(c, out, "i\xcc\x87", 3);
    if (how != MB_JLOWER && cp == 0xdf)
        return mb_jput(c, out, how == MB_JUPPER ? "SS" : "Ss", 2);
    if (how == MB_JLOWER)
        x = cp == 0x3a3 && word_end ? 0x3c2 : utf8proc_tolower(x); /* a final sigma */
    else
        x = how == MB_JUPPER ? utf8proc_toupper(x) : utf8proc_totitle(x);
    return mb_jput(c, out, to, (size_t)mb_utf8_put((uint32_t)x, to));
}

/* Each character by its place: `first` for the first of a word (or of the text), `rest` for the others. */
bool mb_jrecase(struct mb_jctx *c, struct mb_jstr s, enum mb_jcase first, enum mb_jcase rest, bool words,
                struct mb_jval *out)
{
    struct mb_bytes text = {0};
    uint32_t before = 0, cp, after;
    bool ok = true;
    for (size_t i = 0; i < s.n && ok; before = cp) {
        size_t start = i;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        after = 0;
        if (i < s.n)
            mb_utf8_next(s.s + i, &after);
        bool at_start = words ? !is_cased(before) : start == 0;
        ok = put_case(c, &text, cp, at_start ? first : rest, is_letter(before) && !is_letter(after));
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

bool mb_jreplace(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr old, struct mb_jstr new, int64_t max,
                 struct mb_jval *out)
{
    struct mb_bytes text = {0};
    bool ok = true;
    size_t at = 0;
    while (ok && max != 0) {
        const char *hit = old.n > 0 && at < s.n ? memmem(s.s + at, s.n - at, old.s, old.n) : NULL;
        uint32_t cp;
        if (old.n > 0 && hit == NULL)
            break;
        size_t upto = hit != NULL ? (size_t)(hit - s.s) : at;
        ok = mb_jprint(c, mb_jstring(s.s + at, upto - at), &text) &&
             mb_jprint(c, mb_jstring(new.s, new.n), &text);
        at = upto + old.n;
        max -= max > 0;
        if (old.n > 0)
            continue;
        if (at == s.n) /* an empty pattern matches between all characters */
            break;
        size_t k = (size_t)mb_utf8_next(s.s + at, &cp);
        ok = ok && mb_jprint(c, mb_jstring(s.s + at, k), &text);
        at += k;
    }
    ok = ok && mb_jprint(c, mb_jstring(s.s + at, s.n - at), &text) && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

/* ------------------------------------------------------------------ questions */

static bool affix(struct mb_jstr s, struct mb_jstr x, bool end)
{
    return s.n >= x.n && (x.n == 0 || memcmp(end ? s.s + s.n - x.n : s.s, x.s, x.n) == 0);
}

static bool has_affix(struct mb_jctx *c, struct mb_jstr s, bool end, const struct mb_jcall *a,
                      struct mb_jval *out)
{
    if (a->n != 1)
        return mb_jfail(c, "startswith and endswith take one argument here");
    struct mb_jval x = a->v[0];
    bool yes = false;
    if (x.kind == MB_J_STR) {
        yes = affix(s, x.u.str, end);
    } else if (x.kind == MB_J_TUPLE) {
        for (size_t i = 0; i < x.u.list->n && !yes; i++) {
            if (x.u.list->v[i].kind != MB_J_STR)
                return mb_jfail(c, "a tuple for startswith or endswith must only contain str");
            yes = affix(s, x.u.list->v[i].u.str, end);
        }
    } else {
        return mb_jfail(c, "startswith and endswith: first arg must be str or a tuple of str, not %s",
                        mb_jtype(x));
    }
    *out = mb_jbool(yes);
    return true;
}

static bool all_of(struct mb_jstr s, bool (*is)(uint32_t))
{
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        if (!is(cp))
            return false;
    }
    return s.n > 0;
}

static bool is_digit(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_ND || cp == 0xb2 || cp == 0xb3 ||
           cp == 0xb9;
}

static bool is_alnum(uint32_t cp)
{
    return is_letter(cp) || mb_is_number(cp);
}

bool mb_jall_case(struct mb_jstr s, bool upper)
{
    bool any = false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)cp);
        if (k == UTF8PROC_CATEGORY_LT || k == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU))
            return false;
        any = any || k == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return any;
}

static bool question(struct mb_jstr s, struct mb_jstr name, bool *out)
{
    if (mb_jis(name, "isdigit") || mb_jis(name, "isdecimal"))
        *out = all_of(s, is_digit);
    else if (mb_jis(name, "isnumeric"))
        *out = all_of(s, mb_is_number);
    else if (mb_jis(name, "isalpha"))
        *out = all_of(s, is_letter);
    else if (mb_jis(name, "isalnum"))
        *out = all_of(s, is_alnum);
    else if (mb_jis(name, "isspace"))
        *out = all_of(s, mb_jis_space);
    else if (mb_jis(name, "isupper") || mb_jis(name, "islower"))
        *out = mb_jall_case(s, name.s[2] == 'u');
    else
        return false;
    return true;
}

/* find, rfind, index, rindex, count: by characters. */
static bool position(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, struct mb_jstr sub,
                     struct mb_jval *out)
{
    int64_t k = 0;
    bool right = name.s[0] == 'r', count = name.s[0] == 'c';
    if (count) {
        for (size_t at = 0; sub.n > 0 && at + sub.n <= s.n; k++) {
            const char *hit = memmem(s.s + at, s.n - at, sub.s, sub.n);
            if (hit == NULL)
                break;
            at = (size_t)(hit - s.s) + sub.n;
        }
        if (sub.n == 0 && !mb_jlength(c, mb_jstring(s.s, s.n), &k))
            return false;
        *out = mb_jint(sub.n == 0 ? k + 1 : k);
        return true;
    }
    const char *hit = right ? s.s + s.n : s.s;
    if (sub.n > 0 && right && !mb_jfind_last(c, s, sub, &hit))
        return false;
    if (sub.n > 0 && !right)
        hit = s.n > 0 ? memmem(s.s, s.n, sub.s, sub.n) : NULL;
    if (hit == NULL && (mb_jis(name, "index") || mb_jis(name, "rindex")))
        return mb_jfail(c, "substring not found");
    k = -1;
    if (hit != NULL && !mb_jlength(c, mb_jstring(s.s, (size_t)(hit - s.s)), &k))
        return false;
    *out = mb_jint(k);
    return mb_jstep(c, s.n / 16);
}

/* ------------------------------------------------------------------ padding and parts */

static bool pad(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, const struct mb_jcall *a,
                struct mb_jval *out)
{
    int64_t n, width;
    struct mb_jstr fill = {" ", 1};
    if (a->n < 1 || a->v[0].kind != MB_J_INT || !mb_jlength(c, mb_jstring(s.s, s.n), &n))
        return mb_jfail(c, "%.*s takes a width", (int)name.n, name.s);
    if (a->n > 1 && a->v[1].kind == MB_J_STR)
        fill = a->v[1].u.str;
    width = a->v[0].u.i > n ? a->v[0].u.i - n : 0;
    if (width > 1 << 20)
        return mb_jno_memory(c);
    bool zero = mb_jis(name, "zfill"), sign = zero && s.n > 0 && (s.s[0] == '-' || s.s[0] == '+');
    int64_t left = mb_jis(name, "ljust")    ? 0
                   : mb_jis(name, "center") ? width / 2 + (width & (n + width) & 1)
                                            : width;
    struct mb_bytes text = {0};
    bool ok = !sign || mb_jprint(c, mb_jstring(s.s, 1), &text);
    for (int64_t i = 0; i < width && ok; i++) {
        if (i == left)
            ok = mb_jprint(c, mb_jstring(s.s, s.n), &text);
        ok = ok && mb_jprint(c, zero ? mb_jstring("0", 1) : mb_jstring(fill.s, fill.n), &text);
    }
    if (left == width)
        ok = ok && mb_jprint(c, mb_jstring(s.s + sign, s.n - sign), &text);
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool swapcase(struct mb_jctx *c, struct mb_jstr s, struct mb_jval *out)
{
    struct mb_bytes text = {0};
    bool ok = true;
    for (size_t i = 0; i < s.n && ok;) {
        uint32_t cp;
        i += (size_t)mb_utf8_next(s.s + i, &cp);
        bool upper = utf8proc_category((utf8proc_int32_t)cp) == UTF8PROC_CATEGORY_LU;
        ok = put_case(c, &text, cp, upper ? MB_JLOWER : MB_JUPPER, false);
    }
    ok = ok && mb_jcopy(c, text.data, text.len, out);
    mb_jdrop(c, &text);
    return ok;
}

static bool recase(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, struct mb_jval *out)
{
    if (mb_jis(name, "lower") || mb_jis(name, "casefold"))
        return mb_jrecase(c, s, MB_JLOWER, MB_JLOWER, false, out);
    if (mb_jis(name, "upper"))
        return mb_jrecase(c, s, MB_JUPPER, MB_JUPPER, false, out);
    if (mb_jis(name, "capitalize"))
        return mb_jrecase(c, s, MB_JTITLE, MB_JLOWER, false, out);
    if (mb_jis(name, "swapcase"))
        return swapcase(c, s, out);
    return mb_jrecase(c, s, MB_JTITLE, MB_JLOWER, true, out);
}

static bool strip(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, const struct mb_jcall *a,
                  struct mb_jval *out)
{
    const struct mb_jval *set = mb_jarg(a, 0, NULL);
    if (set != NULL && set->kind != MB_J_NONE && set->kind != MB_J_STR)
        return mb_jfail(c, "strip arg must be None or str");
    if (set == NULL || set->kind == MB_J_NONE)
        s = mb_jstrip(s, name.s[0] != 'r', name.s[0] != 'l');
    else if (!mb_jstrip_of(c, s, set->u.str, name.s[0] != 'r', name.s[0] != 'l', &s))
        return false;
    *out = mb_jstring(s.s, s.n);
    return mb_jstep(c, s.n / 64);
}

static const char *const methods[] = {
    "strip",     "lstrip",   "rstrip",  "split",     "rsplit",     "splitlines",   "startswith",
    "endswith",  "replace",  "lower",   "upper",     "capitalize", "title",        "join",
    "find",      "rfind",    "index",   "rindex",    "count",      "isdigit",      "isdecimal",
    "isnumeric", "isalpha",  "isalnum", "isspace",   "isupper",    "islower",      "zfill",
    "ljust",     "rjust",    "center",  "partition", "rpartition", "removeprefix", "removesuffix",
    "swapcase",  "casefold", "format",
};

bool mb_jis_string_method(struct mb_jstr name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (mb_jis(name, methods[i]))
            return true;
    }
    return false;
}

/* The methods whose first argument is a string. */
static bool with_string(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, const struct mb_jcall *a,
                        struct mb_jval *out)
{
    if (a->n < 1 || a->v[0].kind != MB_J_STR)
        return mb_jfail(c, "%.*s: expected a str", (int)name.n, name.s);
    struct mb_jstr x = a->v[0].u.str;
    if (mb_jis(name, "partition") || mb_jis(name, "rpartition"))
        return mb_jpartition(c, s, x, name.s[0] == 'r', out);
    if (mb_jis(name, "removeprefix") || mb_jis(name, "removesuffix")) {
        bool end = name.s[6] == 's', yes = affix(s, x, end);
        *out = mb_jstring(s.s + (yes && !end ? x.n : 0), s.n - (yes ? x.n : 0));
        return true;
    }
    if (mb_jis(name, "replace")) {
        const struct mb_jval *new = mb_jarg(a, 1, "new"), *max = mb_jarg(a, 2, "count");
        if (new == NULL || new->kind != MB_J_STR)
            return mb_jfail(c, "replace takes two str");
        return mb_jreplace(c, s, x, new->u.str, max != NULL && max->kind == MB_J_INT ? max->u.i : -1, out);
    }
    if (a->n > 1)
        return mb_jfail(c, "%.*s with a range is not supported", (int)name.n, name.s);
    return position(c, s, name, x, out);
}

bool mb_jstr_method(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr name, const struct mb_jcall *a,
                    struct mb_jval *out)
{
    bool yes;
    struct mb_jlist l;
    if (mb_jis(name, "strip") || mb_jis(name, "lstrip") || mb_jis(name, "rstrip"))
        return strip(c, s, name, a, out);
    if (mb_jis(name, "split") || mb_jis(name, "rsplit"))
        return mb_jsplit(c, s, name.s[0] == 'r', a, out);
    if (mb_jis(name, "format"))
        return mb_jformat(c, s, a, out);
    if (mb_jis(name, "splitlines"))
        return mb_jsplitlines(c, s, a, out);
    if (mb_jis(name, "startswith") || mb_jis(name, "endswith"))
        return has_affix(c, s, name.s[0] == 'e', a, out);
    if (mb_jis(name, "join"))
        return a->n == 1 ? mb_jiterate(c, a->v[0], &l) && mb_jjoin(c, s, &l, true, out)
                         : mb_jfail(c, "join takes one argument");
    if (mb_jis(name, "zfill") || mb_jis(name, "ljust") || mb_jis(name, "rjust") || mb_jis(name, "center"))
        return pad(c, s, name, a, out);
    if (question(s, name, &yes)) {
        *out = mb_jbool(yes);
        return true;
    }
    static const char *const cases[] = {"lower", "upper", "capitalize", "title", "swapcase", "casefold"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (mb_jis(name, cases[i]))
            return recase(c, s, name, out);
    }
    return with_string(c, s, name, a, out);
}
