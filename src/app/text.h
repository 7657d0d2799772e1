/* The tokenizer and the chat template of a model directory, as commands load and report them. Local. */
#ifndef MB_APP_TEXT_H
#define MB_APP_TEXT_H
#include <stdbool.h>
#include "model/model.h"
#include "text/chat.h"
#include "text/tokenizer.h"

/* *out NULL: the directory has no tokenizer. The tokenizer's eos_token joins the ids that end a text. */
enum mb_status mb_app_tokenizer(struct mb_model *m, const char *dir, struct mb_tokenizer **out);
/* What `check -m` and `inspect -m` say of both, loaded once; a model's ids that end a text are complete then. quiet: loads only. */
enum mb_status mb_app_text_report(struct mb_model *m, const char *dir, bool quiet);
/* For grammars (guide/guide.h): the bytes that each token of arg, a tokenizer, adds to a text that has begun; special tokens add none.
 * Errors: MB_NO_MEMORY. */
enum mb_status mb_app_token_bytes(void *arg, int32_t n, struct mb_bytes *text, int64_t *at);
#endif
