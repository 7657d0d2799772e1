#include "app/bench_routes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/rng.h"

enum mb_status mb_bench_routes_parse(const char *what, const char *option, double *exponent)
{
    char *end = NULL;

    *exponent = 0;
    if (strcmp(what, "uniform") == 0)
        return MB_OK;
    if (strncmp(what, "zipf:", 5) == 0 && what[5] >= '0' && what[5] <= '9')
        *exponent = strtod(what + 5, &end);
    if (end == NULL || *end != '\0' || !(*exponent > 0 && *exponent <= 10))
        return mb_error(
            MB_USAGE,
            "%s '%s' is neither uniform nor zipf:S with S above 0 and up to 10, as in zipf:1.2", option, what);
    return MB_OK;
}

/* In (0, 1) */
static double draw(uint64_t key, uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t word[4], ctr[4] = {a, b, c, 2};

    mb_philox4x32(ctr, key, word);
    return ((double)word[0] + 0.5) / 4294967296.0;
}

struct weight {
    double key;
    int32_t expert;
};

static int by_key(const void *a, const void *b)
{
    const struct weight *x = a, *y = b;

    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->expert - y->expert;
}

/* log of the weight of each expert: popularity by place in a shuffled order. */
static void make_logs(double exponent, uint64_t seed, struct weight *w, int32_t experts, double *log_of)
{
    for (int32_t e = 0; e < experts; e++)
        w[e] = (struct weight){draw(seed, (uint32_t)e, 0, UINT32_MAX), e};
    qsort(w, (size_t)experts, sizeof *w, by_key);
    for (int32_t i = 0; i < experts; i++)
        log_of[w[i].expert] = -exponent * log((double)i + 1);
}

/* The k largest of log weight + Gumbel noise are k draws without putting back. */
enum mb_status mb_bench_routes_draw(double exponent, uint64_t seed, int32_t rank, int64_t rows,
                                    int32_t experts, int32_t k, int32_t *out)
{
    struct weight *w = calloc((size_t)experts, sizeof *w);
    double *log_of = calloc((size_t)experts, sizeof *log_of);
    enum mb_status st = w == NULL || log_of == NULL
                            ? mb_error(MB_NO_MEMORY, "no memory to draw routes over %d experts", (int)experts)
                            : MB_OK;

    if (st == MB_OK)
        make_logs(exponent, seed, w, experts, log_of);
    for (int64_t r = 0; r < rows && st == MB_OK; r++) {
        for (int32_t e = 0; e < experts; e++)
            w[e] = (struct weight){
                log_of[e] - log(-log(draw(seed, (uint32_t)e, (uint32_t)r, (uint32_t)rank))), e};
        qsort(w, (size_t)experts, sizeof *w, by_key);
        for (int32_t i = 0; i < k; i++)
            out[r * k + i] = w[i].expert;
    }
    free(w);
    free(log_of);
    return st;
}
