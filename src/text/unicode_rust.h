/* Character classes as Hugging Face's tokenizers package has them: its parts know other versions of Unicode
 * than utf8proc (normal forms and marks 9, punctuation 8, words, digits and lower case 17). Local, pure. */
#ifndef MB_TEXT_UNICODE_RUST_H
#define MB_TEXT_UNICODE_RUST_H
#include <stdbool.h>
#include <stdint.h>

/* A character that normal forms leave as it is, and that is no mark: newer than they are. */
bool mb_rust_inert(uint32_t cp);
/* Lower case, one character for one (U+0130 is the caller's). */
uint32_t mb_rust_lower(uint32_t cp);
bool mb_rust_word(uint32_t cp);   /* \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control */
bool mb_rust_number(uint32_t cp); /* Nd, Nl, No */
bool mb_rust_punct(uint32_t cp);  /* P, and ASCII punctuation */
bool mb_rust_mark(uint32_t cp);   /* M */
#endif
