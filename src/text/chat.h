/* Chat templates: a conversation -> the text of a prompt, by the model's own Jinja template, as HF
 * transformers' apply_chat_template renders it. Immutable after load; rendering is Local and re-entrant. */
#ifndef MB_TEXT_CHAT_H
#define MB_TEXT_CHAT_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

struct mb_chat;

/* dir: a model directory. Templates: chat_template.jinja, else chat_template of tokenizer_config.json (a
 * string, or a list of {"name", "template"}); bos_token and the other special tokens from
 * tokenizer_config.json. *out is NULL if the model has no template. Errors: MB_MODEL (with file and line; an
 * unknown tag, filter or test by name). */
enum mb_status mb_chat_load(const char *dir, struct mb_chat **out);
/* One template from memory. tokens: an object {"bos_token": "<s>", ...}, or NULL; what: name for messages. */
enum mb_status mb_chat_create(const char *source, size_t n, const json_t *tokens, const char *what,
                              struct mb_chat **out);
void mb_chat_destroy(struct mb_chat *c);

/* messages: a list of {"role", "content", ...}; tools: a list, or NULL; extra: an object of further variables
 * of the template ("enable_thinking"), or NULL. With tools the template named "tool_use" is taken if there is
 * one, else "default". now: what strftime_now shows, seconds since 1970, in UTC: give the same on every rank
 * and after a resume. Appends the text (it may hold U+0000). Encode it with special = false: the template
 * writes BOS itself. Errors: MB_REQUEST with the reason in err (raise_exception, a wrong type, limits of
 * steps and memory); MB_NO_MEMORY. */
enum mb_status mb_chat_render(const struct mb_chat *c, const json_t *messages, const json_t *tools,
                              bool add_generation_prompt, const json_t *extra, int64_t now, char *err,
                              size_t cap, struct mb_bytes *out);
#endif
