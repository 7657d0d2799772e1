/* The special tokens that a model directory names beside its vocabulary, as HF transformers reads them. Local. */
#ifndef MB_TEXT_SPECIAL_H
#define MB_TEXT_SPECIAL_H
#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

/* *out: an object {"bos_token": "<s>", "eos_token": ..., "image_token": ...} of texts, perhaps empty, from
 * tokenizer_config.json; special_tokens_map.json goes before it where the configuration has no added_tokens_decoder. The caller
 * json_decref()s. Errors: MB_MODEL (a file that is no JSON object), MB_NO_MEMORY. */
enum mb_status mb_special_load(const char *dir, json_t **out);
/* The id of its bos_token, else of its eos_token, else -1: what scoring begins with where nothing is before a text. */
enum mb_status mb_special_prefix(const char *dir, const struct mb_tokenizer *t, int32_t *id);
/* The id of the directory's eos_token, or -1: not named, or not in the vocabulary. */
enum mb_status mb_special_eos(const char *dir, const struct mb_tokenizer *t, int32_t *id);
#endif
