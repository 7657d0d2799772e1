/* Keys that hold the answer to a grammar: those of vLLM and OpenAI's response_format. Only their form is
 * looked at here. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "io/parse_draft.h"

#define MAX_TEXT ((size_t)1 << 20) /* bytes of an expression, of choices, of a schema */

static enum mb_status set_guide(struct mb_draft *d, enum mb_guide_kind kind, const char *key,
                                const char *text, size_t n)
{
    struct mb_request *r = d->req;

    if (r->guide_kind != MB_GUIDE_NONE)
        return mb_draft_bad(d, "%s and %s: the text can be held to one of them only", r->guide_key, key);
    if (n > MAX_TEXT)
        return mb_draft_bad(d, "%s: longer than %zu bytes", key, MAX_TEXT);
    r->guide.data = malloc(n + 1);
    if (r->guide.data == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    memcpy(r->guide.data, text, n);
    r->guide.data[n] = 0;
    r->guide.len = n;
    r->guide_kind = kind;
    r->guide_key = key;
    return MB_OK;
}

static enum mb_status set_json(struct mb_draft *d, enum mb_guide_kind kind, const char *key, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

    if (text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    enum mb_status st = set_guide(d, kind, key, text, strlen(text));
    free(text);
    return st;
}

static enum mb_status set_choice(struct mb_draft *d, const char *key, const json_t *v)
{
    size_t i;
    json_t *one;

    if (!json_is_array(v) || json_array_size(v) == 0)
        return mb_draft_bad(d, "%s: expected a list of strings, found %s", key,
                            json_is_array(v) ? "an empty one" : mb_json_type(v));
    json_array_foreach((json_t *)v, i, one) if (!json_is_string(one)) return mb_draft_bad(
        d, "%s: expected strings, found %s", key, mb_json_type(one));
    return set_json(d, MB_GUIDE_CHOICE, key, v);
}

enum mb_status mb_draft_guide(struct mb_draft *d, enum mb_guide_kind kind, const char *key, const json_t *v)
{
    if (kind == MB_GUIDE_CHOICE)
        return set_choice(d, key, v);
    if (json_is_string(v)) /* a schema as its text, too */
        return set_guide(d, kind, key, json_string_value(v), json_string_length(v));
    if (kind == MB_GUIDE_REGEX)
        return mb_draft_bad(d, "%s: expected a string, found %s", key, mb_json_type(v));
    if (!json_is_object(v) && !json_is_boolean(v))
        return mb_draft_bad(d, "%s: expected a JSON Schema, found %s", key, mb_json_type(v));
    return set_json(d, kind, key, v);
}

static enum mb_status set_object(struct mb_draft *d, const char *key)
{
    static const char any[] = "{\"type\":\"object\"}";

    return set_guide(d, MB_GUIDE_JSON, key, any, sizeof any - 1);
}

/* {"type": "json_schema", "json_schema": {"name", "description", "strict", "schema"}} */
enum mb_status mb_draft_response_format(struct mb_draft *d, const char *key, const json_t *v)
{
    const json_t *type = json_object_get(v, "type"), *wrap = json_object_get(v, "json_schema");

    if (!json_is_object(v))
        return mb_draft_bad(d, "%s: expected an object, found %s", key, mb_json_type(v));
    if (mb_draft_is(type, "text"))
        return MB_OK;
    if (mb_draft_is(type, "json_object"))
        return set_object(d, key);
    if (!mb_draft_is(type, "json_schema"))
        return mb_draft_bad(d, "%s: type: expected text, json_object or json_schema", key);
    if (!json_is_object(wrap) || json_object_get(wrap, "schema") == NULL)
        return mb_draft_bad(d, "%s: json_schema: expected an object with \"schema\"", key);
    return mb_draft_guide(d, MB_GUIDE_JSON, key, json_object_get(wrap, "schema"));
}

enum mb_status mb_draft_structured(struct mb_draft *d, const char *key, const json_t *v)
{
    const char *name;
    json_t *one;

    if (!json_is_object(v))
        return mb_draft_bad(d, "%s: expected an object, found %s", key, mb_json_type(v));
    json_object_foreach((json_t *)v, name, one)
    {
        if (json_is_null(one) || (json_is_false(one) && strcmp(name, "json") != 0))
            continue; /* not asked for */
        if (strcmp(name, "regex") == 0)
            MB_TRY(mb_draft_guide(d, MB_GUIDE_REGEX, key, one));
        else if (strcmp(name, "choice") == 0)
            MB_TRY(mb_draft_guide(d, MB_GUIDE_CHOICE, key, one));
        else if (strcmp(name, "json") == 0)
            MB_TRY(mb_draft_guide(d, MB_GUIDE_JSON, key, one));
        else if (strcmp(name, "json_object") == 0)
            MB_TRY(set_object(d, key));
        else
            return mb_draft_bad(d, "%s: \"%.60s\" is not supported", key, name);
    }
    return d->req->guide_kind != MB_GUIDE_NONE
               ? MB_OK
               : mb_draft_bad(d, "%s: expected regex, choice, json or json_object", key);
}
