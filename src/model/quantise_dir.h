/* A model's directory in another form: what `moebatch quantize` writes. Local. */
#ifndef MB_MODEL_QUANTISE_DIR_H
#define MB_MODEL_QUANTISE_DIR_H
#include <signal.h>
#include "base/files.h"
#include "model/model.h"
#include "model/quantise.h"

#define MB_QUANTISE_MANIFEST "moebatch_quantize.json"

struct mb_quantise_options {
    const char *from, *to; /* directories; to is there, and empty */
    struct mb_quantiser q;
    struct mb_mem *mem;                /* may be NULL */
    const volatile sig_atomic_t *stop; /* not 0: end with MB_STOP; NULL: never */
};

/* A matrix that was quantised. */
struct mb_quantised_tensor {
    char *name; /* as in the files: of its module, or of a tensor that holds several */
    uint8_t role;
    int32_t layer, expert; /* -1: none */
    int64_t n, k;
    struct mb_loss loss;
};
struct mb_quantise_result {
    struct mb_quantised_tensor *tensors;
    int64_t n_tensors;
    char **wide; /* modules with a matrix that stays in its type */
    int64_t n_wide;
    int64_t uneven; /* matrices that would have been quantised, but whose rows are not of whole groups */
    uint64_t bytes_before, bytes_after; /* of the weight files */
    struct mb_files files;              /* what it was made from, with hashes */
    bool stacked;                       /* experts lie in one tensor a layer (gpt-oss) */
};
void mb_quantise_result_fini(struct mb_quantise_result *r);

/* Weight files, index, config.json and the texts of a directory that mb_model_open reads, in files of the
 * same names, all synced. Memory: a few rows at a time. *out: zero; to be given to mb_quantise_result_fini in
 * any case. Errors: those of mb_model_open and of files; MB_MODEL: experts that the form has no place for,
 * weights that are not finite; MB_STOP. */
enum mb_status mb_quantise_dir(const struct mb_quantise_options *o, struct mb_quantise_result *out);
#endif
