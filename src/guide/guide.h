/* What a request lets its answer be: a regular expression, a choice of texts, a JSON Schema. A guide follows
 * the bytes of drawn tokens and says which token may come next: a mask over the vocabulary. Masks are made
 * once per configuration and kept, in bounded memory; equal requests share them. What a guide says depends on
 * its text and the tokens alone. Local; one thread at a time. */
#ifndef MB_GUIDE_GUIDE_H
#define MB_GUIDE_GUIDE_H
#include "base/mem.h"
#include "guide/machine.h"
#include "job/request.h"

struct mb_guides_options {
    struct mb_mem *mem;
    int32_t vocab;       /* logits of a row */
    const int32_t *ends; /* [n_ends], copied: ids that end an answer: allowed where the grammar may end, and
                            nowhere else */
    int32_t n_ends;
    /* Asked when the first guide is opened. Appends the bytes of the tokens 0 .. n - 1, and sets at[0 .. n]:
     * token i is the bytes at[i] .. at[i + 1]; without bytes it is never allowed. */
    enum mb_status (*tokens)(void *arg, int32_t n, struct mb_bytes *text, int64_t *at);
    void *arg;
    int64_t bytes; /* for masks and configurations; 0: MB_GUIDE_BYTES */
};
#define MB_GUIDE_BYTES ((int64_t)96 << 20)

struct mb_guides;
struct mb_guide;
enum mb_status mb_guides_create(const struct mb_guides_options *o, struct mb_guides **out);
void mb_guides_destroy(struct mb_guides *g); /* NULL ok; no guide of it is in use */
/* 32-bit words of a mask. */
int32_t mb_guides_words(const struct mb_guides *g);

/* The guide of a text; the caller closes it. Errors: MB_REQUEST with the reason in err[0..cap), not logged;
 * MB_NO_MEMORY. */
enum mb_status mb_guide_open(struct mb_guides *g, enum mb_guide_kind kind, const char *text, size_t n,
                             struct mb_guide **out, char *err, size_t cap);
void mb_guide_close(struct mb_guide *u); /* NULL ok */

/* Where an answer is: the caller's, zero-initialised, freed by mb_config_fini. */
enum mb_status mb_guide_begin(struct mb_guide *u, struct mb_config *at);
/* After one token more. *ok: whether the grammar lets it be there; where not, `at` is worth nothing. Errors:
 * MB_NO_MEMORY. */
enum mb_status mb_guide_take(struct mb_guide *u, struct mb_config *at, int32_t token, bool *ok);

struct mb_guide_mask {
    const uint32_t *bits; /* id i: bit i % 32 of word i / 32. The guide's, until the next call */
    uint64_t number;      /* the same number has always the same bits; never 0 */
    int32_t tokens;       /* allowed, without those that end */
    bool ends;            /* the answer may end */
};
/* Errors: MB_NO_MEMORY. */
enum mb_status mb_guide_next(struct mb_guide *u, const struct mb_config *at, struct mb_guide_mask *out);

/* Counts since the beginning, for tests: masks made, masks given. */
void mb_guides_count(const struct mb_guides *g, int64_t *made, int64_t *given);
#endif
