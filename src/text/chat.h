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

/* dir: a model directory. Templates: chat_template.jinja and additional_chat_templates/tool_use.jinja, else chat_template of
 * tokenizer_config.json (a string, or a list of {"name", "template"}); special tokens as text/special.h finds them. *out is NULL
 * if the model has no template. A template that does not compile is kept as a flaw: only the requests that need it fail.
 * Errors: MB_MODEL (a file that is no JSON object), MB_IO, MB_NO_MEMORY. */
enum mb_status mb_chat_load(const char *dir, struct mb_chat **out);
/* One template from memory, refused (MB_MODEL, logged) if it does not compile. tokens: an object {"bos_token": "<s>", ...}, or
 * NULL; what: name for messages. */
enum mb_status mb_chat_create(const char *source, size_t n, const json_t *tokens, const char *what,
                              struct mb_chat **out);
void mb_chat_destroy(struct mb_chat *c);
/* Why the template does not compile, or NULL. */
const char *mb_chat_flaw(const struct mb_chat *c);

/* What is to be rendered. All JSON is borrowed. */
struct mb_chat_ask {
    const json_t *messages;  /* a list of {"role", "content", ...} */
    const json_t *tools;     /* a list, or NULL: with tools the template named "tool_use" is taken if there is one */
    const json_t *documents; /* a list, or NULL */
    const json_t *extra;     /* an object of further variables of the template ("enable_thinking"), or NULL; they go before the
                              * special tokens */
    bool add_generation_prompt;
    bool continue_final_message; /* the text ends where the last message's content does */
    int64_t now; /* what strftime_now shows, seconds since 1970, in UTC: give the same on every rank and after a resume */
};
/* Messages are made ready as transformers does it: members that are null are left out (but for a content that the template asks
 * about: "is none"), reasoning_content, reasoning and thinking stand for each other. As OpenAI's form has it, the arguments of tool calls may be JSON text: templates get them as values.
 * Content that is a list of text parts goes as a list to templates that walk through it, joined by newlines to others. Appends
 * the text (it may hold U+0000). Encode it with special = false: the template writes BOS itself. Errors: MB_REQUEST with the
 * reason in err (raise_exception, a wrong type, a flawed template, limits of steps and memory); MB_NO_MEMORY. */
enum mb_status mb_chat_render(const struct mb_chat *c, const struct mb_chat_ask *ask, char *err, size_t cap,
                              struct mb_bytes *out);
#endif
