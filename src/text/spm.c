#include "text/spm.h"

#include "base/log.h"
#include "text/tok.h"

void mb_spm_fini(struct mb_spm *s)
{
    (void)s;
}

enum mb_status mb_spm_word(const struct mb_tokenizer *t, const char *s, size_t n, struct mb_work *w,
                           struct mb_ids *out)
{
    (void)t, (void)s, (void)n, (void)w, (void)out;
    return MB_BUG;
}

enum mb_status mb_spm_load(struct mb_tokenizer *t, const char *path)
{
    (void)t;
    return mb_error(MB_MODEL, "%s: sentencepiece models are not supported; convert it to tokenizer.json",
                    path);
}
