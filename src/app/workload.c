#include "app/workload.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

#define MOST_REQUESTS 1000000000000
#define MOST_TOKENS 100000000
#define MOST_DEPTH 16

static const struct mb_workload usual = {100000, 1024, 256};

/* A number from low to most; *at moves behind it and the blanks after it. */
static bool number(const char **at, int64_t low, int64_t most, int64_t *out)
{
    int64_t v = 0;

    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        v = v * 10 + (**at - '0');
        if (v > most)
            return false;
    }
    *at += strspn(*at, " ");
    *out = v;
    return v >= low;
}

static bool sign(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    *at += strspn(*at, " ");
    return true;
}

/* requests: where it does not say */
static bool parse(const char *what, int64_t requests, struct mb_workload *out)
{
    struct mb_workload w = {.requests = requests};
    const char *at = what + strspn(what, " ");
    int64_t first;

    if (!number(&at, 1, MOST_REQUESTS, &first))
        return false;
    if (sign(&at, 'x')) {
        w.requests = first;
        if (!number(&at, 1, MOST_TOKENS, &first))
            return false;
    }
    w.prompt = first;
    if (w.prompt > MOST_TOKENS || !sign(&at, '+') || !number(&at, 0, MOST_TOKENS, &w.output) || *at != '\0')
        return false;
    *out = w;
    return true;
}

/* ---------------------------------------------------------------- a file */

static int64_t text_tokens(const json_t *v, int depth)
{
    const char *key;
    json_t *child;
    size_t i;
    int64_t n = 0;

    if (json_is_string(v))
        return ((int64_t)json_string_length(v) + MB_WORKLOAD_BYTES - 1) / MB_WORKLOAD_BYTES;
    if (json_is_integer(v))
        return 1;
    if (depth == MOST_DEPTH)
        return 0;
    json_array_foreach(v, i, child) n += text_tokens(child, depth + 1);
    json_object_foreach((json_t *)(uintptr_t)v, key, child) if (strcmp(key, "role") != 0) n +=
        text_tokens(child, depth + 1);
    return n;
}

static void count_line(const json_t *line, struct mb_workload *sum)
{
    static const char *const generated[] = {"prompt", "prompt_ids", "messages"};
    static const char *const scored[] = {"context",          "context_ids", "continuation",
                                         "continuation_ids", "text",        "text_ids"};
    const json_t *body = json_object_get(line, "body"), *in = json_is_object(body) ? body : line;
    const json_t *most = json_object_get(in, "max_tokens");
    bool generates = false;

    for (size_t i = 0; i < sizeof generated / sizeof generated[0]; i++) {
        const json_t *v = json_object_get(in, generated[i]);
        generates |= v != NULL;
        sum->prompt += text_tokens(v, 0);
    }
    for (size_t i = 0; i < sizeof scored / sizeof scored[0]; i++)
        sum->prompt += text_tokens(json_object_get(in, scored[i]), 0);
    sum->requests++;
    if (generates)
        sum->output +=
            json_is_integer(most) && json_integer_value(most) >= 0 && json_integer_value(most) <= MOST_TOKENS
                ? json_integer_value(most)
                : MB_WORKLOAD_OUTPUT;
}

static enum mb_status read_file(const char *path, FILE *f, struct mb_workload *out)
{
    struct mb_workload sum = {0};
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, f)) > 0) {
        json_t *o = json_loadb(line, (size_t)n, JSON_DISABLE_EOF_CHECK, NULL);
        if (json_is_object(o))
            count_line(o, &sum);
        json_decref(o);
    }
    free(line);
    if (ferror(f))
        return mb_error(MB_IO, "%s can't be read: %s", path, strerror(errno));
    if (sum.requests == 0)
        return mb_error(MB_INPUT,
                        "--workload %s has no requests in JSON lines; give one that has, or lengths as in "
                        "'100000 x 1024+256'",
                        path);
    *out = (struct mb_workload){sum.requests, (sum.prompt + sum.requests - 1) / sum.requests,
                                (sum.output + sum.requests - 1) / sum.requests};
    if (out->prompt == 0)
        out->prompt = 1;
    return MB_OK;
}

enum mb_status mb_workload_parse(const char *what, int64_t requests, struct mb_workload *out)
{
    if (parse(what, requests, out))
        return MB_OK;
    return mb_error(MB_USAGE, "--workload '%s' is neither a file nor '[REQUESTS x] PROMPT+OUTPUT' as in '64x128+64'", what);
}

enum mb_status mb_workload_read(const char *what, struct mb_workload *out)
{
    if (what[0] == '\0') {
        *out = usual;
        return MB_OK;
    }
    if (parse(what, usual.requests, out))
        return MB_OK;
    FILE *f = fopen(what, "r");
    if (f == NULL)
        return mb_error(
            MB_USAGE,
            "--workload '%s' is neither a file that can be read (%s) nor '[REQUESTS x] PROMPT+OUTPUT' as in "
            "'100000 x 1024+256'",
            what, strerror(errno));
    enum mb_status st = read_file(what, f, out);
    fclose(f);
    return st;
}
