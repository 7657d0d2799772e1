/* Normalisers: the steps of tokenizer.json's "normalizer", in order. Immutable once built. Local. */
#ifndef MB_TEXT_NORM_H
#define MB_TEXT_NORM_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "text/charsmap.h"
#include "text/pattern.h"

enum mb_norm_kind {
    MB_NORM_NFC,
    MB_NORM_NFD,
    MB_NORM_NFKC,
    MB_NORM_NFKD,
    MB_NORM_LOWERCASE,
    MB_NORM_PREPEND,       /* text before a text that is not empty */
    MB_NORM_REPLACE,       /* each match of pattern by text */
    MB_NORM_STRIP,         /* White_Space at the left and right end */
    MB_NORM_STRIP_ACCENTS, /* drops marks */
    MB_NORM_CHARSMAP,      /* sentencepiece's precompiled map */
    MB_NORM_SPM,           /* all that a sentencepiece model does */
};
struct mb_norm {
    enum mb_norm_kind kind;
    struct mb_pattern pattern;
    struct mb_bytes text;
    bool left, right;
    struct mb_charsmap map;
    const struct mb_spm *spm; /* not owned */
};
void mb_norm_fini(struct mb_norm *s);
/* Bytes that the Replace steps of a tokenizer file may make of a text of n bytes: far above what files mean, and little enough
 * that chained steps fill neither memory nor hours. */
static inline size_t mb_replace_most(size_t n)
{
    return n > SIZE_MAX / 64 - 1024 ? SIZE_MAX : 64 * (n + 1024);
}
/* MB_REQUEST where a text outgrows it. */
enum mb_status mb_replace_fits(size_t have, size_t more, size_t most);
/* Applies steps[0 .. n) to in[0 .. len) and appends the result to out. *first is cleared if the result no
 * longer begins where the input did. Errors: MB_REQUEST (a search or a replacement exceeds its limits),
 * MB_NO_MEMORY. */
enum mb_status mb_norm_apply(const struct mb_norm *steps, int n, const char *in, size_t len,
                             struct mb_work *w, bool *first, struct mb_bytes *out);

/* Unicode normal form of valid UTF-8, appended to out. Linear time whatever the order of the marks. */
enum mb_status mb_unicode_form(const char *s, size_t n, bool compat, bool compose, struct mb_bytes *out);
#endif
