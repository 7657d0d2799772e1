/* Text to value and back, one function per type. */
#include "conf/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>
#include "base/log.h"

static void *member(const struct mb_conf *c, const struct mb_opt *o)
{
    return (char *)c + o->at;
}

static enum mb_status bad(enum mb_source from)
{
    return from == MB_FROM_DECK ? MB_INPUT : MB_USAGE;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false", "off", "0"};

    for (int i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0)
            return *out = true, true;
        if (strcasecmp(text, no[i]) == 0)
            return *out = false, true;
    }
    return false;
}

/* A whole number; strtoll alone would take leading blanks and an empty text. */
static bool parse_int(const char *text, int64_t *out, const char **end)
{
    char *e;

    if (*text != '-' && (*text < '0' || *text > '9'))
        return false;
    errno = 0;
    long long v = strtoll(text, &e, 10);
    if (e == text || errno != 0)
        return false;
    *out = v;
    *end = e;
    return true;
}

/* Bytes with K, M, G or T (powers of 1,024), with or without B or iB behind. */
static bool parse_size(const char *text, int64_t *out)
{
    static const char letters[] = "KMGT";
    const char *end;
    int64_t v;

    if (!parse_int(text, &v, &end) || v < 0)
        return false;
    const char *letter = *end ? strchr(letters, *end == 'k' ? 'K' : *end) : NULL;
    for (int i = 0; letter != NULL && i <= letter - letters; i++)
        if (__builtin_mul_overflow(v, (int64_t)1024, &v))
            return false;
    end += letter != NULL;
    if (letter != NULL && *end == 'i')
        end++;
    if (*end == 'B')
        end++;
    *out = v;
    return *end == '\0';
}

static bool parse_real(const char *text, double *out)
{
    char *end;

    if (*text != '-' && *text != '.' && (*text < '0' || *text > '9'))
        return false;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !isfinite(v))
        return false;
    *out = v;
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t n = strlen(text);

    for (const char *p = choices; n > 0 && p != NULL; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0'))
            return true;
    return false;
}

static bool is_utf8(const char *text)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    utf8proc_int32_t cp;

    for (utf8proc_ssize_t n; *p != 0; p += n)
        if ((n = utf8proc_iterate(p, -1, &cp)) < 1)
            return false;
    return true;
}

static enum mb_status set_string(char **slot, const struct mb_opt *o, const char *text, enum mb_source from,
                                 const char *name)
{
    /* the empty text means "not given" and is legal where it is the default */
    if (o->choices != NULL && !(text[0] == '\0' && o->value[0] == '\0') && !is_choice(o->choices, text))
        return mb_error(bad(from), "%s: '%s' is none of %s", name, text, o->choices);
    if (!is_utf8(text))
        return mb_error(bad(from),
                        "%s: the value is no valid UTF-8; rename the file, or use a link with a plain name",
                        name);
    char *copy = strdup(text);
    if (copy == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for options");
    free(*slot);
    *slot = copy;
    return MB_OK;
}

static enum mb_status set_number(void *slot, const struct mb_opt *o, const char *text, enum mb_source from,
                                 const char *name)
{
    const char *end = "";
    int64_t v = 0;
    double x = 0;
    bool ok;

    if (o->type == MB_OPT_REAL) {
        ok = parse_real(text, &x) && x >= o->lo && x <= o->hi;
        if (!ok)
            return mb_error(bad(from), "%s: '%s' is not a number from %g to %g", name, text, o->lo, o->hi);
        *(double *)slot = x;
        return MB_OK;
    }
    if (o->type == MB_OPT_SIZE) {
        if (!parse_size(text, &v) || (double)v > o->hi)
            return mb_error(bad(from), "%s: '%s' is not a size: bytes, or a number with K, M, G or T behind",
                            name, text);
    } else if (o->word != NULL && strcmp(text, o->word) == 0) {
        v = -1;
    } else {
        ok = parse_int(text, &v, &end) && *end == '\0';
        if (!ok || (double)v < o->lo || (double)v > o->hi)
            return mb_error(bad(from), "%s: '%s' is not a whole number from %.0f to %.0f", name, text, o->lo,
                            o->hi);
    }
    *(int64_t *)slot = v;
    return MB_OK;
}

/* Parses into a scratch configuration's member or the real one. */
static enum mb_status set(void *slot, const struct mb_opt *o, const char *text, enum mb_source from,
                          const char *name)
{
    if (o->type == MB_OPT_STRING)
        return set_string(slot, o, text, from, name);
    if (o->type != MB_OPT_BOOL)
        return set_number(slot, o, text, from, name);
    if (!parse_bool(text, slot))
        return mb_error(bad(from), "%s: '%s' is neither yes nor no", name, text);
    return MB_OK;
}

enum mb_status mb_value_set(struct mb_filling *f, const struct mb_opt *o, const char *text,
                            enum mb_source from, const char *name)
{
    unsigned char *rank = &f->from[o - mb_opts];
    union {
        char *s;
        int64_t i;
        double x;
        bool b;
    } scratch = {0};

    bool applies = from == MB_FROM_DEFAULT || (o->commands >> f->c->command & 1);
    if (applies && *rank <= (unsigned char)from) {
        MB_TRY(set(member(f->c, o), o, text, from, name));
        *rank = (unsigned char)from;
        return MB_OK;
    }
    /* Overruled, or another command's: checked all the same, a mistake in a deck should not wait for its day.
     */
    enum mb_status st = set(&scratch, o, text, from, name);
    if (o->type == MB_OPT_STRING)
        free(scratch.s);
    return st;
}

/* The shortest decimal form that reads back to the same double. */
static void real_text(double v, char buf[MB_VALUE_CAP])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(buf, MB_VALUE_CAP, "%.*g", digits, v);
        if (strtod(buf, NULL) == v)
            return;
    }
}

const char *mb_value_text(const struct mb_conf *c, const struct mb_opt *o, char buf[MB_VALUE_CAP])
{
    const void *slot = member(c, o);

    switch (o->type) {
    case MB_OPT_STRING:
        return *(char *const *)slot;
    case MB_OPT_BOOL:
        return *(const bool *)slot ? "yes" : "no";
    case MB_OPT_REAL:
        real_text(*(const double *)slot, buf);
        return buf;
    default:
        if (o->word != NULL && *(const int64_t *)slot == -1)
            return o->word;
        snprintf(buf, MB_VALUE_CAP, "%" PRId64, *(const int64_t *)slot);
        return buf;
    }
}
