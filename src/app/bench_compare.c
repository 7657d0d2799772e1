/* moebatch bench compare: two results of benchmarks, measurement by measurement. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench.h"
#include "app/bench_h5.h"
#include "base/log.h"
#include "base/publish.h"
#include "base/rng.h"
#include "io/table.h"

#define MOST_BYTES ((uint64_t)1 << 30)
#define MOST_SAMPLES 4096
#define RESAMPLES 2000
#define FEW 3 /* fewer samples say nothing of how sure a difference is */

struct side {
    const char *path;
    json_t *root;
};

/* One measurement of both. */
struct pair {
    const char *name, *unit;
    bool less;
    double *a, *b;
    int n_a, n_b;
};

enum verdict { SAME, BETTER, WORSE, UNSURE, VERDICTS };
static const char *const verdict_names[VERDICTS] = {"same", "better", "worse", "few samples"};

struct compared {
    double a, b, ratio, low, high; /* medians; b / a, and its interval: NaN with few samples */
    enum verdict verdict;
};

/* ---------------------------------------------------------------- files */
static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s != NULL ? s : "";
}

static enum mb_status bad(const struct side *s, const char *what)
{
    return mb_error(MB_INPUT, "%s: %s; give what `moebatch bench ... --json` or -o wrote", s->path, what);
}

static enum mb_status open_side(struct side *s)
{
    json_t *list, *o;
    size_t i;

    MB_TRY(mb_bench_read(s->path, MOST_BYTES, &s->root));
    list = json_object_get(s->root, "results");
    if (strcmp(text_of(s->root, "schema"), MB_BENCH_SCHEMA) != 0)
        return bad(s, "no results of a benchmark (schema " MB_BENCH_SCHEMA ")");
    if (!json_is_array(list))
        return bad(s, "it has no list of results");
    json_array_foreach(list, i, o)
    {
        const json_t *v = json_object_get(o, "samples");
        size_t n = json_array_size(v);
        if (text_of(o, "name")[0] == '\0' || n < 1 || n > MOST_SAMPLES)
            return bad(s, "a result without a name, or without 1 to 4096 samples");
        for (size_t j = 0; j < n; j++) {
            if (!json_is_number(json_array_get(v, j)))
                return bad(s, "a sample that is no number");
        }
    }
    return MB_OK;
}

static const json_t *find(const json_t *list, const char *name)
{
    size_t i;
    json_t *o;

    json_array_foreach(list, i, o)
    {
        if (strcmp(text_of(o, "name"), name) == 0)
            return o;
    }
    return NULL;
}

static double *samples_of(const json_t *o, int *n)
{
    const json_t *v = json_object_get(o, "samples");
    double *out = malloc((json_array_size(v) + 1) * sizeof *out);

    *n = (int)json_array_size(v);
    for (int i = 0; out != NULL && i < *n; i++)
        out[i] = json_number_value(json_array_get(v, (size_t)i));
    return out;
}

/* ---------------------------------------------------------------- one measurement */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median of n draws from v with putting back. */
static double resampled(const double *v, int n, uint32_t which, uint32_t round, double *room)
{
    for (int i = 0; i < n; i += 4) {
        uint32_t word[4], ctr[4] = {(uint32_t)i, round, which, 3};
        mb_philox4x32(ctr, 0, word);
        for (int j = 0; j < 4 && i + j < n; j++)
            room[i + j] = v[((uint64_t)word[j] * (uint64_t)n) >> 32];
    }
    return mb_bench_median(room, n);
}

/* The interval that holds 95 % of the ratios of medians of resampled samples. */
static enum mb_status interval(const struct pair *p, double *low, double *high)
{
    int most = p->n_a > p->n_b ? p->n_a : p->n_b;
    double *room = malloc((size_t)most * sizeof *room), *ratio = malloc(RESAMPLES * sizeof *ratio);

    if (room == NULL || ratio == NULL) {
        free(room);
        free(ratio);
        return mb_error(MB_NO_MEMORY, "no memory to compare samples");
    }
    for (uint32_t r = 0; r < RESAMPLES; r++) {
        double a = resampled(p->a, p->n_a, 0, r, room);
        ratio[r] = resampled(p->b, p->n_b, 1, r, room) / a;
    }
    qsort(ratio, RESAMPLES, sizeof *ratio, by_value);
    *low = ratio[(int)(0.025 * RESAMPLES)];
    *high = ratio[(int)(0.975 * RESAMPLES)];
    free(room);
    free(ratio);
    return MB_OK;
}

/* A difference counts if the whole interval lies beyond the threshold. */
static enum mb_status compare(const struct pair *p, double threshold, struct compared *out)
{
    struct compared c = {.a = mb_bench_median(p->a, p->n_a),
                         .b = mb_bench_median(p->b, p->n_b),
                         .low = NAN,
                         .high = NAN,
                         .verdict = UNSURE};

    c.ratio = c.b / c.a;
    if (p->n_a >= FEW && p->n_b >= FEW && isfinite(c.ratio)) {
        MB_TRY(interval(p, &c.low, &c.high));
        bool up = c.low > 1 + threshold, down = c.high < 1 - threshold;
        c.verdict = up ? (p->less ? WORSE : BETTER) : down ? (p->less ? BETTER : WORSE) : SAME;
    }
    *out = c;
    return MB_OK;
}

/* ---------------------------------------------------------------- results */
struct report {
    struct side a, b;
    double threshold;
    int common, only_a, only_b, count[VERDICTS];
    bool digests_differ;
    json_t *list;
};

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static enum mb_status add(struct report *r, const struct pair *p, const struct compared *c)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "name", p->name, "unit", p->unit, "better",
                  p->less ? "less" : "more", "a", number(c->a), "b", number(c->b), "ratio", number(c->ratio),
                  "low", number(c->low), "high", number(c->high), "verdict", verdict_names[c->verdict]);

    r->common++;
    r->count[c->verdict]++;
    return json_array_append_new(r->list, o) == 0 ? MB_OK
                                                  : mb_error(MB_NO_MEMORY, "no memory for a comparison");
}

static enum mb_status compare_all(struct report *r)
{
    const json_t *all_a = json_object_get(r->a.root, "results"),
                 *all_b = json_object_get(r->b.root, "results");
    size_t i;
    json_t *x;

    json_array_foreach(all_a, i, x)
    {
        const json_t *y = find(all_b, text_of(x, "name"));
        struct pair p = {.name = text_of(x, "name"),
                         .unit = text_of(x, "unit"),
                         .less = strcmp(text_of(x, "better"), "less") == 0};
        struct compared c = {0};
        if (y == NULL) {
            r->only_a++;
            continue;
        }
        p.a = samples_of(x, &p.n_a);
        p.b = samples_of(y, &p.n_b);
        enum mb_status st = p.a == NULL || p.b == NULL ? mb_error(MB_NO_MEMORY, "no memory for samples")
                                                       : compare(&p, r->threshold, &c);
        if (st == MB_OK)
            st = add(r, &p, &c);
        free(p.a);
        free(p.b);
        MB_TRY(st);
    }
    r->only_b = (int)json_array_size(all_b) - r->common;
    return r->common > 0
               ? MB_OK
               : mb_error(MB_INPUT, "%s and %s have no measurement of one name", r->a.path, r->b.path);
}

/* The same requests of the same model must give the same digest. */
static void look_at_digests(struct report *r)
{
    static const char *const keys[] = {"model",         "random_weights", "numeric_path", "requests",
                                       "prompt_tokens", "output_tokens",  "seed"};
    const json_t *a = json_object_get(r->a.root, "digest"), *b = json_object_get(r->b.root, "digest");
    bool same = a != NULL && b != NULL;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *x = json_object_get(r->a.root, keys[i]), *y = json_object_get(r->b.root, keys[i]);
        same = same && ((x == NULL && y == NULL) || json_equal(x, y) == 1);
    }
    r->digests_differ = same && json_equal(a, b) != 1;
}

/* ---------------------------------------------------------------- printing */
static void print_facts(const struct report *r, FILE *f)
{
    static const char *const keys[] = {
        "bench",        "version",  "commit",        "utc",           "host",   "cpu",
        "nodes",        "ranks",    "threads",       "device",        "layout", "model",
        "numeric_path", "requests", "prompt_tokens", "output_tokens", "seed",   "digest"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const json_t *a = json_object_get(r->a.root, keys[i]), *b = json_object_get(r->b.root, keys[i]);
        if (a == NULL || b == NULL || json_equal(a, b) == 1)
            continue;
        char *x = json_dumps(a, JSON_ENCODE_ANY), *y = json_dumps(b, JSON_ENCODE_ANY);
        fprintf(f, "%-12s: %s, %s\n", keys[i], x != NULL ? x : "?", y != NULL ? y : "?");
        free(x);
        free(y);
    }
}

static void cell(const json_t *o, const char *key, char out[32])
{
    const json_t *v = json_object_get(o, key);

    out[0] = '\0';
    if (json_is_number(v))
        snprintf(out, 32, fabs(json_number_value(v)) >= 1000 ? "%.0f" : "%.4g", json_number_value(v));
}

static enum mb_status print_text(const struct report *r, FILE *f)
{
    static const char *const columns[] = {"WHAT", "A>",    "B>",   "UNIT", "B / A>",
                                          "LOW>", "HIGH>", "B IS", NULL};
    struct mb_table *t = NULL;
    size_t i;
    json_t *o;

    print_facts(r, f);
    MB_TRY(mb_table_create(columns, 1, &t));
    json_array_foreach(r->list, i, o)
    {
        static const char *const keys[] = {"a", "b", "ratio", "low", "high"};
        char v[5][32];
        for (int k = 0; k < 5; k++)
            cell(o, keys[k], v[k]);
        mb_table_row(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", text_of(o, "name"), v[0], v[1], text_of(o, "unit"),
                     v[2], v[3], v[4], text_of(o, "verdict"));
    }
    mb_table_print(t, f);
    fprintf(f,
            "%d compared: %d better, %d worse, %d the same within %.3g %%, %d with too few samples; %d only "
            "in A, %d only in B\n",
            r->common, r->count[BETTER], r->count[WORSE], r->count[SAME], 100 * r->threshold,
            r->count[UNSURE], r->only_a, r->only_b);
    if (r->digests_differ)
        fprintf(f, "the digests differ: A and B did not compute the same\n");
    return MB_OK;
}

static void print_csv(const struct report *r, FILE *f)
{
    static const char *const keys[] = {"a", "b", "ratio", "low", "high"};
    size_t i;
    json_t *o;

    fputs("name,unit,better,a,b,ratio,low,high,verdict\n", f);
    json_array_foreach(r->list, i, o)
    {
        mb_bench_csv_field(f, text_of(o, "name"), ',');
        mb_bench_csv_field(f, text_of(o, "unit"), ',');
        mb_bench_csv_field(f, text_of(o, "better"), ',');
        for (int k = 0; k < 5; k++) {
            const json_t *v = json_object_get(o, keys[k]);
            if (json_is_number(v))
                fprintf(f, "%.17g", json_number_value(v));
            fputc(',', f);
        }
        mb_bench_csv_field(f, text_of(o, "verdict"), '\n');
    }
}

static enum mb_status print_json(const struct report *r, FILE *f, const char *file)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:O}", "schema",
                          "moebatch-bench-compare/1", "a", r->a.path, "b", r->b.path, "threshold",
                          r->threshold, "better", r->count[BETTER], "worse", r->count[WORSE], "same",
                          r->count[SAME], "few_samples", r->count[UNSURE], "only_a", r->only_a, "only_b",
                          r->only_b, "digests_differ", (int)r->digests_differ, "results", r->list);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    enum mb_status st = text == NULL ? mb_error(MB_NO_MEMORY, "no memory for a comparison as JSON") : MB_OK;

    if (text != NULL && file[0] != '\0')
        st = mb_publish_bytes(file, text, strlen(text), 0);
    if (st == MB_OK && f != NULL && text != NULL)
        fprintf(f, "%s\n", text);
    free(text);
    json_decref(o);
    return st;
}

static enum mb_status print(const struct report *r, const struct mb_conf *c)
{
    if (c->json || c->output[0] != '\0')
        MB_TRY(print_json(r, c->json ? stdout : NULL, c->output));
    if (c->json)
        return MB_OK;
    if (!c->csv)
        return print_text(r, stdout);
    print_csv(r, stdout);
    return MB_OK;
}

enum mb_status mb_bench_compare(const struct mb_conf *c, int *exit_code)
{
    struct report r = {
        .a.path = c->args[1], .b.path = c->args[2], .threshold = c->threshold, .list = json_array()};
    enum mb_status st =
        r.list == NULL ? mb_error(MB_NO_MEMORY, "no memory for a comparison") : open_side(&r.a);

    if (st == MB_OK)
        st = open_side(&r.b);
    if (st == MB_OK)
        st = compare_all(&r);
    if (st == MB_OK) {
        look_at_digests(&r);
        st = print(&r, c);
    }
    if (st == MB_OK && (r.count[WORSE] > 0 || r.digests_differ))
        *exit_code = 3;
    json_decref(r.list);
    json_decref(r.a.root);
    json_decref(r.b.root);
    return st;
}
