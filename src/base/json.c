#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/fs.h"
#include "base/json_python.h"
#include "base/log.h"
#include "base/mem.h"

/* Once more with the numbers that Python writes and jansson refuses; NULL if there are none. */
static json_t *parse_python(const void *text, size_t n, size_t flags)
{
    struct mb_bytes b = {0};
    json_error_t ignored;
    bool changed = false;
    json_t *v = NULL;
    if (mb_json_from_python(text, n, &b, &changed) == MB_OK && changed)
        v = json_loadb((const char *)b.data, b.len, flags, &ignored);
    mb_bytes_fini(&b);
    return v;
}

enum mb_status mb_json_parse(const void *text, size_t n, const char *what, enum mb_status st_bad, char *err, size_t cap,
                             json_t **out)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t je = {.text = "a NUL byte", .line = 1};
    /* jansson takes a NUL byte behind a number or a word for nothing at all; JSON has no place for one */
    const char *nul = n > 0 ? memchr(text, 0, n) : NULL;
    json_t *v = nul != NULL ? NULL : json_loadb(text, n, flags, &je);

    if (v == NULL && nul == NULL)
        v = parse_python(text, n, flags);
    if (v != NULL) {
        *out = v;
        return MB_OK;
    }
    if (nul != NULL)
        je.column = (int)(nul - (const char *)text) + 1;
    if (st_bad == MB_REQUEST) {
        if (err != NULL)
            snprintf(err, cap, "not JSON: %s (column %d)", je.text, je.column);
        return MB_REQUEST;
    }
    return mb_error(st_bad, "%s: not JSON: %s (line %d, column %d)", what, je.text, je.line, je.column);
}

enum mb_status mb_json_load(const char *path, uint64_t max, enum mb_status st_bad, json_t **out)
{
    struct mb_bytes text = {0};
    enum mb_status st = mb_file_read(path, max, st_bad, &text);
    if (st == MB_OK)
        st = mb_json_parse(text.data, text.len, path, st_bad, NULL, 0, out);
    mb_bytes_fini(&text);
    return st;
}

const char *mb_json_type(const json_t *v)
{
    if (v == NULL)
        return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static const json_t *member(const json_t *obj, const char *key, bool *found)
{
    const json_t *v = json_object_get(obj, key);
    bool there = v != NULL && !json_is_null(v);
    if (found != NULL)
        *found = there;
    return there ? v : NULL;
}

enum mb_status mb_json_int(const json_t *obj, const char *key, int64_t lo, int64_t hi, const char *what, int64_t *out,
                           bool *found)
{
    const json_t *v = member(obj, key, found);
    int64_t x;

    if (v == NULL)
        return MB_OK;
    if (json_is_integer(v)) {
        x = json_integer_value(v);
    } else if (json_is_real(v) && fabs(json_real_value(v)) < 9e15 && floor(json_real_value(v)) == json_real_value(v)) {
        x = (int64_t)json_real_value(v);
    } else {
        return mb_error(MB_MODEL, "%s: %s: expected an integer, found %s", what, key, mb_json_type(v));
    }
    if (x < lo || x > hi)
        return mb_error(MB_MODEL, "%s: %s: expected %lld to %lld, found %lld", what, key, (long long)lo, (long long)hi,
                        (long long)x);
    *out = x;
    return MB_OK;
}

enum mb_status mb_json_real(const json_t *obj, const char *key, const char *what, double *out, bool *found)
{
    const json_t *v = member(obj, key, found);
    if (v == NULL)
        return MB_OK;
    if (!json_is_number(v))
        return mb_error(MB_MODEL, "%s: %s: expected a number, found %s", what, key, mb_json_type(v));
    *out = json_number_value(v);
    return MB_OK;
}

enum mb_status mb_json_bool(const json_t *obj, const char *key, const char *what, bool *out, bool *found)
{
    const json_t *v = member(obj, key, found);
    if (v == NULL)
        return MB_OK;
    if (!json_is_boolean(v))
        return mb_error(MB_MODEL, "%s: %s: expected true or false, found %s", what, key, mb_json_type(v));
    *out = json_is_true(v);
    return MB_OK;
}

enum mb_status mb_json_str(const json_t *obj, const char *key, const char *what, const char **out, bool *found)
{
    const json_t *v = member(obj, key, found);
    if (v == NULL)
        return MB_OK;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return mb_error(MB_MODEL, "%s: %s: expected a string, found %s", what, key, mb_json_type(v));
    *out = json_string_value(v);
    return MB_OK;
}
