/* The reading side of a results file: rows one after the other (or in any order), through windows over the
 * datasets, so that memory does not grow with the file. Serial; needs no MPI. Shapes and offsets are checked,
 * whatever the file says. Errors: MB_INPUT (logged). Local. */
#ifndef MB_IO_RESULTS_H
#define MB_IO_RESULTS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"
#include "job/record.h"

#define MB_RESULTS_SCHEMA "moebatch-results/1"

struct mb_results_info {
    uint64_t rows, n_prompt, n_output, n_rows; /* N, sum of P, sum of O, sum of R */
    uint64_t input_lines;                      /* of the unsplit input; 0: not known */
    bool complete;                             /* false: a partial file */
    uint64_t top, prompt_top;                  /* widths of top_ids and prompt_top_ids; 0: none */
    uint64_t layers, k;                        /* of /routing; 0: not saved */
    uint64_t vocab;                            /* of /logits; 0: not saved */
    bool logits_last;                          /* /logits is [N, V] */
    uint64_t mtp_vocab, hidden_layers, hidden; /* of /mtp/logits, /hidden; 0: not saved */
    bool replies;                              /* /requests/reply is there: files of old versions have none */
    bool physical;                             /* /physical/rank is there */
};
struct mb_results;

enum mb_status mb_results_open(const char *path, struct mb_results **out);
void mb_results_close(struct mb_results *r); /* NULL ok */
const struct mb_results_info *mb_results_info(const struct mb_results *r);

/* Row i as a record: all but bulk data; n is 0 where it is not known. Caller: mb_record_fini. */
enum mb_status mb_results_row(struct mb_results *r, uint64_t i, struct mb_record *out);
/* The numbers of row i: what mb_results_row gives but for texts and arrays, of which it has the lengths (n_prompt, n_output,
 * top_n, prompt_top.n). Reads neither texts nor tokens; nothing to free. */
enum mb_status mb_results_numbers(struct mb_results *r, uint64_t i, struct mb_record *out);
/* First bulk row (in /rows/offsets) of row i. */
enum mb_status mb_results_first(struct mb_results *r, uint64_t i, uint64_t *first);

/* Bulk rows [from, from + n) of a kind, packed as enum mb_bulk_kind says: [n][layers][k] and so on. For
 * MB_BULK_LOGITS of a file with logits_last, from counts result rows. */
enum mb_status mb_results_bulk(struct mb_results *r, enum mb_bulk_kind kind, uint64_t from, uint64_t n,
                               void *dst);
/* Bytes of one bulk row; 0: not in the file. */
uint64_t mb_results_bulk_bytes(const struct mb_results *r, enum mb_bulk_kind kind);
/* One layer's experts (u16) or weights (f32) of bulk rows [from, from + n), n * k of them; valid until the
 * next call. */
enum mb_status mb_results_layer(struct mb_results *r, enum mb_bulk_kind kind, uint64_t layer, uint64_t from,
                                uint64_t n, const void **out);

/* The layers of /routing in the model (malloc'd, info->layers of them). */
enum mb_status mb_results_layers(struct mb_results *r, int32_t **out);
/* Lines of the input of this result that have rows. */
enum mb_status mb_results_requests(struct mb_results *r, uint64_t *out);
/* Copies the groups /provenance, /metrics, /health and /physical, as far as they exist, into GROUP/name of
 * another file; not /physical/rank, which is a column of the rows. */
struct mb_h5;
enum mb_status mb_results_copy_extras(struct mb_results *r, struct mb_h5 *to, const char *name);

/* A scalar text of /provenance (malloc'd), or NULL if there is none. */
enum mb_status mb_results_provenance(struct mb_results *r, const char *name, char **out);

/* When the file was made, seconds since 1970: what "created" of its OpenAI lines is. Files that have replies have it. */
enum mb_status mb_results_created(struct mb_results *r, int64_t *out);

/* Whether path is a complete result, and the identity it was made with (new reference; NULL if it has none).
 * MB_INPUT if it is no results file. */
enum mb_status mb_results_probe(const char *path, bool *complete, json_t **identity);
#endif
