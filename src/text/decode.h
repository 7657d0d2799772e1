/* Decoders: the steps of tokenizer.json's "decoder" as a chain through which tokens flow one at a time, so
 * that whole and incremental decoding are the same code. Immutable once built (the state is in struct
 * mb_decoder). Local. */
#ifndef MB_TEXT_DECODE_H
#define MB_TEXT_DECODE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "text/pattern.h"

enum mb_dec_kind {
    MB_DEC_BYTES, /* GPT-2's characters back to bytes; what is not UTF-8 becomes U+FFFD per maximal subpart */
    MB_DEC_REPLACE,       /* in each token, matches of pattern by text */
    MB_DEC_BYTE_FALLBACK, /* runs of <0xXX>: their UTF-8, or one U+FFFD a byte if the run as a whole is not
                             UTF-8 */
    MB_DEC_FUSE,          /* all tokens become one */
    MB_DEC_STRIP,         /* up to start characters cp at the start of each token, up to stop at its end */
    MB_DEC_METASPACE,     /* mark becomes a space; in the first token it vanishes if strip_first */
    MB_DEC_JOIN,          /* a space between tokens (what a missing decoder means) */
    MB_DEC_SPM,           /* sentencepiece: as METASPACE, bytes singly, the rules of its own decoder */
};
struct mb_dec {
    enum mb_dec_kind kind;
    struct mb_pattern pattern;
    struct mb_bytes text;
    uint32_t cp;
    int64_t start, stop;
    char mark[4];
    int mark_len;
    bool strip_first;
    bool fused; /* its input is one endless token, coming in chunks of whole characters */
};
#define MB_DEC_MAX 16
void mb_dec_fini(struct mb_dec *s);

/* State of one step. */
struct mb_dec_state {
    struct mb_bytes pend; /* bytes whose meaning is not known yet */
    struct mb_bytes tmp;
    int64_t count; /* STRIP: characters cut at the start, METASPACE and JOIN: tokens seen */
    int64_t tail;  /* STRIP: characters held back at the end */
    bool started;  /* STRIP: the start is over */
};
#endif
