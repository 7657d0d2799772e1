/* What the subcommands do with results, journals and shards: inspect, status, assemble, merge. None touches MPI. Local. */
#ifndef MB_IO_TOOLS_H
#define MB_IO_TOOLS_H
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include "base/status.h"

struct mb_inspect_options {
    const char *path;
    bool check;                      /* everything is read and compared with the checksums and digests in the file */
    bool digest, in_order, requests; /* digest: the last line is the file digest; requests: "hash id choice" lines before */
    bool errors;                     /* error rows alone, with their reasons */
    bool text;                       /* generated texts, or reasons of errors */
    bool routing;                    /* load of the experts, layer by layer */
    bool json;                       /* as JSON: one object, or one line a row with text */
};
/* Without any of these: a summary. Errors: MB_INPUT if path is no results file, or not what was written (check; and digest, by id,
 * which is compared with the stored one). */
enum mb_status mb_inspect(FILE *out, const struct mb_inspect_options *o);

/* Compares two results files row by row, as they stand, in the fields of the digest: says the first row and field that differ with both
 * values, and how many rows differ; what was saved in one of them only is said and not compared. *equal: none differs, or only the
 * order of the rows. Memory: a row. Errors: MB_INPUT if one of them is no results file. */
enum mb_status mb_results_compare(FILE *out, const char *a, const char *b, bool *equal);

/* What there is at path: *exit_code 0 complete, 75 resumable (both MB_OK, with rows done of all and the command that resumes);
 * MB_INPUT (logged) if there are neither results nor a run. */
enum mb_status mb_results_status(FILE *out, const char *path, bool json, int *exit_code);

/* Results from the journals of a job that is not running any more. partial: rows that are not done become pending rows (with
 * ids if the input is still there unchanged), and the journals stay, so that the job can be resumed. Without partial and
 * with rows missing: MB_STOP. While the job runs: MB_INPUT, but for partial. keep: journals stay in any case. openai: also write OpenAI result lines there (the tokenizer is
 * looked for where the job had its model); NULL or "": no. stop: set
 * when the process is asked to end: what is half written is removed, MB_STOP (logged); NULL: never. */
enum mb_status mb_results_assemble(const char *path, bool partial, bool keep, const char *openai, const volatile sig_atomic_t *stop);

struct mb_export_options {
    const char *results, *format; /* format: jsonl, openai, csv */
    const char *out;              /* "" or "-": standard output; *.gz: packed */
    const char *model;            /* where the tokenizer is, for openai; "": where the results say */
    bool overwrite;               /* out may be a file that is there */
    const volatile sig_atomic_t *stop; /* as in mb_results_assemble */
};
/* The rows of results as text, in their order; memory: the rows of one request. A file appears whole or not at all. Errors:
 * MB_INPUT if there are no results, or out exists or is they; those of writing. */
enum mb_status mb_export(const struct mb_export_options *o);

/* Joins the results of all shards of one job into one file whose digest is that of the unsplit job. Errors: MB_INPUT if they
 * are not of one job, or one is missing or unfinished, or out exists and overwrite is not given; MB_CORRUPT if rows differ. stop: as in
 * mb_results_assemble. */
enum mb_status mb_results_merge(const char *const *paths, int n, const char *out, bool overwrite, const volatile sig_atomic_t *stop);
#endif
