/* What sentencepiece models have beyond BPE and unigram. */
#ifndef MB_TEXT_SPM_H
#define MB_TEXT_SPM_H
#include <stdbool.h>
#include "base/status.h"
#include "text/piece.h"
#include "text/tokenizer.h"

struct mb_spm {
    bool dummy_prefix;
};
void mb_spm_fini(struct mb_spm *s);
enum mb_status mb_spm_word(const struct mb_tokenizer *t, const char *s, size_t n, struct mb_work *w,
                           struct mb_ids *out);
#endif
