/* What a benchmark found: measurements with their samples, what they are held against, and where they were
 * made. One form for all benchmarks, printed as a table, as JSON (schema moebatch-bench/1) or as CSV, and
 * written as JSON or HDF5 (app/bench_h5.h) and read back by `bench compare`. Local. */
#ifndef MB_APP_BENCH_OUT_H
#define MB_APP_BENCH_OUT_H
#include <stdio.h>
#include "base/json.h"

#define MB_BENCH_SCHEMA "moebatch-bench/1"

struct mb_bench;

/* One measured thing. name: what was measured, unique in its results ("gemm/head/M=8"). samples: n >= 1
 * values, one for each repetition. bound: the value that the machine's limits allow, 0: none is known;
 * formula: how the bound is made, NULL or a text that lives as long as the results. fields: an object with
 * what the name says in words (sizes, type), or NULL; taken over. */
struct mb_measured {
    const char *name, *unit;
    bool less; /* less is better: seconds */
    const double *samples;
    int n;
    double bound;
    const char *formula;
    json_t *fields;
};

/* what: the benchmark ("gemm"). Errors: MB_NO_MEMORY. */
enum mb_status mb_bench_create(const char *what, struct mb_bench **out);
void mb_bench_destroy(struct mb_bench *b); /* NULL ok */
/* A fact beside the measurements, at the top of the JSON ("cpu"); takes over value. Without memory the
 * results are refused when they are printed, here as in mb_bench_add. */
void mb_bench_fact(struct mb_bench *b, const char *key, json_t *value);
void mb_bench_add(struct mb_bench *b, const struct mb_measured *m);
/* The whole as JSON; borrowed. */
const json_t *mb_bench_json(const struct mb_bench *b);

enum mb_bench_form { MB_BENCH_TEXT, MB_BENCH_JSON, MB_BENCH_CSV };
/* Prints all; file: NULL, "", or a file that gets the JSON beside that,
 * or HDF5 by its name. Errors: MB_NO_MEMORY, those of
 * publishing. */
enum mb_status mb_bench_print(const struct mb_bench *b, FILE *f, enum mb_bench_form form, const char *file);

/* Prints a field of CSV (RFC 4180) and what separates it from the next. */
void mb_bench_csv_field(FILE *f, const char *s, char after);

/* Median, smallest and largest of n >= 1 samples; the middle two of an even number are averaged. Pure. */
double mb_bench_median(const double *v, int n);
double mb_bench_least(const double *v, int n);
double mb_bench_most(const double *v, int n);
#endif
