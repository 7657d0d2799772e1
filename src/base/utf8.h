/* UTF-8, and classes of characters by the tables of utf8proc. Local, pure. */
#ifndef MB_BASE_UTF8_H
#define MB_BASE_UTF8_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

/* One step at s[0 .. n), n >= 1. Valid: returns the length of the character and sets *cp. Invalid: returns
 * minus the length of the maximal invalid subpart; *cut then says whether it ends only because the input
 * does. */
int mb_utf8_step(const uint8_t *s, size_t n, uint32_t *cp, bool *cut);
/* The same on text that is known to be valid: returns the length. */
int mb_utf8_next(const char *s, uint32_t *cp);
/* Start of the character that ends before s[end], end >= 1, in valid text. */
size_t mb_utf8_back(const char *s, size_t end);
/* Encodes cp (a scalar value) into out; returns the length. */
int mb_utf8_put(uint32_t cp, char out[4]);
enum mb_status mb_utf8_append(struct mb_bytes *b, uint32_t cp);

/* Valid or not (WHATWG); repair appends with one U+FFFD per maximal invalid subpart (Python's
 * bytes.decode("utf-8", "replace")). nul_too: U+0000 becomes U+FFFD as well. */
bool mb_utf8_valid(const char *s, size_t n);
enum mb_status mb_utf8_repair(const char *s, size_t n, bool nul_too, struct mb_bytes *out);

/* The classes that tokenizers know by newer tables are in text/unicode_rust.h. */
bool mb_is_space(uint32_t cp);  /* Unicode White_Space */
bool mb_is_word(uint32_t cp);   /* \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control */
bool mb_is_number(uint32_t cp); /* Nd, Nl, No */
bool mb_is_punct(uint32_t cp);  /* P, and ASCII punctuation */

#define MB_FFFD "\xef\xbf\xbd"
#endif
