/* The id of a line that is no JSON as a whole (cut off, a control character, half a surrogate): found by
 * walking over its text, so that its error row can be told from others. */
#include <string.h>
#include "io/parse_draft.h"

static size_t string_end(const char *s, size_t n, size_t at)
{
    for (at++; at < n && s[at] != '"'; at++)
        at += s[at] == '\\';
    return at < n ? at + 1 : n;
}

static size_t skip(const char *s, size_t n, size_t at)
{
    while (at < n && strchr(" \t\r\n", s[at]) != NULL && s[at] != 0)
        at++;
    return at;
}

/* The end of a string or a number at s[at]; at itself: neither. */
static size_t value_end(const char *s, size_t n, size_t at)
{
    if (at < n && s[at] == '"')
        return string_end(s, n, at);
    while (at < n && s[at] != 0 && strchr("0123456789+-.eE", s[at]) != NULL)
        at++;
    return at;
}

json_t *mb_line_member(const char *s, size_t n, const char *key)
{
    size_t k = strlen(key), from;
    int depth = 0;

    for (size_t at = 0; at < n;) {
        char c = s[at];
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (c != '"') {
            at++;
            continue;
        }
        from = at;
        at = string_end(s, n, at);
        bool found = depth == 1 && at - from == k + 2 && memcmp(s + from + 1, key, k) == 0;
        size_t value = skip(s, n, at);
        if (!found || value >= n || s[value] != ':')
            continue;
        value = skip(s, n, value + 1);
        return json_loadb(s + value, value_end(s, n, value) - value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    }
    return NULL;
}
