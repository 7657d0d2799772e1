/* moebatch tokenize: one JSON string a line -> one JSON list of ids a line; --decode: the reverse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/tools.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "text/tokenizer.h"

static enum mb_status print_json(json_t *v)
{
    char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    enum mb_status st = MB_OK;

    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a line of output");
    if (puts(s) < 0)
        st = mb_error(MB_IO, "standard output can't be written");
    free(s);
    return st;
}

static enum mb_status encode_line(const struct mb_tokenizer *t, const json_t *v, bool special, unsigned long line)
{
    struct mb_ids ids = {0};
    json_t *out = json_array();

    if (!json_is_string(v)) {
        json_decref(out);
        return mb_error(MB_INPUT, "line %lu: expected a JSON string, found %s", line, mb_json_type(v));
    }
    enum mb_status st = mb_tokenizer_encode(t, json_string_value(v), json_string_length(v), special, &ids);
    if (st == MB_REQUEST)
        st = mb_error(MB_INPUT, "line %lu: the tokenizer's pattern gave up on this text", line);
    for (int64_t i = 0; st == MB_OK && i < ids.n; i++)
        json_array_append_new(out, json_integer(ids.v[i]));
    if (st == MB_OK)
        st = print_json(out);
    free(ids.v);
    json_decref(out);
    return st;
}

static enum mb_status ids_of(const json_t *v, unsigned long line, int32_t **out)
{
    size_t n = json_array_size(v);

    if (!json_is_array(v))
        return mb_error(MB_INPUT, "line %lu: expected a JSON list of ids, found %s", line, mb_json_type(v));
    int32_t *ids = malloc(sizeof *ids * (n + 1));
    if (ids == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu ids", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > INT32_MAX) {
            free(ids);
            return mb_error(MB_INPUT, "line %lu: element %zu is no token id", line, i);
        }
        ids[i] = (int32_t)json_integer_value(x);
    }
    *out = ids;
    return MB_OK;
}

static enum mb_status decode_line(const struct mb_tokenizer *t, const json_t *v, bool skip, unsigned long line)
{
    struct mb_bytes text = {0};
    int32_t *ids = NULL;

    MB_TRY(ids_of(v, line, &ids));
    enum mb_status st = mb_tokenizer_decode(t, ids, (int64_t)json_array_size(v), skip, &text);
    if (st == MB_OK) {
        json_t *s = json_stringn_nocheck(text.len > 0 ? (const char *)text.data : "", text.len);
        st = s != NULL ? print_json(s) : mb_error(MB_NO_MEMORY, "no memory for a line of output");
        json_decref(s);
    }
    free(ids);
    mb_bytes_fini(&text);
    return st;
}

enum mb_status mb_tool_tokenize(const struct mb_conf *c)
{
    struct mb_tokenizer *t = NULL;
    char *line = NULL;
    size_t cap = 0;
    unsigned long no = 0;

    MB_TRY(mb_tokenizer_load(c->model, &t));
    enum mb_status st = MB_OK;
    for (ssize_t n = getline(&line, &cap, stdin); st == MB_OK && n >= 0; n = getline(&line, &cap, stdin)) {
        char name[32];
        json_t *v = NULL;
        snprintf(name, sizeof name, "line %lu", ++no);
        st = mb_json_parse(line, (size_t)n, name, MB_INPUT, NULL, 0, &v);
        if (st == MB_OK)
            st = c->decode ? decode_line(t, v, c->no_special, no) : encode_line(t, v, !c->no_special, no);
        json_decref(v);
    }
    free(line);
    mb_tokenizer_destroy(t);
    return st;
}
