/* tiktoken's own files. Local. */
#ifndef MB_TEXT_TIKTOKEN_H
#define MB_TEXT_TIKTOKEN_H
#include "base/status.h"
#include "text/tok.h"

/* Fills a zeroed tokenizer from a tiktoken.model, lines of a token in base64 and its rank; the
 * tokenizer_config.json beside it names the special tokens and the class, which says how texts are split.
 * Errors: MB_MODEL (a damaged file, a class whose rules are not known, by its name), MB_IO, MB_NO_MEMORY. */
enum mb_status mb_tiktoken_load(struct mb_tokenizer *t, const char *path);
#endif
