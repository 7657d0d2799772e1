/* Pre-tokenizers: the steps of tokenizer.json's "pre_tokenizer", in order; they cut the text pieces finer and
 * rewrite them (spaces to U+2581, bytes to GPT-2's characters). Immutable once built. Local. */
#ifndef MB_TEXT_PRETOK_H
#define MB_TEXT_PRETOK_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "text/pattern.h"
#include "text/piece.h"

enum mb_pre_kind {
    MB_PRE_SPLIT,        /* at the matches of pattern */
    MB_PRE_CLASS,        /* at each character of a class */
    MB_PRE_RUNS,         /* inside runs of spaces, or of others, of more than run_max characters, and every text_max */
    MB_PRE_PREFIX_SPACE, /* a space before each piece that has none */
    MB_PRE_BYTES,        /* every byte becomes its character */
    MB_PRE_METASPACE,    /* U+0020 becomes mark, mark in front by prepend */
};
enum mb_behavior {
    MB_SPLIT_REMOVED,
    MB_SPLIT_ISOLATED,
    MB_SPLIT_CONTIGUOUS,
    MB_SPLIT_MERGED_WITH_PREVIOUS,
    MB_SPLIT_MERGED_WITH_NEXT,
};
enum mb_prepend {
    MB_PREPEND_ALWAYS,
    MB_PREPEND_FIRST, /* only to the piece that begins the input */
    MB_PREPEND_NEVER,
};
struct mb_pre {
    enum mb_pre_kind kind;
    enum mb_behavior behavior;
    bool invert; /* what does not match is the delimiter */
    struct mb_pattern pattern;
    bool (*is_in)(uint32_t cp); /* the class; NULL: the one character cp */
    uint32_t cp;
    enum mb_prepend prepend;
    char mark[4];
    int mark_len;
    int32_t run_max, text_max;
};
void mb_pre_fini(struct mb_pre *s);
/* Applies steps[0 .. n) to w->cur. Errors: MB_REQUEST (a search exceeds its limits), MB_NO_MEMORY. */
enum mb_status mb_pre_apply(const struct mb_pre *steps, int n, struct mb_work *w);

/* GPT-2's character for a byte (printable Latin-1 stands for itself, the rest from U+0100 on), and back (-1:
 * none). */
uint32_t mb_byte_char(uint8_t b);
int mb_char_byte(uint32_t cp);
#endif
