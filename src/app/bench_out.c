#include "app/bench_out.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "app/bench_h5.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/publish.h"
#include "config.h"
#include "io/table.h"

struct mb_bench {
    json_t *root, *list;
    bool bad; /* something did not fit into memory */
};

/* ---------------------------------------------------------------- samples */
static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double mb_bench_median(const double *v, int n)
{
    double *s = malloc((size_t)n * sizeof *s), m = v[0];

    if (s == NULL)
        return m;
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, by_value);
    m = n % 2 == 1 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
    free(s);
    return m;
}

double mb_bench_least(const double *v, int n)
{
    double m = v[0];
    for (int i = 1; i < n; i++)
        m = v[i] < m ? v[i] : m;
    return m;
}

double mb_bench_most(const double *v, int n)
{
    double m = v[0];
    for (int i = 1; i < n; i++)
        m = v[i] > m ? v[i] : m;
    return m;
}

/* ---------------------------------------------------------------- making them */
enum mb_status mb_bench_create(const char *what, struct mb_bench **out)
{
    struct mb_bench *b = calloc(1, sizeof *b);
    time_t now = (time_t)mb_utc();
    struct tm tm;
    char when[32];

    gmtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (b != NULL) {
        b->list = json_array();
        b->root = json_pack("{s:s, s:s, s:s, s:s, s:s}", "schema", MB_BENCH_SCHEMA, "bench", what, "version",
                            PACKAGE_VERSION, "commit", MB_COMMIT, "utc", when);
    }
    if (b == NULL || b->root == NULL || b->list == NULL) {
        mb_bench_destroy(b);
        return mb_error(MB_NO_MEMORY, "no memory for results");
    }
    *out = b;
    return MB_OK;
}

void mb_bench_destroy(struct mb_bench *b)
{
    if (b == NULL)
        return;
    json_decref(b->root);
    json_decref(b->list);
    free(b);
}

void mb_bench_fact(struct mb_bench *b, const char *key, json_t *value)
{
    b->bad |= json_object_set_new(b->root, key, value) != 0;
}

/* Numbers with what a double surely has; what is no number (a rate over no time) is left out. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

void mb_bench_add(struct mb_bench *b, const struct mb_measured *m)
{
    json_t *o = json_object(), *samples = json_array();
    double median = mb_bench_median(m->samples, m->n);
    bool bad = json_object_set_new(o, "name", json_string(m->name)) != 0;

    bad |= json_object_set_new(o, "unit", json_string(m->unit)) != 0;
    bad |= json_object_set_new(o, "better", json_string(m->less ? "less" : "more")) != 0;
    bad |= json_object_set_new(o, "median", number(median)) != 0;
    bad |= json_object_set_new(o, "min", number(mb_bench_least(m->samples, m->n))) != 0;
    bad |= json_object_set_new(o, "max", number(mb_bench_most(m->samples, m->n))) != 0;
    for (int i = 0; i < m->n; i++)
        bad |= json_array_append_new(samples, number(m->samples[i])) != 0;
    bad |= json_object_set_new(o, "samples", samples) != 0;
    if (m->bound > 0) {
        bad |= json_object_set_new(o, "bound", number(m->bound)) != 0;
        bad |=
            json_object_set_new(o, "fraction", number(m->less ? m->bound / median : median / m->bound)) != 0;
        bad |= m->formula != NULL && json_object_set_new(o, "formula", json_string(m->formula)) != 0;
    }
    if (m->fields != NULL) {
        bad |= json_object_update(o, m->fields) != 0;
        json_decref(m->fields);
    }
    bad |= json_array_append_new(b->list, o) != 0;
    b->bad |= bad;
}

const json_t *mb_bench_json(const struct mb_bench *b)
{
    (void)json_object_set(b->root, "results", b->list);
    return b->root;
}

/* ---------------------------------------------------------------- printing them */
static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s != NULL ? s : "";
}

/* The number under key with four significant digits, or as it is written; "" where there is none. */
static const char *digits(const json_t *o, const char *key, bool all, char buf[32])
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_number(v))
        return "";
    snprintf(buf, 32,
             all                                  ? "%.17g"
             : fabs(json_number_value(v)) >= 1000 ? "%.0f"
                                                  : "%.4g",
             json_number_value(v));
    return buf;
}

static void print_facts(const struct mb_bench *b, FILE *f)
{
    const char *key;
    json_t *v;

    json_object_foreach(b->root, key, v)
    {
        if (json_is_string(v))
            fprintf(f, "%-12s: %s\n", key, json_string_value(v));
        else if (json_is_integer(v))
            fprintf(f, "%-12s: %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(v));
        else if (json_is_real(v))
            fprintf(f, "%-12s: %.4g\n", key, json_real_value(v));
    }
}

/* Formulas are few and long: below the table, each once. */
static void print_formulas(const struct mb_bench *b, FILE *f)
{
    size_t i, j;
    json_t *o;

    json_array_foreach(b->list, i, o)
    {
        const char *formula = text_of(o, "formula");
        bool said = formula[0] == '\0';
        for (j = 0; j < i && !said; j++)
            said = strcmp(text_of(json_array_get(b->list, j), "formula"), formula) == 0;
        if (!said)
            fprintf(f, "bound: %s\n", formula);
    }
}

static enum mb_status print_text(const struct mb_bench *b, FILE *f)
{
    static const char *const columns[] = {"WHAT", "MEDIAN>", "MIN>",   "MAX>",
                                          "UNIT", "BOUND>",  "OF IT>", NULL};
    struct mb_table *t = NULL;
    size_t i;
    json_t *o;

    print_facts(b, f);
    MB_TRY(mb_table_create(columns, 1, &t));
    json_array_foreach(b->list, i, o)
    {
        char v[4][32], part[32] = "";
        const json_t *fraction = json_object_get(o, "fraction");
        if (json_is_number(fraction))
            snprintf(part, sizeof part, "%.1f %%", 100 * json_number_value(fraction));
        mb_table_row(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", text_of(o, "name"), digits(o, "median", false, v[0]),
                     digits(o, "min", false, v[1]), digits(o, "max", false, v[2]), text_of(o, "unit"),
                     digits(o, "bound", false, v[3]), part);
    }
    mb_table_print(t, f);
    print_formulas(b, f);
    return MB_OK;
}

void mb_bench_csv_field(FILE *f, const char *s, char after)
{
    bool plain = strpbrk(s, ",\"\r\n") == NULL;

    if (!plain)
        fputc('"', f);
    for (; *s != '\0'; s++) {
        if (*s == '"')
            fputc('"', f);
        fputc(*s, f);
    }
    if (!plain)
        fputc('"', f);
    fputc(after, f);
}

static void print_csv(const struct mb_bench *b, FILE *f)
{
    static const char *const numbers[] = {"median", "min", "max", "bound", "fraction"};
    size_t i;
    json_t *o;

    fputs("name,unit,better,samples,median,min,max,bound,fraction,formula\n", f);
    json_array_foreach(b->list, i, o)
    {
        char v[32];
        mb_bench_csv_field(f, text_of(o, "name"), ',');
        mb_bench_csv_field(f, text_of(o, "unit"), ',');
        mb_bench_csv_field(f, text_of(o, "better"), ',');
        fprintf(f, "%zu,", json_array_size(json_object_get(o, "samples")));
        for (size_t j = 0; j < sizeof numbers / sizeof numbers[0]; j++)
            fprintf(f, "%s,", digits(o, numbers[j], true, v));
        mb_bench_csv_field(f, text_of(o, "formula"), '\n');
    }
}

/* One text, its newline included. */
static enum mb_status to_json(const struct mb_bench *b, struct mb_bytes *out)
{
    char *text = b->bad ? NULL : json_dumps(mb_bench_json(b), JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    enum mb_status st = text == NULL ? mb_error(MB_NO_MEMORY, "no memory for results as JSON")
                                     : mb_bytes_put(out, text, strlen(text));

    free(text);
    return st == MB_OK ? mb_bytes_put(out, "\n", 1) : st;
}

static enum mb_status write_h5(const struct mb_bench *b, struct mb_bytes *text, const char *file)
{
    MB_TRY(mb_bytes_put(text, "", 1)); /* a NUL behind it */
    text->len--;
    return mb_bench_h5_write(file, mb_bench_json(b), (const char *)text->data);
}

enum mb_status mb_bench_print(const struct mb_bench *b, FILE *f, enum mb_bench_form form, const char *file)
{
    struct mb_bytes text = {0};
    enum mb_status st = to_json(b, &text);

    if (st == MB_OK && file != NULL && file[0] != '\0')
        st = mb_bench_h5_named(file) ? write_h5(b, &text, file) : mb_publish_bytes(file, text.data, text.len, 0);
    if (st == MB_OK && form == MB_BENCH_JSON)
        fwrite(text.data, 1, text.len, f);
    else if (st == MB_OK && form == MB_BENCH_CSV)
        print_csv(b, f);
    else if (st == MB_OK)
        st = print_text(b, f);
    mb_bytes_fini(&text);
    return st;
}
