#include "model/cfg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

const char *mb_cfg_text(const json_t *v, char *out, size_t cap)
{
    char *s = v == NULL ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12));
    snprintf(out, cap, "%s", v == NULL ? "nothing" : s == NULL ? mb_json_type(v) : s);
    free(s);
    return out;
}

/* One alias: walks its dots. Sets *out NULL where a member is absent or null. */
static enum mb_status walk(const struct mb_cfg *c, const char *alias, const json_t **out)
{
    char part[128], text[96];
    const json_t *v = c->root;

    for (const char *p = alias; *p != 0;) {
        size_t n = strcspn(p, ".");
        if (!json_is_object(v))
            return mb_error(MB_MODEL, "%s: %s%.*s: expected an object, found %s", c->path, c->at, (int)(p > alias ? p - alias - 1 : 0),
                            alias, mb_cfg_text(v, text, sizeof text));
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        v = json_object_get(v, part);
        if (v == NULL || json_is_null(v)) {
            *out = NULL;
            return MB_OK;
        }
        p += n + (p[n] == '.');
    }
    *out = v;
    return MB_OK;
}

static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

enum mb_status mb_cfg_get(const struct mb_cfg *c, const char *keys, const json_t **out, char *name, size_t cap)
{
    char alias[128], first[128] = "", ta[96], tb[96];
    const json_t *found = NULL, *v = NULL;

    for (const char *p = keys; *p != 0;) {
        size_t n = strcspn(p, "|");
        snprintf(alias, sizeof alias, "%.*s", (int)n, p);
        MB_TRY(walk(c, alias, &v));
        if (v != NULL && found == NULL) {
            found = v;
            memcpy(first, alias, sizeof first);
        } else if (v != NULL && !same(found, v)) {
            return mb_error(MB_MODEL, "%s: %s%s: expected %s as %s says, found %s", c->path, c->at, alias,
                            mb_cfg_text(found, ta, sizeof ta), first, mb_cfg_text(v, tb, sizeof tb));
        }
        p += n + (p[n] == '|');
    }
    if (name != NULL)
        snprintf(name, cap, "%s", first);
    *out = found;
    return MB_OK;
}

/* The integer that v is; *ok false: it is none. */
static int64_t whole(const json_t *v, bool *ok)
{
    double x = json_number_value(v);

    *ok = json_is_integer(v) || (json_is_real(v) && fabs(x) < 9e15 && floor(x) == x); /* some configs write 1e6 */
    return !*ok ? 0 : json_is_integer(v) ? json_integer_value(v) : (int64_t)x;
}

static enum mb_status take_int(const struct mb_cfg *c, const char *name, const json_t *v, int64_t lo, int64_t hi, int64_t *out)
{
    char text[96];
    bool ok;
    int64_t x = whole(v, &ok);

    if (!ok || x < lo || x > hi)
        return mb_error(MB_MODEL, "%s: %s%s: expected an integer from %lld to %lld, found %s", c->path, c->at, name, (long long)lo,
                        (long long)hi, mb_cfg_text(v, text, sizeof text));
    *out = x;
    return MB_OK;
}

enum mb_status mb_cfg_int(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out, bool *found)
{
    char name[128];
    const json_t *v;

    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (found != NULL)
        *found = v != NULL;
    return v == NULL ? MB_OK : take_int(c, name, v, lo, hi, out);
}

enum mb_status mb_cfg_int_each(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int32_t n, int64_t *out, bool *found)
{
    char name[128], text[96];
    const json_t *v, *first;

    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (found != NULL)
        *found = v != NULL;
    if (v == NULL)
        return MB_OK;
    if (!json_is_array(v))
        return take_int(c, name, v, lo, hi, out);
    first = json_array_get(v, 0);
    if (json_array_size(v) != (size_t)n)
        return mb_error(MB_MODEL, "%s: %s%s: expected an integer or one for each of the %d layers, found a list of %zu", c->path, c->at,
                        name, n, json_array_size(v));
    for (size_t i = 1; i < json_array_size(v); i++) {
        if (!same(first, json_array_get(v, i)))
            return mb_error(MB_MODEL, "%s: %s%s: expected the same of every layer (others are not supported), found %s in layer %zu",
                            c->path, c->at, name, mb_cfg_text(json_array_get(v, i), text, sizeof text), i);
    }
    return take_int(c, name, first, lo, hi, out);
}

enum mb_status mb_cfg_real(const struct mb_cfg *c, const char *keys, double lo, double hi, double *out, bool *found)
{
    char name[128], text[96];
    const json_t *v;

    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (found != NULL)
        *found = v != NULL;
    if (v == NULL)
        return MB_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= lo && x <= hi))
        return mb_error(MB_MODEL, "%s: %s%s: expected a number from %g to %g, found %s", c->path, c->at, name, lo, hi,
                        mb_cfg_text(v, text, sizeof text));
    *out = x;
    return MB_OK;
}

enum mb_status mb_cfg_bool(const struct mb_cfg *c, const char *keys, bool *out)
{
    char name[128], text[96];
    const json_t *v;

    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (v == NULL)
        return MB_OK;
    if (!json_is_boolean(v))
        return mb_error(MB_MODEL, "%s: %s%s: expected true or false, found %s", c->path, c->at, name, mb_cfg_text(v, text, sizeof text));
    *out = json_is_true(v);
    return MB_OK;
}

enum mb_status mb_cfg_str(const struct mb_cfg *c, const char *keys, const char **out, bool *found)
{
    char name[128], text[96];
    const json_t *v;

    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (found != NULL)
        *found = v != NULL;
    if (v == NULL)
        return MB_OK;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return mb_error(MB_MODEL, "%s: %s%s: expected a string, found %s", c->path, c->at, name, mb_cfg_text(v, text, sizeof text));
    *out = json_string_value(v);
    return MB_OK;
}

/* "a or b" of the aliases "a|b": what to write where none of them is there. */
static const char *all_names(const char *keys, char *out, size_t cap)
{
    size_t at = 0;

    for (const char *p = keys; *p != 0 && at < cap; p++)
        at += (size_t)(*p == '|' ? snprintf(out + at, cap - at, " or ") : snprintf(out + at, cap - at, "%c", *p));
    return out;
}

enum mb_status mb_cfg_need_int(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out)
{
    bool found;
    char names[128];

    MB_TRY(mb_cfg_int(c, keys, lo, hi, out, &found));
    if (!found)
        return mb_error(MB_MODEL, "%s: %s%s: expected an integer from %lld to %lld, found nothing", c->path, c->at,
                        all_names(keys, names, sizeof names), (long long)lo, (long long)hi);
    return MB_OK;
}

enum mb_status mb_cfg_need_int_each(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int32_t n, int64_t *out)
{
    bool found;

    MB_TRY(mb_cfg_int_each(c, keys, lo, hi, n, out, &found));
    return found ? MB_OK : mb_cfg_need_int(c, keys, lo, hi, out); /* which says what is missing */
}

enum mb_status mb_cfg_need_real(const struct mb_cfg *c, const char *keys, double lo, double hi, double *out)
{
    bool found;
    char names[128];

    MB_TRY(mb_cfg_real(c, keys, lo, hi, out, &found));
    if (!found)
        return mb_error(MB_MODEL, "%s: %s%s: expected a number from %g to %g, found nothing", c->path, c->at,
                        all_names(keys, names, sizeof names), lo, hi);
    return MB_OK;
}

enum mb_status mb_cfg_ints(const struct mb_cfg *c, const char *keys, int64_t lo, int64_t hi, int64_t *out, size_t cap, size_t *n)
{
    char name[128], text[96];
    const json_t *v;

    *n = 0;
    MB_TRY(mb_cfg_get(c, keys, &v, name, sizeof name));
    if (v == NULL)
        return MB_OK;
    if (!json_is_array(v))
        return mb_error(MB_MODEL, "%s: %s%s: expected a list of integers, found %s", c->path, c->at, name,
                        mb_cfg_text(v, text, sizeof text));
    if (json_array_size(v) > cap)
        return mb_error(MB_MODEL, "%s: %s%s: expected at most %zu entries, found %zu", c->path, c->at, name, cap, json_array_size(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_integer(x) || json_integer_value(x) < lo || json_integer_value(x) > hi)
            return mb_error(MB_MODEL, "%s: %s%s: expected integers from %lld to %lld, found %s", c->path, c->at, name, (long long)lo,
                            (long long)hi, mb_cfg_text(x, text, sizeof text));
        out[i] = json_integer_value(x);
    }
    *n = json_array_size(v);
    return MB_OK;
}
