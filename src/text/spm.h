/* sentencepiece models: what they have beyond BPE and unigram (Kudo and Richardson, 2018). Immutable once
 * built. */
#ifndef MB_TEXT_SPM_H
#define MB_TEXT_SPM_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "text/added.h"
#include "text/charsmap.h"
#include "text/piece.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

enum mb_spm_type { /* as the file numbers them */
                   MB_SPM_NORMAL = 1,
                   MB_SPM_UNKNOWN = 2,
                   MB_SPM_CONTROL = 3,
                   MB_SPM_USER_DEFINED = 4,
                   MB_SPM_UNUSED = 5,
                   MB_SPM_BYTE = 6,
};
#define MB_SPM_SPACE "\xe2\x96\x81" /* U+2581 */

struct mb_spm {
    bool dummy_prefix, strip_spaces, escape_spaces, suffix_space, byte_fallback;
    bool has_map;
    bool first_only; /* the space in front belongs to the beginning of the whole text, not of each part of it */
    struct mb_charsmap map;
    struct mb_added user; /* user-defined symbols: neither normalised nor merged */
    struct mb_vocab
        pieces; /* what can be found in a text; from its size on: characters that only parts of pieces have */
    int32_t reals;            /* ids below are pieces, from here on such characters */
    uint8_t *type;            /* [pieces of the file] */
    int32_t unk, bos, eos;    /* or -1 */
    struct mb_bytes unk_text; /* what an unknown piece is decoded to */
};
void mb_spm_fini(struct mb_spm *s);
/* sentencepiece's normaliser: character map, spaces to U+2581, the space in front. Appends to out. */
enum mb_status mb_spm_normalize(const struct mb_spm *m, const char *s, size_t n, bool first, struct mb_bytes *out);
/* Appends the ids of a normalised text by the model's merges. */
enum mb_status mb_spm_word(const struct mb_tokenizer *t, const char *s, size_t n, struct mb_work *w,
                           struct mb_ids *out);
#endif
