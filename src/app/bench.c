#include "app/bench.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

#define MOST_NUMBERS 65536

/* A number of at most 18 digits; *at moves behind it. */
static bool number(const char **at, int64_t *out)
{
    size_t n = strspn(*at, "0123456789");

    if (n == 0 || n > 18)
        return false;
    *out = strtoll(*at, NULL, 10);
    *at += n;
    return true;
}

/* One piece of the list, "8" or "1-8"; *at moves behind it. */
static bool piece(const char **at, int64_t *first, int64_t *last)
{
    if (!number(at, first))
        return false;
    *last = *first;
    if (**at == '-') {
        (*at)++;
        if (!number(at, last))
            return false;
    }
    return *first <= *last;
}

enum mb_status mb_bench_list(const char *text, const char *what, int64_t lo, int64_t hi, int64_t **out,
                             int *n)
{
    const char *at = text;
    int64_t *list = malloc(MOST_NUMBERS * sizeof *list), first, last;
    int count = 0;
    bool ok = true;

    if (list == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of numbers");
    while (ok) {
        ok = piece(&at, &first, &last) && first >= lo && last <= hi && last - first < MOST_NUMBERS - count;
        for (int64_t v = first; ok && v <= last; v++)
            list[count++] = v;
        if (*at != ',')
            break;
        at++;
    }
    if (!ok || *at != '\0') {
        free(list);
        return mb_error(
            MB_USAGE,
            "%s '%s' is no list of at most %d numbers and ranges from %lld to %lld, as in 1-8,16,32", what,
            text, MOST_NUMBERS, (long long)lo, (long long)hi);
    }
    *out = list;
    *n = count;
    return MB_OK;
}

enum mb_status mb_bench_command(const struct mb_conf *c, int *argc, char ***argv, int *exit_code)
{
    const char *what = c->args[0];

    if (strcmp(what, "gemm") == 0)
        return mb_bench_gemm(c);
    if (strcmp(what, "throughput") == 0 || strcmp(what, "latency") == 0)
        return mb_bench_load(c, argc, argv, strcmp(what, "latency") == 0);
    if (strcmp(what, "calibrate") == 0)
        return mb_bench_calibrate(c, argc, argv);
    if (strcmp(what, "run") == 0)
        return mb_bench_run(c, argc, argv);
    if (strcmp(what, "compare") == 0)
        return mb_bench_compare(c, exit_code);
    if (strcmp(what, "nodes") == 0)
        return mb_bench_nodes(c, argc, argv, exit_code);
    if (strcmp(what, "alltoall") == 0)
        return mb_bench_alltoall(c, argc, argv);
    return mb_error(MB_BUG, "bench %s has no function", what);
}
