/* Feeds texts to grammars. Lines of stdin: {"kind": "regex" | "choice" | "json", "text": the grammar, "try":
 * [texts]}; for each one line: "refused: why", or a character a text: 1 it is let through, 0 it is not, p it
 * is let through so far but may not end there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "guide/guide.h"

/* Tokens: every byte. */
static enum mb_status bytes(void *arg, int32_t n, struct mb_bytes *text, int64_t *at)
{
    (void)arg;
    for (int32_t i = 0; i < n; i++) {
        at[i] = (int64_t)text->len;
        MB_TRY(mb_bytes_put(text, &(uint8_t){(uint8_t)i}, 1));
    }
    at[n] = (int64_t)text->len;
    return MB_OK;
}

static char feed(struct mb_guide *u, const char *s, size_t n)
{
    struct mb_config at = {0};
    struct mb_guide_mask mask = {0};
    bool ok = mb_guide_begin(u, &at) == MB_OK;

    for (size_t i = 0; ok && i < n; i++)
        if (mb_guide_take(u, &at, (unsigned char)s[i], &ok) != MB_OK)
            exit(2);
    if (ok && mb_guide_next(u, &at, &mask) != MB_OK)
        exit(2);
    mb_config_fini(&at);
    return !ok ? '0' : mask.ends ? '1' : 'p';
}

static void line(struct mb_guides *g, const json_t *v)
{
    const char *kind = json_string_value(json_object_get(v, "kind"));
    const json_t *text = json_object_get(v, "text"), *list = json_object_get(v, "try");
    struct mb_guide *u;
    char err[400];
    size_t i;
    json_t *one;
    enum mb_status st = mb_guide_open(g,
                                      *kind == 'r'   ? MB_GUIDE_REGEX
                                      : *kind == 'c' ? MB_GUIDE_CHOICE
                                                     : MB_GUIDE_JSON,
                                      json_string_value(text), json_string_length(text), &u, err, sizeof err);
    if (st != MB_OK) {
        printf("refused: %s\n", err);
        return;
    }
    json_array_foreach((json_t *)list, i, one)
        putchar(feed(u, json_string_value(one), json_string_length(one)));
    putchar('\n');
    mb_guide_close(u);
}

int main(void)
{
    const struct mb_guides_options o = {.vocab = 256, .tokens = bytes};
    struct mb_guides *g;
    char *s = NULL, err[400];
    size_t cap = 0;
    json_t *v;

    if (mb_guides_create(&o, &g) != MB_OK)
        return 2;
    for (ssize_t n; (n = getline(&s, &cap, stdin)) > 0;) {
        if (mb_json_parse(s, (size_t)n, "a line", MB_REQUEST, err, sizeof err, &v) != MB_OK)
            return 2;
        line(g, v);
        json_decref(v);
    }
    free(s);
    mb_guides_destroy(g);
    return 0;
}
